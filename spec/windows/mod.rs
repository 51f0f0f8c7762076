//! Rolling windows: what the readings of one agent add up to, 30 days back and 24 hours for heat.
//!
//! Owns: how a reading becomes amounts of 15-minute buckets, what is kept between readings, what a slot closes.
//! Promises: constant work for each reading; sums of integers that never drift; a gap stays a gap; every
//! collection has a bound and what does not fit is counted. Refuses: clocks and files; the store writes
//! [`Windows::block`], [`Windows::carry`] and [`Windows::statements`] together with the sample that changed them.

mod block;
mod carry;
mod close;
mod instance;
mod model;
mod present;
mod ring;
mod series;
mod stated;
mod thermal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use block::BlockError;
pub use carry::{Carry, Statements};

use crate::category::Category;
use crate::coverage::{Assessment, Baseline, History, Kind, Reporting, Span};
use crate::dark::{AccessAnomaly, StorageScan};
use crate::ids::Subject;
use crate::payload::build::Closed;
use crate::provenance::{Origin, Quality};
use crate::reading::{Quantity, Reading, Sample};
use crate::slot::{Cadence, Slot};
use crate::survey::Survey;
use instance::Instance;
use model::Models;
use thermal::Thermal;

/// The spans that amounts are kept in: the specification's own update interval.
pub const BUCKET: Cadence = Cadence::from_seconds(900);

/// Buckets of the rolling 30 days.
pub const BUCKETS: usize = 2_880;

/// Buckets kept beyond the window, so that a slot can close up to an hour after newer readings came.
pub const BUCKETS_SPARE: usize = 4;

/// Most instances of one agent. A gateway for more needs a second one; the excess is counted.
pub const INSTANCES_MAX: usize = 20_000;

/// Most storage units of one agent.
pub const STORAGE_UNITS_MAX: usize = 10_000;

/// Most thermal sources of one agent.
pub const THERMAL_SOURCES_MAX: usize = 1_000;

/// Most monitoring servers of one agent.
pub const SURVEYS_MAX: usize = 16;

/// Most things of each kind in a baseline.
pub const BASELINE_MAX: usize = 200_000;

/// Most different origins at a time; those that nothing refers to any more are forgotten first.
pub const ORIGINS_MAX: usize = 4_096;

/// A gauge stands for at most this long; after that there is a gap. Five ticks of a minute.
pub const GAUGE_HOLD_MS: i64 = 5 * 60 * 1_000;

/// An instance without a reading for this long is no longer running.
pub const SILENT_AFTER_MS: i64 = 24 * 3_600 * 1_000;

/// A scan holds for two of its daily slots, so that one long or failed scan does not empty the inventory.
pub const SCAN_HOLDS_MS: i64 = 48 * 3_600 * 1_000;

/// Another collector may speak for a quantity when the one before has been silent for this long.
pub const TAKEOVER_AFTER_MS: i64 = 3_600 * 1_000;

/// A cross-check is stated every quarter of an hour; an older one says nothing about now.
const CROSS_CHECK_HOLDS_MS: i64 = 3_600 * 1_000;

/// After this many samples in a row from before the window, the clock is taken to have been ahead.
const REWIND_AFTER: u32 = 8;

const BUCKET_MS: i64 = 900_000;

/// All rolling windows of one agent.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    instances: BTreeMap<Subject, Instance>,
    thermal: BTreeMap<Subject, Thermal>,
    models: Models,
    storage: BTreeMap<Subject, (StorageScan, Option<AccessAnomaly>)>,
    surveys: BTreeMap<Subject, Survey>,
    baseline: Option<Baseline>,
    /// Since when things are documented, and sights of what the windows let go.
    history: History,
    /// Whether the history has changed since statements were last called dirty.
    is_remembered: bool,
    origins: Origins,
    newest: Option<i64>,
    /// Whether a sample or a carry has said where the window ends; a block alone may be of a clock ahead.
    is_anchored: bool,
    too_old_in_a_row: u32,
    dropped: Dropped,
}

/// What the store must write in the same transaction as the sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Buckets whose block has changed.
    pub blocks: BTreeSet<i64>,
    /// Whether the carry has changed.
    pub carry: bool,
    /// Whether a scan, a survey or the inventory has changed.
    pub statements: bool,
}

