//! Metrics of vLLM, of each generation, and of NIM, whose names lack the prefix.

use super::super::counters::Counters;
use super::super::counters::dialect::{Count, Dialect, Meaning, strip, tags, word};
use super::super::facts::Kind;
use super::super::request::Word;
use crate::exposition::Sample;
use crate::web::Site;
use crate::{CollectError, Host};

/// As vLLM has them, as they become behind Ray, and as NIM has them.
const PREFIXES: [&str; 3] = ["vllm:", "vllm_", ""];

/// Ends that are no answer. Everything else is one, also an answer that was cut at its length.
const NO_ANSWERS: [&str; 2] = ["abort", "error"];

/// Paths on which a model answers. `http_requests_total` counts others too.
const PATHS: [&str; 20] = [
    "/classify",
    "/generate",
    "/inference/v1/generate",
    "/invocations",
    "/pooling",
    "/rerank",
    "/score",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/ranking",
    "/v1/realtime",
    "/v1/rerank",
    "/v1/responses",
    "/v1/score",
    "/v2/embed",
    "/v2/rerank",
];

/// The metrics of a server.
///
/// # Errors
/// When a certificate file cannot be used.
pub(crate) fn open(site: &Site, host: &Host) -> Result<Counters, CollectError> {
    Counters::open(Box::new(Vllm), Some(Kind::Vllm), site, host)
}

/// vLLM.
#[derive(Debug)]
pub(crate) struct Vllm;

impl Dialect for Vllm {
    fn meaning(&self, sample: &Sample<'_>) -> Option<Meaning> {
        let name = sample.name.to_cow();
        let (name, rank) = strip(&name, &PREFIXES)?;
        let (count, rank) = match name {
            "prompt_tokens_total" => (Count::Input, rank),
            "generation_tokens_total" => (Count::Output, rank),
            "request_success_total" => (Count::Requests, rank),
            "request_finish_total" => (Count::Requests, rank.saturating_add(1)),
            _ => return None,
        };
        let reason = sample.labels.get("finished_reason");
        if count == Count::Requests && reason.is_some_and(|reason| reason.is_one_of(&NO_ANSWERS)) {
            return None;
        }
        let model = word(sample.labels, "model_name").or_else(|| word(sample.labels, "model"));
        Some(Meaning {
            count,
            rank,
            model,
            tags: tags(sample.labels),
        })
    }

    fn path(&self, sample: &Sample<'_>) -> Option<Word> {
        if !sample.name.is("http_requests_total") || sample.value <= 0.0 {
            return None;
        }
        let path = word(sample.labels, "handler")?;
        PATHS.contains(&path.as_str()).then_some(path)
    }

    fn when_empty(&self) -> &'static str {
        "check the address, and start the server without --disable-log-stats"
    }
}
