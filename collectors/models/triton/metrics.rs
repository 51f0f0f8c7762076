//! Metrics of Triton: requests of each model, tokens where the backend of a model counts them, energy of its GPUs.

use super::super::counters::Counters;
use super::super::counters::dialect::{Count, Dialect, Meaning, Wanted, tags, word};
use super::super::request::{Tags, Word};
use crate::exposition::Sample;
use crate::web::Site;
use crate::{CollectError, Host};

/// What is wanted of a server's metrics.
///
/// # Errors
/// When a certificate file cannot be used.
pub(crate) fn open(wanted: &Wanted, site: &Site, host: &Host) -> Result<Counters, CollectError> {
    Counters::open(Box::new(Triton(wanted.clone())), None, site, host)
}

/// Triton.
#[derive(Debug)]
pub(crate) struct Triton(pub(crate) Wanted);

impl Dialect for Triton {
    fn meaning(&self, sample: &Sample<'_>) -> Option<Meaning> {
        let count = match &*sample.name.to_cow() {
            "nv_inference_request_success" => Count::Requests,
            "vllm:prompt_tokens_total" | "nv_llm_input_token_len_sum" => Count::Input,
            "vllm:generation_tokens_total" | "nv_llm_output_token_len_sum" => Count::Output,
            "nv_energy_consumption" => Count::Energy,
            _ => return None,
        };
        if count == Count::Energy {
            return self.0.has_energy.then(|| Meaning {
                count,
                rank: 0,
                model: None,
                tags: Tags::default(),
            });
        }
        let model = match count {
            // Its tokens are counted by the part of it that makes them.
            Count::Input | Count::Output => self.only_model().cloned(),
            _ => None,
        };
        let model = model.or_else(|| word(sample.labels, "model"))?;
        if !self.0.models.is_empty() && !self.0.models.contains(&model) {
            return None;
        }
        Some(Meaning {
            count,
            rank: 0,
            model: Some(model),
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
        self.0.models.is_empty().then_some(
            "every model is counted; where one is made of others, name those that callers ask for in `models`",
        )
    }
}

impl Triton {
    /// The model that everything on the page is for, if there is one.
    fn only_model(&self) -> Option<&Word> {
        let mut models = self.0.models.iter();
        models.next().filter(|_| models.next().is_none())
    }
}
