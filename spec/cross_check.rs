//! What other sources said of an instance's power while one of them spoke for it.
//!
//! They are never merged into the figure: they stand beside it, so that a reader sees how far sources are apart.
//! Sums are integers; a share is rounded only where it is printed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::Subject;
use crate::provenance::{CrossCheck, Entry};
use crate::units::{Fixed, Microjoules, Millis};

/// Most other sources of one statement; a ladder has no more rungs.
pub const OTHERS_MAX: usize = 16;

/// A part of a machine may show this many hundredths of what the whole one draws before one of the two must be
/// wrong: sensors differ by a few percent.
const PART_OF_WHOLE_MAX_PERCENT: u128 = 105;

/// A statement about one instance: it replaces the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossChecks {
    /// The instance.
    pub instance: Subject,
    /// Source of the energy that counts.
    pub source: String,
    /// Its method.
    pub method: String,
    /// What the others said over the same time.
    pub others: Vec<Other>,
}

/// One other source, and the one that counts over the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// Its name.
    pub source: String,
    /// Whether it measures only a part of the instance, and so never more than the whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_part: bool,
    /// What it said.
    pub said: Drawn,
    /// What the source that counts said.
    pub counted: Drawn,
}

/// Energy over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// How much.
    pub microjoules: Microjoules,
    /// Over how long.
    pub over_ms: Millis,
}

impl Drawn {
    /// Adds more of the same.
    pub fn add(&mut self, more: Self) {
        self.microjoules += more.microjoules;
        self.over_ms += more.over_ms;
    }
}

impl Other {
    /// How far apart the two are, in percent of the one that counts.
    #[must_use]
    pub fn delta_pct(&self) -> Option<Fixed<1>> {
        Sum::of(self).delta_pct()
    }

    /// Whether a part shows more than the whole: one of the two sources is wrong.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        Sum::of(self).is_alarm()
    }
}

/// Two sources over all instances that both speak of. As energy times the other's time, so that different times
/// compare exactly.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    said: (u128, u128),
    counted: (u128, u128),
    is_part: bool,
}

impl Sum {
    fn of(other: &Other) -> Self {
        let mut sum = Self::default();
        sum.add(other);
        sum
    }

    fn add(&mut self, other: &Other) {
        let add = |to: &mut (u128, u128), drawn: &Drawn| {
            to.0 = to.0.saturating_add(u128::from(drawn.microjoules.0));
            to.1 = to.1.saturating_add(u128::from(drawn.over_ms.0));
        };
        add(&mut self.said, &other.said);
        add(&mut self.counted, &other.counted);
        self.is_part |= other.is_part;
    }

    /// Both powers over one denominator.
    fn powers(&self) -> (u128, u128) {
        (
            self.said.0.saturating_mul(self.counted.1),
            self.counted.0.saturating_mul(self.said.1),
        )
    }

    fn watts(&self) -> Option<Fixed<1>> {
        // A microjoule for a millisecond is a milliwatt.
        Fixed::ratio(self.said.0, self.said.1.saturating_mul(1000))
    }

    fn delta_pct(&self) -> Option<Fixed<1>> {
        let (said, counted) = self.powers();
        let apart = Fixed::<1>::ratio(said.abs_diff(counted).saturating_mul(100), counted)?;
        Some(if said < counted {
            Fixed::from_raw(-apart.raw())
        } else {
            apart
        })
    }

    fn is_alarm(&self) -> bool {
        let (said, counted) = self.powers();
        self.is_part && said.saturating_mul(100) > counted.saturating_mul(PART_OF_WHOLE_MAX_PERCENT)
    }
}

