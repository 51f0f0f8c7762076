//! What encryption at rest costs: `cargo bench --bench sealing`. `CMS_BENCH_DIR` chooses the file system.
//!
//! The same samples go, turn by turn in one run, into the store and into a database with the same tables and
//! transactions whose rows are not encrypted and, as they were before, compressed only where they are large.
//! Then the share of sealing in writing a submission: the cipher alone on bodies of the same length.
//!
//! Not a test: nothing here can fail but the machine.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures in real time"
)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints figures, or stops"
)]

use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cms_spec::payload::build::{Context, Payload};
use cms_spec::provenance::{Confidence, Origin};
use cms_spec::reading::{Quantity, Readings, Sample, Value};
use cms_spec::windows::{BUCKET, Windows};
use cms_spec::{Cadence, Category};
use cms_telemetry_agent::blocking::{Blocking, Disk};
use cms_telemetry_agent::clock::Clock;
use cms_telemetry_agent::seal::{Cipher, KEY_BYTES, Protection, StoreKey};
use cms_telemetry_agent::store::{Enqueued, Moment, Sender, Store};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

/// Samples of each run: half a day at the default interval of 15 seconds.
const SAMPLES: i64 = 2_880;

const BEGIN: Timestamp = Timestamp::constant(1_772_000_000, 0);

const QUARTER: Cadence = Cadence::from_seconds(900);

/// A store as it was before records were sealed.
struct Plain {
    connection: Connection,
    windows: Windows,
    open: i64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let place = env::var("CMS_BENCH_DIR").unwrap_or_else(|_| env::temp_dir().display().to_string());
    for instances in [1, 100] {
        let directory = tempfile::tempdir_in(&place).unwrap();
        samples(directory.path(), instances).await;
    }
    let directory = tempfile::tempdir_in(&place).unwrap();
    submissions(directory.path()).await;
}

/// Writes the same samples both ways, turn by turn.
async fn samples(directory: &Path, instances: usize) {
    let key = StoreKey::new(&[7; KEY_BYTES], Protection::File("bench".to_owned())).unwrap();
    let sealed_in = directory.join("sealed");
    let on_caller = Blocking::OnCaller(Disk::default());
    let sealed = Store::open_with(&sealed_in, &key, on_caller, Clock::system())
        .await
        .unwrap();
    let plain_in = directory.join("plain.db");
    let mut plain = Plain::open(&plain_in);
    let (mut sealed_times, mut plain_times) = (Vec::new(), Vec::new());
    for number in 0..SAMPLES {
        let at = BEGIN + SignedDuration::from_secs(15 * number);
        let sample = sample(at, instances, number);
        let (mut write_plain, again) = (Vec::new(), sample.clone());
        let write_sealed = async {
            let begun = Instant::now();
            sealed.record("compute/host", again).await.unwrap();
            begun.elapsed()
        };
        // Neither always comes second, when caches are warm.
        let mut time_plain = || {
            let begun = Instant::now();
            plain.record(&sample);
            write_plain.push(begun.elapsed());
        };
        if number % 2 == 0 {
            time_plain();
            sealed_times.push(write_sealed.await);
        } else {
            sealed_times.push(write_sealed.await);
            time_plain();
        }
        plain_times.append(&mut write_plain);
    }
    sealed.settle().await.unwrap();
    plain.settle();
    let size = |path: &Path| fs::metadata(path).unwrap().len() as f64;
    let sizes = [size(&sealed_in.join("store.db")), size(&plain_in)];
    let [sealed_p50, plain_p50] = [&mut sealed_times, &mut plain_times].map(|times| middle(times));
    let sums = [&sealed_times, &plain_times].map(|times| times.iter().sum::<Duration>());
    println!(
        "{SAMPLES} samples of {instances} instances: sealed {sealed_p50:.1?} each, plain {plain_p50:.1?} (p50), ratio {:.3}; \
         all {:.2?} and {:.2?}, ratio {:.3}; file {:.0} and {:.0} KiB, ratio {:.3}",
        sealed_p50.as_secs_f64() / plain_p50.as_secs_f64(),
        sums[0],
        sums[1],
        sums[0].as_secs_f64() / sums[1].as_secs_f64(),
        sizes[0] / 1024.0,
        sizes[1] / 1024.0,
        sizes[0] / sizes[1],
    );
}

