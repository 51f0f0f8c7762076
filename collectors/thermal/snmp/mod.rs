//! Points on devices that speak SNMP: sensors of switches, chassis and power strips, and any object by its number.
//!
//! Owns: which objects are asked for in a round and which of them make one value. Promises: all points of a device in few
//! questions, and one at a time where it refuses them together, so that a wrong object costs its own point; a sensor that says
//! that it does not work has no value. Refuses: a unit that nobody said.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::device::{Device, Observation, PointError, Protocol};
use super::unit::Unit;
use crate::snmp::sensors::{self, Kind};
use crate::snmp::{self, Endpoint, Login, Oid, RawUser, Target, Value, Wait, oid_if_given, value};
use crate::web::SecretPlace;
use crate::{CollectError, Host};

/// Objects asked for together; a point needs five at most, and a device has tens of points.
const OBJECTS_MAX: usize = 500;

/// Longest name of a sensor; ENTITY-MIB allows 255 bytes.
const NAME_BYTES_MAX: usize = 255;

/// SNMP.
#[derive(Debug)]
pub(super) struct Snmp;

/// `[[thermal.snmp]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
    host: Endpoint,
    community: Option<SecretPlace>,
    v3: Option<RawUser>,
    timeout: Option<Wait>,
}

/// `snmp = { … }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    device: Option<String>,
    host: Option<Endpoint>,
    community: Option<SecretPlace>,
    v3: Option<RawUser>,
    timeout: Option<Wait>,
    #[serde(default, deserialize_with = "oid_if_given")]
    oid: Option<Oid>,
    entity: Option<Entity>,
}

/// `entity = 1001` or `entity = "inlet"`: a sensor of ENTITY-SENSOR-MIB.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entity {
    Index(u32),
    Name(String),
}

/// One point.
#[derive(Clone, Debug)]
pub(super) struct Point {
    target: Target,
    what: What,
}

/// What of a device is the value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Object(Oid),
    Sensor(Entity),
}

/// One device.
struct Asked {
    device: Arc<dyn snmp::Device>,
    points: Vec<What>,
    /// The indices of sensors that are known by name, once they were looked up.
    indices: BTreeMap<String, Result<u32, String>>,
}

impl Protocol for Snmp {
    const KEY: &'static str = "snmp";
    type Named = Named;
    type Written = Written;
    type Point = Point;

    fn name(named: &Named) -> &str {
        &named.name
    }

    fn device(written: &Written) -> Option<&str> {
        written.device.as_deref()
    }

    fn join(written: &Written, named: Option<&Named>) -> Result<Point, String> {
        let target = match (named, &written.host) {
            (Some(_), Some(_)) => {
                return Err("`device` and `host` exclude each other".to_owned());
            }
            (None, None) => {
                return Err("a point says where it is: `device`, or `host`".to_owned());
            }
            (Some(named), None) => {
                Self::of_device(&[
                    ("community", written.community.is_some()),
                    ("v3", written.v3.is_some()),
                    ("timeout", written.timeout.is_some()),
                ])?;
                Target::new(
                    named.host.clone(),
                    named.community.clone(),
                    named.v3.clone(),
                    named.timeout,
                )?
            }
            (None, Some(host)) => Target::new(
                host.clone(),
                written.community.clone(),
                written.v3.clone(),
                written.timeout,
            )?,
        };
        let what = match (&written.oid, &written.entity) {
            (Some(oid), None) => What::Object(oid.clone()),
            (None, Some(entity)) => What::Sensor(entity.clone()),
            (Some(_), Some(_)) => return Err("`oid` and `entity` exclude each other".to_owned()),
            (None, None) => {
                return Err(
                    "a point says what is read: `oid`, or `entity` for a sensor of \
                     ENTITY-SENSOR-MIB; `probe snmp` lists both"
                        .to_owned(),
                );
            }
        };
        Ok(Point { target, what })
    }

