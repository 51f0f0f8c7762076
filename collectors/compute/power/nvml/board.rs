//! What two looks at the GPUs of a machine mean. Pure: counters in, energy out.

use std::collections::BTreeMap;

use cms_spec::provenance::{Confidence, Origin};
use cms_spec::units::{Microjoules, Millis};

use super::super::residual::Residual;
use crate::nvml::{Board, Grown, grown};

/// What came of two looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Energy(Microjoules),
    /// They cannot be subtracted; the next two can.
    Gap,
    /// No board tells anything.
    Untold,
}

/// The boards of a machine from look to look.
#[derive(Debug, Default)]
pub(super) struct Boards {
    before: Vec<Board>,
    residuals: BTreeMap<String, Residual>,
    /// Boards that tell neither energy nor power, of all.
    untold: (usize, usize),
    has_counters: bool,
    has_powers: bool,
    is_stuck: bool,
}

impl Boards {
    /// Forgets the look before, for what comes next is no continuation of it.
    pub(super) fn forget(&mut self) {
        self.before.clear();
    }

    /// Takes a look in. Without a span it is only a baseline.
    pub(super) fn look(&mut self, boards: Vec<Board>, over: Option<Millis>) -> Outcome {
        let before = std::mem::replace(&mut self.before, boards);
        let told = |board: &&Board| board.energy.is_some() || board.power.is_some();
        let untold = self.before.iter().filter(|board| !told(board)).count();
        self.untold = (untold, self.before.len());
        if untold == self.before.len() {
            return Outcome::Untold;
        }
        let same = before.len() == self.before.len()
            && before
                .iter()
                .zip(&self.before)
                .all(|(b, a)| b.uuid == a.uuid);
        let Some(over) = over.filter(|over| same && *over > Millis::ZERO) else {
            return Outcome::Gap;
        };
        (self.has_counters, self.has_powers, self.is_stuck) = (false, false, false);
        let mut sum = Microjoules::ZERO;
        for (before, after) in before.iter().zip(&self.before) {
            let by_power = after.power.map(|power| power.over(over));
            let by_counter = match grown(before, after, over) {
                Grown::Reset | Grown::TooSoon => return Outcome::Gap,
                Grown::Still => {
                    self.is_stuck = true;
                    None
                }
                Grown::Energy(energy) => Some(energy),
                Grown::Untold => None,
            };
            if let (Some(by_counter), Some(by_power)) = (by_counter, by_power) {
                let residual = self.residuals.entry(after.uuid.clone()).or_default();
                residual.add(by_counter, by_power, over);
            }
            match by_counter.or(by_power) {
                Some(energy) => sum += energy,
                None if after.energy.is_some() => return Outcome::Gap,
                None => continue,
            }
            self.has_counters |= by_counter.is_some();
            self.has_powers |= by_counter.is_none();
        }
        let now: Vec<&str> = self.before.iter().map(|board| &*board.uuid).collect();
        self.residuals
            .retain(|uuid, _| now.contains(&uuid.as_str()));
        if sum == Microjoules::ZERO {
            return Outcome::Gap;
        }
        Outcome::Energy(sum)
    }

