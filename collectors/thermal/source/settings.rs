//! `[thermal]`: devices, points and sources, read and joined.

use std::collections::BTreeMap;
use std::time::Duration;

use cms_spec::decimal::Decimal;
use cms_spec::heat::{Exemption, ThermalFacts};
use cms_spec::hydronic::{ALTITUDE_M_MAX, Fluid, FluidName, Side};
use cms_spec::{Category, Subject};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, de};
use toml::Spanned;
use toml::de::ValueDeserializer;

use super::Thermal;
use super::points::{Points, Role};
use crate::checked::{Every, Wrong};
use crate::thermal::protocols::{Origins, Table};
use crate::thermal::unit::{Dimension, Unit};
use crate::thermal::within::Within;
use crate::{Collector, Host, OpenError, Registration, Settings};

/// Thermal sources, with all their meters.
pub const REGISTRATION: Registration = Registration {
    id: "thermal/source",
    category: Category::HeatRecovery,
    table: "thermal",
    repeated: false,
    sample: concat!(
        include_str!("sample.toml"),
        "\n",
        include_str!("../http/sample.toml"),
        "\n",
        include_str!("../modbus/sample.toml"),
        "\n",
        include_str!("../bacnet/sample.toml"),
        "\n",
        include_str!("../mqtt/sample.toml"),
        "\n",
        include_str!("../snmp/sample.toml")
    ),
    parse,
};

/// Most sources of one agent, as the windows hold.
const SOURCES_MAX: usize = 1_000;

/// How often all points are read unless the table says otherwise; the specification wants every five minutes.
const INTERVAL: Interval = Interval(Every::seconds::<30>());

/// A tick waits for slow devices no longer than [`super::FIRST_PATIENCE`]; the rest is for the work itself.
const DEADLINE: Duration = Duration::from_secs(15);

/// Longest text that describes a source.
const WORDS_BYTES_MAX: usize = 200;

/// Liquids weigh between these, in kilograms per cubic metre, and hold between these, in kJ/(kg K). A density of 1.03
/// is meant in kilograms per litre.
const DENSITY: [Decimal; 2] = [Decimal::whole(500), Decimal::whole(3_000)];
const SPECIFIC_HEAT: [Decimal; 2] = [Decimal::from_nano(100_000_000), Decimal::whole(20)];

/// Between five seconds and the specification's five minutes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub(in crate::thermal) struct Interval(Every<5, 300>);

impl Default for Interval {
    fn default() -> Self {
        INTERVAL
    }
}

/// The table, checked.
#[derive(Clone, Debug)]
pub(super) struct Config {
    interval: Interval,
    pub(super) points: Points,
    pub(super) sources: Vec<Spec>,
}

/// One source: what it is, and which points its figures come from.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) facts: ThermalFacts,
    pub(super) output: Option<usize>,
    pub(super) carried: Option<Circuit>,
    pub(super) electrical: Option<usize>,
    pub(super) exhaust: Option<usize>,
    pub(super) delivered: Option<usize>,
    pub(super) captured: Option<usize>,
}

/// A circuit whose heat is computed.
#[derive(Clone, Debug)]
pub(super) struct Circuit {
    pub(super) flow: usize,
    pub(super) supply: usize,
    pub(super) back: usize,
    pub(super) fluid: Fluid,
    pub(super) installed: Side,
    /// In litres or kilograms per hour.
    pub(super) nominal: Option<Decimal>,
}

pub(super) type PointWritten = Spanned<Within<Origins>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceWritten {
    #[serde(default = "enabled")]
    enabled: bool,
    location: Spanned<Subject>,
    equipment_type: Words,
    cooling_method: Words,
    heat_utilization: Words,
    exemption: Option<ExemptionWritten>,
    fluid: Option<FluidWritten>,
    flow_installed: Option<Side>,
    flow_nominal: Option<Spanned<Decimal>>,
    thermal_output: Option<PointWritten>,
    flow: Option<PointWritten>,
    supply: Option<PointWritten>,
    #[serde(rename = "return")]
    back: Option<PointWritten>,
    electrical_power: Option<PointWritten>,
    exhaust_temp: Option<PointWritten>,
    heat_captured: Option<PointWritten>,
    source_captured: Option<PointWritten>,
    #[serde(default)]
    points: BTreeMap<String, PointWritten>,
}

const fn enabled() -> bool {
    true
}

