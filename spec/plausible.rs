//! Whether figures can be true at all: signs, sums, ratios, and rows that contradict their own class.
//!
//! Figures are rounded one by one, so sums may differ by half a last digit for each of them.

use serde::{Deserialize, Serialize};

use crate::payload::Data;
use crate::payload::v1::{
    DarkData, GhostCompute, HeatRecovery, Instance, InstanceClass, ModelEfficiency, StorageClass,
    TelemetryCoverage,
};
use crate::units::Fixed;
use crate::{coverage, dark, models};

/// Most findings; a broken submission needs no more to be refused.
pub const FINDINGS_MAX: usize = 100;

/// No single instance draws more than this.
const WATTS_MAX: Fixed<1> = Fixed::from_raw(1_000_000 * 10);

/// No facility needs more energy around its computers than this many times theirs.
const PUE_MAX: Fixed<3> = Fixed::from_raw(5_000);

const HUNDRED: Fixed<2> = Fixed::from_raw(100 * 100);

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Unusual: accepted, with a warning.
    Flag,
    /// Impossible: not accepted.
    Refuse,
}

/// Something that cannot be, or that is unusual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What follows from it.
    pub severity: Severity,
    /// The figure as a path inside `data`.
    pub field: String,
    /// What is wrong, in words.
    pub message: String,
}

