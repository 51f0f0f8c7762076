//! The store: everything the agent must not lose, in one SQLite database under `store.path`.
//!
//! # Contract
//! - One writer: a thread owns the connection, and every change is one transaction with `synchronous=FULL`.
//!   When a call returns, its change survives SIGKILL and power loss.
//! - A sample is written together with the window blocks, the carry and the statements that it changed, so
//!   that a restart continues where the last committed tick stopped ([`samples`]).
//! - Leaf, body and outbox row of a submission are one transaction, before anything is signed or sent
//!   ([`outbox`]). A scheduled slot has exactly one leaf: a unique index says so ([`ledger`]).
//! - Opening never deletes anything: what is damaged, and a database of a later version, is set aside (`heal`).
//! - One agent: a second one on the same directory is refused, and nothing is taken in any more once the
//!   database has been removed or replaced under a running one (`place`).
//!
//! # Tables
//! ```text
//! meta    key -> value*                            carry and statements of the windows, enrolment, identity
//! tick    id, bucket, body*                        samples of open buckets, JSON, one row each
//! raw     bucket, part -> ticks, body*             samples of closed buckets, JSON lines
//! block   bucket -> body*                          window sums of all instances, columns
//! epoch   epoch -> origin                          the ledgers of this agent, the newest is written to
//! leaf    epoch, idx -> kind, slot, record, hash   the ledger; never deleted
//! body    epoch, idx -> bytes*                     canonical bytes of submissions
//! outbox  epoch, idx -> state, attempts, answer*   where each submission stands
//! receipt, cosignature                             heads that the dashboard and witnesses have signed
//! dek     id -> kek_id, wrapped                    data keys, each under the store's key; dek_spare is a copy
//! quarantine  id -> kind, place, why, bytes        records that cannot be opened
//! damage  number -> at, reason, outcome, ...       what was set aside, and whether the ledger has told of it
//! ```
//! What has a star is compressed and encrypted ([`crate::seal`]).
//! A bucket is a quarter of an hour, numbered from the Unix epoch. Times are milliseconds since the epoch.

pub mod cosignatures;
pub mod export;
mod heal;
pub mod key;
pub mod ledger;
mod meta;
pub mod outbox;
mod place;
mod plain;
pub mod quarantine;
pub mod receipts;
mod reset;
pub mod retention;
pub mod samples;
mod schema;
mod seal;
mod silent;
mod standin;
mod unused;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cms_spec::windows::Windows;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::blocking::{Blocking, Disk};
use crate::clock::Clock;
use crate::limits::STORE_QUEUE;
use crate::seal::{KeyError, StoreKey};

pub use cosignatures::WitnessRow;
pub use export::{KeptReceipt, Snapshot};
pub use heal::Damage;
pub use ledger::{LeafDraft, Moment};
pub use outbox::{Enqueued, OutboxCounts, Sender, Submission, SubmissionRow};
pub use quarantine::SetAside;
pub use receipts::{COSIGNER, COSIGNER_SUCCESSIONS, LOG_SUCCESSIONS, Offer, ReceiptRow};
pub use reset::{MARKER as RESET_MARKER, Reset, reset};
pub use retention::Removed;
pub use standin::Taken as TakenOver;

/// The agent's store. Cheap to clone; all clones speak to one thread.
#[derive(Clone)]
pub struct Store {
    desk: Desk,
    path: Arc<Path>,
}

/// Where the store's work is done.
#[derive(Clone)]
enum Desk {
    Thread(mpsc::Sender<Request>),
    Caller(Arc<Mutex<Here>>, Disk),
}

/// What is worked on by who calls.
struct Here {
    inner: Inner,
    may_grow: bool,
}

/// What the store's thread owns.
pub struct Inner {
    connection: Connection,
    sealer: seal::Sealer,
    place: place::Place,
    windows: Windows,
    unsaved: samples::Unsaved,
    silent: silent::Silent,
    oldest_tick_bucket: i64,
    health: heal::Health,
    /// Only where there is no disk.
    held: Option<standin::Held>,
}

type Request = Box<dyn FnOnce(&mut Inner) + Send>;

impl Store {
    /// Opens the database under `path`, making both where they are missing, and loads the windows.
    ///
    /// # Errors
    /// When the directory or the database cannot be made or read, or has another key.
    pub async fn open(path: &Path, key: &StoreKey) -> Result<Self, StoreError> {
        Self::open_with(path, key, Blocking::OnThreads, Clock::system()).await
    }

