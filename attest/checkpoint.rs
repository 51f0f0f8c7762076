//! Checkpoints: an agent signs the head of its ledger, the dashboard cosigns it, and that is a receipt.
//!
//! A checkpoint is a note (C2SP tlog-checkpoint) of three lines, signed by the log key under the log's origin:
//! ```text
//! carbonmirror/<company>/<agent_id>/<epoch>
//! <size>
//! <base64 of the root>
//!
//! — carbonmirror/<company>/<agent_id>/<epoch> <base64>
//! ```
//! Promises: one checkpoint has one text; a [`Receipt`] is only made by verifying a cosignature over exactly
//! that text. Refuses: extension lines, which nobody would check.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::digest::Digest;
use crate::keys::{SigningKey, VerifyingKey};
use crate::merkle::Head;
use crate::note::{Algorithm, KeyName, Note, NoteError, NoteKey, SignatureLine, signature_lines};
use crate::origin::{Origin, parse_count};

/// The head of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: Origin,
    /// How long it is, and the root over it. The size is at most [`crate::origin::INDEX_MAX`].
    pub head: Head,
}

impl Checkpoint {
    /// Writes the text that is signed.
    #[must_use]
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.head.size, self.head.root)
    }

    /// Signs it with the log key: the whole note.
    ///
    /// # Errors
    /// When the origin is longer than the name of a key may be.
    pub fn sign(&self, key: &SigningKey) -> Result<String, CheckpointError> {
        self.sign_with(&[key])
    }

    /// Signs it with several log keys, a line each: the first head after a rotation has the old key's and the
    /// new one's.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn sign_with(&self, keys: &[&SigningKey]) -> Result<String, CheckpointError> {
        let body = self.body();
        let name = key_name(&self.origin)?;
        let lines = keys
            .iter()
            .map(|key| SignatureLine::sign(name.clone(), key, &body))
            .collect();
        Ok(Note::signed(body, lines).to_string())
    }

    /// Reads a note and verifies that the log key signed it.
    ///
    /// # Errors
    /// When it is not exactly a checkpoint, or not signed by this key.
    pub fn open(note: &str, key: &VerifyingKey) -> Result<Self, CheckpointError> {
        Self::open_any(note, std::slice::from_ref(key)).map(|(checkpoint, _)| checkpoint)
    }

    /// Reads a note and says which of these log keys signed it, by their places. Every line that is of one of
    /// them holds.
    ///
    /// # Errors
    /// When it is not exactly a checkpoint, a line of a known key is wrong, or none of the keys signed.
    pub fn open_any(
        note: &str,
        keys: &[VerifyingKey],
    ) -> Result<(Self, Vec<usize>), CheckpointError> {
        let note: Note = note.parse()?;
        let checkpoint = Self::parse_body(note.text()).ok_or(CheckpointError::Body)?;
        let name = key_name(&checkpoint.origin)?;
        let mut signers = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            match note.verify(&NoteKey::new(name.clone(), Algorithm::Ed25519, *key)) {
                Ok(()) => signers.push(place),
                Err(NoteError::Unsigned(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if signers.is_empty() {
            return Err(NoteError::Unsigned(name.to_string()).into());
        }
        Ok((checkpoint, signers))
    }

    /// Reads the three lines; only the form that [`Self::body`] writes.
    fn parse_body(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let checkpoint = Self {
            origin: lines.next()?.parse().ok()?,
            head: Head {
                size: parse_count(lines.next()?)?,
                root: lines.next()?.parse::<Digest>().ok()?,
            },
        };
        (checkpoint.body() == text).then_some(checkpoint)
    }
}

/// Who cosigns checkpoints: a private key and the name that it goes by.
#[derive(Debug)]
pub struct Cosigner {
    name: KeyName,
    key: SigningKey,
}

impl Cosigner {
    /// Names the key.
    #[must_use]
    pub const fn new(name: KeyName, key: SigningKey) -> Self {
        Self { name, key }
    }

    /// What verifies its cosignatures.
    #[must_use]
    pub fn published(&self) -> CosignerKey {
        let key = *self.key.verifying();
        CosignerKey(NoteKey::new(self.name.clone(), Algorithm::Cosignature, key))
    }

    /// The public half, without a name.
    #[must_use]
    pub const fn verifying(&self) -> &VerifyingKey {
        self.key.verifying()
    }

    /// The key as notes know it.
    pub(crate) fn note_key(&self) -> NoteKey {
        self.published().0
    }

    /// Signs a text that is no checkpoint.
    pub(crate) fn sign_text(&self, text: &str, time: Timestamp) -> SignatureLine {
        // A time before 1970 becomes zero, which nothing that is read may state.
        let time = u64::try_from(time.as_second()).unwrap_or(0);
        SignatureLine::cosign(self.name.clone(), &self.key, time, text)
    }

    /// States that this checkpoint, consistent with all before it, was seen at this time: a signature line with
    /// its line feed. Parts of a second are left out.
    #[must_use]
    pub fn cosign(&self, checkpoint: &Checkpoint, time: Timestamp) -> String {
        let line = self.sign_text(&checkpoint.body(), time);
        format!("{line}\n")
    }
}

/// The public key of a cosigner. Its text is the `vkey` that it publishes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CosignerKey(NoteKey);

impl CosignerKey {
    /// Whose key it is.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        self.0.name()
    }

    /// The key as notes know it.
    #[must_use]
    pub const fn note_key(&self) -> &NoteKey {
        &self.0
    }

    /// A key for notes, where it is a cosigner's.
    #[must_use]
    pub fn of(key: NoteKey) -> Option<Self> {
        (key.algorithm() == Algorithm::Cosignature).then_some(Self(key))
    }

    /// Whether there are signatures of the same name by other keys than this and `known` among these lines.
    #[must_use]
    pub fn has_namesakes(&self, lines: &str, known: &[NoteKey]) -> bool {
        let lines = signature_lines(lines).unwrap_or_default();
        let mut namesakes = lines.iter().filter(|line| line.is_named(self.name()));
        namesakes.any(|line| !line.is_of(&self.0) && !known.iter().any(|key| line.is_of(key)))
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CosignerKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        Self::of(text.parse()?).ok_or_else(|| NoteError::Key(text.to_owned()))
    }
}

/// The proof that a cosigner saw a checkpoint. Only [`verify_cosignature`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    checkpoint: Checkpoint,
    time: Timestamp,
    line: String,
}

