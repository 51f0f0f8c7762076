//! What is still to be walked, shared by the threads of one scan.
//!
//! Owns: the stack of directories of each lane, the counts of each part of the tree, and when a scan has
//! ended. A lane is one filesystem with threads of its own, so that one that hangs holds up no other. A node
//! is a directory near the root whose whole subtree is counted together: it is what a restart goes on from.
//! Bounded by [`PENDING_MAX`], [`LANES_MAX`], [`NODES_MAX`] and [`UNITS_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use cms_spec::dark::AccessBasis;

use super::checkpoint::Done;
use super::{Outcome, Total, UnitTotal, WalkError};
use crate::storage::tally::Counts;

/// Directories that wait in one lane before those who find more walk some themselves; about 10 MiB.
pub(super) const PENDING_MAX: usize = 1 << 16;

/// Filesystems that one scan may walk: each has threads of its own, which may hang.
pub(super) const LANES_MAX: usize = 32;

/// Subtrees that are counted by themselves; a restart repeats the unfinished ones.
pub(super) const NODES_MAX: usize = 4096;

/// Deepest level of such subtrees below the root.
pub(super) const NODE_DEPTH_MAX: u16 = 2;

/// Units that one root may be split into; more directories than that share the last one.
pub(super) const UNITS_MAX: usize = 1000;

/// A directory to be read.
#[derive(Debug)]
pub(super) struct Task {
    /// Below the root, without a slash at either end.
    pub(super) path: Vec<u8>,
    pub(super) device: u64,
    pub(super) basis: AccessBasis,
    pub(super) depth: u16,
    pub(super) node: usize,
    pub(super) unit: usize,
}

/// A subtree that is counted by itself.
#[derive(Debug)]
struct Node {
    parent: Option<usize>,
    /// Device and inode; none for what has no single directory.
    id: Option<(u64, u64)>,
    unit: usize,
    /// Directories and nodes below that are not finished.
    pending: u64,
    counts: Counts,
}

/// A subtree that is counted to its end.
#[derive(Debug)]
pub(super) struct Subtree {
    pub(super) id: (u64, u64),
    pub(super) counts: Counts,
    /// The nodes in it.
    pub(super) nodes: Vec<u32>,
}

/// The directories of one filesystem.
#[derive(Debug, Default)]
struct Lane {
    stack: Vec<Task>,
    /// Directories in hand.
    busy: usize,
    /// Directories that were read, which stands still when the filesystem hangs.
    steps: u64,
    is_abandoned: bool,
}

impl Lane {
    fn is_over(&self) -> bool {
        self.is_abandoned || (self.stack.is_empty() && self.busy == 0)
    }
}

#[derive(Debug, Default)]
struct State {
    lanes: Vec<Lane>,
    mounts: BTreeSet<u64>,
    nodes: Vec<Node>,
    /// The node of what is beyond the bounds, for each unit that needs one.
    rest: BTreeMap<usize, usize>,
    units: Vec<Option<Vec<u8>>>,
    basis: Option<AccessBasis>,
    failure: Option<WalkError>,
    is_cancelled: bool,
    has_begun: bool,
}

/// The work of one scan.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    state: Mutex<State>,
    more: Condvar,
}

impl Frontier {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has told nothing that is half true: counts are merged in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with the root directory, in the first lane.
    pub(super) fn begin(&self, id: (u64, u64), device: u64, basis: AccessBasis) {
        let mut state = self.lock();
        state.mounts.insert(device);
        state.units.push(None);
        state.basis = Some(basis);
        state.nodes.push(Node {
            parent: None,
            id: Some(id),
            unit: 0,
            pending: 1,
            counts: Counts::default(),
        });
        state.lanes.push(Lane {
            stack: vec![Task {
                path: Vec::new(),
                device,
                basis,
                depth: 0,
                node: 0,
                unit: 0,
            }],
            ..Lane::default()
        });
        state.has_begun = true;
        self.more.notify_all();
    }

    /// Takes a directory of a lane, waiting while others may still find some; none when the lane is over.
    pub(super) fn take(&self, lane: usize) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.is_cancelled || state.failure.is_some() {
                return None;
            }
            let here = state.lanes.get_mut(lane)?;
            if here.is_abandoned {
                return None;
            }
            if let Some(task) = here.stack.pop() {
                here.busy += 1;
                return Some(task);
            }
            if here.busy == 0 {
                self.more.notify_all();
                return None;
            }
            state = self
                .more
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a directory only if too many wait.
    pub(super) fn take_surplus(&self, lane: usize) -> Option<Task> {
        let mut state = self.lock();
        let here = state.lanes.get_mut(lane)?;
        if here.stack.len() <= PENDING_MAX {
            return None;
        }
        here.busy += 1;
        here.stack.pop()
    }

