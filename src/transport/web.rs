//! The clients that collectors ask servers with: exporters, monitoring servers, controllers, object stores.
//!
//! Promises: certificates are verified, by the authorities that the source names or by the system's; no proxy; no
//! redirect to another place; every answer is bounded in time and size, compressed or not; a secret is read for each
//! question and forgotten after it; no failure tells the query, which may name what must not be told. What is submitted does not go this way: that is TLS 1.3 without exception.

use std::error::Error;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use cms_collectors::CollectError;
use cms_collectors::web::{
    Answer, Body, Dial, Login, OnPiece, REFUSAL_BYTES_MAX, Request, SecretPlace, Server, Signing,
    Site, Stream, Web, denied, malformed, unreachable,
};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, Url};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

pub use super::session::all_left;
use super::session::{self, SESSION_BYTES_MAX, Session, TOKEN};
use super::sigv4::{Signed, Signer};
use super::tls::{self, TlsError};
use crate::config::{Secret, SecretSource};
use crate::limits::{CONNECT_TIMEOUT, LEAVE_WITHIN, REDIRECTS_MAX};

/// The login is refused, or the session has expired.
const UNAUTHORIZED: u16 = 401;

/// Makes clients with connections of their own.
#[derive(Clone, Copy, Debug)]
pub struct Outbound;

#[derive(Debug)]
struct Outside {
    client: Client,
    site: Site,
    session: Mutex<Option<Session>>,
}

#[async_trait]
impl Web for Outbound {
    fn open(&self, site: &Site) -> Result<Arc<dyn Server>, CollectError> {
        let url = site.address().to_string();
        let secured = tls::verify(Client::builder(), site.tls())
            .map_err(|error| denied(&url, "check the files of its `tls`", chained(&error)))?;
        let client = secured
            .redirect(Policy::custom(|attempt| {
                let same =
                    attempt.previous().last().map(Url::origin) == Some(attempt.url().origin());
                if same && attempt.previous().len() <= REDIRECTS_MAX {
                    attempt.follow()
                } else {
                    attempt.stop()
                }
            }))
            .no_proxy()
            .http1_only()
            .gzip(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("cms-telemetry-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| unreachable(&url, innermost(&error)))?;
        Ok(Arc::new(Outside {
            client,
            site: site.clone(),
            session: Mutex::new(None),
        }))
    }

    async fn dial(&self, to: &Dial) -> Result<Box<dyn Stream>, CollectError> {
        let standing = async {
            let plain = TcpStream::connect((to.host.as_str(), to.port))
                .await
                .map_err(|error| {
                    let hint = "is it running there, and may this host reach it?";
                    unreachable(&to.to_string(), format!("{error}; {hint}"))
                })?;
            // What is said here is short and waited for.
            drop(plain.set_nodelay(true));
            let Some(verified) = &to.tls else {
                return Ok(Box::new(plain) as Box<dyn Stream>);
            };
            match tls::wrap(plain, &to.host, verified).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Stream>),
                Err(error @ (TlsError::Handshake { .. } | TlsError::Name { .. })) => {
                    let found = innermost(&error);
                    let hint = tls_hint(&found).unwrap_or("the agent tries again");
                    Err(unreachable(&to.to_string(), format!("{found}; {hint}")))
                }
                Err(error) => Err(denied(
                    &to.to_string(),
                    "check the files of its `tls`",
                    chained(&error),
                )),
            }
        };
        match timeout(to.within, standing).await {
            Ok(stream) => stream,
            Err(_) => Err(CollectError::Timeout {
                what: to.to_string(),
                after: to.within,
            }),
        }
    }

    fn secret(&self, place: &SecretPlace) -> Result<Zeroizing<String>, CollectError> {
        Ok(Zeroizing::new(read(place)?.expose().to_owned()))
    }
}

#[async_trait]
impl Server for Outside {
    async fn ask(
        &self,
        request: &Request<'_>,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Answer, CollectError> {
        let Some(Login::Session {
            user,
            password,
            path,
        }) = self.site.login()
        else {
            let prepared = self.prepare(request)?;
            return self.exchange(prepared, request, on_piece).await;
        };
        let mut kept = self.session.lock().await;
        if let Some(session) = &*kept {
            let prepared = self.prepare(request)?;
            let prepared = prepared.header(TOKEN, session.token());
            let answer = self.exchange(prepared, request, on_piece).await?;
            if answer.status != UNAUTHORIZED {
                return Ok(answer);
            }
            // It expired, or the server was started anew.
            *kept = None;
        }
        let opened = self.open_session(user, password, path, request).await?;
        let session = match opened {
            Ok(session) => kept.insert(session),
            Err(refusal) => return Ok(refusal),
        };
        let prepared = self.prepare(request)?;
        let prepared = prepared.header(TOKEN, session.token());
        self.exchange(prepared, request, on_piece).await
    }

