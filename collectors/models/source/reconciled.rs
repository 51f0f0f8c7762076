//! A server's log beside what the server itself counts.
//!
//! A log is text, and whoever may write to it, or gets a prompt written into it, can add lines that look like those of
//! requests. Readers recognise lines from their beginning and refuse logs that show prompts; this is the check behind
//! them. Promises: what the log tells is told as it is; where it tells more requests than the server counted, or far
//! fewer, `status` and the payload's provenance say so. Refuses: to guess which of the lines are the false ones.

use std::collections::VecDeque;
use std::fmt;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::models::counters::Counters;
use crate::models::feed::{Feed, Out};
use crate::models::request::{ModelFacts, Request, Sum, Used};
use crate::{CollectError, chain};

/// Between two marks.
const EVERY: SignedDuration = SignedDuration::from_secs(20);

/// Marks that are compared: an hour, after which a difference is history.
const MARKS_MAX: usize = 180;

/// Marks at each end in which one side may be ahead of the other: a page is read every 15 seconds, and a line is written
/// when its request is counted.
const SKEW: usize = 1;

/// A difference that means nothing, in requests; tokens are compared with a hundred for each.
const SLACK: u64 = 2;

/// What one request stands for where only tokens can be compared.
const TOKENS: u64 = 100;

/// A log has more than the server counted when it is this many hundredths more.
const MORE_PERCENT: u64 = 1;

/// A log lacks requests when it has this many hundredths fewer: some paths of a server are counted and not logged.
const FEWER_PERCENT: u64 = 10;

/// A feed that reads a log, and the counters of the same server.
pub(super) struct Reconciled {
    feed: Box<dyn Feed>,
    counters: Counters,
    /// How often the counters began anew when the first mark was made.
    epoch: u64,
    log: Amounts,
    server: Amounts,
    marks: VecDeque<Mark>,
    /// Why the server's counters cannot be read now.
    failed: Option<String>,
}

/// What was told so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amounts {
    requests: Option<u64>,
    output_tokens: Option<u64>,
}

/// What both sides told up to a moment.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Timestamp,
    log: Amounts,
    server: Amounts,
}

/// What the comparison of an hour shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Difference {
    is_more: bool,
    of_log: u64,
    of_server: u64,
    what: &'static str,
    minutes: i64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            of_log,
            of_server,
            what,
            minutes,
            ..
        } = self;
        write!(
            f,
            "its log tells {of_log} {what} of the last {minutes} min, of which the server counted {of_server}"
        )
    }
}

impl Amounts {
    fn add(&mut self, requests: Option<u64>, output_tokens: Option<u64>) {
        let add = |sum: &mut Option<u64>, more: Option<u64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        };
        add(&mut self.requests, requests);
        add(&mut self.output_tokens, output_tokens);
    }
}

impl Reconciled {
    pub(super) fn new(feed: Box<dyn Feed>, counters: Counters) -> Self {
        Self {
            feed,
            counters: counters.without_names(),
            epoch: 0,
            log: Amounts::default(),
            server: Amounts::default(),
            marks: VecDeque::new(),
            failed: None,
        }
    }

    fn mark(&mut self, at: Timestamp) {
        if self.counters.beginnings() != self.epoch {
            // What was counted between the last look and the beginning is not known.
            self.epoch = self.counters.beginnings();
            self.marks.clear();
        }
        let is_due = |last: &Mark| {
            let since = at.duration_since(last.at);
            since.is_negative() || since >= EVERY
        };
        if self.marks.back().is_some_and(|last| !is_due(last)) {
            return;
        }
        if self.marks.len() >= MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back(Mark {
            at,
            log: self.log,
            server: self.server,
        });
    }

