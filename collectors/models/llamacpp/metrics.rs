//! Metrics of llama.cpp's server: tokens alone, for it counts no requests.

use super::super::counters::Counters;
use super::super::counters::dialect::{Count, Dialect, Meaning, tags};
use super::super::facts::Kind;
use crate::exposition::Sample;
use crate::web::Site;
use crate::{CollectError, Host};

/// The metrics of a server.
///
/// # Errors
/// When a certificate file cannot be used.
pub(crate) fn open(site: &Site, host: &Host) -> Result<Counters, CollectError> {
    Counters::open(Box::new(LlamaCpp), Some(Kind::LlamaCpp), site, host)
}

/// llama.cpp.
#[derive(Debug)]
pub(crate) struct LlamaCpp;

impl Dialect for LlamaCpp {
    fn meaning(&self, sample: &Sample<'_>) -> Option<Meaning> {
        let count = match &*sample.name.to_cow() {
            "llamacpp:prompt_tokens_total" => Count::Input,
            "llamacpp:prompt_tokens_cached_total" => Count::Cached,
            "llamacpp:tokens_predicted_total" => Count::Output,
            _ => return None,
        };
        Some(Meaning {
            count,
            rank: 0,
            model: None,
            tags: tags(sample.labels),
        })
    }

    fn counts_cached_apart(&self) -> bool {
        true
    }

    fn lacks_models(&self) -> bool {
        true
    }

    fn when_empty(&self) -> &'static str {
        "start the server with --metrics"
    }

    fn remark(&self) -> Option<&'static str> {
        Some("it counts no requests: tail its log, which tells each one, instead of its metrics")
    }
}
