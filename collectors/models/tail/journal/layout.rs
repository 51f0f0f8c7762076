//! One file of the journal: its header, and the objects that a reader of one unit's messages needs.
//!
//! Owns: the format as systemd documents it (JOURNAL_FILE_FORMAT), in its regular and its compact form. Reads with
//! bounds on every size and every chain: journald may be writing, and the file may be damaged or forged. Refuses:
//! hashes, seals and what it does not need; nothing is ever written.

use std::fs::File;
use std::io::{self, Read as _};

/// Where bytes are: a file, or memory in tests and under a fuzzer.
pub(super) trait Bytes {
    /// Fills as much of the buffer as there is.
    fn read(&self, buffer: &mut [u8], from: u64) -> io::Result<usize>;
}

impl Bytes for File {
    fn read(&self, buffer: &mut [u8], from: u64) -> io::Result<usize> {
        super::super::identity::read_full(self, buffer, from)
    }
}

impl Bytes for &[u8] {
    fn read(&self, buffer: &mut [u8], from: u64) -> io::Result<usize> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let rest = self.get(from..).unwrap_or_default();
        let got = rest.len().min(buffer.len());
        let (to, from) = (buffer.get_mut(..got), rest.get(..got));
        if let (Some(to), Some(from)) = (to, from) {
            to.copy_from_slice(from);
        }
        Ok(got)
    }
}

/// Bytes of the header that every version has.
const HEADER_BYTES: usize = 208;

/// What makes a file unreadable unless it is known: compression of single objects (1, 2, 8), other hashes (4), and the
/// compact form (16).
const KNOWN_FLAGS: u32 = 1 | 2 | 4 | 8 | 16;
const COMPACT: u32 = 16;

const DATA: u8 = 1;
const FIELD: u8 = 2;
const ENTRY: u8 = 3;
const ENTRY_ARRAY: u8 = 6;

/// Flags of an object whose content is compressed.
const COMPRESSED: u8 = 1 | 2 | 4;
const ZSTD: u8 = 4;

/// Buckets of the table of fields that are looked at; journald makes 333 or 1023.
const BUCKETS_MAX: u64 = 8192;

/// Fields in one bucket, and values of one field, that are looked at. A host has some hundred units.
const CHAIN_MAX: usize = 65_536;

/// Fields of an entry; journald takes 1024 at most.
const ITEMS_MAX: u64 = 1024;

/// Compressed bytes of one message that are read.
const PACKED_BYTES_MAX: u64 = 1024 * 1024;

/// Memory that a compressed message may ask for, as a power of two.
const WINDOW_LOG_MAX: u32 = 23;

/// Longest name and value that are compared.
const NAME_BYTES_MAX: usize = 512;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayoutError {
    /// The system says why.
    #[error("the journal cannot be read")]
    Io(#[from] io::Error),
    /// The content says why.
    #[error("the journal is damaged or of an unknown kind: {0}")]
    Content(&'static str),
}

/// The header of a file, as far as it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Names the file whatever its path is.
    pub(super) id: [u8; 16],
    /// When its first entry was written, in microseconds.
    pub(super) begun_at: u64,
    is_compact: bool,
    header_bytes: u64,
    fields: u64,
    fields_bytes: u64,
}

/// All entries of one unit in one file: a chain of arrays whose sizes double.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    first: u64,
    array: u64,
    pub(super) count: u64,
}

/// A place in the entries of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// How many were passed.
    pub(super) taken: u64,
    /// The array that the next one is in, and how many stand before that array; unknown at first.
    array: Option<(u64, u64)>,
}

impl Cursor {
    /// Behind so many entries.
    pub(super) const fn at(taken: u64) -> Self {
        Self { taken, array: None }
    }
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// Microseconds since 1970.
    pub(super) at: u64,
    place: u64,
    bytes: u64,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// It stands in the buffer, perhaps cut.
    Read { is_cut: bool },
    /// It has none.
    None,
    /// It is compressed in a way that we do not know, or damaged.
    Unreadable,
}

/// Objects that are no messages, by their place: the same ones stand in every entry of a unit.
#[derive(Debug)]
pub(super) struct Others(Vec<u64>);

impl Others {
    /// Places that are remembered; an entry has thirty.
    const PLACES: u64 = 1024;

    pub(super) fn new() -> Self {
        let places = usize::try_from(Self::PLACES).unwrap_or_default();
        Self(vec![0; places])
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    fn slot(&mut self, place: u64) -> Option<&mut u64> {
        let slot = usize::try_from((place / 8) % Self::PLACES).ok()?;
        self.0.get_mut(slot)
    }

    fn has(&mut self, place: u64) -> bool {
        self.slot(place).is_some_and(|slot| *slot == place)
    }

    fn add(&mut self, place: u64) {
        if let Some(slot) = self.slot(place) {
            *slot = place;
        }
    }
}

struct Object {
    kind: u8,
    flags: u8,
    bytes: u64,
}

impl Header {
    /// Reads the header.
    pub(super) fn read(file: &impl Bytes) -> Result<Self, LayoutError> {
        let mut buffer = [0; HEADER_BYTES];
        if file.read(&mut buffer, 0)? < HEADER_BYTES || !buffer.starts_with(b"LPKSHHRH") {
            return Err(LayoutError::Content("it does not begin as one"));
        }
        let flags = number4(&buffer, 12);
        if flags & !KNOWN_FLAGS != 0 {
            return Err(LayoutError::Content("it has features of a later systemd"));
        }
        let header_bytes = number(&buffer, 88);
        if header_bytes < HEADER_BYTES as u64 {
            return Err(LayoutError::Content("its header is too short"));
        }
        let id = buffer.get(24..40).and_then(|id| id.first_chunk());
        Ok(Self {
            id: id.copied().unwrap_or_default(),
            begun_at: number(&buffer, 184),
            is_compact: flags & COMPACT != 0,
            header_bytes,
            fields: number(&buffer, 120),
            fields_bytes: number(&buffer, 128),
        })
    }

