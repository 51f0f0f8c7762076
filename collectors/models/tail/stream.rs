//! One log: the file that its path leads to, and the files that rotation put aside before they were read.
//!
//! Owns: what to read, in which order, through renames, swapped links, emptied files and restarts.
//! Promises: the files of a log form a chain, oldest first, and a file leaves it only when it was read to its end and
//! nobody writes to it any more. Of the newer files of a chain only that is read which stood in them before the
//! older ones were read to their end, so that the lines of one writer keep their order.

mod packs;
mod resume;
mod search;
mod survey;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::file::{Followed, Room, Seen, Stop};
use super::identity::{Known, Node};
use super::joined::{Counts, Parts, Unwrapping};
use super::packed::{Packed, Turn};
use super::place::{Begin, Wrapper};
use super::saved::{SavedFile, SavedStream};
use super::wrapper::Form;
use crate::models::feed::Line;
use packs::Settled;

/// How long a file that was rotated is still looked at. A writer is told to open the new one after the rotation, and
/// one that answers requests may take its time.
pub(super) const LINGER: SignedDuration = SignedDuration::from_secs(60);

/// Files of one log that are open at once; hourly rotation makes as many in a day.
const CHAIN_MAX: usize = 32;

/// Files that were read to their end and are known again.
const DONE_MAX: usize = CHAIN_MAX;

/// Looks at the directory after a rotation; a single one may miss a file that is renamed meanwhile.
const LOOKS: u8 = 2;

/// Bytes that are read again after a restart for the beginning of a line that is not whole.
const AGAIN_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What a stream works with.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) room: Room,
    pub(super) unwrapping: Unwrapping,
    pub(super) wrapper: Wrapper,
    pub(super) counts: Counts,
    /// One file is unpacked at a time.
    pub(super) turn: Turn,
}

/// Takes the lines of one stream.
pub(super) type Each<'a> = &'a mut dyn FnMut(Line<'_>);

/// One path, and the chain of files behind it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) path: PathBuf,
    /// The file that the path led to last, without links.
    base: PathBuf,
    chain: VecDeque<Followed>,
    done: VecDeque<Known>,
    /// Files that were not read to their end and not found again: perhaps they were compressed.
    sought: Vec<SavedFile>,
    /// Files that were last changed before are none of ours.
    floor: i64,
    floor_later: i64,
    lives: u64,
    parts: Parts,
    looks: u8,
    /// Whether what is sought was looked for.
    is_surveyed: bool,
    /// Whether names did not stay as they were, so that nothing is known of what is there.
    is_moving: bool,
    /// What the path leads to now, until what lies beside it was looked at.
    moved_to: Option<PathBuf>,
    /// When the directory of the file was last changed, as far as it was looked at.
    folder_changed: i64,
    /// Since when nothing is where the path leads to.
    missing_since: Option<Timestamp>,
}

