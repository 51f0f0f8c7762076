//! What is accepted, and one clear refusal for each thing that is not.

use axum::body::Body;
use axum::http::{Method, Request};
use cms_attest::Digest;
use cms_spec::payload::Delivery;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::bench::{SLOT_END, request};
use super::figures::{dark, ghost, heat};
use super::{Bench, Sent, Signer};
use crate::admin;
use crate::body::{DECODED_BYTES_MAX, WIRE_BYTES_MAX};

async fn ready() -> (Bench, Signer) {
    let bench = Bench::new();
    let agent = bench.agent(1).await;
    (bench, agent)
}

fn plain(bench: &Bench, agent: &Signer) -> Sent {
    bench.submission(agent, 7, ghost("a", 100, 900))
}

#[tokio::test]
async fn accepted_and_compressed_too() {
    let (bench, agent) = ready().await;
    let answer = bench
        .submit(&agent, &plain(&bench, &agent))
        .await
        .accepted();
    let expected = json!({
        "status": "accepted", "category": "ghost-compute", "index": 7, "delivery": "live",
        "duplicate": false, "warnings": [], "received_at": "2026-01-16T12:00:30Z",
    });
    assert_eq!(answer.json(), expected);
    let packed = bench.submission(&agent, 8, heat(100, 50)).zstd();
    assert_eq!(
        bench.submit(&agent, &packed).await.accepted().json()["index"],
        8
    );
}

#[tokio::test]
async fn one_changed_byte() {
    let (bench, agent) = ready().await;
    let sent = plain(&bench, &agent);
    let mut body = sent.body.clone();
    let place = body.windows(3).position(|part| part == b"100").unwrap();
    body[place] = b'9';
    let changed = request(&sent.path(), &bench.key, sent.headers(&agent), body);
    bench.send(changed).await.refused(401, "digest_mismatch");
}

#[tokio::test]
async fn another_path_than_the_signed_one() {
    let (bench, agent) = ready().await;
    let sent = plain(&bench, &agent);
    let path = "/api/v1/telemetry/dark-data";
    let moved = request(path, &bench.key, sent.headers(&agent), sent.body.clone());
    bench.send(moved).await.refused(401, "signature_invalid");
}

#[tokio::test]
async fn signed_for_another_dashboard() {
    let (bench, agent) = ready().await;
    let mut sent = plain(&bench, &agent);
    sent.authority = "other.example.org";
    bench
        .submit(&agent, &sent)
        .await
        .refused(401, "signature_invalid");
}

#[tokio::test]
async fn replayed() {
    let (bench, agent) = ready().await;
    let sent = plain(&bench, &agent);
    bench.submit(&agent, &sent).await.accepted();
    bench.submit(&agent, &sent).await.refused(409, "replayed");
    bench.pass(SignedDuration::from_mins(11));
    bench
        .submit(&agent, &sent)
        .await
        .refused(401, "signature_expired");
}

#[tokio::test]
async fn a_retry_is_answered_like_the_first_time() {
    let (bench, agent) = ready().await;
    let mut sent = plain(&bench, &agent);
    let first = bench.submit(&agent, &sent).await.accepted().json();
    bench.pass(SignedDuration::from_mins(40));
    sent.created = bench.now();
    sent.nonce = [9; 16];
    let again = bench.submit(&agent, &sent).await.accepted().json();
    assert_eq!(
        again["duplicate"], true,
        "accepted once, however late the retry"
    );
    assert_eq!(again["received_at"], first["received_at"]);
    bench.submit(&agent, &sent).await.refused(409, "replayed");
}

#[tokio::test]
async fn two_retries_at_once_count_once() {
    let (bench, agent) = ready().await;
    let one = plain(&bench, &agent);
    let two = Sent {
        nonce: [9; 16],
        ..one.clone()
    };
    let (one, two) = tokio::join!(bench.submit(&agent, &one), bench.submit(&agent, &two));
    let duplicates = [one, two].map(|answer| answer.accepted().json()["duplicate"] == true);
    assert_eq!(duplicates.into_iter().filter(|d| *d).count(), 1);
}

#[tokio::test]
async fn two_leaves_for_one_place() {
    let (bench, agent) = ready().await;
    let sent = plain(&bench, &agent);
    bench.submit(&agent, &sent).await.accepted();
    let forked = Sent {
        leaf: Digest::of(b"other"),
        nonce: [9; 16],
        ..sent.clone()
    };
    bench.submit(&agent, &forked).await.refused(409, "fork");
    let next_epoch = Sent {
        epoch: 2,
        nonce: [8; 16],
        leaf: Digest::of(b"other"),
        ..sent
    };
    bench.submit(&agent, &next_epoch).await.accepted();
}

