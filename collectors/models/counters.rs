//! Counters of a server's page of metrics, told as sums of what was added since the last look.
//!
//! Owns: when the page is asked for, what it means that it continues or does not, and what is kept over a restart of
//! ours. Promises: the first look is a beginning, of which nothing is told; afterwards everything that the server still
//! counts is told exactly once. Refuses: what a name means, which each kind of server says in its `metrics.rs`.

mod book;
pub(crate) mod dialect;
pub(crate) mod glance;
mod kept;
mod page;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::models::sample_rank;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

use self::book::{Book, Continues, QUIET_LOOKS, Told};
use self::dialect::{Count, Dialect};
use self::page::Page;
use super::facts::{self, Facts};
use super::feed::{Feed, Out};
use super::request::{Route, Sum, Used, Word};
use crate::exposition::Reader;
use crate::web::{Answer, Request, Server, Site, malformed};
use crate::{CollectError, Host};

/// Between two looks.
const EVERY: SignedDuration = SignedDuration::from_secs(15);

/// A tick that comes this much early is taken as the next look, so that jitter does not halve their number.
const EARLY: SignedDuration = SignedDuration::from_secs(1);

/// How long a page may take.
const WITHIN: Duration = Duration::from_secs(4);

/// Longest page: a server of a hundred engines has 2 MB.
pub(crate) const PAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long sums wait for the name of the model, where the page has none.
const WAIT_FOR_MODEL: SignedDuration = SignedDuration::from_mins(10);

/// For how many looks it is said that another process answered.
const STRANGERS_SAID_FOR: u32 = 40;

const ACCEPT: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// Where pages of metrics are.
const METRICS: &str = "/metrics";

/// The metrics of one server as a feed.
pub(crate) struct Counters {
    server: Arc<dyn Server>,
    url: String,
    path: &'static str,
    dialect: Box<dyn Dialect>,
    facts: Option<Facts>,
    book: Option<Book>,
    looked: Option<Timestamp>,
    /// Since when sums wait for the name of the model.
    waiting: Option<Timestamp>,
    remarks: Remarks,
}

/// What a person should know of the newest looks.
#[derive(Debug, Default)]
struct Remarks {
    is_empty: bool,
    dropped: u64,
    broken: u64,
    /// Looks for which it is still said that another process answered.
    stranger: u32,
    restarts: u64,
    beginnings: u64,
    facts: Option<String>,
    requests: u64,
    tokens: u64,
    series: usize,
}

impl Counters {
    /// The page of a server, whose address may end in the path of the page.
    ///
    /// # Errors
    /// When a certificate file cannot be used.
    pub(crate) fn open(
        dialect: Box<dyn Dialect>,
        facts: Option<facts::Kind>,
        site: &Site,
        host: &Host,
    ) -> Result<Self, CollectError> {
        let is_page = site.address().path().ends_with(METRICS);
        let path = if is_page { "" } else { METRICS };
        Ok(Self {
            server: host.web.open(site)?,
            url: site.address().url(path),
            path,
            dialect,
            facts: facts
                .map(|kind| Facts::open(kind, site, host))
                .transpose()?,
            book: None,
            looked: None,
            waiting: None,
            remarks: Remarks::default(),
        })
    }

    /// The same without the names of models, which a comparison needs not: nothing is asked and nothing waits for them.
    pub(crate) fn without_names(self) -> Self {
        Self {
            facts: None,
            ..self
        }
    }

    /// When the page was asked for last.
    pub(crate) fn looked(&self) -> Option<Timestamp> {
        self.looked
    }

    /// How often what is told began anew: the server was restarted, or another one answered.
    pub(crate) fn beginnings(&self) -> u64 {
        self.remarks.beginnings
    }

    /// The page, and how much the server's clock is ahead of ours.
    async fn page(&mut self, at: Timestamp) -> Result<(Page, i64), CollectError> {
        let request = Request {
            path: self.path,
            body: None,
            headers: &[("accept", ACCEPT)],
            within: WITHIN,
            answer_bytes_max: PAGE_BYTES_MAX,
        };
        let (mut page, mut reader) = (Page::default(), Reader::new());
        let dialect = &*self.dialect;
        let mut on_piece = |piece: &[u8]| {
            reader.feed(piece, &mut |item| page.take(dialect, item));
            Ok(())
        };
        let answer = self.server.ask(&request, &mut on_piece).await?;
        answer.require_good(&self.url)?;
        let found = reader.finish(&mut |item| page.take(dialect, item));
        page.finish();
        let refuse = |why: &str| Err(malformed(&self.url, why));
        if found.samples == 0 && found.bad_lines > 0 {
            return refuse("there are no metrics in it: check the address and its path");
        }
        let is_open_metrics = answer
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/openmetrics-text"));
        if is_open_metrics && !found.is_complete {
            return refuse("it ends before its end: \"# EOF\" is missing");
        }
        if page.is_double {
            return refuse(
                "a series is there twice: two pages seem to be joined into one; ask each server by itself",
            );
        }
        let is_energy = |series: &page::Series| series.count == Count::Energy;
        self.remarks.is_empty = page.series.keys().all(is_energy);
        self.remarks.broken = page.broken;
        self.remarks.series = page.series.len();
        Ok((page, ahead_ms(&answer, at)))
    }

    /// Whether the name of the model is there, or was waited for long enough.
    fn may_tell(&mut self, at: Timestamp) -> bool {
        let is_known = |facts: &Facts| facts.only_model().is_some();
        if !self.dialect.lacks_models() || self.facts.as_ref().is_none_or(is_known) {
            self.waiting = None;
            return true;
        }
        let since = *self.waiting.get_or_insert(at);
        at.duration_since(since) >= WAIT_FOR_MODEL
    }

