//! Whatever is done to the files of the store, the agent starts, says so, and goes on.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;

use crate::site::{Running, Site, agent, is_taken, text, wait_until};

/// The promise: from the start of the process to an answer on the status socket.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

const PAGE: u64 = 4096;

fn status(site: &Site) -> Option<Value> {
    serde_json::from_slice(&site.agent(&["status", "--json"]).stdout).ok()
}

fn part<'a>(status: &'a Value, name: &str) -> &'a Value {
    let parts = status["parts"].as_array();
    parts
        .and_then(|parts| parts.iter().find(|part| part["name"] == name))
        .unwrap_or(&Value::Null)
}

/// The agent's first answer, which came within the time promised by its own clock.
fn first_answer(site: &Site, running: &Running) -> Value {
    let mut said = None;
    wait_until("an answer on the status socket", || {
        said = status(site);
        said.is_some()
    });
    let said = said.unwrap();
    let at: Timestamp = said["at"].as_str().unwrap().parse().unwrap();
    let took = at.duration_since(running.started_at());
    assert!(
        took < jiff::SignedDuration::try_from(ANSWERS_WITHIN).unwrap(),
        "{took:#}"
    );
    said
}

/// A site whose agent was killed at work, with submissions that wait and some that were accepted.
fn at_work() -> Site {
    let site = Site::new();
    let dashboard = site.start_dashboard();
    let agent = site.start_agent();
    site.wait_until_all_accepted(4);
    dashboard.kill();
    let taken = site.outbox().len();
    wait_until("submissions to wait", || site.outbox().len() > taken + 2);
    agent.kill();
    site
}

/// Starts the agent on a damaged store and holds it to its promises; stops it, and answers what it said.
fn goes_on(site: &Site, what: &str, logs: &str) -> Value {
    let before = site.accepted();
    let running = site.launch_agent(&[]);
    running.wait_for(logs);
    let said = first_answer(site, &running);
    let dashboard = site.start_dashboard();
    wait_until("new submissions to be accepted", || {
        let done = |state: &str| is_taken(state) || state == "rejected";
        site.accepted().len() > before.len() + 3 && site.outbox().values().all(|state| done(state))
    });
    // Twice is refused by the dashboard's own key; that nothing was taken back is left to see.
    let after = site.accepted();
    assert!(before.keys().all(|key| after.contains_key(key)), "{what}");
    dashboard.kill();
    assert_eq!(running.stop(), 0, "{what}");
    said
}

