//! The keys that cosign checkpoints: the first is made at the first start, the others by rotation.
//!
//! Their name is the dashboard's authority, their seeds are files beside the database, which knows their order.
//! Promises: a file is whole or not there, and nobody else's to read; of two dashboards that start at once on
//! one store, both take the same key; a key that is rotated in signs from the next head on, without a restart,
//! and the one before beside it for [`OVERLAP`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand;
use cms_attest::Cosigner;
use cms_attest::keys::{KEY_BYTES, KeyError, SigningKey};
use cms_attest::note::NoteError;
use cms_attest::succession::{SUCCESSIONS_MAX, SuccessionError};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::store::{CosignerRow, Store, StoreError};

/// The first seed's file inside the store directory: 32 bytes and nothing else.
const FILE: &str = "cosigner.seed";
/// How long a key signs beside its successor. Agents follow a succession by themselves; other witnesses, and
/// whoever has written the key down, need a person and some notice.
pub(crate) const OVERLAP: SignedDuration = SignedDuration::from_hours(30 * 24);

type Seed = Zeroizing<[u8; KEY_BYTES]>;

/// The dashboard's keys for receipts.
pub(crate) struct Cosigners {
    first: Arc<Cosigner>,
    /// Where the seeds of later ones are; nothing for a dashboard that keeps no files of its own.
    directory: Option<PathBuf>,
    loaded: Mutex<Vec<(u32, Arc<Cosigner>)>>,
}

impl Cosigners {
    /// A dashboard whose one key is this, until the store knows of others.
    pub(crate) fn new(first: Cosigner, directory: Option<PathBuf>) -> Self {
        Self {
            first: Arc::new(first),
            directory,
            loaded: Mutex::default(),
        }
    }

    /// The keys that sign now: the one in use first, then those that sign beside it.
    pub(crate) async fn signing(
        &self,
        store: &Store,
        now: Timestamp,
    ) -> Result<Vec<Arc<Cosigner>>, CosignerError> {
        let rows = store.cosigners().await?;
        let mut keys = Vec::new();
        for row in rows.iter().rev() {
            if row.until.is_none_or(|until| now < until) {
                keys.push(self.of(row)?);
            }
        }
        if keys.is_empty() {
            keys.push(Arc::clone(&self.first));
        }
        Ok(keys)
    }

    /// How each key handed over to the next, the oldest first.
    pub(crate) async fn successions(&self, store: &Store) -> Result<Vec<String>, CosignerError> {
        let rows = store.cosigners().await?;
        let all: Vec<String> = rows.into_iter().filter_map(|row| row.succession).collect();
        let skipped = all.len().saturating_sub(SUCCESSIONS_MAX);
        Ok(all.into_iter().skip(skipped).collect())
    }

