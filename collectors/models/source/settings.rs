//! `[models]`: servers, rules and sizes, read and joined.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cms_spec::Category;
use cms_spec::inference_energy;
use cms_spec::models::SMALL_MODEL_PARAMETERS_MAX;
use cms_spec::payload::v1::Complexity;
use cms_spec::units::{Fixed, MICROJOULES_PER_KWH, Microjoules};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use toml::Spanned;
use toml::de::ValueDeserializer;

use super::Models;
use super::classify::{Pattern, Rule};
use super::counting::Small;
use super::server::Written;
use crate::checked::{Every, Wrong};
use crate::models::feed::Feed;
use crate::models::request::{ModelFacts, SizeFrom, Word};
use crate::{CollectError, Collector, Host, OpenError, Registration, Settings};

/// Model servers and gateways as sources.
pub const REGISTRATION: Registration = Registration {
    id: "models/source",
    category: Category::ModelEfficiency,
    table: "models",
    repeated: false,
    sample: concat!(
        include_str!("sample.toml"),
        "\n",
        include_str!("../vllm/sample.toml"),
        "\n",
        include_str!("../sglang/sample.toml"),
        "\n",
        include_str!("../tgi/sample.toml"),
        "\n",
        include_str!("../llamacpp/sample.toml"),
        "\n",
        include_str!("../ollama/sample.toml"),
        "\n",
        include_str!("../triton/sample.toml"),
        "\n",
        include_str!("../litellm/sample.toml"),
        "\n",
        include_str!("../otlp/sample.toml"),
        "\n",
        include_str!("../jsonl/sample.toml"),
        "\n",
        include_str!("../openai/sample.toml"),
        "\n",
        include_str!("../anthropic/sample.toml"),
    ),
    parse,
};

/// How often feeds are asked unless the table says otherwise. A sender that pushes waits so long for its answer.
const INTERVAL: Every<1, 60> = Every::seconds::<1>();

/// A tick waits for its feeds no longer than [`super::feeds::PATIENCE`]; the rest is for the work itself.
const DEADLINE: Duration = Duration::from_secs(30);

/// Most feeds of one agent: each may hold a thread while it works.
const SOURCES_MAX: usize = 32;

/// Most rules; each request is held against all of them.
const RULES_MAX: usize = 500;

/// Most models whose size the table says.
const MODELS_MAX: usize = 1_000;

/// Largest model: ten thousand times what is sold as one today is a slip of units.
const PARAMETERS_MAX: u64 = 100_000_000_000_000;

/// What is wrong with a model that is named by its place.
const BY_FILE: &str = "a model that its server names by a path is known by its file or folder alone, because paths stay on the \
    host: leave out everything up to the last /";

/// The small model that routine requests could have gone to, unless the table names another: the size at which
/// instruction-tuned models do classification and extraction well.
const SMALL_PARAMETERS: u64 = 8_000_000_000;

/// Opens a feed.
pub(super) type Open = dyn Fn(&Host) -> Result<Box<dyn Feed>, CollectError> + Send + Sync;

/// The table, checked.
#[derive(Clone, Debug)]
pub(super) struct Config {
    enabled: bool,
    interval: Every<1, 60>,
    pub(super) plain_ids: bool,
    pub(super) published: bool,
    pub(super) small: Small,
    pub(super) sizes: Vec<ModelFacts>,
    pub(super) rules: Vec<Rule>,
    pub(super) sources: Vec<Spec>,
}

/// One feed: what it is called, and how it is opened.
#[derive(Clone)]
pub(super) struct Spec {
    /// The endpoint that it stands for, as the inventory names it.
    pub(super) name: String,
    /// What is read and how, for example `vllm/metrics`.
    pub(super) label: String,
    /// The method and its version, for provenance.
    pub(super) method: String,
    /// What a reader of the payload must know.
    pub(super) note: String,
    pub(super) open: Arc<Open>,
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spec")
            .field("name", &self.name)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default = "enabled")]
    enabled: bool,
    interval: Option<Every<1, 60>>,
    #[serde(default)]
    request_ids: RequestIds,
    #[serde(default)]
    energy: Energy,
    slm: Option<Spanned<SlmWritten>>,
    #[serde(default)]
    model: Vec<Spanned<ModelWritten>>,
    #[serde(default)]
    rule: Vec<Spanned<RuleWritten>>,
    #[serde(default)]
    source: Vec<Spanned<Written>>,
}

