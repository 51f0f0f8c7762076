//! What is asked about the machines of each exporter, in PromQL.
//!
//! `$select` stands for matchers, `$by` for the label that tells instances apart, `$facts` for it and
//! the labels of type and region, `$window` for the 30 days. Amounts are asked for as what they grew
//! by, and divided by the time that processors were counted: `rate` would divide by 30 days even
//! where a machine is two weeks old. `0 * metric + time()` is the time at each step at which the
//! metric is there; `timestamp` would look the series up anew at each step, which is two hundred times
//! the work.

use crate::virtual_devices::{DISKS_PATTERN, INTERFACES_PATTERN};

/// The window in PromQL.
pub(super) const WINDOW: &str = "30d";

/// Milliseconds that one step of the observed time stands for.
pub(super) const STEP_MS: u64 = 900_000;

/// What an answer is about, and how many digits after the point are kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    /// When it was booted, in seconds since the epoch.
    Booted,
    /// Processor seconds of the window.
    Capacity,
    /// Percent of the processors in use.
    CpuPercent,
    /// Processors.
    Cpus,
    /// Reads and writes of the window.
    DiskOperations,
    /// Reads and writes in a second.
    DiskOperationsPerSecond,
    /// Joules of the window that memory used.
    DramEnergy,
    /// When it was first seen in the window, in seconds since the epoch.
    FirstSeen,
    /// Processor seconds of the window without work.
    Idle,
    /// Percent of memory in use.
    MemoryPercent,
    /// Bytes of memory.
    MemoryTotal,
    /// Watts that the machine's meter shows.
    MeterWatts,
    /// Its name for itself, in a label.
    Named,
    /// Bytes of the window.
    NetworkBytes,
    /// Bytes in a second.
    NetworkBytesPerSecond,
    /// Steps of the window in which it was seen.
    Observed,
    /// Joules of the window that processors used.
    PackageEnergy,
    /// Watts, as somebody configured them.
    PowerWatts,
    /// Vendor and product, in labels.
    Product,
}

/// How many figures there are.
pub(super) const FIGURES: usize = 19;

/// One question about the instances of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) figure: Figure,
    pub(super) expression: String,
}

/// What one exporter calls its figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// The exporter.
    pub(super) exporter: &'static str,
    /// When each instance was last seen, of those seen in the last day.
    pub(super) seen: &'static str,
    /// How many are seen now, by job.
    pub(super) jobs: &'static str,
    questions: &'static [(Figure, &'static str)],
}

/// The exporters that we know, the better known one first.
pub(super) const DIALECTS: [Dialect; 2] = [NODE, WINDOWS];

const NODE: Dialect = Dialect {
    exporter: "node_exporter",
    seen: "max by ($facts) (max_over_time((0 * node_boot_time_seconds{$select} + time())[1d:5m]))",
    jobs: "count by (job) (node_boot_time_seconds)",
    questions: &[
        (
            Figure::Booted,
            "max by ($by) (last_over_time(node_boot_time_seconds{$select}[1d]))",
        ),
        (
            Figure::FirstSeen,
            "min by ($by) (min_over_time((0 * node_boot_time_seconds{$select} + time())[$window:1h]))",
        ),
        (
            Figure::Observed,
            "max by ($by) (count_over_time(node_boot_time_seconds{$select}[$window:15m]))",
        ),
        (
            Figure::Idle,
            "sum by ($by) (increase(node_cpu_seconds_total{mode=~\"idle|iowait\",$select}[$window]))",
        ),
        (
            Figure::Capacity,
            "sum by ($by) (increase(node_cpu_seconds_total{$select}[$window]))",
        ),
        (
            Figure::Cpus,
            "count by ($by) (last_over_time(node_cpu_seconds_total{mode=\"idle\",$select}[1d]))",
        ),
        (
            Figure::MemoryPercent,
            "100 - 100 * avg by ($by) (avg_over_time(node_memory_MemAvailable_bytes{$select}[$window])) / avg by ($by) (avg_over_time(node_memory_MemTotal_bytes{$select}[$window]))",
        ),
        (
            Figure::MemoryTotal,
            "max by ($by) (last_over_time(node_memory_MemTotal_bytes{$select}[1d]))",
        ),
        (
            Figure::NetworkBytes,
            "sum by ($by) (increase(node_network_receive_bytes_total{device!~\"$interfaces\",$select}[$window])) + sum by ($by) (increase(node_network_transmit_bytes_total{device!~\"$interfaces\",$select}[$window]))",
        ),
        (
            Figure::DiskOperations,
            "sum by ($by) (increase(node_disk_reads_completed_total{device!~\"$disks\",$select}[$window])) + sum by ($by) (increase(node_disk_writes_completed_total{device!~\"$disks\",$select}[$window]))",
        ),
        (
            Figure::MeterWatts,
            "max by ($by) (avg_over_time(node_hwmon_power_average_watt{chip=~\".*(acpi000d|power_meter).*\",$select}[$window]))",
        ),
        (
            Figure::PackageEnergy,
            "sum by ($by) (increase(node_rapl_package_joules_total{$select}[$window]))",
        ),
        (
            Figure::DramEnergy,
            "sum by ($by) (increase(node_rapl_dram_joules_total{$select}[$window]))",
        ),
        (
            Figure::Named,
            "max by ($by,nodename) (last_over_time(node_uname_info{$select}[1d]))",
        ),
        (
            Figure::Product,
            "max by ($by,system_vendor,product_name) (last_over_time(node_dmi_info{$select}[1d]))",
        ),
    ],
};

