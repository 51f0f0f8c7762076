//! A machine's best source of power dies and comes back while an agent runs: payloads, `status` and the ledger say so.

use std::fs;

use serde_json::Value;

use super::nvml;
use super::site::{Site, agent, text, wait_until};

/// What `status` shows of the ladder.
fn status(site: &Site) -> String {
    text(&site.agent(&["status"]).stdout)
}

/// Whether `status` shows that this source of power speaks.
fn speaks(site: &Site, source: &str) -> bool {
    let line = format!("power {source}: ");
    let shown = status(site);
    let mut lines = shown.lines().filter(|shown| shown.contains(&line));
    lines.any(|shown| shown.contains(" W, in use since"))
}

/// What the newest payload says of the power: each entry of provenance.
fn told(site: &Site) -> Vec<Value> {
    let Some(body) = site.newest_body("ghost-compute") else {
        return Vec::new();
    };
    let entries = body["provenance"].as_array().unwrap();
    let of_power = |entry: &&Value| entry["figure"] == "instance_inventory[].power_draw_watts";
    entries.iter().filter(of_power).cloned().collect()
}

/// The changes of the power's source that the evidence holds, in their order, and what `verify` ends with.
fn changes(site: &Site) -> (Vec<String>, Option<i32>) {
    let file = site.path("evidence.jsonl");
    let ever = ["export", "--from", "2020-01-01", "--to", "2200-01-01", "-o"];
    let output = site.agent(&[&ever[..], &[file.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let verified = agent(&["verify", file.to_str().unwrap()]);
    let report = text(&verified.stdout);
    let notes = report.lines().filter(|line| line.starts_with("note  "));
    let of_power =
        notes.filter(|note| note.contains(": source, ") && note.contains("energy_uj from"));
    let words = of_power.map(|note| note.rsplit("Z: ").next().unwrap().to_owned());
    (words.collect(), verified.status.code())
}

#[test]
fn a_source_of_power_that_dies_and_returns_is_seen_everywhere() {
    let site = Site::new();
    let gpus = site.path("gpus");
    let library = site.path("libnvidia-ml.so.1");
    nvml::compile(&gpus, &library);
    let alive = "GPU-a 300 300\n";
    fs::write(&gpus, alive).unwrap();
    let config = site.path("agent.toml");
    let mut toml = fs::read_to_string(&config).unwrap();
    toml += &format!(
        "\n[compute.power]\nsources = [\"nvml\", \"model\"]\nidle_watts = 40\nmax_watts = 40\nnvml.path = {library:?}\n"
    );
    fs::write(&config, toml).unwrap();
    let _dashboard = site.start_dashboard();
    let running = site.start_agent();

    wait_until("power that was measured", || {
        told(&site).iter().any(|entry| entry["source"] == "nvml")
    });
    let measured = told(&site).remove(0);
    assert_eq!(measured["quality"], "measured", "{measured}");
    assert!(measured.get("fallback").is_none(), "{measured}");
    assert!(speaks(&site, "nvml"), "{}", status(&site));

    fs::write(&gpus, "lost\n").unwrap();
    let estimated = || {
        let told = told(&site);
        told.into_iter().find(|entry| entry["source"] == "model")
    };
    wait_until("power that is estimated", || estimated().is_some());
    let estimated = estimated().unwrap();
    assert_eq!(estimated["quality"], "estimated", "{estimated}");
    assert_eq!(estimated["fallback"]["from"], "nvml", "{estimated}");
    let reason = estimated["fallback"]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("nvml: the ") && reason.contains("fell off the bus"),
        "{reason}"
    );
    let shown = status(&site);
    assert!(shown.contains("power nvml: not used: the "), "{shown}");
    assert!(speaks(&site, "model"), "{shown}");
    // What was measured before is not forgotten: both parts of the mean are told apart.
    assert!(told(&site).iter().any(|entry| entry["source"] == "nvml"));

    fs::write(&gpus, alive).unwrap();
    wait_until("a better source that is valid again", || {
        status(&site).contains("valid again, not used yet")
    });
    wait_until("the better source to be used", || speaks(&site, "nvml"));
    // The leaf is written with the first readings that came from it.
    let gone = "compute/host: energy_uj from model (linear/1 configured), was nvml (nvml-energy/1 gpu_board)";
    let back = "compute/host: energy_uj from nvml (nvml-energy/1 gpu_board), was model (linear/1 configured)";
    wait_until("both changes in the ledger", || changes(&site).0.len() >= 2);
    assert_eq!(running.stop(), 0);
    assert_eq!(
        changes(&site),
        (vec![gone.to_owned(), back.to_owned()], Some(0))
    );
}
