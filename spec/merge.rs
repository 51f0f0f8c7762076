//! Merges what several agents of one company say into one statement for each category.
//!
//! Kept is the newest envelope of each agent, and figures are computed from that set when asked for. So the
//! order of arrival, and in which groups envelopes were merged before, cannot matter: merging is associative,
//! commutative and idempotent. Energies, counts and bytes are summed, then divided; ratios are never averaged.

mod coverage;
mod figures;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::category::Category;
use crate::coverage::Thing;
use crate::dark::AgeBand;
use crate::payload::Envelope;
use crate::payload::v1::{
    DarkData, GhostCompute, HeatRecovery, ModelEfficiency, TelemetryCoverage,
};
use figures::Figures;

/// The newest envelopes of the agents of one company. As many as the company has enrolled agents.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    newest: BTreeMap<(Category, String), Arc<Envelope>>,
    figures: OnceLock<Box<Figures>>,
}

/// Two agents speak for the same thing; the newest statement was taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// In which category.
    pub category: Category,
    /// Instance, storage unit or thermal source.
    pub id: String,
    /// Whose statement was taken.
    pub kept: String,
    /// Whose statement was left out.
    pub left_out: String,
}

/// The clocks of coverage, for all agents together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// What no agent sees, the soonest first.
    pub missing: Vec<Thing>,
    /// What reports and no inventory has, the soonest first.
    pub unlisted: Vec<Thing>,
    /// What was taken out of service, with its evidence.
    pub decommissioned: Vec<Thing>,
}

impl Merged {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an envelope of an agent, unless a newer one of the same category is known.
    pub fn add(&mut self, agent: &str, envelope: &Envelope) {
        self.take(agent, &Arc::new(envelope.clone()));
    }

    /// Both together.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        for ((_, agent), envelope) in &other.newest {
            self.take(agent, envelope);
        }
        self
    }

    /// Ghost compute of all agents.
    #[must_use]
    pub fn ghost(&self) -> Option<&GhostCompute> {
        self.figures().ghost.as_ref()
    }

    /// Model efficiency of all agents.
    #[must_use]
    pub fn model(&self) -> Option<&ModelEfficiency> {
        self.figures().model.as_ref()
    }

    /// Dark data of all agents.
    #[must_use]
    pub fn dark(&self) -> Option<&DarkData> {
        self.figures().dark.as_ref()
    }

    /// What all agents store by the age of its last access. A unit that two agents speak for counts twice here.
    #[must_use]
    pub fn ages(&self) -> &[AgeBand] {
        &self.figures().ages
    }

    /// Heat recovery of all agents.
    #[must_use]
    pub fn heat(&self) -> Option<&HeatRecovery> {
        self.figures().heat.as_ref()
    }

    /// Coverage of all agents.
    #[must_use]
    pub fn coverage(&self) -> Option<&TelemetryCoverage> {
        self.figures().coverage.as_ref()
    }

    /// What coverage waits for, and until when.
    #[must_use]
    pub fn clocks(&self) -> &Clocks {
        &self.figures().clocks
    }

    /// Power of ghosts and of all instances, for a score that is not rounded before.
    #[must_use]
    pub fn ghost_of_total(&self) -> Option<(u128, u128)> {
        self.figures().ghost_of_total
    }

    /// Whether heat recovery does not have to be met: below 50 kW in all, or in season for every agent.
    #[must_use]
    pub fn is_heat_exempt(&self) -> bool {
        self.figures().heat_exempt
    }

    /// Things that several agents speak for.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        &self.figures().conflicts
    }

    /// The agents that figures of a category come from.
    pub fn agents(&self, category: Category) -> impl Iterator<Item = &str> {
        self.envelopes(category).map(|(agent, _)| agent)
    }

    fn envelopes(&self, category: Category) -> impl Iterator<Item = (&str, &Envelope)> {
        self.newest
            .iter()
            .filter(move |((of, _), _)| *of == category)
            .map(|((_, agent), envelope)| (agent.as_str(), envelope.as_ref()))
    }

    fn figures(&self) -> &Figures {
        self.figures.get_or_init(|| {
            Box::new(Figures::compute(|category| {
                self.envelopes(category).collect()
            }))
        })
    }

    fn take(&mut self, agent: &str, envelope: &Arc<Envelope>) {
        let key = (envelope.data.category(), agent.to_owned());
        let known = self.newest.get(&key);
        if known.is_none_or(|known| is_newer(envelope, known)) {
            self.newest.insert(key, Arc::clone(envelope));
            self.figures = OnceLock::new();
        }
    }
}

impl PartialEq for Merged {
    fn eq(&self, other: &Self) -> bool {
        self.newest == other.newest
    }
}

impl Eq for Merged {}

/// By time, then by place in the agent's ledger, then by content, so that the choice never depends on order.
fn is_newer(envelope: &Envelope, known: &Envelope) -> bool {
    let rank = |one: &Envelope| {
        (
            one.timestamp,
            one.agent.as_ref().map(|agent| agent.sequence),
        )
    };
    let text = |one: &Envelope| serde_json::to_string(one).unwrap_or_default();
    rank(envelope)
        .cmp(&rank(known))
        .then_with(|| text(envelope).cmp(&text(known)))
        .is_gt()
}
