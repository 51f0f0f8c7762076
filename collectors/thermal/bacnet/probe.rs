//! Looks at a network or a device, says what is there, and suggests tables for the configuration.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::judge::{Said, judge, reliability_words};
use super::link::{AskError, Bbmd, Link, LinkError, Links, Patience, Place};
use super::session::{Answers, FindError, Session, Target};
use super::units::{name as unit_name, unit};
use super::wire::{ObjectId, Peer, Property, Value};
use crate::thermal::unit::{Dimension, Unit};

pub use super::settings::{Address, Interface};

/// A person is waiting.
const PATIENCE: Patience = Patience {
    timeout: Duration::from_secs(2),
    retries: 1,
};

/// Devices wait a moment before they announce themselves, and there may be hundreds.
const SEARCH_WITHIN: Duration = Duration::from_secs(4);

/// For how long a probe registers with a broadcast device.
const REGISTERED_S: u16 = 60;

/// Devices whose names are asked for; the others are listed by their instance.
const NAMED_MAX: usize = 100;

/// What is said about a device that announces itself and then keeps silent.
const NO_QUESTIONS: &str = ", answers no questions";

/// Points that are suggested.
const SUGGESTED_MAX: usize = 12;

/// Where to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// The address of this machine to speak from.
    pub interface: Option<Interface>,
    /// The port of the network.
    pub port: Option<u16>,
    /// A broadcast device to register with.
    pub bbmd: Option<Address>,
    /// The instance of one device.
    pub device: Option<u32>,
    /// The address of one device.
    pub address: Option<Address>,
}

/// What was found, for a person, and the tables for the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One line for each thing that was found.
    pub found: Vec<String>,
    /// The tables.
    pub table: String,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// There is no link to look through.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Nobody answers.
    #[error(
        "no device answers within {0:?}: give the address of this machine on their network (`--interface`), or \
         a broadcast device there (`--bbmd`)"
    )]
    Nobody(Duration),
    /// The device is not there.
    #[error("{0}")]
    NoDevice(String),
    /// The device does not tell.
    #[error("cannot read the device")]
    Ask(#[from] AskError),
}

/// One object as it was read.
struct Row {
    object: ObjectId,
    name: String,
    shown: String,
    unit: Option<Unit>,
    status: String,
    score: u32,
}

impl From<FindError> for LookError {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Ask(error) => Self::Ask(error),
            error => Self::NoDevice(error.to_string()),
        }
    }
}

/// Looks for devices, or at one. `routes` is the file of the machine's routes.
///
/// # Errors
/// When nothing answers.
pub async fn look(look: Look, routes: &Path, at: Timestamp) -> Result<Report, LookError> {
    let place = look.place();
    let seed = u32::try_from(at.as_millisecond() & 0x3F_FFFF).unwrap_or(1);
    let link = Links::default().at(place, routes, seed)?;
    let target = Target {
        instance: look.device,
        peer: look
            .address
            .map(|address| Peer::at(address.with(place.port))),
    };
    if target.instance.is_none() && target.peer.is_none() {
        return network(&link, &look).await;
    }
    let mut session = Session::new(link, target, PATIENCE);
    session.find().await?;
    device(&mut session, &look).await
}

impl Look {
    fn place(&self) -> Place {
        let mut place = self.interface.map(Interface::place).unwrap_or_default();
        place.port = self.port.unwrap_or(place.port);
        place.bbmd = self.bbmd.map(|address| Bbmd {
            address: address.with(place.port),
            lifetime_s: REGISTERED_S,
        });
        place
    }

    /// The keys of a table that say where its device is.
    fn keys(&self, instance: Option<u32>) -> String {
        let mut keys = String::new();
        let mut key = |name: &str, value: String| {
            // Writing into a text does not fail.
            let _written = writeln!(keys, "{name} = {value}");
        };
        if let Some(instance) = instance.or(self.device) {
            key("instance", instance.to_string());
        }
        if let Some(address) = self.address {
            key("address", format!("\"{address}\""));
        }
        if let Some(interface) = self.interface {
            key("interface", format!("\"{interface}\""));
        }
        if let Some(port) = self.port {
            key("port", port.to_string());
        }
        if let Some(bbmd) = self.bbmd {
            key("bbmd", format!("\"{bbmd}\""));
        }
        keys
    }
}

