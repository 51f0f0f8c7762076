//! What a device says about its points, and what a table may say about a device.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::snmp::{VarBind, parse_oid};
use crate::web::{Offline, Web};

/// A device made of a table. `refuses` makes it refuse any question that names this object.
#[derive(Clone, Debug, Default)]
struct Table {
    rows: Arc<Mutex<BTreeMap<Oid, Value>>>,
    refuses: Option<Oid>,
}

impl snmp::Snmp for Table {
    fn device(&self, _: &Target, _: &Arc<dyn Web>) -> Arc<dyn snmp::Device> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl snmp::Device for Table {
    fn address(&self) -> &str {
        "table"
    }

    async fn get(&self, oids: &[Oid]) -> Result<Vec<Value>, CollectError> {
        if let Some(refused) = self.refuses.as_ref().filter(|oid| oids.contains(oid)) {
            return Err(CollectError::Malformed {
                what: "table".to_owned(),
                found: format!("it answers with the error genErr about {refused}"),
            });
        }
        let rows = self.rows.lock().unwrap();
        let value = |oid| rows.get(oid).cloned().unwrap_or(Value::NoSuchInstance);
        Ok(oids.iter().map(value).collect())
    }

    async fn next(&self, after: &Oid, _: u32) -> Result<Vec<VarBind>, CollectError> {
        let rows = self.rows.lock().unwrap();
        let next = rows.iter().find(|(oid, _)| *oid > after);
        let end = || VarBind::new(after.clone(), Value::EndOfMibView);
        Ok(vec![next.map_or_else(end, |(oid, value)| {
            VarBind::new(oid.clone(), value.clone())
        })])
    }
}

impl Table {
    fn put(&self, oid: &str, value: Value) {
        self.rows
            .lock()
            .unwrap()
            .insert(parse_oid(oid).unwrap(), value);
    }

    fn sensor(&self, index: u32, name: &str, cells: [i32; sensors::CELLS]) {
        for (oid, cell) in sensors::cells(index).into_iter().zip(cells) {
            self.put(&oid.to_string(), Value::Integer(cell));
        }
        self.put(
            &format!("1.3.6.1.2.1.47.1.1.1.1.7.{index}"),
            Value::from(name),
        );
    }

    /// The device with these points on it.
    fn open(&self, points: &[&str]) -> Box<dyn Device> {
        let points: Vec<Point> = points.iter().map(|keys| point(keys).unwrap()).collect();
        let mut host = Host::local("host:a".parse().unwrap(), "s".to_owned(), Arc::new(Offline));
        host.snmp = Arc::new(self.clone());
        Snmp::open(points, &host).unwrap()
    }
}

const ACCESS: &str = "host = 'a'\ncommunity = { file = '/c' }\n";

fn point(keys: &str) -> Result<Point, String> {
    let written: Written =
        toml::from_str(&format!("{ACCESS}{keys}")).map_err(|error| error.message().to_owned())?;
    Snmp::join(&written, None)
}

async fn told(device: &mut dyn Device) -> Vec<String> {
    let at = "2026-01-05T10:00:00Z".parse().unwrap();
    let answers = device.read(at).await.unwrap();
    let text = |answer: Result<Observation, PointError>| match answer {
        Ok(seen) => format!(
            "{} {}",
            seen.raw,
            seen.unit.map(|u| u.to_string()).unwrap_or_default()
        ),
        Err(error) => format!("{error}"),
    };
    answers.into_iter().map(text).collect()
}

#[tokio::test]
async fn sensors_and_objects_of_one_device() {
    let table = Table::default();
    table.sensor(1001, "inlet", [8, 9, 1, 245, 1]);
    table.sensor(1002, "rack", [6, 10, 2, 318, 1]);
    table.sensor(1003, "fan", [11, 9, 0, 2, 1]);
    table.sensor(1004, "gone", [8, 9, 1, 245, 2]);
    table.sensor(1005, "volts", [3, 9, 0, 231, 1]);
    table.put("1.3.6.1.9.1", Value::Gauge32(812));
    table.put("1.3.6.1.9.2", Value::from("on fire"));
    let mut device = table.open(&[
        "entity = 1001",
        "entity = 'rack'",
        "entity = 'fan'",
        "entity = 1004",
        "entity = 'volts'",
        "oid = '1.3.6.1.9.1'",
        "oid = '1.3.6.1.9.2'",
        "oid = '1.3.6.1.9.3'",
        "entity = 'nobody'",
    ]);
    let told = told(device.as_mut()).await;
    let expected = [
        "24.5 C",
        "3180 W",
        "120 m3/h",
        "the device says that it is unavailable (status 2)",
        "231 ",
        "812 ",
        "it is the text \"on fire\"",
        "the device has no such row in this table",
        "none of the 5 sensors of the device is called \"nobody\"",
    ];
    assert_eq!(told.len(), expected.len());
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told} is not {expected}");
    }
}

