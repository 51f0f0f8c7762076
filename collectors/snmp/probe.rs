//! Looks at a device and says what is there, and how to configure it.

use std::fmt::Write as _;

use cms_spec::decimal::Decimal;

use super::meter::{KILOWATT_HOUR, Said};
use super::sensors::{self, Kind, Sensor};
use super::tables::{KNOWN, Known};
use super::{Device, Login, Oid, Target, User, Value, value, walk};
use crate::CollectError;
use crate::web::SecretPlace;

/// `sysDescr.0`, `sysName.0` and `sysLocation.0`: what every device has.
const SYSTEM: [(&str, [u32; 9]); 3] = [
    ("description", [1, 3, 6, 1, 2, 1, 1, 1, 0]),
    ("name", [1, 3, 6, 1, 2, 1, 1, 5, 0]),
    ("location", [1, 3, 6, 1, 2, 1, 1, 6, 0]),
];

/// Most rows of a table that are told; a person reads them.
const ROWS_TOLD_MAX: usize = 200;

/// Most objects below a given one that are told.
const OBJECTS_TOLD_MAX: usize = 1_000;

/// Most sensors that a point is suggested for.
const SENSORS_SUGGESTED_MAX: usize = 10;

/// What was found, for a person, and the tables for the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// One line for each thing that was found.
    pub found: Vec<String>,
    /// The tables for the configuration.
    pub tables: String,
}

/// Asks what a device is, for the sensors and outlets that it has, and for all that is below `root`.
///
/// # Errors
/// When the device does not answer, or goes in circles.
pub async fn look(
    device: &dyn Device,
    target: &Target,
    root: Option<&Oid>,
) -> Result<Findings, CollectError> {
    let mut findings = Findings::default();
    let system = SYSTEM.map(|(_, oid)| Oid::from_slice(&oid));
    for ((what, _), said) in SYSTEM.iter().zip(device.get(&system).await?) {
        if let Some(text) = value::text(&said).filter(|text| !text.is_empty()) {
            findings.say(format!("{what}: {text}"));
        }
    }
    if let Login::Community(_) = target.login() {
        findings.say(
            "version 2c: what it says can be read and forged on the way; use v3 where it can"
                .to_owned(),
        );
    }
    if let Some(root) = root {
        return objects(device, target, root, findings).await;
    }
    for known in KNOWN {
        outlets(device, target, known, &mut findings).await?;
    }
    let (found, has_more) = sensors::all(device).await?;
    findings.sensors(target, &found, has_more);
    if findings.tables.is_empty() {
        findings.say(
            "no outlets and no sensors that are known: look below its maker's tree with probe snmp HOST \
             1.3.6.1.4.1"
                .to_owned(),
        );
    }
    Ok(findings)
}

/// What a table of outlets that we know says.
async fn outlets(
    device: &dyn Device,
    target: &Target,
    known: &Known,
    findings: &mut Findings,
) -> Result<(), CollectError> {
    let walked = walk(device, &known.column(), ROWS_TOLD_MAX).await?;
    let mut suggested = None;
    for row in walked.rows.iter().filter_map(|row| known.row_of(&row.oid)) {
        let Ok(objects) = known.row(row) else {
            continue;
        };
        let values = device.get(&objects.oids()).await?;
        let name = match known.name_of(row) {
            Some(oid) => device.get(&[oid]).await?.first().and_then(value::text),
            None => None,
        };
        let name = name.map(|name| format!(" {name:?}")).unwrap_or_default();
        match objects.decode(&values) {
            Ok(said) => {
                suggested = suggested.or(Some((row, said.clone())));
                findings.say(format!("{} {row}{name}: {}", known.model, in_words(&said)));
            }
            Err(why) => findings.say(format!("{} {row}{name}: {why}", known.model)),
        }
    }
    if walked.has_more {
        findings.say(format!("{}: more than {ROWS_TOLD_MAX} rows", known.model));
    }
    if let Some((row, said)) = suggested {
        let table = &mut findings.tables;
        let _ = writeln!(
            table,
            "# {}; one such table for each feed of this machine",
            known.what
        );
        table.push_str("[[compute.power.snmp.feed]]\n");
        table.push_str(&access(target));
        let _ = writeln!(table, "model = {:?}", known.model);
        for (key, number) in [
            ("unit", row.unit),
            ("cord", row.cord),
            ("outlet", row.outlet),
        ] {
            if let Some(number) = number {
                let _ = writeln!(table, "{key} = {number}");
            }
        }
        let _ = writeln!(table, "# it says {} now\n", in_words(&said));
    }
    Ok(())
}

