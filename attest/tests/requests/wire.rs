//! A request on the wire, open to every wrong hand, and the one that all cases start from.

use cms_attest::Refusal;
use cms_attest::digest::Digest;
use cms_attest::keys::{KeyId, SigningKey};
use cms_attest::origin::IdempotencyKey;
use cms_attest::request::{
    Delivery, Incoming, LedgerRef, NONCE_BYTES, Outgoing, SIGNATURE_WINDOW_S, Verified, sign,
    verify,
};
use jiff::Timestamp;

pub(crate) use crate::hands::Wire;

pub(crate) const AUTHORITY: &str = "dashboard.example";
pub(crate) const PATH: &str = "/api/v1/telemetry/ghost-compute";
pub(crate) const BODY: &[u8] = br#"{"company_id":"acme-corp"}"#;
pub(crate) const AGENT: &str = "018f4d2a-7b1c-7def-8123-456789abcdef";

impl Wire {
    pub(crate) fn incoming<T>(&self, read: impl FnOnce(&Incoming<'_>) -> T) -> T {
        let headers = |name: &str| self.values(name);
        read(&Incoming {
            method: &self.method,
            path: &self.path,
            headers: &headers,
            body: &self.body,
        })
    }

    pub(crate) fn verify_at(&self, authority: &str, now: Timestamp) -> Result<Verified, Refusal> {
        let lookup = |id: &KeyId| (*id == key(1).verifying().key_id()).then(|| *key(1).verifying());
        self.incoming(|incoming| verify(incoming, authority, now, &lookup))
    }

    pub(crate) fn verify(&self) -> Result<Verified, Refusal> {
        self.verify_at(AUTHORITY, signed_at())
    }

    pub(crate) fn code(&self) -> &'static str {
        self.verify().expect_err("it must be refused").code()
    }

    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut changed = self.without(name);
        changed.headers.push((name.to_owned(), value.to_owned()));
        changed
    }

    pub(crate) fn without(&self, name: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.retain(|(known, _)| known != name);
        changed
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        &found.expect("the header is there").1
    }

    /// Replaces text in one header; the change must be one.
    pub(crate) fn edited(&self, name: &str, from: &str, to: &str) -> Self {
        let value = self.header(name).replace(from, to);
        assert_ne!(value, self.header(name), "{from} is not in {name}");
        self.with(name, &value)
    }
}

pub(crate) fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(&[byte; 32]).unwrap()
}

pub(crate) fn signed_at() -> Timestamp {
    "2026-01-16T15:45:00Z".parse().unwrap()
}

pub(crate) fn outgoing<'a>() -> Outgoing<'a> {
    Outgoing {
        authority: AUTHORITY,
        path: PATH,
        content_encoding: Some("zstd"),
        idempotency_key: IdempotencyKey::new(AGENT.parse().unwrap(), 1, 42),
        ledger: LedgerRef {
            index: 42,
            leaf: Digest::of(b"leaf"),
        },
        delivery: Delivery::Backfill,
        body: BODY,
    }
}

pub(crate) fn wire_of(request: &Outgoing<'_>, key: &SigningKey) -> Wire {
    let headers = sign(request, key, signed_at(), [7; NONCE_BYTES]);
    Wire {
        method: "POST".to_owned(),
        path: request.path.to_owned(),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        body: request.body.to_owned(),
    }
}

pub(crate) fn wire() -> Wire {
    wire_of(&outgoing(), &key(1))
}

/// Signs whatever text it is given, to reach checks that an honest signer never trips.
pub(crate) fn sign_by_hand(wire: &Wire, covered: &[&str], parameters: &str) -> Wire {
    let mut base = String::new();
    for name in covered {
        let value = match *name {
            "@method" => wire.method.as_str(),
            "@authority" => AUTHORITY,
            "@path" => wire.path.as_str(),
            header => wire.header(header),
        };
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    let quoted: Vec<String> = covered.iter().map(|name| format!("\"{name}\"")).collect();
    let parameters = format!("({}){parameters}", quoted.join(" "));
    base.push_str(&format!("\"@signature-params\": {parameters}"));
    let signature = Base64(&key(1).sign(base.as_bytes())).to_string();
    wire.with("signature-input", &format!("cms={parameters}"))
        .with("signature", &format!("cms=:{signature}:"))
}

struct Base64<'a>(&'a [u8]);

impl std::fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use base64::Engine;
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.0))
    }
}

pub(crate) const COVERED: [&str; 9] = [
    "@method",
    "@authority",
    "@path",
    "content-type",
    "content-encoding",
    "content-digest",
    "idempotency-key",
    "cms-ledger",
    "cms-delivery",
];

pub(crate) fn parameters() -> String {
    let created = signed_at().as_second();
    let expires = created + SIGNATURE_WINDOW_S;
    let key_id = key(1).verifying().key_id();
    format!(
        ";created={created};expires={expires};nonce=\"BwcHBwcHBwcHBwcHBwcHBw\";keyid=\"{key_id}\";tag=\"cms-telemetry\""
    )
}
