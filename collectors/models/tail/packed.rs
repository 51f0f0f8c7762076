//! Compressed files, read as what they were: rotation packs files that nobody had read to their end.
//!
//! Owns: unpacking from the beginning on, with what was unpacked last kept, so that it can be looked at again.
//! Promises: memory and the work of one step are bounded whatever a file says of itself, and a file that somebody
//! still packs is waited for. Refuses: windows over 8 MiB, and more output than a log can have become.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::file::BUFFER_BYTES;
use super::identity::{Fence, HEAD_BYTES, Known};

/// Memory that zstd may ask for, as a power of two: levels up to 19 make do with it.
const WINDOW_LOG_MAX: u32 = 23;

/// Compressed bytes that are read at once.
const INPUT_BYTES: usize = 32 * 1024;

/// What is unpacked in one step.
const STEP_BYTES: usize = 64 * 1024;

/// What one file may become. A log of a day at 2,000 lines a second has as much.
const UNPACKED_BYTES_MAX: u64 = 32 << 30;

/// What one byte may become: deflate cannot do more, and a log does less in zstd, too.
const RATIO_MAX: u64 = 1_100;

/// How a file is packed, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.as_encoded_bytes() {
            b"gz" => Some(Self::Gzip),
            b"zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    const fn magic(self) -> &'static [u8] {
        match self {
            Self::Gzip => &[0x1f, 0x8b],
            Self::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
        }
    }
}

/// Whether only one file is unpacked at a time: whoever holds a copy of it unpacks.
pub(super) type Turn = Arc<()>;

/// What is behind a compressed file's handle.
#[derive(Debug)]
pub(super) struct Packed {
    packing: Packing,
    /// Its first bytes, unpacked.
    pub(super) head: Vec<u8>,
    /// What it is taken for, until that is verified or found wrong.
    pub(super) guess: Option<Guess>,
    /// Whether the place that it is read from is the right one.
    pub(super) is_verified: bool,
    unpacking: Option<(Box<Unpacking>, Turn)>,
    /// Its size when there was nothing more to unpack, although it is not whole.
    pub(super) waits_at: Option<u64>,
    /// Whether it was unpacked to its end.
    pub(super) is_done: bool,
}

/// What a compressed file may be: a file that was read up to a place, or is read still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess {
    pub(super) known: Known,
    /// Whether that one is open, so that nothing is to be read of this one.
    pub(super) is_open: bool,
}

/// Where looking for a place led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// What was read stands before it.
    Holds,
    /// Something else stands there.
    Differs,
    /// It is behind the end.
    Behind,
    /// More is to be unpacked another time.
    NotYet,
    /// There is no more to unpack, and it is not whole.
    Waiting,
}

impl Packed {
    /// Looks at the beginning of a compressed file. `None` while there is none, or when it is not compressed.
    pub(super) fn open(file: &File, packing: Packing) -> io::Result<Option<Self>> {
        let mut unpacking = Unpacking::begin(file, packing)?;
        unpacking.reach(HEAD_BYTES as u64)?;
        let head = unpacking.kept.get(..HEAD_BYTES).unwrap_or(&unpacking.kept);
        let head = head.to_vec();
        Ok((!head.is_empty()).then_some(Self {
            packing,
            head,
            guess: None,
            is_verified: false,
            unpacking: None,
            waits_at: None,
            is_done: false,
        }))
    }

    /// How long it was, as the last bytes of gzip say: right for all that was packed in one go and is below 4 GiB.
    /// Zstandard seldom says it.
    pub(super) fn size(&self, file: &File) -> Option<u64> {
        if self.packing != Packing::Gzip {
            return None;
        }
        let from = file.metadata().ok()?.len().checked_sub(4)?;
        let mut last = [0; 4];
        file.read_exact_at(&mut last, from).ok()?;
        Some(u64::from(u32::from_le_bytes(last))).filter(|size| *size > 0)
    }

    /// Takes its turn. `false` while another file is unpacked.
    pub(super) fn takes(&mut self, file: &File, turn: &Turn) -> io::Result<bool> {
        if self.is_done || self.unpacking.is_some() {
            return Ok(true);
        }
        if Arc::strong_count(turn) > 1 {
            return Ok(false);
        }
        let unpacking = Unpacking::begin(file, self.packing)?;
        self.unpacking = Some((Box::new(unpacking), Arc::clone(turn)));
        Ok(true)
    }

    /// Whether what was read stands before a place.
    pub(super) fn find(
        &mut self,
        file: &File,
        place: u64,
        fence: &Fence,
        budget: &mut u64,
    ) -> io::Result<Place> {
        let from = place.saturating_sub(fence.len() as u64);
        let Some((unpacking, _)) = &mut self.unpacking else {
            return Ok(Place::Behind);
        };
        if from < unpacking.begin_kept() {
            **unpacking = Unpacking::begin(file, self.packing)?;
        }
        while unpacking.place < place {
            if *budget == 0 {
                return Ok(Place::NotYet);
            }
            match unpacking.step()? {
                Step::More(bytes) => *budget = budget.saturating_sub(bytes),
                Step::End => return Ok(Place::Behind),
                Step::Waiting => return Ok(Place::Waiting),
            }
        }
        let mut before = vec![0; fence.len()];
        let got = unpacking.copy(&mut before, from);
        let holds = got == before.len() && fence.holds(&before);
        Ok(if holds { Place::Holds } else { Place::Differs })
    }

