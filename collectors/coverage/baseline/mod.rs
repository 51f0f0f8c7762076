//! The documented inventory that coverage is measured against, from a CSV or a TOML file.
//!
//! Owns: reading the file and saying where it is wrong. Promises: an inventory is taken whole or
//! refused with file and line; it is told again when it changes. Refuses: guessing at a broken row.

mod parse;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::Category;
use cms_spec::coverage::Baseline;
use cms_spec::reading::{Readings, Snapshot};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use toml::de::ValueDeserializer;

use self::parse::Format;
use crate::checked::{AbsolutePath, Every};
use crate::host::read_text;
use crate::{CollectError, Collector, Host, OpenError, Registration, Settings};

/// Reading one file takes milliseconds; longer than this its filesystem hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// The documented inventory as a source.
pub const REGISTRATION: Registration = Registration {
    id: "coverage/baseline",
    category: Category::CoverageVerification,
    table: "coverage",
    repeated: false,
    sample: include_str!("sample.toml"),
    parse,
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(deserialize_with = "file")]
    baseline: (PathBuf, Format),
    #[serde(default = "interval")]
    interval: Interval,
}

/// From one minute, for a demonstration, to the specification's 24 hours.
type Interval = Every<60, 86_400>;

const fn interval() -> Interval {
    Interval::seconds::<3600>()
}

fn file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(PathBuf, Format), D::Error> {
    let path = AbsolutePath::deserialize(deserializer)?
        .as_path()
        .to_owned();
    let format = Format::of(&path).ok_or_else(|| {
        D::Error::custom(
            "the inventory's name must end with \".csv\" or \".toml\", which tells its form",
        )
    })?;
    Ok((path, format))
}

fn parse(table: ValueDeserializer<'_>) -> Result<Box<dyn Settings>, toml::de::Error> {
    Ok(Box::new(Config::deserialize(table)?))
}

impl Settings for Config {
    fn name(&self) -> String {
        REGISTRATION.id.to_owned()
    }

    fn open(&self, _: &Host) -> Result<Box<dyn Collector>, OpenError> {
        let (path, format) = self.baseline.clone();
        let opened = BaselineCollector {
            path,
            format,
            told: None,
        };
        // A broken inventory is found by `check` and not an hour later.
        opened.read()?;
        Ok(Box::new(opened))
    }

    fn interval(&self) -> Duration {
        self.interval.duration()
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }
}

struct BaselineCollector {
    path: PathBuf,
    format: Format,
    told: Option<Baseline>,
}

impl BaselineCollector {
    fn read(&self) -> Result<Baseline, CollectError> {
        let text = read_text(&self.path)?;
        parse::parse(self.format, &text).map_err(|wrong| CollectError::Malformed {
            what: format!("{}:{}", self.path.display(), wrong.line),
            found: wrong.message,
        })
    }
}

#[async_trait]
impl Collector for BaselineCollector {
    async fn collect(&mut self, _: Timestamp, out: &mut Readings) -> Result<(), CollectError> {
        let baseline = self.read()?;
        if self.told.as_ref() != Some(&baseline) {
            out.snapshot(Snapshot::Baseline(baseline.clone()));
            self.told = Some(baseline);
        }
        Ok(())
    }
}
