//! Where the identity is kept: sealed in a file, and once more in the store. One repairs the other.
//!
//! Promises: a file is whole or not there; what is damaged is set aside and never deleted; a new identity is
//! made only where there was none, or where both copies are lost, and then it says so. Refuses: asking a person
//! to delete anything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cms_attest::origin::AgentId;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::kept::{Kept, Seed, parse_seed};
use super::{IdentityError, random_bytes};
use crate::durable;
use crate::limits::IDENTITY_BYTES_MAX;
use crate::seal::StoreKey;
use crate::store::key::IDENTITY;
use crate::store::{RESET_MARKER, Store};

/// The file of the sealed keys.
const SEALED: &str = "keys";

/// The file that tells people, and `preview`, the agent's id. Nothing is read from it that is not sealed too.
const AGENT_ID: &str = "agent-id";

/// Files of seeds that an earlier version has left unsealed.
const PLAIN: [&str; 2] = ["request.key", "log.key"];

/// How the identity was found at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Both copies are lost: this is a new identity, and why.
    Lost(String),
    /// The first start.
    Made,
    /// One copy was damaged or missing, and was made again from the other. What was, in words.
    Repaired(String),
    /// A person had the old one taken out: this is a new identity.
    Reset,
    /// As it was.
    Whole,
}

/// The places of an agent's identity.
pub(super) struct Keeper<'a> {
    store: &'a Store,
    key: &'a StoreKey,
    directory: PathBuf,
    now: Timestamp,
}

/// One of the two copies.
#[derive(Debug)]
enum Copy {
    Damaged(String),
    Good(Good),
    Missing,
}

#[derive(Debug)]
struct Good {
    kept: Kept,
    is_old: bool,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(store: &'a Store, key: &'a StoreKey, now: Timestamp) -> Self {
        Self {
            directory: store.path().join("identity"),
            store,
            key,
            now,
        }
    }

    /// The identity, whatever state its copies are in.
    pub(super) async fn open(&self) -> Result<(Kept, Found), IdentityError> {
        if !self.directory.is_dir() {
            self.set_aside(&[""], "something else is in the place of the directory")?;
        }
        durable::make_directory(&self.directory).map_err(|source| IdentityError::Write {
            path: self.directory.clone(),
            source,
        })?;
        let file = of_file(self.key, &self.directory.join(SEALED));
        let copy = match self.store.meta(IDENTITY).await? {
            Some(text) => Copy::of(self.key, &text),
            None => Copy::Missing,
        };
        let (kept, found) = match (file, copy) {
            (Copy::Good(file), Copy::Good(copy)) if file.kept == copy.kept => {
                if file.is_old || copy.is_old {
                    self.keep(&file.kept).await?;
                }
                (file.kept, Found::Whole)
            }
            (Copy::Good(file), Copy::Good(copy)) => self.keep_newer(file.kept, copy.kept).await?,
            (Copy::Good(Good { kept, .. }), copy) => {
                self.keep(&kept).await?;
                (
                    kept,
                    Found::Repaired(format!("its copy in the store was {copy}")),
                )
            }
            (file, Copy::Good(Good { kept, .. })) => {
                if let Copy::Damaged(why) = &file {
                    self.set_aside(&[SEALED], why)?;
                }
                self.keep(&kept).await?;
                (
                    kept,
                    Found::Repaired(format!("the file identity/{SEALED} was {file}")),
                )
            }
            (file, copy) => self.begin(&file, &copy).await?,
        };
        self.tidy(&kept)?;
        Ok((kept, found))
    }

