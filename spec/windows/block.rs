//! The kept form of one bucket: a table for each kind of window, column by column.
//!
//! A table is a list of names and a list of columns; a column is its eight byte planes, lowest first, so that
//! the high bytes, which are mostly zero, lie side by side and compress to nothing. The store compresses.

use std::ops::RangeInclusive;

use super::instance::{COLUMNS, Instance};
use super::model::{KEYS_MAX, Log, MODEL_COLUMNS};
use super::thermal::{PER_BLOCK, THERMAL_COLUMNS};
use super::{BUCKET_MS, INSTANCES_MAX, THERMAL_SOURCES_MAX, Windows};
use crate::ids::Subject;
use crate::models::{Inference, ModelKey};

/// First bytes of every block; the last one is the format's version.
const MAGIC: &[u8; 5] = b"CMSB\x02";

/// Buckets of the years that a timestamp can hold, and some to spare.
const BUCKET_NUMBERS: RangeInclusive<i64> = -1_000_000_000..=1_000_000_000;

/// Bytes of one value.
const PLANES: usize = 8;

/// Bytes are not a block of windows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// They were written by something else or by a newer version.
    #[error(
        "these bytes are not a window block of this version; the bucket counts as not observed"
    )]
    Header,
    /// They end too early.
    #[error("the window block is cut off in its {0}; the bucket counts as not observed")]
    Short(&'static str),
    /// A table is not as it was written.
    #[error("the window block's {0} makes no sense; the bucket counts as not observed")]
    Table(&'static str),
}

pub(super) fn write(windows: &Windows, bucket: i64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let instances = windows.instances.iter().filter_map(|(subject, instance)| {
        let row = instance.ring.row(bucket)?;
        Some((subject.to_string(), *row))
    });
    table(&mut out, instances);
    for part in 0..PER_BLOCK {
        let number = bucket.saturating_mul(PER_BLOCK).saturating_add(part);
        let sources = windows.thermal.iter().filter_map(|(subject, source)| {
            let row = source.ring.row(number)?;
            Some((subject.to_string(), *row))
        });
        table(&mut out, sources);
    }
    let models = windows.models.keys.iter().filter_map(|(key, ring)| {
        let row = ring.row(bucket)?;
        Some((serde_json::to_string(key).ok()?, *row))
    });
    table(&mut out, models);
    if let Some(log) = windows.models.logs.get(&bucket) {
        let rows: Vec<&Inference> = log.rows.values().collect();
        if let Ok(text) = serde_json::to_vec(&(log.of, log.summed, rows)) {
            out.extend(text);
        }
    }
    out
}

pub(super) fn read(windows: &mut Windows, bucket: i64, bytes: &[u8]) -> Result<(), BlockError> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(BlockError::Header)?;
    if !BUCKET_NUMBERS.contains(&bucket) {
        return Err(BlockError::Table("bucket number"));
    }
    let instances = rows::<COLUMNS>(&mut rest, "instances")?;
    let mut thermal = Vec::new();
    for part in 0..PER_BLOCK {
        let number = bucket.saturating_mul(PER_BLOCK).saturating_add(part);
        thermal.push((
            number,
            rows::<THERMAL_COLUMNS>(&mut rest, "thermal sources")?,
        ));
    }
    let models = rows::<MODEL_COLUMNS>(&mut rest, "models")?;
    let log = if rest.is_empty() {
        None
    } else {
        let log: (u64, u64, Vec<Inference>) =
            serde_json::from_slice(rest).map_err(|_| BlockError::Table("inference log"))?;
        Some(log)
    };
    let instances = named(instances, "instances")?;
    let thermal = thermal
        .into_iter()
        .map(|(number, rows)| Ok((number, named(rows, "thermal sources")?)))
        .collect::<Result<Vec<_>, BlockError>>()?;
    let models = models
        .into_iter()
        .map(|(name, row)| {
            let key: ModelKey =
                serde_json::from_str(&name).map_err(|_| BlockError::Table("models"))?;
            Ok((key, row))
        })
        .collect::<Result<Vec<_>, BlockError>>()?;

    // Nothing fails from here on.
    if windows.is_anchored
        && !(windows.floor()..=windows.newest.unwrap_or(bucket)).contains(&bucket)
    {
        return Ok(());
    }
    put(windows, bucket, instances);
    for (number, rows) in thermal {
        for source in windows.thermal.values_mut() {
            source.ring.set(number, [0; THERMAL_COLUMNS]);
        }
        for (subject, row) in rows {
            if windows.thermal.len() < THERMAL_SOURCES_MAX || windows.thermal.contains_key(&subject)
            {
                let source = windows.thermal.entry(subject).or_default();
                source.ring.set(number, row);
                source.last_seen = source.last_seen.max(bucket.saturating_mul(BUCKET_MS));
            }
        }
    }
    for ring in windows.models.keys.values_mut() {
        ring.set(bucket, [0; MODEL_COLUMNS]);
    }
    for (key, row) in models {
        if windows.models.keys.len() < KEYS_MAX || windows.models.keys.contains_key(&key) {
            windows.models.keys.entry(key).or_default().set(bucket, row);
        }
    }
    windows.models.logs.remove(&bucket);
    if let Some((of, summed, rows)) = log {
        let mut log = Log::default();
        for row in &rows {
            log.add(row);
        }
        log.of = of.max(log.of);
        log.summed = summed;
        windows.models.logs.insert(bucket, log);
        windows.models.forget_logs();
    }
    if windows.newest < Some(bucket) {
        windows.newest = Some(bucket);
        windows.sweep();
    }
    Ok(())
}

