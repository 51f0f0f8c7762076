//! Model servers: their feeds, and what becomes of what they tell.
//!
//! Owns: when feeds are asked, which requests are new, what kind of task each was, what it used. Promises: what was told
//! and where the feed goes on are written together, so that a restart loses nothing and repeats nothing; a feed
//! that hangs or fails costs no other one. Refuses: prompts; there is no type here that could hold one.

mod around;
mod classify;
mod counting;
pub mod decisions;
mod feeds;
mod history;
mod kinds;
mod opening;
mod reconciled;
mod seen;
mod server;
mod settings;
mod sizes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cms_spec::reading::Readings;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::models::facts;
use crate::models::request::Word;
use crate::{CollectError, Collector, Host};

use counting::{Shared, State};
use decisions::Decisions;
use feeds::{PATIENCE, Running};
use history::History;
use settings::Config;
pub use settings::REGISTRATION;

/// Most problems that are told in one line.
const TOLD_MAX: usize = 3;

/// How often is looked up what `status` says besides counts: with many rules it costs more than a tick.
const ADVICE_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// The collector.
struct Models {
    host: Host,
    shared: Arc<Shared>,
    feeds: Vec<Running>,
    history: History,
    details: Vec<String>,
    /// What `status` says besides counts, and when that was looked up.
    advice: Vec<String>,
    advised: Option<Timestamp>,
    trouble: Option<String>,
}

/// What is wanted back after a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    salt: [u8; 16],
    /// Hashes of the newest requests.
    #[serde(default)]
    seen: Vec<u64>,
    /// Where each feed goes on, by its name.
    #[serde(default)]
    feeds: BTreeMap<String, String>,
    /// What decided the kinds of tasks.
    #[serde(default)]
    history: String,
}

impl Models {
    fn open(config: &Config, host: &Host) -> Result<Self, CollectError> {
        let mut salt = [0; 16];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| CollectError::Malformed {
            what: "the random source of this machine".to_owned(),
            found: "it gives nothing".to_owned(),
        })?;
        let mut state = State::default();
        for facts in &config.sizes {
            state.sizes.learn(facts.clone());
        }
        let shared = Shared {
            rules: config.rules.clone(),
            salt,
            plain_ids: config.plain_ids,
            small: config.small,
            published: config.published,
            state: Mutex::new(state),
        };
        Ok(Self {
            host: host.clone(),
            shared: Arc::new(shared),
            feeds: config.sources.iter().cloned().map(Running::new).collect(),
            history: History::default(),
            details: Vec::new(),
            advice: Vec::new(),
            advised: None,
            trouble: None,
        })
    }

    fn decided(&self) -> Decisions {
        let state = self.shared.state();
        let is_sized =
            |model: &Word| state.sizes.of(model).is_some() || facts::by_name(model).is_some();
        let names: Vec<&str> = self
            .feeds
            .iter()
            .map(|feed| feed.spec.name.as_str())
            .collect();
        Decisions::of(&self.history, &self.shared.rules, &names, &is_sized)
    }

    fn kept(&self) -> Option<String> {
        let feeds = self.feeds.iter().filter_map(|feed| {
            let checkpoint = feed.checkpoint()?;
            Some((feed.spec.name.clone(), checkpoint.to_owned()))
        });
        let kept = Kept {
            salt: self.shared.salt,
            seen: self.shared.state().seen.newest(),
            feeds: feeds.collect(),
            history: self.history.kept().unwrap_or_default(),
        };
        serde_json::to_string(&kept).ok()
    }
}

#[async_trait]
impl Collector for Models {
    async fn collect(&mut self, at: Timestamp, out: &mut Readings) -> Result<(), CollectError> {
        for feed in &mut self.feeds {
            feed.begin(at, &self.host, &self.shared);
        }
        let all = async {
            for feed in &mut self.feeds {
                feed.finished().await;
            }
        };
        let _late = timeout(PATIENCE, all).await;
        self.history.turn(at);
        for feed in &mut self.feeds {
            let decided = (self.shared.rules.as_slice(), &mut self.history);
            feed.end(at, decided, out).await;
        }
        if self.feeds.iter().any(Running::is_told)
            && let Some(kept) = self.kept()
        {
            out.resume_from(kept);
        }
        self.details = self.feeds.iter().flat_map(Running::details).collect();
        let is_over = |advised: Timestamp| {
            let passed = at.duration_since(advised);
            passed.is_negative() || passed >= ADVICE_EVERY
        };
        if self.advised.is_none_or(is_over) {
            self.advised = Some(at);
            self.advice = self.decided().advice(at);
        }
        self.details.extend(self.advice.iter().cloned());
        let troubles: Vec<String> = self.feeds.iter().filter_map(|f| f.trouble(at)).collect();
        let more = troubles.len().saturating_sub(TOLD_MAX);
        let told: Vec<String> = troubles.into_iter().take(TOLD_MAX).collect();
        self.trouble = match (told.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(told.join("; ")),
            (false, more) => Some(format!("{}; and {more} more", told.join("; "))),
        };
        Ok(())
    }

    fn stored(&mut self) {
        for feed in &mut self.feeds {
            feed.stored();
        }
    }

    fn is_awaited(&self) -> bool {
        true
    }

    fn is_waiting(&self) -> bool {
        self.feeds.iter().any(Running::is_waiting)
    }

    fn details(&self) -> Vec<String> {
        self.details.clone()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn decisions(&self) -> Option<Decisions> {
        Some(self.decided())
    }

    fn checkpoint(&self) -> Option<String> {
        // What is told but not stored must not be skipped after a restart.
        let is_told = self.feeds.iter().any(Running::is_told);
        if is_told { None } else { self.kept() }
    }

    fn resume(&mut self, checkpoint: &str) {
        let Ok(kept) = serde_json::from_str::<Kept>(checkpoint) else {
            return;
        };
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.salt = kept.salt;
        }
        for request in kept.seen {
            self.shared.state().seen.is_new(request);
        }
        self.history = History::resumed(&kept.history);
        let mut feeds = kept.feeds;
        for feed in &mut self.feeds {
            if let Some(checkpoint) = feeds.remove(&feed.spec.name) {
                feed.resume(checkpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests;
