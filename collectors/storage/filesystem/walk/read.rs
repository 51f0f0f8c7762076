//! Reading one directory: its files are counted, the directories in it are found.
//!
//! Owns: what counts. Promises: symbolic links are not followed, not even in the path to a directory, and
//! mounts are not crossed unless asked; what vanishes meanwhile is left out, what cannot be read is counted;
//! no access time changes where the system allows that (for the owner of a directory and for root).

use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use cms_spec::dark::AccessBasis;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes, StatxFlags,
    makedev, openat, openat2, statx,
};
use rustix::io::Errno;

use super::super::links::Share;
use super::super::mounts;
use super::frontier::{Task, part};
use super::pace::Meter;
use super::{Ground, Shared};
use crate::storage::tally::{Counted, Counts, Moment};

/// Bytes of directory entries asked for at once.
pub(super) const ENTRIES_BYTES: usize = 128 * 1024;

/// Entries in a surplus directory are read in smaller pieces: many of them may be in hand.
const SURPLUS_ENTRIES_BYTES: usize = 16 * 1024;

/// Directories that a thread keeps to itself before it shares them.
const FOUND_MAX: usize = 1024;

/// Surplus directories that a thread has in hand at once.
const SURPLUS_MAX: usize = 32;

/// Deepest directory below the root.
pub(super) const DEPTH_MAX: u16 = 512;

/// Entries after which a thread looks at its budget.
const PACE_EVERY: u64 = 4096;

/// Bytes in a block as `statx` counts them, whatever the filesystem's own block size.
const BLOCK_BYTES: u64 = 512;

/// One thread of a lane.
pub(super) struct Reader<'s> {
    pub(super) shared: &'s Arc<Shared>,
    pub(super) ground: &'s Ground,
    pub(super) lane: usize,
    pub(super) meter: Meter,
    /// Surplus directories in hand.
    pub(super) surplus: usize,
}

/// One directory in hand.
struct Reading<'t> {
    task: &'t Task,
    counts: Counts,
    found: Vec<Task>,
    /// The path of the entry in hand; built only where something asks for it.
    path: Vec<u8>,
    /// Entries since the last look at the budget.
    entries: u64,
}

