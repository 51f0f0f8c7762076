//! What the other rungs said while one spoke, gathered until it is time to say so.
//!
//! Promises: both sides over the same ticks; a statement at once when another rung is first heard, then every
//! quarter of an hour. Refuses: comparing with a default, which says nothing about the machine.

use std::collections::{BTreeMap, BTreeSet};

use cms_spec::Subject;
use cms_spec::cross_check::{CrossChecks, Drawn, Other};
use cms_spec::provenance::Quality;
use cms_spec::units::{Fixed, Microjoules, Millis};

use super::Rung;
use super::ladder::Spoken;

/// How much is gathered for a statement: a slot of the category.
const STATED_EVERY: Millis = Millis(15 * 60 * 1000);

/// What has gathered, and what was stated.
#[derive(Debug, Default)]
pub(super) struct Compared {
    source: String,
    method: String,
    is_default: bool,
    others: BTreeMap<String, Other>,
    gathered: Millis,
    stated: BTreeSet<String>,
    alarms: Vec<String>,
}

impl Compared {
    /// Adds one tick: what counts, and the other rungs that are sound, some of which wait for a value.
    ///
    /// Both sides wait at times, each for itself, so that each has its own time.
    pub(super) fn add<'a>(
        &mut self,
        spoken: Option<&Spoken>,
        others: impl Iterator<Item = (&'a dyn Rung, Option<(Microjoules, Millis)>)>,
    ) {
        if let Some(spoken) = spoken {
            let origin = &spoken.origin;
            if self.source != origin.source || self.method != origin.method {
                *self = Self {
                    source: origin.source.clone(),
                    method: origin.method.clone(),
                    is_default: origin.quality == Quality::Default,
                    ..Self::default()
                };
            }
            self.gathered += spoken.over;
        }
        if self.is_default || self.source.is_empty() {
            return;
        }
        for (rung, said) in others {
            if rung.origin().quality == Quality::Default {
                continue;
            }
            let fresh = || Other {
                source: rung.name().to_owned(),
                is_part: rung.is_part(),
                said: Drawn::default(),
                counted: Drawn::default(),
            };
            let other = self
                .others
                .entry(rung.name().to_owned())
                .or_insert_with(fresh);
            if let Some((energy, over)) = said {
                other.said.add(drawn(energy, over));
            }
            if let Some(spoken) = spoken {
                other.counted.add(drawn(spoken.energy, spoken.over));
            }
        }
    }

    /// The statement, when there is something new to say or it is time.
    pub(super) fn statement(&mut self, instance: &Subject) -> Option<CrossChecks> {
        let is_whole = |other: &Other| {
            other.said.over_ms > Millis::ZERO && other.counted.over_ms > Millis::ZERO
        };
        let is_new =
            |(name, other): (&String, &Other)| is_whole(other) && !self.stated.contains(name);
        let is_new = self.others.iter().any(is_new);
        if !is_new && self.gathered < STATED_EVERY {
            return None;
        }
        let mut gathered = std::mem::take(&mut self.others);
        gathered.retain(|_, other| is_whole(other));
        self.gathered = Millis::ZERO;
        if gathered.is_empty() && self.stated.is_empty() {
            return None;
        }
        self.stated = gathered.keys().cloned().collect();
        let alarm = |other: &Other| {
            let percent = other.delta_pct().unwrap_or_default();
            format!(
                "power alarm: {} is only a part of the machine and shows {percent} % more than {} does for \
                 the whole: one of the two is wrong",
                other.source, self.source
            )
        };
        let alarming = gathered.values().filter(|other| other.is_alarm());
        self.alarms = alarming.map(alarm).collect();
        Some(CrossChecks {
            instance: instance.clone(),
            source: self.source.clone(),
            method: self.method.clone(),
            others: gathered.into_values().collect(),
        })
    }

    /// Parts that the last statement showed above the whole, a line each.
    pub(super) fn alarms(&self) -> impl Iterator<Item = String> {
        self.alarms.iter().cloned()
    }
}

/// How far one power is from another, in percent of that one.
pub(super) fn beside(
    (energy, over): (Microjoules, Millis),
    (counted, counted_over): (Microjoules, Millis),
) -> Option<Fixed<1>> {
    let other = Other {
        source: String::new(),
        is_part: false,
        said: drawn(energy, over),
        counted: drawn(counted, counted_over),
    };
    other.delta_pct()
}

const fn drawn(microjoules: Microjoules, over_ms: Millis) -> Drawn {
    Drawn {
        microjoules,
        over_ms,
    }
}