    /// Adds directories, found below one that is in hand.
    pub(super) fn put(&self, lane: usize, found: &mut Vec<Task>) {
        if found.is_empty() {
            return;
        }
        let mut state = self.lock();
        // The others were counted when they got their place.
        for task in found.iter().filter(|task| task.depth > NODE_DEPTH_MAX) {
            if let Some(node) = state.nodes.get_mut(task.node) {
                node.pending += 1;
            }
        }
        let more = found.len() > 1;
        if let Some(here) = state.lanes.get_mut(lane) {
            here.stack.append(found);
        }
        found.clear();
        drop(state);
        if more {
            self.more.notify_all();
        } else {
            self.more.notify_one();
        }
    }

    /// Gives back a directory that was read, with what was counted in it.
    pub(super) fn finish(&self, lane: usize, task: &Task, counts: &Counts) {
        let mut state = self.lock();
        // What an abandoned lane counts too late is not told any more: the scan may have ended.
        let is_late = state.lanes.get(lane).is_none_or(|lane| lane.is_abandoned);
        if !is_late && let Some(node) = state.nodes.get_mut(task.node) {
            node.counts.merge(counts);
            state.settle(task.node);
        }
        if let Some(here) = state.lanes.get_mut(lane) {
            here.busy -= 1;
            here.steps += 1;
            if here.is_over() {
                self.more.notify_all();
            }
        }
    }

    /// The node and unit of a directory: its own near the root, else its parent's. None when an earlier
    /// run has counted it.
    pub(super) fn place(
        &self,
        parent: &Task,
        name: &[u8],
        id: (u64, u64),
        is_split: bool,
        done: &Done,
    ) -> Option<(usize, usize)> {
        if parent.depth >= NODE_DEPTH_MAX {
            return Some((parent.node, parent.unit));
        }
        let mut state = self.lock();
        let unit = if is_split && parent.depth == 0 {
            state.unit(name)
        } else {
            parent.unit
        };
        let room = if parent.depth == 0 {
            NODES_MAX / 2
        } else {
            NODES_MAX
        };
        if state.nodes.len() < room {
            let counted = done.get(id);
            state.nodes.push(Node {
                parent: Some(parent.node),
                id: Some(id),
                unit,
                pending: u64::from(counted.is_none()),
                counts: counted.unwrap_or_default(),
            });
            let node = state.nodes.len() - 1;
            if counted.is_some() {
                return None;
            }
            state.expect(parent.node);
            return Some((node, unit));
        }
        let node = if unit == parent.unit {
            parent.node
        } else {
            state.rest_of(unit)
        };
        state.expect(node);
        Some((node, unit))
    }

    /// A new lane for a filesystem below the root; none when there are too many, or when it has been walked.
    pub(super) fn lane(&self, device: u64, basis: AccessBasis) -> Option<usize> {
        let mut state = self.lock();
        if state.lanes.len() >= LANES_MAX || !state.mounts.insert(device) {
            return None;
        }
        state.basis = state.basis.max(Some(basis));
        state.lanes.push(Lane::default());
        Some(state.lanes.len() - 1)
    }

    /// Takes a weaker basis into account.
    pub(super) fn weaken(&self, basis: AccessBasis) {
        let mut state = self.lock();
        state.basis = state.basis.max(Some(basis));
    }

    /// Ends the scan without a result.
    pub(super) fn fail(&self, failure: WalkError) {
        let mut state = self.lock();
        state.has_begun = true;
        state.failure.get_or_insert(failure);
        self.more.notify_all();
    }

    /// Asks all threads to end.
    pub(super) fn cancel(&self) {
        self.lock().is_cancelled = true;
        self.more.notify_all();
    }

    /// Whether threads should end.
    pub(super) fn is_cancelled(&self) -> bool {
        self.lock().is_cancelled
    }

    /// Directories read in each lane that still works, to see which of them hangs.
    pub(super) fn steps(&self) -> Vec<(usize, u64)> {
        let state = self.lock();
        let lanes = state.lanes.iter().enumerate();
        lanes
            .filter(|(_, lane)| !lane.is_over())
            .map(|(at, lane)| (at, lane.steps))
            .collect()
    }

