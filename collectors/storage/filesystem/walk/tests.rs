//! The walk over real trees, against a plain recursive count.

use super::*;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};

use rustix::fs::{Timespec, Timestamps, mkdirat, mkfifoat, utimensat};

const AS_OF: &str = "2026-01-05T10:00:00Z";

fn order(root: &Path, exclude: &[&str]) -> Order {
    Order {
        root: root.to_owned(),
        as_of: AS_OF.parse().unwrap(),
        exclude: exclude
            .iter()
            .map(|text| Pattern::new(text).unwrap())
            .collect(),
        cross_mounts: false,
        mountinfo: "/proc/self/mountinfo".into(),
        progress: Arc::new(Progress::default()),
    }
}

fn file(path: impl AsRef<Path>, bytes: usize) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, vec![7_u8; bytes]).unwrap();
}

fn touch(path: impl AsRef<Path>, accessed: &str, modified: &str) {
    let timespec = |text: &str| {
        let at: Timestamp = text.parse().unwrap();
        Timespec {
            tv_sec: at.as_second(),
            tv_nsec: i64::from(at.subsec_nanosecond()),
        }
    };
    let times = Timestamps {
        last_access: timespec(accessed),
        last_modification: timespec(modified),
    };
    utimensat(CWD, path.as_ref(), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Every regular file once, by inode.
fn oracle(directory: &Path, seen: &mut BTreeSet<(u64, u64)>) -> (u64, u64) {
    let (mut bytes, mut objects) = (0, 0);
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            let below = oracle(&path, seen);
            (bytes, objects) = (bytes + below.0, objects + below.1);
        } else if metadata.is_file() && seen.insert((metadata.dev(), metadata.ino())) {
            (bytes, objects) = (bytes + metadata.blocks() * 512, objects + 1);
        }
    }
    (bytes, objects)
}

/// A tree with one of everything that is easy to count wrongly.
fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let at = |path: &str| tree.path().join(path);
    file(at("a"), 1);
    file(at("b/large"), 1_000_000);
    file(at("b/c/empty"), 0);
    file(at("b/c/linked"), 10_000);
    fs::hard_link(at("b/c/linked"), at("b/again")).unwrap();
    fs::hard_link(at("b/c/linked"), at("again")).unwrap();
    let mut sparse = fs::File::create(at("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(1 << 30)).unwrap();
    sparse.write_all(b"end").unwrap();
    fs::create_dir(at("nothing")).unwrap();
    symlink("..", at("b/loop")).unwrap();
    symlink("large", at("b/same")).unwrap();
    symlink("/usr", at("outside")).unwrap();
    file(
        tree.path()
            .join(OsStr::from_bytes(b"not \xff\xfe UTF-8/\x80")),
        5000,
    );
    mkfifoat(CWD, at("fifo"), Mode::from_raw_mode(0o600)).unwrap();
    tree
}

#[test]
fn every_file_counts_once_by_its_blocks() {
    let tree = tree();
    let total = walk(&order(tree.path(), &[])).unwrap();
    let (bytes, objects) = oracle(tree.path(), &mut BTreeSet::new());
    assert_eq!(
        (total.active.bytes.0 + total.dark.bytes.0, objects),
        (bytes, 6)
    );
    assert_eq!(total.active.objects + total.dark.objects, objects);
    assert!(bytes < 10_000_000, "the sparse file counts by its blocks");
    assert_eq!(total.unreadable, 0);
}

#[test]
fn what_is_excluded_is_not_entered() {
    let tree = tree();
    let total = walk(&order(tree.path(), &["b/c", "not*", "sparse"])).unwrap();
    // a, b/large, and the linked file by one of its other names.
    assert_eq!(total.active.objects + total.dark.objects, 3);
}

#[test]
fn last_access_is_the_later_of_both_times_and_darkness_is_strict() {
    let tree = tempfile::tempdir().unwrap();
    let limit = "2025-07-09T10:00:00Z";
    let beyond = "2025-07-09T09:59:59.999999999Z";
    let cases = [
        ("edge", limit, "2001-01-01T00:00:00Z", false),
        ("beyond", beyond, "2001-01-01T00:00:00Z", true),
        ("written", "2001-01-01T00:00:00Z", limit, false),
        (
            "future",
            "2001-01-01T00:00:00Z",
            "2030-01-01T00:00:00Z",
            false,
        ),
        (
            "ancient",
            "1969-12-31T23:59:59Z",
            "1901-12-14T00:00:00Z",
            true,
        ),
    ];
    for (name, accessed, modified, _) in cases {
        file(tree.path().join(name), 1);
        touch(tree.path().join(name), accessed, modified);
    }
    let mountinfo = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        mountinfo.path(),
        "1 1 8:0 / / rw,relatime - ext4 /dev/sda rw\n",
    )
    .unwrap();
    let mut order = order(tree.path(), &[]);
    order.mountinfo = mountinfo.path().to_owned();
    let total = walk(&order).unwrap();
    let dark = cases.iter().filter(|(.., is_dark)| *is_dark).count() as u64;
    assert_eq!((total.active.objects, total.dark.objects), (5 - dark, dark));
    assert_eq!(total.active.oldest_access, Some(limit.parse().unwrap()));
    assert_eq!(
        total.dark.oldest_access,
        Some("1969-12-31T23:59:59Z".parse().unwrap())
    );
    assert_eq!(total.basis, AccessBasis::AccessTime);

    fs::write(
        mountinfo.path(),
        "1 1 8:0 / / rw,noatime - ext4 /dev/sda rw\n",
    )
    .unwrap();
    let total = walk(&order).unwrap();
    assert_eq!((total.active.objects, total.dark.objects), (2, 3));
    assert_eq!(total.basis, AccessBasis::MtimeLowerBound);
}

