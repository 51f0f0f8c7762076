//! What benches, fuzz targets and counterparts reach of this module: lines of bytes, and nothing of servers.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::file::Raw;
use super::files::{Tail, Taker};
use super::joined::{Counts, Parts, Unwrapping};
use super::place::{Begin, Place, Wrapper};
use super::wrapper::Form;
use crate::CollectError;
use crate::models::feed::{Line, LineReader};
use crate::models::jsonl;
use crate::models::logs::{READERS, Told};
use crate::models::zone::Zone;

/// Hands every line to a function.
struct Handing<'a>(&'a mut dyn FnMut(&[u8]));

impl Taker<()> for Handing<'_> {
    fn begin(&mut self, (): &mut ()) {}

    fn line(&mut self, (): &mut (), line: Line<'_>) {
        (self.0)(line.text);
    }
}

/// Reads a log that is a file, in as many calls as it takes; for benches.
#[expect(
    missing_debug_implementations,
    reason = "it holds files and closures, and is no part of the agent"
)]
pub struct Reading {
    tail: Tail<()>,
}

impl Reading {
    /// The lines of a file from its start.
    #[must_use]
    pub fn of_file(path: &Path) -> Self {
        let make = Box::new(|| ());
        Self {
            tail: Tail::new(path.to_owned(), Begin::Start, Wrapper::Auto, make),
        }
    }

    /// Hands out the next lines; how many there were in all so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn take(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<u64, CollectError> {
        self.tail.take(Timestamp::UNIX_EPOCH, &mut Handing(each))?;
        Ok(self.tail.counts().lines)
    }
}

/// Reads the log of a kind of server as the agent does; for benches.
#[expect(
    missing_debug_implementations,
    reason = "it holds files and closures, and is no part of the agent"
)]
pub struct Served {
    tail: Tail<Box<dyn LineReader>>,
    told: Told,
}

impl Served {
    /// The lines of a file from its start. `None` for a kind without a reader.
    #[must_use]
    pub fn of_file(kind: &str, path: &Path) -> Option<Self> {
        let open = READERS.into_iter().find(|(name, _)| *name == kind);
        let make: Box<dyn Fn() -> Box<dyn LineReader> + Send + Sync> = match open {
            Some((_, open)) => Box::new(move || open(Zone::new(TimeZone::UTC))),
            None if kind == "jsonl" => Box::new(jsonl::reader),
            None => return None,
        };
        let tail = Tail::new(path.to_owned(), Begin::Start, Wrapper::Auto, make);
        let told = Told::default();
        Some(Self { tail, told })
    }

    /// Reads the next lines; how many there were in all so far, and how many requests.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn take(&mut self) -> Result<(u64, u64), CollectError> {
        let Self { tail, told } = self;
        tail.take(Timestamp::UNIX_EPOCH, told)?;
        Ok((tail.counts().lines, told.0))
    }
}

impl Taker<Box<dyn LineReader>> for Told {
    fn begin(&mut self, reader: &mut Box<dyn LineReader>) {
        reader.tick(Timestamp::UNIX_EPOCH, self);
    }

    fn line(&mut self, reader: &mut Box<dyn LineReader>, line: Line<'_>) {
        reader.line(line, self);
    }
}

/// Hands out the lines in these records, as a file has them that holds nothing else.
pub fn lines_in(records: &[u8], each: &mut dyn FnMut(&[u8])) {
    let Some(form) = Form::of(records, Wrapper::Auto) else {
        return;
    };
    let (mut unwrapping, mut parts) = (Unwrapping::default(), Parts::default());
    let mut counts = Counts::default();
    let mut hand = |line: Line<'_>| each(line.text);
    let mut offset = 0;
    for record in records.split(|byte| *byte == b'\n') {
        let raw = Raw {
            text: record,
            offset,
            is_cut: false,
            is_unfinished: false,
            is_coloured: super::colours::has(record),
        };
        offset += record.len() as u64 + 1;
        unwrapping.take(form, &raw, 0, &mut parts, &mut counts, &mut hand);
    }
    unwrapping.give_up(0, &mut parts, &mut counts, &mut hand);
}

/// Hands out the messages of a unit in the bytes of a journal file, each with its microsecond.
pub fn messages_in(journal: &[u8], unit: &str, each: &mut dyn FnMut(u64, &[u8])) {
    super::journal::messages(journal, unit, each);
}

/// Hands out the messages of a unit in the journal of a folder.
///
/// # Errors
/// When there is no journal, or it cannot be read.
pub fn messages_of(
    folder: &Path,
    unit: &str,
    each: &mut dyn FnMut(&[u8]),
) -> Result<(), CollectError> {
    let place = Place::journal(unit).map_err(|found| CollectError::Malformed {
        what: "the name of a unit".to_owned(),
        found,
    })?;
    let place = place.in_folder(folder);
    let super::place::Origin::Journal { unit, folders } = place.origin else {
        return Ok(());
    };
    let mut journal = super::journal::Journal::new(unit, folders, Begin::Start, ());
    journal.take(&mut Handing(each))
}