    /// What the marks show; nothing while there are too few, or when both sides agree.
    ///
    /// That the log has more is looked for from every mark on, so that a busy time does not hide what was forged in a
    /// quiet one. That it lacks something is looked for over the whole time, because what is not logged may come at once.
    fn difference(&self) -> Option<Difference> {
        let begins = 0..self.marks.len().saturating_sub(2 * SKEW + 1);
        let more = begins.clone().filter_map(|begin| {
            let span = self.span(begin)?;
            let slack = span.slack(span.inner_log, MORE_PERCENT);
            let excess = span.inner_log.saturating_sub(span.outer_server);
            (excess > slack).then_some((excess, span))
        });
        if let Some((_, span)) = more.max_by_key(|(excess, _)| *excess) {
            return Some(span.difference(true, span.inner_log, span.outer_server));
        }
        let span = self.span(begins.start).filter(|_| !begins.is_empty())?;
        let slack = span.slack(span.inner_server, FEWER_PERCENT);
        let lacks = span.inner_server.saturating_sub(span.outer_log) > slack;
        lacks.then(|| span.difference(false, span.outer_log, span.inner_server))
    }

    /// What both sides told from a mark on.
    fn span(&self, begin: usize) -> Option<Span> {
        let (first, last) = (self.marks.get(begin)?, self.marks.back()?);
        let early = self.marks.get(begin.checked_add(SKEW)?)?;
        let late = self.marks.get(self.marks.len().checked_sub(SKEW + 1)?)?;
        let (what, of, one): (_, fn(&Amounts) -> Option<u64>, _) = match last.server.requests {
            Some(_) => ("requests", |amounts| amounts.requests, 1),
            None => ("output tokens", |amounts| amounts.output_tokens, TOKENS),
        };
        of(&last.server)?;
        let between = |from: &Amounts, to: &Amounts| {
            of(to).unwrap_or(0).saturating_sub(of(from).unwrap_or(0))
        };
        Some(Span {
            inner_log: between(&early.log, &late.log),
            outer_log: between(&first.log, &last.log),
            inner_server: between(&early.server, &late.server),
            outer_server: between(&first.server, &last.server),
            what,
            one,
            minutes: last.at.duration_since(first.at).as_mins().max(1),
        })
    }
}

/// What both sides told between two marks, and between the marks that are well inside.
#[derive(Clone, Copy, Debug)]
struct Span {
    inner_log: u64,
    outer_log: u64,
    inner_server: u64,
    outer_server: u64,
    what: &'static str,
    /// What one request stands for.
    one: u64,
    minutes: i64,
}

impl Span {
    /// How far so many may be off.
    fn slack(&self, of: u64, percent: u64) -> u64 {
        (of / 100).saturating_mul(percent).max(SLACK * self.one)
    }

    fn difference(&self, is_more: bool, of_log: u64, of_server: u64) -> Difference {
        Difference {
            is_more,
            of_log,
            of_server,
            what: self.what,
            minutes: self.minutes,
        }
    }
}

#[async_trait]
impl Feed for Reconciled {
    async fn take(&mut self, at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError> {
        let counted = self.counters.take(at, &mut Server(&mut self.server)).await;
        if self.counters.looked() == Some(at) {
            self.failed = counted.err().map(|error| chain(&error));
        }
        let log = &mut self.log;
        let taken = self.feed.take(at, &mut Log { log, out }).await;
        match &self.failed {
            None => self.mark(at),
            Some(_) => self.marks.clear(),
        }
        taken
    }

    fn checkpoint(&self) -> Option<String> {
        self.feed.checkpoint()
    }

    fn resume(&mut self, checkpoint: &str) {
        self.feed.resume(checkpoint);
    }

    fn stored(&mut self) {
        self.feed.stored();
    }

    fn details(&self) -> Vec<String> {
        let mut lines = self.feed.details();
        lines.push(match (&self.failed, self.difference()) {
            (Some(why), _) => {
                format!("the log is not compared with the server's counters: {why}")
            }
            (None, _) if self.marks.len() <= 2 * SKEW + 1 => {
                "the log will be compared with the server's counters in a minute".to_owned()
            }
            (None, Some(difference)) => difference.to_string(),
            (None, None) => "the log and the server's counters agree".to_owned(),
        });
        lines
    }

    fn trouble(&self) -> Option<String> {
        let difference = || {
            let difference = self.difference()?;
            let next = match difference.is_more {
                true => {
                    "lines of it are forged or written twice: see who may write to it, or leave out \
                     `log` to read the counters"
                }
                false => {
                    "the rest is not logged: have the server log every request, or leave out `log` to \
                     read the counters"
                }
            };
            Some(format!("{difference}; {next}"))
        };
        let all: Vec<String> = self
            .feed
            .trouble()
            .into_iter()
            .chain(difference())
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn caveat(&self) -> Option<String> {
        let own = self.feed.caveat();
        // Without the figures: each text of provenance is kept for as long as its window.
        own.or_else(|| {
            let text = match self.difference()?.is_more {
                true => "the log tells more than the server counts",
                false => "the log tells less than the server counts",
            };
            Some(text.to_owned())
        })
    }
}

/// Passes on what the log tells, and counts it.
struct Log<'a> {
    log: &'a mut Amounts,
    out: &'a mut dyn Out,
}

impl Out for Log<'_> {
    fn request(&mut self, request: Request) {
        self.log.add(Some(1), request.output_tokens);
        self.out.request(request);
    }

