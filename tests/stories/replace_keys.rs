//! The agent's own keys and the dashboard's key for receipts change while slots go by, and a copied identity is told
//! from its original.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

use cms_telemetry_agent::identity::{Identity, Machine};
use cms_telemetry_agent::store::Store;
use serde_json::Value;

use crate::site::{AGENT, Site, agent, is_taken, text, wait_until};

/// Kills in the middle of rotations.
const KILLS: usize = 6;

fn keys(site: &Site) -> Vec<Value> {
    let listed = site.agent(&["key", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
    listed["keys"].as_array().cloned().unwrap_or_default()
}

/// The names of the keys of this purpose in this state.
fn named(site: &Site, name: &str, state: &str) -> Vec<String> {
    let keys = keys(site).into_iter();
    keys.filter(|key| key["name"] == name && key["state"] == state)
        .map(|key| key["id"].as_str().unwrap().to_owned())
        .collect()
}

fn in_use(site: &Site, name: &str) -> String {
    let mut found = named(site, name, "current");
    assert_eq!(found.len(), 1, "{name}");
    found.remove(0)
}

fn rotate(site: &Site, which: &str) -> Output {
    site.agent(&["key", "rotate", which])
}

fn dashboard(site: &Site, arguments: &[&str]) -> String {
    let config = site.path("dashboard.toml");
    let mut all = vec!["dashboard", "--dashboard-config", config.to_str().unwrap()];
    all.extend(arguments);
    let output = agent(&all);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Waits for two more submissions to be accepted.
fn go_on(site: &Site) {
    let taken = || {
        let outbox = site.outbox();
        outbox.values().filter(|state| is_taken(state)).count()
    };
    let before = taken();
    wait_until("more to be accepted", || taken() >= before + 2);
}

#[test]
fn keys_change_while_slots_go_by_and_the_process_is_killed() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let mut process = site.start_agent();
    site.wait_until_all_accepted(2);
    let (request, log) = (in_use(&site, "request"), in_use(&site, "log"));
    let pinned = in_use(&site, "dashboard");

    let done = rotate(&site, "request");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_ne!(in_use(&site, "request"), request);
    assert_eq!(named(&site, "request", "previous"), [request]);
    go_on(&site);
    let done = rotate(&site, "log");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_ne!(in_use(&site, "log"), log);
    wait_until("the head that both have signed to be receipted", || {
        named(&site, "log", "previous").is_empty()
    });
    dashboard(&site, &["cosigner", "rotate"]);
    process.wait_for("has handed over");
    wait_until("the new key to be pinned", || {
        in_use(&site, "dashboard") != pinned
    });
    go_on(&site);

    let mut seen = BTreeSet::new();
    for kill in 0..KILLS {
        seen.insert(in_use(&site, "request"));
        let config = site.path("agent.toml");
        let mut asking = Command::new(AGENT)
            .args(["--config", config.to_str().unwrap(), "key", "rotate", "all"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let before = site.leaves().len();
        // Each time the rotation has come a little further.
        match kill % 3 {
            0 => wait_until("new keys", || {
                !named(&site, "request", "next").is_empty()
                    || in_use(&site, "request") != *seen.last().unwrap()
            }),
            1 => wait_until("a leaf", || site.leaves().len() > before),
            _ => wait_until("the answer", || asking.try_wait().unwrap().is_some()),
        }
        process.kill();
        asking.wait().unwrap();
        process = site.start_agent();
        wait_until("the rotation to end", || {
            named(&site, "request", "next").is_empty()
                && named(&site, "log", "next").is_empty()
                && named(&site, "log", "previous").is_empty()
        });
    }
    assert!(seen.len() > KILLS / 2, "keys did change: {seen:?}");
    go_on(&site);
    assert_eq!(process.stop(), 0);

    let outbox = site.outbox();
    assert!(outbox.values().all(|state| is_taken(state)), "{outbox:?}");
    assert!(outbox.keys().eq(site.accepted().keys()));
    let leaves = site.leaves();
    let indices: Vec<i64> = leaves.iter().map(|(_, index, _)| *index).collect();
    let count = i64::try_from(leaves.len()).unwrap();
    assert_eq!(
        indices,
        (0..count).collect::<Vec<_>>(),
        "one epoch, no hole"
    );
    assert!(leaves.iter().all(|(_, _, kind)| kind != "gap"));
    let rotations = leaves.iter().filter(|(_, _, kind)| kind == "key-rotate");
    assert!(rotations.count() >= 5);

    let file = site.path("evidence.jsonl");
    let file = file.to_str().unwrap();
    let exported = site.agent(&[
        "export",
        "--from",
        "2020-01-01",
        "--to",
        "2200-01-01",
        "-o",
        file,
    ]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let newest = dashboard(&site, &["cosigner", "list"]);
    assert_eq!(newest.lines().count(), 2, "{newest}");
    let verified = agent(&["verify", file]);
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        text(&verified.stdout)
    );
    // Both the key before the rotation and the one after it stand for the whole line.
    for key in [&pinned, &pinned_now(file)] {
        let verified = agent(&["verify", "--cosigner", key, file]);
        assert_eq!(
            verified.status.code(),
            Some(0),
            "{}",
            text(&verified.stdout)
        );
    }
}

/// The dashboard's key that a bundle names.
fn pinned_now(file: &str) -> String {
    let bundle = std::fs::read_to_string(file).unwrap();
    let keys: Value = serde_json::from_str(bundle.lines().nth(1).unwrap()).unwrap();
    keys["keys"]["cosigner"].as_str().unwrap().to_owned()
}

#[test]
fn keys_wait_for_a_dashboard_that_is_away() {
    let site = Site::new();
    let first = site.start_dashboard();
    let process = site.start_agent();
    site.wait_until_all_accepted(2);
    let before = in_use(&site, "request");
    first.kill();
    let config = site.path("agent.toml");
    let mut asking = Command::new(AGENT)
        .args(["--config", config.to_str().unwrap(), "key", "rotate", "all"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("new keys to wait", || {
        !named(&site, "request", "next").is_empty()
    });
    assert_eq!(in_use(&site, "request"), before);
    let _dashboard = site.start_dashboard();
    wait_until("new keys to be in use", || {
        in_use(&site, "request") != before
    });
    asking.wait().unwrap();
    go_on(&site);
    assert_eq!(process.stop(), 0);
    let refused = site.agent(&["key", "list"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("start it"), "{refused:?}");
}

#[test]
fn an_identity_of_another_machine_does_not_start_until_a_person_says_what_it_is() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let process = site.start_agent();
    site.wait_until_all_accepted(2);
    let busy = site.agent(&["key", "rotate", "--reset-identity"]);
    assert!(text(&busy.stderr).contains("stop the agent"), "{busy:?}");
    assert_eq!(process.stop(), 0);
    if Machine::local("boot").lasting_id().is_none() {
        // Nothing tells this machine from another: its agents are never refused.
        return;
    }
    // The store says that it was made elsewhere, as a copied one does.
    let elsewhere = Machine {
        machine_id: "elsewhere".to_owned(),
        product_uuid: None,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(&site.path("agent"), &site.store_key())
            .await
            .unwrap();
        Identity::settle_here(
            &store,
            &site.store_key(),
            &elsewhere,
            "2026-01-16T12:00:00Z".parse().unwrap(),
        )
        .await
        .unwrap();
    });
    let mut refused = None;
    wait_until("the store to be free, and the start refused", || {
        let output = site.agent(&["run"]);
        let is_free = !text(&output.stderr).contains("another agent");
        refused = Some(output);
        is_free
    });
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains("made on another machine"), "{said}");
    assert!(
        said.contains("--reset-identity") && said.contains("--same-agent"),
        "{said}"
    );

    let moved = site.agent(&["key", "rotate", "--same-agent"]);
    assert!(moved.status.success(), "{}", text(&moved.stderr));
    let process = site.start_agent();
    go_on(&site);
    assert_eq!(process.stop(), 0);

    let before = site.origin();
    let reset = site.agent(&["key", "rotate", "--reset-identity"]);
    assert!(reset.status.success(), "{}", text(&reset.stderr));
    let again = site.agent(&["key", "rotate", "--reset-identity"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let process = site.start_agent();
    go_on(&site);
    let agent_of = |origin: &str| origin.split('/').nth(2).unwrap().to_owned();
    assert_ne!(agent_of(&site.origin()), agent_of(&before));
    assert_eq!(process.stop(), 0);
}
