//! What the configuration says about BACnet devices and objects.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::device::{Access, Asked};
use super::link::{Bbmd, PORT, Patience, Place};
use super::session::Target;
use super::wire::{INSTANCE_MAX, ObjectId, Peer, Remote};
use crate::checked::{Between, Every};

/// Networks are numbered from 1; 65535 is all of them.
type Network = Between<1, 65_534>;

/// A person looks at a status page; a device that takes longer than a minute for one value is broken.
type Timeout = Every<1, 60>;

/// Long enough for a round in between, short enough that a restarted device is found out.
type Lifetime = Every<10, 86_400>;

/// Broadcast devices keep a table: shorter is noise, longer is a table full of the dead.
type Registered = Every<30, 65_535>;

const TIMEOUT: Timeout = Timeout::seconds::<3>();
const RETRIES: u8 = 2;
const REGISTERED: Registered = Registered::seconds::<300>();

/// `[[thermal.bacnet]]`: a device with a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub(super) name: String,
    instance: Option<Instance>,
    address: Option<Address>,
    network: Option<Network>,
    mac: Option<Mac>,
    interface: Option<Interface>,
    port: Option<Port>,
    local_port: Option<Port>,
    bbmd: Option<Address>,
    bbmd_lifetime: Option<Registered>,
    timeout: Option<Timeout>,
    retries: Option<Between<0, 10>>,
    cov: Option<Lifetime>,
}

/// `bacnet = { … }`: a point.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    pub(super) device: Option<String>,
    instance: Option<Instance>,
    address: Option<Address>,
    object: Option<Object>,
    object_name: Option<ObjectName>,
}

/// A point, checked, with all that is needed to reach its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(super) access: Access,
    pub(super) asked: Asked,
}

/// The instance of a device.
#[derive(Clone, Copy, Debug)]
struct Instance(u32);

/// An address with or without a port.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    host: Ipv4Addr,
    port: Option<u16>,
}

/// An address of this machine, with or without the prefix of its network.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    address: Ipv4Addr,
    prefix: Option<u8>,
}

/// A UDP port.
#[derive(Clone, Copy, Debug)]
struct Port(u16);

/// An address on a network behind a router.
#[derive(Clone, Debug)]
struct Mac(Vec<u8>);

#[derive(Clone, Copy, Debug)]
struct Object(ObjectId);

#[derive(Clone, Debug)]
struct ObjectName(String);

impl Named {
    /// What the device is reached with.
    fn access(&self) -> Result<Access, String> {
        if self.bbmd_lifetime.is_some() && self.bbmd.is_none() {
            return Err("`bbmd_lifetime` needs `bbmd`".to_owned());
        }
        let interface = self.interface.unwrap_or(Interface {
            address: Ipv4Addr::UNSPECIFIED,
            prefix: None,
        });
        let lifetime = self
            .bbmd_lifetime
            .unwrap_or(REGISTERED)
            .duration()
            .as_secs();
        let place = Place {
            interface: interface.address,
            prefix: interface.prefix,
            port: self.port.map_or(PORT, |port| port.0),
            local_port: self.local_port.map_or(0, |port| port.0),
            bbmd: self.bbmd.map(|address| Bbmd {
                address: address.with(PORT),
                lifetime_s: u16::try_from(lifetime).unwrap_or(u16::MAX),
            }),
        };
        if place.port == 0 {
            return Err("`port` is where devices listen: 1 to 65535, usually 47808".to_owned());
        }
        let remote = match (self.network, &self.mac) {
            (None, None) => None,
            (Some(network), Some(mac)) => Some(Remote {
                network: u16::try_from(network.get()).unwrap_or(u16::MAX),
                mac: mac.0.clone(),
            }),
            _ => {
                return Err(
                    "`network` and `mac` go together: the device's place behind the router at `address`"
                        .to_owned(),
                );
            }
        };
        if remote.is_some() && self.address.is_none() {
            return Err("`network` and `mac` need the router's `address`".to_owned());
        }
        let target = target(self.instance, self.address, remote, place.port)?;
        let patience = Patience {
            timeout: self.timeout.unwrap_or(TIMEOUT).duration(),
            retries: self.retries.map_or(RETRIES, |retries| {
                u8::try_from(retries.get()).unwrap_or(u8::MAX)
            }),
        };
        Ok(Access {
            place,
            label: format!("{} ({})", self.name, shown(&target)),
            target,
            patience,
            cov_s: self
                .cov
                .map(|cov| u32::try_from(cov.duration().as_secs()).unwrap_or(u32::MAX)),
        })
    }
}

