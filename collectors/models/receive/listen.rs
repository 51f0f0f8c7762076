//! Where a source listens.

use std::net::SocketAddr;

use crate::web::SecretPlace;

/// Where a source listens, and what its senders must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// The address and port. Beyond this machine it needs a token.
    pub(crate) address: SocketAddr,
    /// Where the token is that senders show as `Authorization: Bearer`.
    pub(crate) token: Option<SecretPlace>,
}
