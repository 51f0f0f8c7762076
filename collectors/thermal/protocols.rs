//! The protocols that points are read with: the one list that names them.

use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::device::{Device, Protocol};
use super::formula::Formula;
use super::rules::Written;
use super::within::Within;
use crate::checked::Wrong;
use crate::{CollectError, Host};

/// Opens a device.
pub(super) type Open = dyn Fn(&Host) -> Result<Box<dyn Device>, CollectError> + Send + Sync;

/// One connection that is to be opened.
pub(super) struct Planned {
    /// For example `modbus 10.0.0.7:502`.
    pub(super) name: String,
    /// Which points are read over it, in the order of the device's answers.
    pub(super) points: Vec<usize>,
    pub(super) open: Box<Open>,
}

macro_rules! protocols {
    ($($(#[$when:meta])* $key:ident = $variant:ident: $protocol:ty;)*) => {
        /// Where a point comes from, as written: exactly one of these.
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Origins {
            $($(#[$when])* $key: Option<Spanned<Within<<$protocol as Protocol>::Written>>>,)*
            formula: Option<Spanned<Formula>>,
        }

        /// The named devices.
        #[derive(Debug, Default)]
        pub(super) struct Devices {
            $($(#[$when])* pub(super) $key: Vec<Spanned<<$protocol as Protocol>::Named>>,)*
        }

        /// Where a point comes from, checked.
        #[derive(Clone, Debug)]
        pub(super) enum Means {
            $($(#[$when])* $variant(Arc<<$protocol as Protocol>::Point>),)*
            Formula(Formula),
        }

        /// The table `[thermal]`, as written.
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Table<General: Default, Source, Point> {
            #[serde(default)]
            pub(super) interval: General,
            #[serde(default = "Vec::new")]
            pub(super) source: Vec<Source>,
            #[serde(default = "std::collections::BTreeMap::new")]
            pub(super) points: std::collections::BTreeMap<String, Point>,
            $($(#[$when])* #[serde(default = "Vec::new")]
            $key: Vec<Spanned<<$protocol as Protocol>::Named>>,)*
        }

        impl<General: Default, Source, Point> Table<General, Source, Point> {
            /// Takes the named devices out.
            pub(super) fn devices(&mut self) -> Devices {
                Devices { $($(#[$when])* $key: std::mem::take(&mut self.$key),)* }
            }
        }

        impl Devices {
            /// Refuses two devices of one name.
            pub(super) fn check(&self) -> Result<(), Wrong> {
                $($(#[$when])* named_once::<$protocol>(&self.$key)?;)*
                Ok(())
            }
        }

        impl Origins {
            /// The one origin, its rules, and whether the device says the unit.
            pub(super) fn checked(
                &self,
                beside: &Written,
                devices: &Devices,
                span: &std::ops::Range<usize>,
            ) -> Result<(Means, Written, bool), Wrong> {
                let mut found: Vec<Result<(Means, Written, bool), Wrong>> = Vec::new();
                $($(#[$when])* if let Some(written) = &self.$key {
                    found.push(
                        joined::<$protocol>(written, beside, &devices.$key)
                            .map(|(point, rules, tells)| (Means::$variant(Arc::new(point)), rules, tells)),
                    );
                })*
                if let Some(formula) = &self.formula {
                    let formula = formula.get_ref().clone();
                    found.push(Ok((Means::Formula(formula), beside.clone(), false)));
                }
                let (one, more) = (found.pop(), found.pop());
                match (one, more) {
                    (Some(one), None) => one,
                    (None, _) => Err(Wrong::at(
                        span.clone(),
                        format!("a point comes from one of: {}", ORIGINS.join(", ")),
                    )),
                    (Some(_), Some(_)) => Err(Wrong::at(
                        span.clone(),
                        "a point comes from one place: give one protocol or one formula",
                    )),
                }
            }
        }

        impl Means {
            /// The connection and what is read there.
            pub(super) fn label(&self) -> String {
                match self {
                    $($(#[$when])* Self::$variant(point) => {
                        format!("{} {}", <$protocol>::KEY, <$protocol>::label(point))
                    })*
                    Self::Formula(formula) => format!("formula {formula}"),
                }
            }

            /// The kind of it, for provenance.
            pub(super) fn kind(&self) -> &'static str {
                match self {
                    $($(#[$when])* Self::$variant(_) => <$protocol>::KEY,)*
                    Self::Formula(_) => "formula",
                }
            }
        }

        const ORIGINS: &[&str] = &[$($(#[$when])* <$protocol>::KEY,)* "formula"];

        /// The connections of these points.
        pub(super) fn plan(points: &[Means]) -> Vec<Planned> {
            let mut plan = Vec::new();
            $($(#[$when])* {
                let own = points.iter().enumerate().filter_map(|(at, means)| match means {
                    Means::$variant(point) => Some((at, point.as_ref())),
                    _ => None,
                });
                connections::<$protocol>(own, &mut plan);
            })*
            plan
        }
    };
}

protocols! {
    bacnet = Bacnet: super::bacnet::Bacnet;
    http = Http: super::http::Http;
    modbus = Modbus: super::modbus::Modbus;
    mqtt = Mqtt: super::mqtt::Mqtt;
    snmp = Snmp: super::snmp::Snmp;
    #[cfg(test)]
    fake = Fake: super::fake::Fake;
}

fn named_once<P: Protocol>(named: &[Spanned<P::Named>]) -> Result<(), Wrong> {
    for (at, one) in named.iter().enumerate() {
        let name = P::name(one.get_ref());
        let twice = named
            .iter()
            .take(at)
            .any(|other| P::name(other.get_ref()) == name);
        if twice {
            let message = format!(
                "there are two devices called {name:?} in [[thermal.{}]]",
                P::KEY
            );
            return Err(Wrong::at(one.span(), message));
        }
    }
    Ok(())
}

fn joined<P: Protocol>(
    written: &Spanned<Within<P::Written>>,
    beside: &Written,
    devices: &[Spanned<P::Named>],
) -> Result<(P::Point, Written, bool), Wrong> {
    let wrong = |message: String| Wrong::at(written.span(), message);
    let within = written.get_ref();
    let rules = beside.clone().join(within.rules.clone()).map_err(wrong)?;
    let named = match P::device(&within.own) {
        None => None,
        Some(name) => {
            let found = devices.iter().find(|one| P::name(one.get_ref()) == name);
            Some(found.ok_or_else(|| wrong(unknown_device::<P>(name, devices)))?)
        }
    };
    let point = P::join(&within.own, named.map(Spanned::get_ref)).map_err(wrong)?;
    let tells_unit = P::tells_unit(&point);
    Ok((point, rules, tells_unit))
}

fn unknown_device<P: Protocol>(name: &str, devices: &[Spanned<P::Named>]) -> String {
    let known: Vec<&str> = devices.iter().map(|one| P::name(one.get_ref())).collect();
    let known = match known.is_empty() {
        true => format!("there is no [[thermal.{}]] table", P::KEY),
        false => format!("there are: {}", known.join(", ")),
    };
    format!("no device is called {name:?}; {known}")
}

fn connections<'p, P: Protocol>(
    points: impl Iterator<Item = (usize, &'p P::Point)>,
    plan: &mut Vec<Planned>,
) {
    let mut groups: Vec<(String, Vec<usize>, Vec<P::Point>)> = Vec::new();
    for (at, point) in points {
        let connection = P::connection(point);
        match groups.iter_mut().find(|(known, ..)| *known == connection) {
            Some((_, indices, points)) => {
                indices.push(at);
                points.push(point.clone());
            }
            None => groups.push((connection, vec![at], vec![point.clone()])),
        }
    }
    plan.extend(
        groups
            .into_iter()
            .map(|(connection, indices, points)| Planned {
                name: format!("{} {connection}", P::KEY),
                points: indices,
                open: Box::new(move |host| P::open(points.clone(), host)),
            }),
    );
}
