//! All points of all sources: where each comes from, and in which order formulas are computed.

use std::collections::BTreeMap;
use std::fmt;

use cms_spec::Subject;
use toml::Spanned;

use super::settings::PointWritten;
use crate::checked::Wrong;
use crate::thermal::formula::is_of_name;
use crate::thermal::protocols::{Devices, Means};
use crate::thermal::rules::Rules;
use crate::thermal::unit::{Dimension, Unit};

/// Most points of one agent: a hundred devices with a hundred each.
const POINTS_MAX: usize = 10_000;

/// Longest name of a helper point.
const NAME_BYTES_MAX: usize = 64;

/// What a point is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    ThermalOutput,
    Flow,
    Supply,
    Return,
    ElectricalPower,
    ExhaustTemp,
    HeatCaptured,
    SourceCaptured,
    /// A point for formulas.
    Helper,
}

/// One point, checked.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// Source and role, or the name, for example `rack-07 supply`.
    pub(super) name: String,
    pub(super) means: Means,
    pub(super) rules: Rules,
    /// Of a formula: the points that it names.
    pub(super) names: BTreeMap<String, usize>,
}

/// All points.
#[derive(Clone)]
pub(super) struct Points {
    pub(super) all: Vec<Point>,
    /// Formulas, those before others that need them.
    pub(super) formulas: Vec<usize>,
    devices: std::sync::Arc<Devices>,
    /// Points that every source may name.
    shared: BTreeMap<String, usize>,
    /// Points of the source that is being read.
    own: BTreeMap<String, usize>,
    /// Formulas of that source, and where they stand.
    open: Vec<(usize, std::ops::Range<usize>)>,
    location: Option<Subject>,
}

impl fmt::Debug for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.all).finish()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ThermalOutput => "thermal_output",
            Self::Flow => "flow",
            Self::Supply => "supply",
            Self::Return => "return",
            Self::ElectricalPower => "electrical_power",
            Self::ExhaustTemp => "exhaust_temp",
            Self::HeatCaptured => "heat_captured",
            Self::SourceCaptured => "source_captured",
            Self::Helper => "points",
        })
    }
}

impl Points {
    /// Begins with the points that every source may name.
    pub(super) fn new(
        devices: Devices,
        shared: BTreeMap<String, PointWritten>,
    ) -> Result<Self, Wrong> {
        let mut points = Self {
            all: Vec::new(),
            formulas: Vec::new(),
            devices: std::sync::Arc::new(devices),
            shared: BTreeMap::new(),
            own: BTreeMap::new(),
            open: Vec::new(),
            location: None,
        };
        points.helpers(shared)?;
        points.leave()?;
        Ok(points)
    }

    /// Begins with a source, and the points of its formulas.
    pub(super) fn enter(
        &mut self,
        location: &Subject,
        helpers: BTreeMap<String, PointWritten>,
    ) -> Result<(), Wrong> {
        self.location = Some(location.clone());
        self.helpers(helpers)
    }

    /// Ends a source: finds what its formulas name.
    pub(super) fn leave(&mut self) -> Result<(), Wrong> {
        let open = std::mem::take(&mut self.open);
        for (index, span) in &open {
            let Some(Point {
                means: Means::Formula(formula),
                ..
            }) = self.all.get(*index)
            else {
                continue;
            };
            let mut names = BTreeMap::new();
            for name in formula.points() {
                let found = self.own.get(name).or_else(|| self.shared.get(name));
                let Some(found) = found else {
                    return Err(Wrong::at(span.clone(), self.unknown(name)));
                };
                names.insert(name.to_owned(), *found);
            }
            if let Some(point) = self.all.get_mut(*index) {
                point.names = names;
            }
        }
        self.order(open)?;
        if self.location.take().is_none() {
            self.shared = std::mem::take(&mut self.own);
        }
        self.own.clear();
        Ok(())
    }

