//! The pages of a database file and its write-ahead log, read without SQLite, however damaged the rest is.
//!
//! Promises: any bytes are read, none make it panic; a page that is not there is `None`. Never writes.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::wal::{Frame, Wal};

/// What a database of ours begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// The page size of every database that this agent makes; it stands in for a header that is gone.
const PAGE_SIZE: usize = 4096;

/// Bytes at the end of a page that the header may keep from use.
const RESERVED_MAX: usize = 64;

/// The first bytes of the file, before the first page's b-tree.
pub(super) const FILE_HEADER: usize = 100;

/// One byte of a page map that says that the page is free.
const MAPPED_FREE: u8 = 2;

/// The bytes of one entry of a page map.
const MAP_ENTRY: usize = 5;

/// A database that is read page by page.
#[derive(Debug)]
pub(super) struct Pages {
    database: Option<File>,
    log: Option<File>,
    newest: HashMap<u32, u64>,
    size: usize,
    usable: usize,
    count: u32,
    version: i64,
    is_known: bool,
}

impl Pages {
    /// Opens what is there of `store.db` and its log in a directory.
    pub(super) fn open(directory: &Path) -> Self {
        let path = |name: &str| directory.join(name);
        let file = |name: &str| {
            let path = path(name);
            path.is_file().then(|| File::open(path).ok()).flatten()
        };
        let (database, log) = (file("store.db"), file("store.db-wal"));
        let wal = log.as_ref().map_or_else(Wal::default, |_| {
            Wal::read(&path("store.db-wal"), &path("store.db-shm")).unwrap_or_default()
        });
        let mut header = [0; FILE_HEADER];
        let has_header = database
            .as_ref()
            .is_some_and(|file| file.read_exact_at(&mut header, 0).is_ok())
            && header.starts_with(MAGIC);
        let said = header.get(16..18).map_or(0, |bytes| match bytes {
            [0, 1] => 65_536,
            &[high, low] => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        });
        let logged = wal.page_size as usize;
        let size = if has_header && said.is_power_of_two() && said >= 512 {
            said
        } else if logged > 0 {
            logged
        } else {
            PAGE_SIZE
        };
        let reserved = if has_header {
            usize::from(header.get(20).copied().unwrap_or(0))
        } else {
            0
        };
        let bytes = database
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |metadata| metadata.len());
        let mut pages = Self {
            database,
            log,
            newest: HashMap::new(),
            size,
            usable: size
                - if reserved <= RESERVED_MAX {
                    reserved
                } else {
                    0
                },
            count: u32::try_from(bytes.div_ceil(size as u64)).unwrap_or(u32::MAX),
            version: 0,
            is_known: false,
        };
        if logged == size {
            pages.overlay(&wal.frames);
        }
        let first = pages.page(1).filter(|first| first.starts_with(MAGIC));
        pages.is_known = first.is_some();
        pages.version = first.map_or(0, |first| {
            let version = first.get(60..).and_then(|rest| rest.first_chunk());
            version.map_or(0, |&version| i64::from(i32::from_be_bytes(version)))
        });
        pages
    }

    fn overlay(&mut self, frames: &[Frame]) {
        for frame in frames {
            self.newest.insert(frame.page, frame.offset);
        }
        let highest = self.newest.keys().copied().max().unwrap_or(0);
        self.count = self.count.max(highest);
    }

    /// How many pages there are; they are numbered from 1.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Whether the first page begins as one of a database does.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The version of the tables as the first page says; zero where it says nothing.
    pub(super) fn version(&self) -> i64 {
        self.version
    }

    /// How many bytes of a page hold content.
    pub(super) fn usable(&self) -> usize {
        self.usable
    }

    /// The newest bytes of a page.
    pub(super) fn page(&self, number: u32) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.size];
        let read = match self.newest.get(&number) {
            Some(&offset) => self.log.as_ref()?.read_exact_at(&mut bytes, offset),
            None => {
                let offset = u64::from(number.checked_sub(1)?) * self.size as u64;
                self.database.as_ref()?.read_exact_at(&mut bytes, offset)
            }
        };
        read.ok()?;
        bytes.truncate(self.usable);
        Some(bytes)
    }

    /// Whether the page maps say that a page is free. Every database of ours has such maps.
    pub(super) fn is_free(&self, number: u32) -> bool {
        let per_map = u32::try_from(self.usable / MAP_ENTRY).unwrap_or(1);
        let Some(map) = number
            .checked_sub(2)
            .map(|from_second| from_second - from_second % (per_map + 1) + 2)
        else {
            return false;
        };
        if map == number {
            return true;
        }
        let entry = (number - map - 1) as usize * MAP_ENTRY;
        self.page(map)
            .and_then(|page| page.get(entry).copied())
            .is_some_and(|kind| kind == MAPPED_FREE)
    }
}
