//! The walk over a tree: every regular file once, by its allocated blocks.
//!
//! Owns: what counts. Promises: symbolic links are not followed, mounts are not crossed unless
//! asked, nothing is counted twice, what vanishes meanwhile is left out, what cannot be read is
//! counted; no access time changes where the system allows that (for the owner of a directory and
//! for root). Memory is bounded by [`DEPTH_MAX`] open directories and [`super::links::LINKS_MAX`]
//! files. Refuses: names that leave this module.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr};
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cms_spec::dark::{AccessBasis, DARK_AFTER_DAYS, Tally};
use cms_spec::units::Bytes;
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{
    AtFlags, CWD, Dir, DirEntry, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags,
    makedev, openat, statx,
};
use rustix::io::Errno;

use super::links::{Links, Share};
use super::mounts;
use super::pattern::Pattern;
use crate::host::read_text;

/// Deepest directory below the root: each level keeps one file open, and a process may open 1,024
/// by default.
const DEPTH_MAX: usize = 256;

/// Filesystems that one scan may cross into.
const DEVICES_MAX: usize = 1024;

/// Bytes in a block as `statx` counts them, whatever the filesystem's own block size.
const BLOCK_BYTES: u64 = 512;

/// What to walk and how.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) root: PathBuf,
    /// The moment that ages are counted from.
    pub(super) as_of: Timestamp,
    pub(super) exclude: Arc<[Pattern]>,
    pub(super) cross_mounts: bool,
    /// Normally `/proc/self/mountinfo`.
    pub(super) mountinfo: PathBuf,
    pub(super) progress: Arc<Progress>,
}

/// What came of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) active: Tally,
    pub(super) dark: Tally,
    /// Directories and files that could not be read.
    pub(super) unreadable: u64,
    /// The weakest basis of all mounts that were walked.
    pub(super) basis: AccessBasis,
}

/// Why there is no total: what could not be read, the system's error number, and whether the service
/// manager hides the place from this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WalkError {
    pub(super) what: PathBuf,
    pub(super) error: i32,
    pub(super) is_hidden: bool,
}

/// How far a walk is, and whether anybody still wants it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    objects: AtomicU64,
    entries: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    /// Asks the walk to end without a total.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether somebody did.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Counts a directory entry.
    pub(super) fn see(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// Directory entries seen, which grows as long as the walk does not hang.
    pub(super) fn seen(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.objects.load(Ordering::Relaxed).to_string();
        let mut grouped = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        write!(f, "scanned {grouped} objects")
    }
}

