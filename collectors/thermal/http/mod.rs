//! Points in the answers of web servers: BMS and meters with a REST interface.
//!
//! Owns: which questions are asked in a round and what of an answer is the value. Promises: one question for all points
//! of one path; bounded time and size; a value as old as the server says it is. Refuses: guessing a number where something
//! else stands.

pub mod probe;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use super::device::{Device, Observation, PointError, Protocol};
use super::document::{self, Select};
use crate::checked::Every;
use crate::web::{Address, Answer, Basic, Request, SecretPlace, Server, Site, Tls};
use crate::{CollectError, Host};

/// Longest answer: a BMS lists thousands of points in less.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// How long one answer may take unless the table says otherwise.
const WITHIN: Within = Within::seconds::<5>();

/// Longest path of a question.
const PATH_BYTES_MAX: usize = 2_000;

/// After so many paths without any answer, and none before, the server is given up for this round.
const SILENT_MAX: u32 = 2;

type Within = Every<1, 60>;

/// REST.
#[derive(Debug)]
pub(super) struct Http;

/// `[[thermal.http]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
    url: Address,
    #[serde(default)]
    tls: Tls,
    bearer_token: Option<SecretPlace>,
    basic: Option<Basic>,
    header: Option<Header>,
    within: Option<Within>,
}

/// `http = { … }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    device: Option<String>,
    url: Option<Address>,
    tls: Option<Tls>,
    bearer_token: Option<SecretPlace>,
    basic: Option<Basic>,
    header: Option<Header>,
    within: Option<Within>,
    path: Option<Path>,
    json: Option<Select>,
    time: Option<Select>,
}

/// `header = { name = "X-Api-Key", value = { file = "…" } }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: HeaderName,
    value: SecretPlace,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct HeaderName(String);

/// What comes after the address, with its slash and a query if need be.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Path(String);

/// One point.
#[derive(Clone, Debug)]
pub(super) struct Point {
    site: Site,
    header: Option<Header>,
    within: Within,
    path: Path,
    json: Option<Select>,
    time: Option<Select>,
}

/// One server.
struct Asked {
    server: Arc<dyn Server>,
    host: Host,
    points: Vec<Point>,
    pages: BTreeMap<String, Page>,
}

/// Why a path was not answered.
enum Failed {
    /// There was no answer, which may be true of every path.
    Nobody(CollectError),
    /// There was one, about this path.
    Answer(CollectError),
}

/// The newest answer for one path.
#[derive(Debug)]
struct Page {
    etag: Option<String>,
    body: Vec<u8>,
    content_type: String,
}

impl<'de> Deserialize<'de> for HeaderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_of_name) {
            return Err(D::Error::custom(
                "this is no name of a header, such as X-Api-Key",
            ));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = String::deserialize(deserializer)?;
        let is_right = path.starts_with('/')
            && path.len() <= PATH_BYTES_MAX
            && path
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#');
        match is_right {
            true => Ok(Self(path)),
            false => Err(D::Error::custom(
                "a path begins with '/' and has no blanks; write a blank as %20",
            )),
        }
    }
}

impl Protocol for Http {
    const KEY: &'static str = "http";
    type Named = Named;
    type Written = Written;
    type Point = Point;

    fn name(named: &Named) -> &str {
        &named.name
    }

    fn device(written: &Written) -> Option<&str> {
        written.device.as_deref()
    }

    fn join(written: &Written, named: Option<&Named>) -> Result<Point, String> {
        let (site, header, within) = match (named, &written.url) {
            (Some(_), Some(_)) => {
                return Err("`device` and `url` exclude each other".to_owned());
            }
            (None, None) => {
                return Err("a point says where it is: `device`, or `url`".to_owned());
            }
            (Some(named), None) => {
                Self::of_device(&[
                    ("tls", written.tls.is_some()),
                    ("bearer_token", written.bearer_token.is_some()),
                    ("basic", written.basic.is_some()),
                    ("header", written.header.is_some()),
                ])?;
                let site = Site::new(
                    named.url.clone(),
                    named.tls.clone(),
                    named.bearer_token.clone(),
                    named.basic.clone(),
                )?;
                (site, named.header.clone(), named.within)
            }
            (None, Some(url)) => {
                let site = Site::new(
                    url.clone(),
                    written.tls.clone().unwrap_or_default(),
                    written.bearer_token.clone(),
                    written.basic.clone(),
                )?;
                (site, written.header.clone(), None)
            }
        };
        if header.is_some() && !site.address().may_carry_secrets() {
            return Err(
                "a secret header would travel in the clear: use an address that begins with https://"
                    .to_owned(),
            );
        }
        if written.time.is_some() && written.json.is_none() {
            return Err("`time` is a place in JSON: give `json` for the value too".to_owned());
        }
        Ok(Point {
            site,
            header,
            within: written.within.or(within).unwrap_or(WITHIN),
            path: written.path.clone().unwrap_or_default(),
            json: written.json.clone(),
            time: written.time.clone(),
        })
    }

    fn connection(point: &Point) -> String {
        let mut name = point.site.address().to_string();
        // Whatever makes another client of the same address stands in its name.
        if let Some(login) = point.site.login() {
            name.push_str(&format!(" as {login:?}"));
        }
        if let Some(header) = &point.header {
            name.push_str(&format!(" with {}", header.name.0));
        }
        if *point.site.tls() != Tls::default() {
            name.push_str(&format!(" by {:?}", point.site.tls()));
        }
        name
    }

