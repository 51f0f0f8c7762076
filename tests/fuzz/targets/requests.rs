//! The headers of a signed request, each alone and all together, and what enrolment and rotation post.

use std::sync::LazyLock;

use cms_attest::enrol::{self, Challenge, sign_enrolment, verify_enrolment};
use cms_attest::request::{
    Delivery, Incoming, KnownKey, LedgerRef, NONCE_BYTES, Outgoing, Verified, sign, verify,
};
use cms_attest::rotate::{self, sign_rotation, verify_rotation};
use cms_attest::{AgentId, Digest, IdempotencyKey, SigningKey};
use jiff::Timestamp;

use super::text;

pub(crate) const AUTHORITY: &str = "dashboard.example";
pub(crate) const AGENT: &str = "018f4d2a-7b1c-7def-8123-456789abcdef";
pub(crate) const CHALLENGE: &str = "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyMDA";
const PATH: &str = "/api/v1/telemetry/ghost-compute";
const BODY: &[u8] = b"{}";

/// The headers that are fuzzed, in the order of their lines in an input.
pub(crate) const NAMES: [&str; 8] = [
    "signature-input",
    "signature",
    "content-digest",
    "cms-ledger",
    "idempotency-key",
    "content-type",
    "content-encoding",
    "cms-delivery",
];

pub(crate) fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(&[byte; 32]).expect("any seed makes a key")
}

pub(crate) fn agent() -> AgentId {
    AGENT.parse().expect("an id")
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_768_578_300).expect("a time of this century")
}

fn challenge() -> Challenge {
    CHALLENGE.parse().expect("a challenge")
}

type Headers = Vec<(&'static str, String)>;

/// A request that is right: its headers, and what they prove.
static HONEST: LazyLock<(Headers, Verified)> = LazyLock::new(|| {
    let request = Outgoing {
        authority: AUTHORITY,
        path: PATH,
        content_encoding: Some("zstd"),
        idempotency_key: IdempotencyKey::new(agent(), 1, 42),
        ledger: LedgerRef {
            index: 42,
            leaf: Digest::of(b"leaf"),
        },
        delivery: Delivery::Backfill,
        body: BODY,
    };
    let headers = sign(&request, &key(1), now(), [7; NONCE_BYTES]);
    let verified = check(&|name| values(&headers, name), BODY).expect("it is right");
    (headers, verified)
});

fn values(headers: &Headers, name: &str) -> Vec<String> {
    let named = headers.iter().filter(|(known, _)| *known == name);
    named.map(|(_, value)| value.clone()).collect()
}

fn check(
    headers: &dyn Fn(&str) -> Vec<String>,
    body: &[u8],
) -> Result<Verified, cms_attest::Refusal> {
    let incoming = Incoming {
        method: "POST",
        path: PATH,
        headers,
        body,
    };
    let known = key(1);
    let lookup =
        |id: &cms_attest::KeyId| (known.verifying().key_id() == *id).then_some(*known.verifying());
    verify(&incoming, AUTHORITY, now(), &lookup)
}

/// The lines of the honest request, for the corpora.
#[cfg(test)]
pub(crate) fn honest_lines(names: &[&str]) -> String {
    let lines: Vec<String> = names
        .iter()
        .flat_map(|name| values(&HONEST.0, name))
        .collect();
    lines.join("\n")
}

/// Each line stands for a header; `-` leaves it out, a missing line leaves it as it was.
fn with_lines(names: &[&str], data: &[u8]) {
    let Some(text) = text(data) else { return };
    let lines: Vec<&str> = text.split('\n').collect();
    let headers = |name: &str| {
        let line = names
            .iter()
            .position(|known| *known == name)
            .and_then(|at| lines.get(at));
        match line {
            Some(&"-") => Vec::new(),
            Some(line) => vec![(*line).to_owned()],
            None => values(&HONEST.0, name),
        }
    };
    match check(&headers, BODY) {
        Ok(verified) => {
            assert_eq!(verified, HONEST.1, "another request is proved");
            for name in NAMES.iter().skip(2) {
                assert_eq!(headers(name), values(&HONEST.0, name), "{name}");
            }
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty() && refusal.http_status() >= 400),
    }
}

pub(super) fn headers(data: &[u8]) {
    with_lines(&NAMES, data);
}

pub(super) fn signature_headers(data: &[u8]) {
    with_lines(&NAMES[..2], data);
}

pub(super) fn content_digest(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(digest) = Digest::parse_content_digest(text) {
        assert_eq!(digest.content_digest(), text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
}

pub(super) fn cms_ledger(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(ledger) = LedgerRef::parse_header(text) {
        assert_eq!(ledger.header(), text);
    }
}

pub(super) fn idempotency_key(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(key) = IdempotencyKey::parse_header(text) {
        assert_eq!(key.header(), text);
    }
}

/// The body of an enrolment, honestly signed, so that the reader behind the signature is reached.
pub(super) fn enrolment(data: &[u8]) {
    let headers = sign_enrolment(AUTHORITY, data, &key(1), now(), &challenge());
    let incoming = Incoming {
        method: "POST",
        path: enrol::ENROL_PATH,
        headers: &|name| values(&headers, name),
        body: data,
    };
    if let Ok(verified) = verify_enrolment(&incoming, AUTHORITY, now()) {
        assert_eq!(verified.request().request_key.key(), key(1).verifying());
        assert_ne!(verified.request().request_key, verified.request().log_key);
    }
}

/// The body of a rotation, likewise; the new key is the second of these.
pub(super) fn rotation(data: &[u8]) {
    let (old, new) = (key(1), key(2));
    let headers = sign_rotation(
        AUTHORITY,
        &agent(),
        data,
        &old,
        Some(&new),
        now(),
        &challenge(),
    );
    let path = rotate::path(&agent());
    let incoming = Incoming {
        method: "POST",
        path: &path,
        headers: &|name| values(&headers, name),
        body: data,
    };
    let lookup = |id: &cms_attest::KeyId| {
        (old.verifying().key_id() == *id).then(|| KnownKey::current(*old.verifying()))
    };
    if let Ok(verified) = verify_rotation(&incoming, AUTHORITY, &agent(), now(), &lookup) {
        assert!(
            verified
                .request_key()
                .is_none_or(|key| key == new.verifying())
        );
    }
}
