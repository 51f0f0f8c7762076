//! The collecting loop: a task for each source, and a supervisor over them.
//!
//! Owns interval, deadline, missed ticks, panics, self-metrics and logging, so that no collector repeats
//! them. A source that hangs is abandoned at its deadline and opened again after a pause; the others do not
//! notice. Never waits for the network; what it takes goes into the store and nowhere else.

mod changes;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cms_collectors::{CollectError, Collector, Host, OpenError, Settings, Shown};
use cms_spec::Category;
use cms_spec::reading::Readings;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};

use crate::backoff::Backoff;
use crate::blocking::Blocking;
use crate::chance::Chance;
use crate::clock::Clock;
use crate::limits::{
    CHECKPOINT_BYTES_MAX, CHECKPOINT_EVERY, QUIET_TICKS, REOPEN_CEILING, REOPEN_FIRST, SECOND_TICK,
    SUPERVISE_EVERY, THREADS_OF_A_SOURCE,
};
use crate::metrics::{Metrics, Outcome};
use crate::status::{PartState, Status, error_chain};
use crate::store::{Store, StoreError};
use crate::watchdog::{Loop, Pulse};

pub use changes::{Changes, State};

/// One source to collect from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The collector's id, which stamps the samples.
    pub collector: &'static str,
    /// Whose figures it feeds.
    pub category: Category,
    /// Its checked configuration.
    pub settings: Arc<dyn Settings>,
}

/// What all sources share.
#[derive(Clone, Debug)]
pub struct Collecting {
    /// Where the machine is.
    pub host: Host,
    /// Where samples go.
    pub store: Store,
    /// Where states are shown.
    pub status: Status,
    /// Where ticks are counted.
    pub metrics: Metrics,
    /// Where the ledger is told of changes.
    pub changes: Changes,
    /// The time.
    pub clock: Clock,
    /// What pauses are spread by.
    pub chance: Chance,
    /// Where sources are read.
    pub blocking: Blocking,
    /// Told after each sample, for what waits for the first one.
    pub sampled: Arc<Notify>,
    /// Where the supervisor shows that it is alive.
    pub pulse: Pulse,
}

/// Why a tick took nothing.
#[derive(Debug, thiserror::Error)]
enum TickError {
    #[error("no answer within {0:?}; the source is abandoned and will be opened again")]
    Abandoned(Duration),
    #[error("the collector failed")]
    Collect(#[source] CollectError),
    #[error("the collector panicked; this is a bug, please report it with the log")]
    Panicked,
}

/// When a source does its work, and on how many threads.
struct Pace {
    begun: Instant,
    backoff: Backoff,
    threads: Arc<Semaphore>,
}

/// A collector after one tick, given back unless it hangs or panics.
struct Ticked {
    collector: Box<dyn Collector>,
    readings: Readings,
    progress: Option<String>,
    details: Vec<String>,
    shown: Vec<Shown>,
    trouble: Option<String>,
    checkpoint: Option<String>,
    result: Result<(), CollectError>,
}

/// What a source wants back after a restart, and when it was asked last.
#[derive(Default)]
struct Keeping {
    asked_at: Option<Instant>,
    kept: Option<String>,
}

/// Collects from all sources until the future is dropped.
///
/// Ticks of all sources fall on multiples of their intervals since the start, so that one wake-up of the
/// machine serves many.
pub async fn run(sources: Vec<Source>, collecting: Collecting) {
    let reopen = Backoff::new(REOPEN_FIRST, REOPEN_CEILING);
    run_with(sources, collecting, reopen).await;
}

async fn run_with(sources: Vec<Source>, collecting: Collecting, reopen: Backoff) {
    let begun = Instant::now();
    let names: Vec<String> = sources
        .iter()
        .map(|source| source.settings.name())
        .collect();
    let expected = names
        .iter()
        .cloned()
        .zip(sources.iter().map(|s| s.category));
    let told = collecting.changes.begin(&names).await;
    let expects = collecting.store.expect_sources(expected.collect()).await;
    if let Err(error) = told.and(expects) {
        collecting
            .status
            .set("store", PartState::Failed, Some(error_chain(&error)));
    }
    let mut tasks = JoinSet::new();
    for source in sources {
        let pace = Pace {
            begun,
            backoff: reopen,
            threads: Arc::new(Semaphore::new(THREADS_OF_A_SOURCE)),
        };
        tasks.spawn(collect_from(source, collecting.clone(), pace));
    }
    let mut supervise = interval_at(begun + SUPERVISE_EVERY, SUPERVISE_EVERY);
    supervise.set_missed_tick_behavior(MissedTickBehavior::Skip);
    collecting
        .pulse
        .beat(Loop::Collect, collecting.clock.monotonic());
    loop {
        supervise.tick().await;
        match collecting.store.ping().await {
            Ok(()) => collecting
                .pulse
                .beat(Loop::Collect, collecting.clock.monotonic()),
            Err(error) => {
                collecting
                    .status
                    .set("store", PartState::Failed, Some(error_chain(&error)));
            }
        }
    }
}

/// Opens one source, ticks it, and opens it again whenever it is lost.
async fn collect_from(source: Source, collecting: Collecting, mut pace: Pace) {
    let name = source.settings.name();
    collecting.status.set(&name, PartState::Starting, None);
    loop {
        match open(&source, &collecting, &pace.threads).await {
            Ok(Ok(mut collector)) => {
                give_back(&name, collector.as_mut(), &collecting.store).await;
                let lost = tick_until_lost(&name, &source, collector, &collecting, &mut pace).await;
                tracing::error!(source = %name, error = %error_chain(&lost), "source lost, it will be opened again");
                collecting.changes.is(&name, State::Failing).await;
                collecting
                    .status
                    .set(&name, PartState::Degraded, Some(error_chain(&lost)));
            }
            Ok(Err(OpenError::Absent(reason))) => {
                collecting.status.set(&name, PartState::Absent, None);
                collecting.changes.is(&name, State::Absent).await;
                tracing::info!(source = %name, reason, "this host has no such source");
            }
            Ok(Err(error)) => {
                tracing::warn!(source = %name, error = %error_chain(&error), "source cannot be opened yet");
                collecting.changes.is(&name, State::Failing).await;
                collecting
                    .status
                    .set(&name, PartState::Degraded, Some(error_chain(&error)));
            }
            Err(lost) => {
                tracing::error!(source = %name, error = %error_chain(&lost), "source cannot be opened, it will be tried again");
                collecting.changes.is(&name, State::Failing).await;
                collecting
                    .status
                    .set(&name, PartState::Degraded, Some(error_chain(&lost)));
            }
        }
        excuse(&name, &collecting.store).await;
        sleep(pace.backoff.next(collecting.chance.next())).await;
    }
}

/// A source without readings must not keep the first submissions waiting.
async fn excuse(name: &str, store: &Store) {
    if let Err(error) = store.excuse_source(name).await {
        tracing::debug!(source = %name, error = %error_chain(&error), "nobody can be told");
    }
}

/// Gives a source back what it wanted to find after a restart.
async fn give_back(name: &str, collector: &mut dyn Collector, store: &Store) {
    match store.checkpoint(name).await {
        Ok(Some(checkpoint)) => collector.resume(&checkpoint),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(source = %name, error = %error_chain(&error), "the source begins anew");
        }
    }
}

