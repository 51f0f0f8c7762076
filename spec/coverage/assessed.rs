//! The comparison itself, and what it looks like to people who still can do something.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::history::Row;
use super::{
    Baseline, Documented, Evidence, History, Kind, MISSING_GRACE, Reporting, UNLISTED_GRACE,
    enough_of, is_enough, share,
};
use crate::payload::v1::{BaselineCounts, CoverageRatios, SourceCounts, TelemetryCoverage};
use crate::units::Fixed;

/// Rows that left the inventory are told for the window of the specification's averages.
const WITHDRAWN_SHOWN_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Most things of each list that a forecast names; the rest is counted.
const FORECAST_MAX: usize = 50;

/// What reports, against what was documented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// Names the inventory.
    pub inventory: String,
    /// The specification's object.
    pub coverage: TelemetryCoverage,
    /// Each kind, in the order of [`Kind::ALL`].
    pub shares: [Share; 3],
    /// The smallest of the three ratios.
    pub minimum: Option<Fixed<3>>,
    /// Documented things that do not report, each with its clock, the soonest first.
    pub missing: Vec<Thing>,
    /// Things that report and are not documented, each with its clock, the soonest first.
    pub unlisted: Vec<Thing>,
    /// Things that were taken out of service, each with its evidence.
    pub decommissioned: Vec<Thing>,
    /// What a person should look at besides, in words.
    pub remarks: Vec<String>,
}

/// What reports of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Of what.
    pub kind: Kind,
    /// How many are documented and in service.
    pub documented: u64,
    /// How many of them report.
    pub reporting: u64,
}

/// One thing with its clock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Thing {
    /// By when it must be put right; nothing where there is nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// What kind of thing it is.
    pub kind: Kind,
    /// `id (name)`, or the id alone where nobody has given it a name.
    pub what: String,
    /// Since when it is so.
    pub since: Timestamp,
    /// What shows it: the name of a file and its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

/// What will breach the specification's rules, and when, unless somebody does something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// When the inventory was handed in.
    pub submission_date: Date,
    /// Each kind of which something is documented.
    pub shares: Vec<Share>,
    /// The smallest ratio; nothing when nothing is documented.
    pub minimum: Option<Fixed<3>>,
    /// Whether every kind reports enough now.
    pub passes: bool,
    /// When the next clock runs out; one that has run out is in the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_breach: Option<Timestamp>,
    /// How many clocks have run out.
    pub overdue: u64,
    /// How many things there are of each list, of which the first are below.
    pub counts: Counts,
    /// Documented and silent, the soonest first.
    pub missing: Vec<Thing>,
    /// Reporting and not documented, the soonest first.
    pub unlisted: Vec<Thing>,
    /// Out of service with evidence.
    pub decommissioned: Vec<Thing>,
    /// What a person should look at besides.
    pub remarks: Vec<String>,
}

/// How long the lists of a forecast really are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Documented and silent.
    pub missing: u64,
    /// Reporting and not documented.
    pub unlisted: u64,
    /// Out of service with evidence.
    pub decommissioned: u64,
}

impl Share {
    /// The ratio; nothing when nothing is documented.
    #[must_use]
    pub fn ratio(&self) -> Option<Fixed<3>> {
        share(self.reporting, self.documented)
    }

    /// Whether enough reports.
    #[must_use]
    pub fn passes(&self) -> bool {
        is_enough(self.reporting, self.documented)
    }

    /// How many must report.
    #[must_use]
    pub fn needed(&self) -> u64 {
        enough_of(self.documented)
    }
}

impl Assessment {
    /// Whether every kind reports enough.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.minimum.is_some() && self.shares.iter().all(Share::passes)
    }

    /// What will breach, and when.
    #[must_use]
    pub fn forecast(self, now: Timestamp) -> Forecast {
        let passes = self.passes();
        let clocks = || self.missing.iter().chain(&self.unlisted);
        let next_breach = clocks().filter_map(|thing| thing.due).min();
        let is_overdue = |thing: &&Thing| thing.due.is_some_and(|due| due < now);
        let overdue = count(clocks().filter(is_overdue).count());
        let counts = Counts {
            missing: count(self.missing.len()),
            unlisted: count(self.unlisted.len()),
            decommissioned: count(self.decommissioned.len()),
        };
        let first = |things: Vec<Thing>| things.into_iter().take(FORECAST_MAX).collect();
        Forecast {
            submission_date: self.coverage.bronze_inventory_baseline.submission_date,
            shares: self
                .shares
                .into_iter()
                .filter(|s| s.documented > 0)
                .collect(),
            minimum: self.minimum,
            passes,
            next_breach,
            overdue,
            counts,
            missing: first(self.missing),
            unlisted: first(self.unlisted),
            decommissioned: first(self.decommissioned),
            remarks: self.remarks.into_iter().take(FORECAST_MAX).collect(),
        }
    }
}

