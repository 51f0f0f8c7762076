//! The disk answers with an error: once, for ever, or to a sync that should have made something last.
//!
//! The agent does not start, with an error that says why, or it goes on: what can be written is, what cannot is tried
//! again without haste, `status` says so, and when the disk is well again nothing that was enqueued is missing.

use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use crate::node::Node;
use crate::process::{Process, wait_until};
use crate::scenario::{SUBMISSIONS, every_step, submit_and_stop};
use crate::shim::{self, Fault, Mode};

/// Each failure costs a pause of five seconds, so that fewer are tried than kills.
const STRIDE: u64 = 20;

/// Calls of one second that a failing disk may lead to: a few for each source and for the outbox.
const STEPS_A_SECOND_MAX: usize = 200;

/// One error or the other.
fn errno(at: u64) -> Errno {
    if at.is_multiple_of(2) {
        Errno::IO
    } else {
        Errno::NOSPC
    }
}

#[test]
fn one_call_fails() {
    every_step(
        "once",
        STRIDE,
        |at| Fault {
            mode: Mode::Once(errno(at)),
            at,
            refused: 0,
        },
        submit_and_stop,
    );
}

#[test]
fn one_sync_fails_and_loses_what_it_should_have_kept() {
    every_step(
        "lost",
        3,
        |at| Fault {
            mode: Mode::LostSync,
            at,
            refused: 0,
        },
        submit_and_stop,
    );
}

#[test]
fn every_call_fails_from_one_on() {
    let fault = |at| Fault {
        mode: Mode::Ever(errno(at)),
        at,
        refused: 0,
    };
    every_step("ever", STRIDE, fault, suffer_and_stop);
}

/// Lets the agent live with a disk that fails for a second, and stops it.
fn suffer_and_stop(node: &Node, mut process: Process) -> ExitStatus {
    let has_error = |log: &str| log.contains("\"ERROR\"");
    let is_through = |log: &str| log.matches("submission accepted").count() >= SUBMISSIONS;
    if !process.until(|log| has_error(log) || is_through(log)) {
        let log = process.log();
        assert!(log.contains("error: "), "it ended without a word: {log}");
        return process.end();
    }
    if has_error(&process.log()) {
        wait_until("status to say so", || node.status("store").0 == "failed");
        let before = shim::steps(node);
        thread::sleep(Duration::from_secs(1));
        let steps = shim::steps(node) - before;
        assert!(
            steps <= STEPS_A_SECOND_MAX,
            "{steps} calls in a second: {}",
            process.log()
        );
    }
    process.stop()
}
