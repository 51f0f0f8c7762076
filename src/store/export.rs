//! One state of the store for an evidence bundle: read, never written, while an agent may be at work.
//!
//! Promises: everything comes from the moment of [`Snapshot::open`], whatever is written since. Refuses to
//! judge what it reads.

use std::path::Path;

use cms_attest::leaf::Leaf;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::key::IDENTITY;
use super::ledger::to_sql;
use super::receipts::{COSIGNER, COSIGNER_SUCCESSIONS, LOG_SUCCESSIONS};
use super::seal::{Record, Sealer};
use super::{StoreError, meta, schema};
use crate::seal::StoreKey;

/// The store as it was at one moment.
#[derive(Debug)]
pub struct Snapshot {
    connection: Connection,
    sealer: Sealer,
}

/// A receipt as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReceipt {
    /// How many leaves it covers.
    pub size: u64,
    /// The checkpoint that the agent signed.
    pub note: String,
    /// The dashboard's signature line.
    pub cosignature: String,
}

impl Snapshot {
    /// Opens the store in `directory`.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it has another key.
    pub fn open(directory: &Path, key: &StoreKey) -> Result<Self, StoreError> {
        let (connection, sealer) = schema::open_to_read(&directory.join("store.db"), key)?;
        // The transaction begins with its first read and is given up when the connection closes.
        connection
            .execute_batch("BEGIN; SELECT count(*) FROM epoch;")
            .map_err(read("the ledgers"))?;
        Ok(Self { connection, sealer })
    }

    /// The dashboard's key for receipts, if it gives any.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn cosigner(&self) -> Result<Option<String>, StoreError> {
        let key = meta::get(&self.connection, &self.sealer, COSIGNER)?;
        Ok(key.filter(|key| !key.is_empty()))
    }

    /// How the keys of the ledger and of the dashboard followed on each other, as notes.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn successions(&self) -> Result<Vec<String>, StoreError> {
        let mut all = Vec::new();
        for key in [LOG_SUCCESSIONS, COSIGNER_SUCCESSIONS] {
            let list = meta::get(&self.connection, &self.sealer, key)?.unwrap_or_default();
            // What does not read is as one that was never there: verify says what it misses.
            all.extend(serde_json::from_str::<Vec<String>>(&list).unwrap_or_default());
        }
        Ok(all)
    }

    /// The copy of the agent's identity, sealed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn identity(&self) -> Result<Option<String>, StoreError> {
        meta::get(&self.connection, &self.sealer, IDENTITY)
    }

    /// The epochs of the ledger, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn epochs(&self) -> Result<Vec<u64>, StoreError> {
        let failed = read("the ledgers");
        let mut select = self
            .connection
            .prepare("SELECT epoch FROM epoch ORDER BY epoch")
            .map_err(&failed)?;
        let epochs = select.query_map([], |row| row.get::<_, i64>(0));
        epochs
            .map_err(&failed)?
            .map(|epoch| epoch.map(i64::unsigned_abs).map_err(&failed))
            .collect()
    }

    /// Shows the leaves of an epoch below this index, in order, up to the first one that is missing or damaged:
    /// what stands after a hole proves nothing. Answers how many are left out for that.
    ///
    /// # Errors
    /// When the database cannot be read, or with the first error of `visit`.
    pub fn each_leaf<E: From<StoreError>>(
        &self,
        epoch: u64,
        below: u64,
        mut visit: impl FnMut(u64, String) -> Result<(), E>,
    ) -> Result<u64, E> {
        let failed = read("leaves");
        let mut select = self
            .connection
            .prepare(
                "SELECT idx, record, hash FROM leaf WHERE epoch = ?1 AND idx < ?2 ORDER BY idx",
            )
            .map_err(&failed)?;
        let mut rows = select
            .query([to_sql(epoch), to_sql(below)])
            .map_err(&failed)?;
        let (mut next, mut left_out) = (0, 0);
        while let Some(row) = rows.next().map_err(&failed)? {
            let index = row.get::<_, i64>(0).map_err(&failed)?.unsigned_abs();
            let record: String = row.get(1).map_err(&failed)?;
            let hash: Vec<u8> = row.get(2).map_err(&failed)?;
            let holds = Leaf::hash_of(&record).as_bytes().as_slice() == hash.as_slice();
            if left_out > 0 || index != next || !holds {
                left_out += 1;
                continue;
            }
            next += 1;
            visit(index, record)?;
        }
        Ok(left_out)
    }

    /// The bytes of a submission, if they are still kept.
    ///
    /// # Errors
    /// When the database cannot be read, or the bytes make no sense.
    pub fn body(&self, epoch: u64, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let sealed: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT bytes FROM body WHERE epoch = ?1 AND idx = ?2")
            .and_then(|mut select| {
                let key = [to_sql(epoch), to_sql(index)];
                select.query_row(key, |row| row.get(0)).optional()
            })
            .map_err(read("a body"))?;
        let record = Record::Body {
            epoch: to_sql(epoch),
            index: to_sql(index),
        };
        sealed
            .map(|sealed| self.sealer.open(&self.connection, record, &sealed))
            .transpose()
    }

    /// The keys of the witnesses that have signed something, in order.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn witnesses(&self) -> Result<Vec<String>, StoreError> {
        let failed = read("what witnesses have signed");
        let query = "SELECT EXISTS(SELECT 1 FROM sqlite_master WHERE name = 'cosignature')";
        let there: bool = self
            .connection
            .query_row(query, [], |row| row.get(0))
            .map_err(&failed)?;
        // An agent of before there were witnesses has left this store behind.
        if !there {
            return Ok(Vec::new());
        }
        let mut select = self
            .connection
            .prepare("SELECT DISTINCT cosigner FROM cosignature ORDER BY cosigner")
            .map_err(&failed)?;
        let keys = select.query_map([], |row| row.get(0)).map_err(&failed)?;
        keys.map(|key| key.map_err(&failed)).collect()
    }

    /// The smallest head over more than `size` leaves of an epoch that the witness with this key has signed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn witnessed_above(
        &self,
        epoch: u64,
        witness: &str,
        size: u64,
    ) -> Result<Option<KeptReceipt>, StoreError> {
        self.connection
            .prepare_cached(
                "SELECT size, note, cosignature FROM cosignature
                 WHERE epoch = ?1 AND cosigner = ?2 AND size > ?3 ORDER BY size LIMIT 1",
            )
            .and_then(|mut select| {
                let key = params![to_sql(epoch), witness, to_sql(size)];
                select.query_row(key, kept).optional()
            })
            .map_err(read("what witnesses have signed"))
    }

    /// The smallest receipt over more than `size` leaves of an epoch.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn receipt_above(&self, epoch: u64, size: u64) -> Result<Option<KeptReceipt>, StoreError> {
        self.connection
            .prepare_cached(
                "SELECT size, note, cosignature FROM receipt
                 WHERE epoch = ?1 AND size > ?2 ORDER BY size LIMIT 1",
            )
            .and_then(|mut select| {
                let key = [to_sql(epoch), to_sql(size)];
                select.query_row(key, kept).optional()
            })
            .map_err(read("receipts"))
    }
}

