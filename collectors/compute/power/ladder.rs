//! Which rung speaks.
//!
//! Promises: a rung that fails is left at once; a better one is trusted again after `VALID_TICKS` valid
//! ticks; no time is told by two rungs.

use cms_spec::provenance::{Fallback, Origin, Quality};
use cms_spec::units::{Microjoules, Millis};

use super::{Config, Machine, Rung, Span, Verdict};
use crate::Host;

/// Valid ticks that a better rung must show before it is used again, so that a flapping one does
/// not.
const VALID_TICKS: u32 = 10;

/// The rungs of one instance, best first; the last one is always the default.
pub(crate) struct Ladder {
    steps: Vec<Step>,
    current: Option<usize>,
}

/// Energy, the time that it was used in, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spoken {
    pub(crate) energy: Microjoules,
    pub(crate) over: Millis,
    pub(crate) origin: Origin,
}

struct Step {
    rung: Box<dyn Rung>,
    valid_ticks: u32,
    why_not: Option<WhyNot>,
}

/// Why a rung is not used.
enum WhyNot {
    Absent(String),
    Invalid(String),
}

impl Ladder {
    /// Sets the ladder up; nothing is read yet.
    pub(crate) fn new(config: &Config, host: &Host, machine: &Machine) -> Self {
        Self::of(config.rungs(host, machine))
    }

    fn of(rungs: Vec<Box<dyn Rung>>) -> Self {
        let step = |rung| Step {
            rung,
            valid_ticks: 0,
            why_not: None,
        };
        Self {
            steps: rungs.into_iter().map(step).collect(),
            current: None,
        }
    }

    /// Takes the energy of the span from the best valid rung; without a span every rung takes a
    /// baseline.
    pub(crate) fn read(&mut self, span: Option<&Span>) -> Option<Spoken> {
        let verdicts: Vec<Verdict> = self.steps.iter_mut().map(|s| s.read(span)).collect();
        let before = self.current;
        self.current = self.choose(&verdicts);
        let span = span?;
        let of_span = |at: &usize| match verdicts.get(*at) {
            Some(Verdict::Energy { over, .. }) => *over <= span.over,
            _ => false,
        };
        let chosen = self.current?;
        // What a rung gathered while another one spoke has been told by that one.
        let speaks = if before.is_none_or(|before| before == chosen) || of_span(&chosen) {
            chosen
        } else {
            before.filter(of_span)?
        };
        match verdicts.get(speaks) {
            Some(Verdict::Energy { energy, over }) => Some(Spoken {
                energy: *energy,
                over: *over,
                origin: self.origin(speaks),
            }),
            _ => None,
        }
    }

    /// Whether the rung that speaks, or a better one, has not given its first answer yet.
    pub(crate) fn is_waiting(&self) -> bool {
        let up_to = self.current.map_or(self.steps.len(), |at| at + 1);
        self.steps
            .iter()
            .take(up_to)
            .any(|step| step.rung.is_waiting())
    }

    fn choose(&self, verdicts: &[Verdict]) -> Option<usize> {
        let usable = |at: &usize| {
            matches!(
                verdicts.get(*at),
                Some(Verdict::Baseline | Verdict::Energy { .. })
            )
        };
        let first_usable_from = |start: usize| (start..verdicts.len()).find(usable);
        match self.current {
            None => first_usable_from(0),
            Some(at) if !usable(&at) => first_usable_from(at + 1),
            Some(at) => {
                let proven = |better: &usize| self.steps[*better].valid_ticks >= VALID_TICKS;
                Some((0..at).find(proven).unwrap_or(at))
            }
        }
    }

    fn origin(&self, speaks: usize) -> Origin {
        let mut origin = self.steps[speaks].rung.origin();
        let better = &self.steps[..speaks];
        let is_there = |step: &&Step| !matches!(step.why_not, Some(WhyNot::Absent(_)));
        let preferred = better.iter().find(is_there);
        origin.fallback = match preferred.or(better.first()) {
            // That a better source does not exist matters only where nothing is measured.
            Some(_) if preferred.is_none() && origin.quality == Quality::Measured => None,
            Some(preferred) => Some(Fallback {
                from: preferred.rung.name().to_owned(),
                reason: better
                    .iter()
                    .map(Step::why_not)
                    .collect::<Vec<_>>()
                    .join("; "),
            }),
            None if self.steps.len() == 1 => Some(Fallback {
                from: "measurement".to_owned(),
                reason: "compute.power.sources names no power source".to_owned(),
            }),
            None => None,
        };
        origin
    }
}

