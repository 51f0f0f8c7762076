//! How agents come in, and who does not.

use cms_attest::SigningKey;
use cms_attest::enrol::{EnrolAnswer, EnrolRequest, sign_enrolment};
use cms_attest::keys::api_key_id;
use jiff::SignedDuration;

use super::Bench;
use super::bench::{AUTHORITY, company, request};
use crate::admin;

#[tokio::test]
async fn the_same_keys_again_get_the_same_answer() {
    let bench = Bench::new();
    let first = bench.enrol(1, "host-1").await.accepted();
    let again = bench.enrol(1, "host-1").await.accepted();
    let [first, again] = [first, again].map(|a| serde_json::from_str::<EnrolAnswer>(&a.text));
    let (first, again) = (first.unwrap(), again.unwrap());
    assert_eq!(first, again);
    assert_eq!(first.api_key_id.as_str(), api_key_id(&bench.key));
}

#[tokio::test]
async fn a_copied_identity_is_refused() {
    let bench = Bench::new();
    bench.enrol(1, "host-1").await.accepted();
    let problem = bench
        .enrol(1, "host-2")
        .await
        .refused(409, "cloned_identity");
    assert!(problem.next_step.contains("copy"));
    let other = bench.other_company();
    let stolen = bench.enrol_as("other-corp", &other, 1, "host-1").await;
    stolen.refused(409, "cloned_identity");
}

#[tokio::test]
async fn a_taken_id_and_a_second_id_are_refused() {
    let bench = Bench::new();
    bench.enrol(1, "host-1").await.accepted();
    let enrol = async |key_seed: u8, id_seed: u8| {
        let challenge = bench.challenge(&bench.key).await.challenge;
        let key = SigningKey::from_seed(&[key_seed; 32]).unwrap();
        let body = serde_json::to_vec(&EnrolRequest {
            agent_id: format!("018f3b1e-7c4a-7d2e-9b1a-0000000000{id_seed:02x}")
                .parse()
                .unwrap(),
            company_id: company("acme-corp"),
            request_key: (*key.verifying()).into(),
            log_key: (*SigningKey::from_seed(&[key_seed + 100; 32])
                .unwrap()
                .verifying())
            .into(),
            fingerprint: "host-1".to_owned(),
            version: "0.1.0".to_owned(),
            site: None,
        });
        let body = body.unwrap();
        let headers = sign_enrolment(AUTHORITY, &body, &key, bench.now(), &challenge);
        let path = cms_attest::enrol::ENROL_PATH;
        bench.send(request(path, &bench.key, headers, body)).await
    };
    enrol(2, 1).await.refused(409, "other_agent_id");
    enrol(1, 2).await.refused(409, "other_agent_id");
    enrol(1, 1).await.accepted();
}

#[tokio::test]
async fn a_challenge_serves_once_and_not_for_long() {
    let bench = Bench::new();
    let key = SigningKey::from_seed(&[3; 32]).unwrap();
    let body = serde_json::to_vec(&EnrolRequest {
        agent_id: "018f3b1e-7c4a-7d2e-9b1a-000000000003".parse().unwrap(),
        company_id: company("acme-corp"),
        request_key: (*key.verifying()).into(),
        log_key: (*SigningKey::from_seed(&[4; 32]).unwrap().verifying()).into(),
        fingerprint: "host".to_owned(),
        version: "0.1.0".to_owned(),
        site: None,
    });
    let body = body.unwrap();
    let path = cms_attest::enrol::ENROL_PATH;
    let challenge = bench.challenge(&bench.key).await.challenge;
    let post = async || {
        let headers = sign_enrolment(AUTHORITY, &body, &key, bench.now(), &challenge);
        bench
            .send(request(path, &bench.key, headers, body.clone()))
            .await
    };
    post().await.accepted();
    post().await.refused(401, "challenge_unknown");

    let late = bench.challenge(&bench.key).await;
    bench.pass(SignedDuration::from_mins(6));
    let headers = sign_enrolment(AUTHORITY, &body, &key, bench.now(), &late.challenge);
    let answer = bench
        .send(request(path, &bench.key, headers, body.clone()))
        .await;
    answer.refused(401, "challenge_unknown");
}

#[tokio::test]
async fn the_company_must_be_the_keys() {
    let bench = Bench::new();
    let other = bench.other_company();
    let answer = bench.enrol_as("acme-corp", &other, 1, "host-1").await;
    answer.refused(403, "other_company");
}

#[tokio::test]
async fn api_keys() {
    let bench = Bench::new();
    let path = cms_attest::enrol::CHALLENGE_PATH;
    let ask = async |value: Option<&str>| {
        let mut request = request(path, "x", Vec::new(), Vec::new());
        request.headers_mut().remove("authorization");
        if let Some(value) = value {
            let value = value.parse().unwrap();
            request.headers_mut().insert("authorization", value);
        }
        bench.send(request).await
    };
    let missing = ask(None).await;
    missing.refused(401, "api_key_missing");
    assert_eq!(missing.headers.get("www-authenticate").unwrap(), "Bearer");
    ask(Some("Bearer sk-123"))
        .await
        .refused(401, "api_key_malformed");
    ask(Some(&format!("Basic {}", bench.key)))
        .await
        .refused(401, "api_key_malformed");
    let two = format!("Bearer {0},{0}", bench.key);
    ask(Some(&two)).await.refused(401, "api_key_malformed");
    let unknown = format!("Bearer cms_live_{}", "A".repeat(43));
    ask(Some(&unknown)).await.refused(401, "api_key_unknown");
    ask(Some(&format!("Bearer {}", bench.key))).await.accepted();

    let mut doubled = request(path, &bench.key, Vec::new(), Vec::new());
    let value = format!("Bearer {}", bench.key).parse().unwrap();
    doubled.headers_mut().append("authorization", value);
    bench.send(doubled).await.refused(401, "api_key_malformed");

    let id = api_key_id(&bench.key);
    admin::revoke_key(bench.dir.path(), &id, bench.now()).unwrap();
    ask(Some(&format!("Bearer {}", bench.key)))
        .await
        .refused(401, "api_key_revoked");
}

#[tokio::test]
async fn two_keys_of_a_label_may_live_and_no_third() {
    let bench = Bench::new();
    let acme = company("acme-corp");
    let create = || {
        let (dir, now) = (bench.dir.path(), bench.now());
        admin::create_key(dir, &acme, "default", crate::key::Mode::Live, now)
    };
    let second = create().unwrap();
    assert!(matches!(create(), Err(admin::AdminError::KeysLive(_))));
    admin::revoke_key(bench.dir.path(), &second.row.id, bench.now()).unwrap();
    create().unwrap();
    let keys = admin::keys(bench.dir.path(), &acme).unwrap();
    assert_eq!(keys.len(), 3);
    assert_eq!(
        keys.iter().filter(|key| key.revoked_at.is_some()).count(),
        1
    );
    let unknown = admin::keys(bench.dir.path(), &company("nobody"));
    assert!(matches!(unknown, Err(admin::AdminError::CompanyUnknown(_))));
    let taken = admin::add_company(bench.dir.path(), &acme, "Acme", bench.now());
    assert!(matches!(taken, Err(admin::AdminError::CompanyTaken(_))));
}
