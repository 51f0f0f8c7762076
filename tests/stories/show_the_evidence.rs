//! An auditor gets one file, and checks it on a machine that knows nothing of the agent.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::site::{Site, agent, text, wait_until};

/// A period that holds everything which a story can do.
const EVER: [&str; 4] = ["--from", "2020-01-01", "--to", "2200-01-01"];

fn export(site: &Site, period: [&str; 4], file: &Path) -> Output {
    let mut arguments = vec!["export"];
    arguments.extend(period);
    arguments.extend(["-o", file.to_str().unwrap()]);
    site.agent(&arguments)
}

fn verify(file: &Path) -> (Option<i32>, String) {
    let output = agent(&["verify", file.to_str().unwrap()]);
    assert_eq!(text(&output.stderr), "");
    (output.status.code(), text(&output.stdout))
}

fn kind(line: &str) -> &str {
    line.split('"').nth(1).unwrap()
}

/// The index of the leaf that a body line belongs to.
fn index(line: &str) -> u64 {
    let line: Value = serde_json::from_str(line).unwrap();
    line["body"]["index"].as_u64().unwrap()
}

#[test]
fn a_bundle_of_a_running_agent_verifies_and_a_changed_one_does_not() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let agent_process = site.start_agent();
    site.wait_until_all_accepted(3);
    let file = site.path("evidence.jsonl");
    // While it runs, some leaf waits for its receipt at any moment: the period ends before it. A leaf of another category
    // may end in the period too, and have its receipt a moment later; the very first slot that has one ends where
    // the period does, and has no body in it.
    wait_until("evidence that holds", || {
        let output = site.agent(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let recent = status["recent"].as_array().cloned().unwrap_or_default();
        let newest = recent.iter().find(|row| row["state"] == "receipted");
        let Some(to) = newest.and_then(|row| row["slot"]["end"].as_str()) else {
            return false;
        };
        let output = export(&site, ["--from", "2020-01-01", "--to", to], &file);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let bundle = fs::read_to_string(&file).unwrap();
        verify(&file).0 == Some(0) && bundle.lines().any(|line| kind(line) == "body")
    });
    let (_, report) = verify(&file);
    assert!(
        report.lines().any(|line| line.starts_with("ok: ")),
        "{report}"
    );

    assert_eq!(agent_process.stop(), 0);
    let bundle = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = bundle.lines().collect();
    let at = lines.iter().position(|line| kind(line) == "body").unwrap();

    let mut changed = lines.clone();
    let (head, tail) = lines[at].split_at(lines[at].len() / 2);
    let other = if tail.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}{other}{}", &tail[1..]);
    changed[at] = &forged;
    fs::write(site.path("changed"), changed.join("\n") + "\n").unwrap();
    let (status, report) = verify(&site.path("changed"));
    assert_eq!(status, Some(1), "{report}");
    let leaf = format!("leaf {} of epoch", index(lines[at]));
    let named = |line: &&str| line.starts_with("FAIL") && line.contains(&leaf);
    assert!(report.lines().any(|line| named(&line)), "{report}");

    let mut without = lines.clone();
    without.remove(at);
    fs::write(site.path("without"), without.join("\n") + "\n").unwrap();
    let (status, report) = verify(&site.path("without"));
    assert_eq!(status, Some(2), "{report}");
    assert!(report.lines().any(|line| named(&line)), "{report}");

    let output = agent(&["verify", "--json", site.path("without").to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "incomplete");
}

