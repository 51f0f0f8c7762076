//! Signed notes: a text, an empty line, and one line for each signature (C2SP signed-note).
//!
//! Promises: a note that is read is printed again byte for byte; signatures of unknown keys are ignored, and
//! one wrong signature of a known key spoils the note. Refuses: anything longer than the bounds below.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::digest::Digest;
use crate::keys::{KEY_BYTES, SIGNATURE_BYTES, SigningKey, VerifyingKey};

/// Longest note. A checkpoint of ours has half a kilobyte; the rest is for signatures of other witnesses.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;
/// Most signatures of one note, so that a note costs no more than it is worth.
pub const SIGNATURES_MAX: usize = 16;
/// Longest name of a key: the longest host name and port.
pub const NAME_BYTES_MAX: usize = 260;

/// Bytes of a key's id.
const ID_BYTES: usize = 4;
/// Bytes of the time before the signature in a cosignature.
const TIME_BYTES: usize = 8;
/// Longest signature that is kept as bytes: no kind that the format knows today needs more.
const SIGNATURE_TEXT_MAX: usize = 8 * 1024;
const DASH: &str = "\u{2014} ";

/// The name of a key in a note: not empty, without white space and plus signs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(odd) {
            return Err(NoteError::Name(text.chars().take(NAME_BYTES_MAX).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key signs in a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// A time and the text, as `cosignature/v1` joins them.
    Cosignature,
    /// The text alone.
    Ed25519,
}

impl Algorithm {
    const ALL: [Self; 2] = [Self::Cosignature, Self::Ed25519];

    /// The byte that stands for it in the published key.
    const fn byte(self) -> u8 {
        match self {
            Self::Cosignature => 4,
            Self::Ed25519 => 1,
        }
    }
}

/// A public key of notes. Its text, the `vkey`, is `<name>+<8 hexadecimal digits>+<base64>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NoteKey {
    name: KeyName,
    algorithm: Algorithm,
    key: VerifyingKey,
}

impl NoteKey {
    /// Names a key and what it signs.
    #[must_use]
    pub const fn new(name: KeyName, algorithm: Algorithm, key: VerifyingKey) -> Self {
        Self {
            name,
            algorithm,
            key,
        }
    }

    /// Whose key it is.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key inside.
    #[must_use]
    pub const fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// The id: it follows from name, algorithm and key.
    fn id(&self) -> [u8; ID_BYTES] {
        let name = self.name.as_str().as_bytes();
        let algorithm = [b'\n', self.algorithm.byte()];
        let digest = Digest::of_parts(&[name, &algorithm, self.key.as_bytes()]);
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest.as_bytes()[..ID_BYTES]);
        id
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.algorithm.byte()];
        bytes.extend_from_slice(self.key.as_bytes());
        let id = u32::from_be_bytes(self.id());
        write!(f, "{}+{id:08x}+{}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for NoteKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let malformed = || NoteError::Key(text.chars().take(NAME_BYTES_MAX).collect());
        // Base64 may hold a plus sign of its own, a name never does.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let bytes = STANDARD.decode(key).map_err(|_| malformed())?;
        let (byte, bytes) = bytes.split_first().ok_or_else(malformed)?;
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.byte() == *byte);
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes).map_err(|_| malformed())?;
        let read = Self {
            name: name.parse()?,
            algorithm: algorithm.ok_or_else(malformed)?,
            key: VerifyingKey::from_bytes(bytes).map_err(|_| malformed())?,
        };
        // Also the id in the middle must be right, in lower case.
        if read.to_string() == text {
            Ok(read)
        } else {
            Err(malformed())
        }
    }
}

/// One signature: who says it is theirs, the id of the key, and the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    name: KeyName,
    id: [u8; ID_BYTES],
    bytes: Vec<u8>,
}

impl SignatureLine {
    /// Signs a text as the log does.
    pub(crate) fn sign(name: KeyName, key: &SigningKey, text: &str) -> Self {
        let published = NoteKey::new(name, Algorithm::Ed25519, *key.verifying());
        Self::of(published, key.sign(text.as_bytes()).to_vec())
    }

