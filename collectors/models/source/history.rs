//! What decided the kinds of tasks over the last weeks, and what no tag, rule or path said anything of.
//!
//! Promises: bounded memory whatever requests carry; what is written with the checkpoint is written in one transaction with the
//! requests that it counts. Refuses: ids, and anything of a request that a rule cannot look at.

mod frequent;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::classify::{By, Rule};
use crate::models::request::{Route, Word};
pub(super) use frequent::{Amount, Frequent};

/// Half of what the window looks back. Two halves are kept, so that the history always spans 15 to 30 days once it is so old.
const HALF: SignedDuration = SignedDuration::from_hours(15 * 24);

/// Most sources of the history: twice as many as a configuration has, for those that were renamed.
const SOURCES_MAX: usize = 64;

/// Most deciders of a source: all rules of a configuration, and a hundred that are there no more.
const DECIDERS_MAX: usize = 600;

/// Most routes that are told apart in memory, of each source.
const ROUTES_MAX: usize = 64;

/// Most models without a size, of each source.
const MODELS_MAX: usize = 64;

/// How many routes and models of a source are kept over a restart: more than are ever shown.
const KEPT_MAX: usize = 24;

/// What decided, as it is kept: rules by what they say, for their numbers change when one is put before them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Decider {
    Tag,
    Rule(String),
    Path,
}

/// What rules could look at, of requests that none matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Spot {
    pub(super) path: Option<Word>,
    pub(super) model: Option<Word>,
    pub(super) key: Option<Word>,
    pub(super) adapter: Option<Word>,
}

impl Spot {
    pub(super) fn new(model: Option<&Word>, route: &Route) -> Self {
        Self {
            path: route.path.clone(),
            model: model.cloned(),
            key: route.key.clone(),
            adapter: route.adapter.clone(),
        }
    }

    pub(super) fn route(&self) -> Route {
        Route {
            path: self.path.clone(),
            key: self.key.clone(),
            adapter: self.adapter.clone(),
        }
    }
}

/// What one call of a feed told.
#[derive(Debug, Default)]
pub(super) struct Noted {
    by: BTreeMap<By, Amount>,
    open: Frequent<Spot>,
    unsized_models: Frequent<Option<Word>>,
}

impl Noted {
    /// Notes requests that have all this in common.
    pub(super) fn add(
        &mut self,
        by: By,
        (model, is_sized): (Option<&Word>, bool),
        route: &Route,
        amount: Amount,
    ) {
        if by == By::Nothing {
            self.open.add(Spot::new(model, route), amount, ROUTES_MAX);
        } else {
            *self.by.entry(by).or_default() += amount;
        }
        if !is_sized {
            self.unsized_models.add(model.cloned(), amount, MODELS_MAX);
        }
    }
}

/// What is known of one source.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct OfSource {
    pub(super) by: Frequent<Decider>,
    pub(super) open: Frequent<Spot>,
    pub(super) unsized_models: Frequent<Option<Word>>,
}

impl OfSource {
    fn join(&mut self, more: &Self) {
        self.by.join(&more.by, DECIDERS_MAX);
        self.open.join(&more.open, ROUTES_MAX);
        self.unsized_models.join(&more.unsized_models, MODELS_MAX);
    }
}

/// Counts since a moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Epoch {
    since: Timestamp,
    sources: BTreeMap<String, OfSource>,
}

impl Epoch {
    fn source(&mut self, name: &str) -> Option<&mut OfSource> {
        if !self.sources.contains_key(name) && self.sources.len() >= SOURCES_MAX {
            return None;
        }
        Some(self.sources.entry(name.to_owned()).or_default())
    }
}

/// The counts of all sources.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct History {
    now: Option<Epoch>,
    before: Option<Epoch>,
}

impl History {
    /// Forgets what is older than the window.
    pub(super) fn turn(&mut self, at: Timestamp) {
        let begin = || Epoch {
            since: at,
            sources: BTreeMap::new(),
        };
        let Some(now) = &mut self.now else {
            self.now = Some(begin());
            return;
        };
        // The clock was ahead; what is counted stays.
        now.since = now.since.min(at);
        let age = at.duration_since(now.since);
        if age < HALF {
            return;
        }
        let last = self.now.replace(begin());
        self.before = last.filter(|_| age < HALF * 2);
    }

