//! What must survive a restart besides blocks: the carry changes with every sample, the statements rarely.
//!
//! Statements are large where there are many storage units or a long inventory, so that they are written
//! only when a source states something else than before.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::instance::{Instance, SERIES};
use super::series::{Last, Series};
use super::thermal::Thermal;
use super::{Dropped, Origins, REWIND_AFTER, Windows};
use crate::coverage::{Baseline, History};
use crate::cross_check::CrossChecks;
use crate::dark::{AccessAnomaly, StorageScan};
use crate::ghost::InstanceFacts;
use crate::heat::ThermalFacts;
use crate::ids::Subject;
use crate::provenance::{Origin, Quality};
use crate::survey::Survey;

/// What the store keeps beside the blocks and the statements: baselines of counters, facts, origins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Carry {
    newest: Option<i64>,
    too_old_in_a_row: u32,
    /// Boots and collectors, each once.
    names: Vec<String>,
    origins: BTreeMap<u16, Origin>,
    instances: BTreeMap<Subject, InstanceCarry>,
    thermal: BTreeMap<Subject, ThermalCarry>,
    endpoints: BTreeMap<String, i64>,
    inference_origins: BTreeMap<u16, i64>,
    dropped: Dropped,
}

/// What sources have stated as a whole: the latest scan of each storage unit, the latest survey of each
/// monitoring server, the inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statements {
    scans: Vec<ScanCarry>,
    /// With the moment at which it was first read, as it was kept before there was a history.
    baseline: Option<(Baseline, Timestamp)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    surveys: Vec<Survey>,
    history: History,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct InstanceCarry {
    first_seen: i64,
    last_seen: i64,
    facts: Option<InstanceFacts>,
    series: [Option<LastCarry>; SERIES],
    energy_origins: [Option<u16>; 3],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cross_checks: Option<(CrossChecks, i64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ThermalCarry {
    last_seen: i64,
    facts: Option<ThermalFacts>,
    series: [Option<LastCarry>; 4],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LastCarry {
    at: i64,
    values: [u64; 2],
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_amount: bool,
    boot: usize,
    collector: usize,
    quality: Quality,
    origin: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ScanCarry {
    scan: StorageScan,
    anomaly: Option<AccessAnomaly>,
}

/// Names in the order of their first use.
#[derive(Default)]
struct Names {
    index: BTreeMap<Arc<str>, usize>,
    list: Vec<String>,
}

impl Names {
    fn index_of(&mut self, name: &Arc<str>) -> usize {
        if let Some(index) = self.index.get(name) {
            return *index;
        }
        let index = self.list.len();
        self.index.insert(Arc::clone(name), index);
        self.list.push(name.to_string());
        index
    }

    fn pack(&mut self, series: &Series) -> Option<LastCarry> {
        let last = series.0.as_ref()?;
        Some(LastCarry {
            at: last.at,
            values: last.values,
            is_amount: last.is_amount,
            boot: self.index_of(&last.boot),
            collector: self.index_of(&last.collector),
            quality: last.quality,
            origin: last.origin,
        })
    }
}

pub(super) fn take(windows: &Windows) -> Carry {
    let mut names = Names::default();
    let instances = windows
        .instances
        .iter()
        .map(|(subject, instance)| {
            let carry = InstanceCarry {
                first_seen: instance.first_seen,
                last_seen: instance.last_seen,
                facts: instance.facts.clone(),
                series: instance.series.each_ref().map(|one| names.pack(one)),
                energy_origins: instance.energy_origins,
                cross_checks: instance.cross_checks.clone(),
            };
            (subject.clone(), carry)
        })
        .collect();
    let thermal = windows
        .thermal
        .iter()
        .map(|(subject, source)| {
            let carry = ThermalCarry {
                last_seen: source.last_seen,
                facts: source.facts.clone(),
                series: source.series.each_ref().map(|one| names.pack(one)),
            };
            (subject.clone(), carry)
        })
        .collect();
    Carry {
        newest: windows.newest,
        too_old_in_a_row: windows.too_old_in_a_row,
        names: names.list,
        origins: windows.origins.0.clone(),
        instances,
        thermal,
        endpoints: windows.models.endpoints.clone(),
        inference_origins: windows.models.origins.clone(),
        dropped: windows.dropped,
    }
}

pub(super) fn take_statements(windows: &Windows) -> Statements {
    let scans = windows
        .storage
        .values()
        .map(|(scan, anomaly)| ScanCarry {
            scan: scan.clone(),
            anomaly: anomaly.clone(),
        })
        .collect();
    Statements {
        scans,
        baseline: windows.baseline.clone().map(|baseline| {
            let since = windows.history.since().unwrap_or_default();
            (baseline, since)
        }),
        surveys: windows.surveys.values().cloned().collect(),
        history: windows.history.clone(),
    }
}

pub(super) fn put_statements(windows: &mut Windows, statements: Statements) {
    windows.storage = statements
        .scans
        .into_iter()
        .map(|kept| (kept.scan.unit.clone(), (kept.scan, kept.anomaly)))
        .collect();
    windows.history = statements.history;
    windows.baseline = statements.baseline.map(|(baseline, since)| {
        if windows.history.since().is_none() {
            windows.history.document(&baseline, since);
        }
        baseline
    });
    windows.surveys = statements
        .surveys
        .into_iter()
        .map(|survey| (survey.server.clone(), survey))
        .collect();
}

pub(super) fn put(windows: &mut Windows, carry: Carry) {
    let names: Vec<Arc<str>> = carry
        .names
        .iter()
        .map(|name| name.as_str().into())
        .collect();
    let unpack = |last: Option<LastCarry>| {
        Series(last.and_then(|last| {
            Some(Last {
                at: last.at,
                values: last.values,
                is_amount: last.is_amount,
                boot: Arc::clone(names.get(last.boot)?),
                collector: Arc::clone(names.get(last.collector)?),
                quality: last.quality,
                origin: last.origin,
            })
        }))
    };
    let blocks_first = windows.newest.is_some();
    if carry.newest.is_some() {
        windows.newest = carry.newest;
        windows.is_anchored = true;
    }
    windows.too_old_in_a_row = carry.too_old_in_a_row.min(REWIND_AFTER);
    windows.origins = Origins(carry.origins);
    for (subject, kept) in carry.instances {
        let instance = windows
            .instances
            .entry(subject)
            .or_insert_with(|| Instance::new(kept.first_seen));
        // A block knows only its bucket; the carry knows the reading.
        instance.first_seen = kept.first_seen;
        instance.last_seen = kept.last_seen;
        instance.facts = kept.facts;
        instance.series = kept.series.map(unpack);
        instance.energy_origins = kept.energy_origins;
        instance.cross_checks = kept.cross_checks;
    }
    for (subject, kept) in carry.thermal {
        let source: &mut Thermal = windows.thermal.entry(subject).or_default();
        source.last_seen = kept.last_seen;
        source.facts = kept.facts;
        source.series = kept.series.map(unpack);
    }
    windows.models.endpoints = carry.endpoints;
    windows.models.origins = carry.inference_origins;
    windows.dropped = carry.dropped;
    if blocks_first {
        windows.sweep();
    }
}
