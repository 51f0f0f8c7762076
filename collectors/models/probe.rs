//! Looks at the address of a model server: what it is, which models it serves, what it counts, and the table for it.
//!
//! Promises: a few bounded questions, each a GET, but for Ollama's `/api/show`, which is a POST by its design; of an answer only
//! the listed keys are read. Refuses: pages that may show prompts or a person's template, such as `/slots` and `/props` of llama.cpp.

mod answers;
mod questions;
mod server;
mod tables;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

pub(super) use self::answers::read_any;
use self::questions::Questions;
use self::server::{Found, Kind};
use super::counters::glance::{Glance, Pages};
use super::facts::Facts;
use super::feed::Out;
use super::request::{ModelFacts, Request, SizeFrom, Sum, Used, Word};
use crate::web::Site;
use crate::{CollectError, Host, chain};

/// Most models that are told one by one.
const MODELS_TOLD_MAX: usize = 50;

/// How often a server is asked for models that it shows a few at a time: 64 of Ollama's.
const ROUNDS_MAX: usize = 8;

/// By the clock of those rounds, which does not pass, this is when the next one is due.
const ROUND: SignedDuration = SignedDuration::from_secs(16);

/// Joules say enough of a counter.
const MICROJOULES_PER_JOULE: u64 = 1_000_000;

/// What was found, for a person, and the tables for the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// One line for each thing that was found.
    pub found: Vec<String>,
    /// The tables, the better ways to read the server first.
    pub table: String,
}

/// A model, and how large it is as far as anybody says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    name: Word,
    size: Option<(u64, SizeFrom)>,
}

/// Asks what is at the address.
///
/// # Errors
/// When nothing answers there, or nothing that serves models.
pub async fn look(host: &Host, site: &Site, at: Timestamp) -> Result<Suggestion, CollectError> {
    let mut questions = Questions::open(host.web.as_ref(), site)?;
    let pages = questions.metrics().await?;
    let found = server::recognise(&mut questions, &pages).await?;
    let (models, trouble) = models(&found, host, &questions, at).await;
    let glance = pages.of(found.kind.dialect());
    let mut lines = vec![found.in_words(&questions.url)];
    lines.extend(in_words(&models, trouble));
    lines.push(counters(&found, &questions, &pages, glance.as_ref()));
    lines.extend(found.remarks.iter().cloned());
    lines.extend(
        tables::cannot(found.kind)
            .iter()
            .map(|&line| line.to_owned()),
    );
    let table = tables::all(
        &found,
        (&questions.site, &questions.page),
        glance.is_some(),
        &models,
    );
    Ok(Suggestion {
        found: lines,
        table,
    })
}

/// The models that it says it serves.
async fn models(
    found: &Found,
    host: &Host,
    questions: &Questions,
    at: Timestamp,
) -> (Vec<Model>, Option<String>) {
    let Some(kind) = found.kind.facts() else {
        let named = found.models.iter().map(|name| Model {
            name: name.clone(),
            size: super::facts::by_name(name).map(|facts| (facts.parameters, facts.from)),
        });
        return (named.collect(), None);
    };
    let mut trouble = None;
    let mut models = Vec::new();
    match Facts::open(kind, &questions.site, host) {
        Ok(mut facts) => {
            let mut now = at;
            for _ in 0..ROUNDS_MAX {
                trouble = facts.refresh(now, &mut Nowhere).await.err();
                now = now.checked_add(ROUND).unwrap_or(now);
                if trouble.is_some() || facts.unasked() == 0 {
                    break;
                }
            }
            let all = facts.sizes();
            models.extend(all.map(|(name, size)| Model {
                name: name.clone(),
                size,
            }));
        }
        Err(error) => trouble = Some(error),
    }
    (models, trouble.map(|error| chain(&error)))
}

fn in_words(models: &[Model], trouble: Option<String>) -> Vec<String> {
    let mut lines = Vec::new();
    for model in models.iter().take(MODELS_TOLD_MAX) {
        let name = &model.name;
        lines.push(match model.size {
            Some((parameters, from)) => {
                format!("model {name}: {parameters} parameters, {}", from.in_words())
            }
            None => format!(
                "model {name}: nobody says how large it is; until [[models.model]] does, it counts as not small"
            ),
        });
    }
    let more = models.len().saturating_sub(MODELS_TOLD_MAX);
    if more > 0 {
        lines.push(format!("and {more} more models"));
    }
    if let Some(trouble) = trouble {
        lines.push(format!("which models it serves is not known: {trouble}"));
    } else if models.is_empty() {
        lines.push("it names no model".to_owned());
    }
    lines
}

/// What its page of metrics counts.
fn counters(
    found: &Found,
    questions: &Questions,
    pages: &Pages,
    glance: Option<&Glance>,
) -> String {
    let page = &questions.page;
    let Some(dialect) = found.kind.dialect() else {
        return match pages.samples {
            0 => format!("no metrics at {page}"),
            samples => format!("{page} has {samples} samples, of which none is read"),
        };
    };
    let Some(glance) = glance else {
        return match &pages.refused {
            Some(why) => format!("no metrics: {why}; {}", pages.when_empty(dialect)),
            None => format!(
                "{page} has none of its counters: {}",
                pages.when_empty(dialect)
            ),
        };
    };
    let mut told = Vec::new();
    let mut missing = Vec::new();
    for (what, count) in [
        ("requests", glance.requests),
        ("input tokens", glance.input),
        ("output tokens", glance.output),
    ] {
        match count {
            Some(count) => told.push(format!("{what} ({count} so far)")),
            None => missing.push(what),
        }
    }
    if let Some(cached) = glance.cached {
        told.push(format!("input tokens from the cache ({cached} so far)"));
    }
    if let Some(energy) = glance.energy {
        told.push(format!(
            "energy of its GPUs ({} J so far)",
            energy / MICROJOULES_PER_JOULE
        ));
    }
    let mut line = format!("{page} counts {}", told.join(", "));
    if !missing.is_empty() {
        line.push_str(&format!("; it does not count {}", missing.join(" and ")));
    }
    line
}

impl Kind {
    /// Which facts it tells of its models.
    const fn facts(self) -> Option<super::facts::Kind> {
        match self {
            Self::Vllm | Self::Nim => Some(super::facts::Kind::Vllm),
            Self::Sglang => Some(super::facts::Kind::Sglang),
            Self::Tgi | Self::Tei => Some(super::facts::Kind::Tgi),
            Self::LlamaCpp => Some(super::facts::Kind::LlamaCpp),
            Self::Ollama => Some(super::facts::Kind::Ollama),
            Self::Triton | Self::LiteLlm | Self::OpenAi => None,
        }
    }
}

/// What a server tells of its models is asked for afterwards.
struct Nowhere;

impl Out for Nowhere {
    fn request(&mut self, _: Request) {}

    fn sum(&mut self, _: Sum) {}

    fn model(&mut self, _: ModelFacts) {}

    fn used(&mut self, _: Used) {}
}
