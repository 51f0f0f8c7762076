//! What a file is, so that it is found again under another name and never taken for another one.
//!
//! Device and inode are not enough: inodes are used again. A hash of the file's beginning goes with them, and of what
//! stands before the place that reading got to, because a file can be emptied and filled again.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// Bytes at the beginning of a file that tell it from others. Servers without times in their lines begin with the
/// same banner of a few hundred bytes each time.
pub(super) const HEAD_BYTES: usize = 1024;

/// Bytes before the place that must still be there when reading goes on.
pub(super) const FENCE_BYTES: usize = 1024;

/// The first eight bytes of a SHA-256.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let digest = digest(&SHA256, bytes);
    let first = digest.as_ref().first_chunk::<8>();
    first.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Spreads a number over all bits.
pub(super) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Where tests let a writer in, between what a reader asks of the system.
#[cfg(not(test))]
pub(super) const fn between_steps() {}
#[cfg(test)]
pub(super) use super::turns::between_steps;

/// Reads until the buffer is full or the file ends.
pub(super) fn read_full(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    between_steps();
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, from.saturating_add(got as u64)) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node(u64, u64);

impl Node {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }

    /// A number that begins the names of this file's lines; `life` tells its lives apart.
    pub(super) fn key(self, head: Hashed, life: u64) -> u64 {
        [self.1, head.hash, u64::from(head.bytes), life]
            .iter()
            .fold(mix(self.0), |key, part| {
                mix(key ^ part).wrapping_add(key.rotate_left(23))
            })
    }
}

/// So many bytes at a place that is known, and their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hashed {
    #[serde(rename = "n")]
    pub(super) bytes: u16,
    #[serde(rename = "h")]
    pub(super) hash: u64,
}

impl Hashed {
    pub(super) fn of(bytes: &[u8]) -> Self {
        u16::try_from(bytes.len()).map_or_else(
            |_| Self::default(),
            |length| Self {
                bytes: length,
                hash: if length == 0 { 0 } else { hash(bytes) },
            },
        )
    }

    /// The last bytes of a file of this size.
    pub(super) fn of_end(file: &File, size: u64) -> io::Result<Self> {
        let mut buffer = [0; FENCE_BYTES];
        let from = size.saturating_sub(FENCE_BYTES as u64);
        let length = usize::try_from(size - from).unwrap_or(FENCE_BYTES);
        let wanted = buffer.get_mut(..length).unwrap_or_default();
        let got = read_full(file, wanted, from)?;
        Ok(Self::of(wanted.get(..got).unwrap_or_default()))
    }

    /// Whether these bytes stand at the place.
    pub(super) fn stands_at(self, file: &File, from: u64) -> io::Result<bool> {
        let mut buffer = [0; if HEAD_BYTES > FENCE_BYTES {
            HEAD_BYTES
        } else {
            FENCE_BYTES
        }];
        let Some(buffer) = buffer.get_mut(..usize::from(self.bytes)) else {
            return Ok(false);
        };
        let got = read_full(file, buffer, from)?;
        Ok(got == buffer.len() && Self::of(buffer) == self)
    }
}

/// How far a file was read, by its content: enough to know the file, or a copy of it, again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    #[serde(rename = "i")]
    pub(super) node: Node,
    #[serde(rename = "b")]
    pub(super) head: Hashed,
    #[serde(rename = "o")]
    pub(super) offset: u64,
    #[serde(rename = "f")]
    pub(super) fence: Hashed,
    /// Whether there was perhaps more in it, because it was emptied.
    #[serde(rename = "e", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_emptied: bool,
}

impl Known {
    /// Whether the file holds what was read of this one, so that reading can go on in it.
    pub(super) fn goes_on_in(&self, file: &File) -> io::Result<bool> {
        let before = self.offset.saturating_sub(u64::from(self.fence.bytes));
        Ok(self.head.stands_at(file, 0)? && self.fence.stands_at(file, before)?)
    }

    /// Whether it is the same place of the same file.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        let place = |known: &Self| (known.node, known.offset, known.fence);
        place(self) == place(other)
    }

    /// Whether the file is a copy of this one that has all of it that was read.
    pub(super) fn is_copied_by(&self, file: &File) -> io::Result<bool> {
        let size = file.metadata()?.len();
        // What was emptied was perhaps longer when the copy was made.
        let fits = size == self.offset || self.is_emptied && size > self.offset;
        Ok(fits && self.head.bytes > 0 && self.goes_on_in(file)?)
    }
}

/// The bytes before the place that reading got to.
#[derive(Debug)]
pub(super) enum Fence {
    /// As they were read.
    Bytes(Vec<u8>),
    /// As a checkpoint keeps them.
    Hashed(Hashed),
}

impl Fence {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Hashed(hashed) => usize::from(hashed.bytes),
        }
    }

    /// Whether they still stand there.
    pub(super) fn holds(&self, before: &[u8]) -> bool {
        match self {
            Self::Bytes(bytes) => bytes == before,
            Self::Hashed(hashed) => *hashed == Hashed::of(before),
        }
    }

    /// Takes the last ones of what stands before the new place.
    pub(super) fn move_behind(&mut self, before: &[u8]) {
        let from = before.len().saturating_sub(FENCE_BYTES);
        let last = before.get(from..).unwrap_or_default();
        match self {
            Self::Bytes(bytes) => {
                bytes.clear();
                bytes.extend_from_slice(last);
            }
            Self::Hashed(_) => *self = Self::Bytes(last.to_vec()),
        }
    }

    pub(super) fn hashed(&self) -> Hashed {
        match self {
            Self::Bytes(bytes) => Hashed::of(bytes),
            Self::Hashed(hashed) => *hashed,
        }
    }
}
