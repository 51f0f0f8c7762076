//! Providers whose buckets grow, come late and in pages.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::fake::{Fake, site};
use super::super::feed::Heard;
use super::super::request::Sum;
use super::super::{anthropic, openai};
use super::*;

/// 2026-03-14 09:00:00 UTC.
const NINE: i64 = 1_773_478_800;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NINE + seconds).unwrap()
}

const OPENAI: &str = "/v1/organization/usage/completions?start_time=";
const EMBEDDINGS: &str = "/v1/organization/usage/embeddings?start_time=";
const REST: &str =
    "&bucket_width=1h&limit=24&group_by=model&group_by=project_id&group_by=api_key_id";
const NOTHING: &str = r#"{"object":"page","data":[],"has_more":false,"next_page":null}"#;

fn bucket(begin: i64, results: &str) -> String {
    let (begin, end) = (NINE + begin, NINE + begin + 3600);
    format!(r#"{{"object":"bucket","start_time":{begin},"end_time":{end},"results":[{results}]}}"#)
}

fn row(requests: u64, input: u64, output: u64) -> String {
    format!(
        r#"{{"object":"organization.usage.completions.result","input_tokens":{input},"input_cached_tokens":1,
        "output_tokens":{output},"num_model_requests":{requests},"project_id":"proj_a","user_id":null,"api_key_id":"key_1",
        "model":"gpt-4o-2024-08-06","batch":null}}"#
    )
}

fn page(buckets: &[String], next: Option<&str>) -> String {
    let next = next.map_or("null".to_owned(), |next| format!("\"{next}\""));
    let has_more = next != "null";
    format!(
        r#"{{"object":"page","data":[{}],"has_more":{has_more},"next_page":{next}}}"#,
        buckets.join(",")
    )
}

struct Rig {
    server: Arc<Fake>,
    feed: Box<dyn Feed>,
    heard: Heard,
}

impl Rig {
    fn new() -> Self {
        let server = Arc::new(Fake::default());
        let feed = openai::open(&site("https://localhost"), &server.host()).unwrap();
        Self {
            server,
            feed,
            heard: Heard::default(),
        }
    }

    /// A reading of everything from an hour on, which is answered so.
    async fn read(&mut self, now: i64, from: i64, buckets: &[String]) -> Vec<Sum> {
        let from = NINE + from;
        self.server
            .says(&format!("{OPENAI}{from}{REST}"), &page(buckets, None));
        self.server
            .says(&format!("{EMBEDDINGS}{from}{REST}"), NOTHING);
        self.feed.take(at(now), &mut self.heard).await.unwrap();
        self.feed.take(at(now + 1), &mut self.heard).await.unwrap();
        std::mem::take(&mut self.heard.sums)
    }

    fn reopen(&mut self) {
        let kept = self.feed.checkpoint();
        self.feed = openai::open(&site("https://localhost"), &self.server.host()).unwrap();
        if let Some(kept) = kept {
            self.feed.resume(&kept);
        }
    }
}

fn counts(sum: &Sum) -> (Option<u64>, Option<u64>, Option<u64>) {
    (sum.requests, sum.input_tokens, sum.output_tokens)
}