    fn connection(point: &Point) -> String {
        let target = &point.target;
        let mut name = format!("{} ({})", target.address(), target.protection());
        // Whatever makes another session with the same address stands in its name.
        match target.login() {
            Login::Community(place) => name += &format!(" with {place}"),
            Login::User(user) => {
                name += &format!(" as {:?}", user.name);
                if let Some((auth, place)) = &user.auth {
                    name += &format!(" {auth} {place}");
                }
                if let Some((privacy, place)) = &user.privacy {
                    name += &format!(" {privacy} {place}");
                }
                if !user.context.is_empty() {
                    name += &format!(" in {:?}", user.context);
                }
            }
        }
        name + &format!(" within {} s", target.timeout().as_secs())
    }

    fn label(point: &Point) -> String {
        format!("{} {}", point.target.address(), point.what)
    }

    fn tells_unit(point: &Point) -> bool {
        matches!(point.what, What::Sensor(_))
    }

    fn open(points: Vec<Point>, host: &Host) -> Result<Box<dyn Device>, CollectError> {
        let Some(first) = points.first() else {
            return Err(CollectError::Vanished {
                what: "every point of a device".to_owned(),
            });
        };
        Ok(Box::new(Asked {
            device: host.snmp.device(&first.target, &host.web),
            points: points.into_iter().map(|point| point.what).collect(),
            indices: BTreeMap::new(),
        }))
    }
}

#[async_trait]
impl Device for Asked {
    async fn read(
        &mut self,
        at: Timestamp,
    ) -> Result<Vec<Result<Observation, PointError>>, CollectError> {
        self.look_up().await?;
        let asked: Vec<Result<Vec<Oid>, PointError>> =
            self.points.iter().map(|what| self.objects(what)).collect();
        let together: Vec<Oid> = asked.iter().flatten().flatten().cloned().collect();
        let mut values = self.values(&together).await?.into_iter();
        let mut answers = Vec::new();
        for (what, objects) in self.points.iter().zip(asked) {
            let answer = match objects {
                Err(error) => Err(error),
                Ok(objects) => {
                    let own: Result<Vec<Value>, PointError> =
                        values.by_ref().take(objects.len()).collect();
                    own.and_then(|own| observed(what, &own, at))
                }
            };
            answers.push(answer);
        }
        self.forget_what_moved(&answers);
        Ok(answers)
    }
}

impl Asked {
    /// Finds the sensors that are known by name, where they are not known yet.
    async fn look_up(&mut self) -> Result<(), CollectError> {
        let name = |what: &What| match what {
            What::Sensor(Entity::Name(name)) => Some(name.clone()),
            _ => None,
        };
        let unknown = |name: &String| !matches!(self.indices.get(name), Some(Ok(_)));
        let wanted: Vec<String> = self
            .points
            .iter()
            .filter_map(name)
            .filter(unknown)
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let sensors = sensors::named(self.device.as_ref()).await?;
        for name in wanted {
            let index = sensors::find(&sensors, &name);
            self.indices.insert(name, index);
        }
        Ok(())
    }

    fn objects(&self, what: &What) -> Result<Vec<Oid>, PointError> {
        match what {
            What::Object(oid) => Ok(vec![oid.clone()]),
            What::Sensor(Entity::Index(index)) => Ok(sensors::cells(*index).to_vec()),
            What::Sensor(Entity::Name(name)) => match self.indices.get(name) {
                Some(Ok(index)) => Ok(sensors::cells(*index).to_vec()),
                Some(Err(why)) => Err(PointError::Refused(why.clone())),
                None => Err(PointError::NotYet("it was not looked up yet".to_owned())),
            },
        }
    }

