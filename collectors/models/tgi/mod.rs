//! Text Generation Inference of Hugging Face.

pub(crate) mod metrics;
