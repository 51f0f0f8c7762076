//! The machine's power from a management controller that speaks Redfish over TLS 1.3, with and without faults.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use super::lab::{Counterpart, free_port, printed, program, python};

/// The password that `redfish_bmc.py` knows.
const PASSWORD: &str = "s3cret \"quoted\"";

/// A controller, and the folder of an agent that asks it.
struct Bmc {
    folder: tempfile::TempDir,
    port: u16,
    controller: Counterpart,
}

/// What a preview says about the power.
struct Power {
    watts: f64,
    /// The entry of provenance that speaks of it.
    told: Value,
    /// What the controller was asked meanwhile.
    asked: Vec<String>,
}

impl Bmc {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        certificates(folder.path());
        write_secret(&at("password"), PASSWORD);
        write_secret(&at("api-key"), "cms_test_counterpart_of_a_controller");
        let port = free_port();
        fs::write(at("plan.json"), plan(472.5, "", 0)).unwrap();
        let mut command = python("redfish_bmc.py");
        command.arg(port.to_string());
        command.args([at("bmc.pem"), at("bmc.key"), at("plan.json")]);
        let mut controller = Counterpart::start(command, folder.path(), "redfish_bmc");
        controller.until_it_says("ready");
        Self {
            folder,
            port,
            controller,
        }
    }

    /// Changes what the controller does from its next answer on.
    fn plan(&self, plan: &str) {
        // Replaced as a whole: it is read at any time.
        fs::write(self.at("plan.new"), plan).unwrap();
        fs::rename(self.at("plan.new"), self.at("plan.json")).unwrap();
    }

    /// Runs `preview`, with `keys` in the controller's table.
    fn preview(&self, keys: &str) -> Power {
        let login = "user = \"telemetry\"\npassword = { file = \"FOLDER/password\" }";
        let trust = "tls = { ca_file = \"FOLDER/ca.pem\" }";
        self.preview_with(&format!("{login}\n{trust}\n{keys}"))
    }

    fn preview_with(&self, keys: &str) -> Power {
        // The machine that runs the tests may be a guest; the ladder is told that it is not.
        let config = format!(
            "company_id = \"acme-corp\"\n\
             [dashboard]\napi_key = {{ file = \"FOLDER/api-key\" }}\n\
             [store]\npath = \"FOLDER/store\"\n\
             [compute]\nhardware = \"physical\"\n\
             [compute.power]\nsources = [\"redfish\"]\ndefault_watts = 77\n\
             [compute.power.redfish]\nurl = \"https://localhost:{}\"\n{keys}\n",
            self.port
        );
        let folder = self.folder.path().display().to_string();
        let path = self.at("config.toml");
        fs::write(&path, config.replace("FOLDER", &folder)).unwrap();
        let before = self.controller.log().lines().count();
        let path = path.display().to_string();
        let output = program(&["--config", &path, "preview", "ghost-compute", "--json"]);
        let body: Value = serde_json::from_str(&printed(&output)).unwrap();
        let figure = "instance_inventory[].power_draw_watts";
        let entries = body["provenance"].as_array().unwrap();
        let told = entries.iter().find(|entry| entry["figure"] == figure);
        let row = &body["data"]["ghost_compute"]["instance_inventory"][0];
        let log = self.controller.log();
        Power {
            watts: row["power_draw_watts"].as_f64().unwrap(),
            told: told.unwrap().clone(),
            asked: log.lines().skip(before).map(str::to_owned).collect(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Power {
    /// Why the controller was not used.
    fn reason(&self) -> &str {
        assert_eq!(self.watts, 77.0, "{}", self.told);
        assert_eq!(self.told["quality"], "default");
        assert_eq!(self.told["fallback"]["from"], "redfish");
        let reason = self.told["fallback"]["reason"].as_str().unwrap();
        assert!(!reason.contains("localhost"), "{reason}");
        reason
    }

    fn logins(&self) -> usize {
        let is_login = |line: &&String| line.starts_with("POST ");
        self.asked.iter().filter(is_login).count()
    }
}

#[test]
fn the_power_of_the_controller_is_the_power_of_the_machine() {
    let bmc = Bmc::start();
    let power = bmc.preview("");
    assert_eq!(power.watts, 472.5, "{}", power.told);
    assert_eq!(power.told["source"], "redfish/Chassis/1/EnvironmentMetrics");
    assert_eq!(power.told["quality"], "measured");
    assert_eq!(power.told["confidence"], "A");
    let method = power.told["method"].as_str().unwrap();
    assert!(method.starts_with("redfish-env/1 psu_ac"), "{method}");
    // One session, which is ended, and nothing else is written.
    let written: Vec<&String> = power
        .asked
        .iter()
        .filter(|line| !line.starts_with("GET "))
        .collect();
    assert_eq!(
        written,
        [
            "POST /redfish/v1/SessionService/Sessions 201",
            "DELETE /redfish/v1/SessionService/Sessions/1 204"
        ]
    );
    let basic = bmc.preview("login = \"basic\"");
    assert_eq!((basic.watts, basic.logins()), (472.5, 0));
    // The controller's own certificate is as good as its authority.
    let own = "user = \"telemetry\"\npassword = { file = \"FOLDER/password\" }\n\
               tls = { ca_file = \"FOLDER/bmc.pem\" }";
    assert_eq!(bmc.preview_with(own).watts, 472.5);
}

#[test]
fn what_is_wrong_with_a_controller_is_said_and_the_next_source_speaks() {
    let bmc = Bmc::start();
    for (fault, words) in [
        ("off", "is Off, while this machine runs"),
        (
            "null",
            "EnvironmentMetrics: PowerWatts/Reading is null; PowerSubsystem: power supply 1",
        ),
        ("no_power", "no EnvironmentMetrics, PowerSubsystem or Power"),
        ("status_500", "is not answered (HTTP 500"),
        ("html", "it begins with \"<html><title>Web console"),
        ("half", "this is no Redfish resource (EOF"),
        ("endless", "it is longer than 1048576 bytes"),
        ("slow", "did not answer within 8s"),
        ("redirect", "redirects to (address)/login"),
    ] {
        bmc.plan(&plan(472.5, fault, 0));
        let power = bmc.preview("");
        let reason = power.reason();
        assert!(reason.contains(words), "{fault}: {reason}");
    }
    // A sum that lacks a supply is none; the old resource still knows the whole.
    bmc.plan(&plan(480.0, "supply_missing", 0));
    let old = bmc.preview("");
    assert_eq!(
        (old.watts, &old.told["source"]),
        (480.0, &json!("redfish/Chassis/1/Power"))
    );
}

#[test]
fn a_refused_login_is_tried_once() {
    let bmc = Bmc::start();
    write_secret(&bmc.at("password"), "wrong");
    for (keys, logins) in [("", 1), ("login = \"basic\"", 0)] {
        let power = bmc.preview(keys);
        let reason = power.reason();
        assert!(reason.contains("check user and password"), "{reason}");
        assert!(reason.contains("HTTP 401"), "{reason}");
        assert_eq!(power.logins(), logins, "{:?}", power.asked);
        let refused = power.asked.iter().filter(|line| line.ends_with(" 401"));
        assert_eq!(refused.count(), 1, "{:?}", power.asked);
    }
}

#[test]
fn a_certificate_that_nobody_named_is_refused() {
    let bmc = Bmc::start();
    let login = "user = \"telemetry\"\npassword = { file = \"FOLDER/password\" }";
    for trust in ["", "tls = { ca_file = \"FOLDER/other.pem\" }"] {
        let power = bmc.preview_with(&format!("{login}\n{trust}"));
        let reason = power.reason();
        assert!(reason.contains("name it in tls.ca_file"), "{reason}");
        assert_eq!(power.asked, [""; 0], "nothing is said to a stranger");
    }
}

fn plan(watts: f64, fault: &str, expire: u32) -> String {
    json!({"watts": watts, "fault": fault, "expire": expire}).to_string()
}

/// An authority, the controller's certificate and key, and a certificate of nobody here.
fn certificates(folder: &Path) {
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, other) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ours).unwrap();
    for (name, text) in [
        ("ca.pem", ours.pem()),
        ("other.pem", other.pem()),
        ("bmc.pem", certificate.pem()),
        ("bmc.key", key.serialize_pem()),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
}

fn write_secret(path: &Path, secret: &str) {
    fs::write(path, secret).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
