//! Coverage of several agents: what is missing for all of them, what any of them has found besides.

use std::collections::{BTreeMap, BTreeSet};

use super::Clocks;
use super::figures::Envelopes;
use crate::coverage::{
    DECOMMISSIONED_METHOD, INVENTORY_METHOD, Kind, MISSING_METHOD, Thing, UNLISTED_METHOD, share,
};
use crate::payload::v1::{BaselineCounts, CoverageRatios, SourceCounts, TelemetryCoverage};
use crate::payload::{Data, Envelope};

/// An inventory: by its fingerprint, or else by its date and totals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Inventory {
    Named(String),
    Counted(jiff::civil::Date, [u64; 3]),
}

/// Things by what they are, each with the clock that holds for all agents.
type Things = BTreeMap<(Kind, String), Thing>;

/// Agents with the same inventory see the same things: one is missing when it is for all of them, out of service
/// when any of them has the evidence, and what they count is added up to at most what is documented. Different
/// inventories are added.
pub(super) fn merge(envelopes: &Envelopes<'_>) -> Option<(TelemetryCoverage, Clocks)> {
    let mut groups: BTreeMap<Inventory, Vec<(&TelemetryCoverage, &Envelope)>> = BTreeMap::new();
    for (_, envelope) in envelopes {
        if let Data::TelemetryCoverage(coverage) = &envelope.data {
            let members = groups.entry(inventory(coverage, envelope)).or_default();
            members.push((coverage, envelope));
        }
    }
    let dates = groups.values().flatten();
    let date = dates
        .map(|(coverage, _)| coverage.bronze_inventory_baseline.submission_date)
        .max()?;
    let mut missing_all: BTreeSet<&str> = BTreeSet::new();
    let mut documented = [0_u64; 3];
    let mut reporting = [0_u64; 3];
    let mut clocks = [Things::new(), Things::new(), Things::new()];
    for members in groups.values() {
        let lists = members.iter().map(|(coverage, _)| {
            let list = coverage.missing_instances.iter().map(String::as_str);
            list.collect::<BTreeSet<&str>>()
        });
        let missing = lists.reduce(|a, b| &a & &b).unwrap_or_default();
        let listed = u64::try_from(missing.len()).unwrap_or(u64::MAX);
        let wholes = members.iter().map(|(coverage, _)| totals(coverage));
        let whole = wholes.reduce(|a, b| [0, 1, 2].map(|at: usize| a[at].min(b[at])));
        let whole = whole.unwrap_or_default();
        let mut here = [0_u64; 3];
        for (coverage, _) in members {
            let counts = &coverage.current_telemetry_sources;
            here[0] = here[0].saturating_add(counts.instances_reporting);
            here[1] = here[1].saturating_add(counts.storage_reporting);
            here[2] = here[2].saturating_add(counts.model_endpoints_reporting);
        }
        // A list that is shorter than it says leaves more missing than it names.
        here[0] = here[0].min(whole[0].saturating_sub(listed));
        for at in 0..whole.len() {
            documented[at] = documented[at].saturating_add(whole[at]);
            reporting[at] = reporting[at].saturating_add(here[at].min(whole[at]));
        }
        missing_all.extend(missing);
        let [gone, unlisted, decommissioned] = &mut clocks;
        let silent = members
            .iter()
            .map(|(_, envelope)| things(envelope, MISSING_METHOD));
        gone.extend(silent.reduce(for_all).unwrap_or_default());
        for (_, envelope) in members {
            any_of(unlisted, things(envelope, UNLISTED_METHOD));
            any_of(decommissioned, things(envelope, DECOMMISSIONED_METHOD));
        }
    }
    let [missing, unlisted, decommissioned] = clocks;
    let ratio = |at: usize| share(reporting[at], documented[at]);
    let total = |counts: [u64; 3]| counts.into_iter().fold(0_u64, u64::saturating_add);
    let coverage = TelemetryCoverage {
        bronze_inventory_baseline: BaselineCounts {
            submission_date: date,
            total_instances_documented: documented[0],
            total_storage_buckets_documented: documented[1],
            total_model_endpoints_documented: documented[2],
        },
        current_telemetry_sources: SourceCounts {
            instances_reporting: reporting[0],
            storage_reporting: reporting[1],
            model_endpoints_reporting: reporting[2],
        },
        coverage_ratios: CoverageRatios {
            instance_coverage: ratio(0),
            storage_coverage: ratio(1),
            model_coverage: ratio(2),
            overall_coverage: share(total(reporting), total(documented)),
        },
        missing_instances: missing_all.into_iter().map(str::to_owned).collect(),
    };
    let clocks = Clocks {
        missing: sorted(without(missing, &decommissioned)),
        unlisted: sorted(unlisted),
        decommissioned: sorted(decommissioned),
    };
    Some((coverage, clocks))
}

fn inventory(coverage: &TelemetryCoverage, envelope: &Envelope) -> Inventory {
    let mut entries = envelope.provenance.iter();
    let named = entries
        .find(|entry| entry.method == INVENTORY_METHOD)
        .and_then(|entry| entry.note.clone());
    named.map_or_else(
        || {
            let date = coverage.bronze_inventory_baseline.submission_date;
            Inventory::Counted(date, totals(coverage))
        },
        Inventory::Named,
    )
}

fn totals(coverage: &TelemetryCoverage) -> [u64; 3] {
    let baseline = &coverage.bronze_inventory_baseline;
    [
        baseline.total_instances_documented,
        baseline.total_storage_buckets_documented,
        baseline.total_model_endpoints_documented,
    ]
}

/// What an entry lists.
fn things(envelope: &Envelope, method: &str) -> Things {
    let entries = envelope
        .provenance
        .iter()
        .filter(|entry| entry.method == method);
    entries
        .flat_map(|entry| &entry.things)
        .map(|thing| ((thing.kind, thing.what.clone()), thing.clone()))
        .collect()
}

/// What is missing for both: since the later of the two has lost sight of it.
fn for_all(a: Things, b: Things) -> Things {
    let mut both = a;
    both.retain(|key, thing| {
        let Some(other) = b.get(key) else {
            return false;
        };
        if other.since > thing.since {
            *thing = other.clone();
        }
        true
    });
    both
}

/// What any of them has found: since the first of them has.
fn any_of(all: &mut Things, found: Things) {
    for (key, thing) in found {
        let known = all.get(&key);
        if known.is_none_or(|known| thing < *known) {
            all.insert(key, thing);
        }
    }
}

/// An agent that cannot read the evidence still calls missing what another one knows to be gone.
fn without(mut missing: Things, decommissioned: &Things) -> Things {
    missing.retain(|key, _| !decommissioned.contains_key(key));
    missing
}

fn sorted(things: Things) -> Vec<Thing> {
    let mut sorted: Vec<Thing> = things.into_values().collect();
    sorted.sort_unstable();
    sorted
}
