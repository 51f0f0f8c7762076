//! What meters of energy and power say: the objects of a known table, or those that a configuration
//! names.
//!
//! Promises: a value keeps its scale, exactly; what a device marks as not measured is refused.

use async_snmp::{Oid, Value};
use cms_spec::decimal::Decimal;
use serde::Deserialize;

use super::value;

/// Watts in one.
pub(super) const WATT: Decimal = Decimal::whole(1);

/// Joules in one.
pub(super) const WATT_HOUR: Decimal = Decimal::whole(3_600);

/// Joules in one.
pub(super) const KILOWATT_HOUR: Decimal = Decimal::whole(3_600_000);

/// Units of energy in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum EnergyUnit {
    J,
    #[serde(rename = "kJ")]
    KiloJ,
    Wh,
    #[serde(rename = "kWh")]
    KiloWh,
    MWh,
}

impl EnergyUnit {
    /// In joules.
    pub(crate) const fn joules(self) -> Decimal {
        match self {
            Self::J => Decimal::whole(1),
            Self::KiloJ => Decimal::whole(1_000),
            Self::Wh => WATT_HOUR,
            Self::KiloWh => KILOWATT_HOUR,
            Self::MWh => Decimal::whole(3_600_000_000),
        }
    }
}

/// Units of power in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum PowerUnit {
    #[serde(rename = "mW")]
    MilliW,
    W,
    #[serde(rename = "kW")]
    KiloW,
}

impl PowerUnit {
    /// In watts.
    pub(crate) const fn watts(self) -> Decimal {
        match self {
            Self::MilliW => Decimal::from_nano(1_000_000),
            Self::W => WATT,
            Self::KiloW => Decimal::whole(1_000),
        }
    }
}

/// The objects that tell a meter's power and energy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    pub(super) power: Option<Scaled>,
    pub(super) energy: Option<Scaled>,
    /// Must say this number.
    pub(super) available: Vec<(Oid, i64)>,
    pub(super) caliber: Option<[Oid; 2]>,
}

/// One object, and how many watts or joules one count of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scaled {
    pub(super) oid: Oid,
    pub(super) unit: Decimal,
    /// Says how far the point moves, and whether to the left.
    pub(super) moved_by: Option<(Oid, bool)>,
}

/// What a meter says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// In watts.
    pub(crate) power: Option<Decimal>,
    /// In joules, since some time in the past.
    pub(crate) energy: Option<Decimal>,
    /// The smallest difference of the energy, in joules.
    pub(crate) step: Option<Decimal>,
    /// What the device says about its own power (RFC 7460).
    pub(crate) caliber: Option<Caliber>,
}

/// How a device comes by its power, and how exact it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caliber {
    /// It measures; otherwise it estimates.
    pub(crate) is_measured: bool,
    /// In hundredths of a percent, where it is known.
    pub(crate) accuracy: Option<i64>,
}

impl Objects {
    /// Objects that a configuration names, each with how many units one count is.
    pub(crate) fn named(power: Option<(Oid, Decimal)>, energy: Option<(Oid, Decimal)>) -> Self {
        let scaled = |(oid, unit)| Scaled {
            oid,
            unit,
            moved_by: None,
        };
        Self {
            power: power.map(scaled),
            energy: energy.map(scaled),
            available: Vec::new(),
            caliber: None,
        }
    }

    /// What must be asked for.
    pub(crate) fn oids(&self) -> Vec<Oid> {
        let scaled = self.power.iter().chain(&self.energy);
        let scaled = scaled.flat_map(|scaled| {
            let moved = scaled.moved_by.as_ref().map(|(oid, _)| oid);
            std::iter::once(&scaled.oid).chain(moved)
        });
        scaled
            .chain(self.available.iter().map(|(oid, _)| oid))
            .chain(self.caliber.iter().flatten())
            .cloned()
            .collect()
    }

    /// What the answers to [`Self::oids`] mean.
    ///
    /// # Errors
    /// In words for a person, when a value is missing or marked as not measured.
    pub(crate) fn decode(&self, values: &[Value]) -> Result<Said, String> {
        let mut values = values.iter();
        let mut next = || values.next().ok_or("the answer is too short".to_owned());
        let mut said = Said::default();
        if let Some(power) = &self.power {
            said.power = Some(power.decode(&mut next, "power")?.0);
        }
        if let Some(energy) = &self.energy {
            let (total, step) = energy.decode(&mut next, "energy")?;
            (said.energy, said.step) = (Some(total), Some(step));
        }
        for (oid, wanted) in &self.available {
            let found = value::whole(next()?);
            if found != Ok(*wanted) {
                return Err(format!(
                    "the device says that it does not measure it ({oid})"
                ));
            }
        }
        if self.caliber.is_some() {
            said.caliber = Some(caliber(next()?, next()?)?);
        }
        Ok(said)
    }
}

