//! Surveys: what a monitoring server says about many instances, as means of the window that it computed itself.
//!
//! A fleet that is monitored already has its 30-day averages in one place. A survey takes them over whole, with
//! the share of the window that each instance was observed; a new one replaces the one before it. So an instance
//! costs a few hundred bytes instead of 2,880 buckets, and an agent that starts knows the last 30 days at once.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ghost::{EnergyUse, InstanceFacts, Observed, Usage, WINDOW};
use crate::ids::Subject;
use crate::provenance::{Origin, Quality};

/// Most remarks of one survey. A server that says more is in trouble, which a few of them tell.
pub const NOTES_MAX: usize = 20;

/// One finished survey of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Names the server; its next survey takes the place of this one.
    pub server: Subject,
    /// The end of the window that the means are of.
    pub as_of: Timestamp,
    /// Where the means come from.
    pub origins: Vec<Origin>,
    /// Every instance that the server knows.
    pub instances: Vec<Surveyed>,
    /// What a reader must know besides: partial answers, warnings, figures that could not be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a survey says about one instance. A figure that the server does not have is not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// What it is.
    pub facts: InstanceFacts,
    /// When the server first saw it, at most one window ago.
    pub first_seen: Timestamp,
    /// When the server saw it last.
    pub last_seen: Timestamp,
    /// How much of the window it was observed for.
    pub observed_ms: u64,
    /// Percent of its processors in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Mean>,
    /// Percent of its memory in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Mean>,
    /// Bytes received and sent in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Mean>,
    /// Completed reads and writes in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Mean>,
    /// Watts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Mean>,
}

/// A mean over the time that an instance was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mean {
    /// Millionths of the figure's unit.
    pub micro: u64,
    /// Index into the origins of the survey.
    pub origin: u16,
}

/// A hundred percent, in millionths.
const FULL: u64 = 100_000_000;

const MICRO: u128 = 1_000_000;

impl Survey {
    /// An instance as if windows of our own had watched it for as long as the server did.
    #[must_use]
    pub fn observed(&self, one: &Surveyed) -> Observed {
        let window_ms = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
        let observed_ms = u128::from(one.observed_ms.min(window_ms));
        // What a mean amounts to over the time that was observed, and that time; nothing where there is none.
        let amount = |mean: Option<Mean>, most: u64| match mean {
            Some(mean) => (u128::from(mean.micro.min(most)) * observed_ms, observed_ms),
            None => (0, 0),
        };
        let (cpu, cpu_observed_ms) = amount(one.cpu, FULL);
        let (memory, memory_observed_ms) = amount(one.memory, FULL);
        let (network, network_observed_ms) = amount(one.network, u64::MAX);
        let (disk, disk_observed_ms) = amount(one.disk, u64::MAX);
        let (power, power_observed_ms) = amount(one.power, u64::MAX);
        let origin = |mean: Option<Mean>| self.origins.get(usize::from(mean?.origin)).cloned();
        let power_origin = origin(one.power);
        let class = match power_origin
            .as_ref()
            .map_or(Quality::Estimated, |o| o.quality)
        {
            Quality::Measured => 0,
            Quality::Default => 2,
            Quality::Estimated | Quality::Unavailable => 1,
        };
        let mut energy = [EnergyUse::default(); 3];
        let mut energy_origins = [None, None, None];
        if let (Some(used), Some(origin)) = (energy.get_mut(class), energy_origins.get_mut(class)) {
            // A millionth of a watt for a millisecond is a thousandth of a microjoule.
            used.microjoules = power / 1_000;
            used.observed_ms = power_observed_ms;
            *origin = power_origin;
        }
        Observed {
            facts: one.facts.clone(),
            usage: Usage {
                cpu_busy_ms: cpu,
                cpu_capacity_ms: u128::from(FULL) * cpu_observed_ms,
                cpu_observed_ms,
                memory_milli_percent_ms: memory / 1_000,
                memory_observed_ms,
                network_bytes: network / (MICRO * 1_000),
                network_observed_ms,
                disk_operations: disk / (MICRO * 1_000),
                disk_observed_ms,
                energy,
            },
            first_seen: one.first_seen,
            last_seen: one.last_seen,
            origins: [one.cpu, one.memory, one.network, one.disk].map(origin),
            energy_origins,
            cross_checks: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::v1::InstanceClass;
    use crate::provenance::Confidence;
    use crate::units::Fixed;

    const DAY_MS: u64 = 86_400_000;

    fn survey(one: Surveyed) -> Survey {
        Survey {
            server: "prometheus".parse().unwrap(),
            as_of: one.last_seen,
            origins: vec![Origin::measured("prometheus", "promql/1", Confidence::C)],
            instances: vec![one],
            notes: Vec::new(),
        }
    }

    fn surveyed(observed_ms: u64, micro: u64) -> Surveyed {
        let mean = Some(Mean { micro, origin: 0 });
        let at = Timestamp::UNIX_EPOCH;
        Surveyed {
            facts: InstanceFacts {
                instance: "node-1".parse().unwrap(),
                instance_type: "unknown".to_owned(),
                region: "here".to_owned(),
                launch_time: at,
                monthly_cost_usd: None,
            },
            first_seen: at,
            last_seen: at,
            observed_ms,
            cpu: mean,
            memory: mean,
            network: mean,
            disk: mean,
            power: mean,
        }
    }

    #[test]
    fn means_come_out_as_they_went_in() {
        for days in [1, 17, 30] {
            let survey = survey(surveyed(days * DAY_MS, 9_876_543));
            let observed = survey.observed(&survey.instances[0]);
            let usage = observed.usage;
            assert_eq!(usage.cpu_percent(), Some(Fixed::from_raw(988)));
            assert_eq!(usage.memory_percent(), Some(Fixed::from_raw(988)));
            assert_eq!(usage.disk_iops(), Some(Fixed::from_raw(988)));
            // 9.876543 bytes in a second are 79.01 bits in it.
            assert_eq!(
                usage.network_bytes,
                9_876_543 * u128::from(days) * 86_400 / 1_000_000
            );
            assert_eq!(usage.mean_power_nw(), Some(9_876_543_000));
            assert_eq!(usage.classify(), InstanceClass::Ghost);
            assert_eq!(usage.energy[0].observed_ms, u128::from(days * DAY_MS));
        }
    }

    #[test]
    fn a_figure_that_is_missing_was_not_observed() {
        let mut one = surveyed(30 * DAY_MS, 1);
        (one.cpu, one.power) = (None, None);
        let survey = survey(one);
        let observed = survey.observed(&survey.instances[0]);
        assert_eq!(observed.usage.cpu_percent(), None);
        assert_eq!(observed.usage.mean_power_nw(), None);
        assert_eq!(observed.usage.classify(), InstanceClass::InsufficientData);
        assert!(observed.origins[0].is_none() && observed.origins[1].is_some());
    }

    #[test]
    fn no_share_is_more_than_the_whole_and_no_window_longer_than_itself() {
        let survey = survey(surveyed(u64::MAX, u64::MAX));
        let usage = survey.observed(&survey.instances[0]).usage;
        assert_eq!(usage.cpu_percent(), Some(Fixed::whole(100)));
        assert_eq!(usage.cpu_observed_ms, u128::from(30 * DAY_MS));
        assert_eq!(usage.classify(), InstanceClass::Productive);
    }

    #[test]
    fn less_than_a_day_is_not_classified() {
        let survey = survey(surveyed(DAY_MS - 1, 0));
        let usage = survey.observed(&survey.instances[0]).usage;
        assert_eq!(usage.classify(), InstanceClass::InsufficientData);
    }
}
