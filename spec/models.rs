//! Model efficiency (specification II.B): whether routine tasks go to small models.
//!
//! Prompts and completions are not part of any type here, so they cannot leave.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::payload::v1::{self, Complexity, ModelSummary};
use crate::provenance::Origin;
use crate::units::{Fixed, MICROJOULES_PER_KWH, Microjoules};
use crate::windows::BUCKET;

/// A small model has at most this many parameters.
pub const SMALL_MODEL_PARAMETERS_MAX: u64 = 30_000_000_000;

/// A slot's log is complete up to this many requests, and a uniform sample beyond.
pub const LOG_ROWS_MAX: usize = 400;

/// One served request: metadata alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inference {
    /// A salted hash of the server's request id, unless configured otherwise.
    pub request_id: String,
    /// When it was answered.
    pub at: Timestamp,
    /// The endpoint that served it, as the inventory baseline names it.
    pub endpoint: String,
    /// The served model's name.
    pub model: String,
    /// Its size, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// For example `classification`.
    pub task_type: String,
    /// From a tag, a rule or the path's class.
    pub complexity: Complexity,
    /// Input and output tokens, where the server counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// From request to last token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_time_ms: Option<u64>,
    /// What it used, where a counter or a published model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Microjoules>,
    /// What the configured small model would have used for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small_model_energy: Option<Microjoules>,
    /// Index into the origins of the sample.
    #[serde(default)]
    pub origin: u16,
}

/// Requests of one key that are told as a sum: those that their server does not list singly, and those that
/// the log leaves out because it is a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The endpoint that served them.
    pub endpoint: String,
    /// When the newest of them was answered.
    pub at: Timestamp,
    /// What they have in common.
    pub key: ModelKey,
    /// How many; none where their server counts tokens alone.
    pub requests: u64,
    /// How many of them were told singly, so that the log stands for them.
    pub listed: u64,
    /// Input and output tokens.
    pub tokens: u64,
    /// What those used whose energy is known.
    pub energy: Microjoules,
    /// How many those are.
    pub energy_requests: u64,
    /// What of it a small model would have saved.
    pub wasted: Microjoules,
    /// Index into the origins of the sample.
    #[serde(default)]
    pub origin: u16,
}

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelKey {
    /// The served model's name.
    pub model: String,
    /// Its size, where it is known.
    pub parameters: Option<u64>,
    /// The kind of task.
    pub task_type: String,
    /// What kind of model the task justifies.
    pub complexity: Complexity,
}

/// Rolling sums of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelUse {
    /// Requests.
    pub requests: u128,
    /// Input and output tokens.
    pub tokens: u128,
    /// Energy of the requests whose energy is known.
    pub energy_uj: u128,
    /// How many those are.
    pub energy_requests: u128,
    /// Energy of mismatches above what the small model would have used.
    pub wasted_uj: u128,
}

/// All keys at the close of a window, and the requests of the slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Rolling sums of 30 days.
    pub rolling: BTreeMap<ModelKey, ModelUse>,
    /// Requests of the slot, or a uniform sample of them.
    pub log: Vec<Inference>,
    /// How many requests the log stands for.
    pub log_of: u64,
    /// How many more the slot had, which their servers told as sums only.
    pub summed: u64,
    /// Where requests were read, and when the newest ones were.
    pub origins: Vec<(Origin, Timestamp)>,
}

/// Whether a model counts as small. Unknown size does not.
#[must_use]
pub fn is_small(parameters: Option<u64>) -> bool {
    parameters.is_some_and(|count| count <= SMALL_MODEL_PARAMETERS_MAX)
}

impl Inference {
    /// The key under which it is summed.
    #[must_use]
    pub fn key(&self) -> ModelKey {
        ModelKey {
            model: self.model.clone(),
            parameters: self.parameters,
            task_type: self.task_type.clone(),
            complexity: self.complexity,
        }
    }

    /// Energy used beyond what the small model would have used; never below 0, only for mismatches.
    #[must_use]
    pub fn wasted(&self) -> Microjoules {
        let key = (self.complexity, self.parameters);
        wasted(key, self.energy, self.small_model_energy)
    }

    /// The row of the payload.
    #[must_use]
    pub fn row(&self) -> v1::Inference {
        const MICROJOULES_PER_WH: u128 = MICROJOULES_PER_KWH as u128 / 1_000;
        v1::Inference {
            request_id: self.request_id.clone(),
            timestamp: self.at,
            task_type: self.task_type.clone(),
            task_complexity: self.complexity,
            model_used: self.model.clone(),
            model_parameters: self.parameters,
            response_time_ms: self.response_time_ms,
            tokens_processed: self.tokens,
            energy_estimate_wh: self
                .energy
                .and_then(|used| Fixed::ratio(u128::from(used.0), MICROJOULES_PER_WH)),
        }
    }
}

