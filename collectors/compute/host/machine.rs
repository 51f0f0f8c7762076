//! What the machine is: processor model, size, real or virtual.

use std::collections::BTreeSet;

use cms_spec::units::Bytes;

use crate::host::{Host, read_text};

/// Longest name of a product or a processor that goes into the instance type.
const NAME_CHARS_MAX: usize = 80;

/// What vendors leave in DMI fields that they did not fill.
const DMI_FILLERS: [&str; 9] = [
    "default string",
    "n/a",
    "none",
    "not applicable",
    "not specified",
    "system product name",
    "to be filled by o.e.m.",
    "unknown",
    "0123456789",
];

/// Vendors whose machines are virtual. Amazon's metal instances are told by the missing hypervisor
/// flag.
const VIRTUAL_VENDORS: [&str; 8] = [
    "bochs",
    "innotek",
    "kvm",
    "openstack",
    "parallels",
    "qemu",
    "vmware",
    "xen",
];

/// What does not change while the machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// The processor's plain name, for example `AMD EPYC 7763`; nothing when it is not told.
    pub(super) processor: Option<String>,
    /// Processor packages, at least one.
    pub(super) chips: u64,
    /// Whether a hypervisor stands between us and the hardware.
    pub(super) is_virtual: bool,
    /// The vendor's name of the machine, where it is told.
    product: Option<String>,
}

impl Machine {
    /// Reads what the machine tells; what it does not tell is absent.
    pub(super) fn read(host: &Host) -> Self {
        let cpuinfo = read_text(&host.proc("cpuinfo")).unwrap_or_default();
        let dmi = |field: &str| {
            let text = read_text(&host.sys(&format!("class/dmi/id/{field}"))).ok()?;
            let text = plain(text.trim());
            let is_filler = DMI_FILLERS.contains(&text.to_lowercase().as_str());
            (!text.is_empty() && !is_filler).then_some(text)
        };
        let vendor = dmi("sys_vendor").unwrap_or_default().to_lowercase();
        let is_virtual = has_hypervisor_flag(&cpuinfo)
            || VIRTUAL_VENDORS.iter().any(|v| vendor.contains(v))
            || host.sys("hypervisor/type").exists();
        let model = read_text(&host.sys("firmware/devicetree/base/model")).ok();
        let model = model
            .map(|m| plain(&m.replace('\0', " ")))
            .filter(|m| !m.is_empty());
        Self {
            processor: processor(&cpuinfo),
            chips: chips(&cpuinfo),
            is_virtual,
            product: dmi("product_name").or(model),
        }
    }

    /// Says what the instance is, for example `AMD EPYC 7763, 2 cpus, 24 GiB`.
    ///
    /// A cloud's own type is used as it stands where the firmware tells it.
    pub(super) fn instance_type(&self, cpus_milli: u64, memory: Bytes) -> String {
        let is_cloud_type = |p: &&String| {
            // `m5.large`: family and size around one dot, as Amazon puts it into DMI.
            let well_formed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            self.is_virtual && p.matches('.').count() == 1 && p.chars().all(well_formed)
        };
        if let Some(product) = self.product.as_ref().filter(is_cloud_type) {
            return product.clone();
        }
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.product.clone().filter(|_| !self.is_virtual));
        parts.push(
            self.processor
                .clone()
                .unwrap_or_else(|| "unknown processor".to_owned()),
        );
        parts.push(format!("{} cpus", thousandths(cpus_milli)));
        parts.push(size(memory));
        parts.join(", ")
    }
}

/// A number of thousandths without needless digits: 2000 is `2`, 500 is `0.5`.
fn thousandths(value: u64) -> String {
    let text = format!("{}.{:03}", value / 1000, value % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn size(bytes: Bytes) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let rounded = |unit: u64| (bytes.0.saturating_add(unit / 2)) / unit;
    if bytes.0 < GIB {
        format!("{} MiB", rounded(MIB))
    } else {
        format!("{} GiB", rounded(GIB))
    }
}

fn field<'a>(cpuinfo: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    cpuinfo.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn has_hypervisor_flag(cpuinfo: &str) -> bool {
    let flags = field(cpuinfo, "flags").next().unwrap_or_default();
    flags.split_ascii_whitespace().any(|f| f == "hypervisor")
}

