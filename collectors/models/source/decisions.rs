//! What decided the kinds of tasks, for a person who writes rules: counts, rules that do nothing, and what no rule knows.
//!
//! Promises: route metadata alone; a suggestion leaves the judgement to the person, and is refused as long as nobody judged.
//! Refuses: guessing how hard a task is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cms_spec::units::Fixed;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::classify::{By, Rule, classify};
use super::history::{Amount, Decider, Frequent, History, OfSource, Spot};
use crate::models::request::{Tags, Word};

/// Most routes that are suggested: nobody judges more in one go.
const SUGGESTED_MAX: usize = 10;

/// Most models without a size that are listed.
const UNSIZED_MAX: usize = 10;

/// Most of them, and of rules without a match, in `status`.
const ADVISED_MAX: usize = 3;

/// How long a rule may wait for its first request before `status` names it: most work comes once a day.
const SETTLED: SignedDuration = SignedDuration::from_hours(24);

/// What decided the kinds of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decisions {
    /// Since when requests are counted here, at most 30 days ago.
    pub since: Option<Timestamp>,
    /// Requests of all sources.
    pub requests: u64,
    /// Those of them that nothing decided.
    pub unclassified: u64,
    /// The same as a share.
    pub unclassified_percent: Option<Fixed<1>>,
    /// One for each source.
    pub sources: Vec<Source>,
    /// Rules that have matched nothing.
    pub idle_rules: Vec<IdleRule>,
    /// The most frequent routes of unclassified requests.
    pub routes: Vec<Unclassified>,
    /// Unclassified requests on other routes.
    pub more_routes: u64,
    /// Models whose size nobody knows, which count as not small.
    pub unsized_models: Vec<Unsized>,
}

/// What decided the requests of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its name.
    pub source: String,
    /// Its requests.
    pub requests: u64,
    /// Their output tokens, where they are told.
    pub output_tokens: u64,
    /// What decided, in the order in which it is asked.
    pub decided: Vec<Decided>,
}

/// What kind of thing decided, in the order in which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DecidedBy {
    /// Tags of the requests themselves.
    Tags,
    /// A rule of the configuration.
    Rule,
    /// A rule that was in the configuration.
    #[serde(rename = "former rule")]
    FormerRule,
    /// What the API's path is for.
    Path,
    /// Nothing: they are unclassified.
    Nothing,
}

/// One thing that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// What kind of thing it is.
    pub by: DecidedBy,
    /// Which rule, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// What the rule says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// How many requests.
    pub requests: u64,
    /// Their output tokens, where they are told.
    pub output_tokens: u64,
    /// Of the requests of the source.
    pub share_percent: Option<Fixed<1>>,
}

/// A rule that matched nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdleRule {
    /// Which, from 1.
    pub rule: usize,
    /// What it says.
    pub says: String,
    /// Why, as far as the rules themselves tell.
    pub why: String,
    /// Whether an earlier rule takes all of it, so that it can never match.
    pub is_covered: bool,
}

/// Unclassified requests that have all this in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unclassified {
    /// Where they came from.
    pub source: String,
    /// The path of the API.
    pub path: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The alias of the caller's key.
    pub key: Option<String>,
    /// The LoRA adapter.
    pub adapter: Option<String>,
    /// How many.
    pub requests: u64,
    /// Their output tokens, where they are told.
    pub output_tokens: u64,
    /// What decides the next of them, where rules have changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_now: Option<String>,
    /// A table for the configuration, where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// A model of unknown size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unsized {
    /// Which source told it.
    pub source: String,
    /// Its name, where requests carry one.
    pub model: Option<String>,
    /// Requests to it; none where its server counts tokens alone.
    pub requests: u64,
    /// Their output tokens, where they are told.
    pub output_tokens: u64,
    /// A table for the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
}

impl Decisions {
    pub(super) fn of(
        history: &History,
        rules: &[Rule],
        names: &[&str],
        is_sized: &dyn Fn(&Word) -> bool,
    ) -> Self {
        let mut all = history.sources();
        for name in names {
            all.entry(name).or_default();
        }
        let (mut requests, mut unclassified) = (0_u64, 0_u64);
        for of in all.values() {
            let open = of.open.total().requests;
            unclassified = unclassified.saturating_add(open);
            requests = requests.saturating_add(of.by.total().requests.saturating_add(open));
        }
        let (routes, more_routes) = routes(&all, rules);
        Self {
            since: history.since(),
            requests,
            unclassified,
            unclassified_percent: percent(unclassified, requests),
            sources: all
                .iter()
                .map(|(name, of)| source(name, of, rules))
                .collect(),
            idle_rules: idle(&all, rules),
            routes,
            more_routes,
            unsized_models: unsized_models(&all, is_sized),
        }
    }

