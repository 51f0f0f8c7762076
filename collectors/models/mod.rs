//! AI inference: what was asked of which model, without ever reading a prompt.
//!
//! Owns: one folder for each kind of server, and what they share. Promises: of a request only metadata is kept, in
//! types that cannot hold a sentence; what a server does not say is missing, never invented; a request that is
//! seen twice counts once. Refuses: bodies, prompts, completions, and any text that is not on a reader's list.

pub(crate) mod feed;
pub(crate) mod request;
pub(crate) mod tail;
