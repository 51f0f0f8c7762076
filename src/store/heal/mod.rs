//! A damaged store is set aside and begun anew with what could be read of it. Nobody is asked to delete anything.
//!
//! What counts as damage: a database, log or index that is no file, is cut off, or that SQLite calls corrupt;
//! a write-ahead log with committed pages that do not hold; a ledger that is shorter than its mark, or whose
//! leaves do not have their hashes or do not lead to the head that was receipted ([`check`]). A database of a
//! later version is set aside as well, whole, so that going back to an older agent loses nothing.
//!
//! Promises: files are renamed into `quarantine/`, never changed; a crash at any moment is made good at the
//! next start; what can be read is kept ([`salvage`]); the ledger tells of it in a new epoch ([`history`]).
//! Refuses: to heal what the disk refuses (no permission, no space, read-only): that is no damage.

mod check;
mod history;
mod pages;
mod quarantine;
mod rebuild;
mod rows;
mod running;
mod salvage;
mod wal;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode};

use super::StoreError;
use super::place::{Claim, Mark};
use super::schema;
use history::Entry;
use pages::Pages;
use quarantine::{DATABASE, Quarantine};
use wal::Wal;

pub use history::Damage;
pub(super) use history::{TABLE, doubt};
pub(super) use running::Health;

/// Opens the database with `load`, after damage was healed. Damage that only `load` finds is healed once more.
///
/// # Errors
/// When the disk refuses, or with an error of `load` that is no damage.
pub(super) fn open<T>(
    directory: &Path,
    claim: &Claim,
    now: Timestamp,
    mut load: impl FnMut(&Path) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let database = directory.join("store.db");
    prepare(directory, claim, None, now)?;
    let error = match load(&database) {
        Ok(loaded) => return Ok(loaded),
        Err(error) => error,
    };
    let Some(reason) = damage_in(&error) else {
        return Err(error);
    };
    prepare(directory, claim, Some(reason), now)?;
    load(&database)
}

/// As [`open`], where damage of the database is known.
///
/// # Errors
/// As [`open`].
pub(super) fn reopen<T>(
    directory: &Path,
    claim: &Claim,
    reason: String,
    now: Timestamp,
    load: impl FnOnce(&Path) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    prepare(directory, claim, Some(reason), now)?;
    load(&directory.join("store.db"))
}

/// Makes sure that `store.db` is sound, or is new and holds what could be salvaged. `known` is damage that was
/// found elsewhere.
fn prepare(
    directory: &Path,
    claim: &Claim,
    known: Option<String>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let quarantine = Quarantine::of(directory);
    let failed = |source| StoreError::SetAside {
        path: directory.to_owned(),
        source,
    };
    quarantine.complete().map_err(failed)?;
    // What a crash, or a full disk, has left half done: the damage is set aside already, and the new database
    // has not taken anything over yet.
    let is_half_done = !quarantine.unfinished().is_empty();
    let mark = claim.mark().filter(|_| !is_half_done);
    let trouble = match known.filter(|_| !is_half_done) {
        Some(known) => Some(known),
        None => trouble(directory, mark)?,
    };
    if let Some(reason) = trouble {
        set_aside(directory, &DATABASE, &reason, now)?;
    }
    for (aside, reason) in quarantine.unfinished() {
        let outcome = restore(directory, &aside, &reason, claim, now)?;
        let finished = quarantine.finish(&aside).map_err(failed)?;
        tracing::error!(
            quarantine = %finished.display(),
            reason,
            outcome,
            "a part of the store was damaged; it is set aside, and the agent goes on with what could be read"
        );
    }
    let dropped = quarantine.trim();
    if dropped.count > 0 {
        tracing::error!(
            quarantines = dropped.count,
            bytes = dropped.bytes,
            "the oldest quarantines were dropped, there were too many"
        );
    }
    Ok(())
}

/// A data key as it lies in the database: its number, the name of the key that seals it, and its sealed form.
pub(super) type DataKeyRow = (u32, String, Vec<u8>);

/// The data keys of a store, newest first, as far as they can be read; nothing where there is no store, or nothing
/// in it is sealed.
///
/// Read without SQLite, which would put another index beside a damaged log, and would remove the log of a
/// database that has lost its pages.
pub(super) fn data_keys(directory: &Path) -> Option<Vec<DataKeyRow>> {
    let pages = Pages::open(directory);
    if pages.count() == 0 || pages.is_known() && pages.version() <= schema::VERSION_PLAIN {
        return None;
    }
    let rows = ["dek", "dek_spare"].map(|table| salvage::rows_of(&pages, table));
    let mut keys: Vec<DataKeyRow> = rows
        .into_iter()
        .flatten()
        .filter_map(|row| {
            let id = u32::try_from(row.id?).ok()?;
            match <[Value; 3]>::try_from(row.values) {
                Ok([_, Value::Text(key), Value::Blob(wrapped)]) => Some((id, key, wrapped)),
                _ => None,
            }
        })
        .collect();
    keys.sort_by_key(|(id, ..)| std::cmp::Reverse(*id));
    Some(keys)
}

/// Whether an error means that the database is damaged, and how.
pub(super) fn damage_in(error: &StoreError) -> Option<String> {
    let source = match error {
        StoreError::Open { source, .. }
        | StoreError::Read { source, .. }
        | StoreError::Write { source, .. } => source,
        _ => return None,
    };
    let is_damage = match source {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
        ),
        // Every column has one type; another one is not what was written.
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => true,
        _ => false,
    };
    is_damage.then(|| format!("store.db: {source}"))
}

