//! What servers answer about their models: the keys that are read, and none besides.
//!
//! Promises: a bounded number of models; no other text of an answer is kept, and none is in an error. A model's file of
//! Ollama holds its template and system prompt: only the digest of its weights is taken out of it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de::DeserializeOwned};

/// Most models of one server; an Ollama that collects them has a hundred.
pub(super) const MODELS_MAX: usize = 256;

/// Hexadecimal digits of a digest of SHA-256.
const DIGEST_DIGITS: usize = 64;

/// `/v1/models` of vLLM, SGLang and llama.cpp.
#[derive(Debug, Deserialize)]
pub(super) struct Models {
    pub(super) data: Few<Listed>,
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
    pub(super) models: Option<Few<Tagged>>,
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

/// The first [`MODELS_MAX`] of a list.
#[derive(Debug)]
pub(super) struct Few<T>(pub(super) Vec<T>);

/// Reads an answer; the reason of a failure has its place and nothing of its content.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        format!(
            "it is not the JSON of such a server (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
                let mut few = Vec::new();
                while few.len() < MODELS_MAX {
                    let Some(next) = list.next_element()? else {
                        return Ok(Few(few));
                    };
                    few.push(next);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Few(few))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

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
