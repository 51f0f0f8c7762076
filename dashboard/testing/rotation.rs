//! Rotation: new keys for agents and for receipts, and who cannot have them.

use axum::body::Body;
use axum::http::Request;
use cms_attest::checkpoint::{CosignerKey, verify_cosignature};
use cms_attest::enrol::{ChallengeAnswer, EnrolAnswer};
use cms_attest::request::sign_twice;
use cms_attest::rotate::{RotateAnswer, RotateRequest, path, sign_rotation};
use cms_attest::succession::{Succession, Successions, line_of};
use cms_attest::{AgentId, IdempotencyKey, LedgerRef, Outgoing, SigningKey};
use jiff::SignedDuration;

use super::bench::{AUTHORITY, Answer, request};
use super::checkpoints::Ledger;
use super::figures::ghost;
use super::{Bench, Sent, Signer};
use crate::admin;

/// The request key that [`Bench::agent`] enrols with is that of this seed, the log key that of a hundred more.
const OLD: u8 = 1;
const NEW: u8 = 2;
const OLD_LOG: u8 = 101;
const NEW_LOG: u8 = 102;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

/// A rotation that can be bent before it is signed.
struct Asked {
    fingerprint: String,
    signer: u8,
    request_key: Option<u8>,
    log_key: Option<(u8, u8)>,
}

impl Asked {
    fn request_key(signer: u8, new: u8) -> Self {
        Self {
            fingerprint: "host-1".to_owned(),
            signer,
            request_key: Some(new),
            log_key: None,
        }
    }

    fn log_key(signer: u8, from: u8, to: u8) -> Self {
        Self {
            fingerprint: "host-1".to_owned(),
            signer,
            request_key: None,
            log_key: Some((from, to)),
        }
    }

    fn signed(
        &self,
        bench: &Bench,
        agent: &AgentId,
        challenge: &ChallengeAnswer,
    ) -> (Vec<(&'static str, String)>, Vec<u8>) {
        let succession = |(from, to)| {
            let note = Succession::of_logs(agent, &key(from), &key(to));
            note.unwrap().to_string()
        };
        let body = serde_json::to_vec(&RotateRequest {
            fingerprint: self.fingerprint.clone(),
            request_key: self.request_key.map(|new| (*key(new).verifying()).into()),
            log_key: self.log_key.map(succession),
        })
        .unwrap();
        let new = self.request_key.map(key);
        let headers = sign_rotation(
            AUTHORITY,
            agent,
            &body,
            &key(self.signer),
            new.as_ref(),
            bench.now(),
            &challenge.challenge,
        );
        (headers, body)
    }
}

impl Bench {
    async fn rotate_under(&self, api_key: &str, agent: &AgentId, asked: &Asked) -> Answer {
        let challenge = self.challenge(api_key).await;
        let (headers, body) = asked.signed(self, agent, &challenge);
        self.send(request(&path(agent), api_key, headers, body))
            .await
    }

    async fn rotate(&self, agent: &Signer, asked: &Asked) -> Answer {
        self.rotate_under(&self.key, &agent.id, asked).await
    }

