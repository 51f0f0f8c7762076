//! Which system is this machine, and which chassis has its power: found once, by links.
//!
//! Promises: where there are several, a person says which; a chassis that several machines share is
//! nobody's; a controller of another machine is found out where both say who they are.

use std::collections::BTreeSet;

use super::controller::{Controller, Unread};
use super::identity::Identity;
use super::resource::{Resource, last_part};
use crate::checked::Watts;
use crate::compute::power::nameplate::Nameplate;

/// Where every Redfish service begins.
const ROOT: &str = "/redfish/v1/";

/// Systems behind one controller: an enclosure has dozens of blades.
const SYSTEMS_MAX: usize = 256;

/// Chassis behind one controller: those of a rack, with their drawers.
const CHASSIS_MAX: usize = 512;

/// Chassis that one system is linked to: its own, and some of drives and accelerators.
const LINKED_MAX: usize = 64;

/// Of several linked chassis, so many are looked at for what they say about power.
const LOOKED_AT_MAX: usize = 8;

/// Names of a list in an error.
const TOLD_MAX: usize = 8;

/// Where the power of one machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Who says whether the machine is on.
    pub(super) switch: String,
    /// `EnvironmentMetrics` of the chassis.
    pub(super) environment: Option<String>,
    /// `PowerSubsystem` of the chassis.
    pub(super) subsystem: Option<String>,
    /// `Power` of the chassis.
    pub(super) power: Option<String>,
    /// What its power supplies can give, where it says so.
    pub(super) capacity: Option<Nameplate>,
}

/// What the table says about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) system: Option<String>,
    pub(super) chassis: Option<String>,
}

/// Finds the place.
pub(super) async fn find(
    controller: &mut Controller,
    wanted: &Wanted,
    identity: &Identity,
) -> Result<Place, Unread> {
    let root = controller.take(ROOT).await?;
    let all_chassis = root.link("Chassis").ok_or_else(|| {
        let found =
            "it names no Chassis, so that it is no Redfish service with power: check the address";
        Unread::Resource(format!("{ROOT}: {found}"))
    })?;
    let systems = match root.link("Systems") {
        Some(systems) => members(controller, &systems, SYSTEMS_MAX).await?,
        None => Vec::new(),
    };
    let configured = match &wanted.chassis {
        Some(name) => {
            let members = members(controller, &all_chassis, CHASSIS_MAX).await?;
            let path = named(&members, name, "chassis")?;
            Some(controller.take(&path).await?)
        }
        None => None,
    };
    let system = match system(&systems, wanted, configured.as_ref())? {
        Some(path) => Some(controller.take(&path).await?),
        None => None,
    };
    if let Some(other) = system.as_ref().and_then(|system| identity.differs(system)) {
        return Err(Unread::Resource(other));
    }
    let chassis = match configured {
        Some(chassis) => chassis,
        None => of_system(controller, system.as_ref(), &all_chassis).await?,
    };
    let subsystem = chassis.link("PowerSubsystem");
    let power = chassis.link("Power");
    let shared = chassis.links("Links/ComputerSystems", SYSTEMS_MAX);
    match shared.map_err(Unread::Resource)?.len() {
        0 | 1 => {}
        several => {
            return Err(Unread::Resource(format!(
                "chassis {} holds {several} systems and has one power for all of them: use another \
                 source of power for these machines",
                chassis.name()
            )));
        }
    }
    let mut capacity = None;
    for (path, at, property) in [
        (&subsystem, "CapacityWatts", "CapacityWatts"),
        (
            &power,
            "PowerControl/0/PowerCapacityWatts",
            "PowerCapacityWatts",
        ),
    ] {
        if let (None, Some(path)) = (capacity, path) {
            capacity = of_supplies(controller, path, at, property).await?;
        }
    }
    Ok(Place {
        switch: system.as_ref().unwrap_or(&chassis).path().to_owned(),
        environment: chassis.link("EnvironmentMetrics"),
        subsystem,
        power,
        capacity,
    })
}

