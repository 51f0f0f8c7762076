//! An `ExportTraceServiceRequest` in JSON: which key is what, and which are entered.

use cms_spec::decimal::Decimal;

use super::super::json::{Broken, Json, whole};
use super::span::{Draft, Resource, Scalar};
use super::{MALFORMED, Refusal, Spans};

/// Why reading stops.
enum Stop {
    Broken,
    Refused(Refusal),
}

impl From<Broken> for Stop {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

/// Gives every span of the message to `spans`.
pub(super) fn read(message: &[u8], spans: &mut Spans) -> Result<(), Refusal> {
    let mut json = Json::new(message);
    // What is refused is kept here, because the scanner knows no other error than its own.
    let mut refused = Ok(());
    let read = json.object(|json, key| {
        if key == b"resourceSpans" {
            json.array(|json| of_resource(json, spans, &mut refused))?;
        }
        Ok(())
    });
    let stop = match read {
        Ok(true) if json.is_at_end() => refused.map_err(Stop::Refused),
        Ok(_) => Err(Stop::Broken),
        Err(broken) => Err(Stop::from(broken)),
    };
    stop.map_err(|stop| match stop {
        Stop::Broken => MALFORMED,
        Stop::Refused(refusal) => refusal,
    })
}

fn of_resource(
    json: &mut Json<'_>,
    spans: &mut Spans,
    refused: &mut Result<(), Refusal>,
) -> Result<(), Broken> {
    // The resource may stand behind its spans.
    let mut resource = Resource::default();
    let mut before = json.clone();
    before.object(|json, key| {
        if key == b"resource" {
            json.object(|json, key| {
                if key == b"attributes" {
                    json.array(|json| {
                        attribute(json, |key, value| resource.attribute(key, value))
                    })?;
                }
                Ok(())
            })?;
        }
        Ok(())
    })?;
    json.object(|json, key| {
        if key == b"scopeSpans" {
            json.array(|json| {
                json.object(|json, key| {
                    if key == b"spans" {
                        json.array(|json| {
                            let draft = span(json)?;
                            if refused.is_ok() {
                                *refused = spans.push(draft, &resource);
                            }
                            Ok(())
                        })?;
                    }
                    Ok(())
                })?;
                Ok(())
            })?;
        }
        Ok(())
    })?;
    Ok(())
}

fn span(json: &mut Json<'_>) -> Result<Draft, Broken> {
    let mut draft = Draft::default();
    json.object(|json, key| {
        match key {
            b"traceId" => draft.trace_text(json.word()?),
            b"spanId" => draft.span_text(json.word()?),
            b"startTimeUnixNano" => draft.began_ns = nanoseconds(json)?,
            b"endTimeUnixNano" => draft.ended_ns = nanoseconds(json)?,
            b"attributes" => {
                json.array(|json| attribute(json, |key, value| draft.attribute(key, value)))?;
            }
            b"status" => {
                json.object(|json, key| {
                    if key == b"code" {
                        draft.has_failed = json.count()? == Some(Draft::FAILED);
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(draft)
}

fn nanoseconds(json: &mut Json<'_>) -> Result<u64, Broken> {
    Ok(json.quoted_number()?.and_then(whole).unwrap_or_default())
}

/// A key with its value; lists and maps are nothing that is on our list.
fn attribute(json: &mut Json<'_>, keep: impl FnOnce(&[u8], Scalar<'_>)) -> Result<(), Broken> {
    let mut name = None;
    let (mut text, mut number): (_, Option<Decimal>) = (None, None);
    json.object(|json, key| {
        match key {
            b"key" => name = json.text()?,
            b"value" => {
                json.object(|json, key| {
                    match key {
                        b"stringValue" => text = json.text()?,
                        b"intValue" | b"doubleValue" => number = json.quoted_number()?,
                        _ => {}
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    let Some(name) = name else { return Ok(()) };
    match (text, number) {
        (Some(text), _) => keep(&name, Scalar::Text(&text)),
        (None, Some(number)) => keep(&name, Scalar::Exact(number)),
        (None, None) => {}
    }
    Ok(())
}
