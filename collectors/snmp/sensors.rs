//! Sensors of ENTITY-SENSOR-MIB (RFC 3433): each says its type, scale, precision and whether it works.

use std::collections::BTreeMap;

use async_snmp::{Oid, Value, VarBind};
use cms_spec::decimal::Decimal;

use super::{Device, value, walk};
use crate::CollectError;

/// `entPhySensorEntry`.
const SENSOR: [u32; 10] = [1, 3, 6, 1, 2, 1, 99, 1, 1, 1];

/// `entPhySensorType`, `entPhySensorScale`, `entPhySensorPrecision`, `entPhySensorValue`,
/// `entPhySensorOperStatus`.
const COLUMNS: [u32; CELLS] = [1, 2, 3, 4, STATUS];

/// Cells of a sensor that are read.
pub(crate) const CELLS: usize = 5;

/// `entPhySensorOperStatus`.
const STATUS: u32 = 5;

/// `entPhysicalName` and `entPhysicalDescr` of ENTITY-MIB, the better one first.
const NAMES: [[u32; 12]; 2] = [
    [1, 3, 6, 1, 2, 1, 47, 1, 1, 1, 1, 7],
    [1, 3, 6, 1, 2, 1, 47, 1, 1, 1, 1, 2],
];

/// Most sensors of a device. A large chassis has some hundreds.
pub(crate) const SENSORS_MAX: usize = 2_000;

/// Beyond the range of the sensor (`EntitySensorValue`).
const OUT_OF_RANGE: i64 = 1_000_000_000;

/// One sensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sensor {
    /// `entPhysicalIndex`.
    pub(crate) index: u32,
    /// What the device calls it, possibly nothing.
    pub(crate) name: String,
    /// What it measures.
    pub(crate) kind: Kind,
    /// What it says, or why it says nothing.
    pub(crate) reading: Result<Decimal, String>,
}

/// What a sensor measures, each in its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    VoltsAc,
    VoltsDc,
    Amperes,
    Watts,
    Hertz,
    Celsius,
    PercentHumidity,
    Rpm,
    CubicMetresPerMinute,
    Truth,
    /// Something that has no unit here.
    Other,
}

impl Kind {
    fn of(code: i64) -> Self {
        match code {
            3 => Self::VoltsAc,
            4 => Self::VoltsDc,
            5 => Self::Amperes,
            6 => Self::Watts,
            7 => Self::Hertz,
            8 => Self::Celsius,
            9 => Self::PercentHumidity,
            10 => Self::Rpm,
            11 => Self::CubicMetresPerMinute,
            12 => Self::Truth,
            _ => Self::Other,
        }
    }

    /// The unit of its readings, as points of heat write it; empty for what has none.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::VoltsAc | Self::VoltsDc => "V",
            Self::Amperes => "A",
            Self::Watts => "W",
            Self::Hertz => "Hz",
            Self::Celsius => "C",
            Self::PercentHumidity => "%RH",
            Self::Rpm => "rpm",
            Self::CubicMetresPerMinute => "m3/min",
            Self::Truth | Self::Other => "",
        }
    }
}

/// All sensors of a device, in the order of their indices, and whether there were more than
/// [`SENSORS_MAX`].
///
/// # Errors
/// When the device does not answer.
pub(crate) async fn all(device: &dyn Device) -> Result<(Vec<Sensor>, bool), CollectError> {
    let mut columns: BTreeMap<u32, [Option<Value>; CELLS]> = BTreeMap::new();
    let mut has_more = false;
    for (at, column) in COLUMNS.into_iter().enumerate() {
        let root = Oid::from_slice(&SENSOR).child(column);
        let walked = walk(device, &root, SENSORS_MAX).await?;
        has_more |= walked.has_more;
        for row in walked.rows {
            let index = row.oid.strip_prefix(&root);
            let Some(&[index]) = index.as_ref().map(Oid::arcs) else {
                continue;
            };
            let cells = columns.entry(index).or_default();
            if let Some(cell) = cells.get_mut(at) {
                *cell = Some(row.value);
            }
        }
    }
    if columns.is_empty() {
        return Ok((Vec::new(), has_more));
    }
    let names = names(device).await?;
    let sensor = |(index, cells): (u32, [Option<Value>; CELLS])| {
        let cells = cells.map(|cell| cell.unwrap_or(Value::NoSuchInstance));
        let (kind, reading) = decode(&cells);
        let name = names.get(&index).cloned().unwrap_or_default();
        Sensor {
            index,
            name,
            kind,
            reading,
        }
    };
    Ok((columns.into_iter().map(sensor).collect(), has_more))
}