impl Step {
    fn read(&mut self, span: Option<&Span>) -> Verdict {
        let verdict = self.rung.read(span);
        match &verdict {
            Verdict::Baseline => self.why_not = None,
            Verdict::Energy { .. } => {
                self.why_not = None;
                self.valid_ticks = self.valid_ticks.saturating_add(1);
            }
            Verdict::Absent(reason) => {
                self.why_not = Some(WhyNot::Absent(reason.clone()));
                self.valid_ticks = 0;
            }
            Verdict::Invalid(reason) => {
                self.why_not = Some(WhyNot::Invalid(reason.clone()));
                self.valid_ticks = 0;
            }
        }
        verdict
    }

    fn why_not(&self) -> String {
        let name = self.rung.name();
        match &self.why_not {
            // Parts of a sum are named each.
            Some(WhyNot::Absent(why) | WhyNot::Invalid(why)) if name.contains('+') => why.clone(),
            Some(WhyNot::Absent(why) | WhyNot::Invalid(why)) => format!("{name}: {why}"),
            None => {
                format!("{name}: it answers again and is used after {VALID_TICKS} valid ticks")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cms_spec::provenance::Confidence;
    use cms_spec::units::{Microjoules, Millis};
    use std::collections::VecDeque;

    struct Script(&'static str, VecDeque<Verdict>);

    impl Rung for Script {
        fn name(&self) -> &str {
            self.0
        }
        fn read(&mut self, _: Option<&Span>) -> Verdict {
            self.1.pop_front().unwrap()
        }
        fn origin(&self) -> Origin {
            Origin::measured(self.0, "script/1", Confidence::B)
        }
    }

    const SPAN: Span = Span {
        over: Millis(15_000),
        busy: Millis(0),
        capacity: Millis(30_000),
    };

    const fn energy(energy: u64) -> Verdict {
        Verdict::Energy {
            energy: Microjoules(energy),
            over: SPAN.over,
        }
    }

    fn ladder(first: impl Iterator<Item = Verdict>, ticks: usize) -> Ladder {
        let last = std::iter::repeat_n(energy(1), ticks);
        Ladder::of(vec![
            Box::new(Script("first", first.collect())),
            Box::new(Script("last", last.collect())),
        ])
    }

    #[test]
    fn down_at_once_and_up_after_ten_valid_ticks() {
        use Verdict::Invalid;
        let script = std::iter::once(energy(2))
            .chain(std::iter::once(Invalid("gone".to_owned())))
            .chain(std::iter::repeat_n(energy(2), 12));
        let mut ladder = ladder(script, 14);
        let sources: Vec<String> = (0..14)
            .map(|_| ladder.read(Some(&SPAN)).unwrap().origin.source)
            .collect();
        let expected: Vec<&str> = std::iter::once("first")
            .chain(std::iter::repeat_n("last", 10))
            .chain(["first"; 3])
            .collect();
        assert_eq!(sources, expected);
    }

    #[test]
    fn a_step_down_says_why() {
        let mut ladder = ladder(
            [Verdict::Invalid("no sensor".to_owned()), Verdict::Baseline].into_iter(),
            2,
        );
        let fallback = |read: Option<Spoken>| read.unwrap().origin.fallback.unwrap();
        let at_first = fallback(ladder.read(Some(&SPAN)));
        assert_eq!(
            (at_first.from.as_str(), at_first.reason.as_str()),
            ("first", "first: no sensor")
        );
        let then = fallback(ladder.read(Some(&SPAN)));
        assert_eq!(
            then.reason,
            "first: it answers again and is used after 10 valid ticks"
        );
    }

    #[test]
    fn a_baseline_gives_nothing_and_keeps_the_rung() {
        let script = [Verdict::Baseline, energy(2), Verdict::Baseline];
        let mut ladder = ladder(script.into_iter(), 3);
        assert_eq!(ladder.read(Some(&SPAN)), None);
        let spoken = ladder.read(Some(&SPAN)).unwrap();
        assert_eq!(
            (spoken.energy, spoken.over, spoken.origin.fallback),
            (Microjoules(2), SPAN.over, None)
        );
        assert_eq!(ladder.read(Some(&SPAN)), None);
    }
}
