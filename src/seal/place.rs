//! Where the key of a store is: a systemd credential, or a file beside the store that only its owner can read.
//!
//! Beside and not in it: a copy of the store's directory, or a backup of it, does not hold its key. Promises: a
//! key is made once, whole or not at all, and never takes the place of another. Refuses: deciding whether one
//! may be made; who knows the store says so.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::{KEY_BYTES, KeyId, Protection, SealError, StoreKey, random_key};
use crate::config::{SecretError, SecretSource};
use crate::durable;

/// The systemd credential that is looked for where the configuration names no key.
pub const CREDENTIAL: &str = "store-key";

/// Tools that write base64 agree on everything but the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a look for a key has found.
#[derive(Debug)]
pub enum Looked {
    /// The key.
    Found(StoreKey),
    /// There is none.
    Missing {
        /// Where it was looked for, in words.
        places: String,
        /// The file that one can be made in; nothing where a person must provide it.
        make_at: Option<PathBuf>,
    },
}

/// The file that holds the key of a store unless something else is configured.
#[must_use]
pub fn default_file(store: &Path) -> PathBuf {
    let mut directory = store.components().as_path().as_os_str().to_owned();
    directory.push("-key");
    Path::new(&directory).join("store.key")
}

/// Looks for the key of a store: where the configuration says, else the credential, else the default file.
///
/// # Errors
/// When what is there cannot be read, can be read by others, or is no key.
pub fn look(
    configured: Option<&SecretSource>,
    old: Option<&SecretSource>,
    store: &Path,
) -> Result<Looked, KeyError> {
    let file = SecretSource::File(default_file(store));
    let places = match configured {
        Some(place) => vec![place.clone()],
        None => vec![SecretSource::Credential(CREDENTIAL.to_owned()), file],
    };
    for place in &places {
        if let Some(key) = read(place)? {
            return Ok(Looked::Found(match old.map(read).transpose()?.flatten() {
                Some(old) => key.after(&old),
                None => key,
            }));
        }
    }
    let make_at = places.iter().find_map(|place| match place {
        SecretSource::File(path) => Some(path.clone()),
        _ => None,
    });
    let places: Vec<String> = places.iter().map(ToString::to_string).collect();
    Ok(Looked::Missing {
        places: places.join(" and "),
        make_at,
    })
}

/// Makes a key in a file. One that is there by now is taken as it is.
///
/// # Errors
/// When the file cannot be written, or the system has no randomness.
pub fn make(path: &Path) -> Result<StoreKey, KeyError> {
    let failed = |source| KeyError::Make {
        path: path.to_owned(),
        source,
    };
    let directory = path.parent().unwrap_or(path);
    let mut text = Zeroizing::new(BASE64.encode(*random_key()?));
    text.push('\n');
    durable::make_directory(directory).map_err(failed)?;
    // Made with mode 0600.
    let mut file = NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(there) if there.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error.error)),
    }
    // A store whose key a power cut has taken would be lost with it: the key is on disk before the store is.
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)?;
    read(&SecretSource::File(path.to_owned()))?
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// The key at this place; nothing when there is nothing.
fn read(place: &SecretSource) -> Result<Option<StoreKey>, KeyError> {
    let secret = match place.read() {
        Ok(secret) => secret,
        Err(SecretError::FindCredentials(_)) => return Ok(None),
        Err(SecretError::ReadFile(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(source) => {
            return Err(KeyError::Read {
                place: place.to_string(),
                next: source.hint(),
                source,
            });
        }
    };
    let bytes = BASE64.decode(secret.expose().trim()).map(Zeroizing::new);
    let key = bytes
        .ok()
        .and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok())
        .map(Zeroizing::new)
        .ok_or_else(|| KeyError::Understand {
            place: place.to_string(),
        })?;
    let protection = match place {
        SecretSource::Credential(name) => Protection::Credential(name.clone()),
        file => Protection::File(file.to_string()),
    };
    Ok(Some(StoreKey::new(&key, protection)?))
}

/// Why there is no usable key for a store.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key cannot be put to use.
    #[error("cannot use the key of the store: try again, and check the system's random numbers")]
    Encrypt(#[from] SealError),
    /// There is a store, and its key is not there.
    #[error(
        "there is no key for the store {}: looked for {places}; {}: put it back there, from a backup if need be, or start the agent as it was started before; nothing was made or changed",
        store.display(), sealed_with(expected)
    )]
    Find {
        /// The store.
        store: PathBuf,
        /// Where it was looked for.
        places: String,
        /// The keys that the store names.
        expected: Vec<KeyId>,
    },
    /// The key cannot be written.
    #[error(
        "cannot make the key of the store, {}: make its directory writable for the agent's user, or name another place as store.key",
        path.display()
    )]
    Make {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is another key.
    #[error(
        "the key {found} ({place}) does not open the store {}: {}: put that key back as store.key, or name it as store.old_key to change to the new one; nothing was made or changed",
        store.display(), sealed_with(expected)
    )]
    Match {
        /// The store.
        store: PathBuf,
        /// The key that was found.
        found: KeyId,
        /// Where.
        place: Protection,
        /// The keys that the store names.
        expected: Vec<KeyId>,
    },
    /// A person has to make it.
    #[error(
        "there is no {places} with the key of the store: make one with `head -c 32 /dev/urandom | base64`, keep a copy, and provide it with LoadCredentialEncrypted= or LoadCredential="
    )]
    Provide {
        /// Where it was looked for.
        places: String,
    },
    /// The key cannot be read.
    #[error("cannot read the key of the store from {place}: {next}")]
    Read {
        /// Where it is.
        place: String,
        /// What the reader can do.
        next: String,
        /// What is wrong with it.
        source: SecretError,
    },
    /// What was read is no key.
    #[error(
        "{place} does not hold the key of a store, 32 bytes as base64 on one line: put the right one back, from a backup if need be"
    )]
    Understand {
        /// Where it was read.
        place: String,
    },
}

