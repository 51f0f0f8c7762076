//! One agent among several of one dashboard, and the oracle of what it must not have lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::process::{PATIENCE, Process, wait_until};
use crate::site::{AGENT, Site, agent, text};

/// How often each category is submitted here, in milliseconds. The first submission comes at once.
const CADENCES_MS: [(&str, i64); 3] = [
    ("ghost-compute", 1_000),
    ("dark-data", 2_000),
    ("coverage-verification", 2_000),
];

/// Epoch and index of a leaf.
type Place = (i64, i64);

/// An agent with a directory of its own.
pub(crate) struct Node {
    name: String,
    directory: PathBuf,
    dashboard: PathBuf,
    /// What its commands are started by, and where its files are then: it may have mounts of its own.
    within: (Vec<String>, PathBuf),
}

/// What an agent's store holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// State and leaf hash of each submission.
    pub(crate) outbox: BTreeMap<Place, (String, Vec<u8>)>,
    /// Category and slot's end of each leaf that closes a slot.
    leaves: BTreeMap<Place, Option<(String, i64)>>,
}

/// What the dashboard holds of an agent.
#[derive(Debug, Default)]
struct Taken {
    agents: usize,
    submissions: BTreeMap<Place, Vec<u8>>,
    slots: BTreeSet<(String, i64, i64)>,
    forks: i64,
    receipted: Vec<(i64, i64)>,
}

/// Starts the dashboard of a site; its log is in the site's directory.
pub(crate) fn start_dashboard(site: &Site) -> Process {
    let config = site.path("dashboard.toml");
    let mut command = Command::new(AGENT);
    command
        .arg("dashboard")
        .arg("--dashboard-config")
        .arg(config)
        .arg("run");
    let mut dashboard = Process::start(command, &[], &site.path("dashboard.log"));
    assert!(
        dashboard.says("dashboard listens", 1),
        "{}",
        dashboard.log()
    );
    dashboard
}

/// Makes an API key of the site's company. A dashboard limits how much one may ask for.
pub(crate) fn api_key(site: &Site, label: &str) -> PathBuf {
    let config = site.path("dashboard.toml");
    let config = config.to_str().unwrap();
    let made = agent(&[
        "dashboard",
        "--dashboard-config",
        config,
        "key",
        "create",
        "--label",
        label,
        "demo-company",
    ]);
    let key = text(&made.stdout);
    let key = key.split_whitespace().find(|word| word.starts_with("cms_"));
    let file = site.path(&format!("{label}.key"));
    fs::write(&file, key.unwrap_or_else(|| panic!("{made:?}"))).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&file, private).unwrap();
    file
}

