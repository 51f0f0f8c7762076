//! The public shape of a company's figures (specification, section III.C), for the API and the daily lines.
//!
//! Promises: what is not known is `null` and says why beside it; it is never 0. Inventories stay inside: only
//! sums are public.

use cms_spec::Category;
use cms_spec::coverage::{Kind, Thing};
use cms_spec::impact::{BASIS, Equivalents};
use cms_spec::score::{Metric, Points};
use cms_spec::tier::{Tier, TierEvent};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::standing::Standing;
use crate::store::Event;

/// The four metrics that are scored, in the specification's order.
pub(crate) const METRICS: [Category; 4] = [
    Category::GhostCompute,
    Category::ModelEfficiency,
    Category::DarkData,
    Category::HeatRecovery,
];

/// One step of `tier_history`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) date: String,
    pub(crate) tier: String,
    pub(crate) score: Option<f64>,
}

/// The metric of a category.
pub(crate) fn metric(standing: &Standing, category: Category) -> Option<&Metric> {
    match category {
        Category::GhostCompute => Some(&standing.score.ghost),
        Category::ModelEfficiency => Some(&standing.score.model),
        Category::DarkData => Some(&standing.score.dark),
        Category::HeatRecovery => Some(&standing.score.heat),
        Category::CoverageVerification => None,
    }
}

/// A metric's score, rounded as it is shown.
pub(crate) fn shown(points: Points) -> f64 {
    points.rescale::<2>().to_f64()
}

/// Why a metric has no score, or nothing when it has one.
pub(crate) fn why(standing: &Standing, category: Category) -> Option<&'static str> {
    match metric(standing, category)? {
        Metric::Scored(_) => None,
        Metric::Exempt => Some("exempt"),
        Metric::NotApplicable => Some("not applicable: there is nothing to measure"),
        Metric::Missing => Some(match standing.voices(category).word() {
            "none" => "missing: no submission yet",
            "stale" => "stale: no live submission in time, the value is withheld",
            _ => "missing: the submission has no figure for it",
        }),
    }
}

/// `individual_metrics` and `physical_impact`, as they are kept for each day.
pub(crate) fn metrics(standing: &Standing) -> Value {
    json!({
        "individual_metrics": individual(standing),
        "physical_impact": impact(standing),
    })
}

/// The whole public status.
pub(crate) fn status(standing: &Standing, tier: Tier, history: &[Step]) -> Value {
    let composite = standing.score.composite.map(shown);
    json!({
        "company_name": standing.company.name,
        "company_id": standing.company.id,
        "certification_tier": tier.to_string(),
        "composite_efficiency": composite,
        "current_tier": standing.score.tier.to_string(),
        "reason": standing.score.reason,
        "failing_metrics": standing.score.failing.iter().map(|c| c.key()).collect::<Vec<_>>(),
        "missing_metrics": standing.score.missing.iter().map(|c| c.key()).collect::<Vec<_>>(),
        "last_updated": last_updated(standing),
        "individual_metrics": individual(standing),
        "physical_impact": impact(standing),
        "coverage": coverage(standing),
        "telemetry": telemetry(standing),
        "conflicts_count": standing.merged.conflicts().len(),
        "tier_history": history,
        "grid_citizen": false,
    })
}

/// The merged sums of every category, and who says them.
pub(crate) fn current(standing: &Standing) -> Value {
    let merged = &standing.merged;
    json!({
        "company_id": standing.company.id,
        "as_of": standing.at,
        "last_updated": last_updated(standing),
        "composite_efficiency": standing.score.composite.map(shown),
        "telemetry": telemetry(standing),
        "metrics": {
            "ghost_compute": merged.ghost().map(|ghost| json!({
                "energy_summary": ghost.energy_summary,
                "physical_impact": ghost.physical_impact,
            })),
            "model_efficiency": merged.model().map(|model| json!({ "summary": model.summary })),
            "dark_data": merged.dark().map(|dark| json!({
                "summary": dark.summary,
                "ages": merged.ages(),
            })),
            "heat_recovery": merged.heat().map(|heat| json!({ "summary": heat.summary })),
            "telemetry_coverage": coverage(standing),
        },
    })
}

/// When the newest slot of any category ended.
pub(crate) fn last_updated(standing: &Standing) -> Option<Timestamp> {
    standing.voices.values().filter_map(|v| v.newest).max()
}

/// What happened to the tier, oldest first, as the public history.
pub(crate) fn history(newest_first: &[Event]) -> Vec<Step> {
    let step = |event: &Event| {
        let (TierEvent::Promoted { to, composite, .. } | TierEvent::Revoked { to, composite, .. }) =
            serde_json::from_str(&event.event).ok()?
        else {
            return None;
        };
        Some(Step {
            date: crate::evaluate::utc_day(event.at).to_string(),
            tier: to.to_string(),
            score: composite.map(shown),
        })
    };
    newest_first.iter().rev().filter_map(step).collect()
}