/// A few words that go into the payload as they stand.
#[derive(Debug)]
struct Words(String);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_right =
            (1..=WORDS_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        match is_right {
            true => Ok(Self(text)),
            false => Err(D::Error::custom(format_args!(
                "this is 1 to {WORDS_BYTES_MAX} bytes of text on one line"
            ))),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExemptionWritten {
    reason: Words,
    from: Spanned<Day>,
    to: Day,
}

/// A day, as text or as TOML's own date.
#[derive(Debug)]
struct Day(jiff::civil::Date);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        let text = match &value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let day = text.parse().map(Self);
        day.map_err(|_| D::Error::custom("this is no day; write it as \"2026-05-01\""))
    }
}

/// `fluid = "water"`, or a table with what its supplier says.
#[derive(Debug)]
struct FluidWritten(Fluid);

impl<'de> Deserialize<'de> for FluidWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Fluid;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a fluid, or { density, specific_heat }")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Fluid, E> {
                let name = de::value::StrDeserializer::new(name);
                FluidName::deserialize(name).map(Fluid::Named)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fluid, A::Error> {
                given(GivenWritten::deserialize(MapAccessDeserializer::new(map))?)
                    .map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Either).map(Self)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenWritten {
    density: Option<Decimal>,
    specific_heat: Option<Decimal>,
    air_at_m: Option<u32>,
}

fn given(written: GivenWritten) -> Result<Fluid, String> {
    match (written.density, written.specific_heat, written.air_at_m) {
        (Some(density), Some(specific_heat), None) => {
            if !(DENSITY[0]..=DENSITY[1]).contains(&density) {
                return Err(format!(
                    "`density` is in kg/m3, {} to {}",
                    DENSITY[0], DENSITY[1]
                ));
            }
            if !(SPECIFIC_HEAT[0]..=SPECIFIC_HEAT[1]).contains(&specific_heat) {
                return Err(format!(
                    "`specific_heat` is in kJ/(kg K), {} to {}; water has 4.18",
                    SPECIFIC_HEAT[0], SPECIFIC_HEAT[1]
                ));
            }
            Ok(Fluid::Given {
                density,
                specific_heat,
            })
        }
        (None, None, Some(metres)) if metres <= ALTITUDE_M_MAX => Ok(Fluid::AirAt(metres)),
        (None, None, Some(_)) => Err(format!("`air_at_m` is 0 to {ALTITUDE_M_MAX} metres")),
        _ => Err(
            "a fluid is a name, or { density = …, specific_heat = … }, or { air_at_m = … }"
                .to_owned(),
        ),
    }
}

fn parse(table: ValueDeserializer<'_>) -> Result<Box<dyn Settings>, toml::de::Error> {
    let table = Table::<Interval, Spanned<SourceWritten>, PointWritten>::deserialize(table)?;
    match Config::checked(table) {
        Ok(config) => Ok(Box::new(config)),
        Err(wrong) => Err(wrong.refusal()),
    }
}

impl Config {
    fn checked(
        mut table: Table<Interval, Spanned<SourceWritten>, PointWritten>,
    ) -> Result<Self, Wrong> {
        let devices = table.devices();
        devices.check()?;
        let mut points = Points::new(devices, table.points)?;
        if let Some(beyond) = table.source.get(SOURCES_MAX) {
            let message = format!("one agent has at most {SOURCES_MAX} thermal sources");
            return Err(Wrong::at(beyond.span(), message));
        }
        let mut sources: Vec<Spec> = Vec::new();
        for written in table.source {
            let span = written.span();
            let written = written.into_inner();
            let location = written.location.clone();
            let (is_on, spec) = (written.enabled, source(written, &span, &mut points)?);
            if sources
                .iter()
                .any(|other| other.facts.source == spec.facts.source)
            {
                let message = format!(
                    "there are two thermal sources at {:?}",
                    spec.facts.source.as_str()
                );
                return Err(Wrong::at(location.span(), message));
            }
            if is_on {
                sources.push(spec);
            }
        }
        Ok(Self {
            interval: table.interval,
            points,
            sources,
        })
    }
}

