//! `demo`: a dashboard and an agent on loopback, with real readings of this machine and no account.
//!
//! Everything is what a real installation has: configuration files, a company, an API key, signatures, and
//! TLS 1.3 that is verified against an authority made for this one demo. Only the schedule is faster.

mod scene;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cms_dashboard::Server;
use cms_spec::Category;
use jiff::SignedDuration;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{CliError, ExitStatus, LogFormat, dashboard, load, logs, print, run};
use crate::agent::{Agent, Control};
use crate::clock::Clock;
use crate::config::{Log, LogLevel};
use crate::submit::Taken;
use crate::world::World;
use scene::Scene;

/// News of accepted submissions that may wait to be printed. The demo makes a few in a second.
const NEWS_MAX: usize = 256;

/// Runs a dashboard and an agent on loopback with real readings of this machine.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// End after this long, with a summary; exit 0 only if every enabled category was accepted. Until Ctrl-C otherwise.
    #[arg(long = "for", value_name = "SPAN", value_parser = span)]
    span: Option<Duration>,

    /// One JSON object a line: category, slot, index, status.
    #[arg(long)]
    json: bool,

    /// Keep everything there; `--config DIR/agent.toml` works on it afterwards. A directory that removes itself otherwise.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Demo {
    pub(super) fn run(self, asked: Option<LogFormat>) -> Result<ExitStatus, CliError> {
        let quiet = Log {
            level: LogLevel::Warn,
            ..Log::default()
        };
        logs::start(quiet, asked);
        let clock = Clock::system();
        let scene = Scene::set(self.dir.as_deref())?;
        let dashboard_runtime = dashboard::runtime()?;
        let (stop_dashboard, stopped) = oneshot::channel::<()>();
        let server = dashboard_runtime.block_on(async {
            Server::bind(&scene.dashboard_config()?, cms_dashboard::clock::system())
                .map_err(|error| CliError::failed(&error))
        })?;
        let address = server.local_addr();
        scene.write_agent_files(address, &clock)?;
        let serving = dashboard_runtime.spawn(server.run(async {
            drop(stopped.await);
        }));
        self.say(&format!(
            "page      https://localhost:{}/company/{}",
            address.port(),
            scene::COMPANY
        ));
        self.say(&format!("authority {}", scene.path("ca.pem").display()));
        self.say(&format!("config    {}", scene.path("agent.toml").display()));

        let accepted = run::runtime()?.block_on(self.run_agent(&scene));
        drop(stop_dashboard);
        drop(dashboard_runtime.block_on(serving));
        self.summarise(&scene, &accepted?)
    }

    /// Runs the agent for the time asked, and counts what was accepted.
    async fn run_agent(&self, scene: &Scene) -> Result<BTreeMap<Category, u64>, CliError> {
        let config_path = scene.path("agent.toml");
        let config = load(&config_path)?;
        let (news, mut accepted) = mpsc::channel(NEWS_MAX);
        let (told, control) = mpsc::channel(1);
        let agent = Agent::open(&config_path, config, World::real(), Some(news))
            .await
            .map_err(|error| CliError::failed(&error))?;
        let agent = tokio::spawn(agent.run(control));
        let mut counts = BTreeMap::new();
        let end = async {
            match self.span {
                Some(span) => tokio::time::sleep(span).await,
                None => drop(tokio::signal::ctrl_c().await),
            }
        };
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                taken = accepted.recv() => match taken {
                    Some(taken) => self.count(&mut counts, &taken),
                    None => break,
                },
            }
        }
        if told.send(Control::Shutdown).await.is_err() {
            tracing::debug!("the agent ended before it was told to");
        }
        while let Some(taken) = accepted.recv().await {
            self.count(&mut counts, &taken);
        }
        match agent.await {
            Ok(Ok(())) => Ok(counts),
            Ok(Err(error)) => Err(CliError::failed(&error)),
            Err(error) => Err(CliError::failed(&error)),
        }
    }

    fn count(&self, counts: &mut BTreeMap<Category, u64>, taken: &Taken) {
        *counts.entry(taken.category).or_default() += 1;
        if self.json {
            let line = json!({
                "category": taken.category,
                "slot": taken.slot,
                "index": taken.index,
                "status": "accepted",
            });
            print(&format!("{line}\n"));
        } else {
            print(&format!(
                "accepted  {:<22} #{:<5} slot end {}\n",
                taken.category.path(),
                taken.index,
                taken.slot.end
            ));
        }
    }

    fn summarise(
        &self,
        scene: &Scene,
        accepted: &BTreeMap<Category, u64>,
    ) -> Result<ExitStatus, CliError> {
        let enabled = load(&scene.path("agent.toml"))?.categories();
        let missing: Vec<Category> = enabled
            .iter()
            .copied()
            .filter(|category| !accepted.contains_key(category))
            .collect();
        for category in &enabled {
            let count = accepted.get(category).copied().unwrap_or_default();
            self.say(&format!("{:<22} {count} accepted", category.path()));
        }
        if missing.is_empty() {
            self.say("every enabled category was accepted");
            Ok(ExitStatus::Ok)
        } else {
            let names: Vec<&str> = missing.iter().map(|category| category.path()).collect();
            self.say(&format!("nothing was accepted for {}", names.join(", ")));
            Ok(ExitStatus::Problem)
        }
    }

    /// Words for people; with `--json` they go to standard error, so that the lines stay machine-readable.
    fn say(&self, text: &str) {
        if self.json {
            drop(std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("{text}\n").as_bytes(),
            ));
        } else {
            print(&format!("{text}\n"));
        }
    }
}

fn span(text: &str) -> Result<Duration, String> {
    let span: SignedDuration = text
        .parse()
        .map_err(|error| format!("{error}: write a span such as 60s or 5m"))?;
    Duration::try_from(span).map_err(|_| "a span cannot be negative".to_owned())
}
