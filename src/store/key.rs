//! The key of the agent's store: found, or made where nothing is sealed yet.
//!
//! Promises: no key is made beside a store that has one, and a missing one is an error that names what was
//! looked for and which key the store expects.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::seal::refuse_before_opening;
use super::{StoreError, heal, schema};
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

/// Refuses another key before anything is written. Where the database is gone the identity alone can tell: a new
/// database would be made under it, and the right key would be the wrong one from then on.
fn check(store: &Path, key: StoreKey) -> Result<StoreKey, KeyError> {
    if let Some(keys) = heal::data_keys(store) {
        refuse_before_opening(&key, &keys, store)?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSource;
    use crate::store::Store;
    use std::fs;
    use std::time::Duration;

    fn limits(path: &Path) -> config::Store {
        config::Store {
            path: path.join("agent"),
            bytes_max: 1 << 30,
            retention: Duration::from_secs(1),
            key: None,
            old_key: None,
        }
    }

    async fn with_store(limits: &config::Store) -> StoreKey {
        let key = find_or_make(limits).unwrap();
        let store = Store::open(&limits.path, &key).await.unwrap();
        store.settle().await.unwrap();
        key
    }

    #[tokio::test]
    async fn a_missing_key_is_told_by_name_and_place_and_none_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let limits = limits(directory.path());
        assert!(find(&limits).unwrap().is_none(), "nothing is there yet");
        let key = with_store(&limits).await;
        assert_eq!(find(&limits).unwrap().unwrap().id(), key.id());
        let file = seal::default_file(&limits.path);
        fs::rename(&file, directory.path().join("away")).unwrap();
        for error in [
            find_or_make(&limits).unwrap_err(),
            find(&limits).unwrap_err(),
        ] {
            let text = error.to_string();
            for part in [
                limits.path.to_str().unwrap(),
                "credential store-key",
                file.to_str().unwrap(),
                key.id().as_str(),
                "put it back",
            ] {
                assert!(text.contains(part), "{part} is not in: {text}");
            }
        }
        assert!(!file.exists());
        fs::rename(directory.path().join("away"), &file).unwrap();
        assert_eq!(find_or_make(&limits).unwrap().id(), key.id());
    }

    #[tokio::test]
    async fn a_database_that_cannot_be_read_still_counts_as_sealed() {
        let directory = tempfile::tempdir().unwrap();
        let limits = limits(directory.path());
        with_store(&limits).await;
        fs::write(limits.path.join("store.db"), [7; 9_000]).unwrap();
        fs::remove_file(seal::default_file(&limits.path)).unwrap();
        let error = find_or_make(&limits).unwrap_err();
        assert!(matches!(error, KeyError::Find { .. }), "{error}");
    }

    #[test]
    fn the_identity_alone_tells_a_wrong_key() {
        let directory = tempfile::tempdir().unwrap();
        let limits = limits(directory.path());
        let right = find_or_make(&limits).unwrap();
        let sealed = right.seal_text(IDENTITY, "x").unwrap();
        fs::create_dir_all(limits.path.join("identity")).unwrap();
        fs::write(limits.path.join(SEALED_FILE), sealed).unwrap();
        assert!(find(&limits).is_ok());
        fs::remove_file(seal::default_file(&limits.path)).unwrap();
        assert!(matches!(find_or_make(&limits), Err(KeyError::Find { .. })));
        seal::make(&seal::default_file(&limits.path)).unwrap();
        let error = find_or_make(&limits).unwrap_err();
        assert!(matches!(error, KeyError::Match { .. }), "{error}");
        assert!(error.to_string().contains(right.id().as_str()), "{error}");
    }

    #[test]
    fn a_credential_that_is_not_there_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut limits = limits(directory.path());
        limits.key = Some(SecretSource::Credential("no-such".to_owned()));
        let error = find_or_make(&limits).unwrap_err();
        assert!(matches!(error, KeyError::Provide { .. }), "{error}");
        assert!(error.to_string().contains("credential no-such"), "{error}");
    }
}
