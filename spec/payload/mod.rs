//! The wire form of submissions, one module for each published version of the specification.
//!
//! [`v1`] mirrors specification v1.0, section II, field by field. [`Envelope`] is what is posted: `data` holds
//! the specification's object and nothing else, and everything of ours stands beside it.

pub mod build;
mod provenance;
pub mod v1;

pub use build::{Canonical, Closed, Context, EnergyFactors, Figure, Payload};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::category::Category;
use crate::ids::CompanyId;
use crate::provenance::Entry;
use crate::slot::Slot;

/// The tag of the agent's additions around the specification's object.
pub const SCHEMA: &str = "cms-telemetry/1";

/// The body of a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Whose figures these are.
    pub company_id: CompanyId,
    /// When the window closed, UTC with `Z`.
    #[serde(with = "utc")]
    pub timestamp: Timestamp,
    /// The specification's object.
    pub data: Data,
    /// Who says it. Absent in submissions of other clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentInfo>,
    /// Where the figures come from. Absent in submissions of other clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provenance: Vec<Entry>,
}

/// The specification's object of one category, under its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Data {
    /// Section II.A.
    #[serde(rename = "ghost_compute")]
    GhostCompute(v1::GhostCompute),
    /// Section II.B.
    #[serde(rename = "model_efficiency")]
    ModelEfficiency(v1::ModelEfficiency),
    /// Section II.C.
    #[serde(rename = "dark_data")]
    DarkData(v1::DarkData),
    /// Section II.D.
    #[serde(rename = "heat_recovery")]
    HeatRecovery(v1::HeatRecovery),
    /// Section II.E.
    #[serde(rename = "telemetry_coverage")]
    TelemetryCoverage(v1::TelemetryCoverage),
}

impl Data {
    /// The category that the object belongs to.
    #[must_use]
    pub const fn category(&self) -> Category {
        match self {
            Self::GhostCompute(_) => Category::GhostCompute,
            Self::ModelEfficiency(_) => Category::ModelEfficiency,
            Self::DarkData(_) => Category::DarkData,
            Self::HeatRecovery(_) => Category::HeatRecovery,
            Self::TelemetryCoverage(_) => Category::CoverageVerification,
        }
    }
}

/// Who says it, for which slot, as which entry of its ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Given by the agent to itself, and its own since enrolment.
    pub agent_id: String,
    /// The agent's version.
    pub version: String,
    /// Where it stands, if configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// A node speaks for itself, a gateway for others.
    pub role: Role,
    /// The slot that this submission closes.
    pub slot: Slot,
    /// The index of its leaf in the ledger.
    pub sequence: u64,
    /// Whether it was made while the slot was current.
    pub delivery: Delivery,
    /// [`SCHEMA`].
    pub schema: String,
}

/// What an agent speaks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Other agents.
    Gateway,
    /// The host it runs on and the sources it was pointed at.
    #[default]
    Node,
}

/// Whether a submission may drive the current figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Made too late to be current; it fills history only.
    Backfill,
    /// Made while its slot was current.
    #[default]
    Live,
}

mod utc {
    //! Times on the wire are RFC 3339 in UTC with `Z`; a time without an offset is refused.

    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        at: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            D::Error::custom(format!(
                "{text:?} is not an RFC 3339 time with an offset, such as 2026-01-16T15:45:00Z"
            ))
        })
    }
}
