//! Dark data (specification II.C): what is stored and not read.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::Subject;
use crate::payload::v1::{DarkSummary, StorageClass, StorageRow};
use crate::units::{Bytes, Fixed};

/// An object is dark when it was last accessed more than this many days ago.
pub const DARK_AFTER_DAYS: i64 = 180;

/// Ages at which objects change their class of the histogram, in days; the third is the border of darkness.
pub const AGE_LIMITS_DAYS: [i64; 6] = [30, 90, DARK_AFTER_DAYS, 365, 730, 1825];

/// A larger share of dark bytes than this, in percent, that turns active between two scans is an anomaly.
pub const TURNED_ACTIVE_PERCENT_MAX: u32 = 20;

/// The figure under which provenance has the ages of what is stored.
pub const AGES_FIGURE: &str = "storage_inventory[].days_since_access";

const SECONDS_PER_DAY: i64 = 86_400;

/// Bytes in a decimal gigabyte, at nine digits after the point.
const BYTES_PER_GB: u128 = 1_000_000_000;

/// A finished scan of one storage unit, with objects already told apart by class as of `as_of`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageScan {
    /// The unit's name, the only name below which nothing leaves the host.
    pub unit: Subject,
    /// Where it is, so that another place that takes the name over is told apart. It never leaves the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Region or site.
    pub region: String,
    /// For example `standard`.
    pub storage_class: String,
    /// Price of a decimal gigabyte for a month, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_gb_month: Option<Fixed<6>>,
    /// The moment that ages are counted from: the start of the scan.
    pub as_of: Timestamp,
    /// When the scan ended.
    pub finished_at: Timestamp,
    /// What last access was taken from.
    pub basis: AccessBasis,
    /// Objects accessed within 180 days.
    pub active: Tally,
    /// Objects not accessed for more than 180 days.
    pub dark: Tally,
    /// Directories and objects that could not be read.
    pub unreadable: u64,
    /// How old the objects are; empty in a scan that was made before there was a histogram.
    #[serde(default, skip_serializing_if = "Ages::is_empty")]
    pub ages: Ages,
    /// What is in each storage class, where the unit can have several; its own class and price are then not used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassShare>,
}

/// What a unit holds in one storage class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassShare {
    /// As the store calls it, for example `STANDARD`.
    pub storage_class: String,
    /// Price of a decimal gigabyte for a month in this class, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_gb_month: Option<Fixed<6>>,
    /// Bytes of active objects.
    pub active: Bytes,
    /// Bytes of dark objects.
    pub dark: Bytes,
}

/// Objects by the age of their last access: not older than each of [`AGE_LIMITS_DAYS`], and older than all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ages([Age; AGE_LIMITS_DAYS.len() + 1]);

/// The objects of one age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Age {
    /// Allocated bytes, hard links counted once.
    pub bytes: Bytes,
    /// How many.
    pub objects: u64,
}

/// One age of a histogram as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeBand {
    /// Days since the last access that all of it is older than; 0 for the youngest.
    pub from_days: i64,
    /// Days that nothing of it is older than; none for the oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_days: Option<i64>,
    /// Decimal gigabytes.
    pub total_size_gb: Fixed<9>,
    /// How many objects.
    pub object_count: u64,
}

impl fmt::Display for AccessAnomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [turned, before] = [self.turned_active.0, self.dark_before.0].map(u128::from);
        let percent = Fixed::<1>::ratio(turned.saturating_mul(100), before).unwrap_or_default();
        write!(
            f,
            "{} of {} that were dark ({percent} %)",
            amount(turned),
            amount(before)
        )
    }
}

impl Ages {
    /// Adds objects that are older than `limits` of the limits.
    pub fn add(&mut self, limits: usize, bytes: Bytes, objects: u64) {
        if let Some(age) = self.0.get_mut(limits) {
            age.bytes += bytes;
            age.objects += objects;
        }
    }

    /// Adds the objects of another part of the unit.
    pub fn merge(&mut self, other: &Self) {
        for (limits, age) in other.0.iter().enumerate() {
            self.add(limits, age.bytes, age.objects);
        }
    }

