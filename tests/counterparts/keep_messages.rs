//! Sessions that a broker keeps: what was published in quality 1 while the agent or the broker was away comes afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::Broker;
use crate::lab::{Counterpart, PROGRAM, program, wait_until};

/// An agent that listens to one sensor, which publishes changes and does not retain them.
fn configuration(directory: &Path, broker: &Broker, session: &str) -> PathBuf {
    let key = directory.join("api.key");
    fs::write(&key, "cms_test_0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "company_id = \"acme-corp\"\n[dashboard]\nendpoint = \"https://127.0.0.1:9/api/v1\"\n\
         api_key = {{ file = \"{key}\" }}\n[store]\npath = \"{here}/store\"\n\
         [status]\nsocket = \"{here}/status.sock\"\n[compute]\nenabled = false\n\
         [thermal]\ninterval = \"5s\"\n\
         [[thermal.source]]\nlocation = \"rack-07\"\nequipment_type = \"gpu_cluster\"\n\
         cooling_method = \"air\"\nheat_utilization = \"none\"\n\
         electrical_power = {{ mqtt = {{ device = \"bms\", topic = \"dc1/w\", on_change = true }}, unit_of_measure = \"W\" }}\n\
         points.undated = {{ mqtt = {{ device = \"bms\", topic = \"dc1/w\" }}, unit_of_measure = \"W\" }}\n{}",
        broker.table(session),
        key = key.display(),
        here = directory.display(),
    );
    let path = directory.join("agent.toml");
    fs::write(&path, text).unwrap();
    path
}

fn start(configuration: &Path) -> Counterpart {
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(configuration).arg("run");
    Counterpart::start(command, configuration.parent().unwrap(), "agent")
}

fn status(configuration: &Path) -> String {
    let output = program(&["--config", configuration.to_str().unwrap(), "status"]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn until_status_says(configuration: &Path, part: &str) -> String {
    let mut told = String::new();
    wait_until(&format!("{part:?} in status"), || {
        told = status(configuration);
        told.contains(part)
    });
    told
}

#[test]
fn messages_wait_for_an_agent_and_outlive_the_broker() {
    for version in ["3.1.1", "5"] {
        let directory = tempfile::tempdir().unwrap();
        let mut broker = Broker::start(directory.path(), "tlsv1.3");
        let session = format!(
            "version = \"{version}\"\nsession = \"persistent\"\nclient_id = \"agent-of-the-lab\""
        );
        let configuration = configuration(directory.path(), &broker, &session);
        let agent = start(&configuration);
        until_status_says(&configuration, "nothing came on dc1/w yet");
        broker.publish("dc1/w", b"4001\n", &["-q", "1"]);
        until_status_says(&configuration, "rack-07 electrical_power: 4001 W");

        // Over a restart of the agent.
        drop(agent);
        broker.publish("dc1/w", b"4002\n", &["-q", "1"]);
        let agent = start(&configuration);
        let told = until_status_says(&configuration, "rack-07 electrical_power: 4002 W");
        // Whoever does not say that values stand must not get one of unknown age.
        assert!(
            told.contains("undated: missing: only a value that waited for us"),
            "{version}: {told}"
        );
        wait_until("a value that did not wait", || {
            broker.publish("dc1/w", b"4003\n", &["-q", "1"]);
            status(&configuration).contains("rack-07 undated: 4003 W")
        });

        // Over a restart of the broker, which is killed once it has written what waits.
        drop(agent);
        broker.publish("dc1/w", b"4004\n", &["-q", "1"]);
        let kept = directory.path().join("mosquitto.db");
        wait_until("the broker to have written the message", || {
            fs::read(&kept).is_ok_and(|bytes| bytes.windows(4).any(|part| part == b"4004"))
        });
        broker.die();
        broker.go_on();
        let agent = start(&configuration);
        until_status_says(&configuration, "rack-07 electrical_power: 4004 W");
        drop(agent);
    }
}

#[test]
fn a_clean_session_keeps_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), "tlsv1.3");
    let configuration = configuration(
        directory.path(),
        &broker,
        "client_id = \"agent-of-the-lab\"",
    );
    let agent = start(&configuration);
    until_status_says(&configuration, "nothing came on dc1/w yet");
    drop(agent);
    broker.publish("dc1/w", b"4002\n", &["-q", "1"]);
    let agent = start(&configuration);
    let told = until_status_says(&configuration, "nothing came on dc1/w yet");
    assert!(!told.contains("4002 W"), "{told}");
    broker.publish("dc1/w", b"4003\n", &["-q", "1"]);
    until_status_says(&configuration, "rack-07 electrical_power: 4003 W");
    drop(agent);
}
