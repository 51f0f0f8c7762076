//! What must be remembered so that a clock never starts anew: since when things are documented, and what was
//! seen of things that the windows forget.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Baseline, Decommissioned, Evidence, Kind, Seen, Span, see};

/// Most things of which sights are remembered: two inventories of the largest agent.
const SEEN_MAX: usize = 40_000;

/// Most rows that have left the inventory and are remembered.
const WITHDRAWN_MAX: usize = 40_000;

/// What is not documented and was not seen for this long begins anew. Longer than every window.
const FORGET_AFTER: SignedDuration = SignedDuration::from_hours(90 * 24);

/// A row that left the inventory and comes back within this time has the clock of before.
const WITHDRAWN_FOR: SignedDuration = SignedDuration::from_hours(400 * 24);

/// The memory of clocks. Empty until the first inventory: nothing can be missing or unlisted before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When the first inventory was read.
    since: Option<Timestamp>,
    rows: BTreeMap<Kind, BTreeMap<String, Row>>,
    seen: BTreeMap<Kind, Seen>,
}

/// One row of the inventory, past or present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// When it was first documented.
    pub(super) since: Timestamp,
    /// When it left the inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) withdrawn: Option<Timestamp>,
    /// The evidence as it was found first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) evidence: Option<FirstEvidence>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FirstEvidence {
    pub(super) record: Decommissioned,
    pub(super) at: Timestamp,
}

impl History {
    /// When the first inventory was read.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Takes a new state of the inventory in.
    pub fn document(&mut self, baseline: &Baseline, at: Timestamp) {
        // Where the clock was ahead before, it is not now.
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
        for kind in Kind::ALL {
            let rows = self.rows.entry(kind).or_default();
            for row in rows.values_mut() {
                row.withdrawn.get_or_insert(at);
            }
            for documented in baseline.of(kind) {
                let row = rows.entry(documented.id.clone()).or_insert(Row {
                    since: at,
                    withdrawn: None,
                    evidence: None,
                });
                row.since = row.since.min(at);
                row.withdrawn = None;
                row.note(documented.decommissioned.as_ref(), at);
            }
            forget(rows, at);
        }
    }

    /// Remembers that a thing was seen. Answers whether that is new.
    pub(crate) fn saw(&mut self, kind: Kind, id: &str, span: Span) -> bool {
        if self.since.is_none() {
            return false;
        }
        let seen = self.seen.entry(kind).or_default();
        if seen.len() >= SEEN_MAX && !seen.contains_key(id) {
            let rows = self.rows.get(&kind);
            seen.retain(|id, known| {
                let is_documented = rows.is_some_and(|rows| rows.contains_key(id));
                is_documented || span.last_seen.duration_since(known.last_seen) < FORGET_AFTER
            });
            if seen.len() >= SEEN_MAX {
                return false;
            }
        }
        see(seen, id, span);
        true
    }

    /// The row of a thing that is or was documented.
    pub(super) fn row(&self, kind: Kind, id: &str) -> Option<&Row> {
        self.rows.get(&kind)?.get(id)
    }

    /// What was seen of a thing, as far as it had to be remembered.
    pub(super) fn seen(&self, kind: Kind, id: &str) -> Option<Span> {
        self.seen.get(&kind)?.get(id).copied()
    }

    /// Rows that left the inventory without a record of a decommission, newest first.
    pub(super) fn withdrawn(&self, kind: Kind) -> Vec<(Timestamp, &str)> {
        let rows = self.rows.get(&kind).into_iter().flatten();
        let mut gone: Vec<_> = rows
            .filter_map(|(id, row)| Some((row.withdrawn?, id.as_str())))
            .collect();
        gone.sort_unstable_by(|a, b| b.cmp(a));
        gone
    }
}

impl Row {
    /// Keeps the evidence as it was found first for this record.
    fn note(&mut self, record: Option<&Decommissioned>, at: Timestamp) {
        let Some(record) = record else {
            self.evidence = None;
            return;
        };
        if matches!(record.digest, Evidence::Unreadable(_)) {
            return;
        }
        let is_same = self.evidence.as_ref().is_some_and(|first| {
            first.record.date == record.date && first.record.evidence == record.evidence
        });
        if !is_same {
            self.evidence = Some(FirstEvidence {
                record: record.clone(),
                at,
            });
        }
    }
}

/// Forgets what left the inventory long ago, and the oldest of what is too much.
fn forget(rows: &mut BTreeMap<String, Row>, now: Timestamp) {
    let is_kept = |at: Timestamp| now.duration_since(at) < WITHDRAWN_FOR;
    rows.retain(|_, row| row.withdrawn.is_none_or(is_kept));
    let mut gone: Vec<(Timestamp, String)> = rows
        .iter()
        .filter_map(|(id, row)| Some((row.withdrawn?, id.clone())))
        .collect();
    if gone.len() > WITHDRAWN_MAX {
        gone.sort_unstable();
        let excess = gone.len() - WITHDRAWN_MAX;
        for (_, id) in gone.into_iter().take(excess) {
            rows.remove(&id);
        }
    }
}
