//! Label sets and quoted texts, kept as the page wrote them and unescaped when somebody asks.

use std::borrow::Cow;
use std::fmt;

use super::line::{Cursor, is_of_name};

/// Bytes that end a value or make it one with escapes.
static ENDS: [bool; 256] = {
    let mut ends = [false; 256];
    ends[b'"' as usize] = true;
    ends[b'\\' as usize] = true;
    ends
};

/// What stands between two quotes, or a name without them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    raw: &'a str,
    has_escapes: bool,
}

/// One label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// Its value.
    pub value: Text<'a>,
}

/// The labels of a sample, checked when the line was read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Labels<'a> {
    /// What stands between the braces, without the metric's name.
    raw: &'a str,
    /// Whether there are no blanks, escapes or quoted names, as almost everywhere.
    is_plain: bool,
}

impl<'a> Text<'a> {
    pub(super) const fn new(raw: &'a str, has_escapes: bool) -> Self {
        Self { raw, has_escapes }
    }

    pub(super) const fn raw(self) -> &'a str {
        self.raw
    }

    /// The text; only one with escapes is copied.
    #[must_use]
    pub fn to_cow(self) -> Cow<'a, str> {
        if self.has_escapes {
            Cow::Owned(self.characters().collect())
        } else {
            Cow::Borrowed(self.raw)
        }
    }

    /// Whether it reads like this.
    #[must_use]
    pub fn is(self, text: &str) -> bool {
        if self.has_escapes {
            self.characters().eq(text.chars())
        } else {
            self.raw == text
        }
    }

    /// Whether it is one of these.
    #[must_use]
    pub fn is_one_of(self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.is(text))
    }

    /// A backslash before anything but a backslash, a quote or an `n` stands for itself.
    fn characters(self) -> impl Iterator<Item = char> {
        let mut rest = self.raw.chars();
        std::iter::from_fn(move || {
            let first = rest.next()?;
            if first != '\\' {
                return Some(first);
            }
            let mut ahead = rest.clone();
            let meant = match ahead.next() {
                Some('n') => '\n',
                Some(other @ ('\\' | '"')) => other,
                _ => return Some(first),
            };
            rest = ahead;
            Some(meant)
        })
    }
}

impl<'a> Labels<'a> {
    /// Reads the labels up to the closing brace, which is left to the caller.
    #[inline]
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, &'static str> {
        let set = cursor.rest();
        let plain = plain(set.as_bytes());
        let is_plain = plain.is_some();
        let length = match plain {
            Some(length) => {
                cursor.skip(length);
                length
            }
            None => {
                while cursor.label()?.is_some() {}
                set.len() - cursor.rest().len()
            }
        };
        let raw = set.get(..length).unwrap_or_default();
        Ok(Self { raw, is_plain })
    }

    /// Each label in the order of the line.
    pub fn iter(self) -> impl Iterator<Item = Label<'a>> {
        let mut cursor = Cursor::new(self.raw);
        // Everything was checked when the line was read, so that the end is the only reason to end.
        std::iter::from_fn(move || cursor.label().ok().flatten())
    }

    /// The value of the first label of this name.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Text<'a>> {
        if !self.is_plain {
            let found = self.iter().find(|label| label.name.is(name))?;
            return Some(found.value);
        }
        let mut rest = self.raw;
        loop {
            let (found, after) = split_at_byte(rest, b'=')?;
            let (value, after) = split_at_byte(after.get(1..)?, b'"')?;
            if found == name {
                return Some(Text::new(value, false));
            }
            rest = after.get(1..)?;
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

/// Splits before and after the first such byte. For a few bytes, looking at each is the fastest.
#[inline]
fn split_at_byte(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|other| other == byte)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// How long a set of plain labels is; nothing for one that must be looked at with more care.
#[inline]
fn plain(set: &[u8]) -> Option<usize> {
    let mut rest = set;
    loop {
        if rest.first() == Some(&b'}') {
            return Some(set.len() - rest.len());
        }
        let name = rest.iter().position(|byte| !is_of_name(*byte))?;
        if name == 0 || rest.first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let value = rest.get(name..)?.strip_prefix(b"=\"")?;
        let end = value.iter().position(|byte| ENDS[usize::from(*byte)])?;
        rest = value.get(end..)?.strip_prefix(b"\"")?;
        match rest.first()? {
            b',' => rest = rest.get(1..)?,
            b'}' => {}
            _ => return None,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_cow(), f)
    }
}

impl fmt::Debug for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.iter().map(|label| (label.name, label.value));
        f.debug_map().entries(pairs).finish()
    }
}
