//! One page of a listing (ListObjectsV2) and how it is asked for.
//!
//! Owns: the few elements of the answer that are read, and the question's encoding. Promises: a page is whole or an
//! error; a document type, nesting or anything else that a listing has not is no listing. Refuses: elements that
//! nobody asked for, such as owners and digests.

use std::fmt::Write as _;

use jiff::Timestamp;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

/// Objects of one page: the most that a store gives.
pub(super) const KEYS_OF_A_PAGE: usize = 1_000;

/// The longest page that is read: each key has up to 1,024 bytes, three times that when encoded, and as much again
/// around it.
pub(super) const PAGE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The class of an object for which none is told.
const CLASS: &str = "STANDARD";

/// Longest name of a class; what has a longer one, or an odd one, is of the class [`OTHER_CLASS`].
const CLASS_BYTES_MAX: usize = 40;

/// The class of what has no usable one.
pub(super) const OTHER_CLASS: &str = "OTHER";

/// What helps where something else answers.
const NOT_THE_STORE: &str = "is the address that of the object store, and not of its console?";

/// What is told of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) key: Vec<u8>,
    pub(super) bytes: u64,
    pub(super) modified: Timestamp,
    pub(super) class: String,
}

/// One page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    /// Where the next one begins; none on the last page.
    pub(super) next: Option<String>,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum From<'a> {
    /// Behind this key.
    Key(&'a [u8]),
    Start,
    /// Where the page before said that it goes on.
    Token(&'a str),
}

/// The query for a page.
pub(super) fn query(prefix: &str, from: From<'_>) -> String {
    let mut query = String::new();
    if let From::Token(token) = from {
        query = format!("continuation-token={}&", encoded(token.as_bytes()));
    }
    query += "encoding-type=url&list-type=2";
    let _written = write!(query, "&max-keys={KEYS_OF_A_PAGE}");
    if !prefix.is_empty() {
        let _written = write!(query, "&prefix={}", encoded(prefix.as_bytes()));
    }
    if let From::Key(key) = from {
        let _written = write!(query, "&start-after={}", encoded(key));
    }
    query
}

/// Everything but letters, digits and `-_.~` as `%` and two digits.
pub(super) fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _written = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// A key as it was before it was encoded; stores write a space as `+` or as `%20`.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let mut ahead = rest.clone();
        let code = (byte == b'%')
            .then(|| Some(digit(ahead.next())? * 16 + digit(ahead.next())?))
            .flatten()
            .and_then(|code| u8::try_from(code).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = ahead;
            }
            None => bytes.push(if byte == b'+' { b' ' } else { byte }),
        }
    }
    bytes
}

/// The elements that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Class,
    Encoding,
    Key,
    Modified,
    Next,
    Size,
    Truncated,
}

/// A page as far as it is read.
#[derive(Default)]
struct Draft {
    objects: Vec<Raw>,
    /// The object that is being read.
    object: Option<Raw>,
    encoding: String,
    next: String,
    truncated: String,
}

#[derive(Default)]
struct Raw {
    key: Option<String>,
    bytes: Option<u64>,
    modified: Option<Timestamp>,
    class: Option<String>,
}