    /// Signs a time, in seconds since the epoch, and a text as a witness does.
    pub(crate) fn cosign(name: KeyName, key: &SigningKey, time: u64, text: &str) -> Self {
        let published = NoteKey::new(name, Algorithm::Cosignature, *key.verifying());
        let mut bytes = time.to_be_bytes().to_vec();
        bytes.extend_from_slice(&key.sign(cosigned(time, text).as_bytes()));
        Self::of(published, bytes)
    }

    fn of(key: NoteKey, bytes: Vec<u8>) -> Self {
        Self {
            id: key.id(),
            name: key.name,
            bytes,
        }
    }

    /// Whether the line says that it is of somebody with this name.
    pub(crate) fn is_named(&self, name: &KeyName) -> bool {
        self.name == *name
    }

    /// Whether the line says that it is of this key.
    pub(crate) fn is_of(&self, key: &NoteKey) -> bool {
        self.name == key.name && self.id == key.id()
    }

    /// Verifies the line over this text. A witness's signature gives the time that it states.
    pub(crate) fn verify(&self, key: &NoteKey, text: &str) -> Result<Option<u64>, NoteError> {
        let wrong = || NoteError::Signature(self.name.to_string());
        let (time, signature) = match key.algorithm {
            Algorithm::Ed25519 => (None, self.bytes.as_slice()),
            Algorithm::Cosignature => {
                let (time, rest) = self
                    .bytes
                    .split_first_chunk::<TIME_BYTES>()
                    .ok_or_else(wrong)?;
                (Some(u64::from_be_bytes(*time)), rest)
            }
        };
        let message = time.map_or_else(|| text.to_owned(), |time| cosigned(time, text));
        let right = self.is_of(key)
            && signature.len() == SIGNATURE_BYTES
            && key.key.verifies(message.as_bytes(), signature);
        if right { Ok(time) } else { Err(wrong()) }
    }
}

/// Without the line feed at its end.
impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = STANDARD.encode([&self.id, self.bytes.as_slice()].concat());
        write!(f, "{DASH}{} {bytes}", self.name)
    }
}

impl FromStr for SignatureLine {
    type Err = NoteError;

    fn from_str(line: &str) -> Result<Self, NoteError> {
        let malformed = || NoteError::Line(line.chars().take(NAME_BYTES_MAX).collect());
        let (name, text) = line
            .strip_prefix(DASH)
            .and_then(|rest| rest.split_once(' '))
            .filter(|(_, text)| text.len() <= SIGNATURE_TEXT_MAX)
            .ok_or_else(malformed)?;
        let bytes = STANDARD.decode(text).map_err(|_| malformed())?;
        let (id, bytes) = bytes.split_first_chunk().ok_or_else(malformed)?;
        Ok(Self {
            name: name.parse()?,
            id: *id,
            bytes: bytes.to_vec(),
        })
    }
}

/// Reads signature lines, each ended by a line feed.
///
/// # Errors
/// When one is none of ours in form, or there are too many.
pub fn signature_lines(text: &str) -> Result<Vec<SignatureLine>, NoteError> {
    if text.len() > NOTE_BYTES_MAX {
        return Err(NoteError::Long);
    }
    let lines = text.strip_suffix('\n').ok_or(NoteError::Form)?;
    if lines.split('\n').count() > SIGNATURES_MAX {
        return Err(NoteError::Long);
    }
    lines.split('\n').map(str::parse).collect()
}

