//! The kinds of servers: in which ways each can be read, and by what.
//!
//! Owns: one row for each kind. A way is there because its function is, so that no kind is ever read in a way that it
//! does not have.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::models::counters::Counters;
use crate::models::counters::dialect::Wanted;
use crate::models::facts;
use crate::models::feed::{Feed, LineReader};
use crate::models::receive::Listen;
use crate::models::zone::Zone;
use crate::models::{
    anthropic, jsonl, litellm, llamacpp, ollama, openai, otlp, sglang, tgi, triton, vllm,
};
use crate::web::Site;
use crate::{CollectError, Host};

/// A feed, or what of this machine is missing for it: a file of certificates, a free port.
pub(super) type Opened = Result<Box<dyn Feed>, CollectError>;

/// Opens a feed that asks a provider.
pub(super) type Ask = fn(&Site, &Host) -> Opened;

/// Opens the metrics of a server.
pub(super) type Count = fn(&Site, &Host) -> Result<Counters, CollectError>;

/// Opens the metrics of a server, those that the table wants.
pub(super) type CountWanted = fn(&Wanted, &Site, &Host) -> Result<Counters, CollectError>;

/// Opens a feed that is pushed to.
pub(super) type Receive = fn(&Listen, &Host) -> Opened;

/// One kind: what answers requests, or tells of them.
#[derive(Debug)]
pub(super) struct Row {
    /// As tables and provenance have it.
    pub(super) name: &'static str,
    /// What it is asked for.
    pub(super) asked: Option<Asked>,
    /// How its log is read.
    pub(super) read: Option<Read>,
    /// How it, or its clients, push to us.
    pub(super) pushed: Option<Receive>,
    /// What it says of its models, where its own metrics do not ask for that.
    pub(super) facts: Option<facts::Kind>,
    /// What its table must say.
    pub(super) needs: &'static str,
}

/// What a server is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// Its counters.
    Metrics(Count),
    /// Its counters, those of some of its models.
    MetricsOf(CountWanted),
    /// What the provider accounts, which only an administrator of the account may ask, and where the provider is unless
    /// the table says otherwise.
    Usage { open: Ask, home: &'static str },
}

/// The reader of a log, which takes each log for itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    /// Times in the log are local and do not say their zone.
    Local(fn(Zone) -> Box<dyn LineReader>),
    /// Times in the log need no zone, or there are none.
    Exact(fn() -> Box<dyn LineReader>),
}

/// A kind as a table names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind(pub(super) &'static Row);

const LOG_OR_METRICS: &str =
    "say where it is read: `url` for its metrics, `log` or `journal` for its log";
const PUSHED: &str = "say `listen`, where it pushes to: 127.0.0.1:4319";
const ACCOUNTED: &str = "say `bearer_token`, an administrator's key";

static ROWS: [Row; 11] = [
    Row {
        name: "vllm",
        asked: Some(Asked::Metrics(vllm::metrics::open)),
        read: Some(Read::Local(vllm::reader)),
        pushed: None,
        facts: Some(facts::Kind::Vllm),
        needs: LOG_OR_METRICS,
    },
    Row {
        name: "sglang",
        asked: Some(Asked::Metrics(sglang::metrics::open)),
        read: Some(Read::Local(sglang::reader)),
        pushed: None,
        facts: Some(facts::Kind::Sglang),
        needs: LOG_OR_METRICS,
    },
    Row {
        name: "tgi",
        asked: Some(Asked::Metrics(tgi::metrics::open)),
        read: Some(Read::Exact(tgi::reader)),
        pushed: None,
        facts: Some(facts::Kind::Tgi),
        needs: LOG_OR_METRICS,
    },
    Row {
        name: "llamacpp",
        asked: Some(Asked::Metrics(llamacpp::metrics::open)),
        read: Some(Read::Exact(llamacpp::reader)),
        pushed: None,
        facts: Some(facts::Kind::LlamaCpp),
        needs: LOG_OR_METRICS,
    },
    Row {
        name: "ollama",
        asked: None,
        read: Some(Read::Local(ollama::reader)),
        pushed: None,
        facts: Some(facts::Kind::Ollama),
        needs: "it has no metrics: say `log` or `journal`, and `url` for the sizes of its models",
    },
    Row {
        name: "triton",
        asked: Some(Asked::MetricsOf(triton::metrics::open)),
        read: None,
        pushed: None,
        facts: None,
        needs: "say `url`, the address of its metrics: http://127.0.0.1:8002",
    },
    Row {
        name: "litellm",
        asked: None,
        read: None,
        pushed: Some(litellm::open),
        facts: None,
        needs: PUSHED,
    },
    Row {
        name: "otlp",
        asked: None,
        read: None,
        pushed: Some(otlp::open),
        facts: Some(facts::Kind::Vllm),
        needs: PUSHED,
    },
    Row {
        name: "jsonl",
        asked: None,
        read: Some(Read::Exact(jsonl::reader)),
        pushed: Some(jsonl::open),
        facts: None,
        needs: "say `listen`, where it is pushed to, or `log`, the file that it is written to",
    },
    Row {
        name: "openai",
        asked: Some(Asked::Usage {
            open: openai::open,
            home: openai::URL,
        }),
        read: None,
        pushed: None,
        facts: None,
        needs: ACCOUNTED,
    },
    Row {
        name: "anthropic",
        asked: Some(Asked::Usage {
            open: anthropic::open,
            home: anthropic::URL,
        }),
        read: None,
        pushed: None,
        facts: None,
        needs: ACCOUNTED,
    },
];

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = ROWS.iter().find(|row| row.name == text);
        found.map(Self).ok_or_else(|| {
            let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            D::Error::custom(format_args!(
                "{text:?} is no kind of source: use one of {}",
                known.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::Address;

    #[test]
    fn each_kind_can_be_read_and_each_provider_has_a_home() {
        for row in &ROWS {
            let ways = [
                row.asked.is_some(),
                row.read.is_some(),
                row.pushed.is_some(),
            ];
            assert!(ways.contains(&true), "{}", row.name);
            if let Some(Asked::Usage { home, .. }) = row.asked {
                let home: Address = home.parse().unwrap();
                assert!(home.is_https(), "{}", row.name);
            }
        }
    }
}
