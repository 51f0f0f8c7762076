//! What the page of a node_exporter or windows_exporter says about its machine.
//!
//! Promises: counters as the exporter counts them, in integers; each byte and operation once; a
//! figure of which one value is negative, not a number or out of range is absent. Refuses: series
//! that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cms_spec::models::sample_rank;
use cms_spec::units::{Bytes, Fixed, Microjoules, Millis, Milliwatts};

use crate::exposition::{Item, Sample};
use crate::virtual_devices::{is_virtual_disk, is_virtual_interface};

/// Most energy zones and power meters of one machine: eight packages with a few zones each.
const METERS_MAX: usize = 64;

/// Longest name that goes into the instance type.
const NAME_CHARACTERS_MAX: usize = 80;

/// Counters that are added up over their labels.
const ADDED_UP: [&str; 9] = [
    "node_cpu_seconds_total",
    "node_disk_reads_completed_total",
    "node_disk_writes_completed_total",
    "node_network_receive_bytes_total",
    "node_network_transmit_bytes_total",
    "windows_cpu_time_total",
    "windows_logical_disk_reads_total",
    "windows_logical_disk_writes_total",
    "windows_net_bytes_total",
];

/// What vendors leave in fields that they did not fill.
const FILLERS: [&str; 6] = [
    "",
    "default string",
    "none",
    "not specified",
    "system product name",
    "to be filled by o.e.m.",
];

/// What one page says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Milliseconds that processors were in use.
    busy: Sum,
    /// Milliseconds that processors were there.
    capacity: Sum,
    /// Processors.
    pub(super) cpus: u64,
    /// Memory that can be had without swapping.
    pub(super) memory_available: Option<Bytes>,
    /// Memory.
    pub(super) memory_total: Option<Bytes>,
    /// Bytes received and sent.
    network: Sum,
    /// Completed reads and writes.
    disk_operations: Sum,
    /// When the machine was booted, in seconds since the epoch.
    pub(super) booted_s: Option<i64>,
    /// The machine's own clock.
    pub(super) time_s: Option<i64>,
    /// The machine's name for itself.
    pub(super) nodename: Option<String>,
    /// Vendor and product.
    pub(super) product: Option<String>,
    /// Energy counters, by zone.
    pub(super) zones: BTreeMap<String, Microjoules>,
    /// The meter of the whole machine; the largest where there are several.
    pub(super) power: Option<Milliwatts>,
    /// Whether a zone tells nonsense, so that the others are not the whole.
    has_broken_zone: bool,
    /// Whether memory tells nonsense.
    has_broken_memory: bool,
    /// Hashes of the series that were added up; the length of the page bounds them.
    added: BTreeSet<u64>,
    /// A series that is there twice, as after two pages were joined: no sum is right then.
    pub(super) twice: Option<String>,
}

/// A sum over devices; there is none when one of them tells nonsense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    total: u64,
    is_there: bool,
    is_broken: bool,
}

impl Sum {
    fn add(&mut self, value: Option<u64>) {
        self.is_there = true;
        match value {
            Some(value) => self.total = self.total.saturating_add(value),
            None => self.is_broken = true,
        }
    }

    fn value(self) -> Option<u64> {
        (self.is_there && !self.is_broken).then_some(self.total)
    }
}

impl Page {
    /// Takes what a line says.
    pub(super) fn take(&mut self, item: Item<'_>) {
        if let Item::Sample(sample) = item {
            self.sample(&sample);
        }
    }

    /// Processor time in use, and all of it.
    pub(super) fn processors(&self) -> Option<(Millis, Millis)> {
        Some((Millis(self.busy.value()?), Millis(self.capacity.value()?)))
    }

    /// Received and sent.
    pub(super) fn network(&self) -> Option<Bytes> {
        self.network.value().map(Bytes)
    }

