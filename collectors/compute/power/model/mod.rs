//! Power from processor utilisation: a straight line from idle to full power.
//!
//! Owns: which line belongs to a machine. Promises: the two ends are configured, or those of a
//! measured server with the same processor and as many packages; an unknown machine gets no line.
//! Refuses: a mean over a family of processors, and an assumed utilisation.

mod table;

use cms_spec::provenance::{Confidence, Origin, Quality};
use cms_spec::units::{Microjoules, Milliwatts};

use self::table::{ROWS, Row, VERSION};
use super::{Instance, Machine, Rung, Span, Verdict};
use crate::checked::Watts;

/// A line from idle to full power, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    idle: Milliwatts,
    full: Milliwatts,
    method: String,
    confidence: Confidence,
}

/// The rung `model`.
pub(super) struct Model {
    line: Result<Line, String>,
}

impl Model {
    pub(super) fn new(configured: Option<(Watts, Watts)>, machine: &Machine) -> Self {
        let line = match configured {
            Some((idle, full)) => Ok(Line {
                idle: Milliwatts(idle.0.saturating_mul(1000)),
                full: Milliwatts(full.0.saturating_mul(1000)),
                method: "linear/1 configured".to_owned(),
                confidence: Confidence::D,
            }),
            None => measured(machine),
        };
        Self { line }
    }
}

impl Rung for Model {
    fn name(&self) -> &str {
        "model"
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        match (&self.line, span) {
            (Err(reason), _) => Verdict::Invalid(reason.clone()),
            (Ok(_), None) => Verdict::Baseline,
            (Ok(line), Some(span)) => line.energy(span).map_or_else(
                || Verdict::Invalid("no processor time has passed".to_owned()),
                |energy| Verdict::Energy {
                    energy,
                    over: span.over,
                },
            ),
        }
    }

    fn origin(&self) -> Origin {
        let (method, confidence) = match &self.line {
            Ok(line) => (line.method.clone(), line.confidence),
            Err(_) => ("linear/1".to_owned(), Confidence::F),
        };
        Origin {
            source: "model".to_owned(),
            method,
            quality: Quality::Estimated,
            confidence,
            fallback: None,
            note: None,
        }
    }
}

impl Line {
    /// Idle energy and the busy share of the rest; nothing when no processor time has passed.
    fn energy(&self, span: &Span) -> Option<Microjoules> {
        let above_idle = u128::from((self.full - self.idle).over(span.over).0);
        let busy = u128::from(span.busy.min(span.capacity).0);
        let busy_energy = (above_idle * busy).checked_div(u128::from(span.capacity.0))?;
        let busy_energy = Microjoules(u64::try_from(busy_energy).unwrap_or(u64::MAX));
        Some(self.idle.over(span.over) + busy_energy)
    }
}

/// The line of a measured server with this processor.
fn measured(machine: &Machine) -> Result<Line, String> {
    let hint = "configure idle_watts and max_watts";
    let Some(processor) = &machine.processor else {
        return Err(format!("the processor does not tell its name: {hint}"));
    };
    let rows = || {
        ROWS.iter()
            .filter(|r| r.processor.eq_ignore_ascii_case(processor))
    };
    let unknown =
        || format!("no measured server with the processor {processor:?} is in {VERSION}: {hint}");
    match machine.instance {
        Instance::Physical => {
            rows().next().ok_or_else(unknown)?;
            let row = rows().find(|r| r.chips == machine.chips);
            let other = || {
                let chips = machine.chips;
                format!(
                    "no measured server with {chips} of the processor {processor:?} is in {VERSION}: {hint}"
                )
            };
            row.map(whole).ok_or_else(other)
        }
        // How many packages the hardware has is not told; rows come with fewer packages first.
        Instance::Container { cpus_milli } | Instance::Virtual { cpus_milli } => rows()
            .next()
            .map(|row| share(row, cpus_milli))
            .ok_or_else(unknown),
    }
}

fn whole(row: &Row) -> Line {
    Line {
        idle: Milliwatts(row.idle_mw),
        full: Milliwatts(row.max_mw),
        method: format!("linear/1 {VERSION}"),
        confidence: Confidence::D,
    }
}

/// The part of a server that some of its threads stand for.
fn share(row: &Row, cpus_milli: u64) -> Line {
    let threads_milli = row.threads.saturating_mul(1000);
    let cpus_milli = cpus_milli.min(threads_milli);
    let part = |mw: u64| Milliwatts(mw.saturating_mul(cpus_milli) / threads_milli);
    let tenths = |milli: u64| format!("{}.{}", milli / 1000, milli % 1000 / 100);
    Line {
        idle: part(row.idle_mw),
        full: part(row.max_mw),
        method: format!(
            "linear/1 {VERSION} share {} of {} threads",
            tenths(cpus_milli).trim_end_matches(".0"),
            row.threads
        ),
        confidence: Confidence::E,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cms_spec::units::Millis;
    use proptest::prelude::*;

    fn machine(processor: &str, chips: u64, instance: Instance) -> Machine {
        Machine {
            processor: Some(processor.to_owned()),
            chips,
            instance,
        }
    }

    fn span(busy: u64, capacity: u64) -> Span {
        Span {
            over: Millis(1000),
            busy: Millis(busy),
            capacity: Millis(capacity),
        }
    }

    #[test]
    fn a_known_server_has_the_line_of_its_own_size() {
        let line = measured(&machine("AMD EPYC 7763", 2, Instance::Physical)).unwrap();
        assert_eq!(
            (line.idle, line.full),
            (Milliwatts(94_600), Milliwatts(408_000))
        );
        assert_eq!(line.energy(&span(0, 10)), Some(Microjoules(94_600_000)));
        assert_eq!(line.energy(&span(10, 10)), Some(Microjoules(408_000_000)));
        assert_eq!(line.energy(&span(5, 10)), Some(Microjoules(251_300_000)));
        assert_eq!(line.energy(&span(0, 0)), None);
    }

    #[test]
    fn a_guest_has_the_share_of_its_threads() {
        let guest = Instance::Virtual { cpus_milli: 2000 };
        let line = measured(&machine("amd epyc 7763", 1, guest)).unwrap();
        assert_eq!((line.idle, line.full), (Milliwatts(843), Milliwatts(3750)));
        assert_eq!(
            line.method,
            "linear/1 specpower-2026-03 share 2 of 128 threads"
        );
        assert_eq!(line.confidence, Confidence::E);
    }

    #[test]
    fn an_unknown_machine_has_no_line() {
        let refusal = |machine| measured(&machine).unwrap_err();
        assert!(
            refusal(machine("Intel Xeon", 1, Instance::Physical)).contains("no measured server")
        );
        assert!(refusal(machine("AMD EPYC 7763", 4, Instance::Physical)).contains("with 4 of"));
        let nameless = Machine {
            processor: None,
            chips: 1,
            instance: Instance::Physical,
        };
        assert!(refusal(nameless).contains("idle_watts"));
    }

    proptest! {
        #[test]
        fn power_stays_between_idle_and_full(busy: u64, capacity in 1_u64.., over in 0..1_000_000_u64) {
            let line = whole(&ROWS[0]);
            let span = Span { over: Millis(over), busy: Millis(busy), capacity: Millis(capacity) };
            let energy = line.energy(&span).unwrap();
            prop_assert!(line.idle.over(span.over) <= energy && energy <= line.full.over(span.over));
        }
    }
}
