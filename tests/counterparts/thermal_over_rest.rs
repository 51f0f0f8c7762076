//! Heat of a rack whose meters a building management system publishes over REST, with and without faults.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use super::lab::{Counterpart, PROGRAM, free_port, printed, program, python, wait_until};

/// The token that `rest_meter.py` knows.
const TOKEN: &str = "s3cret-of-the-bms";

const SOURCE: &str = "[[thermal.source]]\nlocation = \"rack-07\"\nequipment_type = \"gpu_cluster\"\n\
                      cooling_method = \"liquid\"\nheat_utilization = \"office_space_heating\"\n";

/// The server, and the folder of an agent that asks it.
pub(crate) struct Bms {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    server: Counterpart,
}

impl Bms {
    pub(crate) fn start(plan: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        certificates(folder.path());
        write_secret(&at("token"), TOKEN);
        write_secret(&at("api-key"), "cms_test_counterpart_of_a_bms");
        let port = free_port();
        fs::write(at("plan.json"), plan.to_string()).unwrap();
        let mut command = python("rest_meter.py");
        command.arg(port.to_string());
        command.args([at("bms.pem"), at("bms.key"), at("plan.json")]);
        let mut server = Counterpart::start(command, folder.path(), "rest_meter");
        server.until_it_says("ready");
        Self {
            folder,
            port,
            server,
        }
    }

    /// Writes the configuration, with `{bms}` as a named device.
    fn configure(&self, thermal: &str) -> String {
        let folder = self.folder.path().display().to_string();
        let head = format!(
            "company_id = \"acme-corp\"\n\
             status.socket = \"FOLDER/status.sock\"\n\
             [dashboard]\napi_key = {{ file = \"FOLDER/api-key\" }}\nendpoint = \"https://127.0.0.1:1/api/v1\"\n\
             [store]\npath = \"FOLDER/store\"\nkey = {{ file = \"FOLDER/store.key\" }}\n\
             [thermal]\ninterval = \"5s\"\n\
             [[thermal.http]]\nname = \"bms\"\nurl = \"https://localhost:{}/api\"\nwithin = \"1s\"\n\
             bearer_token = {{ file = \"FOLDER/token\" }}\ntls = {{ ca_file = \"FOLDER/ca.pem\" }}\n",
            self.port
        );
        let path = self.at("config.toml");
        fs::write(&path, format!("{head}{thermal}").replace("FOLDER", &folder)).unwrap();
        path.display().to_string()
    }

