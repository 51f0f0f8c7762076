//! Receipts: which heads of a ledger are cosigned, and that no history is ever exchanged for another.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use cms_attest::add_checkpoint::{AddCheckpoint, parse_size_answer, path};
use cms_attest::checkpoint::verify_cosignature;
use cms_attest::enrol::EnrolAnswer;
use cms_attest::merkle::{Head, consistency_proof, root};
use cms_attest::{AgentId, Checkpoint, CosignerKey, Digest, Origin, Receipt, SigningKey};
use jiff::SignedDuration;
use rusqlite::Connection;
use tokio::task::JoinSet;

use super::Bench;
use super::bench::{AUTHORITY, Answer, company, cosigner};

/// An agent's ledger, as the agent has it.
#[derive(Clone)]
pub(super) struct Ledger {
    pub(super) origin: Origin,
    key: Arc<SigningKey>,
    leaves: Vec<Digest>,
}

impl Ledger {
    /// The ledger of the agent that [`Bench::agent`] enrols with this seed.
    pub(super) fn of(seed: u8, id: &AgentId, leaves: u64) -> Self {
        Self {
            origin: Origin::new(company("acme-corp"), id.clone(), 1),
            key: Arc::new(SigningKey::from_seed(&[seed + 100; 32]).unwrap()),
            leaves: (0..leaves).map(|i| Digest::of(&i.to_be_bytes())).collect(),
        }
    }

    fn grown_to(&self, leaves: u64) -> Self {
        Self {
            leaves: Self::of(0, self.origin.agent_id(), leaves).leaves,
            ..self.clone()
        }
    }

    fn rewritten(&self, at: usize, what: u64) -> Self {
        let mut other = self.clone();
        other.leaves[at] = Digest::of(format!("rewritten {what}").as_bytes());
        other
    }

    fn in_epoch(&self, epoch: u64) -> Self {
        let agent = self.origin.agent_id().clone();
        Self {
            origin: Origin::new(company("acme-corp"), agent, epoch),
            ..self.clone()
        }
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            origin: self.origin.clone(),
            head: Head {
                size: self.leaves.len() as u64,
                root: root(self.leaves.iter().copied()),
            },
        }
    }

    fn offer(&self, old: u64) -> AddCheckpoint {
        self.offer_by(&[&self.key], old)
    }

    /// An offer that these keys sign.
    pub(super) fn offer_by(&self, keys: &[&SigningKey], old: u64) -> AddCheckpoint {
        let checkpoint = self.checkpoint();
        let subtree = |range: std::ops::Range<u64>| {
            let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
            Ok::<_, Infallible>(root(self.leaves[start..end].iter().copied()))
        };
        let Ok(proof) = consistency_proof(old, checkpoint.head.size, subtree);
        let note = checkpoint.sign_with(keys).unwrap();
        AddCheckpoint { old, proof, note }
    }
}

impl Bench {
    async fn ledger(&self, seed: u8, leaves: u64) -> Ledger {
        Ledger::of(seed, &self.agent(seed).await.id, leaves)
    }

    async fn offer(&self, ledger: &Ledger, old: u64) -> Answer {
        let body = ledger.offer(old).to_string();
        self.post(&path(ledger.origin.agent_id()), body).await
    }

    pub(super) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(post(path, body)).await
    }

    /// The same store under a new dashboard, as after a restart.
    fn restarted(self) -> Self {
        self.opened_again()
    }

    fn count(&self, sql: &str) -> i64 {
        let database = Connection::open(self.dir.path().join("dashboard.sqlite")).unwrap();
        database.query_row(sql, (), |row| row.get(0)).unwrap()
    }

    fn change(&self, sql: &str) {
        let database = Connection::open(self.dir.path().join("dashboard.sqlite")).unwrap();
        database.execute_batch(sql).unwrap();
    }

    fn receipt(&self, ledger: &Ledger, answer: Answer) -> Receipt {
        let key = cosigner(self.dir.path()).published();
        verify_cosignature(&answer.accepted().text, &ledger.checkpoint(), &key).unwrap()
    }
}

