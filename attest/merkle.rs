//! The Merkle tree of RFC 6962 over SHA-256: its root, and the proof that one tree continues another.
//!
//! Promises: appending and the root hold one digest for each bit of the size, however long the log is; a
//! proof is made from subtrees that the caller reads one after the other. Refuses: keeping leaves.

use std::ops::Range;

use crate::digest::Digest;

/// Most digests of a consistency proof: one for each level of a tree that a signed 64-bit size can count.
pub const PROOF_MAX: usize = 63;

/// RFC 6962 hashes leaves and inner nodes with different first bytes, so that neither passes for the other.
const NODE_PREFIX: &[u8] = &[1];

/// A tree, said in two words: how many leaves, and the hash over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Count of the leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

impl Head {
    /// The head of the tree without leaves.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            size: 0,
            root: Digest::of(&[]),
        }
    }
}

/// Hashes an inner node.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[NODE_PREFIX, left.as_bytes(), right.as_bytes()])
}

/// Computes the root over these leaf hashes, in the order of the log.
pub fn root(leaf_hashes: impl IntoIterator<Item = Digest>) -> Digest {
    let mut frontier = Frontier::default();
    for hash in leaf_hashes {
        frontier.append(hash);
    }
    frontier.root()
}

/// The right edge of a tree that grows: all that the next root needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    /// Roots of the complete subtrees, the largest first: one for each bit that is set in `size`.
    complete: Vec<Digest>,
    size: u64,
}

impl Frontier {
    /// Adds the hash of the next leaf.
    pub fn append(&mut self, leaf_hash: Digest) {
        let mut hash = leaf_hash;
        // Each set bit at the low end of the size is a subtree as large as the one that `hash` covers.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.complete.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.complete.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// Count of the leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root over the leaves so far.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut subtrees = self.complete.iter().rev();
        match subtrees.next() {
            None => Head::empty().root,
            Some(last) => subtrees.fold(*last, |right, left| node_hash(left, &right)),
        }
    }

    /// Size and root so far.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            size: self.size,
            root: self.root(),
        }
    }
}

/// Makes the proof that the tree of `new` leaves begins with the tree of `old` leaves.
///
/// `subtree` gives the root over the leaves with these indices, as [`root`] or a [`Frontier`] over their hashes
/// does; it is asked at most [`PROOF_MAX`] times, and no two ranges overlap. From nothing, and to no more than
/// there was, the proof is empty.
///
/// # Errors
/// With the first error of `subtree`.
pub fn consistency_proof<E>(
    old: u64,
    new: u64,
    subtree: impl FnMut(Range<u64>) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    if old == 0 || old >= new {
        return Ok(Vec::new());
    }
    proof_ranges(old, new).into_iter().map(subtree).collect()
}

/// Verifies that the new tree begins with the old one.
///
/// # Errors
/// When it does not, or when the proof does not show it.
pub fn verify_consistency(old: &Head, new: &Head, proof: &[Digest]) -> Result<(), Inconsistent> {
    if old.size > new.size {
        return Err(Inconsistent::Shrinks {
            old: old.size,
            new: new.size,
        });
    }
    if old.size == 0 || old.size == new.size {
        let same = if old.size == new.size {
            new
        } else {
            &Head::empty()
        };
        if !proof.is_empty() {
            return Err(Inconsistent::Length);
        }
        return if old.root == same.root {
            Ok(())
        } else {
            Err(Inconsistent::Old)
        };
    }
    let (from_old, from_new) = fold_proof(old, new, proof)?;
    if from_old != old.root {
        return Err(Inconsistent::Old);
    }
    if from_new != new.root {
        return Err(Inconsistent::New);
    }
    Ok(())
}

/// Why a tree is not shown to continue another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// The proof has too few or too many digests for these sizes.
    #[error("the proof has not as many digests as these sizes need")]
    Length,
    /// The proof does not lead to the new root.
    #[error("the proof does not lead to the new root")]
    New,
    /// The proof does not lead to the old root.
    #[error("the proof does not lead to the old root")]
    Old,
    /// The new tree is the smaller one.
    #[error("the new tree has {new} leaves and the old one {old}")]
    Shrinks {
        /// Leaves of the old tree.
        old: u64,
        /// Leaves of the new tree.
        new: u64,
    },
}

