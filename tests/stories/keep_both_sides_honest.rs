//! The dashboard countersigns the agent's ledger, so that neither can rewrite what both have signed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::site::{Site, wait_until};

fn status(site: &Site) -> Value {
    serde_json::from_slice(&site.agent(&["status", "--json"]).stdout).unwrap_or_default()
}

fn epochs(site: &Site) -> BTreeSet<i64> {
    site.accepted().keys().map(|(epoch, _)| *epoch).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn what_was_accepted_is_receipted_soon_after() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let agent = site.start_agent();
    site.wait_until_all_accepted(3);
    wait_until("a receipt for all of it", || {
        let outbox = site.outbox();
        outbox.len() >= 3 && outbox.values().all(|state| state == "receipted")
    });
    let receipts = status(&site)["receipts"].clone();
    assert!(receipts["size"].as_u64() > Some(3), "{receipts}");
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_store_put_back_to_an_older_state_goes_on_in_a_new_epoch() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let agent = site.start_agent();
    site.wait_until_all_accepted(3);
    assert_eq!(agent.stop(), 0);
    copy(&site.path("agent"), &site.path("snapshot"));

    let agent = site.start_agent();
    let before = site.accepted().len();
    wait_until("history that the snapshot does not know", || {
        site.accepted().len() > before + 2
    });
    assert_eq!(agent.stop(), 0);
    assert_eq!(epochs(&site).len(), 1);

    fs::remove_dir_all(site.path("agent")).unwrap();
    copy(&site.path("snapshot"), &site.path("agent"));
    let agent = site.start_agent();
    agent.wait_for("a new epoch of the ledger begins");
    wait_until("submissions of the new epoch", || epochs(&site).len() == 2);
    let said = status(&site)["parts"].to_string();
    assert!(said.contains("new epoch"), "{said}");
    assert_eq!(agent.stop(), 0);
    let last = site.leaves().pop().unwrap();
    assert_eq!(
        (last.0, last.2.as_str()),
        (*epochs(&site).last().unwrap(), "stop"),
        "the stop is in the new epoch"
    );
}
