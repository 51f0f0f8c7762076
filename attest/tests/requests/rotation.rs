//! Rotations: who must sign a new key into its place, and who cannot.

use cms_attest::Refusal;
use cms_attest::enrol::Challenge;
use cms_attest::keys::{KeyId, SigningKey};
use cms_attest::request::{KnownKey, Standing};
use cms_attest::rotate::{
    self, ROTATE_BODY_BYTES_MAX, RotateRequest, VerifiedRotation, sign_rotation, verify_rotation,
};
use cms_attest::succession::Succession;
use cms_attest::{AgentId, Cosigner};

use crate::wire::{AGENT, AUTHORITY, PATH, Wire, key, outgoing, signed_at, wire_of};

const CHALLENGE: &str = "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyMDA";
const OTHER_AGENT: &str = "018f4d2a-7b1c-7def-8123-000000000002";
const OLD: u8 = 1;
const NEW: u8 = 2;
const OLD_LOG: u8 = 3;
const NEW_LOG: u8 = 4;

fn agent() -> AgentId {
    AGENT.parse().unwrap()
}

fn succession(agent: &str, from: u8, to: u8) -> String {
    let agent = agent.parse().unwrap();
    Succession::of_logs(&agent, &key(from), &key(to))
        .unwrap()
        .to_string()
}

fn request(new: Option<u8>, log: Option<String>) -> RotateRequest {
    RotateRequest {
        fingerprint: "0123456789abcdef".to_owned(),
        request_key: new.map(|byte| (*key(byte).verifying()).into()),
        log_key: log,
    }
}

fn both() -> RotateRequest {
    request(Some(NEW), Some(succession(AGENT, OLD_LOG, NEW_LOG)))
}

fn signed(agent: &AgentId, request: &RotateRequest, by: u8, beside: Option<u8>) -> Wire {
    let body = serde_json::to_vec(request).unwrap();
    let beside: Option<SigningKey> = beside.map(key);
    let challenge: Challenge = CHALLENGE.parse().unwrap();
    let headers = sign_rotation(
        AUTHORITY,
        agent,
        &body,
        &key(by),
        beside.as_ref(),
        signed_at(),
        &challenge,
    );
    Wire {
        method: "POST".to_owned(),
        path: rotate::path(agent),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        body,
    }
}

fn check_known(wire: &Wire, standing: Standing) -> Result<VerifiedRotation, Refusal> {
    let lookup = |id: &KeyId| {
        (*id == key(OLD).verifying().key_id()).then(|| KnownKey {
            key: *key(OLD).verifying(),
            standing,
        })
    };
    wire.incoming(|incoming| verify_rotation(incoming, AUTHORITY, &agent(), signed_at(), &lookup))
}

fn check(wire: &Wire) -> Result<VerifiedRotation, Refusal> {
    check_known(wire, Standing::Current)
}

fn code(wire: &Wire) -> &'static str {
    check(wire).expect_err("it must be refused").code()
}

#[test]
fn the_holder_of_old_and_new_keys_is_heard() {
    let verified = check(&signed(&agent(), &both(), OLD, Some(NEW))).unwrap();
    assert_eq!(verified.signer().key, *key(OLD).verifying());
    assert_eq!(verified.request_key(), Some(key(NEW).verifying()));
    let log = verified.log_key().unwrap();
    assert_eq!(log.from().key(), key(OLD_LOG).verifying());
    assert_eq!(log.to().key(), key(NEW_LOG).verifying());
    assert_eq!(verified.challenge().as_str(), CHALLENGE);
    assert_eq!(verified.fingerprint(), "0123456789abcdef");
    let one = request(None, both().log_key);
    let verified = check(&signed(&agent(), &one, OLD, None)).unwrap();
    assert_eq!(verified.request_key(), None);
    let one = request(Some(NEW), None);
    assert!(
        check(&signed(&agent(), &one, OLD, Some(NEW)))
            .unwrap()
            .log_key()
            .is_none()
    );
}

#[test]
fn a_new_key_that_does_not_sign_is_not_the_senders() {
    // A key of somebody else, registered as one's own, would make its owner's requests this agent's.
    assert_eq!(code(&signed(&agent(), &both(), OLD, None)), "key_mismatch");
    assert_eq!(
        code(&signed(&agent(), &both(), OLD, Some(7))),
        "key_mismatch"
    );
    let unasked = request(None, both().log_key);
    assert_eq!(
        code(&signed(&agent(), &unasked, OLD, Some(NEW))),
        "key_mismatch"
    );
    let right = signed(&agent(), &both(), OLD, Some(NEW));
    let other = signed(&agent(), &request(Some(NEW), None), OLD, Some(NEW));
    let mixed = |name: &str| {
        let first = right.header(name).split(", cms-new=").next().unwrap();
        let second = other.header(name).split(", cms-new=").nth(1).unwrap();
        format!("{first}, cms-new={second}")
    };
    assert_eq!(
        code(&right.with("signature", &mixed("signature"))),
        "signature_invalid"
    );
}

