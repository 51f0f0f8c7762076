//! `probe inference`: which server of models is at an address, and how it is best read.

use std::sync::Arc;

use clap::Args;
use cms_collectors::Host;
use cms_collectors::models::probe::{Suggestion, look};
use cms_collectors::web::Address;

use super::{Access, answered};
use crate::cli::CliError;
use crate::clock::Clock;
use crate::transport::web::Outbound;

/// Whose readings these would be; a probe takes none.
const INSTANCE: &str = "probe";

#[derive(Debug, Args)]
pub(super) struct Inference {
    /// For example http://127.0.0.1:8000, of a server; its page of metrics, /v1 or another path before these may follow.
    url: Address,

    #[command(flatten)]
    access: Access,
}

impl Inference {
    pub(super) fn look(self) -> Result<Suggestion, CliError> {
        let asked = self.url.to_string();
        let site = self.access.site(self.url)?;
        let instance = INSTANCE.parse().map_err(|error| CliError::failed(&error))?;
        let host = Host::local(instance, String::new(), Arc::new(Outbound));
        let now = Clock::system().now();
        answered(&format!("asking {asked}"), look(&host, &site, now))
    }
}
