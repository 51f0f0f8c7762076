//! A directory tree as a storage unit: how much of it is active and how much is dark.
//!
//! Owns: when a scan starts and when its result is told. Promises: a tick never waits for the disk,
//! because the scan runs on a thread of its own; a finished scan is told once; a root that cannot
//! be read is an error and never an empty unit. Refuses: file names and contents, which never leave
//! the scan.

mod links;
mod mounts;
mod pattern;
mod settings;
mod walk;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::Subject;
use cms_spec::dark::StorageScan;
use cms_spec::reading::{Readings, Snapshot};
use cms_spec::units::Fixed;
use jiff::{SignedDuration, Timestamp};

use self::pattern::Pattern;
use self::walk::{Order, Progress, Total, WalkError};
use crate::{CollectError, Collector, Host};

pub use self::settings::REGISTRATION;

/// Scans that may run at once in one process. A scan that hangs on a dead mount keeps its thread,
/// and opening the source again must not add threads without end.
const SCANS_MAX: usize = 64;

/// A scan that has seen nothing new for this long hangs.
const STALLED: SignedDuration = SignedDuration::from_mins(10);

/// A failed scan is tried again after this long, or after the interval where that is shorter.
const RETRY: SignedDuration = SignedDuration::from_mins(5);

/// What helps against a hidden root.
const HIDDEN: &str = "systemd hides it from this service; ProtectHome=read-only, PrivateTmp=no or the \
     like in a drop-in shows it";

static SCANS: AtomicUsize = AtomicUsize::new(0);

struct FilesystemCollector {
    root: PathBuf,
    unit: Subject,
    region: String,
    storage_class: String,
    usd_per_gb_month: Option<Fixed<6>>,
    interval: SignedDuration,
    exclude: Arc<[Pattern]>,
    cross_mounts: bool,
    mountinfo: PathBuf,
    state: State,
    /// Why the last scan that ended brought nothing.
    failure: Option<WalkError>,
}

enum State {
    /// The last scan failed, and starts again when it is due.
    Failed {
        started: Timestamp,
    },
    /// The last scan is told.
    Idle {
        started: Timestamp,
    },
    /// No scan has started yet.
    New,
    Scanning(Scan),
}

struct Scan {
    started: Timestamp,
    progress: Arc<Progress>,
    answer: Receiver<Result<Total, WalkError>>,
    seen: u64,
    seen_at: Timestamp,
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.progress.cancel();
    }
}

/// Counts a running scan for as long as its thread lives.
struct Running;

impl Running {
    fn start() -> Option<Self> {
        let more = |running| (running < SCANS_MAX).then_some(running + 1);
        SCANS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        SCANS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FilesystemCollector {
    fn new(settings: &settings::Config, host: &Host) -> Self {
        let interval = settings.interval.duration();
        Self {
            root: settings.path.as_path().to_owned(),
            unit: settings.name.clone(),
            region: settings
                .region
                .as_ref()
                .map_or(&*host.region, Subject::as_str)
                .to_owned(),
            storage_class: settings
                .storage_class
                .as_ref()
                .map_or("standard", Subject::as_str)
                .to_owned(),
            usd_per_gb_month: settings.usd_per_gb_month.map(|d| d.0),
            interval: SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX),
            exclude: settings.exclude.clone().into(),
            cross_mounts: settings.cross_mounts,
            mountinfo: host.proc("self/mountinfo"),
            state: State::New,
            failure: None,
        }
    }

    fn is_due(&self, at: Timestamp) -> bool {
        let passed = |since: Timestamp, span| at.duration_since(since).abs() >= span;
        match &self.state {
            State::Failed { started } => passed(*started, self.interval.min(RETRY)),
            State::Idle { started } => passed(*started, self.interval),
            State::New => true,
            State::Scanning(_) => false,
        }
    }

    fn start(&mut self, at: Timestamp) -> Result<(), CollectError> {
        let refuse = |source| CollectError::Unreachable {
            what: "another scan thread".to_owned(),
            source,
        };
        let Some(running) = Running::start() else {
            let why = "too many scans run already; some of them may hang on a dead mount";
            return Err(refuse(io::Error::other(why)));
        };
        let progress = Arc::new(Progress::default());
        let order = Order {
            root: self.root.clone(),
            as_of: at,
            exclude: Arc::clone(&self.exclude),
            cross_mounts: self.cross_mounts,
            mountinfo: self.mountinfo.clone(),
            progress: Arc::clone(&progress),
        };
        let (answered, answer) = sync_channel(1);
        let thread = std::thread::Builder::new().name("scan".to_owned());
        let spawned = thread.spawn(move || {
            let result = walk::walk(&order);
            drop(running);
            // Nobody listens when the collector was closed meanwhile.
            answered.send(result).ok();
        });
        spawned.map_err(refuse)?;
        self.state = State::Scanning(Scan {
            started: at,
            progress,
            answer,
            seen: 0,
            seen_at: at,
        });
        Ok(())
    }

    fn tell(&self, started: Timestamp, at: Timestamp, total: &Total) -> Snapshot {
        Snapshot::Storage(StorageScan {
            unit: self.unit.clone(),
            region: self.region.clone(),
            storage_class: self.storage_class.clone(),
            usd_per_gb_month: self.usd_per_gb_month,
            as_of: started,
            finished_at: at.max(started),
            basis: total.basis,
            active: total.active,
            dark: total.dark,
            unreadable: total.unreadable,
        })
    }

    /// A root that failed goes on failing until a scan of it succeeds.
    fn failure(&self) -> Result<(), CollectError> {
        self.failure.as_ref().map_or(Ok(()), |why| Err(why.told()))
    }
}

#[async_trait]
impl Collector for FilesystemCollector {
    async fn collect(&mut self, at: Timestamp, out: &mut Readings) -> Result<(), CollectError> {
        if self.is_due(at) {
            self.start(at)?;
            return self.failure();
        }
        let State::Scanning(scan) = &mut self.state else {
            return self.failure();
        };
        let started = scan.started;
        match scan.answer.try_recv() {
            Ok(Ok(total)) => {
                out.snapshot(self.tell(started, at, &total));
                self.state = State::Idle { started };
                self.failure = None;
                Ok(())
            }
            Ok(Err(failure)) => {
                self.state = State::Failed { started };
                self.failure = Some(failure);
                self.failure()
            }
            Err(TryRecvError::Empty) => {
                scan.watch(&self.root, at)?;
                self.failure()
            }
            Err(TryRecvError::Disconnected) => {
                self.state = State::Idle { started };
                Err(CollectError::Vanished {
                    what: format!("the scan of {}", self.root.display()),
                })
            }
        }
    }