/// Everything below an object.
async fn objects(
    device: &dyn Device,
    target: &Target,
    root: &Oid,
    mut findings: Findings,
) -> Result<Findings, CollectError> {
    let mut walked = walk(device, root, OBJECTS_TOLD_MAX).await?;
    if walked.rows.is_empty() {
        // It may be the object itself.
        let said = device.get(std::slice::from_ref(root)).await?;
        let said = said.into_iter().filter(|value| !value.is_exception());
        walked.rows = said
            .map(|value| async_snmp::VarBind::new(root.clone(), value))
            .collect();
    }
    let mut first = None;
    for row in &walked.rows {
        let kind = row.value.kind().as_str();
        match (value::number(&row.value), value::text(&row.value)) {
            (Ok(number), _) => {
                if !matches!(row.value, Value::TimeTicks(_)) {
                    first = first.or(Some((row.oid.clone(), number)));
                }
                findings.say(format!("{} = {number} ({kind})", row.oid));
            }
            (_, Some(text)) => findings.say(format!("{} = {text:?}", row.oid)),
            _ => findings.say(format!("{} is {kind}", row.oid)),
        }
    }
    if walked.has_more {
        findings.say(format!(
            "and more: only {OBJECTS_TOLD_MAX} are told; look below one of these"
        ));
    }
    match first {
        Some((oid, number)) => {
            let table = &mut findings.tables;
            let _ = writeln!(
                table,
                "# {oid} says {number}; the maker's manual says of what, and how many units one count is"
            );
            table.push_str("[[compute.power.snmp.feed]]\n");
            table.push_str(&access(target));
            let _ = writeln!(
                table,
                "power = {{ oid = \"{oid}\", scale = 1, unit = \"W\" }}"
            );
            let _ = writeln!(
                table,
                "# energy = {{ oid = \"{oid}\", scale = 0.1, unit = \"kWh\" }}\n"
            );
            table.push_str("# or as a point of heat:\n");
            named(table, target);
            let _ = writeln!(
                table,
                "# snmp = {{ device = {:?}, oid = \"{oid}\", scale = 0.1 }}\n\
                 # unit_of_measure = \"C\"",
                device_name(target)
            );
        }
        None => findings.say(format!("there is no number below {root}")),
    }
    Ok(findings)
}

impl Findings {
    fn say(&mut self, line: String) {
        self.found.push(line);
    }

    fn sensors(&mut self, target: &Target, sensors: &[Sensor], has_more: bool) {
        for sensor in sensors.iter().take(ROWS_TOLD_MAX) {
            let name = &sensor.name;
            let unit = sensor.kind.unit();
            self.say(match &sensor.reading {
                Ok(reading) => format!("sensor {} {name:?}: {reading} {unit}", sensor.index),
                Err(why) => format!("sensor {} {name:?}: {why}", sensor.index),
            });
        }
        if has_more || sensors.len() > ROWS_TOLD_MAX {
            self.say(format!("more than {ROWS_TOLD_MAX} sensors"));
        }
        let is_of_heat = |kind| matches!(kind, Kind::Celsius | Kind::Watts);
        let works = |sensor: &&Sensor| sensor.reading.is_ok() && is_of_heat(sensor.kind);
        for (at, sensor) in sensors
            .iter()
            .filter(works)
            .take(SENSORS_SUGGESTED_MAX)
            .enumerate()
        {
            if at == 0 {
                named(&mut self.tables, target);
            }
            let key = match sensor.kind {
                Kind::Watts => "electrical_power",
                _ => "exhaust_temp",
            };
            let _ = writeln!(
                self.tables,
                "# [thermal.source.{key}]      # or another point; {:?} says {} {} now\n\
                 # snmp = {{ device = {:?}, entity = {} }}",
                sensor.name,
                sensor
                    .reading
                    .as_ref()
                    .map_or("nothing".to_owned(), ToString::to_string),
                sensor.kind.unit(),
                device_name(target),
                sensor.index
            );
        }
    }
}

/// The device as points of heat name it.
fn named(table: &mut String, target: &Target) {
    let _ = writeln!(table, "[[thermal.snmp]]\nname = {:?}", device_name(target));
    table.push_str(&access(target));
}