fn individual(standing: &Standing) -> Value {
    let mut all = serde_json::Map::new();
    for category in METRICS {
        let mut one = serde_json::Map::new();
        let points = match metric(standing, category) {
            Some(Metric::Scored(points)) => Some(*points),
            _ => None,
        };
        one.insert("efficiency_score".to_owned(), json!(points.map(shown)));
        for (name, value) in figures(standing, category) {
            one.insert(name.to_owned(), value);
        }
        let contribution = points.map(|points| Tier::of(points).contribution());
        one.insert("tier_contribution".to_owned(), json!(contribution));
        if let Some(why) = why(standing, category) {
            one.insert("reason".to_owned(), json!(why));
        }
        all.insert(category.key().to_owned(), Value::Object(one));
    }
    Value::Object(all)
}

fn figures(standing: &Standing, category: Category) -> Vec<(&'static str, Value)> {
    let merged = &standing.merged;
    match category {
        Category::GhostCompute => {
            let energy = merged.ghost().map(|ghost| &ghost.energy_summary);
            vec![
                (
                    "ghost_energy_ratio",
                    json!(energy.and_then(|e| e.ghost_energy_ratio)),
                ),
                (
                    "wasted_kwh_daily",
                    json!(energy.map(|e| e.ghost_energy_kwh_daily)),
                ),
            ]
        }
        Category::ModelEfficiency => {
            let ratio = merged.model().and_then(|m| m.summary.routine_to_slm_ratio);
            vec![("routine_to_slm_ratio", json!(ratio))]
        }
        Category::DarkData => {
            let ratio = merged.dark().and_then(|d| d.summary.dark_data_ratio);
            vec![("dark_data_ratio", json!(ratio))]
        }
        Category::HeatRecovery => {
            let ratio = merged.heat().and_then(|h| h.summary.overall_recovery_ratio);
            vec![("recovery_ratio", json!(ratio))]
        }
        Category::CoverageVerification => Vec::new(),
    }
}

fn impact(standing: &Standing) -> Value {
    let ghost = standing.merged.ghost().map(|ghost| &ghost.physical_impact);
    let dark = standing
        .merged
        .dark()
        .map(|dark| dark.summary.monthly_waste_usd);
    let waste = [ghost.map(|ghost| ghost.monthly_waste_usd), dark];
    let waste = waste.into_iter().flatten().reduce(|sum, part| sum + part);
    let power = ghost.map(|ghost| ghost.grid_capacity_wasted_mw);
    json!({
        "financial_waste_monthly_usd": waste,
        "co2e_monthly_kg": ghost.map(|ghost| ghost.co2e_kg_monthly),
        "water_monthly_liters": ghost.map(|ghost| ghost.water_liters_monthly),
        "grid_capacity_wasted_mw": power,
        "equivalent_homes": power.map(|power| Equivalents::of_megawatts(power).homes),
        "basis": BASIS,
    })
}

fn coverage(standing: &Standing) -> Value {
    standing.merged.coverage().map_or(Value::Null, |coverage| {
        json!({
            "coverage_ratios": coverage.coverage_ratios,
            "minimum": standing.score.coverage_minimum,
            "meets_minimum": standing.score.coverage_gate(),
            "missing_instances_count": coverage.missing_instances.len(),
            "missing": clocks(&standing.merged.clocks().missing, standing.at),
            "unlisted": clocks(&standing.merged.clocks().unlisted, standing.at),
            "decommissioned_count": standing.merged.clocks().decommissioned.len(),
        })
    })
}

/// How many things of each kind wait for somebody, and when the next clock runs out. No names: this is public.
pub(crate) fn clocks(things: &[Thing], now: Timestamp) -> Vec<Clock> {
    let kinds = Kind::ALL.into_iter().map(|kind| {
        let own = things.iter().filter(move |thing| thing.kind == kind);
        let dues = || own.clone().filter_map(|thing| thing.due);
        Clock {
            kind,
            count: own.clone().count(),
            overdue: dues().filter(|due| *due < now).count(),
            next_due: dues().filter(|due| *due >= now).min(),
        }
    });
    kinds.filter(|clock| clock.count > 0).collect()
}

/// Things of one kind that wait for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Clock {
    /// What they are.
    pub(crate) kind: Kind,
    /// How many.
    pub(crate) count: usize,
    /// How many of them have waited too long.
    pub(crate) overdue: usize,
    /// When the next one has.
    pub(crate) next_due: Option<Timestamp>,
}

fn telemetry(standing: &Standing) -> Value {
    let all = Category::ALL.into_iter().map(|category| {
        let voices = standing.voices(category);
        let said = json!({
            "state": voices.word(),
            "stale": voices.word() == "stale",
            "newest_slot_end": voices.newest,
            "agents_live": voices.live,
            "agents_silent": voices.silent,
        });
        (category.key().to_owned(), said)
    });
    Value::Object(all.collect())
}