#[tokio::test]
async fn only_what_grew_is_told_also_when_it_is_late() {
    let mut rig = Rig::new();
    let first = [bucket(0, &row(5, 1000, 500))];
    assert!(rig.read(600, 0, &first).await.is_empty(), "a beginning");
    let grown = [bucket(0, &row(7, 1400, 900))];
    let sums = rig.read(900, 0, &grown).await;
    assert_eq!(counts(&sums[0]), (Some(2), Some(400), Some(400)));
    assert_eq!(sums[0].at, Some(at(900)), "its hour is not over");
    let route = &sums[0].route;
    assert_eq!(route.key.as_ref().unwrap().as_str(), "proj_a/key_1");
    assert_eq!(
        sums[0].model.as_ref().unwrap().as_str(),
        "gpt-4o-2024-08-06"
    );
    let next = [bucket(0, &row(8, 1400, 900)), bucket(3600, &row(1, 10, 20))];
    let sums = rig.read(4000, 0, &next).await;
    assert_eq!(counts(&sums[0]), (Some(1), Some(0), Some(0)), "late");
    assert_eq!(sums[0].at, Some(at(3600)));
    assert_eq!(counts(&sums[1]), (Some(1), Some(10), Some(20)));
    assert!(rig.read(4300, 0, &next).await.is_empty(), "told once");
    let fallen = [bucket(0, &row(3, 3, 3)), bucket(3600, &row(1, 10, 20))];
    assert!(rig.read(4600, 0, &fallen).await.is_empty());
    assert!(rig.read(4900, 0, &next).await.is_empty());
}

#[tokio::test]
async fn a_restart_of_ours_reads_what_was_missed() {
    let mut rig = Rig::new();
    rig.read(600, 0, &[bucket(0, &row(5, 5, 5))]).await;
    rig.reopen();
    // Two days later, from six hours before the last reading, but not from before the first.
    let missed = [bucket(0, &row(6, 6, 6)), bucket(36_000, &row(10, 10, 10))];
    let sums = rig.read(172_800, 0, &missed).await;
    assert_eq!(sums.len(), 2);
    assert_eq!(counts(&sums[1]), (Some(10), Some(10), Some(10)));
    assert_eq!(sums[1].at, Some(at(39_600)));
    rig.reopen();
    let from = 172_800 - 6 * 3600;
    assert!(rig.read(173_100, from, &[]).await.is_empty());
    rig.feed.resume("no checkpoint");
    assert!(
        rig.read(180_000, 180_000, &[bucket(180_000, &row(1, 1, 1))])
            .await
            .is_empty(),
        "a beginning again"
    );
}

#[tokio::test]
async fn pages_follow_each_other() {
    let mut rig = Rig::new();
    rig.read(600, 0, &[]).await;
    let whole = format!("{OPENAI}{NINE}{REST}");
    rig.server.says(
        &whole,
        &page(&[bucket(0, &row(1, 1, 1))], Some("page_A+/=")),
    );
    let second = format!("{whole}&page=page_A%2B%2F%3D");
    rig.server
        .says(&second, &page(&[bucket(3600, &row(2, 2, 2))], None));
    rig.server.asked();
    for second in 0..5 {
        rig.feed
            .take(at(4000 + second), &mut rig.heard)
            .await
            .unwrap();
    }
    assert_eq!(rig.server.asked().len(), 3, "and nothing until it is due");
    assert_eq!(rig.heard.sums.len(), 2);
    // A page that leads to itself ends.
    rig.server.says(&second, &page(&[], Some("page_A+/=")));
    rig.feed.take(at(4400), &mut rig.heard).await.unwrap();
    let error = rig.feed.take(at(4401), &mut rig.heard).await.unwrap_err();
    assert!(error.to_string().contains("the same again"), "{error}");
    assert_eq!(rig.heard.sums.len(), 2, "nothing is repeated");
}

#[tokio::test]
async fn a_refusal_is_followed_by_a_pause() {
    let mut rig = Rig::new();
    let whole = format!("{OPENAI}{NINE}{REST}");
    rig.server.refuses(&whole, 401);
    let error = rig.feed.take(at(600), &mut rig.heard).await.unwrap_err();
    assert!(matches!(error, CollectError::Denied { .. }), "{error}");
    rig.server.asked();
    rig.feed.take(at(630), &mut rig.heard).await.unwrap();
    assert!(rig.server.asked().is_empty());
    rig.feed.take(at(660), &mut rig.heard).await.unwrap_err();
}

