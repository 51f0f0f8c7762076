//! The most frequent of many names, counted in bounded memory.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Requests and the output tokens that are known of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Amount {
    pub(crate) requests: u64,
    pub(crate) output_tokens: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.output_tokens = self.output_tokens.saturating_add(more.output_tokens);
    }
}

/// Amounts by name. Where there is no room for another name, the one with the fewest requests gives way and is counted
/// among the others, so that the sum stays whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Written<K>", into = "Written<K>")]
#[serde(bound(
    serialize = "K: Clone + Serialize",
    deserialize = "K: Ord + Deserialize<'de>"
))]
pub(crate) struct Frequent<K> {
    pub(crate) kept: BTreeMap<K, Amount>,
    pub(crate) others: Amount,
}

/// JSON has no names that are more than text.
#[derive(Serialize, Deserialize)]
struct Written<K> {
    kept: Vec<(K, Amount)>,
    others: Amount,
}

impl<K> Default for Frequent<K> {
    fn default() -> Self {
        Self {
            kept: BTreeMap::new(),
            others: Amount::default(),
        }
    }
}

impl<K: Ord> From<Written<K>> for Frequent<K> {
    fn from(written: Written<K>) -> Self {
        Self {
            kept: written.kept.into_iter().collect(),
            others: written.others,
        }
    }
}

impl<K> From<Frequent<K>> for Written<K> {
    fn from(frequent: Frequent<K>) -> Self {
        Self {
            kept: frequent.kept.into_iter().collect(),
            others: frequent.others,
        }
    }
}

impl<K: Clone + Ord> Frequent<K> {
    pub(crate) fn add(&mut self, name: K, amount: Amount, names_max: usize) {
        if let Some(known) = self.kept.get_mut(&name) {
            *known += amount;
            return;
        }
        // What comes anew has its chance, until the next one comes.
        self.shorten(names_max.saturating_sub(1));
        self.kept.insert(name, amount);
    }

    pub(crate) fn join(&mut self, more: &Self, names_max: usize) {
        self.others += more.others;
        for (name, amount) in &more.kept {
            self.add(name.clone(), *amount, names_max);
        }
    }

    /// Keeps so many names at most.
    pub(crate) fn shorten(&mut self, names_max: usize) {
        while self.kept.len() > names_max {
            let fewest = self.kept.iter().min_by_key(|(_, amount)| **amount);
            let Some(fewest) = fewest.map(|(name, _)| name.clone()) else {
                return;
            };
            if let Some(amount) = self.kept.remove(&fewest) {
                self.others += amount;
            }
        }
    }

    /// All of it.
    pub(crate) fn total(&self) -> Amount {
        let mut total = self.others;
        for amount in self.kept.values() {
            total += *amount;
        }
        total
    }

    /// The names, the most frequent first.
    pub(crate) fn ranked(&self) -> Vec<(&K, Amount)> {
        let mut ranked: Vec<(&K, Amount)> = self.kept.iter().map(|(name, n)| (name, *n)).collect();
        ranked.sort_by_key(|(_, amount)| std::cmp::Reverse(*amount));
        ranked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_lost_and_a_name_with_most_requests_stays(names in prop::collection::vec(0_u16..400, 1..2_000)) {
            let mut frequent = Frequent::default();
            let one = Amount { requests: 1, output_tokens: 7 };
            for name in &names {
                frequent.add(*name, one, 8);
                frequent.add(1_000, one, 8);
            }
            let requests = 2 * names.len() as u64;
            prop_assert_eq!(frequent.total(), Amount { requests, output_tokens: 7 * requests });
            prop_assert!(frequent.kept.len() <= 8);
            let ranked = frequent.ranked();
            prop_assert_eq!(*ranked[0].0, 1_000);
            prop_assert!(ranked[0].1.requests >= names.len() as u64 - 1);
        }
    }
}
