//! How far a walk is.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::storage::history::grouped;

/// What the threads of a walk have seen by now.
#[derive(Debug, Default)]
pub(in super::super) struct Progress {
    objects: AtomicU64,
    entries: AtomicU64,
}

impl Progress {
    /// Counts a directory entry.
    pub(super) fn see(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts objects.
    pub(super) fn count(&self, objects: u64) {
        self.objects.fetch_add(objects, Ordering::Relaxed);
    }

    /// Directory entries seen, which grows as long as the walk does not hang.
    pub(in super::super) fn seen(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "scanned {} objects",
            grouped(self.objects.load(Ordering::Relaxed))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_readable() {
        let progress = Progress::default();
        assert_eq!(progress.to_string(), "scanned 0 objects");
        progress.count(1_234_567);
        assert_eq!(progress.to_string(), "scanned 1,234,567 objects");
    }
}
