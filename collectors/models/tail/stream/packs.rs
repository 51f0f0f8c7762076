//! Compressed files beside a log: what they are, and reading of them what was not read before they were packed.
//!
//! A compressed file is taken for a file that was read up to a place if its beginning is the same, and is that file if
//! what was read stands before the place. Only then it is known how much of it is new. One whose beginning is that of
//! no other file was never seen, and is read from its start.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::search::siblings;
use super::{Each, LOOKS, Stream, Tools};
use crate::models::tail::file::{Followed, Stop};
use crate::models::tail::identity::{Fence, Hashed, Known};
use crate::models::tail::packed::{Guess, Packing, Place};
use crate::models::tail::saved::SavedFile;

/// Files that are sought at once: as many as a log has.
const SOUGHT_MAX: usize = super::CHAIN_MAX;

/// Whether a file is to be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Read,
    /// It is waited for; the next one is read.
    Next,
    /// It is none of the log's any more; another stands in its place in the chain.
    Removed,
    /// Nothing is read any more this time.
    Later,
}

impl Stream {
    /// A file was not found again: a compressed one may be it.
    pub(super) fn seek(&mut self, file: SavedFile) {
        // The compressed one may have been met while the plain one was open still.
        let place = |known: &Known| (known.offset, known.fence);
        let is_met = |done: &Known| place(done) == place(&file.known);
        if self.done.iter().any(is_met) {
            return;
        }
        if file.known.offset > 0 && self.sought.len() < SOUGHT_MAX {
            self.sought.push(file);
            self.is_surveyed = false;
            self.looks = LOOKS;
        } else {
            self.keep_lost(file.known);
        }
    }

    /// Remembers a file of which there was perhaps more than was read.
    pub(super) fn keep_lost(&mut self, known: Known) {
        self.keep_known(Known {
            is_emptied: true,
            ..known
        });
    }

    /// Counts what was sought and not found, when there is nothing more to look at.
    pub(super) fn give_up_search(&mut self, tools: &mut Tools) {
        let mut packed = self.chain.iter().filter_map(|file| file.packed.as_ref());
        let is_looked_at = packed.any(|packed| !packed.is_done);
        if self.sought.is_empty() {
            if !is_looked_at {
                self.raise_floor();
            }
            return;
        }
        if !self.is_surveyed {
            return;
        }
        let may_come = || {
            let mut paths = siblings(&self.base, None).into_iter();
            self.looks > 0 && paths.any(|path| Packing::of(&path).is_some())
        };
        if is_looked_at || may_come() {
            return;
        }
        for file in std::mem::take(&mut self.sought) {
            self.keep_lost(file.known);
            if file.known.is_emptied {
                tools.counts.truncated += 1;
            } else {
                tools.counts.gone += u64::from(file.since.is_none());
            }
        }
    }

    /// Opens a compressed file if it may hold what was not read.
    pub(super) fn unseen_packed(
        &mut self,
        path: &Path,
        packing: Packing,
        tools: &Tools,
    ) -> io::Result<Option<Followed>> {
        // As long as the plain one is there, that is read, and this one perhaps still written.
        if fs::symlink_metadata(path.with_extension("")).is_ok() {
            return Ok(None);
        }
        let Some(mut file) = self.opened_packed(path, packing, tools) else {
            return Ok(None);
        };
        // Inodes are used again, also by one that begins as a file that is sought, and as the one before did.
        let packed = file.packed.as_ref();
        let size = packed.and_then(|packed| packed.size(&file.handle));
        let is_sought = self.sought.iter().any(|it| it.known.head == file.head);
        let is_it = |known: &Known| {
            let is_other = is_sought && size.is_some_and(|size| size != known.offset);
            known.node == file.node && known.head == file.head && !is_other
        };
        if self.done.iter().any(is_it) || self.is_read_to_end(&file)? {
            return Ok(None);
        }
        self.take_for_next(&mut file)?;
        Ok(Some(file))
    }

    /// A compressed file of a checkpoint.
    pub(super) fn packed_again(
        &mut self,
        path: &Path,
        known: &Known,
        tools: &Tools,
    ) -> io::Result<Option<Followed>> {
        let file = Packing::of(path).and_then(|packing| self.opened_packed(path, packing, tools));
        let Some(mut file) = file.filter(|file| file.head == known.head) else {
            return Ok(None);
        };
        if let Some(packed) = &mut file.packed {
            packed.guess = Some(Guess {
                known: *known,
                is_open: false,
            });
        }
        Ok(Some(file))
    }

