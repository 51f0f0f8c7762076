//! Values: what a property holds.

use super::Malformed;
use super::object::ObjectId;
use super::tags::{Element, Elements, Tag, unsigned, unsigned32};

/// Application tags by their number in the standard.
pub(super) const NULL: u8 = 0;
pub(super) const BOOLEAN: u8 = 1;
pub(super) const UNSIGNED: u8 = 2;
pub(super) const SIGNED: u8 = 3;
pub(super) const REAL: u8 = 4;
pub(super) const DOUBLE: u8 = 5;
pub(super) const TEXT: u8 = 7;
pub(super) const BITS: u8 = 8;
pub(super) const ENUMERATED: u8 = 9;
pub(super) const OBJECT: u8 = 12;

/// The longest text that is kept: names of objects are a line, not a page.
const TEXT_BYTES_MAX: usize = 1024;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number from zero.
    Unsigned(u64),
    /// A whole number.
    Signed(i64),
    /// A number of 32 bits.
    Real(f32),
    /// A number of 64 bits.
    Double(f64),
    /// A text.
    Text(String),
    /// Flags.
    Bits(Bits),
    /// The number of a choice.
    Enumerated(u32),
    /// The name of an object.
    Object(ObjectId),
    /// Dates, times, octets, and values of several parts, which no reading needs.
    Other,
}

/// Up to 64 flags; further ones are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    count: u8,
    set: u64,
}

impl Bits {
    /// These flags, the first one first.
    #[must_use]
    pub fn new(flags: &[bool]) -> Self {
        let mut bits = Self::default();
        for flag in flags.iter().take(64) {
            bits.set |= u64::from(*flag) << bits.count;
            bits.count += 1;
        }
        bits
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u8 {
        self.count
    }

    /// One of them; one that is not there is not set.
    #[must_use]
    pub const fn is_set(self, at: u8) -> bool {
        at < self.count && self.set >> at & 1 == 1
    }
}

impl Value {
    /// The value as a number, where it is one.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts beyond 2^53 are read as close as it gets"
    )]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Boolean(value) => Some(f64::from(u8::from(*value))),
            Self::Unsigned(value) => Some(*value as f64),
            Self::Signed(value) => Some(*value as f64),
            // A 32-bit reading of 21.3 is 21.3 and not 21.299999237060547.
            Self::Real(value) => value.to_string().parse().ok(),
            Self::Double(value) => Some(*value),
            Self::Enumerated(value) => Some(f64::from(*value)),
            Self::Null | Self::Text(_) | Self::Bits(_) | Self::Object(_) | Self::Other => None,
        }
    }

    /// The value of an element that stands alone.
    ///
    /// # Errors
    /// When its length does not fit its type.
    pub fn of(element: &Element<'_>) -> Result<Self, Malformed> {
        let content = element.content;
        let Tag::Application(number) = element.tag else {
            return Ok(Self::Other);
        };
        Ok(match number {
            NULL => Self::Null,
            BOOLEAN => match element.length {
                0 => Self::Boolean(false),
                1 => Self::Boolean(true),
                _ => return Err(Malformed::Length),
            },
            UNSIGNED => Self::Unsigned(unsigned(content)?),
            SIGNED => Self::Signed(signed(content)?),
            REAL => Self::Real(f32::from_be_bytes(exactly(content)?)),
            DOUBLE => Self::Double(f64::from_be_bytes(exactly(content)?)),
            TEXT => Self::Text(text(content)?),
            BITS => Self::Bits(bits(content)?),
            ENUMERATED => Self::Enumerated(unsigned32(content)?),
            OBJECT => Self::Object(ObjectId::from_bits(u32::from_be_bytes(exactly(content)?))),
            _ => Self::Other,
        })
    }

    /// Everything up to the end of the bracket that was just opened; a value of several parts is one
    /// [`Value::Other`].
    ///
    /// # Errors
    /// When the bracket never ends, or one of them cannot be read.
    pub fn until_closed(elements: &mut Elements<'_>, opened: u8) -> Result<Vec<Self>, Malformed> {
        let mut values = Vec::new();
        loop {
            let element = elements.read()?;
            match element.tag {
                Tag::Closing(number) if number == opened => return Ok(values),
                Tag::Closing(_) => return Err(Malformed::Tag),
                Tag::Opening(number) => {
                    elements.skip(number)?;
                    values.push(Self::Other);
                }
                Tag::Application(_) | Tag::Context(_) => values.push(Self::of(&element)?),
            }
        }
    }
}

fn exactly<const BYTES: usize>(content: &[u8]) -> Result<[u8; BYTES], Malformed> {
    content.try_into().map_err(|_| Malformed::Length)
}

fn signed(content: &[u8]) -> Result<i64, Malformed> {
    let bits = unsigned(content)?;
    let above = 64 - 8 * content.len();
    Ok((bits << above).cast_signed() >> above)
}

/// Text in the character sets that devices use; what does not fit is shown as such and not refused.
fn text(content: &[u8]) -> Result<String, Malformed> {
    let (set, bytes) = content.split_first().ok_or(Malformed::Length)?;
    let bytes = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
    Ok(match set {
        // UCS-2 and UCS-4.
        4 => String::from_utf16_lossy(
            &bytes
                .chunks_exact(2)
                .map(|pair| {
                    pair.iter()
                        .fold(0, |unit, byte| unit << 8 | u16::from(*byte))
                })
                .collect::<Vec<u16>>(),
        ),
        3 => bytes
            .chunks_exact(4)
            .map(|unit| {
                unit.iter()
                    .fold(0, |code, byte| code << 8 | u32::from(*byte))
            })
            .map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
        5 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    })
}

