//! The walk over a tree: every regular file once, by its allocated blocks.
//!
//! Owns: the threads of one scan. Promises: nothing is counted twice; a filesystem below the root that hangs
//! can be left behind, and the rest is told; a walk that was cut off goes on from its checkpoint. Memory is
//! bounded whatever the tree is like: see [`frontier`] and [`super::links::LINKS_MAX`]. Refuses: names
//! that leave this module, except of the directories that are units of their own.

mod checkpoint;
mod frontier;
mod pace;
mod progress;
mod read;

use std::io;
use std::mem::MaybeUninit;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cms_spec::dark::AccessBasis;
use jiff::Timestamp;
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;

use super::links::Links;
use super::mounts;
use crate::host::read_text;
use crate::storage::exclude::Pattern;
use crate::storage::tally::{Counts, Limits};

use self::frontier::Frontier;
use self::pace::{Meter, Pace};
use self::read::Reader;

pub(super) use self::checkpoint::{Done, resume};
pub(super) use self::pace::Budget;
pub(super) use self::progress::Progress;

/// Threads of all scans of one process. Those that hang on a dead mount stay, and opening a source again
/// must not add threads without end.
const THREADS_MAX: usize = 48;

/// The unit of first-level directories beyond [`frontier::UNITS_MAX`].
const OTHER_UNIT: &str = "other";

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// What to walk and how.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) root: PathBuf,
    /// The moment that ages are counted from.
    pub(super) as_of: Timestamp,
    pub(super) exclude: Arc<[Pattern]>,
    pub(super) cross_mounts: bool,
    /// Whether each directory below the root is a unit of its own.
    pub(super) is_split: bool,
    pub(super) threads: NonZero<usize>,
    pub(super) budget: Budget,
    /// Normally `/proc/self/mountinfo`.
    pub(super) mountinfo: PathBuf,
    /// Normally `/proc/pressure`.
    pub(super) pressure: PathBuf,
    /// What an earlier run of the same scan has counted.
    pub(super) done: Done,
}

/// What came of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Total {
    /// The root itself first, then each directory that is a unit of its own.
    pub(super) units: Vec<UnitTotal>,
    /// The weakest basis of all mounts that were walked.
    pub(super) basis: AccessBasis,
}

/// What was counted in one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnitTotal {
    /// The directory's name; none for the root.
    pub(super) name: Option<Vec<u8>>,
    pub(super) counts: Counts,
}

/// Why there is no total: what could not be read, the system's error number, and whether the service
/// manager hides the place from this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WalkError {
    pub(super) what: PathBuf,
    pub(super) error: i32,
    pub(super) is_hidden: bool,
}

/// What a walk ends with.
pub(super) type Outcome = Result<Total, WalkError>;

/// A walk at work; cancelled when dropped.
#[derive(Debug)]
pub(super) struct Walk {
    shared: Arc<Shared>,
}

/// What the threads of one walk share.
#[derive(Debug)]
struct Shared {
    order: Order,
    limits: Limits,
    frontier: Frontier,
    pace: Pace,
    progress: Progress,
    links: Mutex<Links>,
    ground: OnceLock<Ground>,
}

/// The root, once it is open.
#[derive(Debug)]
struct Ground {
    root: OwnedFd,
    canonical: PathBuf,
    mountinfo: String,
}

