//! Energy counters of processor packages and their memory, from the kernel's powercap tree.
//!
//! Owns: which counters count and what two readings of them mean. Promises: each zone is subtracted
//! alone, with its own wrap; a gap is never turned into energy. Refuses: `psys`, `core` and
//! `uncore`, which contain or repeat a package; the `mmio` mirror; counters that a hypervisor
//! shows.

mod zone;

use std::path::{Path, PathBuf};

use cms_spec::provenance::{Confidence, Origin};

use self::zone::{Kind, Outcome, Zone};
use super::{Instance, Rung, Span, Verdict};
use crate::host::{read_number, read_text};
use crate::{CollectError, Host};

/// More zones than any machine has; a larger tree is refused.
const ZONES_MAX: usize = 256;

/// What lets the agent read `energy_uj`, which only root may read since CVE-2020-8694.
const PERMISSION_HINT: &str = "give the agent CAP_DAC_READ_SEARCH, or install a udev rule \
                               that lets its group read energy_uj of the powercap subsystem";

/// The rung `rapl`.
pub(super) struct Rapl {
    powercap: PathBuf,
    instance: Instance,
    before: Vec<Zone>,
    has_dram: bool,
}

impl Rapl {
    pub(super) fn new(host: &Host, instance: Instance) -> Self {
        Self {
            powercap: host.sys("class/powercap"),
            instance,
            before: Vec::new(),
            has_dram: false,
        }
    }
}

impl Rung for Rapl {
    fn name(&self) -> &str {
        "rapl"
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        let refusal = match self.instance {
            Instance::Container { .. } => {
                Some("its counters are those of the whole machine and not of this container")
            }
            Instance::Physical => None,
            Instance::Virtual { .. } => {
                Some("this is a virtual machine, which has no energy counters of its own")
            }
        };
        if let Some(refusal) = refusal {
            return Verdict::Invalid(refusal.to_owned());
        }
        let after = match survey(&self.powercap) {
            Ok(zones) => zones,
            Err(error) => {
                self.before.clear();
                return Verdict::Invalid(reason(&error));
            }
        };
        self.has_dram = after.iter().any(|z| z.kind == Kind::Dram);
        let before = std::mem::replace(&mut self.before, after);
        let Some(span) = span else {
            return Verdict::Baseline;
        };
        match zone::energy(&before, &self.before, span.over) {
            Outcome::Energy(energy) => Verdict::Energy {
                energy,
                over: span.over,
            },
            Outcome::Gap => Verdict::Baseline,
            Outcome::Untrusted(why) => Verdict::Invalid(why),
        }
    }

    fn is_part(&self) -> bool {
        true
    }

    fn origin(&self) -> Origin {
        // Component power: what the package and its memory draw, not what the machine takes from
        // the plug.
        let boundary = if self.has_dram {
            "package+dram"
        } else {
            "package"
        };
        Origin::measured(
            "rapl/sysfs",
            &format!("rapl-sysfs/1 {boundary}"),
            Confidence::B,
        )
    }
}

/// Reads the counters that count, packages first.
fn survey(powercap: &Path) -> Result<Vec<Zone>, CollectError> {
    let refuse = |source| CollectError::from_io(powercap, source);
    let mut names = Vec::new();
    for entry in powercap.read_dir().map_err(refuse)? {
        let name = entry.map_err(refuse)?.file_name();
        if let Some(name) = name.to_str().filter(|n| zone::is_zone(n)) {
            names.push(name.to_owned());
        }
        if names.len() > ZONES_MAX {
            return Err(CollectError::malformed(
                powercap,
                "it has more than 256 RAPL zones",
            ));
        }
    }
    names.sort_unstable();
    let mut labelled = Vec::new();
    for name in names {
        let label = read_text(&powercap.join(&name).join("name"))?
            .trim()
            .to_owned();
        labelled.push((name, label));
    }
    let counted = zone::counted(&labelled);
    if counted.is_empty() {
        return Err(CollectError::Vanished {
            what: format!("{}/intel-rapl:*/package-*", powercap.display()),
        });
    }
    let read = |(name, label, kind): (String, String, Kind)| {
        let directory = powercap.join(&name);
        Ok(Zone {
            energy_uj: read_number(&directory.join("energy_uj"))?,
            range_uj: read_number(&directory.join("max_energy_range_uj"))?,
            name,
            label,
            kind,
        })
    };
    counted.into_iter().map(read).collect()
}

/// Says in one line why the counters cannot be read, and what helps.
fn reason(error: &CollectError) -> String {
    match error {
        CollectError::Denied { path, .. } => {
            format!("may not read {}: {PERMISSION_HINT}", path.display())
        }
        CollectError::Unreachable { source, .. } => format!("{error}: {source}"),
        CollectError::Vanished { what } => {
            format!("this machine shows no RAPL counters: there is no {what}")
        }
        other => other.to_string(),
    }
}
