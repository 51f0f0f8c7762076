//! What registers mean: types and orders of bytes.
//!
//! Promises: every type in every order, exactly; what stands for no number (NaN, an infinity, a BCD digit above nine)
//! is no number here either. Refuses: scale, offset and markers of missing sensors, which belong to the point.

use std::fmt;
use std::str::FromStr;

/// Longest text, in registers; no answer has more.
pub const TEXT_REGISTERS_MAX: u16 = super::register::REGISTERS_MAX;

/// How a value is written into registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A coil or discrete input.
    Bool,
    /// A signed number of 16 bits.
    Int16,
    /// A number of 16 bits.
    Uint16,
    /// A signed number of 32 bits.
    Int32,
    /// A number of 32 bits.
    Uint32,
    /// A signed number of 64 bits.
    Int64,
    /// A number of 64 bits.
    Uint64,
    /// IEEE 754, 32 bits.
    Float32,
    /// IEEE 754, 64 bits.
    Float64,
    /// Four decimal digits.
    Bcd16,
    /// Eight decimal digits.
    Bcd32,
    /// Two characters a register; it ends at the first zero.
    Text {
        /// How many registers.
        registers: u16,
    },
    /// Some bits of one register, as a number.
    Bits {
        /// The lowest, counted from 0.
        first: u8,
        /// How many.
        width: u8,
    },
}

/// In which order the bytes of a value come: `A` is its most significant byte.
///
/// Of 64 bits the same is meant: `CDAB` has the least significant register first, `BADC` swaps the two bytes of each
/// register, `DCBA` does both. Of 16 bits only the swap is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Big endian.
    #[default]
    Abcd,
    /// The least significant register first.
    Cdab,
    /// The bytes of each register swapped.
    Badc,
    /// Little endian.
    Dcba,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A whole number; bits are 0 and 1.
    Whole(i128),
    /// A finite number of 32 bits.
    Single(f32),
    /// A finite number of 64 bits.
    Double(f64),
    /// A text.
    Text(String),
}

/// Why registers hold no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// NaN or an infinity.
    #[error("the device says not-a-number")]
    NotANumber,
    /// A digit above nine.
    #[error("{bits:#x} is no BCD number: a digit is above nine; check `type` and `order`")]
    NotBcd {
        /// The bits.
        bits: u64,
    },
    /// Bytes that are no text.
    #[error("the registers hold no text; check the address and `order`")]
    NotText,
    /// More or fewer registers than the type has.
    #[error("{got} registers in place of {wanted}")]
    Count {
        /// How many there are.
        got: usize,
        /// How many the type has.
        wanted: u16,
    },
}

impl Type {
    /// Types of one fixed size, in the order in which they are shown.
    pub const NUMBERS: [Self; 10] = [
        Self::Int16,
        Self::Uint16,
        Self::Int32,
        Self::Uint32,
        Self::Int64,
        Self::Uint64,
        Self::Float32,
        Self::Float64,
        Self::Bcd16,
        Self::Bcd32,
    ];

    /// How many registers it fills.
    #[must_use]
    pub const fn registers(self) -> u16 {
        match self {
            Self::Bool | Self::Int16 | Self::Uint16 | Self::Bcd16 | Self::Bits { .. } => 1,
            Self::Int32 | Self::Uint32 | Self::Float32 | Self::Bcd32 => 2,
            Self::Int64 | Self::Uint64 | Self::Float64 => 4,
            Self::Text { registers } => registers,
        }
    }

