//! How many requests an API key may make: a token bucket for each key, filled as the given time goes by.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Requests that a key may make at once: a fleet of two thousand agents behind one key that all wake at the
/// full hour.
const BURST: i64 = 2_000;
/// Requests a second after that: six hundred times what one agent needs.
const PER_SECOND: i64 = 20;
/// Keys that are remembered. A key that is forgotten starts with a full bucket.
const KEYS_MAX: usize = 10_000;

/// The buckets of all keys.
#[derive(Debug, Default)]
pub(crate) struct Buckets(Mutex<BTreeMap<String, Bucket>>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a request, so that a millisecond adds a whole number.
    milli_left: i64,
    filled_at: Timestamp,
}

impl Buckets {
    /// Takes one request from the key's bucket, or says how many seconds to wait for it.
    pub(crate) fn take(&self, key: &str, now: Timestamp) -> Result<(), u32> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEYS_MAX && !buckets.contains_key(key) {
            buckets.retain(|_, bucket| bucket.milli_at(now) < BURST * 1000);
            if buckets.len() >= KEYS_MAX {
                buckets.pop_first();
            }
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket {
            milli_left: BURST * 1000,
            filled_at: now,
        });
        bucket.milli_left = bucket.milli_at(now);
        bucket.filled_at = now;
        if bucket.milli_left >= 1000 {
            bucket.milli_left -= 1000;
            return Ok(());
        }
        let missing = 1000 - bucket.milli_left;
        let seconds = missing.div_euclid(PER_SECOND * 1000) + 1;
        Err(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}

impl Bucket {
    fn milli_at(self, now: Timestamp) -> i64 {
        let passed = now.duration_since(self.filled_at).max(SignedDuration::ZERO);
        let milli = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        (self.milli_left)
            .saturating_add(milli.saturating_mul(PER_SECOND))
            .min(BURST * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_fine_and_then_time_must_pass() {
        let buckets = Buckets::default();
        let start: Timestamp = "2026-01-16T15:45:00Z".parse().unwrap();
        for _ in 0..BURST {
            assert_eq!(buckets.take("a", start), Ok(()));
        }
        assert_eq!(buckets.take("a", start), Err(1));
        assert_eq!(buckets.take("b", start), Ok(()));
        let later = start + SignedDuration::from_secs(1);
        for _ in 0..PER_SECOND {
            assert_eq!(buckets.take("a", later), Ok(()));
        }
        assert_eq!(buckets.take("a", later), Err(1));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let buckets = Buckets::default();
        let start: Timestamp = "2026-01-16T15:45:00Z".parse().unwrap();
        for _ in 0..BURST {
            assert_eq!(buckets.take("a", start), Ok(()));
        }
        assert!(
            buckets
                .take("a", start - SignedDuration::from_hours(1))
                .is_err()
        );
    }
}
