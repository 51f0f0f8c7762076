//! `[compute.power.snmp]`: which outlets feed this machine.

use std::time::Duration;

use crate::snmp::Oid;
use cms_spec::decimal::Decimal;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::compute::power::polled::{POLL_EVERY, PollEvery};
use crate::snmp::meter::{EnergyUnit, Objects, PowerUnit};
use crate::snmp::tables::{Known, Row};
use crate::snmp::{Endpoint, RawUser, Target, Wait, oid};
use crate::web::SecretPlace;

/// More power supplies than a machine has.
const FEEDS_MAX: usize = 8;

/// A counter with larger steps does not tell one quarter of an hour from the next: 0.01 kWh are 40 W
/// over it. Such a counter needs a power beside it.
const STEP_ALONE_MAX: Decimal = Decimal::whole(36_000);

/// `[compute.power.snmp]`, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(super) interval: PollEvery,
    pub(super) feeds: Vec<Feed>,
}

/// One outlet that feeds the machine.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    pub(super) target: Target,
    pub(super) objects: Objects,
    /// How it is read, for provenance: the model, or `objects`.
    pub(super) model: &'static str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "poll_every")]
    interval: PollEvery,
    feed: Vec<Feed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFeed {
    host: Endpoint,
    community: Option<SecretPlace>,
    v3: Option<RawUser>,
    timeout: Option<Wait>,
    model: Option<String>,
    unit: Option<u32>,
    cord: Option<u32>,
    outlet: Option<u32>,
    power: Option<Power>,
    energy: Option<Energy>,
}

/// `power = { oid = "…", scale = 10, unit = "W" }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Power {
    #[serde(deserialize_with = "oid")]
    oid: Oid,
    #[serde(default = "one")]
    scale: Decimal,
    unit: PowerUnit,
}

/// `energy = { oid = "…", scale = 0.1, unit = "kWh" }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Energy {
    #[serde(deserialize_with = "oid")]
    oid: Oid,
    #[serde(default = "one")]
    scale: Decimal,
    unit: EnergyUnit,
}

fn one() -> Decimal {
    Decimal::whole(1)
}

fn poll_every() -> PollEvery {
    POLL_EVERY
}

impl Config {
    /// Where the power strips are.
    pub(in crate::compute::power) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.feeds.iter().map(|feed| feed.target.address())
    }

    /// How long one poll may take: every feed is asked at once, and version 3 asks twice.
    pub(super) fn within(&self) -> Duration {
        let waits = self.feeds.iter().map(|feed| feed.target.patience());
        waits.max().unwrap_or_default() * 2
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        if raw.feed.is_empty() || raw.feed.len() > FEEDS_MAX {
            return Err(D::Error::custom(
                "name the outlets that feed this machine: one to eight tables \
                 [[compute.power.snmp.feed]]",
            ));
        }
        for (at, feed) in raw.feed.iter().enumerate() {
            let is_same =
                |other: &Feed| other.target == feed.target && other.objects == feed.objects;
            if raw.feed.iter().take(at).any(is_same) {
                return Err(D::Error::custom(format_args!(
                    "the same outlet of {} stands in two feeds and would count twice",
                    feed.target.address()
                )));
            }
        }
        Ok(Self {
            interval: raw.interval,
            feeds: raw.feed,
        })
    }
}

impl<'de> Deserialize<'de> for Feed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawFeed::deserialize(deserializer)?;
        raw.checked().map_err(D::Error::custom)
    }
}

impl RawFeed {
    fn checked(self) -> Result<Feed, String> {
        let target = Target::new(self.host, self.community, self.v3, self.timeout)?;
        let row = Row {
            unit: self.unit,
            cord: self.cord,
            outlet: self.outlet,
        };
        let (model, objects) = match (self.model, self.power, self.energy) {
            (Some(model), None, None) => {
                let known = Known::of(&model).ok_or_else(|| {
                    format!(
                        "no model {model:?} is known: it is one of {}",
                        Known::models()
                    )
                })?;
                (known.model, known.row(row)?)
            }
            (Some(_), _, _) => {
                return Err(
                    "`model` knows the objects itself: leave out `power` and `energy`, or `model`"
                        .to_owned(),
                );
            }
            (None, None, None) => {
                return Err(format!(
                    "say what is read: `model` (one of {}), or `power` or `energy` with an `oid`",
                    Known::models()
                ));
            }
            (None, _, _) if row != Row::default() => {
                return Err(
                    "`unit`, `cord` and `outlet` go with `model`; an `oid` names its row itself"
                        .to_owned(),
                );
            }
            (None, power, energy) => ("objects", named(power, energy)?),
        };
        Ok(Feed {
            target,
            objects,
            model,
        })
    }
}

