//! How a sender is answered.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::Response;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::refusal::{NO_TOKEN, NOT_POSTED, RETRY_SECONDS, Refusal};
use super::{Form, grpc};

/// The media type of calls of gRPC; senders may add what their messages are in.
pub(super) const GRPC: &str = "application/grpc";

/// A short answer with what may follow it.
#[derive(Debug, Default)]
pub(super) struct Answer {
    bytes: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

#[cfg(test)]
impl Answer {
    /// A body of these bytes, for senders.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Some(Bytes::from(bytes)),
            trailers: None,
        }
    }
}

/// The message was taken.
pub(super) fn accepted(form: Form) -> Response<Answer> {
    let (media, bytes, trailers) = match form {
        Form::Json => ("application/json", Some(Bytes::from_static(b"{}")), None),
        // A response of OTLP without anything to say has no bytes.
        Form::Protobuf => ("application/x-protobuf", None, None),
        Form::Grpc => (
            GRPC,
            Some(Bytes::from_static(&grpc::EMPTY_MESSAGE)),
            Some(grpc::status(None)),
        ),
    };
    let mut response = Response::new(Answer { bytes, trailers });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// The message was not taken.
pub(super) fn refused(is_grpc: bool, refusal: Refusal) -> Response<Answer> {
    if is_grpc {
        // Nothing but headers, which are the trailers as well.
        let mut response = Response::new(Answer::default());
        *response.headers_mut() = grpc::status(Some(refusal));
        let media = HeaderValue::from_static(GRPC);
        response.headers_mut().insert(CONTENT_TYPE, media);
        return response;
    }
    let mut response = Response::new(Answer {
        bytes: Some(Bytes::from_static(refusal.text.as_bytes())),
        trailers: None,
    });
    if let Ok(status) = refusal.status.try_into() {
        *response.status_mut() = status;
    }
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, text);
    if refusal.may_repeat {
        headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
    }
    if refusal == NO_TOKEN {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if refusal == NOT_POSTED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = self.bytes.take().map(Frame::data);
        let frame = bytes.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
