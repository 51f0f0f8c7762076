//! Telemetry coverage (specification II.E): what reports, against what was documented.
//!
//! Owns: the documented inventory, the clocks of what is missing or unlisted, and the gate. Promises: a thing
//! that was decommissioned leaves the totals only with evidence whose digest is known; a clock that has begun
//! is never put back by an edit of the inventory. Refuses: files; the digest is handed in.

mod assessed;
mod history;

use std::collections::BTreeMap;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::models::sample_rank;
use crate::units::Fixed;

pub use assessed::{Assessment, Counts, Forecast, Share, Thing, assess};
pub use history::History;

/// Every category must report at least this share of what is documented.
pub const GATE: Fixed<3> = Fixed::from_raw(950);

/// A documented instance that does not report must be back, or shown to be gone, within this time.
pub const MISSING_GRACE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A new instance must be in the documented inventory within this time.
pub const UNLISTED_GRACE: SignedDuration = SignedDuration::from_hours(48);

/// The entry of provenance that names the inventory: agents that name the same one are merged.
pub const INVENTORY_METHOD: &str = "inventory/1";

/// The entry of provenance that lists what is missing.
pub const MISSING_METHOD: &str = "missing-clock/1";

/// The entry of provenance that lists what is unlisted.
pub const UNLISTED_METHOD: &str = "unlisted-clock/1";

/// The entry of provenance that lists what was taken out of service.
pub const DECOMMISSIONED_METHOD: &str = "decommissioned/1";

/// What kinds of things an inventory documents, each with a ratio of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A machine.
    Instance,
    /// A storage unit.
    Storage,
    /// A place that models are asked at.
    ModelEndpoint,
}

impl Kind {
    /// All kinds, in the order of the specification's ratios.
    pub const ALL: [Self; 3] = [Self::Instance, Self::Storage, Self::ModelEndpoint];

    /// The word in an inventory.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::ModelEndpoint => "model_endpoint",
            Self::Storage => "storage",
        }
    }

    /// The plural, for people.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Instance => "instances",
            Self::ModelEndpoint => "model endpoints",
            Self::Storage => "storage units",
        }
    }
}

/// The documented inventory that coverage is measured against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// When it was handed in.
    pub submission_date: Date,
    /// Documented instances.
    pub instances: Vec<Documented>,
    /// Documented storage units.
    pub storage: Vec<Documented>,
    /// Documented model endpoints.
    pub model_endpoints: Vec<Documented>,
}

impl Baseline {
    /// What is documented of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &[Documented] {
        match kind {
            Kind::Instance => &self.instances,
            Kind::ModelEndpoint => &self.model_endpoints,
            Kind::Storage => &self.storage,
        }
    }

    /// Names the inventory: the same for each agent that reads it, whatever evidence it can read.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut rows: Vec<String> = Kind::ALL
            .into_iter()
            .flat_map(|kind| self.of(kind).iter().map(move |one| (kind, &one.id)))
            .map(|(kind, id)| format!("{} {id}\n", kind.word()))
            .collect();
        rows.sort_unstable();
        let count = rows.len();
        let text = format!("{}\n{}", self.submission_date, rows.concat());
        format!("{:016x} of {count} rows", sample_rank(&text))
    }
}

/// One thing of the documented inventory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Documented {
    /// The id under which it reports.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Set when it was taken out of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decommissioned: Option<Decommissioned>,
}

impl Documented {
    /// `id (name)`, or the id alone where nobody has given it a name.
    #[must_use]
    pub fn label(&self) -> String {
        if self.name.is_empty() || self.name == self.id {
            self.id.clone()
        } else {
            format!("{} ({})", self.id, self.name)
        }
    }
}

/// That a thing was taken out of service, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Decommissioned {
    /// Since when; the day counts from its beginning in UTC.
    pub date: Date,
    /// The name of the file that shows it, without its folders.
    pub evidence: String,
    /// What was found there.
    pub digest: Evidence,
}

impl Decommissioned {
    /// The moment from which it holds.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        let midnight = self.date.to_datetime(Time::midnight());
        let zoned = midnight.to_zoned(TimeZone::UTC);
        zoned.map_or(Timestamp::MAX, |zoned| zoned.timestamp())
    }
}

/// The file that shows a decommission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// It is there: the digest of its bytes, in hexadecimal.
    Sha256(String),
    /// It cannot be read, and why. The record does not count.
    Unreadable(String),
}

/// What was seen of things of one kind, by the id under which they report.
pub type Seen = BTreeMap<String, Span>;

/// What reports, and what has reported before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reporting {
    /// What reports now, by [`Kind`] in the order of [`Kind::ALL`].
    pub now: [Seen; 3],
    /// What has reported before and does not now.
    pub silent: [Seen; 3],
}

impl Reporting {
    /// What reports now of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &Seen {
        let [instances, storage, endpoints] = &self.now;
        match kind {
            Kind::Instance => instances,
            Kind::ModelEndpoint => endpoints,
            Kind::Storage => storage,
        }
    }

    /// Adds a sighting; several of one thing become one.
    pub fn add(&mut self, kind: Kind, id: &str, span: Span, is_now: bool) {
        let at = kind as usize;
        let all = if is_now {
            &mut self.now
        } else {
            &mut self.silent
        };
        if let Some(seen) = all.get_mut(at) {
            see(seen, id, span);
        }
    }
}

/// The first and the newest sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First.
    pub first_seen: Timestamp,
    /// Newest.
    pub last_seen: Timestamp,
}

impl Span {
    /// Seen once.
    #[must_use]
    pub const fn once(at: Timestamp) -> Self {
        Self {
            first_seen: at,
            last_seen: at,
        }
    }
}

/// Widens what is known of a thing by a sight of it.
fn see(seen: &mut Seen, id: &str, span: Span) {
    match seen.get_mut(id) {
        Some(known) => {
            known.first_seen = known.first_seen.min(span.first_seen);
            known.last_seen = known.last_seen.max(span.last_seen);
        }
        None => {
            seen.insert(id.to_owned(), span);
        }
    }
}

/// Reporting over documented; nothing when nothing is documented.
#[must_use]
pub fn share(part: u64, whole: u64) -> Option<Fixed<3>> {
    Fixed::ratio(u128::from(part.min(whole)), u128::from(whole))
}

/// Whether enough reports; from the counts, so that no rounding lifts 0.9495 over the gate.
#[must_use]
pub fn is_enough(part: u64, whole: u64) -> bool {
    u128::from(part) * 1_000 >= u128::from(whole) * GATE.magnitude()
}

/// How many of `whole` must report.
#[must_use]
pub fn enough_of(whole: u64) -> u64 {
    let needed = (u128::from(whole) * GATE.magnitude()).div_ceil(1_000);
    u64::try_from(needed).unwrap_or(u64::MAX)
}
