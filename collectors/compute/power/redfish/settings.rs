//! `[compute.power.redfish]`: the controller, and how we log in.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::place::Wanted;
use crate::compute::power::polled::{POLL_EVERY, PollEvery};
use crate::web::{Address, Login, SecretPlace, Site, Tls};

/// Where sessions are opened (DSP0266).
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

/// Longest id of a system or a chassis.
const ID_BYTES_MAX: usize = 128;

/// The table, checked.
#[derive(Clone, Debug)]
pub(in crate::compute::power) struct Config {
    pub(super) site: Site,
    pub(super) wanted: Wanted,
    pub(in crate::compute::power) interval: PollEvery,
}

/// How we log in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Method {
    /// User and password with each question.
    Basic,
    /// A session, which most controllers log once and not with each question.
    #[default]
    Session,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    url: Address,
    #[serde(default)]
    tls: Tls,
    user: Option<String>,
    password: Option<SecretPlace>,
    login: Option<Method>,
    system: Option<Id>,
    chassis: Option<Id>,
    interval: Option<PollEvery>,
}

/// The last part of a resource's path.
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = String::deserialize(deserializer)?;
        let is_of_id = |byte: u8| byte.is_ascii_graphic() && !b"/?#\\\"<>".contains(&byte);
        if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(is_of_id) {
            return Err(D::Error::custom(format_args!(
                "{id:?} is no id: write the last part of its path, as \"1\" of /redfish/v1/Chassis/1"
            )));
        }
        Ok(Self(id))
    }
}

impl Config {
    /// Where the controller is.
    pub(in crate::compute::power) fn address(&self) -> &str {
        self.site.address().authority()
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::checked(Raw::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Config {
    fn checked(raw: Raw) -> Result<Self, String> {
        if !raw.url.path().is_empty() {
            return Err(format!(
                "`url` is the controller's address alone: leave {:?} out",
                raw.url.path()
            ));
        }
        if !raw.url.is_https() && !raw.url.is_loopback() {
            return Err(
                "a management controller is asked over https:// only; trust its own certificate with \
                 tls = { ca_file = … }"
                    .to_owned(),
            );
        }
        let login = match (raw.user, raw.password) {
            (Some(user), Some(password)) if !user.is_empty() => {
                Some(match raw.login.unwrap_or_default() {
                    Method::Basic => Login::Basic { user, password },
                    Method::Session => Login::Session {
                        user,
                        password,
                        path: SESSIONS,
                    },
                })
            }
            (None, None) if raw.login.is_none() => None,
            _ => return Err("`user` and `password` go together".to_owned()),
        };
        Ok(Self {
            site: Site::checked(raw.url, raw.tls, login)?,
            wanted: Wanted {
                system: raw.system.map(|id| id.0),
                chassis: raw.chassis.map(|id| id.0),
            },
            interval: raw.interval.unwrap_or(POLL_EVERY),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        toml::from_str::<Config>(text)
            .unwrap_err()
            .message()
            .to_owned()
    }

    #[test]
    fn a_right_table_is_taken() {
        let config: Config = toml::from_str(
            "url = 'https://bmc-17.example'\nuser = 'telemetry'\npassword = { file = '/p' }\n\
             tls = { ca_file = '/ca.pem', min_version = '1.2' }\nchassis = 'System.Embedded.1'\n\
             system = 'Node1'\ninterval = '30s'",
        )
        .unwrap();
        assert!(matches!(
            config.site.login(),
            Some(Login::Session { path: SESSIONS, .. })
        ));
        assert_eq!(config.wanted.chassis.as_deref(), Some("System.Embedded.1"));
        let basic = "url = 'https://a'\nuser = 'u'\npassword = { env = 'P' }\nlogin = 'basic'";
        let config: Config = toml::from_str(basic).unwrap();
        assert!(matches!(config.site.login(), Some(Login::Basic { .. })));
        assert!(toml::from_str::<Config>("url = 'http://127.0.0.1:8000'").is_ok());
    }

    #[test]
    fn wrong_tables_are_refused() {
        for (text, words) in [
            ("url = 'https://a/redfish/v1'", "leave \"/redfish/v1\" out"),
            ("url = 'http://10.0.0.7'", "https:// only"),
            ("url = 'https://a'\nuser = 'u'", "go together"),
            ("url = 'https://a'\nlogin = 'basic'", "go together"),
            (
                "url = 'https://a'\nuser = ''\npassword = { env = 'P' }",
                "go together",
            ),
            (
                "url = 'https://a'\nuser = 'u'\npassword = 's3cret'",
                "does not stand in",
            ),
            (
                "url = 'https://a'\nchassis = '/redfish/v1/Chassis/1'",
                "the last part of its path",
            ),
            ("url = 'https://a'\ninterval = '1s'", "outside the allowed"),
            (
                "url = 'https://a'\ntls = { insecure = true }",
                "unknown field `insecure`",
            ),
        ] {
            let found = refusal(text);
            assert!(found.contains(words), "{text}: {found}");
            assert!(!found.contains("s3cret"), "{found}");
        }
    }
}
