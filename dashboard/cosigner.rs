//! The key that cosigns checkpoints: made at the first start, kept beside the database, never replaced.
//!
//! Its name is the dashboard's authority. Promises: the file is whole or not there, and nobody else's to read;
//! of two dashboards that start at once on one store, both take the same key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use cms_attest::Cosigner;
use cms_attest::keys::{KEY_BYTES, KeyError, SigningKey};
use cms_attest::note::NoteError;
use zeroize::Zeroizing;

/// The seed's file inside the store directory: 32 bytes and nothing else.
const FILE: &str = "cosigner.seed";

type Seed = Zeroizing<[u8; KEY_BYTES]>;

/// Reads the key of this store, or makes it.
///
/// # Errors
/// When the file can be neither read nor made, or holds no key.
pub(crate) fn load(store: &Path, authority: &str) -> Result<Cosigner, CosignerError> {
    let path = store.join(FILE);
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