    /// What `status` says besides its counts: what is missing, and the next step.
    pub(super) fn advice(&self, at: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(percent) = self.unclassified_percent
            && self.unclassified > 0
        {
            lines.push(format!(
                "unclassified: {} of {} requests ({percent} %) since {}; `preview model-efficiency --decisions` \
                 shows what a rule could match",
                self.unclassified,
                self.requests,
                self.since.map(in_words).unwrap_or_default()
            ));
        }
        // A rule that another one covers can never match; any other one may wait for its first request.
        let is_settled = self
            .since
            .is_some_and(|since| at.duration_since(since) >= SETTLED);
        let idle = self.idle_rules.iter();
        let idle = idle.filter(|idle| idle.is_covered || is_settled);
        for idle in idle.take(ADVISED_MAX) {
            let (rule, why) = (idle.rule, &idle.why);
            lines.push(format!("rule {rule} has matched nothing: {why}"));
        }
        let counted = self
            .unsized_models
            .iter()
            .filter(|model| model.requests > 0);
        for model in counted.take(ADVISED_MAX) {
            let (requests, source) = (model.requests, &model.source);
            lines.push(match &model.model {
                Some(name) => format!(
                    "model {name}: its size is unknown, so that {requests} requests count as to a large model; say it in \
                     [[models.model]]"
                ),
                None => format!(
                    "{source}: {requests} requests say no model; with its `url` a source is asked which one is loaded"
                ),
            });
        }
        lines
    }
}