    /// As [`Store::open`], with the work done where `blocking` says, by a clock of the caller's.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(
        path: &Path,
        key: &StoreKey,
        blocking: Blocking,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let (key, directory) = (key.clone(), path.to_owned());
        Self::start(path, blocking, move || Inner::open(&directory, key, clock)).await
    }

    /// Starts the thread, where there is to be one, with what `open` makes.
    async fn start(
        path: &Path,
        blocking: Blocking,
        open: impl FnOnce() -> Result<Inner, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let path: Arc<Path> = Arc::from(path);
        if let Blocking::OnCaller(disk) = blocking {
            let here = Here {
                inner: open()?,
                may_grow: true,
            };
            let desk = Desk::Caller(Arc::new(Mutex::new(here)), disk);
            return Ok(Self { desk, path });
        }
        let (requests, mut queue) = mpsc::channel::<Request>(STORE_QUEUE);
        let (opened, answer) = oneshot::channel();
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let mut inner = match open() {
                    Ok(inner) => inner,
                    Err(error) => {
                        drop(opened.send(Err(error)));
                        return;
                    }
                };
                drop(opened.send(Ok(())));
                while let Some(request) = queue.blocking_recv() {
                    request(&mut inner);
                    inner.look_after_itself();
                }
                inner.settle();
            })
            .map_err(StoreError::StartThread)?;
        answer.await.map_err(|_| StoreError::Stopped)??;
        let desk = Desk::Thread(requests);
        Ok(Self { desk, path })
    }

    /// Runs one piece of work on the store's thread.
    ///
    /// # Errors
    /// What the work answers, or [`StoreError::Stopped`] when the thread has ended.
    pub async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Inner) -> Result<T, StoreError> + Send + 'static,
    {
        let requests = match &self.desk {
            Desk::Thread(requests) => requests,
            Desk::Caller(here, disk) => return call_here(here, disk, work).await,
        };
        let (done, answer) = oneshot::channel();
        let request: Request = Box::new(move |inner| drop(done.send(inner.attempt(work))));
        requests
            .send(request)
            .await
            .map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// The directory that the store lives in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers when the store's thread is alive and its database is where it was opened.
    ///
    /// # Errors
    /// When it is not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.call(|inner| {
            inner.heal_again();
            inner.place.look();
            inner.refuse_when_gone()
        })
        .await
    }

    /// Moves the write-ahead log into the database, so that one file holds everything. Where somebody reads
    /// it at this moment the log stays, and nothing is lost.
    ///
    /// # Errors
    /// When the store's thread has ended.
    pub async fn settle(&self) -> Result<(), StoreError> {
        self.call(|inner| {
            inner.settle();
            Ok(())
        })
        .await
    }

    /// Settles as [`Self::settle`] does, and lets another agent use the directory; nothing is written from here on.
    /// Not left to the end of the process, which a thread may keep that waits for a dead mount.
    ///
    /// # Errors
    /// When the store's thread has ended.
    pub async fn let_go(&self) -> Result<(), StoreError> {
        self.call(|inner| {
            inner.settle();
            inner.connection = heal::in_memory()?;
            inner.place.let_go();
            Ok(())
        })
        .await
    }

    /// Bytes of the database and its write-ahead log on disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        ["store.db", "store.db-wal"]
            .iter()
            .filter_map(|name| fs::metadata(self.path.join(name)).ok())
            .map(|metadata| metadata.len())
            .sum()
    }
}

/// Does the work on the calling task; who gave up before it is asked no more, who gives up after it is not told.
async fn call_here<T>(
    here: &Mutex<Here>,
    disk: &Disk,
    work: impl FnOnce(&mut Inner) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    tokio::task::yield_now().await;
    let done = {
        let mut here = here.lock().unwrap_or_else(PoisonError::into_inner);
        if here.may_grow == disk.is_full() {
            here.may_grow = !disk.is_full();
            schema::let_grow(&here.inner.connection, here.may_grow)?;
        }
        let done = here.inner.attempt(work);
        here.inner.look_after_itself();
        done
    };
    tokio::task::yield_now().await;
    done
}

impl Inner {
    fn open(path: &Path, key: StoreKey, clock: Clock) -> Result<Self, StoreError> {
        let claim = place::Claim::on(path, clock.now())?;
        let opened = heal::open(path, &claim, clock.now(), |database| {
            let (connection, sealer) = schema::open(database, &key)?;
            let loaded = samples::load(&connection, &sealer)?;
            outbox::recover(&connection)?;
            Ok((connection, sealer, loaded))
        });
        let (connection, sealer, (windows, oldest_tick_bucket)) = opened?;
        let place = place::Place::of(claim, path.join("store.db"))?;
        Ok(Self {
            connection,
            sealer,
            place,
            windows,
            unsaved: samples::Unsaved::default(),
            silent: silent::Silent::default(),
            oldest_tick_bucket,
            health: heal::Health::new(clock, key),
            held: None,
        })
    }

    fn settle(&self) {
        if let Err(error) = self
            .connection
            .pragma_update(None, "wal_checkpoint", "TRUNCATE")
        {
            tracing::debug!(%error, "the write-ahead log stays for the next start");
        }
    }
}

