//! The leaf: the small text record that the ledger keeps of every submission and every event.
//!
//! Nine lines, each ended by a line feed; `-` stands for nothing:
//! ```text
//! cms-entry/1
//! carbonmirror/<company>/<agent_id>/<epoch>
//! <index>
//! <kind> <category|->
//! <from> <to>
//! <boot id> <milliseconds since boot>
//! <public id of the API key|->
//! sha-256:<base64> <bytes> | -
//! <note|->
//! ```
//! Promises: one leaf has one text, and a text that is not exactly so is no leaf. The body is named by digest
//! only, so a body may go after its retention while the proof of the leaf still holds.

use std::fmt;
use std::str::FromStr;

use cms_spec::Category;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::origin::{Origin, parse_count};

/// Longest text of a leaf. The longest fields together stay far below; more is not one of ours.
pub const LEAF_BYTES_MAX: usize = 2048;
/// Longest boot id or API key id. A boot id has 36, and a key's public id is meant to be read.
pub const WORD_BYTES_MAX: usize = 64;
/// Longest note. It says what happened in one line; a longer story belongs into the log.
pub const NOTE_BYTES_MAX: usize = 256;

const FORMAT: &str = "cms-entry/1";
const NOTHING: &str = "-";
/// RFC 6962 hashes leaves and inner nodes with different first bytes, so that neither passes for the other.
const LEAF_PREFIX: &[u8] = &[0];

/// One record of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The log that the leaf belongs to.
    pub origin: Origin,
    /// Its place in the log, from zero; a hole is visible. At most [`crate::origin::INDEX_MAX`].
    pub index: u64,
    /// What it records.
    pub kind: LeafKind,
    /// The category that it is about, if it is about one.
    pub category: Option<Category>,
    /// Start of the time that it speaks for. It may lie after `to` where a clock was set back.
    pub from: Timestamp,
    /// End of the time that it speaks for.
    pub to: Timestamp,
    /// The kernel's name for this boot.
    pub boot_id: Word,
    /// The clock that nobody can set, which also counts while the machine sleeps.
    pub boottime_ms: u64,
    /// The public id of the API key in use, if there is one.
    pub api_key_id: Option<Word>,
    /// What the leaf vouches for, if there is a body.
    pub body: Option<Body>,
    /// What happened, in one line.
    pub note: Option<Note>,
}

/// The bytes that a leaf vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// Their digest.
    pub digest: Digest,
    /// How many they are.
    pub bytes: u64,
}

impl Body {
    /// Describes these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            digest: Digest::of(bytes),
            bytes: bytes.len() as u64,
        }
    }
}

/// What a leaf records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeafKind {
    /// The wall clock jumped or lost its source.
    Clock,
    /// This configuration holds from here on.
    Config,
    /// A scheduled slot had nothing to say.
    Gap,
    /// Nothing was due for long, and the agent lives.
    Heartbeat,
    /// A key took the place of another.
    KeyRotate,
    /// Records were dropped.
    Loss,
    /// A source appeared, failed, worked again or is gone, or figures began to come from another.
    Source,
    /// The agent started.
    Start,
    /// The agent stopped.
    Stop,
    /// A submission was made.
    Submission,
}

impl LeafKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Clock,
        Self::Config,
        Self::Gap,
        Self::Heartbeat,
        Self::KeyRotate,
        Self::Loss,
        Self::Source,
        Self::Start,
        Self::Stop,
        Self::Submission,
    ];

    /// The kind's word in the text.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Config => "config",
            Self::Gap => "gap",
            Self::Heartbeat => "heartbeat",
            Self::KeyRotate => "key-rotate",
            Self::Loss => "loss",
            Self::Source => "source",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Submission => "submission",
        }
    }
}

impl fmt::Display for LeafKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Leaf {
    /// The leaf's hash in the Merkle tree (RFC 6962): SHA-256 of a zero byte and the text.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Self::hash_of(&self.to_string())
    }

    /// The hash of a text that was stored, without parsing it.
    #[must_use]
    pub fn hash_of(text: &str) -> Digest {
        Digest::of_parts(&[LEAF_PREFIX, text.as_bytes()])
    }
}

/// Writes the text of the leaf.
impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let category = self.category.map_or(NOTHING, Category::path);
        let key = self.api_key_id.as_ref().map_or(NOTHING, Word::as_str);
        let note = self.note.as_ref().map_or(NOTHING, Note::as_str);
        writeln!(f, "{FORMAT}\n{}\n{}", self.origin, self.index)?;
        writeln!(f, "{} {category}\n{} {}", self.kind, self.from, self.to)?;
        writeln!(f, "{} {}\n{key}", self.boot_id.as_str(), self.boottime_ms)?;
        match &self.body {
            Some(body) => writeln!(f, "sha-256:{} {}", body.digest, body.bytes)?,
            None => writeln!(f, "{NOTHING}")?,
        }
        writeln!(f, "{note}")
    }
}