/// Puts statements beside the entries of a figure that they are about.
pub(crate) fn attach<'a>(
    entries: &mut [Entry],
    figure: &str,
    statements: impl Iterator<Item = &'a CrossChecks>,
) {
    let mut sums: BTreeMap<(usize, &str), Sum> = BTreeMap::new();
    for statement in statements {
        let is_about = |entry: &Entry| {
            entry.figure == figure
                && entry.source == statement.source
                && entry.method == statement.method
        };
        let Some(entry) = entries.iter().position(is_about) else {
            continue;
        };
        for other in &statement.others {
            sums.entry((entry, &other.source)).or_default().add(other);
        }
    }
    for ((entry, source), sum) in sums {
        let (Some(entry), Some(value)) = (entries.get_mut(entry), sum.watts()) else {
            continue;
        };
        if sum.is_alarm() {
            let alarm = format!(
                "cross_check_alarm: {source} measures a part and shows more than {} does for the whole",
                entry.source
            );
            entry.note = Some(match entry.note.take() {
                Some(note) => format!("{note}; {alarm}"),
                None => alarm,
            });
        }
        entry.cross_check.push(CrossCheck {
            source: source.to_owned(),
            value,
            delta_pct: sum.delta_pct(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::{Confidence, Origin};
    use proptest::prelude::*;

    fn drawn(watts: u64, over_ms: u64) -> Drawn {
        Drawn {
            microjoules: Microjoules(watts * 1000 * over_ms),
            over_ms: Millis(over_ms),
        }
    }

    fn statement(instance: &str, said: Drawn, counted: Drawn) -> CrossChecks {
        CrossChecks {
            instance: instance.parse().expect("a subject"),
            source: "redfish".to_owned(),
            method: "redfish/1 psu_ac power".to_owned(),
            others: vec![Other {
                source: "rapl+nvml".to_owned(),
                is_part: true,
                said,
                counted,
            }],
        }
    }

    fn entry() -> Entry {
        let origin = Origin::measured("redfish", "redfish/1 psu_ac power", Confidence::A);
        Entry::new("power", &origin)
    }

    #[test]
    fn instances_of_one_entry_add_up() {
        let statements = [
            statement("a", drawn(300, 1000), drawn(400, 1000)),
            statement("b", drawn(100, 1000), drawn(100, 2000)),
        ];
        let mut entries = [entry()];
        attach(&mut entries, "power", statements.iter());
        let [check] = entries[0].cross_check.as_slice() else {
            panic!("{entries:?}");
        };
        assert_eq!(check.value, Fixed::from_raw(2000));
        // 200 W on average beside 200 W.
        assert_eq!(check.delta_pct, Some(Fixed::ZERO));
        assert_eq!(entries[0].note, None);
    }

    #[test]
    fn a_part_above_the_whole_is_an_alarm() {
        for (part, is_alarm) in [(105, false), (106, true)] {
            let statement = statement("a", drawn(part, 1000), drawn(100, 1000));
            assert_eq!(statement.others[0].is_alarm(), is_alarm);
            let mut entries = [entry()];
            attach(&mut entries, "power", [statement].iter());
            assert_eq!(entries[0].note.is_some(), is_alarm, "{entries:?}");
        }
    }

    #[test]
    fn another_source_is_left_alone() {
        let mut entries = [entry()];
        let mut other = statement("a", drawn(1, 1), drawn(1, 1));
        other.method.push('2');
        attach(&mut entries, "power", [other].iter());
        assert!(entries[0].cross_check.is_empty());
    }

    proptest! {
        #[test]
        fn splitting_the_time_changes_nothing(
            said in 1..1_000_000_000_u64, counted in 1..1_000_000_000_u64, at in 0..1_000_000_000_u64,
        ) {
            let over = Millis(900_000);
            let of = |microjoules| Drawn { microjoules: Microjoules(microjoules), over_ms: over };
            let whole = statement("a", of(said), of(counted)).others[0].clone();
            let mut parts = whole.clone();
            let first = Drawn { microjoules: Microjoules(said.min(at)), over_ms: Millis(1) };
            let rest = Drawn {
                microjoules: Microjoules(said - said.min(at)),
                over_ms: Millis(over.0 - 1),
            };
            parts.said = first;
            parts.said.add(rest);
            prop_assert_eq!(parts.delta_pct(), whole.delta_pct());
        }
    }
}
