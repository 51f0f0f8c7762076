//! What durability costs: `cargo bench --bench durability`. Figures and machine are in docs/BUDGETS.md.
//!
//! - writes, bytes and syncs of one sample and of one slot, counted under the running agent;
//! - an agent with a backlog of 90 days: from its start to ready, and to the first accepted submission;
//! - one submission from its place in that backlog to acknowledged, beside what a sync costs on this disk.
//!
//! Not a test: nothing here can fail but the machine.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark starts the program and measures in real time"
)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints figures, or stops"
)]

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cms_attest::origin::Origin;
use cms_spec::payload::build::{Context, Payload};
use cms_spec::provenance::{Confidence, Origin as Source};
use cms_spec::reading::{Quantity, Readings, Value};
use cms_spec::{Cadence, Category};
use cms_telemetry_agent::seal::{self, Looked};
use cms_telemetry_agent::store::{Enqueued, Moment, Sender, Store};
use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};

const AGENT: &str = env!("CARGO_BIN_EXE_cms-telemetry-agent");

/// How long the running agent is counted.
const COUNTED: Duration = Duration::from_secs(20);

/// Slots of a quarter of an hour in 90 days.
const BACKLOG: i64 = 90 * 96;

const QUARTER: Cadence = Cadence::from_seconds(900);

/// Cycles that are measured: as many as the dashboard takes without slowing a key down.
const CYCLES: usize = 1_500;

/// Files of a demo, with one agent and one dashboard.
struct Scene {
    directory: tempfile::TempDir,
}

/// A process that is killed when the benchmark goes on.
struct Running(Child, PathBuf);

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    writes: f64,
    bytes: f64,
    syncs: f64,
}

fn main() {
    let scene = Scene::new();
    println!(
        "sync of 20 KiB appended on this disk: {}",
        spread(&mut syncs(scene.directory.path()))
    );
    count();
    backlog(&scene);
}

/// Counts what a sample and a slot cost. Other sources than the processors are silent meanwhile.
fn count() {
    let sample = counted("15m", 1.0);
    let both = counted("1s", 1.0);
    let slot = Cost {
        writes: both.writes - sample.writes,
        bytes: both.bytes - sample.bytes,
        syncs: both.syncs - sample.syncs,
    };
    for (what, cost) in [
        ("a sample of the host", sample),
        ("a slot: enqueued, sent, acknowledged, receipted", slot),
    ] {
        println!(
            "{what}: {:.1} writes, {:.0} bytes, {:.1} syncs",
            cost.writes, cost.bytes, cost.syncs
        );
    }
    // The defaults: a sample every 15 seconds, a slot every 15 minutes.
    let day = sample.bytes * 5_760.0 + slot.bytes * 96.0;
    println!(
        "a day of samples every 15 s and slots every 15 min: {:.1} MB written",
        day / 1e6
    );
}

