//! What an agent says of itself when it has been opened: its first leaf, and its nameplate.

use crate::config::Config;
use crate::identity::{Found, Identity};
use crate::seal::StoreKey;
use crate::status::{KeyRow, Nameplate, PartState, Status};
use crate::store::ReceiptRow;

/// What the first leaf of this start says. An identity that is lost begins another ledger, which names the old
/// one's last receipt.
pub(super) fn start_note(found: &Found, status: &Status, receipt: Option<ReceiptRow>) -> String {
    let agent = concat!("agent ", env!("CARGO_PKG_VERSION"));
    match found {
        Found::Made | Found::Whole => agent.to_owned(),
        Found::Reset => format!("{agent}; a new identity, the old one was reset"),
        Found::Repaired(why) => {
            let said = format!("repaired at this start: {why}");
            status.ok("identity", Some(said));
            agent.to_owned()
        }
        Found::Lost(why) => {
            let said = format!("the identity was lost, this is a new one: {why}");
            status.set("identity", PartState::Degraded, Some(said));
            let before = receipt.map_or_else(String::new, |receipt| {
                format!(
                    "; epoch {} was receipted to size {}",
                    receipt.epoch, receipt.size
                )
            });
            format!("{agent}; a new identity, the old one was lost{before}")
        }
    }
}

/// What does not change while the agent runs.
pub(super) fn nameplate(config: &Config, identity: &Identity, key: &StoreKey) -> Nameplate {
    Nameplate {
        key: KeyRow::of(key),
        company_id: config.company_id.to_string(),
        agent_id: identity.agent_id().to_string(),
        endpoint: config.dashboard.endpoint.to_string(),
        inventory: config.inventory(),
    }
}
