//! SNMP: net-snmp's own agent with versions 2c and 3, a simulated power strip, and a device with the faults that
//! real ones have.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use cms_collectors::snmp::Udp;
use cms_collectors::thermal::bacnet::link::Links;
use cms_collectors::{ALL, Collector, Host};
use cms_spec::reading::{Quantity, Readings, Sample, Value};
use cms_telemetry_agent::transport::web::Outbound;
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::lab::{Counterpart, PATIENCE, free_port, here, installed, printed, program, python};

/// The outlet of a Server Technology strip that stands for all: power in watts, energy in watt-hours.
const POWER: &str = "1.3.6.1.4.1.1718.4.1.8.3.1.7.1.1.1";
const ENERGY: &str = "1.3.6.1.4.1.1718.4.1.8.3.1.14.1.1.1";

/// Files of a test, secrets among them.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn secret(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }
}

/// `probe snmp` with a community.
fn probe(desk: &Desk, port: u16, community: &str, oid: Option<&str>) -> Output {
    let file = desk.secret(&format!("{community}.community"), community);
    let host = format!("127.0.0.1:{port}");
    let mut arguments = vec!["probe", "snmp", &host, "--community-file", &file];
    arguments.extend(oid);
    program(&arguments)
}

/// `probe snmp` as a user of version 3.
fn probe_as(desk: &Desk, port: u16, user: &str, password: &str, key: &str) -> Output {
    let password = desk.secret("v3.password", password);
    let key = desk.secret("v3.key", key);
    program(&[
        "probe",
        "snmp",
        &format!("127.0.0.1:{port}"),
        "--v3-user",
        user,
        "--v3-auth",
        "sha256",
        "--v3-auth-password-file",
        &password,
        "--v3-privacy",
        "aes128",
        "--v3-privacy-password-file",
        &key,
    ])
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "it went well");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// net-snmp's agent, whose sensors are a program of ours.
fn snmpd(desk: &Desk) -> (Counterpart, u16) {
    let port = free_port();
    let folder = desk.path();
    let sensors = |root: &str| {
        let python = installed("python3");
        let script = here().join("snmp_sensors.py");
        format!(
            "pass_persist .{root} {} {} {root}\n",
            python.display(),
            script.display()
        )
    };
    let config = format!(
        "agentaddress udp:127.0.0.1:{port}\n\
         rocommunity public 127.0.0.1\n\
         createUser agent SHA-256 authpass123 AES privpass123\n\
         rouser agent priv\n\
         sysLocation row3 rack07\n\
         extend inlet /bin/echo 24.5\n{}{}",
        sensors("1.3.6.1.2.1.99.1.1.1"),
        sensors("1.3.6.1.2.1.47.1.1.1.1.7")
    );
    fs::write(folder.join("snmpd.conf"), config).unwrap();
    let mut command = Command::new("/usr/sbin/snmpd");
    command
        .args(["-f", "-Lo", "-C", "-c"])
        .arg(folder.join("snmpd.conf"))
        .arg("-p")
        .arg(folder.join("snmpd.pid"))
        .arg(format!("--persistentDir={}", folder.display()))
        .env("MIBS", "");
    let mut running = Counterpart::start(command, folder, "snmpd");
    running.until_it_says("NET-SNMP version");
    (running, port)
}

/// The device with faults; each community is a file that says what it has and does.
struct Device {
    _running: Counterpart,
    port: u16,
    folder: PathBuf,
}

impl Device {
    fn start(desk: &Desk) -> Self {
        let port = free_port();
        let folder = desk.path().join("devices");
        fs::create_dir(&folder).unwrap();
        let mut command = python("snmp_device.py");
        command.arg(port.to_string()).arg(&folder);
        let mut running = Counterpart::start(command, desk.path(), "snmp_device");
        running.until_it_says("listening");
        Self {
            _running: running,
            port,
            folder,
        }
    }

