//! Submissions of the day after a rotation: the replaced key signs beside its successor.
//!
//! What this file holds: taking the new key's signature away, changing it, passing the old one off for it, or
//! putting the halves of two requests together never makes a verifier that knows the new key take a request on
//! the word of the old one.

use cms_attest::Refusal;
use cms_attest::digest::Digest;
use cms_attest::keys::{KeyId, SigningKey};
use cms_attest::request::{
    KnownKey, LedgerRef, NONCE_BYTES, Outgoing, Standing, Verified, sign_twice, verify_known,
};
use proptest::prelude::*;

use crate::wire::{AUTHORITY, Wire, key, outgoing, signed_at};

const OLD: u8 = 1;
const NEW: u8 = 2;

fn signed(by: u8, beside: Option<u8>, nonce: u8) -> Wire {
    of(&outgoing(), by, beside, nonce)
}

fn of(request: &Outgoing<'_>, by: u8, beside: Option<u8>, nonce: u8) -> Wire {
    let beside: Option<SigningKey> = beside.map(key);
    let nonce = [nonce; NONCE_BYTES];
    let headers = sign_twice(request, &key(by), beside.as_ref(), signed_at(), nonce);
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

fn id(byte: u8) -> KeyId {
    key(byte).verifying().key_id()
}

/// Verifies where these keys are known.
fn known(wire: &Wire, keys: &[(u8, Standing)]) -> Result<Verified, Refusal> {
    let lookup = |wanted: &KeyId| {
        let found = keys.iter().find(|(byte, _)| id(*byte) == *wanted);
        found.map(|(byte, standing)| KnownKey {
            key: *key(*byte).verifying(),
            standing: *standing,
        })
    };
    wire.incoming(|incoming| verify_known(incoming, AUTHORITY, signed_at(), &lookup))
}

fn code(wire: &Wire, keys: &[(u8, Standing)]) -> &'static str {
    known(wire, keys).expect_err("it must be refused").code()
}

/// Leaves one of the two signatures, and calls it as it is asked to.
fn only(wire: &Wire, place: usize, label: &str) -> Wire {
    let mut changed = wire.clone();
    for name in ["signature-input", "signature"] {
        let value = changed.header(name).to_owned();
        let part = value.split(", cms-prev=").nth(place).unwrap();
        let part = part.strip_prefix("cms=").unwrap_or(part);
        changed = changed.with(name, &format!("{label}={part}"));
    }
    changed
}

const BEFORE: &[(u8, Standing)] = &[(OLD, Standing::Current)];
const AFTER: &[(u8, Standing)] = &[(NEW, Standing::Current), (OLD, Standing::Retiring)];
const SETTLED: &[(u8, Standing)] = &[(NEW, Standing::Current), (OLD, Standing::Retired)];

#[test]
fn whoever_knows_either_key_takes_it() {
    let both = signed(NEW, Some(OLD), 1);
    for (keys, counts, beside) in [
        (BEFORE, OLD, None),
        (AFTER, NEW, Some(id(OLD))),
        (SETTLED, NEW, Some(id(OLD))),
        (&AFTER[..1], NEW, None),
    ] {
        let verified = known(&both, keys).unwrap();
        assert_eq!(*verified.key_id(), id(counts));
        assert_eq!(verified.beside(), beside.as_ref());
    }
    assert_eq!(code(&both, &[]), "key_unknown");
}

#[test]
fn the_new_key_alone_is_enough_where_it_is_known() {
    let alone = only(&signed(NEW, Some(OLD), 1), 0, "cms");
    for keys in [AFTER, SETTLED] {
        assert_eq!(*known(&alone, keys).unwrap().key_id(), id(NEW));
    }
    assert_eq!(code(&alone, BEFORE), "key_unknown");
}

#[test]
fn the_old_one_alone_is_not_once_it_has_gone() {
    let alone = signed(OLD, None, 1);
    assert!(known(&alone, BEFORE).is_ok());
    assert!(
        known(&alone, AFTER).is_ok(),
        "the answer may have been lost"
    );
    assert_eq!(code(&alone, SETTLED), "key_retired");
}

#[test]
fn taking_the_new_signature_away_leaves_none() {
    let both = signed(NEW, Some(OLD), 1);
    let stripped = only(&both, 1, "cms-prev");
    // Its tag is not what the label is for, and is signed.
    let passed_off = only(&both, 1, "cms");
    for keys in [BEFORE, AFTER, SETTLED] {
        assert_eq!(code(&stripped, keys), "unsigned");
        assert_eq!(code(&passed_off, keys), "signature_repeated");
    }
}

#[test]
fn an_unknown_first_key_does_not_revive_a_replaced_one() {
    // The thief of the old key signs beside a key that he has made up.
    let forged = signed(7, Some(OLD), 1);
    assert_eq!(code(&forged, AFTER), "key_unknown");
    assert_eq!(code(&forged, SETTLED), "key_unknown");
}

