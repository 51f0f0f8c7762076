//! Whatever is done to the files of the store, the agent starts, says so, and goes on.

use std::fs;

use serde_json::Value;

use crate::site::{Running, Site, is_taken, wait_until};

/// The promise: from the start of the process to an answer on the status socket.
const ANSWERS_WITHIN_MS: i64 = 5_000;

fn status(site: &Site) -> Option<Value> {
    serde_json::from_slice(&site.agent(&["status", "--json"]).stdout).ok()
}

fn part<'a>(status: &'a Value, name: &str) -> &'a Value {
    let parts = status["parts"].as_array();
    parts
        .and_then(|parts| parts.iter().find(|part| part["name"] == name))
        .unwrap_or(&Value::Null)
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

/// Starts the agent on a damaged store and holds it to its promises. Answers what it says of the damage.
fn goes_on(site: &Site, what: &str, logs: &str) -> (Running, Value) {
    let before = site.accepted();
    let agent = site.launch_agent(&[]);
    agent.wait_for(logs);
    let mut said = Value::Null;
    wait_until("an answer on the status socket", || {
        status(site).is_some_and(|status| {
            said = status;
            true
        })
    });
    let time = |name: &str| {
        said[name]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    let took = time("at").duration_since(time("started_at")).as_millis();
    assert!(took < i128::from(ANSWERS_WITHIN_MS), "{what}: {took} ms");
    let dashboard = site.start_dashboard();
    wait_until("new submissions to be accepted", || {
        site.accepted().len() > before.len() + 3
            && site
                .outbox()
                .values()
                .all(|state| is_taken(state) || state == "rejected")
    });
    // Every row of the dashboard is there once by its key; that none was taken away is left to see.
    let after = site.accepted();
    assert!(before.keys().all(|key| after.contains_key(key)), "{what}");
    drop(dashboard);
    (agent, said)
}

#[test]
fn random_bytes_in_place_of_the_database_begin_a_new_epoch() {
    let site = at_work();
    let noise: Vec<u8> = (0..200_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let epochs = |site: &Site| site.leaves().iter().map(|leaf| leaf.0).max().unwrap();
    let old = epochs(&site);
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        fs::write(site.path("agent").join(name), &noise).unwrap();
    }
    let (agent, said) = goes_on(&site, "random bytes", "it is set aside");
    assert_eq!(said["damage"]["count"], 1, "{said}");
    assert_eq!(part(&said, "store")["state"], "degraded", "{said}");
    let leaves = site.leaves();
    let first = leaves.iter().find(|leaf| leaf.0 > old).unwrap();
    assert_eq!((first.1, first.2.as_str()), (0, "loss"));
    assert_eq!(agent.stop(), 0);
}
