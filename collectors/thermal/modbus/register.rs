//! Registers of a device: their four kinds, their addresses, and the ways in which people write these.
//!
//! Promises: an address that was read stands for one register and no other; a number that looks like another
//! notation is refused with the notation it looks like. Refuses: guessing which notation was meant.

use std::fmt;

/// Registers of one kind: addresses are 16 bits.
pub const ADDRESSES: u32 = 65_536;

/// Most registers that the protocol answers at once: their bytes are counted by one byte.
pub const REGISTERS_MAX: u16 = 125;

/// Most coils or discrete inputs that the protocol answers at once.
pub const BITS_MAX: u16 = 2_000;

/// The kind of a register: which of a device's four tables it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Function 1: single bits that could be written.
    Coil,
    /// Function 2: single bits.
    Discrete,
    /// Function 3: 16 bits that could be written.
    Holding,
    /// Function 4: 16 bits.
    Input,
}

/// Registers of one kind that follow each other: all of one value, or all of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    kind: Kind,
    first: u16,
    count: u16,
}

/// How addresses are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Numbering {
    /// As they travel: the first register is 0.
    #[default]
    ZeroBased,
    /// The first register is 1.
    OneBased,
    /// With the kind in front: 40001 or 400001 is the first holding register, 30001 or 300001 the first input register,
    /// 10001 or 100001 the first discrete input, 1 the first coil.
    Paper,
}

/// Why a number is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Below the first one.
    #[error("{written} is no address: {numbering} begin at {first}")]
    Below {
        /// The number.
        written: i64,
        /// How addresses are written here.
        numbering: Numbering,
        /// The first address.
        first: i64,
    },
    /// Beyond the last one.
    #[error("{written} is no address: {numbering} end at {last}{}", hint(*kind, *written))]
    Above {
        /// The number.
        written: i64,
        /// How addresses are written here.
        numbering: Numbering,
        /// The last address.
        last: i64,
        /// The kind of register.
        kind: Kind,
    },
    /// A paper address without its kind in front.
    #[error(
        "{written} is no paper address of a {kind} register: those are {first} and up; leave `paper` out, or write \
         the number as the list has it"
    )]
    Bare {
        /// The number.
        written: i64,
        /// The kind of register.
        kind: Kind,
        /// The first address with five digits.
        first: i64,
    },
    /// The paper address of another kind.
    #[error("{written} is the paper address of {found} registers: write `{found} = {written}`")]
    OtherKind {
        /// The number.
        written: i64,
        /// Its kind.
        found: Kind,
    },
    /// The value begins in the table and ends behind it.
    #[error(
        "{count} registers from address {first} on end beyond 65535: the value begins too late"
    )]
    Beyond {
        /// The address of the first one.
        first: u16,
        /// How many.
        count: u16,
    },
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Coil, Self::Discrete, Self::Holding, Self::Input];

    /// Whether a register of it is a single bit.
    #[must_use]
    pub const fn is_bit(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// How many of it the protocol answers at once.
    #[must_use]
    pub const fn at_once_max(self) -> u16 {
        if self.is_bit() {
            BITS_MAX
        } else {
            REGISTERS_MAX
        }
    }

    /// Its key in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Holding => "holding",
            Self::Input => "input",
        }
    }

    /// The digit in front of its paper addresses.
    const fn digit(self) -> i64 {
        match self {
            Self::Coil => 0,
            Self::Discrete => 1,
            Self::Input => 3,
            Self::Holding => 4,
        }
    }

    /// The kind and address that a paper address has, without being told that it is one.
    #[must_use]
    pub fn of_paper(written: i64) -> Option<(Self, u16)> {
        let found = [Self::Discrete, Self::Input, Self::Holding]
            .into_iter()
            .find_map(|kind| Some((kind, paper(kind, written)?)))?;
        Some(found)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for Numbering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroBased => "addresses",
            Self::OneBased => "addresses that count from one",
            Self::Paper => "paper addresses",
        })
    }
}

