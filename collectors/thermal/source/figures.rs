//! The figures of one source: which point speaks for the heat given off, and what is wrong between figures.

use std::collections::{BTreeMap, BTreeSet};

use cms_spec::heat::ThermalFacts;
use cms_spec::hydronic::{self, Flow};
use cms_spec::provenance::{Confidence, Fallback, Origin, Quality};
use cms_spec::reading::{Quantity, Readings, Value as Read};
use jiff::Timestamp;

use super::Verdict;
use super::meter::{Meter, Step};
use super::points::Points;
use super::settings::{Circuit, Spec};
use crate::thermal::device::PointError;
use crate::thermal::protocols::Means;
use crate::thermal::rules::Value;
use crate::thermal::unit::{Dimension, Unit};

/// Readings in a row that a better rung needs to be believed again: five minutes at the usual 30 s.
const TICKS_TO_BELIEVE: u32 = 10;

/// Flow and temperatures that are further apart in time make no product: load has changed in between.
const APART_MS_MAX: i64 = 60_000;

/// Accuracies, in hundredths of a percent, that provenance tells apart.
const ACCURACIES: [u32; 7] = [400, 500, 600, 800, 1_000, 1_500, 2_000];

/// Delivery and output are compared over this long.
const COMPARED_MS: u64 = 3_600_000;

/// From this long on a comparison says something.
const COMPARED_MS_MIN: u64 = 600_000;

/// Two meters of class 2 may differ by as much, in percent.
const METERS_DIFFER_PERCENT: u128 = 10;

/// Below this mean output, in milliwatts, a share says nothing.
const COMPARED_MW_MIN: u128 = 100_000;

/// Why one figure is preferred to another: the order of the specification's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Meter,
    Circuit,
    Electrical,
}

/// Follows one source.
#[derive(Debug)]
pub(super) struct Figures {
    spec: Spec,
    rungs: Vec<OnRung>,
    current: Option<usize>,
    delivered: Meter,
    captured: Meter,
    exhaust: Option<Timestamp>,
    compared: [(u128, u64); 2],
    is_more_delivered: bool,
    missing: BTreeMap<Quantity, String>,
}

/// One rung of the output's ladder.
#[derive(Debug)]
struct OnRung {
    rung: Rung,
    meter: Meter,
    valid_ticks: u32,
    accuracy: Accuracy,
    reason: Option<&'static str>,
}

/// The accuracy that is told: a worse one at once, a better one when it has lasted.
#[derive(Debug, Default)]
struct Accuracy {
    told: Option<Option<u32>>,
    better_ticks: u32,
}

impl Figures {
    pub(super) fn new(spec: &Spec) -> Self {
        let rungs = [
            (Rung::Meter, spec.output.is_some()),
            (Rung::Circuit, spec.carried.is_some()),
            (Rung::Electrical, spec.electrical.is_some()),
        ];
        let rungs = rungs.into_iter().filter(|(_, is_there)| *is_there);
        Self {
            spec: spec.clone(),
            rungs: rungs
                .map(|(rung, _)| OnRung {
                    rung,
                    meter: Meter::default(),
                    valid_ticks: 0,
                    accuracy: Accuracy::default(),
                    reason: None,
                })
                .collect(),
            current: None,
            delivered: Meter::default(),
            captured: Meter::default(),
            exhaust: None,
            compared: [(0, 0); 2],
            is_more_delivered: false,
            missing: BTreeMap::new(),
        }
    }

    /// Takes one tick's values of all points, and hands on what they make of this source.
    pub(super) fn take(
        &mut self,
        points: &Points,
        values: &[Verdict],
        at: Timestamp,
        out: &mut Readings,
        problems: &mut Vec<String>,
    ) {
        let of = |index: usize| -> Verdict {
            let missing = || PointError::Missing("it is not configured".to_owned());
            values.get(index).cloned().unwrap_or_else(|| Err(missing()))
        };
        self.tell_missing(points, values, problems);
        self.missing.clear();
        let output = self.output(points, &of, at, problems);
        let source = self.spec.facts.source.clone();
        if let Some((
            Step {
                read: Some(read), ..
            },
            origin,
        )) = &output
        {
            let origin = out.origin(origin.clone());
            out.push(&source, Quantity::ThermalOutput, *read, origin);
        }
        let mut delivered = None;
        let side = [
            (
                self.spec.delivered,
                &mut self.delivered,
                Quantity::HeatDelivered,
                "at the point of use",
            ),
            (
                self.spec.captured,
                &mut self.captured,
                Quantity::HeatSourceCaptured,
                "at the source",
            ),
        ];
        for (index, meter, quantity, boundary) in side {
            let (index, value) = match index.map(|index| (index, of(index))) {
                Some((index, Ok(value))) => (index, value),
                Some((_, Err(error))) => {
                    self.missing.insert(quantity, in_short(&error).to_owned());
                    continue;
                }
                None => continue,
            };
            match meter.take(&value, at, false) {
                Ok(step) => {
                    if let Some(read) = step.read {
                        let origin = out.origin(metered(points, index, &value, boundary));
                        out.push(&source, quantity, read, origin);
                    }
                    if quantity == Quantity::HeatDelivered {
                        delivered = step.grown;
                    }
                }
                Err(error) => problems.push(format!("{}: {error}", name(points, index))),
            }
        }
        self.exhaust(points, &of, out);
        let grown = output.and_then(|(step, _)| step.grown);
        self.compare(grown, delivered, problems);
    }

