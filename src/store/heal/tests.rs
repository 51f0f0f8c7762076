//! Damage of every kind to a store that holds something, and what is left of it.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use cms_attest::SigningKey;
use cms_attest::checkpoint::{Cosigner, verify_cosignature};
use cms_attest::leaf::LeafKind;
use cms_spec::payload::build::{Context, Payload};
use cms_spec::provenance::{Confidence, Origin as Provenance};
use cms_spec::reading::{Quantity, Readings, Sample, Value};
use cms_spec::{Cadence, Category};
use tempfile::TempDir;

use super::*;
use crate::blocking::{Blocking, Disk};
use crate::clock::Clock;
use crate::seal::tests::key;
use crate::store::seal::Record;
use crate::store::{Enqueued, LeafDraft, Moment, Sender, Store};

const QUARTER: i64 = 900;
const SPRING: i64 = 1_772_000_100;
const SLOTS: i64 = 60;

/// Slots that the dashboard has taken, and leaves that it has receipted.
const ACCEPTED: i64 = 50;
const RECEIPTED_AFTER: i64 = 40;

/// How often work that meets a damage is tried again.
const TRIES: usize = 3;

/// What a store held before it was damaged.
struct Before {
    /// Each file of the directory.
    files: BTreeMap<String, Vec<u8>>,
    epoch: u64,
    leaves: BTreeMap<u64, [u8; 32]>,
    bodies: BTreeMap<u64, Vec<u8>>,
}

/// What became of it.
#[derive(Debug, Default)]
struct After {
    healed: u64,
    leaves_lost: usize,
    submissions_lost: usize,
}

fn moment(second: i64) -> Moment {
    Moment {
        now: Timestamp::from_second(SPRING + second).unwrap(),
        boot_id: "boot".to_owned(),
        boottime_ms: second.unsigned_abs() * 1_000,
        api_key_id: None,
    }
}

fn sample(second: i64) -> Sample {
    let mut readings = Readings::default();
    let origin = readings.origin(Provenance::measured("p", "p/1", Confidence::A));
    let host = "host:a".parse().unwrap();
    for (quantity, amount) in [(Quantity::CpuBusyMs, 500), (Quantity::CpuCapacityMs, 1_000)] {
        let value = Value::Amount {
            amount,
            over_ms: 1_000,
        };
        readings.push(&host, quantity, value, origin);
    }
    readings.stamp("compute/host", moment(second).now, "boot")
}

/// Opens a store that is closed as soon as it is dropped.
async fn open(path: &Path) -> Store {
    let here = Blocking::OnCaller(Disk::default());
    Store::open_with(path, &key(1), here, Clock::system())
        .await
        .unwrap()
}

async fn origin(store: &Store, second: i64) -> cms_attest::Origin {
    let agent_id = "018f3b1e-7c4a-7d2e-9b1a-5f6e7d8c9b0a".parse().unwrap();
    let company = "acme-corp".parse().unwrap();
    store
        .origin(company, agent_id, moment(second))
        .await
        .unwrap()
}

