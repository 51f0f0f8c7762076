//! Rungs that need I/O: a device is asked by a task of its own, and a tick takes what has gathered.
//!
//! Owns: how answers of a device become energy. Promises: a device that is slow or gone delays no tick;
//! energy comes from the device's own counter, or from its power for the time since the answer before;
//! every bit of time is covered once, by a fresh answer, or not at all. Refuses: an answer that is old or
//! does not move, 0 W, and a counter that stands still while power is drawn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::provenance::Origin;
use cms_spec::units::{Microjoules, Millis, Milliwatts};
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::nameplate::Nameplate;
use super::residual::Residual;
use super::{Rung, Span, Verdict, words};
use crate::CollectError;
use crate::checked::{Every, Watts};

/// How often a device may be asked. Faster than every ten seconds is more than small controllers bear;
/// slower than every minute, one answer would stand for too much.
pub(super) type PollEvery = Every<10, 60>;

/// How often a device is asked unless its table says otherwise: once for each tick of the default interval.
pub(super) const POLL_EVERY: PollEvery = PollEvery::seconds::<15>();

/// A device that has not answered by then has not answered; sessions with a slow controller take seconds.
const POLL_WITHIN: Duration = Duration::from_secs(10);

/// The second answer comes this soon after the first, so that there is an amount at once.
const SECOND_POLL: Duration = Duration::from_millis(700);

/// Polls after which an answer is old: two may be lost.
const FRESH_POLLS: u32 = 3;

/// Polls with one and the same time of the device: it has stopped measuring.
const UNMOVED_POLLS_MAX: u32 = 3;

/// A coarser counter says less about a tick than the power does; it moves every ten minutes at 60 W.
const COUNTER_STEP_MAX: Microjoules = Microjoules(36_000_000_000);

/// A counter without a power beside it that stands still for longer is not one: at 10 W the coarsest one
/// that we know (0.1 kWh) moves every ten hours, a server draws more.
const COUNTER_STILL_MAX: Duration = Duration::from_secs(3 * 3600);

/// Longest pause after a refused login: controllers lock accounts out.
const DENIED_PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// A device that is asked for its power.
///
/// One question, read-only, with every wait inside it bounded or safe to be dropped. What blocks a thread
/// belongs into `tokio::task::spawn_blocking`.
#[async_trait]
pub(super) trait Meter: Send + 'static {
    /// Asks once.
    ///
    /// # Errors
    /// When there is no answer, or one that must not be used: the host is off, a supply is missing, the
    /// sensor is in error. Its words reach a person as they stand.
    async fn poll(&mut self) -> Result<Measured, CollectError>;

    /// How long one poll may take before it is given up.
    fn within(&self) -> Duration {
        POLL_WITHIN
    }

    /// How long the device wants to be left alone now, where that is longer than usual.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}

/// One answer of a device. Power, counter or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    /// Source and method; the method ends in what is measured, such as `psu_ac`. Another origin than
    /// before starts a new baseline. It stands in the ledger, so that no address and no name that a person
    /// gave is in it.
    pub(super) origin: Origin,
    /// What is drawn now, or was on average since the answer before.
    pub(super) power: Option<Milliwatts>,
    /// What was used since some time in the past.
    pub(super) counter: Option<Counter>,
    /// When it was measured, by the device's own clock, where it says so.
    pub(super) source_time: Option<Timestamp>,
}

/// A counter of energy that only falls when it is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counter {
    pub(super) total: Microjoules,
    /// The smallest difference that it can show, 0.1 kWh for instance.
    pub(super) step: Microjoules,
}

/// A rung that polls.
pub(super) struct Polled {
    name: &'static str,
    every: Duration,
    tally: Arc<Mutex<Tally>>,
    task: Option<JoinHandle<()>>,
}

