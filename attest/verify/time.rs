//! Time in a ledger: slots that lack their leaf, and clocks that stepped. Memory is bounded by named consts.

use std::collections::BTreeMap;

use cms_spec::Category;
use jiff::{SignedDuration, Timestamp};

use crate::bundle::Period;
use crate::leaf::Leaf;

/// Most pieces that the slots of a category may lie in; each hole in a year of five-minute slots, twice over.
const PIECES_MAX: usize = 200_000;

/// Most boots of an epoch whose clocks are followed: one an hour for ten years.
const BOOTS_MAX: usize = 100_000;

/// How far the wall clock may move against the time since boot unnoticed, as the design has it.
const STEP: SignedDuration = SignedDuration::from_secs(2);

/// Which time the slots of each category cover.
#[derive(Debug, Default)]
pub(super) struct Slots {
    covered: BTreeMap<Category, BTreeMap<Timestamp, Timestamp>>,
    /// Slots that were not taken in.
    pub(super) dropped: u64,
}

impl Slots {
    pub(super) fn add(&mut self, category: Category, from: Timestamp, to: Timestamp) {
        let pieces = self.covered.entry(category).or_default();
        let (mut start, mut end) = (from.min(to), to);
        // Joined with every piece that it touches: at most one before it, then those that begin inside.
        while let Some((&other, &until)) = pieces
            .range(..=end)
            .next_back()
            .filter(|(_, until)| **until >= start)
        {
            pieces.remove(&other);
            start = start.min(other);
            end = end.max(until);
        }
        if pieces.len() < PIECES_MAX {
            pieces.insert(start, end);
        } else {
            self.dropped += 1;
        }
    }

    /// The holes between the first and the last slot of a category that reach into the period.
    pub(super) fn holes(
        &self,
        period: Period,
    ) -> impl Iterator<Item = (Category, Timestamp, Timestamp)> + '_ {
        self.covered.iter().flat_map(move |(category, pieces)| {
            let ends = pieces.values();
            ends.zip(pieces.keys().skip(1))
                .filter(move |(end, start)| **end < period.to && period.from < **start)
                .map(|(end, start)| (*category, *end, *start))
        })
    }
}

/// The clocks of one epoch.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    since_boot: BTreeMap<String, u64>,
    /// Boot, time since boot and wall time of the newest leaf that says when it was written.
    event: Option<(String, u64, Timestamp)>,
}

/// What a leaf's clocks say against those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// The time since boot went back by this many milliseconds.
    Back(u64),
    /// As it should be.
    Forward,
    /// The wall clock moved against the time since boot.
    Step(SignedDuration),
    /// More boots than are followed.
    Uncounted,
}

impl Clocks {
    pub(super) fn observe(&mut self, leaf: &Leaf) -> Tick {
        let boot = leaf.boot_id.as_str();
        let now = leaf.boottime_ms;
        if let Some(last) = self.since_boot.get_mut(boot) {
            if now < *last {
                return Tick::Back(*last - now);
            }
            *last = now;
        } else if self.since_boot.len() < BOOTS_MAX {
            self.since_boot.insert(boot.to_owned(), now);
        } else {
            return Tick::Uncounted;
        }
        // A leaf of a slot speaks of the slot; only an event says when it was written.
        if leaf.category.is_some() || leaf.from != leaf.to {
            return Tick::Forward;
        }
        let before = self.event.replace((boot.to_owned(), now, leaf.to));
        let Some((_, since, wall)) = before.filter(|(other, _, _)| other == boot) else {
            return Tick::Forward;
        };
        let elapsed = i64::try_from(now - since).unwrap_or(i64::MAX);
        let moved = leaf.to.duration_since(wall);
        let step = moved.saturating_sub(SignedDuration::from_millis(elapsed));
        if step.abs() > STEP {
            Tick::Step(step)
        } else {
            Tick::Forward
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn holes(slots: &[(i64, i64)], period: (i64, i64)) -> Vec<(i64, i64)> {
        let mut covered = Slots::default();
        for (from, to) in slots {
            covered.add(Category::GhostCompute, at(*from), at(*to));
        }
        let period = Period {
            from: at(period.0),
            to: at(period.1),
        };
        let found = covered.holes(period);
        found
            .map(|(_, from, to)| (from.as_second(), to.as_second()))
            .collect()
    }

    #[test]
    fn a_hole_is_seen_where_it_reaches_into_the_period() {
        let slots = [(0, 10), (10, 20), (40, 50), (45, 60), (70, 80)];
        assert_eq!(holes(&slots, (0, 100)), [(20, 40), (60, 70)]);
        assert_eq!(holes(&slots, (25, 30)), [(20, 40)]);
        assert_eq!(holes(&slots, (40, 60)), []);
        // Closed again after a clock that was ahead.
        assert_eq!(holes(&[(0, 10), (20, 30), (10, 20)], (0, 100)), []);
    }

    proptest! {
        #[test]
        fn holes_are_the_seconds_that_no_slot_covers(
            slots in proptest::collection::vec((0_i64..60, 1_i64..9), 1..20),
        ) {
            let slots: Vec<_> = slots.iter().map(|(from, length)| (*from, from + length)).collect();
            let first = slots.iter().map(|(from, _)| *from).min().unwrap();
            let last = slots.iter().map(|(_, to)| *to).max().unwrap();
            let found = holes(&slots, (-1, 1_000));
            for second in first..last {
                let covered = slots.iter().any(|(from, to)| *from <= second && second < *to);
                let hole = found.iter().any(|(from, to)| *from <= second && second < *to);
                prop_assert_eq!(covered, !hole);
            }
        }
    }
}
