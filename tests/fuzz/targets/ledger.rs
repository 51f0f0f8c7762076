//! Leaves, notes, checkpoints, cosignatures, offers, successions and bundles of evidence.

use std::sync::LazyLock;

use cms_attest::add_checkpoint::{AddCheckpoint, judge, parse_size_answer, size_answer};
use cms_attest::bundle::{Line, Seal};
use cms_attest::checkpoint::verify_cosignature;
use cms_attest::merkle::Head;
use cms_attest::note::{Note, NoteKey, signature_lines};
use cms_attest::policy::Policy;
use cms_attest::succession::Succession;
use cms_attest::verify::{Trust, Verdict, verify};
use cms_attest::{AgentId, Checkpoint, Cosigner, CosignerKey, Digest, KeyId, Leaf, Origin};

use super::requests::{AGENT, key, now};
use super::text;

/// A bundle that `export` wrote in a test run, whole and right.
pub(crate) const BUNDLE: &[u8] = include_bytes!("../corpus/bundle/whole");

static CHECKPOINT: LazyLock<Checkpoint> = LazyLock::new(checkpoint_of_seven);

pub(crate) fn checkpoint_of_seven() -> Checkpoint {
    Checkpoint {
        origin: format!("carbonmirror/acme-corp/{AGENT}/3")
            .parse()
            .expect("an origin"),
        head: Head {
            size: 7,
            root: Digest::of(b"root"),
        },
    }
}

pub(crate) fn cosigner() -> Cosigner {
    Cosigner::new("dash.example".parse().expect("a name"), key(9))
}

pub(super) fn leaf(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(leaf) = text.parse::<Leaf>() {
        assert_eq!(leaf.to_string(), text);
        assert_eq!(leaf.hash(), Leaf::hash_of(text));
    }
}

pub(super) fn origin(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(origin) = text.parse::<Origin>() {
        assert_eq!(origin.to_string(), text);
    }
    if let Ok(agent) = text.parse::<AgentId>() {
        assert_eq!(agent.as_str(), text);
    }
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.as_str(), text);
    }
}

pub(super) fn note(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(note) = text.parse::<Note>() {
        assert_eq!(note.to_string(), text);
    }
}

pub(super) fn note_key(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(key) = text.parse::<NoteKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<CosignerKey>() {
        assert_eq!(key.to_string(), text);
    }
}

pub(super) fn checkpoint(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(opened) = Checkpoint::open(text, key(2).verifying()) {
        // Nobody here can sign another one.
        assert_eq!(opened, *CHECKPOINT);
    }
}

pub(super) fn cosignature(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(lines) = signature_lines(text) {
        let printed: String = lines.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(printed, text);
    }
    if let Ok(receipt) = verify_cosignature(text, &CHECKPOINT, &cosigner().published()) {
        assert_eq!(
            (receipt.time(), receipt.checkpoint()),
            (now(), &*CHECKPOINT)
        );
    }
}

/// What an agent offers, and the size that a dashboard answers.
pub(super) fn add_checkpoint(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(offer) = text.parse::<AddCheckpoint>() {
        assert_eq!(offer.to_string(), text);
        let held = Head {
            size: offer.old,
            root: Digest::of(b"held"),
        };
        let judged = judge(&held, &offer, &CHECKPOINT);
        // From another root no proof leads here, however it was put together.
        assert!(judged.is_err(), "{text}");
    }
    if let Some(size) = parse_size_answer(text) {
        assert_eq!(size_answer(size), text);
    }
}

pub(super) fn succession(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(read) = text.parse::<Succession>() {
        assert_eq!(read.to_string(), text);
        assert_ne!(read.from().key(), read.to().key());
    }
}

/// Whose countersignatures count. More of them never make a shorter ledger, and none a longer one than there is.
pub(super) fn policy(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(policy) = text.parse::<Policy>() else {
        return;
    };
    let all = policy.quorum_size(7, |_| 7);
    let some = policy.quorum_size(7, |key| u64::from(key.to_string().len() % 2 == 0) * 5);
    assert!(all == 7 && some <= all && policy.quorum_size(7, |_| 0) <= some);
    assert!(policy.cosigners().count() + policy.logs().len() <= text.lines().count());
}

fn report(bundle: &[u8], trust: &Trust) -> Verdict {
    let report = verify(&mut &*bundle, trust).expect("memory can be read");
    let shown = report.to_string();
    assert!(
        !shown.chars().any(|c| c.is_control() && c != '\n'),
        "{shown:?}"
    );
    report.verdict
}

pub(super) fn bundle(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(read) = Line::parse(line) {
            let written = Seal::default().line(&read).expect("it was read");
            assert_eq!(written.strip_suffix(b"\n"), Some(line));
        }
    }
    if report(data, &Trust::default()) == Verdict::Ok {
        assert_eq!(data, BUNDLE, "another bundle is whole");
    }
}

/// A forger who seals what he changed: the last line is made anew, so that all checks behind it are reached.
pub(super) fn bundle_resealed(data: &[u8]) {
    let mut seal = Seal::default();
    let mut sealed = Vec::new();
    for text in data.split_inclusive(|byte| *byte == b'\n') {
        match Line::parse(text.strip_suffix(b"\n").unwrap_or(text)) {
            Ok(Line::End(_)) => break,
            Ok(line) => seal.add(&line, text),
            Err(_) => {}
        }
        sealed.extend_from_slice(text);
    }
    let end = Line::End(seal.end());
    sealed.extend(seal.line(&end).expect("an end is short"));
    // Below what the dashboard has countersigned, no leaf is another one, whoever seals the file. What comes later
    // nobody has signed yet.
    let trust = Trust {
        cosigner: Some(cosigner().published()),
        ..Trust::default()
    };
    if report(&sealed, &trust) == Verdict::Ok {
        let honest = receipted(BUNDLE);
        assert!(
            receipted(&sealed).iter().all(|leaf| honest.contains(leaf)),
            "a leaf was forged"
        );
    }
}

/// The leaves of the first epoch before its last receipt.
fn receipted(bundle: &[u8]) -> Vec<&[u8]> {
    let lines: Vec<&[u8]> = bundle.split(|byte| *byte == b'\n').collect();
    let last = lines
        .iter()
        .rposition(|line| line.starts_with(b"{\"receipt\":{\"epoch\":1,"));
    let below = lines.into_iter().take(last.unwrap_or(0));
    below
        .filter(|line| line.starts_with(b"{\"leaf\":{\"epoch\":1,"))
        .collect()
}
