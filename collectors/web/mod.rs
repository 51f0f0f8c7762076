//! Servers that collectors ask: over HTTP, or over a connection in another protocol.
//!
//! Owns: what a table says about a server ([`Site`]), what a question is, and what its answer means
//! to a collector; what a connection for another protocol is ([`Dial`]). Promises: every failure names the address and what a person can do about it.
//! Refuses: sockets and TLS; whoever opens a collector hands them in with the host, so that a
//! collector can be asked anything without a network.

mod site;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::CollectError;

pub(crate) use site::Basic;
pub use site::{Address, Login, SecretPlace, Signing, Site, Tls, TlsVersion};

/// How much of a refusal is read: enough for its reason.
pub const REFUSAL_BYTES_MAX: usize = 16 * 1024;

/// How much of a refusal is told.
const REFUSAL_CHARACTERS_MAX: usize = 200;

/// Makes clients of servers. The agent's own makes verified connections; a test's answers itself.
#[async_trait]
pub trait Web: fmt::Debug + Send + Sync {
    /// A client of one server; nothing is sent yet.
    ///
    /// # Errors
    /// When a certificate file cannot be used.
    fn open(&self, site: &Site) -> Result<Arc<dyn Server>, CollectError>;

    /// A connection to a server that speaks another protocol than HTTP.
    ///
    /// # Errors
    /// When it is not there in time, or its certificate is not to be trusted.
    async fn dial(&self, to: &Dial) -> Result<Box<dyn Stream>, CollectError>;

    /// What is at the place of a secret now.
    ///
    /// # Errors
    /// When it cannot be read, or others can read it.
    fn secret(&self, place: &SecretPlace) -> Result<Zeroizing<String>, CollectError>;
}

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How the server is verified; without it the connection is plain.
    pub tls: Option<Tls>,
    /// How long it may take until the connection stands.
    pub within: Duration,
}

/// Takes an answer piece by piece, as it comes; an error of it ends the question.
pub type OnPiece<'a> = dyn FnMut(&[u8]) -> Result<(), CollectError> + Send + 'a;

/// One server.
#[async_trait]
pub trait Server: fmt::Debug + Send + Sync {
    /// Asks. Pieces of a good answer (2xx, decompressed) go to `on_piece`; of any other one the
    /// beginning is in [`Answer::refusal`].
    ///
    /// # Errors
    /// When there is no whole answer in time and size, or the secret to log in with cannot be read.
    async fn ask(
        &self,
        request: &Request<'_>,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Answer, CollectError>;

    /// Ends what a login began, so that no session of ours stays on the server until it expires. The
    /// next question begins another.
    async fn leave(&self) {}
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is asked for, below the site's address and with its own slash.
    pub path: &'a str,
    /// What is sent; without it the question is a GET.
    pub body: Option<Body<'a>>,
    /// Further headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// How long the whole answer may take.
    pub within: Duration,
    /// How long the decompressed answer may be.
    pub answer_bytes_max: u64,
}

/// What is sent with a POST.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// Its media type.
    pub content_type: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// How the server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers that are text, by their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body where the status is not 2xx.
    pub refusal: Vec<u8>,
}

impl Answer {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name)?;
        Some(&found.1)
    }

    /// Whether the answer is what was asked for.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.status / 100 == 2
    }

    /// The beginning of a refusal on one line, for a person.
    #[must_use]
    pub fn reason(&self) -> String {
        let text = String::from_utf8_lossy(&self.refusal);
        let words: Vec<&str> = text.split_whitespace().collect();
        let line: String = words
            .join(" ")
            .chars()
            .filter(|c| !c.is_control())
            .take(REFUSAL_CHARACTERS_MAX)
            .collect();
        line
    }

    /// Refuses an answer that is not 2xx.
    ///
    /// # Errors
    /// With the class that the status has for a collector.
    pub fn require_good(&self, url: &str) -> Result<(), CollectError> {
        if self.is_good() {
            return Ok(());
        }
        let reason = self.reason();
        let said = if reason.is_empty() {
            format!("HTTP {}", self.status)
        } else {
            format!("HTTP {}: {reason}", self.status)
        };
        Err(match self.status {
            401 | 403 | 407 => denied(
                url,
                "the server refuses the login: check bearer_token, basic or the client certificate \
                 of this source",
                io::Error::new(io::ErrorKind::PermissionDenied, said),
            ),
            404 | 410 => CollectError::Vanished {
                what: format!("{url} ({said}; check the path of the address)"),
            },
            300..=399 => malformed(
                url,
                &format!(
                    "HTTP {}: it redirects to {}, where this source is not configured to go: put that \
                     address into its url",
                    self.status,
                    self.header("location").unwrap_or("another place")
                ),
            ),
            429 | 500..=599 => unreachable(
                url,
                format!("{said}; its own log says why, and the agent asks again at the next tick"),
            ),
            _ => malformed(url, &said),
        })
    }
}

/// A permission is missing.
#[must_use]
pub fn denied(url: &str, hint: &str, source: io::Error) -> CollectError {
    CollectError::Denied {
        path: url.into(),
        hint: hint.to_owned(),
        source,
    }
}

/// The server cannot be asked.
#[must_use]
pub fn unreachable(url: &str, why: String) -> CollectError {
    CollectError::Unreachable {
        what: url.to_owned(),
        source: io::Error::other(why),
    }
}

/// The answer is no answer.
#[must_use]
pub fn malformed(url: &str, found: &str) -> CollectError {
    CollectError::malformed(Path::new(url), found)
}

/// No network: for tests of what needs none.
#[derive(Clone, Copy, Debug)]
pub struct Offline;

#[async_trait]
impl Web for Offline {
    fn open(&self, site: &Site) -> Result<Arc<dyn Server>, CollectError> {
        let url = site.address().to_string();
        Err(unreachable(&url, "there is no network here".to_owned()))
    }

    async fn dial(&self, to: &Dial) -> Result<Box<dyn Stream>, CollectError> {
        let address = to.to_string();
        Err(unreachable(&address, "there is no network here".to_owned()))
    }

    fn secret(&self, place: &SecretPlace) -> Result<Zeroizing<String>, CollectError> {
        let why = "there are no secrets here".to_owned();
        Err(unreachable(&place.to_string(), why))
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}