/// A text and the signatures below it, as they stand: nothing is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// Puts signatures below a text that ends with a line feed.
    pub(crate) const fn signed(text: String, signatures: Vec<SignatureLine>) -> Self {
        Self { text, signatures }
    }

    /// The signatures as they stand.
    pub(crate) fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// The text, with the line feed at its end. It says nothing before [`Self::verify`].
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Verifies that this key signed the text. Lines of other keys say nothing for or against it.
    ///
    /// # Errors
    /// When no line is this key's, or one that is says something else.
    pub fn verify(&self, key: &NoteKey) -> Result<(), NoteError> {
        let mut own = self
            .signatures
            .iter()
            .filter(|line| line.is_of(key))
            .peekable();
        if own.peek().is_none() {
            return Err(NoteError::Unsigned(key.name.to_string()));
        }
        own.try_for_each(|line| line.verify(key, &self.text).map(|_| ()))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Long);
        }
        if note.contains(|c: char| c.is_control() && c != '\n') {
            return Err(NoteError::Form);
        }
        // The last empty line: a text may hold some of its own.
        let split = note.rfind("\n\n").ok_or(NoteError::Form)?;
        let (text, rest) = note.split_at(split + 1);
        Ok(Self {
            text: text.to_owned(),
            signatures: signature_lines(&rest[1..])?,
        })
    }
}

/// Why a note or a key of notes is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It has not the parts of a note.
    #[error("it is not a note: write a text, an empty line and signatures, each line ended")]
    Form,
    /// Not a published key.
    #[error("{0:?} is not a key of notes: write name+id+base64 as its owner published it")]
    Key(String),
    /// A line is not a signature.
    #[error("{0:?} is not a signature line: write a dash, the key's name and base64")]
    Line(String),
    /// It is longer than any of ours.
    #[error(
        "the note is too long: {NOTE_BYTES_MAX} bytes and {SIGNATURES_MAX} signatures are enough"
    )]
    Long,
    /// Not a key's name.
    #[error("{0:?} is not the name of a key: write it without spaces and plus signs")]
    Name(String),
    /// A known key signed something else.
    #[error("the signature of {0} is not over this text: somebody changed one of them")]
    Signature(String),
    /// The key that matters did not sign.
    #[error("{0} has not signed this text: sign it with the key that is known there")]
    Unsigned(String),
}

