//! One page of metrics: the counters in it that we read, in integers.
//!
//! Promises: a value that is negative, no whole number or too large for its float is no value; a bounded number of
//! series. Refuses: rounding tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cms_spec::models::sample_rank;
use cms_spec::units::Fixed;

use super::dialect::{Count, Dialect};
use crate::exposition::{Item, Labels, Sample};
use crate::models::request::{Tags, Word};

/// Most series of one server: a hundred engines with the reasons for which requests end.
pub(super) const SERIES_MAX: usize = 1024;

/// Most statements about when a counter was made; a page of vLLM with ten engines has two thousand.
const CREATED_MAX: usize = 16_384;

/// Paths of an API; servers have about twenty.
const PATHS_MAX: usize = 64;

/// Whole numbers up to here are exact in the float of a page.
const EXACT_MAX: i64 = 1 << 53;

/// Whose counters are added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) model: Option<Word>,
    pub(super) tags: Tags,
}

/// One series, by what it counts and a hash of its name and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    pub(super) count: Count,
    pub(super) rank: u8,
    pub(super) hash: u64,
}

/// What the page says of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) group: Group,
    pub(super) value: u64,
    /// When it began to count, in milliseconds since the epoch by the server's clock.
    pub(super) created_ms: Option<i64>,
}

/// What one page says.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) series: BTreeMap<Series, Counted>,
    /// When the process began, in milliseconds since the epoch by the server's clock.
    pub(super) started_ms: Option<i64>,
    /// Series beyond [`SERIES_MAX`].
    pub(super) dropped: u64,
    /// Series whose value is no count.
    pub(super) broken: u64,
    /// Whether a series is there twice, as after two pages were joined.
    pub(super) is_double: bool,
    created: BTreeMap<u64, i64>,
    paths: BTreeSet<Word>,
}

impl Page {
    /// Takes what a line says.
    pub(super) fn take(&mut self, dialect: &dyn Dialect, item: Item<'_>) {
        let Item::Sample(sample) = item else { return };
        let name = sample.name.to_cow();
        if name == "process_start_time_seconds" {
            self.started_ms = milliseconds(sample.value);
            return;
        }
        if let Some(stem) = name.strip_suffix("_created") {
            if let Some(created) = milliseconds(sample.value)
                && self.created.len() < CREATED_MAX
            {
                self.created.insert(hash(stem, sample.labels), created);
            }
            return;
        }
        if let Some(path) = dialect.path(&sample) {
            if self.paths.len() < PATHS_MAX {
                self.paths.insert(path);
            }
            return;
        }
        let Some(meaning) = dialect.meaning(&sample) else {
            return;
        };
        let stem = ["_total", "_sum"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        let series = Series {
            count: meaning.count,
            rank: meaning.rank,
            hash: hash(stem.unwrap_or(&name), sample.labels),
        };
        let Some(value) = value(&sample, meaning.count) else {
            self.broken += 1;
            return;
        };
        if self.series.contains_key(&series) {
            self.is_double = true;
        } else if self.series.len() >= SERIES_MAX {
            self.dropped += 1;
        } else {
            let counted = Counted {
                group: Group {
                    model: meaning.model,
                    tags: meaning.tags,
                },
                value,
                created_ms: None,
            };
            self.series.insert(series, counted);
        }
    }

    /// The page is over: series know when they were made, and names that only repeat others are gone.
    pub(super) fn finish(&mut self) {
        let mut best: BTreeMap<Count, u8> = BTreeMap::new();
        for series in self.series.keys() {
            let rank = best.entry(series.count).or_insert(series.rank);
            *rank = series.rank.min(*rank);
        }
        self.series
            .retain(|series, _| best.get(&series.count) == Some(&series.rank));
        for (series, counted) in &mut self.series {
            counted.created_ms = self.created.get(&series.hash).copied();
        }
        self.created.clear();
    }

    /// The path of the API where the server has only ever served one.
    pub(super) fn only_path(&self) -> Option<&Word> {
        let mut paths = self.paths.iter();
        paths.next().filter(|_| paths.next().is_none())
    }
}

fn value(sample: &Sample<'_>, count: Count) -> Option<u64> {
    if count == Count::Energy {
        return Fixed::<6>::from_f64(sample.value)?.raw().try_into().ok();
    }
    let whole = Fixed::<0>::from_f64(sample.value)?;
    let is_exact = whole.to_f64().total_cmp(&sample.value).is_eq() && whole.raw() <= EXACT_MAX;
    whole.raw().try_into().ok().filter(|_| is_exact)
}

fn milliseconds(seconds: f64) -> Option<i64> {
    let raw = Fixed::<3>::from_f64(seconds)?.raw();
    (raw > 0).then_some(raw)
}

/// The same for the same series, in whichever order its labels stand.
fn hash(stem: &str, labels: Labels<'_>) -> u64 {
    let mut pairs: Vec<_> = labels
        .iter()
        .map(|label| (label.name.to_cow(), label.value.to_cow()))
        .collect();
    pairs.sort_unstable();
    let mut text = stem.to_owned();
    for (name, value) in pairs {
        // Writing to a text cannot fail.
        let _ = write!(text, ",{name}={value:?}");
    }
    sample_rank(&text)
}
