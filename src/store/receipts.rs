//! Receipts: which heads of the ledger the dashboard has countersigned.
//!
//! A head is offered together with the proof that it continues the one receipted before; what the dashboard
//! signs of it is kept beside it. From then on neither side can change, reorder or drop what is below that head
//! unnoticed. After a doubt about a ledger a new epoch begins; a signed log is never repaired.

use std::ops::Range;

use cms_attest::checkpoint::{Checkpoint, Receipt};
use cms_attest::leaf::LeafKind;
use cms_attest::merkle::{Frontier, Head, consistency_proof};
use cms_attest::{Digest, Origin};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::ledger::{self, LeafDraft, Moment, from_ms, to_sql};
use super::{Store, StoreError};

/// Where `meta` holds the dashboard's key that was pinned at enrolment.
pub const COSIGNER: &str = "cosigner";

/// Where `meta` holds how the dashboard's keys followed on each other, as a JSON list of notes.
pub const COSIGNER_SUCCESSIONS: &str = "cosigner_successions";

/// Where `meta` holds how the ledger's keys followed on each other, as a JSON list of notes.
pub const LOG_SUCCESSIONS: &str = "log_successions";

/// The newest head of a log and the proof that it continues an older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The head.
    pub checkpoint: Checkpoint,
    /// The size that the proof begins at.
    pub old: u64,
    /// The consistency proof between the two.
    pub proof: Vec<Digest>,
}

/// A receipt as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReceiptRow {
    /// The epoch of the log.
    pub epoch: u64,
    /// How many leaves the receipted head covers.
    pub size: u64,
    /// How many leaves the log has now.
    pub leaves: u64,
    /// When the dashboard signed, by its clock.
    pub at: Timestamp,
}

impl Store {
    /// The newest head of a log with the proof from `old`, or from the newest receipt where `old` is not given.
    /// Nothing when there is no leaf beyond it.
    ///
    /// # Errors
    /// When the database cannot be read, or a leaf is missing.
    pub async fn offer(
        &self,
        origin: Origin,
        old: Option<u64>,
    ) -> Result<Option<Offer>, StoreError> {
        self.call(move |inner| {
            inner.refuse_in_doubt(&origin)?;
            let connection = &inner.connection;
            let epoch = origin.epoch();
            let size = leaves(connection, epoch)?;
            // Asked from a size, also the same head is offered again: its receipt may have been lost.
            let old = match old {
                Some(old) if old <= size => old,
                Some(_) => return Ok(None),
                None => match receipted_size(connection, epoch)? {
                    receipted if receipted < size => receipted,
                    _ => return Ok(None),
                },
            };
            let root = subtree(connection, epoch, 0..size)?;
            let proof = consistency_proof(old, size, |range| subtree(connection, epoch, range))?;
            let checkpoint = Checkpoint {
                origin,
                head: Head { size, root },
            };
            Ok(Some(Offer {
                checkpoint,
                old,
                proof,
            }))
        })
        .await
    }

