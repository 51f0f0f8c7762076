//! JSON on the wire, and what the store keeps of the windows.

use std::fmt::Debug;

use cms_attest::enrol::{ChallengeAnswer, EnrolAnswer, EnrolRequest};
use cms_attest::rotate::{RotateAnswer, RotateRequest};
use cms_attest::{Accepted, Jwk, Problem};
use cms_spec::Category;
use cms_spec::payload::{Context, Envelope, Payload};
use cms_spec::plausible;
use cms_spec::windows::{BUCKET, Carry, Statements, Windows};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bucket that blocks are read for: the quarter of an hour from 16 January 2026, noon.
const BUCKET_NUMBER: i64 = 1_768_564_800_000 / BUCKET_MS;
const BUCKET_MS: i64 = 900_000;

/// What reads is written in a form that reads as the same.
fn round<T: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, read);
    Some(read)
}

/// Everything that a dashboard answers, and what an agent asks for in JSON.
pub(super) fn answers(data: &[u8]) {
    round::<Accepted>(data);
    round::<ChallengeAnswer>(data);
    round::<EnrolAnswer>(data);
    round::<EnrolRequest>(data);
    round::<RotateAnswer>(data);
    round::<RotateRequest>(data);
    if let Some(problem) = round::<Problem>(data) {
        assert!(!problem.to_string().is_empty());
    }
}

pub(super) fn jwk(data: &[u8]) {
    round::<Jwk>(data);
}

/// A submission's body, and the rules that ingest refuses by.
pub(super) fn envelope(data: &[u8]) {
    let Some(envelope) = round::<Envelope>(data) else {
        return;
    };
    let findings = plausible::check(&envelope.data);
    assert!(findings.iter().all(|finding| !finding.message.is_empty()));
}

/// Closes every category over what was read: figures from damaged windows may be odd, but they are figures.
fn close(windows: &Windows) {
    let end = Timestamp::from_millisecond((BUCKET_NUMBER + 1) * BUCKET_MS).expect("a time");
    let slot = BUCKET.last_closed(end);
    for category in Category::ALL {
        if let Ok(closed) = windows.close(category, slot) {
            let payload = Payload::build(closed, &Context::default());
            assert!(plausible::check(payload.data()).len() < usize::MAX);
        }
    }
}

/// A column block; one that reads is kept as itself.
pub(super) fn block(data: &[u8]) {
    let mut windows = Windows::new();
    if windows.load_block(BUCKET_NUMBER, data).is_err() {
        return;
    }
    close(&windows);
    let kept = windows.block(BUCKET_NUMBER);
    let mut again = Windows::new();
    again
        .load_block(BUCKET_NUMBER, &kept)
        .expect("what was written can be read");
    assert_eq!(again.block(BUCKET_NUMBER), kept);
}

pub(super) fn carry(data: &[u8]) {
    let Ok(carry) = serde_json::from_slice::<Carry>(data) else {
        return;
    };
    let mut windows = Windows::new();
    windows.restore(carry);
    close(&windows);
    let kept = windows.carry();
    let mut again = Windows::new();
    again.restore(kept.clone());
    assert_eq!(again.carry(), kept);
}

pub(super) fn statements(data: &[u8]) {
    let Ok(statements) = serde_json::from_slice::<Statements>(data) else {
        return;
    };
    let mut windows = Windows::new();
    windows.restore_statements(statements);
    close(&windows);
    let kept = windows.statements();
    let mut again = Windows::new();
    again.restore_statements(kept.clone());
    assert_eq!(again.statements(), kept);
}
