//! Sensors that publish to a real broker: Mosquitto over TLS 1.3, with client certificates and passwords.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::broker::Broker;
use crate::lab::{Counterpart, PROGRAM, printed, program, wait_until};

/// A flood lasts so many messages: more than anybody publishes in a second.
const FLOOD: usize = 200_000;

/// What the agent may grow by under a flood, in KiB: buffers of the connection, and nothing of its length.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

#[test]
fn values_come_over_both_versions_with_certificate_and_password() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), "tlsv1.3");
    let now = jiff::Timestamp::now().as_second();
    let json = format!("{{\"value\": 46.5, \"ts\": {now}}}\n");
    broker.publish("dc1/rack07/exhaust", json.as_bytes(), &["-r", "-q", "1"]);
    broker.publish("dc1/rack07/feed/a/w", b"4100.5\n", &["-r", "-q", "1"]);
    broker.publish("dc1/rack07/feed/b/w", b"4023\n", &["-r", "-q", "1"]);
    for version in ["3.1.1", "5"] {
        let table = broker.table(&format!("version = \"{version}\""));
        let source = heat_recovery(&configuration(directory.path(), &table));
        assert_eq!(source["exhaust_temp_celsius"], 46.5, "{version}: {source}");
        assert_eq!(source["thermal_output_kw"], 8.1, "{version}: {source}");
    }
}

#[test]
fn what_keeps_us_out_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), "tlsv1.3");
    let told = |table: String| {
        let configuration = configuration(directory.path(), &table);
        let output = program(&[
            "--config",
            configuration.to_str().unwrap(),
            "preview",
            "heat-recovery",
        ]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text + &String::from_utf8_lossy(&output.stdout)
    };
    let right = broker.table("");
    let wrong_password = told(right.replace("/password\"", "/wrong\""));
    assert!(
        wrong_password.contains("check user, password, client_id"),
        "{wrong_password}"
    );
    let without = right
        .split(", client_cert_file")
        .next()
        .map(|head| format!("{head} }}\n"))
        .unwrap();
    let without = told(without);
    assert!(without.contains("CertificateRequired"), "{without}");
    let not_ours = told(right.replace("/ca.pem\"", "/client.pem\""));
    assert!(not_ours.contains("name it in tls.ca_file"), "{not_ours}");
}

#[test]
fn a_broker_that_starts_again_is_found_again_and_a_flood_costs_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(directory.path(), "tlsv1.3");
    let configuration = configuration(directory.path(), &broker.table(""));
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(&configuration).arg("run");
    let agent = Counterpart::start(command, directory.path(), "agent");
    let publish = |broker: &Broker, watts: &str| {
        broker.publish(
            "dc1/rack07/feed/a/w",
            format!("{watts}\n").as_bytes(),
            &["-q", "1"],
        );
    };
    broker.until_subscribed(1);
    let shows = |watts: &str| {
        let watts = watts.to_owned();
        let configuration = configuration.clone();
        move || status(&configuration).contains(&watts)
    };
    wait_until("the first value", || {
        publish(&broker, "4100.5");
        shows("4100.5 W")()
    });

    broker.die();
    wait_until("the loss in status", shows("Connection refused"));
    broker.go_on();
    wait_until("a value after the loss", || {
        publish(&broker, "3999.5");
        shows("3999.5 W")()
    });

    let before = resident_kib(agent.pid());
    let flood = "4000\n".repeat(FLOOD);
    broker.publish("dc1/rack07/feed/a/w", flood.as_bytes(), &[]);
    wait_until("a value after the flood", || {
        publish(&broker, "4242.5");
        shows("4242.5 W")()
    });
    let grown = resident_kib(agent.pid()).saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "it grew by {grown} KiB");
}

fn configuration(directory: &Path, broker: &str) -> PathBuf {
    let key = directory.join("api.key");
    fs::write(&key, "cms_test_0123456789abcdef0123456789abcdef\n").unwrap();
    let secret = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&key, secret).unwrap();
    let text = format!(
        "company_id = \"acme-corp\"\n[dashboard]\nendpoint = \"https://127.0.0.1:9/api/v1\"\n\
         api_key = {{ file = \"{key}\" }}\n[store]\npath = \"{here}/store\"\n\
         [status]\nsocket = \"{here}/status.sock\"\n[compute]\nenabled = false\n\
         [thermal]\ninterval = \"5s\"\n\
         [[thermal.source]]\nlocation = \"rack-07\"\nequipment_type = \"gpu_cluster\"\n\
         cooling_method = \"air\"\nheat_utilization = \"none\"\n\
         [thermal.source.exhaust_temp]\nunit_of_measure = \"C\"\n\
         mqtt = {{ device = \"bms\", topic = \"dc1/rack07/exhaust\", json = \"/value\", time = \"/ts\", on_change = true }}\n\
         [thermal.source.electrical_power]\nunit_of_measure = \"W\"\n\
         mqtt = {{ device = \"bms\", topic = \"dc1/rack07/feed/+/w\", combine = \"sum\", on_change = true }}\n\
         {broker}",
        key = key.display(),
        here = directory.display(),
    );
    let path = directory.join("agent.toml");
    fs::write(&path, text).unwrap();
    path
}

fn heat_recovery(configuration: &Path) -> Value {
    let output = program(&[
        "--config",
        configuration.to_str().unwrap(),
        "preview",
        "heat-recovery",
        "--json",
    ]);
    let body: Value = serde_json::from_str(&printed(&output)).unwrap();
    body["data"]["heat_recovery"]["thermal_sources"][0].clone()
}

fn status(configuration: &Path) -> String {
    let output = program(&["--config", configuration.to_str().unwrap(), "status"]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
