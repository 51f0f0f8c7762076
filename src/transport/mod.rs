//! One POST: takes a signed request to the dashboard and brings back its answer.
//!
//! Promises: TLS 1.3, verified, no redirects, no proxy that was not asked for, bounded in time and size. An
//! answer decides what happens next: accepted, deferred (the same bytes will be sent again), rejected (they
//! never will), blocked (a person must change something first). Knows nothing of the store.

mod receipts;
mod session;
mod sigv4;
pub mod tls;
pub mod web;
mod wire;

pub use receipts::HeadAnswer;
pub use wire::{Answer, Exchange, NoAnswer, Post, Wire};

use std::sync::Arc;
use std::time::Duration;

use cms_attest::answer::{Accepted, Problem};
use cms_attest::enrol::{ChallengeAnswer, EnrolAnswer};
use cms_attest::rotate::RotateAnswer;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode};

use self::tls::TlsFiles;
use crate::config::Endpoint;
use crate::identity::{SignedEnrolment, SignedRequest, SignedRotation};
use crate::limits::{ANSWER_TEXT_MAX, ATTEMPT_TIMEOUT, CONNECT_TIMEOUT};

/// Speaks to one dashboard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transport {
    wire: Arc<dyn Wire>,
    endpoint: Endpoint,
}

/// The dashboard's answer to a submission that it took. Only [`Transport::send`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    answer: Accepted,
}

/// Why the dashboard did not take a request, which decides what happens next.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A person must change something: the key, the company, the enrolment. The submission is not at fault.
    #[error("the dashboard refuses this agent: {}", .0.message)]
    Blocked(Box<Problem>),
    /// The same bytes will be sent again.
    #[error("{reason}")]
    Deferred {
        /// What happened, in words.
        reason: String,
        /// How long the dashboard asks to wait.
        retry_after: Option<Duration>,
    },
    /// The dashboard does not know the request's path, as a plain one without enrolment does not.
    #[error("the dashboard has no such address: {url}")]
    NotThere {
        /// What was asked for.
        url: String,
    },
    /// These bytes will never be taken.
    #[error("the dashboard refuses the submission: {}", .0.message)]
    Rejected(Box<Problem>),
    /// A 4xx that does not explain itself: of a proxy, or of a dashboard that knows the specification only.
    #[error("{}", .problem.message)]
    Unexplained {
        /// The HTTP status.
        status: u16,
        /// The same in words.
        problem: Box<Problem>,
    },
}

/// Why a transport cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The HTTP client cannot be built.
    #[error("cannot set up the HTTP client")]
    BuildClient(#[source] reqwest::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] tls::TlsError),
}

