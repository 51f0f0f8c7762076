//! SGLang.

pub(crate) mod metrics;
