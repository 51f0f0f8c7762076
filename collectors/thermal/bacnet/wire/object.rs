//! Objects: what a device calls its points.

use std::fmt;
use std::str::FromStr;

use bacnet_rs::object::{ObjectIdentifier, ObjectType};

/// The largest instance of an object; the one above it stands for "any".
pub const INSTANCE_MAX: u32 = 4_194_302;

/// Ten bits.
const KIND_MAX: u16 = 0x3FF;

/// A type of objects, by its number in the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(u16);

/// One object of a device, such as `analog-input,3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    kind: Kind,
    instance: u32,
}

impl Kind {
    /// The device itself.
    pub const DEVICE: Self = Self(8);

    /// Types whose present value is a number: name, short name, number in the standard.
    const VALUED: [(&'static str, &'static str, u16); 15] = [
        ("analog-input", "AI", 0),
        ("analog-output", "AO", 1),
        ("analog-value", "AV", 2),
        ("binary-input", "BI", 3),
        ("binary-output", "BO", 4),
        ("binary-value", "BV", 5),
        ("loop", "LP", 12),
        ("multi-state-input", "MSI", 13),
        ("multi-state-output", "MSO", 14),
        ("multi-state-value", "MSV", 19),
        ("accumulator", "ACC", 23),
        ("pulse-converter", "PC", 24),
        ("integer-value", "IV", 45),
        ("large-analog-value", "LAV", 46),
        ("positive-integer-value", "PIV", 48),
    ];

    /// The type of this number; only its ten bits count.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number & KIND_MAX)
    }

    /// Its number in the standard.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Whether its present value is a number.
    #[must_use]
    pub fn is_valued(self) -> bool {
        Self::VALUED.iter().any(|(_, _, number)| *number == self.0)
    }

    /// Whether its value is measured in units, which it then says.
    #[must_use]
    pub fn has_units(self) -> bool {
        matches!(self.0, 0..=2 | 12 | 23 | 24 | 45 | 46 | 48)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |text: &str| -> String {
            let kept = text.chars().filter(char::is_ascii_alphanumeric);
            kept.map(|c| c.to_ascii_lowercase()).collect()
        };
        let asked = plain(text);
        let found = Self::VALUED.iter().find(|(name, short, _)| {
            plain(name) == asked || short.eq_ignore_ascii_case(text.trim())
        });
        if let Some((_, _, number)) = found {
            return Ok(Self(*number));
        }
        // Makers number types of their own from 128.
        match text.trim().parse::<u16>() {
            Ok(number @ 128..=KIND_MAX) => Ok(Self(number)),
            _ => {
                let names: Vec<&str> = Self::VALUED.iter().map(|(name, ..)| *name).collect();
                Err(format!(
                    "{text:?} is no type of objects with a value: use one of {}, or a maker's number from 128 \
                     to {KIND_MAX}",
                    names.join(", ")
                ))
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, ..)) = Self::VALUED.iter().find(|(_, _, number)| *number == self.0) {
            return f.write_str(name);
        }
        if *self == Self::DEVICE {
            return f.write_str("device");
        }
        match ObjectType::from(u32::from(self.0)) {
            ObjectType::Custom(_) | ObjectType::Reserved(_) => write!(f, "{}", self.0),
            named => write!(f, "{}", kebab(&named.to_string())),
        }
    }
}

impl ObjectId {
    /// The object of this type and instance; only the 22 bits of an instance count.
    #[must_use]
    pub const fn new(kind: Kind, instance: u32) -> Self {
        Self {
            kind,
            instance: instance & 0x3F_FFFF,
        }
    }

    /// The device object of a device.
    #[must_use]
    pub const fn device(instance: u32) -> Self {
        Self::new(Kind::DEVICE, instance)
    }

    /// Its type.
    #[must_use]
    pub const fn kind(self) -> Kind {
        self.kind
    }

    /// Its number among those of its type.
    #[must_use]
    pub const fn instance(self) -> u32 {
        self.instance
    }

    /// As it is written on the wire.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        let kind = Kind::new((bits >> 22) as u16);
        Self::new(kind, bits)
    }

    /// As bacnet-rs knows it.
    pub(super) fn foreign(self) -> ObjectIdentifier {
        ObjectIdentifier::new(ObjectType::from(u32::from(self.kind.0)), self.instance)
    }
}

impl FromStr for ObjectId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no object: write its type and its instance, such as \"analog-input,3\""
            )
        };
        let at = text
            .rfind([',', ':', ' '])
            .or_else(|| text.find(|c: char| c.is_ascii_digit())?.checked_sub(1))
            .ok_or_else(wrong)?;
        let (kind, instance) = text.split_at_checked(at + 1).ok_or_else(wrong)?;
        let kind: Kind = kind.trim_end_matches([',', ':', ' ']).parse()?;
        let number: u64 = instance.trim().parse().map_err(|_| wrong())?;
        match u32::try_from(number) {
            Ok(instance @ 0..=INSTANCE_MAX) => Ok(Self::new(kind, instance)),
            _ => Err(format!(
                "{number} is no instance of an object: instances go from 0 to {INSTANCE_MAX}"
            )),
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.kind, self.instance)
    }
}

/// `TrendLog` as the standard writes it: `trend-log`.
fn kebab(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_written_as_engineers_write_them() {
        for text in [
            "analog-input,3",
            "analog-input:3",
            "Analog Input 3",
            "analogInput,3",
            "AI3",
            "AI:3",
            "ai 3",
        ] {
            let object: ObjectId = text.parse().unwrap();
            assert_eq!(object.to_string(), "analog-input,3", "{text}");
        }
        let own: ObjectId = "130,7".parse().unwrap();
        assert_eq!((own.kind().number(), own.instance()), (130, 7));
        assert_eq!(ObjectId::device(9).to_string(), "device,9");
        assert_eq!(ObjectId::new(Kind::new(20), 1).to_string(), "trend-log,1");
    }

    #[test]
    fn wrong_objects_are_refused_with_what_is_right() {
        let refused = |text: &str| text.parse::<ObjectId>().unwrap_err();
        assert!(refused("analog-inputt,3").contains("use one of analog-input, analog-output"));
        assert!(refused("AI,4194303").contains("from 0 to 4194302"));
        assert!(refused("analog-input").contains("such as \"analog-input,3\""));
        assert!(refused("").contains("is no object"));
        assert!(refused("7").contains("is no object"));
        assert!(refused("AI,x").contains("is no object"));
    }

    #[test]
    fn the_bits_of_an_object_are_those_of_bacnet_rs() {
        for object in [
            ObjectId::device(4_194_303),
            ObjectId::new(Kind::new(1023), 1),
        ] {
            let bits: u32 = object.foreign().try_into().unwrap();
            assert_eq!(ObjectId::from_bits(bits), object);
        }
    }
}
