//! Tags: where each value begins, what it is and how long it is.
//!
//! The guard before everything else: a length is checked against what is there before anybody looks at
//! the content.

use super::Malformed;

/// Values within values: property values nest three deep in the standard, twice that is hostile.
const DEPTH_MAX: usize = 8;

/// What stands before a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// A value of a type of its own; the number is the type.
    Application(u8),
    /// A value whose type follows from its place.
    Context(u8),
    /// Values in brackets begin.
    Opening(u8),
    /// Values in brackets end.
    Closing(u8),
}

/// A tag and what belongs to it; brackets have no content of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// What it is.
    pub tag: Tag,
    /// Its bytes. A boolean has none: [`Element::length`] is its value.
    pub content: &'a [u8],
    /// The length that the tag says.
    pub length: u32,
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// Everything in these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element.
    ///
    /// # Errors
    /// When the bytes end before it does.
    pub fn read(&mut self) -> Result<Element<'a>, Malformed> {
        let (element, rest) = split(self.rest)?;
        self.rest = rest;
        Ok(element)
    }

    /// The tag of the next element, which stays where it is; nothing at the end.
    ///
    /// # Errors
    /// As [`Elements::read`].
    pub fn peek(&self) -> Result<Option<Tag>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        split(self.rest).map(|(element, _)| Some(element.tag))
    }

    /// The next element, which must have this tag.
    ///
    /// # Errors
    /// When it has another one.
    pub fn expect(&mut self, tag: Tag) -> Result<Element<'a>, Malformed> {
        let element = self.read()?;
        if element.tag == tag {
            Ok(element)
        } else {
            Err(Malformed::Tag)
        }
    }

    /// The next element if it has this tag; otherwise nothing is taken.
    ///
    /// # Errors
    /// As [`Elements::read`].
    pub fn take(&mut self, tag: Tag) -> Result<Option<Element<'a>>, Malformed> {
        if self.peek()? == Some(tag) {
            return self.read().map(Some);
        }
        Ok(None)
    }

    /// Goes past everything up to the end of the bracket that was just opened.
    ///
    /// # Errors
    /// When it never ends, ends with another one's end, or nests too deeply.
    pub fn skip(&mut self, opened: u8) -> Result<(), Malformed> {
        let mut open = vec![opened];
        while let Some(inner) = open.last().copied() {
            match self.read()?.tag {
                Tag::Opening(_) if open.len() >= DEPTH_MAX => return Err(Malformed::Depth),
                Tag::Opening(number) => open.push(number),
                Tag::Closing(number) if number == inner => {
                    open.pop();
                }
                Tag::Closing(_) => return Err(Malformed::Tag),
                Tag::Application(_) | Tag::Context(_) => {}
            }
        }
        Ok(())
    }
}

/// An unsigned number of one to eight bytes.
pub(super) fn unsigned(content: &[u8]) -> Result<u64, Malformed> {
    if content.is_empty() || content.len() > 8 {
        return Err(Malformed::Length);
    }
    Ok(content
        .iter()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

/// An unsigned number of one to four bytes.
pub(super) fn unsigned32(content: &[u8]) -> Result<u32, Malformed> {
    u32::try_from(unsigned(content)?).map_err(|_| Malformed::Length)
}

fn split(bytes: &[u8]) -> Result<(Element<'_>, &[u8]), Malformed> {
    let (&first, mut rest) = bytes.split_first().ok_or(Malformed::Short)?;
    let mut number = first >> 4;
    if number == 0x0F {
        let (&extended, after) = rest.split_first().ok_or(Malformed::Short)?;
        (number, rest) = (extended, after);
    }
    let is_context = first & 0x08 != 0;
    let brackets = |tag| Element {
        tag,
        content: &[],
        length: 0,
    };
    match (is_context, first & 0x07) {
        (true, 6) => return Ok((brackets(Tag::Opening(number)), rest)),
        (true, 7) => return Ok((brackets(Tag::Closing(number)), rest)),
        (false, 6 | 7) => return Err(Malformed::Tag),
        _ => {}
    }
    let (length, rest) = length(first & 0x07, rest)?;
    let tag = if is_context {
        Tag::Context(number)
    } else {
        Tag::Application(number)
    };
    let is_boolean = tag == Tag::Application(super::value::BOOLEAN);
    let here = if is_boolean { 0 } else { length };
    let here = usize::try_from(here).map_err(|_| Malformed::Short)?;
    let (content, rest) = rest.split_at_checked(here).ok_or(Malformed::Short)?;
    let element = Element {
        tag,
        content,
        length,
    };
    Ok((element, rest))
}

fn length(short: u8, rest: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    if short < 5 {
        return Ok((u32::from(short), rest));
    }
    let (&byte, rest) = rest.split_first().ok_or(Malformed::Short)?;
    let wide = match byte {
        254 => 2,
        255 => 4,
        short => return Ok((u32::from(short), rest)),
    };
    let (bytes, rest) = rest.split_at_checked(wide).ok_or(Malformed::Short)?;
    Ok((unsigned32(bytes)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        for bytes in [
            &[0x24, 1, 2, 3][..],
            &[0x25],
            &[0x25, 200, 1],
            &[0x25, 254, 0],
            &[0x25, 255, 255, 255, 255, 255, 0],
            &[0xF9],
        ] {
            let mut elements = Elements::new(bytes);
            assert!(elements.read().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn long_forms_of_tags_and_lengths_are_read() {
        let mut bytes = vec![0xF9, 200, 7];
        bytes.extend([0x75, 254, 1, 0]);
        bytes.extend([b'a'; 256]);
        let mut elements = Elements::new(&bytes);
        let first = elements.read().unwrap();
        assert_eq!((first.tag, first.content), (Tag::Context(200), &[7][..]));
        let second = elements.read().unwrap();
        assert_eq!((second.tag, second.length), (Tag::Application(7), 256));
        assert!(elements.is_empty());
    }

    #[test]
    fn brackets_are_skipped_as_a_whole_and_to_a_depth() {
        let bytes = [0x0E, 0x1E, 0x21, 5, 0x1F, 0x09, 3, 0x0F, 0x21, 9];
        let mut elements = Elements::new(&bytes);
        assert_eq!(elements.read().unwrap().tag, Tag::Opening(0));
        elements.skip(0).unwrap();
        assert_eq!(elements.read().unwrap().content, [9]);

        let deep = [0x0E; 20];
        let mut elements = Elements::new(&deep);
        assert_eq!(elements.skip(0), Err(Malformed::Depth));
        let crossed = [0x1E, 0x0F];
        assert_eq!(Elements::new(&crossed).skip(0), Err(Malformed::Tag));
    }
}
