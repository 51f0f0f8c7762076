//! One exchange over HTTP: a POST goes out, and an answer comes back or does not.
//!
//! The agent has one way to do that, HTTPS as `tls` sets it up; a simulation puts another in its place. What an
//! answer means is decided above, the same for both.

use std::fmt;
use std::pin::Pin;

use reqwest::header::HeaderMap;
use reqwest::{Client, StatusCode};

use crate::limits::ANSWER_BYTES_MAX;

/// Carries requests to a dashboard.
pub trait Wire: fmt::Debug + Send + Sync {
    /// Takes one request there and brings its answer back.
    fn post(&self, post: Post) -> Exchange<'_>;
}

/// An exchange that is going on.
pub type Exchange<'a> = Pin<Box<dyn Future<Output = Result<Answer, NoAnswer>> + Send + 'a>>;

/// A request.
#[derive(Clone, Debug)]
pub struct Post {
    /// The whole address.
    pub url: String,
    /// All headers but those of HTTP itself.
    pub headers: HeaderMap,
    /// The exact bytes.
    pub body: Vec<u8>,
}

/// What came back, whole and not longer than [`ANSWER_BYTES_MAX`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The exact bytes.
    pub body: Vec<u8>,
}

/// Nothing that can be used came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NoAnswer {
    /// Why, in words that lead to a next step.
    pub reason: String,
}

/// The real way.
#[derive(Debug)]
pub(super) struct Https(pub(super) Client);

impl Wire for Https {
    fn post(&self, post: Post) -> Exchange<'_> {
        Box::pin(async move {
            let request = self.0.post(&post.url).headers(post.headers).body(post.body);
            let mut answer = request.send().await.map_err(|error| explain(&error))?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|error| explain(&error))? {
                if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                    let reason = "the dashboard's answer is longer than 64 KiB".to_owned();
                    return Err(NoAnswer { reason });
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Answer {
                status: answer.status(),
                headers: std::mem::take(answer.headers_mut()),
                body,
            })
        })
    }
}

/// Names the cause in words that lead to a next step; the library's own text hides it in its sources.
fn explain(error: &reqwest::Error) -> NoAnswer {
    let mut text = String::new();
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    let hint = if text.contains("CaUsedAsEndEntity") {
        " (the dashboard shows an authority's certificate as its own: it needs one issued by that authority)"
    } else if text.contains("UnknownIssuer") {
        " (its certificate is from an authority that this system does not trust: set dashboard.ca_file)"
    } else if text.contains("ProtocolVersion") {
        " (it does not speak TLS 1.3, which the specification demands)"
    } else if text.contains("CertificateRequired") {
        " (it asks for a client certificate: set dashboard.client_cert_file and client_key_file)"
    } else if text.contains("broken pipe") || text.contains("connection closed") {
        // In TLS 1.3 a missing client certificate shows only after the handshake, as a closed connection.
        " (the dashboard closed the connection; if it wants a client certificate, set dashboard.client_cert_file and client_key_file)"
    } else {
        ""
    };
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the exchange failed"
    };
    NoAnswer {
        reason: format!("{what}: {text}{hint}"),
    }
}
