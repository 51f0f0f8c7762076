//! Countersignatures: whose they are, and which leaves they cover.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use super::keys::Keys;
use super::report::Check;
use super::{Epoch, Reading, is_unsigned, verdict};
use crate::bundle::{KeysLine, ReceiptLine};
use crate::checkpoint::{Checkpoint, CosignerKey, verify_cosignature};
use crate::note::NoteKey;

/// Most witnesses of a bundle: more than anybody asks for one ledger.
const WITNESSES_MAX: usize = 64;

/// Most runs of leaves that wait for a receipt: leaves of the period stand together, unless clocks were set.
const RUNS_MAX: usize = 10_000;

/// What countersignatures cover of one epoch.
#[derive(Default)]
pub(super) struct Covered {
    /// Size and witness of the newest line; the dashboard's come first.
    newest: Option<(u64, Option<String>)>,
    /// How far each has signed; the dashboard is nobody's witness.
    sizes: BTreeMap<Option<String>, u64>,
    /// How far the log itself has.
    head: u64,
    /// Runs of leaves of the period that too few have signed.
    waiting: Vec<Range<u64>>,
}

impl Covered {
    /// A leaf of the period waits until it is covered.
    pub(super) fn wait(&mut self, index: u64) {
        let is_full = self.waiting.len() == RUNS_MAX;
        match self.waiting.last_mut() {
            Some(run) if run.end == index || is_full => run.end = index + 1,
            _ => self.waiting.push(index..index + 1),
        }
    }

    /// First, last and count of those that still wait.
    pub(super) fn left(&self) -> Option<(u64, u64, u64)> {
        let (first, last) = (self.waiting.first()?, self.waiting.last()?);
        let count = self.waiting.iter().map(|run| run.end - run.start).sum();
        Some((first.start, last.end.saturating_sub(1), count))
    }

    /// Leaves below this size wait no longer. Answers how many they were.
    fn cover(&mut self, size: u64) -> u64 {
        let mut covered = 0;
        self.waiting.retain_mut(|run| {
            let end = run.end.min(size).max(run.start);
            covered += end - run.start;
            run.start = end;
            run.start < run.end
        });
        covered
    }
}

