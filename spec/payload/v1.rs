//! Specification v1.0, section II, field by field. The number of digits is part of the wire form.
//!
//! `Option` stands where the specification's figure can be undefined (a ratio over nothing) or unknown
//! (the size of a closed model). It prints as `null`, never as 0.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::units::Fixed;

/// Section II.A.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GhostCompute {
    /// Every running instance.
    pub instance_inventory: Vec<Instance>,
    /// Daily energy by class.
    pub energy_summary: EnergySummary,
    /// What the waste amounts to in a month.
    pub physical_impact: PhysicalImpact,
}

/// One running instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub instance_id: String,
    pub instance_type: String,
    pub region: String,
    pub state: String,
    pub launch_time: Timestamp,
    /// Percent; `null` when it was never observed in the window.
    pub cpu_utilization_30day_avg: Option<Fixed<2>>,
    /// Percent; `null` when it was never observed in the window.
    pub memory_utilization_30day_avg: Option<Fixed<2>>,
    /// Megabits per second, both directions; `null` when never observed.
    pub network_io_30day_avg_mbps: Option<Fixed<2>>,
    /// Completed reads and writes per second; `null` when never observed.
    pub disk_io_30day_avg_iops: Option<Fixed<2>>,
    pub power_draw_watts: Fixed<1>,
    pub classification: InstanceClass,
    /// A month of 730 hours where it is a price, of 720 hours where it is the energy's cost.
    pub monthly_cost_usd: Fixed<2>,
    /// A month of 720 hours.
    pub monthly_energy_kwh: Fixed<1>,
    pub monthly_energy_cost_usd: Fixed<2>,
}

/// What an instance is worth its energy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceClass {
    /// Below 10 % of both processor and memory.
    Ghost,
    /// Observed for less than 24 hours.
    InsufficientData,
    /// All others.
    Productive,
}

/// Energy of a day, by class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergySummary {
    pub total_instances: u64,
    pub ghost_instances: u64,
    /// All that are not ghosts, so that the two add up to the total.
    pub productive_instances: u64,
    pub ghost_energy_kwh_daily: Fixed<1>,
    pub productive_energy_kwh_daily: Fixed<1>,
    pub total_energy_kwh_daily: Fixed<1>,
    /// `null` when no energy was used at all.
    pub ghost_energy_ratio: Option<Fixed<4>>,
    /// `null` when no energy was used at all.
    pub ghost_efficiency_score: Option<Fixed<2>>,
    pub pue_multiplier: Fixed<3>,
    pub total_energy_with_cooling_kwh_daily: Fixed<1>,
}

/// What the waste of a month amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhysicalImpact {
    pub monthly_waste_usd: Fixed<2>,
    pub co2e_kg_monthly: Fixed<0>,
    pub water_liters_monthly: Fixed<0>,
    pub component_stress_instances: u64,
    pub grid_capacity_wasted_mw: Fixed<4>,
}

/// Section II.B.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelEfficiency {
    /// The slot's requests, or a uniform sample of them.
    pub inference_log: Vec<Inference>,
    /// Rolling 30 days.
    pub summary: ModelSummary,
}

/// One request to a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inference {
    pub request_id: String,
    pub timestamp: Timestamp,
    pub task_type: String,
    pub task_complexity: Complexity,
    pub model_used: String,
    /// `null` when the vendor does not say.
    pub model_parameters: Option<u64>,
    pub response_time_ms: Option<u64>,
    /// `null` when the server does not count them.
    pub tokens_processed: Option<u64>,
    pub energy_estimate_wh: Option<Fixed<3>>,
}

/// What kind of model a task justifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Complexity {
    /// May justify a large model.
    Frontier,
    /// A small model would do.
    Routine,
    /// Nobody tagged it and no rule matched.
    Unclassified,
}

/// Rolling totals of 30 days.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSummary {
    pub total_inference_requests_30day: u64,
    pub routine_tasks_total: u64,
    pub routine_to_slm_count: u64,
    /// `null` when there was no routine task.
    pub routine_to_slm_ratio: Option<Fixed<3>>,
    pub model_mismatch_count: u64,
    pub energy_wasted_kwh: Fixed<1>,
}

/// Section II.C.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DarkData {
    /// At most two rows for a storage unit: its active and its dark objects.
    pub storage_inventory: Vec<StorageRow>,
    /// Sums over all rows.
    pub summary: DarkSummary,
}

/// The objects of one class in one storage unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageRow {
    pub bucket_name: String,
    pub region: String,
    /// Decimal gigabytes, nine digits: exact to the byte, so that rows add up to the summary.
    pub total_size_gb: Fixed<9>,
    pub object_count: u64,
    pub last_accessed_oldest: Timestamp,
    pub days_since_access: u64,
    pub classification: StorageClass,
    pub monthly_cost_usd: Fixed<2>,
    pub storage_class: String,
}

/// Whether objects were accessed within 180 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageClass {
    /// Accessed within 180 days.
    Active,
    /// Not accessed for more than 180 days.
    Dark,
}

/// Sums over all storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DarkSummary {
    pub total_storage_gb: Fixed<9>,
    pub dark_data_gb: Fixed<9>,
    /// `null` when nothing is stored.
    pub dark_data_ratio: Option<Fixed<3>>,
    pub monthly_waste_usd: Fixed<2>,
    pub recommended_action: String,
}

/// Section II.D.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeatRecovery {
    /// Every source of waste heat.
    pub thermal_sources: Vec<ThermalSource>,
    /// Sums over all sources.
    pub summary: HeatSummary,
}

/// One source of waste heat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThermalSource {
    pub location: String,
    pub equipment_type: String,
    /// `null` when no reading of the window is valid.
    pub thermal_output_kw: Option<Fixed<1>>,
    /// `null` when there is no valid reading.
    pub exhaust_temp_celsius: Option<Fixed<1>>,
    pub cooling_method: String,
    /// What the point of use received; `null` when it is not known.
    pub heat_captured_kw: Option<Fixed<1>>,
    pub heat_utilization: String,
    /// `null` when the common window is too thin or the output too small.
    pub recovery_efficiency: Option<Fixed<3>>,
}

/// Sums over all sources of heat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeatSummary {
    pub total_thermal_output_kw: Fixed<1>,
    pub total_heat_captured_kw: Fixed<1>,
    /// `null` when it cannot be computed.
    pub overall_recovery_ratio: Option<Fixed<3>>,
    pub primary_utilization_methods: Vec<String>,
}

/// Section II.E.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelemetryCoverage {
    pub bronze_inventory_baseline: BaselineCounts,
    pub current_telemetry_sources: SourceCounts,
    pub coverage_ratios: CoverageRatios,
    /// Documented instances that do not report, as `id (name)`.
    pub missing_instances: Vec<String>,
}

/// What the friction audit documented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineCounts {
    pub submission_date: Date,
    pub total_instances_documented: u64,
    pub total_storage_buckets_documented: u64,
    pub total_model_endpoints_documented: u64,
}

/// What of the documented inventory reports now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCounts {
    pub instances_reporting: u64,
    pub storage_reporting: u64,
    pub model_endpoints_reporting: u64,
}

/// Reporting over documented, never above 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageRatios {
    /// `null` when none is documented.
    pub instance_coverage: Option<Fixed<3>>,
    /// `null` when none is documented.
    pub storage_coverage: Option<Fixed<3>>,
    /// `null` when none is documented.
    pub model_coverage: Option<Fixed<3>>,
    /// Pooled over the categories.
    pub overall_coverage: Option<Fixed<3>>,
}
