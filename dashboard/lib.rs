//! The reference dashboard of the Carbon Mirror Standard: takes signed telemetry, scores it, and shows it.
//!
//! Owns: enrolment ([`App`] and the routes), verification, acceptance, the store ([`store`]), public queries
//! and pages. The rules are `cms-spec`'s, the signatures `cms-attest`'s.
//! Promises: TLS 1.3 only; `accepted` means on the disk; the same submission twice counts once; every error is
//! JSON with a stable code and a next step. Refuses: what is not signed, not fresh, not complete or cannot be.

pub mod admin;
mod api;
mod app;
mod auth;
mod body;
mod checkpoint;
pub mod clock;
pub mod config;
mod connections;
mod cosigner;
mod enrol;
mod evaluate;
pub mod evidence;
mod ingest;
pub mod key;
mod page;
mod rate;
mod refused;
mod rotate;
mod router;
mod serve;
mod standing;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tls;
mod view;

pub use app::App;
pub use clock::Clock;
pub use config::{Config, ConfigError};
pub use cosigner::CosignerError;
pub use router::router;
pub use serve::{ServeError, Server, open, serve};
