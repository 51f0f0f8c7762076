//! What the tests share: a dashboard in a temporary directory, agents with keys, and plausible bodies.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use cms_attest::enrol::sign_enrolment;
use cms_attest::enrol::{CHALLENGE_PATH, ChallengeAnswer, ENROL_PATH, EnrolAnswer, EnrolRequest};
use cms_attest::request::sign;
use cms_attest::{AgentId, Digest, IdempotencyKey, LedgerRef, Outgoing, SigningKey};
use cms_spec::payload::Delivery;
use cms_spec::{Category, CompanyId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::admin;
use crate::key::Mode;
use crate::{App, Clock, router};

pub(super) const AUTHORITY: &str = "dashboard.example.org";
pub(super) const NOON: &str = "2026-01-16T12:00:30Z";
/// The quarter of an hour, the five minutes and the day that had closed by [`NOON`] end here.
pub(super) const SLOT_END: &str = "2026-01-16T12:00:00Z";

/// A dashboard with one company and one key.
pub(super) struct Bench {
    pub(super) app: App,
    pub(super) router: Router,
    pub(super) dir: TempDir,
    pub(super) key: String,
    pub(super) time: Arc<Mutex<Timestamp>>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

/// An enrolled agent and its private key.
pub(super) struct Signer {
    pub(super) id: AgentId,
    pub(super) key: SigningKey,
}

/// A submission that can be bent before it is signed.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) category: Category,
    pub(super) body: Vec<u8>,
    pub(super) epoch: u64,
    pub(super) index: u64,
    pub(super) leaf: Digest,
    pub(super) delivery: Delivery,
    pub(super) encoding: Option<&'static str>,
    pub(super) created: Timestamp,
    pub(super) nonce: [u8; 16],
    pub(super) authority: &'static str,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now: Timestamp = NOON.parse().unwrap();
        let acme = company("acme-corp");
        admin::add_company(dir.path(), &acme, "Acme <Corp> & Söhne", now).unwrap();
        let made = admin::create_key(dir.path(), &acme, "default", Mode::Live, now).unwrap();
        let time = Arc::new(Mutex::new(now));
        let clock: Clock = Arc::new({
            let time = Arc::clone(&time);
            move || *time.lock().unwrap()
        });
        let app = crate::open(dir.path(), clock, AUTHORITY.to_owned()).unwrap();
        Self {
            router: router(app.clone()),
            app,
            key: made.key.reveal().to_owned(),
            dir,
            time,
        }
    }

    /// The same store under a new dashboard, as after a restart.
    pub(super) fn opened_again(self) -> Self {
        let time = Arc::clone(&self.time);
        let clock: Clock = Arc::new(move || *time.lock().unwrap());
        let app = crate::open(self.dir.path(), clock, AUTHORITY.to_owned()).unwrap();
        Self {
            router: router(app.clone()),
            app,
            ..self
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        *self.time.lock().unwrap()
    }

    pub(super) fn pass(&self, span: SignedDuration) {
        *self.time.lock().unwrap() += span;
    }

    /// A second company with a key of its own.
    pub(super) fn other_company(&self) -> String {
        let other = company("other-corp");
        admin::add_company(self.dir.path(), &other, "Other", self.now()).unwrap();
        self.new_key("other-corp", Mode::Live)
    }

    pub(super) fn new_key(&self, id: &str, mode: Mode) -> String {
        let made = admin::create_key(self.dir.path(), &company(id), "more", mode, self.now());
        made.unwrap().key.reveal().to_owned()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.into()).unwrap(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    pub(super) async fn challenge(&self, key: &str) -> ChallengeAnswer {
        let request = request(CHALLENGE_PATH, key, Vec::new(), Vec::new());
        serde_json::from_str(&self.send(request).await.accepted().text).unwrap()
    }

    /// Enrols with the request key of this seed.
    pub(super) async fn enrol(&self, seed: u8, fingerprint: &str) -> Answer {
        self.enrol_as("acme-corp", &self.key, seed, fingerprint)
            .await
    }

    pub(super) async fn enrol_as(
        &self,
        id: &str,
        key: &str,
        seed: u8,
        fingerprint: &str,
    ) -> Answer {
        let challenge = self.challenge(key).await.challenge;
        let signing = SigningKey::from_seed(&[seed; 32]).unwrap();
        let body = serde_json::to_vec(&EnrolRequest {
            agent_id: format!("018f3b1e-7c4a-7d2e-9b1a-0000000000{seed:02x}")
                .parse()
                .unwrap(),
            company_id: company(id),
            request_key: (*signing.verifying()).into(),
            log_key: (*SigningKey::from_seed(&[seed + 100; 32])
                .unwrap()
                .verifying())
            .into(),
            fingerprint: fingerprint.to_owned(),
            version: "0.1.0".to_owned(),
            site: Some("fra-1".to_owned()),
        })
        .unwrap();
        let headers = sign_enrolment(AUTHORITY, &body, &signing, self.now(), &challenge);
        self.send(request(ENROL_PATH, key, headers, body)).await
    }

    pub(super) async fn agent(&self, seed: u8) -> Signer {
        let answer = self.enrol(seed, &format!("host-{seed}")).await.accepted();
        let enrolled: EnrolAnswer = serde_json::from_str(&answer.text).unwrap();
        Signer {
            id: enrolled.agent_id,
            key: SigningKey::from_seed(&[seed; 32]).unwrap(),
        }
    }

    /// A submission of this agent with this data, for the slot that ended just now.
    pub(super) fn submission(&self, agent: &Signer, index: u64, data: Value) -> Sent {
        let end: Timestamp = SLOT_END.parse().unwrap();
        let behind = self.now().duration_since(NOON.parse().unwrap());
        self.submission_at(agent, index, data, end + behind)
    }

    pub(super) fn submission_at(
        &self,
        agent: &Signer,
        index: u64,
        data: Value,
        end: Timestamp,
    ) -> Sent {
        let key = data.as_object().unwrap().keys().next().unwrap().clone();
        let category = Category::ALL.into_iter().find(|c| c.key() == key).unwrap();
        let body = json!({
            "company_id": "acme-corp",
            "timestamp": end,
            "data": data,
            "agent": {
                "agent_id": agent.id,
                "version": "0.1.0",
                "site": "fra-1",
                "role": "node",
                "slot": { "start": end - category.cadence().duration(), "end": end },
                "sequence": index,
                "delivery": "live",
                "schema": "cms-telemetry/1",
            },
        });
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce).unwrap();
        Sent {
            category,
            body: serde_json::to_vec(&body).unwrap(),
            epoch: 1,
            index,
            leaf: Digest::of(&index.to_be_bytes()),
            delivery: Delivery::Live,
            encoding: None,
            created: self.now(),
            nonce,
            authority: AUTHORITY,
        }
    }

    pub(super) async fn submit(&self, agent: &Signer, sent: &Sent) -> Answer {
        self.send(sent.signed(agent, &self.key)).await
    }

    /// Does what the server does in the background, now.
    pub(super) async fn settle(&self) {
        crate::evaluate::arrived(&self.app).await.unwrap();
    }

    pub(super) async fn status(&self) -> Value {
        self.settle().await;
        let answer = self.get("/api/v1/company/acme-corp/status").await;
        answer.accepted().json()
    }
}

impl Sent {
    /// Changes the body before it is signed.
    pub(super) fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let mut body: Value = serde_json::from_slice(&self.body).unwrap();
        change(&mut body);
        self.body = serde_json::to_vec(&body).unwrap();
        self
    }

    pub(super) fn zstd(mut self) -> Self {
        self.body = zstd::bulk::compress(&self.body, 3).unwrap();
        self.encoding = Some("zstd");
        self
    }

    pub(super) fn path(&self) -> String {
        format!("/api/v1/telemetry/{}", self.category.path())
    }

    pub(super) fn headers(&self, agent: &Signer) -> Vec<(&'static str, String)> {
        let outgoing = Outgoing {
            authority: self.authority,
            path: &self.path(),
            content_encoding: self.encoding,
            idempotency_key: IdempotencyKey::new(agent.id.clone(), self.epoch, self.index),
            ledger: LedgerRef {
                index: self.index,
                leaf: self.leaf,
            },
            delivery: self.delivery,
            body: &self.body,
        };
        sign(&outgoing, &agent.key, self.created, self.nonce)
    }

    pub(super) fn signed(&self, agent: &Signer, key: &str) -> Request<Body> {
        request(&self.path(), key, self.headers(agent), self.body.clone())
    }
}

impl Answer {
    #[track_caller]
    pub(super) fn accepted(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self
    }

    /// It is the one refusal, in the one shape.
    #[track_caller]
    pub(super) fn refused(&self, status: u16, code: &str) -> cms_attest::Problem {
        let problem: cms_attest::Problem = serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text));
        assert_eq!(
            (self.status.as_u16(), problem.error.as_str()),
            (status, code),
            "{problem}"
        );
        assert!(!problem.message.is_empty() && !problem.next_step.is_empty());
        assert_eq!(
            self.headers.get("content-type").unwrap(),
            "application/json"
        );
        problem
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

pub(super) fn request(
    path: &str,
    key: &str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
) -> Request<Body> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("authorization", format!("Bearer {key}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(Body::from(body)).unwrap()
}

/// The key for receipts of this store.
pub(super) fn cosigner(dir: &std::path::Path) -> cms_attest::Cosigner {
    crate::cosigner::load(dir, AUTHORITY).unwrap()
}

pub(super) fn company(id: &str) -> CompanyId {
    id.parse().unwrap()
}
