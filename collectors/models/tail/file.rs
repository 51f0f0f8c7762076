//! One file that is read: from where, up to where, and whether it is still the same.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use memchr::{memchr, memchr_iter, memrchr};
use rustix::fs::{OFlags, SeekFrom};

use super::colours::{Finder, Next};
use super::identity::{
    FENCE_BYTES, Fence, HEAD_BYTES, Hashed, Known, Node, between_steps, read_full,
};
use super::joined::LINE_BYTES_MAX;
use super::packed::{Packed, Packing};
use super::place::Wrapper;
use super::wrapper::Form;

/// Bytes that are read at once: they stay in the processor's cache, and a record of Docker with 16 KiB of escaped
/// text fits in.
pub(super) const PIECE_BYTES: usize = 256 * 1024;

/// Room for a piece and for what stands before it.
pub(super) const BUFFER_BYTES: usize = FENCE_BYTES + PIECE_BYTES;

/// Beginnings of compressed files, whatever their names: gzip, zstd, xz, bzip2.
const COMPRESSED: [&[u8]; 4] = [
    &[0x1f, 0x8b],
    &[0x28, 0xb5, 0x2f, 0xfd],
    &[0xfd, b'7', b'z', b'X', b'Z'],
    b"BZh",
];

/// Room that all files share.
#[derive(Debug)]
pub(super) struct Room {
    buffer: Vec<u8>,
    finder: Finder,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES],
            finder: Finder::new(),
        }
    }

    /// Leaves nothing of what was read in memory.
    pub(super) fn wipe(&mut self) {
        self.buffer.fill(0);
    }
}

/// A record as it stands in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    /// Without the end of the line.
    pub(super) text: &'a [u8],
    /// Where it begins.
    pub(super) offset: u64,
    /// Whether more of it is there, or may have been.
    pub(super) is_cut: bool,
    /// Whether the file ended before the line did.
    pub(super) is_unfinished: bool,
    /// Whether it has colours or carriage returns.
    pub(super) is_coloured: bool,
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// No whole line is left before the limit.
    End,
    /// Enough for this time.
    Budget,
    /// What was read last does not stand there any more.
    Replaced,
}

/// Size and time of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) changed: i64,
}

/// A file that is read.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) handle: File,
    pub(super) node: Node,
    /// Where it was found, without links.
    pub(super) real: PathBuf,
    pub(super) head: Hashed,
    pub(super) offset: u64,
    pub(super) fence: Fence,
    /// Whether the place is inside a line that is too long.
    pub(super) is_skipping: bool,
    /// Begins the names of its lines.
    pub(super) key: u64,
    pub(super) form: Option<Form>,
    /// Since when another file stands in its place.
    pub(super) since: Option<Timestamp>,
    /// What it was when it was last read to its end.
    pub(super) ended: Option<Seen>,
    /// How far it may be read now.
    pub(super) limit: u64,
    /// What unpacks it, if it is compressed; all places are those in what comes out.
    pub(super) packed: Option<Box<Packed>>,
}

impl Followed {
    /// Opens a regular file at its beginning. `None` when it is none, for example a pipe.
    pub(super) fn open(path: &Path, said: Wrapper, life: u64) -> io::Result<Option<Self>> {
        let Some(mut followed) = Self::found(path)? else {
            return Ok(None);
        };
        followed.look_at_head(said)?;
        followed.key = followed.node.key(followed.head, life);
        Ok(Some(followed))
    }

    /// Opens a compressed file at the beginning of what is in it. `None` when nothing of it can be unpacked yet.
    pub(super) fn open_packed(
        path: &Path,
        packing: Packing,
        said: Wrapper,
        life: u64,
    ) -> io::Result<Option<Self>> {
        let Some(mut followed) = Self::found(path)? else {
            return Ok(None);
        };
        let Some(packed) = Packed::open(&followed.handle, packing)? else {
            return Ok(None);
        };
        followed.head = Hashed::of(&packed.head);
        // A file that is shorter has no more than this.
        followed.form = Form::of(&packed.head, said).or(Some(Form::Plain));
        followed.key = followed.node.key(followed.head, life);
        followed.packed = Some(Box::new(packed));
        Ok(Some(followed))
    }

