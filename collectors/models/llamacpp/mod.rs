//! The server of llama.cpp.

pub(crate) mod metrics;