    /// Where the last energy came from.
    pub(super) fn origin(&self) -> Origin {
        let method = match (self.has_counters, self.has_powers) {
            (true, true) => "nvml-energy/1 and nvml-power/1 gpu_board",
            (false, true) => "nvml-power/1 gpu_board",
            _ => "nvml-energy/1 gpu_board",
        };
        let confidence = if self.has_powers {
            Confidence::C
        } else {
            Confidence::B
        };
        let mut origin = Origin::measured("nvml", method, confidence);
        for residual in self.residuals.values() {
            residual.mark(&mut origin);
        }
        let (untold, all) = self.untold;
        let mut notes: Vec<String> = origin.note.take().into_iter().collect();
        if untold > 0 {
            notes.push(format!(
                "{untold} of {all} GPUs tell neither energy nor power and are not counted"
            ));
        }
        if self.is_stuck {
            notes.push("the counter of a GPU does not move: its power is used".to_owned());
        }
        origin.note = (!notes.is_empty()).then(|| notes.join("; "));
        origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cms_spec::units::Milliwatts;
    use proptest::prelude::*;

    const TICK: Millis = Millis(15_000);

    fn board(uuid: &str, joules: Option<u64>, watts: Option<u64>) -> Board {
        Board {
            uuid: uuid.to_owned(),
            energy: joules.map(|joules| Microjoules(joules * 1_000_000)),
            power: watts.map(|watts| Milliwatts(watts * 1000)),
        }
    }

    fn two(before: Vec<Board>, after: Vec<Board>) -> (Outcome, Origin) {
        let mut boards = Boards::default();
        boards.look(before, None);
        let outcome = boards.look(after, Some(TICK));
        (outcome, boards.origin())
    }

    fn joules(joules: u64) -> Outcome {
        Outcome::Energy(Microjoules(joules * 1_000_000))
    }

    #[test]
    fn counters_of_all_boards_add_up() {
        let (outcome, origin) = two(
            vec![board("a", Some(10), Some(100)), board("b", Some(5), None)],
            vec![
                board("a", Some(1510), Some(99)),
                board("b", Some(3005), None),
            ],
        );
        assert_eq!(outcome, joules(4500));
        assert_eq!(
            (&*origin.method, origin.note),
            ("nvml-energy/1 gpu_board", None)
        );
    }

    #[test]
    fn a_board_without_a_counter_is_taken_by_its_power() {
        let (outcome, origin) = two(
            vec![board("a", Some(10), Some(100)), board("b", None, Some(20))],
            vec![board("a", Some(1510), Some(99)), board("b", None, Some(20))],
        );
        assert_eq!(outcome, joules(1500 + 300));
        assert_eq!(origin.confidence, Confidence::C);
        assert!(origin.method.contains("nvml-power/1"));
    }

    #[test]
    fn a_reload_of_the_driver_and_another_set_of_boards_are_gaps() {
        let one = |joules| vec![board("a", Some(joules), Some(1))];
        assert_eq!(two(one(100), one(5)).0, Outcome::Gap);
        assert_eq!(
            two(one(100), vec![board("b", Some(200), None)]).0,
            Outcome::Gap
        );
        assert_eq!(two(one(100), one(100 + 75_001)).0, Outcome::Gap, "5 kW");
    }

    #[test]
    fn a_counter_that_does_not_move_is_left_for_the_power() {
        let one = |watts| vec![board("a", Some(16), watts)];
        let (outcome, origin) = two(one(Some(35)), one(Some(35)));
        assert_eq!(outcome, joules(525));
        assert!(origin.note.unwrap().contains("does not move"));
        assert_eq!(two(one(None), one(None)).0, Outcome::Gap);
    }

    #[test]
    fn boards_that_tell_nothing_are_said() {
        let silent = || board("b", None, None);
        let (outcome, origin) = two(
            vec![board("a", Some(0), None), silent()],
            vec![board("a", Some(15), None), silent()],
        );
        assert_eq!(outcome, joules(15));
        assert!(origin.note.unwrap().starts_with("1 of 2 GPUs"));
        assert_eq!(two(vec![silent()], vec![silent()]).0, Outcome::Untold);
    }

    #[test]
    fn a_counter_and_a_power_that_disagree_for_ten_minutes_are_trusted_less() {
        let mut boards = Boards::default();
        for tick in 0..=40 {
            // 100 W by the counter, 175 W by the power.
            boards.look(vec![board("a", Some(tick * 1500), Some(175))], Some(TICK));
        }
        let origin = boards.origin();
        assert_eq!(origin.confidence, Confidence::C);
        assert!(origin.note.unwrap().contains("20 %"));
    }

    proptest! {
        #[test]
        fn energy_is_the_difference_of_the_counters(
            steps in prop::collection::vec(1..70_000_u64, 1..50),
        ) {
            let (mut boards, mut total, mut told) = (Boards::default(), 0, 0);
            boards.look(vec![board("a", Some(0), None)], None);
            for step in &steps {
                total += step;
                match boards.look(vec![board("a", Some(total), None)], Some(TICK)) {
                    Outcome::Energy(energy) => told += energy.0,
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert_eq!(told, steps.iter().sum::<u64>() * 1_000_000);
        }
    }
}
