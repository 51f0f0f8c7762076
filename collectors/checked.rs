//! Checked values of the configuration: what is wrong is refused where it stands, with its span.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cms_spec::units::Fixed;
use jiff::SignedDuration;
use serde::de::{self, Deserialize, Deserializer, Error, Visitor};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// A span of time such as `"15s"`, from `MIN` to `MAX` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Every<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Every<MIN, MAX> {
    /// A span that is known to lie within the bounds; it does not compile otherwise.
    pub(crate) const fn seconds<const SECONDS: u64>() -> Self {
        const { assert!(MIN <= SECONDS && SECONDS <= MAX) };
        Self(SECONDS)
    }

    /// The span.
    pub(crate) const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// The span in milliseconds.
    pub(crate) const fn millis(self) -> u64 {
        self.0.saturating_mul(1000)
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Between<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Between<MIN, MAX> {
    /// The number.
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Between<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        u32::try_from(number)
            .ok()
            .filter(|number| (MIN..=MAX).contains(number))
            .map(Self)
            .ok_or_else(|| D::Error::custom(format_args!("{number} is not within {MIN} to {MAX}")))
    }
}

fn friendly(seconds: u64) -> impl fmt::Display {
    let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    format!("{span:#}")
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Every<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span: SignedDuration = text.parse().map_err(|_| {
            D::Error::custom(format_args!(
                "{text:?} is not a span of time: write it as \"15s\", \"5m\" or \"6h\""
            ))
        })?;
        if span.subsec_nanos() != 0 {
            return Err(D::Error::custom(format_args!(
                "{text:?} is too fine: use whole seconds"
            )));
        }
        match u64::try_from(span.as_secs()) {
            Ok(seconds) if (MIN..=MAX).contains(&seconds) => Ok(Self(seconds)),
            _ => Err(D::Error::custom(format_args!(
                "{text:?} is outside the allowed {} to {}",
                friendly(MIN),
                friendly(MAX)
            ))),
        }
    }
}

/// An amount of US dollars, zero or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dollars<const DIGITS: u32>(pub(crate) Fixed<DIGITS>);

impl<'de, const DIGITS: u32> Deserialize<'de> for Dollars<DIGITS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = Fixed::deserialize(deserializer)?;
        if amount < Fixed::ZERO {
            return Err(D::Error::custom("a price cannot be negative"));
        }
        Ok(Self(amount))
    }
}

/// A power in whole watts, from 1 to [`Watts::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Watts(pub(crate) u64);

impl Watts {
    /// More than any one machine draws; a larger number is a slip of units.
    pub(crate) const MAX: u64 = 100_000;
}

impl<'de> Deserialize<'de> for Watts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i64::deserialize(deserializer)?.try_into() {
            Ok(watts @ 1..=Self::MAX) => Ok(Self(watts)),
            _ => Err(D::Error::custom(format_args!(
                "a power is a whole number of watts from 1 to {}",
                Self::MAX
            ))),
        }
    }
}

/// A path that does not depend on the directory that the agent was started in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AbsolutePath(PathBuf);

impl AbsolutePath {
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        if !path.is_absolute() {
            return Err(D::Error::custom(format_args!(
                "{:?} is not an absolute path: it must start with '/'",
                path.display().to_string()
            )));
        }
        Ok(Self(path))
    }
}

/// Something is wrong at a place of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
}

impl Wrong {
    pub(crate) fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
        }
    }

    /// An error of the deserializer at that place.
    pub(crate) fn refusal(self) -> toml::de::Error {
        struct Refuse(String);
        impl<'de> de::DeserializeSeed<'de> for Refuse {
            type Value = ();
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.deserialize_bool(self)
            }
        }
        impl Visitor<'_> for Refuse {
            type Value = ();
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nothing")
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
                Err(E::custom(self.0))
            }
        }
        let place = Spanned::new(self.span, DeValue::Boolean(true));
        let refused =
            de::DeserializeSeed::deserialize(Refuse(self.message), ValueDeserializer::from(place));
        match refused {
            Err(error) => error,
            Ok(()) => toml::de::Error::custom("the table is refused"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        every: Option<Every<1, 300>>,
        price: Option<Dollars<2>>,
        watts: Option<Watts>,
        path: Option<AbsolutePath>,
    }

    fn refusal(text: &str) -> (String, &str) {
        let error = toml::from_str::<Table>(text).unwrap_err();
        let span = error.span().unwrap();
        (error.message().to_owned(), &text[span])
    }

    #[test]
    fn right_values_are_taken() {
        let table: Table =
            toml::from_str("every = '5 minutes'\nprice = 12.345\nwatts = 85\npath = '/srv'")
                .unwrap();
        assert_eq!(table.every.unwrap().duration(), Duration::from_secs(300));
        assert_eq!(table.every, Some(Every::seconds::<300>()));
        assert_eq!(table.price.unwrap().0.raw(), 1235);
        assert_eq!(table.watts, Some(Watts(85)));
        assert_eq!(table.path.unwrap().as_path(), Path::new("/srv"));
    }

    #[test]
    fn wrong_values_are_refused_where_they_stand() {
        let cases = [
            (
                "every = '6m'",
                "\"6m\" is outside the allowed 1s to 5m",
                "'6m'",
            ),
            (
                "every = '-1s'",
                "\"-1s\" is outside the allowed 1s to 5m",
                "'-1s'",
            ),
            (
                "every = '1500ms'",
                "\"1500ms\" is too fine: use whole seconds",
                "'1500ms'",
            ),
            ("price = -1", "a price cannot be negative", "-1"),
            (
                "watts = 0",
                "a power is a whole number of watts from 1 to 100000",
                "0",
            ),
            (
                "path = 'srv'",
                "\"srv\" is not an absolute path: it must start with '/'",
                "'srv'",
            ),
        ];
        for (text, message, at) in cases {
            assert_eq!(refusal(text), (message.to_owned(), at));
        }
        assert!(refusal("every = 'soon'").0.contains("write it as \"15s\""));
        assert!(refusal("every = 15").0.contains("expected a string"));
    }
}
