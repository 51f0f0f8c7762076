//! Looking at a device before it is configured.
//!
//! Owns: what is asked for, in which order, and how it is told to a person: registers in all types and orders, plausible
//! readings, and the tables for them. Refuses: deciding; a person compares with the display of the device.

pub mod import;
pub mod rank;
pub mod scan;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use crate::web::{Tls, Web};

use super::decode::{Order, Type};
use super::endpoint::Endpoint;
use super::fault::Fault;
use super::line::{Line, Manner};
use super::plan::Limits;
use super::register::Kind;
use super::words::toml_text;

use rank::{Reading, number, rank};
use scan::{Presence, Scan};

/// Registers that are shown one by one; of more, those that hold something.
const SHOWN_MAX: usize = 200;

/// Readings that are put into the suggested table.
const SUGGESTED_MAX: usize = 12;

/// What a person wants to see.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The way to the device.
    pub endpoint: Endpoint,
    /// How it is verified over TLS.
    pub tls: Option<Tls>,
    /// Which units.
    pub units: Vec<u8>,
    /// Whether only to find out which units answer.
    pub units_only: bool,
    /// Which kinds of registers.
    pub kinds: Vec<Kind>,
    /// Which addresses.
    pub range: Range<u32>,
    /// What a request may hold.
    pub limits: Limits,
    /// How a unit is asked.
    pub manner: Manner,
    /// What the display says.
    pub expect: Option<f64>,
}

/// What there is, for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What was found, line by line.
    pub found: Vec<String>,
    /// The tables for it; empty when there is nothing to suggest.
    pub table: String,
}

/// Looks at a device. `say` is told what goes on.
///
/// # Errors
/// When there is no way to it, or nobody answers.
pub async fn look(
    wish: &Wish,
    web: Arc<dyn Web>,
    say: &(dyn Fn(String) + Sync),
) -> Result<Look, Fault> {
    let mut line = Line::new(wish.endpoint.clone(), wish.tls.clone(), web);
    let mut look = Look::default();
    let mut units = wish.units.clone();
    if units.len() > 1 || wish.units_only {
        let kind = wish.kinds.first().copied().unwrap_or(Kind::Holding);
        let one = scan::span(
            kind,
            &(wish.range.start..wish.range.start.saturating_add(1)),
        );
        let found = match one {
            Some(one) => scan::units(&mut line, units.iter().copied(), one, wish.manner, say).await,
            None => Vec::new(),
        };
        units = look.tell_units(&found);
        if wish.units_only || units.is_empty() {
            return Ok(look);
        }
    }
    let mut silent = None;
    for unit in units {
        let mut readings = Vec::new();
        for kind in &wish.kinds {
            let Some(span) = scan::span(*kind, &wish.range) else {
                continue;
            };
            match scan::scan(&mut line, unit, span, (wish.limits, wish.manner), say).await {
                Ok(scan) => {
                    let ranked = rank(*kind, &scan, wish.expect);
                    look.tell_scan(unit, *kind, &wish.range, &scan, &ranked);
                    readings.extend(ranked);
                }
                Err(fault) => {
                    look.found
                        .push(format!("unit {unit}, {kind} registers: {}", fault.reason()));
                    silent = Some(fault);
                }
            }
        }
        look.suggest(wish, unit, readings);
    }
    match silent {
        Some(fault) if look.table.is_empty() && look.found.len() <= wish.kinds.len() => Err(fault),
        _ => Ok(look),
    }
}

impl Look {
    fn tell_units(&mut self, found: &[(u8, Presence)]) -> Vec<u8> {
        let mut there = Vec::new();
        let mut absent = Vec::new();
        for (unit, presence) in found {
            match presence {
                Presence::Answers => {
                    there.push(*unit);
                    self.found.push(format!("unit {unit} answers"));
                }
                Presence::Refuses(why) => {
                    there.push(*unit);
                    self.found.push(format!("unit {unit} is there: {why}"));
                }
                Presence::Absent(why) => absent.push((*unit, why)),
            }
        }
        if let Some((unit, why)) = absent.first() {
            let count = absent.len();
            self.found.push(format!(
                "{count} units are not there; the first, {unit}: {why}"
            ));
        }
        if there.len() > 1 && absent.is_empty() {
            self.found
                .push("if all of them hold the same, the device answers for any number".to_owned());
        }
        there
    }

    fn tell_scan(
        &mut self,
        unit: u8,
        kind: Kind,
        range: &Range<u32>,
        scan: &Scan,
        ranked: &[Reading],
    ) {
        let asked = range.end - range.start;
        self.found.push(format!(
            "unit {unit}: {} of {asked} {kind} registers are there ({} requests, two looks)",
            scan.registers.len(),
            scan.requests
        ));
        for span in scan.refused.iter().take(SHOWN_MAX) {
            self.found.push(format!("  not there: {span}"));
        }
        if let Some(ended) = &scan.ended {
            self.found.push(format!("  no answer: {ended}"));
        }
        if kind.is_bit() {
            let on: Vec<String> = scan
                .registers
                .iter()
                .filter(|(_, bit)| bit.first != 0)
                .map(|(at, _)| at.to_string())
                .collect();
            let on = if on.is_empty() {
                "none".to_owned()
            } else {
                on.join(" ")
            };
            self.found.push(format!("  on: {on}"));
            return;
        }
        self.registers(scan);
        for reading in ranked {
            self.found.push(format!("  plausible: {}", told(reading)));
        }
    }

