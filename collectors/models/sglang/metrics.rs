//! Metrics of SGLang, which it has when it is started with `--enable-metrics`.

use super::super::counters::Counters;
use super::super::counters::dialect::{Count, Dialect, Meaning, strip, tags, word};
use super::super::facts::Kind;
use crate::exposition::Sample;
use crate::web::Site;
use crate::{CollectError, Host};

/// As SGLang has them, and as they become behind Ray.
const PREFIXES: [&str; 2] = ["sglang:", "sglang_"];

/// Ranks that work on the same requests, so that only the first of each counts.
const SAME_REQUESTS: [&str; 3] = ["tp_rank", "pp_rank", "moe_ep_rank"];

/// The metrics of a server.
///
/// # Errors
/// When a certificate file cannot be used.
pub(crate) fn open(site: &Site, host: &Host) -> Result<Counters, CollectError> {
    Counters::open(Box::new(Sglang), Some(Kind::Sglang), site, host)
}

/// SGLang.
#[derive(Debug)]
pub(crate) struct Sglang;

impl Dialect for Sglang {
    fn meaning(&self, sample: &Sample<'_>) -> Option<Meaning> {
        let name = sample.name.to_cow();
        let (name, rank) = strip(&name, &PREFIXES)?;
        let count = match name {
            "prompt_tokens_total" => Count::Input,
            "generation_tokens_total" => Count::Output,
            "num_requests_total" => Count::Requests,
            _ => return None,
        };
        let is_first = |rank: &&str| sample.labels.get(rank).is_none_or(|rank| rank.is("0"));
        if !SAME_REQUESTS.iter().all(is_first) {
            return None;
        }
        // Its requests are those of the servers that decode, and counted there.
        let engine = sample.labels.get("engine_type");
        if engine.is_some_and(|engine| engine.is("prefill")) {
            return None;
        }
        Some(Meaning {
            count,
            rank,
            model: word(sample.labels, "model_name"),
            tags: tags(sample.labels),
        })
    }

    fn when_empty(&self) -> &'static str {
        "start the server with --enable-metrics; a server that only prefills is counted at the one that decodes"
    }
}
