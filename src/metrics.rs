//! The agent's metrics about itself, in OpenMetrics text, and whether it is healthy, on a loopback address.
//!
//! Opt-in: without `metrics.listen` nothing listens. Labels are the configured sources and the five
//! categories, so the number of series is bounded by the configuration.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use cms_spec::Category;
use cms_spec::coverage::Forecast;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::net::TcpListener;

use crate::status::{PartState, Status};
use crate::store::Store;

/// The agent's counters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Families>);

/// How a tick ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The collector failed and will try again.
    Failed,
    /// The collector hung or panicked and was abandoned.
    Lost,
    /// Readings were taken, or there were none to take.
    Ok,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TickLabels {
    source: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SendLabels {
    category: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// A family without labels: unlike a bare gauge it says nothing before it is set.
type Alone = Vec<(String, String)>;

#[derive(Debug)]
struct Families {
    registry: Registry,
    ticks: Family<TickLabels, Counter>,
    tick_seconds: Family<TickLabels, Counter<f64, AtomicU64>>,
    sends: Family<SendLabels, Counter>,
    outbox: Family<StateLabels, Gauge>,
    coverage: Family<StateLabels, Gauge>,
    coverage_minimum: Family<Alone, Gauge<f64, AtomicU64>>,
    coverage_breach: Family<Alone, Gauge>,
    store_bytes: Gauge,
    store_damage: Counter,
    quarantine_bytes: Gauge,
    records_set_aside: Gauge,
    resident_bytes: Gauge,
    cpu_seconds: Gauge<f64, AtomicU64>,
    wake_ups: Gauge,
}

impl Metrics {
    /// All counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("cms_agent");
        let ticks = Family::default();
        let tick_seconds = Family::default();
        let sends = Family::default();
        let outbox = Family::default();
        let coverage = Family::default();
        let (coverage_minimum, coverage_breach) = (Family::default(), Family::default());
        let (store_bytes, resident_bytes) = (Gauge::default(), Gauge::default());
        let (store_damage, quarantine_bytes) = (Counter::default(), Gauge::default());
        let records_set_aside = Gauge::default();
        let (cpu_seconds, wake_ups) = (Gauge::default(), Gauge::default());
        registry.register(
            "ticks",
            "Ticks of each source, by how they ended",
            ticks.clone(),
        );
        registry.register_with_unit(
            "tick_duration",
            "Time spent in ticks of each source",
            Unit::Seconds,
            tick_seconds.clone(),
        );
        registry.register(
            "sends",
            "Attempts to submit, by category and answer",
            sends.clone(),
        );
        registry.register(
            "outbox_submissions",
            "Submissions in each state",
            outbox.clone(),
        );
        registry.register(
            "coverage_things",
            "Things of the inventory by what is to be done about them, and of them those whose time is over",
            coverage.clone(),
        );
        registry.register(
            "coverage_minimum_ratio",
            "The smallest share of the documented inventory that reports; 0.95 is needed",
            coverage_minimum.clone(),
        );
        registry.register_with_unit(
            "coverage_next_breach_timestamp",
            "When the next clock of a missing or unlisted thing runs out",
            Unit::Seconds,
            coverage_breach.clone(),
        );
        registry.register_with_unit(
            "store",
            "Size of the store on disk",
            Unit::Bytes,
            store_bytes.clone(),
        );
        registry.register(
            "store_damage",
            "Times that a part of the store was damaged and set aside, since it was first made",
            store_damage.clone(),
        );
        registry.register(
            "store_records_set_aside",
            "Records of the store that cannot be opened and were set aside",
            records_set_aside.clone(),
        );
        registry.register_with_unit(
            "store_quarantine",
            "Size of what was set aside",
            Unit::Bytes,
            quarantine_bytes.clone(),
        );
        registry.register_with_unit(
            "resident_memory",
            "Resident memory of the agent",
            Unit::Bytes,
            resident_bytes.clone(),
        );
        registry.register_with_unit(
            "cpu",
            "Processor time that the agent has used since its start",
            Unit::Seconds,
            cpu_seconds.clone(),
        );
        registry.register(
            "wake_ups",
            "Voluntary context switches of the agent's threads since their start",
            wake_ups.clone(),
        );
        Self(Arc::new(Families {
            registry,
            ticks,
            tick_seconds,
            sends,
            outbox,
            coverage,
            coverage_minimum,
            coverage_breach,
            store_bytes,
            store_damage,
            quarantine_bytes,
            records_set_aside,
            resident_bytes,
            cpu_seconds,
            wake_ups,
        }))
    }

    /// Counts a tick.
    pub fn tick(&self, source: &str, outcome: Outcome, took: Duration) {
        let labels = TickLabels {
            source: source.to_owned(),
            outcome: match outcome {
                Outcome::Failed => "failed",
                Outcome::Lost => "lost",
                Outcome::Ok => "ok",
            },
        };
        self.0.ticks.get_or_create(&labels).inc();
        self.0
            .tick_seconds
            .get_or_create(&labels)
            .inc_by(took.as_secs_f64());
    }

    /// Counts an attempt to submit.
    pub fn send(&self, category: Category, outcome: &'static str) {
        let labels = SendLabels {
            category: category.path(),
            outcome,
        };
        self.0.sends.get_or_create(&labels).inc();
    }

    /// Everything as OpenMetrics text, with the gauges read now.
    pub async fn text(&self, store: &Store, now: Timestamp) -> String {
        if let Ok(forecast) = store.coverage(now).await {
            self.covered(forecast.as_ref());
        }
        if let Ok(counts) = store.outbox_counts().await {
            let states = [
                ("pending", counts.pending),
                ("accepted", counts.accepted),
                ("receipted", counts.receipted),
                ("superseded", counts.superseded),
                ("rejected", counts.rejected),
            ];
            for (state, count) in states {
                let gauge = self.0.outbox.get_or_create(&StateLabels { state }).clone();
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        self.0
            .store_bytes
            .set(i64::try_from(store.size_bytes()).unwrap_or(i64::MAX));
        if let Ok(damage) = store.damage().await {
            // The store counts; a restart does not begin again.
            self.0
                .store_damage
                .inner()
                .store(damage.count, Ordering::Relaxed);
            let bytes = i64::try_from(damage.quarantined_bytes).unwrap_or(i64::MAX);
            self.0.quarantine_bytes.set(bytes);
        }
        if let Ok(set_aside) = store.set_aside().await {
            let records = i64::try_from(set_aside.values().sum::<u64>()).unwrap_or(i64::MAX);
            self.0.records_set_aside.set(records);
        }
        if let Some(own) = OwnCost::read() {
            self.0.resident_bytes.set(own.resident_bytes);
            self.0.cpu_seconds.set(own.cpu_seconds);
            self.0.wake_ups.set(own.wake_ups);
        }
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.0.registry) {
            tracing::debug!(%error, "the metrics could not be written");
        }
        text
    }
}

impl Metrics {
    /// What of the inventory reports; nothing is said without an inventory, or when no clock runs.
    fn covered(&self, forecast: Option<&Forecast>) {
        let families = &self.0;
        families.coverage.clear();
        families.coverage_minimum.clear();
        families.coverage_breach.clear();
        let Some(forecast) = forecast else {
            return;
        };
        let counts = forecast.counts;
        for (state, count) in [
            ("missing", counts.missing),
            ("unlisted", counts.unlisted),
            ("decommissioned", counts.decommissioned),
            ("overdue", forecast.overdue),
        ] {
            let gauge = families.coverage.get_or_create(&StateLabels { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let alone = Alone::new();
        if let Some(minimum) = forecast.minimum {
            let gauge = families.coverage_minimum.get_or_create(&alone);
            gauge.set(minimum.to_f64());
        }
        if let Some(at) = forecast.next_breach {
            families
                .coverage_breach
                .get_or_create(&alone)
                .set(at.as_second());
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves `/metrics` and `/healthz` until the future is dropped.
///
/// # Errors
/// When the address is taken.
pub async fn serve(
    listen: SocketAddr,
    metrics: Metrics,
    status: Status,
    store: Store,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let clock = status.clone();
    let page = move || {
        let (metrics, store, now) = (metrics.clone(), store.clone(), clock.now());
        async move {
            const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (
                [(header::CONTENT_TYPE, OPENMETRICS)],
                metrics.text(&store, now).await,
            )
        }
    };
    let health = move || {
        let status = status.clone();
        async move { health(&status) }
    };
    let router = Router::new()
        .route("/metrics", get(page))
        .route("/healthz", get(health));
    axum::serve(listener, router).await
}

/// Healthy means that no part needs a person; what heals itself is still healthy.
fn health(status: &Status) -> impl IntoResponse + use<> {
    let failed: Vec<String> = status
        .parts()
        .into_iter()
        .filter(|part| part.state == PartState::Failed)
        .map(|part| format!("{}: {}\n", part.name, part.last_error.unwrap_or_default()))
        .collect();
    if failed.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, failed.concat())
    }
}

/// What the agent itself costs.
struct OwnCost {
    resident_bytes: i64,
    cpu_seconds: f64,
    wake_ups: i64,
}

impl OwnCost {
    fn read() -> Option<Self> {
        let own = sysinfo::get_current_pid().ok()?;
        let mut system = System::new().ok()?;
        let what = ProcessRefreshKind::nothing().with_memory().with_cpu();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), true, what);
        let process = system.process(own)?;
        Some(Self {
            resident_bytes: i64::try_from(process.memory()).ok()?,
            cpu_seconds: Duration::from_millis(process.accumulated_cpu_time()).as_secs_f64(),
            wake_ups: wake_ups(),
        })
    }
}

/// Each time a thread of ours slept and was woken; sysinfo does not count it.
fn wake_ups() -> i64 {
    const COUNTER: &str = "voluntary_ctxt_switches:";
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return 0;
    };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok())
        .filter_map(|status| {
            let count = status.lines().find_map(|line| line.strip_prefix(COUNTER))?;
            count.trim().parse::<i64>().ok()
        })
        .sum()
}
