//! A local receiver of what model servers push: HTTP/1.1 and HTTP/2, with a bound on everything.
//!
//! Owns: the listener of one source, from the connection to the acknowledged request. Promises: a sender is told
//! that its message was taken only when what it said is on disk, and is told to come again otherwise, so that a
//! sender that repeats loses nothing (but for a kind whose senders lose more by waiting); whatever is sent, memory and time are bounded and the listener answers others;
//! nothing of a message is in an answer, a log or an error. Refuses: TLS, browsers, and any path that its kind does
//! not name.

mod answer;
mod body;
mod connection;
mod exchange;
mod feed;
mod grpc;
mod listen;
mod queue;
mod refusal;
mod tally;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::request::{ModelFacts, Request};
use queue::Queue;
use tally::Tally;

pub(crate) use feed::Receiver;
pub(crate) use listen::Listen;
pub(crate) use refusal::{Refusal, malformed, not_here, other_media};
pub(crate) use tally::Left;

/// Longest message, after decompression. The largest batches that are met, 8,192 spans of an OpenTelemetry
/// collector or 512 payloads of LiteLLM with their prompts, have a few.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most requests to models that one message may tell of: two batches of an OpenTelemetry collector.
pub(crate) const MESSAGE_ITEMS_MAX: usize = 16 * 1024;

/// How long things may take; tests are shorter.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// The head of a message, and the pause between two over HTTP/1.1.
    head: Duration,
    /// A connection without any message in progress.
    quiet: Duration,
    /// A message, from its head to its end. Senders are on this machine or near it.
    arrive: Duration,
    /// From there until it is on disk. Exporters of OpenTelemetry give up after 10 seconds, and shall hear our
    /// answer before.
    store: Duration,
}

impl Times {
    const USUAL: Self = Self {
        head: Duration::from_secs(30),
        quiet: Duration::from_secs(120),
        arrive: Duration::from_secs(30),
        store: Duration::from_secs(8),
    };
}

/// What one kind of sender says.
pub(crate) trait Dialect: fmt::Debug + Send + Sync {
    /// How a message to this path, with this media type, is wrapped.
    ///
    /// # Errors
    /// When nothing is received there.
    fn form(&self, path: &str, media: &str) -> Result<Form, Refusal>;

    /// Reads a whole message. It keeps nothing of it but what it returns.
    ///
    /// # Errors
    /// When the message cannot be read; a sender must not repeat it as it is.
    fn read(&self, form: Form, message: &[u8]) -> Result<Told, Refusal>;

    /// Whether the sender is answered before what it said is on disk, because it loses more by waiting.
    fn is_answered_at_once(&self) -> bool {
        false
    }
}

/// How a message is wrapped, and how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A POST of JSON, answered in JSON.
    Json,
    /// A POST of protobuf, answered in protobuf.
    Protobuf,
    /// A unary call of gRPC.
    Grpc,
}

/// What one message tells.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Requests to models.
    pub(crate) requests: Vec<Request>,
    /// What models are.
    pub(crate) models: Vec<ModelFacts>,
    /// What of the message was left out, by its reason.
    pub(crate) left: Left,
}

impl Told {
    /// Keeps one more request.
    ///
    /// # Errors
    /// When there are too many in one message.
    pub(crate) fn keep(&mut self, request: Request) -> Result<(), Refusal> {
        if self.requests.len() == MESSAGE_ITEMS_MAX {
            return Err(refusal::TOO_MANY);
        }
        self.requests.push(request);
        Ok(())
    }
}

/// Checks what a reader must keep whatever it reads: its bounds, and that reading again says the same.
pub(crate) fn keeps_its_word(read: impl Fn() -> Result<Told, Refusal>) {
    let (once, again) = (read(), read());
    match (once, again) {
        (Ok(once), Ok(again)) => {
            assert!(once.requests.len() <= MESSAGE_ITEMS_MAX);
            assert_eq!(once.requests, again.requests);
            assert_eq!(once.left, again.left);
        }
        (once, again) => assert_eq!(once.err(), again.err()),
    }
}

/// The form of a message of JSON.
///
/// # Errors
/// When the media type is another one; a page in a browser cannot send these without asking first.
pub(crate) fn json(media: &str) -> Result<Form, Refusal> {
    const MEDIA: [&str; 4] = [
        "application/json",
        "application/x-ndjson",
        "application/jsonl",
        "application/x-jsonlines",
    ];
    if MEDIA.iter().any(|known| known.eq_ignore_ascii_case(media)) {
        return Ok(Form::Json);
    }
    Err(other_media("send application/json or application/x-ndjson"))
}

/// What connections and the feed share.
#[derive(Debug)]
struct Intake {
    dialect: Arc<dyn Dialect>,
    queue: Queue,
    tally: Mutex<Tally>,
    /// What messages may take in memory together.
    room: Arc<Semaphore>,
    token: Option<Token>,
    times: Times,
}

/// The word that senders must know.
struct Token(Mutex<Zeroizing<String>>);

impl Intake {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        locked(&self.tally)
    }
}

impl Token {
    fn set(&self, token: Zeroizing<String>) {
        *locked(&self.0) = token;
    }

    /// Whether this is the token; the time that it takes does not tell how much of it is right.
    fn is(&self, shown: &[u8]) -> bool {
        let token = locked(&self.0);
        aws_lc_rs::constant_time::verify_slices_are_equal(token.as_bytes(), shown).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// What a panic left behind is whole: every change is made in one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
