//! `export`: writes an evidence bundle of a period, which `verify` checks without a network.
//!
//! Reads one state of the store while the agent runs; changes nothing and sends nothing. The file is either
//! whole or not there.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::iter;
use std::path::{Path, PathBuf};

use clap::Args;
use cms_attest::bundle::{
    BodyLine, BundleError, Bytes, FORMAT, HeaderLine, KeysLine, LeafLine, Line, Period,
    ReceiptLine, Seal,
};
use cms_attest::checkpoint::{Checkpoint, CosignerKey, verify_cosignature};
use cms_attest::keys::VerifyingKey;
use cms_attest::leaf::{Leaf, LeafKind};
use cms_attest::note::NoteKey;
use cms_attest::succession::{Succession, line_of, line_of_log};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tempfile::NamedTempFile;

use super::progress::Progress;
use super::{CliError, ExitStatus, load, print};
use crate::config;
use crate::identity::{self, Published};
use crate::store::{self, KeptReceipt, Snapshot, StoreError};

/// Leaves between two looks at the progress line.
const LEAVES_PER_LOOK: u64 = 256;

/// Characters of a day, as in 2026-01-16.
const DAY_CHARACTERS: usize = 10;

/// Writes an evidence bundle of a period, which `verify` checks without a network.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Where the period begins: a day, from its first instant in UTC, or a time such as 2026-01-16T15:45:00Z.
    #[arg(long, value_name = "DATE|TIME", value_parser = beginning)]
    from: Timestamp,

    /// Where the period ends: a day, up to its last instant in UTC, or a time.
    #[arg(long, value_name = "DATE|TIME", value_parser = ending)]
    to: Timestamp,

    /// The file to write. It holds figures of the company, and only its owner may read it.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// What was written.
#[derive(Debug, Default)]
struct Written {
    leaves: u64,
    bodies: u64,
    bodies_gone: u64,
    bodies_damaged: u64,
    leaves_left_out: u64,
    receipts: u64,
    receipts_unfit: u64,
}

struct Bundle<'a> {
    snapshot: &'a Snapshot,
    keys: &'a Published,
    cosigner: Option<CosignerKey>,
    /// Those of the dashboard and of the ledger that lead to the keys in use.
    successions: Vec<String>,
    cosigners: Vec<CosignerKey>,
    log_keys: Vec<VerifyingKey>,
    /// Whose signatures are looked for: nobody's name is the dashboard, the others are witnesses.
    signers: Vec<Option<CosignerKey>>,
    period: Period,
    seal: Seal,
    file: BufWriter<&'a File>,
    written: Written,
    progress: Progress,
}

/// Writes the bundle of a period from a store, and no file where the period has no leaf. Answers how many leaves
/// there are.
///
/// # Errors
/// When the store or its keys cannot be read, or the file cannot be written.
pub fn write_bundle(
    store: &config::Store,
    from: Timestamp,
    to: Timestamp,
    output: PathBuf,
) -> Result<u64, CliError> {
    let export = Export { from, to, output };
    Ok(export.of_store(store)?.leaves)
}

impl Export {
    pub(super) fn run(self, config_path: &Path) -> Result<ExitStatus, CliError> {
        if self.from >= self.to {
            return Err(CliError::Failed {
                status: ExitStatus::Usage,
                chain: format!("the period ends at {}, before it begins", self.to),
                hint: Some("name a later --to; a day lasts to its end".to_owned()),
            });
        }
        let config = load(config_path)?;
        let written = self.of_store(&config.store)?;
        if written.leaves == 0 {
            return Err(CliError::Failed {
                status: ExitStatus::Problem,
                chain: format!(
                    "the ledger has no leaf that ended after {} and up to {}",
                    self.from, self.to
                ),
                hint: Some("nothing was written; name a period in which the agent ran".to_owned()),
            });
        }
        print(&self.summary(&written));
        Ok(ExitStatus::Ok)
    }

