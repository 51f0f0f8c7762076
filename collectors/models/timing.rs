//! What llama.cpp writes about a task when it is done, in every generation of its server.
//!
//! Owns: lines, and the joining of lines that belong to one task. A task is told by its `total time` line; the lines
//! before it say how many tokens were evaluated and generated, others how many were cached. Two of the three counts
//! give the third, so that a log that is read from the middle of a task loses nothing. Promises: tasks of several slots and
//! processes may interleave; what does not add up is told without tokens and counted; a task that a copied log holds
//! twice is told once. Refuses: lines of a debug log that show prompts, by saying so.

mod exposed;
mod said;

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use exposed::shows_prompt;
pub(crate) use said::{Said, Task, What, said};

/// Tasks that may wait for further lines. A server has as many as slots, at most some dozens; a debug log of thousands
/// of cancelled ones must not grow.
const PENDING_MAX: usize = 256;

/// Tasks that are remembered to tell repeated lines. A copy that is cut short repeats the last lines of a buffer.
const TOLD_MAX: usize = 64;

/// Ticks after which a task waits no longer for the line of its release, which follows in the same millisecond; the
/// second tick begins at least a whole interval after that.
const TICKS_MAX: u8 = 2;

/// By how much the parts of a task's time may miss its total: each is rounded to a hundredth of a millisecond.
const ROUNDING_US: u64 = 50;

/// A task that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// The port of the process, behind a router.
    pub(crate) port: Option<u16>,
    /// All input tokens where the log says how many were cached, else those that were evaluated.
    pub(crate) input_tokens: Option<u64>,
    /// Output tokens.
    pub(crate) output_tokens: Option<u64>,
    /// Evaluation and generation, without waiting.
    pub(crate) duration_us: u64,
    /// One of several answers to the same request, but for the first.
    pub(crate) is_child: bool,
    /// When it was done, by the wrapper or by the log itself.
    pub(crate) at: Option<Timestamp>,
    /// The place of its `total time` line.
    pub(crate) place: u64,
    /// How many lines had been seen when its first one came.
    pub(crate) since: u64,
}

/// Tasks whose lines are not complete.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Timings {
    pending: VecDeque<Pending>,
    told: VecDeque<Told>,
    /// The task that the next lines without a task belong to.
    block: Option<Task>,
    /// How many lines were about tasks.
    lines: u64,
    #[serde(skip)]
    counts: Counts,
}