    /// How many leaves a log has.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn ledger_size(&self, origin: &Origin) -> Result<u64, StoreError> {
        let epoch = origin.epoch();
        self.call(move |inner| leaves(&inner.connection, epoch))
            .await
    }

    /// Keeps a receipt, and marks the submissions that it covers, in one transaction.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn keep_receipt(&self, receipt: Receipt, note: String) -> Result<(), StoreError> {
        self.call(move |inner| {
            let failed = |source| StoreError::Write { what: "a receipt", source };
            let Checkpoint { origin, head } = receipt.checkpoint();
            let (epoch, size) = (to_sql(origin.epoch()), to_sql(head.size));
            let transaction = inner.connection.transaction().map_err(failed)?;
            transaction
                .execute(
                    "INSERT OR REPLACE INTO receipt(epoch, size, root, note, cosignature, at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![
                        epoch,
                        size,
                        head.root.as_bytes().as_slice(),
                        note,
                        receipt.line(),
                        receipt.time().as_millisecond()
                    ],
                )
                .map_err(failed)?;
            transaction
                .execute(
                    "UPDATE outbox SET state = 'receipted' WHERE state = 'accepted' AND epoch = ?1 AND idx < ?2",
                    [epoch, size],
                )
                .map_err(failed)?;
            transaction.commit().map_err(failed)
        })
        .await
    }

    /// The newest receipt of the newest epoch that has one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn newest_receipt(&self) -> Result<Option<ReceiptRow>, StoreError> {
        self.call(|inner| {
            let read =
                |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?));
            let query =
                "SELECT epoch, size, at FROM receipt ORDER BY epoch DESC, size DESC LIMIT 1";
            let found = inner
                .connection
                .prepare_cached(query)
                .and_then(|mut select| select.query_row([], read).optional())
                .map_err(|source| StoreError::Read {
                    what: "the newest receipt",
                    source,
                })?;
            let Some((epoch, size, at)) = found else {
                return Ok(None);
            };
            let epoch = epoch.unsigned_abs();
            Ok(Some(ReceiptRow {
                epoch,
                size: size.unsigned_abs(),
                leaves: leaves(&inner.connection, epoch)?,
                at: from_ms(at)?,
            }))
        })
        .await
    }

    /// Begins a new ledger after a doubt about the old one. Its first leaf names the old one's last receipt.
    ///
    /// # Errors
    /// When the database cannot be written; then the old ledger stays in use.
    pub async fn begin_epoch(
        &self,
        doubted: Origin,
        moment: Moment,
        reason: String,
    ) -> Result<Origin, StoreError> {
        self.call(move |inner| {
            let failed = |source| StoreError::Write {
                what: "a new epoch",
                source,
            };
            let size = receipted_size(&inner.connection, doubted.epoch())?;
            let epoch = u64::try_from(moment.now.as_millisecond())
                .unwrap_or(0)
                .max(doubted.epoch() + 1);
            let origin = Origin::new(doubted.company().clone(), doubted.agent_id().clone(), epoch);
            let note = format!(
                "after epoch {}, receipted to size {size}: {reason}",
                doubted.epoch()
            );
            let transaction = inner.connection.transaction().map_err(failed)?;
            transaction
                .execute(
                    "INSERT INTO epoch(epoch, origin) VALUES (?1, ?2)",
                    params![to_sql(epoch), origin.to_string()],
                )
                .map_err(failed)?;
            ledger::append(
                &transaction,
                &origin,
                &moment,
                LeafDraft::event(LeafKind::Start, &note),
            )?;
            transaction.commit().map_err(failed)?;
            Ok(origin)
        })
        .await
    }
}

/// How many leaves a log has.
pub(super) fn leaves(connection: &Connection, epoch: u64) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT coalesce(max(idx) + 1, 0) FROM leaf WHERE epoch = ?1")
        .and_then(|mut select| select.query_row([to_sql(epoch)], |row| row.get::<_, i64>(0)))
        .map(i64::unsigned_abs)
        .map_err(|source| StoreError::Read {
            what: "the ledger's size",
            source,
        })
}

fn receipted_size(connection: &Connection, epoch: u64) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT coalesce(max(size), 0) FROM receipt WHERE epoch = ?1")
        .and_then(|mut select| select.query_row([to_sql(epoch)], |row| row.get::<_, i64>(0)))
        .map(i64::unsigned_abs)
        .map_err(|source| StoreError::Read {
            what: "the newest receipt",
            source,
        })
}