    /// How many entries the file has now.
    pub(super) fn count(file: &impl Bytes) -> Result<u64, LayoutError> {
        let mut buffer = [0; 8];
        if file.read(&mut buffer, 152)? < buffer.len() {
            return Err(LayoutError::Content("it ends too early"));
        }
        Ok(number(&buffer, 0))
    }

    /// The object that has this name and value, for example `_SYSTEMD_UNIT=ollama.service`.
    pub(super) fn find(
        &self,
        file: &impl Bytes,
        name: &[u8],
        value: &[u8],
    ) -> Result<Option<u64>, LayoutError> {
        let Some(field) = self.field(file, name)? else {
            return Ok(None);
        };
        let wanted = [name, b"=", value].concat();
        let mut head = [0; 40];
        self.fill(file, &mut head, field)?;
        let mut place = number(&head, 32);
        let mut before = u64::MAX;
        for _ in 0..CHAIN_MAX {
            // New values stand before old ones.
            if place == 0 || place >= before {
                break;
            }
            before = place;
            let mut head = [0; 64];
            let object = self.object(file, place, DATA, &mut head)?;
            let from = place.saturating_add(self.data_head());
            let length = object.bytes.saturating_sub(self.data_head());
            if object.flags & COMPRESSED == 0 && length == wanted.len() as u64 {
                let mut content = [0; NAME_BYTES_MAX];
                let content = content.get_mut(..wanted.len()).unwrap_or_default();
                if file.read(content, from)? == wanted.len() && *content == *wanted {
                    return Ok(Some(place));
                }
            }
            place = number(&head, 32);
        }
        Ok(None)
    }

    /// The object of a field, by looking at all of them: there are about a hundred.
    fn field(&self, file: &impl Bytes, name: &[u8]) -> Result<Option<u64>, LayoutError> {
        for bucket in 0..(self.fields_bytes / 16).min(BUCKETS_MAX) {
            let mut item = [0; 8];
            self.fill(file, &mut item, self.fields.saturating_add(bucket * 16))?;
            let (mut place, mut before) = (number(&item, 0), 0);
            for _ in 0..CHAIN_MAX {
                if place <= before {
                    break;
                }
                before = place;
                let mut head = [0; 40];
                let object = self.object(file, place, FIELD, &mut head)?;
                let length = object.bytes.saturating_sub(40);
                if length == name.len() as u64 {
                    let mut content = [0; NAME_BYTES_MAX];
                    let content = content.get_mut(..name.len()).unwrap_or_default();
                    if file.read(content, place.saturating_add(40))? == name.len()
                        && *content == *name
                    {
                        return Ok(Some(place));
                    }
                }
                place = number(&head, 24);
            }
        }
        Ok(None)
    }

    /// The entries that the object stands in, as of now.
    pub(super) fn entries(&self, file: &impl Bytes, data: u64) -> Result<Entries, LayoutError> {
        let mut head = [0; 64];
        self.object(file, data, DATA, &mut head)?;
        Ok(Entries {
            first: number(&head, 40),
            array: number(&head, 48),
            count: number(&head, 56),
        })
    }

    /// The next entry; moves the cursor behind it. `None` when the next one is not there yet.
    pub(super) fn next(
        &self,
        file: &impl Bytes,
        entries: &Entries,
        cursor: &mut Cursor,
    ) -> Result<Option<Entry>, LayoutError> {
        if cursor.taken >= entries.count {
            return Ok(None);
        }
        let place = if cursor.taken == 0 {
            entries.first
        } else {
            self.in_arrays(file, entries, cursor)?
        };
        if place == 0 {
            return Ok(None);
        }
        let mut head = [0; 64];
        let object = self.object(file, place, ENTRY, &mut head)?;
        cursor.taken += 1;
        Ok(Some(Entry {
            number: number(&head, 16),
            at: number(&head, 24),
            place,
            bytes: object.bytes,
        }))
    }

