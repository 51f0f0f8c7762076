//! Where a company stands now: its agents' newest live submissions, merged and scored by `cms-spec`.
//!
//! Promises: a figure whose telemetry has gone silent is withheld, never carried on. Computed at most once for
//! each arrival and a few seconds, however often it is asked for: the pages are public.

use std::collections::BTreeMap;
use std::sync::Arc;

use cms_spec::merge::Merged;
use cms_spec::score::{CompanyScore, score};
use cms_spec::{Category, CompanyId};
use jiff::{SignedDuration, Timestamp};

use crate::app::App;
use crate::ingest::{LIVE_MAX, parse};
use crate::refused::Refused;
use crate::store::{Company, Current};

/// How long a computed standing serves: the silence of an agent shows that much later.
const KEPT: SignedDuration = SignedDuration::from_secs(5);
/// Computed standings that are kept. Each holds the inventories of its company's agents.
const KEPT_MAX: usize = 64;
/// Slots of a day and longer are current for the day, and then for as long as any other.
const LONG_SLOT: SignedDuration = SignedDuration::from_hours(24);

/// A company's figures at one moment.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Whose.
    pub(crate) company: Company,
    /// When it was computed.
    pub(crate) at: Timestamp,
    /// What its agents say together.
    pub(crate) merged: Merged,
    /// What that is worth.
    pub(crate) score: CompanyScore,
    /// Who speaks for each category, and how recently.
    pub(crate) voices: BTreeMap<Category, Voices>,
}

/// Who speaks for a category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Voices {
    /// Agents whose newest live submission is fresh; the figures are theirs.
    pub(crate) live: usize,
    /// Agents that were heard and have gone silent; their figures are withheld.
    pub(crate) silent: usize,
    /// When the newest slot of any of them ended.
    pub(crate) newest: Option<Timestamp>,
}

impl Voices {
    /// One word for it.
    pub(crate) const fn word(self) -> &'static str {
        match (self.live, self.silent) {
            (0, 0) => "none",
            (0, _) => "stale",
            _ => "live",
        }
    }
}

impl Standing {
    /// The company's standing, computed now or a few seconds ago.
    pub(crate) async fn of(app: &App, id: &str) -> Result<Arc<Self>, Refused> {
        let unknown = || Refused::CompanyUnknown(id.to_owned());
        let id: CompanyId = id.parse().map_err(|_| unknown())?;
        let now = app.now();
        let mut kept = app.standings().lock().await;
        let overtaken = app.take_outdated(&id);
        if let Some(standing) = kept.get(&id).filter(|_| !overtaken) {
            let age = now.duration_since(standing.at);
            if (SignedDuration::ZERO..KEPT).contains(&age) {
                return Ok(Arc::clone(standing));
            }
        }
        let company = app.store().company(id.clone()).await?.ok_or_else(unknown)?;
        let standing = Arc::new(Self::compute(app, company, now).await?);
        if kept.len() >= KEPT_MAX {
            kept.pop_first();
        }
        kept.insert(id, Arc::clone(&standing));
        Ok(standing)
    }

    /// The company's standing, computed now.
    pub(crate) async fn compute(
        app: &App,
        company: Company,
        now: Timestamp,
    ) -> Result<Self, Refused> {
        let current = app.store().current(company.id.clone()).await?;
        let computed = tokio::task::spawn_blocking(move || Self::from(company, current, now)).await;
        computed.map_err(|_| Refused::Store(crate::store::StoreError::Unconfirmed))
    }

    fn from(company: Company, current: Vec<Current>, now: Timestamp) -> Self {
        let mut merged = Merged::new();
        let mut voices = BTreeMap::<Category, Voices>::new();
        for Current { row, body } in current {
            let voice = voices.entry(row.category).or_default();
            voice.newest = voice.newest.max(Some(row.slot.end));
            let fresh = now.duration_since(row.slot.end) <= allowance(row.category);
            let envelope = body.filter(|_| fresh).map(|body| parse(&body));
            match envelope {
                Some(Ok(envelope)) => {
                    merged.add(row.agent.as_str(), &envelope);
                    voice.live += 1;
                }
                Some(Err(error)) => {
                    // It was read when it was accepted, so the store or this program has changed.
                    tracing::error!(%error, agent = %row.agent, "an accepted body does not read");
                    voice.silent += 1;
                }
                None => voice.silent += 1,
            }
        }
        Self {
            score: score(&merged),
            company,
            at: now,
            merged,
            voices,
        }
    }

    /// Who speaks for a category.
    pub(crate) fn voices(&self, category: Category) -> Voices {
        self.voices.get(&category).copied().unwrap_or_default()
    }
}

/// How old the end of a category's newest slot may be. Slots of minutes: as old as any live submission. Slots
/// of a day: until the next one can have arrived.
fn allowance(category: Category) -> SignedDuration {
    let slot = category.cadence().duration();
    if slot >= LONG_SLOT {
        slot.saturating_add(LIVE_MAX)
    } else {
        LIVE_MAX
    }
}