impl Polled {
    /// Starts to ask the device at once.
    pub(super) fn new(
        name: &'static str,
        every: PollEvery,
        nameplate: Option<Nameplate>,
        meter: impl Meter,
    ) -> Self {
        let every = every.duration();
        let tally = Tally {
            nameplate,
            ..Tally::default()
        };
        let tally = Arc::new(Mutex::new(tally));
        let asking = ask_for_ever(meter, every, Arc::clone(&tally));
        let task = Handle::try_current().ok().map(|on| on.spawn(asking));
        Self {
            name,
            every,
            tally,
            task,
        }
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Rung for Polled {
    fn name(&self) -> &str {
        self.name
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        match &self.task {
            None => Verdict::Invalid("there is no runtime to ask it on".to_owned()),
            Some(task) if task.is_finished() => Verdict::Invalid(
                "its task has ended, which is a bug: please report it with the log".to_owned(),
            ),
            Some(_) => lock(&self.tally).read(span, self.every * FRESH_POLLS, Instant::now()),
        }
    }

    fn origin(&self) -> Origin {
        lock(&self.tally).origin(self.name)
    }

    fn is_waiting(&self) -> bool {
        let tally = lock(&self.tally);
        self.task.is_some() && !tally.has_told && tally.failure.is_none()
    }
}

async fn ask_for_ever(mut meter: impl Meter, every: Duration, tally: Arc<Mutex<Tally>>) {
    let mut refused: u32 = 0;
    let mut first = true;
    loop {
        let begun = Instant::now();
        let within = meter.within();
        let late = |_| CollectError::Timeout {
            what: "the device".to_owned(),
            after: within,
        };
        let answer = timeout(within, meter.poll()).await;
        let answer = answer.map_err(late).and_then(|answer| answer);
        let is_denied = matches!(answer, Err(CollectError::Denied { .. }));
        refused = if is_denied {
            refused.saturating_add(1)
        } else {
            0
        };
        let is_good = answer.is_ok();
        lock(&tally).take(answer, every * FRESH_POLLS, Instant::now());
        let pause = if is_denied {
            (every * 2_u32.saturating_pow(refused.min(8))).min(DENIED_PAUSE_MAX)
        } else if first && is_good {
            first = false;
            SECOND_POLL
        } else {
            every.saturating_sub(begun.elapsed()).max(SECOND_POLL)
        };
        sleep(pause.max(meter.pause())).await;
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has gathered from the answers.
#[derive(Debug, Default)]
struct Tally {
    /// What excludes answers.
    nameplate: Option<Nameplate>,
    /// The newest answer that was used, and when it came.
    last: Option<(Measured, Instant)>,
    /// Energy and its time that no tick has taken yet.
    gathered: Option<(Microjoules, Millis)>,
    /// Time and energy by power since the counter moved.
    still: (Millis, Microjoules),
    /// The counter stood still while power was drawn: it is not used again.
    is_stuck: bool,
    by_counter: bool,
    unmoved_polls: u32,
    residual: Residual,
    /// Whether a tick has taken energy from it.
    has_told: bool,
    /// Why the newest answer was not used.
    failure: Option<String>,
}

impl Tally {
    fn take(&mut self, answer: Result<Measured, CollectError>, fresh: Duration, now: Instant) {
        let checked = answer.map_err(|error| words(&error));
        let checked = checked.and_then(|measured| check(measured, self.nameplate));
        let measured = match checked {
            Ok(measured) => measured,
            Err(why) => {
                self.failure = Some(why);
                return;
            }
        };
        let Some((before, at)) = &self.last else {
            return self.begin(measured, now);
        };
        let over = now.duration_since(*at);
        if measured.source_time.is_some() && measured.source_time == before.source_time {
            self.unmoved_polls += 1;
            if self.unmoved_polls >= UNMOVED_POLLS_MAX {
                let polls = self.unmoved_polls;
                self.failure = Some(format!(
                    "its time of measurement has not moved for {polls} polls: if it measures more rarely, \
                     raise the interval of its table"
                ));
            }
            return;
        }
        if over > fresh || measured.origin != before.origin {
            return self.begin(measured, now);
        }
        let (before, over) = (before.clone(), millis(over));
        match self.add(&before, &measured, over) {
            Ok(true) => {
                self.failure = None;
                self.unmoved_polls = 0;
                self.last = Some((measured, now));
            }
            Ok(false) => self.begin(measured, now),
            // The answer before stays the newest one, and is too old after three of these.
            Err(why) => self.failure = Some(why),
        }
    }

    /// A new baseline: what was before is not known.
    fn begin(&mut self, measured: Measured, now: Instant) {
        self.by_counter = self.uses_counter(&measured);
        self.last = Some((measured, now));
        self.still = Default::default();
        self.unmoved_polls = 0;
        self.residual = Residual::default();
        self.failure = None;
        // What had gathered before the gap was measured and stays.
    }

    /// Adds what passed between two answers; false where they cannot be subtracted.
    ///
    /// # Errors
    /// When the nameplate excludes what they show.
    fn add(&mut self, before: &Measured, after: &Measured, over: Millis) -> Result<bool, String> {
        if self.uses_counter(after) != self.by_counter {
            return Ok(false);
        }
        let by_power = after.power.map(|power| power.over(over));
        if !self.by_counter {
            if let Some(energy) = by_power {
                self.gather(energy, over);
            }
            return Ok(by_power.is_some());
        }
        let (Some(from), Some(to)) = (before.counter, after.counter) else {
            return Ok(false);
        };
        let Some(grown) = to.total.0.checked_sub(from.total.0).map(Microjoules) else {
            return Ok(false);
        };
        let still = self.still;
        self.still.0 += over;
        self.still.1 += by_power.unwrap_or_default();
        if grown == Microjoules::ZERO {
            // Ten steps should have been seen by now.
            let overdue = self.still.1.0 / 10 > to.step.0.max(1);
            self.is_stuck = overdue && millis(COUNTER_STILL_MAX).0 / 36 < self.still.0.0;
            return Ok(!self.is_stuck);
        }
        let (over, by_power) = std::mem::take(&mut self.still);
        let ceiling = Milliwatts(Watts::MAX.saturating_mul(1000)).over(over);
        if grown > ceiling + to.step {
            return Ok(false);
        }
        if let Some(nameplate) = self.nameplate {
            // A counter shows up to one step too much.
            let least = Microjoules(grown.0.saturating_sub(to.step.0));
            let power = least.mean_power(over).unwrap_or(Milliwatts::ZERO);
            if let Err(why) = nameplate.check_most("its counter", power) {
                self.still = still;
                return Err(why);
            }
        }
        if after.power.is_some() {
            self.residual.add(grown, by_power, over);
        }
        self.gather(grown, over);
        Ok(true)
    }

    fn uses_counter(&self, measured: &Measured) -> bool {
        let is_fine = |counter: Counter| !self.is_stuck && counter.step <= COUNTER_STEP_MAX;
        measured
            .counter
            .is_some_and(|counter| measured.power.is_none() || is_fine(counter))
    }

    fn gather(&mut self, energy: Microjoules, over: Millis) {
        let (sum, time) = self.gathered.get_or_insert_default();
        *sum += energy;
        *time += over;
    }

    fn read(&mut self, span: Option<&Span>, fresh: Duration, now: Instant) -> Verdict {
        let gathered = self.gathered.take();
        let Some((_, at)) = &self.last else {
            return match &self.failure {
                Some(why) => Verdict::Invalid(why.clone()),
                None => Verdict::Baseline,
            };
        };
        let age = now.duration_since(*at);
        if age > fresh || self.unmoved_polls >= UNMOVED_POLLS_MAX {
            return Verdict::Invalid(
                self.failure
                    .clone()
                    .unwrap_or_else(|| format!("it has not answered for {FRESH_POLLS} polls")),
            );
        }
        if Duration::from_millis(self.still.0.0) > COUNTER_STILL_MAX {
            return Verdict::Invalid("its counter does not move".to_owned());
        }
        match (span, gathered) {
            (Some(_), Some((energy, over))) if over > Millis::ZERO => {
                self.has_told = true;
                Verdict::Energy { energy, over }
            }
            _ => Verdict::Baseline,
        }
    }

    fn origin(&self, name: &str) -> Origin {
        let Some((measured, _)) = &self.last else {
            return Origin::measured(name, name, Default::default());
        };
        let mut origin = measured.origin.clone();
        origin.method += if self.by_counter { " energy" } else { " power" };
        if self.by_counter {
            self.residual.mark(&mut origin);
        } else if self.is_stuck {
            origin.note = Some("its counter of energy does not move: its power is used".to_owned());
        }
        origin
    }
}

/// Refuses what no machine that runs this code can draw, nor one with this nameplate.
fn check(measured: Measured, nameplate: Option<Nameplate>) -> Result<Measured, String> {
    if let (Some(power @ Milliwatts(1..)), Some(nameplate)) = (measured.power, nameplate) {
        nameplate.check("it", power)?;
    }
    let watts = measured.power.map(|power| power.0 / 1000);
    match measured.power {
        Some(Milliwatts(0)) => Err("it says 0 W, which a running machine never draws".to_owned()),
        Some(_) if watts > Some(Watts::MAX) => Err(format!(
            "it says {} W, which is more than one machine draws",
            watts.unwrap_or_default()
        )),
        None if measured.counter.is_none() => Err("it says neither power nor energy".to_owned()),
        _ => Ok(measured),
    }
}

fn millis(span: Duration) -> Millis {
    Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
