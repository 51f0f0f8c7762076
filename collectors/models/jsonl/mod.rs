//! The standardized log format (the specification, section II.B) for endpoints of one's own: one JSON object a
//! line, pushed or from a file. README.md beside this file is its schema.
//!
//! Promises: only the keys of the schema are read; a line that is wrong is counted by what is wrong with it, and
//! never shown.

mod entry;
mod lines;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::feed::{Feed, LineReader};
use super::json::items::items;
use super::receive::{self, Dialect, Form, Listen, Receiver, Refusal, Told};
use crate::CollectError;
use crate::host::Host;
use entry::{Entry, Known};

/// Where lines are posted to.
const PATH: &str = "/v1/inferences";

/// What a sender is told that has not understood the format.
const ALL_WRONG: Refusal = receive::malformed(
    "nothing in the message is right: send one JSON object a line with request_id, timestamp (RFC 3339 with its \
     offset) and model at least",
);

/// Listens for lines.
///
/// # Errors
/// When the address is taken, or the token cannot be read.
pub(crate) fn open(listen: &Listen, host: &Host) -> Result<Box<dyn Feed>, CollectError> {
    let receiver = Receiver::open(listen, Arc::new(Jsonl), host)?;
    Ok(Box::new(receiver))
}

/// Reads lines of a file.
pub(crate) fn reader() -> Box<dyn LineReader> {
    Box::new(lines::Lines::default())
}

/// What is pushed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jsonl;

impl Dialect for Jsonl {
    fn form(&self, path: &str, media: &str) -> Result<Form, Refusal> {
        if path != PATH {
            return Err(receive::not_here("lines are posted to /v1/inferences"));
        }
        receive::json(media)
    }

    fn read(&self, _: Form, message: &[u8]) -> Result<Told, Refusal> {
        told(message)
    }
}

/// Everything that a message tells.
pub(super) fn told(message: &[u8]) -> Result<Told, Refusal> {
    let mut told = Told::default();
    let mut overflow = Ok(());
    let mut known = Known::default();
    let wrong = items(message, Entry::read, |entry| match entry.judged() {
        Ok((request, facts)) => {
            told.models
                .extend(facts.filter(|facts| known.is_new(facts)));
            overflow = overflow.and_then(|()| told.keep(request));
        }
        Err(why) => told.left.count(why, 1),
    })
    .map_err(|_| ALL_WRONG)?;
    overflow?;
    told.left.count(entry::NO_JSON, wrong);
    if told.requests.is_empty() && told.left.total() > 0 {
        return Err(ALL_WRONG);
    }
    Ok(told)
}

/// Reads any bytes.
pub(super) fn read_any(bytes: &[u8]) {
    receive::keeps_its_word(|| told(bytes));
}
