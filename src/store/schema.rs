//! The database file: how it is opened, its version, its tables, and the small `meta` table.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::StoreError;

/// The version that this agent writes; kept in SQLite's `user_version`.
const VERSION: i64 = 1;

/// SQLite's own limit.
const PAGES_MAX: i64 = 0xffff_fffe;

/// Opens the database for writing and makes the tables where they are missing.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
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
             PRAGMA temp_store = MEMORY;",
        )
        .map_err(failed)?;
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    match found {
        0 => connection
            .execute_batch(&format!(
                "BEGIN; {TABLES} {TURNS} PRAGMA user_version = {VERSION}; COMMIT;"
            ))
            .map_err(failed)?,
        // Stores of the first days lack this index; it changes nothing that they hold.
        VERSION => connection.execute_batch(TURNS).map_err(failed)?,
        _ => {
            return Err(StoreError::Later {
                path: path.to_owned(),
                found,
                known: VERSION,
            });
        }
    }
    Ok(connection)
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

/// Opens the database for reading only.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open {
        path: path.to_owned(),
        source,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection
        .execute_batch("PRAGMA busy_timeout = 5000;")
        .map_err(failed)?;
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    if found != VERSION {
        return Err(StoreError::Later {
            path: path.to_owned(),
            found,
            known: VERSION,
        });
    }
    Ok(connection)
}

/// Reads a value of `meta`.
pub(super) fn meta(connection: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
            row.get(0)
        })
        .optional()
        .map_err(|source| StoreError::Read {
            what: "meta",
            source,
        })
}

/// Writes a value of `meta`.
pub(super) fn set_meta(connection: &Connection, key: &str, value: &str) -> Result<(), StoreError> {
    connection
        .execute(
            "INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)",
            params![key, value],
        )
        .map(drop)
        .map_err(|source| StoreError::Write {
            what: "meta",
            source,
        })
}

const TABLES: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
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
    updated_at INTEGER NOT NULL, answer TEXT,
    PRIMARY KEY(epoch, idx)) WITHOUT ROWID;
CREATE TABLE receipt(epoch INTEGER NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, note TEXT NOT NULL,
    cosignature TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(epoch, size)) WITHOUT ROWID;
CREATE INDEX outbox_state ON outbox(state, slot_end);
";

/// What stores of the first days lack. The index finds the next of a long backlog without sorting it; the table
/// holds what witnesses have signed.
const TURNS: &str = "
CREATE INDEX IF NOT EXISTS outbox_turn ON outbox(state, attempts, slot_end);
CREATE TABLE IF NOT EXISTS cosignature(epoch INTEGER NOT NULL, cosigner TEXT NOT NULL, size INTEGER NOT NULL,
    note TEXT NOT NULL, cosignature TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY(epoch, cosigner, size)) WITHOUT ROWID;
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_is_refused_and_left_alone() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("store.db");
        open(&path)?.execute_batch("PRAGMA user_version = 99")?;
        assert!(matches!(
            open(&path),
            Err(StoreError::Later { found: 99, .. })
        ));
        Ok(())
    }

    #[test]
    fn meta_reads_what_was_written() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let connection = open(&directory.path().join("store.db"))?;
        assert_eq!(meta(&connection, "agent_id")?, None);
        set_meta(&connection, "agent_id", "a")?;
        set_meta(&connection, "agent_id", "b")?;
        assert_eq!(meta(&connection, "agent_id")?.as_deref(), Some("b"));
        Ok(())
    }
}
