//! From a closed window to the exact bytes that are signed and sent.
//!
//! [`Closed`] is made only by a window, [`Payload`] only from a `Closed`, [`Canonical`] only from a `Payload`,
//! so that bytes without figures behind them cannot be written down.

use jiff::Timestamp;

use super::provenance as notes;
use super::{AgentInfo, Data, Envelope, SCHEMA, v1};
use crate::category::Category;
use crate::coverage::Assessment;
use crate::dark::{self, AccessAnomaly, StorageScan};
pub use crate::factors::{EnergyFactors, Figure};
use crate::ids::CompanyId;
use crate::provenance::Entry;
use crate::slot::Slot;
use crate::windows::Dropped;
use crate::{ghost, heat, models};

/// What a window amounts to at the end of a slot. Only [`crate::windows::Windows::close`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub(crate) slot: Slot,
    pub(crate) content: Content,
    pub(crate) dropped: Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Coverage(Box<Assessment>),
    Dark(Vec<(StorageScan, Option<AccessAnomaly>)>),
    Ghost(ghost::Census),
    Heat(Vec<heat::Observed>),
    Model(Box<models::Observed>),
}

/// What the figures rest on besides readings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Cost, carbon and water of energy.
    pub energy: EnergyFactors,
}

/// The specification's object of one slot, and where each figure of it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    slot: Slot,
    data: Data,
    provenance: Vec<Entry>,
}

/// The exact bytes of a submission's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    category: Category,
    slot: Slot,
    bytes: Vec<u8>,
}

impl Closed {
    /// The category that was closed.
    #[must_use]
    pub fn category(&self) -> Category {
        match &self.content {
            Content::Coverage(_) => Category::CoverageVerification,
            Content::Dark(_) => Category::DarkData,
            Content::Ghost(_) => Category::GhostCompute,
            Content::Heat(_) => Category::HeatRecovery,
            Content::Model(_) => Category::ModelEfficiency,
        }
    }

    /// The slot that was closed.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.slot
    }
}

impl Payload {
    /// Computes the figures of a closed window.
    #[must_use]
    pub fn build(closed: Closed, context: &Context) -> Self {
        let slot = closed.slot;
        let (data, mut provenance) = match closed.content {
            Content::Coverage(assessment) => {
                let entries = notes::coverage(&assessment, slot.end);
                (Data::TelemetryCoverage(assessment.coverage), entries)
            }
            Content::Dark(units) => dark_data(&units),
            Content::Ghost(census) => ghost_compute(&census, slot.end, &context.energy),
            Content::Heat(sources) => heat_recovery(&sources, slot.end),
            Content::Model(observed) => model_efficiency(&observed, slot.end),
        };
        provenance.extend(notes::dropped(&closed.dropped));
        Self {
            slot,
            data,
            provenance,
        }
    }

    /// The category of the figures.
    #[must_use]
    pub fn category(&self) -> Category {
        self.data.category()
    }

    /// The slot that the figures close.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The specification's object.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Where each figure comes from.
    #[must_use]
    pub fn provenance(&self) -> &[Entry] {
        &self.provenance
    }

    /// Writes the submission's body. Slot and schema of `agent` are set here, so that they cannot differ.
    #[must_use]
    pub fn canonical(self, company: &CompanyId, agent: AgentInfo) -> Canonical {
        let (category, slot) = (self.category(), self.slot);
        let envelope = Envelope {
            company_id: company.clone(),
            timestamp: slot.end,
            data: self.data,
            agent: Some(AgentInfo {
                slot,
                schema: SCHEMA.to_owned(),
                ..agent
            }),
            provenance: self.provenance,
        };
        // Text keys and finite numbers always serialise; an empty body would be refused by every verifier.
        let bytes = serde_json::to_vec(&envelope).unwrap_or_default();
        Canonical {
            category,
            slot,
            bytes,
        }
    }
}

impl Canonical {
    /// The bytes that are signed and sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The category, which names the endpoint.
    #[must_use]
    pub fn category(&self) -> Category {
        self.category
    }

    /// The slot that the body closes.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Gives the bytes away.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn ghost_compute(
    census: &ghost::Census,
    end: Timestamp,
    factors: &EnergyFactors,
) -> (Data, Vec<Entry>) {
    let instances = &census.instances;
    let rates = factors.rates();
    let mut totals = ghost::Totals::default();
    let mut rows = Vec::with_capacity(instances.len());
    for observed in instances {
        let (row, share) = ghost::row(observed, factors);
        totals.add(&share, &rates);
        rows.push(row);
    }
    let data = v1::GhostCompute {
        instance_inventory: rows,
        energy_summary: totals.summary(&rates),
        physical_impact: totals.impact(),
    };
    (Data::GhostCompute(data), notes::ghost(census, end, factors))
}

fn dark_data(units: &[(StorageScan, Option<AccessAnomaly>)]) -> (Data, Vec<Entry>) {
    let rows: Vec<v1::StorageRow> = units
        .iter()
        .flat_map(|(scan, _)| dark::rows(scan))
        .collect();
    let summary = dark::summary(&rows);
    let data = v1::DarkData {
        storage_inventory: rows,
        summary,
    };
    (Data::DarkData(data), notes::dark(units))
}

fn heat_recovery(sources: &[heat::Observed], end: Timestamp) -> (Data, Vec<Entry>) {
    let rows: Vec<v1::ThermalSource> = sources.iter().map(heat::Observed::row).collect();
    let summary = heat::summary(&rows);
    let entries = notes::heat(sources, &rows, end);
    let data = v1::HeatRecovery {
        thermal_sources: rows,
        summary,
    };
    (Data::HeatRecovery(data), entries)
}

fn model_efficiency(observed: &models::Observed, end: Timestamp) -> (Data, Vec<Entry>) {
    let data = v1::ModelEfficiency {
        inference_log: observed.log.iter().map(models::Inference::row).collect(),
        summary: models::summary(&observed.rolling),
    };
    (Data::ModelEfficiency(data), notes::model(observed, end))
}
