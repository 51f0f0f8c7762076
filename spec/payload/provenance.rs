//! Where the figures of each payload come from: one entry for each (figure, source), not for each row.

mod models;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::v1::{InstanceClass, ThermalSource};
use crate::coverage::{self, Assessment, GATE, Thing};
use crate::dark::{AccessAnomaly, AccessBasis, Ages, StorageScan};
use crate::factors::EnergyFactors;
use crate::provenance::{Confidence, Entry, Origin, Quality};
use crate::reading::Quantity;
use crate::units::Fixed;
use crate::windows::Dropped;
use crate::{cross_check, dark, ghost, heat};

pub(super) use models::model;

/// Most things that one note names; the rest is counted.
const NAMED_MAX: usize = 20;

/// Most things that one entry lists with their clocks, the soonest first.
const THINGS_MAX: usize = 500;

const WINDOW_MS: u64 = 30 * 86_400_000;

/// Rows of a payload that say the same about one figure.
#[derive(Default)]
struct Group {
    rows: u64,
    observed_ms: u128,
    newest: Option<Timestamp>,
}

struct Grouped<'a> {
    groups: BTreeMap<(&'static str, GroupKey<'a>, bool), (Group, &'a Origin)>,
}

/// Source, method, quality, confidence, fallback and note of an origin.
type GroupKey<'a> = (&'a str, &'a str, Quality, Confidence, [&'a str; 3]);

impl<'a> Grouped<'a> {
    fn add(
        &mut self,
        figure: &'static str,
        origin: &'a Origin,
        provisional: bool,
        observed_ms: u128,
        at: Timestamp,
    ) {
        let fallback = origin.fallback.as_ref();
        let key = (
            origin.source.as_str(),
            origin.method.as_str(),
            origin.quality,
            origin.confidence,
            [
                fallback.map_or("", |f| f.from.as_str()),
                fallback.map_or("", |f| f.reason.as_str()),
                origin.note.as_deref().unwrap_or_default(),
            ],
        );
        let (group, _) = self
            .groups
            .entry((figure, key, provisional))
            .or_insert_with(|| (Group::default(), origin));
        group.rows += 1;
        group.observed_ms = group.observed_ms.saturating_add(observed_ms);
        group.newest = group.newest.max(Some(at));
    }