fn source(
    written: SourceWritten,
    span: &std::ops::Range<usize>,
    points: &mut Points,
) -> Result<Spec, Wrong> {
    let location = written.location.into_inner();
    let exemption = written.exemption.map(exemption).transpose()?;
    points.enter(&location, written.points)?;
    let mut add = |role: Role, point: Option<PointWritten>| {
        point.map(|point| points.add(role, point)).transpose()
    };
    let output = add(Role::ThermalOutput, written.thermal_output)?;
    let electrical = add(Role::ElectricalPower, written.electrical_power)?;
    let flow = add(Role::Flow, written.flow)?;
    let supply = add(Role::Supply, written.supply)?;
    let back = add(Role::Return, written.back)?;
    let exhaust = add(Role::ExhaustTemp, written.exhaust_temp)?;
    let delivered = add(Role::HeatCaptured, written.heat_captured)?;
    let captured = add(Role::SourceCaptured, written.source_captured)?;
    points.leave()?;
    let carried = match (flow, supply, back) {
        (Some(flow), Some(supply), Some(back)) => {
            let Some(fluid) = written.fluid else {
                return Err(Wrong::at(
                    span.clone(),
                    "missing field `fluid`: what flows decides how much heat it carries; for example \
                     fluid = \"water\" or fluid = \"ethylene_glycol_30\"",
                ));
            };
            let nominal = match (&written.flow_nominal, points.unit(flow)) {
                (None, _) => None,
                (Some(nominal), Some(unit)) => unit.to_own(*nominal.get_ref()),
                (Some(nominal), None) => {
                    let message = "`flow_nominal` is in the unit of `flow`: give that one its unit_of_measure";
                    return Err(Wrong::at(nominal.span(), message));
                }
            };
            if let Some(written) = &written.flow_nominal
                && nominal.is_none_or(|nominal| nominal <= Decimal::ZERO)
            {
                return Err(Wrong::at(written.span(), "`flow_nominal` is more than 0"));
            }
            Some(Circuit {
                flow,
                supply,
                back,
                fluid: fluid.0,
                installed: written.flow_installed.unwrap_or_default(),
                nominal,
            })
        }
        (None, None, None) => None,
        (flow, supply, _) => {
            let missing = match (flow, supply) {
                (None, _) => "flow",
                (_, None) => "supply",
                _ => "return",
            };
            let message = format!(
                "missing field `{missing}`: heat is computed from `flow`, `supply` and `return` together"
            );
            return Err(Wrong::at(span.clone(), message));
        }
    };
    let is_output_known = output.is_some() || carried.is_some() || electrical.is_some();
    if !is_output_known && written.enabled {
        return Err(Wrong::at(
            span.clone(),
            "missing field `thermal_output`: say what heat it gives off with that, or with `flow`, `supply`, `return` \
             and `fluid`, or with `electrical_power`",
        ));
    }
    let facts = ThermalFacts {
        source: location,
        equipment_type: written.equipment_type.0,
        cooling_method: written.cooling_method.0,
        heat_utilization: written.heat_utilization.0,
        exemption,
        missing: BTreeMap::new(),
    };
    Ok(Spec {
        facts,
        output,
        carried,
        electrical,
        exhaust,
        delivered,
        captured,
    })
}

fn exemption(written: ExemptionWritten) -> Result<Exemption, Wrong> {
    let (span, from) = (written.from.span(), written.from.into_inner().0);
    let to = written.to.0;
    if from > to {
        let message = format!("the exemption ends on {to}, before it begins on {from}");
        return Err(Wrong::at(span, message));
    }
    Ok(Exemption {
        reason: written.reason.0,
        from,
        to,
    })
}

impl Settings for Config {
    fn name(&self) -> String {
        REGISTRATION.id.to_owned()
    }

    fn enabled(&self) -> bool {
        !self.sources.is_empty()
    }

    fn open(&self, host: &Host) -> Result<Box<dyn Collector>, OpenError> {
        Ok(Box::new(Thermal::open(self, host)))
    }

    fn interval(&self) -> Duration {
        self.interval.0.duration()
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }
}

/// What each role may be measured in.
impl Role {
    pub(super) const fn dimensions(self) -> &'static [Dimension] {
        match self {
            Self::ThermalOutput
            | Self::ElectricalPower
            | Self::HeatCaptured
            | Self::SourceCaptured => &[Dimension::Power, Dimension::Energy],
            Self::Flow => &[Dimension::VolumeFlow, Dimension::MassFlow],
            Self::Supply | Self::Return | Self::ExhaustTemp => &[Dimension::Temperature],
            Self::Helper => &[],
        }
    }

    /// What somebody will probably have meant.
    pub(super) const fn example(self) -> Unit {
        match self {
            Self::Flow => Unit::CubicMetrePerHour,
            Self::Supply | Self::Return | Self::ExhaustTemp => Unit::C,
            Self::Helper => Unit::One,
            _ => Unit::Kilowatt,
        }
    }
}

#[cfg(test)]
#[path = "tests/settings.rs"]
mod tests;
