//! Which kind of server it is: by its page of metrics, by what it calls itself, else by what it answers where only one kind does.

use super::answers::{Info, Kserve, Models, Readiness, SglangModel, SglangServer, Tags, Version};
use super::questions::{Questions, word};
use crate::CollectError;
use crate::models::counters::glance::{Family, Pages, Read};
use crate::models::few::Few;
use crate::models::request::Word;
use crate::web::{denied, malformed};

/// What serves models, or speaks for what does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Vllm,
    /// NVIDIA's vLLM, whose metrics lack the prefix.
    Nim,
    Sglang,
    Tgi,
    /// Hugging Face's server of embeddings.
    Tei,
    LlamaCpp,
    Ollama,
    Triton,
    LiteLlm,
    /// It speaks OpenAI's protocol, and says no more of itself.
    OpenAi,
}

impl Kind {
    /// As people call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vLLM",
            Self::Nim => "NVIDIA NIM",
            Self::Sglang => "SGLang",
            Self::Tgi => "Text Generation Inference",
            Self::Tei => "Text Embeddings Inference",
            Self::LlamaCpp => "llama.cpp",
            Self::Ollama => "Ollama",
            Self::Triton => "Triton",
            Self::LiteLlm => "LiteLLM",
            Self::OpenAi => {
                "a server that speaks OpenAI's protocol and does not say which one it is"
            }
        }
    }

    /// How its page of metrics is read.
    pub(super) const fn dialect(self) -> Option<Read> {
        match self {
            Self::Vllm | Self::Nim => Some(Read::Vllm),
            Self::Sglang => Some(Read::Sglang),
            Self::Tgi => Some(Read::Tgi),
            Self::LlamaCpp => Some(Read::LlamaCpp),
            Self::Triton => Some(Read::Triton),
            Self::Tei | Self::Ollama | Self::LiteLlm | Self::OpenAi => None,
        }
    }
}

/// What is at the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: Kind,
    version: Option<Word>,
    /// How it is known.
    by: &'static str,
    /// What it lists, for servers that say no more of their models.
    pub(super) models: Vec<Word>,
    /// What else a person should know.
    pub(super) remarks: Vec<String>,
}

impl Found {
    pub(super) fn in_words(&self, url: &str) -> String {
        let version = self.version.as_ref();
        let version = version.map_or_else(String::new, |version| format!(" {version}"));
        format!(
            "{url} is {}{version}, known by {}",
            self.kind.name(),
            self.by
        )
    }
}

/// Asks until it is clear what is there.
pub(super) async fn recognise(
    questions: &mut Questions,
    pages: &Pages,
) -> Result<Found, CollectError> {
    let listed: Option<Models> = questions.json("/v1/models").await?;
    let by_page = pages
        .family()
        .map(|family| (of_page(family), "its metrics"));
    let by_name = || {
        let name = questions.calls_itself.as_deref();
        (name == Some("llama.cpp")).then_some((Kind::LlamaCpp, "the header `server`"))
    };
    let known = by_page
        .or_else(by_name)
        .or_else(|| by_owner(listed.as_ref()));
    let (kind, by) = match known {
        Some(known) => known,
        None => match by_answers(questions).await? {
            Some(known) => known,
            None if listed.is_some() => (Kind::OpenAi, "/v1/models"),
            None => return Err(nothing(questions)),
        },
    };
    let mut found = Found {
        kind,
        version: None,
        by,
        models: names(listed, pages, kind),
        remarks: Vec::new(),
    };
    found.ask_more(questions).await?;
    if questions.wants_login {
        found.remarks.push(questions.login_hint());
    }
    Ok(found)
}

/// What it lists, or what its counters are about.
fn names(listed: Option<Models>, pages: &Pages, kind: Kind) -> Vec<Word> {
    let listed = listed.map_or(Few::default(), |listed| listed.data).all;
    let listed: Vec<Word> = listed.iter().filter_map(|model| word(&model.id)).collect();
    if !listed.is_empty() {
        return listed;
    }
    let glance = pages.of(kind.dialect());
    glance.map_or_else(Vec::new, |glance| glance.models.into_iter().collect())
}

const fn of_page(family: Family) -> Kind {
    match family {
        Family::Triton => Kind::Triton,
        Family::Sglang => Kind::Sglang,
        Family::Tgi => Kind::Tgi,
        Family::Tei => Kind::Tei,
        Family::LlamaCpp => Kind::LlamaCpp,
        Family::LiteLlm => Kind::LiteLlm,
        Family::Vllm => Kind::Vllm,
        Family::Nim => Kind::Nim,
    }
}

