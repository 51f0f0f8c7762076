//! A site on loopback: a dashboard and an agent, each its own process, in a directory that removes itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cms_telemetry_agent::seal::{self, Looked, StoreKey};
use cms_telemetry_agent::store::Snapshot;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine; waiting ends as soon as the condition holds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_cms-telemetry-agent");

/// Files of a demo that has ended, to start its parts again one by one.
pub(crate) struct Site {
    directory: TempDir,
}

/// A process that is killed when the story ends.
pub(crate) struct Running {
    child: Child,
    log: mpsc::Receiver<String>,
    started_at: Timestamp,
}

impl Site {
    /// Lets `demo` write the files of an installation, and looks only at a few small files, so that scans
    /// take no time.
    pub(crate) fn new() -> Self {
        let site = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let output = agent(&[
            "demo",
            "--for",
            "0s",
            "--dir",
            site.directory.path().to_str().unwrap(),
        ]);
        let toml = site.path("agent.toml");
        let text = fs::read_to_string(&toml).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let files = site.path("files");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("a"), [1; 10_000]).unwrap();
        let head = text.split("\n[[storage.root]]").next().unwrap();
        let coverage = text.split("\n[coverage]").nth(1).unwrap();
        let text = format!(
            "{head}\n[[storage.root]]\npath = \"{}\"\nname = \"files\"\ninterval = \"1m\"\n\n[coverage]{coverage}",
            files.display()
        );
        let text = text
            .replace("ghost_compute = \"5s\"", "ghost_compute = \"1s\"")
            .replace("dark_data = \"10s\"", "dark_data = \"2s\"")
            .replace(
                "coverage_verification = \"10s\"",
                "coverage_verification = \"3s\"",
            );
        fs::write(&toml, text).unwrap();
        let inventory = fs::read_to_string(site.path("inventory.csv")).unwrap();
        let (kept, _) = inventory.split_once("storage,").unwrap();
        fs::write(
            site.path("inventory.csv"),
            format!("{kept}storage,files,files\n"),
        )
        .unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn start_dashboard(&self) -> Running {
        self.start_another_dashboard("dashboard.toml")
    }

    /// Starts a dashboard with this file of the site as its configuration.
    pub(crate) fn start_another_dashboard(&self, config: &str) -> Running {
        let config = self.path(config);
        let running = Running::start(&[
            "dashboard",
            "--dashboard-config",
            config.to_str().unwrap(),
            "run",
        ]);
        running.wait_for("dashboard listens");
        running
    }

    pub(crate) fn start_agent(&self) -> Running {
        self.start_agent_with(&[])
    }

    /// Starts an agent whose environment holds these variables too.
    pub(crate) fn start_agent_with(&self, environment: &[(&str, &str)]) -> Running {
        let running = self.launch_agent(environment);
        running.wait_for("agent started");
        running
    }

    /// Starts an agent and waits for nothing.
    pub(crate) fn launch_agent(&self, environment: &[(&str, &str)]) -> Running {
        let config = self.path("agent.toml");
        let arguments = ["--config", config.to_str().unwrap(), "run"];
        Running::start_with(&arguments, environment)
    }

    /// Starts an agent by a command that starts the program, and waits for nothing.
    pub(crate) fn launch_agent_by(&self, command: Command) -> Running {
        let config = self.path("agent.toml");
        Running::start_by(command, &["--config", config.to_str().unwrap(), "run"])
    }

    /// Runs a command of the agent on this site's configuration.
    pub(crate) fn agent(&self, arguments: &[&str]) -> Output {
        let config = self.path("agent.toml");
        let mut all = vec!["--config", config.to_str().unwrap()];
        all.extend(arguments);
        agent(&all)
    }

    /// The port that the dashboard listens on.
    pub(crate) fn port(&self) -> u16 {
        let text = fs::read_to_string(self.path("dashboard.toml")).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("listen"))
            .unwrap();
        line.trim_end_matches('"')
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// The name of the agent's newest ledger.
    pub(crate) fn origin(&self) -> String {
        let query = "SELECT origin FROM epoch ORDER BY epoch DESC LIMIT 1";
        open(&self.path("agent/store.db"))
            .query_row(query, [], |row| row.get(0))
            .unwrap()
    }

    /// What the agent holds: `state` of each submission by epoch and index.
    pub(crate) fn outbox(&self) -> BTreeMap<(i64, i64), String> {
        rows(
            &self.path("agent/store.db"),
            "SELECT epoch, idx, state FROM outbox",
        )
    }

    /// The category of each submission that the agent has made, by epoch and index.
    pub(crate) fn enqueued(&self) -> BTreeMap<(i64, i64), String> {
        rows(
            &self.path("agent/store.db"),
            "SELECT epoch, idx, category FROM outbox",
        )
    }

    /// What the dashboard holds: the category of each submission by epoch and index.
    pub(crate) fn accepted(&self) -> BTreeMap<(i64, i64), String> {
        rows(
            &self.path("dashboard/dashboard.sqlite"),
            "SELECT epoch, idx, category FROM submission",
        )
    }

