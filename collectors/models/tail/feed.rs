//! A log and the reader of its lines, as one feed.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::files::{Tail, Taker};
use super::joined::Counts;
use super::journal::Journal;
use super::place::{Origin, Place};
use crate::CollectError;
use crate::models::feed::{Feed, Line, LineReader, Out};

/// How long lost lines are told as a trouble; their count stays in the details.
const LOSS_TOLD_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Lines of readers in `status`; a pattern may lead to a hundred logs.
const DETAILS_MAX: usize = 32;

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
    Files(Box<Tail<Reader>>),
    Journal(Box<Journal<Reader>>),
}

/// The reader of one log.
type Reader = Box<dyn LineReader>;

impl LogFeed {
    /// A feed of what is at this place. Nothing is opened before its first call.
    pub(crate) fn open(place: Place, readers: Readers) -> Self {
        let name = place.to_string();
        let make = move || readers();
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
        let state = |reader: &Reader| reader.checkpoint();
        match &self.source {
            Source::Files(tail) => tail.checkpoint(state),
            Source::Journal(journal) => journal.checkpoint(state),
        }
    }

    fn resume(&mut self, checkpoint: &str) {
        let give = |reader: &mut Reader, state: &str| reader.resume(state);
        match &mut self.source {
            Source::Files(tail) => tail.resume(checkpoint, give),
            Source::Journal(journal) => journal.resume(checkpoint, give),
        }
        // What a restart finds to be lost is told with the first call.
        self.counts = Counts::default();
    }

    fn details(&self) -> Vec<String> {
        let own = format!("{}: {}", self.name, told(&self.counts));
        let readers = self.source.readers().into_iter();
        std::iter::once(own)
            .chain(
                readers
                    .flat_map(|reader| reader.details())
                    .take(DETAILS_MAX),
            )
            .collect()
    }

    fn trouble(&self) -> Option<String> {
        let readers = self.source.readers();
        let of_source = || match &self.source {
            Source::Files(tail) => tail.trouble(),
            Source::Journal(_) => None,
        };
        let of_losses = || {
            let is_recent = self.now.duration_since(self.lost_at?) < LOSS_TOLD_FOR;
            is_recent.then(|| format!("{} lost lines: {}", self.name, told(&self.counts)))
        };
        let of_readers = || readers.iter().find_map(|reader| reader.trouble());
        let refused = readers.iter().find_map(|reader| reader.refusal());
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

    fn readers(&self) -> Vec<&Reader> {
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

impl Taker<Reader> for Telling<'_> {
    fn begin(&mut self, reader: &mut Reader) {
        reader.tick(self.at, self.out);
    }

    fn line(&mut self, reader: &mut Reader, line: Line<'_>) {
        // A log that shows prompts is read on, so that its reader sees when that ends; it tells nothing meanwhile.
        reader.line(line, self.out);
    }
}

/// How often lines were lost, or may have been.
fn losses(counts: &Counts) -> u64 {
    counts.lost + counts.odd + counts.truncated + counts.gone + counts.damaged
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
        counts.packed,
        "compressed file read",
        "compressed files read",
        false,
    );
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
        counts.damaged,
        "compressed file damaged",
        "compressed files damaged",
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