    async fn leave(&self) {
        let Some(session) = self.session.lock().await.take() else {
            return;
        };
        let Some(path) = session.path() else { return };
        let url = self.site.address().url(path);
        let ending = self.client.delete(&url).header(TOKEN, session.token());
        // One that cannot be ended expires.
        if let Err(error) = ending.timeout(LEAVE_WITHIN).send().await {
            tracing::debug!(url, error = %innermost(&error), "a session is left to expire");
        }
    }
}

impl Outside {
    /// Logs in; a login that the server refuses is its answer.
    async fn open_session(
        &self,
        user: &str,
        password: &SecretPlace,
        path: &str,
        request: &Request<'_>,
    ) -> Result<Result<Session, Answer>, CollectError> {
        let login = session::login(user, &read(password)?);
        let opening = Request {
            path,
            body: Some(Body {
                content_type: "application/json",
                bytes: &login,
            }),
            headers: &[],
            within: request.within,
            answer_bytes_max: SESSION_BYTES_MAX,
        };
        let mut body = Vec::new();
        let mut on_piece = |piece: &[u8]| {
            body.extend_from_slice(piece);
            Ok(())
        };
        let prepared = self.prepare(&opening)?;
        let answer = self.exchange(prepared, &opening, &mut on_piece).await?;
        let address = self.site.address();
        let url = address.url(path);
        match answer.status {
            200..=299 => Session::opened(address, &answer, &body)
                .map(Ok)
                .map_err(|found| malformed(&url, found)),
            404 | 405 | 501 => Err(malformed(
                &url,
                &format!(
                    "it opens no sessions (HTTP {}): set login = \"basic\" for it",
                    answer.status
                ),
            )),
            // Some say so with 400 or 403, and some that the account is locked.
            400..=499 => Ok(Err(Answer {
                status: UNAUTHORIZED,
                ..answer
            })),
            status => Err(unreachable(
                &url,
                format!(
                    "no session is opened (HTTP {status}: {}); perhaps it has too many of them",
                    answer.reason()
                ),
            )),
        }
    }

    async fn exchange(
        &self,
        prepared: RequestBuilder,
        request: &Request<'_>,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Answer, CollectError> {
        let whole = self.site.address().url(request.path);
        let url = without_query(&whole).to_owned();
        let failed = |error: reqwest::Error| self.explain(&url, request, &error);
        let mut response = prepared.send().await.map_err(failed)?;
        let mut answer = Answer {
            status: response.status().as_u16(),
            headers: headers(&response),
            refusal: Vec::new(),
        };
        let mut length = 0_u64;
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if !answer.is_good() {
                let room = REFUSAL_BYTES_MAX - answer.refusal.len();
                answer.refusal.extend(piece.iter().take(room));
                if answer.refusal.len() == REFUSAL_BYTES_MAX {
                    break;
                }
                continue;
            }
            length += piece.len() as u64;
            if length > request.answer_bytes_max {
                return Err(malformed(
                    &url,
                    &format!(
                        "it is longer than {} bytes: ask it for less, or check what answers there",
                        request.answer_bytes_max
                    ),
                ));
            }
            on_piece(&piece)?;
        }
        Ok(answer)
    }

    fn prepare(&self, request: &Request<'_>) -> Result<RequestBuilder, CollectError> {
        let url = &self.site.address().url(request.path);
        let mut prepared = match request.body {
            None => self.client.get(url),
            Some(body) => self
                .client
                .post(url)
                .header(CONTENT_TYPE, body.content_type)
                .body(body.bytes.to_vec()),
        };
        for (name, value) in request.headers {
            prepared = prepared.header(*name, *value);
        }
        prepared = match self.site.login() {
            None | Some(Login::Session { .. }) => prepared,
            Some(Login::Bearer(place)) => {
                let secret = read(place)?;
                let value = Zeroizing::new(format!("Bearer {}", secret.expose()));
                prepared.header(AUTHORIZATION, secret_header(&value, place)?)
            }
            Some(Login::Header { name, value: place }) => {
                let secret = read(place)?;
                prepared.header(*name, secret_header(secret.expose(), place)?)
            }
            Some(Login::Basic { user, password }) => {
                prepared.basic_auth(user, Some(read(password)?.expose()))
            }
            Some(Login::Signed(signing)) => {
                let mut prepared = prepared;
                for (name, value) in sign(signing, url, request)? {
                    let mut value = HeaderValue::try_from(value).map_err(|_| {
                        unusable("it has characters that a header cannot have", signing)
                    })?;
                    value.set_sensitive(true);
                    prepared = prepared.header(name, value);
                }
                prepared
            }
        };
        Ok(prepared.timeout(request.within))
    }

    fn explain(&self, url: &str, request: &Request<'_>, error: &reqwest::Error) -> CollectError {
        if error.is_timeout() {
            return CollectError::Timeout {
                what: url.to_owned(),
                after: request.within,
            };
        }
        let found = innermost(error);
        if error.is_body() || error.is_decode() {
            return malformed(url, &format!("the answer ends before its end: {found}"));
        }
        let hint = if let Some(hint) = tls_hint(&found) {
            hint
        } else if error.is_connect() {
            "is it running there, and may this host reach it?"
        } else {
            "the agent asks again at the next tick"
        };
        unreachable(url, format!("{found}; {hint}"))
    }
}

