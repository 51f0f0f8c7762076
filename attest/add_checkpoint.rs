//! How an agent offers a checkpoint and what the dashboard makes of it (C2SP tlog-witness, `add-checkpoint`).
//!
//! The request is a text: `old <size>`, the consistency proof with one digest a line, an empty line, the note.
//! The answer is the cosignature, or the size that the dashboard holds, or a refusal.
//! Promises: one request has one text; [`judge`] alone decides, so both sides can tell what it will say.

use std::fmt;
use std::str::FromStr;

use crate::checkpoint::Checkpoint;
use crate::digest::Digest;
use crate::merkle::{Head, Inconsistent, PROOF_MAX, verify_consistency};
use crate::origin::{AgentId, parse_count};

/// Longest request. Ours stay below 4 KiB; a note may carry signatures of others.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Longest answer that an agent needs to read: a few signature lines.
pub const ANSWER_BYTES_MAX: usize = crate::note::NOTE_BYTES_MAX;
/// The media type of a request.
pub const REQUEST_MEDIA_TYPE: &str = "text/plain; charset=utf-8";
/// The media type of the answer that says which size the dashboard holds.
pub const SIZE_MEDIA_TYPE: &str = "text/x.tlog.size";

const OLD: &str = "old ";

/// Where an agent's checkpoints are posted.
#[must_use]
pub fn path(agent: &AgentId) -> String {
    format!("/api/v1/agents/{agent}/checkpoint")
}

/// A checkpoint that is offered, and the proof that it continues what was cosigned before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the sender believes was cosigned last; zero for none.
    pub old: u64,
    /// The consistency proof from that size; empty from zero, and to the same size.
    pub proof: Vec<Digest>,
    /// The checkpoint, signed: what [`Checkpoint::sign`] gives.
    pub note: String,
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{OLD}{}", self.old)?;
        self.proof
            .iter()
            .try_for_each(|digest| writeln!(f, "{digest}"))?;
        write!(f, "\n{}", self.note)
    }
}

impl FromStr for AddCheckpoint {
    type Err = AddCheckpointError;

    fn from_str(text: &str) -> Result<Self, AddCheckpointError> {
        if text.len() > REQUEST_BYTES_MAX {
            return Err(AddCheckpointError::Long);
        }
        // The first empty line ends the proof; the note has one of its own.
        let (head, note) = text.split_once("\n\n").ok_or(AddCheckpointError::Form)?;
        let mut lines = head.split('\n');
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix(OLD))
            .and_then(parse_count)
            .ok_or(AddCheckpointError::Old)?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_MAX {
                return Err(AddCheckpointError::Long);
            }
            proof.push(line.parse().map_err(|_| AddCheckpointError::Proof)?);
        }
        Ok(Self {
            old,
            proof,
            note: note.to_owned(),
        })
    }
}

/// Decides over an offered checkpoint, given the head that was cosigned last in the same log.
///
/// The caller has opened the note with the key of the log, and holds [`Head::empty`] of a log it has never seen.
///
/// # Errors
/// With the reason, when the checkpoint must not be cosigned.
pub fn judge(held: &Head, offer: &AddCheckpoint, offered: &Checkpoint) -> Result<(), Unfit> {
    if offered.head.size < offer.old {
        return Err(Unfit::Smaller);
    }
    if offer.old != held.size {
        return Err(Unfit::OtherOld { held: held.size });
    }
    verify_consistency(held, &offered.head, &offer.proof).map_err(|why| match why {
        // A proof of another length is wrong for every log, so it says nothing against this one.
        Inconsistent::Length => Unfit::Proof,
        Inconsistent::Shrinks { .. } => Unfit::Smaller,
        Inconsistent::New | Inconsistent::Old => Unfit::Fork(why),
    })
}

/// Why a checkpoint is not cosigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It does not continue what was cosigned before.
    #[error("the checkpoint does not continue the head that was cosigned before: {0}")]
    Fork(Inconsistent),
    /// Another size was cosigned last: prove from that one.
    #[error("the head that was cosigned last has {held} leaves: prove from there")]
    OtherOld {
        /// Leaves of the head that is held.
        held: u64,
    },
    /// The proof has not the length that the sizes need.
    #[error("the proof has not as many digests as the two sizes need")]
    Proof,
    /// It has fewer leaves than it claims to continue.
    #[error("the checkpoint has fewer leaves than the old size that it names")]
    Smaller,
}

/// Writes the answer that says which size is held.
#[must_use]
pub fn size_answer(size: u64) -> String {
    format!("{size}\n")
}

/// Reads the answer that says which size is held; only the form that [`size_answer`] writes.
#[must_use]
pub fn parse_size_answer(text: &str) -> Option<u64> {
    parse_count(text.strip_suffix('\n')?)
}

