//! Machines that others watch already: a monitoring server with the query API of Prometheus, or the
//! exporter of one machine.
//!
//! Owns: what exporters of machines call their figures, and which questions give 30-day means of
//! all of them. Promises: a bounded number of queries, one at a time; a figure that a server does
//! not have, or that makes no sense, is absent and said to be. Refuses: means of means; history of
//! its own, which the server has.

mod answer;
mod exporter;
mod figures;
mod page;
pub mod probe;
mod query;
mod server;
mod settings;
mod statement;

use crate::Host;
use crate::host::read_text;

pub use settings::REGISTRATION;

/// The boot times of one machine, told by two programs, differ by no more than this.
const BOOT_JITTER_S: u64 = 5;

/// Whether a machine of this name and boot time is the one that we run on.
fn this_machine(host: &Host, nodename: &str, booted_s: i64) -> bool {
    let own_name = read_text(&host.proc("sys/kernel/hostname")).unwrap_or_default();
    let stat = read_text(&host.proc("stat")).unwrap_or_default();
    let own_boot_s = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|text| text.trim().parse::<i64>().ok());
    let is_boot = own_boot_s.is_some_and(|own| own.abs_diff(booted_s) <= BOOT_JITTER_S);
    !nodename.is_empty() && own_name.trim() == nodename && is_boot
}

/// The host of `HOST:PORT`.
fn without_port(name: &str) -> &str {
    match name.rsplit_once(':') {
        // More colons than one, and no brackets: an address of IPv6 without a port.
        Some((host, _)) if host.contains(':') && !host.ends_with(']') => name,
        Some((host, port)) if !host.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_a_name() {
        for (name, host) in [
            ("node-1:9100", "node-1"),
            ("10.0.0.7:9100", "10.0.0.7"),
            ("[fe80::1]:9100", "[fe80::1]"),
            ("fe80::1", "fe80::1"),
            ("node-1", "node-1"),
            ("rack:a", "rack:a"),
            (":9100", ":9100"),
        ] {
            assert_eq!(without_port(name), host);
        }
    }
}
