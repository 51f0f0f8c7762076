//! Numbers and times inside of what a device says: a text, or a JSON document.
//!
//! Promises: one value or a reason in words. Refuses: guessing a number where something else stands.

pub(in crate::thermal) mod leaves;
pub mod select;

use cms_spec::decimal::{Decimal, DecimalError};
use jiff::Timestamp;
use serde_json::Value;

use super::device::PointError;

pub(super) use self::select::Select;

/// A clock of a device may be ahead by this much; what is further ahead is no time of a value.
const AHEAD_MS_MAX: i64 = 300_000;

/// Numbers from here on are milliseconds since 1970, smaller ones seconds: the year 2286 in seconds.
const MILLISECONDS_FROM: i64 = 10_000_000_000;

/// How much of a text is repeated where it is no number.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// The number at a place of a document: as such, or as a text.
pub(super) fn value(document: &Value, place: &Select) -> Result<Decimal, PointError> {
    let found = place.find(document).map_err(PointError::Refused)?;
    value_of(found).map_err(|error| match error {
        PointError::Bad(why) => PointError::Bad(format!("{place} {why}")),
        PointError::Malformed(why) => PointError::Malformed(format!("{place} {why}")),
        other => other,
    })
}

/// A value of JSON that is a number: as such, or as a text.
pub(super) fn value_of(value: &Value) -> Result<Decimal, PointError> {
    match value {
        Value::Number(found) => number(&found.to_string()),
        Value::String(text) => number(text),
        Value::Null => Err(PointError::Bad(
            "is null: the device has no value".to_owned(),
        )),
        other => Err(PointError::Malformed(format!(
            "is {}, not a number",
            select::kind(other)
        ))),
    }
}

/// A text that is a number.
pub(super) fn number(text: &str) -> Result<Decimal, PointError> {
    let shown: String = text.trim().chars().take(SHOWN_CHARACTERS_MAX).collect();
    text.parse().map_err(|error| match error {
        DecimalError::NotFinite => PointError::Bad(format!("is {shown}: the device has no value")),
        error => PointError::Malformed(format!("is {shown:?}: {error}")),
    })
}

/// The time at a place of a document: RFC 3339, or seconds or milliseconds since 1970.
pub(super) fn moment(document: &Value, place: &Select) -> Result<Timestamp, PointError> {
    let found = place.find(document).map_err(PointError::Refused)?;
    moment_of(found).ok_or_else(|| {
        PointError::Malformed(format!(
            "{place} is no time: {}; wanted are RFC 3339 with an offset, or seconds or milliseconds \
             since 1970",
            select::kind(found)
        ))
    })
}

/// A value of JSON that is a time.
pub(super) fn moment_of(value: &Value) -> Option<Timestamp> {
    let since_1970 = |number: i64| match number {
        MILLISECONDS_FROM.. => Timestamp::from_millisecond(number),
        _ => Timestamp::from_second(number),
    };
    match value {
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(at) => Some(at),
            Err(_) => text.parse().ok().and_then(|number| since_1970(number).ok()),
        },
        Value::Number(found) => {
            let decimal: Option<Decimal> = found.to_string().parse().ok();
            let whole = decimal.and_then(|d| i64::try_from(d.nano() / 1_000_000_000).ok());
            whole.and_then(|number| since_1970(number).ok())
        }
        _ => None,
    }
}

/// A time that is not ahead of ours by more than a clock may be.
pub(super) fn not_ahead(
    at: Timestamp,
    place: &Select,
    now: Timestamp,
) -> Result<Timestamp, PointError> {
    let ahead_ms = at.as_millisecond() - now.as_millisecond();
    if ahead_ms > AHEAD_MS_MAX {
        return Err(PointError::Malformed(format!(
            "{place} is {} s in the future: check its clock",
            ahead_ms / 1_000
        )));
    }
    Ok(at.min(now))
}

#[cfg(test)]
mod tests;