impl Stream {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            base: path.clone(),
            path,
            chain: VecDeque::new(),
            done: VecDeque::new(),
            sought: Vec::new(),
            floor: i64::MIN,
            floor_later: i64::MIN,
            lives: 0,
            parts: Parts::default(),
            looks: 0,
            is_surveyed: false,
            is_moving: false,
            moved_to: None,
            folder_changed: 0,
            missing_since: None,
        }
    }

    /// Whether the file at this path is one of this log's, read or being read.
    pub(super) fn has(&self, path: &Path) -> bool {
        let Ok(metadata) = fs::metadata(path) else {
            return false;
        };
        let node = Node::of(&metadata);
        let is_done = |known: &Known| {
            known.node == node
                && fs::File::open(path)
                    .and_then(|file| known.goes_on_in(&file))
                    .unwrap_or(false)
        };
        self.reads(node) || self.done.iter().any(is_done)
    }

    fn reads(&self, node: Node) -> bool {
        self.chain.iter().any(|file| file.node == node)
    }

    /// Whether it was read to its end and nothing is where the path leads to.
    pub(super) fn is_over(&self) -> bool {
        self.chain.is_empty() && self.sought.is_empty() && self.missing_since.is_some()
    }

    /// Opens what the path leads to for the first time.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub(super) fn begin(&mut self, begin: Begin, tools: &mut Tools) -> io::Result<()> {
        let mut file = self.opened(&self.path.clone(), tools)?;
        if begin == Begin::End {
            file.go_to_end(&mut tools.room)?;
        }
        self.set_floor(&file, tools)?;
        self.base.clone_from(&file.real);
        self.chain.push_back(file);
        Ok(())
    }

    /// Reads on: at most `budget` bytes, which it lowers.
    ///
    /// # Errors
    /// When the log cannot be read, although it may have been read in part.
    pub(super) fn read(
        &mut self,
        at: Timestamp,
        budget: &mut u64,
        tools: &mut Tools,
        each: Each<'_>,
    ) -> io::Result<()> {
        let looked = self.look(at, tools);
        if self.is_moving {
            return looked;
        }
        self.limit()?;
        let mut from = 0;
        loop {
            match self.settle(from, at, budget, tools) {
                Settled::Read => {}
                Settled::Next => {
                    from += 1;
                    continue;
                }
                Settled::Removed => continue,
                Settled::Later => return Ok(()),
            }
            let Some(file) = self.chain.get_mut(from) else {
                break;
            };
            if file.packed.is_some() {
                if !self.read_packed(from, at, budget, tools, each) {
                    return Ok(());
                }
                from += 1;
                continue;
            }
            match read_file(file, &mut self.parts, budget, tools, each)? {
                Stop::Budget => return Ok(()),
                Stop::Replaced => {
                    self.replaced(from, at, tools)?;
                    if self.is_moving {
                        return Ok(());
                    }
                    self.limit()?;
                    continue;
                }
                Stop::End => {}
            }
            from += 1;
        }
        self.retire(at, tools, each)?;
        self.give_up_search(tools);
        looked
    }

    pub(super) fn saved(&self, reader: Option<String>) -> Option<SavedStream> {
        // What a compressed file is, is found out again; one that was read is among those that are done.
        let is_open = |packed: &Packed| packed.is_verified && !packed.is_done;
        let is_known = |file: &&Followed| file.packed.as_deref().is_none_or(is_open);
        let sought = self.sought.iter().cloned().map(Some);
        let files = sought.chain(self.chain.iter().filter(is_known).map(saved_file));
        Some(SavedStream {
            path: self.path.to_str()?.to_owned(),
            base: self.base.to_str()?.to_owned(),
            files: files.collect::<Option<_>>()?,
            done: self.done.iter().copied().collect(),
            floor: self.floor,
            lives: self.lives,
            parts: self.parts.begins().collect(),
            reader,
        })
    }

    /// Looks where the path leads to now.
    fn look(&mut self, at: Timestamp, tools: &mut Tools) -> io::Result<()> {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.missing_since.get_or_insert(at);
                self.supersede(at, tools);
                if self.looks > 0 {
                    self.looks -= 1;
                    self.insert_unseen(self.chain.len(), at, tools)?;
                }
                if self.chain.is_empty() {
                    return Err(error);
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.missing_since = None;
        let node = Node::of(&metadata);
        let is_same = self
            .chain
            .back()
            .is_some_and(|last| last.node == node && last.since.is_none());
        if is_same {
            // A copy was made, perhaps, of what was written and emptied since the last time.
            let folder = self.base.parent().and_then(|path| fs::metadata(path).ok());
            let folder = folder.map_or(0, |metadata| changed(&metadata));
            if std::mem::replace(&mut self.folder_changed, folder) != folder {
                self.looks = LOOKS;
            }
            if self.looks > 0 {
                self.looks -= 1;
                self.insert_unseen(self.chain.len() - 1, at, tools)?;
            }
            return Ok(());
        }
        let mut file = self.opened(&self.path.clone(), tools)?;
        // A file that was taken for gone is in its place again, or is read already under another name.
        if let Some(known) = self.chain.iter_mut().find(|known| known.node == file.node) {
            known.since = None;
            let place = self.chain.iter().position(|known| known.node == file.node);
            if let Some(known) = place.and_then(|place| self.chain.remove(place)) {
                self.supersede(at, tools);
                self.chain.push_back(known);
            }
            return Ok(());
        }
        if let Some(known) = self.known_as(&file)? {
            let key = file.key;
            file.go_on_from(&known, key, false);
        }
        self.supersede(at, tools);
        self.looks = LOOKS;
        self.moved_to = Some(file.real.clone());
        self.chain.push_back(file);
        self.insert_unseen(self.chain.len() - 1, at, tools)
    }

    /// The newest file is not the one that the path leads to any more.
    fn supersede(&mut self, at: Timestamp, tools: &mut Tools) {
        for file in &mut self.chain {
            if file.since.is_none() {
                file.since = Some(at);
                tools.counts.rotations += 1;
            }
        }
    }

    /// Takes out of the chain what was read to its end long enough ago.
    fn retire(&mut self, at: Timestamp, tools: &mut Tools, each: Each<'_>) -> io::Result<()> {
        let mut place = 0;
        loop {
            let count = self.chain.len();
            let Some(file) = self.chain.get_mut(place) else {
                return Ok(());
            };
            let is_old = file
                .since
                .is_some_and(|since| at.duration_since(since) >= LINGER);
            let is_too_many = file.since.is_some() && count > CHAIN_MAX;
            let is_cut_off = match &file.packed {
                Some(packed) if !packed.is_done => packed.waits_at.is_some() && is_old,
                _ => false,
            };
            let is_read = file.packed.as_ref().is_none_or(|packed| packed.is_done);
            let is_over = is_cut_off || is_read && (is_old || is_too_many);
            if !is_over {
                place += 1;
                continue;
            }
            let Some(mut file) = self.chain.remove(place) else {
                return Ok(());
            };
            let key = file.key;
            if is_cut_off {
                tools.counts.damaged += 1;
            } else {
                hand_out_rest(&mut file, &mut self.parts, tools, each)?;
            }
            self.finish(&mut file, tools);
            tools
                .unwrapping
                .give_up(key, &mut self.parts, &mut tools.counts, each);
        }
    }

    fn finish(&mut self, file: &mut Followed, tools: &Tools) {
        if file.packed.is_some() {
            return self.finish_packed(file);
        }
        if !file.knows_head() && file.look_at_head(tools.wrapper).is_err() {
            return;
        }
        self.raise_floor_later(file);
        // A compressed one that is known already stands for it.
        let known = file.known();
        let content = |known: &Known| (known.head, known.offset, known.fence);
        if !self
            .done
            .iter()
            .any(|done| content(done) == content(&known))
        {
            self.keep_known(known);
        }
    }

    /// Files that were last changed before this one are none of ours any more, when nothing is sought.
    fn raise_floor_later(&mut self, file: &Followed) {
        if let Ok(seen) = file.seen() {
            self.floor_later = self.floor_later.max(seen.changed);
        }
    }

    /// A compressed file may have the time at which it was compressed: what is still read is none of the old ones.
    fn raise_floor(&mut self) {
        if self.floor_later > self.floor {
            let open = self.chain.iter().filter(|open| open.packed.is_none());
            let times = open.filter_map(|open| Some(open.seen().ok()?.changed));
            self.floor = self.floor.max(times.fold(self.floor_later, i64::min));
        }
    }

    fn keep_known(&mut self, known: Known) {
        if known.offset == 0 || self.done.contains(&known) {
            return;
        }
        while self.done.len() >= DONE_MAX {
            self.done.pop_front();
        }
        self.done.push_back(known);
    }

    /// How far each file is read now: the newest first, so that nothing is read of it that was written after the
    /// last line of an older one.
    fn limit(&mut self) -> io::Result<()> {
        for file in self.chain.iter_mut().rev() {
            if let Some(packed) = &file.packed {
                file.limit = if packed.is_done {
                    file.offset
                } else {
                    u64::MAX
                };
                continue;
            }
            let seen = file.seen()?;
            // Nothing happened since it was read to its end.
            let is_done = file.ended == Some(seen);
            file.limit = if is_done { file.offset } else { seen.size };
        }
        Ok(())
    }

    fn opened(&mut self, path: &Path, tools: &Tools) -> io::Result<Followed> {
        self.lives += 1;
        Followed::open(path, tools.wrapper, self.lives)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }
}

