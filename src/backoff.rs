//! Pauses between attempts: decorrelated jitter, so that a fleet does not come back all at once.
//!
//! Pure: the randomness is an argument. The pause grows to a ceiling and stays there; attempts never end.

use std::time::Duration;

/// The pauses of one thing that is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    ceiling: Duration,
    last: Option<Duration>,
}

impl Backoff {
    /// Starts with `first` and never exceeds `ceiling`.
    #[must_use]
    pub const fn new(first: Duration, ceiling: Duration) -> Self {
        Self {
            first,
            ceiling,
            last: None,
        }
    }

    /// The next pause: between the first and three times the last one, as `random` says.
    pub fn next(&mut self, random: u64) -> Duration {
        let first = as_ms(self.first);
        let last = self.last.map_or(first, as_ms);
        let spread = last.saturating_mul(3).saturating_sub(first).max(1);
        let pause = Duration::from_millis(first.saturating_add(random % spread)).min(self.ceiling);
        self.last = Some(pause);
        pause
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

fn as_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pause_is_never_shorter_than_the_first_nor_longer_than_the_ceiling(randoms: Vec<u64>) {
            let (first, ceiling) = (Duration::from_millis(500), Duration::from_secs(900));
            let mut backoff = Backoff::new(first, ceiling);
            for random in randoms {
                let pause = backoff.next(random);
                prop_assert!(first <= pause && pause <= ceiling);
            }
        }
    }

    #[test]
    fn the_pause_grows_to_the_ceiling_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let longest = (0..20).map(|_| backoff.next(u64::MAX / 2)).max();
        assert!(longest > Some(Duration::from_secs(1)));
        for _ in 0..50 {
            backoff.next(2_999_999_999);
        }
        backoff.reset();
        assert!(backoff.next(u64::MAX) <= Duration::from_secs(3));
    }
}
