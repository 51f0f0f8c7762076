//! Which values of a unit get no answer, where the device says nothing instead of refusing.
//!
//! Promises: a request that stays unanswered is cut in halves from round to round, so that in the end one bad address
//! costs one value; of the values that get no answer one is asked for in each round, in turn; a device that was only
//! away is asked as before when it is back. Refuses: asking, and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::plan::{Batch, Plan};
use super::unit::Why;

/// So many times in a row a request gets no answer before it is cut, while nothing else of the unit answers: it is
/// most often just away.
const AWAY_ROUNDS: u32 = 2;

/// What is known of one unit. Bounded by the number of its values.
#[derive(Clone, Debug, Default)]
pub(super) struct Silence {
    /// Requests without an answer, by the value that they begin with, and how often in a row.
    unanswered: BTreeMap<usize, u32>,
    /// Values that get no answer alone, and why; the next one has its turn first.
    mute: VecDeque<(usize, Why)>,
    /// Values before which a request was cut in vain: all parts were answered then.
    in_vain: BTreeSet<usize>,
}

impl Silence {
    /// The values that are not asked for in this round, and why: all that are mute but one.
    pub(super) fn resting(&self) -> impl Iterator<Item = &(usize, Why)> {
        self.mute.iter().skip(1)
    }

    /// Whether this request is for a value that is known to get no answer.
    pub(super) fn expects(&self, batch: &Batch) -> bool {
        let is_it = |(mute, _): &(usize, Why)| batch.values == [*mute];
        self.mute.front().is_some_and(is_it)
    }

    /// A request was answered with a refusal.
    pub(super) fn refused(&mut self, batch: &Batch) {
        for value in &batch.values {
            self.unanswered.remove(value);
            self.mute.retain(|(mute, _)| mute != value);
        }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, batch: &Batch) {
        self.refused(batch);
        if batch.values.len() > 1 {
            // Together they are answered, so that nothing between them is to blame.
            self.in_vain.retain(|begin| !batch.values.contains(begin));
        }
    }

    /// A request got no answer; `has_spoken` where the unit gave another one in this round.
    pub(super) fn unanswered(
        &mut self,
        batch: &Batch,
        has_spoken: bool,
        why: &Why,
        plan: &mut Plan,
    ) {
        let Some(&begin) = batch.values.first() else {
            return;
        };
        if let Some(at) = self.mute.iter().position(|(mute, _)| *mute == begin) {
            // The others have their turns before it has another one.
            self.mute.remove(at);
            self.mute.push_back((begin, why.clone()));
            return;
        }
        let times = self.unanswered.entry(begin).or_default();
        *times = times.saturating_add(1);
        let is_time = *times >= AWAY_ROUNDS || has_spoken && plan.is_doubting();
        if !is_time {
            return;
        }
        let blamed: Vec<usize> = { self.in_vain.iter().copied() }
            .filter(|value| *value != begin && batch.values.contains(value))
            .collect();
        if !blamed.is_empty() {
            // Its parts were answered, and it is not: what lies between them is to blame.
            self.in_vain.retain(|value| !blamed.contains(value));
            self.unanswered.remove(&begin);
            plan.learn(&[], &blamed);
        } else if plan.doubt(batch) {
            self.unanswered.remove(&begin);
        } else if has_spoken {
            self.unanswered.remove(&begin);
            self.mute.push_back((begin, why.clone()));
            plan.learn(&[begin], &[]);
        }
    }

    /// A round is over in which everything was asked for: what is not mute is asked for together again.
    pub(super) fn settled(&mut self, plan: &mut Plan) {
        if self.unanswered.is_empty() && plan.is_doubting() {
            let parts = plan.trust();
            if self.mute.is_empty() {
                self.in_vain.extend(parts);
            }
        }
    }
}