    fn of_store(&self, store: &config::Store) -> Result<Written, CliError> {
        let hint = "run it as the agent's user and with its credentials, on the host that the agent has run on";
        let key = store::key::find(store)
            .map_err(|error| CliError::configuration(&error).hint(hint))?
            .ok_or_else(|| CliError::Failed {
                status: ExitStatus::Bug,
                chain: format!("nothing has been kept in {}", store.path.display()),
                hint: Some(hint.to_owned()),
            })?;
        let snapshot = Snapshot::open(&store.path, &key)
            .map_err(|error| CliError::of_store(&error).hint(hint))?;
        let keys = identity::published(&store.path, &snapshot, &key)
            .map_err(|error| CliError::failed(&error).hint(hint))?;
        self.write(&snapshot, &keys)
            .map_err(|error| CliError::failed(&error))
    }

    fn write(&self, snapshot: &Snapshot, keys: &Published) -> Result<Written, ExportError> {
        let failed = |source| ExportError::WriteFile {
            path: self.output.clone(),
            source,
        };
        let parent = self.output.parent().filter(|p| !p.as_os_str().is_empty());
        // Made with mode 0600.
        let file = NamedTempFile::new_in(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        let cosigner = snapshot.cosigner()?;
        let witnesses = snapshot.witnesses()?;
        let cosigner: Option<CosignerKey> = cosigner.as_deref().and_then(|key| key.parse().ok());
        let log_key = keys.log_key.key();
        let successions = until(log_key, snapshot.successions()?);
        // Keys that do not lead here are left out, and with them what they have signed; verify misses them.
        let log_keys = line_of_log(log_key, &successions).unwrap_or_default();
        let cosigners = cosigner
            .as_ref()
            .map(|key| line_of(key.note_key(), &successions));
        let cosigners = cosigners.transpose().ok().flatten().unwrap_or_default();
        let mut bundle = Bundle {
            snapshot,
            keys,
            successions: successions.iter().map(ToString::to_string).collect(),
            cosigners: match (&cosigner, cosigners.is_empty()) {
                (Some(key), true) => vec![key.clone()],
                _ => cosigners.into_iter().filter_map(CosignerKey::of).collect(),
            },
            log_keys: if log_keys.is_empty() {
                vec![*log_key]
            } else {
                log_keys.iter().map(|key| *key.key()).collect()
            },
            cosigner,
            signers: iter::once(None)
                .chain(
                    witnesses
                        .iter()
                        .filter_map(|key| key.parse().ok())
                        .map(Some),
                )
                .collect(),
            period: Period {
                from: self.from,
                to: self.to,
            },
            seal: Seal::default(),
            file: BufWriter::new(file.as_file()),
            written: Written::default(),
            progress: Progress::new("reading the ledger"),
        };
        bundle.write()?;
        let written = bundle.finish().map_err(failed)?;
        if written.leaves > 0 {
            file.as_file().sync_all().map_err(failed)?;
            file.persist(&self.output)
                .map_err(|error| failed(error.error))?;
        }
        Ok(written)
    }

    fn summary(&self, written: &Written) -> String {
        let mut text = format!(
            "{}: {} leaves, {} bodies, {} receipts\n",
            self.output.display(),
            written.leaves,
            written.bodies,
            written.receipts
        );
        if written.bodies_gone > 0 {
            text.push_str(&format!(
                "note: {} bodies of the period are not kept any more (store.retention); the dashboard has what it accepted\n",
                written.bodies_gone
            ));
        }
        if written.bodies_damaged > 0 {
            text.push_str(&format!(
                "note: {} bodies of the period are damaged and were left out; the dashboard has what it accepted\n",
                written.bodies_damaged
            ));
        }
        if written.leaves_left_out > 0 {
            text.push_str(&format!(
                "note: {} leaves were left out: they come after one that was lost to damage\n",
                written.leaves_left_out
            ));
        }
        if written.receipts_unfit > 0 {
            text.push_str(&format!(
                "note: {} receipts were left out: they are not of the keys in use today\n",
                written.receipts_unfit
            ));
        }
        text
    }
}

impl Bundle<'_> {
    fn write(&mut self) -> Result<(), ExportError> {
        self.line(&Line::Header(HeaderLine {
            format: FORMAT.to_owned(),
            from: self.period.from,
            to: self.period.to,
        }))?;
        self.line(&Line::Keys(KeysLine {
            request: self.keys.request_key,
            log: self.keys.log_key,
            cosigner: self.cosigner.as_ref().map(ToString::to_string),
            successions: self.successions.clone(),
        }))?;
        for epoch in self.snapshot.epochs()? {
            if let Some(size) = self.size_needed(epoch)? {
                self.epoch(epoch, size)?;
            }
        }
        self.line(&Line::End(self.seal.end()))
    }

