//! The ladder of power sources: the best valid rung gives the energy of a tick, and says which one
//! it is.
//!
//! Owns: the order, when to step, and what is said about it. Promises: one amount for each tick at
//! most, from one rung; never a mean over rungs, never 0 W for an unknown power. A rung that fails
//! is left at once; a better one is trusted again after `VALID_TICKS` valid ticks. Refuses: a
//! reason that is not said.

mod constant;
pub mod model;
pub mod rapl;

use cms_spec::provenance::{Fallback, Origin};
use cms_spec::units::{Microjoules, Millis};
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::Host;
use crate::checked::Watts;

/// Valid ticks that a better rung must show before it is used again, so that a flapping one does
/// not.
const VALID_TICKS: u32 = 10;

/// `[compute.power]`.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    sources: Vec<Source>,
    default_watts: Watts,
    configured: Option<(Watts, Watts)>,
}

/// A rung that can be named in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Model,
    Rapl,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    sources: Vec<Source>,
    default_watts: Watts,
    idle_watts: Option<Watts>,
    max_watts: Option<Watts>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            sources: vec![Source::Rapl, Source::Model],
            default_watts: Watts(constant::SPECIFICATION_WATTS),
            idle_watts: None,
            max_watts: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let raw = Raw::default();
        Self {
            sources: raw.sources,
            default_watts: raw.default_watts,
            configured: None,
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        let twice = |s: &Source| raw.sources.iter().filter(|o| *o == s).count() > 1;
        if raw.sources.iter().any(twice) {
            return Err(D::Error::custom(
                "a power source is named twice in `sources`",
            ));
        }
        let configured = match (raw.idle_watts, raw.max_watts) {
            (Some(idle), Some(max)) if idle <= max => Some((idle, max)),
            (Some(_), Some(_)) => {
                return Err(D::Error::custom("`idle_watts` is more than `max_watts`"));
            }
            (None, None) => None,
            _ => {
                return Err(D::Error::custom(
                    "`idle_watts` and `max_watts` go together: give both, measured at the plug",
                ));
            }
        };
        Ok(Self {
            sources: raw.sources,
            default_watts: raw.default_watts,
            configured,
        })
    }
}

/// What the instance runs on, as far as power depends on it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The processor's plain name, for example `AMD EPYC 7763`.
    pub(crate) processor: Option<String>,
    /// Processor packages.
    pub(crate) chips: u64,
    /// How the instance relates to the hardware.
    pub(crate) instance: Instance,
}

/// How the instance relates to the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instance {
    /// A part of a machine that we see, with so many thousandths of a processor.
    Container { cpus_milli: u64 },
    /// It is the hardware.
    Physical,
    /// A part of a machine that we do not see.
    Virtual { cpus_milli: u64 },
}

/// What passed between the tick before and this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// How long, by a clock that nobody sets.
    pub(crate) over: Millis,
    /// Processor time used.
    pub(crate) busy: Millis,
    /// Processor time that was there to be used.
    pub(crate) capacity: Millis,
}

/// What a rung says about a span.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing to subtract from yet; the rung is sound.
    Baseline,
    /// The energy of the span.
    Energy(Microjoules),
    /// The rung cannot be used, and why, in words that a person can act on.
    Invalid(String),
}

/// One source of power.
trait Rung: Send {
    /// The name in the configuration and in `fallback.from`.
    fn name(&self) -> &'static str;

    /// Takes what there is for the span; without one it only takes a baseline.
    fn read(&mut self, span: Option<&Span>) -> Verdict;

    /// Where its values come from.
    fn origin(&self) -> Origin;
}

struct Step {
    rung: Box<dyn Rung>,
    valid_ticks: u32,
    reason: Option<String>,
}

/// The rungs of one instance, best first; the last one is always the default.
pub(crate) struct Ladder {
    steps: Vec<Step>,
    current: Option<usize>,
}

impl Ladder {
    /// Sets the ladder up; nothing is read yet.
    pub(crate) fn new(config: &Config, host: &Host, machine: &Machine) -> Self {
        let rung = |source: &Source| -> Box<dyn Rung> {
            match source {
                Source::Model => Box::new(model::Model::new(config.configured, machine)),
                Source::Rapl => Box::new(rapl::Rapl::new(host, machine.instance)),
            }
        };
        let mut rungs: Vec<Box<dyn Rung>> = config.sources.iter().map(rung).collect();
        rungs.push(Box::new(constant::Constant::new(config.default_watts)));
        Self::of(rungs)
    }

