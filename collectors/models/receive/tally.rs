//! What was received and what was not, by its reason.

use std::collections::BTreeMap;

use super::refusal::Refusal;

/// How many were left out, by a reason that our own code words, so that there are few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left(BTreeMap<&'static str, u64>);

impl Left {
    /// Counts some more for a reason: "3 that …".
    pub(crate) fn count(&mut self, why: &'static str, more: u64) {
        if more > 0 {
            let count = self.0.entry(why).or_default();
            *count = count.saturating_add(more);
        }
    }

    /// How many there are for a reason.
    #[cfg(test)]
    pub(crate) fn of(&self, why: &str) -> u64 {
        self.0.get(why).copied().unwrap_or_default()
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().copied().fold(0, u64::saturating_add)
    }

    /// Adds all of another one.
    pub(crate) fn add(&mut self, other: &Self) {
        for (why, more) in &other.0 {
            self.count(why, *more);
        }
    }

    /// The counts in words, for example `3 malformed, 1 cut off`; empty when there are none.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        for (why, count) in &self.0 {
            let comma = if words.is_empty() { "" } else { ", " };
            words.push_str(&format!("{comma}{count} {why}"));
        }
        words
    }
}

/// What a receiver has done since it was opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Messages that were acknowledged.
    pub(super) messages: u64,
    /// Requests to models that they told of.
    pub(super) requests: u64,
    /// What of the messages was left out.
    pub(super) left: Left,
    /// Messages that were refused.
    pub(super) refused: Left,
    /// Connections that were refused or ended without a message.
    pub(super) connections: Left,
}

impl Tally {
    /// Counts a message that was not taken.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refused.count(refusal.kind, 1);
    }
}
