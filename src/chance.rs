//! Chance: what spreads the pauses of many agents, so that they do not come back all at once.
//!
//! Keys, nonces and ids are never made from it: those take their bytes from the system.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Gives random numbers. Cheap to clone.
#[derive(Clone)]
pub struct Chance(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Chance {
    /// The system's. Where it has none to give, pauses are merely not spread.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let mut bytes = [0; 8];
            let filled = SystemRandom::new().fill(&mut bytes);
            filled.map_or(0, |()| u64::from_le_bytes(bytes))
        }))
    }

    /// One that repeats itself, made by a test.
    #[must_use]
    pub fn of(next: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        Self(next)
    }

    /// The next number.
    #[must_use]
    pub fn next(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chance").finish_non_exhaustive()
    }
}
