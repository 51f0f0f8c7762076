//! The evidence bundle: what a third party needs to check a period of an agent's ledger without a network.
//!
//! A text of JSON lines in one order and one form:
//! ```text
//! {"header":{"format":"cms-evidence/1","from":…,"to":…}}
//! {"keys":{"request":{…},"log":{…},"cosigner":…,"successions":[…]}}   the last only after a rotation
//! {"leaf":{"epoch":…,"index":0,"record":…}}       every leaf of an epoch from index 0, epochs ascending
//! {"body":{"epoch":…,"index":0,"bytes":…}}        after the leaf of a submission of the period
//! {"receipt":{"epoch":…,"size":1,"note":…,"cosignature":…}}   after the last leaf that it covers
//! {"receipt":{…,"witness":…}}                      those of witnesses after the dashboard's, by their keys
//! {"end":{"leaves":…,"bodies":…,"receipts":…,"digest":…}}
//! ```
//! Promises: the same content has one text, so that what reads but is written otherwise is no bundle. Refuses:
//! judging what it says; that is [`crate::verify`]'s. The digest at the end shows a damaged file; against a
//! forger only signatures help.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::{DIGEST_BYTES, Digest};
use crate::keys::Jwk;

/// What the header calls the form.
pub const FORMAT: &str = "cms-evidence/1";
/// Longest body of a submission: no dashboard of ours takes more.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest line with its line feed: the longest body in base64, and room for the names around it.
pub const LINE_BYTES_MAX: usize = BODY_BYTES_MAX / 3 * 4 + 4 * 1024;
/// Most leaves of a bundle: those of an agent with all five categories in thirty years.
pub const LEAVES_MAX: u64 = 10_000_000;

/// The time that a bundle is about. A leaf belongs to it when the time that it speaks for ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Period {
    /// Not inside any more.
    pub from: Timestamp,
    /// The last instant inside.
    pub to: Timestamp,
}

impl Period {
    /// Whether what ends at this time belongs to the period, so that no two in a row share anything.
    #[must_use]
    pub fn holds(&self, end: Timestamp) -> bool {
        self.from < end && end <= self.to
    }
}

/// One line of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The bytes of a submission.
    Body(BodyLine),
    /// The last line.
    End(EndLine),
    /// The first line.
    Header(HeaderLine),
    /// The second line.
    Keys(KeysLine),
    /// A record of the ledger.
    Leaf(LeafLine),
    /// A countersigned head.
    Receipt(ReceiptLine),
}

/// What the bundle is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderLine {
    /// [`FORMAT`].
    pub format: String,
    /// Start of the period.
    pub from: Timestamp,
    /// End of the period.
    pub to: Timestamp,
}

/// The public keys, as the agent knows them. They prove nothing to who does not know them from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysLine {
    /// Signs requests.
    pub request: Jwk,
    /// Signs heads of the ledger.
    pub log: Jwk,
    /// The dashboard's for receipts, as it publishes it; nothing where it gives no receipts.
    pub cosigner: Option<String>,
    /// How keys of the ledger and of the dashboard took the place of others, as notes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub successions: Vec<String>,
}

/// A record of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafLine {
    /// The epoch of the log.
    pub epoch: u64,
    /// The leaf's place in the log.
    pub index: u64,
    /// The leaf's text.
    pub record: String,
}

/// The bytes of a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyLine {
    /// The epoch of the log.
    pub epoch: u64,
    /// The place of its leaf.
    pub index: u64,
    /// The bytes that were signed and sent.
    pub bytes: Bytes,
}

/// A head of the ledger that the dashboard has countersigned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptLine {
    /// The epoch of the log.
    pub epoch: u64,
    /// How many leaves it covers.
    pub size: u64,
    /// The checkpoint, signed by the log key.
    pub note: String,
    /// The signature line of the dashboard, or of the witness.
    pub cosignature: String,
    /// Whose it is, as it publishes its key, where it is not the dashboard's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<String>,
}

/// What must have come before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndLine {
    /// Lines of leaves.
    pub leaves: u64,
    /// Lines of bodies.
    pub bodies: u64,
    /// Lines of receipts.
    pub receipts: u64,
    /// SHA-256 of all bytes above, in base64.
    pub digest: String,
}

