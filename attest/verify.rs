//! Verifies an evidence bundle without a network: who signed, that nothing was left out, and that it adds up.
//!
//! Reads a bundle line by line and keeps a few digests, so that years take no more memory than a day.
//! Promises: any bytes are read to a [`Report`], none make it panic; what cannot be checked is never `ok`.
//! Refuses: trusting the bundle's keys. Only the dashboard's key, learned from the dashboard itself and given
//! as [`Trust`], tells true evidence from a ledger that somebody made up and countersigned alone.

mod body;
mod keys;
mod receipts;
mod report;
mod time;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};

use jiff::Timestamp;

use crate::bundle::{
    BodyLine, BundleError, EndLine, FORMAT, HeaderLine, KeysLine, LEAVES_MAX, LINE_BYTES_MAX,
    LeafLine, Line, Period, Seal,
};
use crate::checkpoint::{CheckpointError, CosignerKey};
use crate::leaf::{Leaf, LeafKind};
use crate::merkle::Frontier;
use crate::note::NoteError;
use crate::origin::Origin;
use crate::policy::Policy;
use keys::{Keys, Signing};
use receipts::Covered;
use time::{Clocks, Slots, Tick};

pub use report::{Check, Finding, REMARKS_MAX, Report, Verdict};

/// What is known from elsewhere than the bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The dashboard's key for receipts, as it publishes it.
    pub cosigner: Option<CosignerKey>,
    /// Whose countersignatures count; the dashboard's alone where there is none.
    pub policy: Option<Policy>,
}

impl Trust {
    /// The same, with the dashboard's key as the policy has it, where a bundle names one of that name.
    fn of(&self, line: &KeysLine) -> Self {
        let said = line.cosigner.as_deref().map(str::parse::<CosignerKey>);
        let (Some(policy), Some(Ok(said))) = (&self.policy, said) else {
            return self.clone();
        };
        let mut named = policy.cosigners().filter(|key| key.name() == said.name());
        Self {
            cosigner: self.cosigner.clone().or_else(|| named.next().cloned()),
            policy: self.policy.clone(),
        }
    }
}

