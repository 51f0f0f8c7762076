//! Whether a mount keeps access times, from `/proc/self/mountinfo`. Pure: text and a path in, an
//! answer out.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cms_spec::dark::AccessBasis;

/// Filesystems that hold no data: their files are the kernel talking.
const PSEUDO: [&str; 20] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// The mount that a path lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// What last access can be taken from.
    pub(super) basis: AccessBasis,
    /// Whether it is one of the kernel's own.
    pub(super) is_pseudo: bool,
}

/// Finds the mount with the longest mount point above `path`; of several at one place, the last one
/// is on top.
///
/// A path that no line covers is treated like a mount without access times, which claims less.
pub(super) fn of_path(mountinfo: &str, path: &Path) -> Mount {
    let mut best: (usize, Mount) = (
        0,
        Mount {
            basis: AccessBasis::MtimeLowerBound,
            is_pseudo: false,
        },
    );
    for line in mountinfo.lines() {
        let Some((point, mount)) = parse_line(line) else {
            continue;
        };
        if covers(&point, path.as_os_str().as_bytes()) && point.len() >= best.0 {
            best = (point.len(), mount);
        }
    }
    best.1
}

/// Reads `36 35 98:0 /root /mount/point options optional… - type source super-options`.
fn parse_line(line: &str) -> Option<(Vec<u8>, Mount)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(4);
    let (point, options) = (fields.next()?, fields.next()?);
    let mut fields = after.split(' ');
    let kind = fields.next()?;
    let super_options = fields.nth(1).unwrap_or_default();
    let has = |wanted: &[&str]| {
        options
            .split(',')
            .chain(super_options.split(','))
            .any(|o| wanted.contains(&o))
    };
    // `relatime` moves an access time once a day at least, which is fine enough for 180 days.
    let basis = if has(&["noatime", "ro"]) {
        AccessBasis::MtimeLowerBound
    } else {
        AccessBasis::AccessTime
    };
    Some((
        unescape(point),
        Mount {
            basis,
            is_pseudo: PSEUDO.contains(&kind),
        },
    ))
}

fn covers(point: &[u8], path: &[u8]) -> bool {
    point == b"/"
        || path
            .strip_prefix(point)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Undoes the kernel's octal escapes of space, tab, newline and backslash.
fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code =
            escape.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 8:1 / /srv rw,noatime shared:1 - xfs /dev/sda1 rw
31 30 8:2 / /srv/a\\040b rw,relatime master:2 shared:3 - xfs /dev/sda2 rw
32 27 8:3 / /mirror rw,relatime - xfs /dev/sda3 ro,attr2
33 27 8:4 / /twice rw,noatime - xfs /dev/sda4 rw
34 33 8:5 / /twice rw,relatime - xfs /dev/sda5 rw
35 27 0:20 / /proc rw - proc proc rw
a line that makes no sense
";

    fn basis(path: &str) -> AccessBasis {
        of_path(MOUNTS, Path::new(path)).basis
    }

    #[test]
    fn the_longest_mount_point_decides() {
        assert_eq!(basis("/"), AccessBasis::AccessTime);
        assert_eq!(basis("/srvice"), AccessBasis::AccessTime);
        assert_eq!(basis("/srv"), AccessBasis::MtimeLowerBound);
        assert_eq!(basis("/srv/x"), AccessBasis::MtimeLowerBound);
        assert_eq!(basis("/srv/a b/c"), AccessBasis::AccessTime);
    }

    #[test]
    fn a_read_only_filesystem_keeps_no_access_times() {
        assert_eq!(basis("/mirror"), AccessBasis::MtimeLowerBound);
    }

    #[test]
    fn the_mount_on_top_decides() {
        assert_eq!(basis("/twice/x"), AccessBasis::AccessTime);
    }

    #[test]
    fn the_kernels_own_are_known_and_the_unknown_claims_less() {
        assert!(of_path(MOUNTS, Path::new("/proc/1")).is_pseudo);
        assert_eq!(
            of_path("", Path::new("/x")).basis,
            AccessBasis::MtimeLowerBound
        );
    }
}
