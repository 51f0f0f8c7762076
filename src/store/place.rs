//! Where the store is: its directory is made for the agent alone, claimed by one agent, and watched.
//!
//! A database that is removed under a running agent takes every write without a complaint and keeps none of
//! them. That must be an error, not a surprise at the next start.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cms_attest::Digest;
use jiff::Timestamp;

use super::{Inner, StoreError, heal};
use crate::durable;

/// The file that a running agent holds a lock on.
const LOCK: &str = "lock";

/// Characters of the sum at the end of a mark.
const MARK_SUM: usize = 8;

/// Bytes of a mark: two numbers, a sum, two spaces and a line feed.
const MARK_BYTES: usize = 20 + 1 + 20 + 1 + MARK_SUM + 1;

/// The right to use a directory; ends with the process at the latest.
pub(super) struct Claim(File);

/// How long a ledger was when it was last written to. It stands in the lock's file, outside of the database, so
/// that a database which has lost its end is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) epoch: u64,
    pub(super) size: u64,
}

/// The database that was opened, and whether it is still there.
pub(super) struct Place {
    claim: Option<Claim>,
    database: PathBuf,
    opened: (u64, u64),
    is_there: bool,
    marked: Option<Mark>,
}

impl Claim {
    /// Makes the directory where it is missing and claims it. Something else in the lock's place is set aside.
    ///
    /// # Errors
    /// When it cannot be made, is no directory, or another agent has it.
    pub(super) fn on(path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let failed = |source| StoreError::MakeDirectory {
            path: path.to_owned(),
            source,
        };
        make_directory(path).map_err(failed)?;
        let file = path.join(LOCK);
        if let Some(strange) = heal::strange(&file).map_err(failed)? {
            heal::set_aside(path, &[LOCK], &format!("the lock is {strange}"), now)?;
        }
        let claim = Self::lock(path, &file)?;
        if !claim.is_damaged() {
            return Ok(claim);
        }
        heal::set_aside(path, &[LOCK], "the lock holds no mark of the ledger", now)?;
        Self::lock(path, &file)
    }

    fn lock(path: &Path, file: &Path) -> Result<Self, StoreError> {
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(file)
            .map_err(|source| StoreError::MakeDirectory {
                path: path.to_owned(),
                source,
            })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    path: path.to_owned(),
                });
            }
            // A file system without locks is no reason not to run.
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, "the store cannot be locked; a second agent on it would not be refused");
            }
        }
        Ok(Self(lock))
    }

    /// How long the ledger is at least. Nothing before the first leaf.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.text()?.parse().ok()
    }

    /// Whether there is something in the file that nobody of us wrote.
    fn is_damaged(&self) -> bool {
        self.text()
            .is_none_or(|text| !text.is_empty() && text.parse::<Mark>().is_err())
    }

    /// Nothing where it cannot be read.
    fn text(&self) -> Option<String> {
        let mut bytes = [0; MARK_BYTES + 1];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(_) => return None,
            }
        }
        String::from_utf8(bytes.get(..filled)?.to_vec()).ok()
    }

    /// Not flushed: it is there to outlive a damaged database, and a power cut damages none.
    fn set_mark(&self, mark: Mark) -> io::Result<()> {
        self.0.write_all_at(mark.to_string().as_bytes(), 0)
    }
}

/// Always of the same length, so that one is written over the other.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = format!("{:020} {:020}", self.epoch, self.size);
        let sum = Digest::of(numbers.as_bytes()).to_string();
        let sum = sum.get(..MARK_SUM).unwrap_or_default();
        writeln!(f, "{numbers} {sum}")
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_whitespace().map(str::parse);
        let [Some(Ok(epoch)), Some(Ok(size))] = [words.next(), words.next()] else {
            return Err(());
        };
        let mark = Self { epoch, size };
        (mark.to_string() == text).then_some(mark).ok_or(())
    }
}

impl Place {
    pub(super) fn of(claim: Claim, database: PathBuf) -> Result<Self, StoreError> {
        let opened = identity(&database).map_err(|source| StoreError::MakeDirectory {
            path: database.clone(),
            source,
        })?;
        Ok(Self {
            marked: claim.mark(),
            claim: Some(claim),
            database,
            opened,
            is_there: true,
        })
    }

    /// The directory that the database is in.
    pub(super) fn directory(&self) -> &Path {
        self.database.parent().unwrap_or(Path::new("."))
    }

    /// A database that is not there.
    pub(super) fn nowhere(database: PathBuf) -> Self {
        Self {
            claim: None,
            database,
            opened: (0, 0),
            is_there: false,
            marked: None,
        }
    }

    pub(super) fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// Nothing is to be written until [`Self::reopened`].
    pub(super) fn closed(&mut self) {
        self.opened = (0, 0);
        self.is_there = false;
    }

    /// Leaves the directory to another agent.
    pub(super) fn let_go(&mut self) {
        self.closed();
        self.claim = None;
    }

    /// Goes by the database that lies there now.
    pub(super) fn reopened(&mut self) {
        if let Ok(found) = identity(&self.database) {
            self.opened = found;
            self.is_there = true;
        }
    }

    /// Writes down how long the ledger is.
    pub(super) fn mark(&mut self, mark: Mark) {
        if self.marked == Some(mark) {
            return;
        }
        let Some(claim) = &self.claim else {
            return;
        };
        match claim.set_mark(mark) {
            Ok(()) => self.marked = Some(mark),
            Err(error) => tracing::debug!(%error, "the mark of the ledger's length stays behind"),
        }
    }

    /// Looks whether the path still leads to the database that was opened.
    pub(super) fn look(&mut self) {
        self.is_there = identity(&self.database).is_ok_and(|found| found == self.opened);
    }
}

impl Inner {
    /// What is written after the database has gone would be lost without a word.
    pub(super) fn refuse_when_gone(&self) -> Result<(), StoreError> {
        self.refuse_without_disk()?;
        if self.place.is_there {
            return Ok(());
        }
        Err(StoreError::Gone {
            path: self.place.database.clone(),
        })
    }
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Makes the directory for the agent's eyes only; an existing one keeps its owner and gets the agent's mode.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o777 != 0o700 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
        return Ok(());
    }
    durable::make_directory(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;
    use crate::store::Store;

    #[tokio::test]
    async fn a_second_agent_on_the_same_store_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Store::open(directory.path(), &key(1)).await.unwrap();
        let second = Store::open(directory.path(), &key(1)).await;
        assert!(matches!(second, Err(StoreError::InUse { .. })));
    }

    #[tokio::test]
    async fn a_store_that_is_removed_under_the_agent_is_an_error_until_it_is_back() {
        let directory = tempfile::tempdir().unwrap();
        let (path, away) = (directory.path().join("a"), directory.path().join("b"));
        let store = Store::open(&path, &key(1)).await.unwrap();
        assert!(store.ping().await.is_ok());
        fs::rename(&path, &away).unwrap();
        assert!(matches!(store.ping().await, Err(StoreError::Gone { .. })));
        fs::rename(&away, &path).unwrap();
        assert!(store.ping().await.is_ok());
    }
}
