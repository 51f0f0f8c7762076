//! BACnet/IP devices of bacpypes3: found, read, subscribed to, and understood when they are broken.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::lab::{Counterpart, PROGRAM, printed, program, python, wait_until};

/// The devices of `bacnet_devices.py`, on a port of their own.
pub(crate) struct Building {
    devices: Counterpart,
    folder: TempDir,
    pub(crate) port: u16,
}

impl Building {
    pub(crate) fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let orders = folder.path().join("orders");
        fs::write(&orders, "").unwrap();
        let mut command = python("bacnet_devices.py");
        command.arg(port.to_string()).arg(&orders);
        let mut devices = Counterpart::start(command, folder.path(), "bacnet");
        devices.until_it_says("ready");
        Self {
            devices,
            folder,
            port,
        }
    }

    fn orders(&self) -> PathBuf {
        self.folder.path().join("orders")
    }

    /// Has something changed, and waits until it is.
    pub(crate) fn order(&mut self, order: &str) {
        let mut file = OpenOptions::new().append(true).open(self.orders()).unwrap();
        writeln!(file, "{order}").unwrap();
        self.devices.until_it_says(&format!("done: {order}"));
    }

    fn probe(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        let common = [
            "probe",
            "bacnet",
            "--interface",
            "127.0.0.1/8",
            "--port",
            &port,
        ];
        printed(&program(&[&common[..], arguments].concat()))
    }

    /// How often a line was printed that begins so.
    fn count(&self, line: &str) -> usize {
        self.devices
            .log()
            .lines()
            .filter(|one| one.starts_with(line))
            .count()
    }
}

/// An agent that reads the building, every five seconds; `tables` come below `[thermal]`.
struct Agent {
    process: Counterpart,
    config: String,
}

impl Agent {
    fn start(building: &Building, tables: &str) -> Self {
        let folder = building.folder.path();
        let text = format!(
            "company_id = \"acme-corp\"\n\
             dashboard = {{ endpoint = \"https://127.0.0.1:9\", api_key = {{ file = \"FOLDER/api-key\" }} }}\n\
             status = {{ socket = \"FOLDER/status.sock\" }}\n\
             store.path = \"FOLDER/store\"\n\
             [thermal]\ninterval = \"5s\"\n{tables}"
        );
        let text = text
            .replace("FOLDER", &folder.display().to_string())
            .replace(
                "LINK",
                &format!("interface = \"127.0.0.1/8\"\nport = {}", building.port),
            );
        let config = folder.join("config.toml");
        fs::write(&config, text).unwrap();
        let key = folder.join("api-key");
        fs::write(&key, "cms_test_counterpart_of_a_building").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let config = config.display().to_string();
        let mut command = Command::new(PROGRAM);
        command.args(["--config", &config, "run"]);
        let process = Counterpart::start(command, folder, "agent");
        Self { process, config }
    }

    /// What `status` says about a point, once it says this.
    fn until(&self, point: &str, says: &str) -> String {
        let mut found = String::new();
        wait_until(&format!("{point} to say {says:?}"), || {
            let output = program(&["--config", &self.config, "status"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let begins = format!("{point}: ");
            let line = text
                .lines()
                .map(str::trim)
                .find(|line| line.starts_with(&begins));
            found = line.unwrap_or_default().to_owned();
            let _running = self.process.pid();
            found.contains(says)
        });
        found
    }
}

fn line<'a>(text: &'a str, with: &str) -> &'a str {
    text.lines()
        .find(|line| line.contains(with))
        .unwrap_or_else(|| panic!("nothing about {with:?} in {text}"))
}

#[test]
fn devices_are_found_wherever_they_are_and_however_they_announce_themselves() {
    let building = Building::open();
    let text = building.probe(&[]);
    for (instance, place, name) in [
        (1001, "127.0.0.2", "crac, Loopback, bench"),
        (1002, "127.0.0.3", "gateway"),
        (1003, "127.0.0.4", "simple"),
        (1004, "127.0.0.5", "answers no questions"),
        (1005, "127.0.0.6", "noisy"),
        (1008, "127.0.0.8", "bbmd"),
        (
            2012,
            "station 12 on network 2001 behind 127.0.0.7",
            "mstp-12",
        ),
    ] {
        let found = line(&text, &format!("device {instance} at "));
        assert!(found.contains(place) && found.contains(name), "{found}");
    }
    assert!(text.contains("# 7 devices\n"), "{text}");
}

