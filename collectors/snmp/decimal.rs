//! Exact decimal numbers: tenths of a kilowatt-hour stay tenths, and nothing is rounded on the way.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Powers of ten beyond this are a slip; SI prefixes end at 24.
const EXPONENT_MAX: i32 = 60;

/// No number that is sent as text is longer.
const TEXT_BYTES_MAX: usize = 64;

/// A number `digits * 10^exponent`, without trailing zeros in `digits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    /// Nothing.
    pub const ZERO: Self = Self::new(0, 0);

    /// One.
    pub const ONE: Self = Self::new(1, 0);

    /// `digits * 10^exponent`.
    #[must_use]
    pub const fn new(digits: i64, exponent: i32) -> Self {
        let (mut digits, mut exponent) = (digits, exponent);
        while digits != 0 && digits % 10 == 0 {
            digits /= 10;
            exponent += 1;
        }
        Self {
            digits: digits as i128,
            exponent: if digits == 0 { 0 } else { exponent },
        }
    }

    /// The product; nothing when it is too long to be a measurement.
    #[must_use]
    pub fn times(self, other: Self) -> Option<Self> {
        Self::checked(
            self.digits.checked_mul(other.digits)?,
            self.exponent.checked_add(other.exponent)?,
        )
    }

    /// The sum; nothing when it is too long to be a measurement.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        let sum = self
            .scaled(exponent)?
            .checked_add(other.scaled(exponent)?)?;
        Self::checked(sum, exponent)
    }

    /// How often `10^exponent` is in it, rounded half away from zero.
    #[must_use]
    pub fn rounded(self, exponent: i32) -> Option<i128> {
        let by = exponent.checked_sub(self.exponent)?;
        if by <= 0 {
            return self.scaled(exponent);
        }
        let Some(unit) = 10_i128.checked_pow(by.unsigned_abs()) else {
            return Some(0);
        };
        let (whole, rest) = (self.digits / unit, self.digits % unit);
        let up = rest.abs() >= unit - rest.abs();
        Some(whole + if up { self.digits.signum() } else { 0 })
    }

    /// Whether it is less than zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.digits < 0
    }

    /// Whether it is zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.digits == 0
    }

    /// Whether it is the greater of two; a number too long to be compared is.
    #[must_use]
    pub fn is_more_than(self, other: Self) -> bool {
        let minus = other.times(Self::new(-1, 0));
        let rest = minus.and_then(|minus| self.plus(minus));
        rest.is_none_or(|rest| !rest.is_negative() && !rest.is_zero())
    }

    /// The nearest binary number.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        format!("{}e{}", self.digits, self.exponent)
            .parse()
            .unwrap_or(f64::NAN)
    }

    /// The decimal number that a binary one is written as; nothing for what is no number.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        value
            .is_finite()
            .then(|| format!("{value:e}").parse().ok())?
    }

    /// The decimal number that a short binary one is written as; nothing for what is no number.
    #[must_use]
    pub fn from_f32(value: f32) -> Option<Self> {
        value
            .is_finite()
            .then(|| format!("{value:e}").parse().ok())?
    }

    fn scaled(self, exponent: i32) -> Option<i128> {
        let by = self.exponent.checked_sub(exponent)?;
        let by = u32::try_from(by).ok()?;
        if self.digits == 0 {
            return Some(0);
        }
        self.digits.checked_mul(10_i128.checked_pow(by)?)
    }

    fn checked(mut digits: i128, mut exponent: i32) -> Option<Self> {
        while digits != 0 && digits % 10 == 0 {
            digits /= 10;
            exponent = exponent.checked_add(1)?;
        }
        if digits == 0 {
            exponent = 0;
        }
        (exponent.abs() <= EXPONENT_MAX).then_some(Self { digits, exponent })
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self::new(value, 0)
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        Self::checked(i128::from(value), 0).unwrap_or(Self::ZERO)
    }
}

