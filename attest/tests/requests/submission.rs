//! Submissions: what is accepted, and which refusal each wrong request meets.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cms_attest::Refusal;
use cms_attest::digest::Digest;
use cms_attest::keys::{KeyId, VerifyingKey};
use cms_attest::request::{Delivery, LedgerRef, NONCE_BYTES, Outgoing, verify};
use jiff::{SignedDuration, Timestamp};

use crate::wire::{
    AGENT, AUTHORITY, BODY, COVERED, PATH, Wire, key, outgoing, parameters, sign_by_hand,
    signed_at, wire, wire_of,
};

#[test]
fn what_is_signed_is_accepted() {
    let verified = wire().verify().unwrap();
    assert_eq!(*verified.key_id(), key(1).verifying().key_id());
    assert_eq!(verified.created(), signed_at());
    assert_eq!(*verified.nonce(), [7; NONCE_BYTES]);
    assert_eq!(
        verified.idempotency_key().to_string(),
        format!("{AGENT}:1:42")
    );
    assert_eq!(
        verified.ledger(),
        LedgerRef {
            index: 42,
            leaf: Digest::of(b"leaf")
        }
    );
    assert_eq!(verified.delivery(), Delivery::Backfill);
    assert_eq!(verified.digest(), Digest::of(BODY));
    assert_eq!(verified.content_encoding(), Some("zstd"));

    let plain = Outgoing {
        content_encoding: None,
        delivery: Delivery::Live,
        ..outgoing()
    };
    let verified = wire_of(&plain, &key(1)).verify().unwrap();
    assert_eq!(
        (verified.delivery(), verified.content_encoding()),
        (Delivery::Live, None)
    );
}

/// The headers of a live submission, as docs/PROTOCOL.md may show them; any change here breaks agents in the field.
#[test]
fn golden_headers() {
    let plain = Outgoing {
        content_encoding: None,
        delivery: Delivery::Live,
        ..outgoing()
    };
    let wire = wire_of(&plain, &key(1));
    let shown: Vec<String> = wire
        .headers
        .iter()
        .map(|(n, v)| format!("{n}: {v}"))
        .collect();
    assert_eq!(
        shown.join("\n"),
        include_str!("golden_headers.txt").trim_end()
    );
}

#[test]
fn the_hand_made_signature_is_the_same() {
    assert_eq!(sign_by_hand(&wire(), &COVERED, &parameters()), wire());
}

#[test]
fn the_second_opinion_agrees() {
    let wire = wire();
    let verified = wire.verify().unwrap();
    // Written out in full and by hand, so that it shares no line with the code under test.
    let created = signed_at().as_second();
    let base = format!(
        "\"@method\": POST\n\"@authority\": {AUTHORITY}\n\"@path\": {PATH}\n\"content-type\": application/json\n\
         \"content-encoding\": zstd\n\"content-digest\": {}\n\"idempotency-key\": \"{AGENT}:1:42\"\n\
         \"cms-ledger\": index=42, leaf=:{}:\n\"cms-delivery\": backfill\n\"@signature-params\": (\"@method\" \
         \"@authority\" \"@path\" \"content-type\" \"content-encoding\" \"content-digest\" \"idempotency-key\" \
         \"cms-ledger\" \"cms-delivery\");created={created};expires={};nonce=\"BwcHBwcHBwcHBwcHBwcHBw\";\
         keyid=\"{}\";tag=\"cms-telemetry\"",
        Digest::of(BODY).content_digest(),
        Digest::of(b"leaf"),
        created + 300,
        verified.key_id(),
    );
    let text = wire
        .header("signature")
        .strip_prefix("cms=:")
        .unwrap()
        .strip_suffix(':')
        .unwrap();
    let bytes = STANDARD.decode(text).unwrap();
    let signature = ed25519_dalek::Signature::from_slice(&bytes).unwrap();
    let other = ed25519_dalek::VerifyingKey::from_bytes(key(1).verifying().as_bytes()).unwrap();
    assert!(other.verify_strict(base.as_bytes(), &signature).is_ok());
}

#[test]
fn a_signature_of_another_label_and_purpose_may_stand_beside_ours() {
    let both = wire()
        .edited(
            "signature-input",
            "cms=",
            "proxy=(\"@method\");tag=\"proxy\", cms=",
        )
        .edited("signature", "cms=", "proxy=:AAAA:, cms=");
    assert!(both.verify().is_ok());
    let rival = both.edited("signature-input", "tag=\"proxy\"", "tag=\"cms-telemetry\"");
    assert_eq!(rival.code(), "signature_repeated");
    let twice = format!("{0}, {0}", wire().header("signature-input"));
    assert_eq!(
        wire().with("signature-input", &twice).code(),
        "header_malformed"
    );
}

