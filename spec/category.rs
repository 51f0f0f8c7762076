//! The five categories of telemetry and their schedules (specification, sections II and VII).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::slot::Cadence;
use crate::units::Millis;

/// One of the five things that a company reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Idle instances and the energy that they waste.
    GhostCompute,
    /// Whether routine inference goes to small models.
    ModelEfficiency,
    /// Stored data that nobody reads.
    DarkData,
    /// Waste heat and what of it is used.
    HeatRecovery,
    /// What reports, against what should.
    CoverageVerification,
}

/// A text names no category.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no category {0:?}: it is one of ghost-compute, model-efficiency, dark-data, heat-recovery, coverage-verification"
)]
pub struct UnknownCategory(pub String);

impl Category {
    /// All five, in the specification's order.
    pub const ALL: [Self; 5] = [
        Self::GhostCompute,
        Self::ModelEfficiency,
        Self::DarkData,
        Self::HeatRecovery,
        Self::CoverageVerification,
    ];

    /// The last segment of the submission endpoint, and the name used on the command line.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::GhostCompute => "ghost-compute",
            Self::ModelEfficiency => "model-efficiency",
            Self::DarkData => "dark-data",
            Self::HeatRecovery => "heat-recovery",
            Self::CoverageVerification => "coverage-verification",
        }
    }

    /// The one key inside `data`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::GhostCompute => "ghost_compute",
            Self::ModelEfficiency => "model_efficiency",
            Self::DarkData => "dark_data",
            Self::HeatRecovery => "heat_recovery",
            Self::CoverageVerification => "telemetry_coverage",
        }
    }

    /// The slowest cadence that the specification allows (section VII); it is also the default.
    #[must_use]
    pub const fn cadence(self) -> Cadence {
        match self {
            Self::GhostCompute | Self::ModelEfficiency => Cadence::from_seconds(15 * 60),
            Self::HeatRecovery => Cadence::from_seconds(5 * 60),
            Self::DarkData | Self::CoverageVerification => Cadence::from_seconds(24 * 60 * 60),
        }
    }

    /// The span that the figures of one submission speak for; nothing for a snapshot (section VII).
    #[must_use]
    pub const fn calculation_window(self) -> Option<Millis> {
        const DAY_MS: u64 = 86_400_000;
        match self {
            Self::GhostCompute | Self::ModelEfficiency => Some(Millis(30 * DAY_MS)),
            Self::HeatRecovery => Some(Millis(DAY_MS)),
            Self::DarkData | Self::CoverageVerification => None,
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

impl FromStr for Category {
    type Err = UnknownCategory;

    fn from_str(text: &str) -> Result<Self, UnknownCategory> {
        Self::ALL
            .into_iter()
            .find(|c| c.path() == text)
            .ok_or_else(|| UnknownCategory(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_reads_back() {
        for category in Category::ALL {
            assert_eq!(category.path().parse(), Ok(category));
        }
        assert!("ghost_compute".parse::<Category>().is_err());
    }
}
