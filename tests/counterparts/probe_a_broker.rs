//! What `probe mqtt` shows of a real broker, with TLS 1.3, a client certificate and a password; what it prints is a
//! configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::broker::{Broker, USER};
use crate::lab::{Counterpart, PROGRAM, printed, program, wait_until};

fn arguments(broker: &Broker, topics: &[&str]) -> Vec<String> {
    let place = |name: &str| broker.directory.join(name).display().to_string();
    let url = format!("mqtts://localhost:{}", broker.port);
    let password = place("password");
    let (ca, certificate, key) = (place("ca.pem"), place("client.pem"), place("client.key"));
    [
        &["probe", "mqtt", &url][..],
        topics,
        &[
            "--user",
            USER,
            "--password-file",
            &password,
            "--ca-file",
            &ca,
        ],
        &[
            "--client-cert-file",
            &certificate,
            "--client-key-file",
            &key,
        ],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

fn run(arguments: &[String], more: &[&str]) -> std::process::Output {
    let all: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    program(&all)
}

/// A configuration with what was printed, and a source whose heat is one of its points.
fn configuration(directory: &Path, printed: &str, point: &str) -> String {
    let key = directory.join("api.key");
    fs::write(&key, "cms_test_0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "company_id = \"acme-corp\"\n[dashboard]\nendpoint = \"https://127.0.0.1:9/api/v1\"\n\
         api_key = {{ file = \"{key}\" }}\n[store]\npath = \"{here}/store\"\n\
         [status]\nsocket = \"{here}/status.sock\"\n[compute]\nenabled = false\n{printed}\n\
         [[thermal.source]]\nlocation = \"rack-07\"\nequipment_type = \"gpu_cluster\"\n\
         cooling_method = \"air\"\nheat_utilization = \"none\"\n\
         electrical_power = {{ formula = \"{point}\", unit_of_measure = \"kW\" }}\n",
        key = key.display(),
        here = directory.display(),
    );
    let path = directory.join("probed.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn what_is_published_is_shown_ranked_and_printed_as_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path(), "tlsv1.3");
    let now = jiff::Timestamp::now().as_second();
    let json = format!("{{\"value\": 41.5, \"unit\": \"C\", \"ts\": {now}}}\n");
    broker.publish("dc1/rack07/exhaust", json.as_bytes(), &["-r", "-q", "1"]);
    broker.publish("dc1/door", b"open \x1b[2J\n", &["-r"]);
    let asked = arguments(&broker, &["dc1/#"]);
    for version in [None, Some("--mqtt5")] {
        let mut command = std::process::Command::new(PROGRAM);
        command.args(&asked).args(["--for", "4s"]).args(version);
        let probe = Counterpart::start(command, directory.path(), "probe");
        wait_until("the end of the probe", || {
            broker.publish("dc1/rack07/power_kw", b"8.25\n", &["-r"]);
            probe.log().contains("[[thermal.mqtt]]")
        });
        let said = probe.log();
        for part in [
            "# 3 topics, ",
            "# dc1/rack07/power_kw  8.25  every ",
            "  retained only  [$.value = 41.5 C?]\n",
            "# dc1/door  open \\u{1b}[2J  retained only\n",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("a password of the lab"), "{said}");
        let at = |point: &str| {
            said.find(point)
                .unwrap_or_else(|| panic!("{point} in {said}"))
        };
        assert!(
            at("# dc1/rack07/power_kw") < at("# dc1/rack07/exhaust"),
            "{said}"
        );
        let path = configuration(directory.path(), &said, "dc1_rack07_power_kw");
        let path = {
            // A person has looked: the sensor publishes changes.
            let text = fs::read_to_string(&path).unwrap();
            let vouched = text.replace(
                "\"dc1/rack07/power_kw\" }",
                "\"dc1/rack07/power_kw\", on_change = true }",
            );
            assert_ne!(text, vouched);
            fs::write(&path, vouched).unwrap();
            path
        };
        let checked = program(&["--config", &path, "check", "--offline"]);
        let told = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(told.contains("dc1_rack07_power_kw: 8.25 kW"), "{told}");
        assert!(told.contains("dc1_rack07_exhaust_value: 41.5 C"), "{told}");
    }
}

#[test]
fn what_keeps_a_probe_out_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(directory.path(), "tlsv1.3");
    let told = |arguments: &[String]| {
        let output = run(arguments, &["--for", "1s"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let right = arguments(&broker, &["dc1/#"]);
    let replaced = |from: &str, to: &str| -> Vec<String> {
        right.iter().map(|one| one.replace(from, to)).collect()
    };
    let nothing = told(&right);
    assert!(
        nothing.contains("nothing was published on dc1/# within 1s"),
        "{nothing}"
    );
    let wrong_password = told(&replaced("/password", "/wrong"));
    assert!(
        wrong_password.contains("check user, password, client_id"),
        "{wrong_password}"
    );
    let foreign = told(&replaced("/ca.pem", "/client.pem"));
    assert!(foreign.contains("name it in tls.ca_file"), "{foreign}");
    broker.die();
    let gone = told(&right);
    assert!(gone.contains("Connection refused"), "{gone}");
    let plain = run(
        &replaced("mqtts://localhost", "mqtt://bms.example"),
        &["--for", "1s"],
    );
    assert_eq!(plain.status.code(), Some(64), "{plain:?}");
    let _help = printed(&program(&["probe", "mqtt", "--help"]));
}
