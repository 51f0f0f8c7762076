//! Whose countersignatures count, as an auditor writes it down (C2SP tlog-policy).
//!
//! ```text
//! # a line each; '#' begins a comment
//! log <vkey of a ledger> [<address>]
//! witness <name> <vkey of a cosigner> [<address>]
//! group <name> <number, any or all> <name of a witness or an earlier group> …
//! quorum <name of a witness or a group, or none>
//! ```
//! Promises: exactly one quorum, names that are known before they are used, at most [`POLICY_BYTES_MAX`]. Refuses:
//! keys of kinds that this version cannot verify, so that nothing that is named is silently left out.

use std::str::FromStr;

use crate::checkpoint::CosignerKey;
use crate::note::{Algorithm, NoteKey};

/// Longest policy: hundreds of witnesses.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;

/// What stands for a quorum that asks for nobody.
const NONE: &str = "none";

/// Whose countersignatures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<NoteKey>,
    /// By the names that the policy gives them.
    members: Vec<(String, Member)>,
    quorum: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    Group {
        threshold: usize,
        /// Places in the list of members, all before this one.
        members: Vec<usize>,
    },
    Witness(CosignerKey),
}

impl Policy {
    /// The keys of ledgers that it names; none where any will do.
    #[must_use]
    pub fn logs(&self) -> &[NoteKey] {
        &self.logs
    }

    /// The cosigners that it names.
    pub fn cosigners(&self) -> impl Iterator<Item = &CosignerKey> {
        self.members.iter().filter_map(|(_, member)| match member {
            Member::Witness(key) => Some(key),
            Member::Group { .. } => None,
        })
    }

