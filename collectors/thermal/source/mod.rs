//! Thermal sources: racks and rooms that give off heat, and what the point of use receives of it.
//!
//! Owns: which points make which figure, and in which order of preference. Promises: a figure comes from one place at a
//! time and says which; a reading counts once; what is late, implausible or missing is said for each point.
//! Refuses: figures from a wrong sign, and efficiencies, which the rules compute.

mod figures;
mod meter;
mod points;
mod settings;

use std::time::Duration;

use async_trait::async_trait;
use cms_spec::reading::{Readings, Snapshot};
use jiff::Timestamp;

use crate::thermal::device::PointError;
use crate::thermal::protocols::{Means, plan};
use crate::thermal::round::Rounds;
use crate::thermal::rules::{Judge, Value};
use crate::{CollectError, Collector, Host, Shown};

use figures::Figures;
use points::Point;
use settings::Config;
pub use settings::REGISTRATION;

/// How long the first tick waits for its devices: `check` and `preview` want to see them, and give up after ten seconds.
const FIRST_PATIENCE: Duration = Duration::from_secs(8);

/// How long every other tick waits for slow devices; what they say later counts at the next tick.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most problems that are told in one line.
const TOLD_MAX: usize = 3;

/// The collector.
struct Thermal {
    config: Config,
    host: Host,
    rounds: Option<Rounds>,
    judges: Vec<Judge>,
    /// The newest result of each point, as it passed its rules.
    held: Vec<Held>,
    figures: Vec<Figures>,
    waiting: usize,
    details: Vec<String>,
    shown: Vec<Shown>,
    trouble: Option<String>,
}

type Verdict = Result<Value, PointError>;

/// A point's newest observation, so that it is judged once, and what came of it.
#[derive(Debug)]
struct Held {
    seen: Option<crate::thermal::device::Observation>,
    verdict: Verdict,
}

impl Thermal {
    fn open(config: &Config, host: &Host) -> Self {
        let all = &config.points.all;
        let judges = all.iter().map(|point| Judge::new(point.rules.clone()));
        let not_yet = || Held {
            seen: None,
            verdict: Err(PointError::NotYet("nothing was read yet".to_owned())),
        };
        Self {
            judges: judges.collect(),
            held: all.iter().map(|_| not_yet()).collect(),
            figures: config.sources.iter().map(Figures::new).collect(),
            config: config.clone(),
            host: host.clone(),
            rounds: None,
            waiting: 0,
            details: Vec::new(),
            shown: Vec::new(),
            trouble: None,
        }
    }

    /// Asks all devices, and judges what they say.
    async fn read(&mut self, at: Timestamp) {
        let patience = match self.rounds {
            None => FIRST_PATIENCE,
            Some(_) => PATIENCE,
        };
        let rounds = self.rounds.get_or_insert_with(|| {
            let means: Vec<Means> = self
                .config
                .points
                .all
                .iter()
                .map(|p| p.means.clone())
                .collect();
            Rounds::start(plan(&means), &self.host)
        });
        self.waiting = rounds.round(at, patience).await;
        rounds.answers(|index, answer| {
            let (Some(held), Some(judge)) = (self.held.get_mut(index), self.judges.get_mut(index))
            else {
                return;
            };
            match answer {
                Err(error) => {
                    held.seen = None;
                    held.verdict = Err(error.clone());
                }
                // A round that is not over yet has the answer of the one before.
                Ok(seen) if held.seen == Some(*seen) => {}
                Ok(seen) => {
                    held.seen = Some(*seen);
                    held.verdict = judge.value(seen);
                }
            }
        });
    }

    /// The value of each point now: fresh, with formulas computed.
    fn values(&mut self, at: Timestamp) -> Vec<Verdict> {
        let mut values: Vec<Verdict> = Vec::with_capacity(self.held.len());
        for (held, judge) in self.held.iter().zip(&self.judges) {
            let fresh = held.verdict.clone().and_then(|value| {
                judge.rules().age(&value, at)?;
                Ok(value)
            });
            values.push(fresh);
        }
        for index in &self.config.points.formulas {
            let (Some(point), Some(judge)) = (
                self.config.points.all.get(*index),
                self.judges.get_mut(*index),
            ) else {
                continue;
            };
            let value = computed(point, &values, at).and_then(|seen| judge.value(&seen));
            if let Some(slot) = values.get_mut(*index) {
                *slot = value;
            }
        }
        values
    }

