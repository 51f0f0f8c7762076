//! The agent is killed at every step of its store and its network, and starts again as if nothing had happened.
//!
//! A scenario is: start on an empty directory, enrol, submit, get receipts, stop. It is run again and again,
//! each time with a fault one step later, until it gets through without meeting its fault.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::node::{Node, api_key, start_dashboard};
use crate::shim::{self, Fault, Mode};
use crate::site::Site;

/// Every so many steps one is tried in the ordinary test run; `CMS_FAULT_STRIDE=1` tries all.
const STRIDE: u64 = 9;

/// Agents at work at a time. They mostly wait for the next second.
const WORKERS: usize = 8;

/// Submissions that a scenario lasts for: the first of each category, and one at the end of its slot.
const SUBMISSIONS: usize = 4;

#[test]
fn killed_at_every_step() {
    every_step("killed", 0, |_| Mode::Kill);
}

#[test]
fn killed_in_the_middle_of_every_write() {
    every_step("torn", 0, |_| Mode::Torn);
}

#[test]
fn killed_at_every_step_of_an_outage() {
    every_step("outage", 3, |_| Mode::Kill);
}

#[test]
fn the_power_fails_at_every_step() {
    // All that was not synced is lost, or sectors and names at random.
    every_step("power", 0, |at| Mode::Power {
        seed: if at % 2 == 0 { 0 } else { at * 0x9e37_79b9 },
    });
}

fn every_step(name: &str, refused: u32, mode: impl Fn(u64) -> Mode + Sync) {
    let site = Site::new();
    let _dashboard = start_dashboard(&site);
    let stride = std::env::var("CMS_FAULT_STRIDE").map_or(STRIDE, |stride| stride.parse().unwrap());
    // The strides of the tests begin at different steps.
    let next = AtomicU64::new(1 + name.bytes().map(u64::from).sum::<u64>() % stride);
    let (through, faults, submissions) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let key = api_key(&site, &format!("{name}-{worker}"));
            let (site, mode, next, through, faults, submissions) =
                (&site, &mode, &next, &through, &faults, &submissions);
            scope.spawn(move || {
                while !through.load(Ordering::Relaxed) {
                    let at = next.fetch_add(stride, Ordering::Relaxed);
                    let fault = Fault {
                        mode: mode(at),
                        at,
                        refused,
                    };
                    let node = Node::new(site, &format!("{name}-{at}"), &key);
                    match run(&node, &fault) {
                        Some(count) => {
                            faults.fetch_add(1, Ordering::Relaxed);
                            submissions.fetch_add(count as u64, Ordering::Relaxed);
                        }
                        None => through.store(true, Ordering::Relaxed),
                    }
                }
            });
        }
    });
    let count = faults.into_inner();
    assert!(
        count * stride > 200,
        "{count} faults: the layer counts no steps"
    );
    println!(
        "{name}: {count} faults, one at every {stride}. step, {} submissions, 0 lost, 0 twice",
        submissions.into_inner()
    );
}

/// Runs the scenario with a fault, and then the oracle. Nothing when the scenario ended before the fault.
fn run(node: &Node, fault: &Fault) -> Option<usize> {
    let mut agent = node.start(&fault.environment(node));
    if agent.says("submission accepted", SUBMISSIONS) {
        agent.stop();
    } else {
        agent.end();
    }
    let said = shim::said(node);
    let met = said.contains("fault at");
    let why = format!("{fault:?} in {}: {said}", node.path("").display());
    let count = node.settle(&node.held(), &why);
    drop(std::fs::remove_dir_all(node.path("")));
    met.then_some(count)
}
