//! Triton.

pub(crate) mod metrics;
