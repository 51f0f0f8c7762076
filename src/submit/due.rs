//! Which slots have ended and still lack their leaf. Pure: the time is an argument.

use cms_spec::{Cadence, Slot};
use jiff::{SignedDuration, Timestamp};

use crate::limits::{LIVE_FOR, MISSED_SLOTS_MAX, SLOT_JITTER_MAX};

/// The slots of one category that ask for something now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Ended too long ago to be live: each gets a gap leaf. Oldest first.
    pub missed: Vec<Slot>,
    /// To be submitted. Oldest first.
    pub ready: Vec<Slot>,
    /// When the next slot is submitted.
    pub next: Timestamp,
}

impl Due {
    /// What is due at `now`, when `last` is the end of the newest slot that has its leaf.
    ///
    /// An agent answers for slots from its first start on; `started_at` stands in for a missing `last`.
    #[must_use]
    pub fn of(
        cadence: Cadence,
        jitter: SignedDuration,
        last: Option<Timestamp>,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        let newest = cadence.last_closed(now - jitter);
        let since = last.unwrap_or(started_at);
        let next = cadence.slot_at(now - jitter).end + jitter;
        let newest_number = newest.number(cadence);
        // The first slot that ends after `since`.
        let first_number = cadence.slot_at(since).number(cadence);
        let oldest_kept =
            newest_number.saturating_sub(i64::try_from(MISSED_SLOTS_MAX).unwrap_or(i64::MAX) - 1);
        let mut due = Self {
            missed: Vec::new(),
            ready: Vec::new(),
            next,
        };
        for number in first_number.max(oldest_kept)..=newest_number {
            let slot = cadence.slot_numbered(number);
            if slot.end <= since {
                continue;
            }
            let late = now.duration_since(slot.end) > LIVE_FOR;
            if !late {
                due.ready.push(slot);
            } else if slot.end == cadence.last_closed(now).end && cadence.duration() > LIVE_FOR {
                // A daily figure that was slept through would be missing for a day: its slot ends now instead.
                due.ready.push(Slot {
                    start: slot.start,
                    end: now,
                });
            } else {
                due.missed.push(slot);
            }
        }
        due
    }
}

/// What a new category submits as soon as it can speak: its newest slot, which then ends now.
///
/// A slot that has ended and waits for its jitter comes before it, or it would never get its leaf.
#[must_use]
pub fn first(
    cadence: Cadence,
    last: Option<Timestamp>,
    started_at: Timestamp,
    now: Timestamp,
) -> Slot {
    let newest = cadence.slot_at(now);
    let ended = cadence.last_closed(now);
    if ended.end > last.unwrap_or(started_at) {
        return ended;
    }
    Slot {
        start: newest.start,
        end: now,
    }
}

