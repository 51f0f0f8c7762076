//! The database file: how it is opened, its version and its tables.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::seal::Sealer;
use super::{StoreError, heal, plain};
use crate::seal::{KeyId, StoreKey};

/// The version that this agent writes; kept in SQLite's `user_version`.
pub(super) const VERSION: i64 = 2;

/// The version before records were sealed.
pub(super) const VERSION_PLAIN: i64 = 1;

/// SQLite's own limit.
const PAGES_MAX: i64 = 0xffff_fffe;

/// Opens the database for writing, makes the tables where they are missing, and begins a generation of records.
/// What an earlier version has written in plain is sealed first.
pub(super) fn open(path: &Path, key: &StoreKey) -> Result<(Connection, Sealer), StoreError> {
    let failed = |source| StoreError::Open {
        path: path.to_owned(),
        source,
    };
    let mut connection = connect(path)?;
    let sealer = match version(&connection).map_err(failed)? {
        0 => {
            let transaction = connection.transaction().map_err(failed)?;
            make(&transaction).map_err(failed)?;
            let sealer = Sealer::first(&transaction, key)?;
            transaction.commit().map_err(failed)?;
            sealer
        }
        VERSION_PLAIN => plain::seal_all(&mut connection, key)?,
        VERSION => {
            add(&connection).map_err(failed)?;
            Sealer::next(&connection, path, key)?
        }
        found => {
            return Err(StoreError::Later {
                path: path.to_owned(),
                found,
                known: VERSION,
            });
        }
    };
    plain::wipe_what_is_left(&connection);
    Ok((connection, sealer))
}

/// Opens the file for writing, whatever is in it.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open {
        path: path.to_owned(),
        source,
    };
    let connection = Connection::open(path).map_err(failed)?;
    // auto_vacuum must be chosen before the first table; it lets retention give pages back.
    connection
        .execute_batch(
            "PRAGMA auto_vacuum = INCREMENTAL;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA busy_timeout = 5000;
             PRAGMA cache_size = -1024;
             PRAGMA journal_size_limit = 4194304;
             PRAGMA wal_autocheckpoint = 512;
             PRAGMA temp_store = MEMORY;
             PRAGMA secure_delete = FAST;",
        )
        .map_err(failed)?;
    Ok(connection)
}

/// Makes the tables of a new database, without a data key.
pub(super) fn make(connection: &Connection) -> rusqlite::Result<()> {
    for made in [SEALING, TABLES] {
        connection.execute_batch(made)?;
    }
    add(connection)?;
    set_version(connection)
}

/// Makes what stores of the first days lack.
pub(super) fn add(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(ADDED)?;
    connection.execute_batch(heal::TABLE)
}

/// The version of an opened database; 0 is an empty one.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Says that the tables are those of this version.
pub(super) fn set_version(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", VERSION)
}

/// Opens the database for reading only.
pub(super) fn open_to_read(
    path: &Path,
    key: &StoreKey,
) -> Result<(Connection, Sealer), StoreError> {
    let failed = |source| StoreError::Open {
        path: path.to_owned(),
        source,
    };
    let connection = connect_to_read(path).map_err(failed)?;
    match version(&connection).map_err(failed)? {
        VERSION => {}
        VERSION_PLAIN => {
            return Err(StoreError::Earlier {
                path: path.to_owned(),
            });
        }
        found => {
            return Err(StoreError::Later {
                path: path.to_owned(),
                found,
                known: VERSION,
            });
        }
    }
    let sealer = Sealer::reading(&connection, path, key)?;
    Ok((connection, sealer))
}

/// Lets the database take new pages or not, as a disk that has room or is full.
pub(super) fn let_grow(connection: &Connection, may_grow: bool) -> Result<(), StoreError> {
    let pages_max = if may_grow { PAGES_MAX } else { 1 };
    connection
        .pragma_update(None, "max_page_count", pages_max)
        .map_err(|source| StoreError::Write {
            what: "how far it may grow",
            source,
        })
}