/// Runs an agent with a sample and a slot at these intervals, and counts per second.
fn counted(cadence: &str, per_second: f64) -> Cost {
    let scene = Scene::new();
    scene.replace(
        "ghost_compute = \"5s\"",
        &format!("ghost_compute = \"{cadence}\""),
    );
    scene.replace("dark_data = \"10s\"", "dark_data = \"24h\"");
    scene.replace(
        "coverage_verification = \"10s\"",
        "coverage_verification = \"24h\"",
    );
    let library = scene.path("faults.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
    let flags = ["-O1", "-fPIC", "-shared", "-pthread", "-o"];
    let compiled = Command::new("cc")
        .args(flags)
        .args([&library, &source])
        .status();
    assert!(compiled.unwrap().success());
    let _dashboard = scene.dashboard();
    let trace = scene.path("trace");
    let environment = [
        ("LD_PRELOAD", library.as_path()),
        ("CMS_FAULT_DIR", &scene.path("agent")),
        ("CMS_FAULT_LOG", &trace),
        ("CMS_FAULT_TRACE", Path::new("1")),
    ];
    let mut agent = scene.agent(&environment);
    agent.wait_for("submission accepted", 3);
    thread::sleep(Duration::from_secs(3));
    let before = Cost::of(&trace);
    thread::sleep(COUNTED);
    let after = Cost::of(&trace);
    let times = COUNTED.as_secs_f64() * per_second;
    Cost {
        writes: (after.writes - before.writes) / times,
        bytes: (after.bytes - before.bytes) / times,
        syncs: (after.syncs - before.syncs) / times,
    }
}

/// Fills the outbox with 90 days, then starts the agent on it.
fn backlog(scene: &Scene) {
    scene.replace("ghost_compute = \"5s\"", "ghost_compute = \"15m\"");
    let mut agent = scene.agent(&[]);
    agent.wait_for("agent started", 1);
    drop(agent);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut enqueued = runtime.block_on(fill(&scene.path("agent")));
    println!(
        "enqueued (leaf, body and outbox row on disk): {}",
        spread(&mut enqueued)
    );
    let store = fs::metadata(scene.path("agent/store.db")).unwrap().len();
    println!(
        "backlog: {BACKLOG} submissions of 90 days, {:.1} MB",
        store as f64 / 1e6
    );

    let _dashboard = scene.dashboard();
    let started = Instant::now();
    let mut agent = scene.agent(&[]);
    agent.wait_for("agent started", 1);
    println!("start to ready: {:?}", started.elapsed());
    agent.wait_for("submission accepted", 1);
    println!(
        "start to the first accepted submission: {:?}",
        started.elapsed()
    );
    agent.wait_for("submission accepted", CYCLES);
    let mut cycles: Vec<Duration> = Vec::new();
    let accepted = agent.times_of("submission accepted");
    for pair in accepted.windows(2) {
        cycles.push(Duration::try_from(pair[1].duration_since(pair[0])).unwrap());
    }
    println!(
        "taken, signed, sent, acknowledged, recorded: {}",
        spread(&mut cycles)
    );
    println!("memory at most: {}", agent.memory());
}

/// Gives each quarter of an hour of the last 90 days a sample and a submission.
async fn fill(path: &Path) -> Vec<Duration> {
    let origin = origin(path);
    let Looked::Found(key) = seal::look(None, None, path).unwrap() else {
        return Vec::new();
    };
    let store = Store::open(path, &key).await.unwrap();
    let now = Timestamp::now();
    let newest = QUARTER.last_closed(now).number(QUARTER);
    let mut times = Vec::new();
    for number in newest - BACKLOG + 1..=newest {
        let slot = QUARTER.slot_numbered(number);
        let middle = slot.end - SignedDuration::from_secs(60);
        store.record("compute/host", sample(middle)).await.unwrap();
        let closed = store
            .close(Category::GhostCompute, slot)
            .await
            .unwrap()
            .unwrap();
        let payload = Payload::build(closed, &Context::default());
        let sender = Sender {
            origin: origin.clone(),
            version: "bench".to_owned(),
            site: "bench".to_owned(),
        };
        let moment = Moment {
            now: slot.end,
            boot_id: "bench".to_owned(),
            boottime_ms: 0,
            api_key_id: None,
        };
        let begun = Instant::now();
        let enqueued = store.enqueue(sender, moment, payload).await.unwrap();
        times.push(begun.elapsed());
        assert!(matches!(enqueued, Enqueued::New(_)));
    }
    store.settle().await.unwrap();
    times
}

/// The ledger that the agent has begun.
fn origin(path: &Path) -> Origin {
    let store = rusqlite::Connection::open(path.join("store.db")).unwrap();
    let text: String = store
        .query_row("SELECT origin FROM epoch", [], |row| row.get(0))
        .unwrap();
    text.parse().unwrap()
}

/// A quarter of an hour of a host in one sample.
fn sample(at: Timestamp) -> cms_spec::reading::Sample {
    let mut readings = Readings::default();
    let origin = readings.origin(Source::measured("bench", "bench/1", Confidence::A));
    let host = "host:bench".parse().unwrap();
    let amount = |amount| Value::Amount {
        amount,
        over_ms: 900_000,
    };
    readings.push(&host, Quantity::CpuBusyMs, amount(500_000), origin);
    readings.push(&host, Quantity::CpuCapacityMs, amount(900_000), origin);
    readings.stamp("compute/host", at, "bench")
}

/// What one sync costs: 20 KiB, about a transaction of the store, at the end of a file.
fn syncs(directory: &Path) -> Vec<Duration> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("sync"))
        .unwrap();
    let sync = |_| {
        file.write_all(&[1; 20 * 1024]).unwrap();
        let begun = Instant::now();
        file.sync_all().unwrap();
        begun.elapsed()
    };
    (0..500).map(sync).collect()
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    format!(
        "p50 {:.2?}, p99 {:.2?}, most {:.2?} ({} times)",
        at(50),
        at(99),
        at(100),
        times.len()
    )
}

