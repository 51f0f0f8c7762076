//! The last rung: a constant power, called a default wherever it shows.

use cms_spec::provenance::{Confidence, Origin, Quality};
use cms_spec::units::Milliwatts;

use super::{Rung, Span, Verdict};
use crate::checked::Watts;

/// The specification's power of an instance of unknown type (section IX).
pub(super) const SPECIFICATION_WATTS: u64 = 100;

/// A constant power.
pub(super) struct Constant(Milliwatts);

impl Constant {
    pub(super) fn new(watts: Watts) -> Self {
        Self(Milliwatts(watts.0.saturating_mul(1000)))
    }
}

impl Rung for Constant {
    fn name(&self) -> &str {
        "default"
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        span.map_or(Verdict::Baseline, |span| Verdict::Energy {
            energy: self.0.over(span.over),
            over: span.over,
        })
    }

    fn origin(&self) -> Origin {
        Origin {
            source: "default".to_owned(),
            method: format!("constant/1 {} W", self.0.0 / 1000),
            quality: Quality::Default,
            confidence: Confidence::F,
            fallback: None,
            note: None,
        }
    }
}
