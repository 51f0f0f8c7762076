//! The machine's nameplate as a gate: a power that it excludes is a slip of scale, of unit or of wiring.
//!
//! Promises: such a power is refused with both numbers, never bent into the range. Refuses: a lower bound for
//! parts of a machine, which may draw as little as they like.

use std::fmt;

use cms_spec::provenance::Origin;
use cms_spec::units::Milliwatts;

use super::{Rung, Span, Verdict};
use crate::checked::Watts;

/// A machine that runs draws at least this share of its nameplate, in percent.
const PERCENT_MIN: u64 = 2;

/// Nor more than this: nameplates are exceeded for moments only.
const PERCENT_MAX: u64 = 130;

/// The most that the machine is made to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nameplate {
    watts: Watts,
    /// Who says so, for reasons.
    told_by: &'static str,
}

impl Nameplate {
    /// That of the configuration.
    pub(super) const fn configured(watts: Watts) -> Self {
        Self {
            watts,
            told_by: "nameplate_watts",
        }
    }

    /// What a device says that its supplies can give.
    pub(super) const fn of_supplies(watts: Watts, property: &'static str) -> Self {
        Self {
            watts,
            told_by: property,
        }
    }

    /// Refuses what the whole machine cannot draw.
    pub(super) fn check(self, who: &str, power: Milliwatts) -> Result<(), String> {
        if power < self.percent(PERCENT_MIN) {
            return Err(format!(
                "{who} says {}, less than {PERCENT_MIN} % of {self}: check its scale and the nameplate",
                in_watts(power)
            ));
        }
        self.check_most(who, power)
    }

    /// Refuses what is more than the machine or a part of it can draw.
    pub(super) fn check_most(self, who: &str, power: Milliwatts) -> Result<(), String> {
        if power <= self.most() {
            return Ok(());
        }
        Err(format!(
            "{who} says {}, more than {PERCENT_MAX} % of {self}: check its scale and the nameplate",
            in_watts(power)
        ))
    }

    /// The most that is believed.
    pub(super) fn most(self) -> Milliwatts {
        self.percent(PERCENT_MAX)
    }

    /// A share of it: a hundredth of a watt has ten milliwatts.
    fn percent(self, percent: u64) -> Milliwatts {
        Milliwatts(self.watts.0.saturating_mul(percent).saturating_mul(10))
    }
}

impl fmt::Display for Nameplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.told_by, self.watts.0)
    }
}

fn in_watts(power: Milliwatts) -> String {
    format!("{}.{} W", power.0 / 1_000, power.0 % 1_000 / 100)
}

/// A rung whose energy of a span must be one that the nameplate allows.
pub(super) struct Gated {
    rung: Box<dyn Rung>,
    nameplate: Nameplate,
    is_whole: bool,
}

impl Gated {
    /// Gates a rung; one of the whole machine has a lower bound, too.
    pub(super) fn new(rung: Box<dyn Rung>, nameplate: Nameplate, is_whole: bool) -> Self {
        Self {
            rung,
            nameplate,
            is_whole,
        }
    }
}

impl Rung for Gated {
    fn name(&self) -> &str {
        self.rung.name()
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        let verdict = self.rung.read(span);
        let Verdict::Energy { energy, over } = &verdict else {
            return verdict;
        };
        let Some(power) = energy.mean_power(*over) else {
            return verdict;
        };
        let name = self.rung.name();
        // The reason of a sum stands alone; that of one source follows its name.
        let who = if name.contains('+') { name } else { "it" };
        let checked = if self.is_whole {
            self.nameplate.check(who, power)
        } else {
            self.nameplate.check_most(who, power)
        };
        checked.map_or_else(Verdict::Invalid, |()| verdict)
    }

    fn origin(&self) -> Origin {
        self.rung.origin()
    }

    fn is_part(&self) -> bool {
        self.rung.is_part()
    }

    fn is_waiting(&self) -> bool {
        self.rung.is_waiting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cms_spec::provenance::Confidence;
    use cms_spec::units::{Microjoules, Millis};

    /// Says one power.
    struct Says(&'static str, Milliwatts);

    impl Rung for Says {
        fn name(&self) -> &str {
            self.0
        }
        fn read(&mut self, span: Option<&Span>) -> Verdict {
            span.map_or(Verdict::Baseline, |span| Verdict::Energy {
                energy: self.1.over(span.over),
                over: span.over,
            })
        }
        fn origin(&self) -> Origin {
            Origin::measured(self.0, "says/1", Confidence::B)
        }
    }

    fn gated(name: &'static str, milliwatts: u64, is_whole: bool) -> Gated {
        let rung = Box::new(Says(name, Milliwatts(milliwatts)));
        Gated::new(rung, Nameplate::configured(Watts(800)), is_whole)
    }

    fn read(name: &'static str, milliwatts: u64, is_whole: bool) -> Verdict {
        let span = Span {
            over: Millis(10_000),
            busy: Millis(0),
            capacity: Millis(10_000),
        };
        gated(name, milliwatts, is_whole).read(Some(&span))
    }

    fn refused(name: &'static str, milliwatts: u64, is_whole: bool) -> Option<String> {
        match read(name, milliwatts, is_whole) {
            Verdict::Invalid(why) => Some(why),
            _ => None,
        }
    }

    #[test]
    fn the_bounds_are_two_and_a_hundred_and_thirty_percent_and_belong_to_the_range() {
        for (milliwatts, words) in [
            (
                15_999,
                Some("it says 15.9 W, less than 2 % of nameplate_watts = 800"),
            ),
            (16_000, None),
            (1_040_000, None),
            (
                1_040_001,
                Some("it says 1040.0 W, more than 130 % of nameplate_watts = 800"),
            ),
        ] {
            let why = refused("hwmon", milliwatts, true);
            match words {
                None => assert_eq!(why, None, "{milliwatts}"),
                Some(words) => assert!(why.unwrap().contains(words), "{milliwatts}"),
            }
        }
    }

    #[test]
    fn what_is_let_through_is_not_changed() {
        let energy = Microjoules(1_040_000 * 10_000);
        let whole = Verdict::Energy {
            energy,
            over: Millis(10_000),
        };
        assert_eq!(read("hwmon", 1_040_000, true), whole);
        assert_eq!(gated("hwmon", 1, true).read(None), Verdict::Baseline);
    }

    #[test]
    fn a_part_has_no_lower_bound_and_a_sum_says_its_name() {
        assert_eq!(refused("rapl", 1, false), None);
        let why = refused("rapl+nvml", 1_100_000, false).unwrap();
        assert!(
            why.starts_with("rapl+nvml says 1100.0 W, more than"),
            "{why}"
        );
    }
}
