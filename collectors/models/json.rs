//! JSON that is read where it lies: what is asked for by name, and nothing else.
//!
//! Owns: stepping through a text without building anything from it. Promises: a value that nobody asked for is
//! stepped over as bytes and never becomes a string; nothing of a text is in an error; time grows with the length
//! alone, and nesting is bounded. Refuses: to say what a text says; strings are given only as a [`Word`], or to
//! be compared.

pub(crate) mod items;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::str;

use cms_spec::decimal::Decimal;
use memchr::memchr2;

use super::request::Word;

/// How deep values may be nested. The tools of a request have schemas of some twenty levels.
pub(crate) const DEPTH_MAX: u8 = 128;

/// Longest number that is read; a float of Python has at most 24 characters.
const NUMBER_BYTES_MAX: usize = 40;

/// A character in a string takes at most this many bytes: `\u002f`.
const ESCAPE_BYTES_MAX: usize = 6;

/// Why a text is no JSON; where it stops to be one is not said, because the text is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// It ends too early, or something else stands where a value, a comma or a colon belongs.
    #[error("the text is not JSON")]
    Syntax,
    /// Too many brackets are open.
    #[error("the text is nested deeper than 128 levels")]
    Depth,
}

/// A place in a text.
#[derive(Clone, Debug)]
pub(crate) struct Json<'a> {
    text: &'a [u8],
    at: usize,
    depth: u8,
}

impl<'a> Json<'a> {
    /// The beginning of a text.
    pub(crate) const fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
        }
    }

    /// Reads an object. `each` is given every key as it is written, and may read its value; a value that it leaves
    /// is stepped over. False when the value is something else, which is stepped over too.
    pub(crate) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &'a [u8]) -> Result<(), Broken>,
    ) -> Result<bool, Broken> {
        if self.peek() != Some(b'{') {
            self.skip()?;
            return Ok(false);
        }
        self.enter()?;
        if self.took(b'}') {
            return self.leave(true);
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(Broken::Syntax);
            }
            let key = self.quoted()?;
            if !self.took(b':') {
                return Err(Broken::Syntax);
            }
            self.value(|json| each(json, key))?;
            if self.took(b'}') {
                return self.leave(true);
            }
            if !self.took(b',') {
                return Err(Broken::Syntax);
            }
        }
    }

    /// Reads an array. `each` may read the value it is called at. False when the value is something else, which is
    /// stepped over too.
    pub(crate) fn array(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Broken>,
    ) -> Result<bool, Broken> {
        if self.peek() != Some(b'[') {
            self.skip()?;
            return Ok(false);
        }
        self.enter()?;
        if self.took(b']') {
            return self.leave(true);
        }
        loop {
            self.value(&mut each)?;
            if self.took(b']') {
                return self.leave(true);
            }
            if !self.took(b',') {
                return Err(Broken::Syntax);
            }
        }
    }

    /// A string that is a name; nothing when it is something else.
    pub(crate) fn word(&mut self) -> Result<Option<Word>, Broken> {
        Ok(self.text()?.and_then(|text| Word::new(&text)))
    }

    /// A string of few characters, to be compared or cut; nothing when it is longer or something else.
    pub(crate) fn text(&mut self) -> Result<Option<Cow<'a, [u8]>>, Broken> {
        if self.peek() != Some(b'"') {
            self.skip()?;
            return Ok(None);
        }
        Ok(plain(self.quoted()?))
    }

    /// A string as it is written, with its escapes; nothing when it is something else.
    pub(crate) fn written(&mut self) -> Result<Option<&'a [u8]>, Broken> {
        if self.peek() != Some(b'"') {
            self.skip()?;
            return Ok(None);
        }
        self.quoted().map(Some)
    }

    /// A number, exactly; nothing when it is something else.
    pub(crate) fn number(&mut self) -> Result<Option<Decimal>, Broken> {
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            self.skip()?;
            return Ok(None);
        }
        Ok(decimal(self.literal()?))
    }

    /// A number that may stand between quotes, as 64 bits do in some dialects.
    pub(crate) fn quoted_number(&mut self) -> Result<Option<Decimal>, Broken> {
        if self.peek() == Some(b'"') {
            return Ok(decimal(self.quoted()?));
        }
        self.number()
    }

    /// A whole number that is not negative; nothing when it is something else.
    pub(crate) fn count(&mut self) -> Result<Option<u64>, Broken> {
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            self.skip()?;
            return Ok(None);
        }
        let number = self.literal()?;
        Ok(digits(number).or_else(|| decimal(number).and_then(whole)))
    }

    /// `true` or `false`; nothing when it is something else.
    pub(crate) fn truth(&mut self) -> Result<Option<bool>, Broken> {
        if !matches!(self.peek(), Some(b't' | b'f')) {
            self.skip()?;
            return Ok(None);
        }
        Ok(Some(self.literal()? == b"true"))
    }

    /// Steps over a value, and says whether it is one: `null` is none.
    pub(crate) fn is_there(&mut self) -> Result<bool, Broken> {
        let is_null = self.peek() == Some(b'n');
        self.skip()?;
        Ok(!is_null)
    }

    /// Steps over a value.
    pub(crate) fn skip(&mut self) -> Result<(), Broken> {
        match self.peek() {
            Some(b'{') => self.object(|_, _| Ok(())).map(drop),
            Some(b'[') => self.array(|_| Ok(())).map(drop),
            Some(b'"') => self.quoted().map(drop),
            Some(_) => self.literal().map(drop),
            None => Err(Broken::Syntax),
        }
    }

    /// Whether nothing follows.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Lets a value be read, and steps over it when it was not.
    fn value(&mut self, read: impl FnOnce(&mut Self) -> Result<(), Broken>) -> Result<(), Broken> {
        self.peek();
        let before = self.at;
        read(self)?;
        if self.at == before {
            self.skip()?;
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), Broken> {
        if self.depth == DEPTH_MAX {
            return Err(Broken::Depth);
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn leave(&mut self, was: bool) -> Result<bool, Broken> {
        self.depth = self.depth.saturating_sub(1);
        Ok(was)
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.at)?;
            if !byte.is_ascii_whitespace() {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn took(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// What stands between the quotes, which the place is at; escapes stay as they are.
    fn quoted(&mut self) -> Result<&'a [u8], Broken> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            let rest = self.text.get(end..).ok_or(Broken::Syntax)?;
            end += memchr2(b'"', b'\\', rest).ok_or(Broken::Syntax)?;
            if self.text.get(end) == Some(&b'"') {
                self.at = end + 1;
                return self.text.get(start..end).ok_or(Broken::Syntax);
            }
            end += 2;
        }
    }

    /// A number or a word of the language; also Python's `NaN` and `Infinity`.
    fn literal(&mut self) -> Result<&'a [u8], Broken> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_of_literal = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = rest.iter().take_while(|byte| is_of_literal(byte)).count();
        let literal = rest.get(..length).unwrap_or_default();
        let is_right = match literal {
            b"true" | b"false" | b"null" | b"NaN" | b"Infinity" | b"-Infinity" => true,
            [b'-', b'0'..=b'9', ..] | [b'0'..=b'9', ..] => literal
                .iter()
                .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)),
            _ => false,
        };
        if !is_right {
            return Err(Broken::Syntax);
        }
        self.at += length;
        Ok(literal)
    }
}

