//! Looking at a device: which units answer, which registers are there, and what they hold at two looks.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use super::super::fault::Fault;
use super::super::line::{Line, Manner};
use super::super::plan::{Limits, Plan, Round};
use super::super::register::{Kind, Span};

/// Between two looks: a meter that measures has changed its last digit, a constant has not.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// So many requests in a row without an answer end a look at a device that had answered before.
const SILENT_MAX: u32 = 5;

/// What one kind of registers of one unit held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// What was read, by address.
    pub registers: BTreeMap<u16, Register>,
    /// How many requests it took.
    pub requests: u32,
    /// The registers that the device refused, joined.
    pub refused: Vec<Span>,
    /// Why it ended early.
    pub ended: Option<String>,
}

/// A register at two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// At the first look.
    pub first: u16,
    /// At the second look, if it was there again.
    pub second: Option<u16>,
    /// Which request read it at the first look; only registers of one request belong to one moment.
    pub request: u32,
}

/// What a unit does when it is asked for one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It answers.
    Answers,
    /// It answers that it will not, in words.
    Refuses(String),
    /// Nobody does, in words.
    Absent(String),
}

/// Looks twice at registers of a unit.
///
/// # Errors
/// When the unit does not answer at all.
pub(super) async fn scan(
    line: &mut Line,
    unit: u8,
    span: Span,
    (limits, manner): (Limits, Manner),
    mut say: impl FnMut(String),
) -> Result<Scan, Fault> {
    let addresses = (span.first()..=u16::MAX).take(span.count().into());
    let mut plan = plan(span.kind(), addresses, limits);
    let mut scan = Scan::default();
    for is_second in [false, true] {
        if is_second {
            say(format!("unit {unit}: waiting for the second look"));
            sleep(BETWEEN_LOOKS).await;
            plan = self::plan(span.kind(), scan.registers.keys().copied(), limits);
        }
        let (mut round, mut silent) = (Round::of(&plan), 0);
        while let Some(batch) = round.following() {
            say(format!(
                "unit {unit}: {}, {} registers found",
                batch.span,
                scan.registers.len()
            ));
            scan.requests = scan.requests.saturating_add(1);
            match line.ask(unit, batch.span, manner).await {
                Ok(words) => {
                    silent = 0;
                    scan.take(batch.span, &words, is_second);
                    round.answered(&batch, &mut plan);
                }
                Err(fault) if fault.is_about_registers() => {
                    silent = 0;
                    if !round.refused(&batch, &mut plan) && !is_second {
                        scan.refuse(batch.span);
                    }
                }
                Err(fault)
                    if scan.registers.is_empty()
                        && scan.refused.is_empty()
                        && fault.is_of_unit() =>
                {
                    return Err(fault);
                }
                Err(fault) => {
                    round.failed();
                    silent += 1;
                    scan.ended = Some(format!("{}: {}", batch.span, fault.reason()));
                    if silent >= SILENT_MAX {
                        return Ok(scan);
                    }
                }
            }
        }
    }
    Ok(scan)
}

/// Each register is a value of its own, so that only those that are not there are missed.
fn plan(kind: Kind, addresses: impl Iterator<Item = u16>, limits: Limits) -> Plan {
    let singles = addresses.filter_map(|address| Span::new(kind, address, 1).ok());
    Plan::new(singles.collect(), limits)
}

/// Asks units for one register each.
pub(super) async fn units(
    line: &mut Line,
    numbers: impl Iterator<Item = u8>,
    span: Span,
    manner: Manner,
    mut say: impl FnMut(String),
) -> Vec<(u8, Presence)> {
    let mut found = Vec::new();
    for unit in numbers {
        say(format!("asking unit {unit}, {} answered", found.len()));
        let presence = match line.ask(unit, span, manner).await {
            Ok(_) => Presence::Answers,
            Err(fault) if !fault.is_of_unit() => Presence::Refuses(fault.reason()),
            Err(fault) => Presence::Absent(fault.reason()),
        };
        found.push((unit, presence));
    }
    found
}

impl Scan {
    fn take(&mut self, span: Span, words: &[u16], is_second: bool) {
        for (address, word) in (span.first()..=u16::MAX).zip(words) {
            if is_second {
                if let Some(register) = self.registers.get_mut(&address) {
                    register.second = Some(*word);
                }
                continue;
            }
            let register = Register {
                first: *word,
                second: None,
                request: self.requests,
            };
            self.registers.insert(address, register);
        }
    }

    fn refuse(&mut self, span: Span) {
        let joined = self
            .refused
            .last()
            .filter(|last| last.end() == u32::from(span.first()))
            .and_then(|last| last.to(span));
        match (joined, self.refused.last_mut()) {
            (Some(joined), Some(last)) => *last = joined,
            _ => self.refused.push(span),
        }
    }

    /// The registers from an address on, if one request read them all: at the first and at the second look.
    #[must_use]
    pub fn together(&self, address: u16, count: u16) -> Option<(Vec<u16>, Option<Vec<u16>>)> {
        let end = address.checked_add(count.checked_sub(1)?)?;
        let all: Vec<&Register> = self
            .registers
            .range(address..=end)
            .map(|(_, register)| register)
            .collect();
        let request = all.first()?.request;
        if all.len() != usize::from(count) || all.iter().any(|register| register.request != request)
        {
            return None;
        }
        let first = all.iter().map(|register| register.first).collect();
        let second = all.iter().map(|register| register.second).collect();
        Some((first, second))
    }

    /// Whether any register holds something.
    #[must_use]
    pub fn holds_something(&self) -> bool {
        self.registers.values().any(|register| register.first != 0)
    }
}

/// What a person asked for as `0..100` (100 is not in it), or as one number.
///
/// # Errors
/// In words.
pub fn range(text: &str) -> Result<std::ops::Range<u32>, String> {
    let wrong = || format!("{text:?} is no range: write 0..100");
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
    let range = match text.split_once("..") {
        Some((from, to)) => number(from)?..number(to)?,
        None => number(text)?..number(text)?.saturating_add(1),
    };
    if range.is_empty() || range.end > super::super::register::ADDRESSES {
        return Err(wrong());
    }
    Ok(range)
}

/// The registers of a range.
pub(super) fn span(kind: Kind, range: &std::ops::Range<u32>) -> Option<Span> {
    let first = u16::try_from(range.start).ok()?;
    let count = u16::try_from(range.end.checked_sub(range.start)?).ok()?;
    Span::new(kind, first, count).ok()
}
