//! OTLP: spans of requests to models, over gRPC, HTTP with protobuf, or HTTP with JSON, on one port.
//!
//! Promises: of a span only the attributes on our list are read; a span that asks no model is stepped over.

mod json;
mod protobuf;
mod span;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::HashMap;
use std::sync::Arc;

use super::feed::Feed;
use super::receive::{self, Dialect, Form, Listen, Receiver, Refusal, Told};
use super::request::{Request, Word};
use crate::CollectError;
use crate::host::Host;
use span::{Draft, Resource};

/// Where exporters of traces post to.
const HTTP: &str = "/v1/traces";

/// What exporters of traces call.
const GRPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

const NOT_HERE: Refusal = receive::not_here(
    "only traces are received, at /v1/traces or with the call TraceService/Export: switch the exporters of metrics \
     and logs off",
);

const MALFORMED: Refusal = receive::malformed("the message is no ExportTraceServiceRequest");

/// Listens for exporters.
///
/// # Errors
/// When the address is taken, or the token cannot be read.
pub(crate) fn open(listen: &Listen, host: &Host) -> Result<Box<dyn Feed>, CollectError> {
    let receiver = Receiver::open(listen, Arc::new(Otlp), host)?;
    Ok(Box::new(receiver))
}

/// What exporters send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Otlp;

impl Dialect for Otlp {
    fn form(&self, path: &str, media: &str) -> Result<Form, Refusal> {
        match path {
            GRPC if media.starts_with("application/grpc") => Ok(Form::Grpc),
            HTTP if media.eq_ignore_ascii_case("application/x-protobuf") => Ok(Form::Protobuf),
            HTTP if media.eq_ignore_ascii_case("application/json") => Ok(Form::Json),
            HTTP => Err(receive::other_media(
                "send application/x-protobuf or application/json",
            )),
            GRPC => Err(receive::other_media("call it with application/grpc")),
            _ => Err(NOT_HERE),
        }
    }

    fn read(&self, form: Form, message: &[u8]) -> Result<Told, Refusal> {
        told(form, message)
    }
}

/// Everything that a message tells.
pub(super) fn told(form: Form, message: &[u8]) -> Result<Told, Refusal> {
    let mut spans = Spans::default();
    match form {
        Form::Json => json::read(message, &mut spans)?,
        Form::Protobuf | Form::Grpc => trace::read(message, &mut spans)?,
    }
    Ok(spans.told)
}

/// Reads any bytes.
pub(super) fn read_any(bytes: &[u8]) {
    for form in [Form::Protobuf, Form::Json] {
        receive::keeps_its_word(|| told(form, bytes));
    }
}

/// The requests of a message, each once: a client and its server may both have told it.
#[derive(Debug, Default)]
struct Spans {
    told: Told,
    places: HashMap<Word, usize>,
}

impl Spans {
    fn push(&mut self, draft: Draft, resource: &Resource) -> Result<(), Refusal> {
        let request = match draft.judged(resource) {
            Ok(request) => request,
            Err(why) => {
                self.told.left.count(why, 1);
                return Ok(());
            }
        };
        if let Some(id) = &request.id {
            let place = self.places.get(id).copied();
            if let Some(first) = place.and_then(|place| self.told.requests.get_mut(place)) {
                fill(first, request);
                self.told.left.count("that another span told of", 1);
                return Ok(());
            }
            self.places.insert(id.clone(), self.told.requests.len());
        }
        self.told.keep(request)
    }
}

/// Adds what the first span did not say.
fn fill(first: &mut Request, more: Request) {
    fn missing<T>(first: &mut Option<T>, more: Option<T>) {
        if first.is_none() {
            *first = more;
        }
    }
    missing(&mut first.at, more.at);
    missing(&mut first.model, more.model);
    missing(&mut first.input_tokens, more.input_tokens);
    missing(&mut first.output_tokens, more.output_tokens);
    missing(&mut first.duration_ms, more.duration_ms);
    missing(&mut first.tags.task_type, more.tags.task_type);
    missing(&mut first.tags.complexity, more.tags.complexity);
    missing(&mut first.route.path, more.route.path);
    missing(&mut first.route.key, more.route.key);
}