    /// The first body of a category that the agent has enqueued.
    pub(crate) fn first_body(&self, category: &str) -> Value {
        let connection = open(&self.path("agent/store.db"));
        let query = "SELECT epoch, idx FROM outbox WHERE category = ?1 ORDER BY idx LIMIT 1";
        let (epoch, index): (i64, i64) = connection
            .query_row(query, [category], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        let kept = Snapshot::open(&self.path("agent"), &self.store_key()).unwrap();
        let body = kept.body(epoch.unsigned_abs(), index.unsigned_abs());
        serde_json::from_slice(&body.unwrap().unwrap()).unwrap()
    }

    /// The newest body of a category that the agent has enqueued, where there is one.
    pub(crate) fn newest_body(&self, category: &str) -> Option<Value> {
        let enqueued = self.enqueued();
        let newest = enqueued.iter().rev().find(|(_, found)| *found == category);
        let (&(epoch, index), _) = newest?;
        serde_json::from_str(&self.body_at(epoch, index)?).ok()
    }

    /// A body that the agent has enqueued, out of its seal.
    pub(crate) fn body_at(&self, epoch: i64, index: i64) -> Option<String> {
        let kept = Snapshot::open(&self.path("agent"), &self.store_key()).unwrap();
        let body = kept.body(epoch.unsigned_abs(), index.unsigned_abs());
        body.unwrap().map(|body| text(&body))
    }

    /// How many ledgers the agent has begun.
    pub(crate) fn epochs(&self) -> i64 {
        let connection = open(&self.path("agent/store.db"));
        let count = "SELECT count(*) FROM epoch";
        connection.query_row(count, [], |row| row.get(0)).unwrap()
    }

    /// Damages a value in the store of an agent that does not run.
    pub(crate) fn damage_the_stores_copy_of(&self, key: &str) {
        let connection = Connection::open(self.path("agent/store.db")).unwrap();
        let damage = "UPDATE meta SET value = zeroblob(100) WHERE key = ?1";
        assert_eq!(connection.execute(damage, [key]).unwrap(), 1);
    }

    /// The key that the agent's store is sealed with.
    pub(crate) fn store_key(&self) -> StoreKey {
        match seal::look(None, None, &self.path("agent")).unwrap() {
            Looked::Found(key) => key,
            Looked::Missing { places, .. } => panic!("no key at {places}"),
        }
    }

    /// What the last of the agent's leaves says: `start`, `submission`, `stop` and so on.
    pub(crate) fn last_leaf(&self) -> Option<String> {
        let leaves = rows(
            &self.path("agent/store.db"),
            "SELECT epoch, idx, kind FROM leaf",
        );
        leaves.into_values().next_back()
    }

    /// Epoch, index and kind of each of the agent's leaves, in the order of the ledgers.
    pub(crate) fn leaves(&self) -> Vec<(i64, i64, String)> {
        let leaves = rows(
            &self.path("agent/store.db"),
            "SELECT epoch, idx, kind FROM leaf",
        );
        leaves
            .into_iter()
            .map(|((epoch, index), kind)| (epoch, index, kind))
            .collect()
    }

    /// The indices of the agent's leaves, in order. All are in one epoch here.
    pub(crate) fn leaf_indices(&self) -> Vec<i64> {
        self.leaves()
            .into_iter()
            .map(|(_, index, _)| index)
            .collect()
    }

    /// Waits until nothing waits to be sent, and at least `count` submissions were accepted.
    pub(crate) fn wait_until_all_accepted(&self, count: usize) {
        wait_until("everything to be accepted", || {
            let outbox = self.outbox();
            outbox.len() >= count && outbox.values().all(|state| is_taken(state))
        });
    }
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(AGENT);
        command.envs(environment.iter().copied());
        Self::start_by(command, arguments)
    }

    /// Starts the program with these arguments by a command that ends where they begin.
    fn start_by(mut command: Command, arguments: &[&str]) -> Self {
        let started_at = Timestamp::now();
        let mut child = command
            .args(arguments)
            .args(["--log-format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let (say, log) = mpsc::sync_channel(100_000);
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if say.try_send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            log,
            started_at,
        }
    }

    /// Waits for a line of the log that contains `text`, and answers it.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = String::new();
        while let Ok(line) = self
            .log
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        panic!("no {text:?} in the log:\n{seen}");
    }

    /// What the log said since it was last looked at.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// SIGABRT, as a fault of its own would end it; whether the kernel has dumped its memory.
    pub(crate) fn crash(mut self) -> bool {
        self.signal("-ABRT");
        self.child.wait().unwrap().core_dumped()
    }

    /// SIGKILL: no chance to write anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal("-TERM");
        let mut status = None;
        wait_until("the process to stop", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// When the process was started.
    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub(crate) fn agent(arguments: &[&str]) -> Output {
    Command::new(AGENT)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Whether the dashboard has taken a submission in this state.
pub(crate) fn is_taken(state: &str) -> bool {
    matches!(state, "accepted" | "receipted")
}

/// Waits for a condition, and fails when it does not come.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn open(database: &Path) -> Connection {
    let connection =
        Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection
}

fn rows(database: &Path, query: &str) -> BTreeMap<(i64, i64), String> {
    let connection = open(database);
    let mut select = connection.prepare(query).unwrap();
    let mut rows = select.query([]).unwrap();
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let key = (row.get(0).unwrap(), row.get(1).unwrap());
        assert_eq!(
            found.insert(key, row.get(2).unwrap()),
            None,
            "{key:?} is there twice"
        );
    }
    found
}
