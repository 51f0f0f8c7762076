//! Tells systemd that the agent is alive, and only when it is: both loops must have made progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::Clock;
use crate::limits::{FEEDS_PER_WATCHDOG, PROGRESS_WITHIN};

/// The two loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// Takes readings into the store.
    Collect,
    /// Takes submissions out of it.
    Submit,
}

/// When each loop last made progress, in milliseconds awake. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<[AtomicU64; 2]>);

impl Pulse {
    /// A loop has done a round of its work.
    pub fn beat(&self, which: Loop, now: Duration) {
        self.0[which as usize].store(milliseconds(now), Ordering::Relaxed);
    }

    /// Whether both loops have made progress within `span`.
    #[must_use]
    pub fn beats_within(&self, span: Duration, now: Duration) -> bool {
        self.0.iter().all(|last| {
            let since = milliseconds(now).saturating_sub(last.load(Ordering::Relaxed));
            Duration::from_millis(since) <= span
        })
    }
}

/// Feeds systemd's watchdog, if there is one, while both loops make progress.
pub async fn feed(pulse: Pulse, clock: Clock) {
    let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    feed_with(limit, &pulse, &clock, || notify(&[NotifyState::Watchdog])).await;
}

async fn feed_with(limit: Duration, pulse: &Pulse, clock: &Clock, mut tell: impl FnMut()) {
    let mut starved = false;
    loop {
        tokio::time::sleep(limit / FEEDS_PER_WATCHDOG).await;
        if pulse.beats_within(PROGRESS_WITHIN, clock.monotonic()) {
            tell();
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

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Mutex;

    use crate::clock::Time;

    /// Ten seconds pass between two looks at this clock; the loops beat until it shows 20 s, and again at 80 s.
    struct Stuck {
        pulse: Pulse,
        seen: Mutex<Vec<u64>>,
    }

    impl Time for Stuck {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn boottime_ms(&self) -> u64 {
            0
        }

        fn boot_id(&self) -> String {
            "test".to_owned()
        }

        fn monotonic(&self) -> Duration {
            let mut seen = self.seen.lock().unwrap();
            let seconds = 10 * (seen.len() as u64 + 1);
            seen.push(seconds);
            let now = Duration::from_secs(seconds);
            self.pulse.beat(Loop::Collect, now);
            if seconds <= 20 || seconds == 80 {
                self.pulse.beat(Loop::Submit, now);
            }
            now
        }
    }

    #[tokio::test]
    async fn a_stuck_loop_is_fed_no_longer_than_it_may_be_and_again_when_it_goes_on() {
        let pulse = Pulse::default();
        let time = Arc::new(Stuck {
            pulse: pulse.clone(),
            seen: Mutex::default(),
        });
        let clock = Clock::of(Arc::clone(&time) as Arc<dyn Time>);
        let fed = Mutex::new(Vec::new());
        let limit = Duration::from_millis(3);
        let feeding = feed_with(limit, &pulse, &clock, || {
            fed.lock()
                .unwrap()
                .push(*time.seen.lock().unwrap().last().unwrap());
        });
        let looked_enough = async {
            while time.seen.lock().unwrap().len() < 9 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = feeding => {}
            () = looked_enough => {}
        }
        let fed = fed.into_inner().unwrap();
        assert_eq!(
            fed[..7],
            [10, 20, 30, 40, 50, 60, 80],
            "the submit loop stood still from 20 s to 80 s"
        );
    }

    #[test]
    fn one_stuck_loop_is_enough_to_starve_the_watchdog() {
        let pulse = Pulse::default();
        let span = Duration::from_secs(45);
        let at = Duration::from_millis;
        pulse.beat(Loop::Collect, at(100_000));
        assert!(
            !pulse.beats_within(span, at(100_000)),
            "the submit loop has never made progress"
        );
        pulse.beat(Loop::Submit, at(100_000));
        assert!(pulse.beats_within(span, at(145_000)));
        pulse.beat(Loop::Submit, at(145_000));
        assert!(
            !pulse.beats_within(span, at(145_001)),
            "the collect loop is stuck"
        );
    }
}
