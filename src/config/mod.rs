//! The configuration: TOML files in, one checked and immutable [`Config`] or every error with its place out.
//!
//! Owns: the main file, the drop-ins in `conf.d/*.toml` beside it, defaults and limits, and where secrets are.
//! Promises: a [`Config`] that exists is valid; a file is accepted whole or not at all; unknown keys are
//! refused with the nearest known one; no secret is held here or shown.
//! Refuses: opening sources, touching the store or the network.
//!
//! The order of work: `files` reads, `tree` parses and merges, `read` turns tables into the structs of `raw`,
//! `checks` and `sources` make the parts of [`Config`], `report` draws what is wrong.

mod amount;
mod checks;
mod dashboard;
mod example;
mod files;
mod mask;
mod raw;
mod read;
mod reference;
mod report;
mod resolved;
mod secret;
mod sources;
mod tree;
mod witness;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cms_collectors::Registration;
use cms_spec::factors::EnergyFactors;
use cms_spec::{Cadence, Category, CompanyId};
use serde::Deserialize;

pub use dashboard::{ClientIdentity, Dashboard, Endpoint};
pub use example::example;
pub use files::{DROP_IN_FOLDER, DROP_INS_MAX, FILE_BYTES_MAX, Place};
pub use report::{ConfigErrors, PROBLEMS_MAX, Problem};
pub use resolved::{Origin, Resolved, Section, Setting};
pub use secret::{CREDENTIALS_VARIABLE, SECRET_BYTES_MAX, Secret, SecretError, SecretSource};
pub use sources::Source;
pub use witness::Witness;

use files::Files;
use report::Problems;

/// Everything that a person decides about one agent. Made by [`Config::load`] only.
#[derive(Debug)]
#[non_exhaustive]
pub struct Config {
    /// The company that the agent reports for.
    pub company_id: CompanyId,
    /// The region in payloads unless a source says otherwise.
    pub site: String,
    /// Where submissions go.
    pub dashboard: Dashboard,
    /// What is kept on disk.
    pub store: Store,
    /// What turns energy into cost, carbon and water.
    pub energy: EnergyFactors,
    /// How often each category is submitted.
    pub schedule: Schedule,
    /// Where the agent's own metrics are served; always a loopback address.
    pub metrics_listen: Option<SocketAddr>,
    /// Where `status` asks.
    pub status_socket: PathBuf,
    /// How the agent logs.
    pub log: Log,
    /// Who countersigns the ledger besides the dashboard.
    pub witnesses: Vec<Witness>,
    /// The sources that are switched on, in the order of the collectors' list.
    pub sources: Vec<Source>,
    /// Every value with its origin.
    pub resolved: Resolved,
}

/// The limits of what is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The folder.
    pub path: PathBuf,
    /// What it may take altogether.
    pub bytes_max: u64,
    /// How long raw readings and bodies are kept, at least the specification's 90 days.
    pub retention: Duration,
    /// Where the key is that everything is sealed with; never a variable. Unless configured, a credential or a
    /// file beside the store.
    pub key: Option<SecretSource>,
    /// Where the key is that was used before, while changing to another one.
    pub old_key: Option<SecretSource>,
}

/// How often each category is submitted: never slower than the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule([Cadence; Category::ALL.len()]);

/// How the agent logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// The least important level that is still written.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Straight into the journal, fields and all.
    Journald,
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// The least important level that is still written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Loss, or a person is needed.
    Error,
    /// Something healed.
    Warn,
    /// Lifecycle, and one line for each submission.
    #[default]
    Info,
    /// Every tick.
    Debug,
    /// Everything.
    Trace,
}

impl Config {
    /// The file that holds the documented inventory, where there is one.
    #[must_use]
    pub fn inventory(&self) -> Option<String> {
        let file = self
            .sources
            .iter()
            .find_map(|source| source.settings.inventory())?;
        Some(file.display().to_string())
    }

    /// Reads the file and its drop-ins. `hostname` is the site where none is configured.
    ///
    /// A reload calls it again; the old configuration stays good when this one is refused.
    ///
    /// # Errors
    /// With everything that is wrong, each with its place.
    pub fn load(path: &Path, hostname: &str) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        match Files::read(path) {
            Ok(files) => Self::of_files(&files, hostname, cms_collectors::ALL),
            Err(error) => {
                problems.unreadable(&error);
                Err(problems.into_errors(Files::default()))
            }
        }
    }

    /// Whether a source feeds this category.
    #[must_use]
    pub fn is_enabled(&self, category: Category) -> bool {
        self.sources
            .iter()
            .any(|s| s.registration.category == category)
    }

    /// The categories that a source feeds, in the specification's order.
    #[must_use]
    pub fn categories(&self) -> Vec<Category> {
        let all = Category::ALL.into_iter();
        all.filter(|c| self.is_enabled(*c)).collect()
    }

    fn of_files(
        files: &Files,
        hostname: &str,
        collectors: &'static [Registration],
    ) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        let mut shown = files.clone();
        let Some(table) = tree::parse(files, &mut problems) else {
            mask::broken(&mut shown);
            return Err(problems.into_errors(shown));
        };
        mask::parsed(table.get_ref(), &mut shown);
        let config = checks::config(table, hostname, collectors, files, &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems.into_errors(shown)),
        }
    }
}

impl Schedule {
    /// The spacing of this category's slots.
    #[must_use]
    pub fn cadence(&self, category: Category) -> Cadence {
        let position = Category::ALL.iter().position(|c| *c == category);
        position
            .and_then(|p| self.0.get(p))
            .copied()
            .unwrap_or(category.cadence())
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self(Category::ALL.map(Category::cadence))
    }
}

impl LogLevel {
    /// The level as `tracing` knows it.
    #[must_use]
    pub const fn as_tracing(self) -> tracing::Level {
        match self {
            Self::Error => tracing::Level::ERROR,
            Self::Warn => tracing::Level::WARN,
            Self::Info => tracing::Level::INFO,
            Self::Debug => tracing::Level::DEBUG,
            Self::Trace => tracing::Level::TRACE,
        }
    }
}
