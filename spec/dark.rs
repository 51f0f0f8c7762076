//! Dark data (specification II.C): what is stored and not read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::Subject;
use crate::units::{Bytes, Fixed};

/// An object is dark when it was last accessed more than this many days ago.
pub const DARK_AFTER_DAYS: i64 = 180;

/// A finished scan of one storage unit, with objects already told apart by class as of `as_of`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageScan {
    /// The unit's name, the only name below which nothing leaves the host.
    pub unit: Subject,
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
}