/// What could not be told, since the start of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tasks that were forgotten because there were too many.
    pub(crate) forgotten: u64,
    /// Tasks whose parts do not add up.
    pub(crate) confused: u64,
    /// Lines that were there twice.
    pub(crate) repeated: u64,
    /// Tasks that were cancelled.
    pub(crate) cancelled: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Spent {
    tokens: u64,
    us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    task: Task,
    us: u64,
    tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Pending {
    task: Task,
    #[serde(default)]
    since: u64,
    #[serde(default)]
    evaluated: Option<Spent>,
    #[serde(default)]
    generated: Option<Spent>,
    /// Tokens of the whole prompt.
    #[serde(default)]
    prompt: Option<u64>,
    /// Tokens in the slot after the last one, which is not in it itself.
    #[serde(default)]
    context: Option<u64>,
    #[serde(default)]
    is_child: bool,
    #[serde(default)]
    total: Option<Total>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Total {
    us: u64,
    tokens: Option<u64>,
    at: Option<Timestamp>,
    place: u64,
    ticks: u8,
}

impl Timings {
    /// Takes what a line says; gives the task that it completes.
    pub(crate) fn take(&mut self, said: Said, at: Option<Timestamp>, place: u64) -> Option<Done> {
        self.lines = self.lines.saturating_add(1);
        let task = match (said.task, said.what) {
            (Some(task), What::Header) => {
                self.block = Some(task);
                return None;
            }
            (Some(task), _) => {
                self.block = None;
                task
            }
            (None, What::Evaluated { .. } | What::Generated { .. } | What::Total { .. }) => {
                self.block?
            }
            (None, _) => return None,
        };
        match said.what {
            What::Evaluated { tokens, us } => {
                // A copied log repeats the lines of a task that waits for its release.
                let done = self.tell(task);
                let pending = self.pending(task)?;
                // A second evaluation means that the first one's task was never completed.
                if pending.evaluated.is_some() {
                    *pending = Pending::new(task, pending.since);
                }
                pending.evaluated = Some(Spent { tokens, us });
                return done;
            }
            What::Generated { tokens, us } => {
                self.pending(task)?.generated = Some(Spent { tokens, us });
            }
            What::Sampled { tokens } => {
                self.pending(task)?.generated = Some(Spent { tokens, us: 0 });
            }
            What::Prompt { tokens } => self.pending(task)?.prompt = Some(tokens),
            What::Launched { is_child } => {
                // What its slot worked on before gave no times: it was cancelled, or an embedding.
                let is_over = |other: &Pending| {
                    let of_slot = (other.task.port, other.task.slot) == (task.port, task.slot);
                    of_slot && other.is_untimed()
                };
                self.pending.retain(|other| !is_over(other));
                if is_child {
                    self.pending(task)?.is_child = true;
                }
            }
            What::Cancelled => {
                self.counts.cancelled = self.counts.cancelled.saturating_add(1);
                self.pending
                    .retain(|other| !other.task.is_same_number(task));
            }
            What::Released { tokens, is_whole } => {
                let pending = self.pending.iter_mut().find(|other| other.task == task)?;
                pending.context = Some(tokens).filter(|_| is_whole);
                return self.tell(task);
            }
            What::Total {
                us,
                tokens,
                at: own,
            } => {
                let told = Told { task, us, tokens };
                if task.number.is_some() && self.told.contains(&told) {
                    self.counts.repeated = self.counts.repeated.saturating_add(1);
                    self.forget(task);
                    return None;
                }
                let total = Total {
                    us,
                    tokens,
                    at: at.or(own),
                    place,
                    ticks: 0,
                };
                let waits = said.is_released_later;
                let pending = self.pending(task)?;
                pending.total = Some(total);
                let is_known = pending.prompt.or(pending.context).is_some();
                if is_known || !waits {
                    self.block = None;
                    return self.tell(task);
                }
            }
            What::Header => {}
        }
        None
    }

    /// A tick begins: gives what waited long enough for its release.
    pub(crate) fn tick(&mut self) -> Vec<Done> {
        for total in self
            .pending
            .iter_mut()
            .filter_map(|task| task.total.as_mut())
        {
            total.ticks = total.ticks.saturating_add(1);
        }
        let is_late = |task: &Pending| task.total.is_some_and(|total| total.ticks >= TICKS_MAX);
        let late: Vec<Task> = self
            .pending
            .iter()
            .filter(|task| is_late(task))
            .map(|task| task.task)
            .collect();
        late.into_iter()
            .filter_map(|task| self.tell(task))
            .collect()
    }

    /// The process behind this port began anew, so that its tasks never end.
    pub(crate) fn restarted(&mut self, port: Option<u16>) {
        self.block = None;
        self.pending.retain(|task| task.task.port != port);
        self.told.retain(|told| told.task.port != port);
    }

    /// How many lines about tasks were seen.
    pub(crate) const fn lines(&self) -> u64 {
        self.lines
    }

    /// What could not be told.
    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// As after a restart, within bounds whatever was read.
    pub(crate) fn resumed(mut self) -> Self {
        self.pending.truncate(PENDING_MAX);
        self.told.truncate(TOLD_MAX);
        self
    }

    fn pending(&mut self, task: Task) -> Option<&mut Pending> {
        if let Some(at) = self.pending.iter().position(|other| other.task == task) {
            return self.pending.get_mut(at);
        }
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
            self.counts.forgotten = self.counts.forgotten.saturating_add(1);
        }
        self.pending.push_back(Pending::new(task, self.lines));
        self.pending.back_mut()
    }

    fn forget(&mut self, task: Task) {
        self.pending.retain(|other| other.task != task);
    }

    fn tell(&mut self, task: Task) -> Option<Done> {
        let is_done = |other: &Pending| other.task == task && other.total.is_some();
        let at = self.pending.iter().position(is_done)?;
        let pending = self.pending.remove(at)?;
        let total = pending.total?;
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        let (us, tokens) = (total.us, total.tokens);
        self.told.push_back(Told { task, us, tokens });
        let (input_tokens, output_tokens) = match pending.tokens(total) {
            Ok(tokens) => tokens,
            Err(Confused) => {
                self.counts.confused = self.counts.confused.saturating_add(1);
                (None, None)
            }
        };
        Some(Done {
            port: task.port,
            input_tokens,
            output_tokens,
            duration_us: us,
            is_child: pending.is_child,
            at: total.at,
            place: total.place,
            since: pending.since,
        })
    }
}

/// Lines of two tasks were taken for one.
struct Confused;

impl Pending {
    const fn new(task: Task, since: u64) -> Self {
        Self {
            task,
            since,
            evaluated: None,
            generated: None,
            prompt: None,
            context: None,
            is_child: false,
            total: None,
        }
    }

    const fn is_untimed(&self) -> bool {
        self.evaluated.is_none() && self.generated.is_none() && self.total.is_none()
    }

    /// Input and output tokens.
    fn tokens(&self, total: Total) -> Result<(Option<u64>, Option<u64>), Confused> {
        if let (Some(evaluated), Some(generated)) = (self.evaluated, self.generated) {
            let us = evaluated.us.saturating_add(generated.us);
            let tokens = evaluated.tokens.saturating_add(generated.tokens);
            let is_timed = generated.us > 0;
            if is_timed && us.abs_diff(total.us) > ROUNDING_US
                || total.tokens.is_some_and(|total| total != tokens)
            {
                return Err(Confused);
            }
        }
        let rest = |part: Option<Spent>| match (total.tokens, part) {
            (Some(total), Some(part)) => total.checked_sub(part.tokens).map(Some).ok_or(Confused),
            _ => Ok(None),
        };
        let output = match self.generated {
            Some(generated) => Some(generated.tokens),
            None => rest(self.evaluated)?,
        };
        let evaluated = match self.evaluated {
            Some(evaluated) => Some(evaluated.tokens),
            None => rest(self.generated)?,
        };
        // The last token is given out and never stored in the slot.
        let stored = self
            .context
            .zip(output)
            .and_then(|(context, output)| context.saturating_add(1).checked_sub(output));
        let least = evaluated.unwrap_or(0);
        let whole = self.prompt.or(stored).filter(|whole| *whole >= least);
        Ok((whole.or(evaluated), output))
    }
}

#[cfg(test)]
mod tests;