    fn of(rungs: Vec<Box<dyn Rung>>) -> Self {
        let step = |rung| Step {
            rung,
            valid_ticks: 0,
            reason: None,
        };
        Self {
            steps: rungs.into_iter().map(step).collect(),
            current: None,
        }
    }

    /// Takes the energy of the span from the best valid rung; without a span every rung takes a
    /// baseline.
    pub(crate) fn read(&mut self, span: Option<&Span>) -> Option<(Microjoules, Origin)> {
        let verdicts: Vec<Verdict> = self.steps.iter_mut().map(|s| s.read(span)).collect();
        let usable = |at: usize| !matches!(verdicts.get(at), None | Some(Verdict::Invalid(_)));
        let first_usable_from = |start: usize| (start..verdicts.len()).find(|at| usable(*at));
        let chosen = match self.current {
            None => first_usable_from(0),
            Some(at) if !usable(at) => first_usable_from(at + 1),
            Some(at) => {
                let proven = |better: &usize| self.steps[*better].valid_ticks >= VALID_TICKS;
                Some((0..at).find(proven).unwrap_or(at))
            }
        };
        self.current = chosen;
        let chosen = chosen?;
        match verdicts.get(chosen) {
            Some(Verdict::Energy(energy)) => Some((*energy, self.origin(chosen))),
            _ => None,
        }
    }

    fn origin(&self, chosen: usize) -> Origin {
        let mut origin = self.steps[chosen].rung.origin();
        let better = &self.steps[..chosen];
        origin.fallback = match better.first() {
            Some(first) => Some(Fallback {
                from: first.rung.name().to_owned(),
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
            Verdict::Baseline => self.reason = None,
            Verdict::Energy(_) => {
                self.reason = None;
                self.valid_ticks = self.valid_ticks.saturating_add(1);
            }
            Verdict::Invalid(reason) => {
                self.reason = Some(reason.clone());
                self.valid_ticks = 0;
            }
        }
        verdict
    }

    fn why_not(&self) -> String {
        let back = || format!("it answers again and is used after {VALID_TICKS} valid ticks");
        format!(
            "{}: {}",
            self.rung.name(),
            self.reason.clone().unwrap_or_else(back)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cms_spec::provenance::Confidence;
    use std::collections::VecDeque;

    struct Script(&'static str, VecDeque<Verdict>);

    impl Rung for Script {
        fn name(&self) -> &'static str {
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

    fn ladder(first: impl Iterator<Item = Verdict>, ticks: usize) -> Ladder {
        let last = std::iter::repeat_n(Verdict::Energy(Microjoules(1)), ticks);
        Ladder::of(vec![
            Box::new(Script("first", first.collect())),
            Box::new(Script("last", last.collect())),
        ])
    }

    #[test]
    fn down_at_once_and_up_after_ten_valid_ticks() {
        use Verdict::{Energy, Invalid};
        let script = std::iter::once(Energy(Microjoules(2)))
            .chain(std::iter::once(Invalid("gone".to_owned())))
            .chain(std::iter::repeat_n(Energy(Microjoules(2)), 12));
        let mut ladder = ladder(script, 14);
        let sources: Vec<String> = (0..14)
            .map(|_| ladder.read(Some(&SPAN)).unwrap().1.source)
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
        let fallback = |read: Option<(Microjoules, Origin)>| read.unwrap().1.fallback.unwrap();
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
        let script = [
            Verdict::Baseline,
            Verdict::Energy(Microjoules(2)),
            Verdict::Baseline,
        ];
        let mut ladder = ladder(script.into_iter(), 3);
        assert_eq!(ladder.read(Some(&SPAN)), None);
        let (energy, origin) = ladder.read(Some(&SPAN)).unwrap();
        assert_eq!((energy, origin.fallback), (Microjoules(2), None));
        assert_eq!(ladder.read(Some(&SPAN)), None);
    }

    #[test]
    fn wrong_tables_are_refused() {
        let refusal = |text: &str| {
            toml::from_str::<Config>(text)
                .unwrap_err()
                .message()
                .to_owned()
        };
        assert!(refusal("idle_watts = 10").contains("go together"));
        assert!(refusal("idle_watts = 10\nmax_watts = 9").contains("more than"));
        assert!(refusal("sources = ['rapl', 'rapl']").contains("twice"));
        assert!(refusal("sources = ['default']").contains("unknown variant `default`"));
        assert!(refusal("idle = 1").contains("unknown field `idle`"));
        assert!(toml::from_str::<Config>("sources = []").is_ok());
    }
}
