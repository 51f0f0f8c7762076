//! Leaves that no slot asks for: what an auditor must see besides submissions and gaps.
//!
//! Promises: an event goes into the newest epoch of the ledger, whoever writes it. A note is one line in plain
//! words; no content of a payload and no secret is ever in it.

use std::collections::VecDeque;

use cms_attest::leaf::LeafKind;
use cms_attest::origin::{AgentId, Origin};
use cms_spec::CompanyId;

use crate::api_keys::ApiKeys;
use crate::clock::Clock;
use crate::identity;
use crate::store::{LeafDraft, Moment, Store, StoreError};

/// How long an event counts against what its kind may write.
const SHARE_MS: u64 = 60 * 60 * 1000;

/// What one kind of event has written of the leaves that it may write in an hour.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// Time since boot of each.
    taken: VecDeque<u64>,
}

impl Share {
    /// Whether one more may be written now.
    #[must_use]
    pub fn has_room(&self, per_hour: usize, now_ms: u64) -> bool {
        let recent = |at: &&u64| now_ms.saturating_sub(**at) < SHARE_MS;
        self.taken.iter().filter(recent).count() < per_hour
    }

    /// One was written.
    pub fn take(&mut self, now_ms: u64) {
        self.taken
            .retain(|at| now_ms.saturating_sub(*at) < SHARE_MS);
        self.taken.push_back(now_ms);
    }
}

/// Writes events into the ledger of one agent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    store: Store,
    company: CompanyId,
    agent_id: AgentId,
    clock: Clock,
    api_keys: ApiKeys,
}

impl Events {
    /// Writes into the newest epoch of the ledger that `origin` is an epoch of.
    #[must_use]
    pub fn new(store: Store, origin: &Origin, clock: Clock, api_keys: ApiKeys) -> Self {
        Self {
            store,
            company: origin.company().clone(),
            agent_id: origin.agent_id().clone(),
            clock,
            api_keys,
        }
    }

    /// Appends one leaf.
    ///
    /// # Errors
    /// When the store cannot be written; then there is no leaf.
    pub async fn write(&self, kind: LeafKind, note: &str) -> Result<(), StoreError> {
        let origin = self.newest().await?;
        let draft = LeafDraft::event(kind, note);
        self.store
            .append_leaves(origin, self.moment(), vec![draft])
            .await
    }

    /// Appends one leaf together with values of `meta`.
    ///
    /// # Errors
    /// When the store cannot be written; then there is neither.
    pub async fn write_with(
        &self,
        draft: LeafDraft,
        values: Vec<(&'static str, String)>,
    ) -> Result<(), StoreError> {
        let origin = self.newest().await?;
        self.store
            .append_leaf_with(origin, self.moment(), draft, values)
            .await
    }

    /// The epoch that is written to now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn newest(&self) -> Result<Origin, StoreError> {
        self.store
            .origin(self.company.clone(), self.agent_id.clone(), self.moment())
            .await
    }

    fn moment(&self) -> Moment {
        identity::moment(&self.clock, &self.api_keys)
    }
}
