//! What devices answer: properties, announcements of themselves, and notifications of changes.

use super::object::{Kind, ObjectId};
use super::tags::{Elements, Tag, unsigned32};
use super::value::{OBJECT, UNSIGNED};
use super::{Malformed, Value};

/// Parts of one reply; a reply of 256 KiB cannot sensibly hold more.
const ANSWERS_MAX: usize = 32_768;

/// One property of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whose it is.
    pub object: ObjectId,
    /// Its number.
    pub property: u32,
    /// Which element of it, where it is an array.
    pub index: Option<u32>,
    /// What it holds, or why it is not told.
    pub outcome: Result<Vec<Value>, Refusal>,
}

/// Why a device does not tell something, by the numbers of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it concerns.
    pub class: u32,
    /// What is wrong.
    pub code: u32,
}

/// What a device says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Its instance.
    pub device: u32,
    /// The longest message that it takes, in bytes.
    pub apdu_bytes_max: u16,
    /// Whether it sends replies in segments.
    pub sends_segments: bool,
    /// Who made it.
    pub vendor: u16,
}

/// A change that was subscribed to.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Our number for the subscriptions.
    pub process: u32,
    /// The device.
    pub device: u32,
    /// The object.
    pub object: ObjectId,
    /// How long the subscription still lasts, in seconds; zero is for ever.
    pub remaining_s: u32,
    /// Its properties, by their numbers.
    pub values: Vec<(u32, Vec<Value>)>,
}

/// The answer to a question for one property.
///
/// # Errors
/// When the bytes are no such answer.
pub fn property(bytes: &[u8]) -> Result<Answer, Malformed> {
    let mut elements = Elements::new(bytes);
    let object = object(&mut elements, 0)?;
    let property = number(&mut elements, 1)?;
    let index = optional(&mut elements, 2)?;
    elements.expect(Tag::Opening(3))?;
    let values = Value::until_closed(&mut elements, 3)?;
    Ok(Answer {
        object,
        property,
        index,
        outcome: Ok(values),
    })
}

/// The answer to a question for many properties, in the order in which the device gives them.
///
/// # Errors
/// As [`property`].
pub fn properties(bytes: &[u8]) -> Result<Vec<Answer>, Malformed> {
    let mut elements = Elements::new(bytes);
    let mut answers = Vec::new();
    while !elements.is_empty() {
        let object = object(&mut elements, 0)?;
        elements.expect(Tag::Opening(1))?;
        while elements.take(Tag::Closing(1))?.is_none() {
            if answers.len() == ANSWERS_MAX {
                return Err(Malformed::Many);
            }
            let property = number(&mut elements, 2)?;
            let index = optional(&mut elements, 3)?;
            let outcome = match elements.read()?.tag {
                Tag::Opening(4) => Ok(Value::until_closed(&mut elements, 4)?),
                Tag::Opening(5) => Err(refusal(&mut elements, 5)?),
                _ => return Err(Malformed::Tag),
            };
            answers.push(Answer {
                object,
                property,
                index,
                outcome,
            });
        }
    }
    Ok(answers)
}

/// A device's I-Am.
///
/// # Errors
/// When the bytes are none.
pub fn announcement(bytes: &[u8]) -> Result<Announcement, Malformed> {
    let mut elements = Elements::new(bytes);
    let Value::Object(object) = Value::of(&elements.expect(Tag::Application(OBJECT))?)? else {
        return Err(Malformed::Tag);
    };
    if object.kind() != Kind::DEVICE {
        return Err(Malformed::Tag);
    }
    let longest = unsigned32(elements.expect(Tag::Application(UNSIGNED))?.content)?;
    let Value::Enumerated(segmentation) = Value::of(&elements.read()?)? else {
        return Err(Malformed::Tag);
    };
    let vendor = unsigned32(elements.expect(Tag::Application(UNSIGNED))?.content)?;
    Ok(Announcement {
        device: object.instance(),
        apdu_bytes_max: u16::try_from(longest).unwrap_or(u16::MAX),
        // Both, or transmit only.
        sends_segments: segmentation < 2,
        vendor: u16::try_from(vendor).unwrap_or(u16::MAX),
    })
}

/// A notification of a change.
///
/// # Errors
/// When the bytes are none.
pub fn notification(bytes: &[u8]) -> Result<Notification, Malformed> {
    let mut elements = Elements::new(bytes);
    let process = number(&mut elements, 0)?;
    let device = object(&mut elements, 1)?;
    let object = object(&mut elements, 2)?;
    let remaining_s = number(&mut elements, 3)?;
    elements.expect(Tag::Opening(4))?;
    let mut values = Vec::new();
    while elements.take(Tag::Closing(4))?.is_none() {
        if values.len() == ANSWERS_MAX {
            return Err(Malformed::Many);
        }
        let property = number(&mut elements, 0)?;
        optional(&mut elements, 1)?;
        elements.expect(Tag::Opening(2))?;
        values.push((property, Value::until_closed(&mut elements, 2)?));
        optional(&mut elements, 3)?;
    }
    Ok(Notification {
        process,
        device: device.instance(),
        object,
        remaining_s,
        values,
    })
}

