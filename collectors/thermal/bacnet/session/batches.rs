//! How many properties a device is asked for at once.
//!
//! A batch is cut so that question and answer fit into one message of the device. What still does not work
//! is halved; a device that does not know the service is asked for one property at a time from then on.

use crate::thermal::bacnet::link::AskError;
use crate::thermal::bacnet::wire::{ObjectId, Property};

/// What every device takes, by the standard; where it says nothing about itself.
const APDU_BYTES_LEAST: u16 = 50;

/// The longest message that we take ourselves.
const APDU_BYTES_OURS: u16 = 1476;

/// Heads of messages, with room for a router's.
const HEAD_BYTES: usize = 24;

/// Reject reason: the service is not known.
const UNRECOGNIZED_SERVICE: u8 = 9;

/// What a device manages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batches {
    bytes_max: usize,
    objects_max: usize,
    is_one_by_one: bool,
    has_worked: bool,
}

/// What to do after a batch that failed.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask again; the batch is smaller now.
    Again,
    /// Ask for each property of this batch.
    Each,
    /// The same, and only if that is not answered either this was an error.
    EachIfAnswered(AskError),
    /// Give up.
    Fail(AskError),
}

impl Default for Batches {
    fn default() -> Self {
        Self::new(APDU_BYTES_LEAST)
    }
}

impl Batches {
    /// For a device that takes messages of this length.
    pub(super) fn new(apdu_bytes_max: u16) -> Self {
        let apdu = apdu_bytes_max.clamp(APDU_BYTES_LEAST, APDU_BYTES_OURS);
        Self {
            bytes_max: usize::from(apdu) - HEAD_BYTES,
            objects_max: usize::MAX,
            is_one_by_one: false,
            has_worked: false,
        }
    }

    pub(super) const fn is_one_by_one(&self) -> bool {
        self.is_one_by_one
    }

    pub(super) const fn worked(&mut self) {
        self.has_worked = true;
    }

    pub(super) const fn never(&mut self) {
        self.is_one_by_one = true;
    }

    /// How many of these go into the next question; at least one.
    pub(super) fn fitting(&self, asked: &[(ObjectId, Vec<Property>)]) -> usize {
        let (mut question, mut answer) = (0, 0);
        let fitting = asked.iter().take_while(|(_, properties)| {
            question += 7 + properties.len() * 3;
            answer += 7 + properties
                .iter()
                .map(|one| answer_bytes(*one))
                .sum::<usize>();
            question <= self.bytes_max && answer <= self.bytes_max
        });
        fitting.count().clamp(1, self.objects_max.max(1))
    }

    /// What to do after so many objects could not be asked for at once.
    pub(super) fn after(&mut self, objects: usize, error: AskError) -> Next {
        match error {
            AskError::Rejected(UNRECOGNIZED_SERVICE) => {
                self.is_one_by_one = true;
                Next::Each
            }
            AskError::Silent { .. } if !self.has_worked => Next::EachIfAnswered(error),
            AskError::Silent { .. } | AskError::NoRoute { .. } | AskError::Send(..) => {
                Next::Fail(error)
            }
            AskError::Refused(_)
            | AskError::Rejected(_)
            | AskError::Aborted(_)
            | AskError::TooLong
            | AskError::Broken(_)
            | AskError::Unasked(_) => {
                if objects > 1 {
                    self.objects_max = objects / 2;
                    return Next::Again;
                }
                self.is_one_by_one |= !self.has_worked;
                Next::Each
            }
        }
    }
}

/// How long the answer for one property is: its number, brackets and content.
const fn answer_bytes(property: Property) -> usize {
    let content = match property {
        // A double.
        Property::PresentValue => 10,
        Property::StatusFlags | Property::Reliability | Property::ApduBytesMax => 3,
        Property::Units => 4,
        // Names are as long as people like; a batch that is too long is halved.
        Property::ObjectName | Property::VendorName | Property::ModelName => 40,
        Property::Description | Property::ObjectList => 60,
    };
    content + 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thermal::bacnet::wire::{Kind, Refusal};

    fn asked(count: u32) -> Vec<(ObjectId, Vec<Property>)> {
        let read = vec![
            Property::PresentValue,
            Property::StatusFlags,
            Property::Reliability,
        ];
        { 0..count }
            .map(|at| (ObjectId::new(Kind::new(0), at), read.clone()))
            .collect()
    }

    #[test]
    fn batches_fit_into_a_message() {
        for (apdu, expected) in [
            (50, 1),
            (128, 2),
            (480, 13),
            (1024, 28),
            (1476, 41),
            (65535, 41),
        ] {
            assert_eq!(Batches::new(apdu).fitting(&asked(100)), expected, "{apdu}");
        }
        assert_eq!(Batches::new(1476).fitting(&asked(3)), 3);
    }

    #[test]
    fn what_does_not_work_is_halved_and_then_asked_for_one_by_one() {
        let mut batches = Batches::new(1476);
        let mut sizes = Vec::new();
        loop {
            let fitting = batches.fitting(&asked(100));
            sizes.push(fitting);
            match batches.after(fitting, AskError::Aborted(4)) {
                Next::Again => {}
                next => break assert!(matches!(next, Next::Each)),
            }
        }
        assert_eq!(sizes, [41, 20, 10, 5, 2, 1]);
        assert!(batches.is_one_by_one());
    }

    #[test]
    fn a_device_that_has_answered_many_is_not_given_up_for_one_refusal() {
        let mut batches = Batches::new(480);
        batches.worked();
        let refused = AskError::Refused(Refusal { class: 1, code: 31 });
        assert!(matches!(batches.after(1, refused), Next::Each));
        assert!(!batches.is_one_by_one());
        let silent = AskError::Unasked(String::new());
        assert!(matches!(batches.after(4, silent), Next::Again));
        assert!(matches!(
            batches.after(4, AskError::Rejected(9)),
            Next::Each
        ));
        assert!(batches.is_one_by_one());
    }
}