    /// The place of the cursor's entry, out of the chain of arrays.
    fn in_arrays(
        &self,
        file: &impl Bytes,
        entries: &Entries,
        cursor: &mut Cursor,
    ) -> Result<u64, LayoutError> {
        let item = if self.is_compact { 4 } else { 8 };
        let (mut array, mut before) = cursor.array.unwrap_or((entries.array, 1));
        for _ in 0..CHAIN_MAX {
            if array == 0 {
                return Ok(0);
            }
            let mut head = [0; 24];
            let object = self.object(file, array, ENTRY_ARRAY, &mut head)?;
            let items = object.bytes.saturating_sub(24) / item;
            let index = cursor.taken.saturating_sub(before);
            cursor.array = Some((array, before));
            if index < items {
                let mut buffer = [0; 8];
                let length = if self.is_compact { 4 } else { 8 };
                let place = array.saturating_add(24 + index * item);
                self.fill(file, buffer.get_mut(..length).unwrap_or_default(), place)?;
                return Ok(number(&buffer, 0));
            }
            let next = number(&head, 16);
            // Arrays are only ever added at the end.
            if next <= array {
                return Ok(0);
            }
            before = before.saturating_add(items);
            array = next;
        }
        Ok(0)
    }

    /// Writes the message of an entry into the buffer, at most `most` bytes of it.
    pub(super) fn message(
        &self,
        file: &impl Bytes,
        entry: &Entry,
        others: &mut Others,
        most: usize,
        into: &mut Vec<u8>,
    ) -> Result<Message, LayoutError> {
        let item = if self.is_compact { 4 } else { 16 };
        let items = (entry.bytes.saturating_sub(64) / item).min(ITEMS_MAX);
        let length = usize::try_from(items * item).unwrap_or_default();
        let mut list = [0; 16 * 1024];
        let list = list.get_mut(..length).unwrap_or_default();
        self.fill(file, list, entry.place.saturating_add(64))?;
        let mut is_unreadable = false;
        for item in list.chunks_exact(usize::try_from(item).unwrap_or(16)) {
            let place = if self.is_compact {
                u64::from(number4(item, 0))
            } else {
                number(item, 0)
            };
            if others.has(place) {
                continue;
            }
            match self.content(file, place, most, into) {
                Ok(Message::None) => others.add(place),
                Ok(Message::Unreadable) | Err(LayoutError::Content(_)) => is_unreadable = true,
                Ok(read) => return Ok(read),
                Err(error) => return Err(error),
            }
        }
        Ok(if is_unreadable {
            Message::Unreadable
        } else {
            Message::None
        })
    }

    /// The content of one object, if it is a message.
    fn content(
        &self,
        file: &impl Bytes,
        place: u64,
        most: usize,
        into: &mut Vec<u8>,
    ) -> Result<Message, LayoutError> {
        const NAME: &[u8] = b"MESSAGE=";
        let mut head = [0; 16];
        let object = self.object(file, place, DATA, &mut head)?;
        let skip = self.data_head();
        let length = object.bytes.saturating_sub(skip);
        let from = place.saturating_add(skip);
        into.clear();
        match object.flags & COMPRESSED {
            0 => {
                let mut name = [0; NAME.len()];
                if length < NAME.len() as u64 {
                    return Ok(Message::None);
                }
                self.fill(file, &mut name, from)?;
                if name != *NAME {
                    return Ok(Message::None);
                }
                let rest = usize::try_from(length).unwrap_or(usize::MAX) - NAME.len();
                into.resize(rest.min(most), 0);
                self.fill(file, into, from.saturating_add(NAME.len() as u64))?;
                Ok(Message::Read {
                    is_cut: rest > most,
                })
            }
            ZSTD if length <= PACKED_BYTES_MAX => {
                let mut packed = vec![0; usize::try_from(length).unwrap_or_default()];
                self.fill(file, &mut packed, from)?;
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed.as_slice())?;
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                let wanted = (NAME.len() + most + 1) as u64;
                if decoder.take(wanted).read_to_end(into).is_err() {
                    return Ok(Message::Unreadable);
                }
                if !into.starts_with(NAME) {
                    return Ok(Message::None);
                }
                into.drain(..NAME.len());
                let is_cut = into.len() > most;
                into.truncate(most);
                Ok(Message::Read { is_cut })
            }
            _ => Ok(Message::Unreadable),
        }
    }

    /// Bytes before the content of a data object.
    const fn data_head(&self) -> u64 {
        if self.is_compact { 72 } else { 64 }
    }

    /// The beginning of an object, after its kind and size were checked.
    fn object(
        &self,
        file: &impl Bytes,
        place: u64,
        kind: u8,
        head: &mut [u8],
    ) -> Result<Object, LayoutError> {
        if place < self.header_bytes || !place.is_multiple_of(8) {
            return Err(LayoutError::Content("an object lies where none can be"));
        }
        self.fill(file, head, place)?;
        let object = Object {
            kind: head.first().copied().unwrap_or_default(),
            flags: head.get(1).copied().unwrap_or_default(),
            bytes: number(head, 8),
        };
        if object.kind != kind || object.bytes < head.len() as u64 {
            return Err(LayoutError::Content("an object is of another kind"));
        }
        Ok(object)
    }

    fn fill(&self, file: &impl Bytes, buffer: &mut [u8], from: u64) -> Result<(), LayoutError> {
        if file.read(buffer, from)? < buffer.len() {
            return Err(LayoutError::Content("it ends too early"));
        }
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn number4(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
