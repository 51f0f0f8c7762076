//! A subscription to the changes of one object: when it is asked for, and what it has brought.
//!
//! Promises: a value stands only while the subscription was never interrupted; a device that refuses is
//! polled and asked again much later. Refuses: sockets; it says what is due and is told what came of it.

use cms_spec::decimal::Decimal;
use jiff::{SignedDuration, Timestamp};

use super::judge::{Said, judge};
use super::wire::{Notification, Property, Value};
use crate::thermal::device::{Observation, PointError};

/// How long a device that refused is polled before it is asked again.
const REFUSED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// What came by itself.
#[derive(Clone, Debug, PartialEq)]
struct Brought {
    outcome: Result<Decimal, PointError>,
    has_fault: bool,
    at: Timestamp,
}

/// The subscription of one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscription {
    until: Option<Timestamp>,
    refused_until: Option<Timestamp>,
    is_unconfirmed: bool,
    brought: Option<Brought>,
}

impl Subscription {
    /// Whether it must be asked for, or renewed, now: once a third of its time has passed, so that a round
    /// or two may come late or fail.
    pub(super) fn is_due(&self, at: Timestamp, lifetime_s: u32) -> bool {
        if self.refused_until.is_some_and(|until| at < until) {
            return false;
        }
        let ahead = SignedDuration::from_secs(i64::from(lifetime_s) * 2 / 3);
        self.until
            .is_none_or(|until| at.saturating_add(ahead).is_ok_and(|then| then >= until))
    }

    /// Whether to ask for notifications that we confirm. They are not lost on the way.
    pub(super) const fn is_confirmed(&self) -> bool {
        !self.is_unconfirmed
    }

    /// The device agreed.
    pub(super) fn agreed(&mut self, at: Timestamp, lifetime_s: u32) {
        if !self.is_alive(at) {
            // What came before the gap may have changed in it.
            self.brought = None;
        }
        let lifetime = SignedDuration::from_secs(i64::from(lifetime_s));
        self.until = at.saturating_add(lifetime).ok();
        self.refused_until = None;
    }

    /// The device does not want to. True when it shall be asked in the other way at once.
    pub(super) fn declined(&mut self, at: Timestamp) -> bool {
        if self.is_confirmed() {
            self.is_unconfirmed = true;
            return true;
        }
        self.is_unconfirmed = false;
        self.until = None;
        self.brought = None;
        self.refused_until = at.saturating_add(REFUSED_FOR).ok();
        false
    }

    /// A change has come.
    pub(super) fn bring(&mut self, notification: &Notification, at: Timestamp) {
        let of = |property: Property| {
            let mut values = notification.values.iter();
            let found = values.find(|(number, _)| *number == property.number())?;
            found.1.first()
        };
        let Some(value) = of(Property::PresentValue) else {
            return;
        };
        let said = Said {
            flags: match of(Property::StatusFlags) {
                Some(Value::Bits(flags)) => Some(*flags),
                _ => None,
            },
            reliability: None,
        };
        self.brought = Some(Brought {
            outcome: judge(value, &said),
            has_fault: said.has_fault(),
            at,
        });
    }

    /// What stands now; nothing when the object must be polled: because nothing has come, the subscription
    /// has run out, or there is a fault whose reason only a question tells.
    pub(super) fn stands(&self, at: Timestamp) -> Option<Result<Observation, PointError>> {
        let brought = self.brought.as_ref().filter(|_| self.is_alive(at))?;
        if brought.has_fault {
            return None;
        }
        Some(brought.outcome.clone().map(|raw| Observation {
            raw,
            at: brought.at,
            unit: None,
            stands: true,
        }))
    }

    fn is_alive(&self, at: Timestamp) -> bool {
        self.until.is_some_and(|until| at <= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thermal::bacnet::wire::{Bits, ObjectId};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_768_564_800 + second).unwrap()
    }

    fn change(value: f32, flags: [bool; 4]) -> Notification {
        Notification {
            process: 1,
            device: 9,
            object: ObjectId::from_bits(3),
            remaining_s: 60,
            values: vec![
                (85, vec![Value::Real(value)]),
                (111, vec![Value::Bits(Bits::new(&flags))]),
            ],
        }
    }

    #[test]
    fn a_value_stands_while_the_subscription_is_renewed_in_time() {
        let mut one = Subscription::default();
        assert!(one.is_due(at(0), 60));
        one.agreed(at(0), 60);
        assert!(!one.is_due(at(19), 60));
        assert_eq!(one.stands(at(1)), None);
        one.bring(&change(18.4, [false; 4]), at(2));
        let standing = one.stands(at(19)).unwrap().unwrap();
        assert_eq!(
            (standing.raw.to_string(), standing.at, standing.stands),
            ("18.4".into(), at(2), true)
        );
        assert!(one.is_due(at(20), 60));
        one.agreed(at(30), 60);
        assert!(one.stands(at(61)).is_some());
        assert_eq!(one.stands(at(91)), None, "it has run out");
        one.agreed(at(95), 60);
        assert_eq!(
            one.stands(at(95)),
            None,
            "what was before the gap is no value"
        );
    }

    #[test]
    fn a_device_that_refuses_is_asked_in_the_other_way_and_then_polled_for_an_hour() {
        let mut one = Subscription::default();
        assert!(one.declined(at(0)));
        assert!(!one.is_confirmed() && one.is_due(at(0), 60));
        assert!(!one.declined(at(0)));
        assert!(!one.is_due(at(3599), 60));
        assert!(one.is_due(at(3600), 60) && one.is_confirmed());
    }

    #[test]
    fn faults_are_polled_for_their_reason_and_warnings_are_told() {
        let mut one = Subscription::default();
        one.agreed(at(0), 60);
        one.bring(&change(f32::NAN, [false, true, false, false]), at(1));
        assert_eq!(one.stands(at(1)), None);
        one.bring(&change(21.0, [false, false, false, true]), at(2));
        assert!(matches!(one.stands(at(2)), Some(Err(PointError::Bad(_)))));
    }
}
