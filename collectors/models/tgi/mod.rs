//! Text Generation Inference of Hugging Face.

pub(crate) mod log;
pub(crate) mod metrics;

pub(crate) use log::reader;
