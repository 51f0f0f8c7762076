//! Finding files of a log beside the one that its path leads to: rotated ones that were not seen, and copies.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{DONE_MAX, Stream, Tools, changed};
use crate::models::tail::file::Followed;
use crate::models::tail::identity::{HEAD_BYTES, Hashed, Known, Node, between_steps, read_full};
use crate::models::tail::names::{ENTRIES_MAX, is_alike, is_rotated, unpacked};
use crate::models::tail::packed::Packing;

impl Stream {
    /// A file that was read to its end and stands where the path leads to again.
    pub(super) fn known_as(&self, file: &Followed) -> io::Result<Option<Known>> {
        for known in self.done.iter().filter(|known| known.node == file.node) {
            if known.head.bytes > 0 && known.goes_on_in(&file.handle)? {
                return Ok(Some(*known));
            }
        }
        Ok(None)
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
pub(super) fn is_prefix(copy: &fs::File, file: &fs::File) -> io::Result<bool> {
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
    between_steps();
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