    fn label(point: &Point) -> String {
        let url = point.site.address().url(&point.path.0);
        match &point.json {
            Some(json) => format!("{url} {json}"),
            None => url,
        }
    }

    fn open(points: Vec<Point>, host: &Host) -> Result<Box<dyn Device>, CollectError> {
        let Some(first) = points.first() else {
            return Err(CollectError::Vanished {
                what: "every point of a server".to_owned(),
            });
        };
        Ok(Box::new(Asked {
            server: host.web.open(&first.site)?,
            host: host.clone(),
            points,
            pages: BTreeMap::new(),
        }))
    }
}

#[async_trait]
impl Device for Asked {
    async fn read(
        &mut self,
        at: Timestamp,
    ) -> Result<Vec<Result<Observation, PointError>>, CollectError> {
        let mut paths: Vec<(String, Duration)> = Vec::new();
        for point in &self.points {
            let within = point.within.duration();
            match paths.iter_mut().find(|(path, _)| *path == point.path.0) {
                Some((_, longest)) => *longest = within.max(*longest),
                None => paths.push((point.path.0.clone(), within)),
            }
        }
        let mut refused: BTreeMap<String, PointError> = BTreeMap::new();
        let (mut answered, mut silent) = (0_u32, 0_u32);
        for (path, within) in paths {
            let error = match self.ask(&path, within).await {
                Ok(()) => {
                    answered += 1;
                    continue;
                }
                Err(Failed::Answer(error)) => {
                    answered += 1;
                    error
                }
                Err(Failed::Nobody(error)) => {
                    silent += 1;
                    let is_gone = !matches!(error, CollectError::Timeout { .. });
                    if answered == 0 && (is_gone || silent >= SILENT_MAX) {
                        return Err(error);
                    }
                    error
                }
            };
            self.pages.remove(&path);
            refused.insert(path, PointError::Refused(told(&error)));
        }
        let parsed: BTreeMap<&str, Result<Value, String>> = self
            .pages
            .iter()
            .map(|(path, page)| (path.as_str(), page.parsed()))
            .collect();
        let answers = self.points.iter().map(|point| {
            if let Some(error) = refused.get(&point.path.0) {
                return Err(error.clone());
            }
            let missing = || PointError::NotYet("nothing was answered yet".to_owned());
            let page = self.pages.get(&point.path.0).ok_or_else(missing)?;
            let document = parsed.get(point.path.0.as_str()).ok_or_else(missing)?;
            point.observed(page, document, at)
        });
        Ok(answers.collect())
    }
}

impl Asked {
    /// Asks for one path, and keeps its answer.
    async fn ask(&mut self, path: &str, within: Duration) -> Result<(), Failed> {
        let address = self
            .points
            .first()
            .map(|point| point.site.address().url(path));
        let url = address.unwrap_or_default();
        let secret = match self.points.first().and_then(|point| point.header.as_ref()) {
            Some(header) => {
                let value = self.host.web.secret(&header.value);
                Some((header.name.0.clone(), value.map_err(Failed::Answer)?))
            }
            None => None,
        };
        let etag = self.pages.get(path).and_then(|page| page.etag.clone());
        let mut headers = vec![("accept", "application/json, text/plain;q=0.9")];
        if let Some((name, value)) = &secret {
            headers.push((name, value));
        }
        if let Some(etag) = &etag {
            headers.push(("if-none-match", etag));
        }
        let mut body = Vec::new();
        let request = Request {
            path,
            body: None,
            headers: &headers,
            within,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer: Answer = self
            .server
            .ask(&request, &mut |piece| {
                body.extend_from_slice(piece);
                Ok(())
            })
            .await
            .map_err(|error| match error {
                CollectError::Unreachable { .. } | CollectError::Timeout { .. } => {
                    Failed::Nobody(error)
                }
                error => Failed::Answer(error),
            })?;
        if answer.status == 304 && etag.is_some() {
            return Ok(());
        }
        answer.require_good(&url).map_err(Failed::Answer)?;
        let page = Page {
            etag: answer.header("etag").map(str::to_owned),
            content_type: answer.header("content-type").unwrap_or_default().to_owned(),
            body,
        };
        self.pages.insert(path.to_owned(), page);
        Ok(())
    }
}

impl Page {
    /// The document, or why there is none.
    fn parsed(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let is_html = self.content_type.contains("html")
                || self.body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<');
            match is_html {
                true => {
                    "it answers a web page, not JSON: is this the address of the interface, and \
                         does it want a login?"
                        .to_owned()
                }
                false => format!("its answer is no JSON: {error}"),
            }
        })
    }
}

impl Point {
    fn observed(
        &self,
        page: &Page,
        document: &Result<Value, String>,
        at: Timestamp,
    ) -> Result<Observation, PointError> {
        let Some(json) = &self.json else {
            let text = String::from_utf8_lossy(&page.body);
            let raw = document::number(&text)?;
            return Ok(Observation::polled(raw, at));
        };
        let document = document
            .as_ref()
            .map_err(|why| PointError::Malformed(why.clone()))?;
        let mut observed = Observation::polled(document::value(document, json)?, at);
        if let Some(time) = &self.time {
            let said = document::moment(document, time)?;
            observed.at = document::not_ahead(said, time, at)?;
        }
        Ok(observed)
    }
}

/// An error and its cause on one line.
fn told(error: &CollectError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