impl Answer {
    #[track_caller]
    fn resync(&self) -> u64 {
        assert_eq!(self.status.as_u16(), 409, "{}", self.text);
        assert_eq!(
            self.headers.get("content-type").unwrap(),
            "text/x.tlog.size"
        );
        parse_size_answer(&self.text).unwrap()
    }
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header("content-type", "text/plain; charset=utf-8")
        .body(body.into())
        .unwrap()
}

#[tokio::test]
async fn the_first_head_is_cosigned_by_the_published_key() {
    let bench = Bench::new();
    let enrolled = bench.enrol(1, "host-1").await.accepted();
    let enrolled: EnrolAnswer = serde_json::from_str(&enrolled.text).unwrap();
    let vkey = enrolled.cosigner.unwrap();
    let keys = bench.get("/api/v1/keys").await.accepted();
    assert_eq!(keys.text, format!("{vkey}\n"));
    let key: CosignerKey = vkey.parse().unwrap();
    assert_eq!(key.name().as_str(), AUTHORITY);

    let ledger = Ledger::of(1, &enrolled.agent_id, 3);
    let answer = bench.offer(&ledger, 0).await.accepted();
    let receipt = verify_cosignature(&answer.text, &ledger.checkpoint(), &key).unwrap();
    assert_eq!(receipt.time(), bench.now());
}

#[tokio::test]
async fn a_ledger_grows_and_rests() {
    let bench = Bench::new();
    let ledger = bench.ledger(1, 3).await;
    bench.receipt(&ledger, bench.offer(&ledger, 0).await);
    bench.pass(SignedDuration::from_mins(5));
    let grown = ledger.grown_to(20);
    bench.receipt(&grown, bench.offer(&grown, 3).await);
    bench.pass(SignedDuration::from_mins(5));
    let again = bench.receipt(&grown, bench.offer(&grown, 20).await);
    assert_eq!(again.time(), bench.now());

    let sources = bench.get("/api/v1/company/acme-corp/sources").await;
    let receipted = &sources.accepted().json()["sources"][0]["receipted"];
    let at = bench.now().to_string();
    assert_eq!(
        *receipted,
        serde_json::json!({ "epoch": 1, "size": 20, "at": at, "forks": 0 })
    );
    let page = bench.get("/company/acme-corp").await.accepted();
    assert!(page.text.contains("size 20"), "{}", page.text);
    assert!(!page.text.contains("forked"));
}

#[tokio::test]
async fn who_is_out_of_step_learns_the_size() {
    let bench = Bench::new();
    let ledger = bench.ledger(1, 8).await;
    assert_eq!(bench.offer(&ledger, 5).await.resync(), 0);
    bench.offer(&ledger, 0).await.accepted();
    let grown = ledger.grown_to(13);
    for old in [0, 7, 9] {
        assert_eq!(bench.offer(&grown, old).await.resync(), 8);
    }
    bench.offer(&grown, 8).await.accepted();
    // The answer to that one was lost: the agent asks from where it was, and then again.
    assert_eq!(bench.offer(&grown, 8).await.resync(), 13);
    bench.offer(&grown, 13).await.accepted();
}

#[tokio::test]
async fn a_shrunken_ledger_is_not_cosigned() {
    let bench = Bench::new();
    let ledger = bench.ledger(1, 8).await;
    bench.offer(&ledger, 0).await.accepted();
    let smaller = ledger.grown_to(5);
    let answer = bench.offer(&smaller, 8).await;
    answer.refused(400, "checkpoint_malformed");
    assert_eq!(bench.offer(&smaller, 5).await.resync(), 8);
}

