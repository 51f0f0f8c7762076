//! Metrics of Triton: requests of each model, tokens where the backend of a model counts them, energy of its GPUs.

use super::super::counters::Counters;
use super::super::counters::dialect::{Count, Dialect, Meaning, tags, word};
use super::super::request::Word;
use crate::exposition::Sample;
use crate::web::Site;
use crate::{CollectError, Host};

/// The metrics of a server. Without models all are counted: right where no model of it is made of others.
///
/// # Errors
/// When a certificate file cannot be used.
pub(crate) fn open(models: Vec<Word>, site: &Site, host: &Host) -> Result<Counters, CollectError> {
    Counters::open(Box::new(Triton { models }), None, site, host)
}

/// Triton.
#[derive(Debug)]
pub(crate) struct Triton {
    /// The models that callers ask for; one that is made of others counts its requests, and so does each of its parts.
    pub(crate) models: Vec<Word>,
}

impl Dialect for Triton {
    fn meaning(&self, sample: &Sample<'_>) -> Option<Meaning> {
        let count = match &*sample.name.to_cow() {
            "nv_inference_request_success" => Count::Requests,
            "vllm:prompt_tokens_total" | "nv_llm_input_token_len_sum" => Count::Input,
            "vllm:generation_tokens_total" | "nv_llm_output_token_len_sum" => Count::Output,
            "nv_energy_consumption" => Count::Energy,
            _ => return None,
        };
        let model = match (&*self.models, count) {
            // Its tokens are counted by the part of it that makes them.
            ([only], Count::Input | Count::Output) => Some(only.clone()),
            _ => word(sample.labels, "model"),
        };
        let is_asked_for = |model: &Word| self.models.is_empty() || self.models.contains(model);
        if count != Count::Energy && !model.as_ref().is_some_and(is_asked_for) {
            return None;
        }
        Some(Meaning {
            count,
            rank: 0,
            model,
            tags: tags(sample.labels),
        })
    }

    /// A model that is loaded anew counts anew, the others on.
    fn is_one_process(&self) -> bool {
        false
    }

    fn when_empty(&self) -> &'static str {
        "check that the address is that of the metrics, normally port 8002, and that the models are named as Triton \
         names them"
    }

    fn remark(&self) -> Option<&'static str> {
        self.models.is_empty().then_some(
            "every model is counted; where one is made of others, name those that callers ask for in `models`",
        )
    }
}
