//! Disk operations from `/proc/diskstats`, each once.

use std::path::Path;

use crate::CollectError;

/// Devices that stand on other devices or on memory, and drives without a disk in them.
const VIRTUAL_PREFIXES: [&str; 10] = [
    "dm-", "drbd", "fd", "loop", "md", "nbd", "ram", "sr", "zd", "zram",
];

/// Adds up completed reads and writes of whole physical disks; nothing when there are none.
///
/// A disk is physical when `sys_block` has a `device` for it, which partitions, loop devices,
/// device mapper and software RAID do not have. Where no disk has one, names decide.
pub(super) fn parse(
    path: &Path,
    text: &str,
    sys_block: &Path,
) -> Result<Option<u64>, CollectError> {
    const READS: usize = 0;
    const WRITES: usize = 4;
    let mut disks = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace().skip(2);
        let name = words.next();
        let counters: Vec<&str> = words.collect();
        let counter = |at: usize| counters.get(at)?.parse::<u64>().ok();
        let operations = || counter(READS)?.checked_add(counter(WRITES)?);
        match (name, operations()) {
            (Some(name), Some(operations)) => disks.push((name, operations)),
            _ => return Err(CollectError::malformed(path, &format!("the line {line:?}"))),
        }
    }
    let has_device = |name: &str| {
        let directory = name.replace('/', "!");
        sys_block.join(directory).join("device").exists()
    };
    let any_device = disks.iter().any(|(name, _)| has_device(name));
    let counted = |(name, _): &&(&str, u64)| {
        !is_virtual_name(name)
            && (if any_device {
                has_device(name)
            } else {
                !is_partition_name(name)
            })
    };
    let mut counted = disks.iter().filter(counted).peekable();
    Ok(counted.peek().is_some().then(|| {
        counted.fold(0_u64, |sum, (_, operations)| {
            sum.saturating_add(*operations)
        })
    }))
}

/// Whether the device with this `major:minor` number is a physical disk, by `sys_dev_block`.
pub(super) fn is_physical(sys_dev_block: &Path, number: &str) -> bool {
    sys_dev_block.join(number).join("device").exists()
}

fn is_virtual_name(name: &str) -> bool {
    VIRTUAL_PREFIXES.iter().any(|p| name.starts_with(p))
}

fn is_partition_name(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == name.len() {
        return false;
    }
    // nvme0n1p2 and mmcblk0p1 are partitions, nvme0n1 and mmcblk0 are not; sda1 is one.
    if name.starts_with("nvme") || name.starts_with("mmcblk") {
        stem.ends_with('p')
    } else {
        ["sd", "vd", "xvd", "hd"]
            .iter()
            .any(|p| name.starts_with(p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn text(disks: &[(&str, u64, u64)]) -> String {
        let line = |(name, reads, writes): &(&str, u64, u64)| {
            format!("   8       0 {name} {reads} 1 1 1 {writes} 1 1 1 0 1 1 9 9 9 9\n")
        };
        disks.iter().map(line).collect()
    }

    #[test]
    fn whole_physical_disks_count() {
        let sys = tempfile::tempdir().unwrap();
        for path in [
            "sda/device",
            "nvme0n1/device",
            "dm-0",
            "md0",
            "sr0/device",
            "cciss!c0d0/device",
        ] {
            fs::create_dir_all(sys.path().join(path)).unwrap();
        }
        let text = text(&[
            ("sda", 1, 2),
            ("sda1", 9, 9),
            ("nvme0n1", 10, 20),
            ("cciss/c0d0", 100, 200),
            ("dm-0", 9, 9),
            ("md0", 9, 9),
            ("sr0", 9, 9),
            ("loop0", 9, 9),
        ]);
        let sum = parse(Path::new("d"), &text, sys.path()).unwrap();
        assert_eq!(sum, Some(333));
    }

    #[test]
    fn without_sysfs_names_decide() {
        let sys = Path::new("/nonexistent");
        let names = text(&[
            ("vda", 1, 2),
            ("vda1", 9, 9),
            ("nvme0n1", 10, 20),
            ("nvme0n1p1", 9, 9),
            ("mmcblk0", 100, 200),
            ("mmcblk0p2", 9, 9),
            ("zram0", 9, 9),
        ]);
        assert_eq!(parse(Path::new("d"), &names, sys).unwrap(), Some(333));
        assert_eq!(parse(Path::new("d"), "", sys).unwrap(), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in ["8 0\n", "8 0 sda 1\n", "8 0 sda x 1 1 1 1\n"] {
            assert!(parse(Path::new("d"), line, Path::new("/nonexistent")).is_err());
        }
    }
}
