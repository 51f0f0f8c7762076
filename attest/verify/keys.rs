//! The keys of a bundle: which of the ledger's and of the dashboard's may sign, and when the one took the other's place.

use std::collections::BTreeSet;

use super::report::{Check, Report, Verdict};
use super::{Trust, name};
use crate::bundle::KeysLine;
use crate::checkpoint::{Checkpoint, CheckpointError, CosignerKey};
use crate::keys::VerifyingKey;
use crate::leaf::{Leaf, LeafKind};
use crate::succession::{Announced, SUCCESSIONS_MAX, Succession, line_of, line_of_log};

/// Successions that a bundle may have: those of both lines of keys.
const BUNDLED_MAX: usize = 2 * SUCCESSIONS_MAX;

/// The two lines of keys.
pub(super) struct Keys {
    /// Those of the ledger, the oldest first.
    log: Vec<VerifyingKey>,
    /// The agent that the successions between them name.
    agent: Option<String>,
    /// Those of the dashboard, the oldest first.
    cosigners: Vec<CosignerKey>,
    /// The newest log key that has signed a head so far.
    newest: usize,
}

/// What one epoch says of the ledger's keys.
#[derive(Default)]
pub(super) struct Signing {
    /// The newest key that has signed a head of it.
    by: Option<usize>,
    /// The keys that its leaves announce.
    announced: BTreeSet<usize>,
}

impl Keys {
    /// Before the line of keys is read: what is known from elsewhere.
    pub(super) fn trusted(trust: &Trust) -> Self {
        Self {
            log: Vec::new(),
            agent: None,
            cosigners: trust.cosigner.iter().cloned().collect(),
            newest: 0,
        }
    }

    /// Reads the line of keys, as far as it agrees with what is trusted.
    pub(super) fn read(line: &KeysLine, trust: &Trust, report: &mut Report) -> Self {
        let mut wrong = |check, text: String| report.fail(check, Verdict::Tampered, text);
        let mut successions = Vec::new();
        for note in line.successions.iter().take(BUNDLED_MAX) {
            match note.parse::<Succession>() {
                Ok(succession) => successions.push(succession),
                Err(error) => wrong(Check::Keys, format!("a succession of keys: {error}")),
            }
        }
        if line.successions.len() > BUNDLED_MAX {
            wrong(
                Check::Keys,
                format!("there are more than {BUNDLED_MAX} successions"),
            );
        }
        let said = line.cosigner.as_deref().map(str::parse::<CosignerKey>);
        let said = match said {
            Some(Ok(said)) => Some(said),
            Some(Err(_)) => {
                let text = "the bundle names a key of the dashboard that is none";
                wrong(Check::Lines, text.to_owned());
                None
            }
            None => None,
        };
        let log = line_of_log(line.log.key(), &successions).unwrap_or_else(|error| {
            wrong(Check::Keys, error.to_string());
            Vec::new()
        });
        let agent = log.first().map(|key| key.name().to_string());
        let trusted = trust.cosigner.as_ref().or(said.as_ref());
        let cosigners = trusted.map_or_else(Vec::new, |key| {
            line_of(key.note_key(), &successions).unwrap_or_else(|error| {
                wrong(Check::Keys, error.to_string());
                vec![key.note_key().clone()]
            })
        });
        let cosigners: Vec<CosignerKey> =
            cosigners.into_iter().filter_map(CosignerKey::of).collect();
        if log.last().is_some_and(|last| last.key() != line.log.key()) {
            let text = "the bundle names a ledger key that another has replaced".to_owned();
            wrong(Check::Keys, text);
        }
        if let (Some(said), Some(known)) = (&said, &trust.cosigner)
            && !cosigners.contains(said)
        {
            let text = format!("the bundle names {said} and you named {known}");
            wrong(Check::Cosignatures, text);
        }
        for _ in &successions {
            report.held(Check::Keys);
        }
        let log = if log.is_empty() {
            vec![*line.log.key()]
        } else {
            log.iter().map(|key| *key.key()).collect()
        };
        let keys = Self {
            log,
            agent,
            cosigners,
            newest: 0,
        };
        keys.print(line, trust, report);
        keys
    }

    fn print(&self, line: &KeysLine, trust: &Trust, report: &mut Report) {
        let names = &mut report.keys;
        names.push(format!("requests    {}", line.request.key().key_id()));
        let (last, before) = self.log.split_last().unzip();
        names.extend(last.map(|key| format!("ledger      {}", key.key_id())));
        for key in before.unwrap_or_default().iter().rev() {
            names.push(format!("  before    {}", key.key_id()));
        }
        let source = if trust.cosigner.is_some() {
            "as you named it"
        } else {
            "as the bundle says: compare it with the dashboard's own, or name that one"
        };
        let named = trust.cosigner.as_ref().map(ToString::to_string);
        let named = named.or_else(|| line.cosigner.clone());
        for key in self.cosigners.iter().rev() {
            let text = key.to_string();
            let how = if named.as_ref() == Some(&text) {
                source
            } else {
                "by successions"
            };
            names.push(format!("dashboard   {text} ({how})"));
        }
    }

    /// The dashboard's keys, the oldest first.
    pub(super) fn cosigners(&self) -> &[CosignerKey] {
        &self.cosigners
    }

    /// The ledger's keys, the oldest first.
    pub(super) fn of_the_ledger(&self) -> &[VerifyingKey] {
        &self.log
    }

    /// What a leaf says of the ledger's keys.
    pub(super) fn observe(&self, leaf: &Leaf, signing: &mut Signing, report: &mut Report) {
        let agent = leaf.origin.agent_id().as_str();
        if leaf.index == 0 && self.agent.as_deref().is_some_and(|named| named != agent) {
            let text = format!(
                "{} is of an agent that the successions of keys do not name",
                name(leaf.origin.epoch(), leaf.index)
            );
            report.fail(Check::Keys, Verdict::Tampered, text);
        }
        let note = leaf
            .note
            .as_ref()
            .filter(|_| leaf.kind == LeafKind::KeyRotate);
        if let Some(Ok(Announced::Log(key))) = note.map(|note| note.as_str().parse()) {
            // One that is not there yet is announced before it is in use.
            signing
                .announced
                .extend(self.log.iter().position(|known| known == key.key()));
        }
    }

    /// Opens a signed head, and sees that the key was the one in use.
    pub(super) fn open(
        &mut self,
        note: &str,
        signing: &mut Signing,
        what: &str,
        report: &mut Report,
    ) -> Result<Checkpoint, CheckpointError> {
        let (checkpoint, signers) = Checkpoint::open_any(note, &self.log)?;
        let by = signers.iter().copied().max().unwrap_or_default();
        let mut wrong = |verdict, why: &str| {
            report.fail(Check::Keys, verdict, format!("{what}: {why}"));
        };
        if by < self.newest {
            wrong(Verdict::Tampered, "its key had been replaced before");
        }
        if let Some(before) = signing.by.filter(|before| *before < by) {
            if !(before + 1..=by).all(|place| signing.announced.contains(&place)) {
                wrong(
                    Verdict::Tampered,
                    "no leaf announces the key that signed it",
                );
            } else if !signers.contains(&before) {
                let why = "the first head of a new key must have the old key's signature, too";
                wrong(Verdict::Incomplete, why);
            }
        }
        signing.by = signing.by.max(Some(by));
        self.newest = self.newest.max(by);
        Ok(checkpoint)
    }
}