impl FromStr for Decimal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || "it is not a decimal number".to_owned();
        if text.len() > TEXT_BYTES_MAX {
            return Err("it is longer than any number".to_owned());
        }
        let (mantissa, power) = match text.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i32>().map_err(|_| refuse())?),
            None => (text, 0),
        };
        let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) || whole.len() + fraction.len() == 0 {
            return Err(refuse());
        }
        let too_long = || "it has more digits than a measurement".to_owned();
        let digits: i128 = format!("{whole}{fraction}")
            .parse()
            .map_err(|_| too_long())?;
        let digits = if mantissa.starts_with('-') {
            -digits
        } else {
            digits
        };
        let places = i32::try_from(fraction.len()).map_err(|_| too_long())?;
        let exponent = power.checked_sub(places).ok_or_else(too_long)?;
        Self::checked(digits, exponent).ok_or_else(too_long)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.digits < 0 { "-" } else { "" };
        let digits = self.digits.unsigned_abs().to_string();
        let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
        if self.exponent > 12 || length.saturating_add(self.exponent) < -9 {
            return write!(f, "{sign}{digits}e{}", self.exponent);
        }
        if self.exponent >= 0 {
            let zeros = "0".repeat(usize::try_from(self.exponent).unwrap_or_default());
            return write!(f, "{sign}{digits}{zeros}");
        }
        let places = usize::try_from(self.exponent.unsigned_abs()).unwrap_or_default();
        let padded = format!("{digits:0>width$}", width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Decimal, E> {
                Ok(value.into())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Decimal, E> {
                Ok(value.into())
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Decimal, E> {
                Decimal::from_f64(value)
                    .ok_or_else(|| E::custom(format_args!("{value} is not a usable number")))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn texts_are_read_and_written_exactly() {
        for (text, written) in [
            ("24.5", "24.5"),
            ("-0.10", "-0.1"),
            ("+7", "7"),
            ("0.000", "0"),
            ("1200", "1200"),
            ("1e3", "1000"),
            ("2.5e-3", "0.0025"),
            (".5", "0.5"),
            ("5.", "5"),
            (
                "340282366920938463463374607431768211",
                "340282366920938463463374607431768211",
            ),
        ] {
            assert_eq!(decimal(text).to_string(), written, "{text}");
        }
        for text in [
            "", "-", ".", "1.2.3", "0x10", "NaN", "inf", "1e", "1e99", " 1", "--1", "1_0",
        ] {
            assert!(text.parse::<Decimal>().is_err(), "{text:?}");
        }
        assert!("9".repeat(65).parse::<Decimal>().is_err());
        assert!("9".repeat(60).parse::<Decimal>().is_err());
    }

    #[test]
    fn sums_products_and_rounding_are_exact() {
        let tenth = decimal("0.1");
        assert_eq!(tenth.plus(decimal("0.2")), Some(decimal("0.3")));
        assert_eq!(tenth.times(decimal("3600000")), Some(decimal("360000")));
        assert_eq!(decimal("2.5").rounded(0), Some(3));
        assert_eq!(decimal("-2.5").rounded(0), Some(-3));
        assert_eq!(decimal("2.4").rounded(0), Some(2));
        assert_eq!(decimal("2.4").rounded(-3), Some(2_400));
        assert_eq!(decimal("1234").rounded(2), Some(12));
        assert_eq!(decimal("1").rounded(50), Some(0));
        assert_eq!(decimal("1e40").rounded(0), None);
        assert_eq!(Decimal::from_f32(24.6), Some(decimal("24.6")));
        assert_eq!(Decimal::from_f64(f64::NAN), None);
        assert_eq!(decimal("-24.5").to_f64(), -24.5);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(digits: i64, exponent in -20..20) {
            let number = Decimal::new(digits, exponent);
            prop_assert_eq!(number.to_string().parse(), Ok(number));
        }

        #[test]
        fn a_sum_less_one_part_is_the_other(a: i64, b in -1_000_000_000_i64..1_000_000_000, e in -9..9) {
            let (a, b) = (Decimal::new(a, 0), Decimal::new(b, e));
            let minus = b.times(Decimal::new(-1, 0)).unwrap();
            prop_assert_eq!(a.plus(b).unwrap().plus(minus), Some(a));
        }

        #[test]
        fn texts_never_panic(text: String) {
            drop(text.parse::<Decimal>());
        }
    }
}
