//! Sources that know the power of a whole machine, and instances that are only a part of one.

use cms_spec::provenance::{Confidence, Origin};

use super::{Instance, Rung, Span, Verdict};

/// A rung that is not asked, because it speaks of something else than this instance.
struct NotOfThis {
    name: &'static str,
    verdict: Verdict,
}

/// A rung of the whole machine: for a part of one it is refused if somebody configured it, and absent
/// otherwise.
pub(super) fn of_machine(
    name: &'static str,
    instance: Instance,
    is_configured: bool,
    rung: impl FnOnce() -> Box<dyn Rung>,
) -> Box<dyn Rung> {
    let why = match instance {
        Instance::Physical => return rung(),
        Instance::Container { .. } => {
            "its power is that of the whole machine and not of this container"
        }
        Instance::Virtual { .. } => "its power is not that of this virtual machine",
    };
    let verdict = if is_configured {
        Verdict::Invalid(why.to_owned())
    } else {
        Verdict::Absent(why.to_owned())
    };
    Box::new(NotOfThis { name, verdict })
}

impl Rung for NotOfThis {
    fn name(&self) -> &str {
        self.name
    }

    fn read(&mut self, _: Option<&Span>) -> Verdict {
        self.verdict.clone()
    }

    fn origin(&self) -> Origin {
        Origin::measured(self.name, self.name, Confidence::B)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checked::Watts;
    use crate::compute::power::constant::Constant;

    #[test]
    fn a_part_of_a_machine_has_no_power_of_the_whole() {
        let verdict = |instance, is_configured| {
            let rung = || Box::new(Constant::new(Watts(100))) as Box<dyn Rung>;
            of_machine("ipmi", instance, is_configured, rung).read(None)
        };
        let guest = Instance::Virtual { cpus_milli: 2_000 };
        let container = Instance::Container { cpus_milli: 500 };
        assert_eq!(verdict(Instance::Physical, true), Verdict::Baseline);
        assert!(matches!(verdict(guest, true), Verdict::Invalid(why) if why.contains("virtual")));
        assert!(matches!(verdict(guest, false), Verdict::Absent(_)));
        assert!(
            matches!(verdict(container, true), Verdict::Invalid(why) if why.contains("container"))
        );
    }
}
