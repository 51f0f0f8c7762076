//! Usage of OpenAI's models, as the organisation's administrator sees it.

use jiff::Timestamp;
use serde::Deserialize;

use super::feed::Feed;
use super::few::Few;
use super::request::Word;
use super::usage::{Account, Amount, Bucket, Page, Provider, ROWS_MAX, Usage, key};
use crate::web::Site;
use crate::{CollectError, Host};

/// Where the provider is, unless a table says otherwise.
pub(crate) const URL: &str = "https://api.openai.com";

/// Kinds of usage in tokens, and the path that they come in on where it is one.
const PLACES: [&str; 2] = [
    "/v1/organization/usage/completions",
    "/v1/organization/usage/embeddings",
];
const PATHS: [Option<&[u8]>; 2] = [None, Some(b"/v1/embeddings")];

/// The usage of the organisation whose administrator's key the site logs in with, as a bearer token.
///
/// # Errors
/// When a certificate file cannot be used.
pub(crate) fn open(site: &Site, host: &Host) -> Result<Box<dyn Feed>, CollectError> {
    Ok(Box::new(Usage::open(Box::new(OpenAi), site, host)?))
}

/// OpenAI.
#[derive(Debug)]
struct OpenAi;

#[derive(Deserialize)]
struct Hour {
    start_time: i64,
    end_time: i64,
    #[serde(default, alias = "result")]
    results: Few<Used, ROWS_MAX>,
}

#[derive(Deserialize)]
struct Used {
    /// All of them, those from a cache too.
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    num_model_requests: Option<u64>,
    #[serde(default)]
    project_id: Option<String>,
    #[serde(default)]
    api_key_id: Option<String>,
    #[serde(default)]
    model: Option<String>,
}

impl Bucket for Hour {
    type Used = Used;

    fn times(&self) -> Result<(Timestamp, Timestamp), String> {
        let time =
            |second| Timestamp::from_second(second).map_err(|_| "a bucket has no time".to_owned());
        Ok((time(self.start_time)?, time(self.end_time)?))
    }

    fn results(self) -> Few<Used, ROWS_MAX> {
        self.results
    }
}

impl Provider for OpenAi {
    fn places(&self) -> &'static [&'static str] {
        &PLACES
    }

    fn query(&self, from: Timestamp) -> String {
        format!(
            "start_time={}&bucket_width=1h&limit=24&group_by=model&group_by=project_id&group_by=api_key_id",
            from.as_second()
        )
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn read(&self, place: usize, body: &[u8]) -> Result<Page, String> {
        let path = PATHS.get(place).copied().flatten();
        Page::read::<Hour>(body, |used| {
            let account = Account {
                model: used.model.and_then(|model| Word::new(model.as_bytes())),
                key: key(used.project_id.as_deref(), used.api_key_id.as_deref()),
                path: path.and_then(Word::new),
            };
            let amount = Amount {
                requests: used.num_model_requests,
                input: used.input_tokens,
                output: used.output_tokens,
            };
            (account, amount)
        })
    }
}

/// Reads any bytes as an answer: for tests with inputs that nobody wrote.
pub(super) fn read_any(body: &[u8]) {
    if let Ok(page) = OpenAi.read(0, body) {
        assert!(page.rows.len() <= ROWS_MAX);
    }
}
