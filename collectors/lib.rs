//! Sources of readings for the Carbon Mirror agent: one folder, one collector.
//!
//! Owns: reading the machine, the machine room and the services on it. Families are the
//! specification's categories. Promises: a tick is whole or absent; a value that was not read is
//! not there; nothing is written to any source. Refuses: the store, the network to the dashboard,
//! signatures, each other's folders. The scheduler owns interval, jitter, deadline, panics and
//! logging, so no collector repeats them.

mod checked;
pub mod compute;
pub mod coverage;
pub mod exposition;
pub mod host;
pub mod models;
mod nvml;
pub mod snmp;
pub mod storage;
pub mod thermal;
mod unaddressed;
mod virtual_devices;
pub mod web;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::Category;
use cms_spec::reading::Readings;
use jiff::Timestamp;

pub use host::Host;
pub use models::source::decisions::Decisions;
pub use models::tail::surface as logs;

/// One source of readings: one folder under `collectors/`, one type.
#[async_trait]
pub trait Collector: Send {
    /// Takes what there is to take for this tick. Whole or absent: on an error nothing of `out` is
    /// kept.
    ///
    /// `at` is the moment of the tick. A collector keeps only what it needs to tell the next tick
    /// apart.
    async fn collect(&mut self, at: Timestamp, out: &mut Readings) -> Result<(), CollectError>;

    /// All that the last tick took is on disk, together with what [`Readings::resume_from`] said: the moment to
    /// acknowledge it to whoever sent it.
    fn stored(&mut self) {}

    /// What `status` shows about a long job, for example `scanned 1,200,000 objects`.
    fn progress(&self) -> Option<String> {
        None
    }

    /// Whether it waits for the first answer of a device that it asks in the background; a preview
    /// waits with it.
    fn is_waiting(&self) -> bool {
        false
    }

    /// Whether somebody waits for its ticks, so that quiet ones must not make the next one late.
    fn is_awaited(&self) -> bool {
        false
    }

    /// What `status` lists about the source besides, one line each.
    fn details(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is wrong with a source that gives some of its figures all the same; `status` then calls it degraded.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// The values that a person can compare with the display of a meter, as of the last tick.
    fn shown(&self) -> Vec<Shown> {
        Vec::new()
    }

    /// What decided the kinds of tasks, of a source of requests to models.
    fn decisions(&self) -> Option<Decisions> {
        None
    }

    /// What the source wants back after a restart; nothing when it has nothing to go on from. It is kept
    /// from time to time, so that it may be older than the last tick.
    fn checkpoint(&self) -> Option<String> {
        None
    }

    /// Takes back what the source said before a restart, before its first tick. What makes no sense is
    /// ignored.
    fn resume(&mut self, _checkpoint: &str) {}
}

/// One value that a device shows, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What the configuration calls it.
    pub name: String,
    /// Where it is read.
    pub place: String,
    /// What it counts in.
    pub unit: String,
    /// The value, or why there is none.
    pub value: Result<cms_spec::decimal::Decimal, String>,
}

/// The checked configuration of one source; it can be opened again after a failure.
pub trait Settings: fmt::Debug + Send + Sync {
    /// The name in status and logs: the collector's id, with the source's name where there can be
    /// several.
    fn name(&self) -> String;

    /// Whether the table says `enabled`; a source that is not is neither opened nor expected to
    /// report.
    fn enabled(&self) -> bool {
        true
    }

    /// Opens what is needed, once. Must not wait for a network or scan anything.
    ///
    /// # Errors
    /// [`OpenError::Absent`] when this host has no such source, which is an answer and not a fault.
    fn open(&self, host: &Host) -> Result<Box<dyn Collector>, OpenError>;

    /// The inventory that people keep for this source; `status` sends them there.
    fn inventory(&self) -> Option<&Path> {
        None
    }

    /// Time between two ticks.
    fn interval(&self) -> Duration;

    /// Hard stop of one tick; the collector is then abandoned and opened again.
    fn deadline(&self) -> Duration;
}

/// One kind of source, as the configuration and `status` know it.
#[derive(Clone, Copy)]
pub struct Registration {
    /// Folder below `collectors/`, and the `collector` of every sample.
    pub id: &'static str,
    /// Whose figures it feeds.
    pub category: Category,
    /// The table that configures it, for example `storage.root`.
    pub table: &'static str,
    /// Whether the table is repeated: `[[storage.root]]`.
    pub repeated: bool,
    /// The commented table for `config.example.toml`.
    pub sample: &'static str,
    /// Reads the table. Unknown keys are refused; spans stay exact.
    pub parse: fn(toml::de::ValueDeserializer<'_>) -> Result<Box<dyn Settings>, toml::de::Error>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("id", &self.id)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// Every collector that we ship, in the order in which `status` lists them.
pub const ALL: &[Registration] = &[
    compute::host::REGISTRATION,
    compute::prometheus::REGISTRATION,
    storage::filesystem::REGISTRATION,
    storage::s3::REGISTRATION,
    models::source::REGISTRATION,
    thermal::source::REGISTRATION,
    coverage::baseline::REGISTRATION,
];

/// Why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This host has no such source.
    #[error("{0}")]
    Absent(String),
    /// It is there, but something is in the way.
    #[error("cannot open the source")]
    Collect(#[from] CollectError),
}

/// Why a tick took nothing. Closed, because `status` and the self-metrics count by it.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The agent lacks a permission; `hint` says which one helps.
    #[error("may not read {}: {hint}", path.display())]
    Denied {
        /// What was to be read.
        path: PathBuf,
        /// Which capability or group helps.
        hint: String,
        /// What the system said.
        source: io::Error,
    },
    /// The source answered something else than it should.
    #[error("{what} makes no sense: {found}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it.
        found: String,
    },
    /// The source did not answer in time.
    #[error("{what} did not answer within {after:?}")]
    Timeout {
        /// What was asked.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// The source cannot be reached.
    #[error("cannot reach {what}")]
    Unreachable {
        /// What was to be reached.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is not there, or not there any more.
    #[error("{what} is not there")]
    Vanished {
        /// What is missing.
        what: String,
    },
}

impl CollectError {
    /// The class of a failed file access.
    #[must_use]
    pub fn from_io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied {
                path: path.to_owned(),
                hint: "run the agent as root or give its user read access".to_owned(),
                source,
            },
            io::ErrorKind::NotFound => Self::Vanished {
                what: path.display().to_string(),
            },
            io::ErrorKind::InvalidData => Self::malformed(path, "it is not UTF-8 text"),
            _ => Self::Unreachable {
                what: path.display().to_string(),
                source,
            },
        }
    }

    /// Content that makes no sense.
    #[must_use]
    pub fn malformed(path: &Path, found: &str) -> Self {
        Self::Malformed {
            what: path.display().to_string(),
            found: found.to_owned(),
        }
    }

    /// A short fixed word for counters.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "denied",
            Self::Malformed { .. } => "malformed",
            Self::Timeout { .. } => "timeout",
            Self::Unreachable { .. } => "unreachable",
            Self::Vanished { .. } => "vanished",
        }
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
