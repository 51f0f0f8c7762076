//! One rack whose meters speak four protocols, an agent that submits its heat, and devices that die one after the other.

use std::fs;

use cms_telemetry_agent::store::Snapshot;
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::lab::wait_until;
use crate::read_over_bacnet::Building;
use crate::read_over_modbus::Meters;
use crate::site::{Site, text};
use crate::thermal_over_rest::Bms;

/// What the figures must be, by hand.
///
/// The meter says 7.2 m3/h, 40.2 °C supply and 30.5 °C return, with the flow sensor in the return. Water at 30.5 °C weighs
/// 998.6 - 10.5/20 x 6.0 = 995.45 kg/m3; at the mean of 35.35 °C it holds 4.181 - 15.35/20 x 0.004 = 4.17793 kJ/(kg K).
/// 7.2 x 995.45 / 3600 = 1.9909 kg/s; x 4.17793 x 9.7 K = 80.683 kW.
/// The air leaves the rack with 80.6 °F = (80.6 - 32) / 1.8 = 27.0 °C. The off-taker's meter says 61.5 kW.
const OUTPUT_KW: f64 = 80.7;
const EXHAUST_C: f64 = 27.0;
const CAPTURED_KW: f64 = 61.5;

/// The rack draws so much, by its sensor on MQTT.
const POWER: &str = "{\"kw\": 83.25}\n";

/// Devices, and the agent that reads them.
struct Rack {
    meters: Option<Meters>,
    building: Building,
    broker: Broker,
    bms: Bms,
    _folder: tempfile::TempDir,
    site: Site,
}

impl Rack {
    fn set_up() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = json!({ "/api/delivered": { "body": "{\"kw\": 61.5}" } });
        let rack = Self {
            meters: Some(Meters::over("tcp")),
            building: Building::open(),
            broker: Broker::start(folder.path(), "tlsv1.3"),
            bms: Bms::start(&plan),
            _folder: folder,
            site: Site::new(),
        };
        let power = POWER.as_bytes();
        rack.broker
            .publish("dc1/rack07/power", power, &["-r", "-q", "1"]);
        let path = rack.site.path("agent.toml");
        let text = fs::read_to_string(&path).unwrap();
        let faster = text.replace(
            "ghost_compute = ",
            "heat_recovery = \"5s\"\nghost_compute = ",
        );
        assert_ne!(text, faster);
        fs::write(&path, format!("{faster}\n{}", rack.thermal())).unwrap();
        rack
    }

    fn thermal(&self) -> String {
        format!(
            "[thermal]\ninterval = \"5s\"\n\
             [[thermal.modbus]]\nname = \"meter\"\nurl = \"{}\"\ntimeout = \"500ms\"\n\
             [[thermal.bacnet]]\nname = \"crac\"\ninstance = 1001\ninterface = \"127.0.0.1/8\"\nport = {}\n\
             {}\
             [[thermal.http]]\nname = \"office\"\nurl = \"https://localhost:{}/api\"\nwithin = \"1s\"\n\
             bearer_token = {{ file = \"{}\" }}\ntls = {{ ca_file = \"{}\" }}\n\
             [[thermal.source]]\nlocation = \"rack-07\"\nequipment_type = \"gpu_cluster\"\n\
             cooling_method = \"liquid_to_air_heat_exchanger\"\nheat_utilization = \"office_space_heating\"\n\
             fluid = \"water\"\n\
             flow = {{ modbus = {{ device = \"meter\", holding = 202, type = \"float32\" }}, unit_of_measure = \"l/h\" }}\n\
             supply = {{ modbus = {{ device = \"meter\", holding = 200, type = \"int16\", scale = 0.1 }}, unit_of_measure = \"C\" }}\n\
             return = {{ modbus = {{ device = \"meter\", holding = 201, type = \"int16\", scale = 0.1 }}, unit_of_measure = \"C\" }}\n\
             exhaust_temp = {{ bacnet = {{ device = \"crac\", object = \"analog-input,2\" }} }}\n\
             electrical_power = {{ mqtt = {{ device = \"bms\", topic = \"dc1/rack07/power\", json = \"/kw\", on_change = true }}, unit_of_measure = \"kW\" }}\n\
             heat_captured = {{ http = {{ device = \"office\", path = \"/delivered\", json = \"/kw\" }}, unit_of_measure = \"kW\" }}\n\
             points.supply_air = {{ bacnet = {{ device = \"crac\", object = \"analog-input,1\" }} }}\n",
            self.meters.as_ref().unwrap().url,
            self.building.port,
            self.broker.table(""),
            self.bms.port,
            self.bms.at("token").display(),
            self.bms.at("ca.pem").display(),
        )
    }

    /// The newest heat-recovery submission that the dashboard has accepted, as it was sent.
    fn submitted(&self) -> Option<Value> {
        let taken = self.site.accepted();
        let mut taken = taken
            .iter()
            .filter(|(_, category)| *category == "heat-recovery");
        let ((epoch, index), _) = taken.next_back()?;
        let kept = Snapshot::open(&self.site.path("agent"), &self.site.store_key()).unwrap();
        let body = kept
            .body(epoch.unsigned_abs(), index.unsigned_abs())
            .unwrap();
        Some(serde_json::from_slice(&body?).unwrap())
    }

    /// Waits for a submission of which this holds.
    fn submits(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut newest = Value::Null;
        wait_until(what, || {
            newest = self.submitted().unwrap_or_default();
            holds(&newest)
        });
        newest
    }

    /// What `status` says, once it says all of this.
    fn status_says(&self, parts: &[&str]) -> String {
        let mut told = String::new();
        wait_until(&format!("{parts:?} in status"), || {
            told = text(&self.site.agent(&["status"]).stdout);
            parts.iter().all(|part| told.contains(part))
        });
        told
    }
}