    fn finish(mut self) -> io::Result<Written> {
        self.progress.finish();
        self.file.flush()?;
        Ok(self.written)
    }

    /// How many leaves of an epoch the period needs: up to the first receipt of each signer above its last leaf,
    /// or all where there is none.
    fn size_needed(&mut self, epoch: u64) -> Result<Option<u64>, ExportError> {
        let (mut leaves, mut last) = (0, None);
        let (snapshot, period, progress) = (self.snapshot, self.period, &mut self.progress);
        snapshot.each_leaf(epoch, u64::MAX, |index, record| {
            leaves = index + 1;
            if index % LEAVES_PER_LOOK == 0 {
                progress.say(&format!("reading leaf {index}"));
            }
            // A leaf that does not read is for verify to find; it says no time.
            if record
                .parse::<Leaf>()
                .is_ok_and(|leaf| period.holds(leaf.to))
            {
                last = Some(index);
            }
            Ok::<_, ExportError>(())
        })?;
        let Some(last) = last else {
            return Ok(None);
        };
        let mut needed = None;
        for who in self.signers.clone() {
            let receipt = self.find_fit(epoch, who.as_ref(), last)?.0;
            needed = needed.max(receipt.map(|receipt| receipt.size));
        }
        Ok(Some(needed.unwrap_or(leaves)))
    }

    fn epoch(&mut self, epoch: u64, size: u64) -> Result<(), ExportError> {
        let snapshot = self.snapshot;
        let mut next = Vec::new();
        for who in self.signers.clone() {
            next.push((self.fit_receipt(epoch, who.as_ref(), 0)?, who));
        }
        let left_out = snapshot.each_leaf(epoch, size, |index, record| {
            if index % LEAVES_PER_LOOK == 0 {
                self.progress
                    .say(&format!("writing leaf {index} of {size}"));
            }
            let leaf = record.parse::<Leaf>().ok();
            self.written.leaves += 1;
            self.line(&Line::Leaf(LeafLine {
                epoch,
                index,
                record,
            }))?;
            let holds =
                |leaf: &Leaf| leaf.kind == LeafKind::Submission && self.period.holds(leaf.to);
            if leaf.as_ref().is_some_and(holds) {
                self.body(epoch, index)?;
            }
            for (next, who) in &mut next {
                let Some(receipt) = next.take_if(|receipt| receipt.size <= index + 1) else {
                    continue;
                };
                self.written.receipts += 1;
                *next = self.fit_receipt(epoch, who.as_ref(), receipt.size)?;
                self.line(&Line::Receipt(ReceiptLine {
                    epoch,
                    size: receipt.size,
                    note: receipt.note,
                    cosignature: receipt.cosignature,
                    witness: who.as_ref().map(ToString::to_string),
                }))?;
            }
            Ok::<_, ExportError>(())
        })?;
        self.written.leaves_left_out += left_out;
        Ok(())
    }

    fn body(&mut self, epoch: u64, index: u64) -> Result<(), ExportError> {
        let bytes = match self.snapshot.body(epoch, index) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                self.written.bodies_gone += 1;
                return Ok(());
            }
            Err(StoreError::Decode { .. }) => {
                self.written.bodies_damaged += 1;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.written.bodies += 1;
        self.line(&Line::Body(BodyLine {
            epoch,
            index,
            bytes: Bytes(bytes),
        }))
    }

    /// The next receipt of a signer that the keys of the bundle can prove; those before it are counted.
    fn fit_receipt(
        &mut self,
        epoch: u64,
        who: Option<&CosignerKey>,
        above: u64,
    ) -> Result<Option<KeptReceipt>, ExportError> {
        let (receipt, unfit) = self.find_fit(epoch, who, above)?;
        self.written.receipts_unfit += unfit;
        Ok(receipt)
    }

