//! A session: one device, found and asked.
//!
//! Owns: where the device is, whether it answers many questions at once, and how many. Promises: a device
//! is asked one thing at a time; what it cannot do is remembered and gone around. Refuses: knowing what a
//! value means.

mod batches;
mod find;

use std::collections::HashMap;
use std::sync::Arc;

use super::link::{AskError, Link, Patience, Reply};
use super::wire::{
    Answer, Malformed, ObjectId, Peer, Property, Refusal, Service, Value, cov, properties,
    properties_of, property, property_of, refusal_words,
};
use batches::Batches;

pub(crate) use find::{Bound, FindError, Target};

/// Objects of one device that are looked at; the largest gateways have some thousands.
const OBJECTS_MAX: u32 = 10_000;

/// Errors of class object and property.
const UNKNOWN_OBJECT: u32 = 31;
const UNKNOWN_PROPERTY: u32 = 32;

/// What a device said about many properties.
pub(crate) type Answers = HashMap<(ObjectId, Property), Result<Vec<Value>, Denial>>;

/// Why a property was not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The device has no such object.
    NoObject,
    /// The object has no such property.
    NoProperty,
    /// Something else, in words.
    Other(String),
}

/// One device, and what is known about it.
#[derive(Debug)]
pub(crate) struct Session {
    link: Arc<Link>,
    target: Target,
    patience: Patience,
    bound: Option<Bound>,
    batches: Batches,
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        match refusal.code {
            UNKNOWN_OBJECT => Self::NoObject,
            UNKNOWN_PROPERTY => Self::NoProperty,
            _ => Self::Other(refusal_words(refusal)),
        }
    }
}

impl Session {
    pub(crate) fn new(link: Arc<Link>, target: Target, patience: Patience) -> Self {
        Self {
            link,
            target,
            patience,
            bound: None,
            batches: Batches::default(),
        }
    }

    /// Where the device was found, if it was.
    pub(crate) const fn bound(&self) -> Option<&Bound> {
        self.bound.as_ref()
    }

    /// Whether the device is asked for one property at a time.
    pub(crate) const fn is_one_by_one(&self) -> bool {
        self.batches.is_one_by_one()
    }

    /// Finds the device, unless it is found already.
    pub(crate) async fn find(&mut self) -> Result<(), FindError> {
        if self.bound.is_none() {
            let found = self.target.find(&self.link, self.patience).await?;
            self.batches = Batches::new(found.apdu_bytes_max);
            self.bound = Some(found);
        }
        Ok(())
    }