/// Enqueues submissions, and seals bodies of their length with the cipher alone.
async fn submissions(directory: &Path) {
    let key = StoreKey::new(&[7; KEY_BYTES], Protection::File("bench".to_owned())).unwrap();
    let store = Store::open(directory, &key).await.unwrap();
    let agent = "0190c9a5-0000-7000-8000-000000000000".parse().unwrap();
    let moment = |at: Timestamp| Moment {
        now: at,
        boot_id: "bench".to_owned(),
        boottime_ms: 0,
        api_key_id: None,
    };
    let origin = store
        .origin("bench".parse().unwrap(), agent, moment(BEGIN))
        .await
        .unwrap();
    let (mut times, mut bytes) = (Vec::new(), 0);
    for number in 1..=500 {
        let slot = QUARTER.slot_numbered(QUARTER.last_closed(BEGIN).number(QUARTER) + number);
        let middle_of = slot.end - SignedDuration::from_secs(60);
        store
            .record("compute/host", sample(middle_of, 1, number))
            .await
            .unwrap();
        let closed = store.close(Category::GhostCompute, slot).await.unwrap();
        let payload = Payload::build(closed.unwrap(), &Context::default());
        let sender = Sender {
            origin: origin.clone(),
            version: "bench".to_owned(),
            site: "bench".to_owned(),
        };
        let begun = Instant::now();
        let enqueued = store.enqueue(sender, moment(slot.end), payload).await;
        times.push(begun.elapsed());
        if let Ok(Enqueued::New(submission)) = enqueued {
            bytes = submission.body().len();
        }
    }
    let cipher = Cipher::of(&[7; KEY_BYTES]).unwrap();
    let body = vec![1; bytes];
    let mut seals: Vec<Duration> = (0..2_000)
        .map(|_| {
            let begun = Instant::now();
            let mut sealed = Vec::new();
            cipher.seal_onto(&mut sealed, b"body", &body).unwrap();
            begun.elapsed()
        })
        .collect();
    let (enqueue, seal) = (middle(&mut times), middle(&mut seals));
    println!(
        "a submission of {bytes} bytes: enqueued in {enqueue:.1?} (p50), of which sealing all of it uncompressed takes {seal:.2?}, \
         ratio to without {:.4}",
        enqueue.as_secs_f64() / (enqueue.as_secs_f64() - seal.as_secs_f64()),
    );
}

/// What a tick of this many instances reads.
fn sample(at: Timestamp, instances: usize, number: i64) -> Sample {
    let mut readings = Readings::default();
    let origin = readings.origin(Origin::measured("bench", "bench/1", Confidence::A));
    let amount = |amount| Value::Amount {
        amount,
        over_ms: 15_000,
    };
    for instance in 0..instances {
        let subject = format!("host:bench-{instance}").parse().unwrap();
        let busy = u64::try_from(number * 7 + 31).unwrap() * (instance as u64 + 3) % 15_000;
        readings.push(&subject, Quantity::CpuBusyMs, amount(busy), origin);
        readings.push(&subject, Quantity::CpuCapacityMs, amount(15_000), origin);
        readings.push(&subject, Quantity::EnergyUj, amount(busy * 97), origin);
    }
    readings.stamp("compute/host", at, "bench")
}

fn middle(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

impl Plain {
    fn open(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 PRAGMA cache_size = -1024; PRAGMA journal_size_limit = 4194304; PRAGMA wal_autocheckpoint = 512;
                 PRAGMA temp_store = MEMORY;
                 CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
                 CREATE TABLE tick(id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, body BLOB NOT NULL);
                 CREATE INDEX tick_bucket ON tick(bucket);
                 CREATE TABLE raw(bucket INTEGER NOT NULL, part INTEGER NOT NULL, ticks INTEGER NOT NULL,
                     body BLOB NOT NULL, PRIMARY KEY(bucket, part)) WITHOUT ROWID;
                 CREATE TABLE block(bucket INTEGER PRIMARY KEY, body BLOB NOT NULL);",
            )
            .unwrap();
        Self {
            connection,
            windows: Windows::default(),
            open: i64::MIN,
        }
    }

    fn record(&mut self, sample: &Sample) {
        let dirty = self.windows.observe(sample);
        let bucket = BUCKET.slot_at(sample.at).number(BUCKET);
        let body = serde_json::to_vec(sample).unwrap();
        let transaction = self.connection.transaction().unwrap();
        transaction
            .prepare_cached("INSERT INTO tick(bucket, body) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![bucket, body]))
            .unwrap();
        for changed in dirty.blocks {
            let block = zstd::bulk::compress(&self.windows.block(changed), 3).unwrap();
            transaction
                .prepare_cached("INSERT OR REPLACE INTO block(bucket, body) VALUES (?1, ?2)")
                .and_then(|mut upsert| upsert.execute(params![changed, block]))
                .unwrap();
        }
        let set = "INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)";
        if dirty.carry {
            let carry = serde_json::to_string(&self.windows.carry()).unwrap();
            transaction.execute(set, params!["carry", carry]).unwrap();
        }
        if dirty.statements {
            let said = serde_json::to_string(&self.windows.statements()).unwrap();
            transaction
                .execute(set, params!["statements", said])
                .unwrap();
        }
        if bucket > self.open {
            let mut lines = Vec::new();
            let mut select = transaction
                .prepare_cached("SELECT body FROM tick WHERE bucket < ?1 ORDER BY id")
                .unwrap();
            let mut rows = select.query([bucket]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                lines.extend(row.get::<_, Vec<u8>>(0).unwrap());
                lines.push(b'\n');
            }
            drop(rows);
            drop(select);
            if !lines.is_empty() {
                let raw = zstd::bulk::compress(&lines, 3).unwrap();
                let insert = "INSERT INTO raw VALUES (?1, 0, 0, ?2)";
                transaction
                    .execute(insert, params![self.open, raw])
                    .unwrap();
                let delete = "DELETE FROM tick WHERE bucket < ?1";
                transaction.execute(delete, [bucket]).unwrap();
            }
            self.open = bucket;
        }
        transaction.commit().unwrap();
    }

    fn settle(&self) {
        self.connection
            .pragma_update(None, "wal_checkpoint", "TRUNCATE")
            .unwrap();
    }
}
