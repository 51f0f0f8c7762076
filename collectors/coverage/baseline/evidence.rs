//! The files that show decommissions: read once for each state of the file, kept as a digest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use cms_spec::coverage::{Decommissioned, Evidence};

use super::parse::Record;
use crate::CollectError;

/// A log, a ticket or a scanned form; an image of a disk is no evidence that fits into a tick.
const EVIDENCE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How much of a file is in memory at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Digests of files as they were when they were read. As many as the inventory names.
#[derive(Debug, Default)]
pub(super) struct Digests(BTreeMap<PathBuf, (State, String)>);

/// What changes when a file does.
#[derive(Debug, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Digests {
    /// The record with the digest of its evidence, or why there is none. A relative path begins at the inventory.
    pub(super) fn of(&mut self, record: &Record, inventory: &Path) -> Decommissioned {
        let folder = inventory.parent().unwrap_or(Path::new("/"));
        let path = folder.join(&record.evidence);
        let name = record.evidence.file_name().unwrap_or_default();
        let digest = match self.read(&path) {
            Ok(digest) => Evidence::Sha256(digest),
            Err(why) => Evidence::Unreadable(why),
        };
        Decommissioned {
            date: record.date,
            evidence: name.to_string_lossy().into_owned(),
            digest,
        }
    }

    /// Forgets files that the inventory does not name any more.
    pub(super) fn keep_only<'a>(
        &mut self,
        named: impl Iterator<Item = &'a Record>,
        inventory: &Path,
    ) {
        let folder = inventory.parent().unwrap_or(Path::new("/"));
        let mut kept = BTreeMap::new();
        for record in named {
            if let Some(entry) = self.0.remove_entry(&folder.join(&record.evidence)) {
                kept.insert(entry.0, entry.1);
            }
        }
        self.0 = kept;
    }

    fn read(&mut self, path: &Path) -> Result<String, String> {
        let name = path.file_name().unwrap_or_default().display().to_string();
        let refused = |error: std::io::Error| match CollectError::from_io(path, error) {
            CollectError::Vanished { .. } => format!("{name} is not there"),
            CollectError::Denied { .. } => {
                format!("{name} may not be read: let the agent's user read it")
            }
            _ => format!("{name} cannot be read"),
        };
        // Before it is opened: a pipe would keep us waiting.
        let found = fs::metadata(path).map_err(refused)?;
        if !found.is_file() {
            return Err(format!("{name} is not a file"));
        }
        if found.len() == 0 {
            return Err(format!("{name} is empty"));
        }
        if found.len() > EVIDENCE_BYTES_MAX {
            return Err(format!(
                "{name} is longer than 64 MiB: name an extract of it"
            ));
        }
        let state = State::of(&found);
        if let Some((known, digest)) = self.0.get(path)
            && *known == state
        {
            return Ok(digest.clone());
        }
        let digest = digest(path).map_err(refused)?;
        self.0.insert(path.to_owned(), (state, digest.clone()));
        Ok(digest)
    }
}

impl State {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?.take(EVIDENCE_BYTES_MAX);
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        context.update(piece.get(..read).unwrap_or_default());
    }
    let mut text = String::new();
    for byte in context.finish().as_ref() {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
