//! Records that cannot be opened: their bytes are kept, out of the way of everything else.
//!
//! Promises: what is damaged costs itself alone, is told once, counted, and deleted by nothing but the size
//! limit. Refuses: repairing.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::seal::{Record, Sealer};
use super::{Store, StoreError};

/// How many records were set aside, for each table and column.
pub type SetAside = BTreeMap<String, u64>;

impl Store {
    /// How many records cannot be opened and were set aside.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn set_aside(&self) -> Result<SetAside, StoreError> {
        self.call(|inner| {
            inner
                .connection
                .prepare_cached("SELECT kind, count(*) FROM quarantine GROUP BY kind")
                .and_then(|mut select| {
                    select
                        .query_map([], |row| {
                            Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
                        })?
                        .collect()
                })
                .map_err(|source| StoreError::Read {
                    what: "what was set aside",
                    source,
                })
        })
        .await
    }
}

/// The content of a record, or nothing when it is damaged; then it has been set aside.
pub(super) fn open_or_set_aside(
    connection: &Connection,
    sealer: &Sealer,
    record: Record<'_>,
    sealed: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    match sealer.open(connection, record, sealed) {
        Ok(content) => Ok(Some(content)),
        Err(error @ StoreError::Decode { .. }) => {
            set_aside(connection, record, sealed, &error.to_string())?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Moves a record out of its table.
pub(super) fn set_aside(
    connection: &Connection,
    record: Record<'_>,
    bytes: &[u8],
    why: &str,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::Write {
        what: "a damaged record",
        source,
    };
    tracing::error!(
        record = record.kind(),
        row = record.row(),
        why,
        "a record of the store is damaged; it is set aside and the agent goes on without it"
    );
    // Inside a transaction of the caller's this is part of it.
    let own = connection.is_autocommit();
    let own = own.then(|| connection.unchecked_transaction());
    let own = own.transpose().map_err(failed)?;
    connection
        .prepare_cached("INSERT INTO quarantine(kind, place, why, bytes) VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut insert| insert.execute(params![record.kind(), record.row(), why, bytes]))
        .map_err(failed)?;
    match record {
        Record::Answer { epoch, index } => connection.execute(
            "UPDATE outbox SET answer = NULL WHERE epoch = ?1 AND idx = ?2",
            [epoch, index],
        ),
        Record::Block { bucket } => {
            connection.execute("DELETE FROM block WHERE bucket = ?1", [bucket])
        }
        Record::Body { epoch, index } => connection.execute(
            "DELETE FROM body WHERE epoch = ?1 AND idx = ?2",
            [epoch, index],
        ),
        Record::Meta { key } => connection.execute("DELETE FROM meta WHERE key = ?1", [key]),
        Record::Raw { bucket, part } => connection.execute(
            "DELETE FROM raw WHERE bucket = ?1 AND part = ?2",
            [bucket, part],
        ),
        Record::Tick { id } => connection.execute("DELETE FROM tick WHERE id = ?1", [id]),
    }
    .map_err(failed)?;
    own.map_or(Ok(()), rusqlite::Transaction::commit)
        .map_err(failed)
}
