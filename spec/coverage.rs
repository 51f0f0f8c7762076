//! Telemetry coverage (specification II.E): what reports, against what was documented.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::payload::v1::{BaselineCounts, CoverageRatios, SourceCounts, TelemetryCoverage};
use crate::units::Fixed;

/// Every category must report at least this share of what is documented.
pub const GATE: Fixed<3> = Fixed::from_raw(950);

/// A documented instance that does not report must be back, or shown to be gone, within this time.
pub const MISSING_GRACE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A new instance must be in the documented inventory within this time.
pub const UNLISTED_GRACE: SignedDuration = SignedDuration::from_hours(48);

/// The documented inventory that coverage is measured against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// When it was handed in.
    pub submission_date: Date,
    /// Documented instances.
    pub instances: Vec<Documented>,
    /// Documented storage units.
    pub storage: Vec<Documented>,
    /// Documented model endpoints.
    pub model_endpoints: Vec<Documented>,
}

/// One thing of the documented inventory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Documented {
    /// The id under which it reports.
    pub id: String,
    /// What people call it.
    pub name: String,
}

/// What reports now, by the id under which it reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reporting {
    /// Instances, with the first and the newest reading of each.
    pub instances: BTreeMap<String, Span>,
    /// Instances that have reported before and do not now, with the newest reading of each.
    pub silent_instances: BTreeMap<String, Timestamp>,
    /// Storage units with a scan that still holds.
    pub storage: BTreeSet<String>,
    /// Model endpoints that served a request.
    pub model_endpoints: BTreeSet<String>,
}

/// The first and the newest reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First.
    pub first_seen: Timestamp,
    /// Newest.
    pub last_seen: Timestamp,
}

/// What reports, against what was documented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// The specification's object.
    pub coverage: TelemetryCoverage,
    /// The smallest of the three ratios, which the gate of 0.95 applies to.
    pub minimum: Option<Fixed<3>>,
    /// Documented instances that do not report, each with its clock.
    pub missing: Vec<Overdue>,
    /// Instances that report and are not documented, each with its clock.
    pub unlisted: Vec<Overdue>,
}

/// Something that has to be put right by a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// `id (name)`, or the id alone where nobody has given it a name.
    pub what: String,
    /// Since when it is so.
    pub since: Timestamp,
    /// By when it must be put right.
    pub due: Timestamp,
}

impl Assessment {
    /// Whether every category reports enough.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.minimum.is_some_and(|minimum| minimum >= GATE)
    }
}

/// Compares the documented inventory with what reports (specification II.E).
///
/// `known_since` is when the baseline was first read: an instance that was never seen is missing since then.
#[must_use]
pub fn assess(baseline: &Baseline, known_since: Timestamp, reporting: &Reporting) -> Assessment {
    let instances = unique(&baseline.instances);
    let storage = unique(&baseline.storage);
    let endpoints = unique(&baseline.model_endpoints);
    let found = |documented: &BTreeMap<&str, &str>, is_there: &dyn Fn(&str) -> bool| {
        let there = documented.keys().filter(|id| is_there(id)).count();
        (count(there), count(documented.len()))
    };
    let counts = [
        found(&instances, &|id| reporting.instances.contains_key(id)),
        found(&storage, &|id| reporting.storage.contains(id)),
        found(&endpoints, &|id| reporting.model_endpoints.contains(id)),
    ];
    let ratios = counts.map(|(part, whole)| share(part, whole));
    let (part, whole) = counts
        .iter()
        .fold((0, 0), |(p, w), (part, whole)| (p + part, w + whole));
    let missing: Vec<Overdue> = instances
        .iter()
        .filter(|(id, _)| !reporting.instances.contains_key(**id))
        .map(|(id, name)| {
            let since = reporting.silent_instances.get(*id).copied();
            overdue(
                labelled(id, name),
                since.unwrap_or(known_since),
                MISSING_GRACE,
            )
        })
        .collect();
    let unlisted = reporting
        .instances
        .iter()
        .filter(|(id, _)| !instances.contains_key(id.as_str()))
        .map(|(id, span)| overdue(id.clone(), span.first_seen, UNLISTED_GRACE))
        .collect();
    Assessment {
        coverage: TelemetryCoverage {
            bronze_inventory_baseline: BaselineCounts {
                submission_date: baseline.submission_date,
                total_instances_documented: counts[0].1,
                total_storage_buckets_documented: counts[1].1,
                total_model_endpoints_documented: counts[2].1,
            },
            current_telemetry_sources: SourceCounts {
                instances_reporting: counts[0].0,
                storage_reporting: counts[1].0,
                model_endpoints_reporting: counts[2].0,
            },
            coverage_ratios: CoverageRatios {
                instance_coverage: ratios[0],
                storage_coverage: ratios[1],
                model_coverage: ratios[2],
                overall_coverage: share(part, whole),
            },
            missing_instances: missing.iter().map(|entry| entry.what.clone()).collect(),
        },
        minimum: ratios.into_iter().flatten().min(),
        missing,
        unlisted,
    }
}

/// Reporting over documented; nothing when nothing is documented.
#[must_use]
pub fn share(part: u64, whole: u64) -> Option<Fixed<3>> {
    Fixed::ratio(u128::from(part.min(whole)), u128::from(whole))
}

fn unique(documented: &[Documented]) -> BTreeMap<&str, &str> {
    documented
        .iter()
        .map(|one| (one.id.as_str(), one.name.as_str()))
        .collect()
}

fn labelled(id: &str, name: &str) -> String {
    if name.is_empty() {
        id.to_owned()
    } else {
        format!("{id} ({name})")
    }
}

fn overdue(what: String, since: Timestamp, grace: SignedDuration) -> Overdue {
    Overdue {
        what,
        since,
        due: since.checked_add(grace).unwrap_or(Timestamp::MAX),
    }
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}
