//! Parts of a machine that are measured apart, such as `rapl+nvml`, as one rung.
//!
//! Promises: the energy of a span is that of all parts that the machine has, over exactly that span, or
//! there is none. Refuses: a sum that lacks a part which should be there.

use cms_spec::provenance::{Confidence, Origin};
use cms_spec::units::Microjoules;

use super::{Rung, Span, Verdict};

/// Several rungs that measure different parts of the machine.
pub(super) struct Sum {
    name: String,
    parts: Vec<Box<dyn Rung>>,
    /// Those that spoke last.
    spoken: Vec<usize>,
}

impl Sum {
    pub(super) fn new(parts: Vec<Box<dyn Rung>>) -> Self {
        let names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
        Self {
            name: names.join("+"),
            parts,
            spoken: Vec::new(),
        }
    }
}

impl Rung for Sum {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        let verdicts = self.parts.iter_mut().map(|part| part.read(span));
        let verdicts: Vec<Verdict> = verdicts.collect();
        let named = |part: &dyn Rung, why: &str| format!("{}: {why}", part.name());
        let mut sum = Microjoules::ZERO;
        let mut waits = false;
        let (mut absent, mut invalid, mut spoken) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (part, verdict)) in self.parts.iter().zip(&verdicts).enumerate() {
            match verdict {
                Verdict::Absent(why) => absent.push(named(part.as_ref(), why)),
                Verdict::Invalid(why) => invalid.push(named(part.as_ref(), why)),
                Verdict::Energy { energy, over } if span.is_some_and(|span| span.over == *over) => {
                    sum += *energy;
                    spoken.push(at);
                }
                Verdict::Energy { .. } | Verdict::Baseline => {
                    spoken.push(at);
                    waits = true;
                }
            }
        }
        self.spoken = spoken;
        match span {
            _ if !invalid.is_empty() => Verdict::Invalid(invalid.join("; ")),
            _ if self.spoken.is_empty() => Verdict::Absent(absent.join("; ")),
            Some(span) if !waits => Verdict::Energy {
                energy: sum,
                over: span.over,
            },
            _ => Verdict::Baseline,
        }
    }

    fn is_waiting(&self) -> bool {
        self.parts.iter().any(|part| part.is_waiting())
    }

    fn origin(&self) -> Origin {
        let parts = self.spoken.iter().filter_map(|at| self.parts.get(*at));
        let origins: Vec<Origin> = parts.map(|part| part.origin()).collect();
        let list = |of: fn(&Origin) -> &str| {
            let texts: Vec<&str> = origins.iter().map(of).collect();
            texts.join(" + ")
        };
        let notes: Vec<&str> = origins.iter().filter_map(|o| o.note.as_deref()).collect();
        let worst = origins.iter().map(|o| o.confidence).max();
        let mut origin = Origin::measured(
            &list(|o| &o.source),
            &list(|o| &o.method),
            worst.unwrap_or(Confidence::B),
        );
        origin.note = (!notes.is_empty()).then(|| notes.join("; "));
        origin
    }
}
