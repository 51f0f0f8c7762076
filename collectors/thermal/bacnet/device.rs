//! One BACnet device and the points that are read of it.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::judge::{Said, judge};
use super::link::{AskError, Changes, Links, Patience, Place};
use super::session::{Answers, Denial, FindError, Session, Target};
use super::subscription::Subscription;
use super::units::unit;
use super::wire::{ObjectId, Property, Value};
use crate::CollectError;
use crate::thermal::device::{Device, Observation, PointError};
use crate::thermal::unit::Unit;

/// Units are a matter of configuration: somebody may change them, but not often.
const UNITS_FOR: SignedDuration = SignedDuration::from_hours(1);

/// How long a device is taken to be where it was found.
const FOUND_FOR: SignedDuration = SignedDuration::from_hours(1);

/// A list of objects is long: names that were not there are looked for again only after this.
const NAMES_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// What a device is reached with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) place: Place,
    pub(crate) target: Target,
    pub(crate) patience: Patience,
    /// How long subscriptions to changes last, in seconds; without it everything is polled.
    pub(crate) cov_s: Option<u32>,
    /// What a person calls the device.
    pub(crate) label: String,
}

/// Which object is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// By type and instance.
    Object(ObjectId),
    /// By the name that the device gives it.
    Name(String),
}

/// A device whose points are read in rounds.
pub(crate) struct Reader {
    access: Access,
    links: Links,
    routes: PathBuf,
    state: Option<State>,
    points: Vec<Point>,
}

/// What there is once the device was found.
struct State {
    session: Session,
    changes: Option<Changes>,
    found_at: Timestamp,
    /// When names were looked for last, and why some were not found.
    unnamed: Option<(Timestamp, PointError)>,
}

/// One object, and what is known about it.
#[derive(Debug)]
struct Point {
    asked: Asked,
    object: Option<ObjectId>,
    units: Option<(Timestamp, Option<Unit>)>,
    has_no_flags: bool,
    has_no_reliability: bool,
    subscription: Subscription,
}

impl Reader {
    /// A reader that has sent nothing yet. `routes` is the file of the machine's routes.
    pub(crate) fn new(access: Access, asked: Vec<Asked>, links: Links, routes: PathBuf) -> Self {
        let points = asked.into_iter().map(Point::new).collect();
        Self {
            access,
            links,
            routes,
            state: None,
            points,
        }
    }

    async fn round(
        &mut self,
        at: Timestamp,
    ) -> Result<Vec<Result<Observation, PointError>>, CollectError> {
        self.find(at).await?;
        let Some(state) = &mut self.state else {
            return Err(CollectError::Vanished {
                what: self.access.label.clone(),
            });
        };
        match read(state, &mut self.points, self.access.cov_s, at).await {
            Ok(answers) => Ok(answers),
            Err(error) => {
                // It may have moved, or be another one when it comes back.
                self.state = None;
                self.points.iter_mut().for_each(Point::lose);
                Err(unreachable(&self.access.label, &error))
            }
        }
    }

