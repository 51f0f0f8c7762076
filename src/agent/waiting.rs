//! An agent whose disk cannot be used yet: it answers `status`, reads its sources, and tries again.
//!
//! No permission, no space, a read-only file system, something else in the place of `store.path`: none of it
//! is damage, and nothing is moved. What is read meanwhile is held in memory up to a bound and recorded once
//! the disk can be used, without a restart. A key that is wrong or missing is a person's to put right; that
//! ends the agent, as does another agent on the same store.

use std::path::Path;
use std::sync::Arc;

use cms_attest::leaf::LeafKind;
use cms_attest::origin::Origin;
use sd_notify::NotifyState;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::opened::Opened;
use super::{AbortOnDrop, Agent, AgentError, Control, hostname, sources};
use crate::api_keys::ApiKeys;
use crate::config::Config;
use crate::events::Events;
use crate::identity::IdentityError;
use crate::limits::STORE_RETRY;
use crate::metrics::Metrics;
use crate::schedule::{self, Changes, Collecting};
use crate::seal::KeyError;
use crate::status::{KeyRow, Nameplate, PartState, Status, error_chain};
use crate::store::{Store, StoreError};
use crate::submit::Taken;
use crate::watchdog::{self, Loop, Pulse};
use crate::world::World;

/// Stands in the ledger's name while the agent's own id cannot be read. Nothing is written under it.
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

/// What goes on while the disk is waited for. It ends when it is dropped.
struct Meanwhile {
    store: Store,
    status: Status,
    pulse: Pulse,
    _status_socket: Option<AbortOnDrop>,
    _tasks: JoinSet<()>,
}

/// Runs an agent until it is told to shut down, from the moment at which its disk can be used.
///
/// # Errors
/// When something stands in the way that does not pass by itself, or as [`Agent::run`].
pub async fn run(
    config_path: &Path,
    mut config: Config,
    world: World,
    accepted: Option<mpsc::Sender<Taken>>,
    mut control: mpsc::Receiver<Control>,
) -> Result<(), AgentError> {
    let mut meanwhile: Option<Meanwhile> = None;
    loop {
        let error = match Opened::open(&config, &world).await {
            Ok(opened) => {
                let agent = Agent::with(config_path, config, world, accepted, opened);
                if let Some(meanwhile) = meanwhile.take() {
                    meanwhile.hand_over(&agent).await?;
                }
                return agent.run(control).await;
            }
            Err(error) if may_pass(&error) => error_chain(&error),
            Err(error) => return Err(error),
        };
        match &meanwhile {
            Some(meanwhile) => meanwhile.say(&error).await?,
            None => meanwhile = Some(Meanwhile::begin(&config, &world, &error).await?),
        }
        match tokio::time::timeout(STORE_RETRY, control.recv()).await {
            Err(_) => {}
            Ok(Some(Control::Reload)) => match Config::load(config_path, &hostname()) {
                Ok(new) => {
                    config = new;
                    // Other sources, perhaps, and another path: begun anew with them.
                    meanwhile = None;
                }
                Err(refused) => tracing::error!(
                    "the new configuration is refused, the old one stays at work\n{}",
                    refused.render(false)
                ),
            },
            Ok(Some(Control::Shutdown) | None) => {
                watchdog::notify(&[NotifyState::Stopping]);
                return Ok(());
            }
        }
    }
}

impl Meanwhile {
    async fn begin(config: &Config, world: &World, error: &str) -> Result<Self, AgentError> {
        tracing::error!(
            error,
            "the store cannot be used yet; sources are read, and it is tried again every few seconds; `check` shows what stands in the way"
        );
        let (clock, blocking) = (world.clock.clone(), world.blocking.clone());
        let path = &config.store.path;
        let store =
            Store::stand_in(path, error.to_owned(), blocking.clone(), clock.clone()).await?;
        let nameplate = Nameplate {
            key: KeyRow::default(),
            company_id: config.company_id.to_string(),
            agent_id: "not known before the store can be used".to_owned(),
            endpoint: config.dashboard.endpoint.to_string(),
            inventory: config.inventory(),
        };
        let status = Status::new(nameplate, clock.clone());
        let pulse = Pulse::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(watchdog::feed(pulse.clone(), clock.clone()));
        if let Ok(nobody) = NOBODY.parse() {
            let origin = Origin::new(config.company_id.clone(), nobody, 0);
            let api_keys = ApiKeys::new(&config.dashboard);
            let events = Events::new(store.clone(), &origin, clock.clone(), api_keys);
            let collecting = Collecting {
                host: super::local_host(config, &world.clock)?,
                store: store.clone(),
                status: status.clone(),
                metrics: Metrics::new(),
                changes: Changes::new(events, store.clone(), clock.clone()),
                clock,
                chance: world.chance.clone(),
                blocking,
                sampled: Arc::new(Notify::new()),
                pulse: pulse.clone(),
            };
            tasks.spawn(schedule::run(sources(config), collecting));
        }
        let meanwhile = Self {
            _status_socket: super::sockets::serve_status(&config.status_socket, &status, &store),
            store,
            status,
            pulse,
            _tasks: tasks,
        };
        meanwhile.say(error).await?;
        let words = format!("waiting for the store: {error}");
        watchdog::notify(&[NotifyState::Ready, NotifyState::Status(&words)]);
        Ok(meanwhile)
    }

    /// Shows what stands in the way, and that the agent is alive.
    async fn say(&self, error: &str) -> Result<(), AgentError> {
        self.store.stand_in_because(error.to_owned()).await?;
        let told = format!("{error}; it is tried again every {STORE_RETRY:?}");
        self.status.set("store", PartState::Failed, Some(told));
        for part in [Loop::Collect, Loop::Submit] {
            self.pulse.beat(part, self.status.monotonic());
        }
        Ok(())
    }

    /// Records what was read while there was no disk.
    async fn hand_over(self, agent: &Agent) -> Result<(), AgentError> {
        let taken = self.store.take_held().await?;
        let (samples, dropped) = (taken.samples.len(), taken.dropped);
        for (source, sample) in taken.samples {
            agent.store.record(&source, sample).await?;
        }
        tracing::info!(
            samples,
            dropped,
            "the store can be used; what was read meanwhile is in it"
        );
        if dropped > 0 {
            let note = format!("{dropped} samples were lost while the store could not be used");
            agent.event(LeafKind::Loss, &note).await?;
        }
        Ok(())
    }
}

/// Whether time, or somebody who makes room, can put it right without a restart.
fn may_pass(error: &AgentError) -> bool {
    match error {
        AgentError::Store(error) | AgentError::Identity(IdentityError::Store(error)) => matches!(
            error,
            StoreError::MakeDirectory { .. }
                | StoreError::SetAside { .. }
                | StoreError::Open { .. }
                | StoreError::Read { .. }
                | StoreError::Write { .. }
        ),
        AgentError::Identity(IdentityError::SetAside { .. } | IdentityError::Write { .. })
        | AgentError::Key(KeyError::Make { .. }) => true,
        _ => false,
    }
}
