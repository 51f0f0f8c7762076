//! The window of model requests: rolling sums for each (model, task, complexity), and the newest slots' logs.

use std::collections::BTreeMap;

use super::ring::Ring;
use super::{BUCKET_MS, Dirty, Dropped, millis, timestamp};
use crate::models::{Inference, LOG_ROWS_MAX, ModelKey, ModelUse, Tally, sample_rank};
use crate::slot::Slot;
use crate::units::Microjoules;

/// Most combinations of model, task and complexity.
pub(super) const KEYS_MAX: usize = 10_000;

/// Most model endpoints.
pub(super) const ENDPOINTS_MAX: usize = 10_000;

/// Logs are kept for two hours of slots: the newest goes out, the others can still close late.
pub(super) const LOGS_MAX: usize = 8;

/// Most places that requests are read at and that the payload names: feeds and how they are read.
const ORIGINS_MAX: usize = 64;

/// Columns of a bucket: requests, tokens, energy, requests with energy, wasted energy.
pub(super) const MODEL_COLUMNS: usize = 5;

/// All requests of one agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Models {
    pub(super) keys: BTreeMap<ModelKey, Ring<MODEL_COLUMNS>>,
    pub(super) endpoints: BTreeMap<String, i64>,
    pub(super) logs: BTreeMap<i64, Log>,
    /// Where requests were read, by index, and when the newest ones were answered.
    pub(super) origins: BTreeMap<u16, i64>,
}

/// The requests of one bucket, or a uniform sample: those whose ids hash lowest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) rows: BTreeMap<(u64, String), Inference>,
    pub(super) of: u64,
    /// Requests that were told as sums only.
    pub(super) summed: u64,
}

/// One request, or a sum of them, on its way into a window.
struct Entry<'a> {
    at: i64,
    key: ModelKey,
    endpoint: &'a str,
    row: [u64; MODEL_COLUMNS],
}

impl Models {
    /// Takes one request in.
    pub(super) fn observe(
        &mut self,
        inference: &Inference,
        origin: Option<u16>,
        floor: i64,
        dirty: &mut Dirty,
        dropped: &mut Dropped,
    ) {
        let energy = inference.energy;
        let entry = Entry {
            at: millis(inference.at),
            key: inference.key(),
            endpoint: &inference.endpoint,
            row: [
                1,
                inference.tokens.unwrap_or(0),
                energy.unwrap_or(Microjoules::ZERO).0,
                u64::from(energy.is_some()),
                inference.wasted().0,
            ],
        };
        if let Some(log) = self.enter(entry, origin, floor, dirty, dropped) {
            log.add(inference);
        }
        self.forget_logs();
    }

    /// Takes a sum of requests in.
    pub(super) fn tally(
        &mut self,
        tally: &Tally,
        origin: Option<u16>,
        floor: i64,
        dirty: &mut Dirty,
        dropped: &mut Dropped,
    ) {
        let entry = Entry {
            at: millis(tally.at),
            key: tally.key.clone(),
            endpoint: &tally.endpoint,
            row: [
                tally.requests,
                tally.tokens,
                tally.energy.0,
                tally.energy_requests,
                tally.wasted.0,
            ],
        };
        if let Some(log) = self.enter(entry, origin, floor, dirty, dropped) {
            let listed = tally.listed.min(tally.requests);
            log.of = log.of.saturating_add(listed);
            log.summed = log.summed.saturating_add(tally.requests - listed);
        }
        self.forget_logs();
    }

    /// Adds to the sums, and answers the log of the same bucket.
    fn enter(
        &mut self,
        entry: Entry<'_>,
        origin: Option<u16>,
        floor: i64,
        dirty: &mut Dirty,
        dropped: &mut Dropped,
    ) -> Option<&mut Log> {
        let Entry {
            at,
            key,
            endpoint,
            row,
        } = entry;
        let bucket = at.div_euclid(BUCKET_MS);
        if bucket < floor {
            dropped.late += row[0];
            return None;
        }
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&key) {
            dropped.excess += row[0];
            return None;
        }
        let ring = self.keys.entry(key).or_default();
        for (column, amount) in row.into_iter().enumerate() {
            ring.add(bucket, column, amount);
        }
        dirty.blocks.insert(bucket);
        if self.endpoints.len() < ENDPOINTS_MAX || self.endpoints.contains_key(endpoint) {
            let seen = self.endpoints.entry(endpoint.to_owned()).or_insert(at);
            *seen = at.max(*seen);
        } else {
            dropped.excess += 1;
        }
        if let Some(origin) = origin
            && (self.origins.len() < ORIGINS_MAX || self.origins.contains_key(&origin))
        {
            let newest = self.origins.entry(origin).or_insert(at);
            *newest = at.max(*newest);
        }
        Some(self.logs.entry(bucket).or_default())
    }

    pub(super) fn keep(&mut self, from: i64, to: i64) {
        self.keys.retain(|_, ring| {
            ring.keep(from, to);
            !ring.is_empty()
        });
        self.endpoints
            .retain(|_, seen| seen.div_euclid(BUCKET_MS) >= from);
        self.logs.retain(|bucket, _| (from..to).contains(bucket));
        self.origins
            .retain(|_, newest| newest.div_euclid(BUCKET_MS) >= from);
    }

    pub(super) fn forget_logs(&mut self) {
        while self.logs.len() > LOGS_MAX {
            self.logs.pop_first();
        }
    }

    /// Where requests were read.
    pub(super) fn origins(&self) -> impl Iterator<Item = (u16, i64)> {
        self.origins.iter().map(|(index, at)| (*index, *at))
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
            .filter(|(_, used)| used.requests > 0 || used.tokens > 0)
            .collect()
    }

    /// The slot's requests in order of time, at most [`LOG_ROWS_MAX`], how many there were, and how many more were
    /// told as sums.
    pub(super) fn log(&self, slot: Slot) -> (Vec<Inference>, u64, u64) {
        let mut merged = Log::default();
        let (mut of, mut summed) = (0_u64, 0_u64);
        for (bucket, log) in &self.logs {
            let inside: Vec<&Inference> = log
                .rows
                .values()
                .filter(|row| slot.contains(row.at))
                .collect();
            // Where the bucket itself is a sample, its share inside the slot stands for the rest.
            let kept = u128::from(super::count(log.rows.len()).max(1));
            let share = u128::from(super::count(inside.len())) * u128::from(log.of) / kept;
            of = of.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
            // A sum has no finer time than its bucket, and counts in the slot in which the bucket begins.
            if slot.contains(timestamp(bucket.saturating_mul(BUCKET_MS))) {
                summed = summed.saturating_add(log.summed);
            }
            for row in inside {
                merged.add(row);
            }
        }
        let mut rows: Vec<Inference> = merged.rows.into_values().collect();
        rows.sort_by(|a, b| (a.at, &a.request_id).cmp(&(b.at, &b.request_id)));
        (rows, of, summed)
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
