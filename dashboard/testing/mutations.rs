//! Requests by the thousand through wrong hands and into the whole dashboard: none is accepted, nor anything twice.
//!
//! The hands are those that the verifier's own tests use. First they work on submissions that nobody has taken
//! yet, then on the same ones after they were taken, when every one of them is a replay besides.
//! `CMS_MUTATIONS` and `CMS_SEED` ask for more cases and for others.

#[path = "../../attest/tests/requests/hands/mod.rs"]
mod hands;

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use cms_attest::SigningKey;
use cms_spec::payload::Delivery;
use jiff::SignedDuration;
use rusqlite::Connection;

use self::hands::{Dice, HANDS, Loot, Wire};
use super::bench::{AUTHORITY, Answer, company};
use super::figures::{coverage, dark, ghost, heat};
use super::{Bench, Sent, Signer};
use crate::admin;
use crate::key::Mode;

/// Cases of an ordinary run, half of them before anything is accepted.
const CASES: u64 = 4_000;
/// Below what an API key may send at once.
const CASES_PER_KEY: u64 = 1_500;
const SEED: u64 = 20_260_116;

/// What is sent is what a HTTP library can send.
fn request(wire: &Wire, key: &str) -> Option<Request<Body>> {
    let mut request = Request::new(Body::from(wire.body.clone()));
    *request.method_mut() = Method::from_bytes(wire.method.as_bytes()).ok()?;
    *request.uri_mut() = wire.path.parse::<Uri>().ok()?;
    let bearer = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
    request.headers_mut().insert("authorization", bearer);
    for (name, value) in &wire.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

/// The request as the dashboard sees it: HTTP knows no fragment, and which host was asked is not the sender's word.
fn arrived(wire: &Wire, request: &Request<Body>) -> Wire {
    let path = request.uri().path_and_query();
    Wire {
        path: path.map_or("/", |path| path.as_str()).to_owned(),
        ..wire.clone()
    }
}

fn wire(sent: &Sent, agent: &Signer) -> Wire {
    let headers = sent.headers(agent).into_iter();
    Wire {
        method: "POST".to_owned(),
        path: sent.path(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        body: sent.body.clone(),
    }
}

fn submissions(bench: &Bench, agent: &Signer) -> Vec<Sent> {
    let old = bench.now() - SignedDuration::from_hours(5);
    let mut backfill = bench.submission_at(agent, 3, ghost("b", 10, 90), old);
    backfill.delivery = Delivery::Backfill;
    vec![
        bench.submission(agent, 0, ghost("a", 100, 900)),
        bench.submission(agent, 1, heat(100, 50)).zstd(),
        bench.submission(agent, 2, dark("x", 9, 1)),
        backfill,
        bench.submission(agent, 4, coverage(100, 100)).zstd(),
    ]
}

/// A key that has not sent anything yet. Two of one name may be live, so each has its own.
fn fresh_key(bench: &Bench, number: u64) -> String {
    let (id, name) = (company("acme-corp"), format!("wave {number}"));
    let made = admin::create_key(bench.dir.path(), &id, &name, Mode::Live, bench.now());
    made.unwrap().key.reveal().to_owned()
}

/// How many of the dashboard's rows there are.
fn rows(bench: &Bench, table: &str) -> i64 {
    let path = bench.dir.path().join("dashboard.sqlite");
    let db = Connection::open(path).unwrap();
    db.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| {
        row.get(0)
    })
    .unwrap()
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a whole number"))
}

/// The dashboard and everything that is sent to it.
struct Siege {
    bench: Bench,
    honest: Vec<Wire>,
    loot: Loot,
    seed: u64,
    key: String,
    /// Mutated requests that arrived.
    sent: u64,
    /// Those that no HTTP library would send.
    impossible: u64,
    refused: BTreeMap<String, u64>,
    accepted: Vec<String>,
}

impl Siege {
    /// Whether the hand repeated, signed with its own key, what its own agent had sent: nothing was forged.
    fn is_own(&self, seen: &Wire, answer: &Answer) -> bool {
        let own = self
            .loot
            .seen
            .last()
            .expect("the other agent's")
            .values("idempotency-key");
        seen.values("idempotency-key") == own && answer.json()["duplicate"] == true
    }

    /// Sends these cases. Before a submission is taken, whatever means the same as it stays at home.
    async fn run(&mut self, cases: std::ops::Range<u64>, taken: bool) {
        for case in cases {
            if case % CASES_PER_KEY == 0 {
                self.key = fresh_key(&self.bench, case);
            }
            let mut dice = Dice::of(self.seed, case);
            let mut changed = self.honest[dice.below(self.honest.len())].clone();
            let mut names = Vec::new();
            for _ in 0..[0, 1, 1, 1, 2, 3][dice.below(6)] {
                let (name, hand) = HANDS[dice.below(HANDS.len())];
                hand(&mut changed, &mut dice, &self.loot);
                names.push(name);
            }
            let Some(request) = request(&changed, &self.key) else {
                self.impossible += 1;
                continue;
            };
            let seen = arrived(&changed, &request);
            if !taken
                && self
                    .honest
                    .iter()
                    .any(|honest| seen.means_the_same_as(honest))
            {
                continue;
            }
            self.sent += 1;
            let answer = self.bench.send(request).await;
            if answer.status.is_client_error() {
                let code = answer.json()["error"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                *self.refused.entry(code).or_default() += 1;
            } else if !self.is_own(&seen, &answer) {
                let status = answer.status;
                self.accepted
                    .push(format!("case {case}: {status} {names:?} {changed:?}"));
            }
        }
    }
}

#[tokio::test]
async fn no_mutated_request_is_accepted_and_none_twice() {
    let (cases, seed) = (number("CMS_MUTATIONS", CASES), number("CMS_SEED", SEED));
    let bench = Bench::new();
    let (agent, other) = (bench.agent(1).await, bench.agent(2).await);
    let mut sent = submissions(&bench, &agent);
    let honest: Vec<Wire> = sent.iter().map(|sent| wire(sent, &agent)).collect();
    let mut seen = honest.clone();
    // Honest once, elsewhere or too long ago; and of the other agent, which holds its own key below.
    let mut elsewhere = bench.submission(&agent, 8, ghost("c", 10, 90));
    elsewhere.authority = "other.example.org";
    let mut expired = bench.submission(&agent, 9, ghost("d", 10, 90));
    expired.created = bench.now() - SignedDuration::from_secs(301);
    seen.extend([wire(&elsewhere, &agent), wire(&expired, &agent)]);
    seen.push(wire(
        &bench.submission(&other, 0, dark("y", 9, 1)).zstd(),
        &other,
    ));
    let keys = [2, 66].map(|seed| SigningKey::from_seed(&[seed; 32]).unwrap());
    // What the other agent could send for itself would be accepted, so it has sent it.
    bench
        .submit(&other, &bench.submission(&other, 0, dark("y", 9, 1)).zstd())
        .await
        .accepted();
    let mut siege = Siege {
        key: bench.key.clone(),
        loot: Loot {
            seen,
            keys: keys.into(),
            authority: AUTHORITY,
        },
        bench,
        honest,
        seed,
        sent: 0,
        impossible: 0,
        refused: BTreeMap::new(),
        accepted: Vec::new(),
    };
    let before = rows(&siege.bench, "submission");
    siege.run(0..cases / 2, false).await;
    assert_eq!(
        rows(&siege.bench, "submission"),
        before,
        "{:#?}",
        siege.accepted
    );

    siege.key = fresh_key(&siege.bench, cases);
    for honest in &siege.honest {
        siege
            .bench
            .send(request(honest, &siege.key).unwrap())
            .await
            .accepted();
    }
    let taken = before + i64::try_from(siege.honest.len()).unwrap();
    siege.run(cases / 2..cases, true).await;
    println!("seed {seed}; refused as {:?}", siege.refused);
    println!("{} more cannot be sent over HTTP", siege.impossible);
    println!(
        "{} mutated requests, {} accepted",
        siege.sent,
        siege.accepted.len()
    );
    assert_eq!(siege.accepted.first(), None);
    assert_eq!(rows(&siege.bench, "submission"), taken);

    // The agent's own retry, signed again, is answered as before and stored no second time.
    for (nonce, sent) in (100..).zip(&mut sent) {
        sent.nonce = [nonce; 16];
        let answer = siege.bench.submit(&agent, sent).await.accepted().json();
        assert_eq!(answer["duplicate"], true);
    }
    assert_eq!(rows(&siege.bench, "submission"), taken);
}