    fn tell(&mut self, told: Told, path: Option<Word>, out: &mut dyn Out) {
        let only = self.facts.as_ref().and_then(Facts::only_model);
        let is_apart = self.dialect.counts_cached_apart();
        for (group, grown) in told.groups {
            if grown.is_nothing() {
                continue;
            }
            let input = match (grown.input, grown.cached) {
                (None, _) => None,
                (Some(_), None) if is_apart => None,
                (Some(input), cached) => Some(input.saturating_add(cached.unwrap_or(0))),
            };
            let tokens = input.unwrap_or(0).saturating_add(grown.output.unwrap_or(0));
            self.remarks.tokens = self.remarks.tokens.saturating_add(tokens);
            self.remarks.requests += grown.requests.unwrap_or(0);
            out.sum(Sum {
                at: None,
                model: group.model.or_else(|| only.cloned()),
                requests: grown.requests,
                input_tokens: input,
                output_tokens: grown.output,
                tags: group.tags,
                route: Route {
                    path: path.clone(),
                    ..Route::default()
                },
            });
        }
        if let Some(energy) = told.energy {
            out.used(Used {
                energy,
                over_ms: told.over_ms,
            });
        }
    }

    /// Asks what the server serves; that it does not say so costs no counters.
    async fn refresh(&mut self, at: Timestamp, out: &mut dyn Out) {
        if let Some(facts) = &mut self.facts {
            let failed = facts.refresh(at, out).await.err();
            self.remarks.facts = failed.map(|error| facts::words(&error));
        }
    }
}

#[async_trait]
impl Feed for Counters {
    async fn take(&mut self, at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError> {
        let since = self.looked.map(|looked| at.duration_since(looked));
        if since.is_some_and(|since| !since.is_negative() && since < EVERY - EARLY) {
            return Ok(());
        }
        self.looked = Some(at);
        self.refresh(at, out).await;
        let (page, ahead_ms) = self.page(at).await?;
        let dropped = page.dropped;
        let path = page.only_path().cloned();
        let Some(book) = self.book.as_mut().filter(|book| !book.is_stale(at)) else {
            self.remarks.dropped = dropped;
            self.remarks.beginnings += 1;
            self.book = Some(Book::begin(page, at));
            return Ok(());
        };
        let continues = book.continued_by(&page, self.dialect.is_one_process(), ahead_ms);
        if continues != Continues::Same
            && let Some(facts) = &mut self.facts
        {
            // It may serve another model now.
            facts.expire();
            self.refresh(at, out).await;
        }
        if !self.may_tell(at) {
            return Ok(());
        }
        let Some(book) = self.book.as_mut() else {
            return Ok(());
        };
        let was_in_doubt = book.is_in_doubt();
        let told = book.turn(page, at, continues);
        let is_steady = continues == Continues::Same && !was_in_doubt;
        self.remarks.restarts += u64::from(told.is_restart);
        self.remarks.beginnings += u64::from(!is_steady);
        self.remarks.stranger = match continues {
            Continues::Stranger => STRANGERS_SAID_FOR,
            _ => self.remarks.stranger.saturating_sub(1),
        };
        self.remarks.dropped = dropped.saturating_add(told.dropped);
        self.tell(told, path, out);
        Ok(())
    }

    fn checkpoint(&self) -> Option<String> {
        kept::write(self.book.as_ref()?, sample_rank(&self.url))
    }

    fn resume(&mut self, checkpoint: &str) {
        self.book = kept::read(checkpoint, sample_rank(&self.url));
    }

    fn details(&self) -> Vec<String> {
        let remarks = &self.remarks;
        let mut details = vec![format!(
            "{}: {} series; {} requests and {} tokens told, {} restarts seen",
            self.url, remarks.series, remarks.requests, remarks.tokens, remarks.restarts
        )];
        if self.book.as_ref().is_some_and(Book::is_in_doubt) {
            let within = EVERY * i32::try_from(QUIET_LOOKS).unwrap_or(i32::MAX);
            details.push(format!(
                "its counters fell: what it counts now is told when they have only risen for {} minutes, because two \
                 servers behind one address look like a restart",
                within.as_mins()
            ));
        }
        details.extend(self.dialect.remark().map(str::to_owned));
        details.extend(self.facts.iter().flat_map(Facts::details));
        details
    }

    fn trouble(&self) -> Option<String> {
        let remarks = &self.remarks;
        let mut found = Vec::new();
        if remarks.is_empty {
            found.push(format!(
                "{} has none of the counters: {}",
                self.url,
                self.dialect.when_empty()
            ));
        }
        if remarks.stranger > 0 {
            let or_else = if self.dialect.is_one_process() {
                ""
            } else {
                "; or its models are loaded anew several times in eight minutes, so that they must stay loaded"
            };
            found.push(format!(
                "{} is answered by several processes in turn, so that what they count cannot be told: give each server \
                 behind a load balancer its own table{or_else}",
                self.url
            ));
        }
        if remarks.dropped > 0 {
            found.push(format!(
                "{} series are left out, because there are more than {}: let the server have fewer labels",
                remarks.dropped,
                page::SERIES_MAX
            ));
        }
        if remarks.broken > 0 {
            found.push(format!(
                "{} counters have a value that is no count and are left out",
                remarks.broken
            ));
        }
        if let Some(why) = &remarks.facts {
            found.push(format!("what the server serves is not known: {why}"));
        }
        (!found.is_empty()).then(|| found.join("; "))
    }
}

/// How much the server's clock is ahead of ours, to the second; zero where it does not say.
fn ahead_ms(answer: &Answer, at: Timestamp) -> i64 {
    let date = answer.header("date").and_then(|date| {
        let date = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
        Some(date.as_millisecond().saturating_sub(at.as_millisecond()))
    });
    date.unwrap_or(0)
}