/// A moment to the minute.
fn in_words(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn percent(part: u64, whole: u64) -> Option<Fixed<1>> {
    Fixed::ratio(u128::from(part) * 100, u128::from(whole))
}

fn source(name: &str, of: &OfSource, rules: &[Rule]) -> Source {
    let mut total = of.by.total();
    let open = of.open.total();
    total += open;
    let row = |by, rule, says, amount: Amount| Decided {
        by,
        rule,
        says,
        requests: amount.requests,
        output_tokens: amount.output_tokens,
        share_percent: percent(amount.requests, total.requests),
    };
    let said: Vec<String> = rules.iter().map(Rule::to_string).collect();
    let mut decided: Vec<Decided> = Vec::new();
    for (decider, amount) in &of.by.kept {
        decided.push(match decider {
            Decider::Tag => row(DecidedBy::Tags, None, None, *amount),
            Decider::Path => row(DecidedBy::Path, None, None, *amount),
            Decider::Rule(text) => {
                let number = said.iter().position(|rule| rule == text);
                let by = match number {
                    Some(_) => DecidedBy::Rule,
                    None => DecidedBy::FormerRule,
                };
                row(by, number.map(|at| at + 1), Some(text.clone()), *amount)
            }
        });
    }
    if of.by.others != Amount::default() {
        decided.push(row(DecidedBy::FormerRule, None, None, of.by.others));
    }
    if open != Amount::default() {
        decided.push(row(DecidedBy::Nothing, None, None, open));
    }
    decided.sort_by_key(|row| (row.by, row.rule));
    Source {
        source: name.to_owned(),
        requests: total.requests,
        output_tokens: total.output_tokens,
        decided,
    }
}

/// Rules that no request has matched.
fn idle(all: &BTreeMap<&str, OfSource>, rules: &[Rule]) -> Vec<IdleRule> {
    let mut found = Vec::new();
    let later = later(all, rules);
    let mut known = BTreeSet::new();
    for (at, rule) in rules.iter().enumerate() {
        let says = rule.to_string();
        let is_first = known.insert(says.clone());
        let decider = Decider::Rule(says.clone());
        let has_matched = all.values().any(|of| of.by.kept.contains_key(&decider));
        if has_matched && is_first {
            continue;
        }
        let covering = rules.iter().take(at).position(|other| other.covers(rule));
        let later = later.get(&By::Rule(at + 1)).copied().unwrap_or(0);
        let why = match covering {
            Some(other) => format!("rule {} comes first and takes all of it", other + 1),
            None if later > 0 => {
                format!("it came after {later} requests such as it takes from now on")
            }
            None => {
                "no request had all of this; compare it with the routes that are told".to_owned()
            }
        };
        found.push(IdleRule {
            rule: at + 1,
            says,
            why,
            is_covered: covering.is_some(),
        });
    }
    found
}

/// How many unclassified requests each rule would take now.
fn later(all: &BTreeMap<&str, OfSource>, rules: &[Rule]) -> BTreeMap<By, u64> {
    let mut later: BTreeMap<By, u64> = BTreeMap::new();
    for (name, of) in all {
        for (spot, amount) in &of.open.kept {
            let requests = later.entry(decided_now(rules, name, spot)).or_default();
            *requests = requests.saturating_add(amount.requests);
        }
    }
    later
}

/// What decides the next requests of this kind.
fn decided_now(rules: &[Rule], source: &str, spot: &Spot) -> By {
    let model = spot.model.as_ref();
    classify(rules, source, model, &Tags::default(), &spot.route()).by
}

/// The most frequent routes of unclassified requests, and how many requests there are besides.
fn routes(all: &BTreeMap<&str, OfSource>, rules: &[Rule]) -> (Vec<Unclassified>, u64) {
    let mut ranked: Vec<(&str, &Spot, Amount)> = Vec::new();
    let mut more = 0_u64;
    for (name, of) in all {
        more = more.saturating_add(of.open.others.requests);
        let spots = of.open.ranked();
        ranked.extend(
            spots
                .into_iter()
                .map(|(spot, amount)| (*name, spot, amount)),
        );
    }
    ranked.sort_by_key(|(_, _, amount)| std::cmp::Reverse(*amount));
    for (_, _, amount) in ranked.iter().skip(SUGGESTED_MAX) {
        more = more.saturating_add(amount.requests);
    }
    let is_alone = all.len() == 1;
    let of = |(source, spot, amount): (&str, &Spot, Amount)| {
        let by = decided_now(rules, source, spot);
        let decided_now = (by != By::Nothing).then(|| by.to_string());
        let rule = decided_now
            .is_none()
            .then(|| suggested(source, spot, is_alone));
        let text = |word: &Option<Word>| word.as_ref().map(|word| word.as_str().to_owned());
        Unclassified {
            source: source.to_owned(),
            path: text(&spot.path),
            model: text(&spot.model),
            key: text(&spot.key),
            adapter: text(&spot.adapter),
            requests: amount.requests,
            output_tokens: amount.output_tokens,
            decided_now,
            rule,
        }
    };
    (
        ranked.into_iter().take(SUGGESTED_MAX).map(of).collect(),
        more,
    )
}

/// A rule for these requests. What nobody but a person can say is left open.
fn suggested(source: &str, spot: &Spot, is_alone: bool) -> String {
    let keys = [
        ("path", &spot.path),
        ("key", &spot.key),
        ("model", &spot.model),
        ("adapter", &spot.adapter),
    ];
    let mut wanted: Vec<String> = keys
        .into_iter()
        .filter_map(|(key, word)| Some(format!("{key} = \"{}\"", word.as_ref()?)))
        .collect();
    if wanted.is_empty() || !is_alone {
        wanted.insert(0, format!("source = \"{source}\""));
    }
    let mut table = String::from("[[models.rule]]\n");
    let _ = writeln!(table, "match = {{ {} }}", wanted.join(", "));
    table.push_str("task_type = \"?\"     # what they are, for example \"classification\"\n");
    table.push_str(
        "complexity = \"?\"    # for you to judge: \"routine\", a small model would do; \"frontier\", it may justify a large one\n",
    );
    table
}

fn unsized_models(
    all: &BTreeMap<&str, OfSource>,
    is_sized: &dyn Fn(&Word) -> bool,
) -> Vec<Unsized> {
    let mut found = Vec::new();
    for (name, of) in all {
        let models: &Frequent<Option<Word>> = &of.unsized_models;
        for (model, amount) in models.ranked() {
            // Its size may have become known since.
            if model.as_ref().is_some_and(is_sized) {
                continue;
            }
            let table = model.as_ref().map(|model| {
                format!(
                    "[[models.model]]\nname = \"{model}\"\nparameters = 0    # all of them, for example 8_000_000_000: see its model card\n"
                )
            });
            found.push(Unsized {
                source: (*name).to_owned(),
                model: model.as_ref().map(|word| word.as_str().to_owned()),
                requests: amount.requests,
                output_tokens: amount.output_tokens,
                table,
            });
        }
    }
    found.sort_by_key(|model| std::cmp::Reverse((model.requests, model.output_tokens)));
    found.truncate(UNSIZED_MAX);
    found
}
