//! Usage of Anthropic's models, as the organisation's administrator sees it. It counts no requests.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::feed::Feed;
use super::few::Few;
use super::request::Word;
use super::usage::{Account, Amount, Bucket, Page, Provider, ROWS_MAX, Usage, encoded, key};
use crate::web::{Login, Site};
use crate::{CollectError, Host};

/// Where the provider is, unless a table says otherwise.
pub(crate) const URL: &str = "https://api.anthropic.com";

/// The usage of the organisation whose administrator's key the site has as its bearer token; the key goes where this
/// provider wants it, into a header of its own.
///
/// # Errors
/// When a certificate file cannot be used.
pub(crate) fn open(site: &Site, host: &Host) -> Result<Box<dyn Feed>, CollectError> {
    let site = match site.login() {
        Some(Login::Bearer(value)) => site.with_login(Login::Header {
            name: "x-api-key",
            value: value.clone(),
        }),
        _ => site.clone(),
    };
    Ok(Box::new(Usage::open(Box::new(Anthropic), &site, host)?))
}

/// Anthropic.
#[derive(Debug)]
struct Anthropic;

#[derive(Deserialize)]
struct Hour {
    starting_at: Timestamp,
    ending_at: Timestamp,
    #[serde(default)]
    results: Few<Used, ROWS_MAX>,
}

#[derive(Deserialize)]
struct Used {
    #[serde(default)]
    uncached_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation: Option<Total>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    workspace_id: Option<String>,
    #[serde(default)]
    api_key_id: Option<String>,
    #[serde(default)]
    model: Option<String>,
}

/// The sum over all lifetimes that a cache can have.
#[derive(Clone, Copy)]
struct Total(u64);

impl<'de> Deserialize<'de> for Total {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lifetimes;
        impl<'de> Visitor<'de> for Lifetimes {
            type Value = Total;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens by lifetime")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Total, A::Error> {
                let mut total = 0_u64;
                while let Some((_, tokens)) =
                    map.next_entry::<serde::de::IgnoredAny, Option<u64>>()?
                {
                    total = total
                        .checked_add(tokens.unwrap_or(0))
                        .ok_or_else(|| A::Error::custom("too many tokens"))?;
                }
                Ok(Total(total))
            }
        }
        deserializer.deserialize_map(Lifetimes)
    }
}

impl Used {
    fn input(&self) -> Option<u64> {
        let created = self.cache_creation.map_or(0, |total| total.0);
        let read = self.cache_read_input_tokens.unwrap_or(0);
        let uncached = self.uncached_input_tokens?;
        Some(uncached.saturating_add(created).saturating_add(read))
    }
}

impl Bucket for Hour {
    type Used = Used;

    fn times(&self) -> Result<(Timestamp, Timestamp), String> {
        Ok((self.starting_at, self.ending_at))
    }

    fn results(self) -> Few<Used, ROWS_MAX> {
        self.results
    }
}

impl Provider for Anthropic {
    fn places(&self) -> &'static [&'static str] {
        &["/v1/organizations/usage_report/messages"]
    }

    fn query(&self, from: Timestamp) -> String {
        format!(
            "starting_at={}&bucket_width=1h&limit=24&group_by[]=model&group_by[]=workspace_id&group_by[]=api_key_id",
            encoded(&from.to_string())
        )
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", "2023-06-01")]
    }

    fn read(&self, _place: usize, body: &[u8]) -> Result<Page, String> {
        Page::read::<Hour>(body, |used| {
            let amount = Amount {
                requests: None,
                input: used.input(),
                output: used.output_tokens,
            };
            let account = Account {
                model: used.model.and_then(|model| Word::new(model.as_bytes())),
                key: key(used.workspace_id.as_deref(), used.api_key_id.as_deref()),
                path: None,
            };
            (account, amount)
        })
    }

    fn remark(&self) -> Option<&'static str> {
        Some(
            "it counts tokens and no requests, so that no request of it has a row or is in a ratio",
        )
    }
}

/// Reads any bytes as an answer: for tests with inputs that nobody wrote.
pub(super) fn read_any(body: &[u8]) {
    if let Ok(page) = Anthropic.read(0, body) {
        assert!(page.rows.iter().all(|row| row.amount.requests.is_none()));
    }
}
