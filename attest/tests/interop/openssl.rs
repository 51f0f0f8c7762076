//! OpenSSL verifies our signatures, and we verify those that OpenSSL makes.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::{fs, process};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cms_attest::request::{Delivery, LedgerRef, NONCE_BYTES, Outgoing, sign};
use cms_attest::{Checkpoint, Cosigner, Digest, Head, IdempotencyKey, SigningKey};
use jiff::Timestamp;

/// What stands before the seed and before the public key in their DER forms (RFC 8410).
const PRIVATE_PREFIX: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
const AGENT: &str = "018f4d2a-7b1c-7def-8123-456789abcdef";

/// A folder of one test; cargo gives the place and keeps it out of the tree.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn verifies(&self, key: &SigningKey, message: &[u8], signature: &[u8]) -> bool {
        let public = [&PUBLIC_PREFIX[..], key.verifying().as_bytes()].concat();
        let (key, message) = (self.file("public", &public), self.file("message", message));
        let signature = self.file("signature", signature);
        openssl(&[
            "-verify", "-pubin", "-inkey", &key, "-in", &message, "-sigfile", &signature,
        ])
        .status
        .success()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test asks another implementation"
)]
fn openssl(arguments: &[&str]) -> Output {
    let mut command = Command::new("openssl");
    command
        .args(["pkeyutl", "-rawin", "-keyform", "DER"])
        .args(arguments);
    command.output().expect("openssl is installed")
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(&[byte; 32]).unwrap()
}

fn time() -> Timestamp {
    "2026-01-16T15:45:00Z".parse().unwrap()
}

#[test]
fn openssl_verifies_a_request() {
    let request = Outgoing {
        authority: "dash.example",
        path: "/api/v1/telemetry/dark-data",
        content_encoding: None,
        idempotency_key: IdempotencyKey::new(AGENT.parse().unwrap(), 1, 42),
        ledger: LedgerRef {
            index: 42,
            leaf: Digest::of(b"leaf"),
        },
        delivery: Delivery::Live,
        body: b"{}",
    };
    let headers = sign(&request, &key(1), time(), [7; NONCE_BYTES]);
    let value = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.as_str()).unwrap()
    };
    let covered = [
        "content-type",
        "content-digest",
        "idempotency-key",
        "cms-ledger",
    ];
    let lines: String = covered
        .iter()
        .map(|name| format!("\"{name}\": {}\n", value(name)))
        .collect();
    let base = format!(
        "\"@method\": POST\n\"@authority\": dash.example\n\"@path\": /api/v1/telemetry/dark-data\n\
         {lines}\"@signature-params\": {}",
        value("signature-input").strip_prefix("cms=").unwrap()
    );
    let text = value("signature")
        .strip_prefix("cms=:")
        .unwrap()
        .trim_end_matches(':');
    let signature = STANDARD.decode(text).unwrap();
    let folder = Folder::new("request");
    assert!(folder.verifies(&key(1), base.as_bytes(), &signature));
    assert!(!folder.verifies(&key(2), base.as_bytes(), &signature));
    assert!(!folder.verifies(&key(1), base.replace("42", "43").as_bytes(), &signature));
}

#[test]
fn openssl_verifies_a_checkpoint_and_its_cosignature() {
    let checkpoint = Checkpoint {
        origin: format!("carbonmirror/acme-corp/{AGENT}/3").parse().unwrap(),
        head: Head {
            size: 7,
            root: Digest::of(b"root"),
        },
    };
    let cosigner = Cosigner::new("dash.example".parse().unwrap(), key(9));
    let bytes = |line: &str| {
        STANDARD
            .decode(line.rsplit(' ').next().unwrap().trim_end())
            .unwrap()
    };
    let folder = Folder::new("checkpoint");
    let signed = bytes(&checkpoint.sign(&key(2)).unwrap());
    assert!(folder.verifies(&key(2), checkpoint.body().as_bytes(), &signed[4..]));
    let cosigned = bytes(&cosigner.cosign(&checkpoint, time()));
    let message = format!("cosignature/v1\ntime 1768578300\n{}", checkpoint.body());
    assert!(folder.verifies(&key(9), message.as_bytes(), &cosigned[12..]));
}

#[test]
fn we_verify_what_openssl_signs() {
    let folder = Folder::new("theirs");
    for (byte, message) in [(1, &b""[..]), (2, b"message"), (3, &[0xff; 4096])] {
        let private = folder.file("private", &[&PRIVATE_PREFIX[..], &[byte; 32]].concat());
        let (message_file, out) = (folder.file("message", message), folder.file("out", b""));
        let made = openssl(&[
            "-sign",
            "-inkey",
            &private,
            "-in",
            &message_file,
            "-out",
            &out,
        ]);
        // Some releases refuse to read an empty message from a file.
        if message.is_empty() && !made.status.success() {
            continue;
        }
        assert!(made.status.success(), "{made:?}");
        let signature = fs::read(&out).unwrap();
        assert!(key(byte).verifying().verifies(message, &signature));
        assert!(!key(byte + 1).verifying().verifies(message, &signature));
        // Ed25519 leaves no choice: both libraries make the same bytes.
        assert_eq!(signature, key(byte).sign(message));
    }
}
