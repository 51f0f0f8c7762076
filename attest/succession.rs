//! Successions: a key names the key that takes its place, and that one agrees.
//!
//! A note (C2SP signed-note) of three lines, signed by both keys, the one that goes first:
//! ```text
//! cms-key-succession/1
//! <key that goes, as it is published>
//! <key that comes, as it is published>
//!
//! — <name> <base64>
//! — <name> <base64>
//! ```
//! The keys of logs and of cosigners are replaced so; a log's goes by its agent's id here. Promises: a
//! [`Succession`] is only made by signing or by verifying both signatures; one succession has one text. A line
//! of keys is followed from a trusted key back to those that it has replaced and on to those that replaced it,
//! and never from one of the former to another heir: whoever steals an old key becomes nobody's successor.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Cosigner;
use crate::keys::{KeyId, SigningKey, VerifyingKey};
use crate::note::{Algorithm, KeyName, Note, NoteError, NoteKey, SignatureLine};
use crate::origin::AgentId;

/// Most successions of one line of keys that are looked at: one a month for five years.
pub const SUCCESSIONS_MAX: usize = 64;

const FORMAT: &str = "cms-key-succession/1";
const DASHBOARD: &str = "dashboard";
const LOG: &str = "log";
const REQUEST: &str = "request";

/// Two keys of one name, of which the second has taken the first's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    from: NoteKey,
    to: NoteKey,
    note: String,
}

impl Succession {
    /// Replaces the key of an agent's logs.
    ///
    /// # Errors
    /// Never for an id that is one.
    pub fn of_logs(
        agent: &AgentId,
        from: &SigningKey,
        to: &SigningKey,
    ) -> Result<Self, SuccessionError> {
        let [goes, comes] = [from, to].map(|key| log_key(agent, *key.verifying()));
        let (goes, comes) = (goes?, comes?);
        let text = text(&goes, &comes);
        let lines = [from, to]
            .map(|key| SignatureLine::sign(goes.name().clone(), key, &text))
            .to_vec();
        Self::read(Note::signed(text, lines))
    }

    /// Replaces a cosigner's key. Both sign with the time, as they sign heads, and nothing that is a head.
    ///
    /// # Errors
    /// When both are one key, have different names, or the time is before 1970.
    pub fn of_cosigners(
        from: &Cosigner,
        to: &Cosigner,
        time: Timestamp,
    ) -> Result<Self, SuccessionError> {
        let text = text(&from.note_key(), &to.note_key());
        let lines = [from, to].map(|key| key.sign_text(&text, time)).to_vec();
        Self::read(Note::signed(text, lines))
    }

    /// The key that goes.
    #[must_use]
    pub const fn from(&self) -> &NoteKey {
        &self.from
    }

    /// The key that comes.
    #[must_use]
    pub const fn to(&self) -> &NoteKey {
        &self.to
    }

    fn read(note: Note) -> Result<Self, SuccessionError> {
        let keys = read_text(note.text());
        let (from, to) = keys.ok_or(SuccessionError::Text)?;
        let fits = from.name() == to.name()
            && from.algorithm() == to.algorithm()
            && from.key() != to.key();
        if !fits {
            return Err(SuccessionError::Strangers);
        }
        let [first, second] = note.signatures() else {
            return Err(SuccessionError::Signatures);
        };
        for (line, key) in [(first, &from), (second, &to)] {
            if line.verify(key, note.text())? == Some(0) {
                return Err(SuccessionError::Signatures);
            }
        }
        let note = note.to_string();
        Ok(Self { from, to, note })
    }
}

impl FromStr for Succession {
    type Err = SuccessionError;

    fn from_str(text: &str) -> Result<Self, SuccessionError> {
        let read = Self::read(text.parse()?)?;
        // Base64 has one form each, so only what reads otherwise is printed otherwise.
        if read.note == text {
            Ok(read)
        } else {
            Err(SuccessionError::Text)
        }
    }
}

/// The whole note.
impl fmt::Display for Succession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.note)
    }
}

/// What a `key-rotate` leaf says: which key is in use from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced {
    /// The dashboard's for receipts; its own line of successions says how it came.
    Dashboard(KeyId),
    /// The agent's for its logs, under the agent's id.
    Log(NoteKey),
    /// The agent's for requests.
    Request(KeyId),
}

/// The note of the leaf.
impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dashboard(key) => write!(f, "{DASHBOARD} {key}"),
            Self::Log(key) => write!(f, "{LOG} {key}"),
            Self::Request(key) => write!(f, "{REQUEST} {key}"),
        }
    }
}

impl FromStr for Announced {
    type Err = SuccessionError;

    fn from_str(text: &str) -> Result<Self, SuccessionError> {
        let malformed = |_| SuccessionError::Announcement;
        match text.split_once(' ') {
            Some((DASHBOARD, key)) => key.parse().map(Self::Dashboard).map_err(malformed),
            Some((LOG, key)) => Ok(Self::Log(key.parse()?)),
            Some((REQUEST, key)) => key.parse().map(Self::Request).map_err(malformed),
            _ => Err(SuccessionError::Announcement),
        }
    }
}

