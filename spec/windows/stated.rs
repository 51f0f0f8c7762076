//! Statements of sources: each takes the place of the one before it, whole.

use jiff::Timestamp;

use super::{
    BASELINE_MAX, INSTANCES_MAX, STORAGE_UNITS_MAX, SURVEYS_MAX, THERMAL_SOURCES_MAX, Windows,
    count, instance_mut, millis, present,
};
use crate::coverage::{Kind, Span};
use crate::cross_check::OTHERS_MAX;
use crate::dark::{StorageScan, access_anomaly};
use crate::reading::Snapshot;
use crate::survey::{NOTES_MAX, Survey};

impl Windows {
    /// Takes a statement in, and answers whether a scan or the inventory is another one now.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot, at: Timestamp) -> bool {
        match snapshot {
            Snapshot::Baseline(baseline) => {
                let size = baseline
                    .instances
                    .len()
                    .max(baseline.storage.len())
                    .max(baseline.model_endpoints.len());
                if size > BASELINE_MAX {
                    self.dropped.excess += 1;
                    return false;
                }
                if self.baseline.as_ref() == Some(baseline) {
                    return false;
                }
                self.history.document(baseline, at);
                present::remember(self);
                self.baseline = Some(baseline.clone());
                return true;
            }
            Snapshot::Instance(facts) => {
                let subject = &facts.instance;
                let at = millis(at);
                if let Some(instance) =
                    instance_mut(&mut self.instances, &mut self.dropped, subject, at)
                {
                    instance.facts = Some(facts.clone());
                }
            }
            Snapshot::CrossChecks(checks) => {
                let at = millis(at);
                let subject = &checks.instance;
                if let Some(instance) =
                    instance_mut(&mut self.instances, &mut self.dropped, subject, at)
                {
                    let mut checks = checks.clone();
                    checks.others.truncate(OTHERS_MAX);
                    instance.cross_checks = Some((checks, at));
                }
            }
            Snapshot::Storage(scan) => return self.scan(scan),
            Snapshot::Survey(survey) => return self.survey(survey),
            Snapshot::Thermal(facts) => {
                let full = self.thermal.len() >= THERMAL_SOURCES_MAX;
                if full && !self.thermal.contains_key(&facts.source) {
                    self.dropped.excess += 1;
                    return false;
                }
                let source = self.thermal.entry(facts.source.clone()).or_default();
                source.facts = Some(facts.clone());
                source.last_seen = source.last_seen.max(millis(at));
            }
        }
        false
    }

    /// Takes a survey in, with as many of its instances as there is room for.
    fn survey(&mut self, survey: &Survey) -> bool {
        let before = self.surveys.get(&survey.server);
        if before.is_none() && self.surveys.len() >= SURVEYS_MAX {
            self.dropped.excess += count(survey.instances.len());
            return false;
        }
        if before.is_some_and(|before| before == survey) {
            return false;
        }
        let own = before.map_or(0, |before| before.instances.len());
        let room = INSTANCES_MAX.saturating_sub(self.instances() - own);
        let mut survey = survey.clone();
        let excess = survey.instances.len().saturating_sub(room);
        self.dropped.excess += count(excess);
        survey.instances.truncate(room);
        survey.notes.truncate(NOTES_MAX);
        for one in &survey.instances {
            let span = Span {
                first_seen: one.first_seen,
                last_seen: one.last_seen,
            };
            let id = one.facts.instance.as_str();
            self.history.saw(Kind::Instance, id, span);
        }
        self.surveys.insert(survey.server.clone(), survey);
        true
    }

    fn scan(&mut self, scan: &StorageScan) -> bool {
        let before = self.storage.get(&scan.unit);
        if before.is_none() && self.storage.len() >= STORAGE_UNITS_MAX {
            self.dropped.excess += 1;
            return false;
        }
        if before.is_some_and(|(before, _)| before == scan) {
            return false;
        }
        let anomaly = before.and_then(|(before, found)| {
            if before.as_of == scan.as_of {
                found.clone()
            } else {
                access_anomaly(before, scan)
            }
        });
        let span = Span::once(scan.finished_at);
        self.history.saw(Kind::Storage, scan.unit.as_str(), span);
        self.storage
            .insert(scan.unit.clone(), (scan.clone(), anomaly));
        true
    }
}
