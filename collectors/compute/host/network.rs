//! Traffic from `/proc/net/dev`, each byte once.

use std::path::Path;

use cms_spec::units::Bytes;

use crate::CollectError;
use crate::virtual_devices::is_virtual_interface;

/// One interface's bytes received and sent since it came up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface<'a> {
    name: &'a str,
    bytes: Bytes,
}

/// Adds up the interfaces in the text of `/proc/net/dev` that stand for hardware; nothing when
/// there are none.
///
/// An interface stands for hardware when `sys_class_net` has a `device` for it. A bond, bridge,
/// VLAN or tunnel has none, and its traffic is counted once, on the hardware that carries it. Where
/// no interface has one, as in a container, those count that are not virtual by their name and not
/// part of another.
pub(super) fn parse(
    path: &Path,
    text: &str,
    sys_class_net: &Path,
) -> Result<Option<Bytes>, CollectError> {
    let mut interfaces = Vec::new();
    for line in text.lines().filter(|l| l.contains(':')) {
        let interface = parse_line(line)
            .ok_or_else(|| CollectError::malformed(path, &format!("the line {line:?}")))?;
        interfaces.push(interface);
    }
    let has_device = |name: &str| sys_class_net.join(name).join("device").exists();
    let has_master = |name: &str| sys_class_net.join(name).join("master").exists();
    // A paravirtual card with a passed-through companion: the first one's counters include the
    // second one's.
    let is_companion = |name: &str| sys_class_net.join(name).join("master/device").exists();
    let any_device = interfaces.iter().any(|i| has_device(i.name));
    let counted = |i: &&Interface<'_>| {
        if any_device {
            has_device(i.name) && !is_companion(i.name)
        } else {
            !is_virtual_interface(i.name) && !has_master(i.name)
        }
    };
    let mut counted = interfaces.iter().filter(counted).peekable();
    Ok(counted
        .peek()
        .is_some()
        .then(|| counted.map(|i| i.bytes).sum()))
}

fn parse_line(line: &str) -> Option<Interface<'_>> {
    const RECEIVED: usize = 0;
    const SENT: usize = 8;
    let (name, counters) = line.split_once(':')?;
    let words: Vec<&str> = counters.split_ascii_whitespace().collect();
    let received: u64 = words.get(RECEIVED)?.parse().ok()?;
    let sent: u64 = words.get(SENT)?.parse().ok()?;
    Some(Interface {
        name: name.trim(),
        bytes: Bytes(received.checked_add(sent)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const HEADER: &str = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n";

    fn text(interfaces: &[(&str, u64, u64)]) -> String {
        let mut text = HEADER.to_owned();
        for (name, received, sent) in interfaces {
            text += &format!("{name:>6}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n");
        }
        text
    }

    fn sum(text: &str, sys: &Path) -> Option<Bytes> {
        parse(Path::new("dev"), text, sys).unwrap()
    }

    #[test]
    fn hardware_counts_and_what_it_carries_does_not() {
        let sys = tempfile::tempdir().unwrap();
        for path in [
            "eth0/device",
            "eth1/device",
            "eth1/master",
            "bond0",
            "vf0/device",
            "vf0/master/device",
        ] {
            fs::create_dir_all(sys.path().join(path)).unwrap();
        }
        let text = text(&[
            ("lo", 1000, 1000),
            ("eth0", 1, 2),
            ("eth1", 10, 20),
            ("bond0", 11, 22),
            ("vf0", 5000, 5000),
            ("docker0", 7, 7),
        ]);
        assert_eq!(sum(&text, sys.path()), Some(Bytes(33)));
    }

    #[test]
    fn without_hardware_names_decide() {
        let sys = Path::new("/nonexistent");
        let names = text(&[
            ("lo", 9, 9),
            ("eth0", 1, 2),
            ("veth12", 9, 9),
            ("eth0.7", 9, 9),
            ("br-1", 9, 9),
        ]);
        assert_eq!(sum(&names, sys), Some(Bytes(3)));
        assert_eq!(sum(&text(&[("lo", 9, 9)]), sys), None);
        assert_eq!(sum(HEADER, sys), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in ["eth0: 1 2 3\n", "eth0: x 0 0 0 0 0 0 0 1\n", "eth0:\n"] {
            assert!(parse(Path::new("dev"), line, Path::new("/nonexistent")).is_err());
        }
    }
}
