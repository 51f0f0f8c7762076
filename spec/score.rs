//! Scores (specification III.A): what merged figures are worth, and which tier they earn.
//!
//! `linear-v1`: each metric is 100 times the share that is not wasted, unrounded; weights .25 four times, or
//! .33, .33 and .34 where heat is exempt. A metric below 75 means Silver, whatever the composite.

use serde::{Deserialize, Serialize};

use crate::category::Category;
use crate::coverage::{is_enough, share};
use crate::merge::Merged;
use crate::tier::Tier;
use crate::units::Fixed;

/// Points of 100, at so many digits that no bracket is missed by rounding.
pub type Points = Fixed<9>;

/// Names the formula; another one gets another name.
pub const SCORE_FN: &str = "linear-v1";

/// No metric may fall below this.
pub const METRIC_MIN: Points = Points::from_raw(75 * Points::SCALE);

/// What a metric is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// It does not have to be met; the others weigh more.
    Exempt,
    /// Nothing was submitted.
    Missing,
    /// It was submitted, but there is nothing to divide by.
    NotApplicable,
    /// Points of 100.
    Scored(Points),
}

impl Metric {
    /// The points, where there are any.
    #[must_use]
    pub const fn points(self) -> Option<Points> {
        match self {
            Self::Scored(points) => Some(points),
            Self::Exempt | Self::Missing | Self::NotApplicable => None,
        }
    }
}

/// What a company's figures are worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompanyScore {
    /// Ghost compute.
    pub ghost: Metric,
    /// Model efficiency.
    pub model: Metric,
    /// Dark data.
    pub dark: Metric,
    /// Heat recovery.
    pub heat: Metric,
    /// The weighted mean; nothing while a metric has no points and is not exempt.
    pub composite: Option<Points>,
    /// What the figures earn today, without any grace.
    pub tier: Tier,
    /// Why it is Silver, in words.
    pub reason: Option<String>,
    /// Metrics below 75.
    pub failing: Vec<Category>,
    /// Metrics that have no points and are not exempt.
    pub missing: Vec<Category>,
    /// The smallest coverage ratio, which has to reach 0.95; nothing without a baseline. Not scored.
    pub coverage_minimum: Option<Fixed<3>>,
    /// Whether every category reports enough, from the counts.
    pub is_covered: bool,
}

impl CompanyScore {
    /// Whether every category reports at least 95 % of what is documented; nothing without a baseline.
    #[must_use]
    pub fn coverage_gate(&self) -> Option<bool> {
        self.coverage_minimum?;
        Some(self.is_covered)
    }
}

/// Scores the merged figures of one company.
#[must_use]
pub fn score(merged: &Merged) -> CompanyScore {
    let ghost = scored(merged.ghost_of_total(), Wanted::TheRest);
    let model = scored(
        merged.model().map(|model| {
            let summary = &model.summary;
            let routine = u128::from(summary.routine_tasks_total);
            (u128::from(summary.routine_to_slm_count), routine)
        }),
        Wanted::ThePart,
    );
    let dark = scored(
        merged.dark().map(|dark| {
            let summary = &dark.summary;
            (
                summary.dark_data_gb.magnitude(),
                summary.total_storage_gb.magnitude(),
            )
        }),
        Wanted::TheRest,
    );
    let heat = heat(merged);
    let named = [
        (Category::GhostCompute, ghost),
        (Category::ModelEfficiency, model),
        (Category::DarkData, dark),
        (Category::HeatRecovery, heat),
    ];
    let failing: Vec<Category> = named
        .iter()
        .filter(|(_, metric)| metric.points().is_some_and(|points| points < METRIC_MIN))
        .map(|(category, _)| *category)
        .collect();
    let missing: Vec<Category> = named
        .iter()
        .filter(|(_, metric)| matches!(metric, Metric::Missing | Metric::NotApplicable))
        .map(|(category, _)| *category)
        .collect();
    let shares = merged.coverage().map_or([(0, 0); 3], |coverage| {
        let documented = &coverage.bronze_inventory_baseline;
        let reporting = &coverage.current_telemetry_sources;
        [
            (
                reporting.instances_reporting,
                documented.total_instances_documented,
            ),
            (
                reporting.storage_reporting,
                documented.total_storage_buckets_documented,
            ),
            (
                reporting.model_endpoints_reporting,
                documented.total_model_endpoints_documented,
            ),
        ]
    });
    let composite = composite([ghost, model, dark], heat);
    let names = |categories: &[Category]| {
        let paths: Vec<&str> = categories.iter().map(|category| category.path()).collect();
        paths.join(", ")
    };
    let (tier, reason) = match composite {
        None => (
            Tier::Silver,
            Some(format!("no figure to score for {}", names(&missing))),
        ),
        Some(_) if !failing.is_empty() => (
            Tier::Silver,
            Some(format!("below 75 points: {}", names(&failing))),
        ),
        Some(points) => {
            let tier = Tier::of(points);
            let reason = "the composite is below 80 points".to_owned();
            (tier, (tier == Tier::Silver).then_some(reason))
        }
    };
    CompanyScore {
        ghost,
        model,
        dark,
        heat,
        composite,
        tier,
        reason,
        failing,
        missing,
        coverage_minimum: shares
            .iter()
            .filter_map(|&(part, whole)| share(part, whole))
            .min(),
        is_covered: shares.iter().all(|&(part, whole)| is_enough(part, whole)),
    }
}

/// Which side of a ratio earns the points.
#[derive(Clone, Copy)]
enum Wanted {
    ThePart,
    TheRest,
}

/// 100 times the wanted share of the whole.
fn scored(part_of_whole: Option<(u128, u128)>, wanted: Wanted) -> Metric {
    let Some((part, whole)) = part_of_whole else {
        return Metric::Missing;
    };
    let part = part.min(whole);
    let wanted = match wanted {
        Wanted::ThePart => part,
        Wanted::TheRest => whole - part,
    };
    Points::ratio(wanted.saturating_mul(100), whole).map_or(Metric::NotApplicable, Metric::Scored)
}

fn heat(merged: &Merged) -> Metric {
    match merged.heat() {
        None => Metric::Missing,
        Some(_) if merged.is_heat_exempt() => Metric::Exempt,
        Some(heat) if heat.summary.overall_recovery_ratio.is_none() => Metric::NotApplicable,
        Some(heat) => scored(
            Some((
                heat.summary.total_heat_captured_kw.magnitude(),
                heat.summary.total_thermal_output_kw.magnitude(),
            )),
            Wanted::ThePart,
        ),
    }
}

fn composite(three: [Metric; 3], heat: Metric) -> Option<Points> {
    let (weights, fourth) = match heat {
        Metric::Exempt => ([33, 33, 34], None),
        other => ([25, 25, 25], Some(other.points()?)),
    };
    let mut hundredfold = fourth.map_or(0, |points| points.magnitude() * 25);
    for (metric, weight) in three.into_iter().zip(weights) {
        hundredfold += metric.points()?.magnitude() * weight;
    }
    let scale = u128::from(Points::SCALE.unsigned_abs());
    Points::ratio(hundredfold, 100 * scale)
}
