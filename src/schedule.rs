//! The collecting loop: a task for each source, and a supervisor over them.
//!
//! Owns interval, deadline, missed ticks, panics, self-metrics and logging, so that no collector repeats
//! them. A source that hangs is abandoned at its deadline and opened again after a pause; the others do not
//! notice. Never waits for the network; what it takes goes into the store and nowhere else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cms_collectors::{CollectError, Collector, Host, OpenError, Settings};
use cms_spec::Category;
use cms_spec::reading::Readings;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::identity;
use crate::limits::{REOPEN_CEILING, REOPEN_FIRST, SECOND_TICK, SUPERVISE_EVERY};
use crate::metrics::{Metrics, Outcome};
use crate::status::{PartState, Status, error_chain};
use crate::store::Store;
use crate::watchdog::{Loop, Pulse};

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
    /// The time.
    pub clock: Clock,
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

/// A collector on its way through one tick, given back unless it hangs or panics.
type Ticked = (Box<dyn Collector>, Readings, Result<(), CollectError>);

/// Collects from all sources until the future is dropped.
pub async fn run(sources: Vec<Source>, collecting: Collecting) {
    let names = sources
        .iter()
        .map(|source| (source.settings.name(), source.category))
        .collect();
    if let Err(error) = collecting.store.expect_sources(names).await {
        collecting
            .status
            .set("store", PartState::Failed, Some(error_chain(&error)));
    }
    let mut tasks = JoinSet::new();
    for source in sources {
        tasks.spawn(collect_from(source, collecting.clone()));
    }
    let mut supervise = interval_at(Instant::now() + SUPERVISE_EVERY, SUPERVISE_EVERY);
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
async fn collect_from(source: Source, collecting: Collecting) {
    let name = source.settings.name();
    let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_CEILING);
    collecting.status.set(&name, PartState::Starting, None);
    loop {
        match source.settings.open(&collecting.host) {
            Ok(collector) => {
                let lost =
                    tick_until_lost(&name, &source, collector, &collecting, &mut backoff).await;
                tracing::error!(source = %name, error = %error_chain(&lost), "source lost, it will be opened again");
                collecting
                    .status
                    .set(&name, PartState::Degraded, Some(error_chain(&lost)));
            }
            Err(OpenError::Absent(reason)) => {
                collecting.status.set(&name, PartState::Absent, None);
                tracing::info!(source = %name, reason, "this host has no such source");
            }
            Err(error) => {
                tracing::warn!(source = %name, error = %error_chain(&error), "source cannot be opened yet");
                collecting
                    .status
                    .set(&name, PartState::Degraded, Some(error_chain(&error)));
            }
        }
        excuse(&name, &collecting.store).await;
        sleep(backoff.next(random())).await;
    }
}

/// A source without readings must not keep the first submissions waiting.
async fn excuse(name: &str, store: &Store) {
    if let Err(error) = store.excuse_source(name).await {
        tracing::debug!(source = %name, error = %error_chain(&error), "nobody can be told");
    }
}

/// Ticks a source at its interval until it hangs or panics.
async fn tick_until_lost(
    name: &str,
    source: &Source,
    mut collector: Box<dyn Collector>,
    collecting: &Collecting,
    backoff: &mut Backoff,
) -> TickError {
    let interval = source.settings.interval();
    let deadline = source.settings.deadline();
    let mut failing = false;
    let mut first = true;
    let mut ticks = interval_at(Instant::now(), interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    loop {
        let at = collecting.clock.now();
        let started = Instant::now();
        let (given_back, readings, result) = match tick(collector, at, deadline).await {
            Ok(ticked) => ticked,
            Err(lost) => {
                collecting
                    .metrics
                    .tick(name, Outcome::Lost, started.elapsed());
                return lost;
            }
        };
        collector = given_back;
        match result {
            Ok(()) => {
                backoff.reset();
                if failing {
                    tracing::info!(source = %name, "source works again");
                }
                failing = false;
                collecting
                    .metrics
                    .tick(name, Outcome::Ok, started.elapsed());
                collecting.status.ok(name, collector.progress());
                keep(source.collector, name, at, readings, collecting).await;
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
            ticks.tick().await;
        }
    }
}

/// Runs one tick on a thread that may block, and leaves it behind at the deadline.
async fn tick(
    mut collector: Box<dyn Collector>,
    at: Timestamp,
    deadline: Duration,
) -> Result<Ticked, TickError> {
    let runtime = Handle::current();
    let work = tokio::task::spawn_blocking(move || {
        std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut readings = Readings::default();
            let result = runtime.block_on(collector.collect(at, &mut readings));
            (collector, readings, result)
        }))
    });
    match timeout(deadline, work).await {
        Err(_) => Err(TickError::Abandoned(deadline)),
        Ok(Ok(Ok(ticked))) => Ok(ticked),
        Ok(_) => Err(TickError::Panicked),
    }
}

/// Stamps the readings and puts them into the store.
async fn keep(
    collector: &'static str,
    name: &str,
    at: Timestamp,
    readings: Readings,
    collecting: &Collecting,
) {
    if readings.refused() > 0 {
        tracing::error!(source = %name, lost = readings.refused(), "more readings than one tick may hold");
    }
    if readings.is_empty() {
        return;
    }
    let sample = readings.stamp(collector, at, &collecting.clock.boot_id());
    match collecting.store.record(name, sample).await {
        Ok(()) => {
            collecting.status.ok("store", None);
            collecting.sampled.notify_one();
        }
        Err(error) => {
            let error = error_chain(&error);
            tracing::error!(source = %name, error, "a sample could not be written, its raw readings are lost");
            collecting
                .status
                .set("store", PartState::Failed, Some(error));
        }
    }
}

/// Without randomness the pauses are merely not spread.
fn random() -> u64 {
    identity::random_bytes().map_or(0, u64::from_le_bytes)
}