fn by_owner(listed: Option<&Models>) -> Option<(Kind, &'static str)> {
    let owner = listed?.data.all.first()?.owned_by.as_deref()?;
    let kind = match owner {
        "vllm" => Kind::Vllm,
        "sglang" => Kind::Sglang,
        "llamacpp" => Kind::LlamaCpp,
        _ => return None,
    };
    Some((kind, "the owner of its models in /v1/models"))
}

/// Pages that only one kind of server has.
async fn by_answers(
    questions: &mut Questions,
) -> Result<Option<(Kind, &'static str)>, CollectError> {
    if questions.json::<Tags>("/api/tags").await?.is_some() {
        return Ok(Some((Kind::Ollama, "/api/tags")));
    }
    if let Some(info) = questions.json::<Info>("/info").await? {
        let kind = match info.model_type {
            Some(_) => Kind::Tei,
            None => Kind::Tgi,
        };
        return Ok(Some((kind, "/info")));
    }
    let ready = questions.json::<Readiness>("/health/readiness").await?;
    if ready.is_some() {
        return Ok(Some((Kind::LiteLlm, "/health/readiness")));
    }
    for path in ["/model_info", "/get_model_info"] {
        if questions.json::<SglangModel>(path).await?.is_some() {
            return Ok(Some((Kind::Sglang, "/model_info")));
        }
    }
    let kserve = questions.json::<Kserve>("/v2").await?;
    if kserve.is_some_and(|server| server.name == "triton") {
        return Ok(Some((Kind::Triton, "/v2")));
    }
    Ok(None)
}

impl Found {
    /// Its version, and what its settings mean for us.
    async fn ask_more(&mut self, questions: &mut Questions) -> Result<(), CollectError> {
        let version = match self.kind {
            Kind::Vllm => questions
                .json("/version")
                .await?
                .map(|Version { version }| version),
            Kind::Ollama => questions
                .json("/api/version")
                .await?
                .map(|Version { version }| version),
            Kind::Tgi | Kind::Tei => questions
                .json::<Info>("/info")
                .await?
                .and_then(|info| info.version),
            Kind::Triton => questions
                .json::<Kserve>("/v2")
                .await?
                .and_then(|server| server.version),
            Kind::Sglang => self.ask_sglang(questions).await?,
            Kind::LiteLlm => self.ask_litellm(questions).await?,
            // llama.cpp tells it in /props alone, beside a person's template.
            Kind::Nim | Kind::LlamaCpp | Kind::OpenAi => None,
        };
        self.version = version.as_deref().and_then(word);
        Ok(())
    }

    async fn ask_sglang(
        &mut self,
        questions: &mut Questions,
    ) -> Result<Option<String>, CollectError> {
        let mut server = questions.json::<SglangServer>("/server_info").await?;
        if server.is_none() {
            server = questions.json("/get_server_info").await?;
        }
        let Some(server) = server else {
            return Ok(None);
        };
        let is_json = server.log_requests_format.as_deref() == Some("json");
        self.remarks.push(match (server.log_requests, server.log_requests_level) {
            (Some(true), Some(level @ 2..)) => format!(
                "its log shows prompts (--log-requests-level {level}): such a log is refused; start it with --log-requests-level 0"
            ),
            (Some(true), _) if is_json => "its log tells each request: read that, see below".to_owned(),
            (Some(true), _) => {
                "its log of requests is text, which is not read: start it with --log-requests-format json".to_owned()
            }
            _ => "it logs no requests".to_owned(),
        });
        Ok(server.version)
    }

    async fn ask_litellm(
        &mut self,
        questions: &mut Questions,
    ) -> Result<Option<String>, CollectError> {
        let Some(ready) = questions.json::<Readiness>("/health/readiness").await? else {
            return Ok(None);
        };
        let callbacks = ready.success_callbacks.map_or(Vec::new(), |few| few.all);
        let is_generic = |name: &String| {
            let name = name.to_ascii_lowercase();
            name.contains("generic_api") || name.contains("genericapi")
        };
        self.remarks.push(if callbacks.iter().any(is_generic) {
            "its callback generic_api is on; whether it posts to the agent is in its environment"
                .to_owned()
        } else {
            "its callback generic_api is not on, or it does not say so".to_owned()
        });
        Ok(Some(ready.litellm_version))
    }
}

/// Nothing that we know.
fn nothing(questions: &Questions) -> CollectError {
    if questions.wants_login {
        let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        return denied(&questions.url, &questions.login_hint(), source);
    }
    malformed(
        &questions.url,
        "no server of models answers there: no metrics of one, no /v1/models, /api/tags, /info, /health/readiness, /model_info \
         or /v2; check the port, and the path before these",
    )
}