/// What a dashboard answers who asks how its keys for receipts followed on each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successions {
    /// The notes, the oldest first.
    pub successions: Vec<String>,
}

/// The key of an agent's logs under its own name, which is the same for all of them.
///
/// # Errors
/// Never for an id that is one.
pub fn log_key(agent: &AgentId, key: VerifyingKey) -> Result<NoteKey, NoteError> {
    let name: KeyName = agent.as_str().parse()?;
    Ok(NoteKey::new(name, Algorithm::Ed25519, key))
}

/// The line of keys that a trusted one belongs to: those that it follows on, itself, and those that follow on it.
///
/// # Errors
/// When a key has two heirs, or two forebears: somebody else has it.
pub fn line_of(
    trusted: &NoteKey,
    successions: &[Succession],
) -> Result<Vec<NoteKey>, SuccessionError> {
    let walk = |next: &dyn Fn(&NoteKey) -> Result<Option<NoteKey>, SuccessionError>| {
        let mut line: Vec<NoteKey> = Vec::new();
        let mut at = trusted.clone();
        while let Some(key) = next(&at)? {
            if key == *trusted || line.contains(&key) || line.len() == SUCCESSIONS_MAX {
                return Err(SuccessionError::Circle);
            }
            line.push(key.clone());
            at = key;
        }
        Ok(line)
    };
    let before = walk(&|key| one(successions, key, Succession::to, Succession::from))?;
    let after = walk(&|key| one(successions, key, Succession::from, Succession::to))?;
    let mut line: Vec<NoteKey> = before.into_iter().rev().collect();
    line.push(trusted.clone());
    line.extend(after);
    Ok(line)
}

/// The line that a log key belongs to; empty where no succession names it.
///
/// # Errors
/// As [`line_of`].
pub fn line_of_log(
    key: &VerifyingKey,
    successions: &[Succession],
) -> Result<Vec<NoteKey>, SuccessionError> {
    let ends = successions.iter().flat_map(|s| [s.to(), s.from()]);
    let mut own = ends.filter(|end| end.algorithm() == Algorithm::Ed25519);
    match own.find(|end| end.key() == key) {
        Some(named) => line_of(named, successions),
        None => Ok(Vec::new()),
    }
}

/// The one key at the other end of the successions that have this key at one end.
fn one(
    successions: &[Succession],
    key: &NoteKey,
    near: fn(&Succession) -> &NoteKey,
    far: fn(&Succession) -> &NoteKey,
) -> Result<Option<NoteKey>, SuccessionError> {
    let mut found: Option<&NoteKey> = None;
    for succession in successions.iter().filter(|s| near(s) == key) {
        let other = far(succession);
        if found.is_some_and(|known| known != other) {
            return Err(SuccessionError::Fork(key.to_string()));
        }
        found = Some(other);
    }
    Ok(found.cloned())
}

/// Why a succession, or a line of them, is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// Not the note of a leaf about keys.
    #[error("the note announces no key: write {DASHBOARD}, {LOG} or {REQUEST}, and the key")]
    Announcement,
    /// A key comes after itself, or the line is too long.
    #[error("the successions of keys have no end: {SUCCESSIONS_MAX} are enough")]
    Circle,
    /// Two keys claim one place.
    #[error("two keys claim the place beside {0}: somebody else holds a key; ask its owner")]
    Fork(String),
    /// Not a note, or one that does not hold.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Other signatures than those of the two keys.
    #[error("a succession is signed by the key that goes, then by the one that comes, at a time")]
    Signatures,
    /// The keys cannot follow on each other.
    #[error("the keys of a succession have one name and kind, and are two")]
    Strangers,
    /// Not the three lines.
    #[error("the text is not a succession: write {FORMAT} and two published keys, a line each")]
    Text,
}

fn text(from: &NoteKey, to: &NoteKey) -> String {
    format!("{FORMAT}\n{from}\n{to}\n")
}

