//! The rules of a value, whatever protocol it comes by: sentinels, scale and offset, unit, range, step.
//!
//! Promises: raw, then scale, then offset, then unit, as registers are documented; a value that breaks a rule is
//! missing, with the reason. Refuses: correcting a value.

use cms_spec::decimal::Decimal;
use jiff::Timestamp;
use serde::de::MapAccess;
use toml::Spanned;

use super::device::{Observation, PointError};
use super::unit::{Dimension, Unit};
use crate::checked::Every;

/// The keys of rules.
pub(super) const KEYS: [&str; 9] = [
    "scale",
    "offset",
    "unit_of_measure",
    "invalid",
    "min",
    "max",
    "max_step",
    "max_step_per_s",
    "stale_after",
];

/// Most sentinels of one point; a meter has one or two.
const INVALID_MAX: usize = 32;

/// So many readings in a row that agree with each other are believed, however far they are from the one before: the
/// world has changed, and not a bit on the line.
const STEPS_TO_BELIEVE: u32 = 3;

/// The specification wants heat read every five minutes; what is older is not of this interval.
const STALE_AFTER: StaleAfter = StaleAfter::seconds::<300>();

/// Up to a day, for what is told only when it changes.
type StaleAfter = Every<1, 86_400>;

/// Hottest and coldest that a fluid or exhaust is, in kelvin: -50 and 200 degrees Celsius.
const TEMPERATURE: [Decimal; 2] = [
    Decimal::from_nano(223_150_000_000),
    Decimal::from_nano(473_150_000_000),
];

/// No thermal source gives off more watts: the largest computing sites have a gigawatt.
pub(super) const POWER_MAX: Decimal = Decimal::whole(1_000_000_000);

/// The rules as they are written.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    scale: Option<Decimal>,
    offset: Option<Decimal>,
    pub(super) unit: Option<Spanned<Unit>>,
    invalid: Option<Vec<Decimal>>,
    min: Option<Decimal>,
    max: Option<Spanned<Decimal>>,
    max_step: Option<Decimal>,
    max_step_per_s: Option<Decimal>,
    stale_after: Option<StaleAfter>,
}

/// The rules of one point, checked.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    scale: Decimal,
    offset: Decimal,
    /// Nothing where the device says it.
    pub(super) unit: Option<Unit>,
    /// What the point may measure; empty for anything.
    dimensions: &'static [Dimension],
    invalid: Vec<Decimal>,
    min: Option<Decimal>,
    max: Option<Decimal>,
    max_step: Option<Decimal>,
    max_step_per_s: Option<Decimal>,
    stale_after_ms: i64,
}

/// A value that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// In the point's unit.
    pub(super) number: Decimal,
    pub(super) unit: Unit,
    /// In our unit of what it measures.
    pub(super) own: Decimal,
    /// When it was true.
    pub(super) at: Timestamp,
    /// Whether it holds until another one comes.
    pub(super) stands: bool,
}

/// Looks at the values of one point, one after the other.
#[derive(Debug)]
pub(super) struct Judge {
    rules: Rules,
    /// The newest value that passed, before its unit.
    good: Option<(Decimal, Timestamp)>,
    /// The newest value that was too far from it, and how many in a row agree.
    odd: Option<(Decimal, Timestamp, u32)>,
}

