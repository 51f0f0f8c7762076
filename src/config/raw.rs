//! The configuration as it is written: one struct for each table, every key optional, nothing checked.
//!
//! Owns: the names of all keys but those of the collectors. Promises: unknown keys are refused; each value
//! that is checked later knows its place. Refuses: `flatten`, `untagged` and tagged enums, which lose places.

use serde::Deserialize;
use toml::Spanned;

use super::{LogFormat, LogLevel};

/// The whole file without the tables of the collectors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Root {
    pub(super) company_id: Option<Spanned<String>>,
    pub(super) site: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) dashboard: Dashboard,
    #[serde(default)]
    pub(super) store: Store,
    #[serde(default)]
    pub(super) energy: Energy,
    #[serde(default)]
    pub(super) schedule: Schedule,
    #[serde(default)]
    pub(super) metrics: Metrics,
    #[serde(default)]
    pub(super) status: Status,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) witness: Vec<Spanned<Witness>>,
}

/// `[dashboard]`. The key is taken out before, so that no error can show it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Dashboard {
    pub(super) endpoint: Option<Spanned<String>>,
    pub(super) ca_file: Option<Spanned<String>>,
    pub(super) client_cert_file: Option<Spanned<String>>,
    pub(super) client_key_file: Option<Spanned<String>>,
}

/// `dashboard.api_key`, `store.key`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct SecretReference {
    pub(super) credential: Option<Spanned<String>>,
    pub(super) env: Option<Spanned<String>>,
    pub(super) file: Option<Spanned<String>>,
}

/// `[[witness]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Witness {
    pub(super) ca_file: Option<Spanned<String>>,
    pub(super) interval: Option<Spanned<String>>,
    pub(super) url: Option<Spanned<String>>,
    pub(super) vkey: Option<Spanned<String>>,
}

/// `[store]`. Its keys are taken out before, so that no error can show them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Store {
    pub(super) path: Option<Spanned<String>>,
    pub(super) max_size: Option<Spanned<String>>,
    pub(super) retention: Option<Spanned<String>>,
}

/// `[energy]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Energy {
    pub(super) pue: Option<Spanned<f64>>,
    pub(super) price_usd_per_kwh: Option<Spanned<f64>>,
    #[serde(default)]
    pub(super) carbon: Carbon,
    #[serde(default)]
    pub(super) water: Water,
}

/// `energy.carbon`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Carbon {
    pub(super) factor_kg_per_kwh: Option<Spanned<f64>>,
    pub(super) source: Option<Spanned<String>>,
}

/// `energy.water`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Water {
    pub(super) site_l_per_kwh: Option<Spanned<f64>>,
    pub(super) grid_l_per_kwh: Option<Spanned<f64>>,
}

/// `[schedule]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Schedule {
    pub(super) ghost_compute: Option<Spanned<String>>,
    pub(super) model_efficiency: Option<Spanned<String>>,
    pub(super) dark_data: Option<Spanned<String>>,
    pub(super) heat_recovery: Option<Spanned<String>>,
    pub(super) coverage_verification: Option<Spanned<String>>,
}

/// `[metrics]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Metrics {
    pub(super) listen: Option<Spanned<String>>,
}

/// `[status]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Status {
    pub(super) socket: Option<Spanned<String>>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Log {
    pub(super) format: Option<Spanned<LogFormat>>,
    pub(super) level: Option<Spanned<LogLevel>>,
}
