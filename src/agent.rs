//! The composition root: builds the parts, starts the two loops, owns reload, drain and shutdown.
//!
//! Start order: store, identity, ledger, status, then both loops; nothing here waits for the network. A
//! reload replaces what the configuration says and keeps store, identity and everything waiting; a
//! configuration that is refused changes nothing. Shutdown order: stop collecting, write the `stop` leaf,
//! send what is ready within the grace period, close the store.

mod opened;
mod opening;
mod prune;
#[cfg(test)]
mod rotates;
mod sockets;
mod unset_clock;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cms_attest::leaf::LeafKind;
use cms_attest::origin::Origin;
use cms_collectors::Host;
use cms_spec::payload::build::Context;
use sd_notify::NotifyState;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::api_keys::ApiKeys;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::comparisons::Comparisons;
use crate::config::{Config, ConfigErrors, Witness};
use crate::events::Events;
use crate::identity::{self, Identity, IdentityError, Machine};
use crate::limits::{REOPEN_CEILING, REOPEN_FIRST};
use crate::metrics::{self, Metrics};
use crate::schedule::{self, Changes, Collecting, Source};
use crate::seal::{KeyError, StoreKey};
use crate::status::{PartState, Status, error_chain};
use crate::store::{Sender, Store, StoreError};
use crate::submit::{Submitting, Taken};
use crate::transport::tls::TlsFiles;
use crate::transport::web::{Outbound, all_left};
use crate::transport::{Transport, TransportError};
use crate::watchdog::{self, Pulse};
use crate::witness::{self, Witnessing};
use crate::world::World;
use opened::Opened;
use opening::{nameplate, start_note};
use prune::Pruning;
use unset_clock::clock_is_set;

pub use waiting::run;

/// What a running agent can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Read the configuration again.
    Reload,
    /// Drain and end.
    Shutdown,
}

/// An agent that has everything it needs and has not started its loops.
#[derive(Debug)]
pub struct Agent {
    config_path: PathBuf,
    config: Config,
    machine: Machine,
    store: Store,
    key: StoreKey,
    identity: Arc<Identity>,
    origin: Origin,
    /// What the first leaf says.
    start: String,
    api_keys: ApiKeys,
    world: World,
    clock: Clock,
    status: Status,
    metrics: Metrics,
    pulse: Pulse,
    sampled: Arc<Notify>,
    rotating: Arc<Notify>,
    accepted: Option<mpsc::Sender<Taken>>,
}

/// The tasks of one configuration; ended when dropped.
struct Generation {
    tasks: JoinSet<()>,
}

impl Agent {
    /// Opens store and identity. Needs no network and starts nothing.
    ///
    /// # Errors
    /// When the store or the keys cannot be used.
    pub async fn open(
        config_path: &Path,
        config: Config,
        world: World,
        accepted: Option<mpsc::Sender<Taken>>,
    ) -> Result<Self, AgentError> {
        let opened = Opened::open(&config, &world).await?;
        Ok(Self::with(config_path, config, world, accepted, opened))
    }

    fn with(
        config_path: &Path,
        config: Config,
        world: World,
        accepted: Option<mpsc::Sender<Taken>>,
        opened: Opened,
    ) -> Self {
        let Opened {
            key,
            store,
            machine,
            identity,
            found,
            receipt,
            origin,
        } = opened;
        let clock = world.clock.clone();
        let status = Status::new(nameplate(&config, &identity, &key), clock.clone());
        let start = start_note(&found, &status, receipt);
        Self {
            config_path: config_path.to_owned(),
            api_keys: ApiKeys::new(&config.dashboard),
            config,
            machine,
            store,
            key,
            identity,
            origin,
            start,
            world,
            clock,
            status,
            metrics: Metrics::new(),
            pulse: Pulse::default(),
            sampled: Arc::new(Notify::new()),
            rotating: Arc::new(Notify::new()),
            accepted,
        }
    }

