//! Ghost compute (specification II.A): who is idle, what that costs.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cross_check::CrossChecks;
use crate::factors::{EnergyFactors, Rates};
use crate::ids::Subject;
use crate::payload::v1::{EnergySummary, Instance, InstanceClass, PhysicalImpact};
use crate::provenance::{Origin, Quality};
use crate::units::{Fixed, MilliPercent, Millis, Milliwatts};

/// Below this share of both processor and memory an instance is a ghost.
pub const GHOST_BELOW: MilliPercent = MilliPercent(10_000);

/// An instance observed for less than this is not classified.
pub const CLASSIFY_AFTER: Millis = Millis(86_400_000);

/// Power of an instance of which no source knows any: the specification's own default.
pub const DEFAULT_POWER: Milliwatts = Milliwatts(100_000);

/// Hours of the month that energy is counted in.
pub const ENERGY_MONTH_HOURS: u32 = 720;

/// Hours of the month that instances are billed in.
pub const BILLING_MONTH_HOURS: u32 = 730;

/// The span of the rolling mean.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Nanowatt-hours in a kilowatt-hour.
const NWH_PER_KWH: u128 = 1_000_000_000_000;

const HOURS_PER_DAY: u128 = 24;

/// What an instance is, apart from what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceFacts {
    /// Its id in the inventory.
    pub instance: Subject,
    /// A cloud type, or the machine's model and size on premises.
    pub instance_type: String,
    /// Region or site.
    pub region: String,
    /// When it was booted or launched.
    pub launch_time: Timestamp,
    /// What a billing month (730 hours) of it costs, where somebody pays for the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_cost_usd: Option<Fixed<2>>,
}

/// What an instance did over a window: sums, and for how long each was observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Milliseconds that processors were busy.
    pub cpu_busy_ms: u128,
    /// Milliseconds that processors were there.
    pub cpu_capacity_ms: u128,
    /// For how long both were observed.
    pub cpu_observed_ms: u128,
    /// Thousandths of a percent of memory, times milliseconds.
    pub memory_milli_percent_ms: u128,
    /// For how long memory was observed.
    pub memory_observed_ms: u128,
    /// Bytes received and sent.
    pub network_bytes: u128,
    /// For how long the network was observed.
    pub network_observed_ms: u128,
    /// Completed reads and writes.
    pub disk_operations: u128,
    /// For how long disks were observed.
    pub disk_observed_ms: u128,
    /// Energy that was measured, estimated and assumed.
    pub energy: [EnergyUse; 3],
}

/// Energy of one quality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnergyUse {
    /// How much.
    pub microjoules: u128,
    /// Over how long.
    pub observed_ms: u128,
}

/// One instance at the close of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What it is.
    pub facts: InstanceFacts,
    /// What it did.
    pub usage: Usage,
    /// When the first reading of it was taken.
    pub first_seen: Timestamp,
    /// When the newest reading of it was taken.
    pub last_seen: Timestamp,
    /// Newest origins of processor, memory, network and disk figures.
    pub origins: [Option<Origin>; 4],
    /// Newest origins of measured, estimated and assumed energy.
    pub energy_origins: [Option<Origin>; 3],
    /// What other sources said of its power lately.
    pub cross_checks: Option<CrossChecks>,
}

/// All instances at the close of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Each instance once.
    pub instances: Vec<Observed>,
    /// How often a second source reported an instance too; the newest reading counts.
    pub twice: u64,
    /// What monitoring servers said besides, by server.
    pub notes: Vec<(String, String)>,
}

/// The qualities that energy is told apart by, in the order of [`Usage::energy`].
pub const ENERGY_QUALITIES: [Quality; 3] =
    [Quality::Measured, Quality::Estimated, Quality::Default];

impl Usage {
    /// Mean share of the processors that was busy, in percent.
    #[must_use]
    pub fn cpu_percent(&self) -> Option<Fixed<2>> {
        let busy = self.cpu_busy_ms.min(self.cpu_capacity_ms);
        Fixed::ratio(busy.saturating_mul(100), self.cpu_capacity_ms)
    }

    /// Mean share of memory in use over the time that it was observed, in percent.
    #[must_use]
    pub fn memory_percent(&self) -> Option<Fixed<2>> {
        let whole = self.memory_observed_ms.saturating_mul(1_000);
        let full = whole.saturating_mul(100);
        Fixed::ratio(self.memory_milli_percent_ms.min(full), whole)
    }