#[tokio::test]
async fn of_a_fork_both_heads_are_kept_and_the_first_one_stands() {
    let bench = Bench::new();
    let ledger = bench.ledger(1, 8).await;
    bench.offer(&ledger, 0).await.accepted();
    let problem = bench
        .offer(&ledger.rewritten(3, 1), 8)
        .await
        .refused(422, "fork");
    assert!(problem.next_step.contains("new epoch"), "{problem}");
    let longer = ledger.grown_to(20).rewritten(3, 2);
    bench.offer(&longer, 8).await.refused(422, "fork");
    bench.offer(&longer, 8).await.refused(422, "fork");

    assert_eq!(bench.count("SELECT count(*) FROM fork_evidence"), 2);
    let database = Connection::open(bench.dir.path().join("dashboard.sqlite")).unwrap();
    let mut find = database
        .prepare("SELECT held_note, offer FROM fork_evidence")
        .unwrap();
    let kept = find.query_map((), |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    });
    for row in kept.unwrap() {
        let (held, offer) = row.unwrap();
        let offer: AddCheckpoint = offer.parse().unwrap();
        let key = ledger.key.verifying();
        assert_eq!(Checkpoint::open(&held, key), Ok(ledger.checkpoint()));
        assert_ne!(Checkpoint::open(&offer.note, key), Ok(ledger.checkpoint()));
    }

    let page = bench.get("/company/acme-corp").await.accepted();
    assert!(page.text.contains("forked"));
    let sources = bench.get("/api/v1/company/acme-corp/sources").await;
    assert_eq!(sources.json()["sources"][0]["receipted"]["forks"], 3);
    bench.offer(&ledger.grown_to(20), 8).await.accepted();
}

#[tokio::test]
async fn evidence_is_bounded_and_forks_are_counted() {
    let bench = Bench::new();
    let ledger = bench.ledger(1, 4).await;
    bench.offer(&ledger, 0).await.accepted();
    for what in 0..20 {
        let answer = bench.offer(&ledger.rewritten(0, what), 4).await;
        answer.refused(422, "fork");
    }
    assert_eq!(bench.count("SELECT count(*) FROM fork_evidence"), 16);
    assert_eq!(bench.count("SELECT forks FROM checkpoint"), 20);
}

#[tokio::test]
async fn every_epoch_is_a_log_of_its_own() {
    let bench = Bench::new();
    let ledger = bench.ledger(1, 8).await;
    bench.offer(&ledger, 0).await.accepted();
    let next = ledger.rewritten(0, 1).in_epoch(2);
    assert_eq!(bench.offer(&next, 8).await.resync(), 0);
    bench.offer(&next, 0).await.accepted();
    bench.offer(&ledger.grown_to(9), 8).await.accepted();
    let sources = bench.get("/api/v1/company/acme-corp/sources").await;
    assert_eq!(sources.json()["sources"][0]["receipted"]["epoch"], 2);

    bench.change(
        "WITH RECURSIVE epoch (n) AS (SELECT 3 UNION ALL SELECT n + 1 FROM epoch WHERE n < 1024)
         INSERT INTO checkpoint SELECT agent, n, size, root, note, cosigned_ms, 0
         FROM checkpoint, epoch WHERE checkpoint.epoch = 1",
    );
    let one_more = bench.offer(&ledger.in_epoch(1025), 0).await;
    one_more.refused(403, "epochs_many");
    bench.offer(&ledger.grown_to(10), 9).await.accepted();
}

#[tokio::test]
async fn only_the_agents_own_key_and_ledger() {
    let bench = Bench::new();
    let ledger = bench.ledger(1, 3).await;
    let other = bench.ledger(2, 3).await;
    let own_path = path(ledger.origin.agent_id());

    let with_other_key = Ledger {
        key: Arc::clone(&other.key),
        ..ledger.clone()
    };
    let answer = bench.offer(&with_other_key, 0).await;
    answer.refused(403, "checkpoint_unsigned");
    // The request key is not the ledger's key.
    let with_request_key = Ledger {
        key: Arc::new(SigningKey::from_seed(&[1; 32]).unwrap()),
        ..ledger.clone()
    };
    let answer = bench.offer(&with_request_key, 0).await;
    answer.refused(403, "checkpoint_unsigned");

    let elsewhere = [
        Origin::new(company("other-corp"), ledger.origin.agent_id().clone(), 1),
        other.origin.clone(),
    ];
    for origin in elsewhere {
        let foreign = Ledger {
            origin,
            ..ledger.clone()
        };
        let answer = bench.post(&own_path, foreign.offer(0).to_string()).await;
        answer.refused(403, "other_origin");
    }
    for unknown in [
        "/api/v1/agents/018f3b1e-7c4a-7d2e-9b1a-0000000000ff/checkpoint",
        "/api/v1/agents/nobody/checkpoint",
    ] {
        let answer = bench.post(unknown, ledger.offer(0).to_string()).await;
        answer.refused(404, "agent_unknown");
    }
    assert_eq!(bench.count("SELECT count(*) FROM checkpoint"), 0);

    bench.change("UPDATE agent SET revoked_ms = 1");
    bench.offer(&ledger, 0).await.refused(403, "agent_revoked");
}

