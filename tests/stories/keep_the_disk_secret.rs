//! Whoever gets the store's files, and not its key, reads nothing of what was measured, and no key.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use cms_telemetry_agent::store::Snapshot;

use crate::site::{Site, text, wait_until};

/// A name that a person gave to what is measured.
const UNIT: &str = "canary-unit-5d1f0a";

/// A region that a person gave to the host.
const REGION: &str = "canary-region-77c2";

/// All files below a directory, with their bytes.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
    found
}

/// Where these bytes stand in any file, as they are or as base64.
fn found_in(files: &[(String, Vec<u8>)], canary: &[u8]) -> Vec<String> {
    let forms = [
        canary.to_vec(),
        STANDARD.encode(canary).into_bytes(),
        STANDARD_NO_PAD.encode(canary).into_bytes(),
    ];
    files
        .iter()
        .filter(|(_, bytes)| {
            let holds = |form: &Vec<u8>| bytes.windows(form.len()).any(|part| part == form);
            forms.iter().any(holds)
        })
        .map(|(name, _)| name.clone())
        .collect()
}

/// The seeds of the agent's keys, by means of the store's key.
fn seeds(site: &Site) -> Vec<Vec<u8>> {
    let sealed = fs::read_to_string(site.path("agent/identity/keys")).unwrap();
    let opened = site.store_key().open_text("identity", &sealed).unwrap();
    let kept = text(&opened.content);
    let seeds = kept.lines().filter_map(|line| line.strip_prefix("seed "));
    seeds
        .map(|line| {
            STANDARD_NO_PAD
                .decode(line.split_once(' ').unwrap().1)
                .unwrap()
        })
        .collect()
}

#[test]
fn neither_names_nor_figures_nor_keys_stand_readable_in_the_store() {
    let site = Site::new();
    let toml = fs::read_to_string(site.path("agent.toml")).unwrap();
    let toml = toml
        .replace("name = \"files\"", &format!("name = \"{UNIT}\""))
        .replace("site = \"demo\"", &format!("site = \"{REGION}\""));
    fs::write(site.path("agent.toml"), toml).unwrap();
    fs::write(site.path("files/large"), vec![1; 20_492_288]).unwrap();

    let dashboard = site.start_dashboard();
    let agent = site.start_agent();
    site.wait_until_all_accepted(6);
    wait_until("a scan to be submitted", || {
        site.outbox().len() > 8 && site.accepted().values().any(|kind| kind == "dark-data")
    });
    // While it runs, so that the log and its index are there.
    let mut all = files(&site.path("agent"));
    agent.kill();
    all.extend(files(&site.path("agent")));
    // What a person may have damaged goes into the quarantine.
    fs::write(site.path("agent/identity/keys"), "cms-sealed/1 damaged").unwrap();
    let agent = site.start_agent();
    site.wait_until_all_accepted(10);
    assert_eq!(agent.stop(), 0);
    assert_eq!(dashboard.stop(), 0);
    all.extend(files(&site.path("agent")));
    assert!(all.iter().any(|(name, _)| name.ends_with("-wal")));
    assert!(all.iter().any(|(name, _)| name.contains("/quarantine/")));

    let body = site.first_body("dark-data");
    let figure = body["data"]["dark_data"]["summary"]["total_storage_gb"].to_string();
    let bytes = figure.replace('.', "").trim_start_matches('0').to_owned();
    assert!(bytes.len() >= 7, "{figure} may be there by chance");
    let body = body.to_string();
    let instance = site.first_body("ghost-compute")["data"].to_string();
    let instance = instance.split("host:").nth(1).unwrap();
    let instance = format!("host:{}", &instance[..16]);
    let api_key = fs::read_to_string(site.path("api.key")).unwrap();
    let mut canaries: Vec<(String, Vec<u8>)> =
        [UNIT, REGION, &figure, &bytes, &instance, api_key.trim()]
            .iter()
            .map(|canary| ((*canary).to_owned(), canary.as_bytes().to_vec()))
            .collect();
    let seeds = seeds(&site);
    // Those of two keys, and the salt of what is kept of the machine.
    assert_eq!(seeds.len(), 3);
    canaries.extend(seeds.into_iter().map(|seed| ("a seed".to_owned(), seed)));
    for (name, canary) in &canaries {
        assert_eq!(found_in(&all, canary), Vec::<String>::new(), "{name}");
    }

    // The same search finds them where they are meant to be.
    let sent = [("body".to_owned(), body.clone().into_bytes())];
    for canary in [UNIT, REGION, &figure] {
        assert_eq!(
            found_in(&sent, canary.as_bytes()).len(),
            1,
            "{canary} is not in {body}"
        );
    }
    let beside = files(&site.path(""));
    for canary in [api_key.trim(), &instance] {
        assert!(!found_in(&beside, canary.as_bytes()).is_empty(), "{canary}");
    }
}