impl Keeping {
    /// Whether it is time to ask again.
    fn is_due(&mut self) -> bool {
        let is_due = self
            .asked_at
            .is_none_or(|at| at.elapsed() >= CHECKPOINT_EVERY);
        if is_due {
            self.asked_at = Some(Instant::now());
        }
        is_due
    }

    /// Writes what a source wants back, when that has changed.
    async fn keep(&mut self, name: &str, checkpoint: Option<String>, store: &Store) {
        let Some(checkpoint) = checkpoint else { return };
        if checkpoint.len() > CHECKPOINT_BYTES_MAX || self.kept.as_ref() == Some(&checkpoint) {
            return;
        }
        match store.keep_checkpoint(name, checkpoint.clone()).await {
            Ok(()) => self.kept = Some(checkpoint),
            // The next one is as good; what the loss costs is only work done twice.
            Err(error) => {
                tracing::debug!(source = %name, error = %error_chain(&error), "a checkpoint is not kept");
            }
        }
    }
}

/// Ticks a source at its interval until it hangs or panics.
async fn tick_until_lost(
    name: &str,
    source: &Source,
    mut collector: Box<dyn Collector>,
    collecting: &Collecting,
    pace: &mut Pace,
) -> TickError {
    let interval = source.settings.interval();
    let deadline = source.settings.deadline();
    let mut failing = false;
    let mut unwritten = false;
    let mut first = true;
    let mut keeping = Keeping::default();
    loop {
        let at = collecting.clock.now();
        let started = Instant::now();
        let asks = keeping.is_due();
        let ticking = tick(
            collector,
            (at, asks),
            deadline,
            &pace.threads,
            &collecting.blocking,
        );
        let ticked = match ticking.await {
            Ok(ticked) => ticked,
            Err(lost) => {
                collecting
                    .metrics
                    .tick(name, Outcome::Lost, started.elapsed());
                return lost;
            }
        };
        collector = ticked.collector;
        keeping
            .keep(name, ticked.checkpoint, &collecting.store)
            .await;
        collecting
            .status
            .describe_points(name, ticked.details, &ticked.shown);
        let quiet = ticked.result.is_ok()
            && ticked.readings.is_empty()
            && ticked.progress.is_none()
            && !collector.is_awaited();
        match ticked.result {
            Ok(()) => {
                pace.backoff.reset();
                if failing {
                    tracing::info!(source = %name, "source works again");
                }
                failing = false;
                collecting
                    .metrics
                    .tick(name, Outcome::Ok, started.elapsed());
                let changed = collecting.changes.works(name, &ticked.readings).await;
                match ticked.trouble {
                    Some(trouble) => {
                        let degraded = PartState::Degraded;
                        collecting.status.set(name, degraded, Some(trouble));
                    }
                    None => collecting.status.ok(name, ticked.progress.or(changed)),
                }
                let kept = keep(source.collector, name, at, ticked.readings, collecting).await;
                if kept.is_ok() {
                    collector.stored();
                }
                if let Err(error) = &kept
                    && !unwritten
                {
                    tracing::error!(source = %name, error = %error_chain(error), "samples cannot be written, their raw readings are lost until this heals");
                }
                unwritten = kept.is_err();
            }
            Err(error) => {
                collecting
                    .metrics
                    .tick(name, Outcome::Failed, started.elapsed());
                let error = error_chain(&TickError::Collect(error));
                // Said once when it begins; `status` and the metrics count the rest.
                if !failing {
                    tracing::warn!(source = %name, error, "source failed, its readings are missing until it heals");
                }
                excuse(name, &collecting.store).await;
                collecting.changes.is(name, State::Failing).await;
                failing = true;
                collecting
                    .status
                    .set(name, PartState::Degraded, Some(error));
            }
        }
        if first {
            first = false;
            sleep(SECOND_TICK.min(interval)).await;
        } else {
            let every = if quiet {
                interval * QUIET_TICKS
            } else {
                interval
            };
            sleep_until(next_tick(pace.begun, every, Instant::now())).await;
        }
    }
}

