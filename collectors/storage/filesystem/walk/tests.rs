//! The walk over real trees, against a plain recursive count.

use super::*;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, Timespec, Timestamps, mkdirat, mkfifoat, openat, utimensat};

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
        is_split: false,
        threads: NonZero::new(3).unwrap(),
        budget: Budget {
            cpu_percent: 10_000,
            files_per_second: None,
        },
        mountinfo: "/proc/self/mountinfo".into(),
        pressure: "/nowhere".into(),
        done: Done::default(),
    }
}

/// Walks a tree to its end, and adds its units up.
fn walk(order: Order) -> Result<(Counts, AccessBasis), WalkError> {
    let total = Walk::start(order).unwrap().wait().unwrap()?;
    let mut counts = Counts::default();
    for unit in &total.units {
        counts.merge(&unit.counts);
    }
    Ok((counts, total.basis))
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
    let (total, _) = walk(order(tree.path(), &[])).unwrap();
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
    let (total, _) = walk(order(tree.path(), &["b/c", "not*", "sparse"])).unwrap();
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
    let run = || {
        let mut order = order(tree.path(), &[]);
        order.mountinfo = mountinfo.path().to_owned();
        walk(order).unwrap()
    };
    let (total, basis) = run();
    let dark = cases.iter().filter(|(.., is_dark)| *is_dark).count() as u64;
    assert_eq!((total.active.objects, total.dark.objects), (5 - dark, dark));
    assert_eq!(total.active.oldest_access, Some(limit.parse().unwrap()));
    assert_eq!(
        total.dark.oldest_access,
        Some("1969-12-31T23:59:59Z".parse().unwrap())
    );
    assert_eq!(basis, AccessBasis::AccessTime);
    // Darkness is the third border of the histogram.
    let ages: Vec<u64> = total.ages.rows().map(|(_, age)| age.objects).collect();
    assert_eq!(ages[..3].iter().sum::<u64>(), total.active.objects);
    assert_eq!(ages[3..].iter().sum::<u64>(), total.dark.objects);

    fs::write(
        mountinfo.path(),
        "1 1 8:0 / / rw,noatime - ext4 /dev/sda rw\n",
    )
    .unwrap();
    let (total, basis) = run();
    assert_eq!((total.active.objects, total.dark.objects), (2, 3));
    assert_eq!(basis, AccessBasis::MtimeLowerBound);
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
    walk(order(tree.path(), &[])).unwrap();
    assert_eq!(times(), before);
}

