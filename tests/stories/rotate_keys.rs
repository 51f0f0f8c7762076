//! Keys change while submissions go on.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::site::{Site, agent, is_taken, text, wait_until};

/// Administers the site's dashboard, and answers what it printed.
fn dashboard(site: &Site, arguments: &[&str]) -> String {
    let config = site.path("dashboard.toml");
    let mut all = vec!["dashboard", "--dashboard-config", config.to_str().unwrap()];
    all.extend(arguments);
    let output = agent(&all);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

fn key_file(site: &Site, name: &str, key: &str) {
    let path = site.path(name);
    fs::write(&path, key).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn status(site: &Site) -> Value {
    serde_json::from_slice(&site.agent(&["status", "--json"]).stdout).unwrap_or_default()
}

fn part(site: &Site, name: &str) -> Value {
    let status = status(site);
    let parts = status["parts"].as_array().cloned().unwrap_or_default();
    let found = parts.into_iter().find(|part| part["name"] == name);
    found.unwrap_or_default()
}

fn taken(site: &Site) -> usize {
    let outbox = site.outbox();
    outbox.values().filter(|state| is_taken(state)).count()
}

/// Waits for two more submissions to be accepted.
fn go_on(site: &Site) {
    let before = taken(site);
    wait_until("more to be accepted", || taken(site) >= before + 2);
}

#[test]
fn the_api_key_is_exchanged_without_a_lost_slot() {
    let site = Site::new();
    let toml = site.path("agent.toml");
    let with_next = fs::read_to_string(&toml).unwrap().replacen(
        "ca_file",
        &format!(
            "api_key_next = {{ file = \"{}\" }}\nca_file",
            site.path("next.key").display()
        ),
        1,
    );
    fs::write(&toml, with_next).unwrap();
    let _dashboard = site.start_dashboard();
    // The file of the next key need not be there yet.
    let agent = site.start_agent();
    site.wait_until_all_accepted(2);
    let old = dashboard(&site, &["key", "list", "demo-company"]);
    let old = old.split_whitespace().next().unwrap();

    let next = dashboard(&site, &["key", "create", "demo-company", "--label", "demo"]);
    key_file(&site, "next.key", &next);
    go_on(&site);
    dashboard(&site, &["key", "revoke", old]);
    agent.wait_for("takes the other one");
    go_on(&site);
    wait_until("status to name the key in use", || {
        let detail = part(&site, "api-key")["detail"].to_string();
        detail.contains("from api_key_next in use") && !detail.contains(&next)
    });

    // The new key moves to its place: a file that is exchanged counts without a reload.
    key_file(&site, "api.key", &next);
    fs::remove_file(site.path("next.key")).unwrap();
    go_on(&site);
    let ids: Vec<String> = dashboard(&site, &["key", "list", "demo-company"])
        .lines()
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect();
    dashboard(
        &site,
        &["key", "revoke", ids.iter().find(|id| *id != old).unwrap()],
    );
    wait_until("a person to be called", || {
        part(&site, "dashboard")["state"] == "failed"
    });
    let waiting = site.outbox().len() - taken(&site);
    wait_until("more to wait", || {
        site.outbox().len() - taken(&site) > waiting
    });
    let last = dashboard(&site, &["key", "create", "demo-company", "--label", "demo"]);
    key_file(&site, "next.key", &last);
    let all = site.outbox().len();
    wait_until("all that waited to be accepted", || taken(&site) >= all);
    assert_eq!(agent.stop(), 0);
    // Every slot has its leaf, and no submission was rejected.
    let indices = site.leaf_indices();
    let count = i64::try_from(indices.len()).unwrap();
    assert_eq!(indices, (0..count).collect::<Vec<_>>());
    assert!(site.leaves().iter().all(|(_, _, kind)| kind != "gap"));
    assert!(
        site.outbox()
            .values()
            .all(|state| is_taken(state) || state == "pending")
    );
}