    /// What it answers to a community from now on.
    fn says(&self, community: &str, does: &str, rows: &[(&str, Json)]) {
        let rows: serde_json::Map<String, Json> = rows
            .iter()
            .map(|(oid, row)| ((*oid).to_owned(), row.clone()))
            .collect();
        let file = self.folder.join(format!("{community}.json"));
        let next = self.folder.join("next");
        fs::write(&next, json!({ "rows": rows, "does": does }).to_string()).unwrap();
        fs::rename(next, file).unwrap();
    }
}

#[test]
fn sensors_of_net_snmp_over_version_3_and_2c() {
    let desk = Desk::new();
    let (_snmpd, port) = snmpd(&desk);
    let over_3 = printed(&probe_as(
        &desk,
        port,
        "agent",
        "authpass123",
        "privpass123",
    ));
    for line in [
        "# location: row3 rack07",
        "# sensor 1001 \"inlet\": 24.5 C",
        "# sensor 1002 \"exhaust\": 38.25 C",
        "# sensor 1003 \"gone\": the device says that it is unavailable (status 2)",
        "# sensor 1004 \"broken\": the device says that it is broken (nonoperational, status 3)",
        "# sensor 1005 \"rack power\": 3180 W",
    ] {
        assert!(over_3.contains(line), "{line} is not in {over_3}");
    }
    assert!(
        over_3.contains("v3 = { user = \"agent\", auth = \"sha256\"")
            && over_3.contains("entity = 1001"),
        "{over_3}"
    );
    assert!(!over_3.contains("authpass123"), "{over_3}");

    let over_2c = printed(&probe(&desk, port, "public", None));
    assert!(
        over_2c.contains("24.5 C") && over_2c.contains("forged on the way"),
        "{over_2c}"
    );

    // What `extend` prints comes as text.
    let extended = printed(&probe(
        &desk,
        port,
        "public",
        Some("1.3.6.1.4.1.8072.1.3.2.3.1.1"),
    ));
    assert!(
        extended.contains(".5.105.110.108.101.116 = 24.5"),
        "{extended}"
    );
}

#[test]
fn a_wrong_login_says_what_to_check() {
    let desk = Desk::new();
    let (_snmpd, port) = snmpd(&desk);
    let cases = [
        (
            probe(&desk, port, "privat", None),
            "wrong community, wrong address, or a firewall",
        ),
        (
            probe_as(&desk, port, "agent", "wrongpass123", "privpass123"),
            "v3.auth_password",
        ),
        (
            probe_as(&desk, port, "agent", "authpass123", "wrongpriv123"),
            "privacy_password",
        ),
        (
            probe_as(&desk, port, "nobody", "authpass123", "privpass123"),
            "does not know this user",
        ),
        (
            probe_as(&desk, port, "agent", "short", "privpass123"),
            "at least eight characters",
        ),
    ];
    for (output, words) in cases {
        let refused = refusal(&output);
        assert!(refused.contains(words), "{words} is not in {refused}");
        assert!(
            !refused.contains("pass123") && !refused.contains("privat)"),
            "{refused}"
        );
    }
}

