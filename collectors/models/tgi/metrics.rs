//! Metrics of TGI: sums of histograms, which are exact, and a name of the model that the server is asked for.

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
    Counters::open(Box::new(Tgi), Some(Kind::Tgi), site, host)
}

/// TGI.
#[derive(Debug)]
pub(crate) struct Tgi;

impl Dialect for Tgi {
    fn meaning(&self, sample: &Sample<'_>) -> Option<Meaning> {
        let count = match &*sample.name.to_cow() {
            "tgi_request_success" => Count::Requests,
            "tgi_request_input_length_sum" => Count::Input,
            "tgi_request_generated_tokens_sum" => Count::Output,
            _ => return None,
        };
        Some(Meaning {
            count,
            rank: 0,
            model: None,
            tags: tags(sample.labels),
        })
    }

    fn lacks_models(&self) -> bool {
        true
    }

    fn when_empty(&self) -> &'static str {
        "it has them from its first request on; check the address if there was one"
    }
}