    /// Each age in words with its objects, the youngest first.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, Age)> {
        const WORDS: [&str; AGE_LIMITS_DAYS.len() + 1] = [
            "up to 30 days",
            "30 to 90 days",
            "90 to 180 days",
            "180 days to 1 year",
            "1 to 2 years",
            "2 to 5 years",
            "over 5 years",
        ];
        WORDS.into_iter().zip(self.0)
    }

    /// Each age with its objects as it travels, the youngest first.
    pub fn bands(&self) -> impl Iterator<Item = AgeBand> {
        let from = [0].into_iter().chain(AGE_LIMITS_DAYS);
        let to = AGE_LIMITS_DAYS.into_iter().map(Some).chain([None]);
        let bands = from.zip(to).zip(self.0);
        bands.map(|((from_days, to_days), age)| AgeBand {
            from_days,
            to_days,
            total_size_gb: gigabytes(age.bytes),
            object_count: age.objects,
        })
    }

    /// Whether there are no objects.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|age| age.objects == 0)
    }
}

/// The objects of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Allocated bytes, hard links counted once.
    pub bytes: Bytes,
    /// How many.
    pub objects: u64,
    /// The oldest access among them; nothing when there are none.
    pub oldest_access: Option<Timestamp>,
}

/// What last access was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessBasis {
    /// The later of access and modification time, on a mount that keeps access times.
    AccessTime,
    /// Modification time on a `noatime` mount: the object was accessed then or later.
    MtimeLowerBound,
    /// When an object store says that the object was written: it tells of no reads, so that the object was
    /// accessed then or later.
    LastModified,
}

/// Dark data that was read again, more of it than deletions or migrations explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessAnomaly {
    /// Bytes that were dark in the scan before.
    pub dark_before: Bytes,
    /// Bytes that have turned active, at least.
    pub turned_active: Bytes,
}

/// Bytes that turned from dark to active between two scans, where they are too many to be usual.
///
/// Data that left the dark class without arriving in the active one was deleted or moved, which is the aim. Scans of
/// two places with one name have nothing to do with each other.
#[must_use]
pub fn access_anomaly(before: &StorageScan, after: &StorageScan) -> Option<AccessAnomaly> {
    if let (Some(was), Some(is)) = (&before.place, &after.place)
        && was != is
    {
        return None;
    }
    let left = before.dark.bytes - after.dark.bytes;
    let arrived = after.active.bytes - before.active.bytes;
    let turned = left.min(arrived);
    let too_many = u128::from(turned.0) * 100
        > u128::from(before.dark.bytes.0) * u128::from(TURNED_ACTIVE_PERCENT_MAX);
    too_many.then_some(AccessAnomaly {
        dark_before: before.dark.bytes,
        turned_active: turned,
    })
}