#[test]
fn a_log_key_is_replaced_by_its_own_word_only() {
    for log in [
        succession(OTHER_AGENT, OLD_LOG, NEW_LOG),
        succession(AGENT, OLD_LOG, NEW_LOG).replace("018f4d2a", "018f4d2b"),
        "cms-key-succession/1\n".to_owned(),
        {
            let [from, to] =
                [OLD_LOG, NEW_LOG].map(|byte| Cosigner::new(AGENT.parse().unwrap(), key(byte)));
            Succession::of_cosigners(&from, &to, signed_at())
                .unwrap()
                .to_string()
        },
    ] {
        let wrong = request(None, Some(log));
        assert_eq!(
            code(&signed(&agent(), &wrong, OLD, None)),
            "rotation_malformed"
        );
    }
}

#[test]
fn a_key_is_not_used_twice() {
    for (new, from, to) in [
        (Some(OLD), OLD_LOG, NEW_LOG),
        (Some(NEW), OLD_LOG, NEW),
        (Some(NEW), NEW, NEW_LOG),
        (None, OLD_LOG, OLD),
    ] {
        let wrong = request(new, Some(succession(AGENT, from, to)));
        let code = code(&signed(&agent(), &wrong, OLD, new));
        // The very key that signs cannot sign beside itself.
        let expected = if new == Some(OLD) {
            "signature_parameters"
        } else {
            "key_reused"
        };
        assert_eq!(code, expected);
    }
}

#[test]
fn a_rotation_is_of_its_agent_body_and_moment() {
    let right = signed(&agent(), &both(), OLD, Some(NEW));
    let other: AgentId = OTHER_AGENT.parse().unwrap();
    let elsewhere = signed(&other, &both(), OLD, Some(NEW));
    assert_eq!(code(&elsewhere), "path_malformed");
    let redirected = Wire {
        path: right.path.clone(),
        ..elsewhere
    };
    assert_eq!(code(&redirected), "signature_invalid");
    let body = serde_json::to_vec(&request(Some(NEW), None)).unwrap();
    assert_eq!(
        code(&Wire {
            body,
            ..right.clone()
        }),
        "digest_mismatch"
    );
    let later = signed_at() + jiff::SignedDuration::from_mins(6);
    let known = |_: &KeyId| Some(KnownKey::current(*key(OLD).verifying()));
    let late = right.incoming(|i| verify_rotation(i, AUTHORITY, &agent(), later, &known));
    assert_eq!(late.unwrap_err().code(), "signature_expired");
    let other = right.edited("signature-input", CHALLENGE, &"A".repeat(43));
    assert_eq!(code(&other), "signature_invalid");
    assert_eq!(
        code(&signed(&agent(), &both(), 9, Some(NEW))),
        "key_unknown"
    );
}

#[test]
fn what_brings_nothing_or_too_much_is_refused() {
    let nothing = request(None, None);
    assert_eq!(
        code(&signed(&agent(), &nothing, OLD, None)),
        "rotation_malformed"
    );
    let right = signed(&agent(), &both(), OLD, Some(NEW));
    let body = vec![b' '; ROTATE_BODY_BYTES_MAX + 1];
    assert_eq!(code(&Wire { body, ..right }), "rotation_malformed");
}

#[test]
fn a_replaced_key_only_repeats_itself() {
    let repeat = signed(&agent(), &both(), OLD, Some(NEW));
    for standing in [Standing::Retiring, Standing::Retired] {
        let verified = check_known(&repeat, standing).unwrap();
        assert_eq!(verified.signer().standing, standing);
    }
    let anew = signed(&agent(), &request(None, both().log_key), OLD, None);
    let refused = check_known(&anew, Standing::Retired).unwrap_err();
    assert_eq!(refused.code(), "key_retired");
}

#[test]
fn a_rotation_is_no_submission_nor_the_other_way_round() {
    let rotation = signed(&agent(), &both(), OLD, Some(NEW));
    let dressed = Wire {
        path: PATH.to_owned(),
        ..rotation.clone()
    }
    .with(
        "idempotency-key",
        wire_of(&outgoing(), &key(OLD)).header("idempotency-key"),
    )
    .with(
        "cms-ledger",
        wire_of(&outgoing(), &key(OLD)).header("cms-ledger"),
    );
    assert_eq!(dressed.code(), "signature_tag");
    let path = rotate::path(&agent());
    let submission = cms_attest::Outgoing {
        path: &path,
        body: &rotation.body,
        ..outgoing()
    };
    assert_eq!(code(&wire_of(&submission, &key(OLD))), "signature_tag");
}
