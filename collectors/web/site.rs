//! What a table says about a server: where it is, how it is verified, how we log in.
//!
//! Promises: a certificate is always verified; a login never travels in the clear beyond this
//! machine; a secret is never in the configuration itself. Refuses: any option against that.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::checked::AbsolutePath;

/// A server, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    address: Address,
    tls: Tls,
    login: Option<Login>,
}

/// An address of http or https, without user, query and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    is_https: bool,
    authority: String,
    path: String,
}

/// How a server's certificate is verified, and which one it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key that are shown to the server.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The oldest version that will do.
    pub min_version: TlsVersion,
}

/// Versions of TLS that a source may speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// For devices that cannot do better, such as management controllers.
    #[serde(rename = "1.2")]
    V12,
    /// What everything else speaks.
    #[default]
    #[serde(rename = "1.3")]
    V13,
}

/// How we log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// `Authorization: Bearer`.
    Bearer(SecretPlace),
    /// `Authorization: Basic`.
    Basic {
        /// The user.
        user: String,
        /// Where the password is.
        password: SecretPlace,
    },
    /// The secret in a header of its own, such as `x-api-key`.
    Header {
        /// The header's name, in lower case.
        name: &'static str,
        /// Where the secret is.
        value: SecretPlace,
    },
    /// A session, which a POST of user and password opens and whose token goes with each question, as
    /// management controllers have it (DSP0266, section 13.3).
    Session {
        /// The user.
        user: String,
        /// Where the password is.
        password: SecretPlace,
        /// Where sessions are opened, below the site's address.
        path: &'static str,
    },
    /// A signature over each question, as object stores and Amazon's services ask for it (SigV4). The question
    /// carries its time in a header `x-amz-date`.
    Signed(Box<Signing>),
}

/// What a signature is made with and for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    /// The region that the server says it is in.
    pub region: String,
    /// The service's name in signatures, for example `s3`.
    pub service: &'static str,
    /// Where the name of the key is.
    pub access_key_id: SecretPlace,
    /// Where the key is.
    pub secret_access_key: SecretPlace,
    /// Where the token is that goes with a key of limited life.
    pub session_token: Option<SecretPlace>,
}

/// Where a secret is. It is read for each question, so that one that was replaced is used at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// A systemd credential.
    Credential(String),
    /// An environment variable.
    Env(String),
    /// A file that only the agent's user can read.
    File(PathBuf),
}

/// `basic = { user = "…", password = { file = "…" } }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Basic {
    user: String,
    password: SecretPlace,
}

impl Site {
    /// A server, as the keys of a table say.
    ///
    /// # Errors
    /// When the keys contradict each other, or a login would travel in the clear.
    pub(crate) fn new(
        address: Address,
        tls: Tls,
        bearer: Option<SecretPlace>,
        basic: Option<Basic>,
    ) -> Result<Self, String> {
        let login = match (bearer, basic) {
            (Some(_), Some(_)) => {
                return Err("`bearer_token` and `basic` exclude each other".to_owned());
            }
            (Some(place), None) => Some(Login::Bearer(place)),
            (None, Some(basic)) => Some(Login::Basic {
                user: basic.user,
                password: basic.password,
            }),
            (None, None) => None,
        };
        Self::checked(address, tls, login)
    }

    /// A server, its parts checked against each other.
    ///
    /// # Errors
    /// When TLS is described for a server without it, or a login would travel in the clear.
    pub fn checked(address: Address, tls: Tls, login: Option<Login>) -> Result<Self, String> {
        if !address.is_https && tls != Tls::default() {
            return Err("`tls` needs an address that begins with https://".to_owned());
        }
        if login.is_some() && !address.may_carry_secrets() {
            return Err(
                "a login would travel in the clear: use an address that begins with https://, or \
                 one of this machine"
                    .to_owned(),
            );
        }
        Ok(Self {
            address,
            tls,
            login,
        })
    }

    /// A server that is asked without a login and verified as usual.
    #[must_use]
    pub fn plain(address: Address) -> Self {
        Self {
            address,
            tls: Tls::default(),
            login: None,
        }
    }

    /// The same server without the first of these endings of its path that is there.
    pub(crate) fn without(&self, endings: &[&str]) -> Self {
        let mut site = self.clone();
        let path = &self.address.path;
        let kept = endings.iter().find_map(|ending| path.strip_suffix(ending));
        site.address.path = kept.unwrap_or(path).to_owned();
        site
    }

