//! Numbers as meters give them: exact decimals, so that a scale, an offset or a formula adds no error of
//! its own.
//!
//! Promises: nine digits after the point, rounded half away from zero; what does not fit is nothing, never a wrapped or
//! an infinite number. A float enters as its shortest text, so that 48.3 of a 32-bit register is 48.3.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// Digits after the point.
const DIGITS: u32 = 9;

/// Units of the last digit in one.
const ONE: i128 = 1_000_000_000;

/// Longest text of a number; the longest that a float has is 1,077 digits, of which the first 400 count.
const TEXT_BYTES_MAX: usize = 1_100;

/// Largest magnitude of an exponent that is looked at; beyond it a number is zero or does not fit.
const EXPONENT_MAX: i64 = 400;

/// An exact decimal number with nine digits after the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i128);

/// A text is not a number, or not one that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// It is something else.
    #[error("this is not a number; write it as 42 or 42.5")]
    NotANumber,
    /// It is NaN or infinite: meters say so where a sensor is broken.
    #[error("the number is not finite")]
    NotFinite,
    /// Too many digits before the point.
    #[error("the number is too large; use a larger unit")]
    TooLarge,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// A whole number.
    #[must_use]
    pub const fn whole(number: i64) -> Self {
        // An i64 times 1e9 is below 1e28, far inside of an i128.
        Self(number as i128 * ONE)
    }

    /// From a count of billionths.
    #[must_use]
    pub const fn from_nano(nano: i128) -> Self {
        Self(nano)
    }

    /// The count of billionths.
    #[must_use]
    pub const fn nano(self) -> i128 {
        self.0
    }

    /// `numerator / denominator`; nothing for a zero denominator.
    #[must_use]
    pub fn ratio(numerator: i64, denominator: i64) -> Option<Self> {
        Self::whole(numerator).checked_div(Self::whole(denominator))
    }

    /// A float, as its shortest text says it.
    ///
    /// # Errors
    /// When it is not finite or too large.
    pub fn from_f64(number: f64) -> Result<Self, DecimalError> {
        if !number.is_finite() {
            return Err(DecimalError::NotFinite);
        }
        number.to_string().parse()
    }

    /// A short float, as its shortest text says it.
    ///
    /// # Errors
    /// When it is not finite or too large.
    pub fn from_f32(number: f32) -> Result<Self, DecimalError> {
        if !number.is_finite() {
            return Err(DecimalError::NotFinite);
        }
        number.to_string().parse()
    }

    /// The sum; nothing when it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference; nothing when it does not fit.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product; nothing when it does not fit.
    #[must_use]
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        // The whole and the broken part apart: their product fits wherever the result does, nearly.
        let (whole, part) = (other.0 / ONE, other.0 % ONE);
        let of_whole = self.0.checked_mul(whole)?;
        let of_part = match self.0.checked_mul(part) {
            Some(product) => rounded(product, ONE)?,
            None => (self.0 / ONE).checked_mul(part)?,
        };
        of_whole.checked_add(of_part).map(Self)
    }

    /// The quotient; nothing when it does not fit or the divisor is zero.
    #[must_use]
    pub fn checked_div(self, other: Self) -> Option<Self> {
        rounded(self.0.checked_mul(ONE)?, other.0).map(Self)
    }

    /// Whether it is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Without its sign; the largest number in place of one that has no counterpart.
    #[must_use]
    pub fn magnitude(self) -> Self {
        Self(self.0.checked_abs().unwrap_or(i128::MAX))
    }

    /// How many thousandths of it there are, rounded; nothing when negative or too many.
    #[must_use]
    pub fn to_milli(self) -> Option<u64> {
        u64::try_from(rounded(self.0, ONE / 1_000)?).ok()
    }

    /// How many millionths of it there are, rounded; nothing when negative or too many.
    #[must_use]
    pub fn to_micro(self) -> Option<u64> {
        u64::try_from(rounded(self.0, ONE / 1_000_000)?).ok()
    }

    /// Rounded to so many digits after the point, for a person.
    #[must_use]
    pub fn rounded(self, digits: u32) -> Self {
        let unit = 10_i128.pow(DIGITS.saturating_sub(digits));
        let units = rounded(self.0, unit).unwrap_or(self.0 / unit);
        Self(units.checked_mul(unit).unwrap_or(self.0))
    }
}

