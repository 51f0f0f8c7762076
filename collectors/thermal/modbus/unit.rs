//! One unit on a line: its values, what was learnt about it, and when it is asked again after a failure.
//!
//! Promises: a round ends; a unit that fails costs one question of that round, and none of the next ones until its
//! time has come; each value has a result or a reason. Refuses: types, scale, clocks: the time of a round is an argument.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::fault::Fault;
use super::line::{Line, Manner};
use super::plan::{Limits, Plan, Round};
use super::register::Span;
use super::silence::Silence;

/// The first wait after a failure; it doubles with each further one.
const HOLD_S: u64 = 10;

/// The longest wait, which is the interval of readings: a device that is back is read in time.
const HOLD_S_MAX: u64 = 300;

/// A round goes on after one request that got no answer, where others did; after the second one the unit is away.
const IN_VAIN_MAX: u32 = 2;

/// A unit, and the values that are read of it.
#[derive(Debug)]
pub struct Unit {
    number: u8,
    manner: Manner,
    plan: Plan,
    failures: u32,
    held: Option<(Timestamp, Why)>,
    /// The value that a request began with which got no answer; it goes last from then on.
    unanswered: Option<usize>,
    silence: Silence,
}

/// Registers of one value, or why they were not read.
pub type Outcome = Result<Vec<u16>, Why>;

/// Why a value was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// Whether the device itself refused.
    pub is_refused: bool,
    /// The reason in words, with the next step.
    pub reason: Arc<str>,
}

impl Why {
    /// Nobody said anything.
    #[must_use]
    pub fn silent(reason: &str) -> Self {
        Self {
            is_refused: false,
            reason: reason.into(),
        }
    }

    /// Why a question got no answer that counts.
    #[must_use]
    pub fn of(fault: &Fault) -> Self {
        Self {
            is_refused: matches!(fault, Fault::Exception { .. }),
            reason: fault.reason().into(),
        }
    }
}

/// What a round cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Questions that were asked.
    pub requests: u32,
}

impl Unit {
    /// A unit whose values were not read yet.
    #[must_use]
    pub fn new(number: u8, values: Vec<Span>, limits: Limits, manner: Manner) -> Self {
        Self {
            number,
            manner,
            plan: Plan::new(values, limits),
            failures: 0,
            held: None,
            unanswered: None,
            silence: Silence::default(),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// Whether it failed last time, so that others go first.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Reads all values once. The results stand in the order of the values.
    pub async fn round(
        &mut self,
        line: &mut Line,
        at: Timestamp,
    ) -> (Vec<Outcome>, Cost, Option<Fault>) {
        let mut cost = Cost::default();
        if let Some(why) = self.held_at(at) {
            return (self.all(&why), cost, None);
        }
        let mut outcomes = self.all(&Why::silent("it was not asked"));
        let mut round = Round::of(&self.plan);
        if let Some(value) = self.unanswered.take() {
            // A reply that may still come is told from others by a shorter question, inside of the first one.
            round.longest_first();
            round.postpone(value);
        }
        let resting: BTreeSet<usize> = self.silence.resting().map(|(value, _)| *value).collect();
        for (value, why) in self.silence.resting() {
            put(&mut outcomes, [*value], why);
        }
        round.without(&resting);
        let (mut has_spoken, mut waited_in_vain) = (false, 0_u32);
        while let Some(batch) = round.following() {
            cost.requests = cost.requests.saturating_add(1);
            let values = self.plan.values();
            let fault = match line.ask(self.number, batch.span, self.manner).await {
                Ok(registers) => {
                    has_spoken = true;
                    for at in &batch.values {
                        if let Some((span, outcome)) = values.get(*at).zip(outcomes.get_mut(*at)) {
                            *outcome = Ok(part(&registers, batch.span, *span));
                        }
                    }
                    round.answered(&batch, &mut self.plan);
                    self.silence.answered(&batch);
                    continue;
                }
                Err(fault) => fault,
            };
            if fault.is_about_registers() {
                has_spoken = true;
                self.silence.refused(&batch);
                if round.refused(&batch, &mut self.plan) {
                    continue;
                }
            } else {
                round.failed();
            }
            let why = Why::of(&fault);
            put(&mut outcomes, batch.values.iter().copied(), &why);
            if !fault.is_of_unit() {
                has_spoken = true;
                continue;
            }
            waited_in_vain += u32::from(!self.silence.expects(&batch));
            self.unanswered = batch.values.first().copied();
            if matches!(fault, Fault::Silent { .. }) {
                self.silence
                    .unanswered(&batch, has_spoken, &why, &mut self.plan);
            }
            // Some devices say nothing where others refuse: one such request costs its own values only.
            if has_spoken && waited_in_vain < IN_VAIN_MAX && !fault.is_of_line() {
                continue;
            }
            put(&mut outcomes, round.abandon(), &why);
            if !has_spoken {
                self.hold(at, &why);
            }
            return (outcomes, cost, Some(fault));
        }
        if waited_in_vain == 0 {
            self.silence.settled(&mut self.plan);
        }
        self.failures = 0;
        self.held = None;
        (outcomes, cost, None)
    }

    /// Gives every value the reason for which the whole line cannot be used.
    #[must_use]
    pub fn all(&self, why: &Why) -> Vec<Outcome> {
        vec![Err(why.clone()); self.plan.values().len()]
    }

    fn held_at(&self, at: Timestamp) -> Option<Why> {
        let (until, why) = self.held.as_ref().filter(|(until, _)| at < *until)?;
        let seconds = until.duration_since(at).as_secs().saturating_add(1);
        Some(Why {
            reason: format!("{}; asked again in {seconds}s", why.reason).into(),
            ..why.clone()
        })
    }

    fn hold(&mut self, at: Timestamp, why: &Why) {
        let seconds = HOLD_S.saturating_mul(1_u64.checked_shl(self.failures).unwrap_or(u64::MAX));
        let seconds = seconds.min(HOLD_S_MAX);
        self.failures = self.failures.saturating_add(1);
        // Up to a tenth less, differently for each, so that those who failed together do not come together.
        let seed = u64::from(self.number)
            .wrapping_mul(31)
            .wrapping_add(u64::from(self.failures));
        let less = seconds * 100 * (seed.wrapping_mul(2_654_435_761) % 100) / 100;
        let wait = Duration::from_millis((seconds * 1000).saturating_sub(less));
        let until = SignedDuration::try_from(wait)
            .ok()
            .and_then(|wait| at.checked_add(wait).ok());
        self.held = until.map(|until| (until, why.clone()));
    }
}

/// The registers of one value in the reply to a request.
fn part(registers: &[u16], asked: Span, value: Span) -> Vec<u16> {
    let offset = usize::from(value.first().saturating_sub(asked.first()));
    registers
        .iter()
        .skip(offset)
        .take(value.count().into())
        .copied()
        .collect()
}

fn put(outcomes: &mut [Outcome], values: impl IntoIterator<Item = usize>, why: &Why) {
    for at in values {
        if let Some(outcome) = outcomes.get_mut(at) {
            *outcome = Err(why.clone());
        }
    }
}
