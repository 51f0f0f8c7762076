//! What is kept of an identity: its id and the seeds of its keys, one text that is sealed as a whole.
//!
//! One text and not a file for each key: keys that change together are never there by halves.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cms_attest::origin::AgentId;
use zeroize::Zeroizing;

/// The first line of the text.
const FORM: &str = "cms-identity/1";

/// The name of the seed of the request key.
const REQUEST: &str = "request";

/// The name of the seed of the log key.
const LOG: &str = "log";

/// More than a line has.
const LINE_BYTES: usize = 160;

/// A seed of an Ed25519 key.
pub(super) type Seed = Zeroizing<[u8; 32]>;

/// An identity as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Whose keys these are.
    pub(super) agent_id: AgentId,
    /// Counts the changes; of two that differ the greater one is newer.
    pub(super) revision: u64,
    /// Makes the key that signs requests.
    pub(super) request: Seed,
    /// Makes the key that signs heads of the ledger.
    pub(super) log: Seed,
    /// Make further keys, by name.
    pub(super) further: BTreeMap<String, Seed>,
    /// What is known of keys and machine, by name. No secrets.
    pub(super) facts: BTreeMap<String, String>,
}

impl Kept {
    /// The first revision of an identity.
    pub(super) fn first(agent_id: AgentId, request: Seed, log: Seed) -> Self {
        Self {
            agent_id,
            revision: 1,
            request,
            log,
            further: BTreeMap::new(),
            facts: BTreeMap::new(),
        }
    }

    /// All seeds with the names of their keys.
    pub(super) fn seeds(&self) -> impl Iterator<Item = (&str, &Seed)> {
        let further = self
            .further
            .iter()
            .map(|(name, seed)| (name.as_str(), seed));
        [(REQUEST, &self.request), (LOG, &self.log)]
            .into_iter()
            .chain(further)
    }

    /// The text to seal.
    pub(super) fn text(&self) -> Zeroizing<String> {
        // Room for all of it from the start: growing would leave copies behind that are not wiped.
        let mut text = Zeroizing::new(String::with_capacity(
            LINE_BYTES * (self.further.len() + self.facts.len() + 4),
        ));
        let (agent_id, revision) = (&self.agent_id, self.revision);
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{FORM}\nagent {agent_id}\nrevision {revision}");
        for (name, seed) in self.seeds() {
            let seed = Zeroizing::new(STANDARD_NO_PAD.encode(seed.as_slice()));
            let _written = writeln!(text, "seed {name} {}", *seed);
        }
        for (name, fact) in &self.facts {
            let _written = writeln!(text, "fact {name} {fact}");
        }
        text
    }

    /// Reads the text. Nothing when it is not whole.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != FORM {
            return None;
        }
        let agent_id = lines.next()?.strip_prefix("agent ")?.parse().ok()?;
        let revision = lines.next()?.strip_prefix("revision ")?.parse().ok()?;
        let seed = |line: &str| {
            let (name, seed) = line.strip_prefix("seed ")?.split_once(' ')?;
            Some((name.to_owned(), parse_seed(seed)?))
        };
        let (mut further, mut facts) = (BTreeMap::new(), BTreeMap::new());
        for line in lines {
            match line.strip_prefix("fact ") {
                Some(fact) => {
                    let (name, fact) = fact.split_once(' ')?;
                    facts.insert(name.to_owned(), fact.to_owned());
                }
                None => further.extend([seed(line)?]),
            }
        }
        Some(Self {
            agent_id,
            revision,
            request: further.remove(REQUEST)?,
            log: further.remove(LOG)?,
            further,
            facts,
        })
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({}, revision {})", self.agent_id, self.revision)
    }
}

/// A seed as base64.
pub(super) fn parse_seed(text: &str) -> Option<Seed> {
    let bytes = Zeroizing::new(STANDARD_NO_PAD.decode(text).ok()?);
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_nothing_less() {
        let agent_id = "018f3b1e-7c4a-7d2e-9b1a-5f6e7d8c9b0a".parse().unwrap();
        let seed = |byte| Zeroizing::new([byte; 32]);
        let mut kept = Kept::first(agent_id, seed(1), seed(2));
        kept.further.insert("next".to_owned(), seed(3));
        kept.facts.insert("since".to_owned(), "a while".to_owned());
        let text = kept.text();
        assert_eq!(Kept::parse(&text), Some(kept.clone()));
        for lines in 0..4 {
            let cut: Vec<&str> = text.lines().take(lines).collect();
            assert_eq!(Kept::parse(&cut.join("\n")), None, "{lines} lines");
        }
        assert!(!format!("{kept:?}").contains(&STANDARD_NO_PAD.encode([1; 32])));
    }
}
