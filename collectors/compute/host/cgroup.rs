//! What a control group uses and may use, for an instance that is a container (versions 2 and 1).

use std::path::{Path, PathBuf};

use cms_spec::units::{Bytes, Millis};

use super::disks::is_physical;
use crate::CollectError;
use crate::host::{Host, read_number, read_text};

/// A limit above this is the kernel's way of saying that there is none.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// The control group that the agent itself runs in.
#[derive(Clone, Debug)]
pub(super) struct Group {
    layout: Layout,
    sys_dev_block: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    One {
        cpu: PathBuf,
        cpuacct: PathBuf,
        memory: PathBuf,
        blkio: PathBuf,
    },
    Two {
        directory: PathBuf,
    },
}

/// What the group has used and may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time used since the group was made.
    pub(super) busy: Millis,
    /// Processors that it may use, in thousandths; nothing when only the machine limits it.
    pub(super) cpus_milli: Option<u64>,
    /// Memory in use without the caches that the kernel drops first.
    pub(super) memory_used: Bytes,
    /// Memory that it may use; nothing when only the machine limits it.
    pub(super) memory_limit: Option<Bytes>,
    /// Completed reads and writes, where they are counted.
    pub(super) disk_operations: Option<u64>,
}

impl Group {
    /// Finds the group of the agent's own process.
    pub(super) fn find(host: &Host) -> Result<Self, CollectError> {
        let root = host.sys("fs/cgroup");
        let member = read_text(&host.proc("self/cgroup"))?;
        let layout = find_two(&root, &member)
            .or_else(|| find_one(&root, &member))
            .ok_or_else(|| {
                CollectError::malformed(
                    &root,
                    "it holds no control group with cpu and memory of this process",
                )
            })?;
        Ok(Self {
            layout,
            sys_dev_block: host.sys("dev/block"),
        })
    }

    /// Reads the group's counters and limits.
    pub(super) fn read(&self) -> Result<Usage, CollectError> {
        match &self.layout {
            Layout::One {
                cpu,
                cpuacct,
                memory,
                blkio,
            } => self.read_one(cpu, cpuacct, memory, blkio),
            Layout::Two { directory } => self.read_two(directory),
        }
    }

    /// Names the version, for the origin of the values.
    pub(super) fn method(&self) -> &'static str {
        match self.layout {
            Layout::One { .. } => "cgroup-v1/1",
            Layout::Two { .. } => "cgroup-v2/1",
        }
    }

    fn read_two(&self, directory: &Path) -> Result<Usage, CollectError> {
        let at = |file: &str| directory.join(file);
        let (path, text) = (at("cpu.stat"), read_text(&at("cpu.stat"))?);
        let busy_us = keyed(&path, &text, "usage_usec")?;
        let (path, text) = (at("memory.stat"), read_text(&at("memory.stat"))?);
        let cache = Bytes(keyed(&path, &text, "inactive_file")?);
        let limit = read_text(&at("memory.max"))?;
        let limit = number_or_max(&at("memory.max"), limit.trim())?;
        let io = optional(read_text(&at("io.stat")))?;
        Ok(Usage {
            busy: Millis(busy_us / 1000),
            cpus_milli: quota_two(&at("cpu.max"))?,
            memory_used: Bytes(read_number(&at("memory.current"))?) - cache,
            memory_limit: limit.map(Bytes),
            disk_operations: io.map(|text| self.operations(parse_io_two(&text))),
        })
    }

    fn read_one(
        &self,
        cpu: &Path,
        cpuacct: &Path,
        memory: &Path,
        blkio: &Path,
    ) -> Result<Usage, CollectError> {
        let busy_ns = read_number(&cpuacct.join("cpuacct.usage"))?;
        let quota = read_text(&cpu.join("cpu.cfs_quota_us"))?;
        let period = read_number(&cpu.join("cpu.cfs_period_us"))?;
        let quota: Option<u64> = quota.trim().parse().ok();
        let (path, text) = (
            memory.join("memory.stat"),
            read_text(&memory.join("memory.stat"))?,
        );
        let cache = Bytes(keyed(&path, &text, "total_inactive_file")?);
        let limit = read_number(&memory.join("memory.limit_in_bytes"))?;
        let io = optional(read_text(
            &blkio.join("blkio.throttle.io_serviced_recursive"),
        ))?;
        Ok(Usage {
            busy: Millis(busy_ns / 1_000_000),
            cpus_milli: quota.and_then(|q| q.saturating_mul(1000).checked_div(period)),
            memory_used: Bytes(read_number(&memory.join("memory.usage_in_bytes"))?) - cache,
            memory_limit: Some(Bytes(limit)).filter(|l| l.0 < NO_LIMIT_BYTES),
            disk_operations: io.map(|text| self.operations(parse_io_one(&text))),
        })
    }

    /// Adds up physical disks; all devices where none is known to be physical.
    fn operations(&self, devices: Vec<(&str, u64)>) -> u64 {
        let physical = |(number, _): &&(&str, u64)| is_physical(&self.sys_dev_block, number);
        let any_physical = devices.iter().any(|d| physical(&d));
        let counted = devices.iter().filter(|d| !any_physical || physical(d));
        counted.fold(0, |sum, (_, operations)| operations.saturating_add(sum))
    }
}

