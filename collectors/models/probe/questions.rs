//! Small questions to an address of which nothing is known.
//!
//! Promises: each is bounded in time and size; that one is not answered costs no other one; a server that answers none
//! is told as such at once.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::CollectError;
use crate::exposition::Reader;
use crate::models::counters::glance::Pages;
use crate::models::few;
use crate::models::request::Word;
use crate::web::{Request, Server, Site, Web, unreachable};

/// A person is waiting.
const WITHIN: Duration = Duration::from_secs(5);

/// Longest answer that is no page of metrics.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Where pages of metrics are; NIM has its own.
const PAGES: [&str; 2] = ["/metrics", "/v1/metrics"];

/// Questions that may run into the time limit before the address is given up.
const LATE_MAX: u32 = 2;

/// One server.
pub(super) struct Questions {
    server: Arc<dyn Server>,
    /// The server, without what follows its address.
    pub(super) site: Site,
    pub(super) url: String,
    /// Where its page of metrics is.
    pub(super) page: String,
    is_page_given: Option<&'static str>,
    /// What answers call the server that gives them.
    pub(super) calls_itself: Option<String>,
    /// The status of an answer that wants a login.
    pub(super) wants_login: bool,
    late: u32,
    has_answered: bool,
}

/// What came of a question.
struct Came {
    status: u16,
    body: Vec<u8>,
}

impl Questions {
    pub(super) fn open(web: &dyn Web, given: &Site) -> Result<Self, CollectError> {
        let path = given.address().path();
        let is_page_given = PAGES
            .iter()
            .rev()
            .find(|page| path.ends_with(**page))
            .copied();
        let site = given.without(&["/v1/metrics", "/metrics", "/v1"]);
        let url = site.address().to_string();
        Ok(Self {
            server: web.open(&site)?,
            page: format!("{url}{}", is_page_given.unwrap_or("/metrics")),
            url,
            site,
            is_page_given,
            calls_itself: None,
            wants_login: false,
            late: 0,
            has_answered: false,
        })
    }

    /// Its page of metrics, as each kind of server would be read.
    pub(super) async fn metrics(&mut self) -> Result<Pages, CollectError> {
        let mut refused = None;
        for path in PAGES {
            if self.is_page_given.is_some_and(|given| given != path) {
                continue;
            }
            let mut pages = Pages::new();
            let mut reader = Reader::new();
            let mut on_piece = |piece: &[u8]| {
                reader.feed(piece, &mut |item| pages.take(item));
                Ok(())
            };
            let request = Request {
                path,
                body: None,
                headers: &[("accept", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1")],
                within: WITHIN,
                answer_bytes_max: crate::models::counters::PAGE_BYTES_MAX,
            };
            let answer = self.server.ask(&request, &mut on_piece).await;
            let Some(status) = self.status(answer)? else {
                refused = refused.or(Some(format!("{path} does not answer in time")));
                continue;
            };
            if status / 100 != 2 {
                refused = refused.or(Some(format!("{path} answers with HTTP {status}")));
                continue;
            }
            let found = reader.finish(&mut |item| pages.take(item));
            pages.finish(&found);
            if pages.samples > 0 || pages.family().is_some() {
                self.page = format!("{}{path}", self.url);
                return Ok(pages);
            }
        }
        let mut pages = Pages::new();
        pages.refused = refused;
        Ok(pages)
    }

    /// An answer that is the JSON that is asked for.
    pub(super) async fn json<T: DeserializeOwned>(
        &mut self,
        path: &str,
    ) -> Result<Option<T>, CollectError> {
        let Some(came) = self.ask(path).await? else {
            return Ok(None);
        };
        if came.status / 100 != 2 {
            return Ok(None);
        }
        Ok(few::read(&came.body).ok())
    }

    async fn ask(&mut self, path: &str) -> Result<Option<Came>, CollectError> {
        let mut body = Vec::new();
        let mut on_piece = |piece: &[u8]| {
            body.extend_from_slice(piece);
            Ok(())
        };
        let request = Request {
            path,
            body: None,
            headers: &[("accept", "application/json")],
            within: WITHIN,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = self.server.ask(&request, &mut on_piece).await;
        let status = self.status(answer)?;
        Ok(status.map(|status| Came { status, body }))
    }

    /// The status of an answer; nothing where this one question has none.
    fn status(
        &mut self,
        answer: Result<crate::web::Answer, CollectError>,
    ) -> Result<Option<u16>, CollectError> {
        match answer {
            Ok(answer) => {
                self.has_answered = true;
                if let Some(name) = answer.header("server") {
                    self.calls_itself = Some(name.to_owned());
                }
                self.wants_login |= matches!(answer.status, 401 | 403 | 407);
                Ok(Some(answer.status))
            }
            // It is longer than anything that we ask for, or ends too soon.
            Err(CollectError::Malformed { .. }) => Ok(None),
            Err(CollectError::Timeout { .. }) => {
                self.late += 1;
                if self.late < LATE_MAX {
                    return Ok(None);
                }
                let why = format!("{LATE_MAX} questions were not answered within {WITHIN:?} each");
                Err(unreachable(&self.url, why))
            }
            // It hangs up at a path that it does not know.
            Err(CollectError::Unreachable { .. }) if self.has_answered => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Why the models are not listed, for a person.
    pub(super) fn login_hint(&self) -> String {
        format!("{} wants a login: --bearer-token-file FILE", self.url)
    }
}

/// A version or a name that a server gives, if it is a name.
pub(super) fn word(text: &str) -> Option<Word> {
    Word::new(text.trim().as_bytes())
}
