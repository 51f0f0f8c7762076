//! Readings: what collectors produce, each with its unit, its time and its origin.
//!
//! A collector pushes into [`Readings`]; the agent's scheduler stamps them into a [`Sample`]. A value that
//! could not be read is not here at all: there is no zero and no last value that stands in for it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::coverage::Baseline;
use crate::cross_check::CrossChecks;
use crate::dark::StorageScan;
use crate::ghost::InstanceFacts;
use crate::heat::ThermalFacts;
use crate::ids::Subject;
use crate::models::Inference;
use crate::provenance::Origin;
use crate::survey::Survey;

/// Most readings of one tick. A Prometheus server with 10,000 instances needs 8 each.
pub const READINGS_MAX: usize = 200_000;

/// What is measured. Each quantity has one unit and one nature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Counter, milliseconds that the instance's processors were busy.
    CpuBusyMs,
    /// Counter, milliseconds that the instance's processors were there to be used.
    CpuCapacityMs,
    /// Gauge, thousandths of a percent of memory in use.
    MemoryUsedMilliPercent,
    /// Counter, bytes received and sent.
    NetworkBytes,
    /// Counter, completed reads and writes.
    DiskOperations,
    /// Amount, microjoules used since the reading before.
    EnergyUj,
    /// Gauge, temperature of the exhaust in thousandths of a kelvin, so that it is never negative.
    ExhaustMilliKelvin,
    /// Gauge in milliwatts, or amount in microjoules: heat that the point of use received.
    HeatDelivered,
    /// Gauge in milliwatts, or amount in microjoules: heat taken out at the source, before losses.
    HeatSourceCaptured,
    /// Gauge in milliwatts, or amount in microjoules: heat that the equipment gives off.
    ThermalOutput,
}

/// A value in the quantity's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Grows from the start of the sample's boot; two of them make an amount.
    Counter(u64),
    /// True at the moment of the sample.
    Gauge(u64),
    /// An amount gathered over the `over_ms` that end at the moment of the sample.
    Amount {
        /// How much.
        amount: u64,
        /// Over how long.
        over_ms: u64,
    },
}

/// One value of one quantity of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What the value is about.
    pub subject: Subject,
    /// What was measured.
    pub quantity: Quantity,
    /// The value in the quantity's unit.
    pub value: Value,
    /// Index into the origins of the sample.
    pub origin: u16,
}

/// A whole statement that replaces the one before it: facts of an instance, a finished scan or survey, a
/// baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few at a time, and each is on its way"
)]
pub enum Snapshot {
    /// The documented inventory that coverage is measured against.
    Baseline(Baseline),
    /// What other sources said of an instance's power.
    CrossChecks(CrossChecks),
    /// What an instance is.
    Instance(InstanceFacts),
    /// A finished scan of one storage unit.
    Storage(StorageScan),
    /// What a monitoring server says about many instances.
    Survey(Survey),
    /// What a thermal source is.
    Thermal(ThermalFacts),
}

/// What a collector has taken in one tick. Whole or absent: on an error the scheduler drops all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    origins: Vec<Origin>,
    readings: Vec<Reading>,
    snapshots: Vec<Snapshot>,
    inferences: Vec<Inference>,
    refused: u64,
    boot: Option<String>,
}

/// Names an origin pushed earlier; only [`Readings::origin`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginIndex(u16);

/// The readings of one tick, stamped with their time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The collector's id, for example `compute/host`.
    pub collector: String,
    /// When it was taken.
    pub at: Timestamp,
    /// The boot that counters count from; counters of two boots are never subtracted.
    pub boot: String,
    /// Where the values come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// The values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<Reading>,
    /// Statements that replace earlier ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Snapshot>,
    /// Requests to models that were served since the sample before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inferences: Vec<Inference>,
}

impl Readings {
    /// Declares where the following values come from.
    pub fn origin(&mut self, origin: Origin) -> OriginIndex {
        let known = self.origins.iter().position(|o| *o == origin);
        let index = known.unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        OriginIndex(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// Adds a value. Beyond [`READINGS_MAX`] it is refused and counted.
    pub fn push(
        &mut self,
        subject: &Subject,
        quantity: Quantity,
        value: Value,
        origin: OriginIndex,
    ) {
        if self.readings.len() >= READINGS_MAX {
            self.refused += 1;
            return;
        }
        self.readings.push(Reading {
            subject: subject.clone(),
            quantity,
            value,
            origin: origin.0,
        });
    }

    /// Adds a statement that replaces the one before it.
    pub fn snapshot(&mut self, snapshot: Snapshot) {
        if self.snapshots.len() >= READINGS_MAX {
            self.refused += 1;
            return;
        }
        self.snapshots.push(snapshot);
    }

    /// Adds one served request to a model.
    pub fn inference(&mut self, inference: Inference) {
        if self.inferences.len() >= READINGS_MAX {
            self.refused += 1;
            return;
        }
        self.inferences.push(inference);
    }

    /// Where the values of each quantity come from, each origin once.
    #[must_use]
    pub fn origins(&self) -> BTreeMap<Quantity, Vec<&Origin>> {
        let pairs: BTreeSet<(Quantity, u16)> = self
            .readings
            .iter()
            .map(|reading| (reading.quantity, reading.origin))
            .collect();
        let mut found: BTreeMap<Quantity, Vec<&Origin>> = BTreeMap::new();
        for (quantity, index) in pairs {
            let of_quantity = found.entry(quantity).or_default();
            of_quantity.extend(self.origins.get(usize::from(index)));
        }
        found
    }

    /// Says from which boot the counters count, where it is not the boot of the agent's own machine.
    pub fn counted_from(&mut self, boot: &str) {
        self.boot = Some(boot.to_owned());
    }

    /// How many values did not fit.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether there are values, and not only statements.
    #[must_use]
    pub fn has_values(&self) -> bool {
        !self.readings.is_empty()
    }

    /// Whether nothing was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readings.is_empty() && self.snapshots.is_empty() && self.inferences.is_empty()
    }

    /// Forgets everything, for the next tick.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Stamps the readings with their collector, time and boot, unless their counters count from another one.
    #[must_use]
    pub fn stamp(self, collector: &str, at: Timestamp, boot: &str) -> Sample {
        Sample {
            collector: collector.to_owned(),
            at,
            boot: self.boot.unwrap_or_else(|| boot.to_owned()),
            origins: self.origins,
            readings: self.readings,
            snapshots: self.snapshots,
            inferences: self.inferences,
        }
    }
}
