//! Files and pages: the configuration, the inventory, what the kernel and exporters say, what the store's key sealed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use cms_collectors::exposition::{Item, Reader};
use cms_collectors::{ALL, Collector, Host, Settings};
use cms_spec::reading::Readings;
use cms_telemetry_agent::config::Config;
use cms_telemetry_agent::seal::{KeyId, Opened, Protection, StoreKey};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use super::text;

/// Files of a machine as the collectors' own testcases have them.
macro_rules! machine {
    ($($path:literal: $case:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../../collectors/compute/", $case, "/t0/", $path)))),*]
    };
}

/// The files that are fuzzed and what they hold otherwise. An input names one of them in its first line.
pub(crate) const FILES: [(&str, &str); 15] = machine! {
    "proc/stat": "host/testcases/vm_plain",
    "proc/uptime": "host/testcases/vm_plain",
    "proc/meminfo": "host/testcases/vm_plain",
    "proc/diskstats": "host/testcases/vm_plain",
    "proc/net/dev": "host/testcases/vm_plain",
    "proc/cpuinfo": "host/testcases/vm_plain",
    "sys/class/powercap/intel-rapl:0/name": "power/rapl/testcases/two_sockets_wrap",
    "sys/class/powercap/intel-rapl:0/energy_uj": "power/rapl/testcases/two_sockets_wrap",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "power/rapl/testcases/two_sockets_wrap",
    "proc/self/cgroup": "host/testcases/cgroup_v2",
    "proc/1/stat": "host/testcases/cgroup_v2",
    "sys/fs/cgroup/cpu.max": "host/testcases/cgroup_v2",
    "sys/fs/cgroup/cpu.stat": "host/testcases/cgroup_v2",
    "sys/fs/cgroup/io.stat": "host/testcases/cgroup_v2",
    "sys/fs/cgroup/memory.stat": "host/testcases/cgroup_v2",
};

/// One folder for each thread: the agent's tests run targets beside each other.
fn folder() -> TempDir {
    // Memory, where the machine has it as a file system.
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a folder can be made")
}

fn put(path: &Path, content: &[u8]) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a folder can be made");
    }
    fs::write(path, content).expect("a file can be written");
}

thread_local! {
    static MACHINE: TempDir = {
        let folder = folder();
        for (path, content) in FILES {
            put(&folder.path().join(path), content.as_bytes());
        }
        put(&folder.path().join("sys/fs/cgroup/memory.max"), b"1073741824\n");
        put(&folder.path().join("sys/fs/cgroup/memory.current"), b"73741824\n");
        folder
    };
    static SCRATCH: TempDir = folder();
}

/// The settings of a source, from its table.
fn settings(table: &str, text: &str) -> Option<Box<dyn Settings>> {
    let registration = ALL
        .iter()
        .find(|registration| registration.table == table)?;
    let document = toml::de::DeTable::parse(text).ok()?;
    let span = document.span();
    let value = toml::Spanned::new(span, toml::de::DeValue::Table(document.into_inner()));
    (registration.parse)(toml::de::ValueDeserializer::from(value)).ok()
}

/// Opens a source and reads it twice, an interval apart.
fn ticks(settings: &dyn Settings, root: &Path) {
    let host = Host {
        proc: root.join("proc"),
        sys: root.join("sys"),
        dev: root.join("dev"),
        instance: "host:fuzz".parse().expect("a name"),
        region: "test-1".to_owned(),
        web: std::sync::Arc::new(cms_collectors::web::Offline),
        snmp: std::sync::Arc::new(cms_collectors::snmp::Udp),
        links: cms_collectors::thermal::bacnet::link::Links::default(),
    };
    let Ok(mut collector) = settings.open(&host) else {
        return;
    };
    let start = Timestamp::from_second(1_768_564_800).expect("a time of this century");
    for minutes in 0..2 {
        let at = start + SignedDuration::from_mins(minutes);
        let mut readings = Readings::default();
        if collect(collector.as_mut(), at, &mut readings) {
            let sample = readings.stamp("fuzz", at, "boot");
            let mut windows = cms_spec::windows::Windows::new();
            windows.observe(&sample);
        }
    }
}

