//! The keys of an identity in use: which one signs, which one waits to, and which one signs beside its successor.
//!
//! All of it is read from what is kept and written back as a whole, so that an identity is never between two
//! states. A key is kept before anything is signed with it.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use aws_lc_rs::hmac;
use cms_attest::keys::SigningKey;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::kept::{Kept, Seed};
use super::machine::{Machine, hex};
use super::{IdentityError, Purpose, random_bytes};

/// Names of further seeds and facts, after the name of the purpose.
const NEXT: &str = "-next";
const PREVIOUS: &str = "-previous";
const SINCE: &str = "-since";
const UNTIL: &str = "-until";

/// The fact that the dashboard was asked to take the next keys and has not said no.
const ASKED: &str = "asked";

/// The seed that keeps digests of the machine from being guessed.
const SALT: &str = "salt";
/// Facts about the machine.
const MACHINE: &str = "machine";
const PRODUCT: &str = "product";
const FINGERPRINT: &str = "fingerprint";

/// The keys of both purposes.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) request: Line,
    pub(super) log: Line,
    /// The dashboard was asked to take the next keys, and has not said no.
    pub(super) asked: bool,
}

/// The keys of one purpose.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) current: Arc<SigningKey>,
    /// Since when the current one signs; nothing for one that is as old as the agent.
    pub(super) since: Option<Timestamp>,
    /// The one that is to come.
    pub(super) next: Option<Arc<SigningKey>>,
    /// The one before, while it signs beside.
    pub(super) previous: Option<Previous>,
}

/// A key that signs beside its successor.
#[derive(Clone, Debug)]
pub(super) struct Previous {
    pub(super) key: Arc<SigningKey>,
    /// Until when at least.
    pub(super) until: Timestamp,
}

impl Ring {
    /// The keys that are kept.
    pub(super) fn of(kept: &Kept) -> Result<Self, IdentityError> {
        Ok(Self {
            request: Line::of(kept, Purpose::Request)?,
            log: Line::of(kept, Purpose::Log)?,
            asked: kept.facts.contains_key(ASKED),
        })
    }

    pub(super) fn line(&self, purpose: Purpose) -> &Line {
        match purpose {
            Purpose::Log => &self.log,
            Purpose::Request => &self.request,
        }
    }
}

impl Line {
    fn of(kept: &Kept, purpose: Purpose) -> Result<Self, IdentityError> {
        let further = |state: &str| {
            let seed = kept.further.get(&named(purpose, state));
            seed.map(key).transpose()
        };
        let time = |fact: &str| kept.facts.get(&named(purpose, fact))?.parse().ok();
        let previous = further(PREVIOUS)?.map(|key| Previous {
            key,
            until: time(UNTIL).unwrap_or(Timestamp::MIN),
        });
        Ok(Self {
            current: key(current(kept, purpose))?,
            since: time(SINCE),
            next: further(NEXT)?,
            previous,
        })
    }
}

/// Makes the next key, unless there is one.
pub(super) fn prepare(kept: &mut Kept, purpose: Purpose) -> Result<(), IdentityError> {
    let name = named(purpose, NEXT);
    if let Entry::Vacant(place) = kept.further.entry(name) {
        place.insert(Zeroizing::new(random_bytes()?));
    }
    Ok(())
}

/// The dashboard is about to be asked to take the next keys.
pub(super) fn ask(kept: &mut Kept) {
    kept.facts.insert(ASKED.to_owned(), "yes".to_owned());
}

/// Forgets the next key: it was never used.
pub(super) fn give_up(kept: &mut Kept, purpose: Purpose) {
    kept.further.remove(&named(purpose, NEXT));
    kept.facts.remove(ASKED);
}

/// Puts the next key into the place of the current one, which signs beside it until then.
pub(super) fn take_up(kept: &mut Kept, purpose: Purpose, now: Timestamp, until: Timestamp) {
    let Some(next) = kept.further.remove(&named(purpose, NEXT)) else {
        return;
    };
    let place = match purpose {
        Purpose::Log => &mut kept.log,
        Purpose::Request => &mut kept.request,
    };
    let old = std::mem::replace(place, next);
    kept.facts.remove(ASKED);
    kept.further.insert(named(purpose, PREVIOUS), old);
    kept.facts.insert(named(purpose, SINCE), now.to_string());
    kept.facts.insert(named(purpose, UNTIL), until.to_string());
}

