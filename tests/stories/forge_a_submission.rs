//! Somebody who can reach the dashboard, and even holds the API key, tries to put figures in.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cms_attest::request::{LedgerRef, Outgoing, sign};
use cms_attest::{AgentId, Delivery, Digest, Origin, SigningKey};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::site::{Site, text};

/// A request as it goes over the wire.
#[derive(Clone)]
struct Wire {
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// Everything that an attacker could have: the agent's key, its id, a body that was really collected.
struct Forger<'a> {
    site: &'a Site,
    key: SigningKey,
    origin: Origin,
    body: Value,
    next_index: u64,
}

impl<'a> Forger<'a> {
    fn at(site: &'a Site) -> Self {
        let sealed = fs::read_to_string(site.path("agent/identity/keys")).unwrap();
        let opened = site.store_key().open_text("identity", &sealed).unwrap();
        let kept = text(&opened.content);
        let seed = kept.split("seed request ").nth(1).unwrap().lines().next();
        let seed = STANDARD_NO_PAD.decode(seed.unwrap()).unwrap();
        let preview = site.agent(&["preview", "ghost-compute", "--json"]);
        let body: Value = serde_json::from_slice(&preview.stdout).unwrap();
        let agent_id: AgentId = body["agent"]["agent_id"].as_str().unwrap().parse().unwrap();
        Self {
            site,
            key: SigningKey::from_seed(&seed.try_into().unwrap()).unwrap(),
            origin: Origin::new("demo-company".parse().unwrap(), agent_id, 1),
            body,
            next_index: 1000,
        }
    }

    /// A submission whose window closed this long ago, signed as the agent would.
    fn request(&mut self, age: SignedDuration, delivery: Delivery) -> Wire {
        let now = now();
        let end = (now - age).to_string();
        let index = self.next_index;
        self.next_index += 1;
        self.body["timestamp"] = json!(end);
        self.body["agent"]["slot"]["end"] = json!(end);
        self.body["agent"]["slot"]["start"] =
            json!((now - age - SignedDuration::from_mins(15)).to_string());
        self.body["agent"]["sequence"] = json!(index);
        let body = serde_json::to_vec(&self.body).unwrap();
        let request = Outgoing {
            authority: &format!("localhost:{}", self.site.port()),
            path: "/api/v1/telemetry/ghost-compute",
            content_encoding: None,
            idempotency_key: self.origin.idempotency_key(index),
            ledger: LedgerRef {
                index,
                leaf: Digest::of(&body),
            },
            delivery,
            body: &body,
        };
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&index.to_be_bytes());
        let mut headers = sign(&request, &self.key, now, nonce);
        let api_key = fs::read_to_string(self.site.path("api.key")).unwrap();
        headers.push(("authorization", format!("Bearer {api_key}")));
        Wire { headers, body }
    }

    /// Posts it and answers status and JSON.
    #[expect(clippy::print_stdout, reason = "shows each answer with --nocapture")]
    fn post(&self, what: &str, wire: &Wire) -> (u16, Value) {
        let headers = self.site.path("headers");
        let lines: String = wire
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect();
        fs::write(&headers, lines).unwrap();
        fs::write(self.site.path("body"), &wire.body).unwrap();
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                "--write-out",
                "\n%{http_code}",
            ])
            .args(["--tlsv1.3", "--cacert"])
            .arg(self.site.path("ca.pem"))
            .args(["--header", &format!("@{}", headers.display())])
            .args([
                "--data-binary",
                &format!("@{}", self.site.path("body").display()),
            ])
            .arg(format!(
                "https://localhost:{}/api/v1/telemetry/ghost-compute",
                self.site.port()
            ))
            .output()
            .unwrap();
        let said = text(&output.stdout);
        let (answer, status) = said
            .rsplit_once('\n')
            .unwrap_or_else(|| panic!("{output:?}"));
        println!("{what}: HTTP {status} {answer}");
        (
            status.parse().unwrap(),
            serde_json::from_str(answer).unwrap(),
        )
    }

    fn is_refused(&self, what: &str, wire: &Wire, status: u16, code: &str) {
        let before = self.site.accepted();
        let (answered, answer) = self.post(what, wire);
        assert_eq!(
            (answered, answer["error"].as_str()),
            (status, Some(code)),
            "{what}: {answer}"
        );
        for words in ["message", "next_step"] {
            assert!(
                !answer[words].as_str().unwrap().is_empty(),
                "{what}: {answer}"
            );
        }
        assert_eq!(self.site.accepted(), before, "{what} left something behind");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the dashboard under test looks at the machine's clock"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[test]
fn what_was_changed_replayed_unsigned_or_kept_too_long_is_refused_by_name() {
    let site = Site::new();
    let _dashboard = site.start_dashboard();
    let mut forger = Forger::at(&site);
    let fresh = SignedDuration::from_secs(1);

    let right = forger.request(fresh, Delivery::Live);
    let (status, answer) = forger.post("as the agent would", &right);
    assert_eq!(
        (status, answer["status"].as_str()),
        (200, Some("accepted")),
        "{answer}"
    );

    forger.is_refused("replayed", &right, 409, "replayed");

    let mut changed = forger.request(fresh, Delivery::Live);
    let at = changed
        .body
        .windows(5)
        .position(|five| five == b"ghost")
        .unwrap();
    changed.body[at] ^= 1;
    forger.is_refused("one changed byte", &changed, 401, "digest_mismatch");

    let mut unsigned = forger.request(fresh, Delivery::Live);
    unsigned
        .headers
        .retain(|(name, _)| !name.starts_with("signature"));
    forger.is_refused("without signature", &unsigned, 401, "unsigned");

    let old = forger.request(SignedDuration::from_mins(31), Delivery::Live);
    forger.is_refused("31 minutes old", &old, 422, "stale");
    let labelled = forger.request(SignedDuration::from_mins(31), Delivery::Backfill);
    let (status, answer) = forger.post("31 minutes old, as backfill", &labelled);
    assert_eq!(
        (status, answer["delivery"].as_str()),
        (200, Some("backfill")),
        "{answer}"
    );

    let mut relabelled = forger.request(SignedDuration::from_mins(31), Delivery::Live);
    relabelled
        .headers
        .push(("cms-delivery", "backfill".to_owned()));
    forger.is_refused(
        "relabelled on the way",
        &relabelled,
        401,
        "signature_coverage",
    );

    forger.key = SigningKey::from_seed(&[7; 32]).unwrap();
    let stranger = forger.request(fresh, Delivery::Live);
    forger.is_refused("signed by a key of nobody", &stranger, 401, "key_unknown");
}
