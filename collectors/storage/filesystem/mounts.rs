//! What a mount says about the files on it, from `/proc/self/mountinfo`: whether access times are
//! kept, and whether it hides the real files. Pure: text and a path in, an answer out.

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
    /// Whether the service manager put it there to hide what is really at this place.
    pub(super) is_hidden: bool,
    /// Whether it is one of the kernel's own.
    pub(super) is_pseudo: bool,
}

/// Finds the mount with the longest mount point above `path`; of several at one place, the last one
/// is on top.
///
/// A path that no line covers is treated like a mount without access times, which claims less.
pub(super) fn of_path(mountinfo: &str, path: &Path) -> Mount {
    let path = path.as_os_str().as_bytes();
    let mut top: Option<Line<'_>> = None;
    let mut is_private = false;
    for line in mountinfo.lines().filter_map(parse_line) {
        if line.point == b"/" {
            is_private = line.is_slave;
        }
        let is_nearer = |best: &Line<'_>| line.point.len() >= best.point.len();
        if covers(&line.point, path) && top.as_ref().is_none_or(is_nearer) {
            top = Some(line);
        }
    }
    top.map_or(
        Mount {
            basis: AccessBasis::MtimeLowerBound,
            is_hidden: false,
            is_pseudo: false,
        },
        |line| Mount {
            basis: line.basis,
            is_hidden: line.hides(is_private),
            is_pseudo: PSEUDO.contains(&line.kind),
        },
    )
}

/// Whether the mount at `path` shows what would be there without it: the same directory of the same
/// filesystem, mounted on itself. A service manager makes such mounts to give one place other rights.
pub(super) fn continues(mountinfo: &str, path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    let lines: Vec<Line<'_>> = mountinfo.lines().filter_map(parse_line).collect();
    let mut mount = lines.iter().rfind(|line| line.point == path);
    // Each step goes one mount down at this place, so there are no more steps than lines.
    for _ in &lines {
        let Some(upper) = mount else { return false };
        let Some(lower) = lines.iter().find(|line| line.id == upper.parent) else {
            return false;
        };
        if lower.device != upper.device || lower.shows(path) != Some(upper.root.clone()) {
            return false;
        }
        if lower.point != path {
            return true;
        }
        mount = Some(lower);
    }
    false
}

/// One mount, as far as it matters here.
struct Line<'m> {
    id: &'m str,
    parent: &'m str,
    device: &'m str,
    /// Which directory of the filesystem is mounted.
    root: Vec<u8>,
    point: Vec<u8>,
    /// Whether the mount was taken over from another namespace, and follows it.
    is_slave: bool,
    kind: &'m str,
    basis: AccessBasis,
}

impl Line<'_> {
    /// Whether the service manager hides something behind this mount. In a namespace of the service's
    /// own, every mount of the host follows the host's; a `tmpfs` that does not was made for the
    /// service alone.
    fn hides(&self, is_private: bool) -> bool {
        let mut names = self.root.rsplit(|&byte| byte == b'/');
        let (_, parent) = (names.next(), names.next());
        let is_inaccessible = parent == Some(b"inaccessible");
        let is_private_tmp = self
            .root
            .split(|&byte| byte == b'/')
            .any(|name| name.starts_with(b"systemd-private-"));
        let is_device_or_run = covers(b"/dev", &self.point) || covers(b"/run", &self.point);
        let is_own_tmpfs =
            is_private && !self.is_slave && self.kind == "tmpfs" && !is_device_or_run;
        is_inaccessible || is_private_tmp || is_own_tmpfs
    }

    /// Which directory of its filesystem this mount shows at `path`.
    fn shows(&self, path: &[u8]) -> Option<Vec<u8>> {
        let point = self.point.strip_suffix(b"/").unwrap_or(&self.point);
        let below = path.strip_prefix(point)?;
        let root = self.root.strip_suffix(b"/").unwrap_or(&self.root);
        let shown = [root, below].concat();
        Some(if shown.is_empty() {
            b"/".to_vec()
        } else {
            shown
        })
    }
}

