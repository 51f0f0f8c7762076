//! `[compute]`: what can be configured about the instance that the agent runs on.

use std::time::Duration;

use cms_spec::{Category, Subject};
use serde::Deserialize;
use toml::de::ValueDeserializer;

use super::HostCollector;
use crate::checked::{Dollars, Every};
use crate::compute::power;
use crate::{Collector, Host, OpenError, Registration, Settings};

/// Reading a few files of `/proc` and `/sys` takes milliseconds; longer than this something hangs.
const DEADLINE: Duration = Duration::from_secs(5);

/// The host or container as a source.
pub const REGISTRATION: Registration = Registration {
    id: "compute/host",
    category: Category::GhostCompute,
    table: "compute",
    repeated: false,
    sample: include_str!("sample.toml"),
    parse,
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    #[serde(default = "enabled")]
    enabled: bool,
    #[serde(default)]
    pub(super) scope: Scope,
    #[serde(default)]
    pub(super) hardware: Hardware,
    pub(super) instance_id: Option<Subject>,
    pub(super) instance_type: Option<Subject>,
    pub(super) region: Option<Subject>,
    pub(super) monthly_cost_usd: Option<Dollars<2>>,
    #[serde(default = "interval")]
    pub(super) interval: Interval,
    #[serde(default)]
    pub(super) power: power::Config,
}

/// From one second, which already costs more than it tells, to five minutes, a third of a 15-minute
/// slot.
type Interval = Every<1, 300>;

const fn enabled() -> bool {
    true
}

const fn interval() -> Interval {
    Interval::seconds::<15>()
}

/// What the instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    /// The container that the agent runs in, by its control group.
    Cgroup,
    /// The machine.
    #[default]
    Host,
}

/// What the instance runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Hardware {
    /// What firmware and processor say.
    #[default]
    Detected,
    /// The machine itself, also where a hypervisor is seen: the first domain of Xen, for instance.
    Physical,
    /// A virtual machine, also where its hypervisor hides.
    Virtual,
}

fn parse(table: ValueDeserializer<'_>) -> Result<Box<dyn Settings>, toml::de::Error> {
    Ok(Box::new(Config::deserialize(table)?))
}

impl Settings for Config {
    fn name(&self) -> String {
        REGISTRATION.id.to_owned()
    }

    fn enabled(&self) -> bool {
        self.enabled
    }

    fn open(&self, host: &Host) -> Result<Box<dyn Collector>, OpenError> {
        Ok(Box::new(HostCollector::open(self, host)?))
    }

    fn interval(&self) -> Duration {
        self.interval.duration()
    }

    fn deadline(&self) -> Duration {
        DEADLINE.min(self.interval.duration())
    }
}
