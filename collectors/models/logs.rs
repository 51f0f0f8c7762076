//! Logs of servers, by the kind of server, and what their readers share.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::feed::{Line, LineReader, Out};
use super::request::{ModelFacts, Request, Sum, Used, Word};
use super::zone::Zone;
use super::{llamacpp, ollama, sglang, tgi, vllm};

/// Opens the reader of one kind of server.
pub(crate) type Open = fn(Zone) -> Box<dyn LineReader>;

/// Every kind of server whose log is read.
pub(crate) const READERS: [(&str, Open); 5] = [
    ("llamacpp", |_| llamacpp::reader()),
    ("ollama", ollama::reader),
    ("sglang", sglang::reader),
    ("tgi", |_| tgi::reader()),
    ("vllm", vllm::reader),
];

/// The id of a request whose server gives it none: where its line stands.
pub(crate) fn place_id(place: u64) -> Option<Word> {
    let mut text = *b"line-0000000000000000";
    for (digit, four) in text
        .iter_mut()
        .rev()
        .zip((0..16).map(|digit| place >> (4 * digit)))
    {
        *digit = *b"0123456789abcdef".get(usize::try_from(four & 15).ok()?)?;
    }
    Word::new(&text)
}

/// A time in parts of a millisecond, rounded.
pub(crate) const fn milliseconds(time: u64, parts: u64) -> u64 {
    time.saturating_add(parts / 2) / parts
}

/// What was counted, in words; nothing about what there was none of.
pub(crate) fn counted(counts: &[(u64, &str)]) -> Vec<String> {
    let some = counts.iter().filter(|(count, _)| *count > 0);
    some.map(|(count, what)| format!("{what}: {count}"))
        .collect()
}

/// Reads lines with every reader, restarted in between, and checks what holds for all lines: nothing is told after a
/// refusal, and a checkpoint is taken back as it was.
pub(crate) fn read_any(bytes: &[u8]) {
    for (kind, open) in READERS {
        let mut told = Told::default();
        let mut reader = open(Zone::new(TimeZone::UTC));
        reader.tick(Timestamp::UNIX_EPOCH, &mut told);
        for (place, text) in (0_u64..).zip(bytes.split(|byte| *byte == b'\n')) {
            let line = Line {
                text,
                at: None,
                is_cut: place % 7 == 6,
                place,
            };
            reader.line(line, &mut told);
            if reader.refusal().is_some() {
                let before = told.0;
                reader.line(line, &mut told);
                assert_eq!(
                    told.0, before,
                    "{kind} tells something of a log that it refuses"
                );
            }
        }
        let kept = reader.checkpoint().unwrap_or_default();
        let mut other = open(Zone::new(TimeZone::UTC));
        other.resume(&kept);
        assert_eq!(
            other.refusal(),
            reader.refusal(),
            "{kind} forgets a refusal"
        );
        other.resume(&String::from_utf8_lossy(bytes));
        for _ in 0..3 {
            other.tick(Timestamp::UNIX_EPOCH, &mut told);
        }
    }
}

/// Counts what it is told.
#[derive(Default)]
pub(super) struct Told(pub(super) u64);

impl Out for Told {
    fn request(&mut self, _request: Request) {
        self.0 += 1;
    }

    fn sum(&mut self, _sum: Sum) {
        self.0 += 1;
    }

    fn model(&mut self, _facts: ModelFacts) {}

    fn used(&mut self, _used: Used) {}
}

#[cfg(test)]
mod tests;