/// Ticks until a long job is done. Whether it was.
fn collect(collector: &mut dyn Collector, at: Timestamp, readings: &mut Readings) -> bool {
    for _ in 0..1_000 {
        let mut tick = collector.collect(at, readings);
        let mut context = Context::from_waker(Waker::noop());
        let done = loop {
            if let Poll::Ready(done) = tick.as_mut().poll(&mut context) {
                break done;
            }
            std::thread::yield_now();
        };
        drop(tick);
        if done.is_err() {
            return false;
        }
        if collector.progress().is_none() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

fn inventory(file: &str, data: &[u8]) {
    SCRATCH.with(|folder| {
        let path = folder.path().join(file);
        put(&path, data);
        let table = format!("baseline = {:?}\n", path.display().to_string());
        let settings = settings("coverage", &table).expect("the table is right");
        ticks(settings.as_ref(), folder.path());
    });
}

pub(super) fn baseline_csv(data: &[u8]) {
    inventory("inventory.csv", data);
}

pub(super) fn baseline_toml(data: &[u8]) {
    inventory("inventory.toml", data);
}

/// One file of the machine is what the input says, all others are as they should be.
pub(super) fn machine(data: &[u8]) {
    let end = data
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(data.len());
    let (name, content) = data.split_at(end);
    let Some((path, usual)) = FILES.into_iter().find(|(path, _)| path.as_bytes() == name) else {
        return;
    };
    MACHINE.with(|folder| {
        let file = folder.path().join(path);
        put(&file, content.get(1..).unwrap_or_default());
        for table in ["", "scope = \"cgroup\"\n"] {
            let settings = settings("compute", table).expect("the table is right");
            ticks(settings.as_ref(), folder.path());
        }
        put(&file, usual.as_bytes());
    });
}

/// The kernel's list of mounts, for a source that walks one small folder.
pub(super) fn mounts(data: &[u8]) {
    SCRATCH.with(|folder| {
        put(&folder.path().join("proc/self/mountinfo"), data);
        put(&folder.path().join("tree/file"), b"x");
        let root = folder.path().join("tree").display().to_string();
        let table = format!("name = \"a\"\npath = {root:?}\n");
        let settings = settings("storage.root", &table).expect("the table is right");
        ticks(settings.as_ref(), folder.path());
    });
}

/// A metrics page: however it is cut on its way, it says the same.
pub(super) fn exposition(data: &[u8]) {
    let read = |cut: usize| {
        let mut items = Vec::new();
        let mut on_item = |item: Item<'_>| {
            if let Item::Sample(sample) = &item {
                let exemplar = sample.exemplar();
                let times = [true, false].map(|open| sample.timestamp_ms(open));
                items.push(format!("{exemplar:?} {times:?}"));
            }
            items.push(format!("{item:?}"));
        };
        let (first, second) = data.split_at(cut);
        let mut reader = Reader::new();
        reader.feed(first, &mut on_item);
        reader.feed(second, &mut on_item);
        let found = reader.finish(&mut on_item);
        (items, found)
    };
    let whole = read(data.len());
    assert!(whole.1.samples + whole.1.bad_lines <= whole.1.lines);
    // The cut follows from the input, so that a finding can be repeated.
    let cut = data.iter().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31) + usize::from(*byte)
    });
    assert_eq!(read(cut % (data.len() + 1)), whole);
}

/// What the store's key has sealed, as a line of text. The only thing that was ever sealed here says `content`.
pub(super) fn sealed(data: &[u8]) {
    static KEY: LazyLock<StoreKey> = LazyLock::new(|| {
        let place = Protection::File("fuzz".to_owned());
        StoreKey::new(&[7; 32], place).expect("a key")
    });
    let right = |opened: Option<Opened>| {
        assert!(opened.is_none_or(|opened| opened.content.as_slice() == b"content"));
    };
    right(KEY.open(b"fuzz", data));
    if let Some(text) = text(data) {
        right(KEY.open_text("fuzz", text));
        assert!(KEY.open_text("other", text).is_none());
        if let Some(id) = KeyId::in_text(text) {
            assert!(text.contains(id.as_str()));
        }
    }
}

fn written(name: &str, data: &[u8]) -> PathBuf {
    SCRATCH.with(|folder| {
        let path = folder.path().join(name);
        put(&path, data);
        path
    })
}

/// The agent's configuration, and the report of what is wrong with it.
pub(super) fn config(data: &[u8]) {
    static HOSTNAME: LazyLock<String> = LazyLock::new(|| "host-1".to_owned());
    if let Err(errors) = Config::load(&written("config.toml", data), &HOSTNAME) {
        assert!(!errors.problems().is_empty());
        assert!(!errors.render(false).is_empty() && !errors.render(true).is_empty());
    }
}

pub(super) fn dashboard_config(data: &[u8]) {
    if text(data).is_none() {
        return;
    }
    if let Err(error) = cms_dashboard::Config::load(&written("dashboard.toml", data)) {
        assert!(!error.to_string().is_empty());
    }
}
