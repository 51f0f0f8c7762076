//! Power sensors of the kernel's hwmon tree: the ACPI power meter, and the boards of AMD GPUs.
//!
//! Owns: which sensors count and for what. Promises: each device alone, and then their sum; a sensor that
//! sleeps is not woken. Refuses: batteries; several ACPI meters, of which nobody can tell whether one
//! contains another; graphics that are a part of the processor, which RAPL has counted.

mod sensors;

use std::path::PathBuf;

use cms_spec::provenance::{Confidence, Origin};
use cms_spec::units::Milliwatts;

use self::sensors::Sensor;
use super::{Rung, Span, Verdict, words};
use crate::checked::Watts;
use crate::{CollectError, Host};

/// Ticks in a row in which a driver may have no value before it is not used.
const MISSES_MAX: u32 = 3;

/// What of the tree is a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Boards of AMD GPUs: a part of the machine.
    AmdGpu,
    /// The ACPI power meter: the whole machine.
    Meter,
}

/// The rungs `hwmon` and `amdgpu`.
pub(super) struct Hwmon {
    kind: Kind,
    tree: PathBuf,
    misses: u32,
}

impl Hwmon {
    pub(super) fn new(kind: Kind, host: &Host) -> Self {
        Self {
            kind,
            tree: host.sys("class/hwmon"),
            misses: 0,
        }
    }

    fn power(&self) -> Result<Milliwatts, Verdict> {
        let invalid = |error: &CollectError| Verdict::Invalid(words(error));
        let sensors = match self.kind {
            Kind::Meter => self.meter(),
            Kind::AmdGpu => self.boards(),
        };
        let mut sum = Milliwatts::ZERO;
        for sensor in sensors? {
            let power = match sensor.power() {
                Err(error) if sensors::has_no_value_now(&error) => return Err(Verdict::Baseline),
                power => power.map_err(|error| invalid(&error))?,
            };
            if power.0 / 1000 > Watts::MAX {
                let watts = power.0 / 1000;
                return Err(Verdict::Invalid(format!(
                    "it says {watts} W, which is too much"
                )));
            }
            sum += power;
        }
        if sum == Milliwatts::ZERO && self.kind == Kind::Meter {
            let why = "it says 0 W, which a running machine never draws";
            return Err(Verdict::Invalid(why.to_owned()));
        }
        Ok(sum)
    }

    fn meter(&self) -> Result<Vec<Sensor>, Verdict> {
        let mut meters = self.of_driver("power_meter")?;
        meters.retain(|meter| !meter.is_battery());
        match meters.len() {
            0 => Err(Verdict::Absent(
                "this machine has no ACPI power meter".to_owned(),
            )),
            1 => Ok(meters),
            several => Err(Verdict::Invalid(format!(
                "there are {several} ACPI power meters, and nothing tells whether one contains another"
            ))),
        }
    }

    fn boards(&self) -> Result<Vec<Sensor>, Verdict> {
        let mut boards = self.of_driver("amdgpu")?;
        boards.retain(Sensor::has_limit);
        if boards.is_empty() {
            return Err(Verdict::Absent(
                "this machine has no AMD GPU of its own power".to_owned(),
            ));
        }
        boards.retain(|board| !board.sleeps());
        Ok(boards)
    }

    fn of_driver(&self, driver: &str) -> Result<Vec<Sensor>, Verdict> {
        let sensors = sensors::of_driver(&self.tree, driver);
        sensors.map_err(|error| Verdict::Invalid(words(&error)))
    }
}

impl Rung for Hwmon {
    fn name(&self) -> &str {
        match self.kind {
            Kind::AmdGpu => "amdgpu",
            Kind::Meter => "hwmon",
        }
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        match self.power() {
            Ok(power) => {
                self.misses = 0;
                span.map_or(Verdict::Baseline, |span| Verdict::Energy {
                    energy: power.over(span.over),
                    over: span.over,
                })
            }
            Err(Verdict::Baseline) => {
                self.misses += 1;
                if self.misses < MISSES_MAX {
                    return Verdict::Baseline;
                }
                Verdict::Invalid(format!(
                    "its driver has had no value for {MISSES_MAX} ticks"
                ))
            }
            Err(verdict) => verdict,
        }
    }

    fn is_part(&self) -> bool {
        self.kind == Kind::AmdGpu
    }

    fn origin(&self) -> Origin {
        match self.kind {
            // What firmware says of a board; how well, nobody states.
            Kind::AmdGpu => Origin::measured("hwmon/amdgpu", "hwmon-amdgpu/1 gpu", Confidence::C),
            Kind::Meter => {
                Origin::measured("hwmon/acpi", "acpi-power-meter/1 input", Confidence::B)
            }
        }
    }
}
