//! What a value of an answer is as a number or a text.

use async_snmp::Value;
use cms_spec::decimal::{Decimal, DecimalError};

/// How much of a text is shown.
const TEXT_CHARACTERS_MAX: usize = 120;

/// Billionths in one.
const NANO: i128 = 1_000_000_000;

/// The number that a value is. Some devices send numbers as text.
///
/// # Errors
/// When it is none, in words for a person.
pub fn number(value: &Value) -> Result<Decimal, String> {
    let unsigned = |value: u32| Ok(Decimal::whole(i64::from(value)));
    match value {
        Value::Integer(value) => Ok(Decimal::whole(i64::from(*value))),
        Value::Counter32(value)
        | Value::Gauge32(value)
        | Value::UInteger32(value)
        | Value::TimeTicks(value) => unsigned(*value),
        Value::Counter64(value) => Ok(long(*value)),
        Value::Opaque(_) => opaque(value),
        Value::OctetString(bytes) => std::str::from_utf8(bytes)
            .map_err(|_| "it is not a number but bytes".to_owned())
            .and_then(|text| {
                let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
                trimmed
                    .parse()
                    .map_err(|why: DecimalError| format!("it is the text {:?}: {why}", shown(text)))
            }),
        Value::NoSuchObject => {
            Err("the device has no such object, or this login may not see it".to_owned())
        }
        Value::NoSuchInstance => Err("the device has no such row in this table".to_owned()),
        other => Err(format!("it is not a number but {}", other.kind().as_str())),
    }
}

/// The whole number that a value is.
///
/// # Errors
/// As [`number`], and when it is not whole.
pub fn whole(value: &Value) -> Result<i64, String> {
    let number = number(value)?;
    let refuse = || format!("{number} is not a whole number");
    if number.rounded(0) != number {
        return Err(refuse());
    }
    i64::try_from(number.nano() / NANO).map_err(|_| refuse())
}

/// `digits * 10^exponent`; nothing for what is too large or too small to be a measurement.
pub(crate) fn shifted(digits: i64, exponent: i32) -> Option<Decimal> {
    let number: Decimal = format!("{digits}e{exponent}").parse().ok()?;
    (digits == 0 || number != Decimal::ZERO).then_some(number)
}

/// The text that a value is, on one line and not too long; nothing for other values.
#[must_use]
pub fn text(value: &Value) -> Option<String> {
    let Value::OctetString(bytes) = value else {
        return None;
    };
    Some(shown(&String::from_utf8_lossy(bytes)))
}

/// A text of a device for a person: one line, no control characters, not too long.
pub(crate) fn shown(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(TEXT_CHARACTERS_MAX)
        .collect()
}

fn long(value: u64) -> Decimal {
    Decimal::from_nano(i128::from(value).saturating_mul(NANO))
}

/// Numbers that net-snmp wraps, because SNMP itself has no fractions.
fn opaque(value: &Value) -> Result<Decimal, String> {
    let float = value
        .as_opaque_float()
        .and_then(|float| Decimal::from_f32(float).ok());
    let double = || {
        let double = value.as_opaque_double()?;
        Decimal::from_f64(double).ok()
    };
    float
        .or_else(double)
        .or_else(|| value.as_opaque_u64().map(long))
        .or_else(|| value.as_opaque_counter64().map(long))
        .or_else(|| value.as_opaque_i64().map(Decimal::whole))
        .ok_or_else(|| "it is opaque, and holds no number that is known".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Value) -> Result<String, String> {
        number(&value).map(|number| number.to_string())
    }

    #[test]
    fn numbers() {
        assert_eq!(of(Value::Integer(-245)).unwrap(), "-245");
        assert_eq!(of(Value::Gauge32(u32::MAX)).unwrap(), "4294967295");
        assert_eq!(
            of(Value::Counter64(u64::MAX)).unwrap(),
            u64::MAX.to_string()
        );
        assert_eq!(of(Value::from(" 24.5\n")).unwrap(), "24.5");
        let float = [0x9f, 0x78, 0x04, 0x41, 0xc4, 0x00, 0x00];
        assert_eq!(of(Value::Opaque(float.to_vec().into())).unwrap(), "24.5");
    }

    #[test]
    fn what_is_no_number_says_what_it_is() {
        for (value, words) in [
            (Value::NoSuchObject, "no such object"),
            (Value::NoSuchInstance, "no such row"),
            (Value::Null, "null"),
            (Value::from("on fire\u{1b}[31m"), "the text \"on fire[31m\""),
            (Value::from(&[0xff, 0xfe][..]), "bytes"),
            (Value::Opaque(vec![0x9f, 0x78, 0x04].into()), "opaque"),
            (Value::from("n/a"), "the text"),
        ] {
            let refused = of(value.clone()).unwrap_err();
            assert!(
                refused.to_lowercase().contains(words),
                "{value:?}: {refused}"
            );
        }
        let nan = [0x9f, 0x78, 0x04, 0x7f, 0xc0, 0x00, 0x00];
        assert!(of(Value::Opaque(nan.to_vec().into())).is_err());
    }

    #[test]
    fn whole_numbers() {
        assert_eq!(whole(&Value::Integer(-8)), Ok(-8));
        assert!(whole(&Value::from("1.5")).is_err());
        assert!(whole(&Value::Counter64(u64::MAX)).is_err());
    }
}