/// What was not used, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dropped {
    /// Values of a second collector for a quantity that another one speaks for.
    pub conflicting: u64,
    /// Values beyond a bound.
    pub excess: u64,
    /// Values from before the window.
    pub late: u64,
    /// Values whose kind does not fit the quantity, or without an origin.
    pub malformed: u64,
}

/// A category has nothing to submit for a slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NothingToSay {
    /// Why, in words.
    pub reason: String,
}

impl Dropped {
    pub(crate) fn describe(&self) -> Option<String> {
        let parts = [
            (self.late, "came from before the window"),
            (self.excess, "were beyond a bound"),
            (self.conflicting, "came from a second source"),
            (self.malformed, "made no sense"),
        ];
        let texts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, why)| format!("{count} {why}"))
            .collect();
        (!texts.is_empty()).then(|| {
            format!(
                "values not used since the first start: {}",
                texts.join(", ")
            )
        })
    }
}

impl Windows {
    /// Windows that have seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a sample in.
    pub fn observe(&mut self, sample: &Sample) -> Dirty {
        let at = millis(sample.at);
        let values = sample.values();
        let mut dirty = Dirty::default();
        if values == 0 {
            return dirty;
        }
        dirty.carry = true;
        if !self.admit(at.div_euclid(BUCKET_MS)) {
            self.dropped.late += count(values);
            return dirty;
        }
        let origins: Vec<Option<u16>> = sample
            .origins
            .iter()
            .map(|origin| self.intern(origin))
            .collect();
        let mut entry = Taken {
            at,
            floor: self.floor(),
            boot: sample.boot.as_str().into(),
            collector: sample.collector.as_str().into(),
            origin: None,
            quality: Quality::Measured,
            dirty: &mut dirty,
        };
        for snapshot in &sample.snapshots {
            entry.dirty.statements |= self.snapshot(snapshot, sample.at);
        }
        let mut processors: BTreeMap<&Subject, Pair<'_>> = BTreeMap::new();
        for reading in &sample.readings {
            let Some(origin) = sample.origins.get(usize::from(reading.origin)) else {
                self.dropped.malformed += 1;
                continue;
            };
            entry.origin = origins.get(usize::from(reading.origin)).copied().flatten();
            entry.quality = origin.quality;
            match reading.quantity {
                Quantity::CpuBusyMs => {
                    processors.entry(&reading.subject).or_default().0 = Some(reading)
                }
                Quantity::CpuCapacityMs => {
                    processors.entry(&reading.subject).or_default().1 = Some(reading);
                }
                _ => self.reading(reading, &mut entry),
            }
        }
        for (subject, (busy, capacity)) in processors {
            // One without the other says nothing about utilisation.
            let (Some(busy), Some(capacity)) = (busy, capacity) else {
                self.dropped.malformed += 1;
                continue;
            };
            entry.origin = origins.get(usize::from(busy.origin)).copied().flatten();
            if let Some(instance) =
                instance_mut(&mut self.instances, &mut self.dropped, subject, at)
            {
                let taken = instance.processors(busy.value, capacity.value, &mut entry);
                self.dropped.note(taken);
            }
        }
        let (floor, dirty_here) = (entry.floor, entry.dirty);
        let origin_of = |index: u16| origins.get(usize::from(index)).copied().flatten();
        for inference in &sample.inferences {
            self.remember_endpoint(&inference.endpoint, inference.at);
            let origin = origin_of(inference.origin);
            let dropped = &mut self.dropped;
            self.models
                .observe(inference, origin, floor, dirty_here, dropped);
        }
        for tally in &sample.tallies {
            self.remember_endpoint(&tally.endpoint, tally.at);
            let origin = origin_of(tally.origin);
            let dropped = &mut self.dropped;
            self.models.tally(tally, origin, floor, dirty_here, dropped);
        }
        dirty.statements |= std::mem::take(&mut self.is_remembered);
        dirty
    }

    /// Remembers when an endpoint was first seen.
    fn remember_endpoint(&mut self, endpoint: &String, at: Timestamp) {
        if !self.models.endpoints.contains_key(endpoint) {
            self.is_remembered |= self
                .history
                .saw(Kind::ModelEndpoint, endpoint, Span::once(at));
        }
    }

    /// The column block of one bucket: what the store keeps of it.
    #[must_use]
    pub fn block(&self, bucket: i64) -> Vec<u8> {
        block::write(self, bucket)
    }

