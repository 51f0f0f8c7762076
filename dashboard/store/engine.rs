//! How statements reach the database: one writing thread that commits in groups, a few reading connections.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{Semaphore, oneshot};

use super::{StoreError, schema};

/// The database inside the store directory.
const FILE: &str = "dashboard.sqlite";
/// Writes that may wait: about a second of a slow disk's commits, so who waits is answered before timing out.
const WRITES_MAX: usize = 256;
/// Writes of one commit: bounds how long the first of them waits for the last.
const GROUP_MAX: usize = 64;
/// Reading connections: each keeps a page cache, and more than a few only compete for the same disk.
const READERS: usize = 4;
/// Reads that may wait for a connection before new ones are turned away.
const READS_WAITING_MAX: usize = 256;
/// How long to wait for another process (the command line) that writes.
const OTHER_WRITER: Duration = Duration::from_secs(5);

/// A write, done inside a savepoint; what it answers is told to the asker only after the commit.
type Write = Box<dyn FnOnce(&Connection) -> (Keep, Confirm) + Send>;
type Confirm = Box<dyn FnOnce() + Send>;
/// Whether the savepoint of a write is kept.
type Keep = bool;

/// The open database. Cheap to clone; the last clone closes it after the queued writes.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    writes: Option<SyncSender<Write>>,
    writer: Option<JoinHandle<()>>,
    readers: Mutex<Vec<Connection>>,
    reading: Arc<Semaphore>,
    admitted: Semaphore,
}

impl Store {
    /// Opens the database in a directory, and makes both when they are not there.
    ///
    /// # Errors
    /// When the directory or file cannot be made or opened, or is not ours.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let connection = open_plain(dir)?;
        let mut readers = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let reader = connect(dir)?;
            reader.pragma_update(None, "query_only", true)?;
            readers.push(reader);
        }
        let (writes, queue) = sync_channel(WRITES_MAX);
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_all(connection, &queue))
            .map_err(StoreError::Thread)?;
        Ok(Self(Arc::new(Shared {
            writes: Some(writes),
            writer: Some(writer),
            readers: Mutex::new(readers),
            reading: Arc::new(Semaphore::new(READERS)),
            admitted: Semaphore::new(READERS + READS_WAITING_MAX),
        })))
    }

    /// Sees that the writer writes and a reader reads.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        self.write(|_| Ok(())).await?;
        self.read(|db| Ok(db.query_row("SELECT 1", (), |_| Ok(()))?))
            .await
    }

    /// Runs a write and waits until it is on the disk. On an error nothing of it is kept.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let write: Write = Box::new(move |connection| {
            let result = act(connection);
            let keep = result.is_ok();
            let confirm: Confirm = Box::new(move || drop(answer.send(result)));
            (keep, confirm)
        });
        let queue = self.0.writes.as_ref().ok_or(StoreError::Unconfirmed)?;
        queue.try_send(write).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Unconfirmed,
        })?;
        answered.await.map_err(|_| StoreError::Unconfirmed)?
    }

    /// Runs a read beside the writer.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _admitted = (self.0.admitted.try_acquire()).map_err(|_| StoreError::Busy)?;
        let reading = Arc::clone(&self.0.reading);
        let permit = (reading.acquire_owned().await).map_err(|_| StoreError::Busy)?;
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            // Here, because who asked may give up before the connection is back.
            let _permit = permit;
            let connection = {
                let mut idle = shared
                    .readers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                idle.pop().ok_or(StoreError::Busy)?
            };
            let result = act(&connection);
            let mut idle = shared
                .readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            idle.push(connection);
            result
        })
        .await;
        done.map_err(|_| StoreError::Unconfirmed)?
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.writes.take());
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

/// One connection for who needs no threads: the command line.
pub(crate) fn open_plain(dir: &Path) -> Result<Connection, StoreError> {
    if !dir.is_dir() {
        // Telemetry is the company's own; other users of the host have no business in it.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| StoreError::Directory {
            path: dir.to_owned(),
            source,
        })?;
    }
    let mut connection = connect(dir)?;
    schema::prepare(&mut connection, &dir.join(FILE))?;
    Ok(connection)
}

fn connect(dir: &Path) -> Result<Connection, StoreError> {
    let path = dir.join(FILE);
    let open = || -> Result<Connection, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(OTHER_WRITER)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(connection)
    };
    let connection = open().map_err(|source| StoreError::Open {
        path: path.clone(),
        source,
    })?;
    drop(restrict(&path));
    Ok(connection)
}

/// Takes the file away from other users. A file system without permissions is no reason not to start.
fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

fn write_all(mut connection: Connection, queue: &Receiver<Write>) {
    while let Ok(first) = queue.recv() {
        match write_group(&mut connection, first, queue) {
            Ok(confirms) => confirms.into_iter().for_each(|confirm| confirm()),
            // The askers see their channel close: unconfirmed, and therefore not accepted.
            Err(error) => tracing::error!(%error, "the store could not commit"),
        }
    }
    drop(connection.close());
}

fn write_group(
    connection: &mut Connection,
    first: Write,
    queue: &Receiver<Write>,
) -> Result<Vec<Confirm>, rusqlite::Error> {
    let mut group = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut confirms = Vec::new();
    let mut next = Some(first);
    while let Some(write) = next {
        let savepoint = group.savepoint()?;
        let (keep, confirm) = write(&savepoint);
        // A savepoint that is dropped without commit is rolled back.
        if keep {
            savepoint.commit()?;
        } else {
            savepoint.finish()?;
        }
        confirms.push(confirm);
        next = (confirms.len() < GROUP_MAX)
            .then(|| queue.try_recv().ok())
            .flatten();
    }
    group.commit()?;
    Ok(confirms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(connection: &Connection) -> Result<i64, StoreError> {
        Ok(connection.query_row("SELECT count(*) FROM company", (), |row| row.get(0))?)
    }

    fn add(connection: &Connection, id: &str) -> Result<(), StoreError> {
        connection.execute("INSERT INTO company VALUES (?1, 'x', 0)", [id])?;
        Ok(())
    }

    #[tokio::test]
    async fn a_failed_write_leaves_nothing_and_its_neighbours_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let good = store.write(|c| add(c, "one"));
        let bad = store.write(|c| {
            add(c, "two")?;
            Err::<(), _>(StoreError::Damaged("on purpose".to_owned()))
        });
        let (good, bad) = tokio::join!(good, bad);
        good.unwrap();
        assert!(matches!(bad, Err(StoreError::Damaged(_))));
        assert_eq!(store.read(count).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_was_confirmed_is_there_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.write(|c| add(c, "one")).await.unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.read(count).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_full_queue_says_busy() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (open_gate, gate) = sync_channel::<()>(1);
        let (entered, inside) = oneshot::channel();
        let holder = tokio::spawn({
            let store = store.clone();
            async move {
                let hold = move |_: &Connection| {
                    entered.send(()).unwrap();
                    gate.recv().unwrap();
                    Ok(())
                };
                store.write(hold).await
            }
        });
        inside.await.unwrap();
        let queue = store.0.writes.as_ref().unwrap();
        for _ in 0..WRITES_MAX {
            let nothing: Write = Box::new(|_| (true, Box::new(|| ())));
            assert!(queue.try_send(nothing).is_ok());
        }
        assert!(matches!(
            store.write(|_| Ok(())).await,
            Err(StoreError::Busy)
        ));
        open_gate.send(()).unwrap();
        holder.await.unwrap().unwrap();
    }
}
