//! The links that are open, so that devices of one network share one.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Link, LinkError, Place};
use crate::host::read_text;

/// Links that somebody still uses. Clones know the same ones.
#[derive(Clone, Debug, Default)]
pub struct Links {
    open: Arc<Mutex<Vec<Weak<Link>>>>,
}

impl Links {
    /// The link at this place, opened if nobody has it open. `routes` is the file of the machine's routes;
    /// without it a broadcast address needs a prefix.
    pub(crate) fn at(
        &self,
        place: Place,
        routes: &Path,
        first_process: u32,
    ) -> Result<Arc<Link>, LinkError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|link| link.strong_count() > 0);
        let mut shared = open.iter().filter_map(Weak::upgrade);
        if let Some(link) = shared.find(|link| *link.place() == place) {
            return Ok(link);
        }
        drop(shared);
        let routes = read_text(routes).unwrap_or_default();
        let link = Arc::new(Link::open(place, &routes, first_process)?);
        open.push(Arc::downgrade(&link));
        Ok(link)
    }
}
