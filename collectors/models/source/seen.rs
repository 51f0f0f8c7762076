//! Requests that were told before, so that one that is seen twice counts once.

use std::collections::{HashSet, VecDeque};

/// How many of the newest requests are remembered. Two sources tell the same request within minutes; at 100 requests
/// a second these are three quarters of an hour and 8 MiB.
const SEEN_MAX: usize = 262_144;

/// How many are remembered over a restart: what a sender tells again when its last pushes were not acknowledged.
const KEPT_MAX: usize = 1_024;

/// The newest requests, by a hash of their ids.
#[derive(Debug, Default)]
pub(super) struct Seen {
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

impl Seen {
    /// Whether a request is new; it is known from now on.
    pub(super) fn is_new(&mut self, request: u64) -> bool {
        if self.known.contains(&request) {
            return false;
        }
        // Room is made first: one more than the most would double what both hold.
        if self.order.len() >= SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(request);
        self.order.push_back(request);
        true
    }

    /// The newest ones, oldest first.
    pub(super) fn newest(&self) -> Vec<u64> {
        let skipped = self.order.len().saturating_sub(KEPT_MAX);
        self.order.iter().skip(skipped).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_the_newest_survive() {
        let mut seen = Seen::default();
        assert!(seen.is_new(7));
        assert!(!seen.is_new(7));
        for request in 1_000..1_000 + SEEN_MAX as u64 {
            assert!(seen.is_new(request));
        }
        assert_eq!(seen.order.len(), SEEN_MAX);
        assert_eq!(seen.known.len(), SEEN_MAX);
        assert!(seen.is_new(7), "it was the oldest");
        let kept = seen.newest();
        assert_eq!((kept.len(), kept.last()), (KEPT_MAX, Some(&7)));
    }
}
