//! One connection to a broker, whichever version of MQTT it speaks.
//!
//! Promises: it only ever subscribes; no function that publishes occurs here. A message that is too long
//! ends the connection instead of filling memory. Refuses: going on after an error; whoever asked for the
//! connection makes another one, after a pause of its own.

mod v4;
mod v5;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::topic::Filter;
use crate::web::{Dial, Stream, Web};

/// Longest message that is read: a value, not a picture. A longer one is refused by the broker
/// (MQTT 5) or ends the connection.
pub(super) const MESSAGE_BYTES_MAX: u32 = 256 * 1024;

/// A broker keeps messages of quality 1 for us so long while we are away.
const SESSION_KEPT: Duration = Duration::from_secs(60 * 60);

/// Requests in the queue to the broker: one for each block of filters, and acknowledgements.
const REQUESTS_MAX: usize = 64;

/// Versions of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Version {
    /// What every broker speaks.
    #[default]
    #[serde(rename = "3.1.1")]
    V311,
    /// The newer one, which gives reasons for refusals.
    #[serde(rename = "5")]
    V5,
}

/// What a connection is made with.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) version: Version,
    pub(super) to: Dial,
    pub(super) client_id: String,
    pub(super) login: Option<(String, Zeroizing<String>)>,
    pub(super) keep_alive: Duration,
    /// Whether the broker keeps messages for us while we are away.
    pub(super) is_persistent: bool,
}

/// What comes from a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It took us.
    Welcome {
        /// Whether it has kept our session, and what came in it, while we were away.
        is_kept: bool,
    },
    /// It answered to a subscription, with a refusal for each filter that it does not grant.
    Answered(Vec<Option<String>>),
    /// A message.
    Message {
        topic: String,
        payload: Vec<u8>,
        is_retained: bool,
    },
    /// Anything that changes nothing for us.
    Other,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The network, or the broker's end.
    Lost(String),
    /// The broker does not want us: a person has to act.
    Refused(String),
    /// What came makes no sense; the broker must forget it, or it comes again.
    Senseless(String),
}

/// A connection.
#[async_trait]
pub(super) trait Wire: Send {
    /// Waits for what comes next.
    async fn next(&mut self) -> Result<Heard, Ended>;

    /// Asks for topics, in quality of service 1.
    fn subscribe(&mut self, filters: &[Filter]) -> Result<(), Ended>;
}

/// Makes a connection; the first thing that it does when it is waited for is to connect.
pub(super) fn connect(entry: &Entry, web: &Arc<dyn Web>) -> Box<dyn Wire> {
    match entry.version {
        Version::V311 => Box::new(v4::connect(entry, web)),
        Version::V5 => Box::new(v5::connect(entry, web)),
    }
}

/// Opens the stream below, with the reason in words where it fails.
async fn dialled(to: Dial, web: Arc<dyn Web>) -> Result<Box<dyn Stream>, io::Error> {
    web.dial(&to).await.map_err(|error| {
        let reason = std::error::Error::source(&error)
            .map_or_else(|| error.to_string(), ToString::to_string);
        io::Error::other(reason)
    })
}

/// A login that a broker refuses, and what helps.
fn refused(said: &str) -> Ended {
    Ended::Refused(format!(
        "the broker refuses us: {said}; check user, password, client_id and the broker's access list"
    ))
}

/// A connection that ended, and what helps where we know it: with TLS 1.3 a broker refuses a certificate
/// only after the connection stands.
fn lost(said: &str) -> Ended {
    let hint = if said.contains("CertificateRequired") {
        "; it asks for a client certificate: give tls.client_cert_file and tls.client_key_file"
    } else if said.contains("received fatal alert") {
        "; it does not accept our certificate: check tls.client_cert_file"
    } else {
        ""
    };
    Ended::Lost(format!("{said}{hint}"))
}

fn topic_of(bytes: &[u8]) -> Result<String, Ended> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Ended::Senseless("a topic is not UTF-8 text".to_owned()))
}