#[tokio::test]
async fn unsigned() {
    let (bench, _agent) = ready().await;
    let body =
        json!({ "company_id": "acme-corp", "timestamp": SLOT_END, "data": ghost("a", 1, 2) });
    let headers = vec![("content-type", "application/json".to_owned())];
    let path = "/api/v1/telemetry/ghost-compute";
    let request = request(
        path,
        &bench.key,
        headers,
        serde_json::to_vec(&body).unwrap(),
    );
    let problem = bench.send(request).await.refused(401, "unsigned");
    assert!(problem.next_step.contains("sign"));
}

#[tokio::test]
async fn signed_by_a_stranger() {
    let (bench, agent) = ready().await;
    let key = cms_attest::SigningKey::from_seed(&[66; 32]).unwrap();
    let stranger = Signer {
        id: agent.id.clone(),
        key,
    };
    let sent = plain(&bench, &agent);
    bench
        .submit(&stranger, &sent)
        .await
        .refused(401, "key_unknown");
}

#[tokio::test]
async fn signed_by_another_agent_of_the_company() {
    let (bench, agent) = ready().await;
    let other = bench.agent(2).await;
    let mixed = Signer {
        id: agent.id.clone(),
        key: other.key,
    };
    let sent = plain(&bench, &agent);
    bench
        .submit(&mixed, &sent)
        .await
        .refused(403, "agent_mismatch");
}

#[tokio::test]
async fn thirty_one_minutes_old() {
    let (bench, agent) = ready().await;
    let old = bench.now() - SignedDuration::from_mins(31);
    let mut sent = bench.submission_at(&agent, 7, ghost("a", 100, 900), old);
    let problem = bench.submit(&agent, &sent).await.refused(422, "stale");
    assert!(problem.message.contains("31 minutes"), "{problem}");
    assert!(problem.next_step.contains("backfill"), "{problem}");
    sent.delivery = Delivery::Backfill;
    sent.nonce = [9; 16];
    let answer = bench.submit(&agent, &sent).await.accepted().json();
    assert_eq!(answer["delivery"], "backfill");
    let exact = bench.now() - SignedDuration::from_mins(30);
    let sent = bench.submission_at(&agent, 8, ghost("a", 100, 900), exact);
    bench.submit(&agent, &sent).await.accepted();
}

#[tokio::test]
async fn from_the_future_and_from_long_ago() {
    let (bench, agent) = ready().await;
    let ahead = bench.now() + SignedDuration::from_secs(301);
    let sent = bench.submission_at(&agent, 1, ghost("a", 100, 900), ahead);
    bench
        .submit(&agent, &sent)
        .await
        .refused(422, "from_the_future");
    let long_ago = bench.now() - SignedDuration::from_hours(91 * 24);
    let mut sent = bench.submission_at(&agent, 2, ghost("a", 100, 900), long_ago);
    sent.delivery = Delivery::Backfill;
    bench.submit(&agent, &sent).await.refused(422, "too_old");
}

#[tokio::test]
async fn another_company() {
    let (bench, agent) = ready().await;
    let other = bench.other_company();
    let sent = plain(&bench, &agent);
    bench
        .send(sent.signed(&agent, &other))
        .await
        .refused(403, "other_company");
    let edited = sent.edit(|body| body["company_id"] = json!("other-corp"));
    bench
        .submit(&agent, &edited)
        .await
        .refused(403, "other_company");
}

#[tokio::test]
async fn another_category_than_the_path() {
    let (bench, agent) = ready().await;
    let mut sent = bench.submission(&agent, 7, dark("x", 9, 1));
    sent.category = cms_spec::Category::GhostCompute;
    bench
        .submit(&agent, &sent)
        .await
        .refused(422, "category_mismatch");
}

/// A field, the answer to it, and how the body is bent.
type Case = (&'static str, u16, &'static str, fn(&mut Value));

#[tokio::test]
async fn wrong_fields_are_named() {
    let (bench, agent) = ready().await;
    let cases: [Case; 7] = [
        (
            "data.ghost_compute.energy_summary.pue_multiplier",
            422,
            "incomplete",
            |body| {
                let summary = &mut body["data"]["ghost_compute"]["energy_summary"];
                summary.as_object_mut().unwrap().remove("pue_multiplier");
            },
        ),
        (
            "data.ghost_compute.instance_inventory[1].launch_time",
            422,
            "malformed",
            |body| {
                body["data"]["ghost_compute"]["instance_inventory"][1]["launch_time"] =
                    json!("today");
            },
        ),
        ("timestamp", 422, "incomplete", |body| {
            body.as_object_mut().unwrap().remove("timestamp");
        }),
        ("timestamp", 422, "malformed", |body| {
            body["timestamp"] = json!("2026-01-16T12:00:00")
        }),
        ("agent.sequence", 422, "malformed", |body| {
            body["agent"]["sequence"] = json!(8)
        }),
        ("agent.slot.end", 422, "malformed", |body| {
            body["agent"]["slot"]["end"] = json!("2026-01-16T12:00:01Z");
        }),
        ("agent.slot", 422, "malformed", |body| {
            body["agent"]["slot"]["start"] = body["agent"]["slot"]["end"].clone();
        }),
    ];
    for (nonce, (field, status, code, change)) in (1_u8..).zip(cases) {
        let sent = plain(&bench, &agent).edit(change);
        let sent = Sent {
            nonce: [nonce; 16],
            ..sent
        };
        let problem = bench.submit(&agent, &sent).await.refused(status, code);
        assert_eq!(problem.details[0].field, field, "{problem}");
    }
    let mut sent = plain(&bench, &agent);
    sent.body = b"{\"company_id\": ".to_vec();
    bench.submit(&agent, &sent).await.refused(422, "malformed");
}

