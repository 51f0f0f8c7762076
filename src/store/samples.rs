//! Samples and the windows that they feed.
//!
//! The windows are a cache that can be made again from the blocks, the carry and the statements in the
//! database; each is written in the transaction of the sample that changed it. When a transaction fails, what
//! it should have written is kept as unsaved and goes with the next one.

use std::collections::{BTreeMap, BTreeSet};

use cms_spec::coverage::Forecast;
use cms_spec::dark::AccessAnomaly;
use cms_spec::payload::build::Closed;
use cms_spec::reading::Sample;
use cms_spec::windows::{
    BUCKET, BUCKETS, BUCKETS_SPARE, Carry, Dirty, NothingToSay, Statements, Windows,
};
use cms_spec::{Category, Slot, Subject};
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

use super::quarantine::{self, open_or_set_aside};
use super::seal::{Record, Sealer};
use super::{Inner, Store, StoreError, meta};

/// Units with an access anomaly that are told of; where there are more, something has read them all.
const ANOMALIES_MAX: usize = 20;

/// What the windows have changed and the database does not hold yet.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    blocks: BTreeSet<i64>,
    carry: bool,
    statements: bool,
    /// Where sources go on after a restart, whose samples the windows hold.
    checkpoints: BTreeMap<String, String>,
}

impl Unsaved {
    /// Everything that the windows hold, for a database that may hold none of it.
    pub(super) fn all(windows: &Windows) -> Self {
        let span = i64::try_from(BUCKETS + BUCKETS_SPARE).unwrap_or(i64::MAX);
        let oldest = windows.oldest_bucket();
        Self {
            blocks: oldest.map_or_else(BTreeSet::new, |oldest| (oldest..oldest + span).collect()),
            carry: true,
            statements: true,
            checkpoints: BTreeMap::new(),
        }
    }
}

impl Store {
    /// Keeps a sample of a source and what it changes in the windows, in one transaction.
    ///
    /// # Errors
    /// When the database cannot be written; the windows then hold the sample until the next write.
    pub async fn record(&self, source: &str, sample: Sample) -> Result<(), StoreError> {
        self.record_to(source, sample, None).await
    }

    /// Keeps in the same transaction where the source goes on after a restart.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub async fn record_to(
        &self,
        source: &str,
        sample: Sample,
        resume: Option<String>,
    ) -> Result<(), StoreError> {
        let source = source.to_owned();
        self.call(move |inner| {
            inner.silent.heard(&source);
            inner.hold(&source, &sample)?;
            inner.record(&source, &sample, resume)
        })
        .await
    }

    /// What of the inventory reports now, and what will breach; nothing without an inventory.
    ///
    /// # Errors
    /// When the store has stopped.
    pub async fn coverage(&self, now: Timestamp) -> Result<Option<Forecast>, StoreError> {
        self.call(move |inner| {
            let assessment = inner.windows.coverage(now);
            Ok(assessment.map(|assessment| assessment.forecast(now)))
        })
        .await
    }

    /// Closes the window of a category as of the end of a slot.
    ///
    /// # Errors
    /// When the store has stopped. That there is nothing to say is an answer.
    pub async fn close(
        &self,
        category: Category,
        slot: Slot,
    ) -> Result<Result<Closed, NothingToSay>, StoreError> {
        self.call(move |inner| Ok(inner.windows.close(category, slot)))
            .await
    }

    /// Storage units of which too much dark data was read again between the last two scans, the first ones by
    /// name.
    ///
    /// # Errors
    /// When the store has ended.
    pub async fn access_anomalies(&self) -> Result<BTreeMap<Subject, AccessAnomaly>, StoreError> {
        self.call(|inner| {
            let found = inner.windows.access_anomalies().take(ANOMALIES_MAX);
            Ok(found
                .map(|(unit, anomaly)| (unit.clone(), anomaly.clone()))
                .collect())
        })
        .await
    }
}