impl Transport {
    /// Makes a client for one dashboard.
    ///
    /// # Errors
    /// When a certificate file is not usable.
    pub fn new(endpoint: &Endpoint, files: &TlsFiles) -> Result<Self, TransportError> {
        let client = tls::secure(Client::builder(), files)?
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .gzip(false)
            .timeout(ATTEMPT_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("cms-telemetry-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(TransportError::BuildClient)?;
        Ok(Self::over(Arc::new(wire::Https(client)), endpoint))
    }

    /// Speaks to one dashboard by a way that is there already.
    #[must_use]
    pub fn over(wire: Arc<dyn Wire>, endpoint: &Endpoint) -> Self {
        Self {
            wire,
            endpoint: endpoint.clone(),
        }
    }

    /// The dashboard's address, parts of which are signed.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends one signed submission.
    ///
    /// # Errors
    /// When it was not taken; the error says what to do next.
    pub async fn send(
        &self,
        request: &SignedRequest<'_>,
        api_key: &str,
    ) -> Result<Acceptance, SendError> {
        let body = request.submission().body().to_vec();
        let answer = self
            .post(&request.url(), request.headers(), body, api_key)
            .await?;
        let answer = serde_json::from_slice(&answer).map_err(|error| SendError::Deferred {
            reason: format!("the dashboard's acceptance makes no sense: {error}"),
            retry_after: None,
        })?;
        let mut answer: Accepted = answer;
        answer.warnings = match answer.warnings.as_slice() {
            [] => Vec::new(),
            warnings => vec![plain(&warnings.join("; "))],
        };
        let submission = request.submission();
        if (answer.category, answer.index) != (submission.category(), submission.index()) {
            return Err(deferred(
                "the dashboard's acceptance is of another submission",
            ));
        }
        Ok(Acceptance { answer })
    }

    /// Asks for the challenge that an enrolment signs.
    ///
    /// # Errors
    /// As [`Transport::send`].
    pub async fn challenge(&self, api_key: &str) -> Result<ChallengeAnswer, SendError> {
        let url = self.endpoint.url("agents/challenge");
        let headers = [("content-type", "application/json".to_owned())];
        decode(&self.post(&url, &headers, b"{}".to_vec(), api_key).await?)
    }

    /// Sends a signed enrolment.
    ///
    /// # Errors
    /// As [`Transport::send`].
    pub async fn enrol(
        &self,
        enrolment: SignedEnrolment,
        api_key: &str,
    ) -> Result<EnrolAnswer, SendError> {
        let url = self.endpoint.url("agents/enroll");
        decode(
            &self
                .post(&url, &enrolment.headers, enrolment.body, api_key)
                .await?,
        )
    }

    /// Sends a signed rotation.
    ///
    /// # Errors
    /// As [`Transport::send`].
    pub async fn rotate(
        &self,
        rotation: &SignedRotation,
        api_key: &str,
    ) -> Result<RotateAnswer, SendError> {
        let path = format!("agents/{}/rotate", rotation.agent_id);
        let (url, body) = (self.endpoint.url(&path), rotation.body.clone());
        decode(&self.post(&url, &rotation.headers, body, api_key).await?)
    }

    async fn post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
        api_key: &str,
    ) -> Result<Vec<u8>, SendError> {
        let mut all = HeaderMap::with_capacity(headers.len() + 1);
        for (name, value) in headers {
            let value = HeaderValue::from_str(value)
                .map_err(|error| deferred(&format!("cannot set the header {name}: {error}")))?;
            all.insert(*name, value);
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {api_key}"))
            .map_err(|_| deferred("the API key has characters that no HTTP header may have"))?;
        bearer.set_sensitive(true);
        all.insert(AUTHORIZATION, bearer);

        let answer = self.exchange(url, all, body).await?;
        classify(url, answer)
    }

    async fn exchange(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, SendError> {
        let post = Post {
            url: url.to_owned(),
            headers,
            body,
        };
        let answer = self.wire.post(post).await;
        answer.map_err(|error| deferred(&error.reason))
    }
}

impl Acceptance {
    /// What the dashboard said.
    #[must_use]
    pub fn answer(&self) -> &Accepted {
        &self.answer
    }
}

fn classify(url: &str, answer: Answer) -> Result<Vec<u8>, SendError> {
    let Answer {
        status,
        headers,
        body,
    } = answer;
    let retry_after = retry_after(&headers);
    let is_json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"));
    if status.is_success() {
        return Ok(body);
    }
    let problem: Option<Problem> = if is_json {
        serde_json::from_slice(&body).ok().map(bounded)
    } else {
        None
    };
    let is_explained = problem.is_some();
    let problem = Box::new(problem.unwrap_or_else(|| unexplained(status)));
    let said = if is_explained {
        format!("HTTP {status}: {}", problem.message)
    } else {
        problem.message.clone()
    };
    match status {
        // The address is there; whom it is about is not.
        StatusCode::NOT_FOUND if problem.error == "agent_unknown" => {
            Err(SendError::Blocked(problem))
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(SendError::NotThere {
            url: url.to_owned(),
        }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_explained => {
            Err(SendError::Blocked(problem))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(SendError::Deferred {
            reason: said,
            retry_after,
        }),
        // Only who explains has read the submission; a proxy that knows a plain 400 has not.
        _ if status.is_client_error() && !is_explained => Err(SendError::Unexplained {
            status: status.as_u16(),
            problem,
        }),
        _ if status.is_client_error() => Err(SendError::Rejected(problem)),
        _ => Err(SendError::Deferred {
            reason: said,
            retry_after,
        }),
    }
}

/// A problem as it is kept and logged.
fn bounded(problem: Problem) -> Problem {
    Problem {
        error: plain(&problem.error),
        message: plain(&problem.message),
        next_step: plain(&problem.next_step),
        details: Vec::new(),
        server_time: problem.server_time,
    }
}

/// A server's text on one line, without control characters, and not longer than anybody reads.
fn plain(text: &str) -> String {
    text.chars()
        .take(ANSWER_TEXT_MAX)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// What a server says that does not speak of problems as ours does.
fn unexplained(status: StatusCode) -> Problem {
    Problem {
        error: "unexplained".to_owned(),
        message: format!("HTTP {status} without an explanation"),
        next_step: "see the log of the dashboard, or of the proxy before it".to_owned(),
        details: Vec::new(),
        server_time: Timestamp::UNIX_EPOCH,
    }
}

fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, SendError> {
    serde_json::from_slice(body)
        .map_err(|error| deferred(&format!("the dashboard's answer makes no sense: {error}")))
}

fn deferred(reason: &str) -> SendError {
    SendError::Deferred {
        reason: reason.to_owned(),
        retry_after: None,
    }
}

/// Only the form in seconds: the other one depends on the dashboard's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}
