//! Nothing enqueued is lost and nothing is counted twice when the dashboard is away or dies. For an agent that
//! is killed see `tests/faults`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::site::{Site, is_taken, wait_until};

#[test]
fn an_agent_without_its_dashboard_keeps_everything_and_catches_up() {
    let site = Site::new();
    let agent = site.start_agent();
    wait_until("submissions to wait", || site.outbox().len() >= 8);
    let waiting = site.outbox();
    let dashboard = site.start_dashboard();
    site.wait_until_all_accepted(waiting.len());
    assert_eq!(agent.stop(), 0);
    assert_eq!(dashboard.stop(), 0);
    let states = site.outbox();
    assert!(
        states.values().all(|state| state == "receipted"),
        "{states:?}"
    );
    assert_same(&site);
    assert!(waiting.keys().all(|key| site.accepted().contains_key(key)));
}

#[test]
fn a_dashboard_that_dies_and_comes_back_gets_each_submission_once() {
    let site = Site::new();
    let agent = site.start_agent();
    for _ in 0..4 {
        let dashboard = site.start_dashboard();
        let before = site.accepted().len();
        wait_until("more to be accepted", || site.accepted().len() > before + 1);
        dashboard.kill();
    }
    let _dashboard = site.start_dashboard();
    agent.stop();
    let agent = site.start_agent();
    site.wait_until_all_accepted(8);
    agent.stop();
    assert_same(&site);
}

#[test]
fn a_configuration_that_is_refused_leaves_everything_that_waits_as_it_is() {
    let site = Site::new();
    let agent = site.start_agent();
    wait_until("submissions to wait", || site.outbox().len() >= 4);
    assert_eq!(agent.stop(), 0);
    let before = files(&site);
    let good = fs::read_to_string(site.path("agent.toml")).unwrap();
    let keys: Vec<&str> = good.lines().filter(|line| line.contains(" = ")).collect();
    assert!(keys.len() > 8, "{good}");
    for line in keys {
        let (key, _) = line.split_once(" = ").unwrap();
        let bad = good.replacen(line, &format!("{key} = {{ nonsense = true }}"), 1);
        fs::write(site.path("agent.toml"), bad).unwrap();
        let refused = site.agent(&["run"]);
        assert_eq!(refused.status.code(), Some(78), "{line}: {refused:?}");
        assert!(files(&site) == before, "{line} has changed the store");
    }
}

/// Every file of the agent's store, with its bytes.
fn files(site: &Site) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut folders = vec![site.path("agent")];
    let mut files = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                files.insert(path, bytes);
            }
        }
    }
    files
}

/// What the agent holds as accepted is exactly what the dashboard holds, and the ledger has no hole.
fn assert_same(site: &Site) {
    let (outbox, accepted) = (site.outbox(), site.accepted());
    let mut sent: Vec<_> = outbox.keys().collect();
    let taken: Vec<_> = accepted.keys().collect();
    sent.retain(|key| is_taken(&outbox[*key]));
    assert_eq!(sent, taken);
    let leaves = site.leaf_indices();
    assert_eq!(
        leaves,
        (0..leaves.len())
            .map(|i| i64::try_from(i).unwrap())
            .collect::<Vec<_>>()
    );
}
