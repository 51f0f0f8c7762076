//! Probing a simulated device, and taking over configurations of Telegraf.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use super::import::{Import, ImportError, import};
use super::scan::range;
use super::*;
use crate::thermal::modbus::register::Numbering;
use crate::thermal::modbus::simulated::{Act, Bench};

fn wish(units: &[u8]) -> Wish {
    Wish {
        endpoint: "tcp://bench".parse().unwrap(),
        tls: None,
        units: units.to_vec(),
        units_only: false,
        kinds: vec![Kind::Holding],
        range: 0..40,
        limits: Limits::default(),
        manner: Manner {
            timeout: Duration::from_millis(60),
            pause: Duration::ZERO,
        },
        expect: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_is_shown_with_tables_that_are_ready() {
    let bench = Bench::new(false, |asked| {
        let is_there = asked.first >= 10 && asked.first + asked.count <= 14;
        if is_there {
            Act::Answer
        } else {
            Act::Exception(2)
        }
    });
    let said = Mutex::new(Vec::new());
    let say = |line| said.lock().unwrap().push(line);
    let look = look(&wish(&[1]), Arc::clone(&bench) as Arc<_>, &say)
        .await
        .unwrap();
    let found = look.found.join("\n");
    assert!(
        found.starts_with("unit 1: 4 of 40 holding registers are there"),
        "{found}"
    );
    assert!(
        found.contains("  not there: holding 0 to 9\n  not there: holding 14 to 39\n"),
        "{found}"
    );
    assert!(
        found.contains("     10  0x03f2  int16 1010  uint16 1010"),
        "{found}"
    );
    assert!(
        found.contains("  plausible: holding 10 int16 = 1010"),
        "{found}"
    );
    assert!(look.table.starts_with(
        "[[thermal.modbus]]\nname = \"meter-1\"\nurl = \"tcp://bench:502\"\nunit = 1\n"
    ));
    assert!(
        look.table
            .contains("modbus = { device = \"meter-1\", holding = 10, type = \"int16\" }")
    );
    let _table: toml::Table = look.table.parse().unwrap();
    assert!(
        said.lock()
            .unwrap()
            .iter()
            .any(|line| line.contains("4 registers found"))
    );
    assert!(
        bench
            .seen()
            .iter()
            .all(|asked| (1..=4).contains(&asked.function))
    );
}

#[tokio::test(start_paused = true)]
async fn units_are_found() {
    let bench = Bench::new(false, |asked| match asked.unit {
        2 => Act::Answer,
        4 => Act::Exception(2),
        _ => Act::Exception(11),
    });
    let wish = Wish {
        units_only: true,
        ..wish(&[1, 2, 3, 4])
    };
    let look = look(&wish, bench, &|_| {}).await.unwrap();
    assert_eq!(look.found[0], "unit 2 answers");
    assert!(look.found[1].starts_with("unit 4 is there: unit 4, holding 0: exception 2"));
    assert!(
        look.found[2]
            .starts_with("2 units are not there; the first, 1: unit 1, holding 0: exception 11")
    );
    assert!(look.table.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_device_that_says_nothing_is_a_fault() {
    let bench = Bench::new(false, |_| Act::Nothing);
    let fault = look(&wish(&[1]), bench, &|_| {}).await.unwrap_err();
    assert!(matches!(fault, Fault::Silent { unit: 1, .. }));
}

#[test]
fn ranges_are_half_open() {
    assert_eq!(range("0..100"), Ok(0..100));
    assert_eq!(range("4"), Ok(4..5));
    assert_eq!(range("0..65536"), Ok(0..65_536));
    for wrong in ["", "5..5", "9..1", "0..65537", "a..b", "1-5", "-1..5"] {
        assert!(
            range(wrong).unwrap_err().contains("write 0..100"),
            "{wrong}"
        );
    }
}

fn taken(text: &str) -> Import {
    let import = import(text).unwrap();
    let _table: toml::Table = import
        .table
        .parse()
        .unwrap_or_else(|e| panic!("{e}\n{}", import.table));
    import
}

#[test]
fn the_style_register_is_taken_over() {
    let import = taken(
        r#"
        [[inputs.modbus]]
          name = "Heat meter"
          slave_id = 3
          timeout = "2s"
          controller = "tcp://10.0.0.7:502"
          configuration_type = "register"
          debug_connection = false
          coils = [{ name = "pump", address = [4] }]
          holding_registers = [
            { name = "power", byte_order = "CDAB", data_type = "FLOAT32-IEEE", scale = 1.0, address = [10, 11] },
            { name = "energy", byte_order = "ABCD", data_type = "UFIXED", scale = 0.001, address = [5, 6] },
            { name = "status", byte_order = "AB", data_type = "BIT", bit = 3, address = [20] },
            { name = "firmware", byte_order = "AB", data_type = "STRING", address = [30, 31] },
            { name = "torn", byte_order = "ABCD", data_type = "INT32", scale = 1.0, address = [40, 42] },
            { name = "late", byte_order = "ABCDEFGH", data_type = "INT64", scale = 1.0, address = [65533, 65534, 65535, 65536] },
          ]
          [inputs.modbus.workarounds]
            pause_between_requests = "50ms"
            max_word_registers_per_request = 64
            close_connection_after_gather = true
            read_coils_starting_at_zero = true
        "#,
    );
    assert_eq!(import.points, 4);
    assert_eq!(
        import.table,
        r#"[[thermal.modbus]]
name = "Heat meter"
url = "tcp://10.0.0.7:502"
unit = 3
timeout = "2s"
pause = "50ms"
max_registers = 64

[thermal.points.pump]
modbus = { device = "Heat meter", coil = 4 }
# unit_of_measure = ""  # Telegraf does not say it

[thermal.points.power]
modbus = { device = "Heat meter", holding = 10, type = "float32", order = "CDAB" }
# unit_of_measure = ""  # Telegraf does not say it

[thermal.points.energy]
modbus = { device = "Heat meter", holding = 5, type = "uint32" }
scale = 0.001
# unit_of_measure = ""  # Telegraf does not say it

[thermal.points.status]
modbus = { device = "Heat meter", holding = 20, type = "bits", bit = 3, width = 1 }
# unit_of_measure = ""  # Telegraf does not say it

"#
    );
    let notes = import.notes.join("\n");
    for words in [
        "Heat meter: firmware: a text is no point; `probe modbus` shows texts; left out",
        "Heat meter: torn: it has no address, or several that do not follow each other; left out",
        "Heat meter: late: 4 registers from address 65533 on end beyond 65535",
        "Heat meter: close_connection_after_gather has no counterpart",
        "Heat meter: workarounds: `read_coils_starting_at_zero = true` is not taken over",
        "Heat meter: `debug_connection = false` is not taken over",
    ] {
        assert!(notes.contains(words), "{words}\n{notes}");
    }
    assert_eq!(import.notes.len(), 6, "{notes}");
}

#[test]
fn the_style_request_is_taken_over() {
    let import = taken(
        r#"
        [[inputs.modbus]]
          name = "gateway"
          controller = "file:///dev/ttyUSB0"
          baud_rate = 19200
          parity = "E"
          configuration_type = "request"
          [[inputs.modbus.request]]
            slave_id = 1
            byte_order = "DCBA"
            register = "input"
            optimization = "max_insert"
            optimization_max_register_fill = 8
            measurement = "rack"
            fields = [
              { address = 0, name = "t", type = "INT16", scale = 0.1, output = "FLOAT64" },
              { address = 1, name = "gap", type = "INT16", omit = true },
              { address = 2, name = "half", type = "FLOAT16" },
            ]
            [inputs.modbus.request.tags]
              row = "3"
          [[inputs.modbus.request]]
            slave_id = 2
            register = "coil"
            fields = [ { address = 0, name = "on" } ]
        "#,
    );
    assert_eq!(import.points, 2);
    assert!(import.table.contains(
        "name = \"gateway unit 1\"\nurl = \"rtu:///dev/ttyUSB0?baud=19200&parity=even\"\nunit = 1\nmax_gap = 8\n"
    ));
    assert!(import.table.contains(
        "[thermal.points.rack_t]\nmodbus = { device = \"gateway unit 1\", input = 0, type = \"int16\", order = \"DCBA\" \
         }\nscale = 0.1\n"
    ));
    assert!(
        import
            .table
            .contains("modbus = { device = \"gateway unit 2\", coil = 0 }")
    );
    let notes = import.notes.join("\n");
    for words in [
        "rack_gap: an omitted field",
        "rack_half: numbers of 16 bits",
        "request 1: the tags",
    ] {
        assert!(notes.contains(words), "{words}\n{notes}");
    }
}

#[test]
fn the_style_metric_is_taken_over() {
    let import = taken(
        r#"
        [[inputs.modbus]]
          name = "m"
          controller = "tcp://a:1502"
          transmission_mode = "RTUoverTCP"
          configuration_type = "metric"
          [[inputs.modbus.metric]]
            slave_id = 7
            byte_order = "LSW-BE"
            fields = [
              { register = "input", address = 4, name = "4x0005:F", type = "FLOAT32" },
              { address = 6, name = "same", type = "UINT8H" },
              { address = 8, name = "same", type = "UINT64", scale = 0.0 },
              { register = "file", address = 9, name = "odd", type = "INT16" },
            ]
        [[inputs.modbus]]
          controller = "tcp://b:502"
          transmission_mode = "ASCIIoverTCP"
          holding_registers = [{ name = "x", byte_order = "AB", data_type = "INT16", scale = 1.0, address = [0] }]
        "#,
    );
    assert_eq!(import.points, 4);
    assert!(
        import
            .table
            .contains("url = \"rtu+tcp://a:1502\"\nunit = 7\n")
    );
    assert!(import.table.contains(
        "[thermal.points.p_4x0005_f]\nmodbus = { device = \"m\", input = 4, type = \"float32\", order = \"CDAB\" }"
    ));
    assert!(import.table.contains("[thermal.points.same]\nmodbus = { device = \"m\", holding = 6, type = \"bits\", bit = 8, width = 8"));
    assert!(import.table.contains("[thermal.points.same_2]"));
    assert!(import.table.contains("name = \"modbus-2\"\nurl = \"\"\n"));
    let notes = import.notes.join("\n");
    assert!(notes.contains("m: odd: the register \"file\" is unknown; left out"));
    assert!(notes.contains(
        "modbus-2: the controller \"tcp://b:502\" with transmission_mode \"ASCIIoverTCP\""
    ));
}

#[test]
fn what_is_no_configuration_is_refused() {
    assert!(matches!(
        import("[[inputs.cpu]]"),
        Err(ImportError::Nothing)
    ));
    assert!(matches!(
        import("slave_id = ${ID}"),
        Err(ImportError::Toml(_))
    ));
    assert_eq!(Numbering::default(), Numbering::ZeroBased);
}
