//! What a table says about a device: where it is and how we log in.
//!
//! Promises: a community and a password are never in the configuration itself; encryption needs
//! authentication. Refuses: version 1, MD5 and DES.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_snmp::Oid;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::checked::Every;
use crate::web::SecretPlace;

/// Where devices listen.
const PORT: u16 = 161;

/// Times that a question is asked again: datagrams get lost.
pub(super) const RETRIES: u32 = 2;

/// A name of a host is not longer.
const HOST_BYTES_MAX: usize = 253;

/// A user's name in SNMPv3 is not longer (RFC 3414).
const USER_BYTES_MAX: usize = 32;

/// A device, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host and port.
    address: Endpoint,
    login: Login,
    timeout: Wait,
}

/// How we log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Version 2c: a word in clear text, which everybody on the way can read.
    Community(SecretPlace),
    /// Version 3.
    User(User),
}

/// A user of version 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// How messages are authenticated.
    pub auth: Option<(Auth, SecretPlace)>,
    /// How messages are encrypted.
    pub privacy: Option<(Privacy, SecretPlace)>,
    /// The part of the device that is asked, mostly empty.
    pub context: String,
}

/// How messages are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// HMAC-SHA-96, for devices that know nothing newer.
    Sha1,
    /// RFC 7860.
    Sha224,
    /// RFC 7860.
    Sha256,
    /// RFC 7860.
    Sha384,
    /// RFC 7860.
    Sha512,
}

/// How messages are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privacy {
    /// RFC 3826.
    Aes128,
    /// With the key extension of the Blumenthal draft.
    Aes192,
    /// With the key extension of the Reeder draft, as Cisco has it.
    Aes192Cisco,
    /// With the key extension of the Blumenthal draft.
    Aes256,
    /// With the key extension of the Reeder draft, as Cisco has it.
    Aes256Cisco,
}

impl Auth {
    /// All of them, by the names that a configuration gives them.
    pub const ALL: [(&'static str, Self); 5] = [
        ("sha1", Self::Sha1),
        ("sha224", Self::Sha224),
        ("sha256", Self::Sha256),
        ("sha384", Self::Sha384),
        ("sha512", Self::Sha512),
    ];
}

impl Privacy {
    /// All of them, by the names that a configuration gives them.
    pub const ALL: [(&'static str, Self); 5] = [
        ("aes128", Self::Aes128),
        ("aes192", Self::Aes192),
        ("aes192-cisco", Self::Aes192Cisco),
        ("aes256", Self::Aes256),
        ("aes256-cisco", Self::Aes256Cisco),
    ];
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(&Self::ALL, *self))
    }
}

impl fmt::Display for Privacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(&Self::ALL, *self))
    }
}

impl FromStr for Auth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named(&Self::ALL, text)
    }
}

impl FromStr for Privacy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named(&Self::ALL, text)
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Privacy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

fn name<K: PartialEq>(all: &[(&'static str, K)], kind: K) -> &'static str {
    let found = all.iter().find(|(_, other)| *other == kind);
    found.map_or("", |(name, _)| *name)
}

fn named<K: Copy>(all: &[(&'static str, K)], text: &str) -> Result<K, String> {
    let found = all.iter().find(|(name, _)| *name == text);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is not offered: it is one of {}", names.join(", "))
    })
}

/// How long one question waits before it is asked again. Controllers of power strips take up to a
/// second; beyond ten seconds nothing comes any more.
pub(crate) type Wait = Every<1, 10>;

/// Host and port of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(String);

/// `v3 = { user = "…", auth = "sha256", auth_password = { … }, privacy = "aes128", … }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawUser {
    user: String,
    auth: Option<Auth>,
    auth_password: Option<SecretPlace>,
    privacy: Option<Privacy>,
    privacy_password: Option<SecretPlace>,
    #[serde(default)]
    context: String,
}

impl Target {
    /// A device, as the keys of a table say.
    ///
    /// # Errors
    /// When the keys contradict each other.
    pub(crate) fn new(
        address: Endpoint,
        community: Option<SecretPlace>,
        v3: Option<RawUser>,
        timeout: Option<Wait>,
    ) -> Result<Self, String> {
        let login = match (community, v3) {
            (Some(place), None) => Login::Community(place),
            (None, Some(raw)) => Login::User(raw.checked()?),
            (Some(_), Some(_)) => {
                return Err("`community` (version 2c) and `v3` exclude each other".to_owned());
            }
            (None, None) => {
                return Err(
                    "say how to log in: `community` for version 2c, `v3` for version 3".to_owned(),
                );
            }
        };
        Ok(Self {
            address,
            login,
            timeout: timeout.unwrap_or(Wait::seconds::<2>()),
        })
    }

    /// A device at an address, its parts checked against each other.
    ///
    /// # Errors
    /// When the address or the login makes no sense.
    pub fn checked(address: &str, login: Login) -> Result<Self, String> {
        if let Login::User(user) = &login {
            user.check()?;
        }
        Ok(Self {
            address: address.parse()?,
            login,
            timeout: Wait::seconds::<2>(),
        })
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address.0
    }

    /// How we log in.
    #[must_use]
    pub const fn login(&self) -> &Login {
        &self.login
    }

    /// How long one question waits before it is asked again.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout.duration()
    }

    /// How long it takes until a silent device has not answered.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.timeout() * (RETRIES + 1)
    }

    /// How far what it says is protected on its way, for provenance.
    #[must_use]
    pub const fn protection(&self) -> &'static str {
        match &self.login {
            Login::Community(_) => "v2c",
            Login::User(user) => match (&user.auth, &user.privacy) {
                (Some(_), Some(_)) => "v3 authPriv",
                (Some(_), None) => "v3 authNoPriv",
                _ => "v3 noAuthNoPriv",
            },
        }
    }
}