/// Half away from zero.
fn rounded(numerator: i128, denominator: i128) -> Option<i128> {
    let quotient = numerator.checked_div(denominator)?;
    let rest = numerator.checked_rem(denominator)?;
    let is_half = rest.unsigned_abs() >= denominator.unsigned_abs() - rest.unsigned_abs();
    if rest == 0 || !is_half {
        return Some(quotient);
    }
    let away = if (numerator < 0) == (denominator < 0) {
        1
    } else {
        -1
    };
    quotient.checked_add(away)
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(DecimalError::NotANumber);
        }
        let lower = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
        if matches!(lower.as_str(), "nan" | "inf" | "infinity") {
            return Err(DecimalError::NotFinite);
        }
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                let exponent: i64 = exponent.parse().map_err(|_| DecimalError::NotANumber)?;
                (
                    mantissa,
                    exponent.clamp(-2 * EXPONENT_MAX, 2 * EXPONENT_MAX),
                )
            }
            None => (text, 0),
        };
        let (is_negative, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if (before.is_empty() && after.is_empty()) || !is_digits(before) || !is_digits(after) {
            return Err(DecimalError::NotANumber);
        }
        let mut nano = 0_i128;
        // The place of a digit: 0 is the ones, -9 the last that is kept, -10 the one that rounds.
        let first = i64::try_from(before.len()).unwrap_or(i64::MAX) - 1 + exponent;
        let places = (0..).map(|at| first - at);
        for (digit, place) in before.bytes().chain(after.bytes()).zip(places) {
            let digit = i128::from(digit - b'0');
            if digit == 0 || place < -i64::from(DIGITS) - 1 {
                continue;
            }
            let part = match u32::try_from(place + i64::from(DIGITS)) {
                Ok(power) => {
                    let weight = 10_i128.checked_pow(power).ok_or(DecimalError::TooLarge)?;
                    digit.checked_mul(weight).ok_or(DecimalError::TooLarge)?
                }
                Err(_) => i128::from(digit >= 5),
            };
            nano = nano.checked_add(part).ok_or(DecimalError::TooLarge)?;
        }
        Ok(Self(if is_negative { -nano } else { nano }))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let (whole, part) = (
            magnitude / ONE.unsigned_abs(),
            magnitude % ONE.unsigned_abs(),
        );
        let part = format!("{part:09}");
        match part.trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}"),
            digits => write!(f, "{sign}{whole}.{digits}"),
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Decimal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a finite number")
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Decimal, E> {
                Decimal::from_f64(number).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Decimal, E> {
                Ok(Decimal::whole(number))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Decimal, E> {
                Ok(Decimal(i128::from(number).saturating_mul(ONE)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn texts_are_read_exactly() {
        for (text, shown) in [
            ("42", "42"),
            ("-42.50", "-42.5"),
            ("+.5", "0.5"),
            ("7.", "7"),
            ("1e3", "1000"),
            ("-1.25E-2", "-0.0125"),
            ("0.0000000005", "0.000000001"),
            ("0.00000000049", "0"),
            ("0e999999", "0"),
            ("1e-999999", "0"),
            ("1e28", "10000000000000000000000000000"),
        ] {
            assert_eq!(of(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        use DecimalError::{NotANumber, NotFinite, TooLarge};
        for (text, error) in [
            ("", NotANumber),
            (".", NotANumber),
            ("-", NotANumber),
            ("--1", NotANumber),
            ("1,5", NotANumber),
            ("1.2.3", NotANumber),
            ("0x10", NotANumber),
            ("1e", NotANumber),
            ("NaN", NotFinite),
            ("-inf", NotFinite),
            ("1e30", TooLarge),
            ("1e999999999", TooLarge),
        ] {
            assert_eq!(text.parse::<Decimal>(), Err(error), "{text}");
        }
        assert_eq!(Decimal::from_f64(f64::NAN), Err(NotFinite));
        assert_eq!(Decimal::from_f32(f32::INFINITY), Err(NotFinite));
        assert_eq!(Decimal::from_f64(f64::MAX), Err(TooLarge));
    }

    #[test]
    fn floats_are_what_they_print() {
        assert_eq!(Decimal::from_f32(48.3), Ok(of("48.3")));
        assert_eq!(Decimal::from_f64(0.1), Ok(of("0.1")));
        assert_eq!(Decimal::from_f64(f64::MIN_POSITIVE), Ok(Decimal::ZERO));
    }

    #[test]
    fn sums_products_and_quotients() {
        assert_eq!(of("0.1").checked_add(of("0.2")), Some(of("0.3")));
        assert_eq!(of("-1.5").checked_mul(of("2.5")), Some(of("-3.75")));
        assert_eq!(of("2").checked_div(of("-3")), Some(of("-0.666666667")));
        assert_eq!(of("1").checked_div(Decimal::ZERO), None);
        let large = of("1e28");
        assert_eq!(large.checked_mul(of("0.5")), Some(of("5e27")));
        assert_eq!(large.checked_mul(large), None);
        assert_eq!(of("12345.6789").rounded(2), of("12345.68"));
        assert_eq!(of("-0.05").rounded(1), of("-0.1"));
        assert_eq!(of("1.2345").to_milli(), Some(1_235));
        assert_eq!(of("-1").to_milli(), None);
    }

    proptest! {
        #[test]
        fn text_round_trip(nano: i64) {
            let number = Decimal::from_nano(i128::from(nano));
            prop_assert_eq!(number.to_string().parse::<Decimal>(), Ok(number));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eE]{0,40}") {
            if let Ok(number) = text.parse::<Decimal>() {
                prop_assert_eq!(number.to_string().parse::<Decimal>(), Ok(number));
            }
        }

        #[test]
        fn no_operation_panics(a: i128, b: i128) {
            let (a, b) = (Decimal::from_nano(a), Decimal::from_nano(b));
            let _ = (a.checked_add(b), a.checked_sub(b), a.checked_mul(b), a.checked_div(b));
            let _ = (a.rounded(3), a.to_milli(), a.to_micro(), a.magnitude());
        }

        #[test]
        fn a_quotient_is_undone_by_a_product(a in -1_000_000_000_i64..1_000_000_000, b in 1_i64..1_000_000) {
            let (a, b) = (Decimal::whole(a), Decimal::whole(b));
            let back = a.checked_div(b).and_then(|q| q.checked_mul(b)).unwrap();
            prop_assert!(back.checked_sub(a).unwrap().magnitude() < Decimal::from_nano(1_000_000));
        }
    }
}