/// What a witness signs: that it saw this text at this time.
fn cosigned(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the documentation of the format's first implementation.
    const EXAMPLE_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const EXAMPLE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&[byte; KEY_BYTES]).unwrap()
    }

    fn name(text: &str) -> KeyName {
        text.parse().unwrap()
    }

    #[test]
    fn the_example_of_the_first_implementation() {
        let key: NoteKey = EXAMPLE_KEY.parse().unwrap();
        assert_eq!(key.to_string(), EXAMPLE_KEY);
        assert_eq!(key.algorithm(), Algorithm::Ed25519);
        let note: Note = EXAMPLE.parse().unwrap();
        assert_eq!(note.verify(&key), Ok(()));
        assert_eq!(note.to_string(), EXAMPLE);
        assert!(note.text().ends_with("problem is.\n"));
        let other: Note = EXAMPLE.replace("answer", "anger").parse().unwrap();
        assert!(matches!(other.verify(&key), Err(NoteError::Signature(_))));
    }

    #[test]
    fn published_keys_have_one_form() {
        for algorithm in Algorithm::ALL {
            let own = NoteKey::new(name("localhost:1234"), algorithm, *key(1).verifying());
            assert_eq!(own.to_string().parse(), Ok(own.clone()));
        }
        let upper = EXAMPLE_KEY.replace("c74f20a3", "C74F20A3");
        let wrong_id = EXAMPLE_KEY.replace("c74f20a3", "c74f20a4");
        let other_name = EXAMPLE_KEY.replace("Peter", "Piotr");
        let other_algorithm = EXAMPLE_KEY.replace("+ARpc", "+ApRc");
        let short = EXAMPLE_KEY.trim_end_matches("10TW");
        for wrong in [
            "",
            "a",
            "a+b",
            "++",
            &upper,
            &wrong_id,
            &other_name,
            &other_algorithm,
            short,
        ] {
            assert!(wrong.parse::<NoteKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_have_no_space_and_no_plus() {
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        for wrong in ["", "a b", "a+b", "a\n", "a\u{a0}b", "a\u{0}", &long] {
            assert!(wrong.parse::<KeyName>().is_err(), "{wrong:?}");
        }
        assert!("carbonmirror/acme/018f/1".parse::<KeyName>().is_ok());
    }

    #[test]
    fn unknown_signatures_do_not_matter_and_wrong_ones_do() {
        let text = "one\n\ntwo\n";
        let own = SignatureLine::sign(name("own"), &key(1), text);
        let other = SignatureLine::sign(name("other"), &key(2), "something else\n");
        let known = NoteKey::new(name("own"), Algorithm::Ed25519, *key(1).verifying());
        let note = |lines: &[&SignatureLine]| {
            let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
            format!("{text}\n{lines}").parse::<Note>().unwrap()
        };
        assert_eq!(note(&[&other, &own]).verify(&known), Ok(()));
        assert_eq!(note(&[&own, &own]).verify(&known), Ok(()));
        let unsigned = note(&[&other]).verify(&known);
        assert_eq!(unsigned, Err(NoteError::Unsigned("own".to_owned())));
        let forged = SignatureLine::sign(name("own"), &key(1), "something else\n");
        for lines in [[&own, &forged], [&forged, &own]] {
            assert!(matches!(
                note(&lines).verify(&known),
                Err(NoteError::Signature(_))
            ));
        }
        // The same key under another name is another key.
        let renamed = NoteKey::new(name("owm"), Algorithm::Ed25519, *key(1).verifying());
        assert!(note(&[&own]).verify(&renamed).is_err());
    }

    #[test]
    fn a_cosignature_is_no_plain_signature() {
        let line = SignatureLine::cosign(name("w"), &key(3), 1_700_000_000, "text\n");
        let cosigner = NoteKey::new(name("w"), Algorithm::Cosignature, *key(3).verifying());
        assert_eq!(line.verify(&cosigner, "text\n"), Ok(Some(1_700_000_000)));
        assert!(line.verify(&cosigner, "test\n").is_err());
        let plain = NoteKey::new(name("w"), Algorithm::Ed25519, *key(3).verifying());
        assert!(!line.is_of(&plain));
        assert!(line.verify(&plain, "text\n").is_err());
    }

    #[test]
    fn the_bytes_of_a_cosignature_are_the_formats() {
        let line = SignatureLine::cosign(name("w"), &key(3), 0x0102, "text\n");
        assert_eq!(line.bytes[..8], [0, 0, 0, 0, 0, 0, 1, 2]);
        let other = ed25519_dalek::VerifyingKey::from_bytes(key(3).verifying().as_bytes()).unwrap();
        let signature = ed25519_dalek::Signature::from_slice(&line.bytes[8..]).unwrap();
        let message = b"cosignature/v1\ntime 258\ntext\n";
        assert!(other.verify_strict(message, &signature).is_ok());
    }

    #[test]
    fn what_is_no_note() {
        let line = SignatureLine::sign(name("a"), &key(1), "t\n").to_string();
        let cases = [
            String::new(),
            "t\n".to_owned(),
            format!("t\n{line}\n"),
            format!("t\n\n{line}"),
            "t\n\n\n".to_owned(),
            format!("t\n\n{line}\n\n"),
            format!("t\r\n\n{line}\n"),
            format!("t\n\n-{}\n", &line["\u{2014}".len()..]),
            format!("t\n\n{} \n", line),
            "t\n\n\u{2014} a AAA=\n".to_owned(),
            format!("t\n\n{}", format!("{line}\n").repeat(SIGNATURES_MAX + 1)),
            format!("{}\n\n{line}\n", "t".repeat(NOTE_BYTES_MAX)),
        ];
        for wrong in cases {
            assert!(wrong.parse::<Note>().is_err(), "{wrong:?}");
        }
        assert!(format!("t\n\n{line}\n").parse::<Note>().is_ok());
    }
}
