//! Payload types and every calculation rule of the Carbon Mirror Standard, shared by agent and dashboard.
//!
//! Owns: what is measured ([`reading`]), how readings become figures ([`ghost`], [`dark`], [`coverage`]), what
//! is posted ([`payload`]) and where each figure comes from ([`provenance`]).
//! Promises: pure functions over integers; the same input gives the same bytes, on every machine.
//! Refuses: files, sockets, clocks, threads, logs, cryptography. The world is an argument.

pub mod category;
pub mod coverage;
pub mod dark;
pub mod ghost;
pub mod ids;
pub mod payload;
pub mod provenance;
pub mod reading;
pub mod slot;
pub mod units;

pub use category::Category;
pub use ids::{CompanyId, Subject};
pub use slot::{Cadence, Slot};
