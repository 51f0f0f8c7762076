//! The journal's lines of one unit, out of its files: without a library and without another program.
//!
//! Owns: which files there are, how far each was read. A file is known by the id in its header, which it keeps when
//! journald puts it aside under another name. Promises: each message of the unit once, also over rotation and
//! restarts; the entries of other units are not looked at, because the index that journald keeps leads past them.

mod layout;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::layout::{Bytes, Cursor, Header, LayoutError, Message, Others};
use super::colours;
use super::files::Taker;
use super::identity::{hash, mix};
use super::joined::{Counts, LINE_BYTES_MAX};
use super::place::Begin;
use crate::CollectError;
use crate::models::feed::Line;

/// Entries of one call: about half a second.
const ENTRIES_PER_CALL: u64 = 50_000;

/// Files of a journal; journald keeps a hundred at most unless it is told otherwise.
const FILES_MAX: usize = 512;

/// The form of checkpoints that this release writes; others are ignored.
const VERSION: u8 = 1;

/// The name of a unit in its entries.
const UNIT: &[u8] = b"_SYSTEMD_UNIT";

/// Reads the messages of one unit.
pub(crate) struct Journal<R> {
    unit: String,
    folders: Vec<PathBuf>,
    begin: Begin,
    files: Vec<Open>,
    /// Files that were read, by the first half of their ids.
    known: Vec<(u64, u64)>,
    has_begun: bool,
    reader: R,
    counts: Counts,
    others: Others,
    text: Vec<u8>,
    clean: Vec<u8>,
}

/// A file that is open.
struct Open {
    path: PathBuf,
    node: u64,
    file: File,
    header: Header,
    /// The object that names the unit, once there is one.
    unit: Option<u64>,
    /// Entries that the file had when it was looked for in vain.
    searched: Option<u64>,
    cursor: Cursor,
}

/// What a checkpoint keeps.
#[derive(Serialize, Deserialize)]
struct Saved {
    version: u8,
    unit: String,
    /// How many of the unit's entries were read of each file.
    files: Vec<(u64, u64)>,
    counts: Counts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reader: Option<String>,
}

