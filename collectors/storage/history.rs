//! The scans that have ended: what they found and how long they took.
//!
//! Owns: what `status` shows of a root or bucket, and what outlives a restart. Promises: no name of a file, directory
//! or object is in it, and no more than [`SCANS_MAX`] scans.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::tally::Counts;

/// Scans that are remembered: a month of daily ones.
const SCANS_MAX: usize = 31;

/// Scans that `status` lists.
const LISTED: usize = 3;

/// A scan that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    /// Without the pause of a restart.
    pub(super) worked_ms: u64,
    pub(super) counts: Counts,
}

/// The newest scans, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    scans: VecDeque<Finished>,
}

/// What is scanned, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanned<'a> {
    /// Where it is: what was found elsewhere says nothing about it.
    pub(super) place: &'a str,
    /// What makes two scans of the place the same one.
    pub(super) order: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    history: History,
    scan: Option<String>,
    #[serde(default)]
    place: Option<String>,
    #[serde(default)]
    order: Option<String>,
}

/// What is left after a restart or a change of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resumed {
    pub(super) history: History,
    pub(super) scan: Option<String>,
    /// When the newest scan was begun, where the next one would be the same.
    pub(super) last_started: Option<Timestamp>,
}

impl History {
    pub(super) fn add(&mut self, scan: Finished) {
        if self.scans.len() >= SCANS_MAX {
            self.scans.pop_front();
        }
        self.scans.push_back(scan);
    }

    /// The newest scans in words, and the ages that the newest found.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.scans.iter().rev().take(LISTED).map(line).collect();
        if let Some(newest) = self.scans.back() {
            let bytes = newest.counts.active.bytes.0 + newest.counts.dark.bytes.0;
            let ages = newest.counts.ages.rows();
            lines.extend(ages.filter(|(_, age)| age.objects > 0).map(|(age, found)| {
                format!(
                    "{age}: {} objects, {}, {}",
                    grouped(found.objects),
                    size(found.bytes.0),
                    percent(found.bytes.0, bytes)
                )
            }));
        }
        lines
    }
}

/// The kept form of the history and of a scan at work.
pub(super) fn keep(
    history: &History,
    scanned: Scanned<'_>,
    scan: Option<String>,
) -> Option<String> {
    if history.scans.is_empty() && scan.is_none() {
        return None;
    }
    let kept = Kept {
        history: history.clone(),
        scan,
        place: Some(scanned.place.to_owned()),
        order: Some(scanned.order.to_owned()),
    };
    serde_json::to_string(&kept).ok()
}

/// Reads the kept form; nothing when it makes no sense, or is of another place that had the same name.
pub(super) fn resume(kept: &str, scanned: Scanned<'_>) -> Option<Resumed> {
    let kept: Kept = serde_json::from_str(kept).ok()?;
    // Where an older version kept neither, they are believed to be the same.
    let is_same = |was: &Option<String>, is: &str| was.as_ref().is_none_or(|was| was == is);
    if !is_same(&kept.place, scanned.place) {
        return None;
    }
    let newest = kept.history.scans.back().map(|scan| scan.started);
    let is_next = kept.scan.is_none() && is_same(&kept.order, scanned.order);
    Some(Resumed {
        history: kept.history,
        scan: kept.scan,
        last_started: newest.filter(|_| is_next),
    })
}

/// A number with a comma between its thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn line(scan: &Finished) -> String {
    let counts = &scan.counts;
    let bytes = counts.active.bytes.0 + counts.dark.bytes.0;
    let worked = SignedDuration::from_millis(i64::try_from(scan.worked_ms).unwrap_or(i64::MAX));
    let unread = match counts.unreadable {
        0 => String::new(),
        unread => format!(", {} could not be read", grouped(unread)),
    };
    format!(
        "{}: {} objects, {}, {} dark{unread}, in {worked:#}",
        scan.started.strftime("%Y-%m-%d %H:%M:%SZ"),
        grouped(counts.objects()),
        size(bytes),
        percent(counts.dark.bytes.0, bytes),
    )
}

/// Decimal, as the specification counts.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    let unit = UNITS.into_iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(unit, word)| {
            let hundredths = u128::from(bytes) * 100 / u128::from(unit);
            format!("{}.{:02} {word}", hundredths / 100, hundredths % 100)
        },
    )
}

fn percent(part: u64, whole: u64) -> String {
    let tenths = (u128::from(part) * 1000)
        .checked_div(u128::from(whole))
        .unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cms_spec::units::Bytes;

    fn scan(minute: i64) -> Finished {
        let started: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
        let started = started + SignedDuration::from_mins(minute);
        let mut counts = Counts::default();
        counts.active.bytes = Bytes(2_500_000_000);
        counts.active.objects = 1_234_567;
        counts.dark.bytes = Bytes(7_500_000_000);
        counts.unreadable = 1;
        counts.ages.add(0, counts.active.bytes, 1_234_567);
        Finished {
            started,
            finished: started,
            worked_ms: 1500,
            counts,
        }
    }

    #[test]
    fn the_newest_scans_are_told_in_words() {
        let mut history = History::default();
        for minute in 0..40 {
            history.add(scan(minute));
        }
        assert_eq!(history.scans.len(), SCANS_MAX);
        assert_eq!(
            history.lines(),
            [
                "2026-01-05 10:39:00Z: 1,234,567 objects, 10.00 GB, 75.0 % dark, 1 could not be read, in 1s 500ms",
                "2026-01-05 10:38:00Z: 1,234,567 objects, 10.00 GB, 75.0 % dark, 1 could not be read, in 1s 500ms",
                "2026-01-05 10:37:00Z: 1,234,567 objects, 10.00 GB, 75.0 % dark, 1 could not be read, in 1s 500ms",
                "up to 30 days: 1,234,567 objects, 2.50 GB, 25.0 %",
            ]
        );
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let mut history = History::default();
        let here = Scanned {
            place: "/srv",
            order: "/srv whole",
        };
        assert_eq!(keep(&history, here, None), None);
        history.add(scan(1));
        let kept = keep(&history, here, Some("{}".to_owned())).unwrap();
        let resumed = resume(&kept, here).unwrap();
        assert_eq!(
            (&resumed.history, resumed.scan.as_deref()),
            (&history, Some("{}"))
        );
        assert_eq!(resumed.last_started, None, "it goes on first");
        assert_eq!(resume("nonsense", here), None);

        let kept = keep(&history, here, None).unwrap();
        let started = Some(scan(1).started);
        assert_eq!(resume(&kept, here).unwrap().last_started, started);
        let split = Scanned {
            order: "/srv split",
            ..here
        };
        let another = resume(&kept, split).unwrap();
        assert_eq!((&another.history, another.last_started), (&history, None));
        let elsewhere = Scanned {
            place: "/home",
            ..here
        };
        assert_eq!(resume(&kept, elsewhere), None);
        let old = serde_json::json!({"history": history, "scan": null}).to_string();
        assert_eq!(resume(&old, here).unwrap().last_started, started);
    }
}