    /// Runs until it is told to shut down.
    ///
    /// # Errors
    /// When the first configuration cannot be put to work. A later one that cannot is refused.
    pub async fn run(mut self, mut control: mpsc::Receiver<Control>) -> Result<(), AgentError> {
        if let Err(error) = self.event(LeafKind::Start, &self.start).await {
            tracing::error!(error = %error_chain(&error), "the start has no leaf");
        }
        let digest = self.config.resolved.digest();
        self.note_configuration(&format!("configuration {digest} in use"))
            .await;
        let _status_socket =
            sockets::serve_status(&self.config.status_socket, &self.status, &self.store);
        let _watchdog = AbortOnDrop(tokio::spawn(watchdog::feed(
            self.pulse.clone(),
            self.clock.clone(),
        )));
        self.status.compared(Comparisons::kept(&self.store).await);
        let mut generation = self.start()?;
        tracing::info!(
            company = %self.origin.company(),
            agent_id = %self.origin.agent_id(),
            dashboard = %self.config.dashboard.endpoint,
            store = %self.store.path().display(),
            sources = self.config.sources.len(),
            "agent started"
        );
        watchdog::notify(&[NotifyState::Ready, NotifyState::Status(&self.in_words())]);
        while let Some(Control::Reload) = control.recv().await {
            generation = self.reload(generation).await;
        }
        watchdog::notify(&[NotifyState::Stopping]);
        self.shut_down(generation).await
    }

    fn start(&self) -> Result<Generation, AgentError> {
        let submitting = self.submitting()?;
        let host = self.host()?;
        let sources = sources(&self.config);
        let mut parts: Vec<String> = sources
            .iter()
            .map(|source| source.settings.name())
            .collect();
        parts.extend(
            [
                "api-key",
                "clock",
                "dashboard",
                "identity",
                "keys",
                "metrics",
                "receipts",
                "store",
            ]
            .map(str::to_owned),
        );
        parts.extend(self.config.witnesses.iter().map(witness::part));
        self.status.keep_only(&parts);
        let collecting = Collecting {
            host,
            store: self.store.clone(),
            status: self.status.clone(),
            metrics: self.metrics.clone(),
            changes: Changes::new(self.events(), self.store.clone(), self.clock.clone()),
            clock: self.clock.clone(),
            chance: self.world.chance.clone(),
            blocking: self.world.blocking.clone(),
            sampled: Arc::clone(&self.sampled),
            pulse: self.pulse.clone(),
        };
        let mut tasks = JoinSet::new();
        self.serve_control(&mut tasks);
        for witnessing in self.witnessing()? {
            tasks.spawn(witnessing.run());
        }
        let (clock, pulse, status) = (self.clock.clone(), self.pulse.clone(), self.status.clone());
        tasks.spawn(async move {
            clock_is_set(&clock, &pulse, &status).await;
            let mut loops = JoinSet::new();
            loops.spawn(schedule::run(sources, collecting));
            loops.spawn(keep_submitting(submitting, status));
            loops.join_all().await;
        });
        tasks.spawn(prune::run(Pruning {
            store: self.store.clone(),
            clock: self.clock.clone(),
            limits: self.config.store.clone(),
            events: self.events(),
        }));
        if let Some(listen) = self.config.metrics_listen {
            let (metrics, status, store) = (
                self.metrics.clone(),
                self.status.clone(),
                self.store.clone(),
            );
            tasks.spawn(async move {
                if let Err(error) = metrics::serve(listen, metrics, status.clone(), store).await {
                    tracing::warn!(%listen, %error, "cannot serve metrics");
                    status.set(
                        "metrics",
                        PartState::Failed,
                        Some(format!("cannot listen on {listen}: {error}")),
                    );
                }
            });
        }
        Ok(Generation { tasks })
    }

