//! A write-ahead log read without SQLite: which frames hold, and whether a committed one does not.
//!
//! SQLite stops at the first frame whose checksum fails and says nothing, because a torn last write looks
//! the same. What it would pass over in silence is told apart here: frames that were flushed before a later
//! one was written, and frames that the index of the last run knew. Never writes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes before the first frame.
const HEADER: usize = 32;

/// Bytes before the page of a frame.
const FRAME_HEADER: usize = 24;

/// The first word without its last bit, which says the byte order of the checksums.
const MAGIC: u32 = 0x377f_0682;

/// Page sizes that SQLite knows.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65_536;

/// Longest log that is read. SQLite folds it into the database every 512 pages; a transaction that replaces
/// the windows of 20,000 instances takes some tens of megabytes.
const FRAMES_MAX: usize = 1 << 20;

/// A page in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Which page of the database it is.
    pub(super) page: u32,
    /// Where its bytes begin in the file.
    pub(super) offset: u64,
}

/// What a log holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wal {
    /// Bytes of a page; zero when there is no log.
    pub(super) page_size: u32,
    /// Frames whose checksum holds, oldest first, those after a damaged one too.
    pub(super) frames: Vec<Frame>,
    /// What is wrong with it, in words.
    pub(super) damage: Option<String>,
}

/// The running checksum of a log.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sum(u32, u32);

impl Wal {
    /// Reads the log and its index. A log that is not there, or is empty, holds nothing and is not damaged.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(super) fn read(log: &Path, index: &Path) -> io::Result<Self> {
        let known = Known::read(index);
        let mut file = match File::open(log) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::lost("is gone", known.as_ref()));
            }
            Err(error) => return Err(error),
        };
        let mut header = [0; HEADER];
        let length = read_up_to(&mut file, &mut header)?;
        if length == 0 {
            return Ok(Self::lost("is empty", known.as_ref()));
        }
        let Some((page_size, swapped)) = page_size(&header).filter(|_| length == HEADER) else {
            return Ok(Self {
                damage: Some("the write-ahead log has no readable header".to_owned()),
                ..Self::default()
            });
        };
        let salts = (word(&header, 16), word(&header, 20));
        let frames = Frames {
            page_size,
            swapped,
            salts,
            sum: Sum(word(&header, 24), word(&header, 28)),
        };
        let known = known.filter(|known| known.salts == salts);
        frames.read(&mut file, known.as_ref())
    }

    /// A log without content, which is damage where its index knows of some.
    fn lost(what: &str, known: Option<&Known>) -> Self {
        let frames = known.map_or(0, |known| known.frames);
        let damage =
            format!("the write-ahead log {what}, and {frames} pages had been written to it");
        Self {
            damage: (frames > 0).then_some(damage),
            ..Self::default()
        }
    }
}

/// What every frame of one log shares, and the checksum of the frame before.
struct Frames {
    page_size: u32,
    swapped: bool,
    salts: (u32, u32),
    sum: Sum,
}

impl Frames {
    fn read(mut self, file: &mut File, known: Option<&Known>) -> io::Result<Wal> {
        let mut wal = Wal {
            page_size: self.page_size,
            ..Wal::default()
        };
        let size = self.page_size as usize;
        let mut frame = vec![0; FRAME_HEADER + size];
        let (mut offset, mut number) = (HEADER as u64, 0_usize);
        let (mut first_bad, mut commits_from_bad) = (None, 0_u32);
        while number < FRAMES_MAX && read_up_to(file, &mut frame)? == frame.len() {
            let holds = self.holds(&frame);
            let is_of_this_log = (word(&frame, 8), word(&frame, 12)) == self.salts;
            if !holds {
                first_bad.get_or_insert(number);
            }
            if first_bad.is_some() && is_of_this_log && word(&frame, 4) != 0 {
                commits_from_bad += 1;
            }
            if holds {
                let offset = offset + FRAME_HEADER as u64;
                wal.frames.push(Frame {
                    page: word(&frame, 0),
                    offset,
                });
            }
            self.sum = Sum(word(&frame, 16), word(&frame, 20));
            offset += frame.len() as u64;
            number += 1;
        }
        let whole = first_bad.unwrap_or(number);
        // A commit is flushed before the next one begins: two of them cannot both be a torn last write.
        if commits_from_bad > 1 {
            wal.damage = Some(format!("page {whole} of the write-ahead log is damaged"));
        } else if let Some(known) = known.filter(|known| known.frames as usize > whole) {
            wal.damage = Some(format!(
                "the write-ahead log ends after {whole} pages, and {} had been written to it",
                known.frames
            ));
        }
        Ok(wal)
    }

    /// Whether a frame follows the checksum that stands in the one before.
    fn holds(&self, frame: &[u8]) -> bool {
        let (Some(head), Some(page)) = (frame.get(..8), frame.get(FRAME_HEADER..)) else {
            return false;
        };
        let sum = self.sum.over(head, self.swapped).over(page, self.swapped);
        (word(frame, 8), word(frame, 12)) == self.salts
            && word(frame, 0) != 0
            && sum == Sum(word(frame, 16), word(frame, 20))
    }
}

impl Sum {
    fn over(mut self, bytes: &[u8], big_endian: bool) -> Self {
        let number = |bytes: [u8; 4]| {
            if big_endian {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            }
        };
        for &[a, b, c, d, e, f, g, h] in bytes.as_chunks::<8>().0 {
            self.0 = self
                .0
                .wrapping_add(number([a, b, c, d]))
                .wrapping_add(self.1);
            self.1 = self
                .1
                .wrapping_add(number([e, f, g, h]))
                .wrapping_add(self.0);
        }
        self
    }
}

/// What the index of the last run says of the log. It outlives a process that was killed, and a commit enters
/// it only after it was flushed.
struct Known {
    frames: u32,
    salts: (u32, u32),
}

impl Known {
    fn read(index: &Path) -> Option<Self> {
        const INDEX_HEADER: usize = 48;
        let mut bytes = [0; 2 * INDEX_HEADER];
        let mut file = File::open(index).ok()?;
        if read_up_to(&mut file, &mut bytes).ok()? < bytes.len() {
            return None;
        }
        let (first, second) = bytes.split_at(INDEX_HEADER);
        let (content, sum) = first.split_at(40);
        let big_endian = cfg!(target_endian = "big");
        let native = |at| {
            let bytes = first.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |&bytes| u32::from_ne_bytes(bytes))
        };
        let counted = Sum(0, 0).over(content, big_endian);
        let holds = first == second && counted == Sum(native(40), native(44)) && !sum.is_empty();
        holds.then(|| Self {
            frames: native(16),
            // Salts are kept as they stand in the log.
            salts: (word(first, 32), word(first, 36)),
        })
    }
}

/// The page size, and whether checksums are big-endian, of a header that holds.
fn page_size(header: &[u8; HEADER]) -> Option<(u32, bool)> {
    let magic = word(header, 0);
    let big_endian = magic & 1 == 1;
    let size = word(header, 8);
    let sum = Sum(0, 0).over(header.get(..24)?, big_endian);
    let holds = magic & !1 == MAGIC
        && PAGE_SIZES.contains(&size)
        && size.is_power_of_two()
        && sum == Sum(word(header, 24), word(header, 28));
    holds.then_some((size, big_endian))
}

/// A big-endian number; zero beyond the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |&bytes| u32::from_be_bytes(bytes))
}

/// Reads until the buffer is full or the file ends; answers how much there was.
pub(super) fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