/// Walks a tree to its end.
pub(super) fn walk(order: &Order) -> Result<Total, WalkError> {
    let mountinfo = read_text(&order.mountinfo).unwrap_or_default();
    let fail = |error: Errno| WalkError {
        what: order.root.clone(),
        error: error.raw_os_error(),
        is_hidden: mounts::of_path(&mountinfo, &order.root).is_hidden,
    };
    let canonical = order
        .root
        .canonicalize()
        .map_err(|e| fail(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    let mount = mounts::of_path(&mountinfo, &canonical);
    if mount.is_hidden {
        // It can be opened with the right to read everything, and is empty.
        return Err(WalkError {
            is_hidden: true,
            ..fail(Errno::ACCESS)
        });
    }
    let root = open_directory(CWD, canonical.as_os_str(), OFlags::empty()).map_err(fail)?;
    let stat = statx(&root, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE).map_err(fail)?;
    let basis = mount.basis;
    let device = device(&stat);
    let dark_before = order
        .as_of
        .checked_sub(SignedDuration::from_hours(24 * DARK_AFTER_DAYS))
        .unwrap_or(Timestamp::MIN);
    let mut walk = Walk {
        order,
        root: canonical,
        mountinfo: &mountinfo,
        dark_before,
        path: Vec::new(),
        frames: Vec::new(),
        links: Links::default(),
        devices: BTreeSet::from([device]),
        total: Total {
            active: Tally::default(),
            dark: Tally::default(),
            unreadable: 0,
            basis,
        },
    };
    walk.push(root, device, basis, 0).map_err(fail)?;
    walk.run().map_err(fail)?;
    Ok(walk.total)
}

/// A directory that is being read.
struct Frame {
    entries: Dir,
    device: u64,
    basis: AccessBasis,
    /// Where its own name starts in the path.
    path_bytes_before: usize,
}

struct Walk<'o> {
    order: &'o Order,
    root: PathBuf,
    mountinfo: &'o str,
    dark_before: Timestamp,
    /// Of the entry in hand, below the root.
    path: Vec<u8>,
    frames: Vec<Frame>,
    links: Links,
    devices: BTreeSet<u64>,
    total: Total,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Errno> {
        while let Some(frame) = self.frames.last_mut() {
            if self.order.progress.is_cancelled() {
                return Err(Errno::CANCELED);
            }
            match frame.entries.read() {
                Some(Ok(entry)) => self.visit(&entry)?,
                Some(Err(error)) if self.frames.len() == 1 => return Err(error),
                Some(Err(_)) => {
                    self.total.unreadable += 1;
                    self.pop();
                }
                None => self.pop(),
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        directory: OwnedFd,
        device: u64,
        basis: AccessBasis,
        path_bytes_before: usize,
    ) -> Result<(), Errno> {
        let entries = Dir::new(directory)?;
        self.frames.push(Frame {
            entries,
            device,
            basis,
            path_bytes_before,
        });
        Ok(())
    }

    fn pop(&mut self) {
        if let Some(frame) = self.frames.pop() {
            self.path.truncate(frame.path_bytes_before);
        }
    }

    fn visit(&mut self, entry: &DirEntry) -> Result<(), Errno> {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            return Ok(());
        }
        self.order.progress.see();
        let before = self.path.len();
        if before > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.to_bytes());
        let depth = self.frames.len();
        let is_excluded = self
            .order
            .exclude
            .iter()
            .any(|p| p.matches(name.to_bytes(), &self.path));
        if !is_excluded {
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind(name),
                told => Some(told),
            };
            match kind {
                Some(FileType::Directory) => self.enter(name, before)?,
                Some(FileType::RegularFile) => self.count(name)?,
                _ => {}
            }
        }
        if self.frames.len() == depth {
            self.path.truncate(before);
        }
        Ok(())
    }

    /// Asks what an entry is where the directory does not tell.
    fn kind(&mut self, name: &CStr) -> Option<FileType> {
        let stat = self.stat(name, AtFlags::empty(), StatxFlags::TYPE)?;
        Some(FileType::from_raw_mode(stat.stx_mode.into()))
    }

    /// Asks about an entry of the directory in hand; nothing when it vanished or, counted, cannot
    /// be read.
    fn stat(&mut self, name: &CStr, flags: AtFlags, wanted: StatxFlags) -> Option<Statx> {
        let directory = self.frames.last()?.entries.fd().ok()?;
        let flags = flags | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let answer = statx(directory, name, flags, wanted);
        self.unless_vanished(answer)
    }

    fn unless_vanished<T>(&mut self, answer: Result<T, Errno>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            // It was removed, or something else took its name.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(_) => {
                self.total.unreadable += 1;
                None
            }
        }
    }

    fn enter(&mut self, name: &CStr, path_bytes_before: usize) -> Result<(), Errno> {
        // A mount point is told without asking its server, which may be gone.
        let Some(stat) = self.stat(name, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE) else {
            return Ok(());
        };
        let Some(frame) = self.frames.last() else {
            return Ok(());
        };
        let (device, mut basis) = (device(&stat), frame.basis);
        if device != frame.device || is_mount_root(&stat) {
            match self.cross(device, device == frame.device) {
                Some(crossed) => basis = crossed,
                None => return Ok(()),
            }
        }
        if self.frames.len() > DEPTH_MAX {
            self.total.unreadable += 1;
            return Ok(());
        }
        let opened = match self.frames.last().map(|f| f.entries.fd()) {
            Some(Ok(parent)) => {
                open_directory(parent, OsStr::from_bytes(name.to_bytes()), OFlags::NOFOLLOW)
            }
            _ => return Ok(()),
        };
        match self.unless_vanished(opened) {
            Some(directory) => self.push(directory, device, basis, path_bytes_before),
            None => Ok(()),
        }
    }

    /// Decides whether a mount is walked too: a directory mounted on itself always, another
    /// filesystem when asked, once each, and never the kernel's own. What the service manager hides
    /// is counted as not read.
    fn cross(&mut self, device: u64, is_same_device: bool) -> Option<AccessBasis> {
        let path = self.root.join(Path::new(OsStr::from_bytes(&self.path)));
        let mount = mounts::of_path(self.mountinfo, &path);
        if mount.is_hidden {
            self.total.unreadable += 1;
            return None;
        }
        if !(is_same_device && mounts::continues(self.mountinfo, &path)) {
            if !self.order.cross_mounts || self.devices.len() >= DEVICES_MAX {
                return None;
            }
            if mount.is_pseudo || !self.devices.insert(device) {
                return None;
            }
        }
        self.total.basis = self.total.basis.max(mount.basis);
        Some(mount.basis)
    }

    fn count(&mut self, name: &CStr) -> Result<(), Errno> {
        const WANTED: StatxFlags = StatxFlags::TYPE
            .union(StatxFlags::NLINK)
            .union(StatxFlags::INO)
            .union(StatxFlags::BLOCKS)
            .union(StatxFlags::ATIME)
            .union(StatxFlags::MTIME);
        let Some(stat) = self.stat(name, AtFlags::empty(), WANTED) else {
            return Ok(());
        };
        let is_regular = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
        let Some(frame) = self
            .frames
            .last()
            .filter(|_| is_regular && !is_mount_root(&stat))
        else {
            return Ok(());
        };
        let accessed = last_access(&stat, frame.basis);
        let names = stat.stx_nlink;
        let share = if names > 1 {
            self.links.see((device(&stat), stat.stx_ino), names)
        } else {
            Share::Whole
        };
        let allocated = stat.stx_blocks.saturating_mul(BLOCK_BYTES);
        let (bytes, objects) = match share {
            Share::Nothing => return Ok(()),
            Share::Part => (allocated / u64::from(names), 0),
            Share::Whole => (allocated, 1),
        };
        let is_dark = accessed < self.dark_before;
        let tally = if is_dark {
            &mut self.total.dark
        } else {
            &mut self.total.active
        };
        tally.bytes += Bytes(bytes);
        tally.objects += objects;
        tally.oldest_access = Some(tally.oldest_access.map_or(accessed, |o| o.min(accessed)));
        self.order
            .progress
            .objects
            .fetch_add(objects, Ordering::Relaxed);
        Ok(())
    }
}

/// Opens a directory without changing its access time, or with, where only its owner may ask for
/// that.
fn open_directory(parent: BorrowedFd<'_>, name: &OsStr, extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | extra;
    match openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(parent, name, flags, Mode::empty()),
        answer => answer,
    }
}

fn device(stat: &Statx) -> u64 {
    makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

fn is_mount_root(stat: &Statx) -> bool {
    let told = stat.stx_attributes & stat.stx_attributes_mask;
    told.contains(StatxAttributes::MOUNT_ROOT)
}

/// The later of access and modification; the modification alone where access is not kept.
fn last_access(stat: &Statx, basis: AccessBasis) -> Timestamp {
    let at = |seconds: i64, nanoseconds: u32| {
        let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
        let beyond = if seconds < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        Timestamp::new(seconds, nanoseconds).unwrap_or(beyond)
    };
    let modified = at(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
    let tells_access = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::ATIME);
    match basis {
        AccessBasis::AccessTime if tells_access => {
            modified.max(at(stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec))
        }
        _ => modified,
    }
}

#[cfg(test)]
mod tests;
