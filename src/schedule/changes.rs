//! What changes about the sources: one appears, fails, works again, is gone, or its figures come from elsewhere.
//!
//! Each change is a leaf, so that an auditor sees where figures came from, also across restarts: what the
//! ledger said last of each source is kept in the store. Promises: a source that flaps gets a few leaves an
//! hour; the changes without one are counted in the next. A note names kinds of sources and methods, and nothing
//! that was read or that a person named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use cms_attest::Digest;
use cms_attest::leaf::LeafKind;
use cms_spec::reading::{Quantity, Readings};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::events::{Events, Share};
use crate::limits::SOURCE_LEAVES_PER_HOUR;
use crate::status::error_chain;
use crate::store::{Store, StoreError};

/// Hex digits that stand in the ledger for the name of a source: enough to tell the sources of one host apart.
const DIGITS_OF_A_NAME: usize = 8;

/// Where `meta` holds what the ledger said last of each source.
const META: &str = "sources";

/// The sources of one agent, as the ledger knows them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Changes {
    events: Events,
    store: Store,
    clock: Clock,
    sources: Arc<Mutex<BTreeMap<String, Seen>>>,
}

/// How a source is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// This host has no such thing.
    #[default]
    Absent,
    /// It gives nothing, and should.
    Failing,
    /// It gives readings, or has none to give.
    Works,
}

/// One source at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Face {
    state: State,
    /// Source and method of each quantity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    origins: BTreeMap<Quantity, BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What the ledger says.
    told: Face,
    now: Face,
    /// Changes that have no leaf.
    untold: u64,
    share: Share,
    /// The last change, for `status`.
    words: Option<String>,
}

impl Changes {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(events: Events, store: Store, clock: Clock) -> Self {
        Self {
            events,
            store,
            clock,
            sources: Arc::default(),
        }
    }

    /// Reads what the ledger said last, and tells of the sources that are configured no longer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(&self, names: &[String]) -> Result<(), StoreError> {
        let mut sources = self.sources.lock().await;
        let kept = self.store.meta(META).await?;
        let kept: BTreeMap<String, Face> = kept
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        for (name, face) in kept {
            if names.contains(&name) {
                let seen = sources.entry(name).or_default();
                seen.told = face.clone();
                seen.now = face;
            } else if face.state != State::Absent {
                let note = format!("{}: not configured any more", in_ledger(&name));
                self.events.write(LeafKind::Source, &note).await?;
            }
        }
        self.keep(&sources).await
    }

    /// A source is in this state; answers its last change in words.
    pub async fn is(&self, name: &str, state: State) -> Option<String> {
        self.observe(name, |face| face.state = state).await
    }

    /// A source works and gave these readings; answers its last change in words.
    pub async fn works(&self, name: &str, readings: &Readings) -> Option<String> {
        self.observe(name, |face| {
            face.state = State::Works;
            for (quantity, origins) in readings.origins() {
                let spoken = origins
                    .iter()
                    .map(|origin| {
                        let source = spoken_of(&origin.source, name);
                        format!("{source} ({})", origin.method)
                    })
                    .collect();
                face.origins.insert(quantity, spoken);
            }
        })
        .await
    }

    async fn observe(&self, name: &str, change: impl FnOnce(&mut Face)) -> Option<String> {
        let mut sources = self.sources.lock().await;
        let now_ms = self.clock.boottime_ms();
        let seen = match sources.get_mut(name) {
            Some(seen) => seen,
            None => sources.entry(name.to_owned()).or_default(),
        };
        let is_more = seen.see(change);
        let Some(note) = seen.note(&in_ledger(name), now_ms) else {
            let words = seen.words.clone();
            if is_more {
                self.keep_quietly(&sources).await;
            }
            return words;
        };
        match self.events.write(LeafKind::Source, &note).await {
            Ok(()) => {
                tracing::info!(source = name, change = note, "a source changed");
                seen.tell(now_ms);
                let words = seen.words.clone();
                self.keep_quietly(&sources).await;
                words
            }
            // The next tick tells it; that the store fails is shown elsewhere.
            Err(error) => {
                tracing::debug!(source = name, error = %error_chain(&error), "the change has no leaf yet");
                seen.words.clone()
            }
        }
    }

    /// That the store fails is shown elsewhere.
    async fn keep_quietly(&self, sources: &BTreeMap<String, Seen>) {
        if let Err(error) = self.keep(sources).await {
            tracing::debug!(error = %error_chain(&error), "after a restart the change is told again");
        }
    }

    async fn keep(&self, sources: &BTreeMap<String, Seen>) -> Result<(), StoreError> {
        let told: BTreeMap<&str, &Face> = sources
            .iter()
            .map(|(name, seen)| (name.as_str(), &seen.told))
            .collect();
        let text = serde_json::to_string(&told).map_err(|error| StoreError::Encode {
            what: "the state of the sources",
            found: error.to_string(),
        })?;
        self.store.set_meta(META, text).await
    }
}