    /// Its word in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int16 => "int16",
            Self::Uint16 => "uint16",
            Self::Int32 => "int32",
            Self::Uint32 => "uint32",
            Self::Int64 => "int64",
            Self::Uint64 => "uint64",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Bcd16 => "bcd16",
            Self::Bcd32 => "bcd32",
            Self::Text { .. } => "string",
            Self::Bits { .. } => "bits",
        }
    }

    /// The value in these registers, which came in this order.
    ///
    /// # Errors
    /// When they hold no value of the type.
    pub fn decode(self, registers: &[u16], order: Order) -> Result<Decoded, DecodeError> {
        if registers.len() != usize::from(self.registers()) {
            return Err(DecodeError::Count {
                got: registers.len(),
                wanted: self.registers(),
            });
        }
        if let Self::Text { .. } = self {
            return text(registers, order);
        }
        self.number(bits(registers, order))
    }

    fn number(self, bits: u64) -> Result<Decoded, DecodeError> {
        let bytes @ [.., e, f, g, h] = bits.to_be_bytes();
        let whole = |number: i128| Ok(Decoded::Whole(number));
        match self {
            Self::Int16 => whole(i16::from_be_bytes([g, h]).into()),
            Self::Uint16 => whole(u16::from_be_bytes([g, h]).into()),
            Self::Int32 => whole(i32::from_be_bytes([e, f, g, h]).into()),
            Self::Uint32 => whole(u32::from_be_bytes([e, f, g, h]).into()),
            Self::Int64 => whole(i64::from_be_bytes(bytes).into()),
            Self::Uint64 => whole(bits.into()),
            Self::Float32 => match f32::from_be_bytes([e, f, g, h]) {
                number if number.is_finite() => Ok(Decoded::Single(number)),
                _ => Err(DecodeError::NotANumber),
            },
            Self::Float64 => match f64::from_be_bytes(bytes) {
                number if number.is_finite() => Ok(Decoded::Double(number)),
                _ => Err(DecodeError::NotANumber),
            },
            Self::Bcd16 => bcd(bits, 4),
            Self::Bcd32 => bcd(bits, 8),
            Self::Bits { first, width } => {
                let field = bits.checked_shr(first.into()).unwrap_or(0);
                let mask = u64::MAX
                    .checked_shr(64_u32.saturating_sub(width.into()))
                    .unwrap_or(0);
                whole((field & mask).into())
            }
            Self::Bool => whole((bits != 0).into()),
            Self::Text { .. } => Err(DecodeError::NotText),
        }
    }
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Abcd, Self::Cdab, Self::Badc, Self::Dcba];

    /// Its word in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Abcd => "ABCD",
            Self::Cdab => "CDAB",
            Self::Badc => "BADC",
            Self::Dcba => "DCBA",
        }
    }

    const fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }

    const fn reverses_registers(self) -> bool {
        matches!(self, Self::Cdab | Self::Dcba)
    }

    const fn register(self, register: u16) -> u16 {
        if self.swaps_bytes() {
            register.swap_bytes()
        } else {
            register
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ABCD" | "AB" | "ABCDEFGH" => Ok(Self::Abcd),
            "CDAB" | "GHEFCDAB" => Ok(Self::Cdab),
            "BADC" | "BA" | "BADCFEHG" => Ok(Self::Badc),
            "DCBA" | "HGFEDCBA" => Ok(Self::Dcba),
            _ => Err(format!(
                "{text:?} is no order of bytes: it is \"ABCD\" (big endian), \"CDAB\" (least significant register first), \
                 \"BADC\" (bytes of each register swapped) or \"DCBA\" (little endian)"
            )),
        }
    }
}

/// The bits of a number, most significant first.
fn bits(registers: &[u16], order: Order) -> u64 {
    let join = |bits: u64, register: &u16| (bits << 16) | u64::from(order.register(*register));
    if order.reverses_registers() {
        registers.iter().rev().fold(0, join)
    } else {
        registers.iter().fold(0, join)
    }
}

