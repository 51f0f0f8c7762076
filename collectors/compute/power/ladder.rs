//! Which rung speaks.
//!
//! Promises: a rung that fails is left at once; a better one is trusted again after `VALID_TICKS` valid
//! ticks; no time is told by two rungs.

use cms_spec::Subject;
use cms_spec::cross_check::CrossChecks;
use cms_spec::provenance::{Fallback, Origin, Quality};
use cms_spec::units::{Microjoules, Millis};
use jiff::Timestamp;

use super::compared::{self, Compared};
use super::{Config, Machine, Rung, Span, Verdict};
use crate::Host;
use crate::unaddressed::Unaddressed;

/// Valid ticks that a better rung must show before it is used again, so that a flapping one does
/// not.
const VALID_TICKS: u32 = 10;

/// The rungs of one instance, best first; the last one is always the default.
#[derive(Default)]
pub(crate) struct Ladder {
    steps: Vec<Step>,
    current: Option<usize>,
    /// Since when the current one speaks.
    since: Option<Timestamp>,
    compared: Compared,
    /// What reasons must not tell beyond this host.
    unaddressed: Unaddressed,
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
    /// What it said last.
    said: Option<(Microjoules, Millis)>,
}

/// Why a rung is not used.
enum WhyNot {
    Absent(String),
    Invalid(String),
}

impl Ladder {
    /// Sets the ladder up; nothing is read yet.
    pub(crate) fn new(config: &Config, host: &Host, machine: &Machine) -> Self {
        Self {
            unaddressed: config.unaddressed(),
            ..Self::of(config.rungs(host, machine))
        }
    }

    fn of(rungs: Vec<Box<dyn Rung>>) -> Self {
        let step = |rung| Step {
            rung,
            valid_ticks: 0,
            why_not: None,
            said: None,
        };
        Self {
            steps: rungs.into_iter().map(step).collect(),
            ..Self::default()
        }
    }

    /// Takes the energy of the span from the best valid rung; without a span every rung takes a
    /// baseline.
    pub(crate) fn read(&mut self, at: Timestamp, span: Option<&Span>) -> Option<Spoken> {
        let verdicts: Vec<Verdict> = self.steps.iter_mut().map(|s| s.read(span)).collect();
        let before = self.current;
        self.current = self.choose(&verdicts);
        if self.current != before {
            self.since = Some(at);
        }
        let spoken = self.spoken(&verdicts, before, span?);
        let heard = |(at, verdict): (usize, &Verdict)| match verdict {
            _ if Some(at) == self.current => None,
            Verdict::Energy { energy, over } => Some((at, Some((*energy, *over)))),
            Verdict::Baseline => Some((at, None)),
            Verdict::Absent(_) | Verdict::Invalid(_) => None,
        };
        let heard = verdicts.iter().enumerate().filter_map(heard);
        let others = heard.filter_map(|(at, said)| Some((self.steps.get(at)?.rung.as_ref(), said)));
        self.compared.add(spoken.as_ref(), others);
        spoken
    }

    /// The energy of the rung that is chosen, or of the one before it in the tick of the change.
    fn spoken(&self, verdicts: &[Verdict], before: Option<usize>, span: &Span) -> Option<Spoken> {
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
        let Some(Verdict::Energy { energy, over }) = verdicts.get(speaks) else {
            return None;
        };
        Some(Spoken {
            energy: *energy,
            over: *over,
            origin: self.origin(speaks),
        })
    }

    /// What the other rungs said beside the one that speaks, when it is time to say so.
    pub(crate) fn cross_checks(&mut self, instance: &Subject) -> Option<CrossChecks> {
        self.compared.statement(instance)
    }

    /// What each rung says, one line each, best first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let speaks = self.current.and_then(|at| self.steps.get(at)?.said);
        let line = |(at, step): (usize, &Step)| {
            let name = step.rung.name();
            let said = step.said.and_then(|(energy, over)| energy.mean_power(over));
            let watts = said.map(|power| format!("{}.{} W", power.0 / 1000, power.0 % 1000 / 100));
            let told = match (&step.why_not, watts) {
                (Some(WhyNot::Absent(why)), _) => return format!("power {name}: absent: {why}"),
                (Some(WhyNot::Invalid(why)), _) => return format!("power {name}: not used: {why}"),
                (None, Some(watts)) => watts,
                (None, None) => "no value yet".to_owned(),
            };
            if self.current == Some(at) {
                let since = self.since.map(|since| format!(" since {since:.0}"));
                let origin = step.rung.origin();
                let note = origin
                    .note
                    .map(|note| format!("; {note}"))
                    .unwrap_or_default();
                return format!(
                    "power {name}: {told}, in use{}, {}{note}",
                    since.unwrap_or_default(),
                    origin.method,
                );
            }
            let beside = match (step.said, speaks) {
                (Some(said), Some(speaks)) => compared::beside(said, speaks),
                _ => None,
            };
            let beside = beside
                .map(|percent| format!(" ({percent} %)"))
                .unwrap_or_default();
            let is_better = self.current.is_some_and(|current| at < current);
            let role = if is_better {
                ", valid again, not used yet"
            } else {
                ""
            };
            format!("power {name}: {told}{beside}{role}")
        };
        let lines = self.steps.iter().enumerate().map(line);
        lines.chain(self.compared.alarms()).collect()
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
            Some(first) => {
                let told = |step: &&Step| preferred.is_none() || is_there(step);
                let reasons: Vec<String> = better.iter().filter(told).map(Step::why_not).collect();
                Some(Fallback {
                    from: first.rung.name().to_owned(),
                    reason: self.unaddressed.hide(&reasons.join("; ")),
                })
            }
            None if self.steps.len() == 1 => Some(Fallback {
                from: "measurement".to_owned(),
                reason: "compute.power.sources names no power source".to_owned(),
            }),
            None => None,
        };
        origin.note = origin.note.map(|note| self.unaddressed.hide(&note));
        origin
    }
}

