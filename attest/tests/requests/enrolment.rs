//! Enrolments: proof of possession, and no confusion with submissions.

use cms_attest::Refusal;
use cms_attest::enrol::{
    self, Challenge, EnrolRequest, VerifiedEnrolment, sign_enrolment, verify_enrolment,
};
use cms_attest::keys::SigningKey;
use cms_attest::request::Outgoing;

use crate::wire::{AUTHORITY, PATH, Wire, key, outgoing, signed_at, wire, wire_of};

const CHALLENGE: &str = "Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyMDA";

fn request() -> EnrolRequest {
    EnrolRequest {
        agent_id: "018f3b1e-7c4a-7d2e-9b1a-5f6e7d8c9b0a".parse().unwrap(),
        company_id: "acme-corp".parse().unwrap(),
        request_key: (*key(1).verifying()).into(),
        log_key: (*key(2).verifying()).into(),
        fingerprint: "0123456789abcdef".to_owned(),
        version: "0.1.0".to_owned(),
        site: None,
    }
}

fn enrol_wire(request: &EnrolRequest, key: &SigningKey) -> Wire {
    let body = serde_json::to_vec(request).unwrap();
    let challenge: Challenge = CHALLENGE.parse().unwrap();
    let headers = sign_enrolment(AUTHORITY, &body, key, signed_at(), &challenge);
    Wire {
        method: "POST".to_owned(),
        path: enrol::ENROL_PATH.to_owned(),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        body,
    }
}

fn check(wire: &Wire) -> Result<VerifiedEnrolment, Refusal> {
    wire.incoming(|incoming| verify_enrolment(incoming, AUTHORITY, signed_at()))
}

#[test]
fn whoever_holds_the_key_is_let_in() {
    let verified = check(&enrol_wire(&request(), &key(1))).unwrap();
    assert_eq!(*verified.request(), request());
    assert_eq!(verified.challenge().as_str(), CHALLENGE);
}

#[test]
fn nobody_else_is() {
    let code = |wire: &Wire| check(wire).unwrap_err().code();
    assert_eq!(code(&enrol_wire(&request(), &key(2))), "key_mismatch");
    let equal = EnrolRequest {
        log_key: request().request_key,
        ..request()
    };
    assert_eq!(code(&enrol_wire(&equal, &key(1))), "keys_equal");
    let right = enrol_wire(&request(), &key(1));
    let other_body = EnrolRequest {
        site: Some("north".to_owned()),
        ..request()
    };
    let body = serde_json::to_vec(&other_body).unwrap();
    assert_eq!(
        code(&Wire {
            body,
            ..right.clone()
        }),
        "digest_mismatch"
    );
    let extra = Wire {
        body: b"{}".to_vec(),
        ..right.clone()
    };
    assert_eq!(code(&extra), "enrolment_malformed");
    let long = Wire {
        body: vec![b' '; enrol::ENROL_BODY_BYTES_MAX + 1],
        ..right.clone()
    };
    assert_eq!(code(&long), "enrolment_malformed");
    let elsewhere = Wire {
        path: PATH.to_owned(),
        ..right.clone()
    };
    assert_eq!(code(&elsewhere), "path_malformed");
    let other = right.edited("signature-input", CHALLENGE, &"A".repeat(43));
    assert_eq!(code(&other), "signature_invalid");
}

#[test]
fn an_enrolment_is_no_submission_nor_the_other_way_round() {
    let enrolment = enrol_wire(&request(), &key(1));
    let dressed = Wire {
        path: PATH.to_owned(),
        ..enrolment
    }
    .with("idempotency-key", wire().header("idempotency-key"))
    .with("cms-ledger", wire().header("cms-ledger"));
    assert_eq!(dressed.code(), "signature_tag");

    let body = serde_json::to_vec(&request()).unwrap();
    let submission = Outgoing {
        path: enrol::ENROL_PATH,
        body: &body,
        ..outgoing()
    };
    let submission = wire_of(&submission, &key(1));
    assert_eq!(check(&submission).unwrap_err().code(), "signature_tag");
}