#[test]
fn the_dashboard_compares_a_bundle_with_what_it_holds() {
    let site = Site::new();
    let dashboard = site.start_dashboard();
    let agent_process = site.start_agent();
    wait_until("everything to be receipted", || {
        let outbox = site.outbox();
        outbox.len() >= 3 && outbox.values().all(|state| state == "receipted")
    });
    assert_eq!(agent_process.stop(), 0);
    let file = site.path("evidence.jsonl");
    assert_eq!(export(&site, EVER, &file).status.code(), Some(0));
    let own = || {
        let config = site.path("dashboard.toml");
        let arguments = ["dashboard", "--dashboard-config", config.to_str().unwrap()];
        let output = agent(&[&arguments[..], &["verify", file.to_str().unwrap()]].concat());
        (output.status.code(), text(&output.stdout))
    };
    let failed = |report: &str, words: &str| {
        let mut lines = report.lines();
        lines.any(|line| line.starts_with("FAIL") && line.contains(words))
    };
    let (status, report) = own();
    for words in [
        "those of the agent",
        "in the ledger as it was",
        "that is held here",
    ] {
        let line = report.lines().find(|line| line.contains(words));
        assert!(line.is_some_and(|line| line.starts_with("ok")), "{report}");
    }
    assert_ne!(status, Some(1), "{report}");
    assert_eq!(dashboard.stop(), 0);

    // What it accepted, and what the ledger says of it, are not the same any more.
    let database = site.path("dashboard/dashboard.sqlite");
    let change = |sql: &str| {
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection.execute_batch(sql).unwrap();
    };
    change(
        "CREATE TABLE kept AS SELECT * FROM submission; UPDATE submission SET digest = zeroblob(32) WHERE seq = 2",
    );
    let (status, report) = own();
    assert_eq!(status, Some(1), "{report}");
    assert!(failed(&report, "vouches for other bytes"), "{report}");
    change(
        "DELETE FROM submission; INSERT INTO submission SELECT * FROM kept; UPDATE submission SET idx = idx + 10000 WHERE seq = 2",
    );
    let (status, report) = own();
    assert_eq!(status, Some(2), "{report}");
    assert!(failed(&report, "is not in the bundle"), "{report}");
    assert!(report.contains("never accepted here"), "{report}");
    change("UPDATE checkpoint SET root = zeroblob(32); UPDATE agent SET log_key = zeroblob(32)");
    let (status, report) = own();
    assert_eq!(status, Some(1), "{report}");
    assert!(
        failed(&report, "another head than was cosigned here"),
        "{report}"
    );
    assert!(failed(&report, "was never one of agent"), "{report}");
}

#[test]
fn what_nobody_countersigned_is_no_evidence_yet() {
    let site = Site::new();
    let agent_process = site.start_agent();
    wait_until("submissions to wait", || site.outbox().len() >= 2);
    assert_eq!(agent_process.stop(), 0);
    let file = site.path("evidence.jsonl");
    assert_eq!(export(&site, EVER, &file).status.code(), Some(0));
    let (status, report) = verify(&file);
    assert_eq!(status, Some(2), "{report}");
    assert!(report.contains("are below no receipt"), "{report}");

    let empty = ["--from", "2020-01-01", "--to", "2020-01-02"];
    let nothing = site.path("nothing");
    assert_eq!(export(&site, empty, &nothing).status.code(), Some(1));
    assert!(!nothing.exists());
    let backwards = ["--from", "2020-01-02", "--to", "2020-01-01"];
    assert_eq!(export(&site, backwards, &nothing).status.code(), Some(64));
    let no_day = ["--from", "soon", "--to", "2020-01-01"];
    assert_eq!(export(&site, no_day, &nothing).status.code(), Some(64));
    let missing = agent(&["verify", nothing.to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(64));
}

#[test]
fn evidence_is_bound_to_the_dashboard_that_the_auditor_knows() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let agent_process = site.start_agent();
    wait_until("everything to be receipted", || {
        let outbox = site.outbox();
        outbox.len() >= 3 && outbox.values().all(|state| state == "receipted")
    });
    assert_eq!(agent_process.stop(), 0);
    let file = site.path("evidence.jsonl");
    assert_eq!(export(&site, EVER, &file).status.code(), Some(0));
    let bundle = fs::read_to_string(&file).unwrap();
    let keys: Value = serde_json::from_str(bundle.lines().nth(1).unwrap()).unwrap();
    let key = keys["keys"]["cosigner"].as_str().unwrap();
    let other = "dash.example+12345678+AAAA";
    let named = |key: &str| agent(&["verify", "--cosigner", key, file.to_str().unwrap()]);
    let report = text(&named(key).stdout);
    let line = report
        .lines()
        .find(|line| line.contains("countersigned by the dashboard"));
    assert!(line.is_some_and(|line| line.starts_with("ok")), "{report}");
    assert!(report.contains("as you named it"), "{report}");
    assert_eq!(named(other).status.code(), Some(64));
}