impl Reading<'_> {
    pub(super) fn keys(&mut self, keys: &KeysLine) {
        self.stage = super::Stage::Ledger;
        self.report.held(Check::Lines);
        self.trust = Cow::Owned(self.trust.of(keys));
        self.keys = Keys::read(keys, &self.trust, &mut self.report);
        let logs = self.trust.policy.as_ref().map_or(&[][..], |p| p.logs());
        if !logs.is_empty()
            && !logs
                .iter()
                .map(NoteKey::key)
                .any(|key| self.keys.of_the_ledger().contains(key))
        {
            let text = "the policy names no key of this ledger".to_owned();
            self.tampered(Check::Keys, text);
        }
    }

    pub(super) fn receipt(&mut self, line: &ReceiptLine) {
        self.close_leaf();
        let of = match &line.witness {
            None => "receipt",
            Some(_) => "witness's signature",
        };
        let name = format!("the {of} over {} leaves of epoch {}", line.size, line.epoch);
        let place = (line.size, line.witness.clone());
        let here = |epoch: &&Epoch| {
            epoch.number == line.epoch
                && epoch.frontier.size() == line.size
                && epoch
                    .covered
                    .newest
                    .as_ref()
                    .is_none_or(|newest| *newest < place)
        };
        let Some(epoch) = self.epoch.as_ref().filter(here) else {
            self.misplaced(&format!("is {name}, which does not belong here"));
            return;
        };
        let (head, origin) = (epoch.frontier.head(), epoch.origin.clone());
        self.report.held(Check::Lines);
        let Some(epoch) = self.epoch.as_mut() else {
            return;
        };
        epoch.covered.newest = Some(place);
        let signing = &mut epoch.signing;
        let opened = (self.keys).open(&line.note, signing, &name, &mut self.report);
        let checkpoint = match opened {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                let verdict = verdict(&error);
                self.report
                    .fail(Check::LogSignatures, verdict, format!("{name}: {error}"));
                return;
            }
        };
        self.report.held(Check::LogSignatures);
        let rooted = checkpoint.head == head && Some(&checkpoint.origin) == origin.as_ref();
        if rooted {
            self.report.held(Check::Roots);
        } else {
            self.tampered(
                Check::Roots,
                format!("{name}: the leaves above do not lead to its head"),
            );
        }
        if self.is_countersigned(line, &checkpoint, &name) && rooted {
            self.cover(line);
        }
    }

    fn is_countersigned(&mut self, line: &ReceiptLine, head: &Checkpoint, name: &str) -> bool {
        let keys: Vec<CosignerKey> = match &line.witness {
            None => self.keys.cosigners().to_vec(),
            Some(text) => match self.witness(text) {
                Some(key) => vec![key],
                None => {
                    self.misplaced(&format!(
                        "is {name}, with a key that is none or one too many"
                    ));
                    return false;
                }
            },
        };
        // By the key whose line it is; where it is of none, by the newest, which says so.
        let mut tried = keys
            .iter()
            .map(|key| verify_cosignature(&line.cosignature, head, key));
        let cosigned = tried
            .clone()
            .find(|tried| !is_unsigned(tried))
            .or_else(|| tried.next_back());
        match cosigned {
            None => {
                let text = format!("{name}: no key of the dashboard is known");
                self.lacking(Check::Cosignatures, text);
                false
            }
            Some(Err(error)) => {
                let verdict = verdict(&error);
                self.report
                    .fail(Check::Cosignatures, verdict, format!("{name}: {error}"));
                false
            }
            // A line more than the one that was verified would be text that nobody has checked.
            Some(Ok(receipt)) if receipt.line() != line.cosignature => {
                self.misplaced(&format!("is {name}, with more than its countersignature"));
                false
            }
            Some(Ok(_)) => {
                self.report.held(Check::Cosignatures);
                true
            }
        }
    }

    /// The key of a witness, which is printed once.
    fn witness(&mut self, text: &str) -> Option<CosignerKey> {
        let key: CosignerKey = text.parse().ok()?;
        if !self.witnesses.contains(text) {
            if self.witnesses.len() == WITNESSES_MAX {
                return None;
            }
            self.witnesses.insert(text.to_owned());
            let policy = self.trust.policy.as_ref();
            let how = match policy.map(|policy| policy.cosigners().any(|known| *known == key)) {
                Some(true) => "as the policy names it",
                Some(false) => "not in the policy: it does not count",
                None => "as the bundle says; it counts with --policy only",
            };
            self.report.keys.push(format!("witness     {key} ({how})"));
        }
        Some(key)
    }

    /// Counts the leaves that are covered by as many as have to sign.
    fn cover(&mut self, line: &ReceiptLine) {
        let Some(epoch) = self.epoch.as_mut() else {
            return;
        };
        let covered = &mut epoch.covered;
        covered.sizes.insert(line.witness.clone(), line.size);
        covered.head = line.size;
        let size_of = |who: Option<String>| covered.sizes.get(&who).copied().unwrap_or(0);
        let dashboard = self.trust.cosigner.as_ref();
        let size = match &self.trust.policy {
            None => size_of(None),
            Some(policy) => policy.quorum_size(covered.head, |key| {
                let own = size_of(Some(key.to_string()));
                if dashboard == Some(key) {
                    own.max(size_of(None))
                } else {
                    own
                }
            }),
        };
        for _ in 0..covered.cover(size) {
            self.report.held(Check::Receipted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_wait_in_runs_until_they_are_covered() {
        let mut covered = Covered::default();
        for index in [3, 4, 5, 9, 10] {
            covered.wait(index);
        }
        assert_eq!(covered.waiting, [3..6, 9..11]);
        assert_eq!(covered.left(), Some((3, 10, 5)));
        assert_eq!(covered.cover(5), 2);
        assert_eq!(covered.cover(5), 0);
        assert_eq!(covered.left(), Some((5, 10, 3)));
        assert_eq!(covered.cover(10), 2);
        assert_eq!(covered.cover(11), 1);
        assert_eq!(covered.left(), None);
    }

    #[test]
    fn runs_are_bounded() {
        let mut covered = Covered::default();
        for n in 0..2 * RUNS_MAX as u64 {
            covered.wait(2 * n);
        }
        assert_eq!(covered.waiting.len(), RUNS_MAX);
    }
}