/// The root over these leaves. A hole is an error: a head over it could never be proven again.
fn subtree(connection: &Connection, epoch: u64, range: Range<u64>) -> Result<Digest, StoreError> {
    let failed = |source| StoreError::Read {
        what: "leaf hashes",
        source,
    };
    let mut select = connection
        .prepare_cached(
            "SELECT hash FROM leaf WHERE epoch = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
        )
        .map_err(failed)?;
    let mut rows = select
        .query([to_sql(epoch), to_sql(range.start), to_sql(range.end)])
        .map_err(failed)?;
    let mut frontier = Frontier::default();
    while let Some(row) = rows.next().map_err(failed)? {
        frontier.append(Digest::from_bytes(row.get(0).map_err(failed)?));
    }
    if frontier.size() == range.end - range.start {
        return Ok(frontier.root());
    }
    Err(StoreError::Decode {
        what: "the ledger",
        found: format!(
            "leaves are missing between {} and {}",
            range.start, range.end
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;
    use cms_attest::SigningKey;
    use cms_attest::checkpoint::{Cosigner, verify_cosignature};
    use cms_attest::merkle::verify_consistency;

    fn moment(second: i64) -> Moment {
        Moment {
            now: Timestamp::from_second(second).unwrap(),
            boot_id: "boot".to_owned(),
            boottime_ms: 0,
            api_key_id: None,
        }
    }

    async fn store_with_leaves(directory: &std::path::Path, count: usize) -> (Store, Origin) {
        let store = Store::open(directory, &key(1)).await.unwrap();
        let agent_id = "018f3b1e-7c4a-7d2e-9b1a-5f6e7d8c9b0a".parse().unwrap();
        let company = "acme-corp".parse().unwrap();
        let origin = store.origin(company, agent_id, moment(1)).await.unwrap();
        let drafts = vec![LeafDraft::event(LeafKind::Clock, "stepped"); count];
        store
            .append_leaves(origin.clone(), moment(2), drafts)
            .await
            .unwrap();
        (store, origin)
    }

    fn receipt(offer: &Offer) -> Receipt {
        let cosigner = Cosigner::new(
            "dash".parse().unwrap(),
            SigningKey::from_seed(&[9; 32]).unwrap(),
        );
        let line = cosigner.cosign(&offer.checkpoint, moment(100).now);
        verify_cosignature(&line, &offer.checkpoint, &cosigner.published()).unwrap()
    }

    #[tokio::test]
    async fn each_offer_continues_what_was_receipted() {
        let directory = tempfile::tempdir().unwrap();
        let (store, origin) = store_with_leaves(directory.path(), 5).await;
        let first = store.offer(origin.clone(), None).await.unwrap().unwrap();
        assert_eq!(
            (first.old, first.checkpoint.head.size, first.proof.len()),
            (0, 5, 0)
        );
        store
            .keep_receipt(receipt(&first), "note".to_owned())
            .await
            .unwrap();
        assert_eq!(
            store.offer(origin.clone(), None).await.unwrap(),
            None,
            "there is nothing new"
        );
        let drafts = vec![LeafDraft::event(LeafKind::Clock, "again"); 4];
        store
            .append_leaves(origin.clone(), moment(3), drafts)
            .await
            .unwrap();
        let second = store.offer(origin.clone(), None).await.unwrap().unwrap();
        assert_eq!(second.old, 5);
        verify_consistency(
            &first.checkpoint.head,
            &second.checkpoint.head,
            &second.proof,
        )
        .unwrap();
        let resynced = store.offer(origin, Some(3)).await.unwrap().unwrap();
        assert_eq!(
            (resynced.old, resynced.checkpoint.head),
            (3, second.checkpoint.head)
        );
        let again = store
            .offer(second.checkpoint.origin.clone(), Some(9))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (again.checkpoint.head.size, again.proof.len()),
            (9, 0),
            "a lost receipt is asked for again"
        );
        let newest = store.newest_receipt().await.unwrap().unwrap();
        assert_eq!((newest.size, newest.leaves), (5, 9));
    }

    #[tokio::test]
    async fn a_new_epoch_names_the_old_one_and_is_used_from_then_on() {
        let directory = tempfile::tempdir().unwrap();
        let (store, origin) = store_with_leaves(directory.path(), 3).await;
        let offer = store.offer(origin.clone(), None).await.unwrap().unwrap();
        store
            .keep_receipt(receipt(&offer), "note".to_owned())
            .await
            .unwrap();
        let new = store
            .begin_epoch(origin.clone(), moment(9), "a fork".to_owned())
            .await
            .unwrap();
        assert!(new.epoch() > origin.epoch());
        let used = store
            .origin(
                origin.company().clone(),
                origin.agent_id().clone(),
                moment(10),
            )
            .await
            .unwrap();
        assert_eq!(used, new);
        let record: String = store
            .call(move |inner| {
                inner
                    .connection
                    .query_row(
                        "SELECT record FROM leaf ORDER BY epoch DESC LIMIT 1",
                        [],
                        |row| row.get(0),
                    )
                    .map_err(|source| StoreError::Read {
                        what: "a leaf",
                        source,
                    })
            })
            .await
            .unwrap();
        assert!(record.contains(&format!(
            "after epoch {}, receipted to size 3: a fork",
            origin.epoch()
        )));
    }

    #[tokio::test]
    async fn a_hole_in_the_ledger_is_never_signed_over() {
        let directory = tempfile::tempdir().unwrap();
        let (store, origin) = store_with_leaves(directory.path(), 4).await;
        store
            .call(|inner| {
                inner
                    .connection
                    .execute("DELETE FROM leaf WHERE idx = 1", [])
                    .map(drop)
                    .map_err(|source| StoreError::Write {
                        what: "a hole",
                        source,
                    })
            })
            .await
            .unwrap();
        assert!(matches!(
            store.offer(origin, None).await,
            Err(StoreError::Decode { .. })
        ));
    }
}