impl Numbering {
    /// The address that travels, of one that was written.
    ///
    /// # Errors
    /// When there is no such register; the message says which notation it looks like.
    pub fn address(self, kind: Kind, written: i64) -> Result<u16, AddressError> {
        let (first, offset) = match self {
            Self::ZeroBased => (0, 0),
            Self::OneBased => (1, 1),
            Self::Paper => return Self::paper(kind, written),
        };
        if written < first {
            return Err(AddressError::Below {
                written,
                numbering: self,
                first,
            });
        }
        u16::try_from(written - offset).map_err(|_| AddressError::Above {
            written,
            numbering: self,
            last: i64::from(u16::MAX) + offset,
            kind,
        })
    }

    fn paper(kind: Kind, written: i64) -> Result<u16, AddressError> {
        if let Some(address) = paper(kind, written) {
            return Ok(address);
        }
        match Kind::of_paper(written) {
            Some((found, _)) => Err(AddressError::OtherKind { written, found }),
            None => Err(AddressError::Bare {
                written,
                kind,
                first: kind.digit() * 10_000 + 1,
            }),
        }
    }
}

impl Span {
    /// Registers from an address on.
    ///
    /// # Errors
    /// When they end beyond the last address.
    pub fn new(kind: Kind, first: u16, count: u16) -> Result<Self, AddressError> {
        if u32::from(first) + u32::from(count) > ADDRESSES {
            return Err(AddressError::Beyond { first, count });
        }
        Ok(Self { kind, first, count })
    }

    /// Their kind.
    #[must_use]
    pub const fn kind(self) -> Kind {
        self.kind
    }

    /// The address of the first.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u16 {
        self.count
    }

    /// The address behind the last.
    #[must_use]
    pub fn end(self) -> u32 {
        u32::from(self.first) + u32::from(self.count)
    }

    /// The registers from the first of the one to the last of the other, of two of one kind.
    #[must_use]
    pub fn to(self, other: Self) -> Option<Self> {
        let first = self.first.min(other.first);
        let end = self.end().max(other.end());
        let count = u16::try_from(end - u32::from(first)).ok()?;
        (self.kind == other.kind).then_some(Self {
            kind: self.kind,
            first,
            count,
        })
    }

    /// The two halves; the first one is the larger. One register has none.
    #[must_use]
    pub fn halves(self) -> Option<(Self, Self)> {
        let second = self.count / 2;
        let first = self.count - second;
        let middle = self.first.checked_add(first)?;
        (second > 0).then_some((
            Self {
                count: first,
                ..self
            },
            Self {
                first: middle,
                count: second,
                ..self
            },
        ))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "{} {}", self.kind, self.first),
            _ => write!(
                f,
                "{} {} to {}",
                self.kind,
                self.first,
                self.end().saturating_sub(1)
            ),
        }
    }
}

/// The address of a paper address of this kind.
fn paper(kind: Kind, written: i64) -> Option<u16> {
    const FIVE_DIGITS: i64 = 10_000;
    const SIX_DIGITS: i64 = 100_000;
    let number = if kind == Kind::Coil {
        written
    } else if written / FIVE_DIGITS == kind.digit() {
        written % FIVE_DIGITS
    } else if written / SIX_DIGITS == kind.digit() {
        written % SIX_DIGITS
    } else {
        return None;
    };
    u16::try_from(number.checked_sub(1)?).ok()
}