    /// What stands at a place; less than asked for only where nothing more can be unpacked.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], from: u64) -> io::Result<usize> {
        let Some((unpacking, _)) = &mut self.unpacking else {
            return Ok(0);
        };
        unpacking.reach(from.saturating_add(buffer.len() as u64))?;
        Ok(unpacking.copy(buffer, from))
    }

    /// Nothing more is read of it.
    pub(super) fn close(&mut self) {
        self.is_done = true;
        self.unpacking = None;
    }

    /// Whether all is unpacked that there will be.
    pub(super) fn is_unpacked(&self) -> bool {
        let ended = |(unpacking, _): &(Box<Unpacking>, Turn)| unpacking.decoder.is_none();
        self.unpacking.as_ref().is_some_and(ended)
    }
}

/// A file that is being unpacked.
struct Unpacking {
    /// None at its end.
    decoder: Option<Decoder>,
    packing: Packing,
    /// What was unpacked last.
    kept: Vec<u8>,
    /// Where the next byte stands.
    place: u64,
}

enum Decoder {
    Gzip(GzDecoder<Input>),
    Zstd(ZstdDecoder<'static, Input>),
}

/// What a step gave.
enum Step {
    More(u64),
    End,
    /// Nothing, because somebody still packs the file, or it was cut off.
    Waiting,
}

impl Unpacking {
    fn begin(file: &File, packing: Packing) -> io::Result<Self> {
        let input = Input {
            file: file.try_clone()?,
            place: 0,
            buffer: Vec::new(),
            used: 0,
        };
        Ok(Self {
            decoder: Some(Decoder::begin(input, packing)?),
            packing,
            kept: Vec::new(),
            place: 0,
        })
    }

    /// Where the oldest byte stands that is kept.
    fn begin_kept(&self) -> u64 {
        self.place.saturating_sub(self.kept.len() as u64)
    }

    /// Unpacks up to a place, if there is as much.
    fn reach(&mut self, place: u64) -> io::Result<()> {
        while self.place < place {
            if !matches!(self.step()?, Step::More(_)) {
                break;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> io::Result<Step> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(Step::End);
        };
        let limit = decoder.input().place.saturating_mul(RATIO_MAX);
        if self.place > limit.min(UNPACKED_BYTES_MAX) {
            return Err(io::Error::other("it becomes too much"));
        }
        // Twice as much, so that it is seldom moved.
        if self.kept.len() >= 2 * BUFFER_BYTES {
            let surplus = self.kept.len().saturating_sub(BUFFER_BYTES);
            self.kept.drain(..surplus);
        }
        let before = self.kept.len();
        self.kept.resize(before.saturating_add(STEP_BYTES), 0);
        let read = decoder.read(self.kept.get_mut(before..).unwrap_or_default());
        let got = *read.as_ref().unwrap_or(&0);
        self.kept.truncate(before.saturating_add(got));
        match read {
            Ok(0) => self.next_member(),
            Ok(got) => {
                self.place = self.place.saturating_add(got as u64);
                Ok(Step::More(got as u64))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Step::Waiting),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Step::More(0)),
            Err(error) => Err(error),
        }
    }

    /// What was packed in several goes has several members; what else stands behind the last one is none of ours.
    fn next_member(&mut self) -> io::Result<Step> {
        let Some(decoder) = self.decoder.take() else {
            return Ok(Step::End);
        };
        let mut input = decoder.into_input();
        let rest = input.fill_buf().unwrap_or_default();
        if rest.starts_with(self.packing.magic()) {
            self.decoder = Some(Decoder::begin(input, self.packing)?);
            return Ok(Step::More(0));
        }
        Ok(Step::End)
    }

    fn copy(&self, buffer: &mut [u8], from: u64) -> usize {
        let skipped = from.checked_sub(self.begin_kept());
        let skipped = skipped.and_then(|bytes| usize::try_from(bytes).ok());
        let kept = skipped.and_then(|bytes| self.kept.get(bytes..));
        let kept = kept.unwrap_or_default();
        let length = kept.len().min(buffer.len());
        if let (Some(into), Some(from)) = (buffer.get_mut(..length), kept.get(..length)) {
            into.copy_from_slice(from);
        }
        length
    }
}

/// Nothing of what is in it.
impl fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacking")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    fn begin(input: Input, packing: Packing) -> io::Result<Self> {
        Ok(match packing {
            Packing::Gzip => Self::Gzip(GzDecoder::new(input)),
            Packing::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(input)?.single_frame();
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Self::Zstd(decoder)
            }
        })
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(into),
            Self::Zstd(decoder) => decoder.read(into),
        }
    }

    fn input(&self) -> &Input {
        match self {
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }

    fn into_input(self) -> Input {
        match self {
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

/// The bytes of a file that may still grow: its end is no end.
struct Input {
    file: File,
    place: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used >= self.buffer.len() {
            self.buffer.resize(INPUT_BYTES, 0);
            self.used = 0;
            let got = self.file.read_at(&mut self.buffer, self.place);
            self.buffer.truncate(*got.as_ref().unwrap_or(&0));
            let got = got?;
            self.place = self.place.saturating_add(got as u64);
            if got == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        Ok(self.buffer.get(self.used..).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes);
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut here = self.fill_buf()?;
        let got = here.read(into)?;
        self.consume(got);
        Ok(got)
    }
}