#[test]
fn objects_of_a_device_are_shown_with_their_faults_and_the_good_ones_suggested() {
    let building = Building::open();
    let text = building.probe(&["--device", "1001"]);
    for (name, shown) in [
        ("CRAC1_SUPPLY_T", "18.4 degrees-celsius"),
        ("CRAC1_RETURN_T", "80.6 degrees-fahrenheit"),
        ("PDU1_KW", "42.75 kilowatts"),
        ("CHW_FLOW", "12.5 liters-per-second"),
        ("NAN_T", "no usable number"),
        ("BROKEN_T", "open loop: the sensor's wire is broken"),
        ("OOS_T", "out of service"),
        ("HAND_T", "overridden by hand"),
        ("UNSURE_T", "unreliable for another reason"),
        ("RATIO", "1.38 no units"),
        ("HEAT_MWH", "1234.567891 megawatt-hours"),
        ("HEAT_WH", "987654321 watt-hours"),
        ("PULSES", "4711 kilowatt-hours"),
        ("PUMP_ON", " 1"),
    ] {
        let found = line(&text, &format!(" {name} "));
        assert!(found.contains(shown), "{found}");
    }
    let table = text.split_once("[[thermal.bacnet]]").unwrap().1;
    for suggested in [
        "crac1_supply_t",
        "crac1_return_t",
        "pdu1_kw",
        "heat_mwh",
        "chw_flow",
    ] {
        assert!(
            table.contains(&format!("[thermal.points.{suggested}]")),
            "{table}"
        );
    }
    for broken in ["nan_t", "broken_t", "oos_t", "hand_t", "unsure_t", "ratio"] {
        assert!(!table.contains(&format!("points.{broken}]")), "{table}");
    }
    assert!(building.count("1001 asked ReadPropertyMultiple") > 0);
}

#[test]
fn four_hundred_objects_come_in_segments_and_none_is_lost() {
    let building = Building::open();
    let text = building.probe(&["--device", "1002"]);
    assert!(text.contains("401 objects, 400 with a value"), "{text}");
    for at in 1..=400 {
        let found = line(&text, &format!(" RACK_{at:03}_T "));
        let value = f64::from(at) / 4.0;
        assert!(
            found.contains(&format!(" {value} degrees-celsius")),
            "{found}"
        );
    }
    // The whole list with one question, although it is longer than a message of the device.
    assert_eq!(building.count("1002 asked ReadPropertyRequest"), 1);
}

#[test]
fn devices_that_are_old_noisy_or_far_away_are_read_as_well() {
    let building = Building::open();
    let simple = building.probe(&["--device", "1003"]);
    assert!(
        simple.contains("asked for one property at a time"),
        "{simple}"
    );
    assert!(line(&simple, "SIMPLE_T").contains("24.25 degrees-celsius"));
    let noisy = building.probe(&["--device", "1005"]);
    assert!(line(&noisy, "NOISY_T").contains("19.75 degrees-celsius"));
    let far = building.probe(&["--device", "2012"]);
    assert!(line(&far, "FIELD_T").contains("31.5 degrees-celsius"));
    let known = building.probe(&["--device", "1003", "--address", "127.0.0.4"]);
    assert!(line(&known, "SIMPLE_T").contains("24.25 degrees-celsius"));
}

