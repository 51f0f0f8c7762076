//! The command line: one file for each command, its arguments and one function.
//!
//! Exit codes: 0 all is well; 1 a check, status, demo or verify found a problem; 2 verify finds something missing;
//! 64 the command line is wrong; 70 a bug or a failed start; 78 the configuration is wrong, or the store's key is.

mod check;
mod completions;
mod dashboard;
mod demo;
pub mod export;
mod journal;
mod key;
mod logs;
mod man;
mod preview;
mod probe;
mod progress;
mod run;
mod status;
mod verify;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::agent;
use crate::config::{Config, ConfigErrors};
use crate::status::error_chain;
use crate::store::StoreError;

/// Where the configuration is when `--config` does not say.
const DEFAULT_CONFIG: &str = "/etc/cms-telemetry-agent/config.toml";

/// On-premise telemetry agent of the Carbon Mirror Standard.
///
/// It reads what this host and its machine room are doing, keeps it safe on disk, and submits it, signed, to a
/// Carbon Mirror dashboard. `demo` shows all of it on loopback, without an account.
#[derive(Debug, Parser)]
#[command(name = "cms-telemetry-agent", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,

    /// How the program logs; the configuration decides when this is not given.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    #[command(subcommand)]
    command: Command,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what `run` would meet: configuration, permissions, sources, clock, key, store, dashboard.
    Check(check::Check),
    /// Print shell completions.
    Completions(completions::Completions),
    /// Run or administer the reference dashboard.
    Dashboard(dashboard::Dashboard),
    /// Run a dashboard and an agent on loopback with real readings of this machine; no account needed.
    Demo(demo::Demo),
    /// Write an evidence bundle of a period, which `verify` checks without a network.
    Export(export::Export),
    /// List or replace the agent's keys.
    Key(key::Key),
    /// Print the man page.
    Man(man::Man),
    /// Collect now and print the exact body that would be sent; nothing is sent or stored.
    Preview(preview::Preview),
    /// Look at a source before it is configured, and suggest its configuration.
    Probe(probe::Probe),
    /// Run the agent.
    Run(run::Run),
    /// Show what the running agent says about itself.
    Status(status::Status),
    /// Check an evidence bundle: no configuration, store or network is needed.
    Verify(verify::Verify),
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// A bug or a failed start.
    Bug = 70,
    /// The configuration is wrong.
    Config = 78,
    /// Something that is needed is not there, and nothing contradicts the rest.
    Incomplete = 2,
    /// All is well.
    Ok = 0,
    /// A check, status or demo found a problem.
    Problem = 1,
    /// The command line is wrong.
    Usage = 64,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub enum CliError {
    /// The configuration is wrong; the report shows every place.
    Config(ConfigErrors),
    /// Something failed; the chain of causes is printed on one line, then the hint.
    Failed {
        /// How the program ends.
        status: ExitStatus,
        /// The chain of causes.
        chain: String,
        /// What the person can do.
        hint: Option<String>,
    },
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// When the command cannot do its work.
    pub fn run(self) -> Result<ExitStatus, CliError> {
        let config = &self.config;
        match self.command {
            Command::Check(check) => check.run(config),
            Command::Completions(completions) => completions.run(),
            Command::Dashboard(dashboard) => dashboard.run(self.log_format),
            Command::Demo(demo) => demo.run(self.log_format),
            Command::Export(export) => export.run(config),
            Command::Key(key) => key.run(config),
            Command::Man(man) => man.run(),
            Command::Preview(preview) => preview.run(config),
            Command::Probe(probe) => probe.run(config),
            Command::Run(run) => run.run(config, self.log_format),
            Command::Status(status) => status.run(config),
            Command::Verify(verify) => verify.run(),
        }
    }
}

impl CliError {
    /// An error with its causes.
    pub fn failed(error: &dyn std::error::Error) -> Self {
        Self::Failed {
            status: ExitStatus::Bug,
            chain: error_chain(error),
            hint: None,
        }
    }

    /// A question that was not answered, with its causes: somebody else's fault, or nobody's.
    pub fn problem(error: &dyn std::error::Error) -> Self {
        Self::Failed {
            status: ExitStatus::Problem,
            chain: error_chain(error),
            hint: None,
        }
    }

    /// An error that a person has to put right before another attempt can succeed.
    pub fn configuration(error: &dyn std::error::Error) -> Self {
        Self::Failed {
            status: ExitStatus::Config,
            chain: error_chain(error),
            hint: None,
        }
    }

    /// An error of the store; another key than its own is for a person to put right.
    pub fn of_store(error: &StoreError) -> Self {
        match error {
            StoreError::Key(_) => Self::configuration(error),
            _ => Self::failed(error),
        }
    }

    /// The same with what the person can do.
    #[must_use]
    pub fn hint(self, hint: &str) -> Self {
        match self {
            Self::Failed { status, chain, .. } => Self::Failed {
                status,
                chain,
                hint: Some(hint.to_owned()),
            },
            Self::Config(_) => self,
        }
    }

    /// How the program ends.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        match self {
            Self::Config(_) => ExitStatus::Config,
            Self::Failed { status, .. } => *status,
        }
    }

    /// Prints the error for a person, once.
    pub fn print(&self) {
        let text = match self {
            Self::Config(errors) => errors.render(io::IsTerminal::is_terminal(&io::stderr())),
            Self::Failed { chain, hint, .. } => match hint {
                Some(hint) => format!("error: {chain}\nhint: {hint}\n"),
                None => format!("error: {chain}\n"),
            },
        };
        drop(io::stderr().write_all(text.as_bytes()));
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}

/// Reads the configuration as `run` would.
fn load(path: &Path) -> Result<Config, CliError> {
    Config::load(path, &agent::hostname()).map_err(CliError::Config)
}

/// Tells a person something beside what is printed.
fn tell(note: &str) {
    beside(&format!("note: {note}\n"));
}

/// Writes for a person, so that who takes the output on has only what was asked for.
fn beside(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Prints to standard output; a reader that left early is no error.
fn print(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
    drop(io::stdout().flush());
}
