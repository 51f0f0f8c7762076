//! Devices that are asked over SNMP, version 2c or 3: power strips, sensors, switches.
//!
//! Owns: what a table says about a device ([`Target`]), how it is asked, what its answers mean, and
//! the tables that many devices have in common. Promises: questions only, GET, GETNEXT and GETBULK;
//! every wait, answer and walk is bounded; a number that an answer cannot hold is refused, never
//! cut; every failure names the device and what a person can do about it. Refuses: changing
//! anything on a device, version 1, secrets in the configuration, MD5 and DES.

pub(crate) mod meter;
pub mod probe;
pub(crate) mod sensors;
mod settings;
pub(crate) mod tables;
mod udp;
pub mod value;
mod walk;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::CollectError;
use crate::web::Web;

pub use async_snmp::{Oid, Value, VarBind};
pub use settings::{Auth, Login, Privacy, Target, User, parse_oid};
pub(crate) use settings::{Endpoint, RawUser, Wait, oid, oid_if_given};
pub use udp::Udp;
pub(crate) use walk::walk;

/// Makes sessions with devices. The program's own has sockets; a test's answers itself.
pub trait Snmp: fmt::Debug + Send + Sync {
    /// A session with one device; nothing is sent yet. Secrets are read through `web`.
    fn device(&self, target: &Target, web: &Arc<dyn Web>) -> Arc<dyn Device>;
}

/// One device. There is one question at a time to it, because small ones answer no more.
#[async_trait]
pub trait Device: fmt::Debug + Send + Sync {
    /// Its address, for errors.
    fn address(&self) -> &str;

    /// The values of these objects, in their order. What the device does not have is an exception
    /// value such as [`Value::NoSuchObject`].
    ///
    /// # Errors
    /// When there is no whole answer in time.
    async fn get(&self, oids: &[Oid]) -> Result<Vec<Value>, CollectError>;

    /// What comes after an object in the device's order: at least one row, at most about `rows`.
    ///
    /// # Errors
    /// When there is no whole answer in time.
    async fn next(&self, after: &Oid, rows: u32) -> Result<Vec<VarBind>, CollectError>;
}
