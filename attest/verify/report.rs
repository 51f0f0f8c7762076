//! What a verification found: one line for each check, the first place where it fails, and the verdict over all.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::bundle::Period;

/// Most remarks of a report; what is left out is counted.
pub const REMARKS_MAX: usize = 100;

/// Longest text of a finding or a remark: what a bundle holds may be quoted in it.
const TEXT_CHARACTERS_MAX: usize = 400;

/// How evidence stands. The order is from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything holds.
    Ok,
    /// Nothing contradicts, but something that is needed is not there.
    Incomplete,
    /// Something contradicts what was signed, or cannot be.
    Tampered,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Every line reads and stands in its place.
    Lines,
    /// The file ends as it was written.
    End,
    /// Every leaf has its one text and belongs to its log.
    Leaves,
    /// Indices run from zero without a hole.
    Indices,
    /// Each key follows on the one before.
    Keys,
    /// The log key signed every head.
    LogSignatures,
    /// The dashboard countersigned every head.
    Cosignatures,
    /// The leaves lead to the root of every head.
    Roots,
    /// Every leaf of the period is below a countersigned head.
    Receipted,
    /// Every body has the digest and length of its leaf.
    Digests,
    /// Every submission of the period has its body.
    Bodies,
    /// Every body says the same as its leaf.
    Agreement,
    /// The time since boot never goes back within a boot.
    Clock,
    /// Every slot of a category between its first and last has its leaf.
    Slots,
    /// The figures of every body can be true.
    Arithmetic,
    /// Only where a dashboard verifies: its keys are the agent's.
    Enrolled,
    /// Only where a dashboard verifies: what it accepted is in the ledger as it was accepted.
    Accepted,
    /// Only where a dashboard verifies: the leaves lead to the heads that it cosigned last.
    HeldHeads,
}

impl Check {
    /// Those that need the bundle only, in the order of a report.
    pub const ALL: [Self; 15] = [
        Self::Lines,
        Self::End,
        Self::Leaves,
        Self::Indices,
        Self::Keys,
        Self::LogSignatures,
        Self::Cosignatures,
        Self::Roots,
        Self::Receipted,
        Self::Digests,
        Self::Bodies,
        Self::Agreement,
        Self::Clock,
        Self::Slots,
        Self::Arithmetic,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::Lines => "every line reads and stands in its place",
            Self::End => "the file is whole",
            Self::Leaves => "leaves have their one text and log",
            Self::Indices => "indices run from 0 without a hole",
            Self::Keys => "each new key follows on the one before",
            Self::LogSignatures => "heads are signed by the log key",
            Self::Cosignatures => "heads are countersigned by the dashboard",
            Self::Roots => "leaves lead to the root of each head",
            Self::Receipted => "leaves of the period are receipted",
            Self::Digests => "bodies have the digest and length of their leaf",
            Self::Bodies => "submissions of the period have their body",
            Self::Agreement => "bodies say the same as their leaf",
            Self::Clock => "time since boot never goes back",
            Self::Slots => "slots between first and last have their leaf",
            Self::Arithmetic => "figures add up and can be true",
            Self::Enrolled => "the keys are those of the agent that enrolled",
            Self::Accepted => "what was accepted is in the ledger as it was",
            Self::HeldHeads => "leaves lead to the head that is held here",
        }
    }
}

/// How one check went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked.
    pub check: Check,
    /// How it went.
    pub verdict: Verdict,
    /// How many things held.
    pub held: u64,
    /// How many did not.
    pub failed: u64,
    /// The first that is as bad as the verdict, in words.
    pub first: Option<String>,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of all checks.
    pub verdict: Verdict,
    /// The time that the bundle is about.
    pub period: Option<Period>,
    /// When the newest leaf of the period ended.
    pub last: Option<Timestamp>,
    /// Names of the keys that were used.
    pub keys: Vec<String>,
    /// One for each check.
    pub checks: Vec<Finding>,
    /// What a reader should know: steps of the clock, slots without a word, losses.
    pub remarks: Vec<String>,
    /// Remarks that were left out.
    pub remarks_dropped: u64,
}

impl Finding {
    const fn none(check: Check) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            held: 0,
            failed: 0,
            first: None,
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        Self {
            verdict: Verdict::Ok,
            period: None,
            last: None,
            keys: Vec::new(),
            checks: Check::ALL.map(Finding::none).to_vec(),
            remarks: Vec::new(),
            remarks_dropped: 0,
        }
    }
}

impl Report {
    /// What somebody found who knows more than the bundle says.
    pub fn record(&mut self, check: Check, outcome: Result<(), (Verdict, String)>) {
        if self.finding(check).is_none() {
            self.checks.push(Finding::none(check));
        }
        match outcome {
            Ok(()) => self.held(check),
            Err((verdict, first)) => self.fail(check, verdict, first),
        }
    }

    /// What a reader should know besides.
    pub fn note(&mut self, text: &str) {
        self.remark(text.to_owned());
    }

    /// One more thing held.
    pub(super) fn held(&mut self, check: Check) {
        if let Some(finding) = self.finding(check) {
            finding.held += 1;
        }
    }

    /// One did not.
    pub(super) fn fail(&mut self, check: Check, verdict: Verdict, first: String) {
        self.verdict = self.verdict.max(verdict);
        if let Some(finding) = self.finding(check) {
            finding.failed += 1;
            if verdict > finding.verdict {
                finding.verdict = verdict;
                finding.first = Some(plain(&first));
            }
        }
    }

    pub(super) fn remark(&mut self, text: String) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(plain(&text));
        } else {
            self.remarks_dropped += 1;
        }
    }

    fn finding(&mut self, check: Check) -> Option<&mut Finding> {
        self.checks
            .iter_mut()
            .find(|finding| finding.check == check)
    }
}

/// One line without control characters: whoever made a bundle must not draw on the terminal of who checks it.
fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(TEXT_CHARACTERS_MAX).map(shown).collect()
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            // Nothing of the kind is in the bundle.
            Verdict::Ok if self.held == 0 => "-",
            Verdict::Ok => "ok",
            Verdict::Incomplete | Verdict::Tampered => "FAIL",
        };
        write!(f, "{word:<4}  {:<48}", self.check.words())?;
        match &self.first {
            None => write!(f, " {}", self.held),
            Some(first) => write!(
                f,
                " {} of {}: {first}",
                self.failed,
                self.held + self.failed
            ),
        }
    }
}

/// One line for each check, the remarks, and the verdict.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(period) = &self.period {
            writeln!(f, "period  after {} up to {}", period.from, period.to)?;
        }
        for key in &self.keys {
            writeln!(f, "key     {key}")?;
        }
        for finding in &self.checks {
            writeln!(f, "{finding}")?;
        }
        for remark in &self.remarks {
            writeln!(f, "note  {remark}")?;
        }
        if self.remarks_dropped > 0 {
            writeln!(f, "note  and {} more", self.remarks_dropped)?;
        }
        f.write_str(match self.verdict {
            Verdict::Ok => "ok: the evidence is complete and nothing contradicts it\n",
            Verdict::Incomplete => {
                "incomplete: nothing contradicts the evidence, but not all of it is there\n"
            }
            Verdict::Tampered => "tampered: the evidence contradicts what was signed\n",
        })
    }
}