/// Reads `36 35 98:0 /root /mount/point options optional… - type source super-options`.
fn parse_line(line: &str) -> Option<Line<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let (id, parent, device) = (fields.next()?, fields.next()?, fields.next()?);
    let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
    let is_slave = fields.any(|tag| tag.starts_with("master:"));
    let mut fields = after.split(' ');
    let kind = fields.next()?;
    let super_options = fields.nth(1).unwrap_or_default();
    let has = |options: &str, wanted| options.split(',').any(|option| option == wanted);
    // `relatime` moves an access time once a day at least, which is fine enough for 180 days. A
    // read-only mount of a writable filesystem is how this process sees it, under ProtectSystem= or
    // in a container; those who use the files move their access times.
    let basis = if [options, super_options]
        .iter()
        .any(|all| has(all, "noatime"))
        || has(super_options, "ro")
    {
        AccessBasis::MtimeLowerBound
    } else {
        AccessBasis::AccessTime
    };
    Some(Line {
        id,
        parent,
        device,
        root: unescape(root),
        point: unescape(point),
        is_slave,
        kind,
        basis,
    })
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

    /// What a service with ProtectSystem=strict, ProtectHome=yes and PrivateTmp=yes sees.
    const SERVICE: &str = "\
442 388 254:0 / / ro,relatime shared:116 master:1 - ext4 /dev/vda rw
443 442 0:43 / /tmp rw,nosuid,nodev shared:125 master:2 - tmpfs tmpfs rw
467 442 0:47 / /run rw,nosuid,nodev shared:148 master:6 - tmpfs tmpfs rw,mode=755
463 442 0:47 /systemd/inaccessible/dir /home ro,noexec shared:166 master:6 - tmpfs tmpfs rw,mode=755
475 463 8:1 /alice /home/alice ro,relatime shared:190 master:7 - xfs /dev/sda1 rw
490 443 0:43 /systemd-private-4712-x.service-ig/tmp /tmp rw shared:126 master:2 - tmpfs tmpfs rw
494 442 254:0 /var/lib/x /var/lib/x rw,relatime shared:177 master:1 - ext4 /dev/vda rw
496 442 254:0 /var/tmp/systemd-private-47-x.service-uX/tmp /var/tmp rw shared:8 master:1 - ext4 /dev/vda rw
483 442 0:61 / /root rw,relatime shared:168 - tmpfs tmpfs rw
484 442 0:62 / /mnt/ramdisk rw,relatime shared:169 master:9 - tmpfs tmpfs rw
491 442 0:63 / /dev ro,nosuid shared:161 - tmpfs tmpfs rw,mode=755
500 442 254:0 /srv /srv rw,relatime shared:180 master:1 - ext4 /dev/vda rw
501 500 254:0 /srv /srv ro,relatime shared:181 master:1 - ext4 /dev/vda rw
502 442 254:0 /srv/a /mnt/a rw,relatime shared:182 master:1 - ext4 /dev/vda rw
503 502 254:0 /srv/a /mnt/a ro,relatime shared:183 master:1 - ext4 /dev/vda rw
";

    #[test]
    fn what_the_service_manager_hides_is_known() {
        let is_hidden = |path: &str| of_path(SERVICE, Path::new(path)).is_hidden;
        for path in ["/home", "/home/bob", "/tmp", "/tmp/x", "/var/tmp", "/root"] {
            assert!(is_hidden(path), "{path}");
        }
        for path in [
            "/",
            "/run",
            "/home/alice",
            "/var/lib/x",
            "/mnt/ramdisk",
            "/dev",
            "/srv",
        ] {
            assert!(!is_hidden(path), "{path}");
        }
        // Without a namespace of its own, a tmpfs without a master is like any other.
        let host = "27 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
                    28 27 0:30 / /scratch rw shared:2 - tmpfs tmpfs rw\n";
        assert!(!of_path(host, Path::new("/scratch")).is_hidden);
    }

    #[test]
    fn a_read_only_view_of_a_writable_filesystem_keeps_access_times() {
        for path in ["/usr", "/srv/x", "/home/alice"] {
            let basis = of_path(SERVICE, Path::new(path)).basis;
            assert_eq!(basis, AccessBasis::AccessTime, "{path}");
        }
    }

    #[test]
    fn a_directory_mounted_on_itself_continues_the_tree() {
        let goes_on = |path: &str| continues(SERVICE, Path::new(path));
        assert!(goes_on("/var/lib/x") && goes_on("/srv"));
        for path in [
            "/mnt/a",
            "/home",
            "/home/alice",
            "/tmp",
            "/var/tmp",
            "/run",
            "/usr",
            "/",
        ] {
            assert!(!goes_on(path), "{path}");
        }
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
