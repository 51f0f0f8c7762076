//! The figures of a set of envelopes, computed at once.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Clocks, Conflict, coverage};
use crate::category::Category;
use crate::dark::AgeBand;
use crate::factors::Rates;
use crate::ghost::{ENERGY_MONTH_HOURS, Share, Totals};
use crate::payload::v1::{
    DarkData, GhostCompute, HeatRecovery, Instance, InstanceClass, ModelEfficiency, StorageRow,
    TelemetryCoverage, ThermalSource,
};
use crate::payload::{Data, Envelope};
use crate::units::Fixed;
use crate::{dark, heat, models};

/// What a set of envelopes amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) ghost: Option<GhostCompute>,
    pub(super) ghost_of_total: Option<(u128, u128)>,
    pub(super) model: Option<ModelEfficiency>,
    pub(super) dark: Option<DarkData>,
    pub(super) ages: Vec<AgeBand>,
    pub(super) heat: Option<HeatRecovery>,
    pub(super) heat_exempt: bool,
    pub(super) coverage: Option<TelemetryCoverage>,
    pub(super) clocks: Clocks,
    pub(super) conflicts: Vec<Conflict>,
}

/// Most bands of a histogram; ours has seven.
const BANDS_MAX: usize = 32;

pub(super) type Envelopes<'a> = Vec<(&'a str, &'a Envelope)>;

impl Figures {
    pub(super) fn compute<'a>(of: impl Fn(Category) -> Envelopes<'a>) -> Self {
        let mut figures = Self::default();
        figures.ghost(&of(Category::GhostCompute));
        figures.model(&of(Category::ModelEfficiency));
        figures.dark(&of(Category::DarkData));
        figures.heat(&of(Category::HeatRecovery));
        if let Some((coverage, clocks)) = coverage::merge(&of(Category::CoverageVerification)) {
            figures.coverage = Some(coverage);
            figures.clocks = clocks;
        }
        figures.conflicts.sort();
        figures
    }

    fn ghost(&mut self, envelopes: &Envelopes<'_>) {
        let mut claims = Claims::new(Category::GhostCompute);
        for (agent, envelope) in envelopes {
            let Data::GhostCompute(ghost) = &envelope.data else {
                continue;
            };
            let rates = rates(envelope, ghost);
            for row in &ghost.instance_inventory {
                claims.make(&row.instance_id, envelope.timestamp, agent, (row, rates));
            }
        }
        let mut totals = Totals::default();
        let mut rows: Vec<Instance> = Vec::new();
        for (row, rates) in claims.settle(&mut self.conflicts).into_iter().flatten() {
            totals.add(&Share::of_row(row), &rates);
            rows.push(row.clone());
        }
        if envelopes.is_empty() {
            return;
        }
        self.ghost_of_total = Some(totals.ghost_of_total());
        self.ghost = Some(GhostCompute {
            instance_inventory: rows,
            energy_summary: totals.summary(&Rates {
                pue: Fixed::ONE,
                ..Rates::default()
            }),
            physical_impact: totals.impact(),
        });
    }

    fn model(&mut self, envelopes: &Envelopes<'_>) {
        let mut merged = ModelEfficiency::default();
        let sum = &mut merged.summary;
        let mut log = BTreeMap::new();
        for (agent, envelope) in envelopes {
            let Data::ModelEfficiency(model) = &envelope.data else {
                continue;
            };
            let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
            let more = &model.summary;
            add(
                &mut sum.total_inference_requests_30day,
                more.total_inference_requests_30day,
            );
            add(&mut sum.routine_tasks_total, more.routine_tasks_total);
            add(&mut sum.routine_to_slm_count, more.routine_to_slm_count);
            add(&mut sum.model_mismatch_count, more.model_mismatch_count);
            sum.energy_wasted_kwh = sum.energy_wasted_kwh + more.energy_wasted_kwh.at_least_zero();
            for row in &model.inference_log {
                let key = (
                    models::sample_rank(&row.request_id),
                    &row.request_id,
                    *agent,
                );
                log.insert(key, row);
                if log.len() > models::LOG_ROWS_MAX {
                    log.pop_last();
                }
            }
        }
        sum.routine_to_slm_ratio = Fixed::ratio(
            u128::from(sum.routine_to_slm_count.min(sum.routine_tasks_total)),
            u128::from(sum.routine_tasks_total),
        );
        merged.inference_log = log.into_values().cloned().collect();
        merged
            .inference_log
            .sort_by(|a, b| (a.timestamp, &a.request_id).cmp(&(b.timestamp, &b.request_id)));
        self.model = (!envelopes.is_empty()).then_some(merged);
    }

    fn dark(&mut self, envelopes: &Envelopes<'_>) {
        let mut claims = Claims::new(Category::DarkData);
        for (agent, envelope) in envelopes {
            let Data::DarkData(dark) = &envelope.data else {
                continue;
            };
            for row in &dark.storage_inventory {
                let name = row.bucket_name.as_str();
                let unit = name.strip_suffix(":dark").unwrap_or(name);
                claims.make(unit, envelope.timestamp, agent, row);
            }
        }
        let rows: Vec<StorageRow> = claims
            .settle(&mut self.conflicts)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let summary = dark::summary(&rows);
        self.ages = ages(envelopes);
        self.dark = (!envelopes.is_empty()).then_some(DarkData {
            storage_inventory: rows,
            summary,
        });
    }

    fn heat(&mut self, envelopes: &Envelopes<'_>) {
        let mut claims = Claims::new(Category::HeatRecovery);
        for (agent, envelope) in envelopes {
            let Data::HeatRecovery(heat) = &envelope.data else {
                continue;
            };
            for row in &heat.thermal_sources {
                claims.make(&row.location, envelope.timestamp, agent, row);
            }
        }
        if envelopes.is_empty() {
            return;
        }
        let rows: Vec<ThermalSource> = claims
            .settle(&mut self.conflicts)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let summary = heat::summary(&rows);
        let in_season = envelopes.iter().all(|(_, envelope)| {
            envelope.provenance.iter().any(|entry| {
                let note = entry.note.as_deref().unwrap_or_default();
                entry.figure == heat::EXEMPTION_FIGURE && note.starts_with(heat::EXEMPT_SEASONAL)
            })
        });
        self.heat_exempt = in_season || heat::is_exempt(&rows);
        self.heat = Some(HeatRecovery {
            thermal_sources: rows,
            summary,
        });
    }
}

