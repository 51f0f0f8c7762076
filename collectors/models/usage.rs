//! Usage as providers of hosted models account it: buckets of an hour, that grow and come late.
//!
//! Owns: which buckets are read again, and what of them is told. Promises: what was used before the first look is not
//! told, and everything after it once, over restarts of ours; one question at a time. Refuses: requests where the
//! provider counts none; who asked, beyond the project and the key.

mod buckets;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::models::sample_rank;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use self::buckets::Buckets;
use super::feed::{Feed, Out};
use super::few::{self, Few};
use super::request::Word;
use crate::web::{Request, Server, Site, malformed};
use crate::{CollectError, Host};

/// Between two readings. Providers are minutes late, and want to be asked once a minute at most.
const EVERY: SignedDuration = SignedDuration::from_mins(5);

/// After a failure.
const AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// How long one answer may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Longest answer: a day's buckets of five hundred keys have 3 MB.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Longest token for the next page.
const TOKEN_BYTES_MAX: usize = 2_000;

/// Most rows of one answer.
pub(crate) const ROWS_MAX: usize = 4_096;

/// Most buckets of one answer; a week of hours is the most that providers give.
const BUCKETS_MAX: usize = 168;

/// Whose usage it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Account {
    pub(crate) model: Option<Word>,
    /// Project or workspace, a slash, and the id of the key.
    pub(crate) key: Option<Word>,
    pub(crate) path: Option<Word>,
}

/// What was used. What the provider does not count is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) requests: Option<u64>,
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
}

/// One bucket of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) begin: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) account: Account,
    pub(crate) amount: Amount,
}

/// One answer.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    /// Rows for which there was no room.
    pub(crate) skipped: u64,
    /// What the next page is asked for with.
    pub(crate) next: Option<String>,
}

/// An answer as providers wrap it.
#[derive(Deserialize)]
struct Answer<B> {
    data: Few<B, BUCKETS_MAX>,
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    next_page: Option<String>,
}

/// What was used in one span of time, as a provider writes it.
pub(crate) trait Bucket: DeserializeOwned {
    /// What one account used.
    type Used;

    /// Its beginning and its end.
    ///
    /// # Errors
    /// In words, when they are no times.
    fn times(&self) -> Result<(Timestamp, Timestamp), String>;

    /// What each account used.
    fn results(self) -> Few<Self::Used, ROWS_MAX>;
}

impl Page {
    /// Reads an answer; `row` says whose each result is, and how much.
    ///
    /// # Errors
    /// In words without anything of the answer.
    pub(crate) fn read<B: Bucket>(
        body: &[u8],
        row: impl Fn(B::Used) -> (Account, Amount),
    ) -> Result<Self, String> {
        let answer: Answer<B> = few::read(body)?;
        let mut page = Self {
            skipped: answer.data.skipped,
            next: answer.next_page.filter(|_| answer.has_more),
            ..Self::default()
        };
        for bucket in answer.data.all {
            let (begin, end) = bucket.times()?;
            let results = bucket.results();
            page.skipped += results.skipped;
            for used in results.all {
                if page.rows.len() >= ROWS_MAX {
                    page.skipped += 1;
                    continue;
                }
                let (account, amount) = row(used);
                page.rows.push(Row {
                    begin,
                    end,
                    account,
                    amount,
                });
            }
        }
        Ok(page)
    }
}

/// How one provider is asked.
pub(crate) trait Provider: Send + Sync {
    /// Where each kind of usage is, before its query.
    fn places(&self) -> &'static [&'static str];

    /// The query for hours from a moment on, without its page.
    fn query(&self, from: Timestamp) -> String;

    /// Headers besides the login.
    fn headers(&self) -> &'static [(&'static str, &'static str)];

    /// Reads an answer of the place with this number.
    ///
    /// # Errors
    /// In words without anything of the answer.
    fn read(&self, place: usize, body: &[u8]) -> Result<Page, String>;

    /// What this source can never tell, for a person.
    fn remark(&self) -> Option<&'static str> {
        None
    }
}

/// The usage of one organisation as a feed.
pub(crate) struct Usage {
    server: Arc<dyn Server>,
    url: String,
    provider: Box<dyn Provider>,
    buckets: Option<Buckets>,
    /// The reading that is under way.
    reading: Option<Reading>,
    /// When the next question may be asked.
    due: Option<Timestamp>,
    checkpoint: Option<String>,
    skipped: u64,
}

/// One reading of all places and pages.
#[derive(Clone, Debug)]
struct Reading {
    begun: Timestamp,
    from: Timestamp,
    place: usize,
    page: Option<String>,
}

