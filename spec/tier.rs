//! Tiers and how a company moves between them (specification III.B): up at once, down after seven days.

use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::score::Points;

/// A company falls after this many distinct days below its tier.
pub const GRACE_DAYS: u8 = 7;

/// A certification tier, from lowest to highest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Accountable, not yet efficient.
    #[default]
    Silver,
    /// 80 points and more.
    Obsidian,
    /// 85 points and more.
    ObsidianCore,
    /// 90 points and more.
    ObsidianPrime,
    /// 95 points and more.
    ObsidianApex,
}

impl Tier {
    /// All tiers above Silver with the points where each begins, highest first.
    const FLOORS: [(Self, i64); 4] = [
        (Self::ObsidianApex, 95),
        (Self::ObsidianPrime, 90),
        (Self::ObsidianCore, 85),
        (Self::Obsidian, 80),
    ];

    /// The tier of an unrounded composite. Brackets are half-open: 89.999999999 is Core.
    #[must_use]
    pub fn of(points: Points) -> Self {
        Self::FLOORS
            .into_iter()
            .find(|(_, floor)| points >= Points::from_raw(floor * Points::SCALE))
            .map_or(Self::Silver, |(tier, _)| tier)
    }

    /// The word that a single metric's `tier_contribution` uses; the brackets are the composite's.
    #[must_use]
    pub const fn contribution(self) -> &'static str {
        match self {
            Self::Silver => "Below",
            Self::Obsidian => "Base",
            Self::ObsidianCore => "Core",
            Self::ObsidianPrime => "Prime",
            Self::ObsidianApex => "Apex",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silver => "Silver",
            Self::Obsidian => "Obsidian",
            Self::ObsidianCore => "Obsidian Core",
            Self::ObsidianPrime => "Obsidian Prime",
            Self::ObsidianApex => "Obsidian Apex",
        })
    }
}

/// The tier that a company holds, and how long it has been below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierState {
    tier: Tier,
    days_below: u8,
    last_day_below: Option<Date>,
}

/// Something that happened to a company's tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TierEvent {
    /// It rose, at once.
    Promoted {
        /// The tier it held.
        from: Tier,
        /// The tier it holds now.
        to: Tier,
        /// The composite that earned it.
        composite: Option<Points>,
    },
    /// It fell, after seven days below.
    Revoked {
        /// The tier it held.
        from: Tier,
        /// The tier it holds now.
        to: Tier,
        /// The composite of the last day.
        composite: Option<Points>,
    },
    /// It has been below for another day.
    Warning {
        /// The tier it still holds.
        tier: Tier,
        /// The tier it would fall to.
        to: Tier,
        /// Days until it falls.
        days_remaining: u8,
    },
}

impl TierState {
    /// The tier that the company holds.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// Days until it falls; nothing while it is not below.
    #[must_use]
    pub const fn days_remaining(&self) -> Option<u8> {
        if self.days_below == 0 {
            None
        } else {
            Some(GRACE_DAYS.saturating_sub(self.days_below))
        }
    }

    /// Takes the tier that the figures of a UTC day earn; any number of times a day.
    ///
    /// One observation at or above the tier ends the run of days below. A day without any neither counts nor
    /// ends it, so silence does not help. A day before the last one that counted is not counted again.
    pub fn observe(&mut self, day: Date, tier: Tier, composite: Option<Points>) -> Vec<TierEvent> {
        let from = self.tier;
        if tier >= from {
            *self = Self {
                tier,
                ..Self::default()
            };
            let promoted = TierEvent::Promoted {
                from,
                to: tier,
                composite,
            };
            return (tier > from).then_some(promoted).into_iter().collect();
        }
        if self.last_day_below.is_some_and(|last| day <= last) {
            return Vec::new();
        }
        self.last_day_below = Some(day);
        self.days_below = self.days_below.saturating_add(1);
        if self.days_below < GRACE_DAYS {
            return vec![TierEvent::Warning {
                tier: from,
                to: tier,
                days_remaining: GRACE_DAYS - self.days_below,
            }];
        }
        *self = Self {
            tier,
            ..Self::default()
        };
        vec![TierEvent::Revoked {
            from,
            to: tier,
            composite,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;
    use jiff::civil::date;
    use proptest::prelude::*;

    fn points(whole: i64) -> Points {
        Points::from_raw(whole * Points::SCALE)
    }

    #[test]
    fn brackets_are_half_open() {
        assert_eq!(Tier::of(points(95)), Tier::ObsidianApex);
        let just_below = points(95) - Points::from_raw(1);
        assert_eq!(Tier::of(just_below), Tier::ObsidianPrime);
        assert_eq!(Tier::of(points(80)), Tier::Obsidian);
        assert_eq!(Tier::of(points(79)), Tier::Silver);
        assert_eq!(Tier::ObsidianPrime.to_string(), "Obsidian Prime");
    }

    #[test]
    fn falls_on_the_seventh_day_with_a_warning_on_each_of_the_six_before() {
        let mut state = TierState::default();
        let start = date(2026, 1, 1);
        let events = state.observe(start, Tier::ObsidianPrime, None);
        assert!(matches!(events[..], [TierEvent::Promoted { .. }]));
        for day in 1..=6_u8 {
            let today = start + i64::from(day).days();
            let events = state.observe(today, Tier::ObsidianCore, None);
            let expected = TierEvent::Warning {
                tier: Tier::ObsidianPrime,
                to: Tier::ObsidianCore,
                days_remaining: 7 - day,
            };
            assert_eq!(events, [expected]);
            assert_eq!(state.observe(today, Tier::Silver, None), []);
        }
        let events = state.observe(start + 7.days(), Tier::ObsidianCore, None);
        assert!(matches!(events[..], [TierEvent::Revoked { .. }]));
        assert_eq!(state.tier(), Tier::ObsidianCore);
    }

    #[test]
    fn one_good_observation_starts_the_count_again() {
        let mut state = TierState::default();
        let start = date(2026, 1, 1);
        state.observe(start, Tier::Obsidian, None);
        for day in 1..=6 {
            state.observe(start + day.days(), Tier::Silver, None);
        }
        state.observe(start + 6.days(), Tier::Obsidian, None);
        assert_eq!(state.days_remaining(), None);
        state.observe(start + 7.days(), Tier::Silver, None);
        assert_eq!(state.days_remaining(), Some(6));
    }

    proptest! {
        /// The model keeps the whole history and looks at it anew at every step.
        #[test]
        fn agrees_with_a_model_that_keeps_the_history(steps in prop::collection::vec((0_i64..3, 0_usize..5), 1..80)) {
            const TIERS: [Tier; 5] = [Tier::Silver, Tier::Obsidian, Tier::ObsidianCore, Tier::ObsidianPrime, Tier::ObsidianApex];
            let mut state = TierState::default();
            let mut day = date(2026, 1, 1);
            let mut held = Tier::Silver;
            let mut since: Vec<(Date, Tier)> = Vec::new();
            for (forward, index) in steps {
                day += forward.days();
                let tier = TIERS[index];
                state.observe(day, tier, None);
                since.push((day, tier));
                if tier >= held {
                    held = tier;
                    since.clear();
                }
                let mut days: Vec<Date> = since.iter().map(|(day, _)| *day).collect();
                days.dedup();
                if days.len() == 7 {
                    held = tier;
                    since.clear();
                }
                prop_assert_eq!(state.tier(), held);
            }
        }
    }
}
