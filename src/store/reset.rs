//! Reset: takes the agent's identity out of a store whose agent does not run, so that the next start makes a new one.
//!
//! For golden images and copied machines. Needs no network and no key: a database that cannot be opened without
//! the key that is gone is set aside whole. Promises: both copies of the identity go; readings and the ledger stay;
//! a second time changes nothing.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::Connection;

use super::place::Claim;
use super::{StoreError, heal};

/// Where the identity is inside the store's directory.
const DIRECTORY: &str = "identity";

/// The file that says to the next start that the identity is not lost but was taken out.
pub const MARKER: &str = "reset";

/// What makes up the database.
const DATABASE: [&str; 3] = ["store.db", "store.db-wal", "store.db-shm"];

/// What `meta` knows of an identity and of where it is enrolled.
const VALUES: &str =
    "'identity', 'enrolled_with', 'announced_log_key', 'announced_request_key', 'log_successions'";

/// What a reset has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// There was no store.
    Nothing,
    /// The identity is gone, and the database that its missing key had sealed is set aside.
    SetAside,
    /// The identity is gone.
    TakenOut,
}

/// Takes the identity out. `has_key` says whether the database can be opened at the next start.
///
/// # Errors
/// When an agent runs on the store, or a file cannot be written.
pub fn reset(directory: &Path, has_key: bool, now: Timestamp) -> Result<Reset, StoreError> {
    if !directory.is_dir() {
        return Ok(Reset::Nothing);
    }
    let _claim = Claim::on(directory, now)?;
    let identity = directory.join(DIRECTORY);
    let failed = |source| StoreError::MakeDirectory {
        path: identity.clone(),
        source,
    };
    // First, so that a reset which is cut short is no loss.
    crate::durable::make_directory(&identity).map_err(failed)?;
    mark(&identity.join(MARKER)).map_err(failed)?;
    let database = directory.join(DATABASE[0]);
    let done = if !database.is_file() || has_key {
        if database.is_file() {
            forget(&database)?;
        }
        Reset::TakenOut
    } else {
        let reason = "its identity was reset, and the key that it is sealed with is not here";
        heal::set_aside(directory, &DATABASE, reason, now)?;
        Reset::SetAside
    };
    for entry in fs::read_dir(&identity).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() && !path.ends_with(MARKER) {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    fs::File::open(&identity)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)?;
    Ok(done)
}

fn mark(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true);
    options.mode(0o600).open(path)?.sync_all()
}

fn forget(database: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Write {
        what: "the identity's copy",
        source,
    };
    let connection = Connection::open(database).map_err(failed)?;
    connection
        .execute_batch(
            "PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;",
        )
        .map_err(failed)?;
    let has_meta: bool = connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'meta')",
            [],
            |row| row.get(0),
        )
        .map_err(failed)?;
    if has_meta {
        connection
            .execute(&format!("DELETE FROM meta WHERE key IN ({VALUES})"), [])
            .map_err(failed)?;
    }
    Ok(())
}