/// Verifies a bundle.
///
/// # Errors
/// When it cannot be read; whatever is read leads to a report.
pub fn verify(input: &mut impl BufRead, trust: &Trust) -> io::Result<Report> {
    let mut reading = Reading::new(trust);
    let mut text = Vec::new();
    loop {
        text.clear();
        // One byte more than the longest line, so that a longer one shows.
        let bound = LINE_BYTES_MAX as u64 + 1;
        input.by_ref().take(bound).read_until(b'\n', &mut text)?;
        if text.is_empty() || !reading.take(&text) {
            return Ok(reading.finish());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Header,
    Keys,
    Ledger,
    Ended,
}

struct Reading<'a> {
    trust: Cow<'a, Trust>,
    report: Report,
    seal: Seal,
    stage: Stage,
    lines: u64,
    leaves: u64,
    leaves_of_the_period: u64,
    period: Option<Period>,
    keys: Keys,
    /// Witnesses that have signed something.
    witnesses: BTreeSet<String>,
    epoch: Option<Epoch>,
    slots: Slots,
}

struct Epoch {
    number: u64,
    origin: Option<Origin>,
    frontier: Frontier,
    clocks: Clocks,
    last: Option<Last>,
    signing: Signing,
    covered: Covered,
}

/// The newest leaf.
struct Last {
    index: u64,
    leaf: Option<Leaf>,
    wants_body: bool,
}

impl Last {
    fn name(&self, epoch: u64) -> String {
        name(epoch, self.index)
    }
}

impl<'a> Reading<'a> {
    fn new(trust: &'a Trust) -> Self {
        Self {
            trust: Cow::Borrowed(trust),
            report: Report::default(),
            seal: Seal::default(),
            stage: Stage::Header,
            lines: 0,
            leaves: 0,
            leaves_of_the_period: 0,
            period: None,
            keys: Keys::trusted(trust),
            witnesses: BTreeSet::new(),
            epoch: None,
            slots: Slots::default(),
        }
    }

    /// Takes a line with its line feed. Answers whether to go on.
    fn take(&mut self, text: &[u8]) -> bool {
        self.lines += 1;
        let Some(line) = text.strip_suffix(b"\n") else {
            let (verdict, what) = if text.len() > LINE_BYTES_MAX {
                (Verdict::Tampered, "is longer than any line of a bundle")
            } else {
                (Verdict::Incomplete, "is cut off")
            };
            let place = self.place();
            self.report
                .fail(Check::Lines, verdict, format!("{place} {what}"));
            return false;
        };
        let line = match Line::parse(line) {
            Ok(line) => line,
            Err(error) => {
                self.misplaced(&match error {
                    BundleError::ReadLine(source) => format!("does not read: {source}"),
                    _ => "is not in its one written form".to_owned(),
                });
                return true;
            }
        };
        let end = self.seal.end_if(&line);
        self.seal.add(&line, text);
        match (self.stage, line) {
            (Stage::Header, Line::Header(header)) => self.header(&header),
            (Stage::Keys, Line::Keys(keys)) => self.keys(&keys),
            (Stage::Ledger, Line::Leaf(leaf)) => return self.leaf(leaf),
            (Stage::Ledger, Line::Body(body)) => self.body(&body),
            (Stage::Ledger, Line::Receipt(receipt)) => self.receipt(&receipt),
            (Stage::Ledger, Line::End(said)) => self.end(&said, end),
            _ => self.misplaced("does not belong here"),
        }
        true
    }

    fn place(&self) -> String {
        let epoch = self.epoch.as_ref();
        let leaf = epoch.and_then(|epoch| Some(epoch.last.as_ref()?.name(epoch.number)));
        let after = leaf.map_or_else(String::new, |leaf| format!(", after {leaf},"));
        format!("line {}{after}", self.lines)
    }

    fn misplaced(&mut self, what: &str) {
        let place = self.place();
        self.tampered(Check::Lines, format!("{place} {what}"));
    }

    fn tampered(&mut self, check: Check, first: String) {
        self.report.fail(check, Verdict::Tampered, first);
    }

    fn lacking(&mut self, check: Check, first: String) {
        self.report.fail(check, Verdict::Incomplete, first);
    }

    fn header(&mut self, header: &HeaderLine) {
        self.stage = Stage::Keys;
        let period = Period {
            from: header.from,
            to: header.to,
        };
        self.period = Some(period);
        self.report.period = Some(period);
        if header.format != FORMAT || period.from >= period.to {
            self.misplaced("is not a header that this version knows");
        } else {
            self.report.held(Check::Lines);
        }
    }

    fn leaf(&mut self, line: LeafLine) -> bool {
        self.leaves += 1;
        if self.leaves > LEAVES_MAX {
            self.misplaced("is one leaf more than a bundle may hold");
            return false;
        }
        self.close_leaf();
        let name = name(line.epoch, line.index);
        if self
            .epoch
            .as_ref()
            .is_none_or(|epoch| epoch.number != line.epoch)
        {
            self.open_epoch(line.epoch, &name);
        }
        let parsed = line.record.parse::<Leaf>();
        let period = self.period;
        let Some(epoch) = self.epoch.as_mut() else {
            return true;
        };
        let expected = epoch.frontier.size();
        epoch.frontier.append(Leaf::hash_of(&line.record));
        epoch.last = Some(Last {
            index: line.index,
            leaf: None,
            wants_body: false,
        });
        self.report.held(Check::Lines);
        if line.index == expected {
            self.report.held(Check::Indices);
        } else {
            let first = format!("{name} stands where index {expected} belongs");
            self.tampered(Check::Indices, first);
        }
        match parsed {
            Err(error) => self.tampered(Check::Leaves, format!("{name}: {error}")),
            Ok(leaf) if !self.is_of_its_log(&leaf, &line) => {
                self.tampered(Check::Leaves, format!("{name} names another log or index"));
            }
            Ok(leaf) => {
                self.report.held(Check::Leaves);
                let inside = period.is_some_and(|period| period.holds(leaf.to));
                self.observe(&leaf, inside, &name);
                if let Some(epoch) = self.epoch.as_mut() {
                    epoch.last = Some(Last {
                        index: line.index,
                        wants_body: inside && leaf.body.is_some(),
                        leaf: Some(leaf),
                    });
                }
            }
        }
        true
    }

    fn is_of_its_log(&mut self, leaf: &Leaf, line: &LeafLine) -> bool {
        let Some(epoch) = self.epoch.as_mut() else {
            return false;
        };
        let origin = epoch.origin.get_or_insert_with(|| leaf.origin.clone());
        leaf.origin == *origin
            && leaf.origin.epoch() == line.epoch
            && leaf.index == line.index
            && leaf.body.is_some() == (leaf.kind == LeafKind::Submission)
    }

    fn open_epoch(&mut self, number: u64, name: &str) {
        if self
            .epoch
            .as_ref()
            .is_some_and(|epoch| epoch.number > number)
        {
            self.tampered(Check::Indices, format!("{name} comes after a later epoch"));
        }
        self.close_epoch();
        self.epoch = Some(Epoch {
            number,
            origin: None,
            frontier: Frontier::default(),
            clocks: Clocks::default(),
            last: None,
            signing: Signing::default(),
            covered: Covered::default(),
        });
    }

    /// What a leaf says of time, and what a reader should know of it.
    fn observe(&mut self, leaf: &Leaf, inside: bool, name: &str) {
        if let Some(epoch) = self.epoch.as_mut() {
            self.keys
                .observe(leaf, &mut epoch.signing, &mut self.report);
        }
        if let Some(category) = leaf.category {
            self.slots.add(category, leaf.from, leaf.to);
            if inside {
                self.report.held(Check::Slots);
            }
        }
        let tick = self.epoch.as_mut().map(|epoch| {
            if inside {
                epoch.covered.wait(leaf.index);
            }
            epoch.clocks.observe(leaf)
        });
        match tick {
            Some(Tick::Back(by)) => {
                let first =
                    format!("{name} was written {by} ms before the one above it, in one boot");
                self.tampered(Check::Clock, first);
            }
            Some(Tick::Uncounted) => {
                self.lacking(
                    Check::Clock,
                    format!("{name} is of one boot too many to follow"),
                );
            }
            Some(Tick::Step(by)) => {
                self.report.held(Check::Clock);
                if inside {
                    self.report
                        .remark(format!("{name}: the wall clock stepped by {by:#}"));
                }
            }
            Some(Tick::Forward) | None => self.report.held(Check::Clock),
        }
        if !inside {
            return;
        }
        self.leaves_of_the_period += 1;
        self.report.last = self.report.last.max(Some(leaf.to));
        let telling = matches!(
            leaf.kind,
            LeafKind::Clock
                | LeafKind::Config
                | LeafKind::Gap
                | LeafKind::KeyRotate
                | LeafKind::Loss
                | LeafKind::Source
        );
        if telling || leaf.index == 0 {
            let (kind, at) = (leaf.kind, leaf.to);
            let category = leaf
                .category
                .map_or_else(String::new, |c| format!(" of {c}"));
            let note = leaf.note.as_ref().map_or("", |note| note.as_str());
            self.report
                .remark(format!("{name}: {kind}{category}, {at}: {note}"));
        }
    }

    fn body(&mut self, line: &BodyLine) {
        let name = name(line.epoch, line.index);
        let newest = self
            .epoch
            .as_mut()
            .filter(|epoch| epoch.number == line.epoch);
        let last = newest.and_then(|epoch| epoch.last.as_mut());
        let Some(last) = last.filter(|last| last.index == line.index && last.wants_body) else {
            self.misplaced(&format!("is a body of {name}, which has none here"));
            return;
        };
        last.wants_body = false;
        let Some(leaf) = last.leaf.clone() else {
            return;
        };
        self.report.held(Check::Lines);
        self.report.held(Check::Bodies);
        body::examine(&mut self.report, &line.bytes.0, &leaf, &name);
    }

    fn end(&mut self, said: &EndLine, counted: Option<EndLine>) {
        self.stage = Stage::Ended;
        self.report.held(Check::Lines);
        match counted {
            Some(counted) if counted == *said => self.report.held(Check::End),
            Some(counted) => self.lacking(Check::End, counted.difference(said)),
            None => {}
        }
    }

    /// What the newest leaf still lacks when something else than its body comes.
    fn close_leaf(&mut self) {
        let lacks = self.epoch.as_ref().and_then(|epoch| {
            let last = epoch.last.as_ref().filter(|last| last.wants_body)?;
            Some(last.name(epoch.number))
        });
        if let Some(leaf) = lacks {
            // A body that comes after this moment stands in the wrong place.
            if let Some(last) = self.epoch.as_mut().and_then(|epoch| epoch.last.as_mut()) {
                last.wants_body = false;
            }
            self.lacking(
                Check::Bodies,
                format!("{leaf} is a submission without its body"),
            );
        }
    }

    fn close_epoch(&mut self) {
        let Some(epoch) = self.epoch.take() else {
            return;
        };
        if let Some((first, last, count)) = epoch.covered.left() {
            let text = format!(
                "leaves of epoch {} from {first} to {last} are below no receipt",
                epoch.number
            );
            (0..count).for_each(|_| self.lacking(Check::Receipted, text.clone()));
        }
    }

    fn finish(mut self) -> Report {
        self.close_leaf();
        self.close_epoch();
        if self.stage != Stage::Ended {
            self.lacking(Check::End, "the file ends before its last line".to_owned());
        }
        if self.leaves_of_the_period == 0 {
            self.lacking(
                Check::Receipted,
                "the bundle has no leaf of the period".to_owned(),
            );
        }
        if let Some(period) = self.period {
            let holes: Vec<_> = self.slots.holes(period).collect();
            for (category, from, to) in holes {
                let text = format!("{category} has no leaf between {from} and {to}");
                self.report.remark(text.clone());
                self.lacking(Check::Slots, text);
            }
        }
        if self.slots.dropped > 0 {
            self.lacking(Check::Slots, "more holes than can be followed".to_owned());
        }
        if let (Some(last), Some(period)) = (self.report.last, self.period)
            && last < period.to
        {
            self.report.remark(unheard(last, period.to));
        }
        self.report
    }
}

fn is_unsigned<T>(result: &Result<T, CheckpointError>) -> bool {
    matches!(result, Err(CheckpointError::Note(NoteError::Unsigned(_))))
}

/// A signature that is wrong contradicts; one of a key that is not in the bundle says nothing.
fn verdict(error: &CheckpointError) -> Verdict {
    match error {
        CheckpointError::Note(NoteError::Unsigned(_)) => Verdict::Incomplete,
        _ => Verdict::Tampered,
    }
}

fn unheard(last: Timestamp, end: Timestamp) -> String {
    format!(
        "the newest leaf of the period ended {last}; from then to {end} the bundle says nothing"
    )
}

fn name(epoch: u64, index: u64) -> String {
    format!("leaf {index} of epoch {epoch}")
}
