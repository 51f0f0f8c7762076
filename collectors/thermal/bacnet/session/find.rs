//! Finding a device: by its instance on the network, or at its address.

use std::time::Duration;

use crate::thermal::bacnet::link::{AskError, Link, Patience, Reply};
use crate::thermal::bacnet::wire::{
    ObjectId, Peer, Property, Service, Value, property, property_of,
};

/// Stands for whichever instance a device has.
pub(super) const WHICHEVER: u32 = 4_194_303;

/// What every device on IP was seen to take, where it does not say it.
const APDU_BYTES_USUAL: u16 = 480;

/// How long devices may take to answer a search, besides what one question may take. Devices wait a
/// moment, so that not all answer at once.
const SEARCH_LEAST: Duration = Duration::from_secs(2);

/// The device that is meant; one of both is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) instance: Option<u32>,
    pub(crate) peer: Option<Peer>,
}

/// A device that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) peer: Peer,
    pub(crate) instance: Option<u32>,
    pub(crate) apdu_bytes_max: u16,
}

/// Why a device was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FindError {
    #[error(
        "no device {0} answers on the network: check its instance with `probe bacnet`, give its `address`, or \
         register with a broadcast device (`bbmd`) if it is behind an IP router"
    )]
    Nobody(u32),
    #[error(
        "{count} devices say that they are {instance}, at {places}: give one of them another instance, or say \
         which one with `address`"
    )]
    Rivals {
        instance: u32,
        count: usize,
        places: String,
    },
    #[error("the device at {peer} is not {instance}: correct `instance` or `address`")]
    Another { peer: Peer, instance: u32 },
    #[error("cannot find the device")]
    Ask(#[source] AskError),
}

impl Target {
    pub(super) async fn find(&self, link: &Link, patience: Patience) -> Result<Bound, FindError> {
        match (&self.peer, self.instance) {
            (Some(peer), instance) => at_address(link, peer, instance, patience).await,
            (None, Some(instance)) => on_network(link, instance, patience).await,
            (None, None) => Err(FindError::Nobody(WHICHEVER)),
        }
    }
}

async fn on_network(link: &Link, instance: u32, patience: Patience) -> Result<Bound, FindError> {
    let within = SEARCH_LEAST + patience.timeout;
    let found = link.search(Some((instance, instance)), None, within).await;
    let found = found.map_err(FindError::Ask)?;
    match found.as_slice() {
        [] => Err(FindError::Nobody(instance)),
        [one] => Ok(Bound {
            peer: one.peer.clone(),
            instance: Some(instance),
            apdu_bytes_max: one.says.apdu_bytes_max,
        }),
        several => Err(FindError::Rivals {
            instance,
            count: several.len(),
            places: several
                .iter()
                .map(|one| one.peer.to_string())
                .collect::<Vec<_>>()
                .join(" and "),
        }),
    }
}

/// One question tells whether it is there, which it is, and how long its messages are.
async fn at_address(
    link: &Link,
    peer: &Peer,
    instance: Option<u32>,
    patience: Patience,
) -> Result<Bound, FindError> {
    let asked = ObjectId::device(instance.unwrap_or(WHICHEVER));
    let content = property_of(asked, Property::ApduBytesMax, None)
        .map_err(|error| FindError::Ask(AskError::Unasked(error.to_string())))?;
    let service = Service::ReadProperty;
    let said = match link.ask(peer, service, content, patience).await {
        Ok(Reply::Content(content)) => property(&content).ok(),
        Ok(Reply::Done) => None,
        Err(AskError::Refused(_)) => {
            return match instance {
                Some(instance) => Err(FindError::Another {
                    peer: peer.clone(),
                    instance,
                }),
                // Old devices do not know that 4194303 stands for them.
                None => Ok(usual(peer)),
            };
        }
        Err(error) => return Err(FindError::Ask(error)),
    };
    let Some(said) = said else {
        return Ok(usual(peer));
    };
    let longest = match said.outcome.as_deref() {
        Ok([Value::Unsigned(bytes)]) => u16::try_from(*bytes).unwrap_or(u16::MAX),
        _ => APDU_BYTES_USUAL,
    };
    let instance = Some(said.object.instance()).filter(|instance| *instance != WHICHEVER);
    Ok(Bound {
        peer: peer.clone(),
        instance,
        apdu_bytes_max: longest,
    })
}

fn usual(peer: &Peer) -> Bound {
    Bound {
        peer: peer.clone(),
        instance: None,
        apdu_bytes_max: APDU_BYTES_USUAL,
    }
}
