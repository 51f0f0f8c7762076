//! What was damaged so far: a row for each time something was set aside, and whether the ledger has told of it.
//!
//! A row is written in the transaction of the salvage that it speaks of. Until its epoch has begun, nothing is
//! added to the ledgers from before, and none of their heads is signed.

use cms_attest::Origin;
use cms_attest::leaf::{LeafKind, Note};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::quarantine::Quarantine;
use crate::store::ledger::{self, LeafDraft, Moment, from_ms, to_sql};
use crate::store::{Inner, Store, StoreError};

/// The table; it is made wherever it is missing, since it changes nothing that a store holds.
pub(in crate::store) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS damage(number INTEGER PRIMARY KEY, at INTEGER NOT NULL, reason TEXT NOT NULL,
    outcome TEXT NOT NULL, directory TEXT NOT NULL, after_epoch INTEGER NOT NULL, receipted INTEGER NOT NULL,
    is_told INTEGER NOT NULL);
";

/// What `status` shows of damage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// How often something was set aside since the store was first made.
    pub count: u64,
    /// When it last was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// Why, and what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// How many quarantines there are.
    pub quarantines: u64,
    /// Bytes in them.
    pub quarantined_bytes: u64,
}

/// One damage, as it enters the history.
pub(super) struct Entry<'a> {
    pub(super) at: Timestamp,
    pub(super) reason: &'a str,
    pub(super) outcome: &'a str,
    pub(super) directory: &'a str,
    /// The newest epoch that is known to have been begun; zero when none is.
    pub(super) after_epoch: u64,
    /// How many there are at least, this one included: the history may have been lost itself.
    pub(super) number: u64,
}

/// A damage that the ledger has not told of yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Doubt {
    number: i64,
    /// The newest epoch that is in doubt.
    pub(in crate::store) epoch: u64,
    words: String,
}

/// Writes an entry.
pub(super) fn write(new: &Transaction<'_>, entry: &Entry<'_>) -> Result<(), StoreError> {
    let failed = |source| StoreError::Write {
        what: "the history of damage",
        source,
    };
    let newest: i64 = new
        .query_row("SELECT coalesce(max(epoch), 0) FROM epoch", [], |row| {
            row.get(0)
        })
        .map_err(failed)?;
    let after_epoch = newest.max(to_sql(entry.after_epoch));
    new.execute(
        "INSERT INTO damage(number, at, reason, outcome, directory, after_epoch, receipted, is_told)
         SELECT max(?6, (SELECT coalesce(max(number), 0) + 1 FROM damage)), ?1, ?2, ?3, ?4, ?5,
         coalesce(max(size), 0), 0 FROM receipt WHERE epoch = ?5",
        params![
            entry.at.as_millisecond(),
            entry.reason,
            entry.outcome,
            entry.directory,
            after_epoch,
            to_sql(entry.number)
        ],
    )
    .map(drop)
    .map_err(failed)
}

/// What became of a quarantine whose salvage has been committed.
pub(super) fn outcome(
    connection: &Connection,
    directory: &str,
) -> Result<Option<String>, StoreError> {
    connection
        .query_row(
            "SELECT outcome FROM damage WHERE directory = ?1",
            [directory],
            |row| row.get(0),
        )
        .optional()
        .map_err(read)
}

/// The newest damage that the ledger has not told of.
pub(in crate::store) fn doubt(connection: &Connection) -> Result<Option<Doubt>, StoreError> {
    let query = "SELECT number, after_epoch, receipted, reason, outcome, directory,
                 (SELECT count(*) FROM damage WHERE is_told = 0) FROM damage
                 WHERE is_told = 0 ORDER BY number DESC LIMIT 1";
    connection
        .prepare_cached(query)
        .and_then(|mut select| select.query_row([], as_doubt).optional())
        .map_err(read)
}