#[tokio::test]
async fn anthropic_counts_tokens_alone() {
    let server = Arc::new(Fake::default());
    let site = site("https://localhost/v1");
    let mut feed = anthropic::open(&site, &server.host()).unwrap();
    let mut heard = Heard::default();
    let place = "/v1/organizations/usage_report/messages?starting_at=2026-03-14T09%3A00%3A00Z&bucket_width=1h&limit=24\
                 &group_by[]=model&group_by[]=workspace_id&group_by[]=api_key_id";
    let answer = |times: u64| {
        format!(
            r#"{{"data":[{{"starting_at":"2026-03-14T09:00:00Z","ending_at":"2026-03-14T10:00:00Z","results":[
            {{"uncached_input_tokens":{times}500,"cache_creation":{{"ephemeral_1h_input_tokens":1000,"ephemeral_5m_input_tokens":500}},
            "cache_read_input_tokens":200,"output_tokens":{times}00,"server_tool_use":{{"web_search_requests":0}},"api_key_id":null,
            "workspace_id":"wrkspc_1","model":"claude-sonnet-4-20250514","service_tier":"standard"}},
            {{"uncached_input_tokens":{times},"cache_creation":null,"output_tokens":null}}]}}],"has_more":false,"next_page":null}}"#
        )
    };
    server.says(place, &answer(1));
    feed.take(at(600), &mut heard).await.unwrap();
    server.says(place, &answer(3));
    feed.take(at(901), &mut heard).await.unwrap();
    assert_eq!(heard.sums.len(), 2);
    assert_eq!(counts(&heard.sums[0]), (None, Some(2), None));
    assert_eq!(counts(&heard.sums[1]), (None, Some(2000), Some(200)));
    let key = heard.sums[1].route.key.as_ref().unwrap();
    assert_eq!(key.as_str(), "wrkspc_1/-");
    assert!(feed.details().concat().contains("no requests"));
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let mut buckets = Buckets::begin(at(0));
    let mut heard = Heard::default();
    let rows = (0..buckets::CELLS_MAX + 7).map(|n| Row {
        begin: at(0),
        end: at(3600),
        account: Account {
            key: key(Some("p"), Some(&format!("key_{n}"))),
            ..Account::default()
        },
        amount: Amount {
            input: Some(1),
            ..Amount::default()
        },
    });
    buckets.take(rows.collect(), at(60), &mut heard);
    assert_eq!(buckets.dropped(), 7);
    let text = buckets.write(1).unwrap();
    assert!(text.len() < 600_000, "{}", text.len());
    assert!(Buckets::read(&text, 1).is_some());
    assert_eq!(Buckets::read(&text, 2), None, "of another server");
    assert_eq!(Buckets::read("{}", 1), None);
    buckets.close(at(12 * 3600));
    assert!(buckets.write(1).unwrap().len() < 200, "old ones are gone");
}

proptest! {
    /// Whatever the order in which usage appears, all of it is told, once.
    #[test]
    fn everything_that_was_used_is_told_once(
        uses in prop::collection::vec((0..4_i64, 1..100_u64, any::<bool>()), 1..40),
    ) {
        let (mut buckets, mut heard) = (Buckets::begin(at(0)), Heard::default());
        buckets.take(Vec::new(), at(0), &mut heard);
        buckets.close(at(0));
        let mut used = [0_u64; 4];
        for (hour, tokens, is_restart) in &uses {
            used[usize::try_from(*hour).unwrap()] += tokens;
            let row = |(hour, tokens): (i64, &u64)| Row {
                begin: at(hour * 3600),
                end: at(hour * 3600 + 3600),
                account: Account::default(),
                amount: Amount { output: Some(*tokens), ..Amount::default() },
            };
            buckets.take((0..).zip(&used).map(row).collect(), at(5 * 3600), &mut heard);
            buckets.close(at(5 * 3600));
            if *is_restart {
                buckets = Buckets::read(&buckets.write(9).unwrap(), 9).unwrap();
            }
        }
        let told: u64 = heard.sums.iter().filter_map(|sum| sum.output_tokens).sum();
        prop_assert_eq!(told, used.iter().sum::<u64>());
    }
}