    /// Completed reads and writes.
    pub(super) fn disk_operations(&self) -> Option<u64> {
        self.disk_operations.value()
    }

    /// All energy counters; none when one of them tells nonsense.
    pub(super) fn zones(self) -> BTreeMap<String, Microjoules> {
        if self.has_broken_zone {
            BTreeMap::new()
        } else {
            self.zones
        }
    }

    /// Figures of which a value is negative, no number or out of range: they are left out.
    pub(super) fn nonsense(&self) -> Vec<&'static str> {
        let figures = [
            (self.busy.is_broken || self.capacity.is_broken, "processors"),
            (self.has_broken_memory, "memory"),
            (self.network.is_broken, "network"),
            (self.disk_operations.is_broken, "disks"),
            (self.has_broken_zone, "energy"),
        ];
        let broken = figures.into_iter().filter(|(is_broken, _)| *is_broken);
        broken.map(|(_, figure)| figure).collect()
    }

    /// Whether it is the page of a machine at all.
    pub(super) fn is_of_a_machine(&self) -> bool {
        self.capacity.is_there || self.memory_total.is_some()
    }

    /// Product, processors and memory, as far as they are known.
    pub(super) fn instance_type(&self) -> String {
        instance_type(
            self.product.as_deref(),
            Some(self.cpus).filter(|cpus| *cpus > 0),
            self.memory_total,
        )
    }

    /// Notes a series that is there twice.
    fn once(&mut self, sample: &Sample<'_>) {
        let mut series = format!("{}{{", sample.name.to_cow());
        for label in sample.labels.iter() {
            // Writing to a text cannot fail.
            let _ = write!(
                series,
                "{}={:?},",
                label.name.to_cow(),
                label.value.to_cow()
            );
        }
        if !self.added.insert(sample_rank(&series)) {
            self.twice
                .get_or_insert(series.trim_end_matches(',').to_owned() + "}");
        }
    }

    fn sample(&mut self, sample: &Sample<'_>) {
        let name = sample.name.to_cow();
        if ADDED_UP.contains(&&*name) {
            self.once(sample);
        }
        let label = |name: &str| {
            let text = sample.labels.get(name).map(|text| text.to_cow());
            text.unwrap_or_default()
        };
        match &*name {
            "node_cpu_seconds_total" => {
                let is_idle = matches!(&*label("mode"), "idle" | "iowait");
                self.cpus += u64::from(label("mode") == "idle");
                self.processor_time(sample.value, is_idle);
            }
            // The times of interrupts are part of the privileged time.
            "windows_cpu_time_total" => match &*label("mode") {
                "idle" => {
                    self.cpus += 1;
                    self.processor_time(sample.value, true);
                }
                "privileged" | "user" => self.processor_time(sample.value, false),
                _ => {}
            },
            "node_memory_MemAvailable_bytes"
            | "windows_memory_available_bytes"
            | "windows_os_physical_memory_free_bytes" => {
                self.memory_available = whole(sample.value).map(Bytes);
                self.has_broken_memory |= self.memory_available.is_none();
            }
            "node_memory_MemTotal_bytes"
            | "windows_memory_physical_total_bytes"
            | "windows_cs_physical_memory_bytes" => {
                self.memory_total = whole(sample.value).map(Bytes);
                self.has_broken_memory |= self.memory_total.is_none();
            }
            "node_network_receive_bytes_total" | "node_network_transmit_bytes_total"
                if !is_virtual_interface(&label("device")) =>
            {
                self.network.add(whole(sample.value));
            }
            "windows_net_bytes_total" if !is_virtual_adapter(&label("nic")) => {
                self.network.add(whole(sample.value));
            }
            "node_disk_reads_completed_total" | "node_disk_writes_completed_total"
                if !is_virtual_disk(&label("device")) =>
            {
                self.disk_operations.add(whole(sample.value));
            }
            "windows_logical_disk_reads_total" | "windows_logical_disk_writes_total"
                if label("volume") != "_Total" =>
            {
                self.disk_operations.add(whole(sample.value));
            }
            "node_boot_time_seconds"
            | "windows_system_boot_time_timestamp"
            | "windows_system_boot_time_timestamp_seconds"
            | "windows_system_system_up_time" => self.booted_s = second(sample.value),
            "node_time_seconds" | "windows_os_time" => self.time_s = second(sample.value),
            "node_uname_info" => self.nodename = Some(label("nodename").into_owned()),
            "windows_os_hostname" => self.nodename = Some(label("hostname").into_owned()),
            "node_dmi_info" => {
                self.product = product(&label("system_vendor"), &label("product_name"));
            }
            "node_rapl_package_joules_total" | "node_rapl_dram_joules_total" => {
                let zone = format!("{name} {} {}", label("index"), label("path"));
                match kept(Fixed::<6>::from_f64(sample.value).map(Fixed::raw)) {
                    Some(energy) if self.zones.len() < METERS_MAX => {
                        self.zones.insert(zone, Microjoules(energy));
                    }
                    _ => self.has_broken_zone = true,
                }
            }
            // Other chips measure a part of the machine.
            "node_hwmon_power_average_watt" | "node_hwmon_power_input_watt"
                if ["acpi000d", "power_meter"]
                    .iter()
                    .any(|c| label("chip").contains(c)) =>
            {
                let power = thousandths(sample.value).map(Milliwatts);
                self.power = self.power.max(power);
            }
            _ => {}
        }
    }

    fn processor_time(&mut self, seconds: f64, is_idle: bool) {
        let time = thousandths(seconds);
        self.capacity.add(time);
        self.busy.add(if is_idle { Some(0) } else { time });
    }
}

