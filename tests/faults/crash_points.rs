//! The agent is killed at every step of its store and its network, and starts again as if nothing had happened.

use crate::scenario::{every_step, submit_and_stop, turn};
use crate::shim::{Fault, Mode};

/// Every so many steps one is tried in the ordinary test run; `CMS_FAULT_STRIDE=1` tries all.
const STRIDE: u64 = 9;

#[test]
fn killed_at_every_step() {
    let _turn = turn();
    every_step(
        "killed",
        STRIDE,
        |at| Fault {
            mode: Mode::Kill,
            at,
            refused: 0,
        },
        submit_and_stop,
    );
}

#[test]
fn killed_in_the_middle_of_every_write() {
    let _turn = turn();
    every_step(
        "torn",
        STRIDE,
        |at| Fault {
            mode: Mode::Torn,
            at,
            refused: 0,
        },
        submit_and_stop,
    );
}

#[test]
fn killed_at_every_step_of_an_outage() {
    let _turn = turn();
    every_step(
        "outage",
        STRIDE,
        |at| Fault {
            mode: Mode::Kill,
            at,
            refused: 3,
        },
        submit_and_stop,
    );
}

#[test]
fn the_power_fails_at_every_step() {
    let _turn = turn();
    // All that was not synced is lost, or sectors and names at random.
    let seed = |at| if at % 2 == 0 { 0 } else { at * 0x9e37_79b9 };
    let fault = |at| Fault {
        mode: Mode::Power { seed: seed(at) },
        at,
        refused: 0,
    };
    every_step("power", STRIDE, fault, submit_and_stop);
}
