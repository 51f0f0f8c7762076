//! Meters that speak Modbus, over TCP, RTU on a serial line, and RTU over TCP, with the faults of the field: no value is
//! ever wrong, and each missing one has its reason.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use cms_collectors::{ALL, Collector, Host};
use cms_spec::reading::Readings;
use cms_telemetry_agent::transport::web::Outbound;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::lab::{Counterpart, free_port, printed, program, python, wait_until};

/// Points of good units: their tables, and what their lines begin with.
const GOOD: [(&str, &str); 17] = [
    (
        "unit = 1, holding = 0, type = 'int16', scale = 0.1",
        "24.6 ",
    ),
    ("unit = 1, input = 0, type = 'int16', scale = 0.1", "24.6 "),
    (
        "unit = 1, holding = 1, type = 'int16', scale = 0.1, offset = 1",
        "-11.3 ",
    ),
    (
        "unit = 1, holding = 40002, paper = true, type = 'int16'",
        "-123 ",
    ),
    (
        "unit = 1, holding = 2, one_based = true, type = 'uint16'",
        "65413 ",
    ),
    ("unit = 1, holding = 10, type = 'float32'", "8123.5 "),
    (
        "unit = 1, holding = 12, type = 'float32', order = 'CDAB'",
        "8123.5 ",
    ),
    (
        "unit = 1, holding = 14, type = 'float32', order = 'BADC'",
        "8123.5 ",
    ),
    (
        "unit = 1, holding = 16, type = 'float32', order = 'DCBA'",
        "8123.5 ",
    ),
    ("unit = 1, input = 20, type = 'uint32'", "305419896 "),
    ("unit = 1, holding = 24, type = 'uint64'", "5000000000000 "),
    ("unit = 1, holding = 30, type = 'bcd32'", "12345678 "),
    (
        "unit = 1, holding = 20, type = 'bits', bit = 4, width = 8",
        "35 ",
    ),
    ("unit = 1, coil = 2", "1 "),
    ("unit = 1, discrete = 3", "0 "),
    ("unit = 1, holding = 44, type = 'int16'", "44 "),
    ("unit = 1, holding = 46, type = 'int16'", "46 "),
];

/// Points that are missing on every way, and words of their reasons.
const MISSING: [(&str, &str); 8] = [
    (
        "unit = 1, holding = 45, type = 'int16'",
        "holding 45: exception 2, it has no such address",
    ),
    (
        "unit = 1, holding = 22, type = 'float32'",
        "the device says not-a-number",
    ),
    (
        "unit = 3, holding = 0, type = 'int16'",
        "unit 3 did not answer within 400ms: check its number, power and wiring",
    ),
    (
        "unit = 5, holding = 0, type = 'int16'",
        "a reply to another question came",
    ),
    ("unit = 6, holding = 0, type = 'uint32'", "unit 6 sent "),
    (
        "unit = 8, holding = 0, type = 'int16'",
        "the reply of unit 8 came garbled",
    ),
    (
        "unit = 9, holding = 0, type = 'int16'",
        "exception 11, the gateway got no answer from it",
    ),
    (
        "unit = 11, holding = 0, type = 'int16'",
        "unit 11 did not answer within 400ms",
    ),
];

/// A server of ours, and whatever it stands behind.
pub(crate) struct Meters {
    _running: Vec<Counterpart>,
    pub(crate) url: String,
    folder: TempDir,
}

impl Meters {
    pub(crate) fn over(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let start = |place: &str| {
            let mut command = python("modbus_server.py");
            command.args([kind, place]);
            let mut server = Counterpart::start(command, folder.path(), "modbus_server");
            server.until_it_says("ready");
            server
        };
        if kind != "rtu" {
            let server = start(&port.to_string());
            return Self {
                _running: vec![server],
                url: format!("{kind}://127.0.0.1:{port}"),
                folder,
            };
        }
        let (theirs, ours) = (folder.path().join("theirs"), folder.path().join("ours"));
        let end = |path: &Path| format!("pty,raw,echo=0,link={}", path.display());
        let mut socat = Command::new("socat");
        socat.args([end(&theirs), end(&ours)]);
        let line = Counterpart::start(socat, folder.path(), "socat");
        wait_until("both ends of the serial line", || {
            theirs.exists() && ours.exists()
        });
        let server = start(&theirs.display().to_string());
        Self {
            _running: vec![line, server],
            url: format!("rtu://{}?baud=19200", ours.display()),
            folder,
        }
    }