fn chips(cpuinfo: &str) -> u64 {
    let ids: BTreeSet<&str> = field(cpuinfo, "physical id").collect();
    u64::try_from(ids.len()).unwrap_or(u64::MAX).max(1)
}

fn processor(cpuinfo: &str) -> Option<String> {
    ["model name", "cpu model", "Hardware"]
        .into_iter()
        .find_map(|key| field(cpuinfo, key).next())
        .map(plain_processor_name)
        .filter(|name| !name.is_empty())
}

/// Strips marks, clock and core count: `AMD EPYC 7763 64-Core Processor` is an `AMD EPYC 7763`.
fn plain_processor_name(name: &str) -> String {
    let name = name.split('@').next().unwrap_or_default();
    let mut plainer = name.to_owned();
    for mark in ["(R)", "(r)", "(TM)", "(tm)"] {
        plainer = plainer.replace(mark, " ");
    }
    let is_noise = |word: &&str| {
        let count = word.strip_suffix("-Core").map(str::as_bytes);
        ["CPU", "Processor", "processor"].contains(word)
            || count.is_some_and(|c| c.iter().all(u8::is_ascii_digit))
    };
    let words: Vec<&str> = plainer
        .split_whitespace()
        .filter(|w| !is_noise(w))
        .collect();
    plain(&words.join(" "))
}

/// A text that is fit for a payload: one line, printable, not too long.
fn plain(text: &str) -> String {
    let kept: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_CHARS_MAX)
        .collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_names_become_plain() {
        let cases = [
            ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763"),
            (
                "Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz",
                "Intel Xeon Platinum 8380",
            ),
            (
                "Intel(R) Xeon(R) CPU E5-2698 v4 @ 2.20GHz",
                "Intel Xeon E5-2698 v4",
            ),
            ("Intel(R) Xeon(R) Processor", "Intel Xeon"),
            ("\u{1b}[31mEvil", "[31mEvil"),
        ];
        for (told, plain) in cases {
            assert_eq!(plain_processor_name(told), plain);
        }
    }

    fn machine(product: Option<&str>, is_virtual: bool) -> Machine {
        Machine {
            processor: Some("AMD EPYC 7763".to_owned()),
            chips: 2,
            is_virtual,
            product: product.map(str::to_owned),
        }
    }

    #[test]
    fn the_instance_type_says_model_and_size() {
        let memory = Bytes(24_731_708 * 1024);
        let real = machine(Some("PowerEdge R7525"), false);
        assert_eq!(
            real.instance_type(256_000, memory),
            "PowerEdge R7525, AMD EPYC 7763, 256 cpus, 24 GiB"
        );
        let guest = machine(Some("Standard PC (Q35 + ICH9, 2009)"), true);
        assert_eq!(
            guest.instance_type(2_000, memory),
            "AMD EPYC 7763, 2 cpus, 24 GiB"
        );
        assert_eq!(
            guest.instance_type(500, Bytes(256 << 20)),
            "AMD EPYC 7763, 0.5 cpus, 256 MiB"
        );
        let cloud = machine(Some("m6a.large"), true);
        assert_eq!(cloud.instance_type(2_000, memory), "m6a.large");
    }

    #[test]
    fn packages_and_hypervisor_are_read() {
        let text = "processor : 0\nphysical id : 0\nflags : fpu vme hypervisor\n\
                    processor : 1\nphysical id : 1\n";
        assert_eq!(chips(text), 2);
        assert!(has_hypervisor_flag(text));
        assert_eq!(
            (chips(""), has_hypervisor_flag("flags : fpu\n")),
            (1, false)
        );
    }
}