#[test]
fn outlets_of_a_simulated_strip() {
    let desk = Desk::new();
    let folder = desk.path().join("strips");
    fs::create_dir(&folder).unwrap();
    let apc = "1.3.6.1.4.1.318.1.1.26";
    let rows = format!(
        "1.3.6.1.2.1.1.1.0|4|APC rPDU of a test\n\
         {apc}.4.3.1.5.1|2|81\n\
         {apc}.4.3.1.9.1|2|1234567\n\
         {apc}.9.4.3.1.3.1|4|db01\n\
         {apc}.9.4.3.1.3.2|4|spare\n\
         {apc}.9.4.3.1.7.1|2|212\n\
         {apc}.9.4.3.1.7.2|2|-1\n\
         {apc}.9.4.3.1.11.1|2|51\n\
         {apc}.9.4.3.1.11.2|2|0\n"
    );
    fs::write(folder.join("pdu.snmprec"), rows).unwrap();
    // It answers in the middle of our third and last attempt.
    let slow = "1.3.6.1.2.1.1.1.0|4:delay|value=slow box,wait=4500,deviation=0\n";
    fs::write(folder.join("slow.snmprec"), slow).unwrap();
    let port = free_port();
    let mut command = Command::new(installed("snmpsim-command-responder"));
    command
        .arg(format!("--data-dir={}", folder.display()))
        .arg(format!(
            "--cache-dir={}",
            desk.path().join("cache").display()
        ))
        .arg(format!("--agent-udpv4-endpoint=127.0.0.1:{port}"))
        // It refuses to be root, and as another user it may not read the folder.
        .args([
            "--process-user=root",
            "--process-group=root",
            "--logging-method=stdout",
        ]);
    let mut running = Counterpart::start(command, desk.path(), "snmpsim");
    running.until_it_says("Listening at UDP/IPv4");

    let found = printed(&probe(&desk, port, "pdu", None));
    for line in [
        "# description: APC rPDU of a test",
        "# apc-outlet outlet 1 \"db01\": 212 W, 5.1 kWh in steps of 0.1 kWh",
        "# apc-outlet outlet 2 \"spare\": its power",
        "# apc-unit unit 1: 810 W, 123456.7 kWh in steps of 0.1 kWh",
        "[[compute.power.snmp.feed]]",
        "model = \"apc-outlet\"\noutlet = 1\n",
    ] {
        assert!(found.contains(line), "{line} is not in {found}");
    }
    let slow = printed(&probe(&desk, port, "slow", Some("1.3.6.1.2.1.1.1.0")));
    assert!(slow.contains("slow box"), "{slow}");
}

#[test]
fn devices_with_faults() {
    let desk = Desk::new();
    let device = Device::start(&desk);
    let names: Vec<String> = (1..=30).map(|row| format!("1.3.6.1.9.1.{row}")).collect();
    let rows: Vec<(&str, Json)> = names
        .iter()
        .map(|name| (name.as_str(), json!(["integer", 7])))
        .collect();
    let found = |does: &str| {
        let community = does.replace(' ', "-");
        device.says(&community, does, &rows);
        probe(&desk, device.port, &community, Some("1.3.6.1.9"))
    };
    for does in ["refuses bulk", "ignores bulk", "is small"] {
        let told = printed(&found(does));
        assert_eq!(told.matches(" = 7 (integer)").count(), 30, "{does}: {told}");
    }
    for (does, words) in [
        ("loops", "goes in circles"),
        ("leaves out", "leaves out 1.3.6.1.2.1.1.6.0"),
        ("cuts", "no answer"),
    ] {
        let refused = refusal(&found(does));
        assert!(refused.contains(words), "{does}: {refused}");
    }
}

/// The collector of this machine with an outlet for its power, on a machine made of files.
struct Machine {
    collector: Box<dyn Collector>,
    uptime: PathBuf,
    begun: std::time::Instant,
}