    /// Reads properties of objects. What the device does not tell is there as a denial.
    ///
    /// # Errors
    /// When it does not answer at all.
    pub(crate) async fn read(
        &mut self,
        asked: &[(ObjectId, Vec<Property>)],
    ) -> Result<Answers, AskError> {
        let mut answers = Answers::new();
        let mut rest = asked;
        while !rest.is_empty() {
            let fitting = self.batches.fitting(rest);
            let (now, later) = rest.split_at(fitting);
            if self.batches.is_one_by_one() {
                self.each(now, &mut answers).await?;
                rest = later;
                continue;
            }
            let next = match self.many(now).await {
                Ok(said) => {
                    self.batches.worked();
                    take_in(now, said, &mut answers);
                    rest = later;
                    continue;
                }
                Err(error) => self.batches.after(now.len(), error),
            };
            match next {
                batches::Next::Again => {}
                batches::Next::Each => {
                    self.each(now, &mut answers).await?;
                    rest = later;
                }
                batches::Next::EachIfAnswered(error) => {
                    // Some devices say nothing to what they do not know.
                    self.each(now, &mut answers).await.map_err(|_| error)?;
                    self.batches.never();
                    rest = later;
                }
                batches::Next::Fail(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    /// All objects of the device.
    ///
    /// # Errors
    /// When it does not tell.
    pub(crate) async fn objects(&mut self) -> Result<Vec<ObjectId>, AskError> {
        let device = self.device_object();
        match self.one(device, Property::ObjectList, None).await {
            Ok(values) => Ok(named(&values)),
            // A list that does not fit into what the device can send is read element by element.
            Err(AskError::Aborted(_) | AskError::Rejected(_) | AskError::TooLong) => {
                self.objects_by_index(device).await
            }
            Err(error) => Err(error),
        }
    }

    /// Asks to be told of changes of an object.
    ///
    /// # Errors
    /// When the device does not answer or refuses.
    pub(crate) async fn subscribe(
        &self,
        process: u32,
        object: ObjectId,
        is_confirmed: bool,
        lifetime_s: u32,
    ) -> Result<(), AskError> {
        let content = cov(process, object, is_confirmed, lifetime_s).map_err(unasked)?;
        let service = Service::SubscribeCov;
        self.ask(service, content).await.map(drop)
    }

    /// The device's own object; 4194303 stands for whichever it is.
    pub(crate) fn device_object(&self) -> ObjectId {
        let instance = self.bound.as_ref().and_then(|bound| bound.instance);
        ObjectId::device(instance.unwrap_or(find::WHICHEVER))
    }

    /// One property as it is.
    pub(crate) async fn one(
        &self,
        object: ObjectId,
        asked: Property,
        index: Option<u32>,
    ) -> Result<Vec<Value>, AskError> {
        let content = property_of(object, asked, index).map_err(unasked)?;
        let service = Service::ReadProperty;
        let said = property(&content_of(self.ask(service, content).await?)).map_err(malformed)?;
        // An answer to an earlier question must not pass for one to this.
        let is_whichever = object == ObjectId::device(find::WHICHEVER);
        let is_of = said.object == object || is_whichever;
        if !is_of || said.property != asked.number() || said.index != index {
            return Err(unasked("it answered another question"));
        }
        said.outcome.map_err(AskError::Refused)
    }

    async fn objects_by_index(&self, device: ObjectId) -> Result<Vec<ObjectId>, AskError> {
        let count = self.one(device, Property::ObjectList, Some(0)).await?;
        let Some(Value::Unsigned(count)) = count.first() else {
            return Err(unasked("its list of objects has no length"));
        };
        let count = u32::try_from(*count).unwrap_or(u32::MAX).min(OBJECTS_MAX);
        let mut objects = Vec::new();
        for index in 1..=count {
            let values = self.one(device, Property::ObjectList, Some(index)).await?;
            objects.extend(named(&values));
        }
        Ok(objects)
    }

    /// Many properties with one question.
    async fn many(&self, asked: &[(ObjectId, Vec<Property>)]) -> Result<Vec<Answer>, AskError> {
        let content = properties_of(asked).map_err(unasked)?;
        let service = Service::ReadPropertyMultiple;
        properties(&content_of(self.ask(service, content).await?)).map_err(malformed)
    }

    /// Many properties with a question for each.
    async fn each(
        &self,
        asked: &[(ObjectId, Vec<Property>)],
        answers: &mut Answers,
    ) -> Result<(), AskError> {
        for (object, properties) in asked {
            for property in properties {
                let outcome = match self.one(*object, *property, None).await {
                    Ok(values) => Ok(values),
                    Err(AskError::Refused(refusal)) => Err(refusal.into()),
                    Err(
                        error @ (AskError::Rejected(_)
                        | AskError::Aborted(_)
                        | AskError::TooLong
                        | AskError::Unasked(_)),
                    ) => Err(Denial::Other(error.to_string())),
                    Err(error) => return Err(error),
                };
                let has_no_object = outcome == Err(Denial::NoObject);
                answers.insert((*object, *property), outcome);
                if has_no_object {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn ask(&self, service: Service, content: Vec<u8>) -> Result<Reply, AskError> {
        let Some(bound) = &self.bound else {
            return Err(unasked("the device was not found yet"));
        };
        self.link
            .ask(&bound.peer, service, content, self.patience)
            .await
    }

    /// Who answers.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.bound.as_ref().map(|bound| &bound.peer)
    }
}

/// Keeps the answers that were asked for.
fn take_in(asked: &[(ObjectId, Vec<Property>)], said: Vec<Answer>, answers: &mut Answers) {
    for answer in said {
        let Some((object, properties)) = asked.iter().find(|(object, _)| *object == answer.object)
        else {
            continue;
        };
        let property = properties
            .iter()
            .find(|property| property.number() == answer.property);
        if let Some(property) = property {
            let outcome = answer.outcome.map_err(Denial::from);
            answers.insert((*object, *property), outcome);
        }
    }
}

fn named(values: &[Value]) -> Vec<ObjectId> {
    let objects = values.iter().filter_map(|value| match value {
        Value::Object(object) => Some(*object),
        _ => None,
    });
    objects.take(OBJECTS_MAX as usize).collect()
}

fn content_of(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Content(content) => content,
        Reply::Done => Vec::new(),
    }
}

fn unasked(why: impl ToString) -> AskError {
    AskError::Unasked(why.to_string())
}

fn malformed(error: Malformed) -> AskError {
    AskError::Unasked(format!("its answer cannot be read: {error}"))
}