#[test]
fn another_place_or_key_is_refused() {
    let wire = wire();
    for authority in ["dashboard.example:8443", "other.example", ""] {
        let refusal = wire.verify_at(authority, signed_at()).unwrap_err();
        assert_eq!(refusal, Refusal::SignatureInvalid, "{authority}");
    }
    assert!(wire.verify_at("Dashboard.Example:443", signed_at()).is_ok());

    let elsewhere = Wire {
        path: "/api/v1/telemetry/dark-data".to_owned(),
        ..wire.clone()
    };
    assert_eq!(elsewhere.code(), "signature_invalid");
    for path in ["", "telemetry", "/a?b=c", "/a#b", "/a b", "/ä"] {
        let elsewhere = Wire {
            path: path.to_owned(),
            ..wire.clone()
        };
        assert_eq!(elsewhere.code(), "path_malformed", "{path}");
    }
    let other_method = Wire {
        method: "PUT".to_owned(),
        ..wire.clone()
    };
    assert_eq!(other_method.code(), "method_not_signed");
    assert_eq!(wire_of(&outgoing(), &key(2)).code(), "key_unknown");
    // A lookup that answers with a wrong key is no way in either.
    let wrong = |_: &KeyId| -> Option<VerifyingKey> { Some(*key(2).verifying()) };
    let refusal = wire.incoming(|incoming| verify(incoming, AUTHORITY, signed_at(), &wrong));
    assert_eq!(refusal.unwrap_err().code(), "key_unknown");
}

#[test]
fn only_inside_the_window() {
    let at = |seconds| signed_at() + SignedDuration::from_secs(seconds);
    let code = |seconds| {
        wire()
            .verify_at(AUTHORITY, at(seconds))
            .map_err(|r| r.code())
    };
    assert!(code(300).is_ok() && code(-300).is_ok());
    assert_eq!(code(301).unwrap_err(), "signature_expired");
    assert_eq!(code(-301).unwrap_err(), "signature_in_future");
    for edge in [Timestamp::MIN, Timestamp::MAX] {
        assert!(wire().verify_at(AUTHORITY, edge).is_err());
    }
}

#[test]
fn every_covered_header_is_needed_once_and_unchanged() {
    for (name, value) in &wire().headers {
        let code = wire().without(name).code();
        let expected = match name.as_str() {
            "signature" | "signature-input" => "unsigned",
            "content-encoding" | "cms-delivery" => "signature_coverage",
            _ => "header_missing",
        };
        assert_eq!(code, expected, "without {name}");

        let mut twice = wire();
        twice.headers.push((name.clone(), value.clone()));
        assert_eq!(twice.code(), "header_repeated", "{name} twice");
        for odd in [
            format!(" {value}"),
            format!("{value}\n"),
            String::new(),
            "x".repeat(5000),
        ] {
            assert!(wire().with(name, &odd).verify().is_err(), "{name}: {odd:?}");
        }
    }
    let uncovered = Outgoing {
        content_encoding: None,
        delivery: Delivery::Live,
        ..outgoing()
    };
    let plain = wire_of(&uncovered, &key(1));
    assert_eq!(
        plain.with("cms-delivery", "backfill").code(),
        "signature_coverage"
    );
    assert_eq!(
        plain.with("content-encoding", "zstd").code(),
        "signature_coverage"
    );
}

#[test]
fn the_body_is_the_signed_one() {
    for body in [&b""[..], b"{}", &BODY[1..]] {
        assert_eq!(
            Wire {
                body: body.to_owned(),
                ..wire()
            }
            .code(),
            "digest_mismatch"
        );
    }
    let other = Digest::of(b"{}").content_digest();
    let swapped = Wire {
        body: b"{}".to_vec(),
        ..wire().with("content-digest", &other)
    };
    assert_eq!(swapped.code(), "signature_invalid");
}

#[test]
fn the_list_is_exactly_the_list() {
    let mut reversed = COVERED;
    reversed.reverse();
    let mut longer = COVERED.to_vec();
    longer.push("date");
    let mut twice = COVERED.to_vec();
    twice.push("@path");
    let dated = wire().with("date", "Fri, 16 Jan 2026 15:45:00 GMT");
    for covered in [
        &reversed[..],
        &COVERED[..8],
        &COVERED[1..],
        &longer,
        &twice,
        &[],
    ] {
        let code = sign_by_hand(&dated, covered, &parameters()).code();
        assert_eq!(code, "signature_coverage", "{covered:?}");
    }
    // A parameter on a component changes what it means, and so does a token in its place.
    for (from, to) in [
        ("\"@path\"", "\"@path\";req"),
        ("\"@path\"", "path"),
        ("(", "(1 "),
    ] {
        assert_eq!(
            wire().edited("signature-input", from, to).code(),
            "signature_coverage"
        );
    }
}