fn bits(content: &[u8]) -> Result<Bits, Malformed> {
    let (&unused, bytes) = content.split_first().ok_or(Malformed::Length)?;
    if unused > 7 || (bytes.is_empty() && unused > 0) {
        return Err(Malformed::Length);
    }
    let flags: Vec<bool> = bytes
        .iter()
        .flat_map(|byte| (0..8).map(move |at| byte >> (7 - at) & 1 == 1))
        .collect();
    let count = flags.len() - usize::from(unused);
    Ok(Bits::new(flags.get(..count).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use bacnet_rs::encoding;
    use bacnet_rs::property::{PropertyValue, decode_property_value, encode_property_value};
    use proptest::prelude::*;

    use super::*;

    fn one(bytes: &[u8]) -> Value {
        Value::of(&Elements::new(bytes).read().unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn what_bacnet_rs_writes_is_read(
            unsigned: u64, signed: i64, real: f32, double: f64, choice: u32, text in "\\PC{0,40}",
            flags in proptest::collection::vec(any::<bool>(), 0..64), bits: u32,
        ) {
            let written = |value: &PropertyValue| {
                let mut bytes = Vec::new();
                encode_property_value(value, &mut bytes).unwrap();
                bytes
            };
            prop_assert_eq!(one(&written(&PropertyValue::Unsigned(unsigned))), Value::Unsigned(unsigned));
            prop_assert_eq!(one(&written(&PropertyValue::Signed(signed))), Value::Signed(signed));
            let Value::Real(read) = one(&written(&PropertyValue::Real(real))) else { panic!() };
            prop_assert_eq!(read.to_bits(), real.to_bits());
            let Value::Double(read) = one(&written(&PropertyValue::Double(double))) else { panic!() };
            prop_assert_eq!(read.to_bits(), double.to_bits());
            prop_assert_eq!(one(&written(&PropertyValue::Enumerated(choice))), Value::Enumerated(choice));
            prop_assert_eq!(one(&written(&PropertyValue::CharacterString(text.clone()))), Value::Text(text));
            prop_assert_eq!(one(&written(&PropertyValue::BitString(flags.clone()))), Value::Bits(Bits::new(&flags)));
            let object = ObjectId::from_bits(bits);
            let mut bytes = Vec::new();
            encoding::encode_object_identifier(&mut bytes, object.foreign()).unwrap();
            prop_assert_eq!(one(&bytes), Value::Object(object));
        }

        #[test]
        fn short_integers_are_read_as_bacnet_rs_reads_them(bytes in proptest::collection::vec(any::<u8>(), 1..=8)) {
            for (tag, is_signed) in [(0x20, false), (0x30, true)] {
                let length = u8::try_from(bytes.len()).unwrap();
                let mut element = if length < 5 { vec![tag | length] } else { vec![tag | 5, length] };
                element.extend(&bytes);
                let read = one(&element);
                match decode_property_value(&element).unwrap().0 {
                    PropertyValue::Signed(value) if is_signed => prop_assert_eq!(read, Value::Signed(value)),
                    PropertyValue::Unsigned(value) if !is_signed => prop_assert_eq!(read, Value::Unsigned(value)),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }

    #[test]
    fn integers_of_nine_bytes_are_refused() {
        for tag in [0x25, 0x35, 0x95] {
            let bytes = [&[tag, 9][..], &[1; 9]].concat();
            let element = Elements::new(&bytes).read().unwrap();
            assert_eq!(Value::of(&element), Err(Malformed::Length));
        }
    }

    #[test]
    fn text_in_other_character_sets_is_read() {
        assert_eq!(
            one(&[0x75, 5, 4, 0, b'T', 0x20, 0x82]),
            Value::Text("T\u{2082}".into())
        );
        assert_eq!(one(&[0x74, 5, 0xB0, b'C', b'x']), Value::Text("°Cx".into()));
        assert_eq!(one(&[0x73, 0, 0xFF, b'x']), Value::Text("\u{FFFD}x".into()));
    }

    #[test]
    fn values_become_numbers_as_they_are_shown() {
        assert_eq!(Value::Real(21.3).number(), Some(21.3));
        assert!(Value::Real(f32::NAN).number().unwrap().is_nan());
        assert_eq!(Value::Enumerated(1).number(), Some(1.0));
        assert_eq!(Value::Boolean(true).number(), Some(1.0));
        assert_eq!(Value::Signed(-3).number(), Some(-3.0));
        assert_eq!(Value::Text("21".into()).number(), None);
    }

    #[test]
    fn values_of_several_parts_are_one() {
        // Prescale of an accumulator between two numbers.
        let bytes = [0x21, 7, 0x3E, 0x09, 1, 0x19, 2, 0x3F, 0x21, 8, 0x4F];
        let values = Value::until_closed(&mut Elements::new(&bytes), 4).unwrap();
        assert_eq!(
            values,
            [Value::Unsigned(7), Value::Other, Value::Unsigned(8)]
        );
    }
}
