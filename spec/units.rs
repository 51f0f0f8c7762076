//! Units of measure as types, so that no bare number crosses a function boundary.
//!
//! Everything is an integer: sums neither drift nor become NaN, and a window that is split adds up to
//! itself exactly. [`Fixed`] is the only type that turns into a JSON number with decimals, and the only
//! place where anything is rounded (half away from zero). No other module of this crate does float arithmetic.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Zero of this unit.
            pub const ZERO: Self = Self(0);
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self { Self(self.0.saturating_add(other.0)) }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) { *self = *self + other; }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self { Self(self.0.saturating_sub(other.0)) }
        }
        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) { *self = *self - other; }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self { items.fold(Self::ZERO, Add::add) }
        }
    };
}

unit!(
    /// Bytes of storage or traffic.
    Bytes
);
unit!(
    /// Energy in microjoules, the unit of RAPL's counters. 3.6e12 of them are one kilowatt-hour.
    Microjoules
);
unit!(
    /// A span of time in milliseconds.
    Millis
);
unit!(
    /// Power in milliwatts.
    Milliwatts
);
unit!(
    /// A share in thousandths of a percent: 100,000 is the whole.
    MilliPercent
);

/// Microjoules in one kilowatt-hour.
pub const MICROJOULES_PER_KWH: u64 = 3_600_000_000_000;

impl Milliwatts {
    /// Energy used at this power over a span, rounded down to whole microjoules.
    #[must_use]
    pub fn over(self, span: Millis) -> Microjoules {
        // 1 mW for 1 ms is exactly 1 µJ.
        Microjoules(self.0.saturating_mul(span.0))
    }
}

impl Microjoules {
    /// Mean power over a span; nothing for an empty span.
    #[must_use]
    pub fn mean_power(self, over: Millis) -> Option<Milliwatts> {
        self.0.checked_div(over.0).map(Milliwatts)
    }
}

impl MilliPercent {
    /// The whole.
    pub const FULL: Self = Self(100_000);

    /// `part` of `whole`, at most the whole; nothing when there is no whole.
    #[must_use]
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        let share = u128::from(part) * u128::from(Self::FULL.0);
        let share = share.checked_div(u128::from(whole))?;
        Some(Self(
            u64::try_from(share).unwrap_or(u64::MAX).min(Self::FULL.0),
        ))
    }
}

/// A decimal number with exactly `DIGITS` digits after the point, kept as an integer.
///
/// It is finite by construction, compares exactly, and reads and prints as a plain JSON number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fixed<const DIGITS: u32>(i64);

impl<const DIGITS: u32> Fixed<DIGITS> {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// One.
    pub const ONE: Self = Self(Self::SCALE);
    /// Units of the last digit in one.
    pub const SCALE: i64 = 10_i64.pow(DIGITS);

    /// From a count of the last digit: `Fixed::<2>::from_raw(142)` is 1.42.
    #[must_use]
    pub const fn from_raw(raw: i64) -> Self {
        Self(raw)
    }

    /// The count of the last digit.
    #[must_use]
    pub const fn raw(self) -> i64 {
        self.0
    }

    /// The count of the last digit, zero when negative.
    #[must_use]
    pub fn magnitude(self) -> u128 {
        u128::try_from(self.0).unwrap_or(0)
    }

    /// A whole number; the largest value when it does not fit.
    #[must_use]
    pub fn whole(value: u64) -> Self {
        Self::ratio(u128::from(value), 1).unwrap_or(Self(i64::MAX))
    }

    /// `numerator / denominator`, rounded half away from zero; nothing for a zero denominator.
    ///
    /// Saturates at the largest value instead of wrapping.
    #[must_use]
    pub fn ratio(numerator: u128, denominator: u128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let scale = Self::SCALE.unsigned_abs();
        let scaled = numerator.saturating_mul(u128::from(scale));
        let half_up = scaled.saturating_add(denominator / 2) / denominator;
        Some(Self(i64::try_from(half_up).unwrap_or(i64::MAX)))
    }

    /// The same number with other digits, rounded half away from zero.
    #[must_use]
    pub fn rescale<const OTHER: u32>(self) -> Fixed<OTHER> {
        let magnitude = Fixed::<OTHER>::ratio(
            u128::from(self.0.unsigned_abs()),
            u128::from(Self::SCALE.unsigned_abs()),
        )
        .unwrap_or_default();
        if self.0 < 0 {
            Fixed(-magnitude.0)
        } else {
            magnitude
        }
    }

