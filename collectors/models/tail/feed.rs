//! A log and the reader of its lines, as one feed.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::files::{Tail, Taker};
use super::joined::Counts;
use super::journal::Journal;
use super::place::{Origin, Place};
use crate::CollectError;
use crate::models::feed::{Feed, Line, LineReader, Out};

/// How long a log that shows prompts is left alone before a new look at its end.
const REFUSED_FOR: SignedDuration = SignedDuration::from_mins(10);

/// How long lost lines are told as a trouble; their count stays in the details.
const LOSS_TOLD_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Makes the reader of one log: a pattern may lead to several, whose lines must not be mixed.
pub(crate) type Readers = Arc<dyn Fn() -> Box<dyn LineReader> + Send + Sync>;

/// Gives the lines of a place to readers.
pub(crate) struct LogFeed {
    name: String,
    source: Source,
    counts: Counts,
    lost_at: Option<Timestamp>,
    now: Timestamp,
}

/// What holds the lines.
enum Source {
    Files(Box<Tail<Reading>>),
    Journal(Box<Journal<Reading>>),
}

/// The reader of one log.
struct Reading {
    reader: Box<dyn LineReader>,
    /// Makes a new one.
    make: Readers,
    /// Since when and why it is not read.
    refused: Option<(Timestamp, String)>,
}

impl LogFeed {
    /// A feed of what is at this place. Nothing is opened before its first call.
    pub(crate) fn open(place: Place, readers: Readers) -> Self {
        let name = place.to_string();
        let make = move || Reading {
            reader: readers(),
            make: Arc::clone(&readers),
            refused: None,
        };
        let source = match place.origin {
            Origin::File(path) => {
                let tail = Tail::new(path, place.begin, place.wrapper, Box::new(make));
                Source::Files(Box::new(tail))
            }
            Origin::Journal { unit, folders } => {
                Source::Journal(Box::new(Journal::new(unit, folders, place.begin, make())))
            }
        };
        Self {
            name,
            source,
            counts: Counts::default(),
            lost_at: None,
            now: Timestamp::UNIX_EPOCH,
        }
    }
}

#[async_trait]
impl Feed for LogFeed {
    async fn take(&mut self, at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError> {
        self.now = at;
        let mut telling = Telling { at, out };
        let taken = match &mut self.source {
            Source::Files(tail) => tail.take(at, &mut telling),
            Source::Journal(journal) => journal.take(&mut telling),
        };
        let counts = self.source.counts();
        if losses(&counts) > losses(&self.counts) {
            self.lost_at = Some(at);
        }
        self.counts = counts;
        taken
    }

    fn checkpoint(&self) -> Option<String> {
        let state = |reading: &Reading| reading.reader.checkpoint();
        match &self.source {
            Source::Files(tail) => tail.checkpoint(state),
            Source::Journal(journal) => journal.checkpoint(state),
        }
    }

    fn resume(&mut self, checkpoint: &str) {
        let give = |reading: &mut Reading, state: &str| reading.reader.resume(state);
        match &mut self.source {
            Source::Files(tail) => tail.resume(checkpoint, give),
            Source::Journal(journal) => journal.resume(checkpoint, give),
        }
        // What a restart finds to be lost is told with the first call.
        self.counts = Counts::default();
    }

    fn details(&self) -> Vec<String> {
        vec![format!("{}: {}", self.name, told(&self.counts))]
    }

    fn trouble(&self) -> Option<String> {
        let readings = self.source.readings();
        let refused = |reading: &&Reading| Some(reading.refused.as_ref()?.1.clone());
        let of_source = || match &self.source {
            Source::Files(tail) => tail.trouble(),
            Source::Journal(_) => None,
        };
        let of_losses = || {
            let is_recent = self.now.duration_since(self.lost_at?) < LOSS_TOLD_FOR;
            is_recent.then(|| format!("{} lost lines: {}", self.name, told(&self.counts)))
        };
        let of_readers = || readings.iter().find_map(|reading| reading.reader.trouble());
        let refused = readings.iter().find_map(refused);
        refused
            .or_else(of_source)
            .or_else(of_losses)
            .or_else(of_readers)
    }
}

impl Source {
    fn counts(&self) -> Counts {
        match self {
            Self::Files(tail) => tail.counts(),
            Self::Journal(journal) => journal.counts(),
        }
    }

    fn readings(&self) -> Vec<&Reading> {
        match self {
            Self::Files(tail) => tail.readers().collect(),
            Self::Journal(journal) => vec![journal.reader()],
        }
    }
}

/// Tells what readers find.
struct Telling<'a> {
    at: Timestamp,
    out: &'a mut dyn Out,
}

impl Taker<Reading> for Telling<'_> {
    fn wants(&mut self, reading: &mut Reading) -> bool {
        let is_over = reading
            .refused
            .as_ref()
            .is_none_or(|(since, _)| self.at.duration_since(*since) >= REFUSED_FOR);
        if is_over && reading.refused.take().is_some() {
            reading.reader = (reading.make)();
        }
        is_over
    }

    fn line(&mut self, reading: &mut Reading, line: Line<'_>) -> ControlFlow<()> {
        reading.reader.line(line, self.out);
        match reading.reader.refusal() {
            Some(advice) => {
                reading.refused = Some((self.at, advice));
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    }
}

/// How often lines were lost, or may have been.
fn losses(counts: &Counts) -> u64 {
    counts.lost + counts.odd + counts.truncated + counts.gone
}

/// The counts in words; what did not happen is left out but for losses.
fn told(counts: &Counts) -> String {
    let mut told = format!(
        "{} line{}",
        with_commas(counts.lines),
        if counts.lines == 1 { "" } else { "s" }
    );
    let mut add = |count: u64, one: &str, many: &str, always: bool| {
        if count > 0 || always {
            let name = if count == 1 { one } else { many };
            told.push_str(&format!(", {} {name}", with_commas(count)));
        }
    };
    add(counts.too_long, "too long", "too long", false);
    add(counts.unfinished, "unfinished", "unfinished", false);
    add(counts.odd, "in no known form", "in no known form", false);
    add(counts.lost, "lost", "lost", true);
    add(counts.rotations, "rotation", "rotations", false);
    add(counts.copytruncates, "copytruncate", "copytruncates", false);
    add(
        counts.truncated,
        "emptied without a copy",
        "emptied without a copy",
        false,
    );
    add(
        counts.gone,
        "file gone before its end",
        "files gone before their end",
        false,
    );
    add(
        counts.refused_bytes,
        "byte passed over",
        "bytes passed over",
        false,
    );
    told
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