    /// What the source is, and which of its figures have no value now.
    pub(super) fn facts(&self) -> ThermalFacts {
        ThermalFacts {
            missing: self.missing.clone(),
            ..self.spec.facts.clone()
        }
    }

    /// Says which points of this source have no value, and why.
    fn tell_missing(&self, points: &Points, values: &[Verdict], problems: &mut Vec<String>) {
        let circuit = self.spec.carried.as_ref();
        let own = [
            self.spec.output,
            circuit.map(|c| c.flow),
            circuit.map(|c| c.supply),
            circuit.map(|c| c.back),
            self.spec.electrical,
            self.spec.exhaust,
            self.spec.delivered,
            self.spec.captured,
        ];
        for index in own.into_iter().flatten() {
            if let Some(Err(error)) = values.get(index) {
                problems.push(format!("{}: {error}", name(points, index)));
            }
        }
    }

    /// The heat given off, from the best rung that has it.
    fn output(
        &mut self,
        points: &Points,
        of: &dyn Fn(usize) -> Verdict,
        at: Timestamp,
        problems: &mut Vec<String>,
    ) -> Option<(Step, Origin)> {
        let mut results: Vec<Result<(Value, Origin), PointError>> = Vec::new();
        for step in &mut self.rungs {
            let result = match step.rung {
                Rung::Meter => point(self.spec.output, of)
                    .map(|(index, value)| (value, metered(points, index, &value, "at the source"))),
                Rung::Electrical => point(self.spec.electrical, of)
                    .map(|(index, value)| (value, estimated(points, index))),
                Rung::Circuit => carried(
                    self.spec.carried.as_ref(),
                    points,
                    of,
                    at,
                    &mut step.accuracy,
                ),
            };
            match &result {
                Ok(_) => step.valid_ticks = step.valid_ticks.saturating_add(1),
                Err(error) => {
                    if let (Rung::Circuit, PointError::Implausible(why)) = (step.rung, error) {
                        problems.push(format!(
                            "{} flow and temperatures: {why}",
                            self.spec.facts.source
                        ));
                    }
                    step.valid_ticks = 0;
                    step.reason = Some(in_short(error));
                }
            }
            results.push(result);
        }
        let Some(chosen) = self.choose(&results) else {
            let reason = self.rungs.first().and_then(|best| best.reason);
            let reason = reason.unwrap_or("nothing was read yet");
            self.missing
                .insert(Quantity::ThermalOutput, reason.to_owned());
            return None;
        };
        if self.current != Some(chosen) {
            self.current = Some(chosen);
            if let Some(step) = self.rungs.get_mut(chosen) {
                step.meter.reset();
            }
        }
        let fallback = self.fallback(chosen);
        let has_register = results
            .iter()
            .flatten()
            .any(|(value, _)| value.unit.dimension() == Dimension::Energy)
            || [self.spec.output, self.spec.electrical]
                .into_iter()
                .flatten()
                .any(|index| {
                    points
                        .unit(index)
                        .is_some_and(|unit| unit.dimension() == Dimension::Energy)
                });
        let takes_turns = has_register && self.rungs.len() > 1;
        let (value, mut origin) = results.into_iter().nth(chosen)?.ok()?;
        origin.fallback = fallback;
        match self
            .rungs
            .get_mut(chosen)?
            .meter
            .take(&value, at, takes_turns)
        {
            Ok(step) => Some((step, origin)),
            Err(error) => {
                problems.push(format!(
                    "{} thermal output: {error}",
                    self.spec.facts.source
                ));
                None
            }
        }
    }

