//! SGLang.

pub(crate) mod log;
pub(crate) mod metrics;
mod record;

pub(crate) use log::reader;

/// What ids of requests begin with that `/health` makes of its own.
const HEALTH_CHECK: &str = "HEALTH_CHECK";

/// Whether a request is what `/health` asks of the model itself, to see whether it answers: one token in, one out, and
/// in no counter of the server. A caller may choose such an id, and hides no more than that with it.
pub(crate) fn is_health_check(id: &str, input: Option<u64>, output: Option<u64>) -> bool {
    id.starts_with(HEALTH_CHECK) && input.unwrap_or(0) <= 1 && output.unwrap_or(0) <= 1
}
