//! A line read from its beginning: fixed texts at fixed places, numbers with bounds, names.
//!
//! Promises: nothing is copied, and what was not asked for is passed over in no way but by its own length. Every step
//! gives nothing where the line is otherwise; the reader then drops the line.

use memchr::memchr;

use super::request::Word;

/// Most digits of a number: more than any counter of tokens, fewer than 64 bits hold.
const DIGITS_MAX: usize = 15;

/// What is still to be read of a line. It cannot be printed, because it holds what nobody may see.
#[derive(Clone, Copy)]
pub(crate) struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    /// The whole line is still to be read.
    pub(crate) const fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// What is still to be read.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes exactly this text.
    pub(crate) fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    /// Takes blanks, if there are any.
    pub(crate) fn blanks(&mut self) {
        let length = run(self.rest, |byte| byte == b' ');
        self.skip(length);
    }

    /// Takes a whole number with up to this many digits; more digits are none.
    pub(crate) fn digits(&mut self, most: usize) -> Option<u64> {
        let length = run(self.rest, |byte| byte.is_ascii_digit());
        if !(1..=most.min(DIGITS_MAX)).contains(&length) {
            return None;
        }
        let value = self.rest.get(..length)?.iter().fold(0_u64, |sum, byte| {
            sum.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'))
        });
        self.skip(length);
        Some(value)
    }

    /// Takes a number with a point, in units of the last of so many places; further places are cut off.
    pub(crate) fn decimal(&mut self, places: usize) -> Option<u64> {
        let whole = self.digits(DIGITS_MAX)?;
        let mut value = whole.checked_mul(10_u64.checked_pow(u32::try_from(places).ok()?)?)?;
        if self.literal(b".").is_some() {
            let length = run(self.rest, |byte| byte.is_ascii_digit());
            let fraction = self.rest.get(..length).filter(|found| !found.is_empty())?;
            let digits = fraction.iter().map(|byte| u64::from(byte - b'0'));
            let padded = digits.chain(std::iter::repeat(0)).take(places);
            value = value.checked_add(padded.fold(0, |sum, digit| sum * 10 + digit))?;
            self.skip(length);
        }
        Some(value)
    }

    /// Takes a point or a comma and a fraction of a second, in nanoseconds.
    pub(crate) fn fraction(&mut self) -> Option<u64> {
        let digits = self.rest.get(1..)?;
        let length = run(digits, |byte| byte.is_ascii_digit());
        let digits = digits
            .get(..length)
            .filter(|found| (1..=9).contains(&found.len()))?;
        let padded = digits.iter().chain(std::iter::repeat(&b'0')).take(9);
        let value = padded.fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
        self.skip(length + 1);
        Some(value)
    }

    /// Takes the characters of a name that stand here; none where there are more than a name has.
    pub(crate) fn name(&mut self) -> Option<&'a [u8]> {
        let window = self.rest.get(..Word::BYTES_MAX + 1).unwrap_or(self.rest);
        let length = run(window, Word::allows);
        let found = self.rest.get(..length)?;
        if found.is_empty() || length > Word::BYTES_MAX {
            return None;
        }
        self.skip(length);
        Some(found)
    }

    /// Takes a request's id: letters, digits and `._-`; none where there are more than a name has.
    pub(crate) fn id(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let name = ahead.name()?;
        let length = run(name, |byte| {
            byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
        });
        let found = name.get(..length).filter(|found| !found.is_empty())?;
        self.skip(length);
        Some(found)
    }

    /// Takes what stands before this byte, if it comes within so many, and the byte.
    pub(crate) fn until(&mut self, end: u8, most: usize) -> Option<&'a [u8]> {
        let window = self.rest.get(..=most).unwrap_or(self.rest);
        let at = memchr(end, window)?;
        let found = self.rest.get(..at)?;
        self.skip(at + 1);
        Some(found)
    }

    fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
    }
}

/// A duration as Go and Rust write it, `1m5s`, `2.51224813s`, `463.224µs`, in nanoseconds; nothing else may stand there.
pub(crate) fn duration_ns(text: &[u8]) -> Option<u64> {
    const UNITS: [(&[u8], u64); 8] = [
        (b"ns", 1),
        ("\u{b5}s".as_bytes(), 1_000),
        ("\u{3bc}s".as_bytes(), 1_000),
        (b"us", 1_000),
        (b"ms", 1_000_000),
        (b"s", 1_000_000_000),
        (b"m", 60_000_000_000),
        (b"h", 3_600_000_000_000),
    ];
    let mut scan = Scan::new(text);
    let mut sum = 0_u64;
    while !scan.rest().is_empty() {
        let value = scan.decimal(9)?;
        let unit = UNITS
            .iter()
            .find_map(|(unit, ns)| scan.literal(unit).map(|()| *ns))?;
        let ns = u128::from(value) * u128::from(unit) / 1_000_000_000;
        sum = sum.checked_add(u64::try_from(ns).ok()?)?;
    }
    (!text.is_empty()).then_some(sum)
}

/// How many bytes at the beginning are such.
fn run(text: &[u8], is_such: impl Fn(u8) -> bool) -> usize {
    text.iter()
        .position(|byte| !is_such(*byte))
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_bounds() {
        let mut scan = Scan::new(b"3632.97 ms");
        assert_eq!(
            (scan.decimal(3), scan.rest()),
            (Some(3_632_970), &b" ms"[..])
        );
        assert_eq!(Scan::new(b"1.23456789").decimal(3), Some(1_234));
        assert_eq!(Scan::new(b"7").decimal(3), Some(7_000));
        assert_eq!(Scan::new(b"7.").decimal(3), None);
        assert_eq!(Scan::new(b"1234567890123456").digits(20), None);
        assert_eq!(Scan::new(b"999999999999999.9").decimal(9), None);
        assert_eq!(Scan::new(b"12345").digits(4), None);
        assert_eq!(Scan::new(b"-1").digits(4), None);
    }

    #[test]
    fn names_and_ends_have_bounds() {
        let long = [b'a'; Word::BYTES_MAX + 1];
        assert!(Scan::new(&long).name().is_none());
        assert_eq!(Scan::new(&long[1..]).name(), Some(&long[1..]));
        assert_eq!(Scan::new(b"qwen3:8b on").name(), Some(&b"qwen3:8b"[..]));
        assert_eq!(Scan::new(b"ab\"c").until(b'"', 2), Some(&b"ab"[..]));
        assert_eq!(Scan::new(b"abc\"").until(b'"', 2), None);
    }

    #[test]
    fn durations_of_go_and_rust() {
        for (text, ns) in [
            ("2.51224813s", 2_512_248_130),
            ("1m5s", 65_000_000_000),
            ("1h0m0.5s", 3_600_500_000_000),
            ("812.4ms", 812_400_000),
            ("463.224µs", 463_224),
            ("74ns", 74),
            ("0s", 0),
        ] {
            assert_eq!(duration_ns(text.as_bytes()), Some(ns), "{text}");
        }
        for text in ["", "5", "s", "5 s", "5s ", "-5s", "5s;", "999999999999999h"] {
            assert_eq!(duration_ns(text.as_bytes()), None, "{text}");
        }
    }
}