/// Its host, without the port.
fn device_name(target: &Target) -> &str {
    let address = target.address();
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

fn in_words(said: &Said) -> String {
    let mut words = Vec::new();
    words.extend(said.power.map(|power| format!("{power} W")));
    if let (Some(energy), Some(step)) = (said.energy, said.step) {
        let kilowatt_hours =
            |joules: Decimal| joules.checked_div(KILOWATT_HOUR).unwrap_or_default();
        words.push(format!(
            "{} kWh in steps of {} kWh",
            kilowatt_hours(energy).rounded(3),
            kilowatt_hours(step)
        ));
    }
    if let Some(caliber) = said.caliber {
        words.push(
            if caliber.is_measured {
                "measured"
            } else {
                "estimated by the device"
            }
            .to_owned(),
        );
        let percent = caliber
            .accuracy
            .map(|accuracy| Decimal::ratio(accuracy, 100).unwrap_or_default());
        words.extend(percent.map(|percent| format!("±{percent} %")));
    }
    words.join(", ")
}

/// The keys that the device was reached with, a line each.
fn access(target: &Target) -> String {
    keys(target).iter().map(|key| format!("{key}\n")).collect()
}

fn keys(target: &Target) -> Vec<String> {
    let login = match target.login() {
        Login::Community(secret) => format!("community = {}", place(secret)),
        Login::User(user) => format!("v3 = {{ {} }}", user_keys(user).join(", ")),
    };
    vec![format!("host = {:?}", target.address()), login]
}

fn user_keys(user: &User) -> Vec<String> {
    let mut keys = vec![format!("user = {:?}", user.name)];
    if let Some((auth, secret)) = &user.auth {
        keys.push(format!("auth = \"{auth}\""));
        keys.push(format!("auth_password = {}", place(secret)));
    }
    if let Some((privacy, secret)) = &user.privacy {
        keys.push(format!("privacy = \"{privacy}\""));
        keys.push(format!("privacy_password = {}", place(secret)));
    }
    if !user.context.is_empty() {
        keys.push(format!("context = {:?}", user.context));
    }
    keys
}

fn place(place: &SecretPlace) -> String {
    match place {
        SecretPlace::Credential(name) => format!("{{ credential = {name:?} }}"),
        SecretPlace::Env(name) => format!("{{ env = {name:?} }}"),
        SecretPlace::File(path) => format!("{{ file = {path:?} }}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snmp::parse_oid;
    use crate::snmp::walk::tests::Table;
    use crate::snmp::{Auth, Privacy};

    fn target() -> Target {
        let login = Login::Community(SecretPlace::File("/c".into()));
        Target::checked("10.0.0.9", login).unwrap()
    }

    fn strip() -> Table {
        let apc = "1.3.6.1.4.1.318.1.1.26.9.4.3.1";
        Table::of(&[
            ("1.3.6.1.2.1.1.1.0", Value::from("APC rPDU")),
            (&format!("{apc}.3.1"), Value::from("db01")),
            (&format!("{apc}.3.2"), Value::from("spare")),
            (&format!("{apc}.7.1"), Value::Integer(212)),
            (&format!("{apc}.7.2"), Value::Integer(-1)),
            (&format!("{apc}.11.1"), Value::Integer(51)),
            (&format!("{apc}.11.2"), Value::Integer(0)),
        ])
    }

    #[tokio::test]
    async fn outlets_are_listed_and_suggested() {
        let findings = look(&strip(), &target(), None).await.unwrap();
        let all = findings.found.join("\n");
        assert!(all.contains("description: APC rPDU"), "{all}");
        assert!(
            all.contains("apc-outlet outlet 1 \"db01\": 212 W, 5.1 kWh in steps of 0.1 kWh"),
            "{all}"
        );
        assert!(all.contains("outlet 2 \"spare\": its power"), "{all}");
        let host = "host = \"10.0.0.9:161\"\ncommunity = { file = \"/c\" }\n";
        let expected =
            format!("[[compute.power.snmp.feed]]\n{host}model = \"apc-outlet\"\noutlet = 1\n");
        assert!(findings.tables.contains(&expected), "{}", findings.tables);
    }

    #[tokio::test]
    async fn objects_below_a_root_are_listed() {
        let root = parse_oid("1.3.6.1.4.1.318").unwrap();
        let findings = look(&strip(), &target(), Some(&root)).await.unwrap();
        let all = findings.found.join("\n");
        assert!(
            all.contains("1.3.6.1.4.1.318.1.1.26.9.4.3.1.7.1 = 212"),
            "{all}"
        );
        assert!(all.contains("= \"db01\""), "{all}");
        let leaf = parse_oid("1.3.6.1.4.1.318.1.1.26.9.4.3.1.7.1").unwrap();
        let findings = look(&strip(), &target(), Some(&leaf)).await.unwrap();
        assert!(
            findings
                .tables
                .contains("power = { oid = \"1.3.6.1.4.1.318"),
            "{}",
            findings.tables
        );
        let nothing = look(&strip(), &target(), Some(&parse_oid("1.3.9").unwrap()))
            .await
            .unwrap();
        assert!(nothing.found.join("\n").contains("no number below 1.3.9"));
    }

    #[test]
    fn a_user_is_written_as_it_is_read() {
        let file = |name: &str| SecretPlace::File(name.into());
        let user = User {
            name: "agent".to_owned(),
            auth: Some((Auth::Sha256, file("/a"))),
            privacy: Some((Privacy::Aes256Cisco, file("/p"))),
            context: "rack".to_owned(),
        };
        let target = Target::checked("a", Login::User(user)).unwrap();
        let text = access(&target);
        assert!(text.contains("privacy = \"aes256-cisco\""), "{text}");
        #[derive(serde::Deserialize)]
        struct Written {
            host: crate::snmp::Endpoint,
            v3: crate::snmp::RawUser,
        }
        let written: Written = toml::from_str(&text).unwrap();
        assert_eq!(
            Target::new(written.host, None, Some(written.v3), None),
            Ok(target)
        );
    }
}