    /// Mean traffic in megabits per second.
    #[must_use]
    pub fn network_mbps(&self) -> Option<Fixed<2>> {
        // Bits per millisecond are kilobits per second.
        Fixed::ratio(
            self.network_bytes.saturating_mul(8),
            self.network_observed_ms.saturating_mul(1_000),
        )
    }

    /// Mean completed disk operations per second.
    #[must_use]
    pub fn disk_iops(&self) -> Option<Fixed<2>> {
        Fixed::ratio(
            self.disk_operations.saturating_mul(1_000),
            self.disk_observed_ms,
        )
    }

    /// Mean power in nanowatts over the time that energy was observed: fine enough never to show.
    #[must_use]
    pub fn mean_power_nw(&self) -> Option<u64> {
        let sum = |of: fn(&EnergyUse) -> u128| {
            self.energy
                .iter()
                .fold(0_u128, |sum, part| sum.saturating_add(of(part)))
        };
        let observed_ms = sum(|part| part.observed_ms);
        let microjoules = sum(|part| part.microjoules);
        // A microjoule for a millisecond is a milliwatt.
        Fixed::<6>::ratio(microjoules, observed_ms).map(|mw| mw.raw().unsigned_abs())
    }

    /// Idle, at work or not known yet (specification II.A: both averages below 10 %).
    #[must_use]
    pub fn classify(&self) -> InstanceClass {
        let unknown = self.cpu_observed_ms < u128::from(CLASSIFY_AFTER.0)
            || self.cpu_capacity_ms == 0
            || self.memory_observed_ms == 0;
        let below = |part: u128, whole: u128| {
            part.saturating_mul(u128::from(MilliPercent::FULL.0))
                < whole.saturating_mul(u128::from(GHOST_BELOW.0))
        };
        let memory_whole = self
            .memory_observed_ms
            .saturating_mul(u128::from(MilliPercent::FULL.0));
        if unknown {
            InstanceClass::InsufficientData
        } else if below(self.cpu_busy_ms, self.cpu_capacity_ms)
            && below(self.memory_milli_percent_ms, memory_whole)
        {
            InstanceClass::Ghost
        } else {
            InstanceClass::Productive
        }
    }
}

/// What one instance adds to the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// What it is worth its energy.
    pub class: InstanceClass,
    /// Its mean power.
    pub power_nw: u64,
    /// What a month of it costs.
    pub monthly_cost_usd: Fixed<2>,
}

impl Share {
    /// What a row of a payload adds, at the resolution of the row.
    #[must_use]
    pub fn of_row(row: &Instance) -> Self {
        let nanowatts = row.power_draw_watts.rescale::<9>().magnitude();
        Self {
            class: row.classification,
            power_nw: u64::try_from(nanowatts).unwrap_or(u64::MAX),
            monthly_cost_usd: row.monthly_cost_usd.at_least_zero(),
        }
    }
}

/// Sums over instances, of one agent or of several with factors of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    instances: u64,
    ghosts: u64,
    total_nw: u128,
    ghost_nw: u128,
    /// Nanowatts times thousandths of PUE.
    facility_total: u128,
    facility_ghost: u128,
    /// Nanowatts times thousandths of PUE times millionths of a kilogram per kilowatt-hour.
    carbon: u128,
    /// The same with litres.
    water: u128,
    waste_usd: Fixed<2>,
}

impl Totals {
    /// Adds one instance.
    pub fn add(&mut self, share: &Share, rates: &Rates) {
        let power = u128::from(share.power_nw);
        let facility = power.saturating_mul(rates.pue.magnitude());
        self.instances += 1;
        self.total_nw = self.total_nw.saturating_add(power);
        self.facility_total = self.facility_total.saturating_add(facility);
        if share.class != InstanceClass::Ghost {
            return;
        }
        self.ghosts += 1;
        self.ghost_nw = self.ghost_nw.saturating_add(power);
        self.facility_ghost = self.facility_ghost.saturating_add(facility);
        self.carbon = self
            .carbon
            .saturating_add(facility.saturating_mul(rates.carbon.magnitude()));
        let site = power.saturating_mul(rates.water_site.magnitude().saturating_mul(1_000));
        let grid = facility.saturating_mul(rates.water_grid.magnitude());
        self.water = self.water.saturating_add(site).saturating_add(grid);
        self.waste_usd = self.waste_usd + share.monthly_cost_usd;
    }