    fn progress(&self) -> Option<String> {
        match &self.state {
            State::Scanning(scan) => Some(scan.progress.to_string()),
            State::Failed { .. } | State::Idle { .. } | State::New => None,
        }
    }
}

impl WalkError {
    fn told(&self) -> CollectError {
        let source = io::Error::from_raw_os_error(self.error);
        if self.is_hidden {
            return CollectError::Denied {
                path: self.what.clone(),
                hint: HIDDEN.to_owned(),
                source,
            };
        }
        CollectError::from_io(&self.what, source)
    }
}

impl Scan {
    /// Says so when the scan hangs.
    fn watch(&mut self, root: &std::path::Path, at: Timestamp) -> Result<(), CollectError> {
        let seen = self.progress.seen();
        if seen != self.seen {
            self.seen = seen;
            self.seen_at = at;
        }
        if at.duration_since(self.seen_at) < STALLED {
            return Ok(());
        }
        Err(CollectError::Timeout {
            what: format!("{} (after {})", root.display(), self.progress),
            after: Duration::try_from(STALLED).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::task::{Context, Poll, Waker};

    /// A tick of this collector never waits.
    fn tick(
        collector: &mut FilesystemCollector,
        at: Timestamp,
        out: &mut Readings,
    ) -> Result<(), CollectError> {
        let mut context = Context::from_waker(Waker::noop());
        match collector.collect(at, out).as_mut().poll(&mut context) {
            Poll::Ready(told) => told,
            Poll::Pending => panic!("a tick waited"),
        }
    }

    #[test]
    fn a_root_that_failed_goes_on_failing_while_it_is_scanned_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut collector = FilesystemCollector {
            root: directory.path().join("later"),
            unit: "unit".parse().unwrap(),
            region: "here".to_owned(),
            storage_class: "standard".to_owned(),
            usd_per_gb_month: None,
            interval: SignedDuration::from_hours(1),
            exclude: Arc::new([]),
            cross_mounts: false,
            mountinfo: "/proc/self/mountinfo".into(),
            state: State::New,
            failure: None,
        };
        let mut at: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
        let mut out = Readings::default();
        while collector.failure.is_none() {
            tick(&mut collector, at, &mut out).ok();
        }
        std::fs::create_dir(directory.path().join("later")).unwrap();
        at += RETRY;
        let mut ticks = 0;
        while collector.failure.is_some() {
            let told = tick(&mut collector, at, &mut out);
            assert_eq!(told.is_err(), collector.failure.is_some());
            ticks += 1;
        }
        assert!(
            ticks >= 2,
            "one tick starts the scan and another tells of it"
        );
        assert!(!out.is_empty());
    }

    #[test]
    fn a_hidden_root_says_what_shows_it() {
        let failure = WalkError {
            what: "/home/alice".into(),
            error: 2,
            is_hidden: true,
        };
        let told = failure.told();
        assert_eq!(told.class(), "denied");
        let text = told.to_string();
        assert!(
            text.contains("/home/alice") && text.contains("ProtectHome=read-only"),
            "{text}"
        );
        let failure = WalkError {
            is_hidden: false,
            ..failure
        };
        assert_eq!(failure.told().class(), "vanished");
    }

    #[test]
    fn a_scan_that_hangs_says_so_and_ends_when_nobody_wants_it() {
        let started: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
        let later = |minutes| started + SignedDuration::from_mins(minutes);
        let progress = Arc::new(Progress::default());
        let (_answered, answer) = sync_channel(1);
        let mut scan = Scan {
            started,
            progress: Arc::clone(&progress),
            answer,
            seen: 0,
            seen_at: started,
        };
        let root = std::path::Path::new("/srv");
        assert!(scan.watch(root, later(9)).is_ok());
        let stalled = scan.watch(root, later(10)).unwrap_err();
        assert_eq!(stalled.class(), "timeout");
        assert!(
            stalled
                .to_string()
                .contains("/srv (after scanned 0 objects)")
        );
        progress.see();
        assert!(scan.watch(root, later(19)).is_ok());
        drop(scan);
        assert!(progress.is_cancelled());
    }
}