impl Inner {
    fn record(
        &mut self,
        source: &str,
        sample: &Sample,
        resume: Option<String>,
    ) -> Result<(), StoreError> {
        self.refuse_when_gone()?;
        let floor = self.windows.oldest_bucket();
        let Dirty {
            blocks,
            carry,
            statements,
        } = self.windows.observe(sample);
        self.unsaved.blocks.extend(blocks);
        self.unsaved.carry |= carry;
        self.unsaved.statements |= statements;
        if let Some(resume) = resume {
            self.unsaved.checkpoints.insert(source.to_owned(), resume);
        }
        if self.windows.oldest_bucket() < floor {
            // The clock was ahead and has been put right: what the window had let go belongs to it again.
            load_blocks(
                &self.connection,
                &self.sealer,
                &mut self.windows,
                &self.unsaved.blocks,
            )?;
        }

        let bucket = BUCKET.slot_at(sample.at).number(BUCKET);
        let body = to_json("a sample", sample)?;
        let failed = |source| StoreError::Write {
            what: "a sample",
            source,
        };
        let (transaction, sealer) = (self.connection.transaction().map_err(failed)?, &self.sealer);
        // Its row is bound into its seal, so it is chosen before.
        let id: i64 = transaction
            .prepare_cached("SELECT coalesce(max(id) + 1, 1) FROM tick")
            .and_then(|mut select| select.query_row([], |row| row.get(0)))
            .map_err(failed)?;
        let tick = sealer.seal(Record::Tick { id }, &body)?;
        transaction
            .prepare_cached("INSERT INTO tick(id, bucket, body) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(params![id, bucket, tick]))
            .map_err(failed)?;
        for &changed in &self.unsaved.blocks {
            let record = Record::Block { bucket: changed };
            let block = sealer.seal(record, &self.windows.block(changed))?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO block(bucket, body) VALUES (?1, ?2)")
                .and_then(|mut upsert| upsert.execute(params![changed, block]))
                .map_err(failed)?;
        }
        if self.unsaved.carry {
            let carry = to_json("the carry", &self.windows.carry())?;
            meta::set(&transaction, sealer, "carry", &carry)?;
        }
        if self.unsaved.statements {
            let statements = to_json("the statements", &self.windows.statements())?;
            meta::set(&transaction, sealer, "statements", &statements)?;
        }
        for (source, checkpoint) in &self.unsaved.checkpoints {
            let key = meta::checkpoint_key(source);
            meta::set(&transaction, sealer, &key, checkpoint.as_bytes())?;
        }
        if bucket > self.oldest_tick_bucket {
            close_before(&transaction, sealer, bucket)?;
        }
        transaction.commit().map_err(failed)?;
        self.unsaved = Unsaved::default();
        self.oldest_tick_bucket = bucket;
        Ok(())
    }
}

/// Loads the windows, and the oldest bucket that still has single ticks.
pub(super) fn load(connection: &Connection, sealer: &Sealer) -> Result<(Windows, i64), StoreError> {
    let mut windows = Windows::default();
    // The carry first: it knows where the window ends, whatever a clock that was ahead has left behind.
    if let Some(carry) = meta::get(connection, sealer, "carry")? {
        match serde_json::from_str::<Carry>(&carry) {
            Ok(carry) => windows.restore(carry),
            Err(error) => {
                tracing::error!(%error, "the carry of the windows is lost, counters start anew");
            }
        }
    }
    if let Some(statements) = meta::get(connection, sealer, "statements")? {
        match serde_json::from_str::<Statements>(&statements) {
            Ok(statements) => windows.restore_statements(statements),
            Err(error) => {
                tracing::error!(%error, "scans and inventory are lost, the next ones take their place");
            }
        }
    }
    load_blocks(connection, sealer, &mut windows, &BTreeSet::new())?;
    Ok((windows, oldest_tick(connection)?))
}

/// The oldest bucket that still has single ticks.
pub(super) fn oldest_tick(connection: &Connection) -> Result<i64, StoreError> {
    let oldest: Option<i64> = connection
        .query_row("SELECT min(bucket) FROM tick", [], |row| row.get(0))
        .map_err(cannot_load)?;
    Ok(oldest.unwrap_or(i64::MIN))
}

/// Puts the kept blocks of the window's span into it, except those that are newer in memory.
fn load_blocks(
    connection: &Connection,
    sealer: &Sealer,
    windows: &mut Windows,
    newer: &BTreeSet<i64>,
) -> Result<(), StoreError> {
    let newest: Option<i64> = connection
        .query_row("SELECT max(bucket) FROM block", [], |row| row.get(0))
        .map_err(cannot_load)?;
    let span = i64::try_from(BUCKETS + BUCKETS_SPARE).unwrap_or(i64::MAX);
    let Some(oldest) = windows
        .oldest_bucket()
        .or(newest.map(|newest| newest.saturating_sub(span)))
    else {
        return Ok(());
    };
    let mut blocks = connection
        .prepare(
            "SELECT bucket, body FROM block WHERE bucket BETWEEN ?1 AND ?1 + ?2 ORDER BY bucket",
        )
        .map_err(cannot_load)?;
    let mut damaged = Vec::new();
    let mut rows = blocks.query([oldest, span]).map_err(cannot_load)?;
    while let Some(row) = rows.next().map_err(cannot_load)? {
        let bucket: i64 = row.get(0).map_err(cannot_load)?;
        if newer.contains(&bucket) {
            continue;
        }
        let body: Vec<u8> = row.get(1).map_err(cannot_load)?;
        let record = Record::Block { bucket };
        let loaded = sealer.open(connection, record, &body).and_then(|bytes| {
            windows
                .load_block(bucket, &bytes)
                .map_err(|error| StoreError::Decode {
                    what: "a window block",
                    found: error.to_string(),
                })
        });
        // One lost quarter of an hour is a gap in the window; it must not cost the other 30 days.
        match loaded {
            Ok(()) => {}
            Err(error @ StoreError::Decode { .. }) => {
                damaged.push((bucket, body, error.to_string()))
            }
            Err(error) => return Err(error),
        }
    }
    drop(rows);
    for (bucket, body, why) in damaged {
        quarantine::set_aside(connection, sealer, Record::Block { bucket }, &body, &why)?;
    }
    Ok(())
}

fn cannot_load(source: rusqlite::Error) -> StoreError {
    StoreError::Read {
        what: "the windows",
        source,
    }
}

/// Moves the single ticks of all buckets before this one into rows of their own.
fn close_before(
    transaction: &Transaction<'_>,
    sealer: &Sealer,
    bucket: i64,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::Write {
        what: "a closed bucket",
        source,
    };
    let mut open_buckets = transaction
        .prepare_cached("SELECT DISTINCT bucket FROM tick WHERE bucket < ?1 ORDER BY bucket")
        .map_err(failed)?;
    let open_buckets = open_buckets
        .query_map([bucket], |row| row.get::<_, i64>(0))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed)?;
    for open_bucket in open_buckets {
        let (mut lines, mut count) = (Vec::new(), 0_i64);
        let ticks: Vec<(i64, Vec<u8>)> = transaction
            .prepare_cached("SELECT id, body FROM tick WHERE bucket = ?1 ORDER BY id")
            .and_then(|mut select| {
                select
                    .query_map([open_bucket], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(failed)?;
        for (id, body) in ticks {
            let record = Record::Tick { id };
            if let Some(tick) = open_or_set_aside(transaction, sealer, record, &body)? {
                lines.extend(tick);
                lines.push(b'\n');
                count += 1;
            }
        }
        let part: i64 = transaction
            .prepare_cached("SELECT coalesce(max(part) + 1, 0) FROM raw WHERE bucket = ?1")
            .and_then(|mut select| select.query_row([open_bucket], |row| row.get(0)))
            .map_err(failed)?;
        let bucket = open_bucket;
        let raw = sealer.seal(Record::Raw { bucket, part }, &lines)?;
        transaction
            .execute(
                "INSERT INTO raw(bucket, part, ticks, body) VALUES (?1, ?2, ?3, ?4)",
                params![bucket, part, count, raw],
            )
            .map_err(failed)?;
        transaction
            .execute("DELETE FROM tick WHERE bucket = ?1", [open_bucket])
            .map_err(failed)?;
    }
    Ok(())
}

fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Encode {
        what,
        found: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;
    use cms_spec::coverage::{Baseline, Documented};
    use cms_spec::provenance::{Confidence, Origin};
    use cms_spec::reading::{Quantity, Readings, Snapshot, Value};

    const SPRING: i64 = 1_772_000_000;
    const MONTH: i64 = 40 * 86_400;

    fn tick(at: i64) -> Sample {
        let mut readings = Readings::default();
        let origin = readings.origin(Origin::measured("p", "p/1", Confidence::A));
        let host = "host:a".parse().unwrap();
        let amount = |amount| Value::Amount {
            amount,
            over_ms: 1_000,
        };
        readings.push(&host, Quantity::CpuBusyMs, amount(500), origin);
        readings.push(&host, Quantity::CpuCapacityMs, amount(1_000), origin);
        readings.stamp("compute/host", Timestamp::from_second(at).unwrap(), "boot")
    }

    async fn windows(store: &Store) -> Windows {
        store.call(|inner| Ok(inner.windows.clone())).await.unwrap()
    }

    fn usage(windows: &Windows, at: i64) -> String {
        let slot = BUCKET.slot_at(Timestamp::from_second(at).unwrap());
        format!("{:?}", windows.close(Category::GhostCompute, slot).unwrap())
    }

    #[tokio::test]
    async fn statements_are_written_when_they_change_and_come_back_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        let inventory = || {
            let mut readings = Readings::default();
            readings.snapshot(Snapshot::Baseline(Baseline {
                submission_date: "2026-01-15".parse().unwrap(),
                instances: vec![Documented {
                    id: "host:a".to_owned(),
                    name: "a".to_owned(),
                    decommissioned: None,
                }],
                storage: Vec::new(),
                model_endpoints: Vec::new(),
            }));
            readings.stamp(
                "coverage/baseline",
                Timestamp::from_second(SPRING).unwrap(),
                "b",
            )
        };
        store
            .record("coverage/baseline", inventory())
            .await
            .unwrap();
        let forget = "DELETE FROM meta WHERE key = 'statements' RETURNING 1";
        assert_eq!(store.count(forget).await, 1);
        store.record("compute/host", tick(SPRING)).await.unwrap();
        store
            .record("coverage/baseline", inventory())
            .await
            .unwrap();
        let written = "SELECT count(*) FROM meta WHERE key = 'statements'";
        assert_eq!(store.count(written).await, 0, "nothing new was stated");

        let text = serde_json::to_string(&windows(&store).await.statements()).unwrap();
        store.set_meta("statements", text.clone()).await.unwrap();
        let kept = read_again(directory.path());
        assert_eq!(serde_json::to_string(&kept.statements()).unwrap(), text);
    }

    #[tokio::test]
    async fn a_clock_that_was_ahead_costs_no_window_neither_now_nor_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        for hour in 0..48 {
            store
                .record("compute/host", tick(SPRING + hour * 3_600))
                .await
                .unwrap();
        }
        let now = SPRING + 48 * 3_600;
        let before = usage(&windows(&store).await, now);
        for second in 0..3 {
            store
                .record("compute/host", tick(now + MONTH + second))
                .await
                .unwrap();
        }
        assert_eq!(windows(&store).await.instances(), 1);
        // Put right: after a few samples the window is believed to be where it was.
        for second in 0..20 {
            store
                .record("compute/host", tick(now + second))
                .await
                .unwrap();
        }
        let after = windows(&store).await;
        assert_eq!(
            after.oldest_bucket(),
            read_again(directory.path()).oldest_bucket()
        );
        assert_eq!(
            usage(&after, now),
            usage(&read_again(directory.path()), now)
        );
        let observed_ms = |text: &str| {
            let figure = text.split("cpu_observed_ms: ").nth(1).unwrap();
            figure.split(',').next().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(observed_ms(&before), 48_000);
        // The samples until the clock is believed are not counted; all that came before is.
        assert_eq!(observed_ms(&usage(&after, now)), 48_000 + 13_000);
    }

    fn read_again(path: &std::path::Path) -> Windows {
        crate::store::read_windows(path, &key(1)).unwrap()
    }
}