/// The leaves under each digest of a proof, in the proof's order (RFC 6962, section 2.1.2, without recursion).
fn proof_ranges(old: u64, new: u64) -> Vec<Range<u64>> {
    let (mut start, mut end) = (0, new);
    let mut upwards = Vec::new();
    // Ends: each turn halves the range at least, and the edge of the old tree stays inside it.
    while old != end {
        let middle = start + largest_power_below(end - start);
        if old <= middle {
            upwards.push(middle..end);
            end = middle;
        } else {
            upwards.push(start..middle);
            start = middle;
        }
    }
    // The old tree itself needs no digest: who verifies knows its root.
    if start > 0 {
        upwards.push(start..end);
    }
    upwards.reverse();
    upwards
}

/// The largest power of two below this number, which is at least two.
const fn largest_power_below(number: u64) -> u64 {
    1 << (u64::BITS - 1 - (number - 1).leading_zeros())
}

/// Both roots that the proof leads to (RFC 9162, section 2.1.4.2), for 0 < old < new.
fn fold_proof(old: &Head, new: &Head, proof: &[Digest]) -> Result<(Digest, Digest), Inconsistent> {
    let mut rest = proof.iter();
    let first = if old.size.is_power_of_two() {
        old.root
    } else {
        *rest.next().ok_or(Inconsistent::Length)?
    };
    let (mut at_old, mut at_new) = (old.size - 1, new.size - 1);
    let complete = at_old.trailing_ones();
    at_old >>= complete;
    at_new >>= complete;
    let (mut from_old, mut from_new) = (first, first);
    for digest in rest {
        if at_new == 0 {
            return Err(Inconsistent::Length);
        }
        if at_old & 1 == 1 || at_old == at_new {
            from_old = node_hash(digest, &from_old);
            from_new = node_hash(digest, &from_new);
            while at_old & 1 == 0 && at_old != 0 {
                at_old >>= 1;
                at_new >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, digest);
        }
        at_old >>= 1;
        at_new >>= 1;
    }
    if at_new == 0 {
        Ok((from_old, from_new))
    } else {
        Err(Inconsistent::Length)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// The leaves that every implementation of RFC 6962 is tested with, and the roots over the first n of them.
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let at = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(at).collect()
    }

    fn digest(hex: &str) -> Digest {
        Digest::from_bytes(bytes(hex).try_into().unwrap())
    }

    fn known_leaves() -> Vec<Digest> {
        let hash = |hex: &&str| Digest::of_parts(&[&[0], &bytes(hex)]);
        LEAVES.iter().map(hash).collect()
    }

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|i| Digest::of(&i.to_be_bytes())).collect()
    }

    /// The definition, word by word.
    fn naive(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::of(&[]),
            [one] => *one,
            _ => {
                let mut half = 1;
                while half * 2 < leaves.len() {
                    half *= 2;
                }
                node_hash(&naive(&leaves[..half]), &naive(&leaves[half..]))
            }
        }
    }

    /// SUBPROOF of RFC 6962, word by word.
    fn naive_proof(old: usize, leaves: &[Digest], whole: bool) -> Vec<Digest> {
        if old == leaves.len() {
            return if whole { vec![] } else { vec![naive(leaves)] };
        }
        let mut half = 1;
        while half * 2 < leaves.len() {
            half *= 2;
        }
        let (left, right) = leaves.split_at(half);
        if old <= half {
            let mut proof = naive_proof(old, left, whole);
            proof.push(naive(right));
            proof
        } else {
            let mut proof = naive_proof(old - half, right, false);
            proof.push(naive(left));
            proof
        }
    }

    fn proof_of(old: usize, leaves: &[Digest]) -> Vec<Digest> {
        let new = leaves.len() as u64;
        let subtree = |range: Range<u64>| {
            let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
            Ok::<_, Infallible>(root(leaves[start..end].iter().copied()))
        };
        let Ok(proof) = consistency_proof(old as u64, new, subtree);
        proof
    }

    fn head(leaves: &[Digest]) -> Head {
        Head {
            size: leaves.len() as u64,
            root: naive(leaves),
        }
    }

    #[test]
    fn the_well_known_roots() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.head(), Head::empty());
        for (count, leaf) in known_leaves().into_iter().enumerate() {
            assert_eq!(frontier.root(), digest(ROOTS[count]));
            frontier.append(leaf);
        }
        assert_eq!(frontier.root(), digest(ROOTS[8]));
        assert_eq!(frontier.size(), 8);
    }

    #[test]
    fn the_well_known_proofs() {
        let leaves = known_leaves();
        let expected = [
            (1, 1, vec![]),
            (
                1,
                8,
                vec![
                    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
                ],
            ),
            (
                6,
                8,
                vec![
                    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                ],
            ),
            (
                2,
                5,
                vec![
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                ],
            ),
        ];
        for (old, new, proof) in expected {
            let proof: Vec<Digest> = proof.into_iter().map(digest).collect();
            assert_eq!(proof_of(old, &leaves[..new]), proof, "{old} to {new}");
        }
    }

    #[test]
    fn every_pair_up_to_forty() {
        let all = leaves(40);
        for new in 0..=all.len() {
            let new_head = head(&all[..new]);
            assert_eq!(root(all[..new].iter().copied()), new_head.root);
            for old in 0..=new {
                let old_head = head(&all[..old]);
                let proof = proof_of(old, &all[..new]);
                if old > 0 {
                    assert_eq!(proof, naive_proof(old, &all[..new], true), "{old} to {new}");
                }
                assert_eq!(verify_consistency(&old_head, &new_head, &proof), Ok(()));
                if old < new {
                    let back = verify_consistency(&new_head, &old_head, &proof);
                    assert!(matches!(back, Err(Inconsistent::Shrinks { .. })));
                }
            }
        }
    }

    #[test]
    fn a_proof_has_one_length_for_its_sizes() {
        let all = leaves(40);
        for new in 1..=all.len() {
            for old in 0..=new {
                let (old_head, new_head) = (head(&all[..old]), head(&all[..new]));
                let proof = proof_of(old, &all[..new]);
                let mut longer = proof.clone();
                longer.push(all[0]);
                assert!(verify_consistency(&old_head, &new_head, &longer).is_err());
                if let Some((_, shorter)) = proof.split_last() {
                    assert!(verify_consistency(&old_head, &new_head, shorter).is_err());
                }
            }
        }
    }

    #[test]
    fn the_deepest_tree_needs_no_more_than_the_bound() {
        let asked = |old: u64, new: u64| {
            let subtree = |_| Ok::<_, Infallible>(Digest::of(&[]));
            consistency_proof(old, new, subtree).unwrap().len()
        };
        let most = i64::MAX.cast_unsigned();
        assert_eq!(asked(most - 1, most), PROOF_MAX);
        assert_eq!(asked(1, most), PROOF_MAX);
        assert!(asked(crate::origin::INDEX_MAX / 3, crate::origin::INDEX_MAX) <= PROOF_MAX);
    }

    #[test]
    fn a_failing_reader_fails_the_proof() {
        assert_eq!(consistency_proof(3, 7, |range| Err(range.end)), Err(3));
    }

    proptest! {
        #[test]
        fn proofs_hold_for_their_trees_only(
            new in 2_usize..200,
            old in any::<prop::sample::Index>(),
            which in any::<prop::sample::Index>(),
            byte in 0_usize..32,
            bit in 0_u32..8,
        ) {
            let all = leaves(new as u64);
            let old = 1 + old.index(new - 1);
            let (old_head, new_head) = (head(&all[..old]), head(&all));
            let proof = proof_of(old, &all);
            prop_assert_eq!(verify_consistency(&old_head, &new_head, &proof), Ok(()));

            let flip = |digest: &Digest| {
                let mut bytes = *digest.as_bytes();
                bytes[byte] ^= 1 << bit;
                Digest::from_bytes(bytes)
            };
            let mut mutated = proof.clone();
            let at = which.index(mutated.len());
            mutated[at] = flip(&mutated[at]);
            prop_assert!(verify_consistency(&old_head, &new_head, &mutated).is_err());
            let other_old = Head { root: flip(&old_head.root), ..old_head };
            prop_assert!(verify_consistency(&other_old, &new_head, &proof).is_err());
            let other_new = Head { root: flip(&new_head.root), ..new_head };
            prop_assert!(verify_consistency(&old_head, &other_new, &proof).is_err());

            // A history that was changed before the old head has no proof, whoever makes it.
            let mut rewritten = all.clone();
            rewritten[which.index(old)] = Digest::of(b"rewritten");
            let proof = proof_of(old, &rewritten);
            prop_assert!(verify_consistency(&old_head, &head(&rewritten), &proof).is_err());
        }

        #[test]
        fn no_proof_makes_it_panic(
            old in any::<u64>(),
            new in any::<u64>(),
            proof in prop::collection::vec(any::<[u8; 32]>(), 0..70),
        ) {
            let root = Digest::of(b"any");
            let proof: Vec<Digest> = proof.into_iter().map(Digest::from_bytes).collect();
            let (old, new) = (Head { size: old, root }, Head { size: new, root });
            prop_assert!(old.size == new.size || verify_consistency(&old, &new, &proof).is_err());
        }
    }
}
