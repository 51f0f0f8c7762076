//! `[[storage.root]]`: what can be configured about a directory tree.

use std::num::NonZero;
use std::time::Duration;

use cms_spec::{Category, Subject};
use serde::Deserialize;
use toml::de::ValueDeserializer;

use super::FilesystemCollector;
use super::walk::Budget;
use crate::checked::{AbsolutePath, Between, Dollars, Every};
use crate::storage::exclude::{Pattern, patterns};
use crate::storage::unit;
use crate::{Collector, Host, OpenError, Registration, Settings};

/// How often the scheduler asks whether a scan is due or done; a finished one is told at most this
/// late.
const TICK: Duration = Duration::from_secs(5);

/// A tick starts a thread or looks into a channel; it does not touch the disk.
const DEADLINE: Duration = Duration::from_secs(5);

/// A directory tree as a source.
pub const REGISTRATION: Registration = Registration {
    id: "storage/filesystem",
    category: Category::DarkData,
    table: "storage.root",
    repeated: true,
    sample: include_str!("sample.toml"),
    parse,
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) path: AbsolutePath,
    #[serde(deserialize_with = "unit::name")]
    pub(super) name: Subject,
    pub(super) usd_per_gb_month: Option<Dollars<6>>,
    pub(super) region: Option<Subject>,
    pub(super) storage_class: Option<Subject>,
    #[serde(default = "interval")]
    pub(super) interval: Interval,
    #[serde(default, deserialize_with = "patterns")]
    pub(super) exclude: Vec<Pattern>,
    #[serde(default)]
    pub(super) cross_mounts: bool,
    #[serde(default)]
    units: Units,
    threads: Option<Threads>,
    cpu_percent: Option<CpuPercent>,
    files_per_second: Option<FilesPerSecond>,
}

/// What is reported by itself.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Units {
    /// Each directory in the root.
    FirstLevel,
    /// The root as a whole.
    #[default]
    Root,
}

type Threads = Between<1, 32>;
type CpuPercent = Between<1, 3200>;
type FilesPerSecond = Between<1, 100_000_000>;

/// Threads of a scan where none are configured: enough to keep a disk busy, and few beside what works here.
const THREADS: NonZero<usize> = NonZero::new(2).unwrap();

/// Half a processor, so that a scan is no burden while it lasts.
const CPU_PERCENT: u32 = 50;

impl Config {
    pub(super) fn is_split(&self) -> bool {
        matches!(self.units, Units::FirstLevel)
    }

    pub(super) fn threads(&self) -> NonZero<usize> {
        let threads = self
            .threads
            .and_then(|threads| usize::try_from(threads.get()).ok());
        threads.and_then(NonZero::new).unwrap_or(THREADS)
    }

    pub(super) fn budget(&self) -> Budget {
        Budget {
            cpu_percent: self.cpu_percent.map_or(CPU_PERCENT, Between::get),
            files_per_second: self.files_per_second.map(Between::get),
        }
    }
}

/// From ten seconds, for small trees, to the specification's 24 hours.
type Interval = Every<10, 86_400>;

const fn interval() -> Interval {
    Interval::seconds::<{ 6 * 3600 }>()
}

fn parse(table: ValueDeserializer<'_>) -> Result<Box<dyn Settings>, toml::de::Error> {
    Ok(Box::new(Config::deserialize(table)?))
}

impl Settings for Config {
    fn name(&self) -> String {
        format!("{} {}", REGISTRATION.id, self.name)
    }

    fn open(&self, host: &Host) -> Result<Box<dyn Collector>, OpenError> {
        Ok(Box::new(FilesystemCollector::new(self, host)))
    }

    fn interval(&self) -> Duration {
        TICK
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }
}
