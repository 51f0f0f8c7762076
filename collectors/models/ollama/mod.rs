//! Ollama.

pub(crate) mod log;

pub(crate) use log::reader;
