//! Values of the configuration that are words: types, hosts, units, spans of time; and words that are made here.
//!
//! Promises: what is wrong is refused where it stands, with what people mean by it.

use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::decode::Type;
use super::endpoint::Endpoint;

/// A value that is written as text.
#[derive(Clone, Debug)]
pub(super) struct Parsed<T>(pub(super) T);

/// A host without its scheme: Modbus/TCP.
#[derive(Clone, Debug)]
pub(super) struct Host(pub(super) Endpoint);

/// A type as it is written; the bits of a field are said apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Plain(Type),
    Bits,
}

/// The number of a unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnitNumber(pub(super) u8);

/// A span of time such as `"500ms"`, from `MIN` to `MAX` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Millis<const MIN: u64, const MAX: u64>(pub(super) u64);

impl Word {
    pub(super) const LIST: &'static str = "int16, uint16, int32, uint32, int64, uint64, float32, float64, bcd16, bcd32, bits, and bool \
                                of coils and discrete inputs";

    /// What people call types besides.
    fn nearest(text: &str) -> Option<&'static str> {
        let plain: String = text
            .to_lowercase()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        Some(match plain.as_str() {
            "float" | "real" | "single" | "f32" | "ieee754" | "float32ieee" => "float32",
            "double" | "lreal" | "f64" | "float64ieee" => "float64",
            "int" | "short" | "signed" | "s16" | "i16" | "sint16" => "int16",
            "word" | "uint" | "ushort" | "unsigned" | "u16" => "uint16",
            "dint" | "long" | "s32" | "i32" | "sint32" => "int32",
            "dword" | "udint" | "ulong" | "u32" => "uint32",
            "lint" | "s64" | "i64" | "sint64" => "int64",
            "qword" | "ulint" | "u64" => "uint64",
            "bcd" => "bcd16",
            "bit" | "bitfield" => "bits",
            "boolean" => "bool",
            other => Type::NUMBERS
                .iter()
                .map(|known| known.word())
                .find(|known| *known == other)?,
        })
    }
}

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = Type::NUMBERS
            .into_iter()
            .chain([Type::Bool])
            .find(|known| known.word() == text);
        match (text, plain) {
            (_, Some(plain)) => Ok(Self::Plain(plain)),
            ("bits", _) => Ok(Self::Bits),
            ("string" | "text" | "ascii", _) => Err(
                "a point is a number and no text; `probe modbus` shows the texts of a device"
                    .to_owned(),
            ),
            _ => Err(match Self::nearest(text) {
                Some(known) => format!(
                    "{text:?} is no type; did you mean {known:?}? There are {}",
                    Self::LIST
                ),
                None => format!("{text:?} is no type; there are {}", Self::LIST),
            }),
        }
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err(format!("{text:?} is a url: write `url = {text:?}`"));
        }
        format!("tcp://{text}").parse().map(Self)
    }
}

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for UnitNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        u8::try_from(number).map(Self).map_err(|_| {
            D::Error::custom(format_args!(
                "{number} is no unit: a unit has 1 to 247; devices on TCP may have 0 and 248 to 255 too"
            ))
        })
    }
}

impl<const MIN: u64, const MAX: u64> Millis<MIN, MAX> {
    pub(super) const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Millis<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span: SignedDuration = text.parse().map_err(|_| {
            D::Error::custom(format_args!(
                "{text:?} is not a span of time: write it as \"500ms\" or \"2s\""
            ))
        })?;
        match u64::try_from(span.as_millis()) {
            Ok(millis) if (MIN..=MAX).contains(&millis) => Ok(Self(millis)),
            _ => Err(D::Error::custom(format_args!(
                "{text:?} is outside the allowed {MIN}ms to {MAX}ms"
            ))),
        }
    }
}

/// A text as TOML has it.
pub(super) fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A name as points have it.
pub(super) fn word(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .take(NAME_MAX)
        .collect();
    let plain = plain.trim_matches('_');
    let is_taken = matches!(plain, "min" | "max" | "");
    if is_taken || plain.starts_with(|first: char| first.is_ascii_digit()) {
        format!("p_{plain}")
    } else {
        plain.to_owned()
    }
}

/// Characters of a name that is made here; one may be longer.
const NAME_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words() {
        for (name, plain) in [
            ("4x0102:INT", "p_4x0102_int"),
            ("Tank Level", "tank_level"),
            ("max", "p_max"),
            ("é", "p_"),
        ] {
            assert_eq!(word(name), plain);
        }
    }
}