/// What a number beyond all addresses looks like.
fn hint(kind: Kind, written: i64) -> String {
    match Kind::of_paper(written) {
        Some((found, address)) if found == kind => format!(
            "; it looks like a paper address: say `paper = true`, or write `{kind} = {address}`"
        ),
        Some((found, address)) => format!(
            "; it looks like the paper address of {found} registers: write `{found} = {address}`"
        ),
        None if written == i64::from(ADDRESSES) => {
            "; if the list counts from one, say `one_based = true`".to_owned()
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(numbering: Numbering, kind: Kind, written: i64) -> String {
        numbering.address(kind, written).unwrap_err().to_string()
    }

    #[test]
    fn one_register_has_three_names() {
        use Kind::*;
        for (numbering, kind, written, address) in [
            (Numbering::ZeroBased, Holding, 0, 0),
            (Numbering::ZeroBased, Holding, 40_001, 40_001),
            (Numbering::ZeroBased, Input, 65_535, 65_535),
            (Numbering::OneBased, Holding, 1, 0),
            (Numbering::OneBased, Coil, 65_536, 65_535),
            (Numbering::Paper, Holding, 40_001, 0),
            (Numbering::Paper, Holding, 49_999, 9_998),
            (Numbering::Paper, Holding, 400_001, 0),
            (Numbering::Paper, Holding, 465_536, 65_535),
            (Numbering::Paper, Input, 30_101, 100),
            (Numbering::Paper, Discrete, 10_001, 0),
            (Numbering::Paper, Discrete, 165_536, 65_535),
            (Numbering::Paper, Coil, 1, 0),
        ] {
            assert_eq!(numbering.address(kind, written), Ok(address), "{written}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_it_looks_like() {
        use Kind::*;
        assert_eq!(
            said(Numbering::ZeroBased, Holding, 65_536),
            "65536 is no address: addresses end at 65535; if the list counts from one, say `one_based = true`"
        );
        assert_eq!(
            said(Numbering::ZeroBased, Holding, 400_108),
            "400108 is no address: addresses end at 65535; it looks like a paper address: say `paper = true`, or write \
             `holding = 107`"
        );
        assert!(said(Numbering::ZeroBased, Holding, 300_108).ends_with("write `input = 107`"));
        assert_eq!(
            said(Numbering::ZeroBased, Input, -1),
            "-1 is no address: addresses begin at 0"
        );
        assert!(said(Numbering::OneBased, Input, 0).ends_with("begin at 1"));
        assert!(said(Numbering::Paper, Holding, 108).contains("those are 40001 and up"));
        assert!(said(Numbering::Paper, Holding, 30_108).ends_with("write `input = 30108`"));
        assert!(said(Numbering::Paper, Holding, 40_000).contains("no paper address"));
        assert!(said(Numbering::Paper, Holding, 465_537).contains("no paper address"));
        assert!(said(Numbering::Paper, Coil, 0).contains("no paper address"));
    }

    #[test]
    fn a_value_ends_within_the_table() {
        assert!(Span::new(Kind::Holding, 65_532, 4).is_ok());
        let error = Span::new(Kind::Holding, 65_535, 4).unwrap_err();
        assert!(error.to_string().contains("end beyond 65535"));
    }

    proptest! {
        #[test]
        fn every_address_can_be_written_in_every_way(address: u16, which in 0usize..4) {
            let kind = Kind::ALL[which];
            let written = i64::from(address);
            prop_assert_eq!(Numbering::ZeroBased.address(kind, written), Ok(address));
            prop_assert_eq!(Numbering::OneBased.address(kind, written + 1), Ok(address));
            let paper = kind.digit() * 100_000 + written + 1;
            prop_assert_eq!(Numbering::Paper.address(kind, paper), Ok(address));
        }

        #[test]
        fn halves_are_the_whole(first: u16, count in 1u16..200) {
            prop_assume!(u32::from(first) + u32::from(count) <= ADDRESSES);
            let span = Span::new(Kind::Input, first, count).unwrap();
            match span.halves() {
                None => prop_assert_eq!(count, 1),
                Some((low, high)) => {
                    prop_assert_eq!(low.first(), first);
                    prop_assert_eq!(low.end(), u32::from(high.first()));
                    prop_assert_eq!(high.end(), span.end());
                    prop_assert!(low.count() >= high.count() && high.count() > 0);
                    prop_assert_eq!(low.to(high), Some(span));
                }
            }
        }
    }
}
