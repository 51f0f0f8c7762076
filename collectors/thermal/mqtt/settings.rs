//! What the configuration says about brokers and topics.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::super::document::Select;
use super::board::{Alive, Listening};
use super::payload::Places;
use super::probe::Look;
use super::session::Broker;
use super::topic::Filter;
use super::wire::Version;
use crate::Host;
use crate::checked::Every;
use crate::web::{Dial, SecretPlace, Tls};

/// Until a broker has taken the connection.
const DIAL_WITHIN: Duration = Duration::from_secs(10);

/// The broker hears from us at least this often.
const KEEP_ALIVE: Every<5, 3_600> = Every::seconds::<30>();

/// `[[thermal.mqtt]]`: a broker that several points name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub(super) name: String,
    broker: Address,
    client_id: Option<String>,
    user: Option<String>,
    password: Option<SecretPlace>,
    tls: Option<Tls>,
    #[serde(default)]
    version: Version,
    keep_alive: Option<Every<5, 3_600>>,
    #[serde(default)]
    session: SessionKind,
}

/// `mqtt = { … }` of a point.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    pub(super) device: Option<String>,
    broker: Option<Address>,
    topic: Filter,
    json: Option<Select>,
    time: Option<Select>,
    combine: Option<Combine>,
    #[serde(default)]
    on_change: bool,
    alive: Option<WrittenAlive>,
}

/// `alive = { topic = "…", offline = "offline" }`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAlive {
    topic: Filter,
    #[serde(default = "offline")]
    offline: String,
}

fn offline() -> String {
    "offline".to_owned()
}

/// What is made of several topics.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Combine {
    Sum,
}

/// What the broker does while we are away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SessionKind {
    #[default]
    Clean,
    Persistent,
}

/// A broker and what is listened to there, checked.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    broker: Named,
    pub(super) listening: Listening,
}

/// `mqtt://HOST:PORT`, or `mqtts://` for TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
    is_secured: bool,
}

impl Point {
    /// Joins what a point says with the broker that it names, or says itself.
    ///
    /// # Errors
    /// In words, with the next step.
    pub(super) fn join(written: &Written, named: Option<&Named>) -> Result<Self, String> {
        let broker = match (named, &written.broker) {
            (Some(_), Some(_)) => {
                return Err(
                    "`device` and `broker` exclude each other: a named device says its broker"
                        .to_owned(),
                );
            }
            (Some(named), None) => named.clone(),
            (None, Some(address)) => Named::at(address.clone()),
            (None, None) => {
                return Err(
                    "say which broker: broker = \"mqtts://HOST:8883\", or device = \"NAME\" of a \
                     [[thermal.mqtt]] table"
                        .to_owned(),
                );
            }
        };
        broker.check()?;
        if written.time.is_some() && written.json.is_none() {
            return Err(
                "`time` is a place in JSON, so say where the value is, too: json = \"/value\""
                    .to_owned(),
            );
        }
        if let Some(alive) = &written.alive
            && alive.topic.is_wild()
        {
            return Err("`alive` is one topic, without `+` and `#`".to_owned());
        }
        Ok(Self {
            broker,
            listening: Listening {
                filter: written.topic.clone(),
                places: Places {
                    value: written.json.clone(),
                    time: written.time.clone(),
                },
                adds_up: written.combine.is_some(),
                on_change: written.on_change,
                alive: written.alive.as_ref().map(|alive| Alive {
                    filter: alive.topic.clone(),
                    offline: alive.offline.clone(),
                }),
            },
        })
    }

    /// What tells connections apart: the address, and whatever else one is opened with.
    pub(super) fn connection(&self) -> String {
        let broker = &self.broker;
        let mut text = broker.broker.to_string();
        if let Some(user) = &broker.user {
            text.push_str(&format!(" as {user}"));
        }
        let plain = Named {
            user: broker.user.clone(),
            ..Named::at(broker.broker.clone())
        };
        if broker.traits() != plain.traits() {
            text.push_str(&format!(" ({})", broker.name));
        }
        text
    }

    /// The broker, with what this host adds.
    pub(super) fn broker(&self, host: &Host) -> Broker {
        self.broker.reached(|| self.own_client_id(host))
    }

    /// The same for this host and connection at each start, and another one for each other: a broker
    /// ends the connection of whoever comes with an id that is in use.
    fn own_client_id(&self, host: &Host) -> String {
        let mut hasher = DefaultHasher::new();
        (host.instance.to_string(), self.connection()).hash(&mut hasher);
        format!("cms-{:016x}", hasher.finish())
    }
}

impl Named {
    fn at(broker: Address) -> Self {
        Self {
            name: String::new(),
            broker,
            client_id: None,
            user: None,
            password: None,
            tls: None,
            version: Version::default(),
            keep_alive: None,
            session: SessionKind::default(),
        }
    }

    /// A broker that a person asks about, checked like one of the configuration.
    pub(super) fn asked(look: &Look) -> Result<Self, String> {
        let (user, password) = look.login.clone().unzip();
        let named = Self {
            client_id: look.client_id.clone(),
            user,
            password,
            tls: look.tls.clone(),
            version: look.version,
            ..Self::at(look.broker.clone())
        };
        named.check()?;
        Ok(named)
    }