/// All devices that announce themselves.
async fn network(link: &Arc<Link>, look: &Look) -> Result<Report, LookError> {
    let mut announced = link.search(None, None, SEARCH_WITHIN).await?;
    if announced.is_empty() {
        return Err(LookError::Nobody(SEARCH_WITHIN));
    }
    announced.sort_by_key(|one| one.says.device);
    let mut found = vec![format!("{} devices", announced.len())];
    let mut table = String::new();
    let mut asking = JoinSet::new();
    for (at, one) in announced.iter().enumerate().take(NAMED_MAX) {
        let target = Target {
            instance: Some(one.says.device),
            peer: Some(one.peer.clone()),
        };
        let mut session = Session::new(Arc::clone(link), target, PATIENCE);
        asking.spawn(async move {
            match session.find().await {
                Ok(()) => (at, describe(&mut session).await),
                Err(_) => (at, NO_QUESTIONS.to_owned()),
            }
        });
    }
    let mut described = vec![String::new(); announced.len()];
    while let Some(asked) = asking.join_next().await {
        if let Ok((at, said)) = asked
            && let Some(place) = described.get_mut(at)
        {
            *place = said;
        }
    }
    for (one, described) in announced.iter().zip(described) {
        found.push(format!(
            "device {} at {}, vendor {}{described}",
            one.says.device, one.peer, one.says.vendor
        ));
    }
    let instances = announced.iter().map(|one| one.says.device);
    let rivals = instances.zip(announced.iter().skip(1));
    for (instance, _) in rivals.filter(|(instance, next)| *instance == next.says.device) {
        found.push(format!(
            "{instance} is the instance of more than one device: give one of them another"
        ));
    }
    found.push(String::new());
    found.push("look at one with: probe bacnet --device INSTANCE".to_owned());
    if let [one] = announced.as_slice() {
        table = format!(
            "[[thermal.bacnet]]\nname = \"device-{0}\"\n{1}",
            one.says.device,
            look.keys(Some(one.says.device))
        );
    }
    Ok(Report { found, table })
}

/// What a device says it is.
async fn describe(session: &mut Session) -> String {
    let object = session.device_object();
    let asked = vec![
        Property::ObjectName,
        Property::VendorName,
        Property::ModelName,
    ];
    let Ok(answers) = session.read(&[(object, asked.clone())]).await else {
        return NO_QUESTIONS.to_owned();
    };
    let said: Vec<String> = asked
        .into_iter()
        .filter_map(|property| text(&answers, object, property))
        .collect();
    match said.is_empty() {
        true => String::new(),
        false => format!(": {}", said.join(", ")),
    }
}

/// Everything of one device.
async fn device(session: &mut Session, look: &Look) -> Result<Report, LookError> {
    let described = describe(session).await;
    let objects = session.objects().await?;
    let valued: Vec<ObjectId> = { objects.iter().copied() }
        .filter(|object| object.kind().is_valued())
        .collect();
    let asked: Vec<(ObjectId, Vec<Property>)> = valued
        .iter()
        .map(|object| (*object, wanted(*object)))
        .collect();
    let answers = session.read(&asked).await?;
    let mut rows: Vec<Row> = valued.iter().map(|object| row(*object, &answers)).collect();
    let place = session.peer().map(ToString::to_string).unwrap_or_default();
    let instance = session.bound().and_then(|bound| bound.instance);
    let how = if session.is_one_by_one() {
        "; it is asked for one property at a time"
    } else {
        ""
    };
    let mut found = vec![
        format!("{}{described}", session.device_object()),
        format!(
            "at {place}, {} objects, {} with a value{how}",
            objects.len(),
            rows.len()
        ),
        String::new(),
    ];
    let width = rows
        .iter()
        .map(|row| row.name.chars().count())
        .max()
        .unwrap_or(0)
        .min(40);
    for row in &rows {
        let object = row.object.to_string();
        found.push(format!(
            "{object:<24} {:<width$} {}{}",
            row.name, row.shown, row.status
        ));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.score));
    let table = suggestion(&rows, look, instance);
    Ok(Report { found, table })
}

