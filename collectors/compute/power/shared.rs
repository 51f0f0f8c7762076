//! One source that is a part of several rungs, read once for each tick.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cms_spec::provenance::Origin;

use super::{Rung, Span, Verdict};

/// A part as one rung holds it.
pub(super) struct Part {
    name: &'static str,
    is_part: bool,
    /// How often this rung has read it.
    reads: u64,
    source: Arc<Mutex<Source>>,
}

struct Source {
    rung: Box<dyn Rung>,
    reads: u64,
    verdict: Verdict,
}

impl Part {
    /// The part for its first rung; the others clone it before they read.
    pub(super) fn new(name: &'static str, rung: Box<dyn Rung>) -> Self {
        Self {
            name,
            is_part: rung.is_part(),
            reads: 0,
            source: Arc::new(Mutex::new(Source {
                rung,
                reads: 0,
                verdict: Verdict::Baseline,
            })),
        }
    }

    /// The same part for another rung.
    pub(super) fn share(&self) -> Self {
        Self {
            name: self.name,
            is_part: self.is_part,
            reads: self.reads,
            source: Arc::clone(&self.source),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rung for Part {
    fn name(&self) -> &str {
        self.name
    }

    fn read(&mut self, span: Option<&Span>) -> Verdict {
        self.reads += 1;
        let mut source = self.lock();
        // The rung of the ladder that comes first reads; the others hear the same.
        if source.reads < self.reads {
            source.reads = self.reads;
            source.verdict = source.rung.read(span);
        }
        source.verdict.clone()
    }

    fn is_part(&self) -> bool {
        self.is_part
    }

    fn is_waiting(&self) -> bool {
        self.lock().rung.is_waiting()
    }

    fn origin(&self) -> Origin {
        self.lock().rung.origin()
    }
}
