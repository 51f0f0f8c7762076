//! An agent's evidence bundle against what the dashboard itself holds.
//!
//! The bundle is verified by the same code as anywhere, with the dashboard's own key; then its keys, its leaves and
//! its head are compared with what was enrolled, accepted and cosigned here. Promises: nothing is written. Refuses:
//! to call a submission wrong that was never accepted; it may have been on its way.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use cms_attest::bundle::{KeysLine, LINE_BYTES_MAX, LeafLine, Line, Period};
use cms_attest::checkpoint::CosignerKey;
use cms_attest::note::{Algorithm, NoteKey};
use cms_attest::verify::{Check, Report, Trust, Verdict, verify};
use cms_attest::{Frontier, Head, Leaf, LeafKind, Origin};

use crate::store::{Records, StoreError};

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// Verifies a bundle, and compares it with the store in this directory.
///
/// # Errors
/// When the file or the store cannot be read; whatever is in the file leads to a report.
pub fn examine(store: &Path, file: &Path) -> Result<Report, EvidenceError> {
    let failed = |source| EvidenceError::ReadFile {
        path: file.to_owned(),
        source,
    };
    let open = || {
        let file = File::open(file)?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, file))
    };
    let records = Records::open(store)?;
    let mut own = Vec::new();
    for row in records.cosigners()? {
        let name = row.name.parse().map_err(|_| EvidenceError::NoKey)?;
        own.extend(CosignerKey::of(NoteKey::new(
            name,
            Algorithm::Cosignature,
            row.key,
        )));
    }
    let named = named_key(&mut open().map_err(failed)?).map_err(failed)?;
    // A bundle of before a rotation names the key of then.
    let trusted = own
        .iter()
        .find(|key| named.as_ref() == Some(*key))
        .or(own.last())
        .ok_or(EvidenceError::NoKey)?;
    let trust = Trust {
        cosigner: Some(trusted.clone()),
        ..Trust::default()
    };
    let report = verify(&mut open().map_err(failed)?, &trust).map_err(failed)?;
    let mut comparing = Comparing::new(&records, report);
    let mut input = open().map_err(failed)?;
    while let Some(line) = next_line(&mut input).map_err(failed)? {
        comparing.take(line)?;
    }
    Ok(comparing.finish()?)
}

/// The key of the dashboard that a bundle names.
fn named_key(input: &mut impl BufRead) -> io::Result<Option<CosignerKey>> {
    for _ in 0..2 {
        if let Some(Line::Keys(keys)) = next_line(input)?.flatten() {
            return Ok(keys.cosigner.and_then(|key| key.parse().ok()));
        }
    }
    Ok(None)
}

/// The next line, if it reads; what does not was reported before.
#[expect(
    clippy::option_option,
    reason = "the end of a file is not a line that does not read"
)]
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Option<Line>>> {
    let mut text = Vec::new();
    let bound = LINE_BYTES_MAX as u64 + 1;
    input.by_ref().take(bound).read_until(b'\n', &mut text)?;
    if text.is_empty() {
        return Ok(None);
    }
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    Ok(Some(Line::parse(line).ok()))
}

struct Comparing<'a> {
    records: &'a Records,
    report: Report,
    period: Option<Period>,
    keys: Option<KeysLine>,
    origin: Option<Origin>,
    /// Of the epoch that is read.
    frontier: Frontier,
    head: Option<Head>,
    /// Number and length of each epoch.
    epochs: Vec<(u64, u64)>,
    never_accepted: u64,
}

impl<'a> Comparing<'a> {
    fn new(records: &'a Records, report: Report) -> Self {
        Self {
            records,
            report,
            period: None,
            keys: None,
            origin: None,
            frontier: Frontier::default(),
            head: None,
            epochs: Vec::new(),
            never_accepted: 0,
        }
    }

    fn take(&mut self, line: Option<Line>) -> Result<(), StoreError> {
        match line {
            Some(Line::Header(header)) => {
                self.period = Some(Period {
                    from: header.from,
                    to: header.to,
                });
            }
            Some(Line::Keys(keys)) => self.keys = Some(keys),
            Some(Line::Leaf(line)) => self.leaf(&line)?,
            _ => {}
        }
        Ok(())
    }