    /// Adds what a call of a feed told.
    pub(super) fn add(&mut self, source: &str, noted: Noted, rules: &[Rule]) {
        let Some(of) = self.now.as_mut().and_then(|now| now.source(source)) else {
            return;
        };
        for (by, amount) in noted.by {
            let decider = match by {
                By::Tag => Decider::Tag,
                By::Path => Decider::Path,
                By::Rule(number) => match rules.get(number.saturating_sub(1)) {
                    Some(rule) => Decider::Rule(rule.to_string()),
                    None => continue,
                },
                By::Nothing => continue,
            };
            of.by.add(decider, amount, DECIDERS_MAX);
        }
        of.open.join(&noted.open, ROUTES_MAX);
        of.unsized_models.join(&noted.unsized_models, MODELS_MAX);
    }

    /// Since when it counts.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let first = self.before.as_ref().or(self.now.as_ref())?;
        Some(first.since)
    }

    /// Every source with all that is counted of it.
    pub(super) fn sources(&self) -> BTreeMap<&str, OfSource> {
        let mut all: BTreeMap<&str, OfSource> = BTreeMap::new();
        for epoch in [&self.before, &self.now].into_iter().flatten() {
            for (name, of) in &epoch.sources {
                all.entry(name).or_default().join(of);
            }
        }
        all
    }

    /// As it is kept over a restart.
    pub(super) fn kept(&self) -> Option<String> {
        let mut kept = self.clone();
        for epoch in [&mut kept.before, &mut kept.now].into_iter().flatten() {
            for of in epoch.sources.values_mut() {
                of.open.shorten(KEPT_MAX);
                of.unsized_models.shorten(KEPT_MAX);
            }
        }
        serde_json::to_string(&kept).ok()
    }

    /// Takes back what was kept; what makes no sense is ignored.
    pub(super) fn resumed(kept: &str) -> Self {
        serde_json::from_str(kept).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + hours * 3_600).expect("a time")
    }

    fn noted(requests: u64) -> Noted {
        let mut noted = Noted::default();
        let amount = Amount {
            requests,
            output_tokens: 2 * requests,
        };
        let model = Word::new(b"m");
        let route = Route {
            path: Word::new(b"/v1/chat/completions"),
            ..Route::default()
        };
        noted.add(By::Nothing, (model.as_ref(), false), &route, amount);
        noted.add(By::Tag, (model.as_ref(), true), &route, amount);
        noted
    }

    fn requests(history: &History) -> (u64, u64, u64) {
        let sources = history.sources();
        let of = sources.get("s").cloned().unwrap_or_default();
        (
            of.by.total().requests,
            of.open.total().requests,
            of.unsized_models.total().requests,
        )
    }

    #[test]
    fn it_looks_back_half_to_all_of_the_window() {
        let mut history = History::default();
        history.turn(at(0));
        history.add("s", noted(1), &[]);
        history.turn(at(15 * 24 - 1));
        assert_eq!(
            (requests(&history), history.since()),
            ((1, 1, 1), Some(at(0)))
        );
        history.turn(at(15 * 24));
        history.add("s", noted(10), &[]);
        assert_eq!(
            (requests(&history), history.since()),
            ((11, 11, 11), Some(at(0)))
        );
        history.turn(at(30 * 24));
        let second = Some(at(15 * 24));
        assert_eq!(
            (requests(&history), history.since()),
            ((10, 10, 10), second)
        );
        let kept = History::resumed(&history.kept().expect("text"));
        assert_eq!((requests(&kept), kept.since()), ((10, 10, 10), second));
        history.turn(at(90 * 24));
        assert_eq!(requests(&history), (0, 0, 0), "nothing ran for two months");
        assert_eq!(History::resumed("{\"now\": 7}").since(), None);
        history.turn(at(80 * 24));
        assert_eq!(history.since(), Some(at(80 * 24)), "the clock was set back");
    }

    #[test]
    fn what_is_kept_is_short_and_its_sums_are_whole() {
        let mut history = History::default();
        history.turn(at(0));
        for number in 0..10_000_u64 {
            let mut noted = Noted::default();
            let text = format!("{:0>100}", number % 5_000);
            let model = Word::new(text.as_bytes());
            let route = Route {
                key: model.clone(),
                adapter: model.clone(),
                ..Route::default()
            };
            let amount = Amount {
                requests: 1,
                output_tokens: 3,
            };
            noted.add(By::Nothing, (model.as_ref(), false), &route, amount);
            history.add(&format!("source-{}", number % 40), noted, &[]);
        }
        let kept = history.kept().expect("text");
        assert!(kept.len() < 1_000_000, "{}", kept.len());
        for of in History::resumed(&kept).sources().into_values() {
            assert_eq!(of.open.total().requests, 250);
            assert_eq!(of.open.total().output_tokens, 750);
            assert_eq!(of.open.kept.len(), KEPT_MAX);
        }
    }
}
