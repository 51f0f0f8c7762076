//! A process of the program under test, whose log is a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine; waiting ends as soon as the condition holds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// How often a condition is looked at: often beside the half second that a scenario takes.
const LOOK: Duration = Duration::from_millis(5);

/// How often a condition is looked at that costs something to look at.
const LOOK_CLOSELY: Duration = Duration::from_millis(20);

/// What is looked at may stand still meanwhile: it goes on for so many times as long as a look has taken.
const GOING_PER_LOOK: u32 = 4;

/// Waits for a condition, and fails when it does not come.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let begun = Instant::now();
        if holds() {
            return;
        }
        assert!(begun < end, "waited in vain for {what}");
        thread::sleep(LOOK_CLOSELY.max(begun.elapsed() * GOING_PER_LOOK));
    }
}

/// A running process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command with arguments and environment. Its log begins anew.
    pub(crate) fn start(
        mut command: Command,
        environment: &[(String, String)],
        log: &Path,
    ) -> Self {
        let child = command
            .args(["--log-format", "json"])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            log: log.to_owned(),
        }
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until the log has so many lines with `text`. Answers whether it has: false when the process has ended.
    pub(crate) fn says(&mut self, text: &str, times: usize) -> bool {
        self.until(|log| log.matches(text).count() >= times)
    }

    /// Waits until this holds of the log. Answers whether it does: false when the process has ended.
    pub(crate) fn until(&mut self, holds: impl Fn(&str) -> bool) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().unwrap().is_some();
            let log = self.log();
            if holds(&log) || ended {
                return holds(&log);
            }
            assert!(Instant::now() < end, "waited in vain:\n{log}");
            thread::sleep(LOOK);
        }
    }

    /// Makes it stand still.
    pub(crate) fn freeze(&mut self) {
        self.signal(Signal::STOP);
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() && self.stat()[0] != "T" {
            assert!(Instant::now() < end, "it does not stand still");
            thread::yield_now();
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Processor time that it has used, in ticks of a hundredth of a second.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = self.stat();
        stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap()
    }

    /// The kernel's fields about it, from its state on.
    fn stat(&self) -> Vec<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, after) = stat.rsplit_once(") ").unwrap();
        after.split(' ').map(str::to_owned).collect()
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end()
    }

    /// SIGKILL: no chance to write anything. Answers what it had logged.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log()
    }

    /// Never to a process that has ended: its number may be another's by now.
    fn signal(&mut self, signal: Signal) {
        if self.child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.log());
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
