//! An `ExportTraceServiceRequest` in protobuf: which field is what, and which are entered.

use super::protobuf::{Malformed, Value, fields};
use super::span::{Draft, Resource, Scalar};
use super::{MALFORMED, Refusal, Spans};

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        MALFORMED
    }
}

/// Gives every span of the message to `spans`.
pub(super) fn read(message: &[u8], spans: &mut Spans) -> Result<(), Refusal> {
    fields(message, |number, value| match (number, value.bytes()) {
        (1, Some(resource_spans)) => of_resource(resource_spans, spans),
        _ => Ok(()),
    })
}

fn of_resource(message: &[u8], spans: &mut Spans) -> Result<(), Refusal> {
    // The resource may stand behind its spans.
    let mut resource = Resource::default();
    fields(message, |number, value| match (number, value.bytes()) {
        (1, Some(described)) => fields(described, |number, value| match (number, value.bytes()) {
            (1, Some(pair)) => attribute(pair, |key, value| resource.attribute(key, value)),
            _ => Ok(()),
        }),
        _ => Ok::<_, Malformed>(()),
    })?;
    fields(message, |number, value| match (number, value.bytes()) {
        (2, Some(scope_spans)) => {
            fields(scope_spans, |number, value| match (number, value.bytes()) {
                (2, Some(message)) => spans.push(span(message)?, &resource),
                _ => Ok(()),
            })
        }
        _ => Ok::<_, Refusal>(()),
    })
}

fn span(message: &[u8]) -> Result<Draft, Malformed> {
    let mut draft = Draft::default();
    fields(message, |number, value| {
        match (number, value) {
            (1, Value::Bytes(id)) => draft.trace(id),
            (2, Value::Bytes(id)) => draft.span(id),
            (7, value) => draft.began_ns = value.fixed64().unwrap_or_default(),
            (8, value) => draft.ended_ns = value.fixed64().unwrap_or_default(),
            (9, Value::Bytes(pair)) => {
                attribute(pair, |key, value| draft.attribute(key, value))?;
            }
            (15, Value::Bytes(status)) => fields(status, |number, value| {
                if number == 3 {
                    draft.has_failed = value.varint() == Some(Draft::FAILED);
                }
                Ok::<_, Malformed>(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(draft)
}

/// A `KeyValue`; lists and maps are nothing that is on our list.
fn attribute(pair: &[u8], keep: impl FnOnce(&[u8], Scalar<'_>)) -> Result<(), Malformed> {
    let (mut key, mut scalar) = (None, None);
    fields(pair, |number, value| {
        match (number, value.bytes()) {
            (1, Some(name)) => key = Some(name),
            (2, Some(any)) => {
                fields(any, |number, value| {
                    scalar = match (number, value) {
                        (1, Value::Bytes(text)) => Some(Scalar::Text(text)),
                        (3, Value::Varint(bits)) => Some(Scalar::Whole(bits.cast_signed())),
                        (4, Value::Fixed64(bits)) => Some(Scalar::Real(f64::from_bits(bits))),
                        _ => None,
                    };
                    Ok::<_, Malformed>(())
                })?;
            }
            _ => {}
        }
        Ok::<_, Malformed>(())
    })?;
    if let (Some(key), Some(scalar)) = (key, scalar) {
        keep(key, scalar);
    }
    Ok(())
}