#[test]
fn the_parameters_are_exactly_the_parameters() {
    let created = signed_at().as_second();
    for (from, to, code) in [
        (
            "tag=\"cms-telemetry\"",
            "tag=\"cms-enroll\"",
            "signature_tag",
        ),
        (";tag=\"cms-telemetry\"", "", "signature_parameters"),
        (
            "tag=\"cms-telemetry\"",
            "tag=cms-telemetry",
            "signature_parameters",
        ),
        (";tag=", ";alg=\"ed25519\";tag=", "signature_parameters"),
        (
            ";nonce=\"BwcHBwcHBwcHBwcHBwcHBw\"",
            "",
            "signature_parameters",
        ),
        ("BwcHBwcHBwcHBwcHBwcHBw", "BwcH", "signature_parameters"),
        (
            "BwcHBwcHBwcHBwcHBwcHBw",
            "BwcHBwcHBwcHBwcHBwcHBx",
            "signature_parameters",
        ),
        (
            &format!("expires={}", created + 300),
            "expires=999999999999999",
            "signature_parameters",
        ),
        (
            &format!("expires={}", created + 300),
            &format!("expires={created}"),
            "signature_parameters",
        ),
        (
            &format!("created={created}"),
            "created=999999999999999",
            "signature_parameters",
        ),
        (
            &format!("created={created}"),
            "created=\"now\"",
            "signature_parameters",
        ),
        ("keyid=\"", "keyid=\"x", "signature_parameters"),
    ] {
        let parameters = parameters().replace(from, to);
        assert_eq!(
            sign_by_hand(&wire(), &COVERED, &parameters).code(),
            code,
            "{from} -> {to}"
        );
    }
}

#[test]
fn signed_nonsense_is_still_refused() {
    for (name, value, code) in [
        ("content-type", "text/plain", "header_malformed"),
        ("cms-delivery", "live", "header_malformed"),
        ("cms-delivery", "\"backfill\"", "header_malformed"),
        ("content-digest", "sha-512=:AAAA:", "header_malformed"),
        ("idempotency-key", "\"x\"", "header_malformed"),
        ("cms-ledger", "index=42", "header_malformed"),
        ("cms-ledger", "index=-42, leaf=:AAAA:", "header_malformed"),
        (
            "idempotency-key",
            &format!("\"{AGENT}:1:43\""),
            "index_mismatch",
        ),
    ] {
        let signed = sign_by_hand(&wire().with(name, value), &COVERED, &parameters());
        assert_eq!(signed.code(), code, "{name}: {value}");
    }
}

#[test]
fn every_refusal_names_a_next_step_and_codes_are_distinct() {
    let refusals = [
        Refusal::DigestMismatch,
        Refusal::EnrolmentBody {
            reason: "x".to_owned(),
        },
        Refusal::Expired {
            created: signed_at(),
            now: signed_at(),
        },
        Refusal::FutureSignature {
            created: signed_at(),
            now: signed_at(),
        },
        Refusal::HeaderMalformed { name: "x" },
        Refusal::HeaderMissing { name: "x" },
        Refusal::HeaderRepeated { name: "x" },
        Refusal::IndexMismatch,
        Refusal::KeyMismatch,
        Refusal::KeyUnknown {
            key_id: key(1).verifying().key_id(),
        },
        Refusal::KeysEqual,
        Refusal::Method,
        Refusal::Path,
        Refusal::SignatureCoverage {
            expected: "x".to_owned(),
        },
        Refusal::SignatureInvalid,
        Refusal::SignatureParameters,
        Refusal::SignatureRepeated,
        Refusal::SignatureTag { expected: "x" },
        Refusal::Unsigned,
    ];
    let codes: BTreeSet<&str> = refusals.iter().map(Refusal::code).collect();
    assert_eq!(codes.len(), refusals.len());
    for refusal in refusals {
        assert!(matches!(refusal.http_status(), 400 | 401));
        let problem = refusal.problem(signed_at());
        assert!(
            problem.next_step.len() > 10 && problem.message.len() > 10,
            "{problem}"
        );
        assert_eq!(
            refusal.to_string(),
            format!("{}: {}", problem.message, problem.next_step)
        );
    }
}
