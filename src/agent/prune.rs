//! Keeps the store within its limits: every hour what is too old goes, and what makes it too large.

use cms_attest::leaf::LeafKind;
use jiff::SignedDuration;

use crate::clock::Clock;
use crate::config::Store as Limits;
use crate::events::Events;
use crate::limits::{PRUNE_EVERY, PRUNE_FIRST, PRUNES_PER_SWEEP};
use crate::status::error_chain;
use crate::store::{Removed, Store, StoreError};

/// Removes what is too old every hour, and what makes the store too large.
pub(super) async fn run(agent: Pruning) {
    tokio::time::sleep(PRUNE_FIRST).await;
    for round in 0_u32.. {
        if let Err(error) = agent.prune().await {
            tracing::error!(error = %error_chain(&error), "old data could not be removed");
        }
        if round.is_multiple_of(PRUNES_PER_SWEEP)
            && let Err(error) = agent.store.remove_unused_data_keys().await
        {
            tracing::error!(error = %error_chain(&error), "unused data keys could not be removed");
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

/// What retention works with.
#[derive(Debug)]
pub(super) struct Pruning {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) events: Events,
}

impl Pruning {
    async fn prune(&self) -> Result<(), StoreError> {
        let retention =
            SignedDuration::try_from(self.limits.retention).unwrap_or(SignedDuration::MAX);
        if let Ok(keep_from) = self.clock.now().saturating_sub(retention) {
            self.store.remove_before(keep_from).await?;
        }
        let removed = self.store.shrink_to(self.limits.bytes_max).await?;
        if removed == Removed::default() {
            return Ok(());
        }
        let note = format!(
            "store.max_size reached: {} bodies of accepted submissions and {} quarters of an hour of samples removed before their time",
            removed.bodies, removed.samples
        );
        tracing::error!(
            bodies = removed.bodies,
            samples = removed.samples,
            "the store had reached store.max_size; the oldest raw data is gone"
        );
        self.events.write(LeafKind::Loss, &note).await
    }
}