fn kept(row: &Row<'_>) -> rusqlite::Result<KeptReceipt> {
    Ok(KeptReceipt {
        size: row.get::<_, i64>(0)?.unsigned_abs(),
        note: row.get(1)?,
        cosignature: row.get(2)?,
    })
}

fn read(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Read { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;
    use crate::store::{LeafDraft, Moment, Store};
    use cms_attest::leaf::LeafKind;
    use jiff::Timestamp;

    #[tokio::test]
    async fn leaves_after_a_hole_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        let moment = Moment {
            now: Timestamp::from_second(1_772_000_000).unwrap(),
            boot_id: "b".to_owned(),
            boottime_ms: 1,
            api_key_id: None,
        };
        let agent_id = "018f3b1e-7c4a-7d2e-9b1a-5f6e7d8c9b0a".parse().unwrap();
        let company = "acme-corp".parse().unwrap();
        let origin = store
            .origin(company, agent_id, moment.clone())
            .await
            .unwrap();
        let drafts = vec![LeafDraft::event(LeafKind::Clock, "stepped"); 9];
        store
            .append_leaves(origin.clone(), moment, drafts)
            .await
            .unwrap();
        let run = async |sql: &'static str| {
            let done = store.call(move |inner| Ok(inner.connection.execute(sql, []).unwrap()));
            assert_eq!(done.await.unwrap(), 1);
        };
        let shown = || {
            let snapshot = Snapshot::open(directory.path(), &key(1)).unwrap();
            let mut seen = Vec::new();
            let left_out = snapshot.each_leaf(origin.epoch(), u64::MAX, |index, _| {
                seen.push(index);
                Ok::<_, StoreError>(())
            });
            (seen, left_out.unwrap())
        };
        run("UPDATE leaf SET record = record || ' ' WHERE idx = 6").await;
        assert_eq!(shown(), (vec![0, 1, 2, 3, 4, 5], 3));
        run("DELETE FROM leaf WHERE idx = 2").await;
        assert_eq!(shown(), (vec![0, 1], 6));
    }

    #[tokio::test]
    async fn what_is_written_later_is_not_seen() {
        let directory = tempfile::tempdir().unwrap();
        assert!(
            Snapshot::open(directory.path(), &key(1)).is_err(),
            "nothing is made"
        );
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        let moment = Moment {
            now: Timestamp::from_second(1_772_000_000).unwrap(),
            boot_id: "b".to_owned(),
            boottime_ms: 1,
            api_key_id: None,
        };
        let agent_id = "018f3b1e-7c4a-7d2e-9b1a-5f6e7d8c9b0a".parse().unwrap();
        let company = "acme-corp".parse().unwrap();
        let origin = store
            .origin(company, agent_id, moment.clone())
            .await
            .unwrap();
        let append = |count| {
            let drafts = vec![LeafDraft::event(LeafKind::Clock, "stepped"); count];
            store.append_leaves(origin.clone(), moment.clone(), drafts)
        };
        append(3).await.unwrap();
        let snapshot = Snapshot::open(directory.path(), &key(1)).unwrap();
        append(2).await.unwrap();
        let mut seen = Vec::new();
        snapshot
            .each_leaf(origin.epoch(), u64::MAX, |index, _| {
                seen.push(index);
                Ok::<_, StoreError>(())
            })
            .unwrap();
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(snapshot.epochs().unwrap(), [origin.epoch()]);
        assert_eq!(snapshot.receipt_above(origin.epoch(), 0).unwrap(), None);
        assert_eq!(snapshot.body(origin.epoch(), 0).unwrap(), None);
        assert_eq!(snapshot.cosigner().unwrap(), None);
    }
}