    /// Puts formulas into an order in which each finds what it needs.
    fn order(&mut self, mut open: Vec<(usize, std::ops::Range<usize>)>) -> Result<(), Wrong> {
        while !open.is_empty() {
            let waits = |index: usize| {
                let point = self.all.get(index);
                point.is_some_and(|point| {
                    let mut needed = point.names.values();
                    needed.any(|needed| open.iter().any(|(other, _)| other == needed))
                })
            };
            let ready: Vec<usize> = open
                .iter()
                .map(|(index, _)| *index)
                .filter(|i| !waits(*i))
                .collect();
            if ready.is_empty() {
                let span = open
                    .first()
                    .map(|(_, span)| span.clone())
                    .unwrap_or_default();
                return Err(Wrong::at(span, "formulas name each other in a circle"));
            }
            open.retain(|(index, _)| !ready.contains(index));
            self.formulas.extend(ready);
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self
            .own
            .keys()
            .chain(self.shared.keys())
            .map(String::as_str)
            .collect();
        match known.is_empty() {
            true => format!("no point is called `{name}`: add [thermal.source.points.{name}]"),
            false => format!(
                "no point is called `{name}`; there are: {}",
                known.join(", ")
            ),
        }
    }

    fn helpers(&mut self, written: BTreeMap<String, PointWritten>) -> Result<(), Wrong> {
        for (name, point) in written {
            let is_name = name.len() <= NAME_BYTES_MAX
                && name.chars().all(is_of_name)
                && name.starts_with(|first: char| !first.is_ascii_digit());
            if !is_name || matches!(name.as_str(), "min" | "max") {
                let message = format!("{name:?} is no name for a formula: a-z, A-Z, 0-9 and '_'");
                return Err(Wrong::at(point.span(), message));
            }
            let index = self.point(Role::Helper, name.clone(), point)?;
            self.own.insert(name, index);
        }
        Ok(())
    }

    /// Adds a point of the source that is being read.
    pub(super) fn add(&mut self, role: Role, written: PointWritten) -> Result<usize, Wrong> {
        let span = written.span();
        let name = role.to_string();
        let index = self.point(role, name.clone(), written)?;
        if self.own.insert(name, index).is_some() {
            let message = format!(
                "there are two points called `{role}`: give the one in `points` another name"
            );
            return Err(Wrong::at(span, message));
        }
        Ok(index)
    }

    /// The unit that a point is configured with.
    pub(super) fn unit(&self, index: usize) -> Option<Unit> {
        self.all.get(index)?.rules.unit
    }

    fn point(&mut self, role: Role, name: String, written: PointWritten) -> Result<usize, Wrong> {
        let span = written.span();
        if self.all.len() >= POINTS_MAX {
            let message = format!("one agent has at most {POINTS_MAX} points");
            return Err(Wrong::at(span, message));
        }
        let written = written.into_inner();
        let (means, rules, tells_unit) =
            written.own.checked(&written.rules, &self.devices, &span)?;
        self.check_unit(role, rules.unit.as_ref(), tells_unit, &span)?;
        let rules = rules
            .checked(role.dimensions())
            .map_err(|message| Wrong::at(span.clone(), message))?;
        if matches!(means, Means::Formula(_)) {
            self.open.push((self.all.len(), span));
        }
        let name = match &self.location {
            Some(location) => format!("{location} {name}"),
            None => name,
        };
        self.all.push(Point {
            name,
            means,
            rules,
            names: BTreeMap::new(),
        });
        Ok(self.all.len() - 1)
    }

    fn check_unit(
        &self,
        role: Role,
        unit: Option<&Spanned<Unit>>,
        tells_unit: bool,
        span: &std::ops::Range<usize>,
    ) -> Result<(), Wrong> {
        let dimensions = role.dimensions();
        match unit {
            _ if dimensions.is_empty() => Ok(()),
            Some(unit) if dimensions.contains(&unit.get_ref().dimension()) => Ok(()),
            Some(unit) => Err(Wrong::at(
                unit.span(),
                format!(
                    "{} is {}, and `{role}` is measured in one of: {}",
                    unit.get_ref(),
                    unit.get_ref().dimension(),
                    Dimension::units(dimensions)
                ),
            )),
            None if tells_unit => Ok(()),
            None => Err(Wrong::at(
                span.clone(),
                format!(
                    "missing field `unit_of_measure`: say what `{role}` counts in, for example \
                     unit_of_measure = \"{}\"",
                    role.example()
                ),
            )),
        }
    }
}