    /// Seals both copies. One of them is enough to go on with.
    pub(super) async fn keep(&self, kept: &Kept) -> Result<(), IdentityError> {
        let text = self
            .key
            .seal_text(IDENTITY, &kept.text())
            .map_err(|_| IdentityError::NoRandomness)?;
        let in_store = self.store.set_meta(IDENTITY, text.clone()).await;
        let in_file = write(&self.directory.join(SEALED), text.as_bytes());
        match (in_store, in_file) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(error), Err(_)) => Err(error.into()),
            (Ok(()), Err(error)) => {
                tracing::error!(%error, "the identity is kept in the store only; the next start tries again");
                Ok(())
            }
            (Err(error), Ok(())) => {
                tracing::error!(%error, "the identity is kept in its file only; the next start tries again");
                Ok(())
            }
        }
    }

    /// Two good copies that differ: a change that was cut short, or a file that was put there.
    async fn keep_newer(&self, file: Kept, copy: Kept) -> Result<(Kept, Found), IdentityError> {
        // The ledger in the store is that of the store's copy.
        if file.agent_id != copy.agent_id {
            self.set_aside(&[SEALED], "it is the identity of another agent")?;
            self.keep(&copy).await?;
            let why = format!("the file identity/{SEALED} was of another agent");
            return Ok((copy, Found::Repaired(why)));
        }
        let newer = if file.revision > copy.revision {
            file
        } else {
            copy
        };
        self.keep(&newer).await?;
        Ok((
            newer,
            Found::Repaired("one copy was older than the other".to_owned()),
        ))
    }

    /// Neither copy is good: an earlier version's, the first one, or a new one.
    async fn begin(&self, file: &Copy, copy: &Copy) -> Result<(Kept, Found), IdentityError> {
        if let Some(kept) = plain(&self.directory) {
            if let Copy::Damaged(why) = file {
                self.set_aside(&[SEALED], why)?;
            }
            self.keep(&kept).await?;
            tracing::info!("the identity of an earlier version is encrypted now");
            return Ok((kept, Found::Whole));
        }
        let nothing = matches!((file, copy), (Copy::Missing, Copy::Missing));
        let left = PLAIN.iter().any(|name| self.directory.join(name).exists());
        let was_reset = self.directory.join(RESET_MARKER).exists();
        let found = if nothing && !left && !self.store.has_ledger().await? {
            Found::Made
        } else if nothing && !left && was_reset {
            Found::Reset
        } else {
            let why =
                format!("the file identity/{SEALED} was {file}, its copy in the store was {copy}");
            self.set_aside(&[SEALED, PLAIN[0], PLAIN[1], AGENT_ID], &why)?;
            Found::Lost(why)
        };
        let seed = || random_bytes::<32>().map(Zeroizing::new);
        let kept = Kept::first(new_agent_id(self.now)?, seed()?, seed()?);
        self.keep(&kept).await?;
        Ok((kept, found))
    }

    /// What is beside the sealed file: the id for people, and nothing unsealed.
    fn tidy(&self, kept: &Kept) -> Result<(), IdentityError> {
        // There is an identity again: should this one be lost, that was not asked for.
        drop(fs::remove_file(self.directory.join(RESET_MARKER)));
        for name in PLAIN {
            let path = self.directory.join(name);
            let ours = |seed: Seed| kept.seeds().any(|(_, known)| *known == seed);
            match read(&path) {
                Ok(Some(text)) if parse_seed(text.trim()).is_some_and(ours) => wipe(&path),
                Ok(None) => {}
                _ => self.set_aside(&[name], "it is no key of this agent")?,
            }
        }
        let path = self.directory.join(AGENT_ID);
        let id = kept.agent_id.to_string();
        if read(&path)
            .ok()
            .flatten()
            .is_none_or(|found| found.trim() != id)
        {
            // Nothing depends on it.
            drop(write(&path, id.as_bytes()));
        }
        Ok(())
    }

    /// Moves files of the identity into the quarantine, those that are not sealed in sealed form. The empty name
    /// is the directory itself.
    fn set_aside(&self, names: &[&str], why: &str) -> Result<(), IdentityError> {
        let there: Vec<PathBuf> = names
            .iter()
            .map(|name| match name.is_empty() {
                true => self.directory.clone(),
                false => self.directory.join(name),
            })
            .filter(|path| path.symlink_metadata().is_ok())
            .collect();
        if there.is_empty() {
            return Ok(());
        }
        let stamp = self.now.strftime("%Y%m%dT%H%M%SZ");
        let quarantine = self.store.path().join("quarantine");
        let failed = |source| IdentityError::SetAside {
            path: quarantine.clone(),
            source,
        };
        let aside = (0..)
            .map(|number| quarantine.join(format!("{stamp}-identity-{number}")))
            .find(|path| path.symlink_metadata().is_err())
            .unwrap_or_else(|| quarantine.clone());
        durable::make_directory(&aside).map_err(failed)?;
        write(
            &aside.join("reason.txt"),
            format!("{}: {why}\n", self.now).as_bytes(),
        )
        .map_err(failed)?;
        for path in there {
            let name = path.file_name().unwrap_or_default();
            let unsealed = PLAIN.iter().any(|plain| name == *plain);
            match read(&path) {
                Ok(Some(text)) if unsealed => {
                    let sealed = self.key.seal_text("quarantine", &text);
                    let sealed = sealed.map_err(|_| IdentityError::NoRandomness)?;
                    write(&aside.join(name), sealed.as_bytes()).map_err(failed)?;
                    wipe(&path);
                }
                _ => fs::rename(&path, aside.join(name)).map_err(failed)?,
            }
        }
        tracing::error!(
            quarantine = %aside.display(),
            why,
            "a part of the identity is set aside"
        );
        Ok(())
    }
}

