//! Devices that stand for no hardware, by their names: what passes them also passes another one.

/// Names of interfaces whose traffic also passes another one, or never leaves the machine.
const INTERFACES: [&str; 21] = [
    "bond",
    "br-",
    "cali",
    "cilium",
    "cni",
    "docker",
    "dummy",
    "flannel",
    "ifb",
    "kube",
    "lo",
    "lxc",
    "nodelocaldns",
    "ovs",
    "podman",
    "tap",
    "team",
    "tun",
    "veth",
    "virbr",
    "wg",
];

/// Names of disks whose operations also reach another one, or none, and of drives for media.
const DISKS: [&str; 7] = ["dm-", "fd", "loop", "md", "ram", "sr", "zram"];

/// The same as [`is_virtual_interface`] as a regular expression of PromQL.
pub(crate) const INTERFACES_PATTERN: &str = "(bond|br-|cali|cilium|cni|docker|dummy|flannel|ifb|kube|lo|lxc|nodelocaldns|ovs|podman|tap|team|tun|veth|virbr|wg).*|.*[.].*";

/// The same as [`is_virtual_disk`] as a regular expression of PromQL.
pub(crate) const DISKS_PATTERN: &str =
    "(dm-|fd|loop|md|ram|sr|zram).*|(h|s|v|xv)d[a-z]+[0-9]+|(nvme|mmcblk).+p[0-9]+";

/// Whether an interface stands for no hardware.
pub(crate) fn is_virtual_interface(name: &str) -> bool {
    // A dot marks a VLAN on the interface before it.
    name.contains('.') || INTERFACES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a disk stands for no hardware, or for a part of it.
pub(crate) fn is_virtual_disk(name: &str) -> bool {
    DISKS.iter().any(|prefix| name.starts_with(prefix)) || is_partition(name)
}

fn is_partition(name: &str) -> bool {
    let whole = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if whole == name {
        return false;
    }
    if name.starts_with("nvme") || name.starts_with("mmcblk") {
        return whole.ends_with('p');
    }
    ["hd", "sd", "vd", "xvd"].iter().any(|kind| {
        whole.strip_prefix(kind).is_some_and(|letters| {
            !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_lowercase())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces() {
        for name in ["eth0", "eno1", "enp3s0f1", "wlan0", "ens5", "ib0"] {
            assert!(!is_virtual_interface(name), "{name}");
        }
        for name in ["lo", "veth12", "eth0.7", "br-1", "docker0", "bond0", "wg0"] {
            assert!(is_virtual_interface(name), "{name}");
        }
    }

    #[test]
    fn disks() {
        for name in [
            "sda", "vda", "nvme0n1", "mmcblk0", "xvdb", "nvme1n2", "rbd0", "sdaa",
        ] {
            assert!(!is_virtual_disk(name), "{name}");
        }
        for name in [
            "sda1",
            "vda15",
            "nvme0n1p2",
            "mmcblk0p1",
            "dm-0",
            "md127",
            "loop3",
            "sr0",
            "zram0",
            "xvda1",
        ] {
            assert!(is_virtual_disk(name), "{name}");
        }
    }

    #[test]
    fn the_pattern_names_every_prefix() {
        for (prefixes, pattern) in [
            (&INTERFACES[..], INTERFACES_PATTERN),
            (&DISKS[..], DISKS_PATTERN),
        ] {
            let begun = format!("({}).*|", prefixes.join("|"));
            assert!(pattern.starts_with(&begun), "{begun} {pattern}");
        }
    }
}
