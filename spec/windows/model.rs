//! The window of model requests: rolling sums for each (model, task, complexity), and the newest slots' logs.

use std::collections::BTreeMap;

use super::ring::Ring;
use super::{BUCKET_MS, Dirty, Dropped, millis};
use crate::models::{Inference, LOG_ROWS_MAX, ModelKey, ModelUse, sample_rank};
use crate::slot::Slot;

/// Most combinations of model, task and complexity.
pub(super) const KEYS_MAX: usize = 10_000;

/// Most model endpoints.
pub(super) const ENDPOINTS_MAX: usize = 10_000;

/// Logs are kept for two hours of slots: the newest goes out, the others can still close late.
pub(super) const LOGS_MAX: usize = 8;

/// Columns of a bucket: requests, tokens, energy, requests with energy, wasted energy.
pub(super) const MODEL_COLUMNS: usize = 5;

/// All requests of one agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Models {
    pub(super) keys: BTreeMap<ModelKey, Ring<MODEL_COLUMNS>>,
    pub(super) endpoints: BTreeMap<String, i64>,
    pub(super) logs: BTreeMap<i64, Log>,
    pub(super) newest: Option<(u16, i64)>,
}

/// The requests of one bucket, or a uniform sample: those whose ids hash lowest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) rows: BTreeMap<(u64, String), Inference>,
    pub(super) of: u64,
}

impl Models {
    pub(super) fn observe(
        &mut self,
        inference: &Inference,
        origin: Option<u16>,
        floor: i64,
        dirty: &mut Dirty,
        dropped: &mut Dropped,
    ) {
        let at = millis(inference.at);
        let bucket = at.div_euclid(BUCKET_MS);
        let key = inference.key();
        if bucket < floor {
            dropped.late += 1;
            return;
        }
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&key) {
            dropped.excess += 1;
            return;
        }
        let ring = self.keys.entry(key).or_default();
        ring.add(bucket, 0, 1);
        ring.add(bucket, 1, inference.tokens);
        if let Some(energy) = inference.energy {
            ring.add(bucket, 2, energy.0);
            ring.add(bucket, 3, 1);
        }
        ring.add(bucket, 4, inference.wasted().0);
        dirty.blocks.insert(bucket);
        if self.endpoints.len() < ENDPOINTS_MAX || self.endpoints.contains_key(&inference.endpoint)
        {
            let seen = self
                .endpoints
                .entry(inference.endpoint.clone())
                .or_insert(at);
            *seen = at.max(*seen);
        } else {
            dropped.excess += 1;
        }
        let newer = self.newest.is_none_or(|(_, newest)| newest <= at);
        if let (Some(origin), true) = (origin, newer) {
            self.newest = Some((origin, at));
        }
        self.logs.entry(bucket).or_default().add(inference);
        self.forget_logs();
    }

    pub(super) fn keep(&mut self, from: i64, to: i64) {
        self.keys.retain(|_, ring| {
            ring.keep(from, to);
            !ring.is_empty()
        });
        self.endpoints
            .retain(|_, seen| seen.div_euclid(BUCKET_MS) >= from);
        self.logs.retain(|bucket, _| (from..to).contains(bucket));
    }

    pub(super) fn forget_logs(&mut self) {
        while self.logs.len() > LOGS_MAX {
            self.logs.pop_first();
        }
    }

    pub(super) fn origin(&self) -> Option<(u16, i64)> {
        self.newest
    }

    pub(super) fn rolling(&self, from: i64, to: i64) -> BTreeMap<ModelKey, ModelUse> {
        self.keys
            .iter()
            .map(|(key, ring)| {
                let [requests, tokens, energy_uj, energy_requests, wasted_uj] = ring.sum(from, to);
                let used = ModelUse {
                    requests,
                    tokens,
                    energy_uj,
                    energy_requests,
                    wasted_uj,
                };
                (key.clone(), used)
            })
            .filter(|(_, used)| used.requests > 0)
            .collect()
    }

    /// The slot's requests in order of time, at most [`LOG_ROWS_MAX`], and how many there were.
    pub(super) fn log(&self, slot: Slot) -> (Vec<Inference>, u64) {
        let mut merged = Log::default();
        let mut of = 0_u64;
        for log in self.logs.values() {
            let inside: Vec<&Inference> = log
                .rows
                .values()
                .filter(|row| slot.contains(row.at))
                .collect();
            // Where the bucket itself is a sample, its share inside the slot stands for the rest.
            let kept = u128::from(super::count(log.rows.len()).max(1));
            let share = u128::from(super::count(inside.len())) * u128::from(log.of) / kept;
            of = of.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
            for row in inside {
                merged.add(row);
            }
        }
        let mut rows: Vec<Inference> = merged.rows.into_values().collect();
        rows.sort_by(|a, b| (a.at, &a.request_id).cmp(&(b.at, &b.request_id)));
        (rows, of)
    }
}

impl Log {
    pub(super) fn add(&mut self, inference: &Inference) {
        self.of = self.of.saturating_add(1);
        let key = (
            sample_rank(&inference.request_id),
            inference.request_id.clone(),
        );
        self.rows.insert(key, inference.clone());
        if self.rows.len() > LOG_ROWS_MAX {
            self.rows.pop_last();
        }
    }
}
