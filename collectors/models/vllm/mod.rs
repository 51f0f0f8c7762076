//! vLLM.

pub(crate) mod metrics;