    /// Puts a kept block in place of what is known of its bucket. One outside of the window changes nothing.
    ///
    /// # Errors
    /// [`BlockError`] when the bytes are not a block; nothing is changed then.
    pub fn load_block(&mut self, bucket: i64, bytes: &[u8]) -> Result<(), BlockError> {
        block::read(self, bucket, bytes)
    }

    /// What must survive a restart besides blocks and statements.
    #[must_use]
    pub fn carry(&self) -> Carry {
        carry::take(self)
    }

    /// Puts a kept carry back. Blocks may be loaded before or after.
    pub fn restore(&mut self, carry: Carry) {
        carry::put(self, carry);
    }

    /// The latest scans, surveys and the inventory: large where there is much of it, and rarely changed.
    #[must_use]
    pub fn statements(&self) -> Statements {
        carry::take_statements(self)
    }

    /// Puts kept statements back.
    pub fn restore_statements(&mut self, statements: Statements) {
        carry::put_statements(self, statements);
    }

    /// What the windows amount to at the end of a slot.
    ///
    /// # Errors
    /// [`NothingToSay`] when no source of the category has reported.
    pub fn close(&self, category: Category, slot: Slot) -> Result<Closed, NothingToSay> {
        close::close(self, category, slot)
    }

    /// What reports at a moment, against the inventory; nothing without one.
    #[must_use]
    pub fn coverage(&self, at: Timestamp) -> Option<Assessment> {
        present::assess(self, at)
    }

    /// What reports at a moment, documented or not.
    #[must_use]
    pub fn reporting(&self, at: Timestamp) -> Reporting {
        present::reporting(self, at)
    }

    /// The documented inventory as it was read last.
    #[must_use]
    pub fn baseline(&self) -> Option<&Baseline> {
        self.baseline.as_ref()
    }

    /// What was not used so far, and why.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Storage units of which too much dark data was read again between the last two scans.
    pub fn access_anomalies(&self) -> impl Iterator<Item = (&Subject, &AccessAnomaly)> {
        let units = self.storage.iter();
        units.filter_map(|(unit, (_, anomaly))| Some((unit, anomaly.as_ref()?)))
    }

    /// How many instances are known; one that two sources report counts twice here.
    #[must_use]
    pub fn instances(&self) -> usize {
        let surveyed = self.surveys.values().map(|survey| survey.instances.len());
        self.instances.len() + surveyed.sum::<usize>()
    }

    /// The oldest bucket that is kept; older blocks need not be loaded.
    #[must_use]
    pub fn oldest_bucket(&self) -> Option<i64> {
        self.newest.map(|_| self.floor())
    }

    /// Whether a sample of this bucket is inside the window; moves the window on when it is ahead.
    fn admit(&mut self, bucket: i64) -> bool {
        let newest = *self.newest.get_or_insert(bucket);
        self.is_anchored = true;
        if bucket < self.floor() {
            self.too_old_in_a_row += 1;
            if self.too_old_in_a_row < REWIND_AFTER {
                return false;
            }
        } else {
            self.too_old_in_a_row = 0;
            if bucket <= newest {
                return true;
            }
        }
        self.too_old_in_a_row = 0;
        self.newest = Some(bucket);
        self.sweep();
        true
    }

    fn floor(&self) -> i64 {
        let kept = i64::try_from(BUCKETS + BUCKETS_SPARE).unwrap_or(i64::MAX);
        self.newest.unwrap_or(0).saturating_sub(kept - 1)
    }

    /// Drops what has left the window: once for each bucket that the window moves, whatever the distance.
    fn sweep(&mut self) {
        let (floor, newest) = (self.floor(), self.newest.unwrap_or(0));
        let (history, is_remembered) = (&mut self.history, &mut self.is_remembered);
        self.instances.retain(|subject, instance| {
            let is_kept = instance.keep(floor, newest.saturating_add(1));
            if !is_kept {
                let span = Span {
                    first_seen: timestamp(instance.first_seen),
                    last_seen: timestamp(instance.last_seen),
                };
                *is_remembered |= history.saw(Kind::Instance, subject.as_str(), span);
            }
            is_kept
        });
        for (endpoint, seen) in &self.models.endpoints {
            if seen.div_euclid(BUCKET_MS) < floor {
                let span = Span::once(timestamp(*seen));
                *is_remembered |= history.saw(Kind::ModelEndpoint, endpoint, span);
            }
        }
        self.thermal
            .retain(|_, source| source.keep(floor, newest.saturating_add(1)));
        self.models.keep(floor, newest.saturating_add(1));
        self.surveys
            .retain(|_, survey| millis(survey.as_of).div_euclid(BUCKET_MS) >= floor);
    }