fn saved_file(file: &Followed) -> Option<SavedFile> {
    Some(SavedFile {
        real: file.real.to_str()?.to_owned(),
        known: file.known(),
        key: file.key,
        is_skipping: file.is_skipping,
        since: file.since.map(Timestamp::as_second),
    })
}

/// Reads one file up to its limit.
fn read_file(
    file: &mut Followed,
    parts: &mut Parts,
    budget: &mut u64,
    tools: &mut Tools,
    each: Each<'_>,
) -> io::Result<Stop> {
    let before = file.seen()?;
    if before.size < file.offset.max(u64::from(file.head.bytes)) {
        return Ok(Stop::Replaced);
    }
    if file.ended == Some(before) {
        return Ok(Stop::End);
    }
    if !file.look_at_head(tools.wrapper)? {
        return Ok(Stop::Replaced);
    }
    if file.offset >= file.limit {
        // One that was emptied may have got to the same place again.
        let holds = file.known().goes_on_in(&file.handle)?;
        file.ended = (file.offset == before.size).then_some(before);
        return Ok(if holds { Stop::End } else { Stop::Replaced });
    }
    let stop = hand_out(file, parts, budget, tools, each)?;
    file.ended = (stop == Stop::End).then_some(Seen {
        size: file.limit.min(before.size),
        changed: before.changed,
    });
    Ok(stop)
}

/// Hands out the lines of one file up to its limit.
fn hand_out(
    file: &mut Followed,
    parts: &mut Parts,
    budget: &mut u64,
    tools: &mut Tools,
    each: Each<'_>,
) -> io::Result<Stop> {
    let Some(form) = file.form else {
        return Ok(Stop::End);
    };
    let key = file.key;
    let Tools {
        room,
        unwrapping,
        counts,
        ..
    } = tools;
    file.read(room, budget, |raw| {
        unwrapping.take(form, raw, key, parts, counts, each);
    })
}

/// Hands out what stands behind the last line's end of one file.
fn hand_out_rest(
    file: &mut Followed,
    parts: &mut Parts,
    tools: &mut Tools,
    each: Each<'_>,
) -> io::Result<()> {
    let form = file.form.unwrap_or(Form::Plain);
    let key = file.key;
    let Tools {
        room,
        unwrapping,
        counts,
        ..
    } = tools;
    file.flush(room, |raw| {
        unwrapping.take(form, raw, key, parts, counts, each);
    })
}

fn changed(metadata: &fs::Metadata) -> i64 {
    use std::os::unix::fs::MetadataExt;
    let seconds = metadata.mtime().saturating_mul(1_000_000_000);
    seconds.saturating_add(metadata.mtime_nsec())
}