    fn found(path: &Path) -> io::Result<Option<Self>> {
        between_steps();
        // A pipe in its place must not block the agent.
        let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)?;
        let metadata = handle.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let node = Node::of(&metadata);
        Ok(Some(Self {
            handle,
            node,
            real,
            head: Hashed::default(),
            offset: 0,
            fence: Fence::Bytes(Vec::new()),
            is_skipping: false,
            key: 0,
            form: None,
            since: None,
            ended: None,
            limit: 0,
            packed: None,
        }))
    }

    /// What stands at a place of its content.
    fn content(&mut self, buffer: &mut [u8], from: u64) -> io::Result<usize> {
        match &mut self.packed {
            Some(packed) => packed.read_at(buffer, from),
            None => read_full(&self.handle, buffer, from),
        }
    }

    /// What the file is now.
    pub(super) fn seen(&self) -> io::Result<Seen> {
        between_steps();
        let metadata = self.handle.metadata()?;
        Ok(Seen {
            size: metadata.len(),
            changed: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
        })
    }

    /// Takes more of the beginning into the identity when there is more. `false`: it has another beginning now.
    pub(super) fn look_at_head(&mut self, said: Wrapper) -> io::Result<bool> {
        let mut buffer = [0; HEAD_BYTES];
        let got = read_full(&self.handle, &mut buffer, 0)?;
        let head = buffer.get(..got).unwrap_or_default();
        let Some(known) = head.get(..usize::from(self.head.bytes)) else {
            return Ok(false);
        };
        if Hashed::of(known) != self.head {
            return Ok(false);
        }
        self.head = Hashed::of(head);
        self.form = self.form.or_else(|| Form::of(head, said));
        Ok(true)
    }

    /// Whether all of its beginning is known that will ever be.
    pub(super) fn knows_head(&self) -> bool {
        usize::from(self.head.bytes) == HEAD_BYTES && self.form.is_some()
    }

    /// Whether it is compressed.
    pub(super) fn is_compressed(&self) -> io::Result<bool> {
        let mut buffer = [0; 5];
        let got = read_full(&self.handle, &mut buffer, 0)?;
        let head = buffer.get(..got).unwrap_or_default();
        Ok(COMPRESSED.iter().any(|magic| head.starts_with(magic)))
    }

    /// What is known of it.
    pub(super) fn known(&self) -> Known {
        let fence = self.fence.hashed();
        // A copy may end behind what was read and before the end of the beginning.
        let is_begun = self.offset > 0 && self.offset < u64::from(self.head.bytes);
        let is_all = u64::from(fence.bytes) == self.offset;
        Known {
            node: self.node,
            head: if is_begun && is_all { fence } else { self.head },
            offset: self.offset,
            fence,
            is_emptied: false,
        }
    }

    /// Goes on where a file of the same content was left.
    pub(super) fn go_on_from(&mut self, known: &Known, key: u64, is_skipping: bool) {
        self.offset = known.offset;
        self.fence = Fence::Hashed(known.fence);
        self.key = key;
        self.is_skipping = is_skipping;
    }

    /// Goes behind the last line that is there.
    pub(super) fn go_to_end(&mut self, room: &mut Room) -> io::Result<()> {
        let size = self.seen()?.size;
        let from = size.saturating_sub(LINE_BYTES_MAX as u64 + FENCE_BYTES as u64);
        let buffer = room.buffer.get_mut(..LINE_BYTES_MAX + FENCE_BYTES);
        let buffer = buffer.unwrap_or_default();
        let got = read_full(&self.handle, buffer, from)?;
        let last = buffer.get(..got).unwrap_or_default();
        // A line that began before is taken when its end comes; one that is too long is passed over.
        let end = memrchr(b'\n', last).map(|at| at + 1);
        self.is_skipping = end.is_none() && from > 0;
        let used = end.unwrap_or(if self.is_skipping { got } else { 0 });
        self.fence.move_behind(last.get(..used).unwrap_or_default());
        self.offset = from.saturating_add(used as u64);
        Ok(())
    }

    /// Begins anew: the file has other content now.
    pub(super) fn begin_anew(&mut self, said: Wrapper, life: u64) -> io::Result<()> {
        self.offset = 0;
        self.fence = Fence::Bytes(Vec::new());
        self.is_skipping = false;
        self.head = Hashed::default();
        self.form = None;
        self.ended = None;
        self.look_at_head(said)?;
        self.key = self.node.key(self.head, life);
        Ok(())
    }

    /// Hands out whole records up to the limit.
    pub(super) fn read(
        &mut self,
        room: &mut Room,
        budget: &mut u64,
        mut on_raw: impl FnMut(&Raw<'_>),
    ) -> io::Result<Stop> {
        let Room { buffer, finder } = room;
        while self.offset < self.limit {
            let fence = self.fence.len();
            let from = self.offset.saturating_sub(fence as u64);
            let wanted = usize::try_from(self.limit - from).unwrap_or(usize::MAX);
            let wanted = wanted.min(buffer.len());
            let room = buffer.get_mut(..wanted).unwrap_or_default();
            let got = self.content(room, from)?;
            let piece = room.get(..got).unwrap_or_default();
            let Some((before, data)) = piece.split_at_checked(fence) else {
                return Ok(Stop::Replaced);
            };
            // It may have been emptied while it was read; what was read is its own if it was not until then.
            if !self.fence.holds(before) || !self.still_holds(from)? {
                return Ok(Stop::Replaced);
            }
            if self.skip_hole(data)? {
                continue;
            }
            *budget = budget.saturating_sub(data.len() as u64);
            let used = self.cut(data, got == BUFFER_BYTES, finder, &mut on_raw);
            if used == 0 {
                return Ok(Stop::End);
            }
            self.offset = self.offset.saturating_add(used as u64);
            self.fence
                .move_behind(piece.get(..fence + used).unwrap_or_default());
            if *budget == 0 {
                return Ok(Stop::Budget);
            }
        }
        Ok(Stop::End)
    }

    /// Whether its beginning and what stands before its place are what was read.
    fn still_holds(&self, from: u64) -> io::Result<bool> {
        if self.packed.is_some() {
            return Ok(true);
        }
        let mut before = [0; FENCE_BYTES];
        let before = before.get_mut(..self.fence.len()).unwrap_or_default();
        let got = read_full(&self.handle, before, from)?;
        let is_same = got == before.len() && self.fence.holds(before);
        Ok(is_same && self.head.bytes > 0 && self.head.stands_at(&self.handle, 0)?)
    }

    /// Hands out the records of a piece; how much of it is done.
    fn cut(
        &mut self,
        data: &[u8],
        is_full: bool,
        finder: &Finder,
        on_raw: &mut impl FnMut(&Raw<'_>),
    ) -> usize {
        // What a writer leaves that goes on at its old place in an emptied file.
        let mut start = data
            .iter()
            .position(|byte| *byte != 0)
            .unwrap_or(data.len());
        if self.is_skipping {
            match memchr(b'\n', data) {
                Some(end) => {
                    start = end + 1;
                    self.is_skipping = false;
                }
                None => return data.len(),
            }
        }
        let begin = start;
        let mut next = Next::default();
        for end in memchr_iter(b'\n', data.get(begin..).unwrap_or_default()) {
            let end = begin + end;
            let line = data.get(start..end).unwrap_or_default();
            let text = line.strip_suffix(b"\r").unwrap_or(line);
            let raw = Raw {
                text,
                offset: self.offset.saturating_add(start as u64),
                is_cut: false,
                is_unfinished: false,
                is_coloured: finder.has(data, &mut next, start, start + text.len()),
            };
            start = end + 1;
            on_raw(&raw);
        }
        let rest = data.get(start..).unwrap_or_default();
        if start == 0 && is_full {
            let text = rest.get(..LINE_BYTES_MAX).unwrap_or(rest);
            let raw = Raw {
                text: rest,
                offset: self.offset,
                is_cut: true,
                is_unfinished: false,
                is_coloured: finder.has(text, &mut Next::default(), 0, text.len()),
            };
            self.is_skipping = true;
            on_raw(&raw);
            return data.len();
        }
        start
    }

    /// Passes over a hole, which a writer leaves that goes on at its old place in an emptied file.
    fn skip_hole(&mut self, data: &[u8]) -> io::Result<bool> {
        if self.offset > 0 || data.first() != Some(&0) || self.packed.is_some() {
            return Ok(false);
        }
        match rustix::fs::seek(&self.handle, SeekFrom::Data(self.offset)) {
            Ok(place) if place > self.offset => {
                self.offset = place.min(self.limit);
                self.fence = Fence::Bytes(Vec::new());
                Ok(true)
            }
            // Some file systems have no holes: the zeros are read.
            Ok(_) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NXIO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands out what stands behind the last line's end, when nobody will finish it.
    pub(super) fn flush(
        &mut self,
        room: &mut Room,
        mut on_raw: impl FnMut(&Raw<'_>),
    ) -> io::Result<()> {
        let buffer = room.buffer.get_mut(..PIECE_BYTES).unwrap_or_default();
        let got = self.content(buffer, self.offset)?;
        let text = buffer.get(..got).unwrap_or_default();
        let offset = self.offset;
        if text.is_empty() {
            return Ok(());
        }
        self.offset = self.offset.saturating_add(got as u64);
        self.fence.move_behind(text);
        if self.is_skipping {
            return Ok(());
        }
        on_raw(&Raw {
            text: text.strip_suffix(b"\r").unwrap_or(text),
            offset,
            is_cut: true,
            is_unfinished: true,
            is_coloured: super::colours::has(text),
        });
        Ok(())
    }

    /// Hands out the records from one place up to another again, without moving its own place.
    pub(super) fn again(
        &self,
        room: &mut Room,
        from: u64,
        to: u64,
        mut on_raw: impl FnMut(&Raw<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut place = from;
        while place < to {
            let wanted = usize::try_from(to - place).unwrap_or(usize::MAX);
            let wanted = wanted.min(PIECE_BYTES);
            let piece = room.buffer.get_mut(..wanted).unwrap_or_default();
            let got = self.handle.read_at(piece, place)?;
            let piece = piece.get(..got).unwrap_or_default();
            let Some(end) = memrchr(b'\n', piece) else {
                break;
            };
            let mut start = 0;
            for end in memchr_iter(b'\n', piece) {
                let raw = Raw {
                    text: piece.get(start..end).unwrap_or_default(),
                    offset: place.saturating_add(start as u64),
                    is_cut: false,
                    is_unfinished: false,
                    is_coloured: false,
                };
                if on_raw(&raw).is_break() {
                    return Ok(());
                }
                start = end + 1;
            }
            place = place.saturating_add(end as u64 + 1);
        }
        Ok(())
    }
}
