//! What feeds tell becomes what the window holds: classified, sized, deduplicated, with its energy.
//!
//! Promises: one request counts once; memory does not grow with the number of requests; the energy of a span is
//! shared among its requests to the last microjoule. Refuses: figures that nobody told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use cms_spec::inference_energy;
use cms_spec::models::{Inference, Listing, ModelKey, Tally, wasted};
use cms_spec::reading::{OriginIndex, Readings};
use cms_spec::units::Microjoules;
use cms_spec::windows::BUCKET;
use jiff::{SignedDuration, Timestamp};

use super::classify::{By, Class, Rule, classify};
use super::history::{Amount, Noted};
use super::seen::Seen;
use super::sizes::Sizes;
use crate::models::facts;
use crate::models::feed::Out;
use crate::models::request::{ModelFacts, Request, Route, Sum, Tags, Used, Word};

/// A request is not answered in the future; a little of it is the difference between two clocks.
const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(5);

/// Energy is kept for the requests that it served this long, in milliseconds; what nothing was told of for longer was
/// idle, and is nobody's.
const UNSHARED_MS_MAX: u64 = 60_000;

/// Most distinct keys of one tick; the window holds as many in all.
const GROUPS_MAX: usize = 10_000;

/// The name of a model that its server does not say.
const UNKNOWN_MODEL: &str = "unknown";

/// What all feeds of one agent share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) rules: Vec<Rule>,
    pub(super) salt: [u8; 16],
    /// Whether request ids leave the host as they are.
    pub(super) plain_ids: bool,
    /// What a routine request would have used at the small model.
    pub(super) small: Small,
    /// Whether a published model may speak where nothing was measured.
    pub(super) published: bool,
    pub(super) state: Mutex<State>,
}

/// The small model that routine requests could have gone to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Small {
    /// By the published model for this size.
    Sized(u64),
    /// By what was measured for a thousand output tokens.
    Measured(Microjoules),
}

impl fmt::Display for Small {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sized(parameters) => write!(f, "a model of {parameters} parameters"),
            Self::Measured(thousand) => {
                write!(f, "{} uJ for 1,000 output tokens", thousand.0)
            }
        }
    }
}

impl Small {
    /// What it uses for so many output tokens.
    fn of(self, output_tokens: u64) -> Option<Microjoules> {
        match self {
            Self::Sized(parameters) => inference_energy::published(parameters, output_tokens),
            Self::Measured(thousand) => {
                let used = u128::from(thousand.0) * u128::from(output_tokens) / 1_000;
                u64::try_from(used).ok().map(Microjoules)
            }
        }
    }
}

/// What changes with every request.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) seen: Seen,
    pub(super) sizes: Sizes,
    pub(super) listing: Listing,
}

impl Shared {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic under it leaves at worst one request half counted.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts of one feed since it was opened, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) duplicates: u64,
    pub(super) tokens: u64,
    pub(super) excess: u64,
    pub(super) by: BTreeMap<By, u64>,
}

impl Counts {
    /// Adds those of a call.
    pub(super) fn add(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.duplicates = self.duplicates.saturating_add(more.duplicates);
        self.tokens = self.tokens.saturating_add(more.tokens);
        self.excess = self.excess.saturating_add(more.excess);
        for (by, requests) in more.by {
            let decided = self.by.entry(by).or_default();
            *decided = decided.saturating_add(requests);
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} tokens", self.requests, self.tokens)?;
        for (by, requests) in self.by.iter().filter(|(_, requests)| **requests > 0) {
            write!(f, ", {requests} by {by}")?;
        }
        if self.duplicates > 0 {
            write!(f, ", {} seen twice and counted once", self.duplicates)?;
        }
        if self.excess > 0 {
            let excess = self.excess;
            write!(
                f,
                ", {excess} not counted: more than {GROUPS_MAX} kinds of them in one tick"
            )?;
        }
        Ok(())
    }
}

/// What one call of a feed told.
pub(super) struct Counting {
    shared: Arc<Shared>,
    endpoint: String,
    at: Timestamp,
    rows: Vec<Row>,
    groups: BTreeMap<(i64, ModelKey), Group>,
    used: Unshared,
    pub(super) counts: Counts,
    pub(super) noted: Noted,
    unnamed: u64,
}

/// Energy that no request has been told for yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unshared {
    energy: Microjoules,
    over_ms: u64,
}

/// A request that the log lists.
struct Row {
    inference: Inference,
    output_tokens: Option<u64>,
}

/// Requests that are told as a sum.
#[derive(Default)]
struct Group {
    newest: Timestamp,
    requests: u64,
    listed: u64,
    tokens: u64,
    output_tokens: u64,
    /// Whether output tokens are told.
    has_output: bool,
    /// Of how many requests they are known.
    with_output: u64,
    /// What the server itself measured.
    told: Microjoules,
    /// Of how many requests that is known.
    with_told: u64,
}