impl Seen {
    /// Takes a change in; true where the source says more than the ledger knows of. That is no change and
    /// gets no leaf, but the next one starts from it.
    fn see(&mut self, change: impl FnOnce(&mut Face)) -> bool {
        let before = self.now.clone();
        change(&mut self.now);
        if self.now == before {
            return false;
        }
        self.words = self.now.since(&before);
        self.untold += u64::from(self.words.is_some());
        let known = self.told.origins.len();
        for (quantity, origins) in &self.now.origins {
            let origins = || origins.clone();
            self.told.origins.entry(*quantity).or_insert_with(origins);
        }
        self.told.origins.len() > known
    }

    /// What the ledger is to be told now, if anything and if there is room.
    fn note(&self, name: &str, now_ms: u64) -> Option<String> {
        if !self.share.has_room(SOURCE_LEAVES_PER_HOUR, now_ms) {
            return None;
        }
        let words = match self.now.since(&self.told) {
            Some(words) => words,
            // It is as the ledger says, and was not in between.
            None if self.untold > 1 => self.now.state.to_string(),
            None => return None,
        };
        let without = self.untold.saturating_sub(1);
        if without == 0 {
            return Some(format!("{name}: {words}"));
        }
        Some(format!(
            "{name}: {words}; {without} changes before this one have no leaf"
        ))
    }

    fn tell(&mut self, now_ms: u64) {
        self.told = self.now.clone();
        self.untold = 0;
        self.share.take(now_ms);
    }
}

impl Face {
    /// What differs from before, in words. Nothing where a source only says more than before.
    fn since(&self, before: &Self) -> Option<String> {
        let state = (self.state != before.state).then(|| match (before.state, self.state) {
            (State::Absent, State::Works) => "appears".to_owned(),
            (_, State::Works) => "works again".to_owned(),
            (_, state) => state.to_string(),
        });
        let moved = self.origins.iter().filter_map(|(quantity, now)| {
            let was = before.origins.get(quantity).filter(|was| *was != now)?;
            let quantity = serde_json::to_string(quantity).ok()?;
            let quantity = quantity.trim_matches('"');
            Some(format!("{quantity} from {}, was {}", list(now), list(was)))
        });
        let words: Vec<String> = state.into_iter().chain(moved).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "is gone",
            Self::Failing => "fails",
            Self::Works => "works",
        })
    }
}

/// A source as the ledger names it: its kind, and of the name that a person gave it the first digits of its
/// SHA-256. Leaves stand readable on the disk, what is in payloads does not; who has a payload can tell which it is.
fn in_ledger(name: &str) -> String {
    let Some((kind, given)) = name.split_once(' ') else {
        return name.to_owned();
    };
    format!("{kind} {}", digits_of(given))
}

/// The source in an origin, which may end in the name that a person gave to the source that says it.
fn spoken_of(source: &str, name: &str) -> String {
    let given = name.split_once(' ').map(|(_, given)| given);
    match given.and_then(|given| Some((source.strip_suffix(given)?, given))) {
        Some((before, given)) if before.is_empty() || before.ends_with(' ') => {
            format!("{before}{}", digits_of(given))
        }
        _ => source.to_owned(),
    }
}

fn digits_of(given: &str) -> String {
    let digest = Digest::of(given.as_bytes());
    let digits = digest.as_bytes().iter().take(DIGITS_OF_A_NAME / 2);
    let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
    format!("#{digits}")
}

