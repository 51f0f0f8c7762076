//! A subscription to the changes of one object: when it is asked for, and what it has brought.
//!
//! Promises: a value stands only while the subscription was never interrupted, is good, and was asked for
//! once since the last renewal; a device that refuses is polled and asked again much later. Refuses:
//! sockets; it says what is due and is told what came of it.

use cms_spec::decimal::Decimal;
use jiff::{SignedDuration, Timestamp};

use super::judge::{Said, judge};
use super::wire::{Notification, Property, Value};
use crate::thermal::device::{Observation, PointError};

/// How long a device that refused is polled before it is asked again.
const REFUSED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// The subscription of one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscription {
    until: Option<Timestamp>,
    refused_until: Option<Timestamp>,
    is_unconfirmed: bool,
    /// Whether the object was asked for since the last renewal: devices tell of a new value, but many do
    /// not tell of a fault, and what they tell may be lost.
    is_checked: bool,
    /// The newest good value, and when it came.
    good: Option<(Decimal, Timestamp)>,
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
        let lifetime = SignedDuration::from_secs(i64::from(lifetime_s));
        self.until = at.saturating_add(lifetime).ok();
        self.refused_until = None;
        self.is_checked = false;
    }

    /// The device does not want to. True when it shall be asked in the other way at once.
    pub(super) fn declined(&mut self, at: Timestamp) -> bool {
        if self.is_confirmed() {
            self.is_unconfirmed = true;
            return true;
        }
        self.is_unconfirmed = false;
        self.until = None;
        self.refused_until = at.saturating_add(REFUSED_FOR).ok();
        false
    }

    /// A change has come. One that is not good is asked for: only then the device says why.
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
        self.good = judge(value, &said).ok().map(|raw| (raw, at));
    }

    /// The object was asked for.
    pub(super) fn polled(&mut self, outcome: &Result<Observation, PointError>) {
        self.is_checked = true;
        self.good = outcome.as_ref().ok().map(|seen| (seen.raw, seen.at));
    }

    /// What stands now; nothing when the object must be asked for.
    pub(super) fn stands(&self, at: Timestamp) -> Option<Observation> {
        let is_alive = self.until.is_some_and(|until| at <= until);
        let (raw, since) = self.good.filter(|_| is_alive && self.is_checked)?;
        Some(Observation {
            raw,
            at: since,
            unit: None,
            stands: true,
        })
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

    fn polled(value: i64, second: i64) -> Result<Observation, PointError> {
        Ok(Observation::polled(Decimal::whole(value), at(second)))
    }

    #[test]
    fn a_value_stands_while_the_subscription_is_renewed_in_time() {
        let mut one = Subscription::default();
        assert!(one.is_due(at(0), 60));
        one.agreed(at(0), 60);
        assert!(!one.is_due(at(19), 60));
        one.bring(&change(18.5, [false; 4]), at(1));
        assert_eq!(one.stands(at(1)), None, "it was not asked for yet");
        one.polled(&polled(18, 1));
        assert_eq!(one.stands(at(2)).unwrap().raw, Decimal::whole(18));
        one.bring(&change(18.4, [false; 4]), at(2));
        let standing = one.stands(at(19)).unwrap();
        assert_eq!(
            (standing.raw.to_string(), standing.at),
            ("18.4".into(), at(2))
        );
        assert!(standing.stands && one.is_due(at(20), 60));
        one.agreed(at(20), 60);
        assert_eq!(one.stands(at(20)), None, "it is checked after each renewal");
        one.polled(&polled(18, 20));
        assert!(one.stands(at(80)).is_some());
        assert_eq!(one.stands(at(81)), None, "it has run out");
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
        one.polled(&polled(18, 0));
        assert_eq!(one.stands(at(0)), None);
        assert!(!one.is_due(at(3599), 60));
        assert!(one.is_due(at(3600), 60) && one.is_confirmed());
    }

    #[test]
    fn what_is_not_good_never_stands() {
        let mut one = Subscription::default();
        one.agreed(at(0), 60);
        one.polled(&polled(18, 0));
        one.bring(&change(21.0, [false, false, false, true]), at(2));
        assert_eq!(one.stands(at(2)), None);
        one.bring(&change(21.0, [false; 4]), at(3));
        assert!(one.stands(at(3)).is_some());
        one.polled(&Err(PointError::Bad("open loop".to_owned())));
        assert_eq!(one.stands(at(4)), None);
    }
}
