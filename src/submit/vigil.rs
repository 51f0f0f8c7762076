//! What the submit loop tells the ledger without being asked by a slot: that the wall clock was set, and that the
//! agent lives although nothing was due for long.

use cms_attest::leaf::LeafKind;
use jiff::{SignedDuration, Timestamp};

use super::{Round, Submitting};
use crate::events::Share;
use crate::identity;
use crate::limits::{CLOCK_LEAVES_PER_HOUR, CLOCK_STEP, HEARTBEAT_AFTER};
use crate::store::{LeafDraft, StoreError};

/// What is known between two rounds.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    /// Wall time and time since boot when they were last compared.
    compared: Option<(Timestamp, u64)>,
    /// All steps that have no leaf yet, together, and how many they are.
    untold: (SignedDuration, u64),
    share: Share,
    /// Time since boot of the last leaf of a slot, or of the last heartbeat.
    spoke_ms: Option<u64>,
}

impl Submitting {
    /// Writes the leaves that are due for these reasons.
    pub(super) async fn keep_vigil(&self, round: &mut Round) -> Result<(), StoreError> {
        let (now, boottime_ms) = (self.clock.now(), self.clock.boottime_ms());
        if let Some(note) = round.vigil.clock(now, boottime_ms) {
            tracing::warn!(note, "the clock was set");
            self.event(LeafKind::Clock, &note).await?;
            round.vigil.clock_told(boottime_ms);
        }
        if round.vigil.is_silent(boottime_ms) {
            self.event(LeafKind::Heartbeat, "no slot was due for an hour")
                .await?;
            round.vigil.spoke_ms = Some(boottime_ms);
            round.receipt_due = true;
        }
        Ok(())
    }

    async fn event(&self, kind: LeafKind, note: &str) -> Result<(), StoreError> {
        let moment = identity::moment(&self.clock, &self.api_keys);
        let draft = LeafDraft::event(kind, note);
        self.store
            .append_leaves(self.sender.origin.clone(), moment, vec![draft])
            .await
    }
}

impl Vigil {
    /// A leaf of a slot was written.
    pub(super) fn spoke(&mut self, boottime_ms: u64) {
        self.spoke_ms = Some(boottime_ms);
    }

    /// What is to be told of the wall clock, which must go as fast as the time since boot. That one also counts
    /// while the machine sleeps, so that sleep is no step.
    fn clock(&mut self, now: Timestamp, boottime_ms: u64) -> Option<String> {
        let before = self.compared.replace((now, boottime_ms));
        if let Some((wall, since_boot)) = before {
            let passed = i64::try_from(boottime_ms.saturating_sub(since_boot)).unwrap_or(i64::MAX);
            let step = now
                .duration_since(wall)
                .saturating_sub(SignedDuration::from_millis(passed));
            if step.abs() > CLOCK_STEP {
                self.untold = (self.untold.0.saturating_add(step), self.untold.1 + 1);
            }
        }
        let (by, steps) = self.untold;
        if steps == 0 || !self.share.has_room(CLOCK_LEAVES_PER_HOUR, boottime_ms) {
            return None;
        }
        let times = match steps {
            1 => String::new(),
            more => format!(" in {more} steps"),
        };
        Some(format!("the wall clock was set by {by:#}{times}"))
    }

    fn clock_told(&mut self, boottime_ms: u64) {
        self.untold = (SignedDuration::ZERO, 0);
        self.share.take(boottime_ms);
    }

    fn is_silent(&mut self, boottime_ms: u64) -> bool {
        let spoke_ms = *self.spoke_ms.get_or_insert(boottime_ms);
        u128::from(boottime_ms.saturating_sub(spoke_ms)) >= HEARTBEAT_AFTER.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_772_000_000 + second).unwrap()
    }

    #[test]
    fn a_step_either_way_is_told_and_sleep_and_slewing_are_not() {
        let mut vigil = Vigil::default();
        assert_eq!(vigil.clock(at(0), 5_000), None);
        // Fifteen seconds, half a second of them slewed; then eight hours asleep, which both clocks count.
        assert_eq!(vigil.clock(at(15), 20_500), None);
        assert_eq!(vigil.clock(at(28_815), 28_820_500), None);
        let told = |vigil: &mut Vigil, second, ms| {
            let note = vigil.clock(at(second), ms);
            vigil.clock_told(ms);
            note
        };
        assert_eq!(
            told(&mut vigil, 32_415, 28_820_500).as_deref(),
            Some("the wall clock was set by 1h")
        );
        assert_eq!(
            told(&mut vigil, 28_816, 28_821_500).as_deref(),
            Some("the wall clock was set by 1h ago")
        );
    }

    #[test]
    fn a_clock_that_jumps_all_the_time_gets_a_few_leaves_and_the_rest_is_summed_up() {
        let mut vigil = Vigil::default();
        let mut notes = Vec::new();
        for round in 0..100 {
            let ms = u64::try_from(round * 15_000).unwrap();
            if let Some(note) = vigil.clock(at(round * 25), ms) {
                notes.push(note);
                vigil.clock_told(ms);
            }
        }
        assert_eq!(notes.len(), CLOCK_LEAVES_PER_HOUR);
        let later = vigil.clock(at(100 * 25 + 7_200), 1_500_000 + 7_200_000);
        assert_eq!(
            later.as_deref(),
            Some("the wall clock was set by 16m in 96 steps")
        );
    }

    #[test]
    fn an_hour_without_a_slot_is_silence() {
        let mut vigil = Vigil::default();
        let hour_ms = u64::try_from(HEARTBEAT_AFTER.as_millis()).unwrap();
        assert!(!vigil.is_silent(7));
        assert!(!vigil.is_silent(6 + hour_ms));
        assert!(vigil.is_silent(7 + hour_ms));
        vigil.spoke(7 + hour_ms);
        assert!(!vigil.is_silent(8 + hour_ms));
    }
}