/// The `0::/path` line names the version 2 group; inside a container the mount is its root already.
fn find_two(root: &Path, member: &str) -> Option<Layout> {
    let path = member.lines().find_map(|l| l.strip_prefix("0::"))?;
    candidates(root, path)
        .into_iter()
        .find(|d| d.join("cpu.stat").exists() && d.join("memory.current").exists())
        .map(|directory| Layout::Two { directory })
}

/// Lines such as `4:cpu,cpuacct:/path` name the version 1 groups.
fn find_one(root: &Path, member: &str) -> Option<Layout> {
    let find = |controller: &str, file: &str| {
        let path = member.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?;
            controllers
                .split(',')
                .any(|c| c == controller)
                .then(|| parts.next())?
        })?;
        let mount = root.join(controller);
        candidates(&mount, path)
            .into_iter()
            .find(|d| d.join(file).exists())
    };
    let memory = find("memory", "memory.usage_in_bytes")?;
    Some(Layout::One {
        cpu: find("cpu", "cpu.cfs_quota_us")?,
        cpuacct: find("cpuacct", "cpuacct.usage")?,
        blkio: find("blkio", "blkio.throttle.io_serviced_recursive")
            .unwrap_or_else(|| memory.clone()),
        memory,
    })
}

fn candidates(mount: &Path, path: &str) -> [PathBuf; 2] {
    [mount.join(path.trim_start_matches('/')), mount.to_owned()]
}

fn optional<T>(read: Result<T, CollectError>) -> Result<Option<T>, CollectError> {
    match read {
        Err(CollectError::Vanished { .. }) => Ok(None),
        other => other.map(Some),
    }
}

fn keyed(path: &Path, text: &str, key: &str) -> Result<u64, CollectError> {
    text.lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
        .ok_or_else(|| CollectError::malformed(path, &format!("it has no usable {key} line")))
}

fn number_or_max(path: &Path, word: &str) -> Result<Option<u64>, CollectError> {
    if word == "max" {
        return Ok(None);
    }
    let refuse =
        |_| CollectError::malformed(path, &format!("{word:?} is neither a number nor max"));
    word.parse().map(Some).map_err(refuse)
}

/// Reads `cpu.max`, for example `150000 100000`; the root group has none.
fn quota_two(path: &Path) -> Result<Option<u64>, CollectError> {
    let Some(text) = optional(read_text(path))? else {
        return Ok(None);
    };
    let Some((quota, period)) = text.trim().split_once(' ') else {
        return Err(CollectError::malformed(
            path,
            "it is not a quota and a period",
        ));
    };
    let period: u64 = period
        .parse()
        .map_err(|_| CollectError::malformed(path, "its period is not a number"))?;
    let quota = number_or_max(path, quota)?;
    Ok(quota.and_then(|q| q.saturating_mul(1000).checked_div(period)))
}

/// Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn parse_io_two(text: &str) -> Vec<(&str, u64)> {
    let line = |line| {
        let mut words = str::split_ascii_whitespace(line);
        let number = words.next()?;
        let counters = words.filter_map(|w| w.strip_prefix("rios=").or(w.strip_prefix("wios=")));
        let operations = counters
            .filter_map(|c| c.parse::<u64>().ok())
            .fold(0, u64::saturating_add);
        Some((number, operations))
    };
    text.lines().filter_map(line).collect()
}

/// Lines such as `8:0 Read 3` and `8:0 Write 4`, and sums that are not ours to use.
fn parse_io_one(text: &str) -> Vec<(&str, u64)> {
    let line = |line| {
        let mut words = str::split_ascii_whitespace(line);
        let (number, kind, count) = (words.next()?, words.next()?, words.next()?);
        matches!(kind, "Read" | "Write")
            .then(|| count.parse().ok())?
            .map(|c| (number, c))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_lines_are_read() {
        let two = "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=9\n253:0 rios=1 wios=1\n";
        assert_eq!(parse_io_two(two), [("8:0", 7), ("253:0", 2)]);
        let one = "8:0 Read 3\n8:0 Write 4\n8:0 Sync 7\n8:0 Total 7\nTotal 7\n";
        assert_eq!(parse_io_one(one), [("8:0", 3), ("8:0", 4)]);
    }

    #[test]
    fn keys_must_match_whole() {
        let path = Path::new("memory.stat");
        let text = "inactive_file_x 1\ninactive_file 42\n";
        assert_eq!(keyed(path, text, "inactive_file").unwrap(), 42);
        assert!(keyed(path, text, "active").is_err());
    }
}