    /// Down at once, up after some ticks, so that a meter that comes and goes does not mix with another one.
    fn choose(&self, results: &[Result<(Value, Origin), PointError>]) -> Option<usize> {
        let is_good = |at: &usize| results.get(*at).is_some_and(Result::is_ok);
        let first_from = |from: usize| (from..results.len()).find(is_good);
        match self.current {
            None => first_from(0),
            Some(current) => {
                let is_believed = |at: &usize| {
                    let step = self.rungs.get(*at);
                    step.is_some_and(|step| step.valid_ticks >= TICKS_TO_BELIEVE)
                };
                let better = (0..current).find(is_believed);
                better
                    .or_else(|| first_from(current))
                    .or_else(|| first_from(0))
            }
        }
    }

    fn fallback(&self, chosen: usize) -> Option<Fallback> {
        let better = self.rungs.get(..chosen)?.first()?;
        Some(Fallback {
            from: better.rung.name().to_owned(),
            reason: better
                .reason
                .unwrap_or("it has spoken again for a short time only")
                .to_owned(),
        })
    }

    fn exhaust(&mut self, points: &Points, of: &dyn Fn(usize) -> Verdict, out: &mut Readings) {
        let (index, value) = match point(self.spec.exhaust, of) {
            Ok(found) => found,
            Err(error) => {
                if self.spec.exhaust.is_some() {
                    let why = in_short(&error).to_owned();
                    self.missing.insert(Quantity::ExhaustMilliKelvin, why);
                }
                return;
            }
        };
        let is_old = self.exhaust.is_some_and(|newest| value.at <= newest);
        let (false, Some(milli)) = (is_old && !value.stands, value.own.to_milli()) else {
            return;
        };
        self.exhaust = Some(value.at);
        let origin = Origin::measured(&kinds(points, &[index]), "temperature/1", Confidence::B);
        let origin = out.origin(origin);
        let source = &self.spec.facts.source;
        out.push(
            source,
            Quantity::ExhaustMilliKelvin,
            Read::Gauge(milli),
            origin,
        );
    }

    /// Flags a point of use that receives more than is given off.
    fn compare(
        &mut self,
        output: Option<(u64, u64)>,
        delivered: Option<(u64, u64)>,
        problems: &mut Vec<String>,
    ) {
        for (sum, more) in self.compared.iter_mut().zip([output, delivered]) {
            if let Some((microjoules, over_ms)) = more {
                sum.0 = sum.0.saturating_add(u128::from(microjoules));
                sum.1 = sum.1.saturating_add(over_ms);
            }
        }
        let [output, delivered] = self.compared;
        if output.1.min(delivered.1) >= COMPARED_MS_MIN {
            let mean = |sum: (u128, u64)| sum.0 / u128::from(sum.1.max(1));
            let (output, delivered) = (mean(output), mean(delivered));
            self.is_more_delivered = output >= COMPARED_MW_MIN
                && delivered * 100 > output * (100 + METERS_DIFFER_PERCENT);
        }
        if self.compared.iter().any(|sum| sum.1 >= COMPARED_MS) {
            self.compared = [(0, 0); 2];
        }
        if self.is_more_delivered {
            problems.push(format!(
                "{}: heat_captured is more than thermal_output: a meter, a unit or a mapping is wrong, or \
                 a heat pump's electricity is counted as heat",
                self.spec.facts.source
            ));
        }
    }
}

impl Rung {
    const fn name(self) -> &'static str {
        match self {
            Self::Meter => "thermal_output",
            Self::Circuit => "flow, supply and return",
            Self::Electrical => "electrical_power",
        }
    }
}

impl Accuracy {
    /// Takes the accuracy of this tick, and answers the one that is told.
    fn tell(&mut self, now: Option<u32>) -> Option<u32> {
        let class = |one: Option<u32>| {
            ACCURACIES
                .iter()
                .copied()
                .find(|most| one.is_some_and(|one| one <= *most))
        };
        let now = class(now);
        // Nothing known is the worst.
        let rank = |one: Option<u32>| one.unwrap_or(u32::MAX);
        match self.told {
            Some(told) if rank(now) < rank(told) => {
                self.better_ticks += 1;
                if self.better_ticks >= TICKS_TO_BELIEVE {
                    (self.told, self.better_ticks) = (Some(now), 0);
                }
            }
            _ => (self.told, self.better_ticks) = (Some(now), 0),
        }
        self.told.flatten()
    }
}

fn point(
    index: Option<usize>,
    of: &dyn Fn(usize) -> Verdict,
) -> Result<(usize, Value), PointError> {
    let missing = || PointError::Missing("it is not configured".to_owned());
    let index = index.ok_or_else(missing)?;
    Ok((index, of(index)?))
}