impl Written {
    /// Joins the point with its device.
    pub(super) fn join(&self, named: Option<&Named>) -> Result<Checked, String> {
        let access = match named {
            Some(named) => {
                if self.instance.is_some() || self.address.is_some() {
                    return Err(
                        "`device` names the device: leave out `instance` and `address`".to_owned(),
                    );
                }
                named.access()?
            }
            None => {
                let place = Place::default();
                let target = target(self.instance, self.address, None, place.port)?;
                Access {
                    place,
                    label: shown(&target),
                    target,
                    patience: Patience {
                        timeout: TIMEOUT.duration(),
                        retries: RETRIES,
                    },
                    cov_s: None,
                }
            }
        };
        let asked = match (self.object, &self.object_name) {
            (Some(object), None) => Asked::Object(object.0),
            (None, Some(name)) => Asked::Name(name.0.clone()),
            _ => {
                return Err(
                    "give one of `object` (\"analog-input,3\") and `object_name` (\"CRAC1_SUPPLY_T\")"
                        .to_owned(),
                );
            }
        };
        Ok(Checked { access, asked })
    }
}

impl Checked {
    /// What is read there, for `status`.
    pub(super) fn label(&self) -> String {
        match &self.asked {
            Asked::Object(object) => format!("{} {object}", self.access.label),
            Asked::Name(name) => format!("{} {name:?}", self.access.label),
        }
    }
}

impl Address {
    /// The address, with this port unless it says one.
    pub(crate) const fn with(self, port: u16) -> SocketAddrV4 {
        let port = match self.port {
            Some(own) => own,
            None => port,
        };
        SocketAddrV4::new(self.host, port)
    }
}

impl Interface {
    /// Where a link is that speaks from here.
    pub(crate) fn place(self) -> Place {
        Place {
            interface: self.address,
            prefix: self.prefix,
            ..Place::default()
        }
    }
}

fn target(
    instance: Option<Instance>,
    address: Option<Address>,
    remote: Option<Remote>,
    port: u16,
) -> Result<Target, String> {
    if instance.is_none() && address.is_none() {
        return Err("say which device: `device`, `instance` or `address`".to_owned());
    }
    Ok(Target {
        instance: instance.map(|instance| instance.0),
        peer: address.map(|address| Peer {
            address: address.with(port),
            remote,
        }),
    })
}

fn shown(target: &Target) -> String {
    match (target.instance, &target.peer) {
        (Some(instance), Some(peer)) => format!("device {instance} at {peer}"),
        (Some(instance), None) => format!("device {instance}"),
        (None, Some(peer)) => peer.to_string(),
        (None, None) => String::new(),
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let wrong = || {
            format!(
                "{text:?} is no address of BACnet/IP: write it as \"10.0.0.7\" or \"10.0.0.7:47808\""
            )
        };
        let host = host.parse().map_err(|_| wrong())?;
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(0) | Err(_)) => {
                return Err(format!(
                    "{text:?} has no valid port: ports go from 1 to 65535"
                ));
            }
            Some(Ok(port)) => Some(port),
        };
        Ok(Self { host, port })
    }
}

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no address of an interface: write the address of this machine there, such as \
                 \"10.0.0.5/24\" or \"10.0.0.5\""
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = address.parse().map_err(|_| wrong())?;
        let prefix = match prefix.map(str::parse::<u8>) {
            None => None,
            Some(Ok(prefix @ 1..=32)) => Some(prefix),
            Some(_) => return Err(wrong()),
        };
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

/// Reads a text that is parsed.
fn parsed<'de, T: FromStr<Err = String>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl<'de> Deserialize<'de> for Interface {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for ObjectName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name.is_empty() {
            return Err(D::Error::custom("an object has a name"));
        }
        Ok(Self(name))
    }
}

impl<'de> Deserialize<'de> for Instance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u32::try_from(number) {
            Ok(instance @ 0..=INSTANCE_MAX) => Ok(Self(instance)),
            _ => Err(D::Error::custom(format_args!(
                "{number} is no instance of a device: instances go from 0 to {INSTANCE_MAX}"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        u16::try_from(number).map(Self).map_err(|_| {
            D::Error::custom(format_args!(
                "{number} is no UDP port: ports go up to 65535, and BACnet is at home on 47808"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MacText)
    }
}

/// A station's number, or bytes in hexadecimal.
struct MacText;

const MAC: &str = "a place behind a router is a station's number from 0 to 255, or its bytes as \"0x0a000007bac0\"";

/// The longest address of a device on any kind of network.
const MAC_DIGITS_MAX: usize = 36;

impl Visitor<'_> for MacText {
    type Value = Mac;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MAC)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Mac, E> {
        let station = u8::try_from(number).map_err(|_| E::custom(MAC))?;
        Ok(Mac(vec![station]))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Mac, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Mac, E> {
        let wrong = || E::custom(MAC);
        let digits = text.strip_prefix("0x").ok_or_else(wrong)?;
        let is_whole = digits.len() % 2 == 0 && !digits.is_empty();
        if !is_whole || !digits.is_ascii() || digits.len() > MAC_DIGITS_MAX {
            return Err(wrong());
        }
        let pairs = digits.as_bytes().chunks_exact(2);
        let bytes = pairs.map(|pair| {
            let text = std::str::from_utf8(pair).map_err(|_| wrong())?;
            u8::from_str_radix(text, 16).map_err(|_| wrong())
        });
        bytes.collect::<Result<Vec<u8>, E>>().map(Mac)
    }
}