/// Opens a source as one tick is run: it may hang or panic like one.
async fn open(
    source: &Source,
    collecting: &Collecting,
    threads: &Arc<Semaphore>,
) -> Result<Result<Box<dyn Collector>, OpenError>, TickError> {
    let (settings, host) = (Arc::clone(&source.settings), collecting.host.clone());
    if let Blocking::OnCaller(_) = collecting.blocking {
        return Ok(settings.open(&host));
    }
    within(threads, source.settings.deadline(), move || {
        settings.open(&host)
    })
    .await
}

/// Runs one tick, and asks for a checkpoint with it where one is due.
async fn tick(
    mut collector: Box<dyn Collector>,
    (at, asks): (Timestamp, bool),
    deadline: Duration,
    threads: &Arc<Semaphore>,
    blocking: &Blocking,
) -> Result<Ticked, TickError> {
    let work = async move {
        let mut readings = Readings::default();
        let result = collector.collect(at, &mut readings).await;
        Ticked {
            progress: collector.progress(),
            details: collector.details(),
            shown: collector.shown(),
            trouble: collector.trouble(),
            checkpoint: asks.then(|| collector.checkpoint()).flatten(),
            collector,
            readings,
            result,
        }
    };
    if let Blocking::OnCaller(_) = blocking {
        let ticked = timeout(deadline, work).await;
        return ticked.map_err(|_| TickError::Abandoned(deadline));
    }
    let runtime = Handle::current();
    within(threads, deadline, move || runtime.block_on(work)).await
}

/// Does work on a thread that may block, and leaves it behind at the deadline.
///
/// Takes one of the threads that the source may have; they are all taken when it has hung too often, and it
/// then waits for one of them to come back, so that it cannot take the threads of the others.
async fn within<T: Send + 'static>(
    threads: &Arc<Semaphore>,
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TickError> {
    let Ok(thread) = Arc::clone(threads).acquire_owned().await else {
        return Err(TickError::Abandoned(deadline));
    };
    let caught = move || {
        let done = std::panic::catch_unwind(AssertUnwindSafe(work));
        drop(thread);
        done
    };
    match timeout(deadline, tokio::task::spawn_blocking(caught)).await {
        Err(_) => Err(TickError::Abandoned(deadline)),
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(_) => Err(TickError::Panicked),
    }
}

/// Stamps the readings and puts them into the store.
async fn keep(
    collector: &'static str,
    name: &str,
    at: Timestamp,
    mut readings: Readings,
    collecting: &Collecting,
) -> Result<(), StoreError> {
    let resume = readings.take_resume();
    let resume = resume.filter(|resume| resume.len() <= CHECKPOINT_BYTES_MAX);
    if readings.refused() > 0 {
        tracing::error!(source = %name, lost = readings.refused(), "more readings than one tick may hold");
    }
    if readings.is_empty() {
        return match resume {
            Some(resume) => collecting.store.keep_checkpoint(name, resume).await,
            None => Ok(()),
        };
    }
    let sample = readings.stamp(collector, at, &collecting.clock.boot_id());
    let kept = collecting.store.record_to(name, sample, resume).await;
    match &kept {
        Ok(()) => {
            collecting.status.ok("store", None);
            collecting.sampled.notify_one();
        }
        Err(error) => {
            collecting
                .status
                .set("store", PartState::Failed, Some(error_chain(error)));
        }
    }
    kept
}

/// The next multiple of the interval since the beginning.
fn next_tick(begun: Instant, interval: Duration, now: Instant) -> Instant {
    let whole = now.duration_since(begun).as_nanos() / interval.as_nanos().max(1);
    let whole = u32::try_from(whole).unwrap_or(u32::MAX);
    begun + interval.saturating_mul(whole.saturating_add(1))
}

#[cfg(test)]
mod tests;
