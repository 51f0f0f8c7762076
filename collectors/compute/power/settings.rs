//! `[compute.power]`: which rungs there are, best first, and a table for each that needs one.
//!
//! A rung adds here a variant of [`Source`] with its name, a field of [`Raw`] where it has a table, and an
//! arm of [`Config::rung`].

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::constant::{Constant, SPECIFICATION_WATTS};
use super::ipmi;
use super::model;
use super::rapl;
use super::redfish;
use super::sum::Sum;
use super::whole::of_machine;
use super::{Machine, Rung};
use crate::Host;
use crate::checked::Watts;

/// More parts than a machine has kinds of.
const PARTS_MAX: usize = 4;

/// `[compute.power]`, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    sources: Vec<Parts>,
    default_watts: Watts,
    line: Option<(Watts, Watts)>,
    redfish: Option<redfish::Config>,
    ipmi: Option<ipmi::Config>,
}

/// One kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Ipmi,
    Model,
    Rapl,
    Redfish,
}

/// One rung: a source, or several that measure different parts of the machine, as in `"rapl+nvml"`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts(Vec<Source>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    sources: Option<Vec<Parts>>,
    default_watts: Watts,
    idle_watts: Option<Watts>,
    max_watts: Option<Watts>,
    redfish: Option<redfish::Config>,
    ipmi: Option<ipmi::Config>,
}

impl Source {
    /// In the order of the ladder.
    const ALL: [Self; 4] = [Self::Redfish, Self::Ipmi, Self::Rapl, Self::Model];

    const fn name(self) -> &'static str {
        match self {
            Self::Ipmi => "ipmi",
            Self::Model => "model",
            Self::Rapl => "rapl",
            Self::Redfish => "redfish",
        }
    }

    /// Whether it measures a part of the machine, so that it can be added to others.
    const fn is_part(self) -> bool {
        matches!(self, Self::Rapl)
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
    let alone = parts.iter().find(|source| !source.is_part());
    match alone {
        Some(alone) if parts.len() > 1 => Err(format!(
            "`{}` is a power of the whole machine and cannot be part of `{text}`",
            alone.name()
        )),
        _ => Ok(Parts(parts)),
    }
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            sources: None,
            default_watts: Watts(SPECIFICATION_WATTS),
            idle_watts: None,
            max_watts: None,
            redfish: None,
            ipmi: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sources: Self::ladder(false),
            default_watts: Watts(SPECIFICATION_WATTS),
            line: None,
            redfish: None,
            ipmi: None,
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
        let has_redfish = raw.redfish.is_some();
        let sources = raw.sources.unwrap_or_else(|| Self::ladder(has_redfish));
        let mut named: Vec<Source> = sources.iter().flat_map(|parts| parts.0.clone()).collect();
        let all = named.len();
        named.sort_unstable_by_key(|source| source.name());
        named.dedup();
        if named.len() < all {
            return Err("a power source is named twice in `sources`".to_owned());
        }
        for (source, has_table) in [
            (Source::Redfish, has_redfish),
            (Source::Ipmi, raw.ipmi.is_some()),
        ] {
            let name = source.name();
            if has_table && !named.contains(&source) {
                return Err(format!(
                    "the table `{name}` is of no use: `sources` does not name \"{name}\""
                ));
            }
        }
        if named.contains(&Source::Redfish) && !has_redfish {
            return Err(
                "\"redfish\" in `sources` needs the table [compute.power.redfish]".to_owned(),
            );
        }
        Ok(Self {
            sources,
            default_watts: raw.default_watts,
            line,
            redfish: raw.redfish,
            ipmi: raw.ipmi,
        })
    }

    /// The ladder where none is configured: every source that needs no table, and those whose table is there.
    fn ladder(has_redfish: bool) -> Vec<Parts> {
        let is_there = |source: &Source| *source != Source::Redfish || has_redfish;
        let there = Source::ALL.into_iter().filter(is_there);
        there.map(|source| Parts(vec![source])).collect()
    }

    /// The rungs, best first; the default is the last one.
    pub(super) fn rungs(&self, host: &Host, machine: &Machine) -> Vec<Box<dyn Rung>> {
        let one = |parts: &Parts| -> Box<dyn Rung> {
            let mut rungs: Vec<Box<dyn Rung>> = parts
                .0
                .iter()
                .map(|source| self.rung(*source, host, machine))
                .collect();
            match rungs.pop() {
                Some(only) if rungs.is_empty() => only,
                last => Box::new(Sum::new(rungs.into_iter().chain(last).collect())),
            }
        };
        let mut rungs: Vec<Box<dyn Rung>> = self.sources.iter().map(one).collect();
        rungs.push(Box::new(Constant::new(self.default_watts)));
        rungs
    }

    fn rung(&self, source: Source, host: &Host, machine: &Machine) -> Box<dyn Rung> {
        match source {
            Source::Ipmi => {
                let config = self.ipmi.clone().unwrap_or_default();
                let rung = || Box::new(ipmi::Ipmi::new(&config, host)) as Box<dyn Rung>;
                of_machine(source.name(), machine.instance, self.ipmi.is_some(), rung)
            }
            Source::Redfish => {
                let rung = || match &self.redfish {
                    Some(config) => redfish::rung(config, host),
                    None => Box::new(Constant::new(self.default_watts)),
                };
                of_machine(source.name(), machine.instance, true, rung)
            }
            Source::Model => Box::new(model::Model::new(self.line, machine)),
            Source::Rapl => Box::new(rapl::Rapl::new(host, machine.instance)),
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
        assert!(refusal("sources = ['rapl', 'rapl']").contains("twice"));
        assert!(refusal("sources = ['rapl+rapl']").contains("count rapl twice"));
        assert!(refusal("sources = ['rapl+model']").contains("whole machine"));
        assert!(refusal("sources = ['default']").contains("unknown power source `default`"));
        assert!(refusal("idle = 1").contains("unknown field `idle`"));
        assert!(refusal("sources = ['redfish']").contains("needs the table"));
        let unused = "sources = ['rapl']\n[redfish]\nurl = 'https://a'";
        assert!(refusal(unused).contains("does not name \"redfish\""));
        assert!(refusal("sources = []\n[ipmi]").contains("does not name \"ipmi\""));
        assert!(toml::from_str::<Config>("sources = []").is_ok());
    }

    #[test]
    fn a_controller_that_is_configured_comes_first() {
        let ladder = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            let names: Vec<String> = config.sources.iter().map(ToString::to_string).collect();
            names.join(" ")
        };
        assert_eq!(ladder(""), "ipmi rapl model");
        assert_eq!(
            ladder("[redfish]\nurl = 'https://a'"),
            "redfish ipmi rapl model"
        );
    }
}