pub(super) const fn enabled() -> bool {
    true
}

/// How request ids leave the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RequestIds {
    #[default]
    Salted,
    Plain,
}

/// Where the energy of a request may come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Energy {
    /// Measured where a server or a GPU tells it, and by a published model where not.
    #[default]
    Published,
    /// Measured only.
    Measured,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlmWritten {
    parameters: Option<Parameters>,
    wh_per_1000_output_tokens: Option<Fixed<6>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelWritten {
    name: Spanned<WordWritten>,
    parameters: Parameters,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleWritten {
    #[serde(rename = "match")]
    wanted: MatchWritten,
    task_type: Option<WordWritten>,
    complexity: ComplexityWritten,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchWritten {
    source: Option<Spanned<String>>,
    path: Option<PatternWritten>,
    key: Option<PatternWritten>,
    model: Option<Spanned<PatternWritten>>,
    adapter: Option<PatternWritten>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ComplexityWritten {
    Routine,
    Frontier,
}

/// A number of parameters, such as 8_000_000_000.
#[derive(Clone, Copy, Debug)]
struct Parameters(u64);

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u64::try_from(number) {
            Ok(number @ 1..1_000_000) => Err(D::Error::custom(format_args!(
                "{number} is too few: this is a whole number of parameters, 8_000_000_000 for a model of 8B"
            ))),
            Ok(number @ 1_000_000..=PARAMETERS_MAX) => Ok(Self(number)),
            _ => Err(D::Error::custom(format_args!(
                "{number} is no size of a model: use a whole number of parameters up to {PARAMETERS_MAX}"
            ))),
        }
    }
}

/// A name of a few characters.
#[derive(Debug)]
pub(super) struct WordWritten(pub(super) Word);

impl<'de> Deserialize<'de> for WordWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Word::new(text.as_bytes()).map(Self).ok_or_else(|| {
            D::Error::custom(format_args!(
                "{text:?} is no name here: 1 to {} letters, digits and . _ : / @ + - without spaces",
                Word::BYTES_MAX
            ))
        })
    }
}

#[derive(Debug)]
struct PatternWritten(Pattern);

impl<'de> Deserialize<'de> for PatternWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Pattern::new(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format_args!(
                "{text:?} is no name to match: letters, digits and . _ : / @ + -, at the end perhaps a *"
            ))
        })
    }
}

fn parse(table: ValueDeserializer<'_>) -> Result<Box<dyn Settings>, toml::de::Error> {
    let table = Table::deserialize(table)?;
    match Config::checked(table) {
        Ok(config) => Ok(Box::new(config)),
        Err(wrong) => Err(wrong.refusal()),
    }
}

impl Config {
    fn checked(table: Table) -> Result<Self, Wrong> {
        let mut names = BTreeSet::new();
        let mut sources = Vec::new();
        for written in table.source {
            let span = written.span();
            if sources.len() >= SOURCES_MAX {
                let message = format!("one agent has at most {SOURCES_MAX} sources of models");
                return Err(Wrong::at(span, message));
            }
            let written = written.into_inner();
            let is_on = written.enabled;
            let name_span = written.name.as_ref().map_or(span.clone(), Spanned::span);
            let spec = written.checked(span)?;
            if !names.insert(spec.name.clone()) {
                let message = format!(
                    "there are two sources called {:?}: give each its own `name`",
                    spec.name
                );
                return Err(Wrong::at(name_span, message));
            }
            if is_on {
                sources.push(spec);
            }
        }
        let rules = rules(table.rule, &names)?;
        let sizes = sizes(table.model)?;
        let published = table.energy == Energy::Published;
        let small = small(table.slm)?;
        let energy = match published {
            true => format!(
                "energy that nobody measured by {}",
                inference_energy::METHOD
            ),
            false => "energy as measured only".to_owned(),
        };
        for source in &mut sources {
            source.note = format!("{}; {energy}; waste against {small}", source.note);
        }
        Ok(Self {
            enabled: table.enabled,
            interval: table.interval.unwrap_or(INTERVAL),
            plain_ids: table.request_ids == RequestIds::Plain,
            published,
            small,
            sizes,
            rules,
            sources,
        })
    }
}

