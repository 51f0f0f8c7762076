//! Tells systemd that the agent is alive, and only when it is: both loops must have made progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::Clock;
use crate::limits::PROGRESS_WITHIN;

/// The two loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// Takes readings into the store.
    Collect,
    /// Takes submissions out of it.
    Submit,
}

/// When each loop last made progress. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<[AtomicU64; 2]>);

impl Pulse {
    /// A loop has done a round of its work.
    pub fn beat(&self, which: Loop, boottime_ms: u64) {
        self.0[which as usize].store(boottime_ms, Ordering::Relaxed);
    }

    /// Whether both loops have made progress within `span`.
    #[must_use]
    pub fn beats_within(&self, span: Duration, boottime_ms: u64) -> bool {
        self.0.iter().all(|last| {
            let since = boottime_ms.saturating_sub(last.load(Ordering::Relaxed));
            Duration::from_millis(since) <= span
        })
    }
}

/// Feeds systemd's watchdog, if there is one, while both loops make progress.
pub async fn feed(pulse: Pulse, clock: Clock) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut starved = false;
    loop {
        tokio::time::sleep(limit / 3).await;
        if pulse.beats_within(PROGRESS_WITHIN, clock.boottime_ms()) {
            notify(&[NotifyState::Watchdog]);
            starved = false;
        } else if !starved {
            starved = true;
            tracing::error!("a loop has stopped making progress; the watchdog is not fed any more");
        }
    }
}

/// Says something to systemd; without systemd it goes nowhere.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stuck_loop_is_enough_to_starve_the_watchdog() {
        let pulse = Pulse::default();
        let span = Duration::from_secs(45);
        pulse.beat(Loop::Collect, 100_000);
        assert!(
            !pulse.beats_within(span, 100_000),
            "the submit loop has never made progress"
        );
        pulse.beat(Loop::Submit, 100_000);
        assert!(pulse.beats_within(span, 145_000));
        pulse.beat(Loop::Submit, 145_000);
        assert!(
            !pulse.beats_within(span, 145_001),
            "the collect loop is stuck"
        );
    }
}