/// The times of interrupts are part of the privileged time.
const WINDOWS: Dialect = Dialect {
    exporter: "windows_exporter",
    seen: "max by ($facts) (max_over_time((0 * windows_cpu_time_total{core=\"0,0\",mode=\"idle\",$select} + time())[1d:5m]))",
    jobs: "count by (job) (windows_cpu_time_total{core=\"0,0\",mode=\"idle\"})",
    questions: &[
        (
            Figure::Booted,
            "max by ($by) (last_over_time({__name__=~\"windows_system_boot_time_timestamp|windows_system_boot_time_timestamp_seconds|windows_system_system_up_time\",$select}[1d]))",
        ),
        (
            Figure::FirstSeen,
            "min by ($by) (min_over_time((0 * windows_cpu_time_total{core=\"0,0\",mode=\"idle\",$select} + time())[$window:1h]))",
        ),
        (
            Figure::Observed,
            "max by ($by) (count_over_time(windows_cpu_time_total{core=\"0,0\",mode=\"idle\",$select}[$window:15m]))",
        ),
        (
            Figure::Idle,
            "sum by ($by) (increase(windows_cpu_time_total{mode=\"idle\",$select}[$window]))",
        ),
        (
            Figure::Capacity,
            "sum by ($by) (increase(windows_cpu_time_total{mode=~\"idle|privileged|user\",$select}[$window]))",
        ),
        (
            Figure::Cpus,
            "count by ($by) (last_over_time(windows_cpu_time_total{mode=\"idle\",$select}[1d]))",
        ),
        (
            Figure::MemoryPercent,
            "100 - 100 * avg by ($by) (avg_over_time({__name__=~\"windows_memory_available_bytes|windows_os_physical_memory_free_bytes\",$select}[$window])) / avg by ($by) (avg_over_time({__name__=~\"windows_memory_physical_total_bytes|windows_cs_physical_memory_bytes\",$select}[$window]))",
        ),
        (
            Figure::MemoryTotal,
            "max by ($by) (last_over_time({__name__=~\"windows_memory_physical_total_bytes|windows_cs_physical_memory_bytes\",$select}[1d]))",
        ),
        (
            Figure::NetworkBytes,
            "sum by ($by) (increase(windows_net_bytes_total{nic!~\"(?i).*(isatap|loopback|pseudo|teredo|hyper.v.virtual).*\",$select}[$window]))",
        ),
        (
            Figure::DiskOperations,
            "sum by ($by) (increase(windows_logical_disk_reads_total{volume!=\"_Total\",$select}[$window])) + sum by ($by) (increase(windows_logical_disk_writes_total{volume!=\"_Total\",$select}[$window]))",
        ),
    ],
};