    /// One line for each point.
    fn describe(&mut self, values: &[Verdict], at: Timestamp) {
        let lines = self
            .config
            .points
            .all
            .iter()
            .zip(values)
            .map(|(point, value)| {
                let (name, label) = (&point.name, point.means.label());
                match value {
                    Ok(value) => {
                        let age_s =
                            (at.as_millisecond() - value.at.as_millisecond()).max(0) / 1_000;
                        let number = value.number.rounded(3);
                        let quality = match point.means {
                            Means::Formula(_) => "computed",
                            _ if value.stands => "stands until it changes",
                            _ => "measured",
                        };
                        format!(
                            "{name}: {number} {}, {age_s} s old, {quality}, {label}",
                            value.unit
                        )
                    }
                    Err(error) => format!("{name}: missing: {error} ({label})"),
                }
            });
        self.details = lines.collect();
        let points = self.config.points.all.iter().zip(values);
        self.shown = points
            .map(|(point, value)| Shown {
                name: point.name.clone(),
                place: point.means.label(),
                unit: value
                    .as_ref()
                    .map_or_else(|_| String::new(), |v| v.unit.to_string()),
                value: value
                    .as_ref()
                    .map(|v| v.number)
                    .map_err(ToString::to_string),
            })
            .collect();
    }
}

/// The value of a formula as an observation.
fn computed(
    point: &Point,
    values: &[Verdict],
    at: Timestamp,
) -> Result<crate::thermal::device::Observation, PointError> {
    let Means::Formula(formula) = &point.means else {
        return Err(PointError::Missing("it is no formula".to_owned()));
    };
    let of = |name: &str| values.get(*point.names.get(name)?)?.as_ref().ok();
    let raw = formula
        .value(&|name| of(name).map(|value| value.number))
        .map_err(|error| PointError::Missing(error.to_string()))?;
    // As old as the oldest of its points.
    let polled = point
        .names
        .keys()
        .filter_map(|name| of(name))
        .filter(|value| !value.stands);
    let oldest = polled.map(|value| value.at).min();
    Ok(crate::thermal::device::Observation {
        raw,
        at: oldest.unwrap_or(at),
        unit: None,
        stands: oldest.is_none(),
    })
}

#[async_trait]
impl Collector for Thermal {
    async fn collect(&mut self, at: Timestamp, out: &mut Readings) -> Result<(), CollectError> {
        self.read(at).await;
        let values = self.values(at);
        self.describe(&values, at);
        let mut problems: Vec<String> = Vec::new();
        for figures in &mut self.figures {
            figures.take(&self.config.points, &values, at, out, &mut problems);
        }
        let not_yet = |value: &Verdict| matches!(value, Err(PointError::NotYet(_)));
        let is_nothing_known = values.iter().all(not_yet);
        self.trouble = joined(&problems);
        if is_nothing_known && self.waiting > 0 {
            return Ok(());
        }
        if !values.iter().any(Result::is_ok) {
            let trouble = self.trouble.take().unwrap_or_default();
            return Err(CollectError::Unreachable {
                what: "any point of any thermal source".to_owned(),
                source: std::io::Error::other(trouble),
            });
        }
        for figures in &self.figures {
            out.snapshot(Snapshot::Thermal(figures.facts()));
        }
        Ok(())
    }

    fn progress(&self) -> Option<String> {
        let nothing = self
            .held
            .iter()
            .all(|h| matches!(h.verdict, Err(PointError::NotYet(_))));
        (self.waiting > 0 && nothing).then(|| format!("waiting for {} devices", self.waiting))
    }

    fn details(&self) -> Vec<String> {
        self.details.clone()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn shown(&self) -> Vec<Shown> {
        self.shown.clone()
    }
}

/// The first few problems, and how many more there are.
fn joined(problems: &[String]) -> Option<String> {
    let told: Vec<&str> = problems.iter().take(TOLD_MAX).map(String::as_str).collect();
    let more = problems.len().saturating_sub(TOLD_MAX);
    match (told.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(told.join("; ")),
        (false, more) => Some(format!("{}; and {more} more", told.join("; "))),
    }
}

#[cfg(test)]
mod tests;
