//! A directory tree as a storage unit: how much of it is active and how much is dark.
//!
//! Owns: when a scan starts and when its result is told. Promises: a tick never waits for the disk,
//! because the scan runs on a thread of its own; a finished scan is told once; a root that cannot
//! be read is an error and never an empty unit; a scan that a restart cuts off goes on. Refuses: file
//! names and contents, which never leave the scan, but for the first-level directories that are made units.

mod links;
mod mounts;
mod settings;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::Subject;
use cms_spec::dark::{AccessBasis, StorageScan};
use cms_spec::reading::{Readings, Snapshot};
use cms_spec::units::Fixed;
use jiff::{SignedDuration, Timestamp};

use self::walk::{Budget, Order, Total, UnitTotal, Walk, WalkError};
use super::exclude::Pattern;
use super::history::{self, Finished, History, Resumed, Scanned};
use super::tally::Counts;
use super::unit;
use crate::{CollectError, Collector, Host};

pub use self::settings::REGISTRATION;

/// A scan that has seen nothing new for this long hangs.
const STALLED: SignedDuration = SignedDuration::from_mins(10);

/// From here on `status` shows how long a scan has seen nothing new.
const QUIET: SignedDuration = SignedDuration::from_secs(10);

/// A failed scan is tried again after this long, or after the interval where that is shorter.
const RETRY: SignedDuration = SignedDuration::from_mins(5);

/// What helps against a hidden root.
const HIDDEN: &str = "systemd hides it from this service; ProtectHome=read-only, PrivateTmp=no or the \
     like in a drop-in shows it";

struct FilesystemCollector {
    root: PathBuf,
    unit: Subject,
    region: String,
    storage_class: String,
    usd_per_gb_month: Option<Fixed<6>>,
    interval: SignedDuration,
    exclude: Arc<[Pattern]>,
    cross_mounts: bool,
    is_split: bool,
    threads: NonZero<usize>,
    budget: Budget,
    mountinfo: PathBuf,
    pressure: PathBuf,
    state: State,
    history: History,
    /// A scan that a restart cut off.
    cut_off: Option<String>,
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
    /// When its threads were started: later than `started` where it goes on after a restart.
    begun: Timestamp,
    walk: Walk,
    seen: u64,
    seen_at: Timestamp,
    /// How long nothing new has been seen.
    quiet: SignedDuration,
    /// Where each filesystem was, and since when.
    steps: BTreeMap<usize, (u64, Timestamp)>,
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
            is_split: settings.is_split(),
            threads: settings.threads(),
            budget: settings.budget(),
            mountinfo: host.proc("self/mountinfo"),
            pressure: host.proc("pressure"),
            state: State::New,
            history: History::default(),
            cut_off: None,
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

    /// Starts a scan, or goes on with one that a restart cut off.
    fn start(&mut self, at: Timestamp) -> Result<(), CollectError> {
        let cut_off = self.cut_off.take();
        let resumed = cut_off.and_then(|kept| walk::resume(&kept, &self.order_name(), at));
        let (started, done) = resumed.map_or_else(
            || (at, walk::Done::default()),
            |kept| (kept.started, kept.done),
        );
        let order = Order {
            root: self.root.clone(),
            as_of: started,
            exclude: Arc::clone(&self.exclude),
            cross_mounts: self.cross_mounts,
            is_split: self.is_split,
            threads: self.threads,
            budget: self.budget,
            mountinfo: self.mountinfo.clone(),
            pressure: self.pressure.clone(),
            done,
        };
        let walk = Walk::start(order).map_err(|source| CollectError::Unreachable {
            what: "another scan thread".to_owned(),
            source,
        })?;
        self.state = State::Scanning(Scan {
            started,
            begun: at,
            walk,
            seen: 0,
            seen_at: at,
            quiet: SignedDuration::ZERO,
            steps: BTreeMap::new(),
        });
        Ok(())
    }

    /// Where it is. A path, because numbers of devices change from boot to boot.
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    /// What makes two scans the same one: a checkpoint of another is of no use.
    fn order_name(&self) -> String {
        format!(
            "{} {:?} {} {}",
            self.root.display(),
            self.exclude,
            self.cross_mounts,
            self.is_split
        )
    }

    /// Tells of a finished scan: the root, and each directory that is a unit of its own.
    fn tell(
        &mut self,
        scan: (Timestamp, Timestamp),
        at: Timestamp,
        total: &Total,
        out: &mut Readings,
    ) {
        let (started, begun) = scan;
        let mut whole = Counts::default();
        for unit in &total.units {
            whole.merge(&unit.counts);
        }
        for (unit, counts) in self.units(total) {
            let scan = self.scan_of(unit, &counts, total.basis, started, at);
            out.snapshot(Snapshot::Storage(scan));
        }
        self.history.add(Finished {
            started,
            finished: at.max(started),
            worked_ms: u64::try_from(at.duration_since(begun).as_millis()).unwrap_or_default(),
            counts: whole,
        });
    }

