//! An auditor sees in the ledger what changed around the figures.

use std::fs;

use crate::site::{Site, agent, text, wait_until};

/// What `verify` notes about the whole ledger.
fn notes(site: &Site) -> Vec<String> {
    let file = site.path("evidence.jsonl");
    let ever = ["export", "--from", "2020-01-01", "--to", "2200-01-01", "-o"];
    let output = site.agent(&[&ever[..], &[file.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = text(&agent(&["verify", file.to_str().unwrap()]).stdout);
    let notes = report
        .lines()
        .filter_map(|line| line.strip_prefix("note  "));
    notes.map(str::to_owned).collect()
}

/// The notes of one kind of leaf, each without its place and time.
fn of_kind(notes: &[String], kind: &str) -> Vec<String> {
    let marked = notes
        .iter()
        .filter(|note| note.contains(&format!(": {kind}, ")));
    marked
        .map(|note| note.rsplit("Z: ").next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_source_that_fails_and_a_changed_configuration_are_in_the_evidence() {
    let site = Site::new();
    let running = site.start_agent();
    let appeared = |notes: &[String]| {
        let sources = of_kind(notes, "source");
        sources
            .iter()
            .filter(|note| note.ends_with(": appears"))
            .count()
    };
    wait_until("all sources to appear", || appeared(&notes(&site)) == 3);

    // Its root is gone, and comes back.
    fs::rename(site.path("files"), site.path("elsewhere")).unwrap();
    running.signal("-HUP");
    running.wait_for("configuration reloaded");
    // echo -n files | sha256sum
    let fails = "storage/filesystem #3d7db37d: fails";
    wait_until("the source to fail", || {
        of_kind(&notes(&site), "source").contains(&fails.to_owned())
    });
    fs::rename(site.path("elsewhere"), site.path("files")).unwrap();
    let toml = fs::read_to_string(site.path("agent.toml")).unwrap();
    let changed = toml.replacen("site = \"demo\"", "site = \"other\"", 1);
    fs::write(site.path("agent.toml"), changed).unwrap();
    running.signal("-HUP");
    running.wait_for("configuration reloaded");
    wait_until("the source to work again", || {
        let sources = of_kind(&notes(&site), "source");
        sources.contains(&"storage/filesystem #3d7db37d: works again".to_owned())
    });
    assert_eq!(running.stop(), 0);

    let configurations = of_kind(&notes(&site), "config");
    let [.., start, same, changed] = configurations.as_slice() else {
        panic!("{configurations:?}");
    };
    let digest = start.split(' ').nth(1).unwrap();
    assert!(digest.starts_with("sha-256:"), "{start}");
    assert_eq!(same, &format!("configuration reloaded: {digest} as before"));
    assert!(changed.ends_with(&format!(", was {digest}")), "{changed}");
    // `check` tells the owner which digest a configuration has.
    let shown = text(&site.agent(&["check"]).stdout);
    let new = changed.split(' ').nth(2).unwrap().trim_end_matches(',');
    assert!(shown.contains(&format!("digest {new}")), "{shown}");
    let key = fs::read_to_string(site.path("api.key")).unwrap();
    assert!(!notes(&site).concat().contains(key.trim()));
}