impl KeyError {
    /// Whether trying again changes nothing before a person has put something right.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Encrypt(_) => false,
            Self::Make { source, .. } => lasts(source.kind()),
            Self::Read { source, .. } => match source {
                SecretError::ReadFile(_, error) => lasts(error.kind()),
                _ => true,
            },
            Self::Find { .. }
            | Self::Match { .. }
            | Self::Provide { .. }
            | Self::Understand { .. } => true,
        }
    }
}

/// Whether a disk that answers so will answer the same again. A full or failing one may not.
fn lasts(error: io::ErrorKind) -> bool {
    matches!(
        error,
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
    )
}

/// Which keys a store was sealed with, in words.
fn sealed_with(expected: &[KeyId]) -> String {
    let names: Vec<&str> = expected.iter().map(KeyId::as_str).collect();
    match names.as_slice() {
        [] => "it was sealed with a key whose name cannot be read".to_owned(),
        names => format!("it was sealed with the key {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn found(looked: Looked) -> StoreKey {
        match looked {
            Looked::Found(key) => key,
            Looked::Missing { places, .. } => panic!("nothing at {places}"),
        }
    }

    #[test]
    fn a_disk_that_fails_once_is_no_reason_to_call_a_person() {
        let make = |kind: io::ErrorKind| KeyError::Make {
            path: PathBuf::new(),
            source: kind.into(),
        };
        assert!(!make(io::ErrorKind::StorageFull).needs_a_person());
        assert!(!make(io::ErrorKind::Other).needs_a_person());
        assert!(make(io::ErrorKind::PermissionDenied).needs_a_person());
        let places = String::new();
        assert!(KeyError::Provide { places }.needs_a_person());
    }

    #[test]
    fn the_default_is_beside_the_store() {
        for path in ["/var/lib/agent", "/var/lib/agent/"] {
            let file = default_file(Path::new(path));
            assert_eq!(file, Path::new("/var/lib/agent-key/store.key"));
        }
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        let Looked::Missing { places, make_at } = look(None, None, &store).unwrap() else {
            panic!("there is none yet");
        };
        assert!(places.contains("credential store-key and /"), "{places}");
        let path = make_at.unwrap();
        let first = make(&path).unwrap();
        let again = make(&path).unwrap();
        assert_eq!(
            first.id(),
            again.id(),
            "it never takes the place of another"
        );
        assert_eq!(found(look(None, None, &store).unwrap()).id(), first.id());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let text = fs::read_to_string(&path).unwrap();
        assert!(!format!("{first:?} {}", first.id()).contains(text.trim()));
    }

    #[test]
    fn what_is_no_key_is_told_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.key");
        let place = SecretSource::File(path.clone());
        for wrong in ["", "AAAA", "not base64 at all", &"A".repeat(44)] {
            fs::write(&path, wrong).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let error = look(Some(&place), None, folder.path()).unwrap_err();
            assert!(error.to_string().contains("store.key"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), wrong);
        }
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let error = look(Some(&place), None, folder.path()).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn padding_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.key");
        let place = SecretSource::File(path.clone());
        let mut ids = Vec::new();
        for text in [format!("{}=\n", "A".repeat(43)), "A".repeat(43)] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            ids.push(
                found(look(Some(&place), None, folder.path()).unwrap())
                    .id()
                    .clone(),
            );
        }
        assert_eq!(ids[0], ids[1]);
    }
}
