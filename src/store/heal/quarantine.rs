//! Where damaged files go: renamed, never deleted, until there are too many of them.
//!
//! A directory `quarantine/<time>-<number>` for each time something was set aside. Its name ends in `.open`
//! until what it holds has been salvaged, so that a crash on the way is made good at the next start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// How many are kept: damage that comes back eight times has told what it can.
const KEPT_MAX: usize = 8;

/// Their bytes together: half of the usual `store.max_size`, and the newest is kept whatever its size.
const KEPT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The end of a name while the salvage has not been finished.
const OPEN: &str = ".open";

/// The file that says why, for a person who looks.
const REASON: &str = "reason.txt";

/// What is set aside together: neither makes sense without the others.
pub(super) const DATABASE: [&str; 3] = ["store.db", "store.db-wal", "store.db-shm"];

/// The quarantine of a store.
#[derive(Clone, Debug)]
pub(super) struct Quarantine {
    store: PathBuf,
}

/// How much is in it, or was dropped from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Quarantine {
    pub(super) fn of(store: &Path) -> Self {
        Self {
            store: store.to_owned(),
        }
    }

    /// Moves files of the store away and says why beside them. Those that are not there are left out.
    pub(super) fn set_aside(
        &self,
        names: &[&str],
        reason: &str,
        now: Timestamp,
    ) -> io::Result<PathBuf> {
        let aside = self.make(now)?;
        // The reason first: it must be there whenever anything else is.
        fs::write(aside.join(REASON), format!("{now}: {reason}\n"))?;
        for name in names {
            self.move_into(&aside, name)?;
        }
        self.flush(&aside)?;
        Ok(aside)
    }

    /// What was set aside and not salvaged yet, oldest first, with the reason.
    pub(super) fn unfinished(&self) -> Vec<(PathBuf, String)> {
        let mut open: Vec<_> = self
            .entries()
            .into_iter()
            .filter(|path| is_open(path))
            .map(|path| {
                let reason = fs::read_to_string(path.join(REASON)).unwrap_or_default();
                let said = reason
                    .trim()
                    .split_once(": ")
                    .map(|(_, said)| said.to_owned());
                (path, said.unwrap_or_default())
            })
            .collect();
        open.sort();
        open
    }

    /// Goes on where a crash has stopped [`Self::set_aside`]: the database is the first file to be moved.
    pub(super) fn complete(&self) -> io::Result<()> {
        let Some((aside, _)) = self.unfinished().pop() else {
            return Ok(());
        };
        let [database, rest @ ..] = DATABASE;
        if aside.join(database).symlink_metadata().is_err()
            || self.store.join(database).symlink_metadata().is_ok()
        {
            return Ok(());
        }
        for name in rest {
            self.move_into(&aside, name)?;
        }
        self.flush(&aside)
    }

    /// Marks one as salvaged. Answers where it is now.
    pub(super) fn finish(&self, aside: &Path) -> io::Result<PathBuf> {
        let name = aside.file_name().unwrap_or_default().to_string_lossy();
        let finished = self.directory().join(name.trim_end_matches(OPEN));
        if finished != aside {
            fs::rename(aside, &finished)?;
            self.flush(&finished)?;
        }
        Ok(finished)
    }

    /// Drops the oldest ones beyond the bounds.
    pub(super) fn trim(&self) -> Held {
        let (mut dropped, mut kept) = (Held::default(), Held::default());
        for path in self
            .entries()
            .into_iter()
            .rev()
            .filter(|path| !is_open(path))
        {
            let bytes = bytes_of(&path);
            let is_newest = kept.count == 0;
            let fits = kept.count < KEPT_MAX as u64 && kept.bytes + bytes <= KEPT_BYTES_MAX;
            if is_newest || fits {
                kept.count += 1;
                kept.bytes += bytes;
            } else if remove(&path).is_ok() {
                dropped.count += 1;
                dropped.bytes += bytes;
            }
        }
        dropped
    }

    /// How much it holds.
    pub(super) fn held(&self) -> Held {
        let entries = self.entries();
        Held {
            count: entries.len() as u64,
            bytes: entries.iter().map(|path| bytes_of(path)).sum(),
        }
    }

    fn directory(&self) -> PathBuf {
        self.store.join("quarantine")
    }

    /// All of them, oldest first: their names begin with the time.
    fn entries(&self) -> Vec<PathBuf> {
        let Ok(listing) = fs::read_dir(self.directory()) else {
            return Vec::new();
        };
        let mut paths: Vec<PathBuf> = listing
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.sort();
        paths
    }

    /// Makes an empty one.
    fn make(&self, now: Timestamp) -> io::Result<PathBuf> {
        let directory = self.directory();
        let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let make = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
        match make(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !directory.is_dir() => {
                // Something else in its place goes where it should have been.
                let moved = self.store.join(format!("quarantine-{stamp}"));
                fs::rename(&directory, &moved)?;
                make(&directory)?;
                fs::rename(&moved, directory.join(format!("{stamp}-0")))?;
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut number = 1_u32;
        loop {
            let name = format!("{stamp}-{number}");
            let path = directory.join(format!("{name}{OPEN}"));
            if directory.join(&name).symlink_metadata().is_err() {
                match make(&path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    made => return made.map(|()| path),
                }
            }
            number += 1;
        }
    }

    fn move_into(&self, aside: &Path, name: &str) -> io::Result<()> {
        match fs::rename(self.store.join(name), aside.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved,
        }
    }

    /// Renames are on disk only once their directories are.
    fn flush(&self, aside: &Path) -> io::Result<()> {
        for directory in [aside, &self.directory(), &self.store] {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

fn is_open(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "open")
}

fn bytes_of(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let Ok(listing) = fs::read_dir(path) else {
        return 0;
    };
    listing
        .filter_map(|entry| Some(bytes_of(&entry.ok()?.path())))
        .sum()
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_772_000_000 + second).unwrap()
    }

    #[test]
    fn what_is_set_aside_keeps_its_bytes_and_its_reason() {
        let store = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::of(store.path());
        fs::write(store.path().join("store.db"), "rot").unwrap();
        let aside = quarantine
            .set_aside(&DATABASE, "no database", at(0))
            .unwrap();
        assert!(!store.path().join("store.db").exists());
        assert_eq!(fs::read_to_string(aside.join("store.db")).unwrap(), "rot");
        assert_eq!(
            quarantine.unfinished(),
            [(aside.clone(), "no database".to_owned())]
        );
        let finished = quarantine.finish(&aside).unwrap();
        assert_eq!(finished, store.path().join("quarantine/20260225T061320Z-1"));
        assert_eq!(quarantine.unfinished(), []);
        assert_eq!(quarantine.held().count, 1);
    }

    #[test]
    fn a_crash_between_two_renames_is_made_good() {
        let store = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::of(store.path());
        fs::write(store.path().join("store.db"), "rot").unwrap();
        let aside = quarantine.set_aside(&["store.db"], "rot", at(0)).unwrap();
        fs::write(store.path().join("store.db-wal"), "its log").unwrap();
        quarantine.complete().unwrap();
        assert_eq!(
            fs::read_to_string(aside.join("store.db-wal")).unwrap(),
            "its log"
        );
        // Once there is a new database, the log is that one's.
        fs::write(store.path().join("store.db"), "new").unwrap();
        fs::write(store.path().join("store.db-wal"), "new log").unwrap();
        quarantine.complete().unwrap();
        assert_eq!(
            fs::read_to_string(aside.join("store.db-wal")).unwrap(),
            "its log"
        );
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_and_something_in_the_way_is_kept_too() {
        let store = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::of(store.path());
        fs::write(store.path().join("quarantine"), "in the way").unwrap();
        for second in 0..12 {
            fs::write(store.path().join("store.db"), "rot").unwrap();
            let aside = quarantine.set_aside(&DATABASE, "rot", at(second)).unwrap();
            quarantine.finish(&aside).unwrap();
        }
        assert_eq!(quarantine.held().count, 13);
        assert_eq!(quarantine.trim().count, 5);
        let kept = quarantine.entries();
        assert_eq!(kept.len(), KEPT_MAX);
        assert!(kept[0].ends_with("20260225T061324Z-1"), "{kept:?}");
    }
}
