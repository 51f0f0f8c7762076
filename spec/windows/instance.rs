//! The window of one instance: how its readings become amounts of buckets.

use super::ring::{Ring, spread};
use super::series::{Series, Span};
use super::{BUCKET_MS, CROSS_CHECK_HOLDS_MS, Fate, GAUGE_HOLD_MS, Taken};
use crate::cross_check::CrossChecks;
use crate::ghost::{EnergyUse, InstanceFacts, Usage};
use crate::provenance::Quality;
use crate::reading::{Quantity, Value};
use crate::units::MilliPercent;

/// Columns of a bucket; the order is part of the block's format.
pub(super) const COLUMNS: usize = 15;

const CPU_BUSY: usize = 0;
const CPU_CAPACITY: usize = 1;
const CPU_OBSERVED: usize = 2;
const MEMORY: usize = 3;
const MEMORY_OBSERVED: usize = 4;
const NETWORK: usize = 5;
const NETWORK_OBSERVED: usize = 6;
const DISK: usize = 7;
const DISK_OBSERVED: usize = 8;
/// Microjoules, and after them milliseconds, for each of three qualities.
const ENERGY: usize = 9;

/// Quantities that are remembered between two readings.
pub(super) const SERIES: usize = 5;

const CPU: usize = 0;
const MEMORY_SERIES: usize = 1;
const NETWORK_SERIES: usize = 2;
const DISK_SERIES: usize = 3;
const ENERGY_SERIES: usize = 4;

/// All of one instance.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) facts: Option<InstanceFacts>,
    pub(super) first_seen: i64,
    pub(super) last_seen: i64,
    pub(super) series: [Series; SERIES],
    pub(super) energy_origins: [Option<u16>; 3],
    /// What other sources said of its power, and when.
    pub(super) cross_checks: Option<(CrossChecks, i64)>,
    pub(super) ring: Ring<COLUMNS>,
}

impl Instance {
    pub(super) fn new(at: i64) -> Self {
        Self {
            facts: None,
            first_seen: at,
            last_seen: at,
            series: Default::default(),
            energy_origins: [None; 3],
            cross_checks: None,
            ring: Ring::default(),
        }
    }

    /// Busy and capacity together, so that a ratio is always over the same time.
    pub(super) fn processors(
        &mut self,
        busy: Value,
        capacity: Value,
        entry: &mut Taken<'_>,
    ) -> Result<(), Fate> {
        if self.series[CPU].is_foreign(entry) {
            return Err(Fate::Conflicting);
        }
        let step = match (busy, capacity) {
            (Value::Counter(busy), Value::Counter(capacity)) => {
                self.series[CPU].counter([busy, capacity], entry)?
            }
            (
                Value::Amount {
                    amount: busy,
                    over_ms,
                },
                Value::Amount {
                    amount: capacity,
                    over_ms: same,
                },
            ) if over_ms == same => {
                let span = self.series[CPU].amount(over_ms, entry)?;
                Some((span, [busy, capacity]))
            }
            _ => return Err(Fate::Malformed),
        };
        self.see(entry.at);
        if let Some((span, [busy, capacity])) = step {
            let amounts = [(CPU_BUSY, busy), (CPU_CAPACITY, capacity)];
            self.put(&amounts, CPU_OBSERVED, span, entry);
        }
        Ok(())
    }

    /// Any other quantity of an instance.
    pub(super) fn observe(
        &mut self,
        quantity: Quantity,
        value: Value,
        entry: &mut Taken<'_>,
    ) -> Result<(), Fate> {
        let class = energy_class(entry.quality).ok_or(Fate::Malformed)?;
        let (index, column, observed) = match quantity {
            Quantity::MemoryUsedMilliPercent => (MEMORY_SERIES, MEMORY, MEMORY_OBSERVED),
            Quantity::NetworkBytes => (NETWORK_SERIES, NETWORK, NETWORK_OBSERVED),
            Quantity::DiskOperations => (DISK_SERIES, DISK, DISK_OBSERVED),
            Quantity::EnergyUj => (ENERGY_SERIES, ENERGY + 2 * class, ENERGY + 2 * class + 1),
            _ => return Err(Fate::Malformed),
        };
        let series = &mut self.series[index];
        if series.is_foreign(entry) {
            return Err(Fate::Conflicting);
        }
        let step = match value {
            Value::Gauge(now) if index == MEMORY_SERIES => {
                series.gauge(now.min(MilliPercent::FULL.0), GAUGE_HOLD_MS, entry)
            }
            Value::Counter(now) if index != MEMORY_SERIES => series
                .counter([now, 0], entry)?
                .map(|(span, [amount, _])| (span, amount)),
            Value::Amount { amount, over_ms } if index != MEMORY_SERIES => {
                Some((series.amount(over_ms, entry)?, amount))
            }
            _ => return Err(Fate::Malformed),
        };
        self.see(entry.at);
        if let Some((span, amount)) = step {
            self.put(&[(column, amount)], observed, span, entry);
        }
        if index == ENERGY_SERIES {
            self.energy_origins[class] = entry.origin;
        }
        Ok(())
    }