    /// Puts a changed configuration to work, or keeps the one at work when the new one is refused.
    async fn reload(&mut self, running: Generation) -> Generation {
        let now = i128::try_from(self.clock.monotonic().as_micros()).unwrap_or(i128::MAX);
        watchdog::notify(&[NotifyState::Reloading, NotifyState::MonotonicUsec(now)]);
        let mut refused = "";
        let before = self.config.resolved.digest();
        let generation = match self.take_new_configuration().await {
            Ok(()) => {
                // Two generations never run side by side: they would tick and submit twice.
                self.end(running).await;
                match self.start() {
                    Ok(generation) => {
                        let digest = self.config.resolved.digest();
                        let note = if digest == before {
                            format!("configuration reloaded: {digest} as before")
                        } else {
                            format!("configuration reloaded: {digest}, was {before}")
                        };
                        tracing::info!(
                            sources = self.config.sources.len(),
                            %digest,
                            "configuration reloaded"
                        );
                        self.note_configuration(&note).await;
                        generation
                    }
                    Err(error) => {
                        tracing::error!(error = %error_chain(&error), "the configuration that was just checked cannot be started; correct it and reload");
                        Generation {
                            tasks: JoinSet::new(),
                        }
                    }
                }
            }
            Err(error) => {
                // In the message and not beside it: it is lines with a caret, made to be read as they are.
                tracing::error!(
                    "the new configuration is refused, the old one stays at work\n{error}"
                );
                refused = "; the last reload was refused, see the log";
                running
            }
        };
        let words = self.in_words() + refused;
        watchdog::notify(&[NotifyState::Ready, NotifyState::Status(&words)]);
        generation
    }

    /// Takes the configuration file's new content if everything can be built from it; else nothing changes.
    async fn take_new_configuration(&mut self) -> Result<(), String> {
        let config = Config::load(&self.config_path, &hostname())
            .map_err(|errors: ConfigErrors| errors.render(false))?;
        if config.store.path != self.config.store.path {
            return Err("store.path cannot be changed by a reload: restart the agent".to_owned());
        }
        if (&config.store.key, &config.store.old_key)
            != (&self.config.store.key, &self.config.store.old_key)
        {
            return Err("store.key cannot be changed by a reload: restart the agent".to_owned());
        }
        if config.status_socket != self.config.status_socket {
            return Err(
                "status.socket cannot be changed by a reload: restart the agent".to_owned(),
            );
        }
        // All that can be refused comes before the ledger, where another company begins a new epoch.
        (self.world.connect)(&config.dashboard.endpoint, &tls_files(&config))
            .map_err(|error| error_chain(&error))?;
        for witness in &config.witnesses {
            self.connect_to(witness)
                .map_err(|error| error_chain(&error))?;
        }
        self.machine
            .instance(&config.company_id)
            .map_err(|error| error_chain(&error))?;
        let agent_id = self.identity.agent_id().clone();
        let origin = self
            .store
            .origin(
                config.company_id.clone(),
                agent_id,
                identity::moment(&self.clock, &ApiKeys::new(&config.dashboard)),
            )
            .await;
        self.origin = origin.map_err(|error| error_chain(&error))?;
        self.api_keys = ApiKeys::new(&config.dashboard);
        self.config = config;
        self.status
            .rename(nameplate(&self.config, &self.identity, &self.key));
        Ok(())
    }

    async fn note_configuration(&self, note: &str) {
        if let Err(error) = self.event(LeafKind::Config, note).await {
            tracing::error!(error = %error_chain(&error), "the configuration has no leaf");
        }
    }

    /// Ends the tasks of a configuration. What one of them was sending may have arrived or not: it is sent
    /// again, and counted once.
    async fn end(&self, mut generation: Generation) {
        generation.tasks.shutdown().await;
        if let Err(error) = self.store.put_back().await {
            tracing::error!(error = %error_chain(&error), "what was being sent stays until the next start");
        }
    }

    async fn shut_down(mut self, generation: Generation) -> Result<(), AgentError> {
        tracing::info!("stopping");
        self.end(generation).await;
        // The submit loop may have begun a new epoch since the start.
        self.origin = self.events().newest().await?;
        // Before the drain, so that the last receipt covers the last leaf.
        self.event(LeafKind::Stop, "stopped on request").await?;
        self.submitting()?.drain().await;
        all_left().await;
        // Here and not when the store's thread ends: the process may be gone before it has.
        self.store.let_go().await?;
        tracing::info!("stopped");
        Ok(())
    }

