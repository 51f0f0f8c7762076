//! Processor time from `/proc/stat`, and the boot clock from `/proc/uptime`.

use std::path::Path;

use cms_spec::units::Millis;

use crate::CollectError;

/// Processor time since the boot, summed over all processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessorTime {
    /// Doing something for this instance, or waiting for the hypervisor to let it.
    pub(super) busy: Millis,
    /// There to be used.
    pub(super) capacity: Millis,
}

/// What `/proc/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) time: ProcessorTime,
    /// Processors that are online.
    pub(super) cpus: u64,
    /// The boot as seconds of Unix time.
    pub(super) boot_s: i64,
}

/// Reads the text of `/proc/stat`.
///
/// The summary line is used and not the lines of each processor: it keeps the time of processors
/// that have been taken offline, so that it never falls when one is.
pub(super) fn parse(path: &Path, text: &str, ticks_per_s: u64) -> Result<Stat, CollectError> {
    let mut time = None;
    let mut boot_s = None;
    let mut cpus = 0;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("cpu") => {
                let states: Option<Vec<u64>> = words.map(|w| w.parse().ok()).collect();
                time = states.and_then(|s| processor_time(&s, ticks_per_s));
            }
            Some("btime") => boot_s = words.next().and_then(|w| w.parse().ok()),
            Some(word) if word.starts_with("cpu") => cpus += 1,
            _ => {}
        }
    }
    let time = time.ok_or_else(|| CollectError::malformed(path, "it has no usable cpu line"))?;
    let boot_s = boot_s.ok_or_else(|| CollectError::malformed(path, "it has no btime line"))?;
    if cpus == 0 {
        return Err(CollectError::malformed(path, "it names no processor"));
    }
    Ok(Stat { time, cpus, boot_s })
}

/// Adds up `user nice system idle iowait irq softirq steal guest guest_nice`.
///
/// The last two are part of `user` and `nice` already.
fn processor_time(states: &[u64], ticks_per_s: u64) -> Option<ProcessorTime> {
    const STATES_MIN: usize = 4;
    const STEAL: usize = 7;
    if states.len() < STATES_MIN || ticks_per_s == 0 {
        return None;
    }
    let (mut busy, mut capacity) = (0_u64, 0_u64);
    for (state, ticks) in states.iter().enumerate().take(STEAL + 1) {
        capacity = capacity.checked_add(*ticks)?;
        if !matches!(state, 3 | 4) {
            busy = busy.checked_add(*ticks)?;
        }
    }
    let millis = |ticks: u64| Some(Millis(ticks.checked_mul(1000)? / ticks_per_s));
    Some(ProcessorTime {
        busy: millis(busy)?,
        capacity: millis(capacity)?,
    })
}

/// Reads the text of `/proc/uptime`: time since the boot, which no change of the clock moves.
pub(super) fn parse_uptime(path: &Path, text: &str) -> Result<Millis, CollectError> {
    let millis = || {
        let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
        if hundredths.len() != 2 {
            return None;
        }
        let seconds: u64 = seconds.parse().ok()?;
        let hundredths: u64 = hundredths.parse().ok()?;
        seconds.checked_mul(1000)?.checked_add(hundredths * 10)
    };
    millis()
        .map(Millis)
        .ok_or_else(|| CollectError::malformed(path, "it does not start with seconds.hundredths"))
}

/// Reads when a process was started, as time since the boot, from the text of `/proc/PID/stat`.
pub(super) fn parse_start(
    path: &Path,
    text: &str,
    ticks_per_s: u64,
) -> Result<Millis, CollectError> {
    // The name stands in parentheses and may hold anything, also parentheses.
    let after_name = text.rsplit_once(')').map(|(_, rest)| rest);
    const START_AFTER_NAME: usize = 19;
    after_name
        .and_then(|rest| rest.split_ascii_whitespace().nth(START_AFTER_NAME))
        .and_then(|word| word.parse::<u64>().ok())
        .and_then(|ticks| ticks.checked_mul(1000)?.checked_div(ticks_per_s))
        .map(Millis)
        .ok_or_else(|| CollectError::malformed(path, "it has no start time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(text: &str) -> Result<Stat, CollectError> {
        parse(Path::new("/proc/stat"), text, 100)
    }

    #[test]
    fn guests_count_once_and_waiting_is_idle() {
        let text = "cpu  10 20 30 400 50 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\nbtime 1700000000\n";
        let stat = stat(text).unwrap();
        assert_eq!(stat.time.busy, Millis((10 + 20 + 30 + 6 + 7 + 8) * 10));
        assert_eq!(
            stat.time.capacity,
            Millis((10 + 20 + 30 + 400 + 50 + 6 + 7 + 8) * 10)
        );
        assert_eq!((stat.cpus, stat.boot_s), (1, 1_700_000_000));
    }

    #[test]
    fn old_kernels_have_fewer_states() {
        let stat = stat("cpu 1 2 3 4\ncpu0 1 2 3 4\nbtime 1\n").unwrap();
        assert_eq!(stat.time.busy, Millis(60));
        assert_eq!(stat.time.capacity, Millis(100));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "cpu 1 2 3\ncpu0 1\nbtime 1\n",
            "cpu 1 2 x 4\ncpu0 1\nbtime 1\n",
            "cpu 18446744073709551615 1 1 1\ncpu0 1\nbtime 1\n",
            "cpu 1 2 3 4\nbtime 1\n",
            "cpu 1 2 3 4\ncpu0 1\n",
        ] {
            assert!(stat(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn uptime_keeps_hundredths() {
        let path = Path::new("/proc/uptime");
        assert_eq!(
            parse_uptime(path, "350735.47 234388.90\n").unwrap(),
            Millis(350_735_470)
        );
        for text in ["", "12\n", "12.5 1\n", "-1.00 2\n"] {
            assert!(parse_uptime(path, text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_process_name_may_hold_anything() {
        let path = Path::new("/proc/1/stat");
        let text = "1 (a) R (b) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 250 1 2 3\n";
        assert_eq!(parse_start(path, text, 100).unwrap(), Millis(2500));
        assert!(parse_start(path, "1 (init) S 0\n", 100).is_err());
    }
}