/// What helps against a failed handshake, where we know it.
fn tls_hint(found: &str) -> Option<&'static str> {
    let is_untrusted = ["UnknownIssuer", "BadSignature", "CaUsedAsEndEntity"];
    if is_untrusted.iter().any(|kind| found.contains(kind)) {
        Some("the authority of its certificate is not trusted: name it in tls.ca_file")
    } else if found.contains("not valid for name") {
        Some("its certificate is for another name: use that name in the address")
    } else if found.contains("ProtocolVersion") || found.contains("SupportedVersions") {
        Some("it speaks no TLS 1.3: set tls.min_version = \"1.2\" if it cannot do better")
    } else if found.contains("InvalidContentType") || found.contains("corrupt message") {
        Some("it seems to speak no TLS: the address may have to begin with http:// or mqtt://")
    } else if found.contains("CertificateRequired") || found.contains("alert: BadCertificate") {
        Some("it asks for a client certificate: give tls.client_cert_file and tls.client_key_file")
    } else {
        None
    }
}

fn headers(response: &Response) -> Vec<(String, String)> {
    let pairs = response.headers().iter();
    pairs
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// The address of a question without what is asked.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// The headers that sign a question.
fn sign(
    signing: &Signing,
    url: &str,
    request: &Request<'_>,
) -> Result<Vec<(&'static str, String)>, CollectError> {
    let id = read(&signing.access_key_id)?;
    let secret = read(&signing.secret_access_key)?;
    let token = signing.session_token.as_ref().map(read).transpose()?;
    let parsed = Url::parse(url)
        .map_err(|error| malformed(without_query(url), &format!("it is no address: {error}")))?;
    let mut headers = request.headers.to_vec();
    headers.extend(
        request
            .body
            .map(|body| (CONTENT_TYPE.as_str(), body.content_type)),
    );
    let signer = Signer {
        access_key_id: id.expose(),
        secret_access_key: secret.expose(),
        session_token: token.as_ref().map(Secret::expose),
        region: &signing.region,
        service: signing.service,
    };
    let signed = Signed {
        method: if request.body.is_some() {
            "POST"
        } else {
            "GET"
        },
        url: &parsed,
        headers: &headers,
        body: request.body.map_or(&[], |body| body.bytes),
    };
    signer
        .sign(&signed)
        .map_err(|error| malformed(without_query(url), &error.to_string()))
}

/// A header that is never shown.
fn secret_header(text: &str, place: &SecretPlace) -> Result<HeaderValue, CollectError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        let why = "it has characters that a header cannot have";
        denied(
            &place.to_string(),
            "write the token alone",
            io::Error::other(why),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A key that cannot be one.
fn unusable(why: &str, signing: &Signing) -> CollectError {
    denied(
        &signing.access_key_id.to_string(),
        "write the name of the key alone, and the session token alone",
        io::Error::other(why.to_owned()),
    )
}

fn read(place: &SecretPlace) -> Result<Secret, CollectError> {
    let source = match place {
        SecretPlace::Credential(name) => SecretSource::Credential(name.clone()),
        SecretPlace::Env(name) => SecretSource::Env(name.clone()),
        SecretPlace::File(path) => SecretSource::File(path.clone()),
    };
    source
        .read()
        .map_err(|error| denied(&place.to_string(), &error.hint(), chained(&error)))
}

/// The cause at the end of the chain: what comes before it only repeats the address.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The whole chain as one error.
fn chained(error: &dyn Error) -> io::Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    io::Error::other(text)
}

#[cfg(test)]
#[path = "tests/web.rs"]
mod tests;

#[cfg(test)]
#[path = "tests/bad_answers.rs"]
mod bad_answers;
