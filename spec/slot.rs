//! Slots: the half-open spans `[start, end)` that the clock is cut into, one submission each.
//!
//! Slots of one cadence are counted from the Unix epoch, so that every agent and the dashboard cut time at
//! the same instants without talking to each other. Nothing here reads a clock.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The spacing of slots. At least one second, so a slot is never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cadence(u32);

/// A half-open span of time, `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// First instant inside.
    pub start: Timestamp,
    /// First instant after; the moment the slot closes.
    pub end: Timestamp,
}

impl Cadence {
    /// A spacing in seconds; zero counts as one.
    #[must_use]
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(if seconds == 0 { 1 } else { seconds })
    }

    /// The spacing in seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// The spacing as a duration.
    #[must_use]
    pub fn duration(self) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.0))
    }

    /// The slot that `at` falls into.
    #[must_use]
    pub fn slot_at(self, at: Timestamp) -> Slot {
        let length = i64::from(self.0);
        let seconds = at.as_second() - i64::from(at.subsec_nanosecond() < 0);
        self.slot_numbered(seconds.div_euclid(length))
    }

    /// The newest slot that had closed by `now`.
    #[must_use]
    pub fn last_closed(self, now: Timestamp) -> Slot {
        let open = self.slot_at(now);
        self.slot_numbered(open.number(self) - 1)
    }

    /// The slot with this count from the epoch, clamped to the years that a timestamp can hold.
    #[must_use]
    pub fn slot_numbered(self, number: i64) -> Slot {
        let length = i64::from(self.0);
        let at = |n: i64| {
            Timestamp::from_second(n.saturating_mul(length)).unwrap_or(if n < 0 {
                Timestamp::MIN
            } else {
                Timestamp::MAX
            })
        };
        Slot {
            start: at(number),
            end: at(number.saturating_add(1)),
        }
    }
}

impl Slot {
    /// Counts slots of this cadence from the epoch to this one's start.
    #[must_use]
    pub fn number(self, cadence: Cadence) -> i64 {
        self.start.as_second().div_euclid(i64::from(cadence.0))
    }

    /// How long the slot is.
    #[must_use]
    pub fn length(self) -> SignedDuration {
        self.end.duration_since(self.start)
    }

    /// Whether `at` is inside.
    #[must_use]
    pub fn contains(self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slots_are_cut_at_the_full_quarter_hour() -> Result<(), jiff::Error> {
        let slot = Cadence::from_seconds(900).slot_at("2026-01-16T15:44:59.9Z".parse()?);
        assert_eq!(slot.start, "2026-01-16T15:30:00Z".parse()?);
        assert_eq!(slot.end, "2026-01-16T15:45:00Z".parse()?);
        let closed = Cadence::from_seconds(900).last_closed("2026-01-16T15:45:00Z".parse()?);
        assert_eq!(closed, slot);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_time_is_in_exactly_its_slot(second in -10_000_000_000_i64..10_000_000_000, nano in 0..1_000_000_000_i32, cadence in 1_u32..100_000) {
            let at = Timestamp::new(second, if second < 0 { -nano } else { nano })?;
            let cadence = Cadence::from_seconds(cadence);
            let slot = cadence.slot_at(at);
            prop_assert!(slot.contains(at));
            prop_assert_eq!(cadence.slot_numbered(slot.number(cadence)), slot);
            prop_assert_eq!(cadence.last_closed(at).end, slot.start);
        }
    }
}