#[test]
fn every_signature_of_a_known_key_must_hold() {
    let (both, other) = (signed(NEW, Some(OLD), 1), signed(NEW, Some(OLD), 2));
    for keys in [AFTER, SETTLED] {
        for swapped in [
            both.with("signature", other.header("signature")),
            both.with("signature-input", other.header("signature-input")),
        ] {
            assert_eq!(code(&swapped, keys), "signature_invalid");
        }
    }
    let halves: Vec<&str> = both.header("signature").split(", ").collect();
    let others: Vec<&str> = other.header("signature").split(", ").collect();
    let half_wrong = both.with("signature", &format!("{}, {}", halves[0], others[1]));
    assert_eq!(code(&half_wrong, AFTER), "signature_invalid");
    // Who does not know the old key has nothing to hold it against.
    assert!(known(&half_wrong, &AFTER[..1]).is_ok());
    let half_wrong = both.with("signature", &format!("{}, {}", others[0], halves[1]));
    assert_eq!(code(&half_wrong, AFTER), "signature_invalid");
}

#[test]
fn halves_of_two_attempts_do_not_join() {
    let (one, two) = (signed(NEW, Some(OLD), 1), signed(NEW, Some(OLD), 2));
    let joined = |name: &str| {
        let first = one.header(name).split(", cms-prev=").next().unwrap();
        let second = two.header(name).split(", cms-prev=").nth(1).unwrap();
        format!("{first}, cms-prev={second}")
    };
    let wire = one
        .with("signature-input", &joined("signature-input"))
        .with("signature", &joined("signature"));
    for keys in [BEFORE, AFTER, SETTLED] {
        assert_eq!(code(&wire, keys), "signature_parameters");
    }
}

#[test]
fn half_a_signature_is_none() {
    let both = signed(NEW, Some(OLD), 1);
    for name in ["signature", "signature-input"] {
        let first = both.header(name).split(", cms-prev=").next().unwrap();
        assert_eq!(code(&both.with(name, first), AFTER), "header_malformed");
        let second = both.header(name).split(", cms-prev=").nth(1).unwrap();
        let second = both.with(name, &format!("cms-prev={second}"));
        assert_eq!(code(&second, AFTER), "unsigned");
    }
}

#[test]
fn one_key_does_not_vouch_for_itself_twice() {
    assert_eq!(
        code(&signed(NEW, Some(NEW), 1), AFTER),
        "signature_parameters"
    );
}

#[test]
fn our_tags_stand_under_our_labels_only() {
    let both = signed(NEW, Some(OLD), 1);
    let renamed = ["signature-input", "signature"]
        .iter()
        .fold(both.clone(), |wire, name| {
            wire.edited(name, "cms-prev=", "mine=")
        });
    assert_eq!(code(&renamed, AFTER), "signature_repeated");
    let third = ["signature-input", "signature"]
        .iter()
        .fold(both.clone(), |wire, name| {
            let prev = wire
                .header(name)
                .split(", cms-prev=")
                .nth(1)
                .unwrap()
                .to_owned();
            let value = format!("{}, mine={prev}", wire.header(name));
            wire.with(name, &value)
        });
    assert_eq!(code(&third, AFTER), "signature_repeated");
    let swapped = ["signature-input", "signature"]
        .iter()
        .fold(both, |wire, name| {
            let value = wire.header(name).to_owned();
            let (first, second) = value.split_once(", cms-prev=").unwrap();
            let first = first.strip_prefix("cms=").unwrap();
            wire.with(name, &format!("cms={second}, cms-prev={first}"))
        });
    assert_eq!(code(&swapped, AFTER), "signature_repeated");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// Whatever is done to the two signature headers: what is taken says what was signed, under a key that
    /// may speak for itself.
    #[test]
    fn no_change_of_the_signatures_makes_another_request(
        header in prop::sample::select(vec!["signature", "signature-input"]),
        cut in any::<prop::sample::Index>(),
        length in 0usize..60,
        text in "[ -~]{0,12}",
    ) {
        let both = signed(NEW, Some(OLD), 1);
        let value = both.header(header);
        let at = cut.index(value.len());
        let end = (at + length).min(value.len());
        let changed = both.with(header, &format!("{}{text}{}", &value[..at], &value[end..]));
        for keys in [AFTER, SETTLED] {
            if let Ok(verified) = known(&changed, keys) {
                prop_assert_eq!(verified.key_id(), &id(NEW));
            }
        }
    }

    #[test]
    fn whatever_is_signed_twice_is_taken_by_all_who_know_a_key(
        index in 0u64..1_000_000_000_000_000,
        nonce: u8,
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let agent: cms_attest::AgentId = crate::wire::AGENT.parse().unwrap();
        let request = Outgoing {
            idempotency_key: cms_attest::IdempotencyKey::new(agent, 1, index),
            ledger: LedgerRef { index, leaf: Digest::of(&body) },
            body: &body,
            ..outgoing()
        };
        let both = of(&request, NEW, Some(OLD), nonce);
        for keys in [BEFORE, AFTER, SETTLED] {
            prop_assert!(known(&both, keys).is_ok());
        }
    }
}
