//! The agent's host: its files, and the process that starts, stops and dies on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cms_telemetry_agent::agent::{Agent, AgentError, Control};
use cms_telemetry_agent::blocking::{Blocking, Disk};
use cms_telemetry_agent::chance::Chance;
use cms_telemetry_agent::clock::Clock;
use cms_telemetry_agent::config::Config;
use cms_telemetry_agent::transport::Transport;
use cms_telemetry_agent::world::World;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, yield_now};
use tokio::time::timeout;

use super::dashboard::{AUTHORITY, COMPANY};
use super::meter::Meter;
use super::network::Network;
use super::plan::Plan;
use super::random::Random;
use super::sky::Sky;

/// Longest graceful stop: the drain has ten seconds, and one exchange may be under way.
const STOP_MAX: Duration = Duration::from_secs(60);

/// Steps after which everything of a dead process must be gone.
const STEPS_TO_GO_MAX: u32 = 1_000;

/// The host of one run.
pub(crate) struct AgentHost {
    dir: PathBuf,
    plan: Plan,
    meter: Meter,
    pub(crate) disk: Disk,
    world: World,
    running: Option<Running>,
}

struct Running {
    task: JoinHandle<Result<(), AgentError>>,
    control: mpsc::Sender<Control>,
}

impl AgentHost {
    /// Writes the files of an installation into a directory.
    pub(crate) fn new(
        dir: &Path,
        plan: &Plan,
        api_key: &str,
        sky: &Sky,
        network: &Network,
        meter: &Meter,
    ) -> Self {
        let shown = dir.display();
        let config = format!(
            "company_id = \"{COMPANY}\"\nsite = \"sim\"\n\
             [dashboard]\nendpoint = \"https://{AUTHORITY}/api/v1\"\n\
             api_key = {{ file = \"{shown}/api.key\" }}\n\
             [store]\npath = \"{shown}/store\"\n\
             [status]\nsocket = \"{shown}/status.sock\"\n\
             [compute]\nenabled = true\n"
        );
        fs::write(dir.join("agent.toml"), config).unwrap();
        write_private(&dir.join("api.key"), api_key);
        // An identity as an earlier version left it: its id decides when in a slot the agent speaks.
        let mut random = Random::of(plan.seed).fork(3);
        let identity = dir.join("store/identity");
        fs::create_dir_all(&identity).unwrap();
        let tail = random.next() & 0xffff_ffff_ffff;
        write_private(
            &identity.join("agent-id"),
            &format!("019cb000-0000-7000-8000-{tail:012x}"),
        );
        for name in ["request.key", "log.key"] {
            let seed: Vec<u8> = (0..4).flat_map(|_| random.next().to_le_bytes()).collect();
            write_private(&identity.join(name), &STANDARD_NO_PAD.encode(seed));
        }
        let disk = Disk::default();
        let chance = Mutex::new(Random::of(plan.seed).fork(4));
        let wire: Arc<Network> = Arc::new(network.clone());
        let world = World {
            clock: Clock::of(Arc::new(sky.clone())),
            chance: Chance::of(Arc::new(move || chance.lock().unwrap().next())),
            connect: Arc::new(move |endpoint, _| {
                Ok(Transport::over(Arc::clone(&wire) as Arc<_>, endpoint))
            }),
            blocking: Blocking::OnCaller(disk.clone()),
            ..World::real()
        };
        Self {
            dir: dir.to_owned(),
            plan: plan.clone(),
            meter: meter.clone(),
            disk,
            world,
            running: None,
        }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// The configuration as it is read.
    pub(crate) fn config(&self) -> Result<Config, String> {
        let path = self.dir.join("agent.toml");
        Config::load(&path, "sim").map_err(|errors| errors.render(false))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts the agent, if it does not run.
    pub(crate) async fn start(&mut self) -> Result<(), String> {
        if self.is_running() {
            return Ok(());
        }
        let path = self.dir.join("agent.toml");
        let mut config = self.config()?;
        config.sources = self.meter.sources(&self.plan);
        let agent = Agent::open(&path, config, self.world.clone(), None)
            .await
            .map_err(|error| cms_telemetry_agent::status::error_chain(&error))?;
        let (control, told) = mpsc::channel(1);
        let task = tokio::spawn(agent.run(told));
        self.running = Some(Running { task, control });
        Ok(())
    }

    /// The process is gone from one step to the next. What it had committed stays.
    pub(crate) async fn die(&mut self) -> Result<(), String> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        running.task.abort();
        drop(running.task.await);
        self.wait_until_gone().await
    }

    /// Asks the agent to stop, and waits for it.
    pub(crate) async fn stop(&mut self) -> Result<(), String> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        let _told = running.control.send(Control::Shutdown).await;
        match timeout(STOP_MAX, &mut running.task).await {
            Err(_) => return Err(format!("the agent did not stop within {STOP_MAX:?}")),
            Ok(Err(error)) => return Err(format!("the agent panicked while stopping: {error}")),
            Ok(Ok(Err(error))) if !self.disk.is_full() => {
                let error = cms_telemetry_agent::status::error_chain(&error);
                return Err(format!("the agent stopped with an error: {error}"));
            }
            Ok(Ok(_)) => {}
        }
        self.wait_until_gone().await
    }

    /// Waits until the agent ends by itself, which it does when it cannot begin.
    pub(crate) async fn ended(&mut self) -> Result<Result<(), AgentError>, JoinError> {
        match &mut self.running {
            None => std::future::pending().await,
            Some(running) => {
                let result = (&mut running.task).await;
                self.running = None;
                result
            }
        }
    }

    /// Copies the store as it is at this moment.
    pub(crate) fn copy_store(&self, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for file in ["store.db", "store.db-wal"] {
            let from = self.store().join(file);
            if from.exists() {
                fs::copy(from, to.join(file)).unwrap();
            }
        }
    }

    /// Puts a copy in the place of the store. The agent must not run.
    pub(crate) fn put_back(&self, from: &Path) {
        for file in ["store.db", "store.db-wal", "store.db-shm"] {
            drop(fs::remove_file(self.store().join(file)));
            if from.join(file).exists() {
                fs::copy(from.join(file), self.store().join(file)).unwrap();
            }
        }
    }

    /// Tasks of a dead process end with their next step; the lock on the store goes with the last of them.
    async fn wait_until_gone(&self) -> Result<(), String> {
        for _ in 0..STEPS_TO_GO_MAX {
            let lock = File::options().write(true).open(self.store().join("lock"));
            if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                return Ok(());
            }
            yield_now().await;
        }
        Err("something of the dead agent still holds the store".to_owned())
    }
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