fn named(power: Option<Power>, energy: Option<Energy>) -> Result<Objects, String> {
    let is_alone = power.is_none();
    let power = match power {
        Some(power) => Some((power.oid, scaled(power.unit.watts(), power.scale)?)),
        None => None,
    };
    let energy = match energy {
        Some(energy) => Some((energy.oid, scaled(energy.unit.joules(), energy.scale)?)),
        None => None,
    };
    if let Some((_, step)) = &energy
        && is_alone
        && *step > STEP_ALONE_MAX
    {
        return Err(
            "this counter moves in steps of more than 0.01 kWh, too coarse for a quarter of an \
             hour: give `power` as well"
                .to_owned(),
        );
    }
    Ok(Objects::named(power, energy))
}

fn scaled(unit: Decimal, scale: Decimal) -> Result<Decimal, String> {
    if scale <= Decimal::ZERO {
        return Err("`scale` is how many units one count is: more than zero".to_owned());
    }
    unit.checked_mul(scale)
        .ok_or_else(|| "`scale` is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let error = toml::from_str::<Config>(text).unwrap_err();
        error.message().to_owned()
    }

    #[test]
    fn feeds_are_taken() {
        let config: Config = toml::from_str(
            "[[feed]]\nhost = 'a'\ncommunity = { file = '/c' }\nmodel = 'apc-outlet'\noutlet = 7\n\
             [[feed]]\nhost = 'b'\ncommunity = { file = '/c' }\n\
             power = { oid = '1.3.6.1.9.1', unit = 'W' }\n\
             energy = { oid = '1.3.6.1.9.2', scale = 0.1, unit = 'kWh' }",
        )
        .unwrap();
        let models: Vec<&str> = config.feeds.iter().map(|feed| feed.model).collect();
        assert_eq!(models, ["apc-outlet", "objects"]);
        assert_eq!(config.interval, POLL_EVERY);
        let alone = "[[feed]]\nhost = 'b'\ncommunity = { file = '/c' }\n\
                     energy = { oid = '1.3.6.1.9.2', unit = 'Wh' }";
        assert!(toml::from_str::<Config>(alone).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (keys, words) in [
            ("", "say what is read"),
            ("model = 'apc'", "one of apc-outlet, apc-unit"),
            ("model = 'apc-outlet'", "needs `outlet`"),
            (
                "model = 'apc-outlet'\noutlet = 1\ncord = 1",
                "`cord` means nothing",
            ),
            ("model = 'apc-outlet'\noutlet = -1", "invalid value"),
            (
                "model = 'apc-unit'\npower = { oid = '1.3.6.1', unit = 'W' }",
                "leave out `power`",
            ),
            (
                "outlet = 1\npower = { oid = '1.3.6.1', unit = 'W' }",
                "names its row itself",
            ),
            (
                "power = { oid = 'sysDescr.0', unit = 'W' }",
                "no object identifier",
            ),
            (
                "power = { oid = '1.3.6.1', unit = 'BTU' }",
                "unknown variant",
            ),
            (
                "power = { oid = '1.3.6.1', unit = 'W', scale = 0 }",
                "more than zero",
            ),
            (
                "energy = { oid = '1.3.6.1', unit = 'kWh', scale = 0.1 }",
                "give `power` as well",
            ),
        ] {
            let text = format!("[[feed]]\nhost = 'a'\ncommunity = {{ file = '/c' }}\n{keys}");
            let refused = refusal(&text);
            assert!(refused.contains(words), "{keys}: {refused}");
        }
        assert!(refusal("feed = []").contains("one to eight"));
        let one = "[[feed]]\nhost = 'a'\ncommunity = { file = '/c' }\nmodel = 'apc-unit'\n";
        assert!(refusal(&format!("{one}{one}")).contains("count twice"));
        assert!(refusal("interval = '1s'\nfeed = []").contains("outside the allowed"));
    }
}