    /// Every register in all types and orders.
    fn registers(&mut self, scan: &Scan) {
        let is_long = scan.registers.len() > SHOWN_MAX;
        let shown = scan
            .registers
            .iter()
            .filter(|(_, register)| !is_long || register.first != 0);
        let mut left = 0_usize;
        for (count, (address, register)) in shown.enumerate() {
            if count >= SHOWN_MAX {
                left += 1;
                continue;
            }
            let mut line = format!("  {address:>5}  {:#06x}", register.first);
            for means in [Type::Int16, Type::Uint16, Type::Bcd16] {
                cell(&mut line, means, Order::Abcd, &[register.first]);
            }
            for means in [
                Type::Float32,
                Type::Int32,
                Type::Uint32,
                Type::Bcd32,
                Type::Float64,
                Type::Uint64,
            ] {
                let Some((words, _)) = scan.together(*address, means.registers()) else {
                    continue;
                };
                // What is zero in one order is zero in all.
                if words.iter().all(|word| *word == 0) {
                    continue;
                }
                for order in Order::ALL {
                    cell(&mut line, means, order, &words);
                }
            }
            self.found.push(line);
        }
        if left > 0 {
            self.found
                .push(format!("  and {left} more: narrow the range"));
        }
        self.texts(scan);
    }

    /// Runs of registers that hold text.
    fn texts(&mut self, scan: &Scan) {
        let mut run = (0_u16, String::new());
        let mut last = None;
        for (address, register) in &scan.registers {
            let bytes = register.first.to_be_bytes();
            let is_text = bytes
                .iter()
                .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
            let follows = last.is_some_and(|last: u16| last.checked_add(1) == Some(*address));
            if !is_text || !follows {
                self.text(&run);
                run = (*address, String::new());
            }
            if is_text {
                run.1.extend(bytes.map(char::from));
            }
            last = Some(*address);
        }
        self.text(&run);
    }

    fn text(&mut self, (address, text): &(u16, String)) {
        /// Shorter ones are chance.
        const CHARACTERS_MIN: usize = 6;
        let has_letters =
            text.chars().filter(char::is_ascii_alphanumeric).count() >= CHARACTERS_MIN;
        if has_letters {
            self.found
                .push(format!("  text at {address}: {:?}", text.trim()));
        }
    }

    fn suggest(&mut self, wish: &Wish, unit: u8, mut readings: Vec<Reading>) {
        if readings.is_empty() {
            return;
        }
        readings.sort_by(|a, b| b.score.cmp(&a.score).then(a.address.cmp(&b.address)));
        readings.truncate(SUGGESTED_MAX);
        let name = toml_text(&format!("meter-{unit}"));
        let _infallible = write!(
            self.table,
            "[[thermal.modbus]]\nname = {name}\nurl = {}\nunit = {unit}\n\n",
            toml_text(&wish.endpoint.to_string())
        );
        for reading in readings {
            let (kind, address) = (reading.kind, reading.address);
            let mut inside = format!(
                "device = {name}, {kind} = {address}, type = \"{}\"",
                reading.means.word()
            );
            if reading.means.registers() > 1 {
                let _infallible = write!(inside, ", order = \"{}\"", reading.order);
            }
            let _infallible = write!(
                self.table,
                "[thermal.points.{kind}_{address}]  # {}\nmodbus = {{ {inside} }}\n",
                told(&reading)
            );
            if let Some(scale) = reading.scale {
                let _infallible = writeln!(self.table, "scale = {scale}");
            }
            self.table += match reading.guess {
                rank::Guess::Temperature => "unit_of_measure = \"C\"\n\n",
                _ => "# unit_of_measure = \"\"  # the registers do not say it\n\n",
            };
        }
    }
}

/// A reading on one line.
fn told(reading: &Reading) -> String {
    let mut line = format!(
        "{} {} {}",
        reading.kind,
        reading.address,
        reading.means.word()
    );
    if reading.means.registers() > 1 {
        let _infallible = write!(line, " {}", reading.order);
    }
    let _infallible = write!(line, " = {}", shown(reading.value));
    if let Some(scale) = reading.scale {
        let scaled = reading.value * scale.factor();
        let _infallible = write!(line, " x {scale} = {}", shown(scaled));
    }
    if let Some(again) = reading.again.filter(|again| *again != reading.value) {
        let _infallible = write!(line, ", then {}", shown(again));
    }
    let _infallible = write!(line, " ({})", reading.guess.words());
    line
}

fn cell(line: &mut String, means: Type, order: Order, words: &[u16]) {
    let Some(value) = means.decode(words, order).ok().as_ref().and_then(number) else {
        return;
    };
    let is_plain = order == Order::Abcd;
    let _infallible = match (is_plain, means.registers()) {
        (_, 1) => write!(line, "  {} {}", means.word(), shown(value)),
        (true, _) => write!(line, "  {} {order} {}", means.word(), shown(value)),
        (false, _) => write!(line, " {order} {}", shown(value)),
    };
}

/// At most seven digits that count, wild magnitudes as powers.
fn shown(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (value.fract() == 0.0 && magnitude < 1e15) {
        format!("{value:.0}")
    } else if (0.001..1e7).contains(&magnitude) {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.3e}")
    }
}