#[test]
fn what_cannot_be_reached_is_told_with_what_to_do() {
    let building = Building::open();
    let port = building.port.to_string();
    let failed = |arguments: &[&str]| {
        let common = [
            "probe",
            "bacnet",
            "--interface",
            "127.0.0.1/8",
            "--port",
            &port,
        ];
        let output = program(&[&common[..], arguments].concat());
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let nobody = failed(&["--device", "4711"]);
    assert!(
        nobody.contains("no device 4711 answers") && nobody.contains("`bbmd`"),
        "{nobody}"
    );
    let deaf = failed(&["--device", "1004"]);
    assert!(deaf.contains("no answer from 127.0.0.5"), "{deaf}");
    let another = failed(&["--device", "1001", "--address", "127.0.0.4"]);
    assert!(another.contains("is not 1001"), "{another}");
    let usage = failed(&["--device", "4194303"]);
    assert!(usage.contains("4194303 is not in 0..=4194302"), "{usage}");
}

#[test]
fn a_broadcast_device_passes_the_search_on() {
    let building = Building::open();
    let port = building.port.to_string();
    // From a network of its own, where nobody hears a broadcast.
    let output = program(&[
        "probe",
        "bacnet",
        "--interface",
        "127.0.0.1/32",
        "--port",
        &port,
        "--bbmd",
        "127.0.0.8",
        "--device",
        "1001",
    ]);
    let text = printed(&output);
    assert!(
        line(&text, "CRAC1_SUPPLY_T").contains("18.4 degrees-celsius"),
        "{text}"
    );
    assert!(
        building.count("1008 registers 127.0.0.1") > 0,
        "{}",
        building.devices.log()
    );
}

#[test]
fn the_agent_reads_every_device_and_says_why_a_value_is_missing() {
    let mut building = Building::open();
    let source = "[[thermal.source]]\nlocation = \"rack-07\"\nequipment_type = \"gpu_cluster\"\n\
                  cooling_method = \"liquid\"\nheat_utilization = \"none\"\n\
                  thermal_output = { bacnet = { device = \"crac\", object = \"AI3\" } }\n";
    let mut tables = String::from(source);
    for (name, instance) in [
        ("crac", 1001),
        ("gateway", 1002),
        ("simple", 1003),
        ("deaf", 1004),
        ("noisy", 1005),
        ("far", 2012),
        ("nobody", 4711),
    ] {
        tables.push_str(&format!(
            "[[thermal.bacnet]]\nname = \"{name}\"\ninstance = {instance}\ntimeout = \"1s\"\nretries = 1\nLINK\n"
        ));
    }
    let points = [
        (
            "supply",
            "crac",
            "object = \"analog-input,1\"",
            "supply: 18.4 C, ",
        ),
        (
            "back",
            "crac",
            "object_name = \"CRAC1_RETURN_T\"",
            "back: 80.6 F, ",
        ),
        ("flow", "crac", "object = \"AI4\"", "flow: 12.5 l/s, "),
        (
            "energy",
            "crac",
            "object = \"large-analog-value,1\"",
            "energy: 1234.568 MWh, ",
        ),
        (
            "counter",
            "crac",
            "object = \"positive-integer-value,1\"",
            "counter: 987654321 Wh, ",
        ),
        (
            "pulses",
            "crac",
            "object = \"accumulator,1\"",
            "pulses: 4711 kWh, ",
        ),
        (
            "nan",
            "crac",
            "object = \"AI5\"",
            "missing: the device answers no usable number",
        ),
        (
            "broken",
            "crac",
            "object = \"AI6\"",
            "missing: the device says that the value is not reliable: open loop",
        ),
        (
            "oos",
            "crac",
            "object = \"AI7\"",
            "missing: the object is out of service",
        ),
        (
            "hand",
            "crac",
            "object = \"AI8\"",
            "missing: the value is overridden by hand",
        ),
        (
            "unsure",
            "crac",
            "object = \"AI9\"",
            "unreliable for another reason (reliability 7)",
        ),
        (
            "gone",
            "crac",
            "object = \"AI77\"",
            "missing: the device has no analog-input,77",
        ),
        (
            "unnamed",
            "crac",
            "object_name = \"NO_SUCH\"",
            "is called \"NO_SUCH\"",
        ),
        (
            "rack",
            "gateway",
            "object_name = \"RACK_123_T\"",
            "rack: 30.75 C, ",
        ),
        ("simple", "simple", "object = \"AI1\"", "simple: 24.25 C, "),
        ("noisy", "noisy", "object = \"AI1\"", "noisy: 19.75 C, "),
        ("far", "far", "object = \"AI1\"", "far: 31.5 C, "),
        (
            "deaf",
            "deaf",
            "object = \"AI1\"",
            "no answer from 127.0.0.5",
        ),
        (
            "nobody",
            "nobody",
            "object = \"AI1\"",
            "no device 4711 answers on the network",
        ),
    ];
    for (point, device, object, _) in points {
        tables.push_str(&format!(
            "[thermal.points.{point}]\nbacnet = {{ device = \"{device}\", {object} }}\n"
        ));
    }
    let agent = Agent::start(&building, &tables);
    for (point, _, _, says) in points {
        agent.until(point, says);
    }
    agent.until("rack-07 thermal_output", "42.75 kW");

    // One device dies: what it measured is missing, and nothing else.
    building.order("silence 1001");
    let lost = agent.until("supply", "missing: ");
    assert!(lost.contains("no answer from 127.0.0.2"), "{lost}");
    agent.until("rack", "30.75 C, 0 s old");
    building.order("speak 1001");
    agent.until("supply", "18.4 C");
}

#[test]
fn changes_come_by_themselves_and_subscriptions_are_renewed() {
    let mut building = Building::open();
    let device = |name: &str, instance: u32| {
        format!(
            "[[thermal.bacnet]]\nname = \"{name}\"\ninstance = {instance}\ncov = \"10s\"\nLINK\n\
             [thermal.points.{name}]\nbacnet = {{ device = \"{name}\", object = \"AI1\" }}\n"
        )
    };
    let source = "[[thermal.source]]\nlocation = \"rack-07\"\nequipment_type = \"gpu_cluster\"\n\
                  cooling_method = \"liquid\"\nheat_utilization = \"none\"\n\
                  thermal_output = { formula = \"crac\", unit_of_measure = \"kW\" }\n";
    let agent = Agent::start(
        &building,
        &format!("{source}{}{}", device("crac", 1001), device("simple", 1003)),
    );
    agent.until("crac", "18.4 C");
    building.order("set 1001 analog-input,1 presentValue 23.5");
    agent.until("crac", "23.5 C");
    wait_until("three renewals", || {
        building.count("1001 asked SubscribeCOVRequest analog-input,1 10") > 3
    });
    building.order("set 1001 analog-input,1 presentValue 24.5");
    agent.until("crac", "24.5 C");
    // It is asked once for each renewal, and in no other round.
    let asked = building.count("1001 asked ReadPropertyMultipleRequest");
    let renewed = building.count("1001 asked SubscribeCOVRequest");
    assert!(
        asked <= renewed + 1,
        "{asked} questions, {renewed} renewals"
    );
    // bacpypes3 does not tell of a fault by itself; the question after a renewal finds it.
    building.order("set 1001 analog-input,1 reliability openLoop");
    let broken = agent.until("crac", "missing: ");
    assert!(broken.contains("open loop"), "{broken}");
    // A device without subscriptions is polled.
    agent.until("simple", "24.25 C");
    assert!(building.count("1003 asked SubscribeCOVRequest") <= 2);
}