fn object(elements: &mut Elements<'_>, tag: u8) -> Result<ObjectId, Malformed> {
    let content = elements.expect(Tag::Context(tag))?.content;
    let bytes = content.try_into().map_err(|_| Malformed::Length)?;
    Ok(ObjectId::from_bits(u32::from_be_bytes(bytes)))
}

fn number(elements: &mut Elements<'_>, tag: u8) -> Result<u32, Malformed> {
    unsigned32(elements.expect(Tag::Context(tag))?.content)
}

fn optional(elements: &mut Elements<'_>, tag: u8) -> Result<Option<u32>, Malformed> {
    let element = elements.take(Tag::Context(tag))?;
    element
        .map(|element| unsigned32(element.content))
        .transpose()
}

fn refusal(elements: &mut Elements<'_>, opened: u8) -> Result<Refusal, Malformed> {
    match *Value::until_closed(elements, opened)? {
        [Value::Enumerated(class), Value::Enumerated(code), ..] => Ok(Refusal { class, code }),
        _ => Err(Malformed::Tag),
    }
}

#[cfg(test)]
mod tests {
    use bacnet_rs::object::{PropertyIdentifier, Segmentation};
    use bacnet_rs::property::PropertyValue;
    use bacnet_rs::service::{
        CovNotificationProperty, CovNotificationRequest, IAmRequest, ReadPropertyResponse,
    };

    use super::*;

    fn ai3() -> ObjectId {
        "AI,3".parse().unwrap()
    }

    #[test]
    fn an_answer_that_bacnet_rs_writes_is_read() {
        let mut written = ReadPropertyResponse::new(
            ai3().foreign(),
            PropertyIdentifier::PresentValue,
            vec![PropertyValue::Real(21.5)],
        );
        written.property_array_index = Some(2);
        let mut bytes = Vec::new();
        written.encode(&mut bytes).unwrap();
        let read = property(&bytes).unwrap();
        assert_eq!(
            (read.object, read.property, read.index),
            (ai3(), 85, Some(2))
        );
        assert_eq!(read.outcome.unwrap(), [Value::Real(21.5)]);
        for end in 0..bytes.len() {
            assert!(property(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn answers_and_refusals_stand_side_by_side() {
        let bytes = [
            0x0C, 0, 0, 0, 3, 0x1E, // analog-input,3
            0x29, 85, 0x4E, 0x44, 0x41, 0xAC, 0, 0, 0x4F, // present-value 21.5
            0x29, 103, 0x5E, 0x91, 2, 0x91, 32, 0x5F, // no reliability
            0x29, 187, 0x4E, 0x09, 1, 0x1E, 0x21, 1, 0x1F, 0x4F, // a scale of several parts
            0x1F, 0x0C, 0, 0, 0, 4, 0x1E, 0x29, 85, 0x5E, 0x91, 1, 0x91, 31, 0x5F, 0x1F,
        ];
        let answers = properties(&bytes).unwrap();
        assert_eq!(answers.len(), 4);
        assert_eq!(answers[0].outcome, Ok(vec![Value::Real(21.5)]));
        assert_eq!(answers[1].outcome, Err(Refusal { class: 2, code: 32 }));
        assert_eq!(answers[2].outcome, Ok(vec![Value::Other, Value::Other]));
        assert_eq!(answers[3].object.instance(), 4);
        assert_eq!(answers[3].outcome, Err(Refusal { class: 1, code: 31 }));
        for end in 1..bytes.len() {
            let cut = properties(&bytes[..end]);
            assert!(cut.is_err() || end == 34, "{end}: {cut:?}");
        }
    }

    #[test]
    fn a_device_announces_itself() {
        let mut bytes = Vec::new();
        IAmRequest::new(
            ObjectId::device(1001).foreign(),
            1024,
            Segmentation::Both,
            999,
        )
        .encode(&mut bytes)
        .unwrap();
        let expected = Announcement {
            device: 1001,
            apdu_bytes_max: 1024,
            sends_segments: true,
            vendor: 999,
        };
        assert_eq!(announcement(&bytes), Ok(expected));
        bytes[1] = 0;
        assert_eq!(announcement(&bytes), Err(Malformed::Tag));
    }

    #[test]
    fn a_change_is_read() {
        let properties = vec![
            CovNotificationProperty::new(
                PropertyIdentifier::PresentValue,
                vec![PropertyValue::Real(18.4)],
            ),
            CovNotificationProperty::new(
                PropertyIdentifier::StatusFlags,
                vec![PropertyValue::BitString(vec![false, true, false, false])],
            ),
        ];
        let mut bytes = Vec::new();
        CovNotificationRequest::new(
            7,
            ObjectId::device(9).foreign(),
            ai3().foreign(),
            60,
            properties,
        )
        .encode(&mut bytes)
        .unwrap();
        let read = notification(&bytes).unwrap();
        assert_eq!(
            (read.process, read.device, read.object, read.remaining_s),
            (7, 9, ai3(), 60)
        );
        assert_eq!(read.values[0], (85, vec![Value::Real(18.4)]));
        let Value::Bits(flags) = read.values[1].1[0] else {
            panic!("{:?}", read.values)
        };
        assert!(flags.is_set(1) && !flags.is_set(0));
    }
}
