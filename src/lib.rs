//! The on-premise telemetry agent of the Carbon Mirror Standard: processes, durability, network.
//!
//! A reading's journey: a collector takes it ([`schedule`]), the store keeps it and its window ([`store`]),
//! the end of a slot closes the window into a payload, and its exact bytes go into the outbox together with
//! a leaf of the ledger ([`submit`]); the identity signs them ([`identity`]), the transport carries them over
//! TLS 1.3 ([`transport`]), and the dashboard's answer is written beside them.
//! Two loops, collecting and submitting, meet only in the store. No arithmetic about readings is done here:
//! that is `cms_spec`'s. How processes are put together is [`agent`]'s.

pub mod agent;
pub mod api_keys;
pub mod backoff;
pub mod blocking;
pub mod chance;
pub mod cli;
pub mod clock;
pub mod comparisons;
pub mod config;
pub mod control;
pub mod durable;
pub mod events;
pub mod identity;
pub mod limits;
pub mod metrics;
pub mod schedule;
pub mod seal;
pub mod status;
pub mod store;
pub mod submit;
pub mod transport;
pub mod watchdog;
pub mod witness;
pub mod world;
