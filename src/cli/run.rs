//! `run`: the daemon. Signals become what the agent is told; everything else is the agent's.

use std::path::Path;

use clap::Args;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{CliError, ExitStatus, LogFormat, load, logs};
use crate::agent::{self, AgentError, Control};
use crate::identity::IdentityError;
use crate::limits::{BLOCKING_KEEP_ALIVE, BLOCKING_THREADS};
use crate::store::StoreError;
use crate::world::World;

/// Runs the agent until SIGTERM or SIGINT; SIGHUP reads the configuration again.
#[derive(Debug, Args)]
pub(super) struct Run {}

impl Run {
    pub(super) fn run(
        self,
        config_path: &Path,
        asked: Option<LogFormat>,
    ) -> Result<ExitStatus, CliError> {
        let config = load(config_path)?;
        logs::start(config.log, asked);
        keep_memory_private();
        let runtime = runtime()?;
        let outcome = runtime.block_on(async {
            let control = signals().map_err(|error| CliError::failed(&error))?;
            agent::run(config_path, config, World::real(), None, control)
                .await
                .map_err(|error| match error {
                    // Trying again changes nothing before a person has put the key right.
                    AgentError::Key(ref key) | AgentError::Store(StoreError::Key(ref key))
                        if key.needs_a_person() =>
                    {
                        CliError::configuration(&error)
                    }
                    AgentError::Identity(IdentityError::OtherMachine { .. }) => {
                        CliError::configuration(&error).hint(OTHER_MACHINE)
                    }
                    _ => CliError::failed(&error).hint("`check` shows what stands in the way"),
                })
        });
        // A collector that hangs in the kernel must not keep a stopped agent alive.
        runtime.shutdown_background();
        outcome.map(|()| ExitStatus::Ok)
    }
}

/// Leaves no core dump when the agent crashes, and lets no other process of its user read its memory: keys are in it,
/// and bytes of logs that hold prompts pass through it.
fn keep_memory_private() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a crash may leave a core dump: set LimitCORE=0 for the service");
    }
}

/// What a person can do about an identity of another machine.
const OTHER_MACHINE: &str = "if this machine is a copy, run `cms-telemetry-agent key rotate --reset-identity`; if the agent has moved here, or its main board was replaced, run `cms-telemetry-agent key rotate --same-agent`";

/// One thread for both loops, and a few for collectors that block.
pub(super) fn runtime() -> Result<Runtime, CliError> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .build()
        .map_err(|error| CliError::failed(&error))
}

fn signals() -> std::io::Result<mpsc::Receiver<Control>> {
    let (told, control) = mpsc::channel(1);
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            let what = tokio::select! {
                _ = hangup.recv() => Control::Reload,
                _ = terminate.recv() => Control::Shutdown,
                _ = interrupt.recv() => Control::Shutdown,
            };
            if told.send(what).await.is_err() {
                return;
            }
        }
    });
    Ok(control)
}