/// The keys that a store was sealed with, as it names them; nothing where no store, or nothing in it, is sealed.
/// A database that cannot be read may be sealed with any key.
pub(super) fn sealed_with(path: &Path) -> Option<Vec<KeyId>> {
    let keys = heal::data_keys(path.parent()?)?;
    let mut names: Vec<KeyId> = Vec::new();
    for name in keys.iter().filter_map(|(_, name, _)| KeyId::parse(name)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Some(names)
}

fn connect_to_read(path: &Path) -> rusqlite::Result<Connection> {
    // SQLite would remove the log of a database without pages, also when it only reads.
    if fs::metadata(path).is_ok_and(|found| found.len() == 0) {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
        let words = "the file is empty: start the agent, which begins it anew".to_owned();
        return Err(rusqlite::Error::SqliteFailure(code, Some(words)));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch("PRAGMA busy_timeout = 5000;")?;
    Ok(connection)
}

/// What sealing needs, and stores of version 1 lack.
pub(super) const SEALING: &str = "
CREATE TABLE dek(id INTEGER PRIMARY KEY AUTOINCREMENT, kek_id TEXT NOT NULL, wrapped BLOB NOT NULL);
CREATE TABLE dek_spare(id INTEGER PRIMARY KEY, kek_id TEXT NOT NULL, wrapped BLOB NOT NULL);
CREATE TABLE quarantine(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, place TEXT NOT NULL, why TEXT NOT NULL,
    bytes BLOB NOT NULL);
";

const TABLES: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tick(id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX tick_bucket ON tick(bucket);
CREATE TABLE raw(bucket INTEGER NOT NULL, part INTEGER NOT NULL, ticks INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY(bucket, part)) WITHOUT ROWID;
CREATE TABLE block(bucket INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE epoch(epoch INTEGER PRIMARY KEY, origin TEXT NOT NULL);
CREATE TABLE leaf(epoch INTEGER NOT NULL, idx INTEGER NOT NULL, kind TEXT NOT NULL, category TEXT,
    slot_start INTEGER, slot_end INTEGER, record TEXT NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY(epoch, idx)) WITHOUT ROWID;
CREATE UNIQUE INDEX leaf_slot ON leaf(category, slot_end) WHERE category IS NOT NULL;
CREATE TABLE body(epoch INTEGER NOT NULL, idx INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY(epoch, idx));
CREATE TABLE outbox(epoch INTEGER NOT NULL, idx INTEGER NOT NULL, category TEXT NOT NULL,
    slot_start INTEGER NOT NULL, slot_end INTEGER NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    updated_at INTEGER NOT NULL, answer BLOB,
    PRIMARY KEY(epoch, idx)) WITHOUT ROWID;
CREATE TABLE receipt(epoch INTEGER NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, note TEXT NOT NULL,
    cosignature TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(epoch, size)) WITHOUT ROWID;
CREATE INDEX outbox_state ON outbox(state, slot_end);
";

/// What stores of the first days lack. The index finds the next of a long backlog without sorting it; the table
/// holds what witnesses have signed.
const ADDED: &str = "
CREATE INDEX IF NOT EXISTS outbox_turn ON outbox(state, attempts, slot_end);
CREATE TABLE IF NOT EXISTS cosignature(epoch INTEGER NOT NULL, cosigner TEXT NOT NULL, size INTEGER NOT NULL,
    note TEXT NOT NULL, cosignature TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY(epoch, cosigner, size)) WITHOUT ROWID;
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;

    #[test]
    fn a_later_version_is_refused_and_left_alone() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("store.db");
        let (connection, _) = open(&path, &key(1))?;
        connection.execute_batch("PRAGMA user_version = 99")?;
        assert!(matches!(
            open(&path, &key(1)),
            Err(StoreError::Later { found: 99, .. })
        ));
        Ok(())
    }
}
