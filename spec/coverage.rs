//! Telemetry coverage (specification II.E): what reports, against what was documented.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

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

/// One thing of the documented inventory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Documented {
    /// The id under which it reports.
    pub id: String,
    /// What people call it.
    pub name: String,
}