    /// Power of all ghosts and of all instances, for ratios that must not be rounded before.
    #[must_use]
    pub fn ghost_of_total(&self) -> (u128, u128) {
        (self.ghost_nw, self.total_nw)
    }

    /// The day's energy, the ratio and the score. Without any energy the PUE is that of `rates`.
    #[must_use]
    pub fn summary(&self, rates: &Rates) -> EnergySummary {
        let daily = |nw: u128| kwh::<1>(nw, HOURS_PER_DAY, 1);
        let total = daily(self.total_nw);
        let ghost = daily(self.ghost_nw);
        let useful = self.total_nw - self.ghost_nw.min(self.total_nw);
        EnergySummary {
            total_instances: self.instances,
            ghost_instances: self.ghosts,
            productive_instances: self.instances - self.ghosts,
            ghost_energy_kwh_daily: ghost,
            // As printed the two must add up to the total, so the rounding error lands here.
            productive_energy_kwh_daily: total - ghost,
            total_energy_kwh_daily: total,
            ghost_energy_ratio: Fixed::ratio(self.ghost_nw, self.total_nw),
            ghost_efficiency_score: Fixed::ratio(useful.saturating_mul(100), self.total_nw),
            pue_multiplier: Fixed::<3>::ratio(
                self.facility_total,
                self.total_nw.saturating_mul(1_000),
            )
            .unwrap_or(rates.pue),
            total_energy_with_cooling_kwh_daily: kwh(self.facility_total, HOURS_PER_DAY, 1_000),
        }
    }

    /// What the ghosts cost in a month, at the facility.
    #[must_use]
    pub fn impact(&self) -> PhysicalImpact {
        let month = u128::from(ENERGY_MONTH_HOURS);
        let scale = 1_000_u128 * 1_000_000;
        PhysicalImpact {
            monthly_waste_usd: self.waste_usd,
            co2e_kg_monthly: kwh(self.carbon, month, scale),
            water_liters_monthly: kwh(self.water, month, scale),
            component_stress_instances: self.ghosts,
            grid_capacity_wasted_mw: Fixed::ratio(self.facility_ghost, NW_PER_MW * 1_000)
                .unwrap_or_default(),
        }
    }
}

const NW_PER_MW: u128 = 1_000_000_000_000_000;

/// Energy of `power_nw / scale` over hours, in kilowatt-hours.
fn kwh<const DIGITS: u32>(power_nw: u128, hours: u128, scale: u128) -> Fixed<DIGITS> {
    Fixed::ratio(
        power_nw.saturating_mul(hours),
        NWH_PER_KWH.saturating_mul(scale),
    )
    .unwrap_or_default()
}

/// The row of one instance and what it adds to the sums.
#[must_use]
pub fn row(observed: &Observed, factors: &EnergyFactors) -> (Instance, Share) {
    let usage = &observed.usage;
    let facts = &observed.facts;
    let power_nw = usage
        .mean_power_nw()
        .unwrap_or(DEFAULT_POWER.0.saturating_mul(1_000_000));
    let nw = u128::from(power_nw);
    let month = u128::from(ENERGY_MONTH_HOURS);
    let price = factors.price_usd_per_kwh.value.magnitude();
    let energy_cost = kwh(nw.saturating_mul(price), month, 1_000_000);
    let share = Share {
        class: usage.classify(),
        power_nw,
        monthly_cost_usd: facts
            .monthly_cost_usd
            .map_or(energy_cost, Fixed::at_least_zero),
    };
    let instance = Instance {
        instance_id: facts.instance.to_string(),
        instance_type: facts.instance_type.clone(),
        region: facts.region.clone(),
        state: "running".to_owned(),
        launch_time: facts.launch_time,
        cpu_utilization_30day_avg: usage.cpu_percent(),
        memory_utilization_30day_avg: usage.memory_percent(),
        network_io_30day_avg_mbps: usage.network_mbps(),
        disk_io_30day_avg_iops: usage.disk_iops(),
        power_draw_watts: Fixed::ratio(nw, 1_000_000_000).unwrap_or_default(),
        classification: share.class,
        monthly_cost_usd: share.monthly_cost_usd,
        monthly_energy_kwh: kwh(nw, month, 1),
        monthly_energy_cost_usd: energy_cost,
    };
    (instance, share)
}

/// Whether observation began less than a whole window before `end`.
#[must_use]
pub fn is_provisional(first_seen: Timestamp, end: Timestamp) -> bool {
    end.duration_since(first_seen) < WINDOW
}
