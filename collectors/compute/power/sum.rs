//! Parts of a machine that are measured apart, such as `rapl+nvml`, as one rung.
//!
//! Promises: the energy of a span is that of all parts that the machine has, over exactly that span, or
//! there is none. Refuses: a sum that lacks a part which should be there.

use cms_spec::provenance::{Confidence, Origin, Quality};

use super::shared::Part;
use super::{Rung, Span, Verdict};

/// Several rungs that measure different parts of the machine, or one.
pub(super) struct Sum {
    /// Of the parts that this machine has.
    name: String,
    parts: Vec<Part>,
    /// Those that spoke last.
    spoken: Vec<usize>,
}

impl Sum {
    pub(super) fn new(parts: Vec<Part>) -> Self {
        let all: Vec<usize> = (0..parts.len()).collect();
        Self {
            name: names(&parts, &all),
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
        let verdicts: Vec<Verdict> = self.parts.iter_mut().map(|part| part.read(span)).collect();
        let of_verdicts = || verdicts.iter().enumerate();
        let is_there = |(_, verdict): &(usize, &Verdict)| !matches!(verdict, Verdict::Absent(_));
        let there: Vec<usize> = of_verdicts().filter(is_there).map(|(at, _)| at).collect();
        let nothing = there.is_empty();
        let spoken_of = if nothing {
            (0..verdicts.len()).collect()
        } else {
            there
        };
        self.name = names(&self.parts, &spoken_of);
        let why = |(at, verdict): (usize, &Verdict)| {
            let (Verdict::Absent(why) | Verdict::Invalid(why)) = verdict else {
                return None;
            };
            if !spoken_of.contains(&at) {
                return None;
            }
            Some(match self.parts.get(at) {
                Some(part) if spoken_of.len() > 1 => format!("{}: {why}", part.name()),
                _ => why.clone(),
            })
        };
        let reasons: Vec<String> = of_verdicts().filter_map(why).collect();
        if nothing {
            return Verdict::Absent(reasons.join("; "));
        }
        if !reasons.is_empty() {
            return Verdict::Invalid(reasons.join("; "));
        }
        self.spoken = spoken_of;
        let mut sum = None;
        for at in &self.spoken {
            match (verdicts.get(*at), sum) {
                (Some(Verdict::Energy { energy, over }), None) => sum = Some((*energy, *over)),
                // Parts add up over one and the same time.
                (Some(Verdict::Energy { energy, over }), Some((so_far, time))) if *over == time => {
                    sum = Some((so_far + *energy, time));
                }
                _ => return Verdict::Baseline,
            }
        }
        sum.map_or(Verdict::Baseline, |(energy, over)| Verdict::Energy {
            energy,
            over,
        })
    }

    fn is_part(&self) -> bool {
        self.parts.iter().all(Rung::is_part)
    }

    fn is_waiting(&self) -> bool {
        self.parts.iter().any(Rung::is_waiting)
    }

    fn origin(&self) -> Origin {
        let parts = self.spoken.iter().filter_map(|at| self.parts.get(*at));
        let origins: Vec<Origin> = parts.map(Rung::origin).collect();
        let list = |of: fn(&Origin) -> &str| {
            let texts: Vec<&str> = origins.iter().map(of).collect();
            texts.join(" + ")
        };
        let notes: Vec<&str> = origins.iter().filter_map(|o| o.note.as_deref()).collect();
        Origin {
            source: list(|origin| &origin.source),
            method: list(|origin| &origin.method),
            quality: origins
                .iter()
                .map(|o| o.quality)
                .max()
                .unwrap_or(Quality::Unavailable),
            confidence: origins
                .iter()
                .map(|o| o.confidence)
                .max()
                .unwrap_or(Confidence::F),
            fallback: None,
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        }
    }
}

fn names(parts: &[Part], which: &[usize]) -> String {
    let parts = which.iter().filter_map(|at| parts.get(*at));
    let names: Vec<&str> = parts.map(Rung::name).collect();
    names.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cms_spec::units::{Microjoules, Millis};
    use proptest::prelude::*;

    struct Says(&'static str, Verdict);

    impl Rung for Says {
        fn name(&self) -> &str {
            self.0
        }
        fn read(&mut self, _: Option<&Span>) -> Verdict {
            self.1.clone()
        }
        fn origin(&self) -> Origin {
            Origin::measured(self.0, &format!("{}/1", self.0), Confidence::B)
        }
    }

    const SPAN: Span = Span {
        over: Millis(15_000),
        busy: Millis(0),
        capacity: Millis(30_000),
    };

    fn sum(parts: impl IntoIterator<Item = (&'static str, Verdict)>) -> Sum {
        let part = |(name, verdict)| Part::new(name, Box::new(Says(name, verdict)));
        Sum::new(parts.into_iter().map(part).collect())
    }

    fn energy(energy: u64) -> Verdict {
        Verdict::Energy {
            energy: Microjoules(energy),
            over: SPAN.over,
        }
    }

    #[test]
    fn a_part_that_is_not_there_is_left_out_and_one_that_fails_fails_all() {
        let absent = || Verdict::Absent("no GPU".to_owned());
        let failed = || Verdict::Invalid("no permission".to_owned());
        let mut one = sum([("rapl", energy(5)), ("nvml", absent())]);
        assert_eq!(one.read(Some(&SPAN)), energy(5));
        assert_eq!((one.name(), &*one.origin().source), ("rapl", "rapl"));
        let mut two = sum([("rapl", failed()), ("nvml", energy(7))]);
        let why = Verdict::Invalid("rapl: no permission".to_owned());
        assert_eq!(two.read(Some(&SPAN)), why);
        let mut alone = sum([("rapl", failed()), ("nvml", absent())]);
        assert_eq!(alone.read(Some(&SPAN)), failed());
        let mut none = sum([("nvml", absent()), ("amdgpu", absent())]);
        let why = Verdict::Absent("nvml: no GPU; amdgpu: no GPU".to_owned());
        assert_eq!(none.read(Some(&SPAN)), why);
        let mut waiting = sum([("rapl", energy(5)), ("nvml", Verdict::Baseline)]);
        assert_eq!(waiting.read(Some(&SPAN)), Verdict::Baseline);
    }

    #[test]
    fn a_shared_part_is_read_once_for_each_tick() {
        struct Counts(u64);
        impl Rung for Counts {
            fn name(&self) -> &str {
                "counts"
            }
            fn read(&mut self, _: Option<&Span>) -> Verdict {
                self.0 += 1;
                energy(self.0)
            }
            fn origin(&self) -> Origin {
                Origin::measured("counts", "counts/1", Confidence::B)
            }
        }
        let mut first = Part::new("counts", Box::new(Counts(0)));
        let mut second = first.share();
        for tick in 1..=3 {
            assert_eq!(first.read(Some(&SPAN)), energy(tick));
            assert_eq!(second.read(Some(&SPAN)), energy(tick));
        }
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_node(
            parts in prop::collection::vec(1..u64::from(u32::MAX), 1..5),
        ) {
            const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
            let mut node = sum(NAMES.into_iter().zip(parts.iter().map(|part| energy(*part))));
            prop_assert_eq!(node.read(Some(&SPAN)), energy(parts.iter().sum()));
        }
    }
}