    /// How many leaves a quorum has signed, when each cosigner has signed the first `size_of` of them and the log
    /// itself the first `head`.
    pub fn quorum_size(&self, head: u64, size_of: impl Fn(&CosignerKey) -> u64) -> u64 {
        let Some(quorum) = self.quorum else {
            return head;
        };
        let mut sizes: Vec<u64> = Vec::with_capacity(self.members.len());
        for (_, member) in &self.members {
            sizes.push(match member {
                Member::Witness(key) => size_of(key),
                Member::Group { threshold, members } => {
                    let mut of: Vec<u64> = members
                        .iter()
                        .filter_map(|at| sizes.get(*at))
                        .copied()
                        .collect();
                    of.sort_unstable_by(|a, b| b.cmp(a));
                    // As many as the threshold have signed at least so far.
                    of.get(threshold.saturating_sub(1)).copied().unwrap_or(0)
                }
            });
        }
        sizes.get(quorum).copied().unwrap_or(0)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|(known, _)| known == name)
    }

    fn take(&mut self, words: &[&str]) -> Result<(), &'static str> {
        match words {
            ["log", vkey] | ["log", vkey, _] => {
                let key: NoteKey = vkey.parse().map_err(|_| "this is no key of a log")?;
                if key.algorithm() != Algorithm::Ed25519 {
                    return Err("this is the key of a cosigner, not of a log");
                }
                self.logs.push(key);
            }
            ["witness", name, vkey] | ["witness", name, vkey, _] => {
                let key = vkey
                    .parse()
                    .map_err(|_| "this is no key of a cosigner: cosignature/v1 with Ed25519")?;
                if self.cosigners().any(|known| *known == key) {
                    return Err("this key has another name already");
                }
                self.add(name, Member::Witness(key))?;
            }
            ["group", name, threshold, members @ ..] => {
                let places: Option<Vec<usize>> =
                    members.iter().map(|member| self.place(member)).collect();
                let members = places.ok_or("a member of the group is not named above")?;
                let threshold = match *threshold {
                    "any" => 1,
                    "all" => members.len(),
                    number => number.parse().map_err(|_| "write a number, any or all")?,
                };
                let distinct = members
                    .iter()
                    .enumerate()
                    .all(|(n, at)| !members[..n].contains(at));
                if !distinct || !(1..=members.len()).contains(&threshold) {
                    return Err(
                        "a group asks for at least one and at most all of its members, each named once",
                    );
                }
                self.add(name, Member::Group { threshold, members })?;
            }
            _ => return Err("write log, witness, group or quorum, and what belongs to it"),
        }
        Ok(())
    }

    fn add(&mut self, name: &str, member: Member) -> Result<(), &'static str> {
        if name == NONE || self.place(name).is_some() {
            return Err("the name is taken");
        }
        self.members.push((name.to_owned(), member));
        Ok(())
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::Long);
        }
        let mut policy = Self {
            logs: Vec::new(),
            members: Vec::new(),
            quorum: None,
        };
        let mut quorum_is_said = false;
        for (n, line) in text.lines().enumerate() {
            let wrong = |why| PolicyError::Line { line: n + 1, why };
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["quorum", _] if quorum_is_said => return Err(wrong("there is a quorum already")),
                ["quorum", name] => {
                    quorum_is_said = true;
                    if *name != NONE {
                        let place = policy.place(name);
                        policy.quorum = Some(place.ok_or_else(|| wrong("it is not named above"))?);
                    }
                }
                words => policy.take(words).map_err(wrong)?,
            }
        }
        quorum_is_said.then_some(policy).ok_or(PolicyError::Quorum)
    }
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A line is wrong.
    #[error("line {line} of the policy: {why}")]
    Line {
        /// Which.
        line: usize,
        /// What is wrong, and what to write.
        why: &'static str,
    },
    /// It is too long.
    #[error("the policy has more than {POLICY_BYTES_MAX} bytes: this is another file")]
    Long,
    /// It does not say who is enough.
    #[error("the policy has no quorum: write quorum and the name of a witness or a group")]
    Quorum,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Cosigner;
    use crate::keys::SigningKey;

    fn cosigner(seed: u8) -> CosignerKey {
        let key = SigningKey::from_seed(&[seed; 32]).unwrap();
        Cosigner::new(format!("w{seed}.example").parse().unwrap(), key).published()
    }

    fn log() -> NoteKey {
        let key = SigningKey::from_seed(&[99; 32]).unwrap();
        NoteKey::new("log".parse().unwrap(), Algorithm::Ed25519, *key.verifying())
    }

    fn policy(rules: &str) -> Result<Policy, PolicyError> {
        let witnesses: String = (1..=4)
            .map(|seed| {
                format!(
                    "witness w{seed} {} https://w{seed}.example/\n",
                    cosigner(seed)
                )
            })
            .collect();
        format!("# who counts\nlog {}\n{witnesses}\n{rules}", log()).parse()
    }

    #[test]
    fn a_quorum_covers_what_enough_have_signed() {
        let sizes = |key: &CosignerKey| match key {
            key if *key == cosigner(1) => 40,
            key if *key == cosigner(2) => 30,
            key if *key == cosigner(3) => 20,
            _ => 0,
        };
        for (rules, size) in [
            ("quorum none", 50),
            ("quorum w2", 30),
            ("quorum w4", 0),
            ("group g any w1 w2\nquorum g", 40),
            ("group g all w1 w2 w3\nquorum g", 20),
            ("group g 2 w1 w2 w3 w4\nquorum g", 30),
            ("group a any w3 w4\ngroup b all w1 a\n  quorum\tb  \n", 20),
        ] {
            let policy = policy(rules).unwrap();
            assert_eq!(policy.quorum_size(50, sizes), size, "{rules}");
            assert_eq!(policy.cosigners().count(), 4);
            assert_eq!(policy.logs(), [log()]);
        }
    }

    #[test]
    fn what_is_no_policy() {
        let again = format!("witness other {}\nquorum none", cosigner(1));
        let of_a_log = format!("witness l {}\nquorum none", log());
        let of_a_cosigner = format!("log {}\nquorum none", cosigner(1));
        for rules in [
            "",
            "quorum",
            "quorum w9",
            "quorum w1\nquorum w1",
            "group g 3 w1 w2\nquorum g",
            "group g 0 w1\nquorum g",
            "group g all\nquorum g",
            "group g any w1 g\nquorum g",
            "group g 2 w1 w1\nquorum g",
            "group w1 any w2\nquorum w1",
            "group none any w2\nquorum none",
            "witness x y+z\nquorum none",
            "wittness\nquorum none",
            &again,
            &of_a_log,
            &of_a_cosigner,
        ] {
            assert!(policy(rules).is_err(), "{rules}");
        }
        let long = "#".repeat(POLICY_BYTES_MAX + 1);
        assert_eq!(long.parse::<Policy>(), Err(PolicyError::Long));
    }
}
