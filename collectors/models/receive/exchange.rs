//! One message, from its head to its answer.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Method, Request, Response};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::answer::{Answer, GRPC, accepted, refused};
use super::body::{self, Held};
use super::refusal::{self, Refusal};
use super::{BODY_BYTES_MAX, Form, Intake, Told, grpc};

/// Messages up to this length are read where they arrive: it takes less than a millisecond.
const INLINE_BYTES_MAX: usize = 256 * 1024;

/// Answers a message.
pub(super) async fn answer(request: Request<Incoming>, intake: &Arc<Intake>) -> Response<Answer> {
    let is_grpc = media(request.headers()).starts_with(GRPC);
    match taken(request, intake).await {
        Ok(form) => accepted(form),
        Err(refusal) => {
            intake.tally().refuse(refusal);
            refused(is_grpc, refusal)
        }
    }
}

async fn taken(request: Request<Incoming>, intake: &Arc<Intake>) -> Result<Form, Refusal> {
    let (head, incoming) = request.into_parts();
    let form = judge(&head, intake)?;
    let (is_packed, bytes_max) = match form {
        Form::Grpc => (
            grpc::is_packed(&head.headers)?,
            BODY_BYTES_MAX + grpc::HEAD_BYTES,
        ),
        Form::Json | Form::Protobuf => (body::is_packed(&head.headers)?, BODY_BYTES_MAX),
    };
    drop(head);
    let held = body::gather(incoming, bytes_max, intake.times.arrive, &intake.room).await?;
    let told = if is_packed || held.bytes.len() > INLINE_BYTES_MAX {
        let intake = Arc::clone(intake);
        let work = spawn_blocking(move || read(&intake, form, is_packed, held));
        // It fails when the agent ends, or when a parser of ours panicked.
        work.await.unwrap_or(Err(refusal::UNREAD))?
    } else {
        read(intake, form, is_packed, held)?
    };
    let count = told.requests.len() as u64;
    let left = told.left.clone();
    if !told.requests.is_empty() || !told.models.is_empty() {
        let stored = intake.queue.put(told).ok_or(refusal::FULL)?;
        if !intake.dialect.is_answered_at_once() {
            match timeout(intake.times.store, stored).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(refusal::NOT_STORED),
            }
        }
    }
    let mut tally = intake.tally();
    tally.messages += 1;
    tally.requests += count;
    tally.left.add(&left);
    Ok(form)
}

/// What the head of a message says about it.
fn judge(head: &hyper::http::request::Parts, intake: &Intake) -> Result<Form, Refusal> {
    if head.headers.contains_key(ORIGIN) {
        return Err(refusal::BROWSER);
    }
    if let Some(token) = &intake.token {
        let shown = head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let (scheme, shown) = shown
            .and_then(|shown| shown.split_at_checked(b"Bearer ".len()))
            .ok_or(refusal::NO_TOKEN)?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") || !token.is(shown) {
            return Err(refusal::NO_TOKEN);
        }
    }
    if head.method != Method::POST {
        return Err(refusal::NOT_POSTED);
    }
    intake.dialect.form(head.uri.path(), media(&head.headers))
}

/// Unpacks and reads a message, and forgets it.
fn read(intake: &Intake, form: Form, is_packed: bool, held: Held) -> Result<Told, Refusal> {
    let dialect = &intake.dialect;
    match form {
        Form::Grpc => {
            let message = grpc::message(&held.bytes, is_packed, &intake.room)?;
            dialect.read(form, message.bytes())
        }
        Form::Json | Form::Protobuf if is_packed => {
            let unpacked = body::unpack(&held.bytes, &intake.room)?;
            drop(held);
            dialect.read(form, &unpacked.bytes)
        }
        Form::Json | Form::Protobuf => dialect.read(form, &held.bytes),
    }
}

/// The media type without its parameters; empty when there is none.
fn media(headers: &HeaderMap) -> &str {
    let media = headers.get(CONTENT_TYPE).map(HeaderValue::to_str);
    let media = media.and_then(Result::ok).unwrap_or_default();
    media.split(';').next().unwrap_or_default().trim()
}