fn list(origins: &BTreeSet<String>) -> String {
    let origins: Vec<&str> = origins.iter().map(String::as_str).collect();
    origins.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn seen() -> Seen {
        let mut seen = Seen::default();
        seen.see(|face| {
            face.state = State::Works;
            speak(face, "rapl");
        });
        assert_eq!(seen.note("s", 0).as_deref(), Some("s: appears"));
        seen.tell(0);
        seen
    }

    fn speak(face: &mut Face, source: &str) {
        let origins = BTreeSet::from([source.to_owned()]);
        face.origins.insert(Quantity::EnergyUj, origins);
    }

    #[test]
    fn a_change_is_told_once_and_in_words() {
        let mut seen = seen();
        seen.see(|face| speak(face, "rapl"));
        assert_eq!(seen.note("s", 1), None, "nothing changed");
        seen.see(|face| {
            let origins = BTreeSet::from(["proc".to_owned()]);
            face.origins.insert(Quantity::CpuBusyMs, origins);
        });
        assert_eq!(seen.words, None, "it says more than before");
        seen.see(|face| speak(face, "model"));
        let words = "energy_uj from model, was rapl";
        assert_eq!(seen.words.as_deref(), Some(words));
        assert_eq!(seen.note("s", 1), Some(format!("s: {words}")));
        seen.tell(1);
        seen.see(|face| face.state = State::Failing);
        assert_eq!(seen.note("s", 2).as_deref(), Some("s: fails"));
        seen.tell(2);
        seen.see(|face| face.state = State::Works);
        assert_eq!(seen.note("s", 3).as_deref(), Some("s: works again"));
        seen.tell(3);
        seen.see(|face| face.state = State::Absent);
        assert_eq!(seen.note("s", HOUR_MS).as_deref(), Some("s: is gone"));
    }

    #[test]
    fn what_is_said_later_than_the_rest_changes_as_loudly() {
        // Counters have no energy at the first look; the ledger learns of the source without it.
        let mut seen = Seen::default();
        seen.see(|face| face.state = State::Works);
        assert_eq!(seen.note("s", 0).as_deref(), Some("s: appears"));
        seen.tell(0);
        assert!(seen.see(|face| speak(face, "rapl")), "it is to be kept");
        assert_eq!(seen.note("s", 1), None, "it says more, and changes nothing");
        assert!(!seen.see(|face| speak(face, "model")));
        let words = "s: energy_uj from model, was rapl";
        assert_eq!(seen.note("s", 2).as_deref(), Some(words));
    }

    #[test]
    fn a_source_that_flaps_gets_a_few_leaves_an_hour_and_the_rest_is_counted() {
        let mut seen = seen();
        let mut leaves = Vec::new();
        for tick in 1..=700 {
            let now_ms = tick * 5_000;
            seen.see(|face| {
                face.state = match tick % 2 {
                    0 => State::Works,
                    _ => State::Failing,
                }
            });
            if let Some(note) = seen.note("s", now_ms) {
                leaves.push(note);
                seen.tell(now_ms);
            }
        }
        // With the one that told of its appearance.
        assert_eq!(leaves.len() + 1, SOURCE_LEAVES_PER_HOUR, "{leaves:?}");
        // It has calmed down, and the ledger learns how often it changed in between.
        let later = seen.note("s", 3 * HOUR_MS);
        let told = "s: works again; 696 changes before this one have no leaf";
        assert_eq!(later.as_deref(), Some(told));
        seen.tell(3 * HOUR_MS);
        assert_eq!(seen.note("s", 3 * HOUR_MS), None);
    }

    #[test]
    fn a_source_that_comes_back_with_another_method_says_both() {
        let mut seen = seen();
        seen.see(|face| {
            face.state = State::Failing;
        });
        seen.tell(1);
        seen.see(|face| {
            face.state = State::Works;
            speak(face, "model");
        });
        assert_eq!(
            seen.note("s", 2).as_deref(),
            Some("s: works again; energy_uj from model, was rapl")
        );
    }

    #[test]
    fn the_name_that_a_person_gave_is_not_in_the_ledger() {
        assert_eq!(in_ledger("compute/host"), "compute/host");
        // echo -n archive | sha256sum
        assert_eq!(
            in_ledger("storage/filesystem archive"),
            "storage/filesystem #0eb3e36b"
        );
    }

    #[test]
    fn nor_is_it_where_an_origin_ends_in_it() {
        let name = "compute/prometheus archive";
        let digits = digits_of("archive");
        assert_eq!(spoken_of("archive", name), digits);
        assert_eq!(
            spoken_of("exporter archive", name),
            format!("exporter {digits}")
        );
        assert_eq!(spoken_of("myarchive", name), "myarchive");
        assert_eq!(spoken_of("procfs", "compute/host"), "procfs");
    }

    #[test]
    fn what_is_kept_reads_back() {
        let seen = seen();
        let text = serde_json::to_string(&seen.told).unwrap();
        assert_eq!(
            text,
            r#"{"state":"works","origins":{"energy_uj":["rapl"]}}"#
        );
        let face: Face = serde_json::from_str(&text).unwrap();
        assert_eq!(face, seen.told);
    }
}