#[tokio::test]
async fn a_restart_keeps_heads_and_key() {
    let bench = Bench::new();
    let ledger = bench.ledger(1, 8).await;
    bench.offer(&ledger, 0).await.accepted();
    let keys = bench.get("/api/v1/keys").await.text;

    let bench = bench.restarted();
    assert_eq!(bench.get("/api/v1/keys").await.text, keys);
    let grown = ledger.grown_to(9);
    assert_eq!(bench.offer(&grown, 0).await.resync(), 8);
    let forked = bench.offer(&grown.rewritten(0, 1), 8).await;
    forked.refused(422, "fork");
    bench.receipt(&grown, bench.offer(&grown, 8).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_heads_that_arrive_at_once_one_is_cosigned() {
    let bench = Bench::new();
    let mut ledger = bench.ledger(1, 0).await;
    for round in 1..=6 {
        let old = ledger.leaves.len() as u64;
        let mut offers = JoinSet::new();
        for branch in 0..4 {
            let mut branched = ledger.clone();
            for leaf in 0..=branch {
                let text = format!("{round} {branch} {leaf}");
                branched.leaves.push(Digest::of(text.as_bytes()));
            }
            let body = branched.offer(old).to_string();
            let request = post(&path(ledger.origin.agent_id()), body);
            let router = bench.router.clone();
            offers.spawn(async move {
                use tower::ServiceExt as _;
                let status = router.oneshot(request).await.unwrap().status();
                (status.as_u16(), branched)
            });
        }
        let answers = offers.join_all().await;
        let mut taken = answers.iter().filter(|(status, _)| *status == 200);
        let (_, winner) = taken.next().unwrap();
        assert!(taken.next().is_none(), "two histories were cosigned");
        assert_eq!(answers.iter().filter(|(s, _)| *s == 409).count(), 3);
        ledger = winner.clone();
        bench.pass(SignedDuration::from_mins(1));
    }
}

#[tokio::test]
async fn no_mutated_offer_is_cosigned() {
    let bench = Bench::new();
    let ledger = bench.ledger(1, 6).await;
    bench.offer(&ledger, 0).await.accepted();
    let grown = ledger.grown_to(11);
    let path = path(ledger.origin.agent_id());
    let offer = grown.offer(6).to_string().into_bytes();
    for at in 0..offer.len() {
        // So that the signed ones among them do not meet the bound on their number.
        bench.pass(SignedDuration::from_secs(1));
        let mut mutated = offer.clone();
        mutated[at] ^= 1 << (at % 8);
        let answer = bench.post(&path, mutated).await;
        let status = answer.status.as_u16();
        assert!(
            [400, 403, 409, 422].contains(&status),
            "{at}: {status} {}",
            answer.text
        );
        let shorter = bench.post(&path, offer[..at].to_vec()).await;
        assert!([400, 403].contains(&shorter.status.as_u16()), "{at}");
    }
    assert_eq!(bench.count("SELECT size FROM checkpoint"), 6);
    bench.post(&path, offer).await.accepted();
}

#[tokio::test]
async fn offers_are_bounded_in_size_and_number() {
    let bench = Bench::new();
    let ledger = bench.ledger(1, 3).await;
    let path = path(ledger.origin.agent_id());
    let long = bench.post(&path, vec![b'x'; 64 * 1024 + 1]).await;
    long.refused(413, "too_large");
    // Whoever cannot sign uses up nothing.
    for _ in 0..100 {
        let answer = bench.post(&path, "old 0\n\nx").await;
        answer.refused(400, "checkpoint_malformed");
    }
    bench.offer(&ledger, 0).await.accepted();
    for _ in 1..30 {
        bench.offer(&ledger, 3).await.accepted();
    }
    let answer = bench.offer(&ledger, 3).await;
    answer.refused(429, "rate_limited");
    assert_eq!(answer.headers.get("retry-after").unwrap(), "2");
    let other = bench.ledger(2, 3).await;
    bench.offer(&other, 0).await.accepted();
    bench.pass(SignedDuration::from_secs(2));
    bench.offer(&ledger, 3).await.accepted();
}