#[test]
fn depth_is_bounded_and_what_lies_deeper_is_said_to_be_unread() {
    let tree = tempfile::tempdir().unwrap();
    let mut directory = openat(CWD, tree.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    // Each name is long, so that the path is too long for one call of the system.
    let name = "d".repeat(10);
    for level in 0..read::DEPTH_MAX + 2 {
        mkdirat(&directory, &name, Mode::from_raw_mode(0o700)).unwrap();
        directory = openat(directory.as_fd(), &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        if level == read::DEPTH_MAX - 2 {
            let file = openat(
                &directory,
                "deep",
                OFlags::CREATE | OFlags::WRONLY,
                Mode::RWXU,
            );
            drop(file.unwrap());
        }
    }
    let (total, _) = walk(order(tree.path(), &[])).unwrap();
    assert_eq!(total.unreadable, 1);
    assert_eq!(total.objects(), 1);
}

#[test]
fn a_root_that_cannot_be_walked_is_an_error() {
    let tree = tempfile::tempdir().unwrap();
    file(tree.path().join("file"), 1);
    let error = |path: &str| walk(order(&tree.path().join(path), &[])).unwrap_err();
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
        walk(order).unwrap_err()
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

/// A wide tree of `directories`, each with three files and three directories in it.
fn wide(directories: usize) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    for number in 0..directories {
        let below = tree.path().join(format!("{number}"));
        for name in ["a", "b/c", "d/e/f"] {
            file(below.join(name), number % 3 * 4096);
        }
    }
    tree
}

#[test]
fn any_number_of_threads_counts_the_same() {
    let tree = wide(100);
    let (bytes, objects) = oracle(tree.path(), &mut BTreeSet::new());
    for threads in [1, 2, 7] {
        let mut order = order(tree.path(), &[]);
        order.threads = NonZero::new(threads).unwrap();
        let (total, _) = walk(order).unwrap();
        assert_eq!(total.active.bytes.0 + total.dark.bytes.0, bytes);
        assert_eq!(total.objects(), objects);
    }
}

#[test]
fn first_level_directories_are_units_that_add_up() {
    let tree = wide(4);
    file(tree.path().join("top"), 5000);
    let mut order = order(tree.path(), &[]);
    order.is_split = true;
    let total = Walk::start(order).unwrap().wait().unwrap().unwrap();
    let mut units: Vec<_> = total
        .units
        .iter()
        .map(|unit| (unit.name.clone(), unit.counts.objects()))
        .collect();
    units.sort();
    let name = |name: &str| Some(name.as_bytes().to_vec());
    assert_eq!(
        units,
        [
            (None, 1),
            (name("0"), 3),
            (name("1"), 3),
            (name("2"), 3),
            (name("3"), 3)
        ]
    );
}

#[test]
fn a_walk_that_was_cut_off_goes_on_and_counts_everything_once() {
    let tree = wide(60);
    // Linked within one subtree, and between two of them.
    fs::hard_link(tree.path().join("1/a"), tree.path().join("1/again")).unwrap();
    fs::hard_link(tree.path().join("2/a"), tree.path().join("3/again")).unwrap();
    let (bytes, objects) = oracle(tree.path(), &mut BTreeSet::new());
    let as_of: Timestamp = AS_OF.parse().unwrap();
    let mut cut_off = Vec::new();
    // Each run is slow enough to be caught at work, and is cut off when it has done something more.
    while cut_off.len() < 3 {
        let mut order = order(tree.path(), &[]);
        order.budget.files_per_second = Some(500);
        let last: Option<&String> = cut_off.last();
        if let Some(kept) = last {
            let resumed = resume(kept, "order", as_of).unwrap();
            assert_eq!(resumed.started, as_of);
            order.done = resumed.done;
        }
        let walk = Walk::start(order).unwrap();
        let kept = loop {
            assert!(walk.outcome().is_none(), "it was cut off too late");
            let kept = walk.checkpoint("order");
            if let Some(kept) = kept.filter(|kept| last.is_none_or(|last| kept.len() > last.len()))
            {
                break kept;
            }
            std::thread::yield_now();
        };
        cut_off.push(kept);
    }
    let mut order = order(tree.path(), &[]);
    let kept = cut_off.last().unwrap();
    assert!(!kept.contains("again"), "a checkpoint holds no names");
    order.done = resume(kept, "order", as_of).unwrap().done;
    let walk = Walk::start(order).unwrap();
    let total = walk.wait().unwrap().unwrap();
    let mut counts = Counts::default();
    total
        .units
        .iter()
        .for_each(|unit| counts.merge(&unit.counts));
    assert_eq!(counts.active.bytes.0 + counts.dark.bytes.0, bytes);
    assert_eq!(counts.objects(), objects);
    // Each of the 60 directories has six entries below it.
    assert!(
        walk.progress().seen() < 60 * 7 + 2,
        "what was counted is not walked again"
    );
    let late = as_of + jiff::SignedDuration::from_hours(24);
    assert!(resume(kept, "order", late).is_none());
    assert!(resume(kept, "another", as_of).is_none());
    assert!(resume("{}", "order", as_of).is_none());
}

#[test]
fn a_filesystem_that_hangs_is_left_behind_and_the_rest_is_told() {
    let tree = wide(3);
    let shared = Frontier::default();
    shared.begin((1, 1), 1, AccessBasis::AccessTime);
    let root = shared.take(0).unwrap();
    let lane = shared.lane(2, AccessBasis::MtimeLowerBound).unwrap();
    assert_eq!(shared.lane(2, AccessBasis::AccessTime), None, "once each");
    let (node, unit) = shared
        .place(&root, b"mnt", (2, 2), false, &Done::default())
        .unwrap();
    let hung = frontier::Task {
        path: b"mnt".to_vec(),
        device: 2,
        basis: AccessBasis::MtimeLowerBound,
        depth: 1,
        node,
        unit,
    };
    shared.put(lane, &mut vec![hung]);
    let hung = shared.take(lane).unwrap();
    shared.finish(0, &root, &Counts::default());
    assert_eq!((shared.outcome(), shared.steps()), (None, vec![(lane, 0)]));
    shared.abandon(lane);
    let total = shared.outcome().unwrap().unwrap();
    assert_eq!(total.units[0].counts.unreadable, 1);
    assert_eq!(total.basis, AccessBasis::MtimeLowerBound);
    // It comes back when nobody waits any more.
    shared.finish(lane, &hung, &Counts::default());
    assert_eq!(shared.outcome().unwrap().unwrap(), total);
    drop(tree);
}

#[test]
fn a_cancelled_walk_has_no_total() {
    let tree = wide(3);
    let mut order = order(tree.path(), &[]);
    order.budget.files_per_second = Some(1);
    let walk = Walk::start(order).unwrap();
    let shared = Arc::clone(&walk.shared);
    drop(walk);
    assert_eq!(shared.frontier.wait(), None);
    assert_eq!(shared.frontier.outcome(), None);
}