fn read_text(body: &str) -> Option<(NoteKey, NoteKey)> {
    let rest = body.strip_prefix(FORMAT)?.strip_prefix('\n')?;
    let (from, to) = rest.strip_suffix('\n')?.split_once('\n')?;
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (text(&from, &to) == body).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::Checkpoint;

    const AGENT: &str = "018f4d2a-7b1c-7def-8123-456789abcdef";

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&[byte; 32]).unwrap()
    }

    fn cosigner(name: &str, byte: u8) -> Cosigner {
        Cosigner::new(name.parse().unwrap(), key(byte))
    }

    fn time() -> Timestamp {
        "2026-01-16T15:45:01Z".parse().unwrap()
    }

    fn log(from: u8, to: u8) -> Succession {
        Succession::of_logs(&AGENT.parse().unwrap(), &key(from), &key(to)).unwrap()
    }

    fn dash(from: u8, to: u8) -> Succession {
        let [from, to] = [from, to].map(|byte| cosigner("dash", byte));
        Succession::of_cosigners(&from, &to, time()).unwrap()
    }

    #[test]
    fn successions_read_back() {
        for succession in [log(1, 2), dash(1, 2)] {
            let text = succession.to_string();
            assert_eq!(text.parse(), Ok(succession.clone()));
            assert!(text.starts_with("cms-key-succession/1\n"), "{text}");
            assert_eq!(text.lines().count(), 6);
        }
        assert_eq!(log(1, 2), log(1, 2));
        assert_eq!(
            dash(1, 2).from().to_string().parse(),
            Ok(cosigner("dash", 1).published())
        );
    }

    #[test]
    fn no_mutated_succession_is_taken() {
        for text in [log(1, 2), dash(1, 2)].map(|s| s.to_string()) {
            for at in 0..text.len() {
                for flip in [1, 2, 4, 8, 16, 32, 64, 128] {
                    let mut bytes = text.clone().into_bytes();
                    bytes[at] ^= flip;
                    if let Ok(changed) = String::from_utf8(bytes) {
                        assert!(changed.parse::<Succession>().is_err(), "{changed}");
                    }
                }
            }
        }
    }

    #[test]
    fn both_keys_sign_in_order_and_nobody_else() {
        let text = log(1, 2).to_string();
        let lines: Vec<&str> = text.lines().collect();
        let [format, from, to, empty, first, second] = lines[..] else {
            panic!("{text}")
        };
        for wrong in [
            vec![format, from, to, empty, second, first],
            vec![format, from, to, empty, first],
            vec![format, from, to, empty, second],
            vec![format, from, to, empty, first, first],
            vec![format, from, to, empty, first, second, second],
            vec![format, to, from, empty, first, second],
            vec![format, from, from, empty, first, first],
        ] {
            let wrong = wrong.join("\n") + "\n";
            assert!(wrong.parse::<Succession>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_of_other_names_times_and_themselves_do_not_follow() {
        let (a, b) = (cosigner("dash", 1), cosigner("other", 2));
        assert_eq!(
            Succession::of_cosigners(&a, &b, time()),
            Err(SuccessionError::Strangers)
        );
        assert_eq!(
            Succession::of_cosigners(&a, &a, time()),
            Err(SuccessionError::Strangers)
        );
        let b = cosigner("dash", 2);
        assert_eq!(
            Succession::of_cosigners(&a, &b, Timestamp::UNIX_EPOCH),
            Err(SuccessionError::Signatures)
        );
    }

    #[test]
    fn a_succession_is_no_head_nor_the_other_way_round() {
        let text = log(1, 2).to_string();
        assert!(Checkpoint::open(&text, key(1).verifying()).is_err());
        let head = Checkpoint {
            origin: format!("carbonmirror/acme-corp/{AGENT}/3").parse().unwrap(),
            head: crate::merkle::Head::empty(),
        };
        let note = head.sign(&key(1)).unwrap();
        assert!(note.parse::<Succession>().is_err());
    }

    #[test]
    fn announcements_read_back_and_fit_into_a_leaf() {
        let agent: AgentId = AGENT.parse().unwrap();
        let id = key(1).verifying().key_id();
        for announced in [
            Announced::Dashboard(id.clone()),
            Announced::Request(id),
            Announced::Log(log_key(&agent, *key(1).verifying()).unwrap()),
        ] {
            let text = announced.to_string();
            assert_eq!(text.parse(), Ok(announced));
            assert!(text.parse::<crate::leaf::Note>().is_ok());
        }
        for wrong in ["", "log", "log x", "request x", "other x", "stepped"] {
            assert!(wrong.parse::<Announced>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_goes_both_ways_from_what_is_trusted() {
        let all = [dash(1, 2), dash(2, 3), dash(3, 4)];
        let names = |trusted: u8, successions: &[Succession]| {
            let trusted = cosigner("dash", trusted).note_key();
            line_of(&trusted, successions).map(|line| {
                let known =
                    |key: &NoteKey| (1..9).find(|byte| cosigner("dash", *byte).note_key() == *key);
                line.iter().filter_map(known).collect::<Vec<_>>()
            })
        };
        for trusted in 1..=4 {
            assert_eq!(names(trusted, &all), Ok(vec![1, 2, 3, 4]));
        }
        assert_eq!(names(5, &all), Ok(vec![5]));
        // Who steals a replaced key cannot make himself its heir before those who trust the true one.
        let stolen = [dash(1, 2), dash(1, 7), dash(2, 3)];
        assert_eq!(names(3, &stolen), Ok(vec![1, 2, 3]));
        assert_eq!(names(2, &stolen), Ok(vec![1, 2, 3]));
        assert!(matches!(names(1, &stolen), Err(SuccessionError::Fork(_))));
        let circle = [dash(1, 2), dash(2, 1)];
        assert_eq!(names(1, &circle), Err(SuccessionError::Circle));
        assert_eq!(names(1, &[dash(1, 2), dash(1, 2)]), Ok(vec![1, 2]));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_printed_again(text in "(cms-key-succession/1\n)?(.|\n){0,200}") {
            if let Ok(succession) = text.parse::<Succession>() {
                prop_assert_eq!(succession.to_string(), text);
            }
        }
    }
}
