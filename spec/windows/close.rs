//! What the windows amount to at the end of a slot.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::thermal::{THERMAL_BUCKET_MS, THERMAL_BUCKETS};
use super::{
    BUCKET_MS, BUCKETS, NothingToSay, SILENT_AFTER_MS, Windows, millis, present, timestamp,
};
use crate::category::Category;
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
            let source = survey.origins.first();
            let source = source.map_or("survey", |origin| &origin.source);
            let note = |note: &String| (source.to_owned(), note.clone());
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
        .filter(|(scan, _)| present::holds(millis(scan.finished_at), slot.end))
        .cloned()
        .collect();
    if units.is_empty() {
        return Err(nothing(
            "no storage unit has a finished scan of the last 48 hours",
        ));
    }
    Ok(Content::Dark(units))
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
    let (log, log_of, summed) = windows.models.log(slot);
    let origins = windows.models.origins().filter_map(|(index, at)| {
        let origin = windows.origins.get(Some(index))?;
        Some((origin.clone(), timestamp(at)))
    });
    Ok(Content::Model(Box::new(models::Observed {
        rolling,
        log,
        log_of,
        summed,
        origins: origins.collect(),
    })))
}

fn coverage(windows: &Windows, slot: Slot) -> Result<Content, NothingToSay> {
    let assessment = present::assess(windows, slot.end)
        .ok_or_else(|| nothing("no inventory baseline has been read"))?;
    Ok(Content::Coverage(Box::new(assessment)))
}