/// Who says something about which thing; the newest statement about a thing is taken whole.
struct Claims<'a, T> {
    category: Category,
    by_id: BTreeMap<&'a str, BTreeMap<(Timestamp, &'a str), Vec<T>>>,
}

impl<'a, T> Claims<'a, T> {
    fn new(category: Category) -> Self {
        Self {
            category,
            by_id: BTreeMap::new(),
        }
    }

    fn make(&mut self, id: &'a str, at: Timestamp, agent: &'a str, claim: T) {
        let of_id = self.by_id.entry(id).or_default();
        of_id.entry((at, agent)).or_default().push(claim);
    }

    fn settle(self, conflicts: &mut Vec<Conflict>) -> Vec<Vec<T>> {
        let mut settled = Vec::with_capacity(self.by_id.len());
        for (id, mut claims) in self.by_id {
            let Some(((_, kept), claim)) = claims.pop_last() else {
                continue;
            };
            conflicts.extend(claims.into_keys().map(|(_, left_out)| Conflict {
                category: self.category,
                id: id.to_owned(),
                kept: kept.to_owned(),
                left_out: left_out.to_owned(),
            }));
            settled.push(claim);
        }
        settled
    }
}

/// The histograms of all agents, added up band by band.
fn ages(envelopes: &Envelopes<'_>) -> Vec<AgeBand> {
    let mut sums: BTreeMap<(i64, Option<i64>), AgeBand> = BTreeMap::new();
    let entries = envelopes.iter().flat_map(|(_, one)| &one.provenance);
    let of_ages = entries.filter(|entry| entry.figure == dark::AGES_FIGURE);
    for band in of_ages.flat_map(|entry| &entry.ages) {
        let key = (band.from_days, band.to_days);
        if sums.len() >= BANDS_MAX && !sums.contains_key(&key) {
            continue;
        }
        let sum = sums.entry(key).or_insert_with(|| AgeBand {
            total_size_gb: Fixed::ZERO,
            object_count: 0,
            ..band.clone()
        });
        let sizes = [sum.total_size_gb, band.total_size_gb.at_least_zero()];
        sum.total_size_gb = sizes.into_iter().sum();
        sum.object_count = sum.object_count.saturating_add(band.object_count);
    }
    sums.into_values().collect()
}

/// The factors of an agent: from its provenance, or else what its own impact figures imply.
fn rates(envelope: &Envelope, ghost: &GhostCompute) -> Rates {
    let stated = |factor: &str| {
        let entry = envelope.provenance.iter().find(|e| e.method == factor)?;
        entry.value
    };
    let pue = ghost.energy_summary.pue_multiplier.at_least_zero();
    let ghost_nw = ghost
        .instance_inventory
        .iter()
        .map(Share::of_row)
        .filter(|share| share.class == InstanceClass::Ghost)
        .fold(0_u128, |sum, share| {
            sum.saturating_add(u128::from(share.power_nw))
        });
    let implied = |stated: Fixed<0>| {
        let month = u128::from(ENERGY_MONTH_HOURS);
        let facility = ghost_nw
            .saturating_mul(pue.magnitude())
            .saturating_mul(month);
        // Nanowatt-hours times thousandths of PUE, against whole kilograms or litres.
        let scaled = stated.magnitude().saturating_mul(1_000_000_000_000_000);
        Fixed::<6>::ratio(scaled, facility).unwrap_or_default()
    };
    let impact = &ghost.physical_impact;
    let water = (
        stated("water_site_l_per_kwh"),
        stated("water_grid_l_per_kwh"),
    );
    let (water_site, water_grid) = match water {
        (Some(site), Some(grid)) => (site, grid),
        _ => (Fixed::ZERO, implied(impact.water_liters_monthly)),
    };
    Rates {
        pue,
        price: Fixed::ZERO,
        carbon: stated("carbon_kg_per_kwh").unwrap_or_else(|| implied(impact.co2e_kg_monthly)),
        water_site,
        water_grid,
    }
}
