//! Whether a value can be relied on, by what its object says about itself.
//!
//! Status_Flags and Reliability decide: a fault, a value set by hand or an object out of service is no
//! reading, whatever number stands there. An alarm is no fault: a hot room is hot.

use bacnet_rs::object::Reliability;
use cms_spec::decimal::Decimal;

use super::wire::{Bits, Value};
use crate::thermal::device::PointError;

/// Places of Status_Flags; the first is `in-alarm`.
const FAULT: u8 = 1;
const OVERRIDDEN: u8 = 2;
const OUT_OF_SERVICE: u8 = 3;

/// What an object says about its value; what it does not have is not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) flags: Option<Bits>,
    pub(super) reliability: Option<u32>,
}

/// The number, if it can be relied on.
pub(super) fn judge(value: &Value, said: &Said) -> Result<Decimal, PointError> {
    let is_set = |place| said.flags.is_some_and(|flags| flags.is_set(place));
    let unreliable = said.reliability.filter(|reliability| *reliability != 0);
    if let Some(reliability) = unreliable {
        return Err(PointError::Bad(format!(
            "the device says that the value is not reliable: {}",
            reliability_words(reliability)
        )));
    }
    if is_set(FAULT) {
        return Err(PointError::Bad(
            "the device says that there is a fault (Status_Flags), without a reason".to_owned(),
        ));
    }
    if is_set(OUT_OF_SERVICE) {
        return Err(PointError::Bad(
            "the object is out of service: its value is not what is measured; put it back into service \
             at the device"
                .to_owned(),
        ));
    }
    if is_set(OVERRIDDEN) {
        return Err(PointError::Bad(
            "the value is overridden by hand at the device: end that there".to_owned(),
        ));
    }
    number(value)
}

fn number(value: &Value) -> Result<Decimal, PointError> {
    let read = match value {
        Value::Real(number) => Decimal::from_f32(*number),
        Value::Double(number) => Decimal::from_f64(*number),
        Value::Unsigned(number) => number.to_string().parse(),
        Value::Signed(number) => number.to_string().parse(),
        Value::Enumerated(number) => Ok(Decimal::whole((*number).into())),
        Value::Boolean(is_true) => Ok(Decimal::whole((*is_true).into())),
        Value::Null => {
            return Err(PointError::Bad(
                "the object has no value now (null)".to_owned(),
            ));
        }
        Value::Text(_) | Value::Bits(_) | Value::Object(_) | Value::Other => {
            return Err(PointError::Malformed(
                "the value is no number: choose an object of an analog, binary or integer type"
                    .to_owned(),
            ));
        }
    };
    read.map_err(|error| PointError::Bad(format!("the device answers no usable number: {error}")))
}

/// Why a value is not reliable.
pub(super) fn reliability_words(number: u32) -> String {
    let words = match Reliability::from(number) {
        Reliability::NoFaultDetected => "no fault",
        Reliability::NoSensor => "no sensor is connected",
        Reliability::OverRange => "the sensor is above its range",
        Reliability::UnderRange => "the sensor is below its range",
        Reliability::OpenLoop => "open loop: the sensor's wire is broken",
        Reliability::ShortedLoop => "shorted loop: the sensor's wires touch",
        Reliability::NoOutput => "no output is connected",
        Reliability::UnreliableOther => "unreliable for another reason",
        Reliability::ProcessError => "process error",
        Reliability::MultiStateFault => "the state is one that counts as a fault",
        Reliability::ConfigurationError => "the device is not configured properly",
        Reliability::Reserved(_) | Reliability::Custom(_) => match number {
            12 => "the device lost its communication with the sensor",
            13 => "a member has a fault",
            14 => "a monitored object has a fault",
            15 => "the sensor tripped",
            _ => return format!("reason {number}"),
        },
    };
    format!("{words} (reliability {number})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(flags: [u8; 4], reliability: u32) -> Said {
        Said {
            flags: Some(Bits::new(&flags.map(|flag| flag == 1))),
            reliability: Some(reliability),
        }
    }

    #[test]
    fn values_are_taken_unless_the_device_warns() {
        let value = Value::Real(18.4);
        for good in [Said::default(), said([0; 4], 0), said([1, 0, 0, 0], 0)] {
            assert_eq!(judge(&value, &good).unwrap().to_string(), "18.4");
        }
        for (bad, reason) in [
            (
                said([0, 1, 0, 0], 4),
                "open loop: the sensor's wire is broken (reliability 4)",
            ),
            (said([0, 1, 0, 0], 0), "there is a fault (Status_Flags)"),
            (said([0, 0, 1, 0], 0), "overridden by hand"),
            (said([0, 0, 0, 1], 0), "out of service"),
            (said([0, 0, 0, 0], 1), "no sensor is connected"),
            (said([0, 0, 0, 0], 12), "lost its communication"),
            (said([0, 0, 0, 0], 99), "reason 99"),
        ] {
            let error = judge(&value, &bad).unwrap_err();
            assert!(matches!(error, PointError::Bad(_)));
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn every_kind_of_number_is_read_and_nothing_else() {
        let read = |value| judge(&value, &Said::default());
        for (value, expected) in [
            (Value::Double(1.5), "1.5"),
            (Value::Unsigned(1_234_567), "1234567"),
            (Value::Signed(-3), "-3"),
            (Value::Enumerated(1), "1"),
            (Value::Boolean(true), "1"),
            (Value::Real(21.3), "21.3"),
        ] {
            assert_eq!(read(value).unwrap().to_string(), expected);
        }
        for value in [
            Value::Real(f32::NAN),
            Value::Double(f64::INFINITY),
            Value::Null,
        ] {
            assert!(matches!(read(value), Err(PointError::Bad(_))));
        }
        assert!(matches!(read(Value::Other), Err(PointError::Malformed(_))));
        assert!(matches!(
            read(Value::Text("18".into())),
            Err(PointError::Malformed(_))
        ));
    }
}
