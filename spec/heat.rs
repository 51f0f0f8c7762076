//! Heat recovery (specification II.D): what heat the machines give off, and what of it somebody uses.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::ids::Subject;
use crate::payload::v1::{HeatSummary, ThermalSource};
use crate::provenance::Origin;
use crate::reading::Quantity;
use crate::units::{Fixed, Millis, Milliwatts};

/// Companies below this rolling mean of thermal output are exempt.
pub const EXEMPT_BELOW: Milliwatts = Milliwatts(50_000_000);

/// An efficiency over a smaller output than this says nothing.
pub const OUTPUT_MIN: Milliwatts = Milliwatts(100_000);

/// An efficiency needs this share of the window, in percent, with both sides observed.
pub const COMMON_PERCENT_MIN: u32 = 95;

/// The span of the rolling mean.
pub const WINDOW: Millis = Millis(86_400_000);

/// What `heat_utilization` says where nobody uses the heat.
pub const UNUSED: &str = "none";

/// The figure under which provenance states an exemption.
pub const EXEMPTION_FIGURE: &str = "exempt";

/// What it says under 50 kW.
pub const EXEMPT_BELOW_50KW: &str = "below_50kw";

/// How it begins in a season in which recovery is impractical; the reason follows.
pub const EXEMPT_SEASONAL: &str = "seasonal: ";

/// 0 degrees Celsius in thousandths of a kelvin.
const ZERO_CELSIUS_MK: i64 = 273_150;

/// What a thermal source is, apart from what it gives off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThermalFacts {
    /// Where it stands; the name under which it reports.
    pub source: Subject,
    /// For example `gpu_cluster`.
    pub equipment_type: String,
    /// For example `liquid_to_air_heat_exchanger`.
    pub cooling_method: String,
    /// For example `office_space_heating`, or `none`.
    pub heat_utilization: String,
    /// Set for the months in which recovery is impractical here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemption: Option<Exemption>,
    /// What has no value now though it is measured, and why, in words that do not change with each reading.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<Quantity, String>,
}

impl ThermalFacts {
    /// Whether nobody uses the heat.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.heat_utilization == UNUSED
    }
}

/// A season in which heat recovery is impractical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemption {
    /// Why.
    pub reason: String,
    /// First day, UTC.
    pub from: Date,
    /// Last day, UTC.
    pub to: Date,
}

/// Sums of one quantity of heat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heat {
    /// How much.
    pub microjoules: u128,
    /// For how long it was observed.
    pub observed_ms: u128,
}

/// One thermal source at the close of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What it is.
    pub facts: ThermalFacts,
    /// What the equipment gave off.
    pub output: Heat,
    /// What the point of use received.
    pub delivered: Heat,
    /// What was taken out at the source.
    pub source_captured: Heat,
    /// Output of the buckets in which both output and delivery were observed.
    pub common_output: Heat,
    /// Delivery of the same buckets.
    pub common_delivered: Heat,
    /// For how long both were observed.
    pub common_ms: u128,
    /// Thousandths of a kelvin times milliseconds, and for how long.
    pub exhaust: Heat,
    /// Newest origins of output, delivery, source capture and temperature.
    pub origins: [Option<Origin>; 4],
    /// When the newest reading of it was taken.
    pub last_seen: Timestamp,
}

impl Heat {
    /// Mean power in kilowatts over the time observed.
    #[must_use]
    pub fn mean_kw(&self) -> Option<Fixed<1>> {
        Fixed::ratio(self.microjoules, self.observed_ms.saturating_mul(1_000_000))
    }

    /// Mean power in milliwatts, rounded down.
    #[must_use]
    pub fn mean_mw(&self) -> Option<u128> {
        self.microjoules.checked_div(self.observed_ms)
    }
}

impl Observed {
    /// Share of the window in which both output and delivery were observed.
    #[must_use]
    pub fn common_coverage(&self) -> Fixed<4> {
        let whole = u128::from(WINDOW.0);
        Fixed::ratio(self.common_ms.min(whole), whole).unwrap_or_default()
    }

