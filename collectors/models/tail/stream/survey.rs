//! What is new beside a log: files that rotation put aside before they were read, and copies of what was emptied.
//!
//! A rotation may go on meanwhile. What was found counts only if the same files have the same names afterwards and
//! the files that are read are still what they were; otherwise it is looked again. A copy is whole when the file was
//! emptied that it was made of: one that is the beginning of an open file is left for the next look.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::search::{is_prefix, siblings};
use super::{CHAIN_MAX, LOOKS, Stream, Tools, changed, saved_file};
use crate::models::tail::file::Followed;
use crate::models::tail::identity::{Hashed, Known, Node};
use crate::models::tail::names::age;
use crate::models::tail::packed::Packing;
use crate::models::tail::saved::SavedFile;

/// Looks one after the other while names move; a rotation moves twenty within a millisecond.
const TRIES: usize = 8;

/// What a survey came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Survey {
    Done,
    /// A file that is read was emptied: that comes first.
    Emptied,
    /// Names moved meanwhile.
    Moving,
}

/// A file that was not read yet.
struct Unseen {
    order: i128,
    changed: i64,
    file: Followed,
    /// What was read of it before, under another name or of the file that it is a copy of.
    read: Option<Read>,
}

impl Unseen {
    /// What a compressed file may be.
    fn guess(&self) -> Option<&Known> {
        let packed = self.file.packed.as_ref()?;
        packed.guess.as_ref().map(|guess| &guess.known)
    }
}

/// What was read of a file.
enum Read {
    /// Of the same one, to its end.
    Done(Known),
    /// Of the one that it is a copy of.
    Sought(SavedFile),
}

impl Stream {
    /// Finds files that were put aside before they were seen, and puts them into the chain at a place.
    ///
    /// While names do not stay as they are nothing is read at all.
    pub(super) fn insert_unseen(
        &mut self,
        place: usize,
        at: Timestamp,
        tools: &mut Tools,
    ) -> io::Result<()> {
        for _ in 0..TRIES {
            match self.survey(place, at, tools)? {
                Survey::Done => {
                    self.is_moving = false;
                    self.is_surveyed = true;
                    return Ok(());
                }
                Survey::Emptied => {
                    self.is_moving = false;
                    self.looks = LOOKS;
                    return Ok(());
                }
                Survey::Moving => {}
            }
        }
        self.is_moving = true;
        self.looks = LOOKS;
        Ok(())
    }

    /// A file has other content than what was read of it: a copy of the old content may be there.
    pub(super) fn replaced(
        &mut self,
        place: usize,
        at: Timestamp,
        tools: &mut Tools,
    ) -> io::Result<()> {
        self.lives += 1;
        let life = self.lives;
        let Some(file) = self.chain.get_mut(place) else {
            return Ok(());
        };
        let known = Known {
            is_emptied: true,
            ..file.known()
        };
        let sought = saved_file(file).map(|saved| SavedFile { known, ..saved });
        file.begin_anew(tools.wrapper, life)?;
        // Nothing of it was read: a copy of it is a file as any other.
        if let Some(sought) = sought.filter(|sought| sought.known.offset > 0) {
            self.seek(sought);
        }
        self.insert_unseen(place, at, tools)
    }

    fn survey(&mut self, place: usize, at: Timestamp, tools: &mut Tools) -> io::Result<Survey> {
        if !self.holds(tools)? {
            return Ok(Survey::Emptied);
        }
        let (old, new) = (self.base.clone(), self.moved_to.clone());
        let paths = listed(&old, new.as_deref());
        let mut unseen = Vec::new();
        for (path, _) in &paths {
            if let Some(file) = self.unseen(path, tools)? {
                unseen.push(file);
            }
        }
        if listed(&old, new.as_deref()) != paths {
            return Ok(Survey::Moving);
        }
        if !self.holds(tools)? {
            return Ok(Survey::Emptied);
        }
        if let Some(new) = self.moved_to.take() {
            self.base = new;
        }
        // Not everybody who compresses a file leaves it its time.
        if unseen.iter().any(|unseen| unseen.file.packed.is_some()) {
            unseen.sort_by_key(|unseen| (unseen.order, unseen.changed));
        } else {
            unseen.sort_by_key(|unseen| (unseen.changed, unseen.order));
        }
        self.pass_over_copy(&mut unseen, tools)?;
        let too_many = unseen.len().saturating_sub(CHAIN_MAX);
        tools.counts.gone += too_many as u64;
        for (place, unseen) in (place..).zip(unseen.into_iter().skip(too_many)) {
            let Unseen { mut file, read, .. } = unseen;
            match read {
                None => tools.counts.rotations += 1,
                // Somebody wrote into it long after the rotation.
                Some(Read::Done(known)) => {
                    let key = file.key;
                    file.go_on_from(&known, key, false);
                    self.done.retain(|done| *done != known);
                }
                Some(Read::Sought(sought)) => {
                    if let Some(known) = self.known_as(&file)? {
                        self.done.retain(|done| *done != known);
                    }
                    file.go_on_from(&sought.known, sought.key, sought.is_skipping);
                    self.sought
                        .retain(|other| !other.known.is_same_place(&sought.known));
                    tools.counts.copytruncates += 1;
                }
            }
            file.since = Some(at);
            file.real.clone_from(&old);
            self.chain.insert(place, file);
        }
        Ok(Survey::Done)
    }

