//! What the windows amount to at the end of a slot.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::thermal::{THERMAL_BUCKET_MS, THERMAL_BUCKETS};
use super::{
    BUCKET_MS, BUCKETS, NothingToSay, SCAN_HOLDS_MS, SILENT_AFTER_MS, Windows, millis, timestamp,
};
use crate::category::Category;
use crate::coverage::{self, Reporting, Span};
use crate::ghost::{self, InstanceFacts};
use crate::ids::Subject;
use crate::models;
use crate::payload::build::{Closed, Content};
use crate::slot::Slot;

pub(super) fn close(
    windows: &Windows,
    category: Category,
    slot: Slot,
) -> Result<Closed, NothingToSay> {
    let content = match category {
        Category::CoverageVerification => coverage(windows, slot)?,
        Category::DarkData => dark(windows, slot)?,
        Category::GhostCompute => ghost(windows, slot)?,
        Category::HeatRecovery => heat(windows, slot)?,
        Category::ModelEfficiency => model(windows, slot)?,
    };
    Ok(Closed {
        slot,
        content,
        dropped: windows.dropped,
    })
}

fn nothing(reason: &str) -> NothingToSay {
    NothingToSay {
        reason: reason.to_owned(),
    }
}

/// The buckets of a window that ends with the slot: the last one is the one that the slot ends in.
fn span(slot: Slot, bucket_ms: i64, buckets: i64) -> (i64, i64) {
    let end = millis(slot.end);
    let to = end.div_euclid(bucket_ms) + i64::from(end.rem_euclid(bucket_ms) > 0);
    (to - buckets, to)
}

fn rolling(slot: Slot) -> (i64, i64) {
    span(slot, BUCKET_MS, i64::try_from(BUCKETS).unwrap_or(i64::MAX))
}

/// Whether something last seen at `seen` still runs at the end of the slot.
fn runs(seen: i64, slot: Slot) -> bool {
    seen >= millis(slot.end).saturating_sub(SILENT_AFTER_MS)
}

fn ghost(windows: &Windows, slot: Slot) -> Result<Content, NothingToSay> {
    let (from, to) = rolling(slot);
    let end = millis(slot.end);
    let running = windows
        .instances
        .iter()
        .filter(|(_, one)| runs(one.last_seen, slot) && one.first_seen < end);
    let mut instances: BTreeMap<&Subject, ghost::Observed> = running
        .map(|(subject, instance)| {
            let unnamed = || InstanceFacts {
                instance: subject.clone(),
                instance_type: "unknown".to_owned(),
                region: "unknown".to_owned(),
                launch_time: timestamp(instance.first_seen),
                monthly_cost_usd: None,
            };
            let origin = |index| windows.origins.get(index).cloned();
            let observed = ghost::Observed {
                facts: instance.facts.clone().unwrap_or_else(unnamed),
                usage: instance.usage(from, to),
                first_seen: timestamp(instance.first_seen),
                last_seen: timestamp(instance.last_seen),
                origins: instance.usage_origins().map(origin),
                energy_origins: instance.energy_origins.map(origin),
                cross_checks: instance.cross_checks(end).cloned(),
            };
            (subject, observed)
        })
        .collect();
    let mut census = ghost::Census::default();
    for survey in windows.surveys.values() {
        let running = survey
            .instances
            .iter()
            .filter(|one| runs(millis(one.last_seen), slot) && millis(one.first_seen) < end);
        let mut is_running = false;
        for one in running {
            is_running = true;
            match instances.entry(&one.facts.instance) {
                Entry::Vacant(none) => {
                    none.insert(survey.observed(one));
                }
                Entry::Occupied(mut other) => {
                    census.twice += 1;
                    if one.last_seen > other.get().last_seen {
                        other.insert(survey.observed(one));
                    }
                }
            }
        }
        if is_running {
            let note = |note: &String| (survey.server.clone(), note.clone());
            census.notes.extend(survey.notes.iter().map(note));
        }
    }
    if instances.is_empty() {
        return Err(nothing("no instance has reported in the last 24 hours"));
    }
    census.instances = instances.into_values().collect();
    Ok(Content::Ghost(census))
}

