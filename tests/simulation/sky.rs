//! What time it is: truly, on the agent's host, and on the dashboard's.
//!
//! True time is tokio's virtual time and whatever the host has slept through; the two clocks differ from it as
//! the faults say.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use cms_telemetry_agent::clock::Time;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The clocks of one run. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sky(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    began: Instant,
    began_at: Timestamp,
    slept: Duration,
    booted: Duration,
    booted_awake: Duration,
    boots: u32,
    agent_is_off_by: SignedDuration,
    dashboard_is_off_by: SignedDuration,
    looks: u64,
}

impl State {
    fn passed(&self) -> Duration {
        Instant::now() - self.began + self.slept
    }

    fn now(&self) -> Timestamp {
        self.began_at + self.passed()
    }
}

impl Sky {
    pub(crate) fn new(began_at: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State {
            began: Instant::now(),
            began_at,
            slept: Duration::ZERO,
            booted: Duration::ZERO,
            booted_awake: Duration::ZERO,
            boots: 1,
            agent_is_off_by: SignedDuration::ZERO,
            dashboard_is_off_by: SignedDuration::ZERO,
            looks: 0,
        })))
    }

    /// True time since the run began.
    pub(crate) fn passed(&self) -> Duration {
        self.0.lock().unwrap().passed()
    }

    pub(crate) fn true_now(&self) -> Timestamp {
        self.0.lock().unwrap().now()
    }

    pub(crate) fn dashboard_now(&self) -> Timestamp {
        let state = self.0.lock().unwrap();
        state.now() + state.dashboard_is_off_by
    }

    /// How often the agent has looked at a clock: each wake-up does.
    pub(crate) fn looks(&self) -> u64 {
        self.0.lock().unwrap().looks
    }

    pub(crate) fn boot_id(&self) -> String {
        format!("boot-{}", self.0.lock().unwrap().boots)
    }

    /// The host sleeps: time passes for everybody but its timers.
    pub(crate) fn sleep(&self, span: Duration) {
        self.0.lock().unwrap().slept += span;
    }

    pub(crate) fn reboot(&self) {
        let mut state = self.0.lock().unwrap();
        state.boots += 1;
        state.booted = state.passed();
        state.booted_awake = Instant::now() - state.began;
    }

    pub(crate) fn set_agent_off_by(&self, off_by: SignedDuration) {
        self.0.lock().unwrap().agent_is_off_by = off_by;
    }

    /// The agent's clock begins at the epoch, as one without a battery does.
    pub(crate) fn unset_agent(&self) {
        let mut state = self.0.lock().unwrap();
        state.agent_is_off_by = Timestamp::UNIX_EPOCH.duration_since(state.now());
    }

    pub(crate) fn set_dashboard_off_by(&self, off_by: SignedDuration) {
        self.0.lock().unwrap().dashboard_is_off_by = off_by;
    }
}

impl Time for Sky {
    fn now(&self) -> Timestamp {
        let mut state = self.0.lock().unwrap();
        state.looks += 1;
        state.now() + state.agent_is_off_by
    }

    fn boottime_ms(&self) -> u64 {
        let state = self.0.lock().unwrap();
        u64::try_from((state.passed() - state.booted).as_millis()).unwrap()
    }

    fn boot_id(&self) -> String {
        Self::boot_id(self)
    }

    fn monotonic(&self) -> Duration {
        let state = self.0.lock().unwrap();
        Instant::now() - state.began - state.booted_awake
    }
}