impl Copy {
    fn of(key: &StoreKey, text: &str) -> Self {
        let Some(opened) = key.open_text(IDENTITY, text) else {
            return Self::Damaged("its seal is broken".to_owned());
        };
        let text = std::str::from_utf8(&opened.content);
        match text.ok().and_then(Kept::parse) {
            Some(kept) => Self::Good(Good {
                kept,
                is_old: opened.is_old,
            }),
            None => Self::Damaged("it is of a later version or makes no sense".to_owned()),
        }
    }
}

impl std::fmt::Display for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(why) => write!(f, "damaged ({why})"),
            Self::Good(_) => f.write_str("good"),
            Self::Missing => f.write_str("missing"),
        }
    }
}

/// The identity in a directory, or else its copy in the store, for reading.
pub(super) fn read_only(directory: &Path, copy: Option<&str>, key: &StoreKey) -> Option<Kept> {
    let good = |copy| match copy {
        Copy::Good(good) => Some(good.kept),
        _ => None,
    };
    good(of_file(key, &directory.join(SEALED))).or_else(|| good(Copy::of(key, copy?)))
}

fn of_file(key: &StoreKey, path: &Path) -> Copy {
    match read(path) {
        Ok(Some(text)) => Copy::of(key, &text),
        Ok(None) => Copy::Missing,
        Err(error) => Copy::Damaged(error.to_string()),
    }
}

/// The identity of an earlier version, whose files were not sealed.
fn plain(directory: &Path) -> Option<Kept> {
    let text = |name: &str| read(&directory.join(name)).ok().flatten();
    let [request, log] = PLAIN.map(|name| parse_seed(text(name)?.trim()));
    let agent_id = text(AGENT_ID)?.trim().parse().ok()?;
    Some(Kept::first(agent_id, request?, log?))
}

fn new_agent_id(now: Timestamp) -> Result<AgentId, IdentityError> {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    let time = uuid::Timestamp::from_unix_time(seconds, nanos, 0, 0);
    let id = uuid::Uuid::new_v7(time).to_string();
    id.parse().map_err(|_| IdentityError::NoRandomness)
}

/// The text of a small file; nothing where there is none.
fn read(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(IDENTITY_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(Zeroizing::new(
        String::from_utf8_lossy(&bytes).into_owned(),
    )))
}

/// Writes a file that is either whole or not there, also after a power cut.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Overwrites a file before it is removed. What the file system has copied elsewhere is out of reach.
fn wipe(path: &Path) {
    let overwrite = || {
        let length = fs::metadata(path)?.len().min(IDENTITY_BYTES_MAX);
        let mut file = OpenOptions::new().write(true).open(path)?;
        io::copy(&mut io::repeat(0).take(length), &mut file)?;
        file.sync_all()?;
        fs::remove_file(path)
    };
    if let Err(error) = overwrite() {
        tracing::error!(path = %path.display(), %error, "a key that is not encrypted could not be removed; the next start tries again");
    }
}
