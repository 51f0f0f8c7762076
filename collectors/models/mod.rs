//! AI inference: what was asked of which model, without ever reading a prompt.
//!
//! Owns: one folder for each kind of server, and what they share. Promises: of a request only metadata is kept, in
//! types that cannot hold a sentence; what a server does not say is missing, never invented; a request that is
//! seen twice counts once. Refuses: bodies, prompts, completions, and any text that is not on a reader's list.

pub(crate) mod anthropic;
pub(crate) mod convention;
pub(crate) mod counters;
pub(crate) mod exposure;
pub(crate) mod facts;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod feed;
pub(crate) mod few;
pub mod fuzzed;
pub(crate) mod gpus;
pub(crate) mod json;
pub(crate) mod jsonl;
pub(crate) mod litellm;
pub(crate) mod llamacpp;
pub(crate) mod logs;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod otlp;
pub(crate) mod paths;
pub mod probe;
pub(crate) mod receive;
pub(crate) mod request;
pub(crate) mod scan;
pub(crate) mod sglang;
pub mod source;
pub(crate) mod tail;
pub(crate) mod tgi;
pub(crate) mod timing;
pub(crate) mod triton;
pub(crate) mod usage;
pub(crate) mod vllm;
pub(crate) mod words;
pub(crate) mod zone;