impl FromStr for Leaf {
    type Err = LeafError;

    fn from_str(text: &str) -> Result<Self, LeafError> {
        if text.len() > LEAF_BYTES_MAX {
            return Err(LeafError::ReadLength);
        }
        let lines: Vec<&str> = text
            .strip_suffix('\n')
            .unwrap_or_default()
            .split('\n')
            .collect();
        let &[FORMAT, origin, index, kind, span, boot, key, body, note] = lines.as_slice() else {
            return Err(LeafError::ReadLines);
        };
        let leaf = parse_lines([origin, index, kind, span, boot, key, body, note])?;
        // One leaf, one text: what parses but is written otherwise would have another hash.
        if leaf.to_string() == text {
            Ok(leaf)
        } else {
            Err(LeafError::ReadForm)
        }
    }
}

/// A word without spaces: a boot id, the public id of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Word(String);

impl Word {
    /// The word as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Word {
    type Err = LeafError;

    fn from_str(text: &str) -> Result<Self, LeafError> {
        let right = (1..=WORD_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic())
            && text != NOTHING;
        right
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| LeafError::Word(text.to_owned()))
    }
}

impl TryFrom<String> for Word {
    type Error = LeafError;
    fn try_from(text: String) -> Result<Self, LeafError> {
        text.parse()
    }
}

impl From<Word> for String {
    fn from(word: Word) -> Self {
        word.0
    }
}

/// One line of plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    /// The note as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a note of any text: control characters become spaces, what is too long is cut.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let mut line = String::new();
        for c in text.trim().chars() {
            let c = if c.is_control() { ' ' } else { c };
            if line.len() + c.len_utf8() > NOTE_BYTES_MAX {
                break;
            }
            line.push(c);
        }
        line.trim().parse().ok()
    }
}

impl FromStr for Note {
    type Err = LeafError;

    fn from_str(text: &str) -> Result<Self, LeafError> {
        let right = (1..=NOTE_BYTES_MAX).contains(&text.len())
            && !text.chars().any(char::is_control)
            && text.trim() == text
            && text != NOTHING;
        right
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| LeafError::Note(text.to_owned()))
    }
}

/// A text is not a leaf or not a part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not a usable note.
    #[error("{0:?} is not a note: use one line of 1 to {NOTE_BYTES_MAX} bytes, and not a lone '-'")]
    Note(String),
    /// A line does not read.
    #[error("the {0} of the leaf does not read: take the leaf again from the store or the bundle")]
    ReadField(&'static str),
    /// It reads, but is not the text that its fields write.
    #[error("the leaf is not in its one written form: take the text from the ledger unchanged")]
    ReadForm,
    /// Too long.
    #[error("the leaf is longer than {LEAF_BYTES_MAX} bytes: this is not a leaf of the ledger")]
    ReadLength,
    /// Other lines than the nine.
    #[error("the leaf has not the nine lines of {FORMAT}: this version reads no other form")]
    ReadLines,
    /// Not a usable word.
    #[error("{0:?} is not a usable id: use 1 to {WORD_BYTES_MAX} visible ASCII characters")]
    Word(String),
}

fn parse_lines(lines: [&str; 8]) -> Result<Leaf, LeafError> {
    let [origin, index, kind, span, boot, key, body, note] = lines;
    let (kind, category) = pair(kind, "kind")?;
    let (from, to) = pair(span, "span")?;
    let (boot_id, boottime_ms) = pair(boot, "boot")?;
    Ok(Leaf {
        origin: field(origin, "origin")?,
        index: parse_count(index).ok_or(LeafError::ReadField("index"))?,
        kind: LeafKind::ALL
            .into_iter()
            .find(|known| known.word() == kind)
            .ok_or(LeafError::ReadField("kind"))?,
        category: optional(category, "category")?,
        from: field(from, "start")?,
        to: field(to, "end")?,
        boot_id: field(boot_id, "boot id")?,
        boottime_ms: field(boottime_ms, "time since boot")?,
        api_key_id: optional(key, "API key id")?,
        body: if body == NOTHING {
            None
        } else {
            Some(parse_body(body)?)
        },
        note: optional(note, "note")?,
    })
}

fn parse_body(text: &str) -> Result<Body, LeafError> {
    let (digest, bytes) = pair(text, "body")?;
    let digest = digest
        .strip_prefix("sha-256:")
        .ok_or(LeafError::ReadField("body"))?;
    Ok(Body {
        digest: field(digest, "body digest")?,
        bytes: field(bytes, "body length")?,
    })
}

