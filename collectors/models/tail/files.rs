//! The logs that a path or a pattern leads to, read in turns.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::file::{PIECE_BYTES, Room};
use super::joined::{Counts, Unwrapping};
use super::names::{expand, is_pattern};
use super::packed::Turn;
use super::place::{Begin, Wrapper};
use super::saved::{Saved, VERSION};
use super::stream::{Stream, Tools};
use crate::CollectError;
use crate::models::feed::Line;

/// Logs that one pattern leads to at most; a node runs as many pods.
pub(super) const STREAMS_MAX: usize = 128;

/// Bytes of one call: about a fifth of a second.
pub(super) const BYTES_PER_CALL: u64 = 64 * 1024 * 1024;

/// Takes the lines of logs, each with what it keeps for that log.
pub(super) trait Taker<R> {
    /// The lines of a call begin; also when there are none.
    fn begin(&mut self, reader: &mut R);

    /// The next line.
    fn line(&mut self, reader: &mut R, line: Line<'_>);
}

/// Reads all logs of a place.
pub(crate) struct Tail<R> {
    pattern: PathBuf,
    begin: Begin,
    streams: Vec<(Stream, R)>,
    make: Box<dyn Fn() -> R + Send + Sync>,
    tools: Tools,
    has_begun: bool,
    /// Which log is read first next time.
    first: usize,
    /// What is wrong with one of several logs.
    failed: Option<CollectError>,
    has_more: bool,
}

impl<R> Tail<R> {
    pub(super) fn new(
        pattern: PathBuf,
        begin: Begin,
        wrapper: Wrapper,
        make: Box<dyn Fn() -> R + Send + Sync>,
    ) -> Self {
        Self {
            pattern,
            begin,
            streams: Vec::new(),
            make,
            tools: Tools {
                room: Room::new(),
                unwrapping: Unwrapping::default(),
                wrapper,
                counts: Counts::default(),
                turn: Turn::default(),
            },
            has_begun: false,
            first: 0,
            failed: None,
            has_more: false,
        }
    }

    /// Hands out the next lines of all logs.
    ///
    /// # Errors
    /// When there is no log, or the only one cannot be read.
    pub(super) fn take(
        &mut self,
        at: Timestamp,
        taker: &mut dyn Taker<R>,
    ) -> Result<(), CollectError> {
        self.failed = None;
        self.open_new();
        let count = self.streams.len();
        let mut budget = BYTES_PER_CALL;
        for turn in 0..count {
            let place = (self.first + turn) % count;
            let Some((stream, reader)) = self.streams.get_mut(place) else {
                break;
            };
            let share = budget / (count - turn) as u64;
            let mut left = share.max(PIECE_BYTES as u64);
            let granted = left;
            let tools = &mut self.tools;
            taker.begin(reader);
            let mut each = |line: Line<'_>| taker.line(reader, line);
            let read = stream.read(at, &mut left, tools, &mut each);
            budget = budget.saturating_sub(granted - left);
            if let Err(error) = read {
                if error.raw_os_error() == Some(rustix::io::Errno::STALE.raw_os_error())
                    && let Some(saved) = stream.saved(None)
                {
                    *stream = Stream::resume(saved, tools);
                }
                self.failed = Some(CollectError::from_io(&stream.path, error));
            }
        }
        self.tools.room.wipe();
        self.tools.unwrapping.wipe();
        self.first = if count == 0 {
            0
        } else {
            (self.first + 1) % count
        };
        if is_pattern(&self.pattern) {
            self.streams.retain(|(stream, _)| !stream.is_over());
        }
        if count <= 1
            && let Some(error) = self.failed.take()
        {
            return Err(error);
        }
        if self.streams.is_empty() && count == 0 {
            return Err(CollectError::Vanished {
                what: format!("a log at {}", self.pattern.display()),
            });
        }
        Ok(())
    }

    /// Opens what is there for the first time.
    fn open_new(&mut self) {
        let (paths, has_more) = if is_pattern(&self.pattern) {
            expand(&self.pattern, STREAMS_MAX)
        } else {
            (vec![self.pattern.clone()], false)
        };
        self.has_more = has_more;
        let begin = if self.has_begun {
            Begin::Start
        } else {
            self.begin
        };
        let mut has_begun = true;
        for path in paths {
            if self.is_read(&path) {
                continue;
            }
            if self.streams.len() >= STREAMS_MAX {
                self.has_more = true;
                break;
            }
            let mut stream = Stream::new(path.clone());
            match stream.begin(begin, &mut self.tools) {
                Ok(()) => self.streams.push((stream, (self.make)())),
                Err(error) => {
                    // What may not be read now is there all the same, so that later its end is what counts.
                    has_begun &= error.kind() == io::ErrorKind::NotFound;
                    self.failed = Some(CollectError::from_io(&path, error));
                }
            }
        }
        self.has_begun |= has_begun;
    }

    fn is_read(&self, path: &Path) -> bool {
        let mut streams = self.streams.iter().map(|(stream, _)| stream);
        let is_pattern = is_pattern(&self.pattern);
        streams.any(|stream| stream.path == path || is_pattern && stream.has(path))
    }

    pub(super) fn counts(&self) -> Counts {
        self.tools.counts
    }

    /// What is kept for each log.
    pub(super) fn readers(&self) -> impl Iterator<Item = &R> {
        self.streams.iter().map(|(_, reader)| reader)
    }

    /// What is wrong although logs are read.
    pub(super) fn trouble(&self) -> Option<String> {
        if let Some(failed) = &self.failed {
            return Some(failed.to_string());
        }
        self.has_more.then(|| {
            format!(
                "{} leads to more than {STREAMS_MAX} logs, and the rest is not read: narrow it",
                self.pattern.display()
            )
        })
    }

    pub(super) fn checkpoint(&self, state: impl Fn(&R) -> Option<String>) -> Option<String> {
        if !self.has_begun {
            return None;
        }
        let streams = self.streams.iter();
        let saved = Saved {
            version: VERSION,
            streams: streams
                .filter_map(|(stream, reader)| stream.saved(state(reader)))
                .collect(),
            counts: self.tools.counts,
        };
        serde_json::to_string(&saved).ok()
    }

    pub(super) fn resume(&mut self, checkpoint: &str, give: impl Fn(&mut R, &str)) {
        let Ok(saved) = serde_json::from_str::<Saved>(checkpoint) else {
            return;
        };
        if saved.version != VERSION {
            return;
        }
        self.has_begun = true;
        self.tools.counts = saved.counts;
        for saved in saved.streams.into_iter().take(STREAMS_MAX) {
            let is_ours = Path::new(&saved.path) == self.pattern || is_pattern(&self.pattern);
            if !is_ours {
                continue;
            }
            let mut reader = (self.make)();
            if let Some(state) = &saved.reader {
                give(&mut reader, state);
            }
            let stream = Stream::resume(saved, &mut self.tools);
            self.streams.push((stream, reader));
        }
    }
}