    /// The units by their names. Two directories whose names are one and the same in text are one unit.
    fn units(&self, total: &Total) -> BTreeMap<Subject, Counts> {
        let mut units: BTreeMap<Subject, Counts> = BTreeMap::new();
        for UnitTotal { name, counts } in &total.units {
            if name.is_none() && self.is_split && *counts == Counts::default() {
                continue;
            }
            let unit = name
                .as_ref()
                .and_then(|name| unit::below(&self.unit, name))
                .unwrap_or_else(|| self.unit.clone());
            units.entry(unit).or_default().merge(counts);
        }
        if units.is_empty() {
            // That nothing is there is an answer, too.
            units.insert(self.unit.clone(), Counts::default());
        }
        units
    }

    fn scan_of(
        &self,
        unit: Subject,
        counts: &Counts,
        basis: AccessBasis,
        started: Timestamp,
        at: Timestamp,
    ) -> StorageScan {
        StorageScan {
            unit,
            place: Some(self.place()),
            region: self.region.clone(),
            storage_class: self.storage_class.clone(),
            usd_per_gb_month: self.usd_per_gb_month,
            as_of: started,
            finished_at: at.max(started),
            basis,
            active: counts.active,
            dark: counts.dark,
            unreadable: counts.unreadable,
            ages: counts.ages,
            classes: Vec::new(),
        }
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
        let (started, begun) = (scan.started, scan.begun);
        match scan.walk.outcome() {
            Some(Ok(total)) => {
                self.tell((started, begun), at, &total, out);
                // The next one is due an interval after this one was begun, also where it was cut off.
                self.state = State::Idle { started };
                self.failure = None;
                Ok(())
            }
            Some(Err(failure)) => {
                self.state = State::Failed { started: begun };
                self.failure = Some(failure);
                self.failure()
            }
            None => {
                scan.watch(&self.root, at)?;
                self.failure()
            }
        }
    }

    fn progress(&self) -> Option<String> {
        match &self.state {
            State::Scanning(scan) => Some(scan.progress()),
            State::Failed { .. } | State::Idle { .. } | State::New => None,
        }
    }

    fn details(&self) -> Vec<String> {
        self.history.lines()
    }

    fn checkpoint(&self) -> Option<String> {
        let scan = match &self.state {
            State::Scanning(scan) => scan.walk.checkpoint(&self.order_name()),
            State::Failed { .. } | State::Idle { .. } | State::New => self.cut_off.clone(),
        };
        let (place, order) = (self.place(), self.order_name());
        let scanned = Scanned {
            place: &place,
            order: &order,
        };
        history::keep(&self.history, scanned, scan)
    }

    fn resume(&mut self, checkpoint: &str) {
        let (place, order) = (self.place(), self.order_name());
        let scanned = Scanned {
            place: &place,
            order: &order,
        };
        let Some(resumed) = history::resume(checkpoint, scanned) else {
            return;
        };
        let Resumed {
            history,
            scan,
            last_started,
        } = resumed;
        if let Some(started) = last_started {
            // What was scanned before the restart need not be scanned again because of it.
            self.state = State::Idle { started };
        }
        self.history = history;
        self.cut_off = scan;
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
    /// How far it is, and whether it waits for something that may not come.
    fn progress(&self) -> String {
        let walked = self.walk.progress();
        if self.quiet < QUIET {
            return walked.to_string();
        }
        format!("{walked}, nothing new for {}s", self.quiet.as_secs())
    }

    /// Says so when the scan hangs. A filesystem below the root that hangs is left behind, when that is all
    /// that is still missing.
    fn watch(&mut self, root: &std::path::Path, at: Timestamp) -> Result<(), CollectError> {
        let steps = self.walk.steps();
        for &(lane, step) in &steps {
            let (known, since) = self.steps.entry(lane).or_insert((step, at));
            if *known != step {
                (*known, *since) = (step, at);
            }
        }
        let hangs = |lane: &usize| {
            let since = self.steps.get(lane).map_or(at, |(_, since)| *since);
            *lane > 0 && at.duration_since(since) >= STALLED
        };
        if steps.iter().all(|(lane, _)| hangs(lane)) {
            for (lane, _) in &steps {
                self.walk.abandon(*lane);
            }
        }
        let seen = self.walk.progress().seen();
        if seen != self.seen {
            self.seen = seen;
            self.seen_at = at;
        }
        self.quiet = at.duration_since(self.seen_at);
        if self.quiet < STALLED {
            return Ok(());
        }
        Err(CollectError::Timeout {
            what: format!("{} (after {})", root.display(), self.walk.progress()),
            after: Duration::try_from(STALLED).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests;
