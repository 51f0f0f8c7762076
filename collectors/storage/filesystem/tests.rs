//! The collector around the walk: when a scan starts, what it tells, and what outlives a restart.

use super::*;

use std::fs;
use std::path::Path;
use std::task::{Context, Poll, Waker};

/// A tick of this collector never waits.
fn tick(
    collector: &mut FilesystemCollector,
    at: Timestamp,
    out: &mut Readings,
) -> Result<(), CollectError> {
    let mut context = Context::from_waker(Waker::noop());
    match collector.collect(at, out).as_mut().poll(&mut context) {
        Poll::Ready(told) => told,
        Poll::Pending => panic!("a tick waited"),
    }
}

const UNLIMITED: Budget = Budget {
    cpu_percent: 10_000,
    files_per_second: None,
};

fn collector(root: &Path) -> FilesystemCollector {
    FilesystemCollector {
        root: root.to_owned(),
        unit: "unit".parse().unwrap(),
        region: "here".to_owned(),
        storage_class: "standard".to_owned(),
        usd_per_gb_month: None,
        interval: SignedDuration::from_hours(1),
        exclude: Arc::new([]),
        cross_mounts: false,
        is_split: false,
        threads: NonZero::<usize>::MIN,
        budget: UNLIMITED,
        mountinfo: "/proc/self/mountinfo".into(),
        pressure: "/proc/pressure".into(),
        state: State::New,
        history: History::default(),
        cut_off: None,
        failure: None,
    }
}

/// Ticks until a scan is told, and gives what was told.
fn told(collector: &mut FilesystemCollector, at: Timestamp) -> Vec<StorageScan> {
    let mut out = Readings::default();
    while out.is_empty() {
        tick(collector, at, &mut out).unwrap();
    }
    let sample = out.stamp("storage/filesystem", at, "b");
    let scans = sample.snapshots.into_iter().map(|snapshot| match snapshot {
        Snapshot::Storage(scan) => scan,
        other => panic!("{other:?}"),
    });
    scans.collect()
}

#[test]
fn first_level_directories_are_told_by_their_names_and_the_history_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["alice", "bob"] {
        fs::create_dir(directory.path().join(name)).unwrap();
        fs::write(directory.path().join(name).join("secret name"), "x").unwrap();
    }
    let at: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
    let mut before = collector(directory.path());
    before.is_split = true;
    let units = |scans: &[StorageScan]| -> Vec<String> {
        scans.iter().map(|scan| scan.unit.to_string()).collect()
    };
    assert_eq!(units(&told(&mut before, at)), ["unit/alice", "unit/bob"]);
    assert_eq!(before.details().len(), 2, "a scan and an age");

    let kept = before.checkpoint().unwrap();
    assert!(!kept.contains("alice"));
    let mut after = collector(directory.path());
    after.is_split = true;
    after.resume(&kept);
    assert_eq!(after.details(), before.details());
    let soon = at + SignedDuration::from_mins(59);
    tick(&mut after, soon, &mut Readings::default()).unwrap();
    assert_eq!(after.progress(), None, "the next scan is not due");
    told(&mut after, at + SignedDuration::from_hours(1));
    assert_eq!(after.details().len(), 3);
}

#[test]
fn an_empty_root_is_one_empty_unit_and_its_scan_ends() {
    let directory = tempfile::tempdir().unwrap();
    let at: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
    for is_split in [false, true] {
        let mut collector = collector(directory.path());
        collector.is_split = is_split;
        let scans = told(&mut collector, at);
        let [scan] = scans.as_slice() else {
            panic!("{scans:?}");
        };
        assert_eq!((scan.unit.as_str(), scan.active.objects), ("unit", 0));
        assert!(cms_spec::dark::rows(scan).is_empty());
        assert_eq!(collector.details().len(), 1, "the scan, and no age");
    }
}

#[test]
fn another_path_under_the_same_name_begins_anew() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
    let soon = at + SignedDuration::from_mins(1);
    let mut before = collector(old.path());
    told(&mut before, at);
    let kept = before.checkpoint().unwrap();

    let mut moved = collector(new.path());
    moved.resume(&kept);
    assert!(moved.details().is_empty(), "what was found elsewhere");
    assert_eq!(told(&mut moved, soon).len(), 1, "it is scanned at once");

    // The same tree in another division keeps its history, and is scanned at once.
    let mut divided = collector(old.path());
    divided.is_split = true;
    divided.resume(&kept);
    assert_eq!(divided.details(), before.details());
    assert_eq!(told(&mut divided, soon).len(), 1);
}

#[test]
fn a_root_that_failed_goes_on_failing_while_it_is_scanned_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut collector = collector(&directory.path().join("later"));
    let mut at: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
    let mut out = Readings::default();
    while collector.failure.is_none() {
        tick(&mut collector, at, &mut out).ok();
    }
    fs::create_dir(directory.path().join("later")).unwrap();
    at += RETRY;
    let mut ticks = 0;
    while collector.failure.is_some() {
        let told = tick(&mut collector, at, &mut out);
        assert_eq!(told.is_err(), collector.failure.is_some());
        ticks += 1;
    }
    assert!(
        ticks >= 2,
        "one tick starts the scan and another tells of it"
    );
    assert!(!out.is_empty());
}

#[test]
fn a_hidden_root_says_what_shows_it() {
    let failure = WalkError {
        what: "/home/alice".into(),
        error: 2,
        is_hidden: true,
    };
    let told = failure.told();
    assert_eq!(told.class(), "denied");
    let text = told.to_string();
    assert!(
        text.contains("/home/alice") && text.contains("ProtectHome=read-only"),
        "{text}"
    );
    let failure = WalkError {
        is_hidden: false,
        ..failure
    };
    assert_eq!(failure.told().class(), "vanished");
}

#[test]
fn a_scan_that_hangs_says_so_and_ends_when_nobody_wants_it() {
    let started: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
    let later = |minutes| started + SignedDuration::from_mins(minutes);
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    // After the first directory it rests for two seconds, which are long enough to look at it.
    let order = Order {
        root: directory.path().to_owned(),
        as_of: started,
        exclude: Arc::new([]),
        cross_mounts: false,
        is_split: false,
        threads: NonZero::<usize>::MIN,
        budget: Budget {
            files_per_second: Some(1),
            ..UNLIMITED
        },
        mountinfo: "/proc/self/mountinfo".into(),
        pressure: "/nowhere".into(),
        done: walk::Done::default(),
    };
    let mut scan = Scan {
        started,
        begun: started,
        walk: Walk::start(order).unwrap(),
        seen: 0,
        seen_at: started,
        quiet: SignedDuration::ZERO,
        steps: BTreeMap::new(),
    };
    while scan.walk.progress().seen() < 2 {
        std::thread::yield_now();
    }
    let root = Path::new("/srv");
    assert!(scan.watch(root, later(0)).is_ok());
    assert_eq!(scan.progress(), "scanned 0 objects");
    assert!(scan.watch(root, later(9)).is_ok());
    assert_eq!(scan.progress(), "scanned 0 objects, nothing new for 540s");
    let stalled = scan.watch(root, later(10)).unwrap_err();
    assert_eq!(stalled.class(), "timeout");
    assert!(
        stalled
            .to_string()
            .contains("/srv (after scanned 0 objects)")
    );
}
