//! Stores of version 1, whose records were not sealed: everything in them is sealed in one transaction, and then
//! the file is written anew, so that its free pages hold nothing readable either.

use rusqlite::{Connection, OptionalExtension, params};

use super::schema::{self, SEALING};
use super::seal::{Record, Sealer, decompress};
use super::{StoreError, quarantine};
use crate::seal::StoreKey;

/// A row of `meta` that says: free pages may hold what was not sealed.
const WIPE: &str = "wipe";

/// A column that was not sealed, with two columns that name its row.
struct Column {
    table: &'static str,
    keys: (&'static str, &'static str),
    content: &'static str,
    is_compressed: bool,
    record: fn(i64, i64) -> Record<'static>,
}

const COLUMNS: [Column; 5] = [
    Column {
        table: "tick",
        keys: ("id", "id"),
        content: "body",
        is_compressed: false,
        record: |id, _| Record::Tick { id },
    },
    Column {
        table: "raw",
        keys: ("bucket", "part"),
        content: "body",
        is_compressed: true,
        record: |bucket, part| Record::Raw { bucket, part },
    },
    Column {
        table: "block",
        keys: ("bucket", "bucket"),
        content: "body",
        is_compressed: true,
        record: |bucket, _| Record::Block { bucket },
    },
    Column {
        table: "body",
        keys: ("epoch", "idx"),
        content: "bytes",
        is_compressed: true,
        record: |epoch, index| Record::Body { epoch, index },
    },
    Column {
        table: "outbox",
        keys: ("epoch", "idx"),
        content: "answer",
        is_compressed: false,
        record: |epoch, index| Record::Answer { epoch, index },
    },
];

/// Seals everything in a store of version 1.
///
/// # Errors
/// When the database cannot be read or written; then it is as it was.
pub(super) fn seal_all(connection: &mut Connection, key: &StoreKey) -> Result<Sealer, StoreError> {
    connection
        .execute_batch("PRAGMA secure_delete = ON")
        .map_err(failed)?;
    let transaction = connection.transaction().map_err(failed)?;
    transaction.execute_batch(SEALING).map_err(failed)?;
    schema::add(&transaction).map_err(failed)?;
    let sealer = Sealer::first(&transaction, key)?;
    let mut records = seal_meta(&transaction, &sealer)?;
    for column in &COLUMNS {
        records += seal_column(&transaction, &sealer, column)?;
    }
    transaction
        .execute("INSERT INTO meta(key, value) VALUES (?1, x'')", [WIPE])
        .map_err(failed)?;
    schema::set_version(&transaction).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    tracing::info!(records, key = %key.id(), "the store of an earlier version is encrypted now");
    Ok(sealer)
}

/// Writes the file anew after a store was sealed, until that has succeeded once. Nothing waits for it.
pub(super) fn wipe_what_is_left(connection: &Connection) {
    if let Err(error) = wipe(connection) {
        tracing::error!(
            %error,
            "free pages of the store may still hold what was not encrypted; make room, and the next start tries again"
        );
    }
}

fn wipe(connection: &Connection) -> rusqlite::Result<()> {
    let is_due = "SELECT 1 FROM meta WHERE key = ?1";
    let is_due = connection
        .query_row(is_due, [WIPE], |_| Ok(()))
        .optional()?;
    if is_due.is_none() {
        return Ok(());
    }
    // A large store is not copied in memory. All of the copy is sealed.
    connection.execute_batch(
        "PRAGMA temp_store = FILE; VACUUM; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = FAST;",
    )?;
    let is_busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if !is_busy {
        connection.execute("DELETE FROM meta WHERE key = ?1", [WIPE])?;
    }
    Ok(())
}

fn seal_meta(connection: &Connection, sealer: &Sealer) -> Result<usize, StoreError> {
    let rows: Vec<(String, Vec<u8>)> = connection
        .prepare("SELECT key, CAST(value AS BLOB) FROM meta")
        .and_then(|mut select| {
            select
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .map_err(failed)?;
    for (key, value) in &rows {
        let sealed = sealer.seal(Record::Meta { key }, value)?;
        connection
            .execute(
                "UPDATE meta SET value = ?2 WHERE key = ?1",
                params![key, sealed],
            )
            .map_err(failed)?;
    }
    Ok(rows.len())
}

fn seal_column(
    connection: &Connection,
    sealer: &Sealer,
    column: &Column,
) -> Result<usize, StoreError> {
    let Column { table, content, .. } = column;
    let (first, second) = column.keys;
    let row = format!("{first} = ?1 AND {second} = ?2");
    let select_rows = format!("SELECT {first}, {second} FROM {table} WHERE {content} IS NOT NULL");
    let select = format!("SELECT CAST({content} AS BLOB) FROM {table} WHERE {row}");
    let update = format!("UPDATE {table} SET {content} = ?3 WHERE {row}");
    // The rows first: a table must not change while it is walked.
    let rows: Vec<(i64, i64)> = connection
        .prepare(&select_rows)
        .and_then(|mut select| {
            select
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .map_err(failed)?;
    for &(first, second) in &rows {
        let record = (column.record)(first, second);
        let kept: Vec<u8> = connection
            .prepare_cached(&select)
            .and_then(|mut select| select.query_row([first, second], |row| row.get(0)))
            .map_err(failed)?;
        let content = if column.is_compressed {
            decompress(&kept)
        } else {
            Ok(kept.clone())
        };
        match content {
            Ok(content) => {
                let sealed = sealer.seal(record, &content)?;
                connection
                    .prepare_cached(&update)
                    .and_then(|mut update| update.execute(params![first, second, sealed]))
                    .map_err(failed)?;
            }
            Err(why) => {
                let sealed = sealer.seal(record, &kept)?;
                quarantine::set_aside(connection, sealer, record, &sealed, &why)?;
            }
        }
    }
    Ok(rows.len())
}

fn failed(source: rusqlite::Error) -> StoreError {
    StoreError::Write {
        what: "an earlier store in its encrypted form (that needs as much free space again as it takes)",
        source,
    }
}

#[cfg(test)]
mod tests;
