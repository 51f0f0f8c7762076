//! Payload types and every calculation rule of the Carbon Mirror Standard, shared by agent and dashboard.
//!
//! Owns: what is measured ([`reading`]), how readings add up over time ([`windows`]), how windows become
//! figures ([`ghost`], [`survey`], [`models`], [`dark`], [`heat`], [`coverage`]), what is posted ([`payload`]), where each
//! figure comes from ([`provenance`]), and what a company's figures amount to ([`merge`], [`score`], [`tier`]).
//! Promises: pure functions over integers; the same input gives the same bytes, on every machine.
//! Refuses: files, sockets, clocks, threads, logs, cryptography. The world is an argument.

#![deny(clippy::float_arithmetic)] // only units.rs, where a float enters or leaves, is exempt

pub mod category;
pub mod coverage;
pub mod cross_check;
pub mod dark;
pub mod decimal;
pub mod factors;
pub mod ghost;
pub mod grid;
pub mod heat;
pub mod hydronic;
pub mod ids;
pub mod impact;
pub mod inference_energy;
pub mod merge;
pub mod models;
pub mod payload;
pub mod plausible;
pub mod provenance;
pub mod reading;
pub mod score;
pub mod slot;
pub mod spot_check;
pub mod survey;
pub mod tier;
pub mod units;
pub mod windows;

pub use category::Category;
pub use ids::{CompanyId, Subject};
pub use slot::{Cadence, Slot};