impl Scaled {
    fn decode<'a>(
        &self,
        next: &mut impl FnMut() -> Result<&'a Value, String>,
        what: &str,
    ) -> Result<(Decimal, Decimal), String> {
        let about = |why: String| format!("its {what} {} cannot be used: {why}", self.oid);
        let count = value::number(next()?).map_err(about)?;
        let mut unit = self.unit;
        if let Some((oid, to_the_left)) = &self.moved_by {
            let by = value::whole(next()?)
                .ok()
                .and_then(|by| i32::try_from(by).ok().filter(|by| (-24..=24).contains(by)))
                .ok_or_else(|| about(format!("its scale {oid} is no power of ten")))?;
            unit = value::shifted(1, if *to_the_left { -by } else { by })
                .and_then(|moved| unit.checked_mul(moved))
                .filter(|unit| *unit != Decimal::ZERO)
                .ok_or_else(|| about(format!("its scale {oid} is no measurement's")))?;
        }
        if count.is_negative() {
            return Err(about(format!("{count} means that it is not measured")));
        }
        let scaled = count.checked_mul(unit);
        let scaled = scaled.ok_or_else(|| about("it is too large".to_owned()))?;
        Ok((scaled, unit))
    }
}

/// `eoPowerAccuracy` and `eoPowerMeasurementCaliber`.
fn caliber(accuracy: &Value, caliber: &Value) -> Result<Caliber, String> {
    let is_measured = match value::whole(caliber) {
        Ok(3) => true,
        Ok(2 | 4) => false,
        Ok(1) => return Err("the device says that its power is unavailable (caliber 1)".to_owned()),
        Ok(5) => return Err("its power is a constant that somebody set (caliber 5)".to_owned()),
        Ok(other) => return Err(format!("its caliber {other} is not known")),
        Err(why) => return Err(format!("its caliber cannot be used: {why}")),
    };
    let accuracy = value::whole(accuracy).ok();
    Ok(Caliber {
        is_measured,
        accuracy: accuracy.filter(|accuracy| (1..=10_000).contains(accuracy)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snmp::tables::{Known, Row};

    fn outlet(outlet: u32) -> Row {
        Row {
            outlet: Some(outlet),
            ..Row::default()
        }
    }

    fn say(model: &str, values: &[i32]) -> Result<Said, String> {
        let row = if model == "apc-unit" {
            Row::default()
        } else {
            outlet(1)
        };
        let values: Vec<Value> = values.iter().copied().map(Value::Integer).collect();
        Known::of(model).unwrap().row(row).unwrap().decode(&values)
    }

    fn decimal(text: &str) -> Option<Decimal> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn scales() {
        let said = say("apc-unit", &[81, 1_234_567]).unwrap();
        assert_eq!(said.power, decimal("810"));
        assert_eq!(said.energy, decimal("444444120000"));
        assert_eq!(said.step, decimal("360000"));
        let said = say("raritan-outlet", &[2_125, 1, 5_000, 0, 1, 1]).unwrap();
        assert_eq!(
            (said.power, said.energy),
            (decimal("212.5"), decimal("18000000"))
        );
        assert_eq!(said.step, decimal("3600"));
        let said = say("energy-object", &[181, -1, 150, 3]).unwrap();
        assert_eq!(said.power, decimal("18.1"));
        let caliber = Caliber {
            is_measured: true,
            accuracy: Some(150),
        };
        assert_eq!(said.caliber, Some(caliber));
        let said = say("energy-object", &[2, 3, 0, 4]).unwrap();
        assert_eq!(said.power, decimal("2000"));
        assert_eq!(
            said.caliber.unwrap(),
            Caliber {
                is_measured: false,
                accuracy: None
            }
        );
    }

    #[test]
    fn what_is_not_measured_is_refused() {
        for (model, values, words) in [
            (
                "apc-outlet",
                &[-1, 5][..],
                "-1 means that it is not measured",
            ),
            ("servertech-outlet", &[200, -1], "not measured"),
            (
                "raritan-outlet",
                &[212, 0, 5_000, 0, 2, 1],
                "does not measure it",
            ),
            (
                "raritan-outlet",
                &[212, 77, 5_000, 0, 1, 1],
                "no power of ten",
            ),
            ("energy-object", &[181, 0, 0, 1], "unavailable"),
            ("energy-object", &[181, 0, 0, 5], "constant"),
            ("apc-outlet", &[200], "too short"),
        ] {
            let refused = say(model, values).unwrap_err();
            assert!(refused.contains(words), "{model}: {refused}");
        }
        let objects = Known::of("apc-outlet").unwrap().row(outlet(1)).unwrap();
        let gone = objects.decode(&[Value::NoSuchInstance, Value::NoSuchInstance]);
        assert!(gone.unwrap_err().contains("no such row"));
    }
}