/// When in a slot's wake this agent speaks: the same moment every time, another one for each agent.
#[must_use]
pub fn jitter(agent_id: &str, cadence: Cadence) -> SignedDuration {
    let spread_ms = (u64::from(cadence.seconds()) * 100)
        .min(u64::try_from(SLOT_JITTER_MAX.as_millis()).unwrap_or(u64::MAX))
        .max(1);
    // FNV-1a: spreads ids evenly, needs no key, and is the same on every machine.
    let hash = agent_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    SignedDuration::from_millis(i64::try_from(hash % spread_ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUARTER: Cadence = Cadence::from_seconds(900);
    const DAY: Cadence = Cadence::from_seconds(86_400);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn due(cadence: Cadence, last: Option<&str>, now: &str) -> Due {
        let started = at("2026-03-01T10:07:00Z");
        Due::of(
            cadence,
            SignedDuration::from_secs(30),
            last.map(at),
            started,
            at(now),
        )
    }

    #[test]
    fn a_slot_is_due_after_its_end_and_the_agents_jitter() {
        assert_eq!(due(QUARTER, None, "2026-03-01T10:15:29Z").ready, vec![]);
        let now = due(QUARTER, None, "2026-03-01T10:15:30Z");
        assert_eq!(now.ready.len(), 1);
        assert_eq!(now.ready[0].end, at("2026-03-01T10:15:00Z"));
        assert_eq!(now.next, at("2026-03-01T10:30:30Z"));
    }

    #[test]
    fn slots_from_before_the_first_start_are_nobodys() {
        assert_eq!(due(QUARTER, None, "2026-03-01T10:08:00Z").ready, vec![]);
        assert_eq!(due(DAY, None, "2026-03-01T23:59:59Z").ready, vec![]);
    }

    #[test]
    fn a_restart_within_half_an_hour_submits_late_and_after_that_marks_gaps() {
        let short = due(
            QUARTER,
            Some("2026-03-01T10:15:00Z"),
            "2026-03-01T10:50:00Z",
        );
        assert_eq!((short.missed.len(), short.ready.len()), (0, 2));
        let long = due(
            QUARTER,
            Some("2026-03-01T10:15:00Z"),
            "2026-03-01T12:01:00Z",
        );
        assert_eq!((long.missed.len(), long.ready.len()), (5, 2));
        assert_eq!(long.missed[0].end, at("2026-03-01T10:30:00Z"));
    }

    #[test]
    fn a_daily_slot_that_was_slept_through_ends_when_the_agent_wakes() {
        let due = due(DAY, Some("2026-02-28T00:00:00Z"), "2026-03-01T09:00:00Z");
        assert_eq!(due.missed, vec![]);
        let slot = Slot {
            start: at("2026-02-28T00:00:00Z"),
            end: at("2026-03-01T09:00:00Z"),
        };
        assert_eq!(due.ready, vec![slot], "it ends now, so that it is live");
    }

    #[test]
    fn a_first_submission_does_not_skip_a_slot_that_waits_for_its_jitter() {
        let cadence = Cadence::from_seconds(900);
        let started_at = at("2026-01-16T15:29:50Z");
        let now = at("2026-01-16T15:45:03Z");
        let gap_until = Some(at("2026-01-16T15:30:00Z"));
        let waiting = first(cadence, gap_until, started_at, now);
        assert_eq!(waiting.end, at("2026-01-16T15:45:00Z"));
        let alone = first(cadence, Some(waiting.end), started_at, now);
        assert_eq!((alone.start, alone.end), (waiting.end, now));
        let fresh = first(cadence, None, at("2026-01-16T15:45:01Z"), now);
        assert_eq!((fresh.start, fresh.end), (waiting.end, now));
    }

    #[test]
    fn an_early_first_submission_does_not_cost_the_slot_it_was_made_in() {
        let due = due(
            QUARTER,
            Some("2026-03-01T10:07:01Z"),
            "2026-03-01T10:16:00Z",
        );
        assert_eq!(due.ready[0].end, at("2026-03-01T10:15:00Z"));
    }

    proptest! {
        #[test]
        fn each_slot_is_due_exactly_once(
            seconds in 1_u32..100_000,
            steps in proptest::collection::vec(0_i64..20_000, 1..20),
        ) {
            let cadence = Cadence::from_seconds(seconds);
            let started = at("2026-03-01T10:07:00Z");
            let (mut now, mut last, mut seen) = (started, None, Vec::new());
            for step in steps {
                now += SignedDuration::from_secs(step);
                let due = Due::of(cadence, jitter("agent", cadence), last, started, now);
                for slot in due.missed.iter().chain(&due.ready) {
                    prop_assert!(slot.end <= now);
                    prop_assert!(last.is_none_or(|last| slot.end > last));
                    last = Some(slot.end);
                    seen.push(slot.start);
                }
            }
            prop_assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + cadence.duration()), "{seen:?}");
        }

        #[test]
        fn jitter_stays_within_a_tenth_of_the_slot(id: String, seconds in 1_u32..100_000) {
            let jitter = jitter(&id, Cadence::from_seconds(seconds));
            prop_assert!(jitter >= SignedDuration::ZERO);
            prop_assert!(jitter < SignedDuration::from_millis(i64::from(seconds) * 100 + 1));
            prop_assert!(jitter <= SignedDuration::from_secs(90));
        }
    }
}