    /// Remembers a compressed file that is there when the log is seen for the first time.
    pub(super) fn keep_packed(&mut self, path: &Path, packing: Packing, tools: &Tools) {
        if let Some(file) = self.opened_packed(path, packing, tools) {
            let size = file.packed.as_ref().and_then(|it| it.size(&file.handle));
            self.keep_known(Known {
                offset: size.unwrap_or(1),
                ..file.known()
            });
        }
    }

    fn opened_packed(&mut self, path: &Path, packing: Packing, tools: &Tools) -> Option<Followed> {
        self.lives += 1;
        // One that is no such file is none of ours; one that is gone by now is found by the next look.
        Followed::open_packed(path, packing, tools.wrapper, self.lives).unwrap_or_default()
    }

    /// Whether it has the beginning and the size of a file of which nothing is left to read.
    fn is_read_to_end(&mut self, file: &Followed) -> io::Result<bool> {
        let Some(packed) = &file.packed else {
            return Ok(false);
        };
        let Some(size) = packed.size(&file.handle) else {
            return Ok(false);
        };
        // Gzip says sizes modulo 4 GiB.
        let fits = |bytes: u64| bytes & u64::from(u32::MAX) == size;
        for open in self.chain.iter().filter(|open| open.packed.is_none()) {
            if begins(open.head, &packed.head) && fits(open.seen()?.size) {
                return Ok(true);
            }
        }
        let is_it = |known: &Known| begins(known.head, &packed.head) && fits(known.offset);
        if let Some(found) = self.sought.iter().position(|sought| is_it(&sought.known)) {
            let found = self.sought.swap_remove(found);
            self.keep_known(found.known);
            self.raise_floor_later(file);
            return Ok(true);
        }
        Ok(self.done.iter().any(is_it))
    }

    /// Takes a compressed file for the one that was read farthest of those that it may be and was not compared with
    /// yet; or for one that was not seen before.
    fn take_for_next(&self, file: &mut Followed) -> io::Result<()> {
        let Some(packed) = &mut file.packed else {
            return Ok(());
        };
        let rank = |known: &Known| (known.offset, known.fence.hash);
        let before = packed.guess.map(|guess| rank(&guess.known));
        let mut guesses = Vec::new();
        let sought = self.sought.iter().map(|sought| &sought.known);
        for known in sought.chain(&self.done) {
            guesses.push(Guess {
                known: *known,
                is_open: false,
            });
        }
        let size = packed.size(&file.handle);
        for open in self.chain.iter().filter(|open| open.packed.is_none()) {
            // A copy of one that is open is never longer.
            let all = open.seen()?.size;
            let offset = size.filter(|size| *size < all).unwrap_or(all);
            let fence = Hashed::of_end(&open.handle, offset)?;
            guesses.push(Guess {
                known: Known {
                    offset,
                    fence,
                    ..open.known()
                },
                is_open: true,
            });
        }
        guesses.retain(|Guess { known, .. }| {
            known.fence.bytes > 0
                && begins(known.head, &packed.head)
                && before.is_none_or(|before| rank(known) < before)
        });
        packed.guess = guesses.into_iter().max_by_key(|guess| rank(&guess.known));
        if let Some(Guess { known, .. }) = packed.guess {
            file.offset = known.offset;
            file.fence = Fence::Hashed(known.fence);
        } else {
            file.offset = 0;
            file.fence = Fence::Bytes(Vec::new());
        }
        Ok(())
    }

    /// Finds out what a compressed file is, before it is read.
    pub(super) fn settle(
        &mut self,
        place: usize,
        at: Timestamp,
        budget: &mut u64,
        tools: &mut Tools,
    ) -> Settled {
        loop {
            let Some(file) = self.chain.get_mut(place) else {
                return Settled::Read;
            };
            let Some(packed) = &mut file.packed else {
                return Settled::Read;
            };
            if packed.is_done {
                return Settled::Next;
            }
            let taken = packed.takes(&file.handle, &tools.turn);
            if matches!(taken, Ok(true)) && packed.is_verified {
                return Settled::Read;
            }
            let found = taken.and_then(|has_turn| {
                if has_turn {
                    packed.find(&file.handle, file.offset, &file.fence, budget)
                } else {
                    Ok(Place::NotYet)
                }
            });
            let guess = packed.guess;
            match (found, guess) {
                (Ok(Place::NotYet), _) => return Settled::Later,
                (Ok(Place::Waiting), _) => {
                    wait(file, at);
                    return Settled::Next;
                }
                (Ok(Place::Holds), Some(guess)) if guess.is_open => {
                    let more = packed.read_at(&mut [0], guess.known.offset);
                    if !matches!(more, Ok(1)) {
                        return self.remove(place);
                    }
                    if !self.try_next(place) {
                        return Settled::Later;
                    }
                }
                (Ok(Place::Holds), guess) => {
                    packed.is_verified = true;
                    self.adopt(place, guess, tools);
                    return Settled::Read;
                }
                // It was copied before the last of what was read of it was written.
                (Ok(Place::Behind), Some(guess)) if self.is_unfound(&guess.known) => {
                    self.sought
                        .retain(|sought| !sought.known.is_same_place(&guess.known));
                    tools.counts.copytruncates += 1;
                    return self.remove(place);
                }
                (Ok(Place::Differs | Place::Behind), _) => {
                    if !self.try_next(place) {
                        return Settled::Later;
                    }
                }
                (Err(_), _) => {
                    tools.counts.damaged += 1;
                    return self.remove(place);
                }
            }
        }
    }