impl Step {
    fn read(&mut self, span: Option<&Span>) -> Verdict {
        let verdict = self.rung.read(span);
        self.said = match &verdict {
            Verdict::Energy { energy, over } => Some((*energy, *over)),
            Verdict::Baseline => self.said,
            Verdict::Absent(_) | Verdict::Invalid(_) => None,
        };
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
            .map(|_| {
                ladder
                    .read(Timestamp::UNIX_EPOCH, Some(&SPAN))
                    .unwrap()
                    .origin
                    .source
            })
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
        let at_first = fallback(ladder.read(Timestamp::UNIX_EPOCH, Some(&SPAN)));
        assert_eq!(
            (at_first.from.as_str(), at_first.reason.as_str()),
            ("first", "first: no sensor")
        );
        let then = fallback(ladder.read(Timestamp::UNIX_EPOCH, Some(&SPAN)));
        assert_eq!(
            then.reason,
            "first: it answers again and is used after 10 valid ticks"
        );
    }

    #[test]
    fn a_baseline_gives_nothing_and_keeps_the_rung() {
        let script = [Verdict::Baseline, energy(2), Verdict::Baseline];
        let mut ladder = ladder(script.into_iter(), 3);
        assert_eq!(ladder.read(Timestamp::UNIX_EPOCH, Some(&SPAN)), None);
        let spoken = ladder.read(Timestamp::UNIX_EPOCH, Some(&SPAN)).unwrap();
        assert_eq!(
            (spoken.energy, spoken.over, spoken.origin.fallback),
            (Microjoules(2), SPAN.over, None)
        );
        assert_eq!(ladder.read(Timestamp::UNIX_EPOCH, Some(&SPAN)), None);
    }

    #[test]
    fn what_another_rung_has_told_is_not_told_again() {
        // The first rung comes back having gathered two minutes, of which the last one has told.
        let long = || Verdict::Energy {
            energy: Microjoules(9),
            over: Millis(120_000),
        };
        let script = [Verdict::Invalid("gone".to_owned())].into_iter();
        let mut ladder = ladder(script.chain((0..12).map(|_| long())), 13);
        let told: Vec<(String, u64)> = (0..13)
            .map(|_| {
                let spoken = ladder.read(Timestamp::UNIX_EPOCH, Some(&SPAN)).unwrap();
                (spoken.origin.source, spoken.over.0)
            })
            .collect();
        assert!(
            told[..11].iter().all(|(source, _)| source == "last"),
            "{told:?}"
        );
        assert!(
            told[11..].iter().all(|(source, _)| source == "first"),
            "{told:?}"
        );
    }

    #[test]
    fn what_is_not_there_is_no_fallback_of_a_measurement() {
        let mut ladder = ladder([Verdict::Absent("no meter".to_owned())].into_iter(), 1);
        let spoken = ladder.read(Timestamp::UNIX_EPOCH, Some(&SPAN)).unwrap();
        assert_eq!(spoken.origin.fallback, None);
        assert_eq!(ladder.lines()[0], "power first: absent: no meter");
    }

    #[test]
    fn the_others_are_stated_at_once_and_then_every_quarter_of_an_hour() {
        let mut ladder = ladder((0..200).map(|_| energy(2)), 200);
        let instance: Subject = "a".parse().unwrap();
        let mut stated = Vec::new();
        for tick in 0..130 {
            ladder.read(Timestamp::UNIX_EPOCH, Some(&SPAN)).unwrap();
            if let Some(statement) = ladder.cross_checks(&instance) {
                assert_eq!(statement.source, "first");
                let other = &statement.others[0];
                assert_eq!(other.source, "last");
                stated.push((tick, other.said.microjoules.0, other.counted.microjoules.0));
            }
        }
        assert_eq!(stated, [(0, 1, 2), (60, 60, 120), (120, 60, 120)]);
        let lines = ladder.lines();
        assert!(
            lines[0].starts_with("power first: 0.0 W, in use since 1970-01-01T00:00:00Z, script/1")
        );
        assert_eq!(lines[1], "power last: 0.0 W (-50.0 %)");
    }
}