    /// The collector with these points, and a source that is always there.
    fn opened(&self, points: &[&str]) -> Opened {
        let url = &self.url;
        let mut text = format!(
            "[[modbus]]\nname = 'm'\nurl = '{url}'\ntimeout = '400ms'\n\
             [[source]]\nlocation = 'rack'\nequipment_type = 'gpu'\ncooling_method = 'liquid'\n\
             heat_utilization = 'none'\n[source.thermal_output]\nmodbus = {{ device = 'm', holding = 10, \
             type = 'float32' }}\nunit_of_measure = 'W'\n"
        );
        for (number, point) in points.iter().enumerate() {
            text += &format!("[points.p{number}]\nmodbus = {{ device = 'm', {point} }}\n");
        }
        Opened::of(&text)
    }
}

/// The collector, and the runtime that its devices live on.
struct Opened {
    runtime: Runtime,
    collector: Box<dyn Collector>,
    begun: Instant,
}

impl Opened {
    fn of(text: &str) -> Self {
        let registration = ALL.iter().find(|one| one.table == "thermal").unwrap();
        let table = DeTable::parse(text).unwrap();
        let value = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
        let settings = (registration.parse)(ValueDeserializer::from(value));
        let settings = settings.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let instance = "host:counterpart".parse().unwrap();
        let host = Host::local(instance, "here".to_owned(), Arc::new(Outbound));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let collector = {
            let _inside = runtime.enter();
            settings.open(&host).unwrap()
        };
        Self {
            runtime,
            collector,
            begun: Instant::now(),
        }
    }

    /// What `status` says about the points, after rounds until this holds.
    fn until(&mut self, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        wait_until(what, || {
            lines = self.round();
            holds(&lines)
        });
        lines
    }

    fn round(&mut self) -> Vec<String> {
        // Time goes a hundred times faster, so that who is left alone for a while has its turn again.
        let passed = self.begun.elapsed().as_millis() / 10;
        let passed = SignedDuration::from_secs(i64::try_from(passed).unwrap());
        let at: Timestamp = "2026-01-16T12:00:00Z".parse().unwrap();
        let mut out = Readings::default();
        let _failed = self
            .runtime
            .block_on(self.collector.collect(at + passed, &mut out));
        self.collector.details()
    }
}

/// The line of the point with this number.
fn line_of(lines: &[String], number: usize) -> &str {
    let begin = format!("p{number}: ");
    lines
        .iter()
        .find_map(|line| line.strip_prefix(&begin))
        .unwrap_or_else(|| panic!("no line of p{number}: {lines:#?}"))
}

fn all_types_and_faults(meters: &Meters) {
    let points: Vec<&str> = GOOD
        .iter()
        .chain(&MISSING)
        .map(|(point, _)| *point)
        .collect();
    let mut opened = meters.opened(&points);
    let known = |lines: &[String]| {
        !lines
            .iter()
            .any(|line| line.contains("has not answered yet"))
    };
    let lines = opened.until("every unit to be asked", known);
    for (number, (point, begin)) in GOOD.iter().enumerate() {
        let line = line_of(&lines, number);
        assert!(line.starts_with(begin), "{point}: {line}");
    }
    for (number, (point, words)) in (GOOD.len()..).zip(&MISSING) {
        let line = line_of(&lines, number);
        assert!(
            line.starts_with("missing: ") && line.contains(words),
            "{point}: {line}"
        );
    }
}

#[test]
fn meters_over_tcp() {
    let meters = Meters::over("tcp");
    all_types_and_faults(&meters);
    // A device that hangs up after each reply, one that is busy at first, and a slow one: all are read.
    let points = [
        "unit = 7, holding = 0, type = 'int16'",
        "unit = 7, holding = 10, type = 'float32'",
        "unit = 7, holding = 60, type = 'int16'",
        "unit = 10, holding = 0, type = 'int16'",
        "unit = 2, holding = 0, type = 'int16'",
    ];
    let mut opened = meters.opened(&points);
    let lines = opened.until("all of them", |lines| {
        !lines.iter().any(|l| l.contains("missing"))
    });
    let begins: Vec<&str> = (0..5)
        .map(|at| line_of(&lines, at).split(' ').next().unwrap())
        .collect();
    assert_eq!(begins, ["252", "8123.5", "60", "255", "247"]);
}

#[test]
fn meters_on_a_serial_line() {
    all_types_and_faults(&Meters::over("rtu"));
}

#[test]
fn meters_behind_a_simple_gateway() {
    all_types_and_faults(&Meters::over("rtu+tcp"));
}