fn rules(written: Vec<Spanned<RuleWritten>>, names: &BTreeSet<String>) -> Result<Vec<Rule>, Wrong> {
    let mut rules = Vec::new();
    for rule in written {
        let span = rule.span();
        if rules.len() >= RULES_MAX {
            let message = format!("there are at most {RULES_MAX} rules");
            return Err(Wrong::at(span, message));
        }
        let RuleWritten {
            wanted,
            task_type,
            complexity,
        } = rule.into_inner();
        if let Some(source) = &wanted.source
            && !names.contains(source.get_ref())
        {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let message = format!(
                "no [[models.source]] is called {:?}; there are {}",
                source.get_ref(),
                known.join(", ")
            );
            return Err(Wrong::at(source.span(), message));
        }
        if let Some(model) = &wanted.model
            && model.get_ref().0.is_path()
        {
            return Err(Wrong::at(model.span(), BY_FILE));
        }
        let pattern = |written: Option<PatternWritten>| written.map(|pattern| pattern.0);
        let rule = Rule {
            source: wanted.source.map(Spanned::into_inner),
            path: pattern(wanted.path),
            key: pattern(wanted.key),
            model: pattern(wanted.model.map(Spanned::into_inner)),
            adapter: pattern(wanted.adapter),
            task_type: task_type.map(|task| task.0),
            complexity: match complexity {
                ComplexityWritten::Routine => Complexity::Routine,
                ComplexityWritten::Frontier => Complexity::Frontier,
            },
        };
        rules.push(rule);
    }
    Ok(rules)
}

fn sizes(written: Vec<Spanned<ModelWritten>>) -> Result<Vec<ModelFacts>, Wrong> {
    let mut known = BTreeSet::new();
    let mut sizes = Vec::new();
    for model in written {
        if sizes.len() >= MODELS_MAX {
            let message = format!("there are at most {MODELS_MAX} models");
            return Err(Wrong::at(model.span(), message));
        }
        let ModelWritten { name, parameters } = model.into_inner();
        let span = name.span();
        let name = name.into_inner().0;
        if name.as_str().starts_with('/') {
            return Err(Wrong::at(span, BY_FILE));
        }
        if !known.insert(name.clone()) {
            let message = format!("the size of {:?} is said twice", name.as_str());
            return Err(Wrong::at(span, message));
        }
        sizes.push(ModelFacts {
            name,
            parameters: parameters.0,
            from: SizeFrom::Configured,
        });
    }
    Ok(sizes)
}

fn small(written: Option<Spanned<SlmWritten>>) -> Result<Small, Wrong> {
    let Some(written) = written else {
        return Ok(Small::Sized(SMALL_PARAMETERS));
    };
    let span = written.span();
    let written = written.into_inner();
    match (written.parameters, written.wh_per_1000_output_tokens) {
        (Some(Parameters(parameters)), None) if parameters <= SMALL_MODEL_PARAMETERS_MAX => {
            Ok(Small::Sized(parameters))
        }
        (Some(_), None) => Err(Wrong::at(
            span,
            format!(
                "a small model has at most {SMALL_MODEL_PARAMETERS_MAX} parameters (specification, section II.B)"
            ),
        )),
        (None, Some(wh)) => {
            let per_wh = u128::from(MICROJOULES_PER_KWH) / 1_000;
            let raw = u128::try_from(wh.raw()).ok().filter(|raw| *raw > 0);
            let used = raw.and_then(|raw| u64::try_from(raw * per_wh / 1_000_000).ok());
            used.map(|used| Small::Measured(Microjoules(used)))
                .ok_or_else(|| Wrong::at(span, "`wh_per_1000_output_tokens` is more than 0"))
        }
        (Some(_), Some(_)) => Err(Wrong::at(
            span,
            "`parameters` and `wh_per_1000_output_tokens` exclude each other",
        )),
        (None, None) => Err(Wrong::at(
            span,
            "missing field `parameters`: say how large the small model is, or what it uses: \
             wh_per_1000_output_tokens = 0.06",
        )),
    }
}

impl Settings for Config {
    fn name(&self) -> String {
        REGISTRATION.id.to_owned()
    }

    fn enabled(&self) -> bool {
        self.enabled && !self.sources.is_empty()
    }

    fn open(&self, host: &Host) -> Result<Box<dyn Collector>, OpenError> {
        Ok(Box::new(Models::open(self, host)?))
    }

    fn interval(&self) -> Duration {
        self.interval.duration()
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }
}
