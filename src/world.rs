//! What an agent meets outside of itself: the time, chance, the ways to the dashboard and to sources, and where work is done.
//!
//! All of it is an argument of the agent, so that a simulation can bring its own and months of virtual time pass
//! in seconds, the same each time. Nothing of it can be configured: the program always runs in
//! [`World::real`].

use std::fmt;
use std::sync::Arc;

use cms_collectors::web::Web;

use crate::blocking::Blocking;
use crate::chance::Chance;
use crate::clock::Clock;
use crate::config::Endpoint;
use crate::transport::tls::TlsFiles;
use crate::transport::web::Outbound;
use crate::transport::{Transport, TransportError};

/// Makes the way to a dashboard.
pub type Connect =
    Arc<dyn Fn(&Endpoint, &TlsFiles) -> Result<Transport, TransportError> + Send + Sync>;

/// The surroundings of one agent. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// The time.
    pub clock: Clock,
    /// What pauses are spread by.
    pub chance: Chance,
    /// How a dashboard is reached.
    pub connect: Connect,
    /// How collectors reach servers.
    pub web: Arc<dyn Web>,
    /// Where work is done that may block.
    pub blocking: Blocking,
}

impl World {
    /// This machine: its clock, its randomness, TLS, and threads of our own.
    #[must_use]
    pub fn real() -> Self {
        Self {
            clock: Clock::system(),
            chance: Chance::system(),
            connect: Arc::new(Transport::new),
            web: Arc::new(Outbound),
            blocking: Blocking::OnThreads,
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("clock", &self.clock)
            .field("blocking", &self.blocking)
            .finish_non_exhaustive()
    }
}
