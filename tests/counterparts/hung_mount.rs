//! Two storage roots, one of them on a mount that hangs: a file system in user space that answers no more.

use std::fs;
use std::io::Write as _;

use serde_json::Value;

use crate::lab::{PROGRAM, python, wait_until};
use crate::site::Site;

/// A storage root as `status` shows it.
fn root(site: &Site, name: &str) -> Value {
    let said = site.agent(&["status", "--json"]).stdout;
    let said: Value = serde_json::from_slice(&said).unwrap_or_default();
    let name = format!("storage/filesystem {name}");
    let parts = said["parts"].as_array().cloned().unwrap_or_default();
    let found = parts.into_iter().find(|part| part["name"] == name.as_str());
    found.unwrap_or_default()
}

#[test]
fn the_other_root_is_reported_the_hung_one_is_named_and_the_agent_ends_when_told_to() {
    let site = Site::new();
    let config = site.path("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("interval = \"1m\"", "interval = \"10s\""),
    )
    .unwrap();
    let dashboard = site.start_dashboard();
    let agent = site.start_agent();
    let reported = || {
        let accepted = site.accepted();
        accepted
            .values()
            .filter(|kind| *kind == "dark-data")
            .count()
    };
    wait_until("a first report", || reported() > 0);
    assert_eq!(agent.stop(), 0);

    // It is mounted and hangs while the agent is away.
    fs::write(site.path("files").join("b"), [1; 10_000]).unwrap();
    let hung = site.path("hung");
    fs::create_dir(&hung).unwrap();
    let alone = fs::read_to_string(&config).unwrap();
    let mut more = fs::OpenOptions::new().append(true).open(&config).unwrap();
    let path = hung.display();
    write!(
        more,
        "\n[[storage.root]]\npath = \"{path}\"\nname = \"hung\"\n"
    )
    .unwrap();
    let mut beside = python("hung_mount.py");
    beside.arg(&hung).arg(PROGRAM);
    let agent = site.launch_agent_by(beside);
    agent.wait_for("agent started");

    wait_until("the hung root to say that nothing is new", || {
        let part = root(&site, "hung");
        let detail = part["detail"].as_str().unwrap_or_default();
        detail.starts_with("scanned 0 objects, nothing new for ")
    });
    wait_until("the other root to be scanned", || {
        let part = root(&site, "files");
        let newest = part["details"][0].as_str().unwrap_or_default();
        part["state"] == "ok" && newest.contains(" 2 objects, ")
    });
    let before = reported();
    wait_until("another report", || reported() > before);

    // The system may keep a thread that waits for a dead mount, and with it the process. The agent has ended all
    // the same: it says so, and has let go of the store, so that another one can start.
    agent.signal("-TERM");
    agent.wait_for("\"stopped\"");
    fs::write(&config, alone).unwrap();
    let next = site.start_agent();
    let before = reported();
    wait_until("a report of the next one", || reported() > before);
    assert_eq!(next.stop(), 0);
    dashboard.kill();
}