    /// Submits the next index, signed by these keys.
    async fn submit_by(&self, agent: &Signer, index: u64, by: u8, beside: Option<u8>) -> Answer {
        let sent = self.submission(agent, index, ghost("a", 100, 900));
        self.send(twice(&sent, agent, &self.key, by, beside)).await
    }
}

fn twice(sent: &Sent, agent: &Signer, api_key: &str, by: u8, beside: Option<u8>) -> Request<Body> {
    let outgoing = Outgoing {
        authority: AUTHORITY,
        path: &sent.path(),
        content_encoding: None,
        idempotency_key: IdempotencyKey::new(agent.id.clone(), sent.epoch, sent.index),
        ledger: LedgerRef {
            index: sent.index,
            leaf: sent.leaf,
        },
        delivery: sent.delivery,
        body: &sent.body,
    };
    let beside = beside.map(key);
    let headers = sign_twice(
        &outgoing,
        &key(by),
        beside.as_ref(),
        sent.created,
        sent.nonce,
    );
    request(&sent.path(), api_key, headers, sent.body.clone())
}

fn read(answer: Answer) -> RotateAnswer {
    serde_json::from_str(&answer.accepted().text).unwrap()
}

async fn ready() -> (Bench, Signer) {
    let bench = Bench::new();
    let agent = bench.agent(OLD).await;
    (bench, agent)
}

#[tokio::test]
async fn the_old_key_counts_until_the_new_one_is_seen() {
    let (bench, agent) = ready().await;
    bench.submit_by(&agent, 0, OLD, None).await.accepted();
    let answer = read(bench.rotate(&agent, &Asked::request_key(OLD, NEW)).await);
    assert_eq!(answer.request_key, key(NEW).verifying().key_id());
    let day = bench.now() + SignedDuration::from_hours(24);
    assert_eq!(answer.previous_until, Some(day));
    // The answer may be lost, so the old one goes on.
    bench.submit_by(&agent, 1, OLD, None).await.accepted();
    bench.submit_by(&agent, 2, NEW, Some(OLD)).await.accepted();
    let late = bench.submit_by(&agent, 3, OLD, None).await;
    let problem = late.refused(401, "key_retired");
    assert!(problem.next_step.contains("took its place"));
    // What was stored under it is still there, and still once.
    let known = bench.submission(&agent, 1, ghost("a", 100, 900));
    let again = bench
        .send(twice(&known, &agent, &bench.key, NEW, None))
        .await;
    assert_eq!(again.accepted().json()["duplicate"], true);
    bench.submit_by(&agent, 3, NEW, None).await.accepted();
}

#[tokio::test]
async fn an_old_key_ends_after_a_day_also_when_the_new_one_was_not_seen() {
    let (bench, agent) = ready().await;
    bench
        .rotate(&agent, &Asked::request_key(OLD, NEW))
        .await
        .accepted();
    bench.pass(SignedDuration::from_hours(23));
    bench.submit_by(&agent, 0, OLD, None).await.accepted();
    bench.pass(SignedDuration::from_hours(2));
    let late = bench.submit_by(&agent, 1, OLD, None).await;
    late.refused(401, "key_retired");
    // The agent that never heard the answer asks again, and hears it now.
    let again = read(bench.rotate(&agent, &Asked::request_key(OLD, NEW)).await);
    assert_eq!(again.previous_until, None);
    bench.submit_by(&agent, 1, NEW, Some(OLD)).await.accepted();
}

#[tokio::test]
async fn a_rotation_is_told_twice_and_happens_once() {
    let (bench, agent) = ready().await;
    let both = Asked {
        log_key: Some((OLD_LOG, NEW_LOG)),
        ..Asked::request_key(OLD, NEW)
    };
    let first = read(bench.rotate(&agent, &both).await);
    let again = read(bench.rotate(&agent, &both).await);
    assert_eq!(first, again);
    assert_eq!(first.log_key, key(NEW_LOG).verifying().key_id());
    bench.submit_by(&agent, 0, NEW, Some(OLD)).await.accepted();
    let last = read(bench.rotate(&agent, &both).await);
    assert_eq!(last.request_key, first.request_key);
}

#[tokio::test]
async fn a_replayed_rotation_is_none() {
    let (bench, agent) = ready().await;
    let challenge = bench.challenge(&bench.key).await;
    let asked = Asked::request_key(OLD, NEW);
    let (headers, body) = asked.signed(&bench, &agent.id, &challenge);
    let send = || request(&path(&agent.id), &bench.key, headers.clone(), body.clone());
    bench.send(send()).await.accepted();
    bench.send(send()).await.refused(401, "challenge_unknown");
}

#[tokio::test]
async fn keys_go_one_way() {
    let (bench, agent) = ready().await;
    bench
        .rotate(&agent, &Asked::request_key(OLD, NEW))
        .await
        .accepted();
    bench
        .rotate(&agent, &Asked::request_key(NEW, 3))
        .await
        .accepted();
    // Neither back to a key that was, nor on from one that is not any more.
    let back = bench.rotate(&agent, &Asked::request_key(3, OLD)).await;
    back.refused(400, "key_reused");
    for signer in [OLD, NEW] {
        let stolen = bench.rotate(&agent, &Asked::request_key(signer, 9)).await;
        stolen.refused(401, "key_retired");
        let log = bench
            .rotate(&agent, &Asked::log_key(signer, OLD_LOG, 9))
            .await;
        log.refused(401, "key_retired");
    }
    // Of the first two only the second is still in its day.
    bench
        .submit_by(&agent, 0, OLD, None)
        .await
        .refused(401, "key_retired");
    bench.submit_by(&agent, 0, NEW, None).await.accepted();
    bench.submit_by(&agent, 1, 3, Some(NEW)).await.accepted();
}

#[tokio::test]
async fn a_key_of_another_agent_is_not_taken_over() {
    let (bench, agent) = ready().await;
    let other = bench.agent(5).await;
    // Even who holds both keys does not make one agent speak as two.
    for taken in [5, 105] {
        let theft = bench.rotate(&agent, &Asked::request_key(OLD, taken)).await;
        theft.refused(400, "key_reused");
    }
    let theft = bench
        .rotate(&agent, &Asked::log_key(OLD, OLD_LOG, 105))
        .await;
    theft.refused(400, "key_reused");
    let foreign = bench.rotate(&agent, &Asked::log_key(OLD, 105, 9)).await;
    foreign.refused(409, "other_log_key");
    let stranger = bench.rotate(&agent, &Asked::request_key(5, 9)).await;
    stranger.refused(401, "key_unknown");
    let beside = bench.submit_by(&agent, 0, OLD, Some(5)).await;
    beside.refused(403, "agent_mismatch");
    bench.submit_by(&agent, 0, OLD, None).await.accepted();
    bench.submit_by(&other, 0, 5, None).await.accepted();
}

#[tokio::test]
async fn a_clone_gets_no_keys_and_the_original_goes_on() {
    let (bench, agent) = ready().await;
    let clone = Asked {
        fingerprint: "host-2".to_owned(),
        ..Asked::request_key(OLD, NEW)
    };
    let refused = bench.rotate(&agent, &clone).await;
    let problem = refused.refused(409, "cloned_identity");
    assert!(problem.next_step.contains("--reset-identity"), "{problem}");
    bench.submit_by(&agent, 0, OLD, None).await.accepted();
    bench
        .submit_by(&agent, 1, NEW, None)
        .await
        .refused(401, "key_unknown");
}

#[tokio::test]
async fn another_company_does_not_rotate_it() {
    let (bench, agent) = ready().await;
    let other = bench.other_company();
    let asked = Asked::request_key(OLD, NEW);
    let refused = bench.rotate_under(&other, &agent.id, &asked).await;
    refused.refused(404, "agent_unknown");
}

#[tokio::test]
async fn a_dashboard_put_back_to_before_takes_both_signatures() {
    let (bench, agent) = ready().await;
    bench
        .rotate(&agent, &Asked::request_key(OLD, NEW))
        .await
        .accepted();
    let database = rusqlite::Connection::open(bench.dir.path().join("dashboard.sqlite")).unwrap();
    let old = *key(OLD).verifying();
    database.execute("DELETE FROM replaced_key", ()).unwrap();
    database
        .execute(
            "UPDATE agent SET key_id = ?1, request_key = ?2",
            rusqlite::params![old.key_id().as_str(), old.as_bytes()],
        )
        .unwrap();
    let bench = bench.opened_again();
    bench.submit_by(&agent, 0, NEW, Some(OLD)).await.accepted();
    bench
        .submit_by(&agent, 1, NEW, None)
        .await
        .refused(401, "key_unknown");
    // Asked again, it knows the new key again.
    bench
        .rotate(&agent, &Asked::request_key(OLD, NEW))
        .await
        .accepted();
    bench.submit_by(&agent, 1, NEW, None).await.accepted();
}

#[tokio::test]
async fn a_ledger_key_counts_until_a_head_of_the_next_comes() {
    let (bench, agent) = ready().await;
    let offer = async |leaves: u64, old: u64, by: &[u8]| {
        let keys: Vec<SigningKey> = by.iter().map(|seed| key(*seed)).collect();
        let keys: Vec<&SigningKey> = keys.iter().collect();
        let ledger = Ledger::of(OLD, &agent.id, leaves);
        let body = ledger.offer_by(&keys, old).to_string();
        bench
            .post(&cms_attest::add_checkpoint::path(&agent.id), body)
            .await
    };
    offer(3, 0, &[OLD_LOG]).await.accepted();
    offer(4, 3, &[NEW_LOG])
        .await
        .refused(403, "checkpoint_unsigned");
    let rotation = Asked::log_key(OLD, OLD_LOG, NEW_LOG);
    bench.rotate(&agent, &rotation).await.accepted();
    offer(5, 3, &[OLD_LOG]).await.accepted();
    let wrong = Ledger::of(OLD, &agent.id, 9)
        .offer_by(&[&key(NEW_LOG)], 5)
        .to_string();
    let right = Ledger::of(OLD, &agent.id, 6)
        .offer_by(&[&key(OLD_LOG)], 5)
        .to_string();
    let spoilt = format!("{right}{}\n", wrong.lines().last().unwrap());
    let spoilt = bench
        .post(&cms_attest::add_checkpoint::path(&agent.id), spoilt)
        .await;
    spoilt.refused(403, "checkpoint_unsigned");
    offer(6, 5, &[OLD_LOG, NEW_LOG]).await.accepted();
    offer(7, 6, &[OLD_LOG])
        .await
        .refused(403, "log_key_retired");
    offer(7, 6, &[NEW_LOG]).await.accepted();
    offer(8, 7, &[OLD_LOG, NEW_LOG]).await.accepted();
}

#[tokio::test]
async fn a_retired_key_enrols_nobody() {
    let (bench, agent) = ready().await;
    bench
        .rotate(&agent, &Asked::request_key(OLD, NEW))
        .await
        .accepted();
    bench.enrol(OLD, "host-1").await.accepted();
    bench.submit_by(&agent, 0, NEW, None).await.accepted();
    let refused = bench.enrol(OLD, "host-1").await;
    refused.refused(401, "key_retired");
}

#[tokio::test]
async fn an_agent_moves_once_with_the_dashboards_leave() {
    let (bench, agent) = ready().await;
    bench
        .enrol(OLD, "host-2")
        .await
        .refused(409, "cloned_identity");
    let unknown = "018f3b1e-7c4a-7d2e-9b1a-0000000000ff".parse().unwrap();
    assert!(admin::move_agent(bench.dir.path(), &unknown).is_err());
    admin::move_agent(bench.dir.path(), &agent.id).unwrap();
    bench.submit_by(&agent, 0, OLD, None).await.accepted();
    bench.enrol(OLD, "host-2").await.accepted();
    bench
        .enrol(OLD, "host-1")
        .await
        .refused(409, "cloned_identity");
    bench.enrol(OLD, "host-2").await.accepted();
}

#[tokio::test]
async fn receipts_go_on_under_the_next_key() {
    let (bench, agent) = ready().await;
    let published = |answer: &Answer| -> Vec<CosignerKey> {
        answer
            .text
            .lines()
            .map(|line| line.parse().unwrap())
            .collect()
    };
    let keys = async || published(&bench.get("/api/v1/keys").await.accepted());
    let before = keys().await;
    let none = bench
        .get("/api/v1/keys/successions")
        .await
        .accepted()
        .json();
    assert_eq!(none["successions"].as_array().unwrap().len(), 0);

    let row = admin::rotate_cosigner(bench.dir.path(), AUTHORITY, bench.now()).unwrap();
    let during = keys().await;
    assert_eq!(during.len(), 2);
    assert_eq!(during[1], before[0]);
    assert_eq!(*during[0].note_key().key(), row.key);
    let offer = async |leaves: u64, old: u64| {
        let ledger = Ledger::of(OLD, &agent.id, leaves);
        let body = ledger.offer_by(&[&key(OLD_LOG)], old).to_string();
        let path = cms_attest::add_checkpoint::path(&agent.id);
        (
            ledger.checkpoint(),
            bench.post(&path, body).await.accepted().text,
        )
    };
    let (head, lines) = offer(3, 0).await;
    for key in &during {
        verify_cosignature(&lines, &head, key).unwrap();
    }
    let known = [during[0].note_key().clone()];
    assert!(before[0].has_namesakes(&lines, &[]) && !before[0].has_namesakes(&lines, &known));
    let enrolled = bench.enrol(7, "host-7").await.accepted();
    let enrolled: EnrolAnswer = serde_json::from_str(&enrolled.text).unwrap();
    assert_eq!(enrolled.cosigner, Some(during[0].to_string()));
    assert_eq!(enrolled.successions.len(), 1);

    admin::rotate_cosigner(bench.dir.path(), AUTHORITY, bench.now()).unwrap();
    let successions = bench.get("/api/v1/keys/successions").await.accepted();
    let successions: Successions = serde_json::from_str(&successions.text).unwrap();
    let successions: Vec<Succession> = successions
        .successions
        .iter()
        .map(|note| note.parse().unwrap())
        .collect();
    let line = line_of(before[0].note_key(), &successions).unwrap();
    assert_eq!(line.len(), 3);

    bench.pass(SignedDuration::from_hours(31 * 24));
    let after = keys().await;
    assert_eq!(after.len(), 1);
    assert_eq!(line.last(), Some(after[0].note_key()));
    let (head, lines) = offer(4, 3).await;
    verify_cosignature(&lines, &head, &after[0]).unwrap();
    assert!(verify_cosignature(&lines, &head, &before[0]).is_err());
    let bench = bench.opened_again();
    assert_eq!(
        published(&bench.get("/api/v1/keys").await.accepted()),
        after
    );
}
