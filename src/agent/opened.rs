//! What an agent has on disk: its store, its identity and its place in the ledger.

use std::sync::Arc;

use cms_attest::origin::Origin;

use super::AgentError;
use crate::api_keys::ApiKeys;
use crate::config::Config;
use crate::identity::{self, Found, Identity, Machine};
use crate::seal::StoreKey;
use crate::store::{self, ReceiptRow, Store};
use crate::world::World;

/// What was opened, and belongs together.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) key: StoreKey,
    pub(super) store: Store,
    pub(super) machine: Machine,
    pub(super) identity: Arc<Identity>,
    pub(super) found: Found,
    /// The newest one of any ledger.
    pub(super) receipt: Option<ReceiptRow>,
    pub(super) origin: Origin,
}

impl Opened {
    /// Opens all of it, making what is missing.
    pub(super) async fn open(config: &Config, world: &World) -> Result<Self, AgentError> {
        let clock = world.clock.clone();
        let key = store::key::find_or_make(&config.store)?;
        let blocking = world.blocking.clone();
        let store = Store::open_with(&config.store.path, &key, blocking, clock.clone()).await?;
        let machine = Machine::local(&clock.boot_id());
        let (identity, found) = Identity::open(&store, &key, &machine, clock.now()).await?;
        let identity = Arc::new(identity);
        let origin = store
            .origin(
                config.company_id.clone(),
                identity.agent_id().clone(),
                identity::moment(&clock, &ApiKeys::new(&config.dashboard)),
            )
            .await?;
        let receipt = store.newest_receipt().await?;
        Ok(Self {
            key,
            store,
            machine,
            identity,
            found,
            receipt,
            origin,
        })
    }
}
