//! Samples and the windows that they feed.
//!
//! The windows are a cache that can be made again from the blocks and the carry in the database; both are
//! written in the transaction of the sample that changed them. When a transaction fails, what it should have
//! written is kept as unsaved and goes with the next one.

use std::collections::BTreeSet;

use cms_spec::payload::build::Closed;
use cms_spec::reading::Sample;
use cms_spec::windows::{BUCKET, BUCKETS, BUCKETS_SPARE, Carry, Dirty, NothingToSay, Windows};
use cms_spec::{Category, Slot};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Inner, Store, StoreError, schema};

/// The compression of blocks and bodies: level 3 is within a tenth of the best at a tenth of the time.
const ZSTD_LEVEL: i32 = 3;

/// Largest block or body after decompression; 20,000 instances make a block of 4 MB.
const DECOMPRESSED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the windows have changed and the database does not hold yet.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    blocks: BTreeSet<i64>,
    carry: bool,
}

impl Store {
    /// Keeps a sample of a source and what it changes in the windows, in one transaction.
    ///
    /// # Errors
    /// When the database cannot be written; the windows then hold the sample until the next write.
    pub async fn record(&self, source: &str, sample: Sample) -> Result<(), StoreError> {
        let source = source.to_owned();
        self.call(move |inner| {
            inner.silent.heard(&source);
            inner.record(&sample)
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
}

impl Inner {
    fn record(&mut self, sample: &Sample) -> Result<(), StoreError> {
        let Dirty { blocks, carry } = self.windows.observe(sample);
        self.unsaved.blocks.extend(blocks);
        self.unsaved.carry |= carry;

        let bucket = BUCKET.slot_at(sample.at).number(BUCKET);
        let body = to_json("a sample", sample)?;
        let failed = |source| StoreError::Write {
            what: "a sample",
            source,
        };
        let transaction = self.connection.transaction().map_err(failed)?;
        transaction
            .prepare_cached("INSERT INTO tick(bucket, body) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![bucket, body]))
            .map_err(failed)?;
        for &changed in &self.unsaved.blocks {
            let block = compress(&self.windows.block(changed))?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO block(bucket, body) VALUES (?1, ?2)")
                .and_then(|mut upsert| upsert.execute(params![changed, block]))
                .map_err(failed)?;
        }
        if self.unsaved.carry {
            let carry = to_json("the carry", &self.windows.carry())?;
            let carry = String::from_utf8_lossy(&carry);
            schema::set_meta(&transaction, "carry", &carry)?;
        }
        if bucket > self.oldest_tick_bucket {
            seal_before(&transaction, bucket)?;
        }
        transaction.commit().map_err(failed)?;
        self.unsaved = Unsaved::default();
        self.oldest_tick_bucket = bucket;
        Ok(())
    }
}

/// Loads the windows, and the oldest bucket that still has single ticks.
pub(super) fn load(connection: &mut Connection) -> Result<(Windows, i64), StoreError> {
    let failed = |source| StoreError::Read {
        what: "the windows",
        source,
    };
    let mut windows = Windows::default();
    let newest: Option<i64> = connection
        .query_row("SELECT max(bucket) FROM block", [], |row| row.get(0))
        .map_err(failed)?;
    if let Some(newest) = newest {
        let oldest =
            newest.saturating_sub(i64::try_from(BUCKETS + BUCKETS_SPARE).unwrap_or(i64::MAX));
        let mut blocks = connection
            .prepare("SELECT bucket, body FROM block WHERE bucket > ?1 ORDER BY bucket")
            .map_err(failed)?;
        let mut rows = blocks.query([oldest]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let bucket: i64 = row.get(0).map_err(failed)?;
            let body: Vec<u8> = row.get(1).map_err(failed)?;
            let loaded = decompress(&body).and_then(|bytes| {
                windows
                    .load_block(bucket, &bytes)
                    .map_err(|error| StoreError::Decode {
                        what: "a window block",
                        found: error.to_string(),
                    })
            });
            // One lost quarter of an hour is a gap in the window; it must not cost the other 30 days.
            if let Err(error) = loaded {
                tracing::error!(bucket, error = %error, "a window block is lost, its quarter of an hour is a gap now");
            }
        }
    }
    if let Some(carry) = schema::meta(connection, "carry")? {
        match serde_json::from_str::<Carry>(&carry) {
            Ok(carry) => windows.restore(carry),
            Err(error) => {
                tracing::error!(%error, "the carry of the windows is lost, counters start anew");
            }
        }
    }
    let oldest_tick: Option<i64> = connection
        .query_row("SELECT min(bucket) FROM tick", [], |row| row.get(0))
        .optional()
        .map_err(failed)?
        .flatten();
    Ok((windows, oldest_tick.unwrap_or(i64::MIN)))
}

/// Moves the single ticks of all buckets before this one into compressed rows.
fn seal_before(transaction: &Transaction<'_>, bucket: i64) -> Result<(), StoreError> {
    let failed = |source| StoreError::Write {
        what: "a sealed bucket",
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
        let mut lines = Vec::new();
        let mut ticks = 0_i64;
        let mut select = transaction
            .prepare_cached("SELECT body FROM tick WHERE bucket = ?1 ORDER BY id")
            .map_err(failed)?;
        let mut rows = select.query([open_bucket]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            lines.extend(row.get::<_, Vec<u8>>(0).map_err(failed)?);
            lines.push(b'\n');
            ticks += 1;
        }
        drop(rows);
        transaction
            .execute(
                "INSERT INTO raw(bucket, part, ticks, body)
                 SELECT ?1, coalesce(max(part) + 1, 0), ?2, ?3 FROM raw WHERE bucket = ?1",
                params![open_bucket, ticks, compress(&lines)?],
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

/// Compresses a block or a body.
pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    zstd::bulk::compress(bytes, ZSTD_LEVEL).map_err(|error| StoreError::Encode {
        what: "a compressed block",
        found: error.to_string(),
    })
}

/// Reads what [`compress`] wrote.
pub(super) fn decompress(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let size = zstd::bulk::Decompressor::upper_bound(bytes)
        .unwrap_or(DECOMPRESSED_BYTES_MAX)
        .min(DECOMPRESSED_BYTES_MAX);
    zstd::bulk::decompress(bytes, size).map_err(|error| StoreError::Decode {
        what: "a compressed block",
        found: error.to_string(),
    })
}