impl Receipt {
    /// What was seen.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// When, by the cosigner's clock.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// The cosignature as it is kept: one line with its line feed.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// Verifies a cosigner's signature over this checkpoint, among the lines of an answer.
///
/// # Errors
/// When the text is not signature lines, none is of this cosigner, one of its lines is wrong, or none states a
/// time.
pub fn verify_cosignature(
    lines: &str,
    checkpoint: &Checkpoint,
    cosigner: &CosignerKey,
) -> Result<Receipt, CheckpointError> {
    let body = checkpoint.body();
    let mut newest: Option<Receipt> = None;
    for line in signature_lines(lines)? {
        if !line.is_of(&cosigner.0) {
            continue;
        }
        let seconds = line.verify(&cosigner.0, &body)?.filter(|time| *time > 0);
        let time = seconds
            .and_then(|seconds| i64::try_from(seconds).ok())
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .ok_or(CheckpointError::Time)?;
        if newest.as_ref().is_none_or(|receipt| receipt.time < time) {
            newest = Some(Receipt {
                checkpoint: checkpoint.clone(),
                time,
                line: format!("{line}\n"),
            });
        }
    }
    newest.ok_or_else(|| NoteError::Unsigned(cosigner.name().to_string()).into())
}

/// Why a checkpoint or a cosignature is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The text is not a checkpoint of ours.
    #[error("the text is not a checkpoint: write origin, size and root, one line each and no more")]
    Body,
    /// The note is malformed, or not signed as it must be.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The cosignature states no time that there is.
    #[error("the cosignature states no time: the dashboard's clock is not set")]
    Time,
}

impl CheckpointError {
    /// Whether the text has the right form and only the signature is not the known key's.
    #[must_use]
    pub const fn is_about_the_signature(&self) -> bool {
        matches!(
            self,
            Self::Note(NoteError::Signature(_) | NoteError::Unsigned(_))
        )
    }
}

