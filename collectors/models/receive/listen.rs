//! Where a source listens: the part of its table that says so.

use std::net::SocketAddr;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::web::SecretPlace;

/// Where a source listens, and what its senders must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// The address and port. Beyond this machine it needs a token.
    pub(crate) address: SocketAddr,
    /// Where the token is that senders show as `Authorization: Bearer`.
    pub(crate) token: Option<SecretPlace>,
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            address: SocketAddr,
            token: Option<SecretPlace>,
        }
        let Raw { address, token } = Raw::deserialize(deserializer)?;
        if !address.ip().is_loopback() && token.is_none() {
            return Err(D::Error::custom(format!(
                "everybody who reaches {address} could push: listen on 127.0.0.1:{}, or say with \
                 `token` where the token is that senders must show",
                address.port()
            )));
        }
        if address.port() == 0 {
            return Err(D::Error::custom(
                "senders cannot find port 0: name the port",
            ));
        }
        Ok(Self { address, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_machine_a_token_is_asked_for() {
        let read = |text: &str| toml::from_str::<Listen>(text).map_err(|e| e.message().to_owned());
        assert!(read("address = '127.0.0.1:4318'").unwrap().token.is_none());
        assert!(read("address = '[::1]:4318'").is_ok());
        let bare = read("address = '0.0.0.0:4318'").unwrap_err();
        assert!(bare.contains("listen on 127.0.0.1:4318"), "{bare}");
        let with = read("address = '0.0.0.0:4318'\ntoken = { env = 'PUSH_TOKEN' }").unwrap();
        assert_eq!(with.token, Some(SecretPlace::Env("PUSH_TOKEN".to_owned())));
        assert!(
            read("address = '127.0.0.1:0'")
                .unwrap_err()
                .contains("port 0")
        );
        assert!(read("address = '127.0.0.1:1'\nport = 2").is_err());
        let secret = read("address = '127.0.0.1:1'\ntoken = 'swordfish'").unwrap_err();
        assert!(!secret.contains("swordfish"), "{secret}");
    }
}