    /// Whether only blocks speak of it so far, which know their bucket and not the reading's time.
    pub(super) fn is_from_blocks(&self) -> bool {
        self.series.iter().all(|series| series.0.is_none())
    }

    /// Drops what is outside of the window; false when nothing is left that anybody could ask for.
    pub(super) fn keep(&mut self, from: i64, to: i64) -> bool {
        self.ring.keep(from, to);
        // Only a clock that was put back leaves these ahead of the window.
        let end = to.saturating_mul(BUCKET_MS);
        self.first_seen = self.first_seen.min(end);
        self.last_seen = self.last_seen.min(end);
        for series in &mut self.series {
            series.forget_after(end);
        }
        let seen = self.last_seen.div_euclid(BUCKET_MS);
        !self.ring.is_empty() || seen >= from
    }

    /// What the buckets `[from, to)` add up to.
    pub(super) fn usage(&self, from: i64, to: i64) -> Usage {
        let sum = self.ring.sum(from, to);
        let energy = [0, 1, 2].map(|class| EnergyUse {
            microjoules: sum[ENERGY + 2 * class],
            observed_ms: sum[ENERGY + 2 * class + 1],
        });
        Usage {
            cpu_busy_ms: sum[CPU_BUSY],
            cpu_capacity_ms: sum[CPU_CAPACITY],
            cpu_observed_ms: sum[CPU_OBSERVED],
            memory_milli_percent_ms: sum[MEMORY],
            memory_observed_ms: sum[MEMORY_OBSERVED],
            network_bytes: sum[NETWORK],
            network_observed_ms: sum[NETWORK_OBSERVED],
            disk_operations: sum[DISK],
            disk_observed_ms: sum[DISK_OBSERVED],
            energy,
        }
    }

    /// Newest origins of processor, memory, network and disk readings.
    pub(super) fn usage_origins(&self) -> [Option<u16>; 4] {
        [CPU, MEMORY_SERIES, NETWORK_SERIES, DISK_SERIES].map(|index| self.series[index].origin())
    }

    /// What other sources said of its power around then.
    pub(super) fn cross_checks(&self, end: i64) -> Option<&CrossChecks> {
        let (checks, at) = self.cross_checks.as_ref()?;
        let apart = end.saturating_sub(*at).saturating_abs();
        (apart <= CROSS_CHECK_HOLDS_MS).then_some(checks)
    }

    /// Every origin that this instance refers to.
    pub(super) fn origins(&self) -> impl Iterator<Item = u16> {
        let of_series = self.series.iter().filter_map(Series::origin);
        of_series.chain(self.energy_origins.into_iter().flatten())
    }

    fn see(&mut self, at: i64) {
        self.first_seen = self.first_seen.min(at);
        self.last_seen = self.last_seen.max(at);
    }

    /// Splits amounts and the time that they were observed over the buckets of a span.
    fn put(
        &mut self,
        amounts: &[(usize, u64)],
        observed: usize,
        span: Span,
        entry: &mut Taken<'_>,
    ) {
        let length = u64::try_from(i128::from(span.1) - i128::from(span.0)).unwrap_or(0);
        let ring = &mut self.ring;
        for (column, amount) in amounts.iter().copied().chain([(observed, length)]) {
            spread(amount, span, BUCKET_MS, entry.floor, |bucket, part| {
                ring.add(bucket, column, part);
                entry.dirty.blocks.insert(bucket);
            });
        }
    }
}

/// Which of the three kinds of energy a quality is.
fn energy_class(quality: Quality) -> Option<usize> {
    match quality {
        Quality::Measured => Some(0),
        Quality::Estimated => Some(1),
        Quality::Default => Some(2),
        Quality::Unavailable => None,
    }
}