impl Written {
    /// Reads the value of one of [`KEYS`].
    pub(super) fn read<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "scale" => self.scale = Some(map.next_value()?),
            "offset" => self.offset = Some(map.next_value()?),
            "unit_of_measure" => self.unit = Some(map.next_value()?),
            "invalid" => self.invalid = Some(map.next_value()?),
            "min" => self.min = Some(map.next_value()?),
            "max" => self.max = Some(map.next_value()?),
            "max_step" => self.max_step = Some(map.next_value()?),
            "max_step_per_s" => self.max_step_per_s = Some(map.next_value()?),
            _ => self.stale_after = Some(map.next_value()?),
        }
        Ok(())
    }

    /// Joins what stands beside the protocol with what stands in its table.
    ///
    /// # Errors
    /// When a rule is given twice.
    pub(super) fn join(self, inside: Self) -> Result<Self, String> {
        fn one<T>(key: &str, outside: Option<T>, inside: Option<T>) -> Result<Option<T>, String> {
            match (outside, inside) {
                (Some(_), Some(_)) => Err(format!(
                    "`{key}` is given twice: beside the protocol and in its table"
                )),
                (outside, inside) => Ok(outside.or(inside)),
            }
        }
        Ok(Self {
            scale: one("scale", self.scale, inside.scale)?,
            offset: one("offset", self.offset, inside.offset)?,
            unit: one("unit_of_measure", self.unit, inside.unit)?,
            invalid: one("invalid", self.invalid, inside.invalid)?,
            min: one("min", self.min, inside.min)?,
            max: one("max", self.max, inside.max)?,
            max_step: one("max_step", self.max_step, inside.max_step)?,
            max_step_per_s: one("max_step_per_s", self.max_step_per_s, inside.max_step_per_s)?,
            stale_after: one("stale_after", self.stale_after, inside.stale_after)?,
        })
    }

    /// Checks them against each other.
    ///
    /// # Errors
    /// In words.
    pub(super) fn checked(self, dimensions: &'static [Dimension]) -> Result<Rules, String> {
        if self.scale == Some(Decimal::ZERO) {
            return Err("a `scale` of 0 makes every value 0".to_owned());
        }
        let invalid = self.invalid.unwrap_or_default();
        if invalid.len() > INVALID_MAX {
            return Err(format!("`invalid` has at most {INVALID_MAX} numbers"));
        }
        let max = self.max.map(Spanned::into_inner);
        if let (Some(min), Some(max)) = (self.min, max)
            && min >= max
        {
            return Err(format!("`min` {min} is not below `max` {max}"));
        }
        for (key, step) in [
            ("max_step", self.max_step),
            ("max_step_per_s", self.max_step_per_s),
        ] {
            if step.is_some_and(|step| step <= Decimal::ZERO) {
                return Err(format!("`{key}` is more than 0"));
            }
        }
        let stale_after_ms = self.stale_after.unwrap_or(STALE_AFTER).millis();
        Ok(Rules {
            scale: self.scale.unwrap_or(Decimal::whole(1)),
            offset: self.offset.unwrap_or_default(),
            unit: self.unit.map(Spanned::into_inner),
            dimensions,
            invalid,
            min: self.min,
            max,
            max_step: self.max_step,
            max_step_per_s: self.max_step_per_s,
            stale_after_ms: i64::try_from(stale_after_ms).unwrap_or(i64::MAX),
        })
    }
}

impl Rules {
    /// Whether a value is older than it may be.
    pub(super) fn age(&self, value: &Value, now: Timestamp) -> Result<(), PointError> {
        let age_ms = now.as_millisecond() - value.at.as_millisecond();
        if age_ms <= self.stale_after_ms {
            return Ok(());
        }
        Err(PointError::Stale(format!(
            "the newest value is {} s old and counts for {} s only (stale_after): its source has stopped",
            age_ms / 1_000,
            self.stale_after_ms / 1_000
        )))
    }

    fn unit(&self, told: Option<Unit>) -> Result<Unit, PointError> {
        let unit = match (self.unit, told) {
            (Some(own), Some(told)) if own != told => {
                return Err(PointError::Implausible(format!(
                    "the device says {told} and unit_of_measure says {own}: leave unit_of_measure \
                     out, or correct it"
                )));
            }
            (Some(unit), _) | (None, Some(unit)) => unit,
            (None, None) if self.dimensions.is_empty() => Unit::One,
            (None, None) => {
                return Err(PointError::Implausible(
                    "the device says no unit: give unit_of_measure".to_owned(),
                ));
            }
        };
        if !self.dimensions.is_empty() && !self.dimensions.contains(&unit.dimension()) {
            return Err(PointError::Implausible(format!(
                "the device says {unit}, which is {} and has no place here",
                unit.dimension()
            )));
        }
        Ok(unit)
    }
}

impl Judge {
    pub(super) const fn new(rules: Rules) -> Self {
        Self {
            rules,
            good: None,
            odd: None,
        }
    }

