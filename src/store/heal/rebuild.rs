//! Makes whole what a salvage has left in pieces: rows that other rows tell of.
//!
//! The record of a leaf says where it stands, of what kind it is and which slot it closes. From that come back
//! the columns of a leaf, the name of a ledger and the place of a submission in the outbox; a submission whose
//! state is lost is sent again, and the dashboard counts it once.

use std::fmt;

use cms_attest::leaf::{Leaf, LeafKind};
use cms_spec::Category;
use rusqlite::types::Value;
use rusqlite::{Transaction, params};

use super::check;
use crate::store::StoreError;
use crate::store::ledger::to_sql;

/// What became of rows that were salvaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rebuilt {
    /// Leaves whose record does not hold.
    leaves_lost: u64,
    /// Leaves that stand below a kept one and are not there.
    leaves_missing: u64,
    /// Receipts that do not hold.
    receipts_lost: u64,
    /// Submissions that are sent again because their state is lost.
    sent_again: u64,
}

/// Puts right what can be put right, and drops what cannot.
///
/// # Errors
/// When the new database cannot be written.
pub(super) fn rebuild(new: &Transaction<'_>) -> Result<Rebuilt, StoreError> {
    let mut rebuilt = Rebuilt::default();
    leaves(new, &mut rebuilt)?;
    receipts(new, &mut rebuilt)?;
    // A row whose own numbers were damaged points to nothing; its submission has come back from its leaf.
    new.execute(
        "DELETE FROM outbox WHERE NOT EXISTS (SELECT 1 FROM leaf WHERE leaf.epoch = outbox.epoch AND leaf.idx = outbox.idx)
         AND NOT EXISTS (SELECT 1 FROM body WHERE body.epoch = outbox.epoch AND body.idx = outbox.idx)",
        [],
    )
    .map_err(failed)?;
    let missing: i64 = new
        .query_row(
            "SELECT coalesce(sum(missing), 0) FROM
             (SELECT max(idx) + 1 - count(*) AS missing FROM leaf GROUP BY epoch)",
            [],
            |row| row.get(0),
        )
        .map_err(failed)?;
    rebuilt.leaves_missing = missing.unsigned_abs();
    Ok(rebuilt)
}

fn leaves(new: &Transaction<'_>, rebuilt: &mut Rebuilt) -> Result<(), StoreError> {
    let mut select = new
        .prepare("SELECT epoch, idx, kind, category, slot_start, slot_end, record, hash FROM leaf")
        .map_err(failed)?;
    let mut rows = select.query([]).map_err(failed)?;
    let mut wrong = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let (epoch, index): (i64, i64) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        let values = (2..8)
            .map(|at| row.get(at))
            .collect::<Result<Vec<Value>, _>>();
        let values = values.map_err(failed)?;
        if check::leaf_of(epoch, index, &values).is_none() {
            wrong.push((epoch, index, values));
        } else if let Some(leaf) = leaf_in(&values) {
            places(new, &leaf, rebuilt)?;
        }
    }
    drop(rows);
    for (epoch, index, values) in wrong {
        new.execute(
            "DELETE FROM leaf WHERE epoch = ?1 AND idx = ?2",
            [epoch, index],
        )
        .map_err(failed)?;
        // A record that still has its hash says what its columns should.
        let Some(leaf) = leaf_in(&values) else {
            rebuilt.leaves_lost += 1;
            continue;
        };
        let slot = leaf
            .category
            .map(|_| (leaf.from.as_millisecond(), leaf.to.as_millisecond()));
        let kept = new
            .execute(
                "INSERT OR IGNORE INTO leaf(epoch, idx, kind, category, slot_start, slot_end, record, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    to_sql(leaf.origin.epoch()),
                    to_sql(leaf.index),
                    leaf.kind.word(),
                    leaf.category.map(Category::path),
                    slot.map(|slot| slot.0),
                    slot.map(|slot| slot.1),
                    leaf.to_string(),
                    leaf.hash().as_bytes().as_slice(),
                ],
            )
            .map_err(failed)?;
        rebuilt.leaves_lost += 1 - kept as u64;
        places(new, &leaf, rebuilt)?;
    }
    Ok(())
}

/// The leaf of a row, where its record still has its hash.
fn leaf_in(values: &[Value]) -> Option<Leaf> {
    let [.., Value::Text(record), Value::Blob(hash)] = values else {
        return None;
    };
    let leaf: Leaf = record.parse().ok()?;
    (leaf.hash().as_bytes().as_slice() == hash.as_slice()).then_some(leaf)
}

/// The epoch and the outbox row that a leaf tells of.
fn places(new: &Transaction<'_>, leaf: &Leaf, rebuilt: &mut Rebuilt) -> Result<(), StoreError> {
    let (epoch, index) = (to_sql(leaf.origin.epoch()), to_sql(leaf.index));
    new.prepare_cached("INSERT OR REPLACE INTO epoch(epoch, origin) VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute(params![epoch, leaf.origin.to_string()]))
        .map_err(failed)?;
    let Some(category) = leaf.category.filter(|_| leaf.kind == LeafKind::Submission) else {
        return Ok(());
    };
    let slot = (leaf.from.as_millisecond(), leaf.to.as_millisecond());
    new.prepare_cached(
        "UPDATE outbox SET category = ?3, slot_start = ?4, slot_end = ?5 WHERE epoch = ?1 AND idx = ?2",
    )
    .and_then(|mut update| update.execute(params![epoch, index, category.path(), slot.0, slot.1]))
    .map_err(failed)?;
    let again = new
        .prepare_cached(
            "INSERT OR IGNORE INTO outbox(epoch, idx, category, slot_start, slot_end, state, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?5)",
        )
        .and_then(|mut insert| insert.execute(params![epoch, index, category.path(), slot.0, slot.1]))
        .map_err(failed)?;
    rebuilt.sent_again += again as u64;
    Ok(())
}

fn receipts(new: &Transaction<'_>, rebuilt: &mut Rebuilt) -> Result<(), StoreError> {
    let mut select = new
        .prepare("SELECT epoch, size, root, note FROM receipt")
        .map_err(failed)?;
    let rows = select
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .and_then(Iterator::collect::<Result<Vec<(i64, i64, Vec<u8>, String)>, _>>)
        .map_err(failed)?;
    for (epoch, size, root, note) in rows {
        if !check::note_says(&note, epoch, size, &root) {
            new.execute(
                "DELETE FROM receipt WHERE epoch = ?1 AND size = ?2",
                [epoch, size],
            )
            .map_err(failed)?;
            rebuilt.receipts_lost += 1;
        }
    }
    Ok(())
}

/// Nothing where nothing had to be put right.
impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.leaves_lost, "leaves do not hold"),
            (self.leaves_missing, "leaves are missing"),
            (self.receipts_lost, "receipts do not hold"),
            (self.sent_again, "submissions are sent again"),
        ];
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}

fn failed(source: rusqlite::Error) -> StoreError {
    StoreError::Write {
        what: "salvaged rows",
        source,
    }
}
