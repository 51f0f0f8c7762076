//! The dashboard as agents meet it: through its router, with a clock that stands where the test puts it.

mod bench;
mod checkpoints;
mod enrolment;
mod figures;
mod listener;
mod mutations;
mod pages;
mod rotation;
mod submissions;

use bench::{Bench, Sent, Signer};