    pub(super) const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The value, or why it is none.
    pub(super) fn value(&mut self, seen: &Observation) -> Result<Value, PointError> {
        let rules = &self.rules;
        if rules.invalid.contains(&seen.raw) {
            return Err(PointError::Bad(format!(
                "it says {}, which means that it has no value (invalid)",
                seen.raw
            )));
        }
        let too_large = || PointError::Implausible(format!("{} is too large a number", seen.raw));
        let number = seen
            .raw
            .checked_mul(rules.scale)
            .and_then(|scaled| scaled.checked_add(rules.offset))
            .ok_or_else(too_large)?;
        let unit = rules.unit(seen.unit)?;
        let own = unit.to_own(number).ok_or_else(too_large)?;
        if rules.min.is_some_and(|min| number < min) || rules.max.is_some_and(|max| number > max) {
            let bound = |bound: Option<Decimal>| bound.map_or("any".to_owned(), |b| b.to_string());
            return Err(PointError::Implausible(format!(
                "{number} {unit} is outside of {} to {} (min, max)",
                bound(rules.min),
                bound(rules.max)
            )));
        }
        possible(number, unit, own, rules.dimensions)?;
        self.step(number, unit, seen.at)?;
        Ok(Value {
            number,
            unit,
            own,
            at: seen.at,
            stands: seen.stands,
        })
    }

    /// Refuses a leap, until so many readings agree that it is none.
    fn step(&mut self, number: Decimal, unit: Unit, at: Timestamp) -> Result<(), PointError> {
        let leaps = |from: &(Decimal, Timestamp)| {
            let step = number.checked_sub(from.0).map(Decimal::magnitude);
            let passed_ms = (at.as_millisecond() - from.1.as_millisecond()).max(0);
            let paced = self.rules.max_step_per_s.map(|pace| {
                Decimal::ratio(passed_ms, 1_000).and_then(|seconds| seconds.checked_mul(pace))
            });
            let beyond = |limit: Option<Decimal>| step.is_none_or(|s| limit.is_some_and(|l| s > l));
            self.rules.max_step.is_some_and(|max| beyond(Some(max))) || paced.is_some_and(beyond)
        };
        let Some(good) = &self.good else {
            self.good = Some((number, at));
            return Ok(());
        };
        if !leaps(good) {
            (self.good, self.odd) = (Some((number, at)), None);
            return Ok(());
        }
        let before = good.0;
        let agreed = match &self.odd {
            Some((odd, odd_at, agreed)) if !leaps(&(*odd, *odd_at)) => agreed + 1,
            _ => 1,
        };
        if agreed >= STEPS_TO_BELIEVE {
            (self.good, self.odd) = (Some((number, at)), None);
            return Ok(());
        }
        self.odd = Some((number, at, agreed));
        Err(PointError::Implausible(format!(
            "it leaps from {before} to {number} {unit} (max_step); it is believed after \
             {STEPS_TO_BELIEVE} readings that agree"
        )))
    }
}

/// What no meter of a thermal source can rightly say.
fn possible(
    number: Decimal,
    unit: Unit,
    own: Decimal,
    dimensions: &[Dimension],
) -> Result<(), PointError> {
    if dimensions.is_empty() {
        return Ok(());
    }
    let implausible = |why: &str| Err(PointError::Implausible(format!("{number} {unit} {why}")));
    match unit.dimension() {
        Dimension::Temperature if !(TEMPERATURE[0]..=TEMPERATURE[1]).contains(&own) => implausible(
            "is no temperature of a circuit or of exhaust: check type, order, scale and unit",
        ),
        Dimension::Power if own.is_negative() => implausible(
            "is negative: the flow runs backwards, or the sensors of supply and return are exchanged",
        ),
        Dimension::Power if own > POWER_MAX => {
            implausible("is more than a site can give off: check type, order, scale and unit")
        }
        Dimension::Energy if own.is_negative() => {
            implausible("is negative: this is no register that grows; check type and order")
        }
        Dimension::VolumeFlow | Dimension::MassFlow if own.is_negative() => implausible(
            "is negative: the flow runs backwards, or its sensor is built in the wrong way",
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
