//! Where work is done that may block: the store's and the collectors'.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where work is done that may block.
#[derive(Clone, Debug, Default)]
pub enum Blocking {
    /// On threads made for it, so that a slow disk or sensor holds up nothing else.
    #[default]
    OnThreads,
    /// On the task that asks, with a point before and after it at which others go on. A simulation in virtual
    /// time needs it: threads would do things in another order each time.
    OnCaller(Disk),
}

/// How the disk of a simulation is. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<AtomicBool>);

impl Disk {
    /// From now on files cannot grow, or can again.
    pub fn fill(&self, is_full: bool) {
        self.0.store(is_full, Ordering::SeqCst);
    }

    /// Whether files cannot grow.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