    /// Leaves a filesystem below the root that hangs: what was counted of it stays, the rest is unread.
    pub(super) fn abandon(&self, lane: usize) {
        let mut state = self.lock();
        let Some(here) = state.lanes.get_mut(lane) else {
            return;
        };
        here.is_abandoned = true;
        let unread = here.stack.len() as u64 + here.busy as u64;
        here.stack.clear();
        if let Some(root) = state.nodes.first_mut() {
            root.counts.unreadable += unread;
        }
        self.more.notify_all();
    }

    /// What came of the scan, once it has ended.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let state = self.lock();
        if let Some(failure) = &state.failure {
            return Some(Err(failure.clone()));
        }
        let ended = state.has_begun && state.lanes.iter().all(Lane::is_over);
        (ended && !state.is_cancelled).then(|| Ok(state.total()))
    }

    /// Waits until the scan has ended.
    #[cfg(test)]
    pub(super) fn wait(&self) -> Option<Outcome> {
        let mut state = self.lock();
        loop {
            if state.is_cancelled {
                return None;
            }
            if let Some(failure) = &state.failure {
                return Some(Err(failure.clone()));
            }
            if state.has_begun && state.lanes.iter().all(Lane::is_over) {
                return Some(Ok(state.total()));
            }
            state = self
                .more
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The subtrees that are complete, without those inside another one that is.
    pub(super) fn done(&self) -> Vec<Subtree> {
        let state = self.lock();
        let is_open = |at: usize| state.nodes.get(at).is_some_and(|node| node.pending > 0);
        let mut subtrees: BTreeMap<usize, Subtree> = BTreeMap::new();
        for (at, node) in state.nodes.iter().enumerate() {
            // The topmost complete node above this one, which is at most NODE_DEPTH_MAX away.
            let mut top = None;
            let mut step = Some(at);
            while let Some(here) = step {
                if !is_open(here) {
                    top = Some(here);
                }
                step = state.nodes.get(here).and_then(|node| node.parent);
            }
            let top = top.and_then(|at| Some((at, state.nodes.get(at)?)));
            let Some((top, id)) = top
                .filter(|(_, top)| top.unit == node.unit)
                .and_then(|(at, top)| Some((at, top.id?)))
            else {
                continue;
            };
            let subtree = subtrees.entry(top).or_insert_with(|| Subtree {
                id,
                counts: Counts::default(),
                nodes: Vec::new(),
            });
            subtree.counts.merge(&node.counts);
            subtree.nodes.push(part(at));
        }
        subtrees.into_values().collect()
    }
}

/// A node as files with several names know it.
pub(super) fn part(node: usize) -> u32 {
    u32::try_from(node).unwrap_or(u32::MAX)
}

impl State {
    /// One more piece of a node is to be finished.
    fn expect(&mut self, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.pending += 1;
        }
    }

    /// One piece of a node is finished; so are the nodes above that have nothing else left.
    fn settle(&mut self, node: usize) {
        let mut step = Some(node);
        while let Some(at) = step {
            let Some(here) = self.nodes.get_mut(at) else {
                return;
            };
            here.pending = here.pending.saturating_sub(1);
            step = here.parent.filter(|_| here.pending == 0);
        }
    }

    fn unit(&mut self, name: &[u8]) -> usize {
        if self.units.len() < UNITS_MAX {
            self.units.push(Some(name.to_vec()));
        } else if self.units.len() == UNITS_MAX {
            self.units.push(Some(super::OTHER_UNIT.as_bytes().to_vec()));
        }
        self.units.len() - 1
    }

    fn rest_of(&mut self, unit: usize) -> usize {
        if let Some(&node) = self.rest.get(&unit) {
            return node;
        }
        self.nodes.push(Node {
            parent: None,
            id: None,
            unit,
            pending: 0,
            counts: Counts::default(),
        });
        let node = self.nodes.len() - 1;
        self.rest.insert(unit, node);
        node
    }

    fn total(&self) -> Total {
        let mut units: Vec<UnitTotal> = self
            .units
            .iter()
            .map(|name| UnitTotal {
                name: name.clone(),
                counts: Counts::default(),
            })
            .collect();
        for node in &self.nodes {
            if let Some(unit) = units.get_mut(node.unit) {
                unit.counts.merge(&node.counts);
            }
        }
        Total {
            units,
            basis: self.basis.unwrap_or(AccessBasis::MtimeLowerBound),
        }
    }
}
