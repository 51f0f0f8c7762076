//! The dashboard's database: every SQL statement is in this folder, behind typed functions.
//!
//! Promises: what a write answered is on the disk before the answer (`synchronous=FULL`); one thread writes,
//! in the order of arrival, several writes to a commit when they queue; readers never wait for it. Refuses:
//! an unbounded queue (a full one is [`StoreError::Busy`]), a database of another program or a newer version.

mod agents;
mod checkpoints;
mod companies;
mod cosigners;
mod engine;
mod evidence;
mod keys;
mod retention;
mod schema;
mod standing;
mod submissions;

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

pub use agents::{Agent, Enrolled, NewAgent};
pub use checkpoints::{Held, Receipted};
pub use companies::{Company, KeyRow};
pub use cosigners::CosignerRow;
pub use engine::Store;
pub(crate) use engine::open_plain;
pub use keys::{Rotated, Rotation, Signer};
pub use retention::Dropped;
pub use standing::{Day, Event};
pub use submissions::{Accepting, Current, NewSubmission, Packed, Row, Stored};

pub(crate) use agents::move_agent;
pub(crate) use companies::{add_company, companies, company, create_key, keys, revoke_key};
pub(crate) use cosigners::{add_cosigner, cosigners, name_cosigners};
pub(crate) use evidence::Records;

/// Milliseconds since the epoch: how the database holds times.
fn ms(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// The time of a column; one that no calendar has reads as the nearest end of it.
fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// Unsigned numbers are kept as SQLite's signed ones; the wire refuses those that do not fit.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The way back; a negative number cannot have been written.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Too much waits already.
    #[error("the store is busy; try again in a moment")]
    Busy,
    /// The directory cannot be made.
    #[error("cannot make the store directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A row holds what no code of ours wrote.
    #[error("the store is damaged: {0}; restore it from a backup")]
    Damaged(String),
    /// The file belongs to something else, or to a newer version of this program.
    #[error("{} is not a store of this version (it has {found}); give another store", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        found: String,
    },
    /// The database file cannot be opened.
    #[error("cannot open the store {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A body cannot be packed.
    #[error("cannot compress a body for the store")]
    Pack(#[source] io::Error),
    /// A statement failed.
    #[error("the store refused a statement")]
    Statement(#[from] rusqlite::Error),
    /// The writer has ended or could not commit; its log says why.
    #[error("the store did not confirm the write; it was not accepted")]
    Unconfirmed,
    /// The thread for it cannot be started.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
}