/// A log's key goes by the log's own name.
fn key_name(origin: &Origin) -> Result<KeyName, NoteError> {
    origin.to_string().parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "018f4d2a-7b1c-7def-8123-456789abcdef";

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&[byte; 32]).unwrap()
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint {
            origin: format!("carbonmirror/acme-corp/{AGENT}/3").parse().unwrap(),
            head: Head {
                size,
                root: Digest::of(&size.to_be_bytes()),
            },
        }
    }

    fn cosigner(byte: u8) -> Cosigner {
        Cosigner::new("localhost:1234".parse().unwrap(), key(byte))
    }

    fn time() -> Timestamp {
        "2026-01-16T15:45:01.7Z".parse().unwrap()
    }

    #[test]
    fn a_checkpoint_reads_back_under_its_key_only() {
        let note = checkpoint(7).sign(&key(1)).unwrap();
        let body = format!(
            "carbonmirror/acme-corp/{AGENT}/3\n7\n{}\n\n\u{2014} carbonmirror/acme-corp/{AGENT}/3 ",
            checkpoint(7).head.root
        );
        assert!(note.starts_with(&body), "{note}");
        assert_eq!(
            Checkpoint::open(&note, key(1).verifying()),
            Ok(checkpoint(7))
        );
        let refused = Checkpoint::open(&note, key(2).verifying()).unwrap_err();
        assert!(refused.is_about_the_signature(), "{refused}");
    }

    #[test]
    fn a_head_of_two_keys_opens_with_either_and_both_must_hold() {
        let [old, new, other] = [1, 2, 3].map(|byte| *key(byte).verifying());
        let both = checkpoint(7).sign_with(&[&key(1), &key(2)]).unwrap();
        for (keys, signers) in [
            (vec![old], vec![0]),
            (vec![new], vec![0]),
            (vec![new, old], vec![0, 1]),
            (vec![other, old], vec![1]),
        ] {
            let opened = Checkpoint::open_any(&both, &keys);
            assert_eq!(opened, Ok((checkpoint(7), signers)));
        }
        assert!(Checkpoint::open_any(&both, &[other]).is_err());
        assert!(Checkpoint::open_any(&both, &[]).is_err());
        let spoilt = checkpoint(8).sign_with(&[&key(2)]).unwrap();
        let wrong = spoilt.lines().last().unwrap();
        let lines: Vec<&str> = both.lines().collect();
        let spoilt = [&lines[..5], &[wrong]].concat().join("\n") + "\n";
        assert!(Checkpoint::open_any(&spoilt, &[old]).is_ok());
        assert!(Checkpoint::open_any(&spoilt, &[old, new]).is_err());
    }

    #[test]
    fn signing_twice_gives_the_same_note() {
        assert_eq!(checkpoint(7).sign(&key(1)), checkpoint(7).sign(&key(1)));
    }

    #[test]
    fn other_forms_are_refused_even_when_signed() {
        let root = checkpoint(7).head.root;
        let origin = checkpoint(7).origin;
        for body in [
            format!("{origin}\n07\n{root}\n"),
            format!("{origin}\n7\n{root}\nextension\n"),
            format!("{origin}\n7\n{root}\n\n"),
            format!("{origin}\n7\n{root} \n"),
            format!("{origin}\n7\nAAAA\n"),
            format!("{origin}\n1000000000000000\n{root}\n"),
            format!("{origin}\n-7\n{root}\n"),
            format!("x{origin}\n7\n{root}\n"),
            format!("{origin}\n7\n"),
        ] {
            let line = SignatureLine::sign(key_name(&origin).unwrap(), &key(1), &body);
            let note = Note::signed(body.clone(), vec![line]).to_string();
            assert!(
                Checkpoint::open(&note, key(1).verifying()).is_err(),
                "{body}"
            );
        }
    }

    #[test]
    fn no_mutated_note_is_opened() {
        let note = checkpoint(7).sign(&key(1)).unwrap();
        for at in 0..note.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128] {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= flip;
                if let Ok(text) = String::from_utf8(bytes) {
                    assert!(
                        Checkpoint::open(&text, key(1).verifying()).is_err(),
                        "{text}"
                    );
                }
            }
            assert!(Checkpoint::open(&note[..at.min(40)], key(1).verifying()).is_err());
        }
    }

    #[test]
    fn a_cosignature_is_a_receipt_of_its_checkpoint_only() {
        let line = cosigner(9).cosign(&checkpoint(7), time());
        assert!(line.starts_with("\u{2014} localhost:1234 ") && line.ends_with('\n'));
        let published = cosigner(9).published();
        let receipt = verify_cosignature(&line, &checkpoint(7), &published).unwrap();
        assert_eq!(receipt.checkpoint(), &checkpoint(7));
        assert_eq!(receipt.time().to_string(), "2026-01-16T15:45:01Z");
        assert_eq!(receipt.line(), line);
        assert!(verify_cosignature(&line, &checkpoint(8), &published).is_err());
        let other = cosigner(8).published();
        assert!(verify_cosignature(&line, &checkpoint(7), &other).is_err());
        assert!(verify_cosignature("", &checkpoint(7), &published).is_err());
        assert!(verify_cosignature(&line.repeat(99), &checkpoint(7), &published).is_err());
    }

    #[test]
    fn lines_of_others_do_not_matter_and_the_newest_counts() {
        let published = cosigner(9).published();
        let later = time() + jiff::SignedDuration::from_secs(60);
        let lines = [
            cosigner(8).cosign(&checkpoint(1), time()),
            cosigner(9).cosign(&checkpoint(7), time()),
            cosigner(9).cosign(&checkpoint(7), later),
        ];
        let receipt = verify_cosignature(&lines.concat(), &checkpoint(7), &published).unwrap();
        assert_eq!(receipt.line(), lines[2]);
        let spoilt = [&lines[1], &cosigner(9).cosign(&checkpoint(8), time())];
        let spoilt = spoilt.map(String::as_str).concat();
        assert!(verify_cosignature(&spoilt, &checkpoint(7), &published).is_err());
    }

    #[test]
    fn a_receipt_without_a_time_is_none() {
        for time in [Timestamp::UNIX_EPOCH, Timestamp::MIN] {
            let line = cosigner(9).cosign(&checkpoint(7), time);
            let refused = verify_cosignature(&line, &checkpoint(7), &cosigner(9).published());
            assert_eq!(refused, Err(CheckpointError::Time));
        }
    }

    #[test]
    fn a_cosigners_key_reads_back_and_a_logs_key_is_none() {
        let published = cosigner(9).published();
        assert_eq!(published.to_string().parse(), Ok(published.clone()));
        let log = NoteKey::new(
            published.name().clone(),
            Algorithm::Ed25519,
            *key(9).verifying(),
        );
        assert!(log.to_string().parse::<CosignerKey>().is_err());
    }
}