/// What the supplies of a chassis can give together; nothing where it does not say, or says 0.
async fn of_supplies(
    controller: &mut Controller,
    path: &str,
    at: &str,
    property: &'static str,
) -> Result<Option<Nameplate>, Unread> {
    match controller.take(path).await {
        Ok(resource) => {
            let capacity = resource.watts(at).ok();
            let whole = capacity.map(|capacity| Watts((capacity.0 / 1_000).max(1)));
            Ok(whole.map(|watts| Nameplate::of_supplies(watts, property)))
        }
        // The way that needs it will say what is wrong with it.
        Err(Unread::Resource(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The system that is meant; none where the controller knows of none.
fn system(
    systems: &[String],
    wanted: &Wanted,
    chassis: Option<&Resource>,
) -> Result<Option<String>, Unread> {
    if let Some(name) = &wanted.system {
        return named(systems, name, "system").map(Some);
    }
    if let [one] = systems {
        return Ok(Some(one.clone()));
    }
    let linked = match chassis {
        Some(chassis) => chassis
            .links("Links/ComputerSystems", SYSTEMS_MAX)
            .map_err(Unread::Resource)?,
        None => Vec::new(),
    };
    match (systems, linked.as_slice()) {
        ([], _) => Ok(None),
        (_, [one]) => Ok(Some(one.clone())),
        _ => Err(several("system", systems)),
    }
}

/// The chassis that a system is linked to, or the only one.
async fn of_system(
    controller: &mut Controller,
    system: Option<&Resource>,
    all_chassis: &str,
) -> Result<Resource, Unread> {
    let linked = match system {
        Some(system) => system
            .links("Links/Chassis", LINKED_MAX)
            .map_err(Unread::Resource)?,
        None => Vec::new(),
    };
    let linked: BTreeSet<String> = match linked.as_slice() {
        [] => members(controller, all_chassis, CHASSIS_MAX).await?,
        _ => linked,
    }
    .into_iter()
    .collect();
    let linked: Vec<String> = linked.into_iter().collect();
    match linked.as_slice() {
        [] => Err(Unread::Resource(format!("{all_chassis} lists no chassis"))),
        [one] => controller.take(one).await,
        _ if linked.len() > LOOKED_AT_MAX => Err(several("chassis", &linked)),
        _ => {
            let mut with_power = Vec::new();
            for path in &linked {
                let chassis = controller.take(path).await?;
                let is_one = ["EnvironmentMetrics", "PowerSubsystem", "Power"]
                    .iter()
                    .any(|resource| chassis.has(resource));
                with_power.extend(is_one.then_some(chassis));
            }
            match (with_power.pop(), with_power.is_empty()) {
                (Some(only), true) => Ok(only),
                _ => Err(several("chassis", &linked)),
            }
        }
    }
}

async fn members(
    controller: &mut Controller,
    path: &str,
    max: usize,
) -> Result<Vec<String>, Unread> {
    let collection = controller.take(path).await?;
    collection
        .links("Members", max)
        .map_err(|found| Unread::Resource(format!("{path}: {found}")))
}

fn named(members: &[String], name: &str, kind: &str) -> Result<String, Unread> {
    let found = members.iter().find(|path| last_part(path) == name);
    found.cloned().ok_or_else(|| {
        Unread::Resource(format!(
            "it has no {kind} {name:?}: there is {}",
            names(members)
        ))
    })
}

fn several(kind: &str, members: &[String]) -> Unread {
    Unread::Resource(format!(
        "it has {} {kind}s and does not say which one is meant: set `{kind}` to one of {}",
        members.len(),
        names(members)
    ))
}

fn names(members: &[String]) -> String {
    let told: Vec<&str> = members
        .iter()
        .take(TOLD_MAX)
        .map(|path| last_part(path))
        .collect();
    let rest = members.len().saturating_sub(told.len());
    match (told.is_empty(), rest) {
        (true, _) => "none".to_owned(),
        (false, 0) => told.join(", "),
        (false, rest) => format!("{} and {rest} more", told.join(", ")),
    }
}