/// A store that was at work for some hours and was killed, or closed.
async fn before(is_closed: bool) -> Before {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let epoch = origin(&store, 0).await.epoch();
    for slot in 1..=SLOTS {
        for second in [-600, -300] {
            let at = slot * QUARTER + second;
            store.record("compute/host", sample(at)).await.unwrap();
        }
        work(&store, slot * QUARTER).await.unwrap();
        let now = moment(slot * QUARTER);
        if slot % 7 == 0 {
            let event = LeafDraft::event(LeafKind::Clock, "the clock stepped");
            let newest = origin(&store, slot * QUARTER).await;
            store
                .append_leaves(newest, now.clone(), vec![event])
                .await
                .unwrap();
        }
        if slot <= ACCEPTED {
            let sent = store.take_next(now.now, false).await.unwrap().unwrap();
            let answer = "accepted".to_owned();
            store.mark_accepted(&sent, now.now, answer).await.unwrap();
        }
        if slot % 5 == 0 && slot <= RECEIPTED_AFTER {
            receipt(&store, slot * QUARTER).await;
        }
    }
    let leaves = leaves(&store, epoch).await;
    let bodies = store
        .call(|inner| {
            let mut select = inner
                .connection
                .prepare("SELECT epoch, idx, bytes FROM body")
                .unwrap();
            let rows = select.query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?))
            });
            let rows: Vec<(i64, i64, Vec<u8>)> = rows.unwrap().map(|row| row.unwrap()).collect();
            rows.into_iter()
                .map(|(epoch, index, bytes)| {
                    let record = Record::Body { epoch, index };
                    let body = inner.sealer.open(&inner.connection, record, &bytes)?;
                    Ok((index.unsigned_abs(), body))
                })
                .collect()
        })
        .await
        .unwrap();
    if is_closed {
        store.settle().await.unwrap();
    }
    let files = ["store.db", "store.db-wal", "store.db-shm", "lock"];
    let read = |name: &str| Some((name.to_owned(), fs::read(directory.path().join(name)).ok()?));
    Before {
        files: files.into_iter().filter_map(read).collect(),
        epoch,
        leaves,
        bodies,
    }
}

async fn receipt(store: &Store, second: i64) {
    let newest = origin(store, second).await;
    let offer = store.offer(newest, None).await.unwrap().unwrap();
    let key = SigningKey::from_seed(&[9; 32]).unwrap();
    let cosigner = Cosigner::new("dash".parse().unwrap(), key);
    let line = cosigner.cosign(&offer.checkpoint, moment(second).now);
    let receipt = verify_cosignature(&line, &offer.checkpoint, &cosigner.published()).unwrap();
    let log_key = SigningKey::from_seed(&[8; 32]).unwrap();
    let note = offer.checkpoint.sign(&log_key).unwrap();
    store.keep_receipt(receipt, note).await.unwrap();
}

/// Index and hash of each leaf of an epoch.
async fn leaves(store: &Store, epoch: u64) -> BTreeMap<u64, [u8; 32]> {
    store
        .call(move |inner| {
            let mut select = inner
                .connection
                .prepare("SELECT idx, hash FROM leaf WHERE epoch = ?1")
                .unwrap();
            let rows = select
                .query_map([epoch.cast_signed()], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get(1)?))
                })
                .unwrap();
            Ok(rows
                .map(|row| row.unwrap())
                .map(|(index, hash)| (index.unsigned_abs(), hash))
                .collect())
        })
        .await
        .unwrap()
}

impl Before {
    /// Writes the files of the store into a directory of its own.
    fn lay_out(&self) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in &self.files {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        directory
    }