fn put(windows: &mut Windows, bucket: i64, rows: Vec<(Subject, [u64; COLUMNS])>) {
    for instance in windows.instances.values_mut() {
        instance.ring.set(bucket, [0; COLUMNS]);
    }
    let start = bucket.saturating_mul(BUCKET_MS);
    for (subject, row) in rows {
        let full = windows.instances.len() >= INSTANCES_MAX;
        if full && !windows.instances.contains_key(&subject) {
            windows.dropped.excess += 1;
            continue;
        }
        let instance = windows
            .instances
            .entry(subject)
            .or_insert_with(|| Instance::new(start));
        if instance.is_from_blocks() {
            instance.first_seen = instance.first_seen.min(start);
            instance.last_seen = instance.last_seen.max(start);
        }
        instance.ring.set(bucket, row);
    }
}

/// Writes the rows that have anything.
fn table<const N: usize>(out: &mut Vec<u8>, rows: impl Iterator<Item = (String, [u64; N])>) {
    // A name longer than its length field cannot be kept; subjects are far shorter.
    let rows: Vec<(String, [u64; N])> = rows
        .filter(|(name, _)| u16::try_from(name.len()).is_ok())
        .collect();
    let length = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    out.extend(length.to_le_bytes());
    for (name, _) in &rows {
        out.extend(u16::try_from(name.len()).unwrap_or(0).to_le_bytes());
        out.extend(name.as_bytes());
    }
    for column in 0..N {
        for plane in 0..PLANES {
            out.extend(rows.iter().map(|(_, row)| row[column].to_le_bytes()[plane]));
        }
    }
}

/// Reads a table; nothing is reserved that the bytes do not back.
fn rows<const N: usize>(
    rest: &mut &[u8],
    what: &'static str,
) -> Result<Vec<(String, [u64; N])>, BlockError> {
    let mut take = |length: usize| {
        let (part, after) = rest
            .split_at_checked(length)
            .ok_or(BlockError::Short(what))?;
        *rest = after;
        Ok(part)
    };
    let length = take(4)?.try_into().map_err(|_| BlockError::Short(what))?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    for _ in 0..length {
        let size = take(2)?.try_into().map_err(|_| BlockError::Short(what))?;
        let name = take(usize::from(u16::from_le_bytes(size)))?;
        let name = str::from_utf8(name).map_err(|_| BlockError::Table(what))?;
        rows.push((name.to_owned(), [0_u64; N]));
    }
    for column in 0..N {
        for plane in 0..PLANES {
            for ((_, row), byte) in rows.iter_mut().zip(take(length)?) {
                row[column] |= u64::from(*byte) << (8 * plane);
            }
        }
    }
    Ok(rows)
}

fn named<const N: usize>(
    rows: Vec<(String, [u64; N])>,
    what: &'static str,
) -> Result<Vec<(Subject, [u64; N])>, BlockError> {
    rows.into_iter()
        .map(|(name, row)| {
            let subject = name.parse().map_err(|_| BlockError::Table(what))?;
            Ok((subject, row))
        })
        .collect()
}
