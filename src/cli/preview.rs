//! `preview`: collect now and print the exact body that would be sent. Nothing is sent or stored.
//!
//! Where an agent has been running, its windows are read from the store, so that the 30-day averages are the
//! real ones; what is collected now comes on top, in memory only. What decided the kinds of tasks is told beside the body,
//! for it does not leave the host.

mod decisions;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use cms_collectors::{Decisions, Host, Settings};
use cms_spec::payload::build::{Context, Payload};
use cms_spec::payload::{AgentInfo, Delivery, Envelope, Role, SCHEMA};
use cms_spec::provenance::Origin;
use cms_spec::reading::{Quantity, Reading, Readings, Sample, Value};
use cms_spec::windows::Windows;
use cms_spec::{Category, Slot, Subject};
use tokio::time::sleep;

use super::progress::Progress;
use super::{CliError, ExitStatus, beside, load, print, run, tell};
use crate::agent;
use crate::clock::Clock;
use crate::config::Config;
use crate::seal::StoreKey;
use crate::store;
use crate::transport::web::all_left;

/// How long two looks at a counter lie apart: long enough for a rate that means something.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// How long a value stands that was read once.
const A_MOMENT: Duration = Duration::from_millis(5);

/// How often a source that works in the background is asked whether it is done.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Looks at a source that waits for a device: a slow one answers twice within half a minute.
const LOOKS_MAX: u32 = 45;

/// Looks at a source that has nothing to give, until it counts as empty.
const EMPTY_LOOKS_MAX: u32 = 3;

/// What helps when the store of the agent cannot be read.
const KEPT_HINT: &str = "run it as the agent's user and with its credentials";

/// A body names the ledger's index; a preview has none and is no leaf.
const NO_SEQUENCE: u64 = 0;

/// Collects now and prints the exact body that would be sent.
#[derive(Debug, Args)]
pub(super) struct Preview {
    /// ghost-compute, model-efficiency, dark-data, heat-recovery or coverage-verification.
    category: Category,

    /// Print the exact bytes on one line instead of an indented form, and nothing besides.
    #[arg(long)]
    json: bool,

    /// Of model-efficiency: print what decided the kinds of tasks instead of the body, with --json as one object.
    #[arg(long)]
    decisions: bool,
}

/// What came of a look at sources besides readings.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Why sources were left out.
    pub(super) failed: Vec<CliError>,
    /// What decided the kinds of tasks.
    decisions: Option<Decisions>,
}

impl Preview {
    pub(super) fn run(self, config_path: &Path) -> Result<ExitStatus, CliError> {
        if self.decisions && self.category != Category::ModelEfficiency {
            return Err(CliError::Failed {
                status: ExitStatus::Usage,
                chain: format!("nothing is decided for {}", self.category),
                hint: Some("--decisions goes with model-efficiency".to_owned()),
            });
        }
        let config = load(config_path)?;
        run::runtime()?.block_on(self.collect_and_print(&config))
    }

    async fn collect_and_print(self, config: &Config) -> Result<ExitStatus, CliError> {
        let clock = Clock::system();
        let host = agent::local_host(config, &clock).map_err(|error| CliError::failed(&error))?;
        let mut windows = kept_windows(config)?;
        // Coverage compares with everything that reports, so it needs a look at every source.
        let wanted =
            |category| category == self.category || self.category == Category::CoverageVerification;
        let Looked {
            mut failed,
            decisions,
        } = collect(config, &wanted, &host, &clock, &mut windows).await;
        let now = clock.now();
        if self.decisions {
            print(&decisions::asked_for(decisions.as_ref(), self.json)?);
            return Ok(ended(&failed));
        }
        let slot = Slot {
            start: config.schedule.cadence(self.category).slot_at(now).start,
            end: now,
        };
        let closed = windows
            .close(self.category, slot)
            .map_err(|nothing| match failed.pop() {
                // Why there is nothing says more than that there is nothing.
                Some(error) => error,
                None => CliError::Failed {
                    status: ExitStatus::Problem,
                    chain: format!(
                        "there is nothing to say for {}: {}",
                        self.category, nothing.reason
                    ),
                    hint: Some(
                        "switch on a source for it in the configuration; `check` shows all sources"
                            .to_owned(),
                    ),
                },
            })?;
        let agent = AgentInfo {
            agent_id: agent_id(config),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            site: Some(config.site.clone()),
            role: Role::Node,
            slot,
            sequence: NO_SEQUENCE,
            delivery: Delivery::Live,
            schema: SCHEMA.to_owned(),
        };
        let payload = Payload::build(
            closed,
            &Context {
                energy: config.energy.clone(),
            },
        );
        let bytes = payload.canonical(&config.company_id, agent).into_bytes();
        print(&if self.json {
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            indented(&bytes)?
        });
        print("\n");
        if let Some(decisions) = decisions.filter(|_| !self.json) {
            beside(&format!("\n{}", decisions::text(&decisions)));
        }
        Ok(ended(&failed))
    }
}

/// Tells what failed, and how the program ends after it.
fn ended(failed: &[CliError]) -> ExitStatus {
    for error in failed {
        error.print();
    }
    if failed.is_empty() {
        ExitStatus::Ok
    } else {
        ExitStatus::Problem
    }
}

/// The windows of the agent that has run here.
pub(super) fn kept_windows(config: &Config) -> Result<Windows, CliError> {
    let Some(key) = kept_key(config)? else {
        return Ok(Windows::default());
    };
    store::read_windows(&config.store.path, &key)
        .map_err(|error| CliError::of_store(&error).hint(KEPT_HINT))
}

/// The key of the store of an agent that has run here.
fn kept_key(config: &Config) -> Result<Option<StoreKey>, CliError> {
    if !config.store.path.join("store.db").exists() {
        return Ok(None);
    }
    store::key::find(&config.store).map_err(|error| CliError::configuration(&error).hint(KEPT_HINT))
}