    fn try_next(&mut self, place: usize) -> bool {
        let Some(mut file) = self.chain.remove(place) else {
            return false;
        };
        let next = self.take_for_next(&mut file);
        self.chain.insert(place, file);
        next.is_ok()
    }

    /// Whether a file was sought, or emptied without a copy of it being found.
    fn is_unfound(&self, known: &Known) -> bool {
        self.sought
            .iter()
            .any(|sought| sought.known.is_same_place(known))
    }

    /// A compressed file is the one that it was taken for.
    fn adopt(&mut self, place: usize, guess: Option<Guess>, tools: &mut Tools) {
        let Some(guess) = guess else {
            return;
        };
        self.done.retain(|done| !done.is_same_place(&guess.known));
        let is_it = |sought: &SavedFile| sought.known.is_same_place(&guess.known);
        if let Some(found) = self.sought.iter().position(is_it) {
            let found = self.sought.swap_remove(found);
            if let Some(file) = self.chain.get_mut(place) {
                file.key = found.key;
                file.is_skipping = found.is_skipping;
            }
            tools.counts.copytruncates += u64::from(found.known.is_emptied);
        }
    }

    /// Nothing is read of a compressed file, or nothing more.
    fn remove(&mut self, place: usize) -> Settled {
        if let Some(file) = self.chain.remove(place) {
            self.finish_packed(&file);
        }
        Settled::Removed
    }

    /// Reads a compressed file. `false` when nothing more is to be read this time.
    pub(super) fn read_packed(
        &mut self,
        place: usize,
        at: Timestamp,
        budget: &mut u64,
        tools: &mut Tools,
        each: Each<'_>,
    ) -> bool {
        let Some(file) = self.chain.get_mut(place) else {
            return true;
        };
        let stop = super::hand_out(file, &mut self.parts, budget, tools, each);
        let Some(packed) = &mut file.packed else {
            return true;
        };
        match stop {
            Ok(Stop::Budget) => return false,
            Ok(Stop::End) if packed.is_unpacked() => {
                let begun = packed.guess.map_or(0, |guess| guess.known.offset);
                // Nobody will finish its last line.
                if super::hand_out_rest(file, &mut self.parts, tools, each).is_err() {
                    tools.counts.damaged += 1;
                }
                tools.counts.packed += u64::from(file.offset > begun);
            }
            Ok(Stop::End) => {
                wait(file, at);
                return true;
            }
            // What was unpacked so far stands.
            Ok(Stop::Replaced) | Err(_) => tools.counts.damaged += 1,
        }
        if let Some(packed) = &mut file.packed {
            packed.close();
        }
        // It stays for the lines that begin in it and go on in the next file.
        if let Some(file) = self.chain.remove(place) {
            self.finish_packed(&file);
            self.chain.insert(place, file);
        }
        true
    }

    /// Remembers a compressed file, so that it is not read again.
    pub(super) fn finish_packed(&mut self, file: &Followed) {
        self.raise_floor_later(file);
        self.keep_known(Known {
            offset: file.offset.max(1),
            ..file.known()
        });
    }
}

/// Somebody still packs it: the time in which nothing comes begins when it has grown.
fn wait(file: &mut Followed, at: Timestamp) {
    let size = file.handle.metadata().map_or(0, |metadata| metadata.len());
    if let Some(packed) = &mut file.packed
        && packed.waits_at.replace(size) != Some(size)
    {
        file.since = Some(at);
    }
}

/// Whether something begins with so much of a known beginning.
fn begins(known: Hashed, head: &[u8]) -> bool {
    let same = head.get(..usize::from(known.bytes));
    known.bytes > 0 && same.is_some_and(|head| Hashed::of(head) == known)
}
