//! Which broadcast addresses this machine's networks have, from `/proc/net/route`.

use std::net::Ipv4Addr;

/// No machine room has more networks on one machine; each costs a socket.
const NETWORKS_MAX: usize = 16;

/// A network that this machine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: u32,
    mask: u32,
}

impl Network {
    const fn holds(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask == self.address
    }

    const fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address | !self.mask)
    }
}

/// Where broadcasts go that are sent from this address, or from every address of the machine when it is
/// unspecified.
pub(super) fn broadcasts(interface: Ipv4Addr, prefix: Option<u8>, routes: &str) -> Vec<Ipv4Addr> {
    if let Some(mask) = prefix.and_then(mask) {
        let address = interface.to_bits() & mask;
        return vec![Network { address, mask }.broadcast()];
    }
    if interface.is_loopback() {
        return vec![Ipv4Addr::new(127, 255, 255, 255)];
    }
    let mut networks: Vec<Network> = routes.lines().filter_map(network).collect();
    networks.sort_by_key(|network| std::cmp::Reverse(network.mask));
    if interface.is_unspecified() {
        let mut all: Vec<Ipv4Addr> = Vec::new();
        for network in networks {
            if all.len() < NETWORKS_MAX && !all.contains(&network.broadcast()) {
                all.push(network.broadcast());
            }
        }
        return all;
    }
    let own = networks
        .into_iter()
        .find(|network| network.holds(interface));
    own.map(Network::broadcast).into_iter().collect()
}

fn mask(prefix: u8) -> Option<u32> {
    let host = 32_u32.checked_sub(u32::from(prefix))?;
    Some(u32::MAX.checked_shl(host).unwrap_or(0))
}

/// A network that is reached without a gateway; addresses stand there in hexadecimal, lowest byte first.
fn network(line: &str) -> Option<Network> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let mut number = || -> Option<u32> {
        let text = columns.next()?;
        u32::from_str_radix(text, 16).ok().map(u32::swap_bytes)
    };
    let (address, gateway) = (number()?, number()?);
    // Flags, RefCnt, Use and Metric stand between.
    let mask = columns.nth(4)?;
    let mask = u32::from_str_radix(mask, 16).ok()?.swap_bytes();
    let is_network = gateway == 0 && mask != 0 && mask != u32::MAX;
    is_network.then_some(Network { address, mask })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth1\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t0900000A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
";

    fn shown(interface: [u8; 4], prefix: Option<u8>) -> Vec<String> {
        broadcasts(interface.into(), prefix, ROUTES)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn broadcasts_follow_from_the_routes() {
        assert_eq!(shown([192, 168, 1, 7], None), ["192.168.1.255"]);
        assert_eq!(shown([10, 0, 3, 7], None), ["10.0.255.255"]);
        assert_eq!(shown([172, 16, 0, 1], None), [""; 0]);
        assert_eq!(shown([0, 0, 0, 0], None), ["192.168.1.255", "10.0.255.255"]);
    }

    #[test]
    fn a_prefix_says_it_itself_and_loopback_is_known() {
        assert_eq!(shown([192, 168, 1, 7], Some(23)), ["192.168.1.255"]);
        assert_eq!(shown([10, 1, 2, 3], Some(8)), ["10.255.255.255"]);
        assert_eq!(shown([10, 1, 2, 3], Some(32)), ["10.1.2.3"]);
        assert_eq!(shown([127, 0, 0, 9], None), ["127.255.255.255"]);
    }
}