/// Reads a page.
pub(super) fn read(answer: &[u8]) -> Result<Page, String> {
    let mut reader = Reader::from_reader(answer);
    let mut draft = Draft::default();
    let (mut depth, mut is_listing) = (0_u32, false);
    let mut field: Option<Field> = None;
    let mut text = String::new();
    loop {
        let event = reader
            .read_event()
            .map_err(|error| format!("it is no XML: {error}"))?;
        match event {
            Event::Start(tag) => {
                depth += 1;
                let name = tag.local_name();
                if depth == 1 {
                    is_listing = is_root(name.as_ref())?;
                } else if depth == 2 && name.as_ref() == b"Contents" {
                    draft.object = Some(Raw::default());
                } else if field.is_some() {
                    return Err("an element stands where a text should".to_owned());
                } else {
                    field = Field::of(depth, draft.object.is_some(), name.as_ref());
                    text.clear();
                }
            }
            Event::Empty(tag) if depth == 0 => is_listing = is_root(tag.local_name().as_ref())?,
            Event::Text(part) if field.is_some() => {
                text += &part.decode().map_err(|_| not_utf8())?;
            }
            Event::CData(part) if field.is_some() => {
                text += &part.decode().map_err(|_| not_utf8())?;
            }
            Event::GeneralRef(reference) if field.is_some() => resolve(&reference, &mut text)?,
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                if let Some(field) = field.take() {
                    draft.fill(field, &text)?;
                } else if depth == 1
                    && let Some(object) = draft.object.take()
                {
                    if draft.objects.len() >= KEYS_OF_A_PAGE {
                        return Err(format!("it has more than {KEYS_OF_A_PAGE} objects"));
                    }
                    draft.objects.push(object);
                }
            }
            Event::DocType(_) => {
                return Err(format!(
                    "it has a document type, as a web page has: {NOT_THE_STORE}"
                ));
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if depth > 0 || !is_listing {
        return Err("it ends before its end".to_owned());
    }
    draft.page()
}

fn is_root(name: &[u8]) -> Result<bool, String> {
    if name == b"ListBucketResult" {
        return Ok(true);
    }
    let name: String = String::from_utf8_lossy(name).chars().take(40).collect();
    Err(format!("it is no listing but <{name}>: {NOT_THE_STORE}"))
}

fn not_utf8() -> String {
    "it is not UTF-8 text".to_owned()
}

fn resolve(reference: &BytesRef<'_>, text: &mut String) -> Result<(), String> {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        text.push(character);
        return Ok(());
    }
    let name = reference.decode().map_err(|_| not_utf8())?;
    let known = resolve_predefined_entity(&name);
    *text += known.ok_or_else(|| "it has an entity that nobody declared".to_owned())?;
    Ok(())
}

impl Field {
    fn of(depth: u32, in_object: bool, name: &[u8]) -> Option<Self> {
        Some(match (depth, in_object, name) {
            (2, false, b"EncodingType") => Self::Encoding,
            (2, false, b"IsTruncated") => Self::Truncated,
            (2, false, b"NextContinuationToken") => Self::Next,
            (3, true, b"Key") => Self::Key,
            (3, true, b"LastModified") => Self::Modified,
            (3, true, b"Size") => Self::Size,
            (3, true, b"StorageClass") => Self::Class,
            _ => return None,
        })
    }
}

impl Draft {
    fn fill(&mut self, field: Field, text: &str) -> Result<(), String> {
        match (field, &mut self.object) {
            (Field::Encoding, _) => text.clone_into(&mut self.encoding),
            (Field::Next, _) => text.clone_into(&mut self.next),
            (Field::Truncated, _) => text.clone_into(&mut self.truncated),
            (Field::Key, Some(object)) => object.key = Some(text.to_owned()),
            (Field::Class, Some(object)) => object.class = Some(text.to_owned()),
            (Field::Modified, Some(object)) => {
                let modified = text.trim().parse();
                object.modified = Some(modified.map_err(|_| "a LastModified is no time")?);
            }
            (Field::Size, Some(object)) => {
                let bytes = text.trim().parse();
                object.bytes = Some(bytes.map_err(|_| "a Size is no number of bytes")?);
            }
            _ => {}
        }
        Ok(())
    }

    fn page(self) -> Result<Page, String> {
        let is_url = self.encoding.trim() == "url";
        let objects = self.objects.into_iter().map(|raw| {
            let (Some(key), Some(bytes), Some(modified)) = (raw.key, raw.bytes, raw.modified)
            else {
                return Err("an object has no Key, no Size or no LastModified".to_owned());
            };
            Ok(Object {
                key: if is_url {
                    decoded(&key)
                } else {
                    key.into_bytes()
                },
                bytes,
                modified,
                class: class(raw.class),
            })
        });
        let objects: Result<Vec<Object>, String> = objects.collect();
        let next = match (self.truncated.trim(), self.next.is_empty()) {
            ("false", _) => None,
            ("true", false) => Some(self.next),
            ("true", true) => {
                return Err(
                    "it says that there is more and not where it goes on: the store knows no ListObjectsV2"
                        .to_owned(),
                );
            }
            _ => return Err("it does not say whether there is more".to_owned()),
        };
        Ok(Page {
            objects: objects?,
            next,
        })
    }
}

/// A class as it may be told.
fn class(told: Option<String>) -> String {
    let Some(told) = told.filter(|told| !told.is_empty()) else {
        return CLASS.to_owned();
    };
    if is_class(&told) {
        told
    } else {
        OTHER_CLASS.to_owned()
    }
}

/// Whether a text can be the name of a storage class.
pub(super) fn is_class(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=CLASS_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_of_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listing(contents: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult \
             xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix/>{contents}</ListBucketResult>"
        )
    }

    fn object(key: &str) -> String {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-05T10:00:00.000Z</LastModified>\
             <ETag>&quot;0&quot;</ETag><Size>5</Size><Owner><ID>x</ID><Key>no key</Key></Owner>\
             <StorageClass>GLACIER</StorageClass></Contents>"
        )
    }

    const END: &str = "<IsTruncated>false</IsTruncated>";

    fn keys(text: &str) -> Vec<String> {
        let page = read(text.as_bytes()).unwrap();
        let keys = page.objects.into_iter();
        keys.map(|o| String::from_utf8(o.key).unwrap()).collect()
    }

    #[test]
    fn a_page_is_read() {
        let text = listing(&format!(
            "<IsTruncated>true</IsTruncated><NextContinuationToken>a+b/==</NextContinuationToken>{}",
            object("one")
        ));
        let page = read(text.as_bytes()).unwrap();
        assert_eq!(page.next.as_deref(), Some("a+b/=="));
        assert_eq!(
            page.objects,
            [Object {
                key: b"one".to_vec(),
                bytes: 5,
                modified: "2026-01-05T10:00:00Z".parse().unwrap(),
                class: "GLACIER".to_owned(),
            }]
        );
        assert_eq!(read(listing(END).as_bytes()).unwrap(), Page::default());
    }

    #[test]
    fn keys_come_as_they_were_stored() {
        let plain = listing(&format!(
            "{}{END}",
            object("a&amp;b&#x41;<![CDATA[<c>]]>+%20")
        ));
        assert_eq!(keys(&plain), ["a&bA<c>+%20"]);
        let url = format!(
            "{}<EncodingType>url</EncodingType>{END}",
            object("a+b%2Bc%0Ad%E2%82%AC%zz")
        );
        assert_eq!(keys(&listing(&url)), ["a b+c\nd€%zz"]);
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        let whole = listing(&format!("{}{END}", object("k")));
        for (text, words) in [
            ("", "before its end"),
            ("<html><body>MinIO Console</body></html>", "console"),
            (
                "<!DOCTYPE x [<!ENTITY e \"e\">]><ListBucketResult/>",
                "document type",
            ),
            ("{\"keys\": []}", "before its end"),
            ("<ListBucketResult/>", "whether there is more"),
            (&whole[..whole.len() - 9], ""),
            (&whole.replace("<Size>5</Size>", ""), "no Size"),
            (&whole.replace("<Size>5", "<Size>-5"), "no number"),
            (&whole.replace("2026-01-05T", "yesterday"), "no time"),
            (&whole.replace("false", "true"), "ListObjectsV2"),
            (&whole.replace("<Key>k", "<Key>&nope;"), "entity"),
            (&whole.replace("<Key>k", "<Key><i>k</i>"), "an element"),
            (&whole.replace("</Key>", "</Kex>"), "no XML"),
        ] {
            let refused = read(text.as_bytes()).unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
        let many = listing(&(object("k").repeat(KEYS_OF_A_PAGE + 1) + END));
        assert!(read(many.as_bytes()).is_err());
    }

    #[test]
    fn odd_classes_are_others_and_none_is_standard() {
        assert_eq!(class(None), "STANDARD");
        assert_eq!(
            class(Some("REDUCED_REDUNDANCY".to_owned())),
            "REDUCED_REDUNDANCY"
        );
        assert_eq!(class(Some("a b".to_owned())), OTHER_CLASS);
        assert_eq!(class(Some("A".repeat(41))), OTHER_CLASS);
    }

    #[test]
    fn queries_have_their_names_in_order() {
        assert_eq!(
            query("", From::Start),
            "encoding-type=url&list-type=2&max-keys=1000"
        );
        assert_eq!(
            query("lög s/", From::Token("1/a=")),
            "continuation-token=1%2Fa%3D&encoding-type=url&list-type=2&max-keys=1000&prefix=l%C3%B6g%20s%2F"
        );
        assert_eq!(
            query("", From::Key(b"a\xffb")),
            "encoding-type=url&list-type=2&max-keys=1000&start-after=a%FFb"
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(key in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decoded(&encoded(&key)), key);
        }

        #[test]
        fn whatever_comes_is_read_or_refused(text in "[<>/&;a-zA-Z! \\[\\]\\-?\"=]{0,80}") {
            drop(read(text.as_bytes()));
            drop(read(listing(&text).as_bytes()));
        }
    }
}