#[tokio::test]
async fn a_sensor_that_moved_is_found_again() {
    let table = Table::default();
    table.sensor(1001, "inlet", [8, 9, 1, 245, 1]);
    let mut device = table.open(&["entity = 'inlet'"]);
    assert_eq!(told(device.as_mut()).await, ["24.5 C"]);
    table.rows.lock().unwrap().clear();
    table.sensor(7, "inlet", [8, 9, 1, 251, 1]);
    assert!(told(device.as_mut()).await[0].contains("status cannot be used"));
    assert_eq!(told(device.as_mut()).await, ["25.1 C"]);
}

#[tokio::test]
async fn an_object_that_is_refused_costs_itself() {
    let table = Table {
        refuses: Some(parse_oid("1.3.6.1.9.2").unwrap()),
        ..Table::default()
    };
    table.put("1.3.6.1.9.1", Value::Integer(1));
    table.put("1.3.6.1.9.3", Value::Integer(3));
    let mut device = table.open(&[
        "oid = '1.3.6.1.9.1'",
        "oid = '1.3.6.1.9.2'",
        "oid = '1.3.6.1.9.3'",
    ]);
    let told = told(device.as_mut()).await;
    assert_eq!((told[0].trim(), told[2].trim()), ("1", "3"));
    assert!(told[1].contains("genErr about 1.3.6.1.9.2"), "{}", told[1]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (keys, words) in [
        ("", "`oid`, or `entity`"),
        ("oid = '1.3.6.1'\nentity = 1", "exclude each other"),
        ("oid = 'sysDescr.0'", "no object identifier"),
        ("entity = 0", "from 1 to"),
        ("entity = ''", "1 to 255 bytes"),
        ("entity = 1.5", "index of a sensor"),
        ("entty = 1", "unknown field"),
    ] {
        let refused = point(keys).unwrap_err();
        assert!(refused.contains(words), "{keys}: {refused}");
    }
    let written: Written = toml::from_str("entity = 1").unwrap();
    assert!(
        Snmp::join(&written, None)
            .unwrap_err()
            .contains("`device`, or `host`")
    );
    let named: Named = toml::from_str(&format!("name = 'pdu'\n{ACCESS}")).unwrap();
    let joined = Snmp::join(&written, Some(&named)).unwrap();
    assert!(Snmp::tells_unit(&joined));
    assert_eq!(Snmp::label(&joined), "a:161 sensor 1");
    let twice: Written = toml::from_str("device = 'pdu'\ntimeout = '3s'\nentity = 1").unwrap();
    assert!(
        Snmp::join(&twice, Some(&named))
            .unwrap_err()
            .contains("`timeout` belongs to")
    );
    let other = point("oid = '1.3.6.1'\ntimeout = '3s'").unwrap();
    assert_ne!(Snmp::connection(&joined), Snmp::connection(&other));
    assert!(!Snmp::tells_unit(&other));
}
