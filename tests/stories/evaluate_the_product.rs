//! Someone evaluates the product: one command, no account, real readings.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::site::{Site, agent, text, wait_until};

#[test]
fn demo_prints_a_line_for_each_accepted_submission_and_ends_well() {
    let output = agent(&["demo", "--for", "15s", "--json"]);
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let categories: BTreeSet<&str> = lines
        .iter()
        .map(|line| line["category"].as_str().unwrap())
        .collect();
    assert_eq!(
        categories,
        BTreeSet::from(["coverage-verification", "dark-data", "ghost-compute"])
    );
    let indices: BTreeSet<u64> = lines
        .iter()
        .map(|line| line["index"].as_u64().unwrap())
        .collect();
    assert_eq!(
        indices.len(),
        lines.len(),
        "an index was used twice: {stdout}"
    );
    assert!(
        lines
            .iter()
            .all(|line| line["status"] == "accepted" && line["slot"]["end"].is_string())
    );
}

#[test]
fn status_tells_what_a_running_agent_does() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let agent = site.start_agent();
    site.wait_until_all_accepted(3);
    wait_until("a healthy status", || {
        site.agent(&["status"]).status.success()
    });
    let output = site.agent(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["company_id"], "demo-company");
    let outbox = &status["outbox"];
    let taken = outbox["accepted"].as_u64().unwrap() + outbox["receipted"].as_u64().unwrap();
    assert!(taken >= 3, "{outbox}");
    let receipts = &status["receipts"];
    assert!(
        receipts["size"].as_u64().unwrap() <= receipts["leaves"].as_u64().unwrap(),
        "{receipts}"
    );
    let parts: BTreeSet<&str> = status["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["name"].as_str().unwrap())
        .collect();
    assert!(
        parts.contains("compute/host") && parts.contains("dashboard"),
        "{parts:?}"
    );
    // A daily category speaks for a day: its first submission must not be made before the first scan.
    let coverage = site.first_body("coverage-verification");
    let reporting = &coverage["data"]["telemetry_coverage"]["current_telemetry_sources"];
    assert_eq!(
        (
            &reporting["instances_reporting"],
            &reporting["storage_reporting"]
        ),
        (&json!(1), &json!(1))
    );
    assert_eq!(agent.stop(), 0);
    assert_eq!(site.agent(&["status"]).status.code(), Some(1));
}

#[test]
fn preview_shows_the_body_and_stores_nothing() {
    let site = Site::new();
    let before = site.outbox();
    let output = site.agent(&["preview", "ghost-compute", "--json"]);
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    let inventory = &body["data"]["ghost_compute"]["instance_inventory"];
    assert_eq!(inventory.as_array().unwrap().len(), 1);
    let dark = site.agent(&["preview", "dark-data", "--json"]);
    let dark: Value = serde_json::from_slice(&dark.stdout).unwrap();
    let rows = dark["data"]["dark_data"]["storage_inventory"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(rows[0]["object_count"], 1);
    assert_eq!(site.outbox(), before);
    let none = site.agent(&["preview", "heat-recovery"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        text(&none.stderr).contains("hint:"),
        "{}",
        text(&none.stderr)
    );
}
