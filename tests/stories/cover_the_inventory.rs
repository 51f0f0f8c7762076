//! What is documented and silent is told with its clock; only evidence takes it off the list.

use std::fs;

use serde_json::Value;

use crate::site::{Site, text, wait_until};

/// What `status --json` says about coverage, once the inventory has been read.
fn coverage(site: &Site, holds: impl Fn(&Value) -> bool) -> Value {
    let mut said = Value::Null;
    wait_until("coverage in status", || {
        let output = site.agent(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        said = status["coverage"].clone();
        holds(&said)
    });
    said
}

#[test]
fn a_machine_that_is_gone_is_missing_until_its_evidence_is_there() {
    let site = Site::new();
    let inventory = site.path("inventory.csv");
    let documented = fs::read_to_string(&inventory).unwrap();
    fs::write(
        &inventory,
        format!("{documented}instance,node-9,old database\n"),
    )
    .unwrap();

    let agent = site.start_agent();
    let is_scanned = |said: &Value| said["counts"]["missing"] == 1;
    let missing = coverage(&site, is_scanned)["missing"][0].clone();
    assert_eq!(missing["what"], "node-9 (old database)");
    let shown = text(&site.agent(&["status"]).stdout);
    let place = inventory.display();
    for words in [
        "gate 0.950: NOT MET: 2 instances must report",
        "breaches in 6 d 23 h: bring it back or record its decommission in",
        &format!("{place} of "),
    ] {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
    let probed = text(&site.agent(&["probe", "coverage"]).stdout);
    assert!(probed.starts_with("# submission_date: "), "{probed}");
    assert!(
        probed.contains("# 1 rows of the present inventory do not report"),
        "{probed}"
    );
    let rows: Vec<&str> = probed
        .lines()
        .skip_while(|line| line.starts_with('#'))
        .collect();
    assert_eq!(rows[0], "kind,id,name");
    assert!(
        rows[1].starts_with("instance,host:") && rows[2].starts_with("storage,files"),
        "{probed}"
    );
    assert_eq!(agent.stop(), 0);

    let rows = documented.replace("kind,id,name", "kind,id,name,decommissioned,evidence");
    fs::write(
        &inventory,
        format!("{rows}instance,node-9,old database,2026-01-05,wiped.log\n"),
    )
    .unwrap();
    let agent = site.start_agent();
    let is_told = |said: &Value| said["remarks"][0].is_string();
    let without = coverage(&site, is_told);
    assert!(
        without["remarks"][0]
            .as_str()
            .unwrap()
            .contains("does not count: wiped.log is not there"),
        "{without}"
    );
    assert_eq!(
        without["missing"][0]["since"], missing["since"],
        "no clock begins anew"
    );
    assert_eq!(agent.stop(), 0);

    fs::write(site.path("wiped.log"), "node-9 wiped, ticket 4711\n").unwrap();
    let agent = site.start_agent();
    let with = coverage(&site, |said| said["counts"]["decommissioned"] == 1);
    assert_eq!(
        (&with["counts"]["missing"], &with["passes"]),
        (&0.into(), &true.into())
    );
    let proof = with["decommissioned"][0]["proof"].as_str().unwrap();
    assert!(
        proof.starts_with("wiped.log sha-256 ") && proof.len() == 18 + 64,
        "{proof}"
    );
    assert_eq!(agent.stop(), 0);
}