/// Why a text is no offer of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddCheckpointError {
    /// It has not the parts.
    #[error("it is not a checkpoint's request: write old size, proof, an empty line and the note")]
    Form,
    /// It is longer than any of ours.
    #[error("it is too long: {REQUEST_BYTES_MAX} bytes and {PROOF_MAX} lines of proof are enough")]
    Long,
    /// The first line is not the old size.
    #[error("the first line is not \"old\" and a size: write old 0 for a log that is new")]
    Old,
    /// A line of the proof is not a digest.
    #[error("a line of the proof is not a digest: write 32 bytes in base64 with padding")]
    Proof,
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::keys::SigningKey;
    use crate::merkle::{Frontier, consistency_proof, root};

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|i| Digest::of(&i.to_be_bytes())).collect()
    }

    fn checkpoint(leaves: &[Digest]) -> Checkpoint {
        let mut frontier = Frontier::default();
        leaves.iter().for_each(|leaf| frontier.append(*leaf));
        Checkpoint {
            origin: "carbonmirror/acme-corp/018f4d2a-7b1c-7def-8123-456789abcdef/1"
                .parse()
                .unwrap(),
            head: frontier.head(),
        }
    }

    fn offer(old: u64, leaves: &[Digest]) -> (AddCheckpoint, Checkpoint) {
        let subtree = |range: std::ops::Range<u64>| {
            let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
            Ok::<_, Infallible>(root(leaves[start..end].iter().copied()))
        };
        let Ok(proof) = consistency_proof(old, leaves.len() as u64, subtree);
        let checkpoint = checkpoint(leaves);
        let key = SigningKey::from_seed(&[1; 32]).unwrap();
        let note = checkpoint.sign(&key).unwrap();
        (AddCheckpoint { old, proof, note }, checkpoint)
    }

    #[test]
    fn requests_read_back() {
        for (old, new) in [(0, 1), (3, 7), (7, 7), (4, 40)] {
            let (offer, _) = offer(old, &leaves(new));
            let text = offer.to_string();
            assert!(text.starts_with(&format!("old {old}\n")), "{text}");
            assert_eq!(text.parse(), Ok(offer));
        }
    }

    #[test]
    fn the_text_is_the_formats() {
        let digest = Digest::of(b"x");
        let request = AddCheckpoint {
            old: 20,
            proof: vec![digest, digest],
            note: "note\n".to_owned(),
        };
        assert_eq!(
            request.to_string(),
            format!("old 20\n{digest}\n{digest}\n\nnote\n")
        );
    }

    #[test]
    fn other_forms_are_refused() {
        use AddCheckpointError as E;
        let digest = Digest::of(b"x").to_string();
        let long_proof = format!("old 1\n{}\nn", format!("{digest}\n").repeat(PROOF_MAX + 1));
        let long = format!("old 1\n\n{}", "n".repeat(REQUEST_BYTES_MAX));
        for (wrong, why) in [
            ("", E::Form),
            ("old 1\n", E::Form),
            ("\n\n", E::Old),
            ("old 01\n\nn", E::Old),
            ("old  1\n\nn", E::Old),
            ("old +1\n\nn", E::Old),
            ("old 1 \n\nn", E::Old),
            ("old 1\r\n\nn", E::Old),
            ("old 18446744073709551615\n\nn", E::Old),
            ("old 1\nAAAA\n\nn", E::Proof),
            (&format!("old 1\n{digest} \n\nn"), E::Proof),
            (&long_proof, E::Long),
            (&long, E::Long),
        ] {
            assert_eq!(wrong.parse::<AddCheckpoint>(), Err(why), "{wrong:?}");
        }
        let most = format!("old 1\n{}\nn", format!("{digest}\n").repeat(PROOF_MAX));
        assert!(most.parse::<AddCheckpoint>().is_ok());
    }

    #[test]
    fn growth_and_rest_are_taken_and_all_else_is_not() {
        let all = leaves(20);
        let held = checkpoint(&all[..8]).head;
        let ask = |old, leaves: &[Digest]| {
            let (offer, checkpoint) = offer(old, leaves);
            judge(&held, &offer, &checkpoint)
        };
        assert_eq!(ask(8, &all), Ok(()));
        assert_eq!(ask(8, &all[..8]), Ok(()));
        assert_eq!(ask(7, &all), Err(Unfit::OtherOld { held: 8 }));
        assert_eq!(ask(0, &all), Err(Unfit::OtherOld { held: 8 }));
        assert_eq!(ask(9, &all), Err(Unfit::OtherOld { held: 8 }));
        assert_eq!(ask(8, &all[..7]), Err(Unfit::Smaller));
        let mut rewritten = all.clone();
        rewritten[3] = Digest::of(b"rewritten");
        assert!(matches!(ask(8, &rewritten), Err(Unfit::Fork(_))));
        assert!(matches!(ask(8, &rewritten[..8]), Err(Unfit::Fork(_))));
    }

    #[test]
    fn a_new_log_starts_from_nothing() {
        let (first, checkpoint) = offer(0, &leaves(5));
        assert_eq!(judge(&Head::empty(), &first, &checkpoint), Ok(()));
        let proof = vec![Digest::of(b"x")];
        let padded = AddCheckpoint { proof, ..first };
        assert_eq!(
            judge(&Head::empty(), &padded, &checkpoint),
            Err(Unfit::Proof)
        );
    }

    #[test]
    fn sizes_read_back() {
        assert_eq!(parse_size_answer(&size_answer(42)), Some(42));
        for wrong in ["", "42", "042\n", "42\n\n", "-1\n", " 42\n", "x\n"] {
            assert_eq!(parse_size_answer(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_printed_again(text in "(old [0-9]{1,3}\n)?(.|\n){0,200}") {
            if let Ok(offer) = text.parse::<AddCheckpoint>() {
                prop_assert_eq!(offer.to_string(), text);
            }
        }
    }
}