impl Cost {
    /// All that a trace holds.
    fn of(trace: &Path) -> Self {
        let mut cost = Self::default();
        for line in fs::read_to_string(trace).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                [_, "write", file, bytes] if !file.ends_with("-shm") => {
                    cost.writes += 1.0;
                    cost.bytes += bytes.parse::<f64>().unwrap();
                }
                [_, "sync", ..] => cost.syncs += 1.0,
                _ => {}
            }
        }
        cost
    }
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let made = Command::new(AGENT)
            .args(["demo", "--for", "0s", "--dir"])
            .arg(scene.directory.path())
            .output();
        made.unwrap();
        // Nothing is scanned: a small directory takes the place of those of the machine.
        fs::create_dir(scene.path("files")).unwrap();
        let config = fs::read_to_string(scene.path("agent.toml")).unwrap();
        let (head, rest) = config.split_once("\n[[storage.root]]").unwrap();
        let (_, coverage) = rest.split_once("\n[coverage]").unwrap();
        let root = format!(
            "[[storage.root]]\npath = \"{}\"\nname = \"files\"",
            scene.path("files").display()
        );
        fs::write(
            scene.path("agent.toml"),
            format!("{head}\n{root}\n[coverage]{coverage}"),
        )
        .unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn replace(&self, old: &str, new: &str) {
        let config = fs::read_to_string(self.path("agent.toml")).unwrap();
        assert!(config.contains(old), "{config}");
        fs::write(self.path("agent.toml"), config.replace(old, new)).unwrap();
    }

    fn dashboard(&self) -> Running {
        let mut command = Command::new(AGENT);
        command
            .args(["dashboard", "--dashboard-config"])
            .arg(self.path("dashboard.toml"))
            .arg("run");
        let mut dashboard = Running::start(command, self.path("dashboard.log"));
        dashboard.wait_for("dashboard listens", 1);
        dashboard
    }

    fn agent(&self, environment: &[(&str, &Path)]) -> Running {
        let mut command = Command::new(AGENT);
        command
            .arg("--config")
            .arg(self.path("agent.toml"))
            .arg("run");
        command.envs(environment.iter().copied());
        Running::start(command, self.path("agent.log"))
    }
}

impl Running {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let child = command
            .args(["--log-format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self(child, log)
    }

    fn wait_for(&mut self, text: &str, times: usize) {
        loop {
            let log = fs::read_to_string(&self.1).unwrap();
            if log.matches(text).count() >= times {
                return;
            }
            let ended = self.0.try_wait().unwrap();
            assert!(ended.is_none(), "it has ended:\n{log}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// When lines with this text were logged.
    fn times_of(&self, text: &str) -> Vec<Timestamp> {
        let log = fs::read_to_string(&self.1).unwrap();
        let lines = log.lines().filter(|line| line.contains(text));
        lines
            .map(|line| line.split('"').nth(3).unwrap().parse().unwrap())
            .collect()
    }

    fn memory(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.trim_start_matches("VmHWM:").trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ended = self.0.wait();
    }
}