fn pair<'a>(line: &'a str, name: &'static str) -> Result<(&'a str, &'a str), LeafError> {
    line.split_once(' ').ok_or(LeafError::ReadField(name))
}

fn field<T: FromStr>(text: &str, name: &'static str) -> Result<T, LeafError> {
    text.parse().map_err(|_| LeafError::ReadField(name))
}

fn optional<T: FromStr>(text: &str, name: &'static str) -> Result<Option<T>, LeafError> {
    if text == NOTHING {
        Ok(None)
    } else {
        field(text, name).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "cms-entry/1\n\
        carbonmirror/acme-corp/018f4d2a-7b1c-7def-8123-456789abcdef/1\n\
        41\n\
        submission ghost-compute\n\
        2026-01-16T15:30:00Z 2026-01-16T15:45:00Z\n\
        f1f2f3f4-0000-4000-8000-000000000001 86400123\n\
        k7f3\n\
        sha-256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0= 3\n\
        -\n";

    fn leaf() -> Leaf {
        Leaf {
            origin: "carbonmirror/acme-corp/018f4d2a-7b1c-7def-8123-456789abcdef/1"
                .parse()
                .unwrap(),
            index: 41,
            kind: LeafKind::Submission,
            category: Some(Category::GhostCompute),
            from: "2026-01-16T15:30:00Z".parse().unwrap(),
            to: "2026-01-16T15:45:00Z".parse().unwrap(),
            boot_id: "f1f2f3f4-0000-4000-8000-000000000001".parse().unwrap(),
            boottime_ms: 86_400_123,
            api_key_id: Some("k7f3".parse().unwrap()),
            body: Some(Body::of(b"abc")),
            note: None,
        }
    }

    #[test]
    fn golden_text_and_hash() {
        assert_eq!(leaf().to_string(), TEXT);
        assert_eq!(TEXT.parse(), Ok(leaf()));
        // sha256sum of a zero byte and the text, computed apart from this crate.
        assert_eq!(leaf().hash().to_string(), GOLDEN_HASH);
    }

    const GOLDEN_HASH: &str = "Ac3IV5/oucUzCq/oLbyNKumf7hLLj4Z/4WFiQMyGsHc=";

    #[test]
    fn every_kind_reads_back() {
        for kind in LeafKind::ALL {
            let leaf = Leaf {
                kind,
                category: None,
                body: None,
                api_key_id: None,
                ..leaf()
            };
            assert_eq!(leaf.to_string().parse(), Ok(leaf));
        }
    }

    #[test]
    fn only_the_one_form_is_a_leaf() {
        for (from, to) in [
            ("\n41\n", "\n041\n"),
            ("\n41\n", "\n+41\n"),
            ("15:45:00Z", "15:45:00.000Z"),
            ("15:45:00Z", "16:45:00+01:00"),
            ("submission ", "submission  "),
            ("cms-entry/1", "cms-entry/2"),
            ("= 3\n", "= 3 \n"),
            ("= 3\n", "= 03\n"),
            ("\n-\n", "\n"),
            ("\n-\n", "\n-\n-\n"),
            ("\n-\n", "\n-"),
            ("\n", "\r\n"),
            ("ghost-compute", "ghost_compute"),
        ] {
            let wrong = TEXT.replace(from, to);
            assert!(wrong.parse::<Leaf>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn notes_are_one_bounded_line() {
        assert_eq!(Note::of("two\nlines\t ").unwrap().as_str(), "two lines");
        assert_eq!(
            Note::of(&"ä".repeat(200)).unwrap().as_str().len(),
            NOTE_BYTES_MAX
        );
        assert_eq!(Note::of(" - "), None);
        assert_eq!(Note::of(""), None);
        for wrong in ["", "-", " x", "a\nb"] {
            assert!(wrong.parse::<Note>().is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_to_itself_or_not_at_all(text in any::<String>()) {
            if let Ok(leaf) = text.parse::<Leaf>() {
                prop_assert_eq!(leaf.to_string(), text);
            }
        }

        #[test]
        fn a_changed_byte_changes_the_leaf(at in 0..TEXT.len(), byte in 0u8..128) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Ok(changed) = text.parse::<Leaf>() {
                prop_assert_eq!(changed == leaf(), text == TEXT);
                prop_assert_eq!(changed.to_string(), text);
            }
        }

        #[test]
        fn any_note_reads_back(text in any::<String>()) {
            if let Some(note) = Note::of(&text) {
                let leaf = Leaf { note: Some(note), ..leaf() };
                prop_assert_eq!(leaf.to_string().parse(), Ok(leaf));
            }
        }
    }
}
