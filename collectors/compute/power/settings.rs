//! `[compute.power]`: which rungs there are, best first, and a table for each that needs one.
//!
//! A rung adds here a variant of [`Source`] with its name, a field of [`Raw`] where it has a table, and an
//! arm of [`Config::rung`].

use std::fmt;

use cms_spec::units::Milliwatts;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::constant::{Constant, SPECIFICATION_WATTS};
use super::ipmi;
use super::model;
use super::nameplate::{Gated, Nameplate};
use super::rapl;
use super::redfish;
use super::shared::Part;
use super::snmp;
use super::sum::Sum;
use super::whole::of_machine;
use super::{Machine, Rung, hwmon, nvml};
use crate::Host;
use crate::checked::Watts;
use crate::unaddressed::Unaddressed;

/// More parts than a machine has kinds of.
const PARTS_MAX: usize = 4;

/// `[compute.power]`, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    sources: Vec<Parts>,
    default_watts: Watts,
    nameplate: Option<Nameplate>,
    line: Option<(Watts, Watts)>,
    redfish: Option<redfish::Config>,
    ipmi: Option<ipmi::Config>,
    nvml: nvml::Settings,
    snmp: Option<snmp::Config>,
}

/// One kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    AmdGpu,
    Hwmon,
    Ipmi,
    Model,
    Nvml,
    Rapl,
    Redfish,
    Snmp,
}

/// What of a machine a source speaks of. A sum has at most one processor and never a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Devices that no processor's source contains.
    Device,
    /// Processors, and what a model of a server adds to them.
    Processor,
    /// All that goes through the plug.
    Whole,
}

/// One rung: a source, or several that measure different parts of the machine, as in `"rapl+nvml"`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts(Vec<Source>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    sources: Option<Vec<Parts>>,
    default_watts: Watts,
    nameplate_watts: Option<Watts>,
    idle_watts: Option<Watts>,
    max_watts: Option<Watts>,
    redfish: Option<redfish::Config>,
    ipmi: Option<ipmi::Config>,
    nvml: nvml::Settings,
    snmp: Option<snmp::Config>,
}

impl Source {
    /// In the order of the ladder.
    const ALL: [Self; 8] = [
        Self::Snmp,
        Self::Redfish,
        Self::Ipmi,
        Self::Hwmon,
        Self::Rapl,
        Self::Nvml,
        Self::AmdGpu,
        Self::Model,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::AmdGpu => "amdgpu",
            Self::Hwmon => "hwmon",
            Self::Ipmi => "ipmi",
            Self::Model => "model",
            Self::Nvml => "nvml",
            Self::Rapl => "rapl",
            Self::Redfish => "redfish",
            Self::Snmp => "snmp",
        }
    }

    /// Whether it is a device that is asked in the background.
    const fn is_polled(self) -> bool {
        matches!(self, Self::Ipmi | Self::Redfish | Self::Snmp)
    }

    /// What it speaks of.
    const fn scope(self) -> Scope {
        match self {
            Self::Model | Self::Rapl => Scope::Processor,
            Self::AmdGpu | Self::Nvml => Scope::Device,
            Self::Hwmon | Self::Ipmi | Self::Redfish | Self::Snmp => Scope::Whole,
        }
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|source| source.name()).collect();
        f.write_str(&names.join("+"))
    }
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parts(&text).map_err(D::Error::custom)
    }
}

