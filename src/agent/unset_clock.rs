//! A clock that has not been set: boards without a battery begin in 1970.

use crate::clock::Clock;
use crate::limits::{CLOCK_LOOK, CLOCK_SET_AFTER};
use crate::status::{PartState, Status};
use crate::watchdog::{Loop, Pulse};

/// Waits for a clock that has not been set: readings and slots of 1970 would only have to be undone.
pub(super) async fn clock_is_set(clock: &Clock, pulse: &Pulse, status: &Status) {
    let mut waited = false;
    while clock.now() < CLOCK_SET_AFTER {
        let error = format!(
            "the clock says {}: set it; nothing is read or sent until then",
            clock.now()
        );
        if !waited {
            tracing::error!("{error}");
        }
        waited = true;
        status.set("clock", PartState::Failed, Some(error));
        pulse.beat(Loop::Collect, clock.monotonic());
        pulse.beat(Loop::Submit, clock.monotonic());
        tokio::time::sleep(CLOCK_LOOK).await;
    }
    if waited {
        tracing::info!("the clock has been set");
        status.ok("clock", None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{KeyRow, Nameplate};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::clock::Time;

    /// Begins in 1970 and is put right after a few looks.
    struct Unset(AtomicU32);

    impl Time for Unset {
        fn now(&self) -> jiff::Timestamp {
            if self.0.fetch_add(1, Ordering::SeqCst) < 6 {
                jiff::Timestamp::UNIX_EPOCH
            } else {
                CLOCK_SET_AFTER
            }
        }

        fn boottime_ms(&self) -> u64 {
            1
        }

        fn boot_id(&self) -> String {
            "b".to_owned()
        }
    }

    #[tokio::test]
    async fn an_unset_clock_is_waited_for_and_shown() {
        let clock = Clock::of(Arc::new(Unset(AtomicU32::new(0))));
        let nameplate = Nameplate {
            key: KeyRow::default(),
            company_id: "acme-corp".to_owned(),
            agent_id: "a".to_owned(),
            endpoint: "https://localhost/api/v1".to_owned(),
            inventory: None,
        };
        let status = Status::new(nameplate, clock.clone());
        clock_is_set(&clock, &Pulse::default(), &status).await;
        assert_eq!(clock.now(), CLOCK_SET_AFTER);
        let part = &status.parts()[0];
        assert_eq!((part.name.as_str(), part.state), ("clock", PartState::Ok));
        assert!(part.errors > 0);
        assert!(part.last_error.as_ref().unwrap().contains("1970-01-01"));
    }
}
