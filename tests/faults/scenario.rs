//! One scenario, again and again, with a fault one step later each time, until it gets through without it.
//!
//! Start on an empty directory, enrol, submit, get receipts, stop; then a clean start and the oracle.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::node::{Node, api_key, start_dashboard};
use crate::process::Process;
use crate::shim::{self, Fault};
use crate::site::Site;

/// Agents at work at a time. They mostly wait for the next second.
const WORKERS: usize = 8;

/// Submissions that a scenario lasts for: the first of each category, and one at the end of its slot.
pub(crate) const SUBMISSIONS: usize = 4;

/// Lets one test at a time keep the processors busy; those that mostly wait run beside it.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the scenario with a fault, at one of every so many steps; `CMS_FAULT_STRIDE=1` asks for all of them.
///
/// `live` leads the agent through the scenario and ends it. It answers how it ended.
pub(crate) fn every_step(
    name: &str,
    stride: u64,
    fault: impl Fn(u64) -> Fault + Sync,
    live: impl Fn(&Node, Process) -> ExitStatus + Sync,
) {
    let site = Site::new();
    let _dashboard = start_dashboard(&site);
    let stride = std::env::var("CMS_FAULT_STRIDE").map_or(stride, |stride| stride.parse().unwrap());
    // The strides of the tests begin at different steps.
    let next = AtomicU64::new(1 + name.bytes().map(u64::from).sum::<u64>() % stride);
    let (through, faults, submissions) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let work = |key: &Path| {
        while !through.load(Ordering::Relaxed) {
            let fault = fault(next.fetch_add(stride, Ordering::Relaxed));
            let node = Node::new(&site, &format!("{name}-{}", fault.at), key);
            let status = live(&node, node.start(&fault.environment(&node)));
            let said = shim::said(&node);
            let why = format!("{fault:?} in {}: {said}", node.path("").display());
            let log = fs::read_to_string(node.path("agent.log")).unwrap();
            assert!(!log.contains("panicked"), "{why}: {log}");
            assert!(
                matches!(status.code(), None | Some(0 | 70)),
                "{why}: {status:?}: {log}"
            );
            let count = node.settle(&node.held(), &why);
            fs::remove_dir_all(node.path("")).unwrap();
            if said.contains("fault at") {
                faults.fetch_add(1, Ordering::Relaxed);
                submissions.fetch_add(count as u64, Ordering::Relaxed);
            } else {
                through.store(true, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let key = api_key(&site, &format!("{name}-{worker}"));
            let work = &work;
            scope.spawn(move || work(&key));
        }
    });
    let count = faults.into_inner();
    assert!(count > 8, "{count} faults: the layer counts no steps");
    println!(
        "{name}: {count} faults, one at every {stride}. step, {} submissions, 0 lost, 0 twice",
        submissions.into_inner()
    );
}

/// Waits for the scenario's submissions and stops the agent, unless the fault has ended it.
pub(crate) fn submit_and_stop(_: &Node, mut agent: Process) -> ExitStatus {
    if agent.says("submission accepted", SUBMISSIONS) {
        agent.stop()
    } else {
        agent.end()
    }
}