    /// Delivered over output, both over the common window; nothing where that is too thin or too small.
    #[must_use]
    pub fn efficiency(&self) -> Option<Fixed<3>> {
        let whole = u128::from(WINDOW.0);
        let thin = self.common_ms.saturating_mul(100)
            < whole.saturating_mul(u128::from(COMMON_PERCENT_MIN));
        let small = self.common_output.mean_mw()? < u128::from(OUTPUT_MIN.0);
        if thin || small {
            return None;
        }
        let (output, delivered) = (&self.common_output, &self.common_delivered);
        Fixed::ratio(
            delivered.microjoules.saturating_mul(output.observed_ms),
            delivered.observed_ms.saturating_mul(output.microjoules),
        )
    }

    /// The row of the payload.
    #[must_use]
    pub fn row(&self) -> ThermalSource {
        let celsius = |mean: u128| {
            let milli = i64::try_from(mean).unwrap_or(i64::MAX) - ZERO_CELSIUS_MK;
            Fixed::<3>::from_raw(milli).rescale()
        };
        ThermalSource {
            location: self.facts.source.to_string(),
            equipment_type: self.facts.equipment_type.clone(),
            thermal_output_kw: self.output.mean_kw(),
            exhaust_temp_celsius: self.exhaust.mean_mw().map(celsius),
            cooling_method: self.facts.cooling_method.clone(),
            heat_captured_kw: self.delivered.mean_kw(),
            heat_utilization: self.facts.heat_utilization.clone(),
            recovery_efficiency: self.efficiency(),
        }
    }
}

/// Most ways of use that a summary names.
const METHODS_MAX: usize = 16;

/// Sums over all sources; the ratio only where every source with an output has an efficiency.
#[must_use]
pub fn summary(rows: &[ThermalSource]) -> HeatSummary {
    let kw = |of: fn(&ThermalSource) -> Option<Fixed<1>>| -> Fixed<1> {
        rows.iter().filter_map(of).map(Fixed::at_least_zero).sum()
    };
    let output = kw(|row| row.thermal_output_kw);
    let captured = kw(|row| row.heat_captured_kw);
    let known = rows.iter().all(|row| {
        row.recovery_efficiency.is_some()
            || row
                .thermal_output_kw
                .is_some_and(|kw| kw.magnitude() * 100_000 < u128::from(OUTPUT_MIN.0))
    });
    let mut methods: Vec<(&str, Fixed<1>)> = Vec::new();
    for row in rows.iter().filter(|row| row.heat_utilization != UNUSED) {
        let captured = row.heat_captured_kw.unwrap_or_default();
        match methods
            .iter_mut()
            .find(|(name, _)| *name == row.heat_utilization)
        {
            Some((_, sum)) => *sum = *sum + captured,
            None => methods.push((&row.heat_utilization, captured)),
        }
    }
    methods.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    HeatSummary {
        total_thermal_output_kw: output,
        total_heat_captured_kw: captured,
        overall_recovery_ratio: known
            .then(|| Fixed::ratio(captured.magnitude(), output.magnitude()))
            .flatten(),
        primary_utilization_methods: methods
            .into_iter()
            .filter(|(_, sum)| *sum > Fixed::ZERO)
            .take(METHODS_MAX)
            .map(|(name, _)| name.to_owned())
            .collect(),
    }
}

/// Whether the total output is known and small enough to be exempt: a silent meter exempts nobody.
#[must_use]
pub fn is_exempt(rows: &[ThermalSource]) -> bool {
    let mut total = Fixed::<1>::ZERO;
    for row in rows {
        let Some(output) = row.thermal_output_kw else {
            return false;
        };
        total = total + output.at_least_zero();
    }
    !rows.is_empty() && total.magnitude() * 100_000 < u128::from(EXEMPT_BELOW.0)
}

/// The reason of a seasonal exemption, when every source has one on the UTC day of `end`.
#[must_use]
pub fn season(sources: &[Observed], end: Timestamp) -> Option<&str> {
    let today = end.to_zoned(TimeZone::UTC).date();
    let of = |one: &Observed| {
        one.facts
            .exemption
            .as_ref()
            .is_some_and(|e| e.from <= today && today <= e.to)
    };
    let first = sources.first()?.facts.exemption.as_ref()?;
    sources.iter().all(of).then_some(first.reason.as_str())
}
