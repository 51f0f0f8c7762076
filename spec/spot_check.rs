//! Spot-checks of task classes (specification II.B): what a re-classified sample of requests shows.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Requests of which one is classified again.
pub const SAMPLE_OF: u64 = 100;

/// A larger share of wrong classes than this, in percent, is a warning.
pub const WRONG_PERCENT_MAX: u64 = 15;

/// From this sample on, the share itself decides; below, its lower 95 % bound does.
pub const SAMPLE_ENOUGH: u64 = 100;

/// Days after which a warning that persists ends a certification.
pub const REVOKE_AFTER_DAYS: i64 = 14;

/// A sample of requests that were classified again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// How many were.
    pub checked: u64,
    /// How many of them got another class.
    pub wrong: u64,
}

/// What follows from a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing.
    Fine,
    /// The warning has lasted for 14 days: the certification ends.
    Revoke,
    /// Too many are wrong.
    Warning {
        /// Days until the certification ends.
        days_remaining: u8,
    },
}

/// Since when a company has been warned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpotCheckState {
    warned_since: Option<Date>,
}

impl Sample {
    /// Whether more than 15 % are wrong, beyond what chance in a small sample explains.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        let wrong = self.wrong.min(self.checked);
        let above =
            u128::from(wrong) * 100 > u128::from(self.checked) * u128::from(WRONG_PERCENT_MAX);
        above && (self.checked >= SAMPLE_ENOUGH || lower_bound_is_above(self.checked, wrong))
    }
}

impl SpotCheckState {
    /// Takes a sample of a UTC day. An empty sample shows nothing, so a warning stands.
    pub fn observe(&mut self, day: Date, sample: &Sample) -> Outcome {
        let unchanged = sample.checked == 0 && self.warned_since.is_some();
        if !sample.is_bad() && !unchanged {
            self.warned_since = None;
            return Outcome::Fine;
        }
        let since = *self.warned_since.get_or_insert(day);
        let lasted = i64::from(day.since(since).map_or(0, |span| span.get_days()));
        match u8::try_from(REVOKE_AFTER_DAYS - lasted.max(0)) {
            Ok(days_remaining) if days_remaining > 0 => Outcome::Warning { days_remaining },
            _ => Outcome::Revoke,
        }
    }
}

/// Whether the exact one-sided lower 95 % bound is above 15 %: with 15 % wrong, would as many as this come up
/// in fewer than one sample of twenty? Only for samples under [`SAMPLE_ENOUGH`].
fn lower_bound_is_above(checked: u64, wrong: u64) -> bool {
    const ONE: u128 = 1 << 100;
    let size = usize::try_from(checked.min(SAMPLE_ENOUGH)).unwrap_or(0);
    let mut chance = vec![0_u128; size + 1];
    if let Some(none) = chance.first_mut() {
        *none = ONE;
    }
    for _ in 0..size {
        for hits in (0..=size).rev() {
            let fewer = hits.checked_sub(1).map_or(0, |less| chance[less]);
            // 0.15 is 3/20.
            chance[hits] = (chance[hits] * 17 + fewer * 3) / 20;
        }
    }
    let from = usize::try_from(wrong).unwrap_or(usize::MAX).min(size + 1);
    chance[from..].iter().sum::<u128>() < ONE / 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn small_samples_need_more_than_chance() {
        let bad = |checked, wrong| Sample { checked, wrong }.is_bad();
        assert!(bad(100, 16));
        assert!(!bad(100, 15));
        assert!(!bad(0, 0));
        assert!(!bad(1, 1));
        // P(X >= 2 | n = 2) = 0.0225.
        assert!(bad(2, 2));
        // P(X >= 4 | n = 10) = 0.0500 (0.04997), P(X >= 3) = 0.1798.
        assert!(bad(10, 4));
        assert!(!bad(10, 3));
        assert!(bad(5, u64::MAX));
    }

    #[test]
    fn a_warning_that_lasts_two_weeks_revokes() {
        let bad = Sample {
            checked: 200,
            wrong: 40,
        };
        let mut state = SpotCheckState::default();
        let first = state.observe(date(2026, 1, 1), &bad);
        assert_eq!(first, Outcome::Warning { days_remaining: 14 });
        let last = state.observe(date(2026, 1, 14), &bad);
        assert_eq!(last, Outcome::Warning { days_remaining: 1 });
        assert_eq!(state.observe(date(2026, 1, 15), &bad), Outcome::Revoke);
        let empty = state.observe(date(2026, 1, 16), &Sample::default());
        assert_eq!(empty, Outcome::Revoke);
        let good = Sample {
            checked: 200,
            wrong: 3,
        };
        assert_eq!(state.observe(date(2026, 1, 17), &good), Outcome::Fine);
    }
}