/// Heat from flow and the difference of temperature, as a power.
fn carried(
    circuit: Option<&Circuit>,
    points: &Points,
    of: &dyn Fn(usize) -> Verdict,
    at: Timestamp,
    accuracy: &mut Accuracy,
) -> Result<(Value, Origin), PointError> {
    let missing = || PointError::Missing("it is not configured".to_owned());
    let circuit = circuit.ok_or_else(missing)?;
    let parts = [circuit.flow, circuit.supply, circuit.back];
    let (flow, supply, back) = (of(parts[0])?, of(parts[1])?, of(parts[2])?);
    let polled = [flow, supply, back]
        .into_iter()
        .filter(|value| !value.stands);
    let times: Vec<i64> = polled.map(|value| value.at.as_millisecond()).collect();
    let (oldest, newest) = (times.iter().min(), times.iter().max());
    if let (Some(oldest), Some(newest)) = (oldest, newest)
        && newest - oldest > APART_MS_MAX
    {
        return Err(PointError::Missing(format!(
            "flow and temperatures were read {} s apart: they make no product",
            (newest - oldest) / 1_000
        )));
    }
    let amount = match flow.unit.dimension() {
        Dimension::MassFlow => Flow::Mass(flow.own),
        _ => Flow::Volume(flow.own),
    };
    let heat = hydronic::carried(
        circuit.fluid,
        (amount, circuit.nominal),
        (supply.own, back.own),
        circuit.installed,
    )
    .map_err(|error| PointError::Implausible(error.to_string()))?;
    if heat.watts.is_negative() {
        return Err(PointError::Implausible(format!(
            "the return is {} K hotter than the supply: their sensors are exchanged, or heat flows in",
            heat.delta.magnitude().rounded(2)
        )));
    }
    let told = accuracy.tell(heat.accuracy);
    let (method, confidence) = match told {
        Some(basis_points) => {
            let within = format!("flow-delta/1 within {} %", basis_points / 100);
            let is_close = basis_points <= 1_000;
            (
                within,
                if is_close {
                    Confidence::B
                } else {
                    Confidence::C
                },
            )
        }
        None => (
            "flow-delta/1 of no stated accuracy".to_owned(),
            Confidence::D,
        ),
    };
    let stands = oldest.is_none();
    let at = oldest
        .and_then(|ms| Timestamp::from_millisecond(*ms).ok())
        .unwrap_or(at);
    let value = Value {
        number: heat.watts,
        unit: Unit::W,
        own: heat.watts,
        at,
        stands,
    };
    Ok((
        value,
        Origin::measured(&kinds(points, &parts), &method, confidence),
    ))
}

/// A meter's own power or register.
fn metered(points: &Points, index: usize, value: &Value, boundary: &str) -> Origin {
    let is_formula = points
        .all
        .get(index)
        .is_some_and(|p| matches!(p.means, Means::Formula(_)));
    let method = match (is_formula, value.unit.dimension()) {
        (true, _) => "formula/1",
        (false, Dimension::Energy) => "heat-register/1",
        (false, _) => "heat-power/1",
    };
    let method = format!("{method} {boundary}");
    Origin::measured(&kinds(points, &[index]), &method, Confidence::B)
}

/// All electricity of a rack becomes heat: an estimate, however well it was measured.
fn estimated(points: &Points, index: usize) -> Origin {
    Origin {
        quality: Quality::Estimated,
        ..Origin::measured(
            &kinds(points, &[index]),
            "electrical-power/1",
            Confidence::C,
        )
    }
}

/// The protocols behind points, also behind those that formulas name.
fn kinds(points: &Points, indices: &[usize]) -> String {
    let mut kinds = BTreeSet::new();
    let mut open: Vec<usize> = indices.to_vec();
    let mut seen = BTreeSet::new();
    while let Some(index) = open.pop() {
        let (true, Some(point)) = (seen.insert(index), points.all.get(index)) else {
            continue;
        };
        if point.names.is_empty() {
            kinds.insert(point.means.kind());
        }
        open.extend(point.names.values());
    }
    kinds.into_iter().collect::<Vec<_>>().join("+")
}

fn name(points: &Points, index: usize) -> &str {
    points.all.get(index).map_or("a point", |point| &point.name)
}

/// Why a better rung does not speak, in words that do not change with every value.
const fn in_short(error: &PointError) -> &'static str {
    match error {
        PointError::Refused(_) => "its device refuses it",
        PointError::Malformed(_) => "its device answers nonsense",
        PointError::Bad(_) => "its device says that the value is not good",
        PointError::Silent(_) => "its device does not answer",
        PointError::NotYet(_) => "its device has not answered yet",
        PointError::Implausible(_) => "its value is not plausible",
        PointError::Stale(_) => "its value is old",
        PointError::Missing(_) => "what it is computed from is missing",
    }
}