fn row(body: &Value) -> &Value {
    &body["data"]["heat_recovery"]["thermal_sources"][0]
}

/// The entry of a figure's provenance by its method's beginning.
fn provenance<'b>(body: &'b Value, figure: &str, method: &str) -> Option<&'b Value> {
    let entries = body["provenance"].as_array()?;
    entries.iter().find(|entry| {
        entry["figure"] == format!("thermal_sources[].{figure}")
            && entry["method"]
                .as_str()
                .is_some_and(|m| m.starts_with(method))
    })
}

#[test]
fn a_rack_over_four_protocols_by_hand_calculation_and_what_dies_costs_itself_only() {
    let mut rack = Rack::set_up();
    let _dashboard = rack.site.start_dashboard();
    let _agent = rack.site.start_agent();

    let first = rack.submits("all four figures", |body| {
        let row = row(body);
        [
            "thermal_output_kw",
            "exhaust_temp_celsius",
            "heat_captured_kw",
        ]
        .iter()
        .all(|figure| row[figure].is_number())
    });
    let told = row(&first);
    assert_eq!(told["thermal_output_kw"], OUTPUT_KW, "{told}");
    assert_eq!(told["exhaust_temp_celsius"], EXHAUST_C, "{told}");
    assert_eq!(told["heat_captured_kw"], CAPTURED_KW, "{told}");
    assert_eq!(
        told["recovery_efficiency"],
        Value::Null,
        "seconds are no day"
    );
    for (figure, source, method) in [
        ("thermal_output_kw", "modbus", "flow-delta/1 within 8 %"),
        ("exhaust_temp_celsius", "bacnet", "temperature/1"),
        (
            "heat_captured_kw",
            "http",
            "heat-power/1 at the point of use",
        ),
    ] {
        let entry = provenance(&first, figure, method).unwrap_or_else(|| panic!("{first:#}"));
        assert_eq!(entry["source"], source, "{first:#}");
        assert_eq!(entry["quality"], "measured", "{first:#}");
        assert!(entry.get("fallback").is_none(), "{first:#}");
    }
    rack.status_says(&[
        "rack-07 electrical_power: 83.25 kW",
        "rack-07 supply_air: 18.4 C",
    ]);

    // The cooler's controller dies: nobody knows the exhaust any more, everything else goes on.
    rack.building.order("silence 1001");
    let told = rack.status_says(&["rack-07 exhaust_temp: missing: "]);
    let line = |part: &str| {
        told.lines()
            .find(|line| line.contains(part))
            .unwrap_or_default()
    };
    assert!(
        line("rack-07 exhaust_temp: missing").contains("no answer from 127.0.0.2"),
        "{told}"
    );
    for part in [
        "flow: 7200 l/h",
        "supply: 40.2 C",
        "electrical_power: 83.25 kW",
        "heat_captured: 61.5 kW",
    ] {
        assert!(told.contains(&format!("rack-07 {part}")), "{part}: {told}");
    }
    assert!(line("thermal/source").starts_with("degraded"), "{told}");
    let without = rack.submits("the reason in provenance", |body| {
        provenance(body, "exhaust_temp_celsius", "heat-missing/1").is_some()
    });
    let entry = provenance(&without, "exhaust_temp_celsius", "heat-missing/1").unwrap();
    assert_eq!(
        entry["note"], "rack-07: its device does not answer",
        "{entry}"
    );
    assert_eq!(entry["quality"], "unavailable", "{entry}");
    for figure in ["thermal_output_kw", "heat_captured_kw"] {
        assert!(
            provenance(&without, figure, "heat-missing/1").is_none(),
            "{without:#}"
        );
    }
    assert_eq!(row(&without)["thermal_output_kw"], OUTPUT_KW);
    assert_eq!(row(&without)["heat_captured_kw"], CAPTURED_KW);

    // The heat meter dies: the rack's electricity speaks for it, as an estimate that says why.
    rack.meters = None;
    let estimated = rack.submits("the fallback", |body| {
        provenance(body, "thermal_output_kw", "electrical-power/1").is_some()
    });
    let entry = provenance(&estimated, "thermal_output_kw", "electrical-power/1").unwrap();
    assert_eq!(entry["quality"], "estimated", "{entry}");
    assert_eq!(entry["source"], "mqtt", "{entry}");
    assert_eq!(
        entry["fallback"],
        json!({ "from": "flow, supply and return", "reason": "its device does not answer" })
    );
    assert_eq!(row(&estimated)["heat_captured_kw"], CAPTURED_KW);

    // A look that has never seen the dead devices has nothing to say for them, and all of the others.
    let kept = fs::read_to_string(rack.site.path("agent.toml")).unwrap();
    let fresh = rack.site.path("fresh.toml");
    let elsewhere = rack.site.path("nowhere").display().to_string();
    let store = rack.site.path("agent").display().to_string();
    fs::write(
        &fresh,
        kept.replace(
            &format!("path = \"{store}\""),
            &format!("path = \"{elsewhere}\""),
        ),
    )
    .unwrap();
    let preview = crate::lab::program(&[
        "--config",
        fresh.to_str().unwrap(),
        "preview",
        "heat-recovery",
        "--json",
    ]);
    let body: Value = serde_json::from_slice(&preview.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&preview.stderr)));
    assert_eq!(row(&body)["thermal_output_kw"], 83.3, "{body:#}");
    assert_eq!(row(&body)["heat_captured_kw"], CAPTURED_KW, "{body:#}");
    assert_eq!(row(&body)["exhaust_temp_celsius"], Value::Null, "{body:#}");
    let note =
        provenance(&body, "exhaust_temp_celsius", "heat-missing/1").map(|entry| &entry["note"]);
    assert!(note.is_some(), "{body:#}");
}