    /// A float read from outside; nothing when it is not finite or does not fit.
    #[must_use]
    #[allow(
        clippy::float_arithmetic,
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss
    )]
    pub fn from_f64(value: f64) -> Option<Self> {
        let scaled = (value * Self::SCALE as f64).round();
        // 2^63 is exactly representable, so the open interval keeps the cast exact.
        (scaled.is_finite() && scaled.abs() < 9_223_372_036_854_775_808.0)
            .then_some(Self(scaled as i64))
    }

    /// The nearest float, for JSON and for plots.
    #[must_use]
    #[allow(clippy::float_arithmetic, clippy::cast_precision_loss)]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / Self::SCALE as f64
    }

    /// Zero instead of a negative value.
    #[must_use]
    pub fn at_least_zero(self) -> Self {
        Self(self.0.max(0))
    }
}

impl<const DIGITS: u32> Add for Fixed<DIGITS> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl<const DIGITS: u32> Sub for Fixed<DIGITS> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl<const DIGITS: u32> Sum for Fixed<DIGITS> {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Add::add)
    }
}

impl<const DIGITS: u32> fmt::Display for Fixed<DIGITS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let raw = self.0.unsigned_abs();
        let scale = Self::SCALE.unsigned_abs();
        if DIGITS == 0 {
            return write!(f, "{sign}{raw}");
        }
        write!(
            f,
            "{sign}{}.{:0width$}",
            raw / scale,
            raw % scale,
            width = DIGITS as usize
        )
    }
}

impl<const DIGITS: u32> Serialize for Fixed<DIGITS> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % Self::SCALE == 0 {
            serializer.serialize_i64(self.0 / Self::SCALE)
        } else {
            serializer.serialize_f64(self.to_f64())
        }
    }
}

impl<'de, const DIGITS: u32> Deserialize<'de> for Fixed<DIGITS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const DIGITS: u32>;
        impl<const DIGITS: u32> de::Visitor<'_> for Visitor<DIGITS> {
            type Value = Fixed<DIGITS>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a finite number")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                Fixed::from_f64(value)
                    .ok_or_else(|| E::custom("the number is not finite or too large"))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                value
                    .checked_mul(Fixed::<DIGITS>::SCALE)
                    .map(Fixed)
                    .ok_or_else(|| E::custom("the number is too large"))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                let value =
                    i64::try_from(value).map_err(|_| E::custom("the number is too large"))?;
                self.visit_i64(value)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_round_away_from_zero() {
        assert_eq!(Fixed::<1>::ratio(25, 100).map(Fixed::raw), Some(3));
        assert_eq!(Fixed::<0>::ratio(5, 10).map(Fixed::raw), Some(1));
        assert_eq!(Fixed::<2>::from_f64(-0.125).map(Fixed::raw), Some(-13));
        assert_eq!(Fixed::<3>::from_raw(-15).rescale::<2>().raw(), -2);
    }

    #[test]
    fn nothing_divides_by_zero() {
        assert_eq!(Fixed::<4>::ratio(1, 0), None);
        assert_eq!(MilliPercent::of(1, 0), None);
        assert_eq!(Microjoules(1).mean_power(Millis(0)), None);
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        assert_eq!(Fixed::<2>::from_f64(f64::NAN), None);
        assert_eq!(Fixed::<2>::from_f64(f64::INFINITY), None);
        assert!(serde_json::from_str::<Fixed<2>>("1e400").is_err());
        assert!(serde_json::from_str::<Fixed<2>>("1e30").is_err());
    }

    #[test]
    fn prints_as_a_plain_json_number() -> Result<(), serde_json::Error> {
        assert_eq!(serde_json::to_string(&Fixed::<2>::from_raw(14200))?, "142");
        assert_eq!(serde_json::to_string(&Fixed::<2>::from_raw(9546))?, "95.46");
        assert_eq!(Fixed::<2>::from_raw(-9506).to_string(), "-95.06");
        Ok(())
    }

    proptest! {
        #[test]
        fn json_round_trip_is_exact(raw in -1_000_000_000_000_i64..1_000_000_000_000) {
            let value = Fixed::<4>::from_raw(raw);
            let text = serde_json::to_string(&value)?;
            prop_assert_eq!(serde_json::from_str::<Fixed<4>>(&text)?, value);
        }

        #[test]
        fn a_share_is_never_more_than_the_whole(part: u64, whole: u64) {
            if let Some(share) = MilliPercent::of(part, whole) {
                prop_assert!(share <= MilliPercent::FULL);
            }
        }
    }
}