#[test]
fn a_scan_changes_no_access_time() {
    let tree = tree();
    let old = "2024-01-01T00:00:00Z";
    let mut paths = vec![tree.path().to_owned()];
    let mut at = 0;
    while let Some(path) = paths.get(at).cloned() {
        if path.symlink_metadata().unwrap().is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        }
        at += 1;
    }
    // Access before modification: any look without O_NOATIME would move it, also on a relatime
    // mount.
    for path in &paths {
        touch(path, old, "2025-01-01T00:00:00Z");
    }
    let times = || -> Vec<_> {
        paths
            .iter()
            .map(|p| {
                p.symlink_metadata()
                    .map(|m| (m.atime(), m.atime_nsec()))
                    .unwrap()
            })
            .collect()
    };
    let before = times();
    walk(&order(tree.path(), &[])).unwrap();
    assert_eq!(times(), before);
}

#[test]
fn depth_is_bounded_and_what_lies_deeper_is_said_to_be_unread() {
    let tree = tempfile::tempdir().unwrap();
    let mut directory = open_directory(CWD, tree.path().as_os_str(), OFlags::empty()).unwrap();
    for _ in 0..DEPTH_MAX + 2 {
        mkdirat(&directory, "d", Mode::from_raw_mode(0o700)).unwrap();
        directory = open_directory(directory.as_fd(), OsStr::new("d"), OFlags::empty()).unwrap();
    }
    let total = walk(&order(tree.path(), &[])).unwrap();
    assert_eq!(total.unreadable, 1);
}

#[test]
fn a_root_that_cannot_be_walked_is_an_error() {
    let tree = tempfile::tempdir().unwrap();
    file(tree.path().join("file"), 1);
    let error = |path: &str| walk(&order(&tree.path().join(path), &[])).unwrap_err();
    assert_eq!(error("none").error, Errno::NOENT.raw_os_error());
    assert_eq!(error("file").error, Errno::NOTDIR.raw_os_error());
    assert_eq!(error("file").what, tree.path().join("file"));
}

#[test]
fn a_hidden_root_is_an_error_and_never_an_empty_unit() {
    let tree = tempfile::tempdir().unwrap();
    let hidden = tree.path().join("home");
    fs::create_dir(&hidden).unwrap();
    let mountinfo = tempfile::NamedTempFile::new().unwrap();
    let lines = format!(
        "1 0 8:0 / / rw shared:1 master:1 - ext4 /dev/sda rw\n\
         2 1 0:47 /systemd/inaccessible/dir {} ro shared:2 master:6 - tmpfs tmpfs rw\n",
        hidden.display()
    );
    fs::write(mountinfo.path(), lines).unwrap();
    let error = |root: &Path| {
        let mut order = order(root, &[]);
        order.mountinfo = mountinfo.path().to_owned();
        walk(&order).unwrap_err()
    };
    let empty = error(&hidden);
    assert_eq!(
        (empty.error, empty.is_hidden),
        (Errno::ACCESS.raw_os_error(), true)
    );
    let gone = error(&hidden.join("alice"));
    assert_eq!(
        (gone.error, gone.is_hidden),
        (Errno::NOENT.raw_os_error(), true)
    );
}

#[test]
fn a_cancelled_walk_has_no_total() {
    let tree = tree();
    let order = order(tree.path(), &[]);
    order.progress.cancel();
    assert_eq!(
        walk(&order).unwrap_err().error,
        Errno::CANCELED.raw_os_error()
    );
}

#[test]
fn progress_is_readable() {
    let progress = Progress::default();
    assert_eq!(progress.to_string(), "scanned 0 objects");
    progress.objects.store(1_234_567, Ordering::Relaxed);
    assert_eq!(progress.to_string(), "scanned 1,234,567 objects");
}
