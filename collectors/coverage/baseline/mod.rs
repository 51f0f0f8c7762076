//! The documented inventory that coverage is measured against, from a CSV or a TOML file.
//!
//! Owns: reading the file and saying where it is wrong. Promises: an inventory is taken whole or
//! refused with file and line; it is told again when it or its evidence changes. Refuses: guessing at a broken
//! row, and taking evidence's word: only the digest of the file goes on.

mod evidence;
mod parse;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::Category;
use cms_spec::coverage::{Baseline, Evidence, Kind};
use cms_spec::reading::{Readings, Snapshot};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use toml::de::ValueDeserializer;

use self::evidence::Digests;
use self::parse::{Format, Wrong};
use crate::checked::{AbsolutePath, Every};
use crate::host::SMALL_FILE_BYTES_MAX;
use crate::{CollectError, Collector, Host, OpenError, Registration, Settings};

/// Reading one file takes milliseconds, and evidence is read when it is new; longer than this a filesystem hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// Records without evidence that `status` lists; `coverage` lists what follows from them.
const DETAILS_MAX: usize = 5;

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
        let mut opened = BaselineCollector {
            path,
            format,
            digests: Digests::default(),
            details: Vec::new(),
            told: None,
        };
        // A broken inventory is found by `check` and not an hour later.
        opened.read()?;
        Ok(Box::new(opened))
    }

    fn inventory(&self) -> Option<&Path> {
        Some(&self.baseline.0)
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
    digests: Digests,
    details: Vec<String>,
    told: Option<Baseline>,
}

impl BaselineCollector {
    fn read(&mut self) -> Result<Baseline, CollectError> {
        let refused = |wrong: Wrong| CollectError::Malformed {
            what: format!("{}:{}", self.path.display(), wrong.line),
            found: wrong.message,
        };
        let bytes = read(&self.path)?;
        let inventory = parse::parse(self.format, &bytes).map_err(refused)?;
        let (mut baseline, records) = (inventory.baseline, inventory.records);
        let mut unreadable = Vec::new();
        for ((kind, row), record) in &records {
            let rows = match kind {
                Kind::Instance => &mut baseline.instances,
                Kind::ModelEndpoint => &mut baseline.model_endpoints,
                Kind::Storage => &mut baseline.storage,
            };
            let Some(documented) = rows.get_mut(*row) else {
                continue;
            };
            let decommissioned = self.digests.of(record, &self.path);
            if let Evidence::Unreadable(why) = &decommissioned.digest {
                unreadable.push(format!(
                    "{}: its decommission does not count: {why}",
                    documented.label()
                ));
            }
            documented.decommissioned = Some(decommissioned);
        }
        self.digests.keep_only(records.values(), &self.path);
        self.details = vec![format!(
            "{}: {} instances, {} storage units, {} model endpoints; {} of them decommissioned",
            self.path.display(),
            baseline.instances.len(),
            baseline.storage.len(),
            baseline.model_endpoints.len(),
            records.len()
        )];
        let more = unreadable.len().saturating_sub(DETAILS_MAX);
        unreadable.truncate(DETAILS_MAX);
        self.details.append(&mut unreadable);
        if more > 0 {
            self.details.push(format!("and {more} more"));
        }
        Ok(baseline)
    }
}

/// The bytes of an inventory; what they mean is for the parser, which knows lines.
fn read(path: &Path) -> Result<Vec<u8>, CollectError> {
    let refused = |error| CollectError::from_io(path, error);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SMALL_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(refused)?;
    if bytes.len() as u64 > SMALL_FILE_BYTES_MAX {
        return Err(CollectError::malformed(
            path,
            "it is longer than 4 MiB: leave columns out that are not read, or give each site its own inventory",
        ));
    }
    Ok(bytes)
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

    fn details(&self) -> Vec<String> {
        self.details.clone()
    }
}