/// Where a source goes on. What its agent has read is in the windows already, and must not count again.
fn kept_checkpoint(config: &Config, source: &str) -> Option<String> {
    let key = kept_key(config).ok()??;
    store::read_checkpoint(&config.store.path, &key, source).ok()?
}

/// Looks at every wanted source. One that fails is left out, as the agent would, and its error comes back.
pub(super) async fn collect(
    config: &Config,
    wanted: &(dyn Fn(Category) -> bool + Sync),
    host: &Host,
    clock: &Clock,
    windows: &mut Windows,
) -> Looked {
    let mut all = Looked::default();
    let mut progress = Progress::new("collecting");
    for source in &config.sources {
        let registration = source.registration;
        if wanted(registration.category) {
            let settings = &source.settings;
            let looked = look(
                registration.id,
                (settings, kept_checkpoint(config, &settings.name())),
                host,
                clock,
                windows,
                &mut progress,
            );
            match looked.await {
                Ok(decisions) => all.decisions = all.decisions.or(decisions),
                Err(error) => all.failed.push(error),
            }
        }
    }
    progress.finish();
    all_left().await;
    all
}

/// Ticks a source until it has given all that it has: two looks for counters, to the end for a scan.
async fn look(
    collector_id: &str,
    (settings, kept): (&Arc<dyn Settings>, Option<String>),
    host: &Host,
    clock: &Clock,
    windows: &mut Windows,
    progress: &mut Progress,
) -> Result<Option<Decisions>, CliError> {
    let name = settings.name();
    let failed = |error: &dyn std::error::Error| {
        CliError::failed(error).hint(&format!("the source is {name}; `check` says more"))
    };
    let mut collector = settings.open(host).map_err(|error| failed(&error))?;
    if let Some(kept) = kept {
        collector.resume(&kept);
    }
    let (mut looks, mut empty_looks) = (0_u32, 0_u32);
    let mut lone = Lone::default();
    loop {
        let mut readings = Readings::default();
        collector
            .collect(clock.now(), &mut readings)
            .await
            .map_err(|error| failed(&error))?;
        let taken = !readings.is_empty();
        let has_counters = readings.has_values();
        if taken {
            let sample = readings.stamp(collector_id, clock.now(), &clock.boot_id());
            windows.observe(&sample);
            lone.take(&sample);
            looks += 1;
        } else if collector.progress().is_none() && !collector.is_waiting() {
            empty_looks += 1;
        }
        if empty_looks >= EMPTY_LOOKS_MAX {
            return Ok(collector.decisions());
        }
        let is_enough = looks >= 2 && (!collector.is_waiting() || looks >= LOOKS_MAX);
        if (taken && !has_counters) || is_enough {
            // A value stands from one moment to a later one.
            sleep(A_MOMENT).await;
            for subject in lone.stand(windows, clock) {
                tell(&format!(
                    "{subject} was read once; the preview shows what was read, a submission shows the mean over time"
                ));
            }
            return Ok(collector.decisions());
        }
        let doing = collector.progress().unwrap_or_else(|| {
            let waits = "waiting for the first answers of a device";
            let doing = if looks >= 2 { waits } else { "collecting" };
            doing.to_owned()
        });
        progress.say(&format!("{name}: {doing}"));
        sleep(if has_counters {
            BETWEEN_LOOKS
        } else {
            ASK_AGAIN
        })
        .await;
    }
}

/// Gauges that were read once. Between two readings a gauge is a mean; one of a dated value has no second one for
/// minutes, and would be missing in a preview though it is there.
#[derive(Default)]
struct Lone {
    first: Option<Sample>,
    seen: BTreeMap<(Subject, Quantity), (Reading, Origin, u32)>,
}

impl Lone {
    fn take(&mut self, sample: &Sample) {
        for reading in &sample.readings {
            let origin = sample.origins.get(usize::from(reading.origin));
            let (Value::Gauge(_), Some(origin)) = (reading.value, origin) else {
                continue;
            };
            let name = (reading.subject.clone(), reading.quantity);
            let seen = || (reading.clone(), origin.clone(), 0);
            self.seen.entry(name).or_insert_with(seen).2 += 1;
        }
        self.first.get_or_insert_with(|| sample.clone());
    }

    /// Lets what was read once stand until now. Answers what that is.
    fn stand(self, windows: &mut Windows, clock: &Clock) -> Vec<String> {
        let Some(first) = self.first else {
            return Vec::new();
        };
        let mut again = Readings::default();
        let mut named = Vec::new();
        for ((subject, quantity), (reading, origin, times)) in self.seen {
            if times == 1 {
                let origin = again.origin(origin);
                again.push(&subject, quantity, reading.value, origin);
                named.push(format!("{subject}: {}", in_words(quantity)));
            }
        }
        if !named.is_empty() {
            windows.observe(&again.stamp(&first.collector, clock.now(), &first.boot));
        }
        named
    }
}

fn in_words(quantity: Quantity) -> String {
    let name = serde_json::to_value(quantity).unwrap_or_default();
    name.as_str().unwrap_or("a value").replace('_', " ")
}

/// The id of the agent that has run here, if one has.
fn agent_id(config: &Config) -> String {
    let path = config.store.path.join("identity").join("agent-id");
    std::fs::read_to_string(path).map_or_else(|_| "preview".to_owned(), |id| id.trim().to_owned())
}

fn indented(bytes: &[u8]) -> Result<String, CliError> {
    serde_json::from_slice::<Envelope>(bytes)
        .and_then(|envelope| serde_json::to_string_pretty(&envelope))
        .map_err(|error| CliError::failed(&error))
}
