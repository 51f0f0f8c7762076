//! Payloads say what is wrong with a source and not where it is; the owner reads that in `check` and `status`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use serde_json::{Value, json};

use crate::site::{Site, agent, text};

/// Each source has an address of its own on loopback.
const CONTROLLER: Ipv4Addr = Ipv4Addr::new(127, 44, 0, 1);
const STRIP: Ipv4Addr = Ipv4Addr::new(127, 44, 0, 2);
const MONITOR: Ipv4Addr = Ipv4Addr::new(127, 44, 0, 3);
const EXPORTER: Ipv4Addr = Ipv4Addr::new(127, 44, 0, 4);
const METERS: Ipv4Addr = Ipv4Addr::new(127, 44, 0, 5);
const BUCKET: Ipv4Addr = Ipv4Addr::new(127, 44, 0, 6);

const PAGE: &str = "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 100\n\
    node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 10\n\
    node_memory_MemTotal_bytes 1000000\nnode_memory_MemAvailable_bytes 900000\n";

/// A server of one address that answers by the head and body of a request; its port.
fn server(at: Ipv4Addr, answer: fn(&str) -> String) -> u16 {
    let listener = TcpListener::bind((at, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(talk(stream, answer)));
        }
    });
    port
}

fn talk(mut stream: TcpStream, answer: fn(&str) -> String) -> std::io::Result<()> {
    let mut asked = String::new();
    let mut piece = [0; 4096];
    while !asked.contains("\r\n\r\n") || (asked.starts_with("POST") && !asked.contains("timeout="))
    {
        let length = stream.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        asked.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    let body = answer(&asked);
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A monitoring server of which two stores do not answer, as Thanos tells it.
fn monitor(asked: &str) -> String {
    let known = [
        ("min_over_time%28%280", "1"),
        ("max_over_time%28%280%20%2A%20node_boot", "4102444800"),
        ("count_over_time%28node_boot", "2880"),
        ("iowait", "5000000"),
        ("increase%28node_cpu", "5184000"),
        ("last_over_time%28node_cpu", "2"),
        ("node_memory_MemAvailable", "7"),
    ];
    let found = known.into_iter().find(|(part, _)| asked.contains(part));
    let row = |value: &str| json!({ "metric": { "instance": "node-1:9100" }, "value": [0, value] });
    let rows: Vec<_> = found.map(|(_, value)| row(value)).into_iter().collect();
    json!({
        "status": "success", "data": { "resultType": "vector", "result": rows },
        "warnings": ["fetch series from 127.44.0.3:10901 and http://127.44.0.3/store: partial answer"],
    })
    .to_string()
}

fn closed(at: Ipv4Addr) -> u16 {
    TcpListener::bind((at, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// What of a text is an address: a scheme, the name of this host, four numbers with dots. A figure
/// such as 127.74 is none.
fn addresses(text: &str) -> Vec<&str> {
    let named = ["://", "localhost"].into_iter();
    let named = named.filter(|part| text.contains(part));
    let numbers = text.split(|c: char| c != '.' && !c.is_ascii_digit());
    named
        .chain(numbers.filter(|part| part.trim_matches('.').parse::<Ipv4Addr>().is_ok()))
        .collect()
}

#[test]
fn what_is_wrong_travels_and_where_it_is_does_not() {
    let site = Site::new();
    for secret in ["secret", "other"] {
        fs::write(site.path(secret), "s3cret-word").unwrap();
        fs::set_permissions(site.path(secret), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let secret = format!("{{ file = {:?} }}", site.path("secret"));
    let [bmc, strip, meters, bucket] = [CONTROLLER, STRIP, METERS, BUCKET].map(closed);
    let monitor = server(MONITOR, monitor);
    let exporter = server(EXPORTER, |_| PAGE.to_owned());
    let alive = server(METERS, |_| "{\"kw\": 80}".to_owned());
    let config = site.path("agent.toml");
    let toml = fs::read_to_string(&config).unwrap();
    let toml = toml.replacen("[compute]\n", "[compute]\nhardware = \"physical\"\n", 1)
        + &format!(
            "\n[compute.power]\nsources = [\"snmp\", \"redfish\"]\n\
             [compute.power.redfish]\nurl = \"https://{CONTROLLER}:{bmc}\"\n\
             [[compute.power.snmp.feed]]\nhost = \"{STRIP}:{strip}\"\ncommunity = {secret}\n\
             timeout = \"1s\"\nmodel = \"apc-unit\"\n\
             [[compute.prometheus]]\nurl = \"http://{MONITOR}:{monitor}\"\n\
             [[compute.prometheus]]\nkind = \"exporter\"\nurl = \"http://{EXPORTER}:{exporter}\"\n\
             instance_id = \"node-2\"\ninterval = \"1s\"\n\
             [[storage.s3]]\nurl = \"http://{BUCKET}:{bucket}\"\nbucket = \"b\"\n\
             access_key_id = {secret}\nsecret_access_key = {secret}\n\
             [[thermal.http]]\nname = \"dead\"\nurl = \"http://{METERS}:{meters}\"\nwithin = \"1s\"\n\
             [[thermal.http]]\nname = \"alive\"\nurl = \"http://{METERS}:{alive}\"\nwithin = \"1s\"\n\
             [[thermal.source]]\nlocation = \"rack-07\"\nequipment_type = \"gpu_cluster\"\n\
             cooling_method = \"liquid\"\nheat_utilization = \"none\"\n\
             [thermal.source.thermal_output]\nunit_of_measure = \"kW\"\n\
             http = {{ device = \"dead\", path = \"/a\", json = \"/kw\" }}\n\
             [thermal.source.electrical_power]\nunit_of_measure = \"kW\"\n\
             http = {{ device = \"alive\", path = \"/b\", json = \"/kw\" }}\n"
        );
    fs::write(&config, toml).unwrap();

    let mut bodies = Vec::new();
    for category in [
        "ghost-compute",
        "dark-data",
        "heat-recovery",
        "coverage-verification",
    ] {
        let output = agent(&[
            "--config",
            config.to_str().unwrap(),
            "preview",
            category,
            "--json",
        ]);
        let printed = text(&output.stdout);
        let body: Value = serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{category}: {error}: {}", text(&output.stderr)));
        let told = addresses(&printed);
        assert!(told.is_empty(), "{category} tells {told:?}: {printed}");
        bodies.push(body);
    }
    // All the same it says what is wrong, and from which kind of source figures come.
    let said = bodies[0]["provenance"].to_string();
    for words in [
        "\"from\":\"snmp\"",
        "redfish: cannot reach (address)",
        "fetch series from (address) and (address)/store: partial answer",
        "\"source\":\"prometheus\"",
        "\"source\":\"exporter\"",
    ] {
        assert!(said.contains(words), "no {words}: {said}");
    }
    let heat = bodies[2]["provenance"].to_string();
    assert!(heat.contains("\"from\":\"thermal_output\""), "{heat}");

    // The owner reads the addresses.
    let shown = text(&site.agent(&["check", "--offline"]).stdout);
    assert!(addresses(&shown).len() >= 5, "{shown}");
    for (at, port) in [
        (CONTROLLER, bmc),
        (STRIP, strip),
        (BUCKET, bucket),
        (METERS, meters),
    ] {
        assert!(shown.contains(&format!("{at}:{port}")), "{at}: {shown}");
    }
}