impl Machine {
    /// Must be called on a runtime, because outlets are asked in tasks.
    fn start(desk: &Desk, feeds: &str) -> Self {
        let proc = desk.path().join("proc");
        fs::create_dir(&proc).unwrap();
        fs::write(
            proc.join("stat"),
            "cpu 100 0 100 1000 0 0 0 0 0 0\ncpu0 100 0 100 1000 0 0 0 0 0 0\nbtime 1767600000\n",
        )
        .unwrap();
        fs::write(
            proc.join("meminfo"),
            "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n",
        )
        .unwrap();
        fs::write(
            proc.join("cpuinfo"),
            "processor : 0\nmodel name : A Processor\nphysical id : 0\nflags : fpu\n",
        )
        .unwrap();
        let uptime = proc.join("uptime");
        fs::write(&uptime, "1000.00 0.00\n").unwrap();
        let registration = ALL.iter().find(|one| one.id == "compute/host").unwrap();
        let text = format!("power.snmp.interval = \"10s\"\n{feeds}");
        let table = DeTable::parse(&text).unwrap();
        let span = table.span();
        let value = Spanned::new(span, DeValue::Table(table.into_inner()));
        let settings = (registration.parse)(ValueDeserializer::from(value)).unwrap();
        let host = Host {
            proc,
            sys: desk.path().join("sys"),
            dev: desk.path().join("dev"),
            instance: "host:counterpart".parse().unwrap(),
            region: "here".to_owned(),
            web: Arc::new(Outbound),
            snmp: Arc::new(Udp),
            links: Links::default(),
        };
        Self {
            collector: settings.open(&host).unwrap(),
            uptime,
            begun: std::time::Instant::now(),
        }
    }

    /// Its energy in microjoules, over how long in milliseconds, and what is said about the source.
    async fn tick(&mut self) -> Option<(u64, u64, Sample)> {
        let seconds = 1_000.0 + self.begun.elapsed().as_secs_f64();
        fs::write(&self.uptime, format!("{seconds:.2} 0.00\n")).unwrap();
        let mut readings = Readings::default();
        let at: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
        self.collector.collect(at, &mut readings).await.unwrap();
        let sample = readings.stamp("compute/host", at, "boot");
        let energy = sample
            .readings
            .iter()
            .find(|one| one.quantity == Quantity::EnergyUj)?;
        let Value::Amount { amount, over_ms } = energy.value else {
            panic!("energy is an amount: {energy:?}");
        };
        Some((amount, over_ms, sample.clone()))
    }

