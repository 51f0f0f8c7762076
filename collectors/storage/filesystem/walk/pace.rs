//! How much of the machine a scan takes: a share of a processor, files in a second, nothing under pressure.
//!
//! Owns: the pauses between directories. Promises: a pause ends at once when the scan is cancelled, and
//! pressure never stops a scan for good. The clocks that it reads pace threads and reach no reading.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::host::read_text;

/// How often the pressure is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Under pressure the scan works this long and then pauses [`LOOK_EVERY`], so that it ends some time.
const WORK_UNDER_PRESSURE: Duration = Duration::from_millis(200);

/// Debts below this are left for the next directory: a short sleep costs more than it gives.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// Shares of the last ten seconds in which tasks waited, in percent, from which on others come first.
const PRESSURES: [(&str, &str, f64); 3] = [
    ("cpu", "some", 75.0),
    ("io", "full", 40.0),
    ("memory", "some", 10.0),
];

/// What a scan may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Budget {
    /// Of one processor, by all threads together.
    pub(in super::super) cpu_percent: u32,
    /// Entries in a second, where there is a limit.
    pub(in super::super) files_per_second: Option<u32>,
}

/// Paces the threads of one scan.
#[derive(Debug)]
pub(super) struct Pace {
    budget: Budget,
    /// Normally `/proc/pressure`.
    pressure: PathBuf,
    begun: Duration,
    cpu_us: AtomicU64,
    entries: AtomicU64,
    looked_ms: AtomicU64,
    is_pressed: AtomicBool,
    is_over: Mutex<bool>,
    over: Condvar,
}

/// The processor time of one thread that is not accounted for yet.
#[derive(Debug)]
pub(super) struct Meter {
    cpu: Duration,
}

impl Meter {
    /// Begins with this thread's work from now on.
    pub(super) fn start() -> Self {
        Self {
            cpu: now(ClockId::ThreadCPUTime),
        }
    }
}

impl Pace {
    pub(super) fn new(budget: Budget, pressure: PathBuf) -> Self {
        Self {
            budget,
            pressure,
            begun: now(ClockId::Monotonic),
            cpu_us: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            looked_ms: AtomicU64::new(0),
            is_pressed: AtomicBool::new(false),
            is_over: Mutex::new(false),
            over: Condvar::new(),
        }
    }

    /// Accounts for work that this thread did, and pauses where the scan is ahead of its budget.
    pub(super) fn spend(&self, meter: &mut Meter, entries: u64) {
        let cpu = now(ClockId::ThreadCPUTime);
        let used = cpu.saturating_sub(meter.cpu);
        meter.cpu = cpu;
        let cpu_us = add(&self.cpu_us, micros(used));
        let entries = add(&self.entries, entries);
        let passed = now(ClockId::Monotonic).saturating_sub(self.begun);
        let debt = self.debt(cpu_us, entries, passed);
        if debt >= PAUSE_MIN {
            self.pause(debt);
        }
        self.give_way(passed);
    }

    /// Ends all pauses for good.
    pub(super) fn end(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.over.notify_all();
    }

    /// How far the work is ahead of what the budget allows by now.
    fn debt(&self, cpu_us: u64, entries: u64, passed: Duration) -> Duration {
        let percent = u64::from(self.budget.cpu_percent.max(1));
        let by_cpu = Duration::from_micros(cpu_us.saturating_mul(100) / percent);
        let by_files = self.budget.files_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_micros(entries.saturating_mul(1_000_000) / u64::from(rate.max(1)))
        });
        by_cpu.max(by_files).saturating_sub(passed)
    }

    /// Leaves the machine to others while they wait for it.
    fn give_way(&self, passed: Duration) {
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        let since = Duration::from_millis(passed_ms.saturating_sub(looked_ms));
        let is_pressed = self.is_pressed.load(Ordering::Relaxed);
        let due = if is_pressed {
            WORK_UNDER_PRESSURE
        } else {
            LOOK_EVERY
        };
        if since < due {
            return;
        }
        let looked = self.looked_ms.compare_exchange(
            looked_ms,
            passed_ms,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if looked.is_err() && !is_pressed {
            return;
        }
        let is_pressed = PRESSURES.iter().any(|(what, kind, limit)| {
            let text = read_text(&self.pressure.join(what)).unwrap_or_default();
            pressure(&text, kind).is_some_and(|share| share >= *limit)
        });
        self.is_pressed.store(is_pressed, Ordering::Relaxed);
        if is_pressed {
            self.pause(LOOK_EVERY);
            let passed = now(ClockId::Monotonic).saturating_sub(self.begun);
            let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
            self.looked_ms.store(passed_ms, Ordering::Relaxed);
        }
    }

    fn pause(&self, length: Duration) {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        // Woken early or late, the next account puts it right.
        drop(
            self.over
                .wait_timeout_while(is_over, length, |is_over| !*is_over),
        );
    }
}

/// The share of the last ten seconds in a file of `/proc/pressure`.
fn pressure(text: &str, kind: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(kind))?;
    let share = line
        .split(' ')
        .find_map(|field| field.strip_prefix("avg10="))?;
    share.parse().ok()
}

fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn add(total: &AtomicU64, more: u64) -> u64 {
    total
        .fetch_add(more, Ordering::Relaxed)
        .saturating_add(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(cpu_percent: u32, files_per_second: Option<u32>) -> Pace {
        let budget = Budget {
            cpu_percent,
            files_per_second,
        };
        Pace::new(budget, "/nowhere".into())
    }

    #[test]
    fn work_is_spread_over_the_time_that_the_budget_gives_it() {
        let second = Duration::from_secs(1);
        let half = pace(50, None);
        assert_eq!(half.debt(1_000_000, 9, second), second);
        assert_eq!(half.debt(500_000, 9, second), Duration::ZERO);
        let slow = pace(100, Some(1000));
        assert_eq!(slow.debt(0, 3000, second), 2 * second);
        assert_eq!(slow.debt(0, 3000, 5 * second), Duration::ZERO);
    }

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text =
            "some avg10=80.12 avg60=3.00 avg300=0.10 total=1\nfull avg10=0.50 avg60=0 total=1\n";
        assert_eq!(pressure(text, "some"), Some(80.12));
        assert_eq!(pressure(text, "full"), Some(0.5));
        assert_eq!(pressure("", "some"), None);
    }

    #[test]
    fn a_pause_ends_when_the_scan_does() {
        let pace = pace(1, None);
        pace.end();
        pace.pause(Duration::from_secs(3600));
    }
}