/// Examines the figures of one submission.
#[must_use]
pub fn check(data: &Data) -> Vec<Finding> {
    let mut found = Findings(Vec::new());
    match data {
        Data::DarkData(dark) => found.dark(dark),
        Data::GhostCompute(ghost) => found.ghost(ghost),
        Data::HeatRecovery(heat) => found.heat(heat),
        Data::ModelEfficiency(model) => found.model(model),
        Data::TelemetryCoverage(coverage) => found.coverage(coverage),
    }
    found.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, field: &str, message: String) {
        if self.0.len() < FINDINGS_MAX {
            self.0.push(Finding {
                severity,
                field: field.to_owned(),
                message,
            });
        }
    }

    fn refuse_if(&mut self, wrong: bool, field: &str, message: &str) {
        if wrong {
            self.add(Severity::Refuse, field, message.to_owned());
        }
    }

    fn flag_if(&mut self, odd: bool, field: &str, message: &str) {
        if odd {
            self.add(Severity::Flag, field, message.to_owned());
        }
    }

    fn not_negative<const D: u32>(&mut self, value: Fixed<D>, field: &str) {
        self.refuse_if(value < Fixed::ZERO, field, "must not be negative");
    }

    fn share<const D: u32>(&mut self, value: Option<Fixed<D>>, field: &str) {
        let wrong = value.is_some_and(|value| value < Fixed::ZERO || value > Fixed::ONE);
        self.refuse_if(wrong, field, "must be between 0 and 1");
    }

    fn percent(&mut self, value: Option<Fixed<2>>, field: &str) {
        let wrong = value.is_some_and(|value| value < Fixed::ZERO || value > HUNDRED);
        self.refuse_if(wrong, field, "must be between 0 and 100 percent");
    }

    /// Half a last digit for each rounded part, and one for the sum itself.
    fn sum<const D: u32>(&mut self, said: Fixed<D>, sum: Fixed<D>, parts: usize, field: &str) {
        let slack = u64::try_from(parts / 2 + 1).unwrap_or(u64::MAX);
        if said.raw().abs_diff(sum.raw()) > slack {
            let message = format!("says {said}, but the parts add up to {sum}");
            self.add(Severity::Refuse, field, message);
        }
    }

    fn count(&mut self, said: u64, counted: usize, field: &str) {
        if u64::try_from(counted).ok() != Some(said) {
            let message = format!("says {said}, but there are {counted} rows");
            self.add(Severity::Refuse, field, message);
        }
    }

    fn duplicates<'a>(&mut self, ids: impl Iterator<Item = &'a str>, field: &str) {
        let mut ids: Vec<&str> = ids.collect();
        ids.sort_unstable();
        for pair in ids.windows(2).filter(|pair| pair[0] == pair[1]) {
            let message = format!("{:?} is there twice", pair[0]);
            self.add(Severity::Refuse, field, message);
        }
    }

    fn ghost(&mut self, ghost: &GhostCompute) {
        let rows = &ghost.instance_inventory;
        let summary = &ghost.energy_summary;
        for row in rows {
            self.instance(row);
        }
        self.duplicates(
            rows.iter().map(|row| row.instance_id.as_str()),
            "instance_inventory[].instance_id",
        );
        let is_ghost = |row: &&Instance| row.classification == InstanceClass::Ghost;
        let ghosts = rows.iter().filter(is_ghost).count();
        self.count(
            summary.total_instances,
            rows.len(),
            "energy_summary.total_instances",
        );
        self.count(
            summary.ghost_instances,
            ghosts,
            "energy_summary.ghost_instances",
        );
        self.refuse_if(
            summary
                .ghost_instances
                .checked_add(summary.productive_instances)
                != Some(summary.total_instances),
            "energy_summary.productive_instances",
            "ghosts and all others must add up to the total",
        );
        for (value, field) in [
            (
                summary.ghost_energy_kwh_daily,
                "energy_summary.ghost_energy_kwh_daily",
            ),
            (
                summary.productive_energy_kwh_daily,
                "energy_summary.productive_energy_kwh_daily",
            ),
            (
                summary.total_energy_kwh_daily,
                "energy_summary.total_energy_kwh_daily",
            ),
        ] {
            self.not_negative(value, field);
        }
        self.sum(
            summary.total_energy_kwh_daily,
            summary.ghost_energy_kwh_daily + summary.productive_energy_kwh_daily,
            2,
            "energy_summary.total_energy_kwh_daily",
        );
        // Rows say a tenth of a watt, which is 0.0024 kWh in a day.
        let watts: Fixed<1> = rows.iter().map(|row| row.power_draw_watts).sum();
        let daily = Fixed::<1>::ratio(watts.magnitude() * 24, 10_000).unwrap_or_default();
        self.sum(
            summary.total_energy_kwh_daily,
            daily,
            rows.len() / 20 + 2,
            "energy_summary.total_energy_kwh_daily",
        );
        self.share(
            summary.ghost_energy_ratio,
            "energy_summary.ghost_energy_ratio",
        );
        self.percent(
            summary.ghost_efficiency_score,
            "energy_summary.ghost_efficiency_score",
        );
        // Each row is off by half a tenth of a watt at most.
        let ghost_watts: Fixed<1> = rows
            .iter()
            .filter(is_ghost)
            .map(|row| row.power_draw_watts)
            .sum();
        let implied = Fixed::<4>::ratio(ghost_watts.magnitude(), watts.magnitude());
        if let (Some(ratio), Some(implied)) = (summary.ghost_energy_ratio, implied) {
            let off = u128::from(ratio.raw().abs_diff(implied.raw())) * watts.magnitude();
            let parts = u128::try_from(rows.len()).unwrap_or(u128::MAX);
            self.refuse_if(
                off > parts
                    .saturating_mul(10_000)
                    .saturating_add(watts.magnitude()),
                "energy_summary.ghost_energy_ratio",
                "is not the ghosts' share of the power of all rows",
            );
        }
        if let (Some(ratio), Some(score)) =
            (summary.ghost_energy_ratio, summary.ghost_efficiency_score)
        {
            let implied = Fixed::<2>::from_raw(10_000 - ratio.raw());
            self.sum(score, implied, 2, "energy_summary.ghost_efficiency_score");
        }
        self.refuse_if(
            summary.pue_multiplier < Fixed::ONE,
            "energy_summary.pue_multiplier",
            "a facility cannot use less than its computers: PUE is 1.0 or more",
        );
        self.flag_if(
            summary.pue_multiplier > PUE_MAX,
            "energy_summary.pue_multiplier",
            "is unusually large",
        );
        let impact = &ghost.physical_impact;
        self.not_negative(
            impact.monthly_waste_usd,
            "physical_impact.monthly_waste_usd",
        );
        self.not_negative(impact.co2e_kg_monthly, "physical_impact.co2e_kg_monthly");
        self.not_negative(
            impact.water_liters_monthly,
            "physical_impact.water_liters_monthly",
        );
        self.not_negative(
            impact.grid_capacity_wasted_mw,
            "physical_impact.grid_capacity_wasted_mw",
        );
    }

    fn instance(&mut self, row: &Instance) {
        let ten = Fixed::<2>::from_raw(1_000);
        self.percent(
            row.cpu_utilization_30day_avg,
            "instance_inventory[].cpu_utilization_30day_avg",
        );
        self.percent(
            row.memory_utilization_30day_avg,
            "instance_inventory[].memory_utilization_30day_avg",
        );
        let rates = [
            (
                row.network_io_30day_avg_mbps,
                "instance_inventory[].network_io_30day_avg_mbps",
            ),
            (
                row.disk_io_30day_avg_iops,
                "instance_inventory[].disk_io_30day_avg_iops",
            ),
        ];
        for (value, field) in rates {
            self.not_negative(value.unwrap_or_default(), field);
        }
        self.not_negative(
            row.power_draw_watts,
            "instance_inventory[].power_draw_watts",
        );
        self.not_negative(
            row.monthly_cost_usd,
            "instance_inventory[].monthly_cost_usd",
        );
        self.not_negative(
            row.monthly_energy_kwh,
            "instance_inventory[].monthly_energy_kwh",
        );
        self.flag_if(
            row.power_draw_watts > WATTS_MAX,
            "instance_inventory[].power_draw_watts",
            "is more than one instance can draw",
        );
        let both = row
            .cpu_utilization_30day_avg
            .zip(row.memory_utilization_30day_avg);
        let field = "instance_inventory[].classification";
        match row.classification {
            // 10.00 may be a rounded 9.999.
            InstanceClass::Ghost => self.refuse_if(
                both.is_none_or(|(cpu, memory)| cpu > ten || memory > ten),
                field,
                "a ghost has averages of both processor and memory below 10 %",
            ),
            InstanceClass::Productive => self.refuse_if(
                both.is_some_and(|(cpu, memory)| cpu < ten && memory < ten),
                field,
                "an instance with both averages below 10 % is a ghost",
            ),
            InstanceClass::InsufficientData => {}
        }
    }

    fn dark(&mut self, data: &DarkData) {
        let rows = &data.storage_inventory;
        for row in rows {
            self.not_negative(row.total_size_gb, "storage_inventory[].total_size_gb");
            self.not_negative(row.monthly_cost_usd, "storage_inventory[].monthly_cost_usd");
            let is_dark = i64::try_from(row.days_since_access)
                .map_or(true, |days| days > dark::DARK_AFTER_DAYS);
            self.refuse_if(
                is_dark != (row.classification == StorageClass::Dark),
                "storage_inventory[].classification",
                "more than 180 days since access is dark, anything else is active",
            );
        }
        let names = rows.iter().map(|row| row.bucket_name.as_str());
        self.duplicates(names, "storage_inventory[].bucket_name");
        let said = &data.summary;
        let sums = dark::summary(rows);
        self.sum(
            said.total_storage_gb,
            sums.total_storage_gb,
            rows.len(),
            "summary.total_storage_gb",
        );
        self.sum(
            said.dark_data_gb,
            sums.dark_data_gb,
            rows.len(),
            "summary.dark_data_gb",
        );
        self.sum(
            said.monthly_waste_usd,
            sums.monthly_waste_usd,
            rows.len(),
            "summary.monthly_waste_usd",
        );
        self.share(said.dark_data_ratio, "summary.dark_data_ratio");
        if let (Some(said), Some(sum)) = (said.dark_data_ratio, sums.dark_data_ratio) {
            self.sum(said, sum, 1, "summary.dark_data_ratio");
        }
    }

    fn heat(&mut self, heat: &HeatRecovery) {
        let rows = &heat.thermal_sources;
        for row in rows {
            self.not_negative(
                row.thermal_output_kw.unwrap_or_default(),
                "thermal_sources[].thermal_output_kw",
            );
            self.not_negative(
                row.heat_captured_kw.unwrap_or_default(),
                "thermal_sources[].heat_captured_kw",
            );
            self.not_negative(
                row.recovery_efficiency.unwrap_or_default(),
                "thermal_sources[].recovery_efficiency",
            );
            self.flag_if(
                row.recovery_efficiency
                    .is_some_and(|share| share > Fixed::ONE),
                "thermal_sources[].recovery_efficiency",
                "more heat was used than given off; a meter or a mapping is wrong",
            );
            self.flag_if(
                row.exhaust_temp_celsius.is_some_and(|celsius| {
                    celsius < Fixed::from_raw(-500) || celsius > Fixed::from_raw(1_500)
                }),
                "thermal_sources[].exhaust_temp_celsius",
                "is not a temperature of exhaust air or coolant",
            );
        }
        let said = &heat.summary;
        let output: Fixed<1> = rows.iter().filter_map(|row| row.thermal_output_kw).sum();
        let captured: Fixed<1> = rows.iter().filter_map(|row| row.heat_captured_kw).sum();
        self.sum(
            said.total_thermal_output_kw,
            output,
            rows.len(),
            "summary.total_thermal_output_kw",
        );
        self.sum(
            said.total_heat_captured_kw,
            captured,
            rows.len(),
            "summary.total_heat_captured_kw",
        );
        let ratio = said.overall_recovery_ratio.unwrap_or_default();
        let field = "summary.overall_recovery_ratio";
        self.not_negative(ratio, field);
        self.flag_if(
            ratio > Fixed::ONE,
            field,
            "more heat was used than given off",
        );
    }

    fn model(&mut self, model: &ModelEfficiency) {
        let said = &model.summary;
        let field = "summary.routine_to_slm_count";
        self.refuse_if(
            said.routine_to_slm_count > said.routine_tasks_total,
            field,
            "is more than all routine tasks",
        );
        self.refuse_if(
            said.routine_tasks_total > said.total_inference_requests_30day,
            "summary.routine_tasks_total",
            "is more than all requests",
        );
        self.refuse_if(
            said.routine_to_slm_count
                .checked_add(said.model_mismatch_count)
                != Some(said.routine_tasks_total),
            "summary.model_mismatch_count",
            "small-model requests and mismatches must add up to all routine tasks",
        );
        self.share(said.routine_to_slm_ratio, "summary.routine_to_slm_ratio");
        let implied = Fixed::<3>::ratio(
            u128::from(said.routine_to_slm_count),
            u128::from(said.routine_tasks_total),
        );
        if let (Some(said), Some(implied)) = (said.routine_to_slm_ratio, implied) {
            self.sum(said, implied, 1, "summary.routine_to_slm_ratio");
        }
        self.not_negative(said.energy_wasted_kwh, "summary.energy_wasted_kwh");
        for row in &model.inference_log {
            self.not_negative(
                row.energy_estimate_wh.unwrap_or_default(),
                "inference_log[].energy_estimate_wh",
            );
        }
        self.flag_if(
            model.inference_log.len() > models::LOG_ROWS_MAX,
            "inference_log",
            "is longer than a slot's log has to be",
        );
    }

    fn coverage(&mut self, said: &TelemetryCoverage) {
        let documented = &said.bronze_inventory_baseline;
        let reporting = &said.current_telemetry_sources;
        let ratios = &said.coverage_ratios;
        let parts = [
            (
                reporting.instances_reporting,
                documented.total_instances_documented,
                ratios.instance_coverage,
                "coverage_ratios.instance_coverage",
            ),
            (
                reporting.storage_reporting,
                documented.total_storage_buckets_documented,
                ratios.storage_coverage,
                "coverage_ratios.storage_coverage",
            ),
            (
                reporting.model_endpoints_reporting,
                documented.total_model_endpoints_documented,
                ratios.model_coverage,
                "coverage_ratios.model_coverage",
            ),
        ];
        for (part, whole, ratio, field) in parts {
            self.refuse_if(part > whole, field, "more reports than is documented");
            self.share(ratio, field);
            if let (Some(ratio), Some(implied)) = (ratio, coverage::share(part, whole)) {
                self.sum(ratio, implied, 1, field);
            }
        }
        self.share(ratios.overall_coverage, "coverage_ratios.overall_coverage");
        let missing = documented
            .total_instances_documented
            .saturating_sub(reporting.instances_reporting);
        self.flag_if(
            u64::try_from(said.missing_instances.len()).ok() != Some(missing),
            "missing_instances",
            "does not list every documented instance that does not report",
        );
    }
}
