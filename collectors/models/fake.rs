//! A server made of its answers, for tests of feeds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::web::{Answer, Dial, Offline, OnPiece, Request, SecretPlace, Server, Site, Stream, Web};
use crate::{CollectError, Host};

/// Answers by path; a question with a body is `PATH BODY`.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    answers: Mutex<BTreeMap<String, (u16, String)>>,
    asked: Mutex<Vec<String>>,
    date: Mutex<Option<String>>,
}

impl Fake {
    /// A host for which every server is this one.
    pub(crate) fn host(self: &Arc<Self>) -> Host {
        let region = "test".to_owned();
        Host::local(
            "test".parse().unwrap(),
            region,
            Arc::new(Net(Arc::clone(self))),
        )
    }

    /// What is answered from now on.
    pub(crate) fn says(&self, path: &str, body: &str) {
        let answer = (200, body.to_owned());
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// The status that is answered from now on.
    pub(crate) fn refuses(&self, path: &str, status: u16) {
        let answer = (status, String::new());
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// The server's own clock.
    pub(crate) fn is_at(&self, date: &str) {
        *self.date.lock().unwrap() = Some(date.to_owned());
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// A server at this address.
pub(crate) fn site(url: &str) -> Site {
    Site::plain(url.parse().unwrap())
}

#[async_trait]
impl Server for Fake {
    async fn ask(
        &self,
        request: &Request<'_>,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Answer, CollectError> {
        let mut question = request.path.to_owned();
        if let Some(body) = request.body {
            question += &format!(" {}", String::from_utf8_lossy(body.bytes));
        }
        self.asked.lock().unwrap().push(question.clone());
        let missing = (404, String::new());
        let answers = self.answers.lock().unwrap();
        let (status, body) = answers.get(&question).unwrap_or(&missing);
        let date = self.date.lock().unwrap().clone();
        let headers = date.map(|date| ("date".to_owned(), date));
        let answer = Answer {
            status: *status,
            headers: headers.into_iter().collect(),
            refusal: Vec::new(),
        };
        if answer.is_good() {
            on_piece(body.as_bytes())?;
        }
        Ok(answer)
    }
}

/// Every server is this one.
#[derive(Debug)]
struct Net(Arc<Fake>);

#[async_trait]
impl Web for Net {
    fn open(&self, _: &Site) -> Result<Arc<dyn Server>, CollectError> {
        Ok(Arc::<Fake>::clone(&self.0))
    }

    async fn dial(&self, to: &Dial) -> Result<Box<dyn Stream>, CollectError> {
        Offline.dial(to).await
    }

    fn secret(&self, place: &SecretPlace) -> Result<Zeroizing<String>, CollectError> {
        Offline.secret(place)
    }
}