impl Figure {
    /// Digits after the point that are kept; amounts are large and need none.
    pub(super) const fn digits(self) -> u32 {
        match self {
            Self::Booted
            | Self::Cpus
            | Self::DiskOperations
            | Self::FirstSeen
            | Self::MemoryTotal
            | Self::Named
            | Self::NetworkBytes
            | Self::Observed
            | Self::Product => 0,
            Self::Capacity | Self::Idle => 3,
            Self::CpuPercent
            | Self::DiskOperationsPerSecond
            | Self::DramEnergy
            | Self::MemoryPercent
            | Self::MeterWatts
            | Self::NetworkBytesPerSecond
            | Self::PackageEnergy
            | Self::PowerWatts => 6,
        }
    }

    /// Whether it is a share of a whole.
    pub(super) const fn is_percent(self) -> bool {
        matches!(self, Self::CpuPercent | Self::MemoryPercent)
    }

    /// What a person calls it.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Booted => "boot time",
            Self::Capacity | Self::CpuPercent | Self::Idle => "processors",
            Self::Cpus => "number of processors",
            Self::DiskOperations | Self::DiskOperationsPerSecond => "disk operations",
            Self::DramEnergy => "energy of memory",
            Self::FirstSeen | Self::Observed => "observed time",
            Self::MemoryPercent => "memory",
            Self::MemoryTotal => "size of memory",
            Self::MeterWatts | Self::PowerWatts => "power",
            Self::Named => "names",
            Self::NetworkBytes | Self::NetworkBytesPerSecond => "network",
            Self::PackageEnergy => "energy of processors",
            Self::Product => "products",
        }
    }
}

impl Dialect {
    /// The questions of a page, without those that a configured expression answers.
    pub(super) fn questions(self, answered: &[Figure]) -> Vec<Question> {
        let is_needed = |figure: Figure| {
            let by = match figure {
                // Without them amounts are divided by the observed time.
                Figure::Idle | Figure::Capacity => Figure::CpuPercent,
                Figure::NetworkBytes => Figure::NetworkBytesPerSecond,
                Figure::DiskOperations => Figure::DiskOperationsPerSecond,
                Figure::MeterWatts | Figure::PackageEnergy | Figure::DramEnergy => {
                    Figure::PowerWatts
                }
                other => other,
            };
            !answered.contains(&by)
        };
        let needed = self
            .questions
            .iter()
            .filter(|(figure, _)| is_needed(*figure));
        needed
            .map(|(figure, expression)| Question {
                figure: *figure,
                expression: (*expression).to_owned(),
            })
            .collect()
    }
}

/// Puts matchers and labels into an expression.
pub(super) fn filled(expression: &str, select: &str, by: &str, facts: &str) -> String {
    expression
        .replace("$interfaces", INTERFACES_PATTERN)
        .replace("$disks", DISKS_PATTERN)
        .replace("$window", WINDOW)
        .replace("$facts", facts)
        .replace("$by", by)
        .replace("$select", select)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_whole_when_it_is_filled() {
        for dialect in DIALECTS {
            let questions = dialect.questions(&[]);
            for question in &questions {
                let text = filled(&question.expression, "job=\"a\"", "instance", "instance,dc");
                assert!(!text.contains('$') && text.contains("job=\"a\""), "{text}");
            }
            let seen = filled(dialect.seen, "", "instance", "instance,dc");
            assert!(
                seen.contains("by (instance,dc)") && !seen.contains('$'),
                "{seen}"
            );
        }
    }

    #[test]
    fn what_is_configured_is_not_asked_for() {
        let answered = [Figure::CpuPercent, Figure::PowerWatts];
        let left: Vec<Figure> = NODE.questions(&answered).iter().map(|q| q.figure).collect();
        for figure in [
            Figure::Idle,
            Figure::Capacity,
            Figure::MeterWatts,
            Figure::DramEnergy,
        ] {
            assert!(!left.contains(&figure), "{figure:?}");
        }
        assert!(left.contains(&Figure::NetworkBytes) && left.contains(&Figure::MemoryPercent));
    }
}
