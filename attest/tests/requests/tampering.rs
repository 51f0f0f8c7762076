//! Properties: no change to a signed request is accepted, and no text makes the verifier panic.

use cms_attest::digest::Digest;
use cms_attest::origin::IdempotencyKey;
use cms_attest::request::{Delivery, Incoming, LedgerRef, NONCE_BYTES, Outgoing, sign, verify};
use jiff::SignedDuration;
use proptest::prelude::*;

use crate::wire::{AGENT, AUTHORITY, PATH, Wire, key, outgoing, signed_at, wire};

/// One wrong hand on a request.
#[derive(Clone, Debug)]
enum Tamper {
    Append { header: usize, text: String },
    Body { at: usize, xor: u8 },
    Cut { header: usize, at: usize },
    CutBody { at: usize },
    Drop { header: usize },
    Duplicate { header: usize },
    Flip { header: usize, at: usize, xor: u8 },
    Method { text: String },
    Path { text: String },
    Swap { header: usize, other: usize },
    Value { header: usize, text: String },
}

fn tamper() -> impl Strategy<Value = Tamper> {
    let text = || proptest::string::string_regex("[ -~\t\r\n]{0,40}").unwrap();
    let header = || 0usize..9;
    let at = || any::<usize>();
    prop_oneof![
        (header(), text()).prop_map(|(header, text)| Tamper::Append { header, text }),
        (at(), 1u8..).prop_map(|(at, xor)| Tamper::Body { at, xor }),
        (header(), at()).prop_map(|(header, at)| Tamper::Cut { header, at }),
        at().prop_map(|at| Tamper::CutBody { at }),
        header().prop_map(|header| Tamper::Drop { header }),
        header().prop_map(|header| Tamper::Duplicate { header }),
        (header(), at(), 1u8..128).prop_map(|(header, at, xor)| Tamper::Flip { header, at, xor }),
        text().prop_map(|text| Tamper::Method { text }),
        text().prop_map(|text| Tamper::Path { text }),
        (header(), header()).prop_map(|(header, other)| Tamper::Swap { header, other }),
        (header(), text()).prop_map(|(header, text)| Tamper::Value { header, text }),
    ]
}

fn apply(wire: &mut Wire, tamper: &Tamper) {
    let count = wire.headers.len();
    match tamper {
        Tamper::Append { header, text } => wire.headers[header % count].1.push_str(text),
        Tamper::Body { at, xor } => {
            let at = at % wire.body.len().max(1);
            if let Some(byte) = wire.body.get_mut(at) {
                *byte ^= xor;
            }
        }
        Tamper::Cut { header, at } => {
            let value = &mut wire.headers[header % count].1;
            value.truncate(at % (value.len() + 1));
        }
        Tamper::CutBody { at } => wire.body.truncate(at % (wire.body.len() + 1)),
        Tamper::Drop { header } => drop(wire.headers.remove(header % count)),
        Tamper::Duplicate { header } => wire.headers.push(wire.headers[header % count].clone()),
        Tamper::Flip { header, at, xor } => {
            let value = &mut wire.headers[header % count].1;
            let mut bytes = value.clone().into_bytes();
            let at = at % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= xor;
            }
            *value = String::from_utf8_lossy(&bytes).into_owned();
        }
        Tamper::Method { text } => wire.method.clone_from(text),
        Tamper::Path { text } => wire.path.clone_from(text),
        Tamper::Swap { header, other } => {
            let value = wire.headers[header % count].1.clone();
            wire.headers[header % count].1 = wire.headers[other % count].1.clone();
            wire.headers[other % count].1 = value;
        }
        Tamper::Value { header, text } => wire.headers[header % count].1.clone_from(text),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_tampering_is_accepted(tampers in prop::collection::vec(tamper(), 1..4)) {
        let mut changed = wire();
        for tamper in &tampers {
            if changed.headers.is_empty() {
                break;
            }
            apply(&mut changed, tamper);
        }
        let accepted = changed.verify().is_ok();
        if !changed.means_the_same_as(&wire()) {
            prop_assert!(!accepted, "{:?}", changed);
        }
    }

    #[test]
    fn anything_that_is_signed_is_accepted(
        index in 0u64..1_000_000_000_000_000,
        epoch in 0u64..1_000_000_000_000_000,
        nonce: [u8; NONCE_BYTES],
        leaf: [u8; 32],
        body: Vec<u8>,
        backfill: bool,
        coding in prop::option::of("[a-z]{1,8}"),
        age_s in -300i64..=300,
        seed: u8,
    ) {
        let key = key(seed);
        let request = Outgoing {
            content_encoding: coding.as_deref(),
            idempotency_key: IdempotencyKey::new(AGENT.parse().unwrap(), epoch, index),
            ledger: LedgerRef { index, leaf: Digest::from_bytes(leaf) },
            delivery: if backfill { Delivery::Backfill } else { Delivery::Live },
            body: &body,
            ..outgoing()
        };
        let created = signed_at() - SignedDuration::from_secs(age_s);
        let headers = sign(&request, &key, created, nonce);
        let values = |name: &str| {
            let named = headers.iter().filter(|(known, _)| *known == name);
            named.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let incoming = Incoming { method: "POST", path: PATH, headers: &values, body: &body };
        let verified = verify(&incoming, AUTHORITY, signed_at(), &|_| Some(*key.verifying()));
        let verified = verified.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
        prop_assert_eq!(*verified.nonce(), nonce);
        prop_assert_eq!(verified.ledger(), request.ledger);
        prop_assert_eq!(verified.idempotency_key(), &request.idempotency_key);
        prop_assert_eq!(verified.delivery(), request.delivery);
        prop_assert_eq!(verified.content_encoding(), coding.as_deref());
    }

    #[test]
    fn no_header_text_makes_it_panic(
        input in any::<String>(),
        signature in any::<String>(),
        digest in any::<String>(),
        ledger in any::<String>(),
    ) {
        let changed = wire()
            .with("signature-input", &input)
            .with("signature", &signature)
            .with("content-digest", &digest)
            .with("cms-ledger", &ledger);
        prop_assert!(changed.verify().is_err());
    }
}

/// Every single byte of every header and of the body, each with every single bit: no exception.
#[test]
fn no_flipped_bit_is_accepted() {
    let right = wire();
    for bit in 0..7u8 {
        for (at, (name, value)) in right.headers.iter().enumerate() {
            for position in 0..value.len() {
                let mut bytes = value.clone().into_bytes();
                bytes[position] ^= 1 << bit;
                let mut changed = right.clone();
                changed.headers[at].1 = String::from_utf8(bytes).unwrap();
                assert!(
                    changed.verify().is_err(),
                    "{name} byte {position} bit {bit}"
                );
            }
        }
        for position in 0..right.body.len() {
            let mut changed = right.clone();
            changed.body[position] ^= 1 << bit;
            assert_eq!(changed.code(), "digest_mismatch");
        }
    }
}