impl RawUser {
    fn checked(self) -> Result<User, String> {
        let auth = pair(self.auth, self.auth_password, "auth", "auth_password")?;
        let privacy = pair(
            self.privacy,
            self.privacy_password,
            "privacy",
            "privacy_password",
        )?;
        let user = User {
            name: self.user,
            auth,
            privacy,
            context: self.context,
        };
        user.check()?;
        Ok(user)
    }
}

impl User {
    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > USER_BYTES_MAX {
            return Err("`user` has 1 to 32 bytes".to_owned());
        }
        if self.privacy.is_some() && self.auth.is_none() {
            return Err(
                "`privacy` needs `auth`: SNMPv3 does not encrypt what it does not authenticate"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn pair<K>(
    kind: Option<K>,
    place: Option<SecretPlace>,
    key: &str,
    password: &str,
) -> Result<Option<(K, SecretPlace)>, String> {
    match (kind, place) {
        (Some(kind), Some(place)) => Ok(Some((kind, place))),
        (None, None) => Ok(None),
        _ => Err(format!("`{key}` and `{password}` go together: give both")),
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("{text:?} is no address: write it as HOST, HOST:PORT or [ADDRESS]:PORT");
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (six, port) = rest.split_once(']').ok_or_else(refuse)?;
                six.parse::<std::net::Ipv6Addr>().map_err(|_| refuse())?;
                let port = if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':').ok_or_else(refuse)?)
                };
                (format!("[{six}]"), port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (text.to_owned(), None),
            },
        };
        let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"._-[]:".contains(&byte);
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(is_of_host) {
            return Err(refuse());
        }
        let port = match port {
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(refuse)?,
            None => PORT,
        };
        Ok(Self(format!("{host}:{port}")))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// An object identifier in figures: names need MIB files, which are not read.
pub(crate) fn oid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Oid, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_oid(&text).map_err(D::Error::custom)
}

/// The same where it may be left out.
pub(crate) fn oid_if_given<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Oid>, D::Error> {
    oid(deserializer).map(Some)
}

/// An object identifier in figures.
///
/// # Errors
/// When it is none, or is none that can be asked for.
pub fn parse_oid(text: &str) -> Result<Oid, String> {
    let parsed = Oid::parse(text)
        .ok()
        .filter(|oid| oid.validate_for_wire().is_ok());
    parsed.ok_or_else(|| {
        format!("{text:?} is no object identifier: write it in figures, such as 1.3.6.1.2.1.1.1.0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        host: Endpoint,
        community: Option<SecretPlace>,
        v3: Option<RawUser>,
        timeout: Option<Wait>,
    }

    fn target(text: &str) -> Result<Target, String> {
        let table: Table = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        Target::new(table.host, table.community, table.v3, table.timeout)
    }

    #[test]
    fn addresses() {
        for (text, address) in [
            ("10.0.0.9", "10.0.0.9:161"),
            ("10.0.0.9:1161", "10.0.0.9:1161"),
            ("pdu-7.example", "pdu-7.example:161"),
            ("[::1]", "[::1]:161"),
            ("[fe80::1]:162", "[fe80::1]:162"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().0, address);
        }
        for text in [
            "", ":161", "a:", "a:0", "a:65536", "a:b", "a b", "a/b", "::1", "[::1", "[x]:1",
            "udp://a", "a@b",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn logins() {
        let full = "host = 'a'\nv3 = { user = 'u', auth = 'sha256', auth_password = { file = '/a' }, \
                    privacy = 'aes128', privacy_password = { env = 'P' } }";
        assert_eq!(target(full).unwrap().protection(), "v3 authPriv");
        let plain = target("host = 'a'\ncommunity = { file = '/c' }\ntimeout = '5s'").unwrap();
        assert_eq!(plain.protection(), "v2c");
        assert_eq!(plain.timeout(), Duration::from_secs(5));
        for (text, message) in [
            ("", "say how to log in"),
            (
                "community = 'public'",
                "does not stand in the configuration",
            ),
            (
                "community = { file = '/c' }\nv3 = { user = 'u' }",
                "exclude each other",
            ),
            ("v3 = { user = '' }", "1 to 32 bytes"),
            (
                "v3 = { user = 'u', auth = 'sha256' }",
                "`auth` and `auth_password` go together",
            ),
            (
                "v3 = { user = 'u', privacy = 'aes128', privacy_password = { file = '/p' } }",
                "`privacy` needs `auth`",
            ),
            (
                "v3 = { user = 'u', auth = 'md5', auth_password = { file = '/p' } }",
                "\"md5\" is not offered",
            ),
            (
                "community = { file = '/c' }\ntimeout = '1m'",
                "outside the allowed",
            ),
            ("version = 1\ncommunity = { file = '/c' }", "unknown field"),
        ] {
            let refused = target(&format!("host = 'a'\n{text}")).unwrap_err();
            assert!(refused.contains(message), "{text}: {refused}");
            assert!(!refused.contains("public"), "{refused}");
        }
    }

    #[test]
    fn object_identifiers() {
        assert_eq!(parse_oid(".1.3.6.1").unwrap().to_string(), "1.3.6.1");
        for text in [
            "",
            "1",
            "1.3.x",
            "sysDescr.0",
            "3.1.1",
            "1.40.1",
            "1..3",
            "1.3.4294967296",
        ] {
            assert!(parse_oid(text).is_err(), "{text:?}");
        }
    }
}