/// The ledger as an auditor gets it: parts may be missing, and nothing contradicts.
fn is_honest(site: &Site) {
    let file = site.path("evidence.jsonl");
    let period = ["export", "--from", "2020-01-01", "--to", "2200-01-01", "-o"];
    let output = site.agent(&[&period[..], &[file.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = agent(&["verify", file.to_str().unwrap()]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{report}");
    assert!(report.contains(": loss, "), "{report}");
}

fn newest_epoch(site: &Site) -> i64 {
    site.leaves().iter().map(|leaf| leaf.0).max().unwrap()
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn random_bytes_in_place_of_the_database_begin_a_new_epoch() {
    let site = at_work();
    let random = |n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    let noise: Vec<u8> = (0..200_000).map(random).collect();
    let old = newest_epoch(&site);
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        fs::write(site.path("agent").join(name), &noise).unwrap();
    }
    let said = goes_on(&site, "random bytes", "it is set aside");
    assert_eq!(said["damage"]["count"], 1, "{said}");
    assert!(
        said["damage"]["quarantined_bytes"].as_u64() >= Some(400_000),
        "{said}"
    );
    let store = part(&said, "store");
    assert_eq!(store["state"], "degraded", "{said}");
    assert!(
        store["last_error"].to_string().contains("quarantine/"),
        "{said}"
    );
    let leaves = site.leaves();
    let first = leaves.iter().find(|leaf| leaf.0 > old).unwrap();
    assert_eq!((first.1, first.2.as_str()), (0, "loss"));
}

#[test]
fn what_can_be_read_of_a_damaged_database_goes_on() {
    let site = at_work();
    let database = site.path("agent/store.db");
    let mut count = 0;
    let mut damage = |what: &str, harm: &dyn Fn()| {
        let old = newest_epoch(&site);
        harm();
        let said = goes_on(&site, what, "it is set aside");
        count += 1;
        assert_eq!(said["damage"]["count"], count, "{what}: {said}");
        assert!(newest_epoch(&site) > old, "{what}");
    };

    damage("the first page, which says where all others are", &|| {
        overwrite(&database, 0, &[0; 4096]);
        fs::remove_file(site.path("agent/store.db-wal")).unwrap();
        fs::remove_file(site.path("agent/store.db-shm")).unwrap();
    });
    damage("half of the file", &|| {
        let file = File::options().write(true).open(&database).unwrap();
        let pages = file.metadata().unwrap().len() / PAGE;
        file.set_len(pages / 2 * PAGE).unwrap();
    });
    let before = site.outbox();
    damage("a directory in place of the lock", &|| {
        fs::remove_file(site.path("agent/lock")).unwrap();
        fs::create_dir(site.path("agent/lock")).unwrap();
    });
    let kept = site.outbox();
    assert!(before.keys().all(|key| kept.contains_key(key)));
    is_honest(&site);
}

#[test]
fn times_to_come_and_files_without_permission_are_no_damage() {
    let site = at_work();
    let ahead = SystemTime::now() + Duration::from_secs(10 * 366 * 86_400);
    let before = site.outbox();
    for name in ["store.db", "store.db-wal", "store.db-shm", "lock"] {
        let path = site.path("agent").join(name);
        let times = FileTimes::new().set_modified(ahead).set_accessed(ahead);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_times(times)
            .unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    }
    fs::set_permissions(site.path("agent"), Permissions::from_mode(0o500)).unwrap();
    let old = newest_epoch(&site);
    let said = goes_on(&site, "mode 0400", "its mode is 0600 again");
    assert_eq!(said["damage"]["count"], 0, "{said}");
    assert_eq!(newest_epoch(&site), old);
    let kept = site.outbox();
    assert!(before.keys().all(|key| kept.contains_key(key)));
}

#[test]
fn a_store_of_a_later_version_is_kept_whole_and_the_older_agent_goes_on() {
    let site = at_work();
    let database = site.path("agent/store.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection
        .execute_batch("CREATE TABLE of_a_later_version(id); PRAGMA user_version = 99;")
        .unwrap();
    drop(connection);
    let old = newest_epoch(&site);
    let said = goes_on(&site, "a later version", "it is set aside");
    let words = said["damage"]["last"].to_string();
    assert!(
        words.contains("later version") && words.contains("kept whole"),
        "{words}"
    );
    assert!(newest_epoch(&site) > old);
    let quarantine = fs::read_dir(site.path("agent/quarantine")).unwrap();
    let kept = quarantine.last().unwrap().unwrap().path().join("store.db");
    let kept = rusqlite::Connection::open(kept).unwrap();
    let version = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    assert_eq!(kept.query_row("PRAGMA user_version", [], version), Ok(99));
}

#[test]
fn an_agent_without_a_disk_says_so_and_goes_on_when_there_is_one() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    fs::remove_dir_all(site.path("agent")).unwrap();
    fs::write(site.path("agent"), "in the way").unwrap();
    let running = site.launch_agent(&[]);
    let mut said = first_answer(&site, &running);
    assert_eq!(part(&said, "store")["state"], "failed", "{said}");
    wait_until("sources to be read", || {
        said = status(&site).unwrap();
        part(&said, "compute/host")["state"] == "ok"
    });
    let words = part(&said, "store")["last_error"].to_string();
    assert!(
        words.contains("store.path") && words.contains("tried again"),
        "{words}"
    );
    assert_eq!(
        fs::read_to_string(site.path("agent")).unwrap(),
        "in the way"
    );
    fs::remove_file(site.path("agent")).unwrap();
    running.wait_for("what was read meanwhile is in it");
    running.wait_for("agent started");
    site.wait_until_all_accepted(3);
    assert_eq!(running.stop(), 0);
}