impl Usage {
    /// The usage that a provider accounts; nothing is asked yet.
    ///
    /// # Errors
    /// When a certificate file cannot be used.
    pub(crate) fn open(
        provider: Box<dyn Provider>,
        site: &Site,
        host: &Host,
    ) -> Result<Self, CollectError> {
        let site = site.without(&["/v1"]);
        Ok(Self {
            server: host.web.open(&site)?,
            url: site.address().to_string(),
            provider,
            buckets: None,
            reading: None,
            due: None,
            checkpoint: None,
            skipped: 0,
        })
    }

    async fn ask(&self, reading: &Reading) -> Result<Page, CollectError> {
        let places = self.provider.places();
        let place = places.get(reading.place).copied().unwrap_or_default();
        let mut path = format!("{place}?{}", self.provider.query(reading.from));
        if let Some(page) = &reading.page {
            path += "&page=";
            path += &encoded(page);
        }
        let url = format!("{}{place}", self.url);
        let mut headers = vec![("accept", "application/json")];
        headers.extend(self.provider.headers());
        let request = Request {
            path: &path,
            body: None,
            headers: &headers,
            within: WITHIN,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let mut body = Vec::new();
        let mut on_piece = |piece: &[u8]| {
            body.extend_from_slice(piece);
            Ok(())
        };
        let answer = self.server.ask(&request, &mut on_piece).await?;
        answer.require_good(&url)?;
        let page = self
            .provider
            .read(reading.place, &body)
            .map_err(|why| malformed(&url, &why))?;
        match &page.next {
            Some(token) if token.len() > TOKEN_BYTES_MAX => Err(malformed(
                &url,
                "its next page has a name of over 2,000 bytes",
            )),
            Some(token) if reading.page.as_ref() == Some(token) => {
                Err(malformed(&url, "its next page is the same again"))
            }
            _ => Ok(page),
        }
    }
}

#[async_trait]
impl Feed for Usage {
    async fn take(&mut self, at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError> {
        let is_far = |due: Timestamp| due.duration_since(at) > EVERY;
        if self.due.is_some_and(|due| at < due && !is_far(due)) {
            return Ok(());
        }
        let buckets = self.buckets.get_or_insert_with(|| Buckets::begin(at));
        let reading = self.reading.get_or_insert_with(|| Reading {
            begun: at,
            from: buckets.from(at),
            place: 0,
            page: None,
        });
        let mut reading = reading.clone();
        self.due = Some(at.saturating_add(AGAIN).unwrap_or(at));
        let page = self.ask(&reading).await.inspect_err(|_| {
            // A page's name may have expired: everything is read again, which repeats nothing.
            self.reading = None;
        })?;
        self.skipped = page.skipped;
        let Some(buckets) = &mut self.buckets else {
            return Ok(());
        };
        buckets.take(page.rows, at, out);
        reading.page = page.next;
        if reading.page.is_none() {
            reading.place += 1;
        }
        if reading.place < self.provider.places().len() {
            self.due = None;
            self.reading = Some(reading);
        } else {
            buckets.close(reading.begun);
            self.due = Some(reading.begun.saturating_add(EVERY).unwrap_or(at));
            self.reading = None;
        }
        self.checkpoint = buckets.write(sample_rank(&self.url));
        Ok(())
    }

    fn checkpoint(&self) -> Option<String> {
        self.checkpoint.clone()
    }

    fn resume(&mut self, checkpoint: &str) {
        self.buckets = Buckets::read(checkpoint, sample_rank(&self.url));
        self.checkpoint = self.buckets.as_ref().map(|_| checkpoint.to_owned());
    }

    fn details(&self) -> Vec<String> {
        let mut details = Vec::new();
        if let Some(buckets) = &self.buckets {
            details.push(format!("{}: {}", self.url, buckets.details()));
        }
        details.extend(self.provider.remark().map(str::to_owned));
        details
    }

    fn trouble(&self) -> Option<String> {
        let dropped = self.buckets.as_ref().map_or(0, Buckets::dropped);
        let lost = dropped.saturating_add(self.skipped);
        (lost > 0).then(|| {
            format!(
                "{lost} accounts of an hour are left out, because there are more than {}: use fewer keys",
                buckets::CELLS_MAX
            )
        })
    }
}

/// A project or workspace and a key as one word; `-` stands for one that the provider does not name.
pub(crate) fn key(project: Option<&str>, key: Option<&str>) -> Option<Word> {
    if project.is_none() && key.is_none() {
        return None;
    }
    let text = format!("{}/{}", project.unwrap_or("-"), key.unwrap_or("-"));
    Word::new(text.as_bytes())
}

/// A text as a value of a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut query = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            query.push(char::from(byte));
        } else {
            query += &format!("%{byte:02X}");
        }
    }
    query
}