    /// The same server with another login, which goes the way that the one before was allowed to go.
    pub(crate) fn with_login(&self, login: Login) -> Self {
        Self {
            login: self.login.as_ref().map(|_| login),
            ..self.clone()
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The keys of a table that reach it in the same way, besides `url`: one line each.
    pub(crate) fn keys(&self) -> String {
        let place = |place: &SecretPlace| match place {
            SecretPlace::Credential(name) => format!("{{ credential = {name:?} }}"),
            SecretPlace::Env(name) => format!("{{ env = {name:?} }}"),
            SecretPlace::File(path) => format!("{{ file = {path:?} }}"),
        };
        let mut lines = match &self.login {
            // No table has a key for these: a kind of source that needs one knows it.
            None | Some(Login::Header { .. } | Login::Session { .. } | Login::Signed(_)) => {
                String::new()
            }
            Some(Login::Bearer(token)) => format!("bearer_token = {}\n", place(token)),
            Some(Login::Basic { user, password }) => {
                let password = place(password);
                format!("basic = {{ user = {user:?}, password = {password} }}\n")
            }
        };
        let tls = &self.tls;
        let mut keys = Vec::new();
        let authorities = tls.ca_file.as_ref();
        keys.extend(authorities.map(|path| format!("ca_file = {path:?}")));
        if let Some((certificate, key)) = &tls.client_certificate {
            keys.push(format!("client_cert_file = {certificate:?}"));
            keys.push(format!("client_key_file = {key:?}"));
        }
        if tls.min_version == TlsVersion::V12 {
            keys.push("min_version = \"1.2\"".to_owned());
        }
        if !keys.is_empty() {
            lines.push_str(&format!("tls = {{ {} }}\n", keys.join(", ")));
        }
        lines
    }

    /// How it is verified.
    #[must_use]
    pub const fn tls(&self) -> &Tls {
        &self.tls
    }

    /// How we log in.
    #[must_use]
    pub const fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }
}

impl Address {
    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path, empty or beginning with a slash and ending without one.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is asked over TLS.
    #[must_use]
    pub const fn is_https(&self) -> bool {
        self.is_https
    }

    /// The whole address of something below it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    /// Whether nobody on the way can read what is sent there.
    pub(crate) fn may_carry_secrets(&self) -> bool {
        self.is_https || self.is_loopback()
    }

    /// The host without its port; an address of version 6 without its brackets.
    pub(crate) fn host(&self) -> &str {
        match self.authority.strip_prefix('[') {
            Some(six) => six.split(']').next().unwrap_or_default(),
            None => self.authority.split(':').next().unwrap_or_default(),
        }
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        let is_address = host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
        is_address || host.eq_ignore_ascii_case("localhost")
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_https, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else {
            return Err(format!(
                "{text:?} is no address: it must begin with http:// or https://"
            ));
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let is_of_path = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>".contains(&byte);
        if authority.contains('@') {
            return Err("an address holds no user and no password: use `basic`".to_owned());
        }
        let is_right = !authority.is_empty()
            && !authority.starts_with(':')
            && authority.bytes().all(is_of_host)
            && path.bytes().all(is_of_path);
        if !is_right {
            return Err(format!(
                "{text:?} is no address: write it as https://HOST:PORT/PATH, without query and fragment"
            ));
        }
        Ok(Self {
            is_https,
            authority: authority.to_owned(),
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Site {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            url: Address,
            #[serde(default)]
            tls: Tls,
            bearer_token: Option<SecretPlace>,
            basic: Option<Basic>,
        }
        let raw = Raw::deserialize(deserializer)?;
        Self::new(raw.url, raw.tls, raw.bearer_token, raw.basic).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            ca_file: Option<AbsolutePath>,
            client_cert_file: Option<AbsolutePath>,
            client_key_file: Option<AbsolutePath>,
            #[serde(default)]
            min_version: TlsVersion,
        }
        let raw = Raw::deserialize(deserializer)?;
        let owned = |path: AbsolutePath| path.as_path().to_owned();
        let client_certificate = match (raw.client_cert_file, raw.client_key_file) {
            (Some(certificate), Some(key)) => Some((owned(certificate), owned(key))),
            (None, None) => None,
            _ => {
                return Err(D::Error::custom(
                    "`client_cert_file` and `client_key_file` go together: give both",
                ));
            }
        };
        Ok(Self {
            ca_file: raw.ca_file.map(owned),
            client_certificate,
            min_version: raw.min_version,
        })
    }
}

impl<'de> Deserialize<'de> for SecretPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Place)
    }
}

/// Reads where a secret is. What stands there in its place may be the secret and is not repeated.
struct Place;

const PLACES: &str = "a secret does not stand in the configuration; say where it is: \
                      { file = \"/PATH\" }, { credential = \"NAME\" } or { env = \"NAME\" }";

impl<'de> Visitor<'de> for Place {
    type Value = SecretPlace;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("where a secret is")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretPlace, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            credential: Option<String>,
            env: Option<String>,
            file: Option<AbsolutePath>,
        }
        let raw = Raw::deserialize(MapAccessDeserializer::new(map))?;
        match (raw.credential, raw.env, raw.file) {
            (Some(name), None, None) if is_name(&name) => Ok(SecretPlace::Credential(name)),
            (None, Some(name), None) if is_name(&name) => Ok(SecretPlace::Env(name)),
            (None, None, Some(path)) => Ok(SecretPlace::File(path.as_path().to_owned())),
            _ => Err(A::Error::custom(PLACES)),
        }
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<SecretPlace, E> {
        Err(E::custom(PLACES))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<SecretPlace, E> {
        Err(E::custom(PLACES))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<SecretPlace, E> {
        Err(E::custom(PLACES))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<SecretPlace, E> {
        Err(E::custom(PLACES))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<SecretPlace, A::Error> {
        Err(A::Error::custom(PLACES))
    }
}

fn is_name(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_name)
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "{}", Path::display(path)),
        }
    }
}
