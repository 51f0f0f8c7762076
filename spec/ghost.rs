//! Ghost compute (specification II.A): who is idle, what that costs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::Subject;
use crate::units::Fixed;

/// What an instance is, apart from what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceFacts {
    /// Its id in the inventory.
    pub instance: Subject,
    /// A cloud type, or the machine's model and size on premises.
    pub instance_type: String,
    /// Region or site.
    pub region: String,
    /// When it was booted or launched.
    pub launch_time: Timestamp,
    /// What a billing month (730 hours) of it costs, where somebody pays for the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_cost_usd: Option<Fixed<2>>,
}
