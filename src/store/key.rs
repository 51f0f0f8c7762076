//! The key of the agent's store: found, or made where nothing is sealed yet.
//!
//! Promises: no key is made beside a store that has one, and a missing one is an error that names what was
//! looked for and which key the store expects.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::schema;
use crate::config;
use crate::limits::IDENTITY_BYTES_MAX;
use crate::seal::{self, KeyError, KeyId, Looked, StoreKey};

/// What is sealed with the key beside the database.
const SEALED_FILE: &str = "identity/keys";

/// The key of a store.
///
/// # Errors
/// When it cannot be used, or is missing while something is sealed with it.
pub fn find(store: &config::Store) -> Result<Option<StoreKey>, KeyError> {
    match look(store)? {
        Looked::Found(key) => Ok(Some(key)),
        Looked::Missing { places, .. } => match expected(&store.path) {
            None => Ok(None),
            Some(expected) => Err(missing(&store.path, places, expected)),
        },
    }
}

/// The key of a store; one is made when there is none and nothing is sealed.
///
/// # Errors
/// When it cannot be used or made, or is missing while something is sealed with it.
pub fn find_or_make(store: &config::Store) -> Result<StoreKey, KeyError> {
    match look(store)? {
        Looked::Found(key) => Ok(key),
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
    let mut text = Vec::new();
    let identity = File::open(store.join(SEALED_FILE))
        .and_then(|file| file.take(IDENTITY_BYTES_MAX).read_to_end(&mut text))
        .ok()
        .map(|_| Vec::from_iter(KeyId::in_text(&String::from_utf8_lossy(&text))));
    match (database, identity) {
        (None, identity) => identity,
        (Some(named), Some(identity)) if named.is_empty() => Some(identity),
        (named, _) => named,
    }
}
