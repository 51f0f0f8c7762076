//! The window of one thermal source: 24 hours of five-minute buckets.

use std::collections::BTreeMap;

use super::ring::{Ring, spread};
use super::series::Series;
use super::{Fate, Taken};
use crate::heat::{Heat, Observed, ThermalFacts, UNUSED};
use crate::ids::Subject;
use crate::provenance::Origin;
use crate::reading::{Quantity, Value};

/// Heat is submitted every five minutes, so its buckets are as long.
pub(super) const THERMAL_BUCKET_MS: i64 = 300_000;

/// Five-minute buckets in one 15-minute block.
pub(super) const PER_BLOCK: i64 = 3;

/// Buckets of the rolling 24 hours.
pub(super) const THERMAL_BUCKETS: i64 = 288;

/// A thermal reading stands for at most two of its five-minute intervals.
const THERMAL_HOLD_MS: i64 = 600_000;

/// Columns of a bucket: an amount and its observed time for each of four quantities.
pub(super) const THERMAL_COLUMNS: usize = 8;

const OUTPUT: usize = 0;
const DELIVERED: usize = 1;
const SOURCE_CAPTURED: usize = 2;
const EXHAUST: usize = 3;

/// All of one thermal source.
#[derive(Clone, Debug, Default)]
pub(super) struct Thermal {
    pub(super) facts: Option<ThermalFacts>,
    pub(super) last_seen: i64,
    pub(super) series: [Series; 4],
    pub(super) ring: Ring<THERMAL_COLUMNS>,
}

impl Thermal {
    pub(super) fn new(at: i64) -> Self {
        Self {
            last_seen: at,
            ..Self::default()
        }
    }

    pub(super) fn observe(
        &mut self,
        quantity: Quantity,
        value: Value,
        entry: &mut Taken<'_>,
    ) -> Result<(), Fate> {
        let index = match quantity {
            Quantity::ThermalOutput => OUTPUT,
            Quantity::HeatDelivered => DELIVERED,
            Quantity::HeatSourceCaptured => SOURCE_CAPTURED,
            Quantity::ExhaustMilliKelvin => EXHAUST,
            _ => return Err(Fate::Malformed),
        };
        let series = &mut self.series[index];
        if series.is_foreign(entry) {
            return Err(Fate::Conflicting);
        }
        let step = match value {
            // Milliwatts times milliseconds are microjoules.
            Value::Gauge(now) => series.gauge(now, THERMAL_HOLD_MS, entry),
            Value::Counter(now) if index != EXHAUST => series
                .counter([now, 0], entry)?
                .map(|(span, [amount, _])| (span, amount)),
            Value::Amount { amount, over_ms } if index != EXHAUST => {
                Some((series.amount(over_ms, entry)?, amount))
            }
            _ => return Err(Fate::Malformed),
        };
        self.last_seen = self.last_seen.max(entry.at);
        let Some((span, amount)) = step else {
            return Ok(());
        };
        let length = u64::try_from(i128::from(span.1) - i128::from(span.0)).unwrap_or(0);
        let floor = entry.floor.saturating_mul(PER_BLOCK);
        let ring = &mut self.ring;
        for (column, amount) in [(2 * index, amount), (2 * index + 1, length)] {
            spread(amount, span, THERMAL_BUCKET_MS, floor, |bucket, part| {
                ring.add(bucket, column, part);
                entry.dirty.blocks.insert(bucket.div_euclid(PER_BLOCK));
            });
        }
        Ok(())
    }

    /// Drops what is outside of the blocks `[from, to)`; false when nothing is left.
    pub(super) fn keep(&mut self, from: i64, to: i64) -> bool {
        let day = THERMAL_BUCKETS / PER_BLOCK + 4;
        let from = from.max(to.saturating_sub(day));
        self.ring
            .keep(from.saturating_mul(PER_BLOCK), to.saturating_mul(PER_BLOCK));
        let end = to.saturating_mul(THERMAL_BUCKET_MS * PER_BLOCK);
        self.last_seen = self.last_seen.min(end);
        for series in &mut self.series {
            series.forget_after(end);
        }
        let seen = self.last_seen.div_euclid(THERMAL_BUCKET_MS * PER_BLOCK);
        !self.ring.is_empty() || seen >= from
    }

    pub(super) fn origins(&self) -> impl Iterator<Item = u16> {
        self.series.iter().filter_map(Series::origin)
    }

    /// What the five-minute buckets `[from, to)` amount to; nothing when there is nothing in them.
    pub(super) fn observed<'a>(
        &self,
        subject: &Subject,
        (from, to): (i64, i64),
        origin: impl Fn(Option<u16>) -> Option<&'a Origin>,
    ) -> Option<Observed> {
        let sum = self.ring.sum(from, to);
        let heat = |index: usize| Heat {
            microjoules: sum[2 * index],
            observed_ms: sum[2 * index + 1],
        };
        if (OUTPUT..=EXHAUST).all(|index| heat(index).observed_ms == 0) {
            return None;
        }
        let (mut common_output, mut common_delivered) = (Heat::default(), Heat::default());
        let mut common_ms = 0_u128;
        for (_, row) in self.ring.rows(from, to) {
            let both = row[2 * OUTPUT + 1].min(row[2 * DELIVERED + 1]);
            if both > 0 {
                common_output.add(row[2 * OUTPUT], row[2 * OUTPUT + 1]);
                common_delivered.add(row[2 * DELIVERED], row[2 * DELIVERED + 1]);
                common_ms += u128::from(both);
            }
        }
        let mut delivered = heat(DELIVERED);
        let unused = self.facts.as_ref().is_some_and(ThermalFacts::is_unused);
        if unused && delivered.observed_ms == 0 {
            // Where nobody uses the heat there is no meter to read: nothing is delivered, and that is known.
            let output = heat(OUTPUT);
            delivered.observed_ms = output.observed_ms;
            (common_output, common_delivered) = (output, delivered);
            common_ms = output.observed_ms;
        }
        let unnamed = || ThermalFacts {
            source: subject.clone(),
            equipment_type: "unknown".to_owned(),
            cooling_method: "unknown".to_owned(),
            heat_utilization: UNUSED.to_owned(),
            exemption: None,
            missing: BTreeMap::new(),
        };
        Some(Observed {
            facts: self.facts.clone().unwrap_or_else(unnamed),
            output: heat(OUTPUT),
            delivered,
            source_captured: heat(SOURCE_CAPTURED),
            common_output,
            common_delivered,
            common_ms,
            exhaust: heat(EXHAUST),
            origins: [OUTPUT, DELIVERED, SOURCE_CAPTURED, EXHAUST]
                .map(|index| origin(self.series[index].origin()).cloned()),
            last_seen: super::timestamp(self.last_seen),
        })
    }
}

impl Heat {
    fn add(&mut self, microjoules: u64, observed_ms: u64) {
        self.microjoules += u128::from(microjoules);
        self.observed_ms += u128::from(observed_ms);
    }
}
