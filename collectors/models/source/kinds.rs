//! The kinds of servers, and the ways in which each can be read.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::around::{WithFacts, WithGpus};
use crate::models::facts::{self, Facts};
use crate::models::feed::{Feed, LineReader};
use crate::models::gpus::Gpus;
use crate::models::receive::Listen;
use crate::models::request::Word;
use crate::models::tail::feed::LogFeed;
use crate::models::tail::place::{Begin, Place, Wrapper};
use crate::models::zone::Zone;
use crate::models::{
    anthropic, jsonl, litellm, llamacpp, ollama, openai, otlp, sglang, tgi, triton, vllm,
};
use crate::web::{Address, SecretPlace, Site};
use crate::{CollectError, Host};

/// What answers requests, or tells of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Vllm,
    Sglang,
    Tgi,
    Llamacpp,
    Ollama,
    Triton,
    Litellm,
    Otlp,
    Jsonl,
    Openai,
    Anthropic,
}

/// What the table says about how a server can be read.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub(super) site: Option<Site>,
    pub(super) log: Option<PathBuf>,
    pub(super) journal: Option<Word>,
    pub(super) journal_folder: Option<PathBuf>,
    pub(super) wrapper: Wrapper,
    pub(super) from: Begin,
    pub(super) zone: jiff::tz::TimeZone,
    pub(super) listen: Option<SocketAddr>,
    pub(super) token: Option<SecretPlace>,
    pub(super) gpus: Option<Vec<u32>>,
}

/// How a server is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Its counters.
    Metrics,
    /// Its log.
    Log,
    /// What it or its clients push to us.
    Push,
    /// What the provider accounts.
    Usage,
}

impl Way {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Log => "log",
            Self::Push => "push",
            Self::Usage => "usage",
        }
    }
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::Llamacpp => "llamacpp",
            Self::Ollama => "ollama",
            Self::Triton => "triton",
            Self::Litellm => "litellm",
            Self::Otlp => "otlp",
            Self::Jsonl => "jsonl",
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// How the table wants it read.
    ///
    /// # Errors
    /// In words, with what is missing or too much.
    pub(super) fn way(self, means: &Means) -> Result<Way, String> {
        let (kind, has_log) = (self.name(), means.log.is_some() || means.journal.is_some());
        if means.log.is_some() && means.journal.is_some() {
            return Err(
                "`log` and `journal` exclude each other: one source reads one log".to_owned(),
            );
        }
        let possible = |way: &&Way| match way {
            Way::Log => has_log,
            Way::Metrics => means.site.is_some(),
            Way::Push => means.listen.is_some(),
            Way::Usage => true,
        };
        let ways = self.ways();
        if has_log && !ways.contains(&Way::Log) {
            return Err(format!(
                "a {kind} source has no log to read: {}",
                self.needs()
            ));
        }
        if means.listen.is_some() && !ways.contains(&Way::Push) {
            return Err(format!(
                "nothing pushes to a {kind} source: {}",
                self.needs()
            ));
        }
        if has_log && means.listen.is_some() {
            return Err("`log` and `listen` exclude each other: make two sources".to_owned());
        }
        let way = ways.iter().find(possible).copied();
        let way = way.ok_or_else(|| self.needs().to_owned())?;
        if let (Some(listen), None) = (means.listen, &means.token)
            && !listen.ip().is_loopback()
        {
            return Err(format!(
                "`listen = \"{listen}\"` can be reached from other machines: use 127.0.0.1, or set `token`"
            ));
        }
        if means.token.is_some() && means.listen.is_none() {
            return Err("`token` is what senders show: it goes with `listen`".to_owned());
        }
        Ok(way)
    }

    /// Whether it is somebody else's service, which only an administrator of the account may ask.
    pub(super) const fn is_provider(self) -> bool {
        matches!(self, Self::Openai | Self::Anthropic)
    }

    /// Where it is unless the table says otherwise.
    pub(super) fn home(self) -> Option<Address> {
        let home = match self {
            Self::Openai => openai::URL,
            Self::Anthropic => anthropic::URL,
            _ => return None,
        };
        home.parse().ok()
    }

    /// What a table of this kind must say.
    pub(super) const fn needs(self) -> &'static str {
        match self {
            Self::Vllm | Self::Sglang | Self::Tgi | Self::Llamacpp => {
                "say where it is read: `url` for its metrics, `log` or `journal` for its log"
            }
            Self::Ollama => {
                "it has no metrics: say `log` or `journal`, and `url` for the sizes of its models"
            }
            Self::Triton => "say `url`, the address of its metrics: http://127.0.0.1:8002",
            Self::Litellm | Self::Otlp => "say `listen`, where it pushes to: 127.0.0.1:4319",
            Self::Jsonl => {
                "say `listen`, where it is pushed to, or `log`, the file that it is written to"
            }
            Self::Openai | Self::Anthropic => "say `bearer_token`, an administrator's key",
        }
    }

    /// The ways in which this kind can be read, the one that is taken where the table leaves a choice first.
    const fn ways(self) -> &'static [Way] {
        match self {
            Self::Vllm | Self::Sglang | Self::Tgi | Self::Llamacpp => &[Way::Log, Way::Metrics],
            Self::Ollama => &[Way::Log],
            Self::Triton => &[Way::Metrics],
            Self::Litellm | Self::Otlp => &[Way::Push],
            Self::Jsonl => &[Way::Push, Way::Log],
            Self::Openai | Self::Anthropic => &[Way::Usage],
        }
    }
}

