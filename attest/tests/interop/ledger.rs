//! Checkpoints, cosignatures and consistency proofs, read and written by us and by others.

use std::convert::Infallible;
use std::ops::Range;

use cms_attest::checkpoint::verify_cosignature;
use cms_attest::merkle::{Head, consistency_proof, root, verify_consistency};
use cms_attest::note::{Algorithm, Note, NoteKey};
use cms_attest::{Checkpoint, Cosigner, CosignerKey, Digest, Leaf, SigningKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const ORIGIN: &str = "carbonmirror/acme-corp/018f4d2a-7b1c-7def-8123-456789abcdef/3";
const THEIRS: &str = include_str!("theirs.json");
const OURS: &str = include_str!("ours.json");

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Vectors {
    log: String,
    cosigner: String,
    checkpoints: Vec<Signed>,
    proofs: Vec<Proof>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Signed {
    origin: String,
    size: u64,
    root: String,
    note: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Proof {
    old: u64,
    new: u64,
    old_root: String,
    new_root: String,
    proof: Vec<String>,
}

/// The hashes of the log in the vectors: a leaf is its number in decimal.
fn leaves(range: Range<u64>) -> impl Iterator<Item = Digest> {
    range.map(|number| Leaf::hash_of(&number.to_string()))
}

fn head(size: u64) -> Head {
    Head {
        size,
        root: root(leaves(0..size)),
    }
}

fn proof(old: u64, new: u64) -> Vec<Digest> {
    let Ok(proof) = consistency_proof(old, new, |range| Ok::<_, Infallible>(root(leaves(range))));
    proof
}

#[test]
fn we_read_what_others_wrote() {
    let theirs: Vectors = serde_json::from_str(THEIRS).unwrap();
    let log: NoteKey = theirs.log.parse().unwrap();
    let cosigner: CosignerKey = theirs.cosigner.parse().unwrap();
    assert_eq!(
        (log.to_string(), cosigner.to_string()),
        (theirs.log, theirs.cosigner)
    );
    assert!(theirs.checkpoints.len() > 10 && theirs.proofs.len() > 70);
    for signed in theirs.checkpoints {
        let checkpoint = Checkpoint::open(&signed.note, log.key()).unwrap();
        assert_eq!(checkpoint.origin.to_string(), signed.origin);
        assert_eq!(checkpoint.head, head(signed.size));
        assert_eq!(checkpoint.head.root.to_string(), signed.root);
        let note: Note = signed.note.parse().unwrap();
        assert_eq!(note.to_string(), signed.note);
        let (_, lines) = signed.note.split_once("\n\n").unwrap();
        let receipt = verify_cosignature(lines, &checkpoint, &cosigner).unwrap();
        assert!(lines.ends_with(receipt.line()));
        let later = Checkpoint {
            head: head(signed.size + 1),
            ..checkpoint
        };
        assert!(verify_cosignature(lines, &later, &cosigner).is_err());
    }
    for theirs in theirs.proofs {
        let (old, new) = (head(theirs.old), head(theirs.new));
        assert_eq!(
            (old.root.to_string(), new.root.to_string()),
            (theirs.old_root, theirs.new_root)
        );
        let read: Vec<Digest> = theirs
            .proof
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(read, proof(theirs.old, theirs.new));
        assert_eq!(verify_consistency(&old, &new, &read), Ok(()));
    }
}

#[test]
fn others_have_read_what_we_write() {
    let key = |byte| SigningKey::from_seed(&[byte; 32]).unwrap();
    let cosigner = Cosigner::new("dash.example:8443".parse().unwrap(), key(9));
    let log = NoteKey::new(
        ORIGIN.parse().unwrap(),
        Algorithm::Ed25519,
        *key(2).verifying(),
    );
    let time: Timestamp = "2026-01-16T15:45:01Z".parse().unwrap();
    let sizes = [1, 2, 3, 6, 8, 9, 64, 129, 250];
    let checkpoints = sizes.map(|size| {
        let checkpoint = Checkpoint {
            origin: ORIGIN.parse().unwrap(),
            head: head(size),
        };
        let note = checkpoint.sign(&key(2)).unwrap() + &cosigner.cosign(&checkpoint, time);
        Signed {
            origin: ORIGIN.to_owned(),
            size,
            root: checkpoint.head.root.to_string(),
            note,
        }
    });
    let pairs = sizes
        .into_iter()
        .flat_map(|new| sizes.into_iter().map(move |old| (old, new)));
    let proofs = pairs
        .filter(|(old, new)| old < new)
        .map(|(old, new)| Proof {
            old,
            new,
            old_root: head(old).root.to_string(),
            new_root: head(new).root.to_string(),
            proof: proof(old, new).iter().map(Digest::to_string).collect(),
        });
    let ours = Vectors {
        log: log.to_string(),
        cosigner: cosigner.published().to_string(),
        checkpoints: checkpoints.into(),
        proofs: proofs.collect(),
    };
    if std::env::var_os("CMS_BLESS").is_some() {
        let text = serde_json::to_string(&ours).unwrap() + "\n";
        std::fs::write("tests/interop/ours.json", text).unwrap();
        return;
    }
    assert_eq!(
        ours,
        serde_json::from_str(OURS).unwrap(),
        "others have not read this"
    );
}