    /// Opens a damaged store, works with it, and holds it against what it was.
    async fn hold_against(&self, path: &Path) -> After {
        let store = open(path).await;
        let second = (SLOTS + 1) * QUARTER;
        // Damage that only the work meets is answered with an error, and healed for the next try.
        let mut index = None;
        for _ in 0..=TRIES {
            let tried = work(&store, second).await;
            if let Ok(done) = tried {
                index = Some(done);
                break;
            }
        }
        let index = index.expect("the store can be worked with");
        while let Some(next) =
            again(async || store.take_next(moment(second).now, false).await).await
        {
            if next.origin().epoch() == self.epoch && next.index() != index {
                let body = self.bodies.get(&next.index()).map(Vec::as_slice);
                assert!(body == Some(next.body()), "another body is sent");
            }
            let answer = || "accepted".to_owned();
            again(async || {
                store
                    .mark_accepted(&next, moment(second).now, answer())
                    .await
            })
            .await;
        }
        let used = origin(&store, second).await;
        let damage = store.damage().await.unwrap();
        let mut kept = leaves(&store, self.epoch).await;
        // The leaf of the work, if no damage had been met before.
        let new = kept.remove(&(self.leaves.len() as u64));
        if used.epoch() == self.epoch {
            assert_eq!(damage.count, 0, "{damage:?}");
            assert_eq!(index, self.leaves.len() as u64);
            assert!(new.is_some());
            assert_eq!(kept, self.leaves, "leaves were lost without a word");
        } else {
            assert!(damage.count > 0);
            let told = "SELECT count(*) FROM leaf WHERE kind = 'loss' AND idx = 0";
            assert!(
                store.count(told).await > 0,
                "the new epoch begins with the loss"
            );
        }
        for (index, hash) in &kept {
            assert_eq!(
                self.leaves.get(index),
                Some(hash),
                "leaf {index} is another one"
            );
        }
        let lost = "SELECT count(*) FROM outbox WHERE state NOT IN ('accepted', 'receipted')";
        let rejected = usize::try_from(store.count(lost).await).unwrap();
        let taken = "SELECT count(*) FROM outbox";
        let taken = usize::try_from(store.count(taken).await).unwrap() - 1 - rejected;
        drop(store);
        // It is whole now: opening it once more finds nothing.
        let again = open(path).await;
        assert_eq!(again.damage().await.unwrap().count, damage.count);
        After {
            healed: damage.count,
            leaves_lost: self.leaves.len() - kept.len(),
            submissions_lost: self.bodies.len() - taken,
        }
    }
}

/// Records a sample and submits a slot.
async fn work(store: &Store, second: i64) -> Result<u64, StoreError> {
    store.record("compute/host", sample(second - 1)).await?;
    let sender = Sender {
        origin: origin(store, second).await,
        version: "1".to_owned(),
        site: "site".to_owned(),
    };
    let slot = Cadence::from_seconds(900).last_closed(moment(second).now);
    let closed = store.close(Category::GhostCompute, slot).await?;
    let payload = Payload::build(closed.unwrap(), &Context::default());
    match store.enqueue(sender, moment(second), payload).await? {
        Enqueued::New(submission) => Ok(submission.index()),
        Enqueued::AlreadyThere => panic!("the slot has a leaf already"),
    }
}

/// Tries again what has met a damage.
async fn again<T>(attempt: impl AsyncFn() -> Result<T, StoreError>) -> T {
    for _ in 0..TRIES {
        if let Ok(done) = attempt().await {
            return done;
        }
    }
    attempt().await.unwrap()
}

#[tokio::test]
async fn an_undamaged_store_is_not_touched() {
    for is_closed in [false, true] {
        let before = before(is_closed).await;
        let directory = before.lay_out();
        let after = before.hold_against(directory.path()).await;
        assert_eq!((after.healed, after.submissions_lost), (0, 0));
        assert!(!directory.path().join("quarantine").exists());
    }
}

#[tokio::test]
async fn random_bytes_in_place_of_the_database_cost_what_was_not_in_its_log() {
    let before = before(true).await;
    let directory = before.lay_out();
    fs::write(directory.path().join("store.db"), vec![0x5a; 100_000]).unwrap();
    let after = before.hold_against(directory.path()).await;
    assert_eq!(after.healed, 1);
    assert_eq!(after.submissions_lost, before.bodies.len());
}

