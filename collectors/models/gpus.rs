//! Energy of the GPUs that a server works on, between two looks at their counters.
//!
//! Promises: an energy only where the counter of every one of them went on, over two seconds at least; a window in which
//! a driver was loaded anew or another set of GPUs was there has none. Refuses: a power times a time, which is no
//! measured energy; whatever else draws power in the machine.

use std::path::PathBuf;

use cms_spec::units::{Microjoules, Millis};
use jiff::{SignedDuration, Timestamp};

use super::request::Used;
use crate::Host;
use crate::nvml::{Board, Driver, Grown, Looked, grown};

/// Between two looks: sensors are read for a part of the time only, so that shorter windows are not to be believed.
const EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Over longer windows there is no saying what was served when.
const WINDOW_MAX: Millis = Millis(10 * 60 * 1000);

/// Where a person says where the library is.
const LIBRARY_KEY: &str = "LD_LIBRARY_PATH of the agent's service";

/// The GPUs of a server.
#[derive(Debug)]
pub(crate) struct Gpus {
    driver: Driver,
    /// Their indices, as `nvidia-smi` shows them; all of the machine without.
    chosen: Option<Vec<u32>>,
    looked: Option<Timestamp>,
    before: Option<(Timestamp, Vec<Board>)>,
    trouble: Option<String>,
}

impl Gpus {
    /// The GPUs with these indices; nothing is asked yet.
    pub(crate) fn open(chosen: Option<Vec<u32>>, library: Option<PathBuf>, host: &Host) -> Self {
        Self {
            driver: Driver::new(library.as_deref(), LIBRARY_KEY, host),
            chosen,
            looked: None,
            before: None,
            trouble: None,
        }
    }

    /// What they used since the last look, where that is known. It may be called with every tick, and blocks for 0.4 s
    /// at most.
    pub(crate) fn look(&mut self, at: Timestamp) -> Option<Used> {
        let since = self.looked.map(|looked| at.duration_since(looked));
        if since.is_some_and(|since| !since.is_negative() && since < EVERY) {
            return None;
        }
        self.looked = Some(at);
        let looked = self.driver.look();
        self.take(at, looked)
    }

    /// Why there is no energy.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn take(&mut self, at: Timestamp, looked: Looked) -> Option<Used> {
        let before = self.before.take();
        let (boards, is_anew) = match looked {
            Looked::Boards { boards, is_anew } => (boards, is_anew),
            Looked::Late => return None,
            Looked::Absent(why) | Looked::Unusable(why) => {
                self.trouble = Some(why);
                return None;
            }
        };
        let boards = match chosen(self.chosen.as_deref(), boards) {
            Ok(boards) => boards,
            Err(why) => {
                self.trouble = Some(why);
                return None;
            }
        };
        let silent = boards.iter().filter(|board| board.energy.is_none()).count();
        self.trouble = (silent > 0).then(|| {
            format!(
                "{silent} of {} GPUs have no counter of energy: they are virtual, partitions (MIG), or older than \
                 Volta",
                boards.len()
            )
        });
        let used = before.filter(|_| !is_anew).and_then(|(since, before)| {
            let over_ms = u64::try_from(at.duration_since(since).as_millis()).ok()?;
            let energy = energy(&before, &boards, Millis(over_ms))?;
            Some(Used { energy, over_ms })
        });
        self.before = Some((at, boards));
        used
    }
}

/// The boards with these indices.
fn chosen(indices: Option<&[u32]>, boards: Vec<Board>) -> Result<Vec<Board>, String> {
    let Some(indices) = indices else {
        return Ok(boards);
    };
    let count = boards.len();
    let board = |index: &u32| {
        let board = usize::try_from(*index)
            .ok()
            .and_then(|index| boards.get(index));
        board.cloned().ok_or_else(|| {
            format!("`gpus` names GPU {index}, and there are {count}: see nvidia-smi -L")
        })
    };
    indices.iter().map(board).collect()
}