/// A whole number that is not negative.
pub(crate) fn whole(number: Decimal) -> Option<u64> {
    const ONE: i128 = Decimal::whole(1).nano();
    let nano = number.nano();
    (nano % ONE == 0).then(|| u64::try_from(nano / ONE).ok())?
}

/// A number that is nothing but digits, as most are.
fn digits(text: &[u8]) -> Option<u64> {
    /// As many as are smaller than [`u64::MAX`] whatever they are.
    const DIGITS_MAX: usize = 19;
    if text.len() > DIGITS_MAX || text.len() > 1 && text.starts_with(b"0") {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u64::from(digit))
    })
}

fn decimal(text: &[u8]) -> Option<Decimal> {
    let text = Some(text).filter(|text| text.len() <= NUMBER_BYTES_MAX)?;
    str::from_utf8(text).ok()?.parse().ok()
}

/// A short string without its escapes, as far as names have any: `\/` and ASCII as `\u002f`.
fn plain(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    // A tag has a prefix before its word.
    const BYTES_MAX: usize = 2 * Word::BYTES_MAX;
    if raw.len() > BYTES_MAX * ESCAPE_BYTES_MAX {
        return None;
    }
    if !raw.contains(&b'\\') {
        return (raw.len() <= BYTES_MAX).then_some(Cow::Borrowed(raw));
    }
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    loop {
        rest = match rest {
            [] => break,
            [b'\\', b'u', b'0', b'0', high, low, rest @ ..] => {
                let digits = [*high, *low];
                let digits = str::from_utf8(&digits).ok()?;
                let byte = u8::from_str_radix(digits, 16).ok()?;
                text.push(Some(byte).filter(u8::is_ascii)?);
                rest
            }
            [b'\\', b'/', rest @ ..] => {
                text.push(b'/');
                rest
            }
            [b'\\', ..] => return None,
            [byte, rest @ ..] => {
                text.push(*byte);
                rest
            }
        };
    }
    (text.len() <= BYTES_MAX).then_some(Cow::Owned(text))
}