    /// The values of these objects. A device that refuses them together is asked for one at a time.
    async fn values(&self, oids: &[Oid]) -> Result<Vec<Result<Value, PointError>>, CollectError> {
        let mut values = Vec::new();
        for oids in oids.chunks(OBJECTS_MAX) {
            match self.device.get(oids).await {
                Ok(said) => values.extend(said.into_iter().map(Ok)),
                Err(error) if is_about_one(&error) && oids.len() > 1 => {
                    for oid in oids {
                        let said = match self.device.get(std::slice::from_ref(oid)).await {
                            Ok(said) => said.into_iter().next().ok_or("no answer".to_owned()),
                            Err(error) if is_about_one(&error) => Err(told(&error)),
                            Err(error) => return Err(error),
                        };
                        values.push(said.map_err(PointError::Refused));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(values)
    }

    /// After a restart of the device its sensors may have other indices.
    fn forget_what_moved(&mut self, answers: &[Result<Observation, PointError>]) {
        for (what, answer) in self.points.iter().zip(answers) {
            if let (What::Sensor(Entity::Name(name)), Err(_)) = (what, answer) {
                self.indices.remove(name);
            }
        }
    }
}

/// Whether an error may be about one object, while others could be read.
fn is_about_one(error: &CollectError) -> bool {
    matches!(error, CollectError::Malformed { .. })
}

fn told(error: &CollectError) -> String {
    error.to_string()
}

fn observed(what: &What, values: &[Value], at: Timestamp) -> Result<Observation, PointError> {
    match (what, values) {
        (What::Object(_), [value]) => {
            let raw = value::number(value).map_err(|why| match value.is_exception() {
                true => PointError::Refused(why),
                false => PointError::Malformed(why),
            })?;
            Ok(Observation::polled(raw, at))
        }
        (What::Sensor(_), cells) => {
            let (kind, reading) = sensors::decode(cells);
            let raw = reading.map_err(PointError::Bad)?;
            let too_large = || PointError::Malformed(format!("{raw} is too large a number"));
            let (per_ours, unit) = unit(kind);
            let raw = raw
                .checked_mul(cms_spec::decimal::Decimal::whole(per_ours))
                .ok_or_else(too_large)?;
            Ok(Observation {
                unit,
                ..Observation::polled(raw, at)
            })
        }
        (What::Object(_), _) => Err(PointError::Malformed("the answer is incomplete".to_owned())),
    }
}

/// The unit of a kind of sensor, and how many of it one of the sensor's are. Volts, amperes and the like are numbers for
/// formulas and have none here.
const fn unit(kind: Kind) -> (i64, Option<Unit>) {
    match kind {
        Kind::Watts => (1, Some(Unit::W)),
        Kind::Celsius => (1, Some(Unit::C)),
        Kind::PercentHumidity => (1, Some(Unit::Percent)),
        Kind::CubicMetresPerMinute => (60, Some(Unit::CubicMetrePerHour)),
        Kind::VoltsAc
        | Kind::VoltsDc
        | Kind::Amperes
        | Kind::Hertz
        | Kind::Rpm
        | Kind::Truth
        | Kind::Other => (1, None),
    }
}

impl<'de> Deserialize<'de> for Entity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Entity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the index of a sensor (entPhysicalIndex) or its name in quotes")
            }

            fn visit_i64<E: Error>(self, index: i64) -> Result<Entity, E> {
                let index = u32::try_from(index).ok().filter(|index| *index > 0);
                index.map(Entity::Index).ok_or_else(|| {
                    E::custom("an index of a sensor is a whole number from 1 to 4294967295")
                })
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Entity, E> {
                if name.is_empty() || name.len() > NAME_BYTES_MAX {
                    return Err(E::custom("a name of a sensor has 1 to 255 bytes"));
                }
                Ok(Entity::Name(name.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(oid) => write!(f, "{oid}"),
            Self::Sensor(Entity::Index(index)) => write!(f, "sensor {index}"),
            Self::Sensor(Entity::Name(name)) => write!(f, "sensor {name:?}"),
        }
    }
}