    fn of(&self, row: &CosignerRow) -> Result<Arc<Cosigner>, CosignerError> {
        if row.number == 1 {
            return Ok(Arc::clone(&self.first));
        }
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = loaded.iter().find(|(number, _)| *number == row.number) {
            return Ok(Arc::clone(key));
        }
        let path = file(
            self.directory.as_deref().unwrap_or(Path::new("")),
            row.number,
        );
        let seed = read(&path)?.ok_or_else(|| CosignerError::Read {
            path: path.clone(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let name = self.first.published().name().clone();
        let key = Cosigner::new(name, SigningKey::from_seed(&seed)?);
        if key.verifying() != &row.key {
            return Err(CosignerError::Other { path });
        }
        let key = Arc::new(key);
        loaded.push((row.number, Arc::clone(&key)));
        Ok(key)
    }
}

/// Reads the private half of a key that was published. It makes none.
///
/// # Errors
/// When the file cannot be read, or holds another key.
pub(crate) fn published(
    store: &Path,
    authority: &str,
    row: &CosignerRow,
) -> Result<Cosigner, CosignerError> {
    let path = file(store, row.number);
    let seed = read(&path)?.ok_or_else(|| CosignerError::Read {
        path: path.clone(),
        source: io::ErrorKind::NotFound.into(),
    })?;
    let key = Cosigner::new(authority.parse()?, SigningKey::from_seed(&seed)?);
    if *key.verifying() == row.key {
        Ok(key)
    } else {
        Err(CosignerError::Other { path })
    }
}

fn file(directory: &Path, number: u32) -> PathBuf {
    if number == 1 {
        directory.join(FILE)
    } else {
        directory.join(format!("cosigner-{number}.seed"))
    }
}

/// Reads the first key of this store, or makes it.
///
/// # Errors
/// When the file can be neither read nor made, or holds no key.
pub(crate) fn load(store: &Path, authority: &str) -> Result<Cosigner, CosignerError> {
    load_or_make(store, authority, 1)
}

/// Reads a key of this store, or makes it. One that a broken rotation has left was never used, and serves.
///
/// # Errors
/// When the file can be neither read nor made, or holds no key.
pub(crate) fn load_or_make(
    store: &Path,
    authority: &str,
    number: u32,
) -> Result<Cosigner, CosignerError> {
    let path = file(store, number);
    let seed = match read(&path)? {
        Some(seed) => seed,
        None => make(&path)?,
    };
    let key = SigningKey::from_seed(&seed)?;
    Ok(Cosigner::new(authority.parse()?, key))
}

fn read(path: &Path) -> Result<Option<Seed>, CosignerError> {
    let failed = |source| CosignerError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let length = file.metadata().map_err(failed)?.len();
    let mut seed = Seed::default();
    if length != KEY_BYTES as u64 {
        return Err(CosignerError::Length {
            path: path.to_owned(),
            length,
        });
    }
    file.read_exact(&mut *seed).map_err(failed)?;
    Ok(Some(seed))
}

fn make(path: &Path) -> Result<Seed, CosignerError> {
    let failed = |source| CosignerError::Write {
        path: path.to_owned(),
        source,
    };
    let mut seed = Seed::default();
    rand::fill(&mut *seed).map_err(|_| CosignerError::Random)?;
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let written = write(&temporary, &seed)
        // A link, because it fails where a rename would put a second key in the place of the first.
        .and_then(|()| fs::hard_link(&temporary, path));
    drop(fs::remove_file(&temporary));
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.exists() => {
            return read(path)?.ok_or_else(|| failed(error));
        }
        Err(error) => return Err(failed(error)),
    }
    let directory = path.parent().unwrap_or(path);
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)?;
    tracing::warn!(path = %path.display(), "a new key for receipts was made; back it up");
    Ok(seed)
}

fn write(path: &Path, seed: &Seed) -> io::Result<()> {
    drop(fs::remove_file(path));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&**seed)?;
    file.sync_all()
}

/// Why there is no key for receipts.
#[derive(Debug, thiserror::Error)]
pub enum CosignerError {
    /// The file is no seed.
    #[error(
        "{} has {length} bytes and not {KEY_BYTES}: restore it from a backup; agents know the key it held",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        length: u64,
    },
    /// The crypto library made no key of it.
    #[error("no key could be made of the seed for receipts: restore it from a backup")]
    Key(#[from] KeyError),
    /// The authority cannot name a key.
    #[error("the authority cannot name the key for receipts: write it as host or host:port")]
    Name(#[from] NoteError),
    /// No random numbers.
    #[error("the system gave no random numbers for the key of receipts: start again")]
    Random,
    /// The file holds another key than the one that the store names.
    #[error("{} holds another key than was published: restore it from a backup", path.display())]
    Other {
        /// The file.
        path: PathBuf,
    },
    /// The store failed.
    #[error("cannot read which keys sign receipts")]
    Store(#[from] StoreError),
    /// The keys cannot follow on each other.
    #[error("the new key for receipts cannot follow the old one")]
    Succession(#[from] SuccessionError),
    /// The file cannot be read.
    #[error("cannot read {}; give it to the user that the dashboard runs as", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("cannot write {}; make the store directory writable", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_stays_the_same_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = load(dir.path(), "localhost:1234").unwrap().published();
        let again = load(dir.path(), "localhost:1234").unwrap().published();
        assert_eq!(first, again);
        assert!(first.to_string().starts_with("localhost:1234+"));
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let other = tempfile::tempdir().unwrap();
        let other = load(other.path(), "localhost:1234").unwrap().published();
        assert_ne!(first, other);
    }

    #[test]
    fn starters_at_once_take_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        // Both have seen that there is none.
        let first = make(&path).unwrap();
        let second = make(&path).unwrap();
        assert_eq!(first, second);
        assert_eq!(*first, *read(&path).unwrap().unwrap());
    }

    #[test]
    fn a_damaged_seed_is_kept_and_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), [7; 31]).unwrap();
        let refused = load(dir.path(), "localhost").unwrap_err();
        assert!(matches!(refused, CosignerError::Length { length: 31, .. }));
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), [7; 31]);
    }
}
