//! What `status` shows of the outbox.

use cms_spec::{Category, Slot};
use rusqlite::{Connection, Row};

use super::super::ledger::from_ms;
use super::super::quarantine::open_or_set_aside;
use super::super::seal::Record;
use super::super::{Inner, Store, StoreError};
use super::parse_category;

/// How many submissions are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OutboxCounts {
    /// To be sent, or sent again.
    pub pending: u64,
    /// Taken by the dashboard.
    pub accepted: u64,
    /// Taken, and covered by a head of the ledger that the dashboard has countersigned.
    pub receipted: u64,
    /// Not wanted any more by a dashboard that takes no backfill.
    #[serde(default)]
    pub superseded: u64,
    /// Refused for good.
    pub rejected: u64,
}

/// A submission as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubmissionRow {
    /// Its category.
    pub category: Category,
    /// The slot that it closes.
    pub slot: Slot,
    /// Its leaf's index.
    pub index: u64,
    /// pending, in_flight, accepted, receipted, superseded or rejected.
    pub state: String,
    /// How often it was sent.
    pub attempts: u64,
    /// What the dashboard or the network answered last.
    pub answer: Option<String>,
}

impl Store {
    /// How many submissions are in each state.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn outbox_counts(&self) -> Result<OutboxCounts, StoreError> {
        self.call(|inner| counts(&inner.connection)).await
    }

    /// The newest submissions, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn recent_submissions(
        &self,
        rows_max: u32,
    ) -> Result<Vec<SubmissionRow>, StoreError> {
        self.call(move |inner| inner.recent(rows_max)).await
    }
}

impl Inner {
    fn recent(&self, rows_max: u32) -> Result<Vec<SubmissionRow>, StoreError> {
        let failed = |source| StoreError::Read {
            what: "recent submissions",
            source,
        };
        let read = |row: &Row<'_>| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, String>(4)?,
                row.get::<_, i64>(5)?,
                row.get::<_, Option<Vec<u8>>>(6)?,
                row.get::<_, i64>(7)?,
            ))
        };
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT category, slot_start, slot_end, idx, state, attempts, answer, epoch FROM outbox
                 ORDER BY epoch DESC, idx DESC LIMIT ?1",
            )
            .map_err(failed)?;
        let rows = select
            .query_map([rows_max], read)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(failed)?;
        let rows = rows.into_iter();
        rows.map(
            |(category, start, end, index, state, attempts, answer, epoch)| {
                let record = Record::Answer { epoch, index };
                let open = |sealed: Vec<u8>| {
                    open_or_set_aside(&self.connection, &self.sealer, record, &sealed)
                };
                let answer = answer.map(open).transpose()?.flatten();
                let answer = answer.map(|answer| String::from_utf8_lossy(&answer).into_owned());
                Ok(SubmissionRow {
                    category: parse_category(&category)?,
                    slot: Slot {
                        start: from_ms(start)?,
                        end: from_ms(end)?,
                    },
                    index: index.unsigned_abs(),
                    state,
                    attempts: attempts.unsigned_abs(),
                    answer,
                })
            },
        )
        .collect()
    }
}

fn counts(connection: &Connection) -> Result<OutboxCounts, StoreError> {
    let failed = |source| StoreError::Read {
        what: "the outbox",
        source,
    };
    let mut select = connection
        .prepare_cached("SELECT state, count(*) FROM outbox GROUP BY state")
        .map_err(failed)?;
    let mut rows = select.query([]).map_err(failed)?;
    let mut counts = OutboxCounts::default();
    while let Some(row) = rows.next().map_err(failed)? {
        let count = row.get::<_, i64>(1).map_err(failed)?.unsigned_abs();
        match row.get::<_, String>(0).map_err(failed)?.as_str() {
            "accepted" => counts.accepted += count,
            "receipted" => counts.receipted += count,
            "superseded" => counts.superseded += count,
            "rejected" => counts.rejected += count,
            _ => counts.pending += count,
        }
    }
    Ok(counts)
}
