//! Heat: what the machines give off, and what of it somebody uses (specification, section II.D).
//!
//! Owns: points on meters and sensors, the protocols they are read with, and what they add up to for a thermal source.
//! Promises: a bad meter never costs a good one; a value that is not good is missing, with the reason in words;
//! nothing is ever written to a device: no protocol here has a function that could.
//! Refuses: zero, the last value or a changed sign in place of a value.
//!
//! # The way of a value
//!
//! `[thermal]` is one collector, [`source`]. A tick tells every device that a round begins (`round`); each device is
//! a task of its own and reads all its points. Their observations pass the rules of their points (`rules`: sentinels,
//! scale, unit, range, step, age), then formulas over them (`formula`), and become the figures of their source
//! (`source/figures`).
//!
//! # How to add a protocol
//!
//! 1. Make `collectors/thermal/<key>/mod.rs` with a unit type that implements `Protocol` (in `device.rs`): `Named` is
//!    one `[[thermal.<key>]]` table, `Written` the table of a point, `Point` both joined and checked. Both tables
//!    refuse unknown keys. `scale`, `offset`, `unit_of_measure` and the other rules of a value are not yours: they are
//!    taken out before, wherever they stand.
//! 2. Implement `Device`: `read` reads all points of one connection, in as few requests as it takes, each with a
//!    bound in time. Return `Err` when nothing can be read at all: the device is then left alone for a while.
//!    What comes by itself (a subscription) is kept in a task that `Device` aborts when it is dropped.
//! 3. Add one line to `protocols!` in `protocols.rs`.
//! 4. Add a README (Reads, Configuration, Readings, Permissions, Example), `sample.toml` and `testcases/`, at least
//!    with what the configuration refuses; a test against a real counterpart in `tests/counterparts`; a fuzz target
//!    for each decoder.

pub mod bacnet;
mod device;
pub mod document;
pub mod formula;
pub mod http;
pub mod modbus;
pub mod mqtt;
mod protocols;
mod round;
mod rules;
mod snmp;
pub mod source;
mod unit;
mod within;

#[cfg(test)]
mod day;
#[cfg(test)]
mod fake;