impl Walk {
    /// Starts the threads; nothing here waits for the disk.
    pub(super) fn start(order: Order) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            limits: Limits::at(order.as_of),
            frontier: Frontier::default(),
            pace: Pace::new(order.budget, order.pressure.clone()),
            progress: Progress::default(),
            links: Mutex::default(),
            ground: OnceLock::new(),
            order,
        });
        let first = Arc::clone(&shared);
        spawn(move || {
            if let Err(failure) = first.begin() {
                first.frontier.fail(failure);
                return;
            }
            Shared::start_threads(&first, 0, first.order.threads.get() - 1);
            Shared::work(&first, 0);
        })?;
        Ok(Self { shared })
    }

    /// How far it is.
    pub(super) fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    /// What came of it, once it has ended.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.shared.frontier.outcome()
    }

    /// Directories read in each filesystem that is still walked; the root's is number 0.
    pub(super) fn steps(&self) -> Vec<(usize, u64)> {
        self.shared.frontier.steps()
    }

    /// Leaves a filesystem below the root that hangs.
    pub(super) fn abandon(&self, lane: usize) {
        self.shared.frontier.abandon(lane);
    }

    /// What a restart could go on from, under a name for the order.
    pub(super) fn checkpoint(&self, order: &str) -> Option<String> {
        let started = self.shared.order.as_of;
        // Asked second, so that no subtree is taken for complete that a file was entangled with meanwhile.
        let done = self.shared.frontier.done();
        let entangled = self.shared.links().entangled();
        let subtrees = done
            .into_iter()
            .filter(|subtree| subtree.nodes.iter().all(|node| !entangled.contains(node)))
            .map(|subtree| (subtree.id, subtree.counts))
            .collect();
        checkpoint::keep(order, started, subtrees)
    }

    /// Waits until it has ended; nothing when it was cancelled.
    #[cfg(test)]
    fn wait(&self) -> Option<Outcome> {
        self.shared.frontier.wait()
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.shared.frontier.cancel();
        self.shared.pace.end();
    }
}

impl Shared {
    /// Opens the root, which may block for ever.
    fn begin(&self) -> Result<(), WalkError> {
        let order = &self.order;
        let mountinfo = read_text(&order.mountinfo).unwrap_or_default();
        let fail = |error: Errno| WalkError {
            what: order.root.clone(),
            error: error.raw_os_error(),
            is_hidden: mounts::of_path(&mountinfo, &order.root).is_hidden,
        };
        let canonical = order
            .root
            .canonicalize()
            .map_err(|e| fail(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
        let mount = mounts::of_path(&mountinfo, &canonical);
        if mount.is_hidden {
            // It can be opened with the right to read everything, and is empty.
            return Err(WalkError {
                is_hidden: true,
                ..fail(Errno::ACCESS)
            });
        }
        let root = read::open_root(&canonical).map_err(fail)?;
        let wanted = StatxFlags::TYPE | StatxFlags::INO;
        let stat = statx(&root, c"", AtFlags::EMPTY_PATH, wanted).map_err(fail)?;
        let device = read::device(&stat);
        let opened = self.ground.set(Ground {
            root,
            canonical,
            mountinfo,
        });
        if opened.is_ok() {
            let id = (device, stat.stx_ino);
            self.frontier.begin(id, device, mount.basis);
        }
        Ok(())
    }

    /// Adds threads to a lane, as far as there may be more.
    fn start_threads(shared: &Arc<Self>, lane: usize, threads: usize) {
        for _ in 0..threads {
            let more = Arc::clone(shared);
            if spawn(move || Self::work(&more, lane)).is_err() && lane > 0 {
                // Nobody else works there.
                shared.frontier.abandon(lane);
            }
        }
    }

    fn work(shared: &Arc<Self>, lane: usize) {
        let Some(ground) = shared.ground.get() else {
            return;
        };
        let mut reader = Reader {
            shared,
            ground,
            lane,
            meter: Meter::start(),
            surplus: 0,
        };
        let mut buffer = vec![MaybeUninit::uninit(); read::ENTRIES_BYTES];
        while let Some(task) = shared.frontier.take(lane) {
            reader.read(&task, &mut buffer);
        }
    }

    fn fail(&self, error: Errno) {
        self.frontier.fail(WalkError {
            what: self.order.root.clone(),
            error: error.raw_os_error(),
            is_hidden: false,
        });
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a thread that counts as one for as long as it lives.
fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    struct Running;

    impl Drop for Running {
        fn drop(&mut self) {
            THREADS.fetch_sub(1, Ordering::Relaxed);
        }
    }

    let more = |running| (running < THREADS_MAX).then_some(running + 1);
    if THREADS
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .is_err()
    {
        let why = "too many scan threads run already; some of them may hang on a dead mount";
        return Err(io::Error::other(why));
    }
    let running = Running;
    let thread = std::thread::Builder::new().name("scan".to_owned());
    thread
        .spawn(move || {
            work();
            drop(running);
        })
        .map(drop)
}

#[cfg(test)]
mod tests;
