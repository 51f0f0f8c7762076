//! Who reports now, and how that compares with what was documented.

use jiff::Timestamp;

use super::{SCAN_HOLDS_MS, SILENT_AFTER_MS, Windows, millis, timestamp};
use crate::coverage::{self, Assessment, Kind, Reporting, Span};

/// Everything that reports at a moment, and what has reported before.
pub(super) fn reporting(windows: &Windows, at: Timestamp) -> Reporting {
    let mut found = Reporting::default();
    let now = millis(at);
    let speaks = |seen: i64| seen >= now.saturating_sub(SILENT_AFTER_MS);
    for (subject, instance) in &windows.instances {
        let span = Span {
            first_seen: timestamp(instance.first_seen),
            last_seen: timestamp(instance.last_seen),
        };
        let is_now = speaks(instance.last_seen);
        found.add(Kind::Instance, subject.as_str(), span, is_now);
    }
    for one in windows.surveys.values().flat_map(|s| &s.instances) {
        let span = Span {
            first_seen: one.first_seen,
            last_seen: one.last_seen,
        };
        let is_now = speaks(millis(one.last_seen));
        found.add(Kind::Instance, one.facts.instance.as_str(), span, is_now);
    }
    for (unit, (scan, _)) in &windows.storage {
        let span = Span::once(scan.finished_at);
        let is_now = holds(millis(scan.finished_at), at);
        found.add(Kind::Storage, unit.as_str(), span, is_now);
    }
    for (endpoint, seen) in &windows.models.endpoints {
        let span = Span::once(timestamp(*seen));
        found.add(Kind::ModelEndpoint, endpoint, span, speaks(*seen));
    }
    found
}

/// What reports against the inventory; nothing without one.
pub(super) fn assess(windows: &Windows, at: Timestamp) -> Option<Assessment> {
    let baseline = windows.baseline.as_ref()?;
    let reporting = reporting(windows, at);
    Some(coverage::assess(baseline, &windows.history, &reporting, at))
}

/// Whether a scan that ended then still holds.
pub(super) fn holds(finished: i64, at: Timestamp) -> bool {
    finished >= millis(at).saturating_sub(SCAN_HOLDS_MS)
}

/// Remembers of everything when it was first known: from now on its clocks count.
pub(super) fn remember(windows: &mut Windows) {
    for (unit, (scan, _)) in &windows.storage {
        let span = Span::once(scan.finished_at);
        windows.history.saw(Kind::Storage, unit.as_str(), span);
    }
    for (endpoint, seen) in &windows.models.endpoints {
        let span = Span::once(timestamp(*seen));
        windows.history.saw(Kind::ModelEndpoint, endpoint, span);
    }
}