impl Reader<'_> {
    /// Reads one directory to its end and tells what was counted.
    pub(super) fn read(&mut self, task: &Task, buffer: &mut [MaybeUninit<u8>]) {
        let mut reading = Reading {
            task,
            counts: Counts::default(),
            found: Vec::new(),
            path: Vec::new(),
            entries: 0,
        };
        let read = open_below(self.ground.root.as_fd(), &task.path)
            .and_then(|directory| self.read_entries(&mut reading, &directory, buffer));
        match read {
            Ok(()) => {}
            // The root is no part of anything that could say it was not read.
            Err(error) if task.depth == 0 => self.shared.fail(error),
            Err(error) => reading.not_read(error),
        }
        self.shared.frontier.put(self.lane, &mut reading.found);
        self.shared
            .frontier
            .finish(self.lane, task, &reading.counts);
        self.shared.pace.spend(&mut self.meter, reading.entries);
    }

    fn read_entries(
        &mut self,
        reading: &mut Reading<'_>,
        directory: &OwnedFd,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<(), Errno> {
        let mut entries = RawDir::new(directory, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            reading.entries += 1;
            self.shared.progress.see();
            let kind = entry.file_type();
            self.visit(reading, directory.as_fd(), name, kind);
            if reading.found.len() >= FOUND_MAX {
                self.shared.frontier.put(self.lane, &mut reading.found);
                self.read_surplus();
            }
            if reading.entries >= PACE_EVERY {
                self.shared.pace.spend(&mut self.meter, reading.entries);
                reading.entries = 0;
                if self.shared.frontier.is_cancelled() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Where too many directories wait, whoever finds more of them reads some first.
    fn read_surplus(&mut self) {
        if self.surplus >= SURPLUS_MAX {
            return;
        }
        self.surplus += 1;
        while let Some(task) = self.shared.frontier.take_surplus(self.lane) {
            let mut buffer = vec![MaybeUninit::uninit(); SURPLUS_ENTRIES_BYTES];
            self.read(&task, &mut buffer);
        }
        self.surplus -= 1;
    }

    fn visit(
        &self,
        reading: &mut Reading<'_>,
        directory: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
    ) {
        let exclude = &self.shared.order.exclude;
        if !exclude.is_empty() {
            reading.set_path(name);
            let path = &reading.path;
            if exclude.iter().any(|p| p.matches(name.to_bytes(), path)) {
                return;
            }
        }
        let kind = if kind == FileType::Unknown {
            // The directory does not tell.
            let Some(stat) = reading.stat(directory, name, AtFlags::empty(), StatxFlags::TYPE)
            else {
                return;
            };
            FileType::from_raw_mode(stat.stx_mode.into())
        } else {
            kind
        };
        match kind {
            FileType::Directory => self.find(reading, directory, name),
            FileType::RegularFile => self.count(reading, directory, name),
            _ => {}
        }
    }

    fn find(&self, reading: &mut Reading<'_>, directory: BorrowedFd<'_>, name: &CStr) {
        const WANTED: StatxFlags = StatxFlags::TYPE.union(StatxFlags::INO);
        // A mount point is told without asking its server, which may be gone.
        let Some(stat) = reading.stat(directory, name, AtFlags::STATX_DONT_SYNC, WANTED) else {
            return;
        };
        let task = reading.task;
        let device = device(&stat);
        reading.set_path(name);
        let (mut basis, mut lane) = (task.basis, None);
        if device != task.device || is_mount_root(&stat) {
            match self.cross(reading, device, device == task.device) {
                Some((crossed, into)) => (basis, lane) = (crossed, into),
                None => return,
            }
        }
        if task.depth >= DEPTH_MAX {
            reading.counts.unreadable += 1;
            return;
        }
        let order = &self.shared.order;
        let id = (device, stat.stx_ino);
        let placed =
            self.shared
                .frontier
                .place(task, name.to_bytes(), id, order.is_split, &order.done);
        let Some((node, unit)) = placed else {
            return;
        };
        let found = Task {
            path: reading.path.clone(),
            device,
            basis,
            depth: task.depth + 1,
            node,
            unit,
        };
        match lane {
            None => reading.found.push(found),
            Some(lane) => {
                self.shared.frontier.put(lane, &mut vec![found]);
                Shared::start_threads(self.shared, lane, 1);
            }
        }
    }

    /// Decides whether a mount is walked too, and by which lane: a directory mounted on itself always,
    /// another filesystem when asked, once each, and never the kernel's own. What the service manager hides
    /// is counted as not read.
    fn cross(
        &self,
        reading: &mut Reading<'_>,
        device: u64,
        is_same_device: bool,
    ) -> Option<(AccessBasis, Option<usize>)> {
        let mountinfo = &self.ground.mountinfo;
        let below = Path::new(OsStr::from_bytes(&reading.path));
        let path = self.ground.canonical.join(below);
        let mount = mounts::of_path(mountinfo, &path);
        if mount.is_hidden {
            reading.counts.unreadable += 1;
            return None;
        }
        if is_same_device && mounts::continues(mountinfo, &path) {
            self.shared.frontier.weaken(mount.basis);
            return Some((mount.basis, None));
        }
        if !self.shared.order.cross_mounts || mount.is_pseudo {
            return None;
        }
        let lane = self.shared.frontier.lane(device, mount.basis)?;
        Some((mount.basis, Some(lane)))
    }

    fn count(&self, reading: &mut Reading<'_>, directory: BorrowedFd<'_>, name: &CStr) {
        const WANTED: StatxFlags = StatxFlags::TYPE
            .union(StatxFlags::NLINK)
            .union(StatxFlags::INO)
            .union(StatxFlags::BLOCKS)
            .union(StatxFlags::ATIME)
            .union(StatxFlags::MTIME);
        let Some(stat) = reading.stat(directory, name, AtFlags::empty(), WANTED) else {
            return;
        };
        let is_regular = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
        if !is_regular || is_mount_root(&stat) {
            return;
        }
        let names = stat.stx_nlink;
        let share = if names > 1 {
            let file = (device(&stat), stat.stx_ino);
            let part = part(reading.task.node);
            self.shared.links().see(file, names, part)
        } else {
            Share::Whole
        };
        let allocated = stat.stx_blocks.saturating_mul(BLOCK_BYTES);
        let (bytes, objects) = match share {
            Share::Nothing => return,
            Share::Part => (allocated / u64::from(names), 0),
            Share::Whole => (allocated, 1),
        };
        let file = Counted {
            bytes,
            objects,
            accessed: last_access(&stat, reading.task.basis),
        };
        reading.counts.add(file, &self.shared.limits);
        self.shared.progress.count(objects);
    }
}

impl Reading<'_> {
    fn set_path(&mut self, name: &CStr) {
        self.path.clear();
        self.path.extend_from_slice(&self.task.path);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.to_bytes());
    }

    /// Asks about an entry; nothing when it vanished or, counted, cannot be read.
    fn stat(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        flags: AtFlags,
        wanted: StatxFlags,
    ) -> Option<Statx> {
        let flags = flags | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match statx(directory, name, flags, wanted) {
            Ok(stat) => Some(stat),
            Err(error) => {
                self.not_read(error);
                None
            }
        }
    }

    fn not_read(&mut self, error: Errno) {
        // It was removed, or something else took its name.
        let vanished = matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP);
        self.counts.unreadable += u64::from(!vanished);
    }
}

/// Opens the root itself.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    open_directory(
        rustix::fs::CWD,
        path.as_os_str().as_bytes(),
        OFlags::empty(),
    )
}

/// The later of access and modification; the modification alone where access is not kept.
fn last_access(stat: &Statx, basis: AccessBasis) -> Moment {
    let modified = (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
    let tells_access = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::ATIME);
    match basis {
        AccessBasis::AccessTime if tells_access => {
            modified.max((stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec))
        }
        _ => modified,
    }
}

/// Opens a directory below another one, and follows no symbolic link on the way.
fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return open_directory(root, b".", OFlags::NOFOLLOW);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = |flags| openat2(root, path, flags, Mode::empty(), resolve);
    let answer = match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        answer => answer,
    };
    match answer {
        // A kernel before 5.6, a filter that does not know the call, or a path that is too long for it.
        Err(Errno::NOSYS | Errno::PERM | Errno::NAMETOOLONG) => step_by_step(root, path),
        answer => answer,
    }
}

fn step_by_step(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut directory = open_directory(root, b".", OFlags::NOFOLLOW)?;
    for name in path.split(|&byte| byte == b'/') {
        directory = open_directory(directory.as_fd(), name, OFlags::NOFOLLOW)?;
    }
    Ok(directory)
}

/// Opens a directory without changing its access time, or with, where only its owner may ask for that.
fn open_directory(parent: BorrowedFd<'_>, name: &[u8], extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | extra;
    match openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(parent, name, flags, Mode::empty()),
        answer => answer,
    }
}

/// The filesystem that something lies on.
pub(super) fn device(stat: &Statx) -> u64 {
    makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

fn is_mount_root(stat: &Statx) -> bool {
    let told = stat.stx_attributes & stat.stx_attributes_mask;
    told.contains(StatxAttributes::MOUNT_ROOT)
}