fn wanted(object: ObjectId) -> Vec<Property> {
    let mut wanted = vec![
        Property::ObjectName,
        Property::PresentValue,
        Property::StatusFlags,
        Property::Reliability,
    ];
    if object.kind().has_units() {
        wanted.push(Property::Units);
    }
    wanted
}

fn text(answers: &Answers, object: ObjectId, property: Property) -> Option<String> {
    match answers.get(&(object, property)) {
        Some(Ok(values)) => match values.first() {
            Some(Value::Text(text)) if !text.is_empty() => Some(printable(text)),
            _ => None,
        },
        _ => None,
    }
}

/// Names are others' text: nothing of it moves a terminal's cursor or ends a line.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{FFFD}'
            } else {
                letter
            }
        })
        .collect()
}

fn row(object: ObjectId, answers: &Answers) -> Row {
    let first = |property| match answers.get(&(object, property)) {
        Some(Ok(values)) => values.first(),
        _ => None,
    };
    let said = Said {
        flags: match first(Property::StatusFlags) {
            Some(Value::Bits(flags)) => Some(*flags),
            _ => None,
        },
        reliability: match first(Property::Reliability) {
            Some(Value::Enumerated(number)) => Some(*number),
            _ => None,
        },
    };
    let units = match first(Property::Units) {
        Some(Value::Enumerated(number)) => Some(*number),
        _ => None,
    };
    let value = first(Property::PresentValue).unwrap_or(&Value::Null);
    let number = value.number();
    let judged = judge(value, &said);
    let status = match (&judged, said.reliability.filter(|number| *number != 0)) {
        (Ok(_), _) => String::new(),
        (Err(_), Some(reliability)) => format!("  ! {}", reliability_words(reliability)),
        (Err(error), None) => format!("  ! {error}"),
    };
    let shown = match (number, units) {
        (Some(number), Some(units)) => format!("{number} {}", unit_name(units)),
        (Some(number), None) => number.to_string(),
        (None, _) => "no number".to_owned(),
    };
    let unit = units.and_then(unit);
    let name = text(answers, object, Property::ObjectName).unwrap_or_default();
    let score = match judged {
        Ok(_) => score(unit, number.unwrap_or_default(), &name),
        Err(_) => 0,
    };
    Row {
        object,
        name,
        shown,
        unit,
        status,
        score,
    }
}

/// Words of names that speak of heat and of what it is measured by.
const WORDS: [&str; 12] = [
    "supply", "return", "exhaust", "outlet", "inlet", "heat", "flow", "power", "energy", "kw",
    "temp", "_t",
];

/// How likely a point belongs to a thermal source; nothing for what cannot.
fn score(unit: Option<Unit>, number: f64, name: &str) -> u32 {
    let Some(unit) = unit else { return 0 };
    let (lowest, highest) = match unit {
        Unit::C => (-20.0, 120.0),
        Unit::F => (0.0, 250.0),
        Unit::K => (250.0, 400.0),
        _ => (0.0, 1e12),
    };
    let base = match unit.dimension() {
        Dimension::Power | Dimension::Energy => 40,
        Dimension::Temperature => 30,
        Dimension::VolumeFlow | Dimension::MassFlow => 20,
        Dimension::Number => return 0,
    };
    let plausible = if (lowest..=highest).contains(&number) {
        20
    } else {
        0
    };
    let moves = if number == 0.0 { 0 } else { 5 };
    let name = name.to_lowercase();
    let words = WORDS.iter().filter(|word| name.contains(*word)).count();
    base + plausible + moves + 3 * u32::try_from(words).unwrap_or(0)
}

