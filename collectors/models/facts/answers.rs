//! What servers answer about their models: the keys that are read, and none besides.
//!
//! Promises: a bounded number of models; no other text of an answer is kept, and none is in an error. A model's file of
//! Ollama holds its template and system prompt: only the digest of its weights is taken out of it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::models::few::Few;

/// Most models of one server; an Ollama that collects them has a hundred.
pub(super) const MODELS_MAX: usize = 256;

/// Hexadecimal digits of a digest of SHA-256.
const DIGEST_DIGITS: usize = 64;

/// `/v1/models` of vLLM, SGLang and llama.cpp.
#[derive(Debug, Deserialize)]
pub(super) struct Models {
    pub(super) data: Few<Listed, MODELS_MAX>,
}

/// One model of it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) id: String,
    /// The name or path that it was loaded from.
    #[serde(default)]
    pub(super) root: Option<String>,
    /// The model that an adapter is for.
    #[serde(default)]
    pub(super) parent: Option<String>,
    #[serde(default)]
    pub(super) meta: Option<Meta>,
}

/// What llama.cpp knows of the file.
#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    #[serde(default)]
    pub(super) n_params: Option<u64>,
}

/// `/info` of TGI.
#[derive(Debug, Deserialize)]
pub(super) struct TgiInfo {
    pub(super) model_id: String,
}

/// `/model_info` of SGLang.
#[derive(Debug, Deserialize)]
pub(super) struct SglangInfo {
    pub(super) model_path: String,
}

/// `/api/tags` and `/api/ps` of Ollama.
#[derive(Debug, Deserialize)]
pub(super) struct Tags {
    #[serde(default)]
    pub(super) models: Option<Few<Tagged, MODELS_MAX>>,
}

/// One model of it.
#[derive(Debug, Deserialize)]
pub(super) struct Tagged {
    pub(super) name: String,
    /// Of its manifest, so that a model that was pulled anew has another.
    #[serde(default)]
    pub(super) digest: Option<String>,
    #[serde(default)]
    pub(super) details: Option<Details>,
}

/// What Ollama says of its size, rounded.
#[derive(Debug, Deserialize)]
pub(super) struct Details {
    #[serde(default)]
    pub(super) parameter_size: Option<String>,
}

/// `/api/show` of Ollama.
#[derive(Debug, Deserialize)]
pub(super) struct Show {
    #[serde(default)]
    pub(super) modelfile: Option<Weights>,
    #[serde(default)]
    pub(super) model_info: Option<ModelInfo>,
}

/// The one key of it that is read.
#[derive(Debug, Deserialize)]
pub(super) struct ModelInfo {
    #[serde(default, rename = "general.parameter_count")]
    pub(super) parameters: Option<u64>,
}

/// The digest of the weights in a model's file.
#[derive(Debug)]
pub(super) struct Weights(pub(super) Option<String>);

impl<'de> Deserialize<'de> for Weights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct File;
        impl Visitor<'_> for File {
            type Value = Weights;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the file of a model")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Weights, E> {
                Ok(Weights(weights(text)))
            }

            fn visit_unit<E: Error>(self) -> Result<Weights, E> {
                Ok(Weights(None))
            }
        }
        deserializer.deserialize_any(File)
    }
}

/// The digest in `FROM …/blobs/sha256-<digest>`, the first line of the kind.
fn weights(file: &str) -> Option<String> {
    let from = file.lines().find_map(|line| line.strip_prefix("FROM "))?;
    let (_, digest) = from.rsplit_once("sha256-")?;
    let digest = digest.trim_end();
    let is_digest =
        digest.len() == DIGEST_DIGITS && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| digest.to_ascii_lowercase())
}
