//! What servers answer about themselves: the keys that are read, and none besides.

use serde::Deserialize;

use crate::models::few::{self, Few};

/// Most models of `/v1/models` that are read: a gateway lists hundreds.
pub(super) const MODELS_MAX: usize = 256;

/// Callbacks of a LiteLLM.
const CALLBACKS_MAX: usize = 64;

/// `/v1/models` of everything that speaks OpenAI's protocol.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Models {
    pub(super) data: Few<Listed, MODELS_MAX>,
}

/// One model of it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Listed {
    pub(super) id: String,
    #[serde(default)]
    pub(super) owned_by: Option<String>,
}

/// `/version` of vLLM, `/api/version` of Ollama.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
}

/// `/info` of TGI and TEI.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Info {
    #[serde(rename = "model_id")]
    pub(super) _model: serde::de::IgnoredAny,
    #[serde(default)]
    pub(super) version: Option<String>,
    /// Only TEI says it.
    #[serde(default)]
    pub(super) model_type: Option<serde::de::IgnoredAny>,
}

/// `/server_info` of SGLang; it holds its key too, which is passed over.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SglangServer {
    #[serde(default)]
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) log_requests: Option<bool>,
    #[serde(default)]
    pub(super) log_requests_level: Option<u8>,
    #[serde(default)]
    pub(super) log_requests_format: Option<String>,
}

/// `/model_info` of SGLang.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SglangModel {
    #[serde(rename = "model_path")]
    pub(super) _path: serde::de::IgnoredAny,
}

/// `/api/tags` of Ollama.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Tags {
    #[serde(rename = "models")]
    pub(super) _models: serde::de::IgnoredAny,
}

/// `/v2` of servers that speak KServe's protocol.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Kserve {
    pub(super) name: String,
    #[serde(default)]
    pub(super) version: Option<String>,
}

/// `/health/readiness` of LiteLLM.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Readiness {
    pub(super) litellm_version: String,
    #[serde(default)]
    pub(super) success_callbacks: Option<Few<String, CALLBACKS_MAX>>,
}

/// Reads any bytes as each of the answers: for tests with inputs that nobody wrote.
pub(in crate::models) fn read_any(body: &[u8]) {
    let _models = few::read::<Models>(body);
    let _version = few::read::<Version>(body);
    let _info = few::read::<Info>(body);
    let _server = few::read::<SglangServer>(body);
    let _model = few::read::<SglangModel>(body);
    let _tags = few::read::<Tags>(body);
    let _kserve = few::read::<Kserve>(body);
    let _ready = few::read::<Readiness>(body);
}