#[tokio::test]
async fn sums_that_do_not_add_up() {
    let (bench, agent) = ready().await;
    let sent = plain(&bench, &agent).edit(|body| {
        body["data"]["ghost_compute"]["energy_summary"]["total_energy_kwh_daily"] = json!(99.0);
    });
    let problem = bench
        .submit(&agent, &sent)
        .await
        .refused(422, "implausible");
    assert!(!problem.details.is_empty());
    assert!(
        problem.details[0].field.starts_with("data.ghost_compute."),
        "{problem:?}"
    );
}

#[tokio::test]
async fn too_much() {
    let (bench, agent) = ready().await;
    let mut sent = plain(&bench, &agent);
    sent.body = vec![b' '; WIRE_BYTES_MAX + 1];
    bench.submit(&agent, &sent).await.refused(413, "too_large");
    sent.body = vec![b' '; DECODED_BYTES_MAX + 1];
    let bomb = sent.zstd();
    assert!(bomb.body.len() < 100_000);
    bench.submit(&agent, &bomb).await.refused(413, "too_large");
}

#[tokio::test]
async fn other_encodings_and_media_types() {
    let (bench, agent) = ready().await;
    let mut sent = plain(&bench, &agent);
    sent.encoding = Some("gzip");
    bench
        .submit(&agent, &sent)
        .await
        .refused(415, "encoding_unsupported");
    let headers = vec![("content-type", "text/plain".to_owned())];
    let text = request(&sent.path(), &bench.key, headers, b"x".to_vec());
    bench
        .send(text)
        .await
        .refused(415, "media_type_unsupported");
}

#[tokio::test]
async fn a_revoked_key_stops_at_once() {
    let (bench, agent) = ready().await;
    let sent = plain(&bench, &agent);
    let id = cms_attest::keys::api_key_id(&bench.key);
    admin::revoke_key(bench.dir.path(), &id, bench.now()).unwrap();
    bench
        .submit(&agent, &sent)
        .await
        .refused(401, "api_key_revoked");
    let second = bench.new_key("acme-corp", crate::key::Mode::Live);
    bench.send(sent.signed(&agent, &second)).await.accepted();
}

#[tokio::test]
async fn no_such_path_and_no_such_method() {
    let (bench, _agent) = ready().await;
    for path in [
        "/api/v1/telemetry/ghost_compute",
        "/api/v2",
        "/api/v1/company",
    ] {
        let method = if path.contains("telemetry") {
            Method::POST
        } else {
            Method::GET
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        bench.send(request).await.refused(404, "not_found");
    }
    let got = bench.get("/api/v1/telemetry/ghost-compute").await;
    got.refused(405, "method_not_allowed");
    assert_eq!(got.headers.get("allow").unwrap(), "POST");
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_restart() {
    let (bench, agent) = ready().await;
    let mut sent = plain(&bench, &agent);
    bench.submit(&agent, &sent).await.accepted();
    let store = crate::store::Store::open(bench.dir.path()).unwrap();
    let now = bench.now();
    let app = crate::App::new(
        store,
        std::sync::Arc::new(move || now),
        "dashboard.example.org".to_owned(),
        super::bench::cosigner(bench.dir.path()),
    );
    let again = Bench {
        router: crate::router(app.clone()),
        app,
        ..bench
    };
    sent.nonce = [9; 16];
    assert_eq!(
        again.submit(&agent, &sent).await.accepted().json()["duplicate"],
        true
    );
    // The first process ended before it had evaluated: the second one begins with that.
    crate::evaluate::begin(&again.app).await.unwrap();
    let status = again.status().await;
    assert_eq!(
        status["individual_metrics"]["ghost_compute"]["efficiency_score"],
        90.0
    );
}

#[tokio::test]
async fn too_many_requests_of_one_key() {
    let (bench, _agent) = ready().await;
    let now: Timestamp = bench.now();
    let id = cms_attest::keys::api_key_id(&bench.key);
    while bench.app.buckets().take(&id, now).is_ok() {}
    let path = cms_attest::enrol::CHALLENGE_PATH;
    let answer = bench
        .send(request(path, &bench.key, Vec::new(), Vec::new()))
        .await;
    answer.refused(429, "rate_limited");
    assert_eq!(answer.headers.get("retry-after").unwrap(), "1");
}
