//! What makes a submission provable: keys, digests, ledger leaves, signed requests, enrolment and answers.
//!
//! Owns: the request signature ([`request`]), the leaf of the ledger ([`leaf`]) and the tree over it ([`merkle`]),
//! its signed heads and their receipts ([`checkpoint`]), evidence of all this ([`bundle`], [`verify`]), enrolment
//! ([`enrol`]), new keys for old ones ([`rotate`], [`succession`]) and the JSON of the dashboard's answers ([`answer`]). Agent, gateway and dashboard use the same code, so that
//! what one signs the other accepts.
//! Promises: bytes in, bytes out; the same input gives the same bytes; no input makes it panic.
//! Refuses: files, sockets, clocks, random numbers, threads, logs. Time, nonces and keys are arguments.

pub mod add_checkpoint;
pub mod answer;
pub mod bundle;
pub mod checkpoint;
pub mod digest;
pub mod enrol;
pub mod keys;
pub mod leaf;
pub mod merkle;
pub mod note;
pub mod origin;
pub mod policy;
pub mod refusal;
pub mod request;
pub mod rotate;
pub mod succession;
pub mod verify;

mod base;
mod profile;

pub use add_checkpoint::AddCheckpoint;
pub use answer::{Accepted, Problem};
pub use checkpoint::{Checkpoint, Cosigner, CosignerKey, Receipt};
pub use digest::Digest;
pub use keys::{Jwk, KeyId, SigningKey, VerifyingKey};
pub use leaf::{Leaf, LeafKind};
pub use merkle::{Frontier, Head};
pub use origin::{AgentId, IdempotencyKey, Origin};
pub use refusal::Refusal;
pub use request::{Delivery, Incoming, LedgerRef, Outgoing, Verified};
pub use succession::Succession;
