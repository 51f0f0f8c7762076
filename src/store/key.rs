//! The key of the agent's store: found, or made where nothing is sealed yet.
//!
//! Promises: no key is made beside a store that has one, and a missing one is an error that names what was
//! looked for and which key the store expects.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::{StoreError, schema};
use crate::config;
use crate::limits::IDENTITY_BYTES_MAX;
use crate::seal::{self, KeyError, KeyId, Looked, StoreKey};

/// What the identity is sealed for, in its file and in `meta`.
pub const IDENTITY: &str = "identity";

/// What is sealed with the key beside the database.
const SEALED_FILE: &str = "identity/keys";

/// The key of a store; nothing where there is none and nothing is sealed.
///
/// # Errors
/// When it cannot be used, is not the one that sealed the identity, or is missing while something is sealed.
pub fn find(store: &config::Store) -> Result<Option<StoreKey>, KeyError> {
    match look(store)? {
        Looked::Found(key) => check(&store.path, key).map(Some),
        Looked::Missing { places, .. } => match expected(&store.path) {
            None => Ok(None),
            Some(expected) => Err(missing(&store.path, places, expected)),
        },
    }
}

/// The key of a store; one is made when there is none and nothing is sealed.
///
/// # Errors
/// As [`find`], and when no key can be made.
pub fn find_or_make(store: &config::Store) -> Result<StoreKey, KeyError> {
    match look(store)? {
        Looked::Found(key) => check(&store.path, key),
        Looked::Missing { places, make_at } => match (expected(&store.path), make_at) {
            (None, Some(path)) => {
                let key = seal::make(&path)?;
                tracing::info!(path = %path.display(), key = %key.id(), "made the key of the store");
                Ok(key)
            }
            (None, None) => Err(KeyError::Provide { places }),
            (Some(expected), _) => Err(missing(&store.path, places, expected)),
        },
    }
}

/// Whether this is the key of the store that is there, if one is.
///
/// # Errors
/// When it is another one, or the store cannot be read.
pub fn fits(store: &Path, key: &StoreKey) -> Result<(), StoreError> {
    let database = store.join("store.db");
    match schema::sealed_with(&database) {
        Some(_) => schema::open_to_read(&database, key).map(drop),
        None => Ok(()),
    }
}

/// Refuses another key where the database is gone and the identity alone can tell. Otherwise a new database
/// would be made under it, and the right key would be the wrong one from then on.
fn check(store: &Path, key: StoreKey) -> Result<StoreKey, KeyError> {
    let known = schema::sealed_with(&store.join("store.db"));
    if known.is_some_and(|known| !known.is_empty()) {
        return Ok(key);
    }
    match identity(store) {
        Some(text) if key.open_text(IDENTITY, &text).is_none() => match KeyId::in_text(&text) {
            Some(named) if named != *key.id() => Err(KeyError::Match {
                store: store.to_owned(),
                found: key.id().clone(),
                place: key.protection().clone(),
                expected: vec![named],
            }),
            _ => Ok(key),
        },
        _ => Ok(key),
    }
}

fn look(store: &config::Store) -> Result<Looked, KeyError> {
    seal::look(store.key.as_ref(), store.old_key.as_ref(), &store.path)
}

fn missing(store: &Path, places: String, expected: Vec<KeyId>) -> KeyError {
    KeyError::Find {
        store: store.to_owned(),
        places,
        expected,
    }
}

/// The keys that a store and its identity were sealed with; nothing where nothing is sealed.
fn expected(store: &Path) -> Option<Vec<KeyId>> {
    let database = schema::sealed_with(&store.join("store.db"));
    let identity = identity(store).map(|text| Vec::from_iter(KeyId::in_text(&text)));
    match (database, identity) {
        (None, identity) => identity,
        (Some(named), Some(identity)) if named.is_empty() => Some(identity),
        (named, _) => named,
    }
}

/// The sealed file of the identity, as far as it can be read.
fn identity(store: &Path) -> Option<String> {
    let mut text = Vec::new();
    let file = File::open(store.join(SEALED_FILE)).ok()?;
    file.take(IDENTITY_BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}
