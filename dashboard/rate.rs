//! How many requests an API key or an agent may make: a token bucket for each, filled as the given time goes by.

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
#[derive(Debug)]
pub(crate) struct Buckets {
    burst_milli: i64,
    /// Requests a second are thousandths of a request a millisecond.
    per_second: i64,
    filled: Mutex<BTreeMap<String, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a request, so that a millisecond adds a whole number.
    milli_left: i64,
    filled_at: Timestamp,
}

/// Those of API keys.
impl Default for Buckets {
    fn default() -> Self {
        Self::new(BURST, PER_SECOND)
    }
}

impl Buckets {
    /// Buckets of this size, filled at this pace.
    pub(crate) const fn new(burst: i64, per_second: i64) -> Self {
        Self {
            burst_milli: burst * 1000,
            per_second,
            filled: Mutex::new(BTreeMap::new()),
        }
    }

    /// Takes one request from the key's bucket, or says how many seconds to wait for it.
    pub(crate) fn take(&self, key: &str, now: Timestamp) -> Result<(), u32> {
        let mut buckets = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEYS_MAX && !buckets.contains_key(key) {
            buckets.retain(|_, bucket| self.milli_at(bucket, now) < self.burst_milli);
            if buckets.len() >= KEYS_MAX {
                buckets.pop_first();
            }
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket {
            milli_left: self.burst_milli,
            filled_at: now,
        });
        bucket.milli_left = self.milli_at(bucket, now);
        bucket.filled_at = now;
        if bucket.milli_left >= 1000 {
            bucket.milli_left -= 1000;
            return Ok(());
        }
        let missing = 1000 - bucket.milli_left;
        let seconds = missing.div_euclid(self.per_second * 1000) + 1;
        Err(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    fn milli_at(&self, bucket: &Bucket, now: Timestamp) -> i64 {
        let passed = now.duration_since(bucket.filled_at);
        let milli = i64::try_from(passed.max(SignedDuration::ZERO).as_millis()).unwrap_or(i64::MAX);
        (bucket.milli_left)
            .saturating_add(milli.saturating_mul(self.per_second))
            .min(self.burst_milli)
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