impl Counting {
    /// An empty one for the call at `at`.
    pub(super) fn new(shared: &Arc<Shared>, endpoint: &str, at: Timestamp, used: Unshared) -> Self {
        Self {
            shared: Arc::clone(shared),
            endpoint: endpoint.to_owned(),
            at,
            rows: Vec::new(),
            groups: BTreeMap::new(),
            used,
            counts: Counts::default(),
            noted: Noted::default(),
            unnamed: 0,
        }
    }

    /// Whether anything counts.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.groups.is_empty()
    }

    /// Puts everything into the tick's readings; answers the energy that waits for requests.
    pub(super) fn finish(self, origin: OriginIndex, out: &mut Readings) -> Unshared {
        if self.is_empty() {
            let used = self.used;
            let is_idle = used.over_ms > UNSHARED_MS_MAX;
            return if is_idle { Unshared::default() } else { used };
        }
        let mut shares = Shares::new(self.used, &self.rows, &self.groups);
        let shared = &self.shared;
        for mut row in self.rows {
            let inference = &mut row.inference;
            inference.energy = inference
                .energy
                .or_else(|| shares.take(row.output_tokens.unwrap_or(0), 1))
                .or_else(|| shared.published(inference.parameters, row.output_tokens?));
            inference.small_model_energy = row.output_tokens.and_then(|n| shared.small.of(n));
            out.inference(row.inference, origin);
        }
        for ((_, key), group) in self.groups {
            let output = group.output_tokens;
            let measured = match group.with_told {
                0 => shares.take(output, group.requests),
                _ => Some(group.told),
            };
            let is_told = group.has_output;
            let published = || shared.published(key.parameters, output).filter(|_| is_told);
            let (energy, energy_requests) = match (measured, published()) {
                (Some(energy), _) if group.with_told > 0 => (Some(energy), group.with_told),
                (Some(energy), _) => (Some(energy), group.requests),
                (None, Some(energy)) => (Some(energy), group.with_output),
                (None, None) => (None, 0),
            };
            let needed = shared.small.of(output).filter(|_| is_told);
            let tally = Tally {
                endpoint: self.endpoint.clone(),
                at: group.newest,
                requests: group.requests,
                listed: group.listed,
                tokens: group.tokens,
                energy: energy.unwrap_or(Microjoules::ZERO),
                energy_requests,
                wasted: wasted((key.complexity, key.parameters), energy, needed),
                key,
                origin: 0,
            };
            out.tally(tally, origin);
        }
        Unshared::default()
    }

    /// When something was answered: as it was told, but not in the future.
    fn time(&self, told: Option<Timestamp>) -> Timestamp {
        let latest = self.at.checked_add(AHEAD_MAX).unwrap_or(self.at);
        told.filter(|at| *at <= latest)
            .unwrap_or(self.at)
            .min(self.at)
    }

    /// What requests have in common; what decided it is noted.
    fn key(
        &mut self,
        model: Option<&Word>,
        (tags, route): (&Tags, &Route),
        amount: Amount,
    ) -> ModelKey {
        let Class {
            task_type,
            complexity,
            by,
        } = classify(&self.shared.rules, &self.endpoint, model, tags, route);
        let size = model.and_then(|model| self.shared.state().sizes.of(model));
        let size = size.or_else(|| {
            let facts = facts::by_name(model?)?;
            Some((facts.from, facts.parameters))
        });
        self.noted.add(by, (model, size.is_some()), route, amount);
        let decided = self.counts.by.entry(by).or_default();
        *decided = decided.saturating_add(amount.requests);
        ModelKey {
            model: model.map_or(UNKNOWN_MODEL, Word::as_str).to_owned(),
            parameters: size.map(|(_, parameters)| parameters),
            task_type,
            complexity,
        }
    }

    fn group(&mut self, at: Timestamp, key: ModelKey) -> Option<&mut Group> {
        let place = (BUCKET.slot_at(at).number(BUCKET), key);
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&place) {
            self.counts.excess += 1;
            return None;
        }
        let group = self.groups.entry(place).or_default();
        group.newest = group.newest.max(at);
        Some(group)
    }

    /// The id under which a request leaves the host.
    fn id(&mut self, told: Option<&Word>) -> String {
        let Some(told) = told else {
            self.unnamed += 1;
            let at = self.at.as_millisecond();
            return self.salted(&format!("{at} {}", self.unnamed));
        };
        if self.shared.plain_ids {
            return told.as_str().to_owned();
        }
        self.salted(told.as_str())
    }

    fn salted(&self, id: &str) -> String {
        let salted = [&self.shared.salt, b"\0".as_slice(), id.as_bytes()].concat();
        let hash = digest(&SHA256, &salted);
        let bytes = hash.as_ref().iter().take(16);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Shared {
    fn published(&self, parameters: Option<u64>, output_tokens: u64) -> Option<Microjoules> {
        if !self.published {
            return None;
        }
        inference_energy::published(parameters?, output_tokens)
    }
}

impl Out for Counting {
    fn request(&mut self, mut request: Request) {
        request.model = request.model.map(Word::without_folder);
        if let Some(id) = &request.id {
            let hash = digest(&SHA256, id.as_str().as_bytes());
            let first = hash.as_ref().first_chunk::<8>();
            let hash = first.map_or(0, |bytes| u64::from_be_bytes(*bytes));
            if !self.shared.state().seen.is_new(hash) {
                self.counts.duplicates += 1;
                return;
            }
        }
        let at = self.time(request.at);
        let amount = Amount {
            requests: 1,
            output_tokens: request.output_tokens.unwrap_or(0),
        };
        let about = (&request.tags, &request.route);
        let key = self.key(request.model.as_ref(), about, amount);
        let tokens = match (request.input_tokens, request.output_tokens) {
            (None, None) => request.total_tokens,
            (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        };
        self.counts.requests += 1;
        self.counts.tokens = self.counts.tokens.saturating_add(tokens.unwrap_or(0));
        let request_id = self.id(request.id.as_ref());
        if self.shared.state().listing.takes(at, &request_id) {
            let inference = Inference {
                request_id,
                at,
                endpoint: self.endpoint.clone(),
                model: key.model,
                parameters: key.parameters,
                task_type: key.task_type,
                complexity: key.complexity,
                tokens,
                response_time_ms: request.duration_ms,
                energy: request.energy,
                small_model_energy: None,
                origin: 0,
            };
            self.rows.push(Row {
                inference,
                output_tokens: request.output_tokens,
            });
            return;
        }
        if let Some(group) = self.group(at, key) {
            group.requests += 1;
            group.listed += 1;
            group.tokens = group.tokens.saturating_add(tokens.unwrap_or(0));
            group.add_output(request.output_tokens, 1);
            if let Some(energy) = request.energy {
                group.told += energy;
                group.with_told += 1;
            }
        }
    }

    fn sum(&mut self, mut sum: Sum) {
        sum.model = sum.model.map(Word::without_folder);
        let requests = sum.requests.unwrap_or(0);
        let input = sum.input_tokens.unwrap_or(0);
        let tokens = input.saturating_add(sum.output_tokens.unwrap_or(0));
        // Tokens come without a request where the server counts none, and where it counts one at its end only.
        if requests == 0 && tokens == 0 {
            return;
        }
        let at = self.time(sum.at);
        let amount = Amount {
            requests,
            output_tokens: sum.output_tokens.unwrap_or(0),
        };
        let key = self.key(sum.model.as_ref(), (&sum.tags, &sum.route), amount);
        self.counts.requests = self.counts.requests.saturating_add(requests);
        self.counts.tokens = self.counts.tokens.saturating_add(tokens);
        if let Some(group) = self.group(at, key) {
            group.requests = group.requests.saturating_add(requests);
            group.tokens = group.tokens.saturating_add(tokens);
            group.add_output(sum.output_tokens, requests);
        }
    }

    fn model(&mut self, mut facts: ModelFacts) {
        facts.name = facts.name.without_folder();
        self.shared.state().sizes.learn(facts);
    }

    fn used(&mut self, used: Used) {
        self.used.energy += used.energy;
        self.used.over_ms = self.used.over_ms.saturating_add(used.over_ms);
    }
}

impl Group {
    fn add_output(&mut self, tokens: Option<u64>, requests: u64) {
        let Some(tokens) = tokens else { return };
        self.output_tokens = self.output_tokens.saturating_add(tokens);
        self.has_output = true;
        self.with_output = self.with_output.saturating_add(requests);
    }
}

/// A span's energy, shared by output tokens, or by requests where no tokens are told. What each has taken is taken
/// from what is left, so that the shares add up exactly.
struct Shares {
    left: u128,
    weight: u128,
    by_tokens: bool,
}

impl Shares {
    fn new(used: Unshared, rows: &[Row], groups: &BTreeMap<(i64, ModelKey), Group>) -> Self {
        // What told its own energy takes no part in what was measured around it.
        let rows: Vec<&Row> = rows
            .iter()
            .filter(|row| row.inference.energy.is_none())
            .collect();
        let groups: Vec<&Group> = groups
            .values()
            .filter(|group| group.with_told == 0)
            .collect();
        let of_rows = rows
            .iter()
            .map(|row| u128::from(row.output_tokens.unwrap_or(0)));
        let of_groups = groups.iter().map(|group| u128::from(group.output_tokens));
        let tokens: u128 = of_rows.chain(of_groups).sum();
        let requests = groups.iter().map(|group| u128::from(group.requests));
        let requests = requests.sum::<u128>() + rows.len() as u128;
        Self {
            left: u128::from(used.energy.0),
            weight: if tokens > 0 { tokens } else { requests },
            by_tokens: tokens > 0,
        }
    }

    /// The share of one part; nothing where nothing was measured.
    fn take(&mut self, tokens: u64, requests: u64) -> Option<Microjoules> {
        let weight = u128::from(if self.by_tokens { tokens } else { requests });
        // What told no tokens has no share; that is not a share of nothing.
        if self.left == 0 || weight == 0 {
            return None;
        }
        let share = self.left * weight / self.weight;
        self.left -= share;
        self.weight = self.weight.saturating_sub(weight);
        u64::try_from(share).ok().map(Microjoules)
    }
}