/// Compares the documented inventory with what reports (specification II.E).
///
/// What was decommissioned with evidence is neither documented nor missing; without it, it is both.
#[must_use]
pub fn assess(
    baseline: &Baseline,
    history: &History,
    reporting: &Reporting,
    now: Timestamp,
) -> Assessment {
    let mut found = Found::default();
    let shares = Kind::ALL.map(|kind| found.kind(kind, baseline, history, reporting, now));
    for list in [
        &mut found.missing,
        &mut found.unlisted,
        &mut found.decommissioned,
    ] {
        list.sort_unstable();
    }
    let ratios = shares.map(|share| share.ratio());
    let (part, whole) = shares.iter().fold((0, 0), |(part, whole), share| {
        (part + share.reporting, whole + share.documented)
    });
    let [instances, storage, endpoints] = shares;
    Assessment {
        inventory: baseline.fingerprint(),
        coverage: TelemetryCoverage {
            bronze_inventory_baseline: BaselineCounts {
                submission_date: baseline.submission_date,
                total_instances_documented: instances.documented,
                total_storage_buckets_documented: storage.documented,
                total_model_endpoints_documented: endpoints.documented,
            },
            current_telemetry_sources: SourceCounts {
                instances_reporting: instances.reporting,
                storage_reporting: storage.reporting,
                model_endpoints_reporting: endpoints.reporting,
            },
            coverage_ratios: CoverageRatios {
                instance_coverage: ratios[0],
                storage_coverage: ratios[1],
                model_coverage: ratios[2],
                overall_coverage: share(part, whole),
            },
            missing_instances: found.missing_instances,
        },
        shares,
        minimum: ratios.into_iter().flatten().min(),
        missing: found.missing,
        unlisted: found.unlisted,
        decommissioned: found.decommissioned,
        remarks: found.remarks,
    }
}

#[derive(Default)]
struct Found {
    missing_instances: Vec<String>,
    missing: Vec<Thing>,
    unlisted: Vec<Thing>,
    decommissioned: Vec<Thing>,
    remarks: Vec<String>,
}

impl Found {
    fn kind(
        &mut self,
        kind: Kind,
        baseline: &Baseline,
        history: &History,
        reporting: &Reporting,
        now: Timestamp,
    ) -> Share {
        let reports = reporting.of(kind);
        let silent = reporting.silent.get(kind as usize);
        let began = history.since().unwrap_or(now);
        let documented: BTreeMap<&str, &Documented> = baseline
            .of(kind)
            .iter()
            .map(|one| (one.id.as_str(), one))
            .collect();
        let mut share = Share {
            kind,
            documented: 0,
            reporting: 0,
        };
        for (id, one) in &documented {
            let row = history.row(kind, id);
            let reports = reports.contains_key(*id);
            if self.is_decommissioned(kind, one, row, reports, now) {
                continue;
            }
            share.documented += 1;
            if reports {
                share.reporting += 1;
                continue;
            }
            let seen = silent.and_then(|silent| silent.get(*id)).copied();
            let seen = [seen, history.seen(kind, id)].into_iter().flatten();
            let last_seen = seen.map(|span| span.last_seen).max();
            let documented_since = row.map_or(began, |row| row.since);
            let since = last_seen.map_or(documented_since, |seen| seen.max(documented_since));
            if kind == Kind::Instance {
                self.missing_instances.push(one.label());
            }
            self.missing
                .push(Thing::due(kind, one.label(), since, MISSING_GRACE));
        }
        for (id, span) in reports {
            if documented.contains_key(id.as_str()) {
                continue;
            }
            let remembered = history.seen(kind, id).map(|seen| seen.first_seen);
            let first_seen = remembered.map_or(span.first_seen, |seen| seen.min(span.first_seen));
            let left = history.row(kind, id).and_then(|row| row.withdrawn);
            // Nobody could have known it before there was an inventory, or while it was in there.
            let since = first_seen.max(began).max(left.unwrap_or(Timestamp::MIN));
            self.unlisted
                .push(Thing::due(kind, id.clone(), since, UNLISTED_GRACE));
        }
        for (at, id) in history.withdrawn(kind) {
            if now.duration_since(at) < WITHDRAWN_SHOWN_FOR && !reports.contains_key(id) {
                self.remarks.push(format!(
                    "{} {id} left the inventory at {at:.0} without a record of its decommission",
                    kind.word()
                ));
            }
        }
        share
    }

    /// Whether a thing was taken out of service, with evidence.
    fn is_decommissioned(
        &mut self,
        kind: Kind,
        one: &Documented,
        row: Option<&Row>,
        reports: bool,
        now: Timestamp,
    ) -> bool {
        let Some(record) = &one.decommissioned else {
            return false;
        };
        let label = one.label();
        let since = record.since();
        if since > now {
            return false;
        }
        let digest = match &record.digest {
            Evidence::Sha256(digest) => digest,
            Evidence::Unreadable(why) => {
                self.remarks.push(format!(
                    "{label}: the record of its decommission does not count: {why}"
                ));
                return false;
            }
        };
        if let Some(first) = row.and_then(|row| row.evidence.as_ref())
            && let Evidence::Sha256(before) = &first.record.digest
            && before != digest
        {
            self.remarks.push(format!(
                "{label}: the evidence {} has changed: sha-256 {before} at {:.0}, now {digest}",
                record.evidence, first.at
            ));
        }
        if reports {
            self.remarks.push(format!(
                "{label}: decommissioned on {} by the inventory, and reports all the same: remove the record or \
                 switch it off",
                record.date
            ));
        }
        self.decommissioned.push(Thing {
            kind,
            what: label,
            since,
            due: None,
            proof: Some(format!("{} sha-256 {digest}", record.evidence)),
        });
        true
    }
}

impl Thing {
    fn due(kind: Kind, what: String, since: Timestamp, grace: SignedDuration) -> Self {
        Self {
            kind,
            what,
            since,
            due: Some(since.checked_add(grace).unwrap_or(Timestamp::MAX)),
            proof: None,
        }
    }
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}
