//! Where a figure comes from: one source at one time, and how much it can be trusted.
//!
//! Provenance travels beside the specification's own JSON, never inside it. It is compact: one entry for
//! each (figure, source), not for each row.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::coverage::Thing;
use crate::dark::AgeBand;
use crate::units::Fixed;

/// How a value came to be. The order is from best to worst, so that the worst of several is their maximum.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Read from a sensor or a kernel counter.
    #[default]
    Measured,
    /// Computed by a named model.
    Estimated,
    /// A constant that somebody configured or that we ship.
    Default,
    /// Not to be had; the figure is withheld or, where the specification demands a number, says so here.
    Unavailable,
}

/// Grades of the power ladder, A is a revenue-grade meter and F a default.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Confidence {
    A,
    #[default]
    B,
    C,
    D,
    E,
    F,
}

/// Why a worse source than the preferred one speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fallback {
    /// The preferred source that did not answer.
    pub from: String,
    /// Why it did not, in words that a person can act on.
    pub reason: String,
}

/// One source, as a collector declares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Names the source, for example `rapl/sysfs` or `procfs`.
    pub source: String,
    /// Names the method and its version, for example `rapl-sysfs/1`.
    pub method: String,
    /// How the values came to be.
    pub quality: Quality,
    /// How far they can be trusted.
    pub confidence: Confidence,
    /// Set when a better source should have spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// What a reader must know besides, in words that stay the same from tick to tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Origin {
    /// A source that was read directly.
    #[must_use]
    pub fn measured(source: &str, method: &str, confidence: Confidence) -> Self {
        Self {
            source: source.to_owned(),
            method: method.to_owned(),
            quality: Quality::Measured,
            confidence,
            fallback: None,
            note: None,
        }
    }
}

/// What another source said of the same figure over the same time. It is never merged into the figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossCheck {
    /// The other source.
    pub source: String,
    /// Its mean, in the unit of the figure.
    pub value: Fixed<1>,
    /// How far it is from the source that counts, in percent of that one, over the time that both spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta_pct: Option<Fixed<1>>,
}

/// What is said about one figure of a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The figure as a path inside `data`, for example `instance_inventory[].power_draw_watts`.
    pub figure: String,
    /// The source's name.
    pub source: String,
    /// The method and its version.
    pub method: String,
    /// Measured, estimated, default or unavailable.
    pub quality: Quality,
    /// A to F.
    pub confidence: Confidence,
    /// The factor itself, where the figure rests on one, so that others can compute it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Fixed<6>>,
    /// When the newest value was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Timestamp>,
    /// The share of the calculation window that was really observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Fixed<4>>,
    /// True when the calculation window is not full yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    /// Set when a better source should have spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// What a reader must know besides, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How many rows of the payload this entry speaks for, when it is not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// What other sources said of the same figure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cross_check: Vec<CrossCheck>,
    /// What is stored by the age of its last access, where the figure is one of ages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ages: Vec<AgeBand>,
    /// Things that the entry is about, with their clocks; the first of them where there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub things: Vec<Thing>,
}

impl Entry {
    /// An entry for a figure from a source, with nothing else said.
    #[must_use]
    pub fn new(figure: &str, origin: &Origin) -> Self {
        Self {
            figure: figure.to_owned(),
            source: origin.source.clone(),
            method: origin.method.clone(),
            quality: origin.quality,
            confidence: origin.confidence,
            value: None,
            observed_at: None,
            coverage: None,
            provisional: false,
            fallback: origin.fallback.clone(),
            note: origin.note.clone(),
            rows: None,
            cross_check: Vec::new(),
            ages: Vec::new(),
            things: Vec::new(),
        }
    }
}