impl EndLine {
    /// How what was counted differs from what the last line says, in words.
    pub(crate) fn difference(&self, said: &Self) -> String {
        let counts = |end: &Self| (end.leaves, end.bodies, end.receipts);
        if counts(self) == counts(said) {
            return "the file has other bytes than were written".to_owned();
        }
        let words = |end: &Self| {
            let (leaves, bodies, receipts) = counts(end);
            format!("{leaves} leaves, {bodies} bodies and {receipts} receipts")
        };
        format!(
            "it was written with {}, and has {}",
            words(said),
            words(self)
        )
    }
}

/// Bytes that a line carries in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Line {
    /// Reads a line without its line feed; only the form that [`Seal::line`] writes.
    ///
    /// # Errors
    /// When it is not such a line.
    pub fn parse(text: &[u8]) -> Result<Self, BundleError> {
        let line: Self = serde_json::from_slice(text).map_err(BundleError::ReadLine)?;
        let written = serde_json::to_vec(&line).map_err(BundleError::ReadLine)?;
        if written == text {
            Ok(line)
        } else {
            Err(BundleError::ReadForm)
        }
    }
}

/// Counts and digests the lines of a bundle in the making or in the reading.
#[derive(Clone)]
pub struct Seal {
    context: Context,
    leaves: u64,
    bodies: u64,
    receipts: u64,
}

impl Default for Seal {
    fn default() -> Self {
        Self {
            context: Context::new(&SHA256),
            leaves: 0,
            bodies: 0,
            receipts: 0,
        }
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({:?})", self.end())
    }
}

impl Seal {
    /// Writes a line with its line feed, and counts it.
    ///
    /// # Errors
    /// When it is longer than a line may be.
    pub fn line(&mut self, line: &Line) -> Result<Vec<u8>, BundleError> {
        let mut text = serde_json::to_vec(line).map_err(BundleError::WriteLine)?;
        text.push(b'\n');
        if text.len() > LINE_BYTES_MAX {
            return Err(BundleError::WriteLong);
        }
        self.add(line, &text);
        Ok(text)
    }

    /// Counts a line that was read; `text` has its line feed.
    pub fn add(&mut self, line: &Line, text: &[u8]) {
        self.context.update(text);
        match line {
            Line::Body(_) => self.bodies += 1,
            Line::Leaf(_) => self.leaves += 1,
            Line::Receipt(_) => self.receipts += 1,
            Line::End(_) | Line::Header(_) | Line::Keys(_) => {}
        }
    }

    /// What the last line must say, where this is it.
    pub(crate) fn end_if(&self, line: &Line) -> Option<EndLine> {
        matches!(line, Line::End(_)).then(|| self.end())
    }

    /// What the last line must say.
    #[must_use]
    pub fn end(&self) -> EndLine {
        let mut bytes = [0; DIGEST_BYTES];
        bytes.copy_from_slice(self.context.clone().finish().as_ref());
        EndLine {
            leaves: self.leaves,
            bodies: self.bodies,
            receipts: self.receipts,
            digest: Digest::from_bytes(bytes).to_string(),
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// A line cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It reads, but is not the text that its fields write.
    #[error("the line is not in its one written form: take the file again as export wrote it")]
    ReadForm,
    /// It does not read.
    #[error("the line is none of a bundle: take the file again as export wrote it")]
    ReadLine(#[source] serde_json::Error),
    /// It does not write.
    #[error("the line cannot be written as JSON")]
    WriteLine(#[source] serde_json::Error),
    /// Too long to be read again.
    #[error("the line would be longer than {LINE_BYTES_MAX} bytes: export a period without it")]
    WriteLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = r#"{"end":{"leaves":0,"bodies":0,"receipts":0,"digest":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}}"#;

    #[test]
    fn a_line_has_one_form() {
        let line = Line::parse(END.as_bytes()).unwrap();
        assert_eq!(line, Line::End(Seal::default().end()));
        assert_eq!(
            Seal::default().line(&line).unwrap(),
            format!("{END}\n").as_bytes()
        );
        for (from, to) in [
            ("{\"end", " {\"end"),
            (":0,", ": 0,"),
            ("\"leaves\":0,\"bodies\":0", "\"bodies\":0,\"leaves\":0"),
            ("end", "\\u0065nd"),
            ("\"leaves\":0", "\"leaves\":0,\"more\":0"),
            ("\"leaves\":0", "\"leaves\":-0"),
        ] {
            let wrong = END.replacen(from, to, 1);
            assert!(Line::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_period_begins_after_the_one_before() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let period = |from, to| Period {
            from: at(from),
            to: at(to),
        };
        let (first, second) = (period(0, 10), period(10, 20));
        assert!(first.holds(at(10)) && !second.holds(at(10)));
        assert!(second.holds(at(11)) && !first.holds(at(0)));
    }
}