impl Node {
    /// Makes an agent's directory and configuration. Nothing is started.
    pub(crate) fn new(site: &Site, name: &str, api_key: &Path) -> Self {
        let directory = site.path(name);
        fs::create_dir(&directory).unwrap();
        let node = Self {
            name: name.to_owned(),
            directory,
            dashboard: site.path("dashboard/dashboard.sqlite"),
            within: (Vec::new(), PathBuf::from("/")),
        };
        let quoted = |path: PathBuf| format!("\"{}\"", path.display());
        let config = fs::read_to_string(site.path("agent.toml")).unwrap();
        let config = config
            .replace("\"demo\"", &format!("\"{name}\""))
            .replace(&quoted(site.path("agent")), &quoted(node.store()))
            .replace(
                &quoted(site.path("status.sock")),
                &quoted(node.path("status.sock")),
            )
            .replace(&quoted(site.path("api.key")), &quoted(api_key.to_owned()))
            .replace(
                "coverage_verification = \"3s\"",
                "coverage_verification = \"2s\"",
            );
        fs::write(node.path("agent.toml"), config).unwrap();
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// All that the agent writes: its store, and beside it the directory with the store's key.
    pub(crate) fn disk(&self) -> PathBuf {
        self.path("disk")
    }

    /// `store.path` of the agent.
    pub(crate) fn store(&self) -> PathBuf {
        self.disk().join("store")
    }

    /// From now on its commands are started by this one, and its files are found below this directory.
    pub(crate) fn move_within(&mut self, starter: Vec<String>, root: PathBuf) {
        self.within = (starter, root);
    }

    /// `store.path` as this process finds it.
    pub(crate) fn store_seen(&self) -> PathBuf {
        let (_, root) = &self.within;
        root.join(self.store().strip_prefix("/").unwrap())
    }

    pub(crate) fn start(&self, environment: &[(String, String)]) -> Process {
        Process::start(self.command(&["run"]), environment, &self.path("agent.log"))
    }

    /// Runs a command of the agent.
    pub(crate) fn agent(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.within.0.clone();
        words.push(AGENT.to_owned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg("--config")
            .arg(self.path("agent.toml"))
            .args(arguments);
        command
    }

    /// State and last error of a part, as `status` shows them.
    pub(crate) fn status(&self, part: &str) -> (String, String) {
        let status: Value =
            serde_json::from_slice(&self.agent(&["status", "--json"]).stdout).unwrap_or_default();
        let parts = status["parts"].as_array().cloned().unwrap_or_default();
        let found = parts
            .into_iter()
            .find(|found| found["name"] == part)
            .unwrap_or_default();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("last_error"))
    }

    /// What the store holds, read from a copy, so that whatever a dead agent has left stays as it is.
    pub(crate) fn held(&self) -> Held {
        let copy = self.path("copy");
        drop(fs::remove_dir_all(&copy));
        fs::create_dir(&copy).unwrap();
        for name in ["store.db", "store.db-wal", "store.db-journal"] {
            drop(fs::copy(self.store_seen().join(name), copy.join(name)));
        }
        let connection = Connection::open(copy.join("store.db")).unwrap();
        Held::read(&connection).unwrap_or_default()
    }

    /// What the store of a running agent holds: it stands still while its files are copied.
    pub(crate) fn holds(&self, agent: &mut Process) -> Held {
        agent.freeze();
        let held = self.held();
        agent.thaw();
        held
    }

    /// Starts the agent without a fault, lets it catch up, stops it, and holds everything against the oracle.
    /// `before` is what was on the disk when it died. Answers how many submissions were accepted.
    pub(crate) fn settle(&self, before: &Held, why: &str) -> usize {
        let mut agent = self.start(&[]);
        assert!(agent.says("agent started", 1), "{why}: {}", agent.log());
        wait_until(&format!("all to be receipted after {why}"), || {
            let held = self.holds(&mut agent);
            held.outbox.len() >= CADENCES_MS.len().max(before.outbox.len())
                && held.outbox.values().all(|(state, _)| state == "receipted")
        });
        let log = self.path("agent.log");
        assert_eq!(agent.stop().code(), Some(0), "{why}");
        let log = fs::read_to_string(log).unwrap();
        for word in ["new epoch", "panicked", "damaged", "is lost"] {
            assert!(!log.contains(word), "{why}: {log}");
        }
        self.compare(before, why)
    }

    fn compare(&self, before: &Held, why: &str) -> usize {
        let (held, taken) = (self.held(), self.taken());
        for place in before.outbox.keys() {
            assert!(
                held.outbox.contains_key(place),
                "{why}: {place:?} was enqueued and is gone"
            );
        }
        for (place, (state, _)) in &held.outbox {
            assert_eq!(state, "receipted", "{why}: {place:?}");
        }
        let enqueued: BTreeMap<_, _> = held
            .outbox
            .iter()
            .map(|(place, (_, leaf))| (*place, leaf.clone()))
            .collect();
        assert_eq!(
            enqueued, taken.submissions,
            "{why}: enqueued and accepted differ"
        );
        assert_eq!(
            taken.slots.len(),
            taken.submissions.len(),
            "{why}: a slot was accepted twice"
        );
        assert_eq!(taken.agents, 1, "{why}: one agent has enrolled as several");
        assert_eq!(taken.forks, 0, "{why}: two histories were signed");
        let epochs: BTreeSet<_> = held.leaves.keys().map(|(epoch, _)| *epoch).collect();
        assert_eq!(epochs.len(), 1, "{why}: nothing was in doubt");
        for (number, (_, index)) in (0..).zip(held.leaves.keys()) {
            assert_eq!(*index, number, "{why}: a leaf is missing");
        }
        for (_, size) in taken.receipted {
            assert!(
                size <= i64::try_from(held.leaves.len()).unwrap(),
                "{why}: a receipted leaf is gone"
            );
        }
        for (category, cadence) in CADENCES_MS {
            let mut ends: Vec<i64> = held
                .leaves
                .values()
                .flatten()
                .filter(|(of, _)| of == category)
                .map(|(_, end)| *end)
                .collect();
            // The first submission of a category ends when it is made, all others at the end of their slot.
            ends.sort_unstable();
            let all = ends.len();
            ends.retain(|end| end % cadence == 0);
            assert!(all <= ends.len() + 1, "{why}: two first submissions");
            for pair in ends.windows(2) {
                assert_eq!(
                    pair[1] - pair[0],
                    cadence,
                    "{why}: a slot of {category} has no leaf: {ends:?}"
                );
            }
        }
        self.verify(why);
        enqueued.len()
    }

    /// The evidence of all of it verifies.
    fn verify(&self, why: &str) {
        let bundle = self.path("evidence.jsonl");
        let period = ["--from", "2020-01-01", "--to", "2200-01-01"];
        let export = [&["export"], &period[..], &["-o", bundle.to_str().unwrap()]].concat();
        let exported = self.agent(&export);
        assert_eq!(
            exported.status.code(),
            Some(0),
            "{why}: {}",
            text(&exported.stderr)
        );
        let verified = agent(&["verify", bundle.to_str().unwrap()]);
        assert_eq!(
            verified.status.code(),
            Some(0),
            "{why}: {}",
            text(&verified.stdout)
        );
    }

    fn taken(&self) -> Taken {
        let connection =
            Connection::open_with_flags(&self.dashboard, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        let mut taken = Taken::default();
        let mut select = connection
            .prepare("SELECT id FROM agent WHERE site = ?1")
            .unwrap();
        let agents: Vec<String> = select
            .query_map([&self.name], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for agent in agents {
            taken.agents += 1;
            let mut select = connection
                .prepare("SELECT epoch, idx, leaf, category, from_ms, to_ms FROM submission WHERE agent = ?1")
                .unwrap();
            let mut rows = select.query([&agent]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let place = (row.get(0).unwrap(), row.get(1).unwrap());
                taken.submissions.insert(place, row.get(2).unwrap());
                taken.slots.insert((
                    row.get(3).unwrap(),
                    row.get(4).unwrap(),
                    row.get(5).unwrap(),
                ));
            }
            let forks = "SELECT count(*) FROM fork_evidence WHERE agent = ?1";
            taken.forks += connection
                .query_row(forks, [&agent], |row| row.get::<_, i64>(0))
                .unwrap();
            let mut select = connection
                .prepare("SELECT epoch, size FROM checkpoint WHERE agent = ?1")
                .unwrap();
            let mut rows = select.query([&agent]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                taken
                    .receipted
                    .push((row.get(0).unwrap(), row.get(1).unwrap()));
            }
        }
        taken
    }
}

impl Held {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut held = Self::default();
        let mut select = connection
            .prepare("SELECT epoch, idx, state, hash FROM outbox JOIN leaf USING (epoch, idx)")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            held.outbox
                .insert((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?));
        }
        let mut select = connection.prepare("SELECT epoch, idx, category, slot_end FROM leaf")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let category: Option<String> = row.get(2)?;
            let slot = category.map(|category| Ok::<_, rusqlite::Error>((category, row.get(3)?)));
            held.leaves
                .insert((row.get(0)?, row.get(1)?), slot.transpose()?);
        }
        Ok(held)
    }
}