fn parts(text: &str) -> Result<Parts, String> {
    let mut parts = Vec::new();
    for name in text.split('+').take(PARTS_MAX + 1) {
        let found = Source::ALL.iter().find(|source| source.name() == name);
        let source = *found.ok_or_else(|| {
            let names = Source::ALL.map(|source| format!("`{}`", source.name()));
            format!(
                "unknown power source `{name}`, expected {}",
                names.join(", ")
            )
        })?;
        if parts.contains(&source) {
            return Err(format!("`{text}` would count {name} twice"));
        }
        parts.push(source);
    }
    let of = |scope| {
        parts
            .iter()
            .filter(move |source: &&Source| source.scope() == scope)
    };
    if let (Some(whole), 2..) = (of(Scope::Whole).next(), parts.len()) {
        return Err(format!(
            "`{}` is a power of the whole machine and cannot be part of `{text}`",
            whole.name()
        ));
    }
    if of(Scope::Processor).count() > 1 {
        return Err(format!("`{text}` would count the processors twice"));
    }
    Ok(Parts(parts))
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            sources: None,
            default_watts: Watts(SPECIFICATION_WATTS),
            nameplate_watts: None,
            idle_watts: None,
            max_watts: None,
            redfish: None,
            ipmi: None,
            nvml: nvml::Settings::default(),
            snmp: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sources: Self::ladder(&[Source::Redfish, Source::Snmp]),
            default_watts: Watts(SPECIFICATION_WATTS),
            nameplate: None,
            line: None,
            redfish: None,
            ipmi: None,
            nvml: nvml::Settings::default(),
            snmp: None,
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::checked(Raw::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Config {
    fn checked(raw: Raw) -> Result<Self, String> {
        let line = match (raw.idle_watts, raw.max_watts) {
            (Some(idle), Some(max)) if idle <= max => Some((idle, max)),
            (Some(_), Some(_)) => return Err("`idle_watts` is more than `max_watts`".to_owned()),
            (None, None) => None,
            _ => {
                return Err(
                    "`idle_watts` and `max_watts` go together: give both, measured at the plug"
                        .to_owned(),
                );
            }
        };
        let nameplate = raw.nameplate_watts.map(Nameplate::configured);
        if let (Some(nameplate), Some((_, Watts(max)))) = (nameplate, line) {
            nameplate.check_most("`max_watts`", Milliwatts(max.saturating_mul(1000)))?;
        }
        let tables = [
            (Source::Redfish, raw.redfish.is_some()),
            (Source::Snmp, raw.snmp.is_some()),
        ];
        let missing = tables.iter().filter(|(_, is_there)| !is_there);
        let missing: Vec<Source> = missing.map(|(source, _)| *source).collect();
        let sources = raw.sources.unwrap_or_else(|| Self::ladder(&missing));
        let twice = |at: usize| {
            sources
                .iter()
                .skip(at + 1)
                .any(|other| *other == sources[at])
        };
        if let Some(at) = (0..sources.len()).find(|at| twice(*at)) {
            return Err(format!("`{}` is named twice in `sources`", sources[at]));
        }
        let named: Vec<Source> = sources.iter().flat_map(|parts| parts.0.clone()).collect();
        for (source, has_table) in tables
            .into_iter()
            .chain([(Source::Ipmi, raw.ipmi.is_some())])
        {
            let name = source.name();
            if has_table && !named.contains(&source) {
                return Err(format!(
                    "the table `{name}` is of no use: `sources` does not name \"{name}\""
                ));
            }
        }
        if let Some(source) = missing.iter().find(|source| named.contains(source)) {
            let name = source.name();
            return Err(format!(
                "\"{name}\" in `sources` needs the table [compute.power.{name}]"
            ));
        }
        Ok(Self {
            sources,
            default_watts: raw.default_watts,
            nameplate,
            line,
            redfish: raw.redfish,
            ipmi: raw.ipmi,
            nvml: raw.nvml,
            snmp: raw.snmp,
        })
    }

    /// The ladder where none is configured: every source that needs no table, and those whose table is there.
    fn ladder(missing: &[Source]) -> Vec<Parts> {
        let whole = [Source::Snmp, Source::Redfish, Source::Ipmi, Source::Hwmon].into_iter();
        let is_there = |source: &Source| !missing.contains(source);
        let whole = whole.filter(is_there).map(|source| Parts(vec![source]));
        let with_gpus = |source| Parts(vec![source, Source::Nvml, Source::AmdGpu]);
        let sums = [Source::Rapl, Source::Model].into_iter().map(with_gpus);
        whole.chain(sums).collect()
    }

    /// The rungs, best first; the default is the last one.
    pub(super) fn rungs(&self, host: &Host, machine: &Machine) -> Vec<Box<dyn Rung>> {
        let mut opened: Vec<(Source, Part)> = Vec::new();
        let mut part = |source: &Source| {
            if let Some((_, part)) = opened.iter().find(|(known, _)| known == source) {
                return part.share();
            }
            let part = Part::new(source.name(), self.rung(*source, host, machine));
            opened.push((*source, part.share()));
            part
        };
        let mut one = |parts: &Parts| -> Box<dyn Rung> {
            // What is polled checks each answer: between coarse steps of a counter a mean says nothing.
            let is_polled = parts.0.iter().any(|source| source.is_polled());
            let is_whole = parts.0.iter().any(|source| source.scope() == Scope::Whole);
            let nameplate = self.nameplate.filter(|_| !is_polled);
            let parts: Vec<Part> = parts.0.iter().map(&mut part).collect();
            let sum = Box::new(Sum::new(parts));
            match nameplate {
                Some(nameplate) => Box::new(Gated::new(sum, nameplate, is_whole)),
                None => sum,
            }
        };
        let mut rungs: Vec<Box<dyn Rung>> = self.sources.iter().map(&mut one).collect();
        rungs.push(Box::new(Constant::new(self.default_watts)));
        rungs
    }

    /// Hides where the devices of this table are.
    pub(super) fn unaddressed(&self) -> Unaddressed {
        let controller = self.redfish.iter().map(redfish::Config::address);
        let strips = self.snmp.iter().flat_map(snmp::Config::addresses);
        Unaddressed::new(controller.chain(strips))
    }

    fn rung(&self, source: Source, host: &Host, machine: &Machine) -> Box<dyn Rung> {
        match source {
            Source::AmdGpu => Box::new(hwmon::Hwmon::new(hwmon::Kind::AmdGpu, host)),
            Source::Hwmon => {
                let rung =
                    || Box::new(hwmon::Hwmon::new(hwmon::Kind::Meter, host)) as Box<dyn Rung>;
                of_machine(source.name(), machine.instance, false, rung)
            }
            Source::Ipmi => {
                let config = self.ipmi.clone().unwrap_or_default();
                let rung =
                    || Box::new(ipmi::Ipmi::new(&config, self.nameplate, host)) as Box<dyn Rung>;
                of_machine(source.name(), machine.instance, self.ipmi.is_some(), rung)
            }
            Source::Redfish => {
                let rung = || match &self.redfish {
                    Some(config) => redfish::rung(config, self.nameplate, host),
                    None => Box::new(Constant::new(self.default_watts)),
                };
                of_machine(source.name(), machine.instance, true, rung)
            }
            Source::Model => Box::new(model::Model::new(self.line, machine)),
            Source::Nvml => Box::new(nvml::Nvml::new(&self.nvml, host)),
            Source::Rapl => Box::new(rapl::Rapl::new(host, machine.instance)),
            Source::Snmp => {
                let rung = || match &self.snmp {
                    Some(config) => snmp::rung(config, self.nameplate, host),
                    None => Box::new(Constant::new(self.default_watts)),
                };
                of_machine(source.name(), machine.instance, true, rung)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tables_are_refused() {
        let refusal = |text: &str| {
            toml::from_str::<Config>(text)
                .unwrap_err()
                .message()
                .to_owned()
        };
        assert!(refusal("idle_watts = 10").contains("go together"));
        assert!(refusal("idle_watts = 10\nmax_watts = 9").contains("more than"));
        let small = refusal("idle_watts = 10\nmax_watts = 500\nnameplate_watts = 350");
        assert!(
            small.contains("`max_watts` says 500.0 W, more than 130 %"),
            "{small}"
        );
        assert!(refusal("sources = ['rapl', 'rapl']").contains("twice"));
        assert!(refusal("sources = ['rapl+rapl']").contains("count rapl twice"));
        assert!(refusal("sources = ['rapl+model']").contains("processors twice"));
        assert!(refusal("sources = ['hwmon+nvml']").contains("whole machine"));
        assert!(refusal("sources = ['default']").contains("unknown power source `default`"));
        assert!(refusal("idle = 1").contains("unknown field `idle`"));
        assert!(refusal("sources = ['redfish']").contains("needs the table"));
        let unused = "sources = ['rapl']\n[redfish]\nurl = 'https://a'";
        assert!(refusal(unused).contains("does not name \"redfish\""));
        assert!(refusal("sources = []\n[ipmi]").contains("does not name \"ipmi\""));
        assert!(refusal("sources = ['snmp']").contains("needs the table"));
        let feed = "[[snmp.feed]]\nhost = 'a'\ncommunity = { file = '/c' }\nmodel = 'apc-unit'";
        let unused = format!("sources = ['rapl']\n{feed}");
        assert!(refusal(&unused).contains("does not name \"snmp\""));
        assert!(toml::from_str::<Config>(feed).is_ok());
        assert!(toml::from_str::<Config>("sources = []").is_ok());
    }

    #[test]
    fn a_controller_that_is_configured_comes_first() {
        let ladder = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            let names: Vec<String> = config.sources.iter().map(ToString::to_string).collect();
            names.join(" ")
        };
        assert_eq!(ladder(""), "ipmi hwmon rapl+nvml+amdgpu model+nvml+amdgpu");
        assert_eq!(
            ladder("[redfish]\nurl = 'https://a'"),
            "redfish ipmi hwmon rapl+nvml+amdgpu model+nvml+amdgpu"
        );
        let feed = "[[snmp.feed]]\nhost = 'a'\ncommunity = { file = '/c' }\nmodel = 'apc-unit'";
        assert_eq!(
            ladder(feed),
            "snmp ipmi hwmon rapl+nvml+amdgpu model+nvml+amdgpu"
        );
    }
}
