//! Sums of equal spans of time ("buckets") and their running total, exact to the last unit.
//!
//! Adding and dropping are the same integers, so that a total of many years has no drift.

use std::collections::BTreeMap;

/// One column each for `N` amounts; buckets of no amounts are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ring<const N: usize> {
    buckets: BTreeMap<i64, [u64; N]>,
    total: [u128; N],
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self {
            buckets: BTreeMap::new(),
            total: [0; N],
        }
    }
}

impl<const N: usize> Ring<N> {
    /// Adds to one column of one bucket; the bucket stops at the largest value that it can hold.
    pub(super) fn add(&mut self, bucket: i64, column: usize, amount: u64) {
        if amount == 0 || column >= N {
            return;
        }
        let row = self.buckets.entry(bucket).or_insert([0; N]);
        let before = row[column];
        row[column] = before.saturating_add(amount);
        self.total[column] += u128::from(row[column] - before);
    }

    /// Puts a whole bucket in place of what was there.
    pub(super) fn set(&mut self, bucket: i64, row: [u64; N]) {
        self.remove(bucket);
        if row.iter().any(|amount| *amount > 0) {
            self.buckets.insert(bucket, row);
            for (sum, amount) in self.total.iter_mut().zip(row) {
                *sum += u128::from(amount);
            }
        }
    }

    /// The amounts of one bucket.
    pub(super) fn row(&self, bucket: i64) -> Option<&[u64; N]> {
        self.buckets.get(&bucket)
    }

    /// All buckets of a span, oldest first.
    pub(super) fn rows(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, &[u64; N])> {
        (from < to)
            .then(|| self.buckets.range(from..to))
            .into_iter()
            .flatten()
            .map(|(bucket, row)| (*bucket, row))
    }

    /// Drops what is outside of `[from, to)`. Each bucket is dropped once, however far time has moved.
    pub(super) fn keep(&mut self, from: i64, to: i64) {
        while let Some(oldest) = self.buckets.keys().next().copied().filter(|b| *b < from) {
            self.remove(oldest);
        }
        while let Some(newest) = self
            .buckets
            .keys()
            .next_back()
            .copied()
            .filter(|b| *b >= to)
        {
            self.remove(newest);
        }
    }

    /// The sums of `[from, to)`: the running total less the few buckets outside.
    pub(super) fn sum(&self, from: i64, to: i64) -> [u128; N] {
        let mut sum = self.total;
        if from >= to {
            return [0; N];
        }
        let outside = self.buckets.range(..from).chain(self.buckets.range(to..));
        for (_, row) in outside {
            for (sum, amount) in sum.iter_mut().zip(row) {
                *sum -= u128::from(*amount);
            }
        }
        sum
    }

    /// Whether no bucket holds anything.
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn remove(&mut self, bucket: i64) {
        if let Some(row) = self.buckets.remove(&bucket) {
            for (sum, amount) in self.total.iter_mut().zip(row) {
                *sum -= u128::from(amount);
            }
        }
    }
}

/// Splits an amount over the buckets of its span, in proportion to time and conserving it exactly.
///
/// What falls before bucket `floor` is left out. An empty or negative span has no parts.
pub(super) fn spread(
    amount: u64,
    (start_ms, end_ms): (i64, i64),
    bucket_ms: i64,
    floor: i64,
    mut put: impl FnMut(i64, u64),
) {
    if end_ms <= start_ms || bucket_ms <= 0 {
        return;
    }
    let since = |at: i64| {
        (i128::from(at) - i128::from(start_ms))
            .max(0)
            .unsigned_abs()
    };
    let span = since(end_ms);
    // Parts are differences of one rising function, so that they add up to its last value.
    let until = |at: i64| {
        let share = u128::from(amount) * since(at.min(end_ms)) / span;
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    let first = start_ms.div_euclid(bucket_ms).max(floor);
    let last = (end_ms - 1).div_euclid(bucket_ms);
    let mut done = until(first.saturating_mul(bucket_ms));
    for bucket in first..=last {
        let reached = until((bucket + 1).saturating_mul(bucket_ms));
        put(bucket, reached - done);
        done = reached;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole(amount: u64, start in -1_000_000_i64..1_000_000, length in 1_i64..5_000_000, bucket in 1_000_i64..900_000) {
            let mut sum = 0_u128;
            spread(amount, (start, start + length), bucket, i64::MIN, |_, part| sum += u128::from(part));
            prop_assert_eq!(sum, u128::from(amount));
        }

        #[test]
        fn adding_and_dropping_leaves_no_drift(amounts in prop::collection::vec((0_i64..200, 0_usize..2, any::<u64>()), 0..200), cut in 0_i64..200) {
            let mut ring = Ring::<2>::default();
            for (bucket, column, amount) in &amounts {
                ring.add(*bucket, *column, *amount);
            }
            let seen = ring.sum(cut, 200);
            ring.keep(cut, 200);
            prop_assert_eq!(ring.total, seen);
            let mut again = [0_u128; 2];
            for (_, row) in ring.rows(i64::MIN, i64::MAX) {
                again[0] += u128::from(row[0]);
                again[1] += u128::from(row[1]);
            }
            prop_assert_eq!(again, seen);
        }
    }
}