    fn submitting(&self) -> Result<Submitting, AgentError> {
        let config = &self.config;
        Ok(Submitting {
            store: self.store.clone(),
            identity: Arc::clone(&self.identity),
            sender: Sender {
                origin: self.origin.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                site: config.site.clone(),
            },
            transport: (self.world.connect)(&config.dashboard.endpoint, &tls_files(config))?,
            api_keys: self.api_keys.clone(),
            context: Context {
                energy: config.energy.clone(),
            },
            categories: config.categories(),
            schedule: config.schedule.clone(),
            status: self.status.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            chance: self.world.chance.clone(),
            sampled: Arc::clone(&self.sampled),
            rotating: Arc::clone(&self.rotating),
            pulse: self.pulse.clone(),
            accepted: self.accepted.clone(),
        })
    }

    fn witnessing(&self) -> Result<Vec<Witnessing>, AgentError> {
        let one = |witness: &Witness| {
            Ok(Witnessing {
                transport: self.connect_to(witness)?,
                witness: witness.clone(),
                store: self.store.clone(),
                identity: Arc::clone(&self.identity),
                events: self.events(),
                status: self.status.clone(),
                chance: self.world.chance.clone(),
            })
        };
        self.config.witnesses.iter().map(one).collect()
    }

    fn connect_to(&self, witness: &Witness) -> Result<Transport, TransportError> {
        let files = TlsFiles {
            ca_file: witness.ca_file.clone(),
            client_certificate: None,
        };
        (self.world.connect)(&witness.url, &files)
    }

    fn host(&self) -> Result<Host, AgentError> {
        let instance = self.machine.instance(self.origin.company())?;
        Ok(Host::local(
            instance,
            self.config.site.clone(),
            Arc::clone(&self.world.web),
        ))
    }

    /// What `systemctl status` shows.
    fn in_words(&self) -> String {
        format!(
            "{} sources, submitting to {}",
            self.config.sources.len(),
            self.config.dashboard.endpoint
        )
    }

    async fn event(&self, kind: LeafKind, note: &str) -> Result<(), StoreError> {
        self.events().write(kind, note).await
    }

    fn events(&self) -> Events {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Events::new(store, &self.origin, clock, self.api_keys.clone())
    }
}

fn sources(config: &Config) -> Vec<Source> {
    let source = |source: &crate::config::Source| Source {
        collector: source.registration.id,
        category: source.registration.category,
        settings: Arc::clone(&source.settings),
    };
    config.sources.iter().map(source).collect()
}

/// The machine's name, which stands in for a site that is not configured.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The instance id under which this machine reports for a company.
///
/// # Errors
/// Never for a machine id that is text.
pub fn local_host(config: &Config, clock: &Clock) -> Result<Host, AgentError> {
    let instance = Machine::local(&clock.boot_id()).instance(&config.company_id)?;
    Ok(Host::local(
        instance,
        config.site.clone(),
        Arc::new(Outbound),
    ))
}

/// The certificate files that the configuration names.
#[must_use]
pub fn tls_files(config: &Config) -> TlsFiles {
    let client = config.dashboard.client_identity.as_ref();
    TlsFiles {
        ca_file: config.dashboard.ca_file.clone(),
        client_certificate: client.map(|files| (files.cert_file.clone(), files.key_file.clone())),
    }
}

/// Starts the submit loop again should it ever panic: a silent agent would be the worse bug.
async fn keep_submitting(submitting: Submitting, status: Status) {
    let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_CEILING);
    loop {
        let mut again = submitting.clone();
        let mut task = JoinSet::new();
        task.spawn(async move { again.run().await });
        if let Some(Err(error)) = task.join_next().await {
            let error = format!(
                "submitting panicked; this is a bug, please report it with the log: {error}"
            );
            tracing::error!("{error}");
            status.set("dashboard", PartState::Failed, Some(error));
        }
        tokio::time::sleep(backoff.next(0)).await;
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The keys cannot be used.
    #[error("cannot use the agent's identity")]
    Identity(#[from] IdentityError),
    /// The key of the store is missing or cannot be used.
    #[error("cannot open what the store holds")]
    Key(#[from] KeyError),
    /// The machine has no usable id.
    #[error("cannot name this instance")]
    Instance(#[from] cms_spec::ids::NameError),
    /// The store cannot be used.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// The dashboard's address or certificates cannot be used.
    #[error("cannot set up the way to the dashboard")]
    Transport(#[from] TransportError),
}