#[tokio::test]
async fn a_first_page_that_is_gone_costs_nothing() {
    let before = before(true).await;
    let directory = before.lay_out();
    let mut bytes = before.files["store.db"].clone();
    bytes[..4096].fill(0);
    fs::write(directory.path().join("store.db"), bytes).unwrap();
    let after = before.hold_against(directory.path()).await;
    assert_eq!(
        (after.healed, after.leaves_lost, after.submissions_lost),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn an_empty_database_in_the_place_of_one_with_leaves_is_no_first_start() {
    let before = before(true).await;
    for bytes in [Vec::new(), vec![0; 4096]] {
        let directory = before.lay_out();
        fs::write(directory.path().join("store.db"), bytes).unwrap();
        let after = before.hold_against(directory.path()).await;
        assert_eq!(after.healed, 1);
    }
}

#[tokio::test]
async fn something_else_in_the_place_of_a_file_is_set_aside() {
    for name in ["store.db", "store.db-wal", "store.db-shm", "lock"] {
        let before = before(false).await;
        let place = |directory: &TempDir| -> PathBuf {
            let path = directory.path().join(name);
            fs::remove_file(&path).unwrap();
            path
        };
        let directory = before.lay_out();
        fs::create_dir(place(&directory)).unwrap();
        let after = before.hold_against(directory.path()).await;
        assert_eq!(after.healed, 1, "{name}");
        let directory = before.lay_out();
        symlink("/nowhere/at/all", place(&directory)).unwrap();
        let after = before.hold_against(directory.path()).await;
        assert_eq!(after.healed, 1, "{name}");
    }
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    CutTo(usize),
    Flip { byte: usize, bit: u8 },
    Noise,
    Zero { page: usize },
}

impl Harm {
    fn harm(self, bytes: &mut Vec<u8>) {
        match self {
            Self::CutTo(length) => bytes.truncate(length),
            Self::Flip { byte, bit } => bytes[byte] ^= 1 << bit,
            Self::Noise => {
                let mut random = Random(bytes.len() as u64 + 1);
                bytes
                    .iter_mut()
                    .for_each(|byte| *byte = random.below(256).to_be_bytes()[7]);
            }
            Self::Zero { page } => {
                let end = bytes.len().min((page + 1) * 4096);
                bytes[page * 4096..end].fill(0);
            }
        }
    }
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Flipped bits in each file, and as many pages; `CMS_DAMAGE_CASES` asks for more.
const CASES: usize = 6;

#[tokio::test]
async fn nothing_is_signed_twice_or_lost_without_a_word_whatever_happens_to_a_file() {
    let cases = std::env::var("CMS_DAMAGE_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for is_closed in [true, false] {
        let before = before(is_closed).await;
        for (name, bytes) in before.files.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            let length = bytes.len();
            let mut harms = vec![Harm::CutTo(0), Harm::CutTo(length / 2), Harm::Noise];
            harms.push(Harm::CutTo(length.saturating_sub(4096)));
            let pages = length / 4096;
            let every = pages.div_ceil(cases).max(1);
            harms.extend((0..pages).step_by(every).map(|page| Harm::Zero { page }));
            harms.extend((0..cases).map(|_| Harm::Flip {
                byte: usize::try_from(random.below(length as u64)).unwrap(),
                bit: u8::try_from(random.below(8)).unwrap(),
            }));
            let mut told = BTreeMap::<&str, [usize; 5]>::new();
            for harm in harms {
                let directory = before.lay_out();
                let mut harmed = bytes.clone();
                harm.harm(&mut harmed);
                fs::write(directory.path().join(name), harmed).unwrap();
                println!("{name} of {length} bytes, closed: {is_closed}, {harm:?}");
                let after = before.hold_against(directory.path()).await;
                let kind = match harm {
                    Harm::CutTo(_) => "cut",
                    Harm::Flip { .. } => "flip",
                    Harm::Noise => "noise",
                    Harm::Zero { .. } => "page",
                };
                let [cases, healed, leaves, submissions, most] = told.entry(kind).or_default();
                *cases += 1;
                *healed += usize::from(after.healed > 0);
                *leaves += after.leaves_lost;
                *submissions += after.submissions_lost;
                *most = (*most).max(after.submissions_lost);
            }
            for (kind, [cases, healed, leaves, submissions, most]) in told {
                println!(
                    "| {name} | {} | {kind} | {cases} | {healed} | {leaves} | {submissions} | {most} |",
                    if is_closed { "stopped" } else { "killed" }
                );
            }
        }
    }
}
