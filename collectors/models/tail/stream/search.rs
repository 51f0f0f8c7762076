//! Finding files of a log beside the one that its path leads to: rotated ones that were not seen, and copies.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{CHAIN_MAX, DONE_MAX, LOOKS, Stream, Tools, changed};
use crate::models::tail::file::Followed;
use crate::models::tail::identity::{HEAD_BYTES, Hashed, Known, Node, read_full};
use crate::models::tail::names::{ENTRIES_MAX, age, is_alike, is_rotated, unpacked};
use crate::models::tail::packed::Packing;

impl Stream {
    /// Finds files that were rotated before they were seen, and puts them into the chain at a place.
    pub(super) fn insert_unseen(
        &mut self,
        current: Option<&Followed>,
        place: usize,
        at: Timestamp,
        tools: &mut Tools,
    ) -> io::Result<()> {
        // One that was emptied is no longer what its copies were made of; it is looked at when it is read.
        let plain = |file: &&mut Followed| file.packed.is_none();
        for file in self.chain.iter_mut().filter(plain) {
            // What was written into an empty one meanwhile tells what it is.
            let is_it = file.knows_head() || file.look_at_head(tools.wrapper)?;
            if !is_it || !file.known().goes_on_in(&file.handle)? {
                self.looks = LOOKS;
                return Ok(());
            }
        }
        let old = self.base.clone();
        let new = current.map(|file| file.real.clone());
        let mut unseen = Vec::new();
        let mut has_packed = false;
        for path in siblings(&old, new.as_deref()) {
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let node = Node::of(&metadata);
            let is_read = self.reads(node) || current.is_some_and(|file| file.node == node);
            if is_read
                || !metadata.is_file()
                || metadata.len() == 0
                || changed(&metadata) < self.floor
            {
                continue;
            }
            let order = age(&old, &path);
            if let Some(packing) = Packing::of(&path) {
                if let Some(file) = self.unseen_packed(&path, packing, tools)? {
                    unseen.push((changed(&metadata), order, file));
                    has_packed = true;
                }
                continue;
            }
            // One that cannot be opened any more was renamed meanwhile: the next look finds it.
            let Ok(mut file) = self.opened(&path, tools) else {
                continue;
            };
            if let Some(known) = self.known_as(&file)? {
                if metadata.len() <= known.offset {
                    continue;
                }
                // Somebody wrote into it long after the rotation.
                let key = file.key;
                file.go_on_from(&known, key, false);
                self.done.retain(|done| *done != known);
            } else if self.is_known(&file)? || file.is_compressed()? {
                continue;
            }
            unseen.push((file.seen()?.changed, order, file));
        }
        // Not everybody who compresses a file leaves it its time.
        if has_packed {
            unseen.sort_by_key(|(changed, order, _)| (*order, *changed));
        } else {
            unseen.sort_by_key(|(changed, order, _)| (*changed, *order));
        }
        let too_many = unseen.len().saturating_sub(CHAIN_MAX);
        tools.counts.gone += too_many as u64;
        for (place, (_, _, mut file)) in (place..).zip(unseen.into_iter().skip(too_many)) {
            file.since = Some(at);
            file.real.clone_from(&old);
            tools.counts.rotations += 1;
            self.chain.insert(place, file);
        }
        Ok(())
    }