    fn entries(self, rows: usize, window_ms: u64) -> Vec<Entry> {
        let all = count(rows);
        self.groups
            .into_iter()
            .map(|((figure, _, provisional), (group, origin))| {
                let whole = u128::from(window_ms) * u128::from(group.rows);
                let mut entry = Entry::new(figure, origin);
                entry.observed_at = group.newest;
                entry.coverage = Fixed::ratio(group.observed_ms.min(whole), whole);
                entry.provisional = provisional;
                entry.rows = (group.rows != all).then_some(group.rows);
                entry
            })
            .collect()
    }
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

fn rule(figure: &str, method: &str, quality: Quality, note: String) -> Entry {
    let confidence = match quality {
        Quality::Measured => Confidence::B,
        Quality::Estimated => Confidence::D,
        Quality::Default | Quality::Unavailable => Confidence::F,
    };
    let origin = Origin {
        source: "rule".to_owned(),
        method: method.to_owned(),
        quality,
        confidence,
        fallback: None,
        note: None,
    };
    let mut entry = Entry::new(figure, &origin);
    entry.note = Some(note);
    entry
}

/// Entries of a ghost compute payload.
pub(super) fn ghost(census: &ghost::Census, end: Timestamp, factors: &EnergyFactors) -> Vec<Entry> {
    const FIGURES: [&str; 4] = [
        "instance_inventory[].cpu_utilization_30day_avg",
        "instance_inventory[].memory_utilization_30day_avg",
        "instance_inventory[].network_io_30day_avg_mbps",
        "instance_inventory[].disk_io_30day_avg_iops",
    ];
    const POWER: &str = "instance_inventory[].power_draw_watts";
    let assumed = Origin {
        source: "default".to_owned(),
        method: "default-watts/1".to_owned(),
        quality: Quality::Default,
        confidence: Confidence::F,
        fallback: None,
        note: None,
    };
    let unnamed = ghost::ENERGY_QUALITIES.map(|quality| Origin {
        source: "unknown".to_owned(),
        method: "unknown".to_owned(),
        quality,
        confidence: Confidence::F,
        fallback: None,
        note: None,
    });
    let instances = &census.instances;
    let mut grouped = Grouped {
        groups: BTreeMap::new(),
    };
    for observed in instances {
        let usage = &observed.usage;
        let seen = observed.last_seen.min(end);
        let provisional = ghost::is_provisional(observed.first_seen, end);
        let spans = [
            usage.cpu_observed_ms,
            usage.memory_observed_ms,
            usage.network_observed_ms,
            usage.disk_observed_ms,
        ];
        for ((figure, origin), span) in FIGURES.into_iter().zip(&observed.origins).zip(spans) {
            if let Some(origin) = origin {
                grouped.add(figure, origin, provisional, span, seen);
            }
        }
        for ((part, origin), unnamed) in usage
            .energy
            .iter()
            .zip(&observed.energy_origins)
            .zip(&unnamed)
        {
            if part.observed_ms > 0 {
                let origin = origin.as_ref().unwrap_or(unnamed);
                grouped.add(POWER, origin, provisional, part.observed_ms, seen);
            }
        }
        if usage.mean_power_nw().is_none() {
            grouped.add(POWER, &assumed, provisional, 0, seen);
        }
    }
    let mut entries = grouped.entries(instances.len(), WINDOW_MS);
    let statements = instances.iter().filter_map(|one| one.cross_checks.as_ref());
    cross_check::attach(&mut entries, POWER, statements);
    entries.extend(ghost_rules(instances));
    entries.extend(ghost_sources(census));
    entries.extend([
        factors.price_usd_per_kwh.entry(
            "instance_inventory[].monthly_energy_cost_usd",
            "price_usd_per_kwh",
        ),
        factors.pue.entry("energy_summary.pue_multiplier", "pue"),
        factors
            .carbon_kg_per_kwh
            .entry("physical_impact.co2e_kg_monthly", "carbon_kg_per_kwh"),
        factors.water_site_l_per_kwh.entry(
            "physical_impact.water_liters_monthly",
            "water_site_l_per_kwh",
        ),
        factors.water_grid_l_per_kwh.entry(
            "physical_impact.water_liters_monthly",
            "water_grid_l_per_kwh",
        ),
    ]);
    entries
}

/// What the rules decided, where a reader could expect something else.
fn ghost_rules(instances: &[ghost::Observed]) -> Vec<Entry> {
    let rows = |wanted: &dyn Fn(&ghost::Observed) -> bool| {
        count(instances.iter().filter(|one| wanted(one)).count())
    };
    let mut entries = Vec::new();
    let unpriced = rows(&|one| one.facts.monthly_cost_usd.is_none());
    if unpriced > 0 {
        let note = "cost_basis: energy; nobody is billed for these instances".to_owned();
        let mut entry = rule(
            "instance_inventory[].monthly_cost_usd",
            "cost-basis/1",
            Quality::Estimated,
            note,
        );
        entry.rows = (unpriced != count(instances.len())).then_some(unpriced);
        entries.push(entry);
    }
    let unclassified = rows(&|one| one.usage.classify() == InstanceClass::InsufficientData);
    if unclassified > 0 {
        let note = "insufficient_data: observed for less than 24 hours, counted in total energy and \
                    never as ghost";
        let mut entry = rule(
            "instance_inventory[].classification",
            "ghost-and/1",
            Quality::Unavailable,
            note.to_owned(),
        );
        entry.rows = Some(unclassified);
        entries.push(entry);
    }
    entries
}

/// What the sources of instances said besides their figures.
fn ghost_sources(census: &ghost::Census) -> Vec<Entry> {
    let mut entries = Vec::new();
    if census.twice > 0 {
        let note = format!(
            "{} instances were reported by more than one source; the newest reading counts",
            census.twice
        );
        entries.push(rule(
            "instance_inventory[]",
            "newest-wins/1",
            Quality::Measured,
            note,
        ));
    }
    let servers: BTreeMap<_, Vec<&str>> = census.notes.iter().fold(
        BTreeMap::new(),
        |mut servers: BTreeMap<_, Vec<&str>>, (server, note)| {
            servers.entry(server).or_default().push(note);
            servers
        },
    );
    for (server, notes) in servers {
        let text = listed(notes.into_iter().map(str::to_owned)).unwrap_or_default();
        let mut entry = rule("instance_inventory[]", "survey/1", Quality::Estimated, text);
        entry.source.clone_from(server);
        entries.push(entry);
    }
    entries
}

/// How scans of one kind tell of last access and of size.
struct Basis {
    basis: AccessBasis,
    source: &'static str,
    method: &'static str,
    quality: Quality,
    access: &'static str,
    size: &'static str,
}

const BLOCKS: &str = "allocated blocks, hard links once";

const BASES: [Basis; 3] = [
    Basis {
        basis: AccessBasis::AccessTime,
        source: "filesystem",
        method: "filesystem-scan/1",
        quality: Quality::Measured,
        access: "access_time",
        size: BLOCKS,
    },
    Basis {
        basis: AccessBasis::MtimeLowerBound,
        source: "filesystem",
        method: "filesystem-scan/1",
        quality: Quality::Estimated,
        access: "mtime_lower_bound",
        size: BLOCKS,
    },
    Basis {
        basis: AccessBasis::LastModified,
        source: "s3",
        method: "s3-listing/1",
        quality: Quality::Estimated,
        access: "last_modified, a lower bound: the store tells of no reads",
        size: "sizes as listed, without older versions and unfinished uploads",
    },
];

impl Basis {
    fn entry(&self, figure: &str, quality: Quality) -> Entry {
        let mut entry = rule(figure, self.method, quality, String::new());
        entry.source = self.source.to_owned();
        entry.note = None;
        entry
    }
}

/// Entries of a dark data payload.
pub(super) fn dark(units: &[(StorageScan, Option<AccessAnomaly>)]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for basis in BASES {
        let scans = || units.iter().map(|(scan, _)| scan);
        let of_basis = || scans().filter(|scan| scan.basis == basis.basis);
        let newest = of_basis().map(|scan| scan.finished_at).max();
        if newest.is_none() {
            continue;
        }
        let mut entry = basis.entry("storage_inventory[]", basis.quality);
        entry.note = Some(format!(
            "access_basis: {}; size_basis: {}",
            basis.access, basis.size
        ));
        entry.observed_at = newest;
        let rows = count(of_basis().count());
        entry.rows = Some(rows).filter(|rows| *rows != count(units.len()));
        let mut ages = Ages::default();
        of_basis().for_each(|scan| ages.merge(&scan.ages));
        let histogram = (!ages.is_empty()).then(|| {
            let mut histogram = basis.entry(dark::AGES_FIGURE, basis.quality);
            histogram.rows = entry.rows;
            histogram.ages = ages.bands().collect();
            histogram
        });
        entries.push(entry);
        entries.extend(histogram);
    }
    let unpriced = units.iter().filter(|(scan, _)| scan.is_unpriced()).count();
    if unpriced > 0 {
        let note = "no price is configured for these storage units, or for one of their storage classes; 0.0 \
                    stands for unknown";
        let mut entry = rule(
            "storage_inventory[].monthly_cost_usd",
            "price/1",
            Quality::Unavailable,
            note.to_owned(),
        );
        entry.rows = Some(count(unpriced));
        entries.push(entry);
    }
    for basis in BASES {
        let partial = units
            .iter()
            .filter(|(scan, _)| scan.unreadable > 0 && scan.basis == basis.basis);
        if let Some(note) = listed(partial.map(|(scan, _)| {
            let read = scan.active.objects.saturating_add(scan.dark.objects);
            format!(
                "{}: {} of {} objects and directories could not be read",
                scan.unit,
                scan.unreadable,
                read.saturating_add(scan.unreadable)
            )
        })) {
            let mut entry = basis.entry("storage_inventory[].total_size_gb", Quality::Estimated);
            entry.note = Some(note);
            entries.push(entry);
        }
    }
    let anomalies = units
        .iter()
        .filter_map(|(scan, found)| found.as_ref().map(|found| (scan, found)));
    if let Some(note) = listed(anomalies.map(|(scan, found)| {
        format!(
            "{}: {} of {} dark bytes turned active between two scans",
            scan.unit, found.turned_active.0, found.dark_before.0
        )
    })) {
        let note = format!("access_anomaly: {note}");
        entries.push(rule(
            "summary.dark_data_ratio",
            "access-anomaly/1",
            Quality::Measured,
            note,
        ));
    }
    entries
}

/// Entries of a heat recovery payload.
pub(super) fn heat(
    sources: &[heat::Observed],
    rows: &[ThermalSource],
    end: Timestamp,
) -> Vec<Entry> {
    const FIGURES: [&str; 4] = [
        "thermal_sources[].thermal_output_kw",
        "thermal_sources[].heat_captured_kw",
        "source_captured_kw",
        "thermal_sources[].exhaust_temp_celsius",
    ];
    const QUANTITIES: [Quantity; 4] = [
        Quantity::ThermalOutput,
        Quantity::HeatDelivered,
        Quantity::HeatSourceCaptured,
        Quantity::ExhaustMilliKelvin,
    ];
    let mut grouped = Grouped {
        groups: BTreeMap::new(),
    };
    for observed in sources {
        let spans = [
            observed.output.observed_ms,
            observed.delivered.observed_ms,
            observed.source_captured.observed_ms,
            observed.exhaust.observed_ms,
        ];
        for ((figure, origin), span) in FIGURES.into_iter().zip(&observed.origins).zip(spans) {
            if let (Some(origin), true) = (origin, span > 0) {
                grouped.add(figure, origin, false, span, observed.last_seen.min(end));
            }
        }
    }
    let mut entries = grouped.entries(sources.len(), heat::WINDOW.0);
    for (figure, quantity) in FIGURES.into_iter().zip(QUANTITIES) {
        let missing = sources.iter().filter_map(|one| {
            let why = one.facts.missing.get(&quantity)?;
            Some(format!("{}: {why}", one.facts.source))
        });
        if let Some(note) = listed(missing) {
            let unavailable = Quality::Unavailable;
            entries.push(rule(figure, "heat-missing/1", unavailable, note));
        }
    }
    let captured = sources.iter().filter_map(|one| {
        let kw = one.source_captured.mean_kw()?;
        Some(format!("{}: source_captured_kw {kw}", one.facts.source))
    });
    if let Some(note) = listed(captured) {
        entries.push(rule(
            "source_captured_kw",
            "heat-mean/1",
            Quality::Measured,
            note,
        ));
    }
    let thin = sources.iter().filter(|one| one.efficiency().is_none());
    if let Some(note) = listed(thin.map(|one| {
        let share = one.common_coverage();
        format!(
            "{}: output and delivery were both observed for {share} of the window",
            one.facts.source
        )
    })) {
        entries.push(rule(
            "thermal_sources[].recovery_efficiency",
            "heat-efficiency/1",
            Quality::Unavailable,
            note,
        ));
    }
    if heat::is_exempt(rows) {
        entries.push(rule(
            heat::EXEMPTION_FIGURE,
            "heat-exemption/1",
            Quality::Measured,
            heat::EXEMPT_BELOW_50KW.to_owned(),
        ));
    } else if let Some(reason) = heat::season(sources, end) {
        entries.push(rule(
            heat::EXEMPTION_FIGURE,
            "heat-exemption/1",
            Quality::Default,
            format!("{}{reason}", heat::EXEMPT_SEASONAL),
        ));
    }
    entries
}

/// Entries of a coverage payload.
pub(super) fn coverage(assessment: &Assessment, end: Timestamp) -> Vec<Entry> {
    let mut entries = Vec::new();
    let gate = match assessment.minimum {
        Some(minimum) if assessment.passes() => {
            format!("smallest of the three: {minimum}, gate {GATE}: passed")
        }
        Some(minimum) => format!("smallest of the three: {minimum}, gate {GATE}: not passed"),
        None => "nothing is documented, so there is no ratio".to_owned(),
    };
    entries.push(rule(
        "coverage_ratios",
        "coverage-pooled/1",
        Quality::Measured,
        gate,
    ));
    entries.push(rule(
        "bronze_inventory_baseline",
        coverage::INVENTORY_METHOD,
        Quality::Measured,
        format!("inventory {}", assessment.inventory),
    ));
    let mut clocks = |figure: &str, method: &str, words: &str, things: &[Thing]| {
        if things.is_empty() {
            return;
        }
        let overdue = things.iter().filter(|thing| {
            let due = thing.due;
            due.is_some_and(|due| due < end)
        });
        let note = match overdue.count() {
            0 => words.to_owned(),
            overdue => format!("{words}: overdue {overdue}"),
        };
        let mut entry = rule(figure, method, Quality::Measured, note);
        entry.rows = Some(count(things.len()));
        entry.things = things.iter().take(THINGS_MAX).cloned().collect();
        entries.push(entry);
    };
    clocks(
        "missing_instances",
        coverage::MISSING_METHOD,
        "missing, 7 days to return or to be shown as decommissioned",
        &assessment.missing,
    );
    clocks(
        "current_telemetry_sources",
        coverage::UNLISTED_METHOD,
        "unlisted, 48 hours to enter the inventory",
        &assessment.unlisted,
    );
    clocks(
        "bronze_inventory_baseline",
        coverage::DECOMMISSIONED_METHOD,
        "decommissioned, and no longer counted as documented",
        &assessment.decommissioned,
    );
    if let Some(note) = listed(assessment.remarks.iter().cloned()) {
        entries.push(rule(
            "bronze_inventory_baseline",
            "inventory-remarks/1",
            Quality::Measured,
            note,
        ));
    }
    entries
}

/// What did not fit or came too late, where there was any.
pub(super) fn dropped(dropped: &Dropped) -> Option<Entry> {
    let note = dropped.describe()?;
    Some(rule("readings", "bounds/1", Quality::Unavailable, note))
}

/// Joins the first few and counts the rest; nothing when there are none.
fn listed(items: impl Iterator<Item = String>) -> Option<String> {
    let mut items = items.fuse();
    let mut text = items
        .by_ref()
        .take(NAMED_MAX)
        .collect::<Vec<_>>()
        .join("; ");
    let more = items.count();
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    (!text.is_empty()).then_some(text)
}
