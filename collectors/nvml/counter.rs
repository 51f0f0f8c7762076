//! What two readings of a board's counter of energy mean. Pure.

use cms_spec::units::{Microjoules, Millis, Milliwatts};

use super::Board;

/// More than any one GPU draws. A counter that shows more has been reset or lies.
const BOARD_POWER_MAX: Milliwatts = Milliwatts(5_000_000);

/// Over a shorter span a counter may not have been refreshed.
const COUNTED_OVER_MIN: Millis = Millis(2_000);

/// What a counter has grown by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grown {
    /// The board has no counter.
    Untold,
    /// It fell or leapt: the driver was loaded anew, for this board and so for all.
    Reset,
    /// It did not move, in too short a time to say anything.
    TooSoon,
    /// It does not move.
    Still,
    Energy(Microjoules),
}

/// What a board's counter has grown by over a span.
pub(crate) fn grown(before: &Board, after: &Board, over: Millis) -> Grown {
    let (Some(before), Some(after)) = (before.energy, after.energy) else {
        return Grown::Untold;
    };
    match after.0.checked_sub(before.0) {
        None => Grown::Reset,
        Some(grown) if grown > BOARD_POWER_MAX.over(over).0 => Grown::Reset,
        Some(0) if over < COUNTED_OVER_MIN => Grown::TooSoon,
        Some(0) => Grown::Still,
        Some(grown) => Grown::Energy(Microjoules(grown)),
    }
}