fn as_doubt(row: &Row<'_>) -> rusqlite::Result<Doubt> {
    let (number, epoch, receipted) = (row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
    let (reason, outcome): (String, String) = (row.get(3)?, row.get(4)?);
    let (directory, times): (String, i64) = (row.get(5)?, row.get(6)?);
    let begins = match epoch {
        0 => "no earlier epoch is known".to_owned(),
        _ => format!("after epoch {epoch}, receipted to size {receipted}"),
    };
    let again = if times > 1 {
        format!(" ({times} times)")
    } else {
        String::new()
    };
    Ok(Doubt {
        number,
        epoch: epoch.unsigned_abs(),
        words: format!("{begins}: {reason}{again}; {outcome}; set aside in quarantine/{directory}"),
    })
}

impl Store {
    /// What was damaged so far, and how much of it is kept.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn damage(&self) -> Result<Damage, StoreError> {
        let held = Quarantine::of(self.path()).held();
        self.call(move |inner| {
            let count: i64 = inner
                .connection
                .query_row("SELECT coalesce(max(number), 0) FROM damage", [], |row| {
                    row.get(0)
                })
                .map_err(read)?;
            let last: Option<(i64, String, String, String)> = inner
                .connection
                .query_row(
                    "SELECT at, reason, outcome, directory FROM damage ORDER BY number DESC LIMIT 1",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
                )
                .optional()
                .map_err(read)?;
            let mut damage = Damage {
                count: count.unsigned_abs(),
                quarantines: held.count,
                quarantined_bytes: held.bytes,
                ..Damage::default()
            };
            if let Some((at, reason, outcome, directory)) = last {
                damage.last_at = Some(from_ms(at)?);
                damage.last = Some(format!("{reason}; {outcome}; set aside in quarantine/{directory}"));
            }
            Ok(damage)
        })
        .await
    }
}

impl Inner {
    /// The ledger to write to after a damage: a new one, whose first leaf says what happened and cites the last
    /// receipted head. Nothing when there is no doubt.
    pub(in crate::store) fn begin_after_damage(
        &mut self,
        of: &Origin,
        moment: &Moment,
    ) -> Result<Option<Origin>, StoreError> {
        let failed = |source| StoreError::Write {
            what: "a new epoch",
            source,
        };
        let Some(doubt) = doubt(&self.connection)? else {
            return Ok(None);
        };
        let origin = Origin::new(
            of.company().clone(),
            of.agent_id().clone(),
            of.epoch().max(doubt.epoch + 1),
        );
        let transaction = self.connection.transaction().map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO epoch(epoch, origin) VALUES (?1, ?2)",
                params![to_sql(origin.epoch()), origin.to_string()],
            )
            .map_err(failed)?;
        let leaf = LeafDraft {
            note: Note::of(&doubt.words),
            ..LeafDraft::event(LeafKind::Loss, "")
        };
        ledger::append(&transaction, &origin, moment, leaf)?;
        transaction
            .execute(
                "UPDATE damage SET is_told = 1 WHERE number <= ?1",
                [doubt.number],
            )
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        tracing::error!(
            epoch = origin.epoch(),
            reason = doubt.words,
            "a new epoch of the ledger begins"
        );
        Ok(Some(origin))
    }

    /// Refuses to add to a ledger that is not the newest one, or that a damage puts in doubt, and to show its
    /// head: what the database holds of it may be less than what was signed.
    pub(in crate::store) fn refuse_in_doubt(&self, origin: &Origin) -> Result<(), StoreError> {
        let newest: Option<i64> = self
            .connection
            .prepare_cached("SELECT max(epoch) FROM epoch")
            .and_then(|mut select| select.query_row([], |row| row.get(0)))
            .map_err(read)?;
        let has_ended = newest.is_some_and(|newest| newest > to_sql(origin.epoch()));
        if has_ended || doubt(&self.connection)?.is_some() {
            return Err(StoreError::InDoubt {
                epoch: origin.epoch(),
            });
        }
        Ok(())
    }
}

fn read(source: rusqlite::Error) -> StoreError {
    StoreError::Read {
        what: "the history of damage",
        source,
    }
}