    /// What a session is made with.
    pub(super) fn reached(&self, own_client_id: impl FnOnce() -> String) -> Broker {
        let address = &self.broker;
        let tls = address
            .is_secured
            .then(|| self.tls.clone().unwrap_or_default());
        Broker {
            to: Dial {
                host: address.host.clone(),
                port: address.port,
                tls,
                within: DIAL_WITHIN,
            },
            version: self.version,
            client_id: self.client_id.clone().unwrap_or_else(own_client_id),
            login: self.user.clone().zip(self.password.clone()),
            keep_alive: self.keep_alive.unwrap_or(KEEP_ALIVE).duration(),
            is_persistent: self.session == SessionKind::Persistent,
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.user.is_some() != self.password.is_some() {
            return Err("`user` and `password` of a broker go together: give both".to_owned());
        }
        if self.tls.is_some() && !self.broker.is_secured {
            return Err("`tls` needs a broker address that begins with mqtts://".to_owned());
        }
        if self.user.is_some() && !self.broker.is_secured && !self.broker.is_loopback() {
            return Err(
                "a password would travel in the clear: use an address that begins with mqtts://, \
                 or one of this machine"
                    .to_owned(),
            );
        }
        if self.session == SessionKind::Persistent && self.client_id.is_none() {
            return Err("a persistent session needs a `client_id` that never changes".to_owned());
        }
        Ok(())
    }

    /// All that a connection is opened with, apart from address and user.
    fn traits(&self) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            self.client_id, self.password, self.tls, self.version, self.keep_alive, self.session
        )
    }
}

impl Address {
    /// The host, without port and scheme.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    fn is_loopback(&self) -> bool {
        let is_address = self
            .host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
        is_address || self.host.eq_ignore_ascii_case("localhost")
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_secured, rest) = if let Some(rest) = text.strip_prefix("mqtts://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("mqtt://") {
            (false, rest)
        } else {
            return Err(format!(
                "{text:?} is no broker: it begins with mqtts:// or, without TLS, with mqtt://"
            ));
        };
        let wrong = || format!("{text:?} is no broker: write it as mqtts://HOST:8883");
        if rest.contains('@') {
            return Err("a broker's address holds no user: use `user` and `password`".to_owned());
        }
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.strip_prefix('[') {
            Some(six) => {
                let (host, after) = six.split_once(']').ok_or_else(wrong)?;
                (host, after.strip_prefix(':'))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_of_host) {
            return Err(wrong());
        }
        let port = match port {
            None if is_secured => 8883,
            None => 1883,
            Some(port) => port.parse().map_err(|_| wrong())?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            is_secured,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secured { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            return write!(f, "{scheme}://[{}]:{}", self.host, self.port);
        }
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(written: &str, named: Option<&str>) -> Result<Point, String> {
        let written: Written =
            toml::from_str(written).map_err(|error| error.message().to_owned())?;
        let named: Option<Named> = match named {
            None => None,
            Some(named) => Some(toml::from_str(named).map_err(|error| error.message().to_owned())?),
        };
        Point::join(&written, named.as_ref())
    }

    #[test]
    fn what_is_wrong_is_told() {
        let topic = "topic = 'a'";
        let cases = [
            (
                format!("{topic}\nbroker = 'bms:1883'"),
                "begins with mqtts://",
            ),
            (format!("{topic}\nbroker = 'mqtt://u@bms'"), "use `user`"),
            (format!("{topic}\nbroker = 'mqtt://bms:x'"), "write it as"),
            (topic.to_owned(), "say which broker"),
            ("topic = 'a/#/b'\nbroker = 'mqtt://bms'".to_owned(), "`#`"),
            (
                format!("{topic}\nbroker = 'mqtt://bms'\ntime = '/t'"),
                "where the value is",
            ),
            (
                format!("{topic}\nbroker = 'mqtt://bms'\njson = 'v'"),
                "a place in JSON",
            ),
            (
                format!("{topic}\nbroker = 'mqtt://bms'\nqos = 1"),
                "unknown field `qos`",
            ),
        ];
        for (written, expected) in cases {
            let told = point(&written, None).unwrap_err();
            assert!(told.contains(expected), "{written}: {told}");
        }
        let brokers = [
            ("broker = 'mqtt://bms'\nuser = 'u'", "go together"),
            (
                "broker = 'mqtt://bms'\nuser = 'u'\npassword = { file = '/p' }",
                "in the clear",
            ),
            ("broker = 'mqtt://bms'\ntls = {}", "mqtts://"),
            (
                "broker = 'mqtts://bms'\nsession = 'persistent'",
                "`client_id`",
            ),
            (
                "broker = 'mqtts://bms'\npassword = 'secret'",
                "does not stand",
            ),
            ("broker = 'mqtts://bms'\nversion = '4'", "unknown variant"),
        ];
        for (named, expected) in brokers {
            let told = point(topic, Some(&format!("name = 'n'\n{named}"))).unwrap_err();
            assert!(told.contains(expected), "{named}: {told}");
        }
    }

    #[test]
    fn connections_are_told_apart() {
        let of = |named: &str| {
            let named = format!("name = 'n'\nbroker = 'mqtts://bms'\n{named}");
            point("topic = 'a'", Some(&named)).unwrap().connection()
        };
        assert_eq!(of(""), "mqtts://bms:8883");
        let login = "user = 'u'\npassword = { env = 'P' }";
        assert_eq!(of("version = '5'"), "mqtts://bms:8883 (n)");
        assert!(of(login).starts_with("mqtts://bms:8883 as u"));
        let inline = point("topic = 'b'\nbroker = 'mqtts://bms'", None).unwrap();
        assert_eq!(inline.connection(), of(""));
        let six: Address = "mqtt://[::1]:1884".parse().unwrap();
        assert_eq!(six.to_string(), "mqtt://[::1]:1884");
        assert!(six.is_loopback());
    }
}
