//! One agent among several of one dashboard, and the oracle of what it must not have lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::process::{PATIENCE, Process};
use crate::site::{Site, agent, text, wait_until};

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
    let arguments = [
        "dashboard",
        "--dashboard-config",
        config.to_str().unwrap(),
        "run",
    ];
    let mut dashboard = Process::start(&arguments, &[], &site.path("dashboard.log"));
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

    /// `store.path` of the agent.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn start(&self, environment: &[(String, String)]) -> Process {
        let config = self.path("agent.toml");
        let arguments = ["--config", config.to_str().unwrap(), "run"];
        Process::start(&arguments, environment, &self.path("agent.log"))
    }

    /// What the store holds, read from a copy, so that whatever a dead agent has left stays as it is.
    pub(crate) fn held(&self) -> Held {
        let copy = self.path("copy");
        drop(fs::remove_dir_all(&copy));
        fs::create_dir(&copy).unwrap();
        for name in ["store.db", "store.db-wal", "store.db-journal"] {
            drop(fs::copy(self.store().join(name), copy.join(name)));
        }
        let connection = Connection::open(copy.join("store.db")).unwrap();
        Held::read(&connection).unwrap_or_default()
    }

    /// Starts the agent without a fault, lets it catch up, stops it, and holds everything against the oracle.
    /// `before` is what was on the disk when it died. Answers how many submissions were accepted.
    pub(crate) fn settle(&self, before: &Held, why: &str) -> usize {
        let mut agent = self.start(&[]);
        assert!(agent.says("agent started", 1), "{why}: {}", agent.log());
        let database = self.store().join("store.db");
        let connection =
            Connection::open_with_flags(&database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        wait_until(&format!("all to be receipted after {why}"), || {
            let held = Held::read(&connection).unwrap_or_default();
            held.outbox.len() >= CADENCES_MS.len().max(before.outbox.len())
                && held.outbox.values().all(|(state, _)| state == "receipted")
        });
        drop(connection);
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
        let (config, bundle) = (self.path("agent.toml"), self.path("evidence.jsonl"));
        let exported = agent(&[
            "--config",
            config.to_str().unwrap(),
            "export",
            "--from",
            "2020-01-01",
            "--to",
            "2200-01-01",
            "-o",
            bundle.to_str().unwrap(),
        ]);
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
