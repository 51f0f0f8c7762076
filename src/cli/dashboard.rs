//! `dashboard`: run or administer the reference dashboard. The only file besides `demo` that knows it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use cms_attest::AgentId;
use cms_dashboard::evidence::{self, EvidenceError};
use cms_dashboard::key::Mode;
use cms_dashboard::{Config, Server, admin};
use cms_spec::CompanyId;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, ExitStatus, LogFormat, logs, print, verify};
use crate::clock::Clock;
use crate::config::Log;

/// Where the dashboard's configuration is when `--dashboard-config` does not say.
const DEFAULT_CONFIG: &str = "/etc/cms-telemetry-agent/dashboard.toml";

/// Runs or administers the reference dashboard.
#[derive(Debug, Args)]
pub(super) struct Dashboard {
    /// The dashboard's configuration: listen, authority, tls_cert_file, tls_key_file, store.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    dashboard_config: PathBuf,

    #[command(subcommand)]
    command: DashboardCommand,
}

#[derive(Debug, Subcommand)]
enum DashboardCommand {
    /// Let an agent come from another host.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Add or list companies.
    #[command(subcommand)]
    Company(CompanyCommand),
    /// Rotate or list the keys that sign receipts.
    #[command(subcommand)]
    Cosigner(CosignerCommand),
    /// Make, list or revoke API keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Run the dashboard until SIGTERM or SIGINT.
    Run,
    /// Check an evidence bundle, and compare it with what this dashboard holds. Ends as `verify` does.
    Verify {
        /// The bundle that `export` wrote.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print one JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// Take the agent's next enrolment from a host that it has not enrolled from, once.
    Move {
        /// Its id, as the company's page shows it.
        id: AgentId,
    },
}

#[derive(Debug, Subcommand)]
enum CosignerCommand {
    /// List all keys that have signed receipts, the first first.
    List,
    /// Make a new key. It signs from the next receipt on, the one before beside it for 30 days.
    Rotate,
}

#[derive(Debug, Subcommand)]
enum CompanyCommand {
    /// Add a company.
    Add {
        /// Its id, for example acme-corp.
        id: CompanyId,
        /// Its name on the public page; the id when not given.
        #[arg(long)]
        name: Option<String>,
    },
    /// List all companies.
    List,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key and print it. It is shown this once.
    Create {
        /// Whose key.
        company: CompanyId,
        /// What it is for, for example a site. Two keys of one label may be live, for rotation.
        #[arg(long, default_value = "default")]
        label: String,
        /// Submissions under a test key are checked and kept but never count.
        #[arg(long, value_enum, default_value_t = KeyMode::Live)]
        mode: KeyMode,
    },
    /// List a company's keys.
    List {
        /// Whose keys.
        company: CompanyId,
    },
    /// Refuse a key from its next request on.
    Revoke {
        /// The public id, as `key list` shows it.
        id: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KeyMode {
    Live,
    Test,
}

impl Dashboard {
    pub(super) fn run(self, asked: Option<LogFormat>) -> Result<ExitStatus, CliError> {
        let config = Config::load(&self.dashboard_config).map_err(|error| CliError::Failed {
            status: ExitStatus::Config,
            chain: crate::status::error_chain(&error),
            hint: Some("name the file with --dashboard-config".to_owned()),
        })?;
        match self.command {
            DashboardCommand::Agent(AgentCommand::Move { id }) => {
                let agent = admin::move_agent(&config.store, &id).map_err(problem)?;
                print(&format!(
                    "{} of {} may enrol from another host, once\n",
                    agent.id, agent.company
                ));
                Ok(ExitStatus::Ok)
            }
            DashboardCommand::Company(command) => company(&config, command),
            DashboardCommand::Cosigner(command) => cosigner(&config, &command),
            DashboardCommand::Key(command) => key(&config, command),
            DashboardCommand::Run => serve(&config, asked),
            DashboardCommand::Verify { file, json } => {
                let report = evidence::examine(&config.store, &file).map_err(|error| {
                    let status = match &error {
                        EvidenceError::ReadFile { .. } => ExitStatus::Usage,
                        _ => ExitStatus::Problem,
                    };
                    CliError::Failed {
                        status,
                        chain: crate::status::error_chain(&error),
                        hint: None,
                    }
                })?;
                verify::show(&report, json)
            }
        }
    }
}

fn company(config: &Config, command: CompanyCommand) -> Result<ExitStatus, CliError> {
    match command {
        CompanyCommand::Add { id, name } => {
            let name = name.unwrap_or_else(|| id.to_string());
            let company = admin::add_company(&config.store, &id, &name, Clock::system().now())
                .map_err(problem)?;
            print(&format!("{}  {}\n", company.id, company.name));
        }
        CompanyCommand::List => {
            for company in admin::companies(&config.store).map_err(problem)? {
                print(&format!(
                    "{}  {}  since {}\n",
                    company.id, company.name, company.created_at
                ));
            }
        }
    }
    Ok(ExitStatus::Ok)
}

fn cosigner(config: &Config, command: &CosignerCommand) -> Result<ExitStatus, CliError> {
    let now = Clock::system().now();
    match command {
        CosignerCommand::List => {
            for row in admin::cosigners(&config.store).map_err(problem)? {
                let state = match row.until {
                    None => "in use".to_owned(),
                    Some(until) if now < until => format!("signs beside the next until {until}"),
                    Some(until) => format!("signed until {until}"),
                };
                print(&format!(
                    "{}  since {}  {state}\n",
                    row.key.key_id(),
                    row.since
                ));
            }
        }
        CosignerCommand::Rotate => {
            let row =
                admin::rotate_cosigner(&config.store, &config.authority, now).map_err(problem)?;
            print(&format!(
                "{}  since {}  in use\n",
                row.key.key_id(),
                row.since
            ));
        }
    }
    Ok(ExitStatus::Ok)
}

fn key(config: &Config, command: KeyCommand) -> Result<ExitStatus, CliError> {
    let now = Clock::system().now();
    match command {
        KeyCommand::Create {
            company,
            label,
            mode,
        } => {
            let mode = match mode {
                KeyMode::Live => Mode::Live,
                KeyMode::Test => Mode::Test,
            };
            let new =
                admin::create_key(&config.store, &company, &label, mode, now).map_err(problem)?;
            print(&format!("{}\n", new.key.reveal()));
        }
        KeyCommand::List { company } => {
            for row in admin::keys(&config.store, &company).map_err(problem)? {
                let state = row
                    .revoked_at
                    .map_or_else(|| "in use".to_owned(), |at| format!("revoked {at}"));
                print(&format!(
                    "{}  {}  {}  made {}  {state}\n",
                    row.id,
                    row.mode.word(),
                    row.label,
                    row.created_at
                ));
            }
        }
        KeyCommand::Revoke { id } => {
            let row = admin::revoke_key(&config.store, &id, now).map_err(problem)?;
            print(&format!("{} of {} is revoked\n", row.id, row.company));
        }
    }
    Ok(ExitStatus::Ok)
}

fn problem(error: admin::AdminError) -> CliError {
    CliError::problem(&error)
}

fn serve(config: &Config, asked: Option<LogFormat>) -> Result<ExitStatus, CliError> {
    logs::start(Log::default(), asked);
    runtime()?.block_on(async {
        let mut terminate =
            signal(SignalKind::terminate()).map_err(|error| CliError::failed(&error))?;
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(|error| CliError::failed(&error))?;
        let server = Server::bind(config, cms_dashboard::clock::system())
            .map_err(|error| CliError::failed(&error))?;
        tracing::info!(address = %server.local_addr(), "dashboard listens");
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server
            .run(shutdown)
            .await
            .map_err(|error| CliError::failed(&error))
    })?;
    Ok(ExitStatus::Ok)
}

/// The dashboard serves many agents at once, so it uses all processors.
pub(super) fn runtime() -> Result<Runtime, CliError> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(&error))
}
