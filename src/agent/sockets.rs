//! The sockets of a running agent: one that says how it is, and one that takes commands about its keys.

use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{AbortOnDrop, Agent};
use crate::control;
use crate::status::{self, Status};
use crate::store::Store;

/// Answers with a snapshot until it is dropped.
pub(super) fn serve_status(path: &Path, status: &Status, store: &Store) -> Option<AbortOnDrop> {
    match status::listen(path, status::MODE) {
        Ok(listener) => {
            let serve = status::serve(listener, status.clone(), store.clone());
            Some(AbortOnDrop(tokio::spawn(serve)))
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no status socket; the status command will find no agent");
            None
        }
    }
}

impl Agent {
    /// Takes commands about keys, with the API keys of this configuration.
    pub(super) fn serve_control(&self, tasks: &mut JoinSet<()>) {
        let path = control::socket(&self.config.status_socket);
        let listener = match status::listen(&path, control::MODE) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no control socket; the key command will find no agent");
                return;
            }
        };
        let desk = control::Desk {
            identity: Arc::clone(&self.identity),
            store: self.store.clone(),
            events: self.events(),
            api_keys: self.api_keys.clone(),
            status: self.status.clone(),
            clock: self.clock.clone(),
            protection: self.key.protection().to_string(),
            rotating: Arc::clone(&self.rotating),
        };
        tasks.spawn(control::serve(listener, desk));
    }
}
