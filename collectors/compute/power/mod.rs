//! The ladder of power sources: the best valid rung gives the energy of a tick, and says which one
//! it is.
//!
//! Owns: what a rung is. Promises: one amount for each tick at most, from one rung; never a mean over
//! rungs, never 0 W for an unknown power. Refuses: a reason that is not said.
//!
//! # How to add a rung
//!
//! 1. What answers at once (a file, a library): implement `Rung`. What needs a network, a session or a
//!    device that may hang: implement `polled::Meter`, one read-only question with an answer, and make
//!    it a rung with `polled::Polled::new`, which asks it in a task of its own and turns answers into
//!    energy. Gates that every device shares (old, unmoved, 0 W, a fall of its counter) are there; those
//!    of one kind of device are errors of its `poll`, whose words reach a person as they stand.
//! 2. Put it into a folder of its own with README.md, sample.toml and testcases; its table, if it has one,
//!    is a type in its `settings.rs` that derives `Deserialize` with `deny_unknown_fields`.
//! 3. Name it in `settings.rs` of this folder: a variant of `Source`, its place on the ladder, a field of
//!    `Raw` and `Config` for its table, an arm of `Config::rung`.
//! 4. A source that this machine does not have is `Verdict::Absent`; one that should be there and cannot be
//!    used is `Verdict::Invalid`. A device that somebody configured is never absent.

mod compared;
mod constant;
mod hwmon;
pub mod ipmi;
mod ladder;
pub mod model;
mod nameplate;
mod nvml;
mod polled;
pub mod rapl;
pub mod redfish;
mod residual;
mod settings;
mod shared;
pub mod snmp;
mod sum;
mod whole;

use std::error::Error as _;

use cms_spec::provenance::Origin;
use cms_spec::units::{Microjoules, Millis};

pub(crate) use self::ladder::Ladder;
pub(crate) use self::settings::Config;
use crate::CollectError;

/// What the instance runs on, as far as power depends on it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The processor's plain name, for example `AMD EPYC 7763`.
    pub(crate) processor: Option<String>,
    /// Processor packages.
    pub(crate) chips: u64,
    /// How the instance relates to the hardware.
    pub(crate) instance: Instance,
}

/// How the instance relates to the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instance {
    /// A part of a machine that we see, with so many thousandths of a processor.
    Container { cpus_milli: u64 },
    /// It is the hardware.
    Physical,
    /// A part of a machine that we do not see.
    Virtual { cpus_milli: u64 },
}

/// What passed between the tick before and this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// How long, by a clock that nobody sets.
    pub(crate) over: Millis,
    /// Processor time used.
    pub(crate) busy: Millis,
    /// Processor time that was there to be used.
    pub(crate) capacity: Millis,
}

/// What a rung says about a span.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// This machine has no such source.
    Absent(String),
    /// Nothing to say yet; the rung is sound.
    Baseline,
    /// Energy, and the time that it was used in: the span, or for a device that is polled what its
    /// newest answers cover, which is never told twice.
    Energy { energy: Microjoules, over: Millis },
    /// The rung cannot be used, and why, in words that a person can act on.
    Invalid(String),
}

/// One source of power.
trait Rung: Send {
    /// The name in the configuration and in `fallback.from`.
    fn name(&self) -> &str;

    /// Takes what there is for the span; without one it only takes a baseline.
    fn read(&mut self, span: Option<&Span>) -> Verdict;

    /// Where its values come from.
    fn origin(&self) -> Origin;

    /// Whether it measures only a part of the machine, and so never more than the whole.
    fn is_part(&self) -> bool {
        false
    }

    /// Whether it asks in the background and has said nothing yet.
    fn is_waiting(&self) -> bool {
        false
    }
}

/// An error in one line, with what is behind it.
fn words(error: &CollectError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
