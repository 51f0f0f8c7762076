//! Records that cannot be opened: their bytes are kept, out of the way of everything else.
//!
//! Promises: what is damaged costs itself alone, is told once, counted, and deleted by nothing but the size
//! limit. Refuses: repairing.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::seal::{Record, Sealer};
use super::{Store, StoreError};
use crate::limits::RECORDS_TOLD_MAX;

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
            set_aside(connection, sealer, record, sealed, &error.to_string())?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Moves a record out of its table. A store that is open for reading is left as it is.
pub(super) fn set_aside(
    connection: &Connection,
    sealer: &Sealer,
    record: Record<'_>,
    bytes: &[u8],
    why: &str,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::Write {
        what: "a damaged record",
        source,
    };
    // A data key that is lost takes thousands with it; status counts them all.
    if sealer.tells_of_damage(RECORDS_TOLD_MAX) {
        tracing::error!(
            record = record.kind(),
            row = record.row(),
            why,
            "a record of the store is damaged; it is set aside and the agent goes on without it"
        );
    }
    if !sealer.may_write() {
        return Ok(());
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;
    use crate::store::seal::Record;

    #[tokio::test]
    async fn damaged_records_are_kept_counted_and_out_of_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        store.set_meta("a", "b".to_owned()).await.unwrap();
        store
            .call(|inner| {
                let block = Record::Block { bucket: 3 };
                let mut sealed = inner.sealer.seal(block, b"x").unwrap();
                sealed[20] ^= 1;
                let insert = "INSERT INTO block VALUES (3, ?1)";
                inner.connection.execute(insert, [sealed]).unwrap();
                let damage = "UPDATE meta SET value = x'0100'";
                inner.connection.execute(damage, []).unwrap();
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(store.meta("a").await.unwrap(), None);
        drop(store);
        let lock = std::fs::File::open(directory.path().join("lock")).unwrap();
        lock.lock().unwrap();
        drop(lock);
        // Reading alone changes nothing.
        crate::store::read_windows(directory.path(), &key(1)).unwrap();
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        let found = store.set_aside().await.unwrap();
        let expected = [("block.body", 1), ("meta.value", 1)];
        let expected = expected.map(|(kind, count)| (kind.to_owned(), count));
        assert_eq!(found, SetAside::from(expected));
        assert_eq!(store.count("SELECT count(*) FROM block").await, 0);
        let kept = "SELECT length(bytes) FROM quarantine WHERE kind = 'meta.value' AND place = 'a'";
        assert_eq!(store.count(kept).await, 2);
        store.set_meta("a", "c".to_owned()).await.unwrap();
        assert_eq!(store.meta("a").await.unwrap().as_deref(), Some("c"));
        store.shrink_to(1).await.unwrap();
        assert_eq!(
            store.set_aside().await.unwrap(),
            SetAside::new(),
            "they go first"
        );
    }
}
