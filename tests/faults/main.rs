//! Faults: the real agent is killed, cut off from power and refused by its disk, and loses nothing.
//!
//! Each test ends with the same oracle ([`node::Node::settle`]): what the dashboard has accepted is exactly what the agent
//! has enqueued, nothing twice, one leaf a slot without a hole, no fork, and the evidence verifies.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests start and kill the program under test and wait in real time"
)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a run that cannot go on has failed"
)]
#![expect(
    clippy::print_stdout,
    reason = "how much was tried is a result of its own"
)]

mod crash_points;
mod failing_calls;
mod full_disk;
mod node;
mod process;
mod random_kills;
mod scenario;
mod shim;
#[path = "../stories/site.rs"]
#[expect(
    dead_code,
    reason = "the stories use all of it, these tests the site and its files"
)]
mod site;