fn suggestion(rows: &[Row], look: &Look, instance: Option<u32>) -> String {
    let device = match instance.or(look.device) {
        Some(instance) => format!("device-{instance}"),
        None => "device".to_owned(),
    };
    let mut table = format!(
        "[[thermal.bacnet]]\nname = \"{device}\"\n{}",
        look.keys(instance)
    );
    let mut taken: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| row.score > 0).take(SUGGESTED_MAX) {
        let Some(unit) = row.unit else { continue };
        let mut key = key(&row.name, row.object);
        if taken.contains(&key) {
            key = key_of(row.object);
        }
        let _written = write!(
            table,
            "\n# {}: {}; our unit {unit}\n[thermal.points.{key}]\nbacnet = {{ device = \"{device}\", object = \"{}\" }}\n",
            row.name, row.shown, row.object
        );
        taken.push(key);
    }
    table
}

/// A name of a point that needs no quotes.
fn key(name: &str, object: ObjectId) -> String {
    let plain: String = name
        .chars()
        .map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
            _ => '_',
        })
        .collect();
    let plain = plain.trim_matches('_');
    match plain.is_empty() {
        true => key_of(object),
        false => plain.to_owned(),
    }
}

fn key_of(object: ObjectId) -> String {
    object.to_string().replace([',', '-'], "_")
}

#[cfg(test)]
mod tests {
    use super::super::wire::Bits;
    use super::*;

    fn answers(rows: &[(&str, &str, Value, u32, [bool; 4])]) -> (Vec<ObjectId>, Answers) {
        let mut answers = Answers::new();
        let mut objects = Vec::new();
        for (object, name, value, units, flags) in rows {
            let object: ObjectId = object.parse().unwrap();
            objects.push(object);
            answers.insert(
                (object, Property::ObjectName),
                Ok(vec![Value::Text((*name).to_owned())]),
            );
            answers.insert((object, Property::PresentValue), Ok(vec![value.clone()]));
            answers.insert(
                (object, Property::Units),
                Ok(vec![Value::Enumerated(*units)]),
            );
            answers.insert(
                (object, Property::StatusFlags),
                Ok(vec![Value::Bits(Bits::new(flags))]),
            );
        }
        (objects, answers)
    }

    #[test]
    fn what_measures_heat_is_suggested_first_and_what_is_broken_is_not() {
        let good = [false; 4];
        let (objects, answers) = answers(&[
            ("AI,1", "ROOM_RH", Value::Real(47.0), 29, good),
            ("AI,2", "CHW_SUPPLY_T", Value::Real(18.4), 62, good),
            ("AI,3", "HEAT_KW", Value::Real(42.75), 48, good),
            (
                "AI,4",
                "OLD\u{1b}[2J_T",
                Value::Real(21.0),
                62,
                [false, true, false, false],
            ),
            ("AV,1", "RATIO", Value::Real(1.38), 95, good),
        ]);
        let mut rows: Vec<Row> = objects
            .iter()
            .map(|object| row(*object, &answers))
            .collect();
        assert_eq!(rows[3].name, "OLD\u{FFFD}[2J_T");
        assert!(rows[3].status.contains("fault"), "{}", rows[3].status);
        rows.sort_by_key(|row| std::cmp::Reverse(row.score));
        let look = Look {
            interface: Some("10.0.0.5/24".parse().unwrap()),
            ..Look::default()
        };
        assert_eq!(
            suggestion(&rows, &look, Some(1001)),
            "[[thermal.bacnet]]\nname = \"device-1001\"\ninstance = 1001\ninterface = \"10.0.0.5/24\"\n\
             \n# HEAT_KW: 42.75 kilowatts; our unit kW\n[thermal.points.heat_kw]\n\
             bacnet = { device = \"device-1001\", object = \"analog-input,3\" }\n\
             \n# CHW_SUPPLY_T: 18.4 degrees-celsius; our unit C\n[thermal.points.chw_supply_t]\n\
             bacnet = { device = \"device-1001\", object = \"analog-input,2\" }\n"
        );
    }
}