fn second(value: f64) -> Option<i64> {
    i64::try_from(whole(value)?).ok()
}

fn whole(value: f64) -> Option<u64> {
    kept(Fixed::<0>::from_f64(value).map(Fixed::raw))
}

fn thousandths(value: f64) -> Option<u64> {
    kept(Fixed::<3>::from_f64(value).map(Fixed::raw))
}

/// Not what is negative.
fn kept(raw: Option<i64>) -> Option<u64> {
    u64::try_from(raw?).ok()
}

/// Vendor and product of a machine, where somebody filled them in.
pub(super) fn product(vendor: &str, product: &str) -> Option<String> {
    let filled = |text: &str| !FILLERS.contains(&text.trim().to_lowercase().as_str());
    let parts: Vec<&str> = [vendor, product]
        .into_iter()
        .filter(|t| filled(t))
        .collect();
    let text: String = parts
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_CHARACTERS_MAX)
        .collect();
    (!text.is_empty()).then_some(text)
}

/// What kind of instance it is, as far as that is known.
pub(super) fn instance_type(
    product: Option<&str>,
    cpus: Option<u64>,
    memory: Option<Bytes>,
) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(product.map(str::to_owned));
    parts.extend(cpus.map(|cpus| format!("{cpus} cpus")));
    parts.extend(memory.map(size));
    if parts.is_empty() {
        "unknown".to_owned()
    } else {
        parts.join(", ")
    }
}

/// Memory in whole GiB, or MiB below one.
fn size(memory: Bytes) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    // The kernel keeps a part for itself, so that a machine of 16 GiB tells a little less.
    match memory.0.div_ceil(GIB) {
        0 | 1 => format!("{} MiB", memory.0 / MIB),
        gib => format!("{gib} GiB"),
    }
}

/// Adapters of Windows whose traffic passes another one too.
fn is_virtual_adapter(nic: &str) -> bool {
    let nic = nic.to_lowercase();
    [
        "isatap",
        "loopback",
        "pseudo",
        "teredo",
        "hyper_v_virtual",
        "hyper-v virtual",
    ]
    .iter()
    .any(|part| nic.contains(part))
}
