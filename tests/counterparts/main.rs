//! Counterparts: the real program against real devices, brokers and servers that others wrote.
//!
//! `install` puts them into one directory below the build directory; each module starts what it meets on loopback,
//! lets the program read it, and stops it. A counterpart that cannot be installed is a failed test, never a skipped one.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests start the program under test and wait in real time"
)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod broker;
mod heat_a_rack;
mod hung_mount;
mod keep_messages;
#[allow(dead_code, reason = "each counterpart takes what it needs of it")]
mod lab;
mod list_a_bucket;
mod listen_to_mqtt;
mod nvml;
mod power_changes_rung;
mod power_from_a_bmc;
mod probe_a_broker;
mod push_spans;
mod read_logs;
mod read_over_bacnet;
mod read_over_modbus;
mod read_over_snmp;
#[allow(dead_code, reason = "the stories take the rest of it")]
#[path = "../stories/site.rs"]
mod site;
mod thermal_over_rest;