#[cfg(test)]
impl Store {
    /// The one number that a query answers, for tests that look at the rows.
    async fn count(&self, query: &'static str) -> i64 {
        let read = |source| StoreError::Read {
            what: "a count",
            source,
        };
        self.call(move |inner| {
            inner
                .connection
                .query_row(query, [], |row| row.get(0))
                .map_err(read)
        })
        .await
        .unwrap()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

/// Reads the windows of a store that an agent may be using, without changing anything.
///
/// # Errors
/// When there is no store, it cannot be read, or it has another key.
pub fn read_windows(path: &Path, key: &StoreKey) -> Result<Windows, StoreError> {
    let (connection, sealer) = schema::open_to_read(&path.join("store.db"), key)?;
    Ok(samples::load(&connection, &sealer)?.0)
}

/// Reads where a source of an agent that has run here goes on.
///
/// # Errors
/// When the database cannot be read or opened with this key.
pub fn read_checkpoint(
    path: &Path,
    key: &StoreKey,
    source: &str,
) -> Result<Option<String>, StoreError> {
    let (connection, sealer) = schema::open_to_read(&path.join("store.db"), key)?;
    meta::get(&connection, &sealer, &meta::checkpoint_key(source))
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Bytes in the database make no sense.
    #[error("{what} in the store cannot be understood: {found}")]
    Decode {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        found: String,
    },
    /// An earlier version wrote it, and it is open for reading only.
    #[error(
        "the store {} is of an earlier version: start the agent once, which brings it up to date",
        path.display()
    )]
    Earlier {
        /// The database.
        path: PathBuf,
    },
    /// A value could not be put into its stored form.
    #[error("cannot encode {what} for the store: {found}")]
    Encode {
        /// What was to be written.
        what: &'static str,
        /// What is wrong with it.
        found: String,
    },
    /// The database is not where it was.
    #[error(
        "the store {} was removed or replaced while the agent runs: put it back or restart the agent",
        path.display()
    )]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// Another agent has it.
    #[error(
        "another agent is using the store {}: stop it, or give each agent its own store.path",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The ledger that was written to has ended, or a damage has put it in doubt.
    #[error(
        "epoch {epoch} of the ledger takes no more leaves: the next try goes into the newest one"
    )]
    InDoubt {
        /// The epoch.
        epoch: u64,
    },
    /// Its key is another one, or cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no disk to write to; what is read is held in memory.
    #[error(
        "the store {} cannot be used: {reason}; it is tried again every few seconds, and what is read until then is held in memory",
        path.display()
    )]
    NoDisk {
        /// The directory.
        path: PathBuf,
        /// What stands in the way.
        reason: String,
    },
    /// Another version wrote it.
    #[error(
        "the store {} has version {found}, this agent knows up to {known}: use the newer agent, or start this one, which sets the store aside",
        path.display()
    )]
    Later {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The directory is not usable.
    #[error("cannot use {} as the store's directory (store.path)", path.display())]
    MakeDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error("cannot open the store {}", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A read failed.
    #[error("cannot read {what} from the store")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// What is damaged cannot be set aside.
    #[error("cannot set a damaged part of the store {} aside: let the agent's user write there", path.display())]
    SetAside {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The thread could not be started.
    #[error("cannot start the store's thread")]
    StartThread(#[source] io::Error),
    /// The thread has ended.
    #[error("the store has been closed")]
    Stopped,
    /// A write failed; nothing of it was kept.
    #[error("cannot write {what} to the store")]
    Write {
        /// What was to be written.
        what: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;

    #[tokio::test]
    async fn a_store_that_was_let_go_is_free_for_another_while_its_thread_lives() {
        let directory = tempfile::tempdir().unwrap();
        let key = key(1);
        let open = || Store::open(directory.path(), &key);
        let first = open().await.unwrap();
        first.set_meta("k", "v".to_owned()).await.unwrap();
        assert!(matches!(open().await, Err(StoreError::InUse { .. })));
        first.let_go().await.unwrap();
        let second = open().await.unwrap();
        assert_eq!(second.meta("k").await.unwrap().as_deref(), Some("v"));
        assert!(first.set_meta("k", "w".to_owned()).await.is_err());
    }

    #[tokio::test]
    async fn on_a_full_disk_writes_fail_and_succeed_again_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let blocking = Blocking::OnCaller(disk.clone());
        let store = Store::open_with(directory.path(), &key(1), blocking, Clock::system())
            .await
            .unwrap();
        // Nothing that compresses.
        let large = || {
            let mut state = 1_u64;
            let mut letter = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                char::from(b'!' + u8::try_from(state >> 58).unwrap())
            };
            (0..100_000).map(|_| letter()).collect::<String>()
        };
        disk.fill(true);
        assert!(matches!(
            store.set_meta("large", large()).await,
            Err(StoreError::Write { .. })
        ));
        assert_eq!(store.meta("large").await.unwrap(), None);
        disk.fill(false);
        store.set_meta("large", large()).await.unwrap();
        drop(store);
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        assert_eq!(store.meta("large").await.unwrap(), Some(large()));
    }
}
