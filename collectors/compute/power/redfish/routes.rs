//! The three ways to a machine's power, best first: `EnvironmentMetrics`, the inputs of its power
//! supplies, the old `Power`.
//!
//! Promises: each says which property was read and what it measures; the supplies are summed whole or not
//! at all; what supplies put out, and what `Power` says of single supplies, is never taken for what the
//! machine draws.

use cms_spec::provenance::{Confidence, Origin};
use cms_spec::units::{Microjoules, Milliwatts};

use super::controller::{Controller, Unread};
use super::place::Place;
use super::resource::{Resource, last_part};
use crate::compute::power::polled::{Counter, Measured};

/// Supplies of one chassis: an enclosure of blades has a dozen.
const SUPPLIES_MAX: usize = 32;

/// A mean over more minutes than this says nothing about now.
const MEAN_MINUTES_MAX: u64 = 5;

/// Parts that some controllers list first in `PowerControl`, whose power is not the machine's.
const PARTS: [&str; 8] = [
    "Accelerator",
    "CPU",
    "CPUSubsystem",
    "Fan",
    "GPU",
    "GPUSubsystem",
    "Memory",
    "MemorySubsystem",
];

/// What is remembered of a counter from poll to poll.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The finest digit that the counter has shown: 1234.50 is written as 1234.5.
    digit: Option<Microjoules>,
    /// When it was reset, as the controller writes it.
    reset: Option<String>,
}

/// Reads the power where the controller has it; why it has none, for every way that there is.
pub(super) async fn measure(
    controller: &mut Controller,
    place: &Place,
    seen: &mut Seen,
) -> Result<Measured, Unread> {
    let mut reasons = Vec::new();
    if let Some(path) = &place.environment {
        match plausible(environment(controller, path, seen).await, place) {
            Err(Unread::Resource(reason)) => reasons.push(format!("EnvironmentMetrics: {reason}")),
            answer => return answer,
        }
    }
    if let Some(path) = &place.subsystem {
        match plausible(supplies(controller, path).await, place) {
            Err(Unread::Resource(reason)) => reasons.push(format!("PowerSubsystem: {reason}")),
            answer => return answer,
        }
    }
    if let Some(path) = &place.power {
        match plausible(old_power(controller, path).await, place) {
            Err(Unread::Resource(reason)) => reasons.push(format!("Power: {reason}")),
            answer => return answer,
        }
    }
    if reasons.is_empty() {
        reasons.push("its chassis has no EnvironmentMetrics, PowerSubsystem or Power".to_owned());
    }
    Err(Unread::Resource(reasons.join("; ")))
}

/// Refuses more than the supplies of the chassis can give. There is no least: they are rated in pairs, and two
/// large ones feed many a small machine.
fn plausible(measured: Result<Measured, Unread>, place: &Place) -> Result<Measured, Unread> {
    let measured = measured?;
    match (place.capacity, measured.power) {
        (Some(capacity), Some(power)) => capacity
            .check_most("it", power)
            .map(|()| measured)
            .map_err(Unread::Resource),
        _ => Ok(measured),
    }
}

/// `PowerWatts` of the whole chassis, with its counter of energy and what its sensor says about itself.
async fn environment(
    controller: &mut Controller,
    path: &str,
    seen: &mut Seen,
) -> Result<Measured, Unread> {
    let metrics = controller.take(path).await?;
    let power = metrics
        .watts("PowerWatts/Reading")
        .map_err(Unread::Resource)?;
    let sensor = match metrics.data_source("PowerWatts") {
        None => None,
        Some(path) => match controller.take(&path).await {
            Ok(sensor) => Some(sensor),
            // The excerpt is as good without its sensor, and says less about itself.
            Err(Unread::Resource(_)) => None,
            Err(error) => return Err(error),
        },
    };
    let mut origin = Origin::measured(&source(&metrics), "redfish-env/1 chassis", Confidence::B);
    let mut source_time = None;
    if let Some(sensor) = &sensor {
        let name = format!("its sensor {}", sensor.name());
        sensor
            .require_enabled("", &name)
            .map_err(Unread::Resource)?;
        source_time = sensor.time("ReadingTime");
        describe(sensor, &mut origin);
    }
    Ok(Measured {
        origin,
        power: Some(power),
        counter: counter(&metrics, seen),
        source_time,
    })
}

/// What a sensor says about itself, taken over as it stands.
fn describe(sensor: &Resource, origin: &mut Origin) {
    let boundary = match sensor.text("PhysicalSubContext") {
        Some("Input") => "psu_ac",
        Some("Output") => "psu_dc",
        _ => "chassis",
    };
    origin.method = format!("redfish-env/1 {boundary}");
    let accuracy = sensor.percent("Accuracy");
    if accuracy.is_some() && boundary == "psu_ac" {
        origin.confidence = Confidence::A;
    }
    let accuracy = accuracy.map(|percent| format!("its sensor claims an accuracy of {percent} %"));
    let made = match sensor.text("Implementation") {
        Some("Synthesized") => Some("the controller computes it from other sensors".to_owned()),
        _ => None,
    };
    let notes: Vec<String> = accuracy.into_iter().chain(made).collect();
    origin.note = (!notes.is_empty()).then(|| notes.join("; "));
}