    /// The same, with how many cannot be proven before it.
    fn find_fit(
        &self,
        epoch: u64,
        who: Option<&CosignerKey>,
        mut above: u64,
    ) -> Result<(Option<KeptReceipt>, u64), ExportError> {
        let mut unfit = 0;
        loop {
            let receipt = match who {
                None => self.snapshot.receipt_above(epoch, above)?,
                Some(key) => {
                    let key = key.to_string();
                    self.snapshot.witnessed_above(epoch, &key, above)?
                }
            };
            match receipt {
                Some(receipt) if !self.is_fit(&receipt, who) => {
                    above = receipt.size;
                    unfit += 1;
                }
                found => return Ok((found, unfit)),
            }
        }
    }

    fn is_fit(&self, receipt: &KeptReceipt, who: Option<&CosignerKey>) -> bool {
        let opened = Checkpoint::open_any(&receipt.note, &self.log_keys);
        opened.is_ok_and(|(checkpoint, _)| {
            let line = &receipt.cosignature;
            let mut keys = who
                .map_or(self.cosigners.as_slice(), std::slice::from_ref)
                .iter();
            keys.any(|key| verify_cosignature(line, &checkpoint, key).is_ok())
        })
    }

    fn line(&mut self, line: &Line) -> Result<(), ExportError> {
        let text = self.seal.line(line)?;
        self.file
            .write_all(&text)
            .map_err(|source| ExportError::WriteBundle { source })
    }
}

/// The successions that read, without those that lead on from the ledger's key in use: one that is announced but
/// not in use yet.
fn until(log_key: &VerifyingKey, notes: Vec<String>) -> Vec<Succession> {
    let read = notes.iter().filter_map(|note| note.parse().ok());
    let mut successions: Vec<Succession> = read.collect();
    let line = line_of_log(log_key, &successions).unwrap_or_default();
    let mut after = line.iter().map(NoteKey::key);
    after.find(|key| *key == log_key);
    let after: Vec<VerifyingKey> = after.copied().collect();
    successions.retain(|succession| !after.contains(succession.to().key()));
    successions
}

/// The first instant of a day, or a time.
fn beginning(text: &str) -> Result<Timestamp, String> {
    instant(text, Ok)
}

/// The last instant of a day, which is the first of the next, or a time.
fn ending(text: &str) -> Result<Timestamp, String> {
    instant(text, Date::tomorrow)
}

fn instant(
    text: &str,
    of_day: impl Fn(Date) -> Result<Date, jiff::Error>,
) -> Result<Timestamp, String> {
    if text.len() != DAY_CHARACTERS {
        let wrong = |_| "write a day such as 2026-01-16 or a time such as 2026-01-16T15:45:00Z";
        return text.parse().map_err(wrong).map_err(str::to_owned);
    }
    text.parse::<Date>()
        .and_then(of_day)
        .and_then(|day| day.to_zoned(TimeZone::UTC))
        .map(|midnight| midnight.timestamp())
        .map_err(|error| error.to_string())
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    /// A line cannot be made.
    #[error("cannot write the bundle")]
    MakeLine(#[from] BundleError),
    /// The store cannot be read.
    #[error(transparent)]
    ReadStore(#[from] StoreError),
    /// The file's content cannot be written.
    #[error("cannot write the bundle")]
    WriteBundle {
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("cannot write {}", path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_whole_and_a_time_has_an_offset() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(beginning("2026-01-16"), Ok(at("2026-01-16T00:00:00Z")));
        assert_eq!(ending("2026-01-16"), Ok(at("2026-01-17T00:00:00Z")));
        assert_eq!(
            ending("2026-01-16T10:00:00+01:00"),
            Ok(at("2026-01-16T09:00:00Z"))
        );
        for wrong in [
            "",
            "yesterday",
            "2026-02-30",
            "2026-01-16T10:00:00",
            "20260116",
        ] {
            assert!(beginning(wrong).is_err(), "{wrong}");
        }
    }
}