#[test]
fn another_key_or_none_stops_the_agent_and_the_right_one_goes_on() {
    let site = Site::new();
    let agent = site.start_agent();
    wait_until("submissions to wait", || site.outbox().len() >= 3);
    assert_eq!(agent.stop(), 0);
    let (key, away) = (site.path("agent-key/store.key"), site.path("away"));
    let right = site.store_key();
    let before = files(&site.path("agent"));

    fs::rename(&key, &away).unwrap();
    let none = site.agent(&["run"]);
    let said = text(&none.stderr);
    assert_eq!(none.status.code(), Some(78), "{said}");
    for part in [
        right.id().as_str(),
        key.to_str().unwrap(),
        "credential store-key",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(!key.exists(), "no key is made beside a store that has one");

    let other = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    cms_telemetry_agent::seal::make(&key).unwrap();
    fs::write(&key, other).unwrap();
    for command in [
        &["run"][..],
        &["preview", "ghost-compute"],
        &[
            "export",
            "--from",
            "2020-01-01",
            "--to",
            "2100-01-01",
            "-o",
            "/dev/null",
        ],
    ] {
        let wrong = site.agent(command);
        let said = text(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(78), "{command:?}: {said}");
        assert!(said.contains(right.id().as_str()), "{said}");
        assert!(!said.contains(other), "{said}");
    }
    let check = site.agent(&["check", "--offline"]);
    assert!(
        text(&check.stdout).contains("fail  store key"),
        "{}",
        text(&check.stdout)
    );
    let database = |files: &[(String, Vec<u8>)]| {
        let found = files.iter().find(|(name, _)| name.ends_with("store.db"));
        found.unwrap().1.clone()
    };
    let after = files(&site.path("agent"));
    assert!(database(&before) == database(&after), "nothing was changed");

    fs::rename(&away, &key).unwrap();
    let check = site.agent(&["check", "--offline"]);
    let shown = format!(
        "key protection: file ({}), key id {}",
        key.display(),
        right.id()
    );
    assert!(
        text(&check.stdout).contains(&shown),
        "{}",
        text(&check.stdout)
    );
    let agent = site.start_agent();
    let status = text(&site.agent(&["status"]).stdout);
    assert!(status.contains(&shown), "{status}");
    let status: serde_json::Value =
        serde_json::from_slice(&site.agent(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["key"]["protection"], "file");
    assert_eq!(status["key"]["id"], right.id().as_str());
    assert_eq!(agent.stop(), 0);
}

#[test]
fn an_identity_that_is_lost_is_told_and_the_agent_goes_on_as_a_new_one() {
    let site = Site::new();
    let dashboard = site.start_dashboard();
    let agent = site.start_agent();
    site.wait_until_all_accepted(4);
    assert_eq!(agent.stop(), 0);
    let id = || fs::read_to_string(site.path("agent/identity/agent-id")).unwrap();
    let (before, epochs) = (id(), site.epochs());
    fs::write(site.path("agent/identity/keys"), [0; 300]).unwrap();
    site.damage_the_stores_copy_of("identity");
    let agent = site.start_agent();
    let accepted = site.accepted().len();
    wait_until("the new identity to be accepted", || {
        site.accepted().len() > accepted + 2
    });
    assert_ne!(id(), before);
    assert!(site.epochs() > epochs);
    let status = text(&site.agent(&["status"]).stdout);
    assert!(
        status.contains("the identity was lost, this is a new one"),
        "{status}"
    );
    assert_eq!(agent.stop(), 0);
    assert_eq!(dashboard.stop(), 0);
    let aside = files(&site.path("agent/quarantine"));
    assert!(
        aside.iter().any(|(_, bytes)| *bytes == [0; 300]),
        "nothing is deleted"
    );
    let key = site.store_key();
    let kept = Snapshot::open(&site.path("agent"), &key).unwrap();
    let newest = *kept.epochs().unwrap().last().unwrap();
    let mut first = String::new();
    kept.each_leaf(newest, 1, |_, record| {
        first = record;
        Ok::<_, cms_telemetry_agent::store::StoreError>(())
    })
    .unwrap();
    assert!(
        first.contains("a new identity, the old one was lost; epoch "),
        "{first}"
    );
}