/// The rows of one unit: one for each class that holds anything.
#[must_use]
pub fn rows(scan: &StorageScan) -> Vec<StorageRow> {
    let row = |class: StorageClass, tally: &Tally| {
        let (storage_class, monthly_cost_usd) = price(scan, class, tally);
        let oldest = tally.oldest_access?;
        (tally.objects > 0).then(|| StorageRow {
            bucket_name: match class {
                StorageClass::Active => scan.unit.to_string(),
                StorageClass::Dark => format!("{}:dark", scan.unit),
            },
            region: scan.region.clone(),
            total_size_gb: gigabytes(tally.bytes),
            object_count: tally.objects,
            last_accessed_oldest: oldest,
            days_since_access: days_since(oldest, scan.as_of, class),
            classification: class,
            monthly_cost_usd,
            storage_class,
        })
    };
    [
        row(StorageClass::Active, &scan.active),
        row(StorageClass::Dark, &scan.dark),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Sums over rows; they add up exactly, because every row is exact to the byte.
#[must_use]
pub fn summary(rows: &[StorageRow]) -> DarkSummary {
    let dark = || {
        rows.iter()
            .filter(|row| row.classification == StorageClass::Dark)
    };
    let total: Fixed<9> = rows
        .iter()
        .map(|row| row.total_size_gb.at_least_zero())
        .sum();
    let dark_gb: Fixed<9> = dark().map(|row| row.total_size_gb.at_least_zero()).sum();
    DarkSummary {
        total_storage_gb: total,
        dark_data_gb: dark_gb,
        dark_data_ratio: Fixed::ratio(dark_gb.magnitude(), total.magnitude()),
        monthly_waste_usd: dark().map(|row| row.monthly_cost_usd.at_least_zero()).sum(),
        recommended_action: recommended_action(dark_gb),
    }
}

/// One sentence with the amount.
#[must_use]
pub fn recommended_action(dark: Fixed<9>) -> String {
    let bytes = dark.magnitude();
    if bytes == 0 {
        return "nothing to do: no data is dark".to_owned();
    }
    format!("migrate {} to cold storage or delete it", amount(bytes))
}

/// Bytes for people.
fn amount(bytes: u128) -> String {
    let (unit, name) = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
    ]
    .into_iter()
    .find(|(unit, _)| bytes >= *unit)
    .unwrap_or((1_000, "kB"));
    let amount = Fixed::<1>::ratio(bytes, unit).unwrap_or_default();
    format!("{amount} {name}")
}

/// Decimal gigabytes, exact to the byte.
#[must_use]
pub fn gigabytes(bytes: Bytes) -> Fixed<9> {
    Fixed::ratio(u128::from(bytes.0), BYTES_PER_GB).unwrap_or_default()
}

/// Whole days for active rows and begun days for dark ones, so that a dark row never says 180.
fn days_since(oldest: Timestamp, as_of: Timestamp, class: StorageClass) -> u64 {
    let age = as_of.duration_since(oldest);
    let whole = age.as_secs() / SECONDS_PER_DAY;
    let begun = age.as_secs() % SECONDS_PER_DAY > 0 || age.subsec_nanos() > 0;
    let days = match class {
        StorageClass::Active => whole,
        StorageClass::Dark => whole + i64::from(begun),
    };
    u64::try_from(days).unwrap_or(0)
}

impl StorageScan {
    /// Whether a price is missing for something that the unit holds.
    #[must_use]
    pub fn is_unpriced(&self) -> bool {
        if self.classes.is_empty() {
            let holds_nothing = self.active.bytes.0 == 0 && self.dark.bytes.0 == 0;
            return self.usd_per_gb_month.is_none() && !holds_nothing;
        }
        let holds = |share: &&ClassShare| share.active.0 > 0 || share.dark.0 > 0;
        let mut held = self.classes.iter().filter(holds);
        held.any(|share| share.usd_per_gb_month.is_none())
    }
}

/// The storage class of a row, and its price of a month at the configured rates; 0.0 without one, which
/// provenance then says. Several classes are named together, the largest first, and rounded once.
fn price(scan: &StorageScan, class: StorageClass, tally: &Tally) -> (String, Fixed<2>) {
    let parts: Vec<(&str, Bytes, Option<Fixed<6>>)> = if scan.classes.is_empty() {
        vec![(&scan.storage_class, tally.bytes, scan.usd_per_gb_month)]
    } else {
        let bytes = |share: &ClassShare| match class {
            StorageClass::Active => share.active,
            StorageClass::Dark => share.dark,
        };
        let shares = scan.classes.iter().filter(|share| bytes(share).0 > 0);
        let shares = shares.map(|s| (s.storage_class.as_str(), bytes(s), s.usd_per_gb_month));
        let mut shares: Vec<_> = shares.collect();
        shares.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        shares
    };
    let cost = parts.iter().fold(0_u128, |sum, (_, bytes, price)| {
        let price = price.unwrap_or_default().magnitude();
        sum.saturating_add(u128::from(bytes.0).saturating_mul(price))
    });
    let names: Vec<&str> = parts.iter().map(|(name, ..)| *name).collect();
    let name = if names.is_empty() {
        scan.storage_class.clone()
    } else {
        names.join(", ")
    };
    let cost = Fixed::ratio(cost, BYTES_PER_GB * 1_000_000).unwrap_or_default();
    (name, cost)
}
