//! Going on after a restart: the files of a checkpoint, wherever they are now.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::{AGAIN_BYTES_MAX, CHAIN_MAX, DONE_MAX, LOOKS, Stream, Tools};
use crate::models::tail::file::Followed;
use crate::models::tail::identity::{Known, Node};
use crate::models::tail::joined::At;
use crate::models::tail::names::ENTRIES_MAX;
use crate::models::tail::packed::Packing;
use crate::models::tail::saved::SavedStream;
use crate::models::tail::wrapper::{Form, Tag};

impl Stream {
    /// Finds the files of a checkpoint again, wherever they are now.
    pub(in crate::models::tail) fn resume(saved: SavedStream, tools: &mut Tools) -> Self {
        let mut stream = Self::new(saved.path.into());
        stream.done = saved.done.into_iter().take(DONE_MAX).collect();
        stream.floor = saved.floor;
        stream.lives = saved.lives;
        stream.looks = LOOKS;
        stream.base = saved.base.into();
        let files: Vec<_> = saved.files.into_iter().take(CHAIN_MAX).collect();
        // Of an empty file nothing is known: if there is something in it now, it is found as one that was not seen.
        for file in files.iter().filter(|file| file.known.head.bytes > 0) {
            let since = file.since.map(Timestamp::from_second);
            let since = since.and_then(Result::ok);
            let Ok(Some(mut found)) = stream.find(Path::new(&file.real), &file.known, tools) else {
                // Something else stands in it now.
                let is_there = |metadata: fs::Metadata| Node::of(&metadata) == file.known.node;
                let is_emptied = since.is_none() && fs::metadata(&file.real).is_ok_and(is_there);
                let mut sought = file.clone();
                sought.known.is_emptied |= is_emptied;
                stream.seek(sought);
                continue;
            };
            if found.node != file.known.node && since.is_none() {
                tools.counts.copytruncates += 1;
            }
            found.go_on_from(&file.known, file.key, file.is_skipping);
            found.real = file.real.clone().into();
            // What stands where the path leads to now is found by the first look.
            found.since = since;
            stream.chain.push_back(found);
        }
        for (tag, begin) in saved.parts {
            stream.read_again(tag, begin, tools);
        }
        stream
    }

    /// Reads the beginning of a line again whose end was not there.
    fn read_again(&mut self, tag: Tag, begin: At, tools: &mut Tools) {
        let first = self.chain.iter().position(|file| file.key == begin.key);
        let Some(first) = first else {
            self.parts.lose(tag);
            return;
        };
        let mut from = begin.offset;
        for file in self.chain.iter().skip(first) {
            let form = file.form.unwrap_or(Form::Plain);
            let (key, parts) = (file.key, &mut self.parts);
            let unwrapping = &mut tools.unwrapping;
            let to = file.offset;
            let is_read = file.again(&mut tools.room, from, to, |raw| {
                unwrapping.take_again(form, raw, key, tag, parts)
            });
            if is_read.is_err() || to.saturating_sub(from) > AGAIN_BYTES_MAX {
                self.parts.lose(tag);
                return;
            }
            from = 0;
        }
        if !self.parts.begins().any(|(known, _)| known == tag) {
            self.parts.lose(tag);
        }
    }

    /// The file of a checkpoint: where it was, under another name, or a copy of it.
    fn find(&mut self, real: &Path, known: &Known, tools: &Tools) -> io::Result<Option<Followed>> {
        if let Ok(file) = self.opened(real, tools)
            && file.node == known.node
            && known.goes_on_in(&file.handle)?
        {
            return Ok(Some(file));
        }
        let link = self.path.clone();
        for folder in [real.parent(), link.parent()].into_iter().flatten() {
            for entry in fs::read_dir(folder)?.take(ENTRIES_MAX).flatten() {
                let path = entry.path();
                let is_it = fs::symlink_metadata(&path)
                    .is_ok_and(|metadata| metadata.is_file() && Node::of(&metadata) == known.node);
                if !is_it {
                    continue;
                }
                if Packing::of(&path).is_some() {
                    if let Some(file) = self.packed_again(&path, known, tools)? {
                        return Ok(Some(file));
                    }
                } else if let Ok(file) = self.opened(&path, tools)
                    && known.goes_on_in(&file.handle)?
                {
                    return Ok(Some(file));
                }
            }
        }
        if known.offset == 0 {
            return Ok(None);
        }
        self.find_copy(real, known, tools)
    }
}
