//! vLLM.

pub(crate) mod id;
pub(crate) mod log;
pub(crate) mod metrics;

pub(crate) use log::reader;

use super::feed::Feed;
use crate::web::Site;
use crate::{CollectError, Host};

/// Sums of its page of metrics.
///
/// # Errors
/// When a certificate file cannot be used.
pub(crate) fn metrics(site: &Site, host: &Host) -> Result<Box<dyn Feed>, CollectError> {
    Ok(Box::new(metrics::open(site, host)?))
}