/// A text is read from the first register on, whatever the order of registers of numbers is.
fn text(registers: &[u16], order: Order) -> Result<Decoded, DecodeError> {
    let bytes: Vec<u8> = registers
        .iter()
        .flat_map(|register| order.register(*register).to_be_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    let text = String::from_utf8(bytes).map_err(|_| DecodeError::NotText)?;
    let text = text.trim_end().to_owned();
    if text.chars().any(char::is_control) {
        return Err(DecodeError::NotText);
    }
    Ok(Decoded::Text(text))
}

fn bcd(bits: u64, digits: u32) -> Result<Decoded, DecodeError> {
    let mut number: i128 = 0;
    for place in (0..digits).rev() {
        let digit = (bits >> (place * 4)) & 0xf;
        if digit > 9 {
            return Err(DecodeError::NotBcd { bits });
        }
        number = number.saturating_mul(10).saturating_add(digit.into());
    }
    Ok(Decoded::Whole(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Registers as a device in this order would fill them: bytes are laid out one by one, in another way than they
    /// are read.
    fn encode(big_endian: &[u8], order: Order) -> Vec<u16> {
        let letters: &[usize] = match (big_endian.len(), order) {
            (2, Order::Abcd | Order::Cdab) => &[0, 1],
            (2, _) => &[1, 0],
            (4, Order::Abcd) => &[0, 1, 2, 3],
            (4, Order::Cdab) => &[2, 3, 0, 1],
            (4, Order::Badc) => &[1, 0, 3, 2],
            (4, Order::Dcba) => &[3, 2, 1, 0],
            (_, Order::Abcd) => &[0, 1, 2, 3, 4, 5, 6, 7],
            (_, Order::Cdab) => &[6, 7, 4, 5, 2, 3, 0, 1],
            (_, Order::Badc) => &[1, 0, 3, 2, 5, 4, 7, 6],
            (_, Order::Dcba) => &[7, 6, 5, 4, 3, 2, 1, 0],
        };
        let wire: Vec<u8> = letters.iter().map(|at| big_endian[*at]).collect();
        wire.chunks(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect()
    }

    fn whole(kind: Type, registers: &[u16], order: Order) -> i128 {
        match kind.decode(registers, order) {
            Ok(Decoded::Whole(number)) => number,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_meter_in_each_order() {
        let watts = 8123.5_f32.to_be_bytes();
        assert_eq!(encode(&watts, Order::Abcd), [0x45fd, 0xdc00]);
        for order in Order::ALL {
            let decoded = Type::Float32.decode(&encode(&watts, order), order);
            assert_eq!(decoded, Ok(Decoded::Single(8123.5)));
            assert_eq!(order.word().parse(), Ok(order));
        }
        assert_eq!(
            whole(Type::Uint32, &[0x1234, 0x5678], Order::Abcd),
            305_419_896
        );
        assert_eq!(whole(Type::Int16, &[65_413], Order::Abcd), -123);
        assert_eq!(whole(Type::Bcd16, &[0x1234], Order::Abcd), 1234);
        assert_eq!(
            whole(Type::Bcd32, &[0x5678, 0x1234], Order::Cdab),
            12_345_678
        );
        assert!("mid-little-endian".parse::<Order>().is_err());
    }

    #[test]
    fn bits_are_a_whole() {
        let field = |first, width| Type::Bits { first, width };
        assert_eq!(whole(field(0, 1), &[0b1010], Order::Abcd), 0);
        assert_eq!(whole(field(1, 1), &[0b1010], Order::Abcd), 1);
        assert_eq!(whole(field(1, 3), &[0b1010], Order::Abcd), 5);
        assert_eq!(whole(field(8, 8), &[0xab12], Order::Abcd), 171);
        assert_eq!(whole(field(8, 8), &[0xab12], Order::Badc), 18);
        assert_eq!(whole(field(0, 16), &[0xffff], Order::Abcd), 65_535);
    }

    #[test]
    fn texts_end_at_zero() {
        let text = |registers: &[u16], order| {
            let count = u16::try_from(registers.len()).unwrap();
            Type::Text { registers: count }.decode(registers, order)
        };
        let kamstrup = [0x4d43, 0x3430, 0x3300, 0x7a7a];
        assert_eq!(
            text(&kamstrup, Order::Abcd),
            Ok(Decoded::Text("MC403".into()))
        );
        assert_eq!(
            text(&kamstrup, Order::Cdab),
            Ok(Decoded::Text("MC403".into()))
        );
        assert_eq!(text(&[0x434d], Order::Badc), Ok(Decoded::Text("MC".into())));
        assert_eq!(
            text(&[0x4d20, 0x2020], Order::Abcd),
            Ok(Decoded::Text("M".into()))
        );
        assert_eq!(text(&[0xffff], Order::Abcd), Err(DecodeError::NotText));
        assert_eq!(text(&[0x4d07], Order::Abcd), Err(DecodeError::NotText));
    }

    #[test]
    fn what_is_no_number_is_missing() {
        for (kind, registers) in [
            (Type::Float32, &[0x7fc0_u16, 0][..]),
            (Type::Float32, &[0x7f80, 0]),
            (Type::Float32, &[0xff80, 0]),
            (Type::Float64, &[0x7ff8, 0, 0, 0]),
        ] {
            assert_eq!(
                kind.decode(registers, Order::Abcd),
                Err(DecodeError::NotANumber)
            );
        }
        let error = Type::Bcd16.decode(&[0x12a4], Order::Abcd).unwrap_err();
        assert!(error.to_string().starts_with("0x12a4 is no BCD number"));
        let error = Type::Uint32.decode(&[1], Order::Abcd).unwrap_err();
        assert_eq!(error.to_string(), "1 registers in place of 2");
    }

    fn any_order() -> impl Strategy<Value = Order> {
        proptest::sample::select(&Order::ALL[..])
    }

    proptest! {
        #[test]
        fn every_number_comes_back(order in any_order(), raw: u64, digits in 0u32..100_000_000) {
            let low16 = u16::try_from(raw & 0xffff).unwrap();
            let low32 = u32::try_from(raw & 0xffff_ffff).unwrap();
            let read = |kind, bytes: &[u8]| whole(kind, &encode(bytes, order), order);
            prop_assert_eq!(read(Type::Uint16, &low16.to_be_bytes()), i128::from(low16));
            prop_assert_eq!(read(Type::Int16, &low16.to_be_bytes()), i128::from(low16.cast_signed()));
            prop_assert_eq!(read(Type::Uint32, &low32.to_be_bytes()), i128::from(low32));
            prop_assert_eq!(read(Type::Int32, &low32.to_be_bytes()), i128::from(low32.cast_signed()));
            prop_assert_eq!(read(Type::Uint64, &raw.to_be_bytes()), i128::from(raw));
            prop_assert_eq!(read(Type::Int64, &raw.to_be_bytes()), i128::from(raw.cast_signed()));
            let packed = u32::from_str_radix(&digits.to_string(), 16).unwrap();
            prop_assert_eq!(read(Type::Bcd32, &packed.to_be_bytes()), i128::from(digits));
            let packed = u16::from_str_radix(&(digits % 10_000).to_string(), 16).unwrap();
            prop_assert_eq!(read(Type::Bcd16, &packed.to_be_bytes()), i128::from(digits % 10_000));
        }

        #[test]
        fn every_float_comes_back_or_is_missing(order in any_order(), single: u32, double: u64) {
            let single = f32::from_bits(single);
            let decoded = Type::Float32.decode(&encode(&single.to_be_bytes(), order), order);
            match decoded {
                Ok(Decoded::Single(number)) => prop_assert_eq!(number.to_bits(), single.to_bits()),
                other => {
                    prop_assert!(!single.is_finite());
                    prop_assert_eq!(other, Err(DecodeError::NotANumber));
                }
            }
            let double = f64::from_bits(double);
            let decoded = Type::Float64.decode(&encode(&double.to_be_bytes(), order), order);
            match decoded {
                Ok(Decoded::Double(number)) => prop_assert_eq!(number.to_bits(), double.to_bits()),
                other => {
                    prop_assert!(!double.is_finite());
                    prop_assert_eq!(other, Err(DecodeError::NotANumber));
                }
            }
        }

        #[test]
        fn every_text_comes_back(order in any_order(), text in "[ -~]{0,40}") {
            let mut bytes = text.trim_end().as_bytes().to_vec();
            bytes.resize(40, 0);
            let registers: Vec<u16> = bytes
                .chunks(2)
                .map(|pair| order.register(u16::from_be_bytes([pair[0], pair[1]])))
                .collect();
            let decoded = Type::Text { registers: 20 }.decode(&registers, order);
            prop_assert_eq!(decoded, Ok(Decoded::Text(text.trim_end().to_owned())));
        }
    }
}