/// The cells of one sensor, for [`decode`].
pub(crate) fn cells(index: u32) -> [Oid; CELLS] {
    COLUMNS.map(|column| Oid::from_slice(&SENSOR).child(column).child(index))
}

/// The indices of all sensors with their names.
///
/// # Errors
/// When the device does not answer.
pub(crate) async fn named(device: &dyn Device) -> Result<Vec<(u32, String)>, CollectError> {
    let root = Oid::from_slice(&SENSOR).child(STATUS);
    let walked = walk(device, &root, SENSORS_MAX).await?;
    let mut names = names(device).await?;
    let sensor = |row: &VarBind| {
        let index = row.oid.strip_prefix(&root)?;
        let &[index] = index.arcs() else { return None };
        Some((index, names.remove(&index)?))
    };
    Ok(walked.rows.iter().filter_map(sensor).collect())
}

/// The index of the one sensor of this name.
///
/// # Errors
/// When there is none of this name, or several; in words.
pub(crate) fn find(sensors: &[(u32, String)], name: &str) -> Result<u32, String> {
    let mut found = sensors.iter().filter(|(_, other)| other == name);
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Ok(*index),
        (Some((first, _)), Some((second, _))) => Err(format!(
            "the sensors {first} and {second} are both called {name:?}: give `entity` an index"
        )),
        (None, _) => Err(format!(
            "none of the {} sensors of the device is called {name:?}: `probe snmp` lists them",
            sensors.len()
        )),
    }
}

/// What the five cells of a sensor say together.
pub(crate) fn decode(cells: &[Value]) -> (Kind, Result<Decimal, String>) {
    let [kind, scale, precision, raw, status] = cells else {
        return (
            Kind::Other,
            Err("the answer has not all of its columns".to_owned()),
        );
    };
    let kind = value::whole(kind).map_or(Kind::Other, Kind::of);
    (kind, reading(scale, precision, raw, status))
}

fn reading(
    scale: &Value,
    precision: &Value,
    raw: &Value,
    status: &Value,
) -> Result<Decimal, String> {
    let cell = |what: &str, cell: &Value| {
        value::whole(cell).map_err(|why| format!("its {what} cannot be used: {why}"))
    };
    match cell("status", status)? {
        1 => {}
        2 => return Err("the device says that it is unavailable (status 2)".to_owned()),
        3 => return Err("the device says that it is broken (nonoperational, status 3)".to_owned()),
        other => return Err(format!("its status {other} is not known")),
    }
    let raw = cell("value", raw)?;
    if raw.abs() >= OUT_OF_RANGE {
        return Err(format!("its value {raw} means that it is out of range"));
    }
    let scale = match cell("scale", scale)? {
        // The standard gives exa the smaller exponent of the two, and devices do not agree.
        code @ (14 | 15) => return Err(format!("its scale {code} (exa or peta) has two meanings")),
        code @ 1..=17 => (code - 9) * 3,
        other => return Err(format!("its scale {other} is not known")),
    };
    // A negative precision counts the digits that are accurate and moves no point.
    let places = match cell("precision", precision)? {
        places @ -8..=9 => places.max(0),
        other => return Err(format!("its precision {other} is not known")),
    };
    let exponent = i32::try_from(scale - places).unwrap_or_default();
    value::shifted(raw, exponent)
        .ok_or_else(|| format!("its value {raw} at 10^{exponent} is no measurement"))
}