    fn leaf(&mut self, line: &LeafLine) -> Result<(), StoreError> {
        let Ok(leaf) = line.record.parse::<Leaf>() else {
            return Ok(());
        };
        if self.origin.is_none() {
            self.agent(&leaf.origin)?;
            self.origin = Some(leaf.origin.clone());
        }
        let agent = leaf.origin.agent_id();
        if self
            .epochs
            .last()
            .is_none_or(|(epoch, _)| *epoch != line.epoch)
        {
            self.frontier = Frontier::default();
            self.head = self.records.head(agent, line.epoch)?;
            self.epochs.push((line.epoch, 0));
        }
        self.frontier.append(leaf.hash());
        if let Some((_, leaves)) = self.epochs.last_mut() {
            *leaves += 1;
        }
        let here = format!("leaf {} of epoch {}", line.index, line.epoch);
        if let Some(head) = self.head.filter(|head| head.size == self.frontier.size()) {
            let outcome = if head == self.frontier.head() {
                Ok(())
            } else {
                Err((
                    Verdict::Tampered,
                    format!("up to {here} they lead to another head than was cosigned here"),
                ))
            };
            self.report.record(Check::HeldHeads, outcome);
        }
        if leaf.kind != LeafKind::Submission {
            return Ok(());
        }
        let accepted = self.records.submission(agent, line.epoch, line.index)?;
        let inside = self.period.is_some_and(|period| period.holds(leaf.to));
        let Some((hash, digest)) = accepted else {
            self.never_accepted += u64::from(inside);
            return Ok(());
        };
        let outcome = if hash != leaf.hash() {
            Err("is not the one that was accepted here")
        } else if leaf.body.map(|body| body.digest) != Some(digest) {
            Err("vouches for other bytes than were accepted here")
        } else {
            Ok(())
        };
        let outcome = outcome.map_err(|why| (Verdict::Tampered, format!("{here} {why}")));
        self.report.record(Check::Accepted, outcome);
        Ok(())
    }

    /// Whose ledger it is, and whether its keys are the agent's.
    fn agent(&mut self, origin: &Origin) -> Result<(), StoreError> {
        let Some(keys) = &self.keys else {
            return Ok(());
        };
        let agent = origin.agent_id();
        let known = self
            .records
            .keys_of(agent, keys.request.key(), keys.log.key())?;
        let wrong = |which| {
            let text = format!("the {which} key of the bundle was never one of agent {agent}");
            Err((Verdict::Tampered, text))
        };
        let outcome = match known {
            None => Err((
                Verdict::Incomplete,
                format!("no agent {agent} has enrolled here"),
            )),
            Some((false, _)) => wrong("request"),
            Some((true, false)) => wrong("ledger"),
            Some((true, true)) => Ok(()),
        };
        self.report.record(Check::Enrolled, outcome);
        Ok(())
    }

    fn finish(mut self) -> Result<Report, StoreError> {
        if self.never_accepted > 0 {
            self.report.note(&format!(
                "{} submissions of the period were never accepted here: they are on their way, superseded or rejected",
                self.never_accepted
            ));
        }
        let (Some(origin), Some(period)) = (&self.origin, self.period) else {
            return Ok(self.report);
        };
        let (epochs, report) = (&self.epochs, &mut self.report);
        self.records
            .each_submission(origin.agent_id(), period, |epoch, index| {
                let there = |known: &&(u64, u64)| known.0 == epoch && index < known.1;
                if !epochs.iter().any(|known| there(&known)) {
                    let text = format!(
                        "leaf {index} of epoch {epoch} was accepted here and is not in the bundle"
                    );
                    report.record(Check::Accepted, Err((Verdict::Incomplete, text)));
                }
            })?;
        Ok(self.report)
    }
}

/// Why a bundle cannot be examined.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// There is nothing to verify receipts with.
    #[error("this dashboard has no key for receipts yet: start it once with `dashboard run`")]
    NoKey,
    /// The bundle cannot be read.
    #[error("cannot read {}: name the file that export wrote", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store failed.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
}