fn dark(windows: &Windows, slot: Slot) -> Result<Content, NothingToSay> {
    let units: Vec<_> = windows
        .storage
        .values()
        .filter(|(scan, _)| holds(millis(scan.finished_at), slot))
        .cloned()
        .collect();
    if units.is_empty() {
        return Err(nothing(
            "no storage unit has a finished scan of the last 48 hours",
        ));
    }
    Ok(Content::Dark(units))
}

/// Whether a scan that ended then still holds at the end of the slot.
fn holds(finished: i64, slot: Slot) -> bool {
    finished >= millis(slot.end).saturating_sub(SCAN_HOLDS_MS)
}

fn heat(windows: &Windows, slot: Slot) -> Result<Content, NothingToSay> {
    let window = span(slot, THERMAL_BUCKET_MS, THERMAL_BUCKETS);
    let observed: Vec<_> = windows
        .thermal
        .iter()
        .filter_map(|(subject, source)| {
            source.observed(subject, window, |index| windows.origins.get(index))
        })
        .collect();
    if observed.is_empty() {
        return Err(nothing(
            "no thermal source has reported in the last 24 hours",
        ));
    }
    Ok(Content::Heat(observed))
}

fn model(windows: &Windows, slot: Slot) -> Result<Content, NothingToSay> {
    let (from, to) = rolling(slot);
    let rolling = windows.models.rolling(from, to);
    if rolling.is_empty() {
        return Err(nothing("no model request was read in the last 30 days"));
    }
    let (log, log_of) = windows.models.log(slot);
    let origin = windows.models.origin().and_then(|(index, at)| {
        let origin = windows.origins.get(Some(index))?;
        Some((origin.clone(), timestamp(at)))
    });
    Ok(Content::Model(Box::new(models::Observed {
        rolling,
        log,
        log_of,
        origin,
    })))
}

fn coverage(windows: &Windows, slot: Slot) -> Result<Content, NothingToSay> {
    let Some((baseline, known_since)) = &windows.baseline else {
        return Err(nothing("no inventory baseline has been read"));
    };
    let mut reporting = Reporting::default();
    for (subject, instance) in &windows.instances {
        let last_seen = timestamp(instance.last_seen);
        if runs(instance.last_seen, slot) {
            let span = Span {
                first_seen: timestamp(instance.first_seen),
                last_seen,
            };
            reporting.instances.insert(subject.to_string(), span);
        } else {
            let id = subject.to_string();
            reporting.silent_instances.insert(id, last_seen);
        }
    }
    for one in windows
        .surveys
        .values()
        .flat_map(|survey| &survey.instances)
    {
        let id = one.facts.instance.to_string();
        if runs(millis(one.last_seen), slot) {
            let seen = reporting.instances.entry(id).or_insert(Span {
                first_seen: one.first_seen,
                last_seen: one.last_seen,
            });
            seen.first_seen = seen.first_seen.min(one.first_seen);
            seen.last_seen = seen.last_seen.max(one.last_seen);
        } else {
            let silent = reporting.silent_instances.entry(id);
            let last_seen = silent.or_insert(one.last_seen);
            *last_seen = one.last_seen.max(*last_seen);
        }
    }
    reporting
        .silent_instances
        .retain(|id, _| !reporting.instances.contains_key(id));
    reporting.storage = windows
        .storage
        .iter()
        .filter(|(_, (scan, _))| holds(millis(scan.finished_at), slot))
        .map(|(unit, _)| unit.to_string())
        .collect();
    reporting.model_endpoints = windows
        .models
        .endpoints
        .iter()
        .filter(|(_, seen)| runs(**seen, slot))
        .map(|(endpoint, _)| endpoint.clone())
        .collect();
    let assessment = coverage::assess(baseline, *known_since, &reporting);
    Ok(Content::Coverage(Box::new(assessment)))
}