async fn names(device: &dyn Device) -> Result<BTreeMap<u32, String>, CollectError> {
    let mut names = BTreeMap::new();
    for column in NAMES {
        let root = Oid::from_slice(&column);
        // Sensors are a part of the entities, so that this table may be the longer one.
        for row in walk(device, &root, SENSORS_MAX * 2).await?.rows {
            let index = row.oid.strip_prefix(&root);
            let text = value::text(&row.value).filter(|text| !text.is_empty());
            if let (Some(&[index]), Some(text)) = (index.as_ref().map(Oid::arcs), text) {
                names.entry(index).or_insert(text);
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snmp::walk::tests::Table;
    use proptest::prelude::*;

    fn values(cells: [i32; CELLS]) -> Vec<Value> {
        cells.map(Value::Integer).to_vec()
    }

    #[test]
    fn type_scale_and_precision_are_honoured() {
        for (given, kind, says) in [
            ([8, 9, 1, 245, 1], Kind::Celsius, "24.5"),
            ([8, 9, 0, -12, 1], Kind::Celsius, "-12"),
            ([8, 8, 0, 24_500, 1], Kind::Celsius, "24.5"),
            ([6, 10, 2, 318, 1], Kind::Watts, "3180"),
            ([5, 8, 1, 123, 1], Kind::Amperes, "0.0123"),
            ([9, 9, -2, 41, 1], Kind::PercentHumidity, "41"),
            ([11, 9, 3, 1, 1], Kind::CubicMetresPerMinute, "0.001"),
            ([99, 9, 0, 1, 1], Kind::Other, "1"),
        ] {
            let (found, reading) = decode(&values(given));
            assert_eq!(found, kind, "{given:?}");
            assert_eq!(reading.unwrap().to_string(), says, "{given:?}");
        }
    }

    #[test]
    fn what_does_not_work_says_why() {
        for (given, words) in [
            ([8, 9, 1, 245, 2], "unavailable"),
            ([8, 9, 1, 245, 3], "broken"),
            ([8, 9, 1, 245, 0], "status 0"),
            ([8, 9, 1, 1_000_000_000, 1], "out of range"),
            ([8, 9, 1, -1_000_000_000, 1], "out of range"),
            ([8, 0, 1, 245, 1], "scale 0"),
            ([8, 14, 1, 245, 1], "two meanings"),
            ([8, 9, 10, 245, 1], "precision 10"),
        ] {
            let refused = decode(&values(given)).1.unwrap_err();
            assert!(refused.contains(words), "{given:?}: {refused}");
        }
        let mut gone = values([8, 9, 1, 245, 1]);
        gone[3] = Value::NoSuchInstance;
        assert!(
            decode(&gone)
                .1
                .unwrap_err()
                .contains("value cannot be used")
        );
        assert!(decode(&gone[..4]).1.is_err());
    }

    fn two() -> Table {
        let sensor = "1.3.6.1.2.1.99.1.1.1";
        let names = "1.3.6.1.2.1.47.1.1.1.1";
        let mut rows = Vec::new();
        for (index, cells) in [(1001, [8, 9, 1, 245, 1]), (1002, [8, 9, 1, 245, 2])] {
            for (column, cell) in (1..).zip(cells) {
                rows.push((format!("{sensor}.{column}.{index}"), Value::Integer(cell)));
            }
            rows.push((format!("{names}.2.{index}"), Value::from("a sensor")));
        }
        rows.push((format!("{names}.7.1001"), Value::from("inlet")));
        let rows: Vec<(&str, Value)> = rows.iter().map(|(o, v)| (o.as_str(), v.clone())).collect();
        Table::of(&rows)
    }

    #[tokio::test]
    async fn all_one_and_by_name() {
        let (found, has_more) = all(&two()).await.unwrap();
        assert!(!has_more);
        let told: Vec<_> = found
            .iter()
            .map(|s| (s.index, s.name.as_str(), s.reading.is_ok()))
            .collect();
        assert_eq!(told, [(1001, "inlet", true), (1002, "a sensor", false)]);
        let values = two().get(&cells(1001)).await.unwrap();
        let (kind, reading) = decode(&values);
        assert_eq!(
            (kind.unit(), reading.unwrap().to_string()),
            ("C", "24.5".to_owned())
        );
        let sensors = named(&two()).await.unwrap();
        assert_eq!(find(&sensors, "inlet"), Ok(1001));
        assert!(
            find(&sensors, "exhaust")
                .unwrap_err()
                .contains("none of the 2")
        );
        let mut twice = two();
        for row in twice
            .rows
            .values_mut()
            .filter(|v| matches!(v, Value::OctetString(_)))
        {
            *row = Value::from("same");
        }
        let sensors = named(&twice).await.unwrap();
        assert!(
            find(&sensors, "same")
                .unwrap_err()
                .contains("1001 and 1002")
        );
    }

    proptest! {
        #[test]
        fn any_cells_are_decoded_or_refused(given: [i32; CELLS]) {
            drop(decode(&values(given)));
        }

        #[test]
        fn a_reading_is_what_was_encoded(raw in -999_999_999..=999_999_999, scale in 1..=13, places in 0..=9) {
            let (_, reading) = decode(&values([8, scale, places, raw, 1]));
            let exponent = (scale - 9) * 3 - places;
            prop_assert_eq!(reading.ok(), value::shifted(i64::from(raw), exponent));
        }
    }
}
