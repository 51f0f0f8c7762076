//! The sources of a run: a meter whose counters grow as the seed says, a heat source, an inventory.
//!
//! What the meter has shown is known here, so that what comes out of the windows can be compared with it.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cms_collectors::{
    CollectError, Collector, Host, OpenError, Registration, Settings, compute, coverage,
};
use cms_spec::Category;
use cms_spec::coverage::{Baseline, Documented};
use cms_spec::heat::ThermalFacts;
use cms_spec::provenance::{Confidence, Origin};
use cms_spec::reading::{Quantity, Readings, Snapshot, Value};
use cms_telemetry_agent::clock::Time as _;
use cms_telemetry_agent::config::Source;
use jiff::Timestamp;

use super::plan::Plan;
use super::random::Random;
use super::sky::Sky;

/// The one instance of a run.
pub(crate) const INSTANCE: &str = "host:simulated";

/// What samples of the meter say that they are from.
pub(crate) const METER: &str = "simulation/meter";

/// The inventory is read this often.
const INVENTORY_EVERY: Duration = Duration::from_secs(3_600);

static METER_KIND: LazyLock<Registration> = LazyLock::new(|| Registration {
    id: METER,
    ..compute::host::REGISTRATION
});

static HEAT_KIND: LazyLock<Registration> = LazyLock::new(|| Registration {
    id: "simulation/heat",
    category: Category::HeatRecovery,
    ..compute::host::REGISTRATION
});

static INVENTORY_KIND: LazyLock<Registration> = LazyLock::new(|| Registration {
    id: "simulation/inventory",
    ..coverage::baseline::REGISTRATION
});

/// One look at the meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) boot: String,
    /// By the agent's clock.
    pub(crate) at_ms: i64,
    pub(crate) energy_uj: u64,
}

/// The meter of one run. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    sky: Sky,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    random: Random,
    boot: String,
    last: Duration,
    energy_uj: u64,
    busy_ms: u64,
    capacity_ms: u64,
    fails: bool,
    hangs: bool,
    looks: Vec<Look>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Meter,
    Heat,
    Inventory,
}

#[derive(Clone, Debug)]
struct Scripted {
    meter: Meter,
    what: What,
    interval: Duration,
}

impl Meter {
    pub(crate) fn new(sky: Sky, random: Random) -> Self {
        let state = State {
            random,
            boot: String::new(),
            last: Duration::ZERO,
            energy_uj: 0,
            busy_ms: 0,
            capacity_ms: 0,
            fails: false,
            hangs: false,
            looks: Vec::new(),
        };
        Self {
            sky,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The sources of a plan, in the place of those that the configuration names.
    pub(crate) fn sources(&self, plan: &Plan) -> Vec<Source> {
        let source = |registration: &'static Registration, what, interval| Source {
            registration,
            settings: Arc::new(Scripted {
                meter: self.clone(),
                what,
                interval,
            }),
            origin: "simulation".to_owned(),
        };
        let mut sources = vec![
            source(&METER_KIND, What::Meter, plan.tick),
            source(&INVENTORY_KIND, What::Inventory, INVENTORY_EVERY),
        ];
        if plan.heat {
            sources.push(source(&HEAT_KIND, What::Heat, plan.tick));
        }
        sources
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.state.lock().unwrap().fails = fails;
    }

    pub(crate) fn hang(&self, hangs: bool) {
        self.state.lock().unwrap().hangs = hangs;
    }

    /// What the meter has shown since this was asked last.
    pub(crate) fn take_looks(&self) -> Vec<Look> {
        std::mem::take(&mut self.state.lock().unwrap().looks)
    }

    fn show(&self, at: Timestamp, out: &mut Readings) {
        let mut state = self.state.lock().unwrap();
        let now = self.sky.passed();
        let boot = self.sky.boot_id();
        if boot != state.boot {
            // Counters begin again with the boot, and not always at nothing.
            state.energy_uj = state.random.between(0, 1_000_000);
            (state.busy_ms, state.capacity_ms) = (0, 0);
            state.last = now;
            state.boot.clone_from(&boot);
        }
        let passed = u64::try_from((now - state.last).as_millis()).unwrap();
        state.last = now;
        let milliwatts = state.random.between(40_000, 400_000);
        state.energy_uj += passed * milliwatts;
        state.capacity_ms += passed * 8;
        state.busy_ms += passed * state.random.between(0, 8);
        let origin = out.origin(Origin::measured("meter", "meter/1", Confidence::A));
        let host = INSTANCE.parse().unwrap();
        for (quantity, value) in [
            (Quantity::EnergyUj, state.energy_uj),
            (Quantity::CpuBusyMs, state.busy_ms),
            (Quantity::CpuCapacityMs, state.capacity_ms),
        ] {
            out.push(&host, quantity, Value::Counter(value), origin);
        }
        let energy_uj = state.energy_uj;
        state.looks.push(Look {
            boot,
            at_ms: at.as_millisecond(),
            energy_uj,
        });
    }
}

impl Settings for Scripted {
    fn name(&self) -> String {
        format!("{:?}", self.what).to_lowercase()
    }

    fn open(&self, _: &Host) -> Result<Box<dyn Collector>, OpenError> {
        Ok(Box::new(self.clone()))
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(10)
    }
}

#[async_trait]
impl Collector for Scripted {
    async fn collect(&mut self, at: Timestamp, out: &mut Readings) -> Result<(), CollectError> {
        let (fails, hangs) = {
            let state = self.meter.state.lock().unwrap();
            (state.fails, state.hangs)
        };
        if hangs && self.what == What::Meter {
            std::future::pending::<()>().await;
        }
        if fails {
            let what = "the simulated source".to_owned();
            return Err(CollectError::Vanished { what });
        }
        match self.what {
            What::Meter => self.meter.show(at, out),
            What::Heat => heat(out),
            What::Inventory => inventory(out),
        }
        Ok(())
    }
}

fn heat(out: &mut Readings) {
    let source = "thermal:rack".parse().unwrap();
    let origin = out.origin(Origin::measured("heat meter", "heat/1", Confidence::A));
    for (quantity, value) in [
        (Quantity::ThermalOutput, 50_000_000),
        (Quantity::HeatDelivered, 30_000_000),
        (Quantity::HeatSourceCaptured, 35_000_000),
        (Quantity::ExhaustMilliKelvin, 313_150),
    ] {
        out.push(&source, quantity, Value::Gauge(value), origin);
    }
    out.snapshot(Snapshot::Thermal(ThermalFacts {
        source,
        equipment_type: "gpu_cluster".to_owned(),
        cooling_method: "liquid_to_air_heat_exchanger".to_owned(),
        heat_utilization: "office_space_heating".to_owned(),
        exemption: None,
        missing: std::collections::BTreeMap::new(),
    }));
}

fn inventory(out: &mut Readings) {
    out.snapshot(Snapshot::Baseline(Baseline {
        submission_date: "2026-01-15".parse().unwrap(),
        instances: vec![Documented {
            id: INSTANCE.to_owned(),
            name: "the simulated host".to_owned(),
            decommissioned: None,
        }],
        storage: Vec::new(),
        model_endpoints: Vec::new(),
    }));
}

/// The agent's clock, for who needs the trait.
pub(crate) fn agent_now(sky: &Sky) -> Timestamp {
    sky.now()
}
