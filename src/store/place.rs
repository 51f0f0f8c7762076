//! Where the store is: its directory is made for the agent alone, claimed by one agent, and watched.
//!
//! A database that is removed under a running agent takes every write without a complaint and keeps none of
//! them. That must be an error, not a surprise at the next start.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Inner, StoreError};
use crate::durable;

/// The file that a running agent holds a lock on.
const LOCK: &str = "lock";

/// The right to use a directory; ends with the process at the latest.
pub(super) struct Claim(#[expect(dead_code, reason = "held for its lock")] File);

/// The database that was opened, and whether it is still there.
pub(super) struct Place {
    _claim: Claim,
    database: PathBuf,
    opened: (u64, u64),
    is_there: bool,
}

impl Claim {
    /// Makes the directory where it is missing and claims it.
    ///
    /// # Errors
    /// When it cannot be made, is no directory, or another agent has it.
    pub(super) fn on(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::MakeDirectory {
            path: path.to_owned(),
            source,
        };
        make_directory(path).map_err(failed)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(failed)?;
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
}

impl Place {
    pub(super) fn of(claim: Claim, database: PathBuf) -> Result<Self, StoreError> {
        let opened = identity(&database).map_err(|source| StoreError::MakeDirectory {
            path: database.clone(),
            source,
        })?;
        Ok(Self {
            _claim: claim,
            database,
            opened,
            is_there: true,
        })
    }

    /// Looks whether the path still leads to the database that was opened.
    pub(super) fn look(&mut self) {
        self.is_there = identity(&self.database).is_ok_and(|found| found == self.opened);
    }
}

impl Inner {
    /// What is written after the database has gone would be lost without a word.
    pub(super) fn refuse_when_gone(&self) -> Result<(), StoreError> {
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

/// Makes the directory for the agent's eyes only; an existing one keeps its owner and is narrowed.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
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
