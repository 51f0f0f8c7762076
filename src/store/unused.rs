//! Data keys that seal no record any more are removed: what they sealed cannot come back from a copy of the file.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::seal::data_key_of;
use super::{Inner, Store, StoreError};

/// Rows looked at in one step, between which the store does other work.
const STEP_ROWS: u32 = 256;

/// The sealed columns, each with the two columns that its rows are ordered by.
const COLUMNS: [(&str, &str, &str, &str); 5] = [
    ("tick", "id", "id", "body"),
    ("raw", "bucket", "part", "body"),
    ("block", "bucket", "bucket", "body"),
    ("body", "epoch", "idx", "bytes"),
    ("outbox", "epoch", "idx", "answer"),
];

/// A row's two keys.
type Place = (i64, i64);

impl Store {
    /// Removes the data keys that seal nothing any more. Answers how many.
    ///
    /// Between the steps records are sealed with the newest data key only, which stays.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn remove_unused_data_keys(&self) -> Result<usize, StoreError> {
        let mut unused = self.call(|inner| inner.older_data_keys()).await?;
        for column in 0..COLUMNS.len() {
            let mut after = Some((i64::MIN, i64::MIN));
            while let (Some(place), false) = (after, unused.is_empty()) {
                let (used, next) = self
                    .call(move |inner| used_by(&inner.connection, column, place))
                    .await?;
                unused.retain(|id| !used.contains(id));
                after = next;
            }
        }
        if unused.is_empty() {
            return Ok(0);
        }
        self.call(move |inner| inner.remove_data_keys(&unused))
            .await
    }
}

impl Inner {
    /// The data keys but the newest, and those of `meta`, which is small.
    fn older_data_keys(&self) -> Result<BTreeSet<u32>, StoreError> {
        let numbers = |query: &str| -> rusqlite::Result<Vec<u32>> {
            let mut select = self.connection.prepare(query)?;
            select.query_map([], |row| row.get(0))?.collect()
        };
        let heads = |query: &str| -> rusqlite::Result<Vec<Vec<u8>>> {
            let mut select = self.connection.prepare(query)?;
            select.query_map([], |row| row.get(0))?.collect()
        };
        let mut older: BTreeSet<u32> = numbers("SELECT id FROM dek UNION SELECT id FROM dek_spare")
            .map_err(cannot_look)?
            .into_iter()
            .filter(|id| Some(*id) != self.sealer.current())
            .collect();
        let held = heads("SELECT substr(value, 1, 5) FROM meta").map_err(cannot_look)?;
        for head in held {
            older.retain(|id| Some(*id) != data_key_of(&head));
        }
        Ok(older)
    }

    fn remove_data_keys(&mut self, unused: &BTreeSet<u32>) -> Result<usize, StoreError> {
        let failed = |source| StoreError::Write {
            what: "the removal of data keys",
            source,
        };
        let transaction = self.connection.transaction().map_err(failed)?;
        for id in unused {
            for delete in [
                "DELETE FROM dek WHERE id = ?1",
                "DELETE FROM dek_spare WHERE id = ?1",
            ] {
                transaction.execute(delete, [id]).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)?;
        Ok(unused.len())
    }
}

/// The data keys of the next rows, and where to go on if there are more.
fn used_by(
    connection: &Connection,
    column: usize,
    after: Place,
) -> Result<(BTreeSet<u32>, Option<Place>), StoreError> {
    let Some((table, first, second, content)) = COLUMNS.get(column) else {
        return Ok((BTreeSet::new(), None));
    };
    let query = format!(
        "SELECT {first}, {second}, substr({content}, 1, 5) FROM {table}
         WHERE ({first}, {second}) > (?1, ?2) ORDER BY {first}, {second} LIMIT ?3"
    );
    let rows: Vec<(Place, Option<Vec<u8>>)> = connection
        .prepare_cached(&query)
        .and_then(|mut select| {
            select
                .query_map(params![after.0, after.1, STEP_ROWS], |row| {
                    Ok(((row.get(0)?, row.get(1)?), row.get(2)?))
                })?
                .collect()
        })
        .map_err(cannot_look)?;
    let used = rows
        .iter()
        .filter_map(|(_, head)| data_key_of(head.as_ref()?))
        .collect();
    Ok((used, rows.last().map(|(place, _)| *place)))
}

fn cannot_look(source: rusqlite::Error) -> StoreError {
    StoreError::Read {
        what: "which data keys are in use",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;
    use crate::store::seal::Record;

    /// Opens the store, seals one record of a kind, and closes it again.
    async fn generation(path: &std::path::Path, insert: &'static str, record: Record<'static>) {
        let store = Store::open(path, &key(1)).await.unwrap();
        store
            .call(move |inner| {
                let content = match record {
                    Record::Block { bucket } => inner.windows.block(bucket),
                    _ => b"x".to_vec(),
                };
                let sealed = inner.sealer.seal(record, &content).unwrap();
                inner.connection.execute(insert, [sealed]).unwrap();
                Ok(())
            })
            .await
            .unwrap();
        drop(store);
        let lock = std::fs::File::open(path.join("lock")).unwrap();
        lock.lock().unwrap();
    }

    #[tokio::test]
    async fn a_data_key_stays_as_long_as_it_seals_anything_anywhere() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let index = 2;
        let records = [
            (
                "INSERT INTO meta VALUES ('a', ?1)",
                Record::Meta { key: "a" },
            ),
            (
                "INSERT INTO tick VALUES (700, 1, ?1)",
                Record::Tick { id: 700 },
            ),
            (
                "INSERT INTO raw VALUES (1, 2, 3, ?1)",
                Record::Raw { bucket: 1, part: 2 },
            ),
            (
                "INSERT INTO block VALUES (-5, ?1)",
                Record::Block { bucket: -5 },
            ),
            (
                "INSERT INTO body VALUES (1, 2, ?1)",
                Record::Body { epoch: 1, index },
            ),
            (
                "INSERT INTO outbox VALUES (1, 2, 'dark-data', 0, 0, 'rejected', 0, 0, ?1)",
                Record::Answer { epoch: 1, index },
            ),
        ];
        for (insert, record) in records {
            generation(path, insert, record).await;
        }
        let store = Store::open(path, &key(1)).await.unwrap();
        let data_keys = "SELECT count(*) FROM dek WHERE id IN (SELECT id FROM dek_spare)";
        assert_eq!(store.remove_unused_data_keys().await.unwrap(), 0);
        assert_eq!(store.count(data_keys).await, 7);
        for (removed, delete) in ["meta", "tick", "raw", "block", "body", "outbox"]
            .iter()
            .enumerate()
        {
            let delete = format!("DELETE FROM {delete}");
            store
                .call(move |inner| {
                    inner.connection.execute(&delete, []).unwrap();
                    Ok(())
                })
                .await
                .unwrap();
            assert_eq!(store.remove_unused_data_keys().await.unwrap(), 1);
            assert_eq!(
                store.count(data_keys).await,
                6 - i64::try_from(removed).unwrap()
            );
        }
        store.set_meta("b", "c".to_owned()).await.unwrap();
        assert_eq!(store.meta("b").await.unwrap().as_deref(), Some("c"));
    }

    #[tokio::test]
    async fn all_rows_of_a_long_table_are_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        generation(
            directory.path(),
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
             INSERT INTO raw SELECT n, 0, 1, CASE n WHEN 999 THEN ?1 ELSE x'0100000000' END FROM n",
            Record::Raw {
                bucket: 999,
                part: 0,
            },
        )
        .await;
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        assert_eq!(store.remove_unused_data_keys().await.unwrap(), 0);
    }
}
