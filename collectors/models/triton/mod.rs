//! Triton.

pub(crate) mod metrics;

use super::counters::dialect::Wanted;
use super::feed::Feed;
use crate::web::Site;
use crate::{CollectError, Host};

/// Sums of its page of metrics.
///
/// # Errors
/// When a certificate file cannot be used.
pub(crate) fn metrics(
    wanted: &Wanted,
    site: &Site,
    host: &Host,
) -> Result<Box<dyn Feed>, CollectError> {
    Ok(Box::new(metrics::open(wanted.clone(), site, host)?))
}