/// Energy used beyond what the small model would have used, for requests of one complexity to a model of one size;
/// never below 0, only for mismatches.
#[must_use]
pub fn wasted(
    (complexity, parameters): (Complexity, Option<u64>),
    used: Option<Microjoules>,
    needed: Option<Microjoules>,
) -> Microjoules {
    let mismatch = complexity == Complexity::Routine && !is_small(parameters);
    match (mismatch, used, needed) {
        (true, Some(used), Some(needed)) => used - needed,
        _ => Microjoules::ZERO,
    }
}

/// The rolling sums as the payload states them.
#[must_use]
pub fn summary(rolling: &BTreeMap<ModelKey, ModelUse>) -> ModelSummary {
    let count = |wanted: &dyn Fn(&ModelKey) -> bool| {
        let sum = rolling
            .iter()
            .filter(|(key, _)| wanted(key))
            .fold(0_u128, |sum, (_, used)| sum.saturating_add(used.requests));
        u64::try_from(sum).unwrap_or(u64::MAX)
    };
    let routine = count(&|key| key.complexity == Complexity::Routine);
    let to_small = count(&|key| key.complexity == Complexity::Routine && is_small(key.parameters));
    let wasted = rolling
        .values()
        .fold(0_u128, |sum, used| sum.saturating_add(used.wasted_uj));
    ModelSummary {
        total_inference_requests_30day: count(&|_| true),
        routine_tasks_total: routine,
        routine_to_slm_count: to_small,
        routine_to_slm_ratio: Fixed::ratio(u128::from(to_small), u128::from(routine)),
        model_mismatch_count: routine - to_small,
        energy_wasted_kwh: Fixed::ratio(wasted, u128::from(MICROJOULES_PER_KWH))
            .unwrap_or_default(),
    }
}

/// Requests that the figures cannot speak for, with why.
#[must_use]
pub fn unknowns(rolling: &BTreeMap<ModelKey, ModelUse>) -> [(&'static str, u128, &'static str); 3] {
    let (mut size, mut class, mut energy) = (0_u128, 0_u128, 0_u128);
    for (key, used) in rolling {
        if key.parameters.is_none() {
            size = size.saturating_add(used.requests);
        }
        if key.complexity == Complexity::Unclassified {
            class = class.saturating_add(used.requests);
        }
        energy = energy.saturating_add(used.requests.saturating_sub(used.energy_requests));
    }
    [
        (
            "inference_log[].model_parameters",
            size,
            "went to models of unknown size, which count as not small",
        ),
        (
            "inference_log[].task_complexity",
            class,
            "are unclassified: no tag and no rule matched",
        ),
        (
            "inference_log[].energy_estimate_wh",
            energy,
            "have no energy figure and count as none wasted",
        ),
    ]
}

/// Tokens of models of which no request was counted, as by servers that count none: what they used counts, and they are
/// in no number and no ratio of requests.
#[must_use]
pub fn uncounted(rolling: &BTreeMap<ModelKey, ModelUse>) -> u128 {
    let alone = rolling.values().filter(|used| used.requests == 0);
    alone.fold(0, |sum, used| sum.saturating_add(used.tokens))
}

/// Where a request stands in a uniform sample: those that rank lowest are in it, whoever takes the sample.
#[must_use]
pub fn sample_rank(request_id: &str) -> u64 {
    // FNV-1a and a final mix; spread evenly and the same everywhere is all that is asked of it.
    let mixed = request_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// Buckets of requests that are listed at the same time: late ones come within hours.
const LISTED_BUCKETS_MAX: usize = 8;

/// Chooses which requests of a bucket are listed: the uniform sample that the window keeps, as far as one source can
/// know it. All others need only be counted.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    buckets: BTreeMap<i64, BTreeSet<u64>>,
}

impl Listing {
    /// Whether a request is among those that its bucket lists so far.
    pub fn takes(&mut self, at: Timestamp, request_id: &str) -> bool {
        let bucket = BUCKET.slot_at(at).number(BUCKET);
        let rank = sample_rank(request_id);
        let ranks = self.buckets.entry(bucket).or_default();
        if ranks.len() >= LOG_ROWS_MAX && ranks.last().is_some_and(|last| *last <= rank) {
            return false;
        }
        ranks.insert(rank);
        if ranks.len() > LOG_ROWS_MAX {
            ranks.pop_last();
        }
        while self.buckets.len() > LISTED_BUCKETS_MAX {
            self.buckets.pop_first();
        }
        true
    }
}
