//! One figure of heat over time: powers as they are, registers as what they grew by.
//!
//! Promises: a reading counts once; a register that falls or leaps begins anew and is said to. Refuses: what a register
//! grew by while another point spoke in its place.

use cms_spec::decimal::Decimal;
use cms_spec::reading::Value as Read;
use jiff::Timestamp;

use crate::thermal::device::PointError;
use crate::thermal::rules::{POWER_MAX, Value};
use crate::thermal::unit::Dimension;

/// A power stands for no longer than the window's own readings do: two of its five-minute intervals.
const HOLD_MS: i64 = 600_000;

/// What one tick adds to a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// What is handed on.
    pub(super) read: Option<Read>,
    /// The heat of the span that ends now, in microjoules and milliseconds.
    pub(super) grown: Option<(u64, u64)>,
}

/// Follows one figure.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Time of the newest observation that counted.
    newest: Option<Timestamp>,
    /// Joules of a register, and the tick at which it was read.
    register: Option<(Decimal, i64)>,
    /// When the register last grew.
    grown_at: i64,
    /// Milliwatts, and the tick at which they were read.
    power: Option<(u64, i64)>,
}

impl Meter {
    /// Takes a value in. With `as_amounts` a power is handed on as what it amounts to, so that it can take turns with a
    /// register.
    pub(super) fn take(
        &mut self,
        value: &Value,
        at: Timestamp,
        as_amounts: bool,
    ) -> Result<Step, PointError> {
        let nothing = Step {
            read: None,
            grown: None,
        };
        if !value.stands && self.newest.is_some_and(|newest| value.at <= newest) {
            return Ok(nothing);
        }
        self.newest = Some(value.at);
        let now = at.as_millisecond();
        let too_large = || PointError::Implausible(format!("{} is too much", value.number));
        if value.unit.dimension() == Dimension::Energy {
            let grown = self.register(value, now)?;
            let read = grown.map(|(amount, over_ms)| Read::Amount { amount, over_ms });
            return Ok(Step { read, grown });
        }
        let milliwatts = value.own.to_milli().ok_or_else(too_large)?;
        let before = self.power.replace((milliwatts, now));
        let grown = before.and_then(|(before, since)| {
            let over_ms = now
                .checked_sub(since)
                .filter(|over| (1..=HOLD_MS).contains(over))?;
            let over_ms = u64::try_from(over_ms).ok()?;
            // Milliwatts times milliseconds are microjoules.
            Some((before.saturating_mul(over_ms), over_ms))
        });
        let read = match as_amounts {
            false => Some(Read::Gauge(milliwatts)),
            true => grown.map(|(amount, over_ms)| Read::Amount { amount, over_ms }),
        };
        Ok(Step { read, grown })
    }

    /// Begins anew: another point has spoken in between.
    pub(super) fn reset(&mut self) {
        *self = Self {
            newest: self.newest,
            ..Self::default()
        };
    }

    fn register(&mut self, value: &Value, now: i64) -> Result<Option<(u64, u64)>, PointError> {
        let unit = value.unit;
        let Some((before, since)) = self.register.replace((value.own, now)) else {
            self.grown_at = now;
            return Ok(None);
        };
        let Some(grown) = value
            .own
            .checked_sub(before)
            .filter(|grown| !grown.is_negative())
        else {
            self.grown_at = now;
            return Err(PointError::Implausible(format!(
                "the register fell to {} {unit}: the meter was reset or exchanged; it counts from here",
                value.number
            )));
        };
        if grown > Decimal::ZERO {
            // A coarse register grows in steps: what it grew by fell to the whole time since the step before.
            let quiet_ms = (now - self.grown_at).max(1);
            self.grown_at = now;
            let most =
                Decimal::ratio(quiet_ms, 1_000).and_then(|seconds| seconds.checked_mul(POWER_MAX));
            if most.is_some_and(|most| grown > most) {
                return Err(PointError::Implausible(format!(
                    "the register leapt to {} {unit}, more than any site gives off: the meter was \
                     exchanged, or type and order are wrong; it counts from here",
                    value.number
                )));
            }
        }
        let over_ms = u64::try_from(now - since).ok().filter(|over| *over > 0);
        Ok(grown.to_micro().zip(over_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thermal::unit::Unit;

    fn value(number: &str, unit: Unit, second: i64) -> (Value, Timestamp) {
        let number: Decimal = number.parse().unwrap();
        let at = Timestamp::from_second(1_767_607_200 + second).unwrap();
        let own = unit.to_own(number).unwrap();
        let value = Value {
            number,
            unit,
            own,
            at,
            stands: false,
        };
        (value, at)
    }

    fn steps(
        unit: Unit,
        script: &[(&str, i64)],
        as_amounts: bool,
    ) -> Vec<Result<Option<Read>, String>> {
        let mut meter = Meter::default();
        let step = |(number, second): &(&str, i64)| {
            let (value, at) = value(number, unit, *second);
            let step = meter.take(&value, at, as_amounts);
            step.map(|step| step.read)
                .map_err(|error| error.to_string())
        };
        script.iter().map(step).collect()
    }

    #[test]
    fn a_register_counts_what_it_grew_by() {
        let amount = |amount, over_ms| Ok(Some(Read::Amount { amount, over_ms }));
        assert_eq!(
            steps(
                Unit::KilowattHour,
                &[("100", 0), ("100", 30), ("101", 60), ("101.5", 150)],
                false
            ),
            [
                Ok(None),
                amount(0, 30_000),
                amount(3_600_000_000_000, 30_000),
                amount(1_800_000_000_000, 90_000)
            ]
        );
    }

    #[test]
    fn a_register_that_falls_or_leaps_begins_anew() {
        let taken = steps(
            Unit::MegawattHour,
            &[("100", 0), ("3", 30), ("3", 60), ("900", 90), ("900", 120)],
            false,
        );
        assert!(
            taken[1]
                .as_ref()
                .is_err_and(|e| e.contains("fell to 3 MWh")),
            "{taken:?}"
        );
        assert!(
            taken[3]
                .as_ref()
                .is_err_and(|e| e.contains("leapt to 900 MWh")),
            "{taken:?}"
        );
        assert_eq!(
            taken[4],
            Ok(Some(Read::Amount {
                amount: 0,
                over_ms: 30_000
            }))
        );
    }

    #[test]
    fn a_power_is_a_gauge_or_what_it_amounts_to() {
        assert_eq!(
            steps(Unit::Kilowatt, &[("85.3", 0), ("80", 30)], false),
            [
                Ok(Some(Read::Gauge(85_300_000))),
                Ok(Some(Read::Gauge(80_000_000)))
            ]
        );
        assert_eq!(
            steps(
                Unit::Kilowatt,
                &[("85.3", 0), ("80", 30), ("80", 700)],
                true
            ),
            [
                Ok(None),
                Ok(Some(Read::Amount {
                    amount: 2_559_000_000_000,
                    over_ms: 30_000
                })),
                Ok(None)
            ]
        );
    }

    #[test]
    fn the_same_reading_counts_once() {
        let mut meter = Meter::default();
        let (mut value, at) = value("85.3", Unit::Kilowatt, 0);
        assert!(meter.take(&value, at, false).unwrap().read.is_some());
        assert!(meter.take(&value, at, false).unwrap().read.is_none());
        value.stands = true;
        assert!(meter.take(&value, at, false).unwrap().read.is_some());
    }
}