    /// Whether the file is a copy of one of ours.
    pub(super) fn is_known(&self, file: &Followed) -> io::Result<bool> {
        let sought = self.sought.iter().map(|sought| Known {
            is_emptied: true,
            ..sought.known
        });
        for known in self.done.iter().copied().chain(sought) {
            if known.is_copied_by(&file.handle)? {
                return Ok(true);
            }
        }
        for known in self.chain.iter().filter(|known| known.packed.is_none()) {
            if is_prefix(&file.handle, &known.handle)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A file that was read to its end and stands where the path leads to again.
    pub(super) fn known_as(&self, file: &Followed) -> io::Result<Option<Known>> {
        for known in self.done.iter().filter(|known| known.node == file.node) {
            if known.head.bytes > 0 && known.goes_on_in(&file.handle)? {
                return Ok(Some(*known));
            }
        }
        Ok(None)
    }

    /// Finds the copy of an emptied file that was read further than the copy goes, so that it is not read again. Its
    /// end cannot be compared any more: the newest one with the same beginning is it.
    pub(super) fn pass_over_copy(&mut self, known: &Known, tools: &Tools) -> io::Result<bool> {
        let mut newest: Option<(i64, Known)> = None;
        for path in siblings(&self.base.clone(), None) {
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let size = metadata.len();
            let is_new = !self.reads(Node::of(&metadata)) && changed(&metadata) >= self.floor;
            let is_packed = Packing::of(&path).is_some();
            if !metadata.is_file() || !is_new || size == 0 || size >= known.offset || is_packed {
                continue;
            }
            let Ok(file) = self.opened(&path, tools) else {
                continue;
            };
            if !known.head.stands_at(&file.handle, 0)? || self.is_known(&file)? {
                continue;
            }
            let copy = Known {
                offset: size,
                fence: Hashed::of_end(&file.handle, size)?,
                ..file.known()
            };
            let changed = changed(&metadata);
            if newest.is_none_or(|(before, _)| before < changed) {
                newest = Some((changed, copy));
            }
        }
        if let Some((_, copy)) = newest {
            self.keep_known(copy);
        }
        Ok(newest.is_some())
    }

    /// What is there when the log is seen for the first time is old.
    pub(super) fn set_floor(&mut self, file: &Followed, tools: &mut Tools) -> io::Result<()> {
        let mut old = Vec::new();
        for path in siblings(&file.real, None) {
            if let Ok(metadata) = fs::symlink_metadata(&path)
                && metadata.is_file()
            {
                old.push((changed(&metadata), path));
            }
        }
        old.sort();
        for (changed, path) in old.into_iter().rev().take(DONE_MAX).rev() {
            self.floor = self.floor.max(changed);
            if let Some(packing) = Packing::of(&path) {
                self.keep_packed(&path, packing, tools);
            } else if let Ok(file) = self.opened(&path, tools) {
                let mut known = file.known();
                known.offset = file.seen()?.size;
                known.fence = Hashed::of_end(&file.handle, known.offset)?;
                self.keep_known(known);
            }
        }
        Ok(())
    }

    /// A copy of what was read of a file, which can be read on.
    pub(super) fn find_copy(
        &mut self,
        real: &Path,
        known: &Known,
        tools: &Tools,
    ) -> io::Result<Option<Followed>> {
        for path in siblings(real, None) {
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let node = Node::of(&metadata);
            let is_open = self.chain.iter().any(|file| file.node == node);
            let is_packed = Packing::of(&path).is_some();
            if is_open || is_packed || !metadata.is_file() || metadata.len() < known.offset {
                continue;
            }
            if let Ok(file) = self.opened(&path, tools)
                && known.goes_on_in(&file.handle)?
            {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

/// Whether one file is the beginning of the other, as a copy is that was made of it: by its first and its last bytes.
fn is_prefix(copy: &fs::File, file: &fs::File) -> io::Result<bool> {
    let size = copy.metadata()?.len();
    if size == 0 || size > file.metadata()?.len() {
        return Ok(false);
    }
    let mut buffer = [0; HEAD_BYTES];
    for from in [0, size.saturating_sub(HEAD_BYTES as u64)] {
        let length = usize::try_from(size - from).unwrap_or(HEAD_BYTES);
        let wanted = buffer.get_mut(..length.min(HEAD_BYTES)).unwrap_or_default();
        let got = read_full(copy, wanted, from)?;
        if got != wanted.len() || !Hashed::of(wanted).stands_at(file, from)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The files beside this one that rotation made of it; or, when a link leads to another name now, those whose names
/// differ from it in their digits only.
pub(super) fn siblings(real: &Path, new: Option<&Path>) -> Vec<PathBuf> {
    let (Some(folder), Some(base)) = (real.parent(), real.file_name()) else {
        return Vec::new();
    };
    let base = base.as_encoded_bytes();
    let has_moved = new.is_some_and(|new| new.file_name() != real.file_name());
    let entries = fs::read_dir(folder).into_iter().flatten();
    let entries = entries.take(ENTRIES_MAX).flatten();
    let named = entries.filter(|entry| {
        let name = entry.file_name();
        let name = unpacked(name.as_encoded_bytes());
        is_rotated(base, name) || has_moved && (name == base || is_alike(base, name))
    });
    named.map(|entry| entry.path()).collect()
}