impl Way {
    /// What a reader of the payload must know about figures that are read in this way.
    pub(super) fn note(self, kind: Kind) -> String {
        match self {
            Self::Metrics => "sums of counters: no request has a row of its own".to_owned(),
            Self::Log => format!("the log of {}, metadata only", kind.name()),
            Self::Push => format!("pushed by {}, metadata only", kind.name()),
            Self::Usage => format!(
                "accounted by {}, in buckets of a minute or more",
                kind.name()
            ),
        }
    }
}

impl Kind {
    /// The feed of one source.
    ///
    /// # Errors
    /// When something of this machine is missing: a file of certificates, a free port.
    pub(super) fn open(
        self,
        way: Way,
        means: &Means,
        host: &Host,
    ) -> Result<Box<dyn Feed>, CollectError> {
        let feed = match way {
            Way::Metrics | Way::Usage => self.asked(means, host)?,
            Way::Push => self.pushed(means, host)?,
            Way::Log => self.read(means),
        };
        let facts = match (way, self.facts(), &means.site) {
            // Feeds of metrics ask for their own.
            (Way::Log | Way::Push, Some(kind), Some(site)) => Some(Facts::open(kind, site, host)?),
            _ => None,
        };
        let feed = match facts {
            Some(facts) => Box::new(WithFacts {
                feed,
                facts,
                failed: None,
            }),
            None => feed,
        };
        Ok(match &means.gpus {
            Some(chosen) => Box::new(WithGpus {
                feed,
                gpus: Gpus::open((!chosen.is_empty()).then(|| chosen.clone()), None, host),
            }),
            None => feed,
        })
    }

    /// A feed that asks a server.
    fn asked(self, means: &Means, host: &Host) -> Result<Box<dyn Feed>, CollectError> {
        let site = means.site.as_ref().ok_or_else(|| self.misread())?;
        match self {
            Self::Vllm => vllm::metrics(site, host),
            Self::Sglang => sglang::metrics(site, host),
            Self::Tgi => tgi::metrics(site, host),
            Self::Llamacpp => llamacpp::metrics(site, host),
            Self::Triton => triton::metrics(site, host),
            Self::Openai => openai::open(site, host),
            Self::Anthropic => anthropic::open(site, host),
            Self::Ollama | Self::Litellm | Self::Otlp | Self::Jsonl => Err(self.misread()),
        }
    }

    /// A feed that is pushed to.
    fn pushed(self, means: &Means, host: &Host) -> Result<Box<dyn Feed>, CollectError> {
        let listen = Listen {
            address: means.listen.ok_or_else(|| self.misread())?,
            token: means.token.clone(),
        };
        match self {
            Self::Litellm => litellm::open(&listen, host),
            Self::Otlp => otlp::open(&listen, host),
            Self::Jsonl => jsonl::open(&listen, host),
            _ => Err(self.misread()),
        }
    }

    /// A feed that reads a log.
    fn read(self, means: &Means) -> Box<dyn Feed> {
        let place = match (&means.log, &means.journal) {
            (_, Some(unit)) => match &means.journal_folder {
                Some(folder) => Place::journal(unit.as_str()).in_folder(folder),
                None => Place::journal(unit.as_str()),
            },
            (Some(path), None) => Place::file(path).wrapped(means.wrapper),
            (None, None) => Place::file("/dev/null"),
        };
        let place = match means.from {
            Begin::Start => place.begun_at_start(),
            Begin::End => place,
        };
        let zone = means.zone.clone();
        let readers = move || -> Box<dyn LineReader> {
            let zone = Zone::new(zone.clone());
            match self {
                Self::Vllm => vllm::reader(zone),
                Self::Sglang => sglang::reader(zone),
                Self::Tgi => tgi::reader(zone),
                Self::Llamacpp => llamacpp::reader(zone),
                Self::Ollama => ollama::reader(zone),
                _ => jsonl::reader(),
            }
        };
        Box::new(LogFeed::open(place, std::sync::Arc::new(readers)))
    }

    /// Which facts the server tells.
    const fn facts(self) -> Option<facts::Kind> {
        match self {
            Self::Vllm => Some(facts::Kind::Vllm),
            Self::Sglang => Some(facts::Kind::Sglang),
            Self::Tgi => Some(facts::Kind::Tgi),
            Self::Llamacpp => Some(facts::Kind::LlamaCpp),
            Self::Ollama => Some(facts::Kind::Ollama),
            Self::Otlp => Some(facts::Kind::Vllm),
            _ => None,
        }
    }

    /// The table was checked for this; it is said all the same, and not by a panic.
    fn misread(self) -> CollectError {
        CollectError::Malformed {
            what: format!("the table of a {} source", self.name()),
            found: self.needs().to_owned(),
        }
    }
}