#[test]
fn a_device_that_answers_too_late_never_says_a_wrong_value() {
    for kind in ["tcp", "rtu", "rtu+tcp"] {
        let meters = Meters::over(kind);
        // Unit 4 gives each reply when the next question comes; all of its values have one length.
        let points: Vec<String> = (0..6)
            .map(|at| format!("unit = 4, holding = {}, type = 'int16'", 60 + 2 * at))
            .collect();
        let points: Vec<&str> = points.iter().map(String::as_str).collect();
        let mut opened = meters.opened(&points);
        let mut rounds = 0;
        opened.until("ten rounds", |lines| {
            for at in 0..points.len() {
                let right = format!("{} ", 60 + 2 * at);
                let line = line_of(lines, at);
                assert!(
                    line.starts_with("missing: ") || line.starts_with(&right),
                    "{kind}: {line}"
                );
            }
            assert!(
                lines
                    .iter()
                    .any(|line| line.starts_with("rack thermal_output: 8123.5 W"))
            );
            true
        });
        while rounds < 10 {
            for (at, line) in opened
                .round()
                .iter()
                .filter(|line| line.starts_with('p'))
                .enumerate()
            {
                let right = format!("p{at}: {} ", 60 + 2 * at);
                let missing = format!("p{at}: missing: ");
                assert!(
                    line.starts_with(&missing) || line.starts_with(&right),
                    "{kind}: {line}"
                );
            }
            rounds += 1;
        }
    }
}

#[test]
fn a_probe_shows_what_a_meter_holds() {
    let meters = Meters::over("tcp");
    let url = meters.url.as_str();
    let look = printed(&program(&[
        "probe", "modbus", url, "--unit", "1", "--scan", "0..100", "--kind", "holding", "--expect",
        "8123.5",
    ]));
    for words in [
        "unit 1: 49 of 100 holding registers are there",
        "#   not there: holding 45\n",
        "plausible: holding 10 float32 ABCD = 8123.5 (as expected)",
        "plausible: holding 12 float32 CDAB = 8123.5 (as expected)",
        "plausible: holding 16 float32 DCBA = 8123.5 (as expected)",
        "plausible: holding 0 int16 = 246 x 0.1 = 24.6 (a temperature?)",
        "modbus = { device = \"meter-1\", holding = 10, type = \"float32\", order = \"ABCD\" }",
    ] {
        assert!(look.contains(words), "{words}\n{look}");
    }
    // What it prints is a configuration.
    let table = look.split_once("\n\n").unwrap().1.replace("thermal.", "");
    let mut opened = Opened::of(&table);
    let lines = opened.until("its points", |lines| {
        !lines.iter().any(|l| l.contains("has not answered"))
    });
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("holding_10: 8123.5 ")),
        "{lines:#?}"
    );

    let units = printed(&program(&[
        "probe",
        "modbus",
        url,
        "--units",
        "1..4",
        "--timeout",
        "1500",
    ]));
    assert!(
        units.contains("# unit 1 answers\n# unit 2 answers\n"),
        "{units}"
    );
    assert!(
        units.contains("1 units are not there; the first, 3: unit 3 did not answer"),
        "{units}"
    );

    let nobody = program(&[
        "probe",
        "modbus",
        url,
        "--unit",
        "3",
        "--kind",
        "input",
        "--timeout",
        "200",
    ]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("unit 3 did not answer within 200ms"));
}

#[test]
fn a_configuration_of_telegraf_is_taken_over() {
    let meters = Meters::over("tcp");
    let file = meters.folder.path().join("telegraf.conf");
    let telegraf = format!(
        r#"
        [[inputs.modbus]]
          name = "meter"
          controller = "{}"
          configuration_type = "metric"
          [[inputs.modbus.metric]]
            slave_id = 1
            byte_order = "CDAB"
            fields = [
              {{ register = "input", address = 12, name = "power", type = "FLOAT32", scale = 0.001 }},
              {{ register = "coil", address = 1, name = "pump" }},
            ]
            [inputs.modbus.metric.tags]
              rack = "7"
        "#,
        meters.url
    );
    fs::write(&file, telegraf).unwrap();
    let taken = printed(&program(&[
        "probe",
        "modbus",
        "--import",
        &file.display().to_string(),
    ]));
    assert!(taken.starts_with("# 2 points of "), "{taken}");
    assert!(
        taken.contains("# meter: metric 1: the tags { rack = \"7\" } have no counterpart\n"),
        "{taken}"
    );
    let table = taken.split_once("\n\n").unwrap().1.replace("thermal.", "");
    let mut opened = Opened::of(&table);
    let lines = opened.until("its points", |lines| {
        !lines.iter().any(|l| l.contains("has not answered"))
    });
    assert!(
        lines.iter().any(|line| line.starts_with("power: 8.124 ")),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("pump: 0 ")),
        "{lines:#?}"
    );
}