    /// Looks for the device, where that is due.
    async fn find(&mut self, at: Timestamp) -> Result<(), CollectError> {
        let label = &self.access.label;
        let is_old = |state: &State| at.duration_since(state.found_at) > FOUND_FOR;
        let again = self.state.as_ref().is_some_and(is_old);
        if self.state.is_none() || again {
            let link = self.links.at(self.access.place, &self.routes, seed(at));
            let link = link.map_err(|error| unreachable(label, &error))?;
            let target = self.access.target.clone();
            let mut session = Session::new(Arc::clone(&link), target, self.access.patience);
            match (session.find().await, &mut self.state) {
                (Ok(()), Some(state)) if session.bound() == state.session.bound() => {
                    state.found_at = at;
                }
                (Ok(()), state) => {
                    self.points.iter_mut().for_each(Point::lose);
                    *state = Some(State {
                        session,
                        changes: self.access.cov_s.and_then(|_| link.subscriber()),
                        found_at: at,
                        unnamed: None,
                    });
                }
                // Whoever still answers is not given up because a broadcast got lost.
                (Err(FindError::Nobody(_)), Some(state)) => state.found_at = at,
                (Err(error), state) => {
                    *state = None;
                    let notes = link.notes().join("; ");
                    let error = Unfound { error, notes };
                    return Err(unreachable(label, &error));
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Device for Reader {
    async fn read(
        &mut self,
        at: Timestamp,
    ) -> Result<Vec<Result<Observation, PointError>>, CollectError> {
        self.round(at).await
    }
}

impl Point {
    fn new(asked: Asked) -> Self {
        let object = match &asked {
            Asked::Object(object) => Some(*object),
            Asked::Name(_) => None,
        };
        Self {
            asked,
            object,
            units: None,
            has_no_flags: false,
            has_no_reliability: false,
            subscription: Subscription::default(),
        }
    }

    /// Forgets everything that was learnt from the device.
    fn lose(&mut self) {
        *self = Self::new(self.asked.clone());
    }

    /// What to ask for in this round.
    fn wanted(&self, object: ObjectId, at: Timestamp) -> Vec<Property> {
        let mut wanted = vec![Property::PresentValue];
        if !self.has_no_flags {
            wanted.push(Property::StatusFlags);
        }
        if !self.has_no_reliability {
            wanted.push(Property::Reliability);
        }
        if !self.knows_unit(object, at) {
            wanted.push(Property::Units);
        }
        wanted
    }

    /// Whether the unit was read lately, or there can be none.
    fn knows_unit(&self, object: ObjectId, at: Timestamp) -> bool {
        let is_recent = |(since, _): &(Timestamp, Option<Unit>)| {
            at.duration_since(*since) < UNITS_FOR && at >= *since
        };
        !object.kind().has_units() || self.units.as_ref().is_some_and(is_recent)
    }

    /// What the device said about it in this round.
    fn observe(
        &mut self,
        object: ObjectId,
        answers: &Answers,
        at: Timestamp,
    ) -> Result<Observation, PointError> {
        let of = |property| answers.get(&(object, property));
        let first = |property| match of(property) {
            Some(Ok(values)) => values.first(),
            _ => None,
        };
        let is_missing = |property| matches!(of(property), Some(Err(Denial::NoProperty)));
        self.has_no_flags |= is_missing(Property::StatusFlags);
        self.has_no_reliability |= is_missing(Property::Reliability);
        match of(Property::Units) {
            Some(Ok(values)) => {
                let ours = match values.first() {
                    Some(Value::Enumerated(number)) => unit(*number),
                    _ => None,
                };
                self.units = Some((at, ours));
            }
            Some(Err(Denial::NoProperty)) => self.units = Some((at, None)),
            _ => {}
        }
        let value = match of(Property::PresentValue) {
            Some(Ok(values)) => values.first().unwrap_or(&Value::Null),
            Some(Err(denial)) => return Err(denied(object, denial)),
            None => {
                return Err(PointError::Silent(format!(
                    "the device left out the value of {object} in its answer"
                )));
            }
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
        let raw = judge(value, &said)?;
        Ok(Observation {
            unit: self.unit(),
            ..Observation::polled(raw, at)
        })
    }

    /// What came by itself, where that is enough.
    fn stands(&self, at: Timestamp) -> Option<Observation> {
        let standing = self.subscription.stands(at)?;
        let object = self.object.filter(|object| self.knows_unit(*object, at));
        object.map(|_| Observation {
            unit: self.unit(),
            ..standing
        })
    }

    fn unit(&self) -> Option<Unit> {
        self.units.as_ref().and_then(|(_, unit)| *unit)
    }
}

/// One round: subscriptions, then a question for all that did not come by itself.
async fn read(
    state: &mut State,
    points: &mut [Point],
    cov_s: Option<u32>,
    at: Timestamp,
) -> Result<Vec<Result<Observation, PointError>>, AskError> {
    names(state, points, at).await?;
    if let (Some(lifetime_s), Some(changes)) = (cov_s, &mut state.changes) {
        take_in(&state.session, changes, points, at);
        subscribe(&state.session, changes.process(), points, lifetime_s, at).await?;
        take_in(&state.session, changes, points, at);
    }
    let standing: Vec<Option<Observation>> =
        { points.iter() }.map(|point| point.stands(at)).collect();
    let mut asked: Vec<(ObjectId, Vec<Property>)> = Vec::new();
    for (point, standing) in points.iter().zip(&standing) {
        let Some(object) = point.object else { continue };
        let is_asked = asked.iter().any(|(other, _)| *other == object);
        if standing.is_none() && !is_asked {
            asked.push((object, point.wanted(object, at)));
        }
    }
    let answers = state.session.read(&asked).await?;
    let observed = points.iter_mut().zip(standing).map(|(point, standing)| {
        if let Some(observation) = standing {
            return Ok(observation);
        }
        let Some(object) = point.object else {
            let why = state.unnamed.as_ref().map(|(_, why)| why.clone());
            return Err(why.unwrap_or_else(|| {
                PointError::NotYet("the object was not looked for yet".to_owned())
            }));
        };
        let observed = point.observe(object, &answers, at);
        point.subscription.polled(&observed);
        if matches!(point.asked, Asked::Name(_)) && observed == Err(no_object(object)) {
            // Its number may have changed; its name counts.
            point.object = None;
        }
        observed
    });
    Ok(observed.collect())
}

/// Finds objects by their names, all at once.
async fn names(state: &mut State, points: &mut [Point], at: Timestamp) -> Result<(), AskError> {
    if points.iter().all(|point| point.object.is_some()) {
        return Ok(());
    }
    let is_recent = |(since, _): &(Timestamp, PointError)| at.duration_since(*since) < NAMES_AFTER;
    if state.unnamed.as_ref().is_some_and(is_recent) {
        return Ok(());
    }
    let session = &mut state.session;
    let objects = session.objects().await?;
    let valued = objects.iter().filter(|object| object.kind().is_valued());
    let asked: Vec<(ObjectId, Vec<Property>)> = valued
        .map(|object| (*object, vec![Property::ObjectName]))
        .collect();
    let answers = session.read(&asked).await?;
    let mut missing = Vec::new();
    for point in points.iter_mut().filter(|point| point.object.is_none()) {
        let Asked::Name(name) = &point.asked else {
            continue;
        };
        let is_called =
            |values: &Vec<Value>| matches!(values.first(), Some(Value::Text(text)) if text == name);
        let found = asked.iter().map(|(object, _)| *object).find(|object| {
            matches!(answers.get(&(*object, Property::ObjectName)), Some(Ok(values)) if is_called(values))
        });
        match found {
            Some(object) => point.object = Some(object),
            None => missing.push(format!("{name:?}")),
        }
    }
    state.unnamed = (!missing.is_empty()).then(|| {
        let why = PointError::Refused(format!(
            "none of the device's {} objects with a value is called {}: `probe bacnet` lists their names",
            asked.len(),
            missing.join(" or ")
        ));
        (at, why)
    });
    Ok(())
}

/// Takes in what came by itself.
fn take_in(session: &Session, changes: &mut Changes, points: &mut [Point], at: Timestamp) {
    while let Some((peer, notification)) = changes.next_now() {
        if session.peer() != Some(&peer) {
            continue;
        }
        let concerned = |point: &&mut Point| point.object == Some(notification.object);
        for point in points.iter_mut().filter(concerned) {
            point.subscription.bring(&notification, at);
        }
    }
}

/// Asks for subscriptions that are due. A device that refuses is polled.
async fn subscribe(
    session: &Session,
    process: u32,
    points: &mut [Point],
    lifetime_s: u32,
    at: Timestamp,
) -> Result<(), AskError> {
    for point in points.iter_mut() {
        let Some(object) = point.object else { continue };
        while point.subscription.is_due(at, lifetime_s) {
            let is_confirmed = point.subscription.is_confirmed();
            match session
                .subscribe(process, object, is_confirmed, lifetime_s)
                .await
            {
                Ok(()) => point.subscription.agreed(at, lifetime_s),
                Err(error) if error.is_answer() => {
                    if !point.subscription.declined(at) {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn no_object(object: ObjectId) -> PointError {
    PointError::Refused(format!(
        "the device has no {object}: `probe bacnet` lists what it has"
    ))
}

fn denied(object: ObjectId, denial: &Denial) -> PointError {
    PointError::Refused(match denial {
        Denial::NoObject => return no_object(object),
        Denial::NoProperty => {
            format!("{object} has no present value: choose another object")
        }
        Denial::Other(why) => format!("the device does not tell the value of {object}: {why}"),
    })
}

/// Why a device was not found, and what the link itself has to say.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}{notes}", if notes.is_empty() { "" } else { "; " })]
struct Unfound {
    #[source]
    error: FindError,
    notes: String,
}

fn unreachable(label: &str, error: &dyn std::error::Error) -> CollectError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    CollectError::Unreachable {
        what: label.to_owned(),
        source: std::io::Error::other(text),
    }
}

/// Any number that is not the one of the start before.
fn seed(at: Timestamp) -> u32 {
    u32::try_from(at.as_millisecond() & 0x3F_FFFF).unwrap_or(1)
}
