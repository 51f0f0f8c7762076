//! The only clock of the agent: wall time, time since boot, time awake, and the boot that they belong to.
//!
//! Everything else takes time as an argument, so that tests can move it. A step of the wall clock is
//! visible as a difference to the time since boot, which runs on during suspend.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::ClockId;

/// Reads the time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Time>);

/// Where the time comes from.
pub trait Time: Send + Sync {
    /// Wall time, UTC.
    fn now(&self) -> Timestamp;
    /// Milliseconds since boot, suspend included.
    fn boottime_ms(&self) -> u64;
    /// Names this boot.
    fn boot_id(&self) -> String;
    /// Time since boot without suspend: what timers, and systemd's watchdog, go by.
    fn monotonic(&self) -> Duration {
        of_kernel(ClockId::Monotonic)
    }
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
        Self(Arc::new(System { boot_id }))
    }

    /// A clock made by a test.
    #[must_use]
    pub fn of(time: Arc<dyn Time>) -> Self {
        Self(time)
    }

    /// Wall time, UTC.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Milliseconds since boot, suspend included.
    #[must_use]
    pub fn boottime_ms(&self) -> u64 {
        self.0.boottime_ms()
    }

    /// Time since boot without suspend: what timers, and systemd's watchdog, go by.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    /// Names this boot; counters of two boots are never subtracted.
    #[must_use]
    pub fn boot_id(&self) -> String {
        self.0.boot_id()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

struct System {
    boot_id: String,
}

impl Time for System {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one clock that the others are told to use"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn boottime_ms(&self) -> u64 {
        u64::try_from(of_kernel(ClockId::Boottime).as_millis()).unwrap_or(u64::MAX)
    }

    fn boot_id(&self) -> String {
        self.boot_id.clone()
    }
}

fn of_kernel(clock: ClockId) -> Duration {
    Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default()
}