/// What all of them used; nothing when that is not known of one.
fn energy(before: &[Board], after: &[Board], over: Millis) -> Option<Microjoules> {
    let is_same = before.len() == after.len()
        && before.iter().zip(after).all(|(b, a)| b.uuid == a.uuid)
        && over <= WINDOW_MAX;
    let grown = before
        .iter()
        .zip(after)
        .map(|(before, after)| match grown(before, after, over) {
            Grown::Energy(energy) => Some(energy),
            Grown::Untold | Grown::Reset | Grown::TooSoon | Grown::Still => None,
        });
    let sum = grown.sum::<Option<Microjoules>>()?;
    (is_same && sum > Microjoules::ZERO).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use super::super::fake::Fake;
    use std::sync::Arc;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_773_480_413 + seconds).unwrap()
    }

    fn board(uuid: &str, joules: Option<u64>) -> Board {
        Board {
            uuid: uuid.to_owned(),
            energy: joules.map(|joules| Microjoules(joules * 1_000_000)),
            power: None,
        }
    }

    fn boards(all: &[(&str, u64)]) -> Looked {
        Looked::Boards {
            boards: all.iter().map(|(uuid, j)| board(uuid, Some(*j))).collect(),
            is_anew: false,
        }
    }

    fn gpus(chosen: Option<Vec<u32>>) -> Gpus {
        Gpus::open(chosen, None, &Arc::new(Fake::default()).host())
    }

    #[test]
    fn the_chosen_ones_add_up() {
        let mut gpus = gpus(Some(vec![2, 0]));
        let all = |joules: u64| boards(&[("a", joules), ("b", 9 * joules), ("c", 2 * joules)]);
        assert_eq!(gpus.take(at(0), all(1000)), None);
        let used = gpus.take(at(15), all(2000)).unwrap();
        assert_eq!((used.energy.0, used.over_ms), (3_000_000_000, 15_000));
        assert_eq!(gpus.trouble(), None);
    }

    #[test]
    fn a_window_that_is_not_whole_has_none() {
        let first = || boards(&[("a", 1000), ("b", 1000)]);
        for (why, second, seconds) in [
            ("a driver loaded anew", boards(&[("a", 5), ("b", 1500)]), 15),
            ("a leap", boards(&[("a", 1001), ("b", 90_000)]), 15),
            ("another GPU", boards(&[("a", 1500), ("c", 1500)]), 15),
            ("one less", boards(&[("a", 1500)]), 15),
            (
                "a counter that stands still",
                boards(&[("a", 1000), ("b", 1500)]),
                15,
            ),
            ("too long ago", boards(&[("a", 1500), ("b", 1500)]), 900),
            (
                "a clock that was set back",
                boards(&[("a", 1500), ("b", 1500)]),
                -15,
            ),
            ("no answer", Looked::Late, 15),
        ] {
            let mut gpus = gpus(None);
            gpus.take(at(0), first());
            assert_eq!(gpus.take(at(seconds), second), None, "{why}");
        }
        let mut gpus = gpus(None);
        gpus.take(at(0), first());
        let late = Looked::Boards {
            boards: vec![board("a", Some(1500)), board("b", Some(1500))],
            is_anew: true,
        };
        assert_eq!(gpus.take(at(15), late), None, "of an unknown moment");
        assert!(
            gpus.take(at(30), boards(&[("a", 1600), ("b", 1600)]))
                .is_some()
        );
    }

    #[test]
    fn what_is_not_there_is_said() {
        let mut one = gpus(Some(vec![0, 7]));
        assert_eq!(one.take(at(0), boards(&[("a", 1)])), None);
        assert!(one.trouble().unwrap().contains("GPU 7, and there are 1"));
        let mut old = gpus(None);
        let looked = Looked::Boards {
            boards: vec![board("a", None)],
            is_anew: false,
        };
        old.take(at(0), looked);
        assert!(old.trouble().unwrap().contains("1 of 1 GPUs"));
        let mut none = gpus(None);
        assert_eq!(
            none.take(at(0), Looked::Absent("no driver".to_owned())),
            None
        );
        assert_eq!(none.trouble(), Some("no driver"));
    }

    proptest! {
        #[test]
        fn windows_add_up_to_what_was_counted(steps in prop::collection::vec(1..50_000_u64, 1..40)) {
            let (mut gpus, mut counter, mut told) = (gpus(None), 7, 0);
            gpus.take(at(0), boards(&[("a", counter)]));
            for (seconds, step) in (15..).step_by(15).zip(&steps) {
                counter += step;
                told += gpus.take(at(seconds), boards(&[("a", counter)])).unwrap().energy.0;
            }
            prop_assert_eq!(told, (counter - 7) * 1_000_000);
        }
    }
}
