//! One line of the standardized log format.

use std::collections::BTreeMap;
use std::str;

use cms_spec::decimal::Decimal;
use cms_spec::payload::v1::Complexity;
use cms_spec::units::Microjoules;
use jiff::Timestamp;

use super::super::json::{Broken, Json};
use super::super::request::{ModelFacts, Request, Route, SizeFrom, Tags, Word};
use super::super::words::{complexity, instant, path};

/// Why a line is wrong.
pub(super) const NO_JSON: &str = "lines that were no JSON";

/// Most models whose size is remembered; what else is told is told again.
const KNOWN_MAX: usize = 256;

/// What is read of a line.
#[derive(Debug, Default)]
pub(super) struct Entry {
    is_object: bool,
    id: Option<Word>,
    at: When,
    endpoint: Option<Word>,
    model: Option<Word>,
    parameters: Option<u64>,
    task_type: Option<Word>,
    complexity: Option<Complexity>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    tokens: Option<u64>,
    took_ms: Option<Decimal>,
    energy_wh: Option<Decimal>,
    key: Option<Word>,
    adapter: Option<Word>,
}

#[derive(Clone, Copy, Debug, Default)]
enum When {
    #[default]
    Missing,
    /// It stands there and is no time with an offset.
    Wrong,
    At(Timestamp),
}

impl Entry {
    /// Reads a line.
    pub(super) fn read(json: &mut Json<'_>) -> Result<Self, Broken> {
        let mut entry = Self::default();
        entry.is_object = json.object(|json, key| {
            match key {
                b"request_id" => entry.id = json.word()?,
                b"timestamp" => entry.at = when(json)?,
                b"endpoint" => entry.endpoint = json.text()?.as_deref().and_then(path),
                b"model" | b"model_used" => entry.model = json.word()?,
                b"model_parameters" => entry.parameters = json.count()?,
                b"task_type" => entry.task_type = json.word()?,
                b"task_complexity" => {
                    entry.complexity = json.text()?.as_deref().and_then(complexity);
                }
                b"input_tokens" => entry.input_tokens = json.count()?,
                b"output_tokens" => entry.output_tokens = json.count()?,
                b"tokens_processed" => entry.tokens = json.count()?,
                b"response_time_ms" => entry.took_ms = json.number()?,
                b"energy_wh" | b"energy_estimate_wh" => entry.energy_wh = json.number()?,
                b"key" => entry.key = json.word()?,
                b"adapter" => entry.adapter = json.word()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(entry)
    }

    /// The request that it tells of and what its model is, or what is wrong with it.
    pub(super) fn judged(self) -> Result<(Request, Option<ModelFacts>), &'static str> {
        if !self.is_object {
            return Err("lines that were no objects");
        }
        let id = self.id.ok_or("lines without a request_id")?;
        let model = self.model.ok_or("lines without a model")?;
        let at = match self.at {
            When::At(at) => at,
            When::Missing => return Err("lines without a timestamp"),
            When::Wrong => return Err("lines with a timestamp that has no offset or is no time"),
        };
        let facts = self
            .parameters
            .filter(|count| *count > 0)
            .map(|parameters| ModelFacts {
                name: model.clone(),
                parameters,
                from: SizeFrom::Counted,
            });
        // What the sum and one part say, the other part follows from.
        let rest = |part: Option<u64>| self.tokens.and_then(|sum| sum.checked_sub(part?));
        let input_tokens = self.input_tokens.or_else(|| rest(self.output_tokens));
        let output_tokens = self.output_tokens.or_else(|| rest(self.input_tokens));
        let milliseconds = self.took_ms.map(|took| took.rounded(0));
        let request = Request {
            id: Some(id),
            at: Some(at),
            model: Some(model),
            input_tokens,
            output_tokens,
            total_tokens: self.tokens,
            duration_ms: milliseconds.and_then(super::super::json::whole),
            energy: self.energy_wh.and_then(energy),
            tags: Tags {
                task_type: self.task_type,
                complexity: self.complexity,
            },
            route: Route {
                path: self.endpoint,
                key: self.key,
                adapter: self.adapter,
            },
        };
        Ok((request, facts))
    }
}

/// A watt-hour is 3,600 joules.
fn energy(watt_hours: Decimal) -> Option<Microjoules> {
    let joules = watt_hours.checked_mul(Decimal::whole(3_600))?;
    joules.to_micro().map(Microjoules)
}

/// RFC 3339 with its offset, or seconds since 1970.
fn when(json: &mut Json<'_>) -> Result<When, Broken> {
    let mut number = json.clone();
    let at = match json.text()? {
        Some(text) => str::from_utf8(&text)
            .ok()
            .and_then(|text| text.parse().ok()),
        None => number.number()?.and_then(instant),
    };
    Ok(at.map_or(When::Wrong, When::At))
}

/// The models whose size was told.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<Word, u64>);

impl Known {
    /// Whether it says something that was not told before.
    pub(super) fn is_new(&mut self, facts: &ModelFacts) -> bool {
        if self.0.get(&facts.name) == Some(&facts.parameters) {
            return false;
        }
        if self.0.len() < KNOWN_MAX || self.0.contains_key(&facts.name) {
            self.0.insert(facts.name.clone(), facts.parameters);
        }
        true
    }
}