    /// Ticks until its energy is as wanted; `before_each` makes the world go on.
    async fn until(
        &mut self,
        mut before_each: impl FnMut(),
        wanted: impl Fn(&str) -> bool,
    ) -> (u64, u64, String) {
        let end = self.begun.elapsed() + PATIENCE;
        loop {
            before_each();
            if let Some((energy, over, sample)) = self.tick().await {
                let told = serde_json::to_string(&sample.origins).unwrap();
                if wanted(&told) {
                    return (energy, over, told);
                }
            }
            assert!(self.begun.elapsed() < end, "waited in vain");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn feed(port: u16, community: &str) -> String {
    format!(
        "[[power.snmp.feed]]\nhost = \"127.0.0.1:{port}\"\ncommunity = {{ file = {community:?} }}\n\
         model = \"servertech-outlet\"\noutlet = 1\n"
    )
}

#[test]
fn two_feeds_make_one_machine_and_half_of_it_is_nothing() {
    const WATT_HOUR_UJ: u64 = 3_600_000_000;
    let desk = Desk::new();
    let device = Device::start(&desk);
    let says = |community: &str, watts: i32, watt_hours: i32| {
        let rows = [
            (POWER, json!(["integer", watts])),
            (ENERGY, json!(["integer", watt_hours])),
        ];
        device.says(community, "", &rows);
    };
    let watt_hours = std::cell::Cell::new(1_000);
    let goes_on = || {
        watt_hours.set(watt_hours.get() + 1);
        says("feed-a", 150, watt_hours.get());
    };
    goes_on();
    says("feed-b", 50, 2_000);
    let [a, b] = ["feed-a", "feed-b"].map(|community| desk.secret(community, community));
    runtime().block_on(async {
        let feeds = feed(device.port, &a) + &feed(device.port, &b);
        let mut machine = Machine::start(&desk, &feeds);
        let by_outlets = |told: &str| told.contains("snmp/servertech-outlet");
        let (energy, over, told) = machine.until(goes_on, by_outlets).await;
        assert!(
            energy > 0 && energy % WATT_HOUR_UJ == 0,
            "what the counter says: {energy}"
        );
        assert!(
            over > 0 && told.contains("\"confidence\":\"A\""),
            "{over} {told}"
        );
        assert!(told.contains("snmp/1 v2c outlet_ac energy"), "{told}");

        // A counter that is reset is a new beginning: what comes is what it says since then.
        watt_hours.set(0);
        let (energy, _, _) = machine.until(goes_on, by_outlets).await;
        let most = u64::try_from(watt_hours.get()).unwrap() * WATT_HOUR_UJ;
        assert!(energy <= most, "{energy} of {most}");

        // One feed is silent: the next rung speaks, and says why.
        fs::remove_file(device.folder.join("feed-b.json")).unwrap();
        let by_another = |told: &str| !told.contains("snmp/servertech-outlet");
        let (_, _, told) = machine.until(goes_on, by_another).await;
        assert!(
            told.contains("\"fallback\"") && told.contains("did not answer"),
            "{told}"
        );
    });
}

#[test]
fn heat_of_a_rack_by_sensors_and_objects() {
    let desk = Desk::new();
    let (_snmpd, port) = snmpd(&desk);
    let config = |exhaust: &str| {
        let source = "[[thermal.source]]\nlocation = \"rack-07\"\nequipment_type = \"gpu_cluster\"\n\
                      cooling_method = \"air\"\nheat_utilization = \"office_space_heating\"\n";
        let v3 = format!(
            "{{ user = \"agent\", auth = \"sha256\", auth_password = {{ file = {:?} }}, \
             privacy = \"aes128\", privacy_password = {{ file = {:?} }} }}",
            desk.secret("v3.password", "authpass123"),
            desk.secret("v3.key", "privpass123")
        );
        let folder = desk.path().display().to_string();
        let key = desk.secret("api-key", "cms_test_counterpart_of_a_rack");
        let text = format!(
            "company_id = \"acme-corp\"\nstatus.socket = \"{folder}/status.sock\"\n\
             [dashboard]\napi_key = {{ file = \"{key}\" }}\nendpoint = \"https://127.0.0.1:1/api/v1\"\n\
             [store]\npath = \"{folder}/store\"\nkey = {{ file = \"{folder}/store.key\" }}\n\
             [thermal]\ninterval = \"5s\"\n\
             [[thermal.snmp]]\nname = \"rack\"\nhost = \"127.0.0.1:{port}\"\nv3 = {v3}\n\
             {source}\
             [thermal.source.electrical_power]\nsnmp = {{ device = \"rack\", entity = \"rack power\" }}\n\
             [thermal.source.exhaust_temp]\nsnmp = {{ device = \"rack\", {exhaust} }}\n\
             [thermal.source.heat_captured]\nsnmp = {{ device = \"rack\", scale = 0.1, \
             oid = \"1.3.6.1.4.1.8072.1.3.2.3.1.1.5.105.110.108.101.116\" }}\nunit_of_measure = \"kW\"\n"
        );
        let path = desk.path().join("config.toml");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let path = config("entity = 1002");
    let output = program(&["--config", &path, "preview", "heat-recovery", "--json"]);
    let body: Json = serde_json::from_str(&printed(&output)).unwrap();
    let row = &body["data"]["heat_recovery"]["thermal_sources"][0];
    // 318 of precision 2 and scale kilo are 3,180 W; 38,250 of scale milli are 38.25 C; "24.5" times 0.1 are 2.45 kW.
    assert_eq!(row["thermal_output_kw"], 3.2, "{row}");
    assert_eq!(row["exhaust_temp_celsius"], 38.3, "{row}");
    assert_eq!(row["heat_captured_kw"], 2.5, "{row}");

    let path = config("entity = \"broken\"");
    let output = program(&["--config", &path, "check", "--offline", "--json"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.contains("rack-07 exhaust_temp") && told.contains("nonoperational"),
        "{told}"
    );
    assert!(told.contains("rack-07 electrical_power: 3180 W"), "{told}");
}