    /// What `check` finds about heat, with its hints and lines.
    fn check(&self, thermal: &str) -> String {
        let path = self.configure(thermal);
        let output = program(&["--config", &path, "check", "--offline", "--json"]);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = document["checks"].as_array().unwrap();
        let found = checks
            .iter()
            .find(|check| check["what"] == "thermal/source");
        found.unwrap().to_string()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("bms.pem", certificate.pem()),
        ("bms.key", key.serialize_pem()),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
}

fn write_secret(path: &Path, secret: &str) {
    fs::write(path, secret).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn point(name: &str, path: &str, rest: &str, unit: &str) -> String {
    format!(
        "[thermal.source.{name}]\nhttp = {{ device = \"bms\", path = \"{path}\"{rest} }}\nunit_of_measure = \"{unit}\"\n"
    )
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_payload_by_hand_calculation() {
    let bms = Bms::start(&json!({
        "/api/loops/7": { "body": "{\"flow\": 10, \"t\": {\"supply\": 400, \"return\": 300}}", "etag": "\"1\"" },
        "/api/used": { "body": "61.5\n", "type": "text/plain" },
    }));
    let thermal = [
        format!("{SOURCE}fluid = \"water\"\nflow_nominal = 10\n"),
        point("flow", "/loops/7", ", json = \"/flow\"", "m3/h"),
        point(
            "supply",
            "/loops/7",
            ", json = \"$.t.supply\", scale = 0.1",
            "C",
        ),
        point(
            "return",
            "/loops/7",
            ", json = \"$.t['return']\", scale = 0.1",
            "C",
        ),
        point(
            "exhaust_temp",
            "/loops/7",
            ", json = \"/t/supply\", scale = 0.1",
            "C",
        ),
        point("heat_captured", "/used", "", "kW"),
    ];
    let path = bms.configure(&thermal.concat());
    let output = program(&["--config", &path, "preview", "heat-recovery", "--json"]);
    let body: Value = serde_json::from_str(&printed(&output)).unwrap();
    let row = &body["data"]["heat_recovery"]["thermal_sources"][0];
    // 10 m3/h of 995.6 kg/m3 x 4.178 kJ/(kg K) x 10 K / 3600 s = 115.5 kW.
    assert_eq!(row["thermal_output_kw"], 115.5, "{row}");
    assert_eq!(row["exhaust_temp_celsius"], 40, "{row}");
    assert_eq!(row["heat_captured_kw"], 61.5, "{row}");
    assert_eq!(
        row["recovery_efficiency"],
        Value::Null,
        "a second is no day: {row}"
    );
    let told = body["provenance"].as_array().unwrap();
    let method = |figure: &str| {
        let of = told.iter().find(|entry| entry["figure"] == figure);
        let of = of.unwrap_or_else(|| panic!("{figure} in {told:?}"));
        (
            of["source"].clone(),
            of["method"].clone(),
            of["quality"].clone(),
        )
    };
    assert_eq!(
        method("thermal_sources[].thermal_output_kw"),
        (
            json!("http"),
            json!("flow-delta/1 within 5 %"),
            json!("measured")
        )
    );
    assert_eq!(
        method("thermal_sources[].heat_captured_kw"),
        (
            json!("http"),
            json!("heat-power/1 at the point of use"),
            json!("measured")
        )
    );
    assert!(
        told.iter().all(|entry| entry["figure"] != "exempt"),
        "{told:?}"
    );
    // One question for all points of a path, and the second was answered with "not modified".
    let log = bms.server.log();
    let asked: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("/loops/7"))
        .collect();
    assert_eq!(
        asked,
        ["GET /api/loops/7 200", "GET /api/loops/7 304"],
        "{log}"
    );
    let (status, other) = (bms.server.pid(), log.contains("POST"));
    assert!(status > 0 && !other, "nothing is written: {log}");
}

#[test]
fn each_fault_costs_its_own_point_and_says_what_it_is() {
    let fault = |answer: Value| {
        let mut plan = json!({ "/api/good": { "body": "85.3", "type": "text/plain" } });
        plan["/api/bad"] = answer;
        plan
    };
    let bms = Bms::start(&fault(json!({ "body": "{\"v\": 41.5}" })));
    let thermal = [
        SOURCE.to_owned(),
        point(
            "exhaust_temp",
            "/bad",
            ", json = \"/v\", time = \"/ts\"",
            "C",
        ),
        point("thermal_output", "/good", "", "kW"),
    ]
    .concat();
    let untimed = thermal.replace(", time = \"/ts\"", "");
    for (answer, thermal, part) in [
        (
            json!({ "body": "{\"v\": 41.5}" }),
            &untimed,
            "rack-07 exhaust_temp: 41.5 C, 0 s old",
        ),
        (
            json!({ "body": "{\"v\": \"41.5\"}" }),
            &untimed,
            "rack-07 exhaust_temp: 41.5 C, 0 s old",
        ),
        (
            json!({ "body": "{\"v\": 41.5}", "delay_s": 3 }),
            &untimed,
            "did not answer within 1s",
        ),
        (
            json!({ "body": "<html>please log in</html>", "type": "text/html" }),
            &untimed,
            "it answers a web page, not JSON",
        ),
        (
            json!({ "body": "{\"v\": NaN}" }),
            &untimed,
            "its answer is no JSON",
        ),
        (
            json!({ "body": "{\"v\": \"NaN\"}" }),
            &untimed,
            "/v is NaN: the device has no value",
        ),
        (
            json!({ "body": "{\"v\": null}" }),
            &untimed,
            "/v is null: the device has no value",
        ),
        (
            json!({ "body": "{\"v\": \"41,5\"}" }),
            &untimed,
            "this is not a number",
        ),
        (
            json!({ "body": "{\"w\": 1}" }),
            &untimed,
            "there is no \\\"v\\\"; there are: w",
        ),
        (
            json!({ "body": "{\"v\": 4150}" }),
            &untimed,
            "is no temperature of a circuit or of exhaust",
        ),
        (json!({ "body": "{}", "status": 503 }), &untimed, "HTTP 503"),
        (
            json!({ "body": "{}", "status": 401, "open": true }),
            &untimed,
            "the server refuses the login",
        ),
        (
            json!({ "body": "x", "repeat": 2_000_000 }),
            &untimed,
            "it is longer than 1048576 bytes",
        ),
        (json!(null), &untimed, "HTTP 404: no such point"),
        (
            json!({ "body": "{\"v\": 41.5, \"ts\": \"2020-01-01T00:00:00Z\"}" }),
            &thermal,
            "its source has stopped",
        ),
        (
            json!({ "body": "{\"v\": 41.5}" }),
            &thermal,
            "there is no \\\"ts\\\"",
        ),
        (
            json!({ "body": "{\"v\": 41.5, \"ts\": \"2090-01-01T00:00:00Z\"}" }),
            &thermal,
            "in the future: check its clock",
        ),
    ] {
        fs::write(bms.at("plan.json"), fault(answer.clone()).to_string()).unwrap();
        let found = bms.check(thermal);
        assert!(found.contains(part), "{answer}: {part} in {found}");
        assert!(
            found.contains("rack-07 thermal_output: 85.3 kW"),
            "{answer}: {found}"
        );
        assert!(!found.contains(TOKEN), "{found}");
    }
}

#[test]
fn a_wrong_login_and_a_foreign_authority_are_told() {
    let bms = Bms::start(&json!({ "/api/v": { "body": "85.3", "type": "text/plain" } }));
    let thermal = format!("{SOURCE}{}", point("thermal_output", "/v", "", "kW"));
    write_secret(&bms.at("token"), "another");
    assert!(bms.check(&thermal).contains("the server refuses the login"));
    write_secret(&bms.at("token"), TOKEN);
    certificates(bms.folder.path());
    assert!(bms.check(&thermal).contains("name it in tls.ca_file"));
}

#[test]
fn probe_suggests_points_that_can_be_read() {
    let document = json!({ "at": "2026-01-05T10:00:00Z", "points": [
        { "id": "HM1", "power_kw": 85.3 }, { "id": "T1", "temp": 41.5 }
    ] });
    let bms = Bms::start(&json!({ "/api/points?site=1": { "body": document.to_string() } }));
    let (url, token) = (
        format!("https://localhost:{}/api", bms.port),
        bms.at("token"),
    );
    let ca = bms.at("ca.pem");
    let output = program(&[
        "probe",
        "http",
        &url,
        "--path",
        "/points?site=1",
        "--bearer-token-file",
        &token.display().to_string(),
        "--ca-file",
        &ca.display().to_string(),
    ]);
    let said = printed(&output);
    assert!(
        said.contains("# $.points[?@.id=='HM1'].power_kw = 85.3, perhaps kW"),
        "{said}"
    );
    assert!(said.contains("# $.at is a time"), "{said}");
    let table: toml::Table = said.parse().unwrap();
    let points = table["thermal"]["source"]["points"].as_table().unwrap();
    assert_eq!(
        points["t1_temp"]["unit_of_measure"].as_str(),
        Some("C"),
        "{said}"
    );
    assert!(!said.contains(TOKEN), "{said}");
}

#[test]
fn commissioning_compares_a_point_with_a_display() {
    let bms = Bms::start(&json!({ "/api/v": { "body": "85.3", "type": "text/plain" } }));
    let path = bms.configure(&format!(
        "{SOURCE}{}",
        point("thermal_output", "/v", "", "kW")
    ));
    let compare = |expected: &str| {
        let name = "rack-07 thermal_output";
        program(&[
            "--config", &path, "check", "--point", name, "--expect", expected,
        ])
    };
    let wrong = compare("853");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        text(&wrong).contains("it would agree with scale = 10"),
        "{}",
        text(&wrong)
    );
    let alone = compare("85.2");
    let said = printed(&alone);
    assert!(
        said.contains("reads 85.3 kW, expected 85.2: 0.12 % off, within 0.5 %"),
        "{said}"
    );
    assert!(
        said.contains("it is not noted, because no agent answers"),
        "{said}"
    );
    let unknown = program(&[
        "--config", &path, "check", "--point", "rack-08", "--expect", "1",
    ]);
    assert!(
        text(&unknown).contains("there are: rack-07 thermal_output"),
        "{}",
        text(&unknown)
    );

    let mut run = Command::new(PROGRAM);
    run.args(["--config", &path, "run"]);
    let agent = Counterpart::start(run, bms.folder.path(), "agent");
    wait_until("the agent's control socket", || {
        bms.at("status.control").exists()
    });
    wait_until("the agent to note what was compared", || {
        let said = text(&compare("85.2"));
        said.contains("the agent has noted it in its ledger")
    });
    wait_until("the comparison in status", || {
        let status = text(&program(&["--config", &path, "status"]));
        let line = status
            .lines()
            .find(|line| line.contains("rack-07 thermal_output: 85.3 kW"));
        line.is_some_and(|line| {
            line.contains(" s old, measured, http ")
                && line.contains("; compared with its display 20")
                && line.ends_with(": 0.12 % off")
        })
    });
    drop(agent);
}

/// A preview of one source that gives off and delivers so much, with more keys of the source.
fn previewed(output_kw: &str, more: &str) -> Value {
    let body = format!("{{\"out\": {output_kw}, \"used\": 30}}");
    let bms = Bms::start(&json!({ "/api/m": { "body": body } }));
    let thermal = [
        format!("{SOURCE}{more}"),
        point("thermal_output", "/m", ", json = \"/out\"", "kW"),
        point("heat_captured", "/m", ", json = \"/used\"", "kW"),
    ];
    let path = bms.configure(&thermal.concat());
    let output = program(&["--config", &path, "preview", "heat-recovery", "--json"]);
    serde_json::from_str(&printed(&output)).unwrap()
}

/// What provenance says about an exemption.
fn exemption(body: &Value) -> Option<(String, Value)> {
    let told = body["provenance"].as_array().unwrap();
    let entry = told.iter().find(|entry| entry["figure"] == "exempt")?;
    let words = entry.get("note").or(entry.get("value")).unwrap();
    Some((words.as_str().unwrap().to_owned(), entry["method"].clone()))
}

#[test]
fn small_sites_and_seasons_are_exempt_and_say_so() {
    let small = previewed("49.9", "");
    let told = exemption(&small);
    assert_eq!(
        told,
        Some(("below_50kw".to_owned(), json!("heat-exemption/1"))),
        "{small:#}"
    );
    let row = &small["data"]["heat_recovery"]["thermal_sources"][0];
    assert_eq!(
        (&row["thermal_output_kw"], &row["heat_captured_kw"]),
        (&json!(49.9), &json!(30))
    );
    assert_eq!(exemption(&previewed("50", "")), None);

    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let season = |from: &str, to: &str| {
        format!(
            "exemption = {{ reason = \"no heating in summer\", from = \"{from}\", to = \"{to}\" }}\n"
        )
    };
    let summer = previewed("120", &season(&today, "2099-12-31"));
    let told = exemption(&summer).unwrap_or_else(|| panic!("{summer:#}"));
    assert!(
        told.0.starts_with("seasonal: ") && told.0.contains("no heating in summer"),
        "{summer:#}"
    );
    assert_eq!(
        exemption(&previewed("120", &season("2020-05-01", "2020-09-30"))),
        None
    );
}

#[test]
fn a_dated_value_that_was_read_once_is_in_a_preview() {
    let now = jiff::Timestamp::now();
    let body = format!("{{\"v\": 85.3, \"ts\": \"{now}\"}}");
    let bms = Bms::start(&json!({ "/api/m": { "body": body } }));
    let thermal = [
        SOURCE.to_owned(),
        point(
            "thermal_output",
            "/m",
            ", json = \"/v\", time = \"/ts\"",
            "kW",
        ),
    ];
    let path = bms.configure(&thermal.concat());
    let output = program(&["--config", &path, "preview", "heat-recovery", "--json"]);
    let body: Value = serde_json::from_str(&printed(&output)).unwrap();
    let row = &body["data"]["heat_recovery"]["thermal_sources"][0];
    assert_eq!(row["thermal_output_kw"], 85.3, "{row}");
    let said = text(&output);
    assert!(
        said.contains("note: rack-07: thermal output was read once"),
        "{said}"
    );
}