impl<R> Journal<R> {
    pub(super) fn new(unit: String, folders: Vec<PathBuf>, begin: Begin, reader: R) -> Self {
        Self {
            unit,
            folders,
            begin,
            files: Vec::new(),
            known: Vec::new(),
            has_begun: false,
            reader,
            counts: Counts::default(),
            others: Others::new(),
            text: Vec::new(),
            clean: Vec::new(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn reader(&self) -> &R {
        &self.reader
    }

    /// Hands out the next messages.
    ///
    /// # Errors
    /// When there is no journal, or it cannot be read.
    pub(super) fn take(&mut self, taker: &mut dyn Taker<R>) -> Result<(), CollectError> {
        self.look()?;
        if self.files.is_empty() {
            return Err(CollectError::Vanished {
                what: format!("a journal in {}", self.folders_told()),
            });
        }
        taker.begin(&mut self.reader);
        let mut left = ENTRIES_PER_CALL;
        for place in 0..self.files.len() {
            match self.take_of(place, &mut left, taker) {
                Ok(()) if left > 0 => {}
                Ok(()) => break,
                Err(error) => return Err(self.told(place, error)),
            }
        }
        self.close_archived();
        Ok(())
    }

    fn take_of(
        &mut self,
        place: usize,
        left: &mut u64,
        taker: &mut dyn Taker<R>,
    ) -> Result<(), LayoutError> {
        let Some(open) = self.files.get_mut(place) else {
            return Ok(());
        };
        let Some(unit) = open.unit(&self.unit)? else {
            return Ok(());
        };
        let entries = open.header.entries(&open.file, unit)?;
        self.others.clear();
        let file_key = hash(&open.header.id);
        while *left > 0 {
            let Some(entry) = open.header.next(&open.file, &entries, &mut open.cursor)? else {
                break;
            };
            *left -= 1;
            let Self { others, text, .. } = self;
            let read = open
                .header
                .message(&open.file, &entry, others, LINE_BYTES_MAX, text)?;
            let mut is_cut = match read {
                Message::Read { is_cut } => is_cut,
                Message::None => continue,
                Message::Unreadable => {
                    self.counts.lost += 1;
                    continue;
                }
            };
            self.counts.too_long += u64::from(is_cut);
            // Only the first line of a message begins where a line of the server begins.
            let mut line = self.text.as_slice();
            if let Some(end) = memchr::memchr(b'\n', line) {
                is_cut |= end + 1 < line.len();
                line = line.get(..end).unwrap_or_default();
            }
            line = line.strip_suffix(b"\r").unwrap_or(line);
            if colours::has(line) {
                colours::strip(line, &mut self.clean);
                line = &self.clean;
            }
            self.counts.lines += 1;
            let at = i64::try_from(entry.at).unwrap_or(i64::MAX);
            let line = Line {
                text: line,
                at: Timestamp::from_microsecond(at).ok(),
                is_cut,
                place: mix(file_key ^ mix(entry.number)),
            };
            taker.line(&mut self.reader, line);
        }
        Ok(())
    }

    /// Opens files that were not seen before.
    fn look(&mut self) -> Result<(), CollectError> {
        let mut failed = None;
        for path in journal_files(&self.folders).into_iter().take(FILES_MAX) {
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            let is_open = |open: &Open| open.node == metadata.ino() && open.path == path;
            if self.files.iter().any(is_open) {
                continue;
            }
            match self.open(&path) {
                Ok(()) => {}
                // One that was put aside this moment is found by the next look.
                Err(LayoutError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(LayoutError::Io(error)) => failed = Some(CollectError::from_io(&path, error)),
                Err(LayoutError::Content(found)) => {
                    failed = Some(CollectError::malformed(&path, found));
                }
            }
        }
        self.files.sort_by_key(|open| open.header.begun_at);
        match failed {
            Some(error) if self.files.is_empty() => Err(error),
            _ => {
                self.has_begun = true;
                Ok(())
            }
        }
    }

    fn open(&mut self, path: &Path) -> Result<(), LayoutError> {
        let file = File::open(path)?;
        let node = file.metadata()?.ino();
        let header = Header::read(&file)?;
        if let Some(open) = self
            .files
            .iter_mut()
            .find(|open| open.header.id == header.id)
        {
            // It was put aside under another name.
            path.clone_into(&mut open.path);
            open.header = header;
            return Ok(());
        }
        let mut open = Open {
            path: path.to_owned(),
            node,
            file,
            header,
            unit: None,
            searched: None,
            cursor: Cursor::default(),
        };
        let id = short(&header);
        match self.known.iter().find(|(known, _)| *known == id) {
            Some((_, taken)) => open.cursor = Cursor::at(*taken),
            None if !self.has_begun && self.begin == Begin::End => open.go_to_end(&self.unit)?,
            None => {}
        }
        self.files.push(open);
        Ok(())
    }

    /// Closes files whose names are gone, and keeps what was read of the others.
    fn close_archived(&mut self) {
        self.known = self.files.iter().map(Open::known).collect();
        self.files.retain(|open| open.path.exists());
    }

    fn told(&self, place: usize, error: LayoutError) -> CollectError {
        let path = self.files.get(place).map(|open| open.path.as_path());
        let path = path.unwrap_or(Path::new(""));
        match error {
            LayoutError::Io(error) => CollectError::from_io(path, error),
            LayoutError::Content(found) => CollectError::malformed(path, found),
        }
    }

    fn folders_told(&self) -> String {
        let folders = self.folders.iter().map(|path| path.display().to_string());
        folders.collect::<Vec<_>>().join(" or ")
    }

    pub(super) fn checkpoint(&self, state: impl Fn(&R) -> Option<String>) -> Option<String> {
        if !self.has_begun {
            return None;
        }
        let saved = Saved {
            version: VERSION,
            unit: self.unit.clone(),
            files: self.files.iter().map(Open::known).collect(),
            counts: self.counts,
            reader: state(&self.reader),
        };
        serde_json::to_string(&saved).ok()
    }

    pub(super) fn resume(&mut self, checkpoint: &str, give: impl Fn(&mut R, &str)) {
        let Ok(saved) = serde_json::from_str::<Saved>(checkpoint) else {
            return;
        };
        if saved.version != VERSION || saved.unit != self.unit {
            return;
        }
        self.has_begun = true;
        self.known = saved.files.into_iter().take(FILES_MAX).collect();
        self.counts = saved.counts;
        if let Some(state) = saved.reader {
            give(&mut self.reader, &state);
        }
    }
}

impl Open {
    /// The object that names the unit in this file.
    fn unit(&mut self, name: &str) -> Result<Option<u64>, LayoutError> {
        if self.unit.is_none() {
            let count = Header::count(&self.file)?;
            if self.searched != Some(count) {
                self.unit = self.header.find(&self.file, UNIT, name.as_bytes())?;
                self.searched = Some(count);
            }
        }
        Ok(self.unit)
    }

    fn go_to_end(&mut self, name: &str) -> Result<(), LayoutError> {
        if let Some(unit) = self.unit(name)? {
            let count = self.header.entries(&self.file, unit)?.count;
            self.cursor = Cursor::at(count);
        }
        Ok(())
    }

    fn known(&self) -> (u64, u64) {
        (short(&self.header), self.cursor.taken)
    }
}

/// Half of a file's id: it is random.
fn short(header: &Header) -> u64 {
    let half = header.id.first_chunk::<8>();
    half.map_or(0, |half| u64::from_be_bytes(*half))
}

/// The files of a journal: in the folders, and in those below that are called after a machine.
fn journal_files(folders: &[PathBuf]) -> Vec<PathBuf> {
    let listed = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for folder in folders {
        for path in listed(folder) {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            let is_machine = name.len() == 32 && name.iter().all(u8::is_ascii_hexdigit);
            if is_machine {
                found.extend(listed(&path));
            } else {
                found.push(path);
            }
        }
    }
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.ends_with(b".journal") || name.ends_with(b".journal~")
    });
    found
}

/// Reads all messages of a unit out of the bytes of a file, for tests and fuzzers.
pub(super) fn messages(bytes: &[u8], unit: &str, each: &mut dyn FnMut(u64, &[u8])) {
    // What is damaged ends there.
    walk(&bytes, unit, each).unwrap_or_default();
}

fn walk(
    file: &impl Bytes,
    unit: &str,
    each: &mut dyn FnMut(u64, &[u8]),
) -> Result<(), LayoutError> {
    let header = Header::read(file)?;
    let Some(data) = header.find(file, UNIT, unit.as_bytes())? else {
        return Ok(());
    };
    let entries = header.entries(file, data)?;
    let (mut cursor, mut others, mut text) = (Cursor::default(), Others::new(), Vec::new());
    while cursor.taken < ENTRIES_PER_CALL {
        let Some(entry) = header.next(file, &entries, &mut cursor)? else {
            break;
        };
        let read = header.message(file, &entry, &mut others, LINE_BYTES_MAX, &mut text)?;
        if matches!(read, Message::Read { .. }) {
            each(entry.at, &text);
        }
    }
    Ok(())
}
