//! Retention: what is removed when it is old, and what is removed first when the store is too large.
//!
//! By age go samples, window blocks and the bodies of accepted and superseded submissions. By size, when the
//! store is above its limit: first the oldest bodies of receipted submissions, then of accepted ones, then the
//! oldest samples; before all of them what cannot be read any more. Leaves, the states of the outbox and
//! everything that was not accepted yet are never removed. A data key goes once it seals nothing.

use cms_spec::windows::BUCKET;
use jiff::Timestamp;
use rusqlite::Connection;

use super::{Inner, Store, StoreError};

/// Rows removed in one step when the store is too large: a step is a short transaction.
const STEP_ROWS: i64 = 256;

/// Steps between which the store does other work, such as keeping a sample.
const STEPS_IN_A_ROW: usize = 4;

/// Pages given back to the file system in one step; SQLite keeps the rest for itself until the next one.
const VACUUM_PAGES: i64 = 4096;

/// How many rows were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Bodies of accepted submissions.
    pub bodies: usize,
    /// Quarters of an hour of raw samples.
    pub samples: usize,
}

impl Store {
    /// Removes what belongs to times before `keep_from`.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn remove_before(&self, keep_from: Timestamp) -> Result<Removed, StoreError> {
        self.call(move |inner| inner.remove_before(keep_from)).await
    }

    /// Removes the oldest of what may go until the content takes at most `bytes_max`.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn shrink_to(&self, bytes_max: u64) -> Result<Removed, StoreError> {
        let mut removed = Removed::default();
        loop {
            let step = self.call(move |inner| inner.shrink_to(bytes_max)).await?;
            if step == Removed::default() {
                return Ok(removed);
            }
            removed.bodies += step.bodies;
            removed.samples += step.samples;
        }
    }
}

impl Inner {
    fn remove_before(&mut self, keep_from: Timestamp) -> Result<Removed, StoreError> {
        let bucket = BUCKET.slot_at(keep_from).number(BUCKET);
        let transaction = self.connection.transaction().map_err(failed)?;
        let samples = transaction
            .execute("DELETE FROM raw WHERE bucket < ?1", [bucket])
            .map_err(failed)?;
        transaction
            .execute("DELETE FROM block WHERE bucket < ?1", [bucket])
            .map_err(failed)?;
        let bodies = transaction
            .execute(
                "DELETE FROM body WHERE (epoch, idx) IN
                 (SELECT epoch, idx FROM outbox WHERE state IN ('accepted', 'receipted', 'superseded') AND slot_end < ?1)",
                [keep_from.as_millisecond()],
            )
            .map_err(failed)?;
        transaction
            .execute(
                "UPDATE outbox SET answer = NULL WHERE answer IS NOT NULL
                 AND state IN ('accepted', 'receipted', 'superseded') AND slot_end < ?1",
                [keep_from.as_millisecond()],
            )
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        give_back(&self.connection)?;
        Ok(Removed { bodies, samples })
    }

    fn shrink_to(&mut self, bytes_max: u64) -> Result<Removed, StoreError> {
        let mut removed = Removed::default();
        for _ in 0..STEPS_IN_A_ROW {
            if content_bytes(&self.connection)? <= bytes_max {
                break;
            }
            let unreadable = self.remove_step(
                "DELETE FROM quarantine WHERE id IN (SELECT id FROM quarantine ORDER BY id LIMIT ?1)",
            )?;
            if unreadable > 0 {
                continue;
            }
            let bodies = self.remove_step(
                "DELETE FROM body WHERE (epoch, idx) IN
                 (SELECT epoch, idx FROM outbox JOIN body USING (epoch, idx)
                  WHERE state IN ('accepted', 'receipted') ORDER BY state = 'accepted', slot_end LIMIT ?1)",
            )?;
            let samples = if bodies > 0 {
                0
            } else {
                self.remove_step(
                    "DELETE FROM raw WHERE (bucket, part) IN
                     (SELECT bucket, part FROM raw ORDER BY bucket, part LIMIT ?1)",
                )?
            };
            if bodies + samples == 0 {
                break;
            }
            removed.bodies += bodies;
            removed.samples += samples;
        }
        give_back(&self.connection)?;
        Ok(removed)
    }

    fn remove_step(&self, delete: &str) -> Result<usize, StoreError> {
        self.connection.execute(delete, [STEP_ROWS]).map_err(failed)
    }
}

/// Bytes of all pages that hold something.
fn content_bytes(connection: &Connection) -> Result<u64, StoreError> {
    let read = |pragma: &str| {
        connection
            .query_row(pragma, [], |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
            .map_err(|source| StoreError::Read {
                what: "the store's size",
                source,
            })
    };
    let used = read("PRAGMA page_count")?.saturating_sub(read("PRAGMA freelist_count")?);
    Ok(used.saturating_mul(read("PRAGMA page_size")?))
}

fn give_back(connection: &Connection) -> Result<(), StoreError> {
    connection
        .execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))
        .map_err(failed)
}

fn failed(source: rusqlite::Error) -> StoreError {
    StoreError::Write {
        what: "the retention",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;

    async fn store_with_rows(directory: &std::path::Path) -> Store {
        let store = Store::open(directory, &key(1)).await.unwrap();
        store
            .call(|inner| {
                for index in 0..40_i64 {
                    let state = if index % 4 == 0 { "pending" } else { "accepted" };
                    let body = vec![u8::try_from(index).unwrap(); 50_000];
                    inner.connection.execute(
                        "INSERT INTO outbox(epoch, idx, category, slot_start, slot_end, state, updated_at)
                         VALUES (1, ?1, 'dark-data', ?1, ?1, ?2, 0)",
                        rusqlite::params![index, state],
                    ).map_err(failed)?;
                    inner.connection.execute("INSERT INTO body VALUES (1, ?1, ?2)", rusqlite::params![index, body]).map_err(failed)?;
                    inner.connection.execute("INSERT INTO raw VALUES (?1, 0, 1, ?2)", rusqlite::params![index, body]).map_err(failed)?;
                }
                Ok(())
            })
            .await
            .unwrap();
        store
    }

    #[tokio::test]
    async fn a_store_above_its_limit_loses_what_was_accepted_first_and_never_what_waits() {
        let directory = tempfile::tempdir().unwrap();
        let store = store_with_rows(directory.path()).await;
        let before = store.size_bytes();
        let removed = store.shrink_to(600_000).await.unwrap();
        assert_eq!(
            removed,
            Removed {
                bodies: 30,
                samples: 40
            }
        );
        assert_eq!(store.count("SELECT count(*) FROM body").await, 10);
        assert_eq!(
            store.count("SELECT count(*) FROM body JOIN outbox USING (epoch, idx) WHERE state = 'pending'")
            .await,
            10
        );
        assert_eq!(store.count("SELECT count(*) FROM outbox").await, 40);
        assert!(store.size_bytes() <= before + 4 * 1024 * 1024);
    }

    #[tokio::test]
    async fn a_store_below_its_limit_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = store_with_rows(directory.path()).await;
        assert_eq!(
            store.shrink_to(100_000_000).await.unwrap(),
            Removed::default()
        );
    }

    #[tokio::test]
    async fn old_things_go_by_age() {
        let directory = tempfile::tempdir().unwrap();
        let store = store_with_rows(directory.path()).await;
        let keep_from = Timestamp::from_second(20 * 900).unwrap();
        let removed = store.remove_before(keep_from).await.unwrap();
        assert_eq!(
            removed,
            Removed {
                bodies: 30,
                samples: 20
            }
        );
    }
}