fn counter(metrics: &Resource, seen: &mut Seen) -> Option<Counter> {
    let lifetime = metrics.energy("EnergykWh/LifetimeReading");
    if lifetime.is_none() {
        let reset = metrics.text("EnergykWh/SensorResetTime").map(str::to_owned);
        let was_reset = reset != seen.reset;
        let is_first = seen.digit.is_none();
        seen.reset = reset;
        if was_reset && !is_first {
            // This once it cannot be subtracted from the one before.
            return None;
        }
    }
    let energy = lifetime.or_else(|| metrics.energy("EnergykWh/Reading"))?;
    let digit = seen
        .digit
        .map_or(energy.digit, |seen| seen.min(energy.digit));
    seen.digit = Some(digit);
    Some(Counter {
        total: energy.total,
        step: digit,
    })
}

/// The inputs of all power supplies that are present and enabled.
async fn supplies(controller: &mut Controller, path: &str) -> Result<Measured, Unread> {
    let subsystem = controller.take(path).await?;
    let list = subsystem
        .link("PowerSupplies")
        .ok_or_else(|| Unread::Resource("there is no PowerSupplies".to_owned()))?;
    let collection = controller.take(&list).await?;
    let members = collection
        .links("Members", SUPPLIES_MAX)
        .map_err(Unread::Resource)?;
    let mut sum = Milliwatts::ZERO;
    let (mut counted, mut idle) = (0_usize, 0_usize);
    for member in &members {
        let supply = controller.take(member).await?;
        match supply.state("") {
            Some("Absent") => continue,
            None | Some("Enabled" | "StandbySpare") => {}
            Some(_) => {
                idle += 1;
                continue;
            }
        }
        sum += input(controller, &supply).await?;
        counted += 1;
    }
    if counted == 0 {
        let found = format!("none of its {} power supplies is enabled", members.len());
        return Err(Unread::Resource(found));
    }
    let mut origin = Origin::measured(&source(&collection), "redfish-psu/1 psu_ac", Confidence::B);
    let supplies = if counted == 1 { "supply" } else { "supplies" };
    origin.note = (idle > 0).then(|| {
        format!("the sum of {counted} enabled power {supplies}; {idle} more present, not enabled")
    });
    Ok(Measured {
        origin,
        power: Some(sum),
        counter: None,
        source_time: None,
    })
}

async fn input(controller: &mut Controller, supply: &Resource) -> Result<Milliwatts, Unread> {
    let missing = |why: &str| {
        let name = last_part(supply.path());
        Unread::Resource(format!(
            "power supply {name} is enabled, but {why}: half of a sum is none"
        ))
    };
    let path = supply
        .link("Metrics")
        .ok_or_else(|| missing("it has no Metrics"))?;
    let metrics = match controller.take(&path).await {
        Err(Unread::Resource(reason)) => return Err(missing(&reason)),
        answer => answer?,
    };
    metrics
        .watts("InputPowerWatts/Reading")
        .map_err(|reason| missing(&reason))
}

/// `PowerControl[0]` of the resource that came before the others.
async fn old_power(controller: &mut Controller, path: &str) -> Result<Measured, Unread> {
    let power = controller.take(path).await?;
    power
        .require_enabled("PowerControl/0", "PowerControl/0")
        .map_err(Unread::Resource)?;
    if let Some(part) = power.text("PowerControl/0/PhysicalContext")
        && PARTS.contains(&part)
    {
        let found = format!("PowerControl/0 is the power of its {part}, not of the machine");
        return Err(Unread::Resource(found));
    }
    let consumed = power.watts("PowerControl/0/PowerConsumedWatts");
    let minutes = power
        .whole("PowerControl/0/PowerMetrics/IntervalInMin")
        .filter(|minutes| (1..=MEAN_MINUTES_MAX).contains(minutes));
    let mean = power.watts("PowerControl/0/PowerMetrics/AverageConsumedWatts");
    let (watts, method) = match (consumed, minutes, mean) {
        (Ok(watts), ..) => (watts, "redfish-power/1 chassis".to_owned()),
        (Err(_), Some(minutes), Ok(mean)) => (
            mean,
            format!("redfish-power/1 mean of {minutes} min chassis"),
        ),
        (Err(reason), ..) => return Err(Unread::Resource(reason)),
    };
    Ok(Measured {
        origin: Origin::measured(&source(&power), &method, Confidence::B),
        power: Some(watts),
        counter: None,
        source_time: None,
    })
}

/// Names the resource; the controller's address stays out of what is submitted.
fn source(resource: &Resource) -> String {
    let path = resource.path().trim_end_matches('/');
    let below = path.strip_prefix("/redfish/v1/").unwrap_or(path);
    format!("redfish/{below}")
}