    fn sum(&mut self, sum: Sum) {
        self.log.add(sum.requests, sum.output_tokens);
        self.out.sum(sum);
    }

    fn model(&mut self, facts: ModelFacts) {
        self.out.model(facts);
    }

    fn used(&mut self, used: Used) {
        self.out.used(used);
    }
}

/// Counts what the server counts, which is told by its log.
struct Server<'a>(&'a mut Amounts);

impl Out for Server<'_> {
    fn request(&mut self, _request: Request) {}

    fn sum(&mut self, sum: Sum) {
        self.0.add(sum.requests, sum.output_tokens);
    }

    fn model(&mut self, _facts: ModelFacts) {}

    fn used(&mut self, _used: Used) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::models::fake::{Fake, site};
    use crate::models::feed::Heard;
    use crate::models::{llamacpp, vllm};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + second).unwrap()
    }

    /// A log that tells so many requests of a hundred tokens at each call.
    struct Lines(Arc<std::sync::Mutex<u64>>);

    #[async_trait]
    impl Feed for Lines {
        async fn take(&mut self, _at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError> {
            for _ in 0..std::mem::take(&mut *self.0.lock().unwrap()) {
                out.request(Request {
                    output_tokens: Some(100),
                    ..Request::default()
                });
            }
            Ok(())
        }
    }

    /// A log with a trouble of its own.
    struct Troubled;

    #[async_trait]
    impl Feed for Troubled {
        async fn take(&mut self, _at: Timestamp, _out: &mut dyn Out) -> Result<(), CollectError> {
            Ok(())
        }

        fn trouble(&self) -> Option<String> {
            Some("a line is too long".to_owned())
        }
    }

    /// A server, its log and its page.
    struct Rig {
        server: Arc<Fake>,
        lines: Arc<std::sync::Mutex<u64>>,
        feed: Reconciled,
        heard: Heard,
        now: i64,
        counted: u64,
        page: fn(u64) -> String,
        has_page: bool,
    }

    fn of_vllm(counted: u64) -> String {
        format!(
            "process_start_time_seconds 1779999000\n\
             vllm:generation_tokens_total{{model_name=\"m\"}} {}\n\
             vllm:request_success_total{{finished_reason=\"stop\",model_name=\"m\"}} {counted}\n",
            counted * 100
        )
    }

    fn of_llamacpp(counted: u64) -> String {
        format!(
            "llamacpp:prompt_tokens_total 5\nllamacpp:tokens_predicted_total {}\n",
            counted * 100
        )
    }

    impl Rig {
        fn new(is_vllm: bool) -> Self {
            let server = Arc::new(Fake::default());
            server.says("/v1/models", r#"{"data":[{"id":"m"}]}"#);
            let lines = Arc::default();
            let site = site("http://localhost:8000");
            let counters = match is_vllm {
                true => vllm::metrics::open(&site, &server.host()),
                false => llamacpp::metrics::open(&site, &server.host()),
            };
            let log = Box::new(Lines(Arc::clone(&lines)));
            Self {
                server,
                lines,
                feed: Reconciled::new(log, counters.unwrap()),
                heard: Heard::default(),
                now: 0,
                counted: 100,
                page: if is_vllm { of_vllm } else { of_llamacpp },
                has_page: true,
            }
        }

        /// Twenty seconds in which the server answers and logs so many requests.
        async fn pass(&mut self, answered: u64, logged: u64) {
            self.counted += answered;
            match self.has_page {
                true => self.server.says("/metrics", &(self.page)(self.counted)),
                false => self.server.refuses("/metrics", 501),
            }
            *self.lines.lock().unwrap() = logged;
            for _ in 0..20 {
                self.now += 1;
                self.feed.take(at(self.now), &mut self.heard).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_log_that_tells_what_the_server_counts_is_in_order() {
        for is_vllm in [true, false] {
            let mut rig = Rig::new(is_vllm);
            // What was there before the first look is nobody's difference.
            rig.pass(0, 5_000).await;
            for _ in 0..200 {
                rig.pass(7, 7).await;
                assert_eq!(rig.feed.trouble(), None);
                assert_eq!(rig.feed.caveat(), None);
            }
            assert_eq!(rig.heard.requests.len(), 5_000 + 200 * 7);
            assert!(rig.heard.sums.is_empty(), "nothing is told twice");
            let details = rig.feed.details().join("; ");
            assert!(details.contains("agree"), "{details}");
            assert!(rig.feed.marks.len() <= MARKS_MAX);
        }
    }

    #[tokio::test]
    async fn lines_of_requests_that_nobody_sent_are_flagged_for_an_hour() {
        for is_vllm in [true, false] {
            let mut rig = Rig::new(is_vllm);
            for _ in 0..10 {
                rig.pass(7, 7).await;
            }
            rig.pass(7, 7 + 40).await;
            for _ in 0..4 {
                rig.pass(7, 7).await;
            }
            let trouble = rig.feed.trouble().expect("40 requests too many");
            assert!(trouble.contains("forged"), "{trouble}");
            assert!(trouble.contains("see who may write to it"), "{trouble}");
            assert!(rig.feed.caveat().unwrap().contains("tells more than"));
            let log = std::mem::replace(&mut rig.feed.feed, Box::new(Troubled));
            let both = rig.feed.trouble().unwrap();
            assert!(
                both.starts_with("a line is too long; ") && both.contains("forged"),
                "{both}"
            );
            rig.feed.feed = log;
            for _ in 0..185 {
                rig.pass(7, 7).await;
            }
            assert_eq!(rig.feed.trouble(), None, "an hour later");
        }
    }

    #[tokio::test]
    async fn a_busy_time_hides_nothing_that_is_forged_in_a_quiet_one() {
        let mut rig = Rig::new(true);
        rig.pass(0, 0).await;
        rig.pass(900, 900).await;
        for _ in 0..4 {
            rig.pass(0, 0).await;
        }
        rig.pass(0, 90).await;
        rig.pass(0, 0).await;
        rig.pass(0, 0).await;
        let trouble = rig.feed.trouble().expect("90 requests too many");
        assert!(trouble.contains("tells 90 requests"), "{trouble}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_say_its_models_is_compared_all_the_same() {
        let mut rig = Rig::new(false);
        rig.server.refuses("/v1/models", 503);
        for _ in 0..10 {
            rig.pass(50, 50).await;
            assert_eq!(rig.feed.trouble(), None);
        }
        let asked = rig.server.asked();
        assert!(asked.iter().all(|path| path == "/metrics"), "{asked:?}");
    }

    #[tokio::test]
    async fn a_log_that_lacks_requests_is_no_source_for_them() {
        let mut rig = Rig::new(true);
        for _ in 0..10 {
            rig.pass(20, 5).await;
        }
        let trouble = rig.feed.trouble().unwrap();
        assert!(trouble.contains("have the server log every"), "{trouble}");
    }

    #[tokio::test]
    async fn a_restart_of_the_server_is_no_difference_and_no_page_is_no_trouble() {
        let mut rig = Rig::new(false);
        for _ in 0..10 {
            rig.pass(50, 50).await;
        }
        // What was counted between the last look and the restart is in no page.
        rig.counted = 3;
        for _ in 0..20 {
            rig.pass(5, 5).await;
            assert_eq!(rig.feed.trouble(), None);
        }
        rig.has_page = false;
        rig.pass(0, 50).await;
        rig.pass(0, 50).await;
        assert_eq!(rig.feed.trouble(), None);
        let details = rig.feed.details().join("; ");
        assert!(details.contains("is not compared"), "{details}");
    }
}