/// What is wrong with the database as it lies there, if anything is.
fn trouble(directory: &Path, mark: Option<Mark>) -> Result<Option<String>, StoreError> {
    let cannot = |source| StoreError::MakeDirectory {
        path: directory.to_owned(),
        source,
    };
    for name in DATABASE {
        if let Some(what) = strange(&directory.join(name)).map_err(cannot)? {
            return Ok(Some(format!("{name} is {what}")));
        }
    }
    let length = |name: &str| fs::metadata(directory.join(name)).map_or(0, |found| found.len());
    if length("store.db") == 0 {
        // SQLite would remove the log of a database that has no pages.
        let alone = (length("store.db-wal") > 0).then_some("store.db is empty, its log is not");
        let had_leaves = mark.map(|_| "store.db is gone or empty");
        if let Some(reason) = alone.or(had_leaves) {
            return Ok(Some(reason.to_owned()));
        }
    }
    let wal = Wal::read(
        &directory.join("store.db-wal"),
        &directory.join("store.db-shm"),
    )
    .map_err(cannot)?;
    if wal.damage.is_some() {
        return Ok(wal.damage);
    }
    match examine(&directory.join("store.db"), mark) {
        Ok(trouble) => Ok(trouble),
        Err(error) => damage_in(&error).map(Some).ok_or(error),
    }
}

/// Opens the database and looks at what it holds.
fn examine(database: &Path, mark: Option<Mark>) -> Result<Option<String>, StoreError> {
    let failed = |source| StoreError::Read {
        what: "the database",
        source,
    };
    let connection = schema::connect(database)?;
    // Whatever is wrong must be found as it is.
    let keep_log = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keep_log, true).map_err(failed)?;
    match schema::version(&connection).map_err(failed)? {
        0 => {
            let tables = "SELECT count(*) FROM sqlite_schema";
            let tables: i64 = connection
                .query_row(tables, [], |row| row.get(0))
                .map_err(failed)?;
            let had_leaves = mark.map(|_| "store.db is empty, and a ledger had been begun");
            let wrong = (tables > 0).then_some("store.db has tables and no version");
            Ok(wrong.or(had_leaves).map(str::to_owned))
        }
        // It is about to be written anew.
        schema::VERSION_PLAIN => Ok(None),
        schema::VERSION => {
            schema::add(&connection).map_err(failed)?;
            check::trouble(&connection, mark)
        }
        later => Ok(Some(format!(
            "store.db was written by a later version of the agent ({later})"
        ))),
    }
}

/// Puts what can be read of a quarantine into the store's database, in one transaction.
fn restore(
    directory: &Path,
    aside: &Path,
    reason: &str,
    claim: &Claim,
    now: Timestamp,
) -> Result<String, StoreError> {
    let failed = |source| StoreError::Write {
        what: "salvaged rows",
        source,
    };
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(".open");
    let mut connection = schema::connect(&directory.join("store.db"))?;
    if schema::version(&connection).map_err(failed)? == 0 {
        let transaction = connection.transaction().map_err(failed)?;
        schema::make(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    if let Some(outcome) = history::outcome(&connection, name)? {
        return Ok(outcome);
    }
    let transaction = connection.transaction().map_err(failed)?;
    let pages = Pages::open(aside);
    let outcome = if pages.count() == 0 {
        "nothing was in it".to_owned()
    } else if pages.version() > schema::VERSION && !salvage::is_ours(&pages, &transaction)? {
        "it is kept whole for the agent that wrote it".to_owned()
    } else {
        let salvaged = salvage::fill(&pages, &transaction)?;
        let rebuilt = rebuild::rebuild(&transaction)?;
        format!("{salvaged}{rebuilt}")
    };
    let entry = Entry {
        at: now,
        reason,
        outcome: &outcome,
        directory: name,
        after_epoch: claim.mark().map_or(0, |mark| mark.epoch),
        number: Quarantine::of(directory).held().count,
    };
    history::write(&transaction, &entry)?;
    transaction.commit().map_err(failed)?;
    Ok(outcome)
}

/// What stands in the place of a file of ours and is none; lets the owner write to the file again where
/// somebody has taken that away.
pub(super) fn strange(path: &Path) -> io::Result<Option<&'static str>> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kind = found.file_type();
    // A link to a file is somebody's choice.
    if kind.is_file() || kind.is_symlink() && path.is_file() {
        make_writable(path);
        return Ok(None);
    }
    Ok(Some(if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a link that leads to no file"
    } else {
        "no file"
    }))
}

/// Moves files of the store into a quarantine.
///
/// # Errors
/// When the disk refuses.
pub(super) fn set_aside(
    directory: &Path,
    names: &[&str],
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let set_aside = Quarantine::of(directory).set_aside(names, reason, now);
    set_aside.map(drop).map_err(|source| StoreError::SetAside {
        path: directory.to_owned(),
        source,
    })
}

/// Gives the owner of a file of ours the right to write back, and says so.
fn make_writable(path: &Path) {
    let Ok(mode) = fs::metadata(path).map(|found| found.permissions().mode()) else {
        return;
    };
    if mode & 0o600 == 0o600 {
        return;
    }
    let path_shown = path.display();
    match fs::set_permissions(path, fs::Permissions::from_mode(0o600)) {
        Ok(()) => {
            tracing::warn!(path = %path_shown, "the file could not be written; its mode is 0600 again")
        }
        Err(error) => tracing::error!(path = %path_shown, %error, "the file cannot be written"),
    }
}

/// A database in memory that takes nothing: it stands in while the one on disk is away.
pub(super) fn in_memory() -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open {
        path: Path::new(":memory:").to_owned(),
        source,
    };
    let connection = Connection::open_in_memory().map_err(failed)?;
    schema::make(&connection).map_err(failed)?;
    connection
        .pragma_update(None, "query_only", true)
        .map_err(failed)?;
    Ok(connection)
}

#[cfg(test)]
mod tests;
