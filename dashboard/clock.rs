//! The only place of the dashboard that reads the clock. Everything else is told what time it is.

use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time; tests give their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's own clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the module that reads the clock"
)]
pub fn system() -> Clock {
    Arc::new(Timestamp::now)
}