    /// Whether the files that are read are still what they were.
    fn holds(&mut self, tools: &Tools) -> io::Result<bool> {
        for file in self.chain.iter_mut().filter(|file| file.packed.is_none()) {
            // What was written into an empty one meanwhile tells what it is.
            let is_it = file.knows_head() || file.look_at_head(tools.wrapper)?;
            if !is_it || !file.known().goes_on_in(&file.handle)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The file at a path, if there is something in it to be read.
    fn unseen(&mut self, path: &Path, tools: &Tools) -> io::Result<Option<Unseen>> {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return Ok(None);
        };
        let (node, changed) = (Node::of(&metadata), changed(&metadata));
        if self.reads(node) || !metadata.is_file() || metadata.len() == 0 {
            return Ok(None);
        }
        let is_old = changed < self.floor;
        let order = age(&self.base, path);
        let found = |file, read| Unseen {
            order,
            changed,
            file,
            read,
        };
        if let Some(packing) = Packing::of(path) {
            if is_old {
                return Ok(None);
            }
            let file = self.unseen_packed(path, packing, tools)?;
            return Ok(file.map(|file| found(file, None)));
        }
        if is_old && self.sought.is_empty() {
            return Ok(None);
        }
        // One that cannot be opened any more was renamed meanwhile.
        let Ok(file) = self.opened(path, tools) else {
            return Ok(None);
        };
        if self.reads(file.node) {
            return Ok(None);
        }
        if let Some(sought) = self.sought_in(&file)? {
            return Ok(Some(found(file, Some(Read::Sought(sought)))));
        }
        let known = self.known_as(&file)?;
        let is_read = match &known {
            Some(known) => file.seen()?.size <= known.offset,
            None => self.is_done(&file)?,
        };
        if is_old || is_read || self.is_open(&file)? || file.is_compressed()? {
            return Ok(None);
        }
        Ok(Some(found(file, known.map(Read::Done))))
    }

    /// What was sought, if the file is it or a copy of it that has all that was read.
    fn sought_in(&self, file: &Followed) -> io::Result<Option<SavedFile>> {
        let mut farthest: Option<&SavedFile> = None;
        for sought in &self.sought {
            let is_farther = farthest.is_none_or(|it| it.known.offset < sought.known.offset);
            if is_farther && sought.known.goes_on_in(&file.handle)? {
                farthest = Some(sought);
            }
        }
        Ok(farthest.cloned())
    }

    /// Whether the file is a copy of one that was read to its end.
    fn is_done(&self, file: &Followed) -> io::Result<bool> {
        for known in &self.done {
            if known.is_copied_by(&file.handle)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the file is the beginning of one that is read: a copy of it, perhaps one that is still being made.
    fn is_open(&mut self, file: &Followed) -> io::Result<bool> {
        for open in self.chain.iter().filter(|open| open.packed.is_none()) {
            if is_prefix(&file.handle, &open.handle)? {
                self.looks = LOOKS;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds the copy of an emptied file that was read further than the copy goes, so that it is not read again. Its
    /// end cannot be compared any more: the newest one with the same beginning is it. One that is even shorter than
    /// the beginning that is known is it if it is the oldest one.
    fn pass_over_copy(&mut self, unseen: &mut Vec<Unseen>, tools: &mut Tools) -> io::Result<()> {
        let mut left = Vec::new();
        for sought in std::mem::take(&mut self.sought) {
            let known = sought.known;
            let may_be_found = |unseen: &Unseen| match (&unseen.read, unseen.guess()) {
                (Some(Read::Sought(found)), _) => found.known.is_same_place(&known),
                (_, Some(guess)) => guess.is_same_place(&known),
                _ => false,
            };
            let copy = if !known.is_emptied || unseen.iter().any(may_be_found) {
                None
            } else {
                short_copy(&known, unseen)?
            };
            let Some((place, size)) = copy else {
                left.push(sought);
                continue;
            };
            let file = unseen.remove(place).file;
            tools.counts.copytruncates += 1;
            let fence = match &file.packed {
                Some(packed) => Hashed::of(&packed.head),
                None => Hashed::of_end(&file.handle, size)?,
            };
            self.raise_floor_later(&file);
            self.keep_known(Known {
                offset: size,
                fence,
                ..file.known()
            });
        }
        self.sought = left;
        Ok(())
    }
}

/// Which one is a copy that is shorter than what was read, and how long it is.
fn short_copy(known: &Known, unseen: &[Unseen]) -> io::Result<Option<(usize, u64)>> {
    let new = unseen.iter().enumerate().rev();
    for (place, Unseen { file, .. }) in new.filter(|(_, unseen)| unseen.read.is_none()) {
        let size = file.seen()?.size;
        let is_short = file.packed.is_none() && size < known.offset;
        if is_short && known.head.stands_at(&file.handle, 0)? {
            return Ok(Some((place, size)));
        }
    }
    let is_nobodys = |oldest: &&Unseen| oldest.read.is_none() && oldest.guess().is_none();
    let Some(Unseen { file, .. }) = unseen.first().filter(is_nobodys) else {
        return Ok(None);
    };
    let size = match &file.packed {
        Some(packed) => packed.head.len() as u64,
        None => file.seen()?.size,
    };
    Ok((size < u64::from(known.head.bytes)).then_some((0, size)))
}

/// The files beside a log, and what they are now.
fn listed(old: &Path, new: Option<&Path>) -> Vec<(PathBuf, Node)> {
    let paths = siblings(old, new).into_iter();
    let mut listed: Vec<_> = paths
        .filter_map(|path| {
            let metadata = fs::symlink_metadata(&path).ok()?;
            Some((path, Node::of(&metadata)))
        })
        .collect();
    listed.sort_by(|(one, _), (other, _)| one.cmp(other));
    listed.dedup();
    listed
}