/// Forgets the key before the current one.
pub(super) fn settle(kept: &mut Kept, purpose: Purpose) {
    kept.further.remove(&named(purpose, PREVIOUS));
    kept.facts.remove(&named(purpose, UNTIL));
}

/// What the dashboard knows this machine by, and whether it is the one that the identity was made on.
pub(super) fn fingerprint(kept: &Kept, key: &SigningKey, machine: &Machine) -> (String, bool) {
    let same = match (Traits::of(kept, machine), Traits::kept(kept)) {
        (Some(here), Some(there)) => here.is_same_as(&there),
        // Nothing that lasts to compare: such a machine has another name at each boot, and so has its clone.
        _ => true,
    };
    let known = kept.facts.get(FINGERPRINT).filter(|_| same).cloned();
    (known.unwrap_or_else(|| machine.fingerprint(key)), same)
}

/// Binds an identity to the machine that it is on, where it is bound to none or is to move. Says whether anything
/// changed.
pub(super) fn bind(kept: &mut Kept, machine: &Machine, anew: bool) -> Result<bool, IdentityError> {
    let before = kept.clone();
    if let Entry::Vacant(place) = kept.further.entry(SALT.to_owned()) {
        place.insert(Zeroizing::new(random_bytes()?));
    }
    if anew || !kept.facts.contains_key(FINGERPRINT) {
        // A fact from then on: the key that it comes from may be replaced.
        let fingerprint = machine.fingerprint(&*key(&kept.request)?);
        kept.facts.insert(FINGERPRINT.to_owned(), fingerprint);
        kept.facts.remove(MACHINE);
        kept.facts.remove(PRODUCT);
    }
    let here = Traits::of(kept, machine);
    if let Some(here) = here {
        // Learns what it could not read before, and never forgets what it once could.
        kept.facts
            .entry(MACHINE.to_owned())
            .or_insert(here.machine_id);
        if let Some(product) = here.product {
            kept.facts.entry(PRODUCT.to_owned()).or_insert(product);
        }
    }
    Ok(*kept != before)
}

/// Salted digests of what tells machines apart.
struct Traits {
    machine_id: String,
    /// Of the firmware's id, which not every user may read.
    product: Option<String>,
}

impl Traits {
    /// Those of this machine; nothing where it has no name that lasts.
    fn of(kept: &Kept, machine: &Machine) -> Option<Self> {
        let machine_id = machine.lasting_id()?;
        Some(Self {
            machine_id: salted(kept, &format!("machine {machine_id}")),
            product: machine
                .product_uuid
                .as_ref()
                .map(|product| salted(kept, &format!("product {product}"))),
        })
    }

    /// Those of the machine that the identity was made on.
    fn kept(kept: &Kept) -> Option<Self> {
        Some(Self {
            machine_id: kept.facts.get(MACHINE)?.clone(),
            product: kept.facts.get(PRODUCT).cloned(),
        })
    }

    /// Whether both are one machine, as far as both know.
    fn is_same_as(&self, other: &Self) -> bool {
        let products = self.product.as_ref().zip(other.product.as_ref());
        self.machine_id == other.machine_id && products.is_none_or(|(one, two)| one == two)
    }
}

fn salted(kept: &Kept, text: &str) -> String {
    let salt = kept
        .further
        .get(SALT)
        .map_or(&[][..], |seed| seed.as_slice());
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt);
    let text = format!("cms-fingerprint/2\n{text}");
    hex(hmac::sign(&key, text.as_bytes()).as_ref())
}

fn current(kept: &Kept, purpose: Purpose) -> &Seed {
    match purpose {
        Purpose::Log => &kept.log,
        Purpose::Request => &kept.request,
    }
}

fn named(purpose: Purpose, state: &str) -> String {
    format!("{purpose}{state}")
}

fn key(seed: &Seed) -> Result<Arc<SigningKey>, IdentityError> {
    let key = SigningKey::from_seed(seed).map_err(|source| IdentityError::UseKey { source })?;
    Ok(Arc::new(key))
}