    fn intern(&mut self, origin: &Origin) -> Option<u16> {
        if let Some(index) = self.origins.find(origin) {
            return Some(index);
        }
        if self.origins.is_full() {
            let mut used = BTreeSet::new();
            for instance in self.instances.values() {
                used.extend(instance.origins());
            }
            for source in self.thermal.values() {
                used.extend(source.origins());
            }
            used.extend(self.models.origins().map(|(index, _)| index));
            self.origins.forget_all_but(&used);
        }
        let index = self.origins.insert(origin);
        if index.is_none() {
            self.dropped.excess += 1;
        }
        index
    }

    fn reading(&mut self, reading: &Reading, entry: &mut Taken<'_>) {
        let subject = &reading.subject;
        let thermal = matches!(
            reading.quantity,
            Quantity::ExhaustMilliKelvin
                | Quantity::HeatDelivered
                | Quantity::HeatSourceCaptured
                | Quantity::ThermalOutput
        );
        let taken = if thermal {
            let full = self.thermal.len() >= THERMAL_SOURCES_MAX;
            if full && !self.thermal.contains_key(subject) {
                self.dropped.excess += 1;
                return;
            }
            let fresh = || Thermal::new(entry.at);
            let source = self.thermal.entry(subject.clone()).or_insert_with(fresh);
            source.observe(reading.quantity, reading.value, entry)
        } else {
            let at = entry.at;
            let found = instance_mut(&mut self.instances, &mut self.dropped, subject, at);
            let Some(instance) = found else {
                return;
            };
            instance.observe(reading.quantity, reading.value, entry)
        };
        self.dropped.note(taken);
    }
}

/// Busy and capacity of the same instance in the same sample.
type Pair<'a> = (Option<&'a Reading>, Option<&'a Reading>);

/// What all readings of a sample share, and where the touched buckets are noted.
struct Taken<'a> {
    at: i64,
    floor: i64,
    boot: Arc<str>,
    collector: Arc<str>,
    origin: Option<u16>,
    quality: Quality,
    dirty: &'a mut Dirty,
}

/// Why a value was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Conflicting,
    Late,
    Malformed,
}

impl Dropped {
    fn note(&mut self, taken: Result<(), Fate>) {
        match taken {
            Err(Fate::Conflicting) => self.conflicting += 1,
            Err(Fate::Late) => self.late += 1,
            Err(Fate::Malformed) => self.malformed += 1,
            Ok(()) => {}
        }
    }
}

/// Origins by index, so that an instance keeps two bytes for each.
#[derive(Clone, Debug, Default)]
struct Origins(BTreeMap<u16, Origin>);

impl Origins {
    fn get(&self, index: Option<u16>) -> Option<&Origin> {
        self.0.get(&index?)
    }

    fn find(&self, origin: &Origin) -> Option<u16> {
        let found = self.0.iter().find(|(_, known)| *known == origin);
        found.map(|(index, _)| *index)
    }

    fn is_full(&self) -> bool {
        self.0.len() >= ORIGINS_MAX
    }

    fn forget_all_but(&mut self, used: &BTreeSet<u16>) {
        self.0.retain(|index, _| used.contains(index));
    }

    fn insert(&mut self, origin: &Origin) -> Option<u16> {
        if self.is_full() {
            return None;
        }
        let free = (0..u16::MAX).find(|index| !self.0.contains_key(index))?;
        self.0.insert(free, origin.clone());
        Some(free)
    }
}

/// The instance of a subject, made when there is room.
fn instance_mut<'a>(
    instances: &'a mut BTreeMap<Subject, Instance>,
    dropped: &mut Dropped,
    subject: &Subject,
    at: i64,
) -> Option<&'a mut Instance> {
    if instances.len() >= INSTANCES_MAX && !instances.contains_key(subject) {
        dropped.excess += 1;
        return None;
    }
    let fresh = || Instance::new(at);
    Some(instances.entry(subject.clone()).or_insert_with(fresh))
}

/// Milliseconds since the epoch, rounded down.
fn millis(at: Timestamp) -> i64 {
    let floor = at.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(floor).unwrap_or(i64::MAX)
}

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(if millis < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}
