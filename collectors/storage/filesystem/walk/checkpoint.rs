//! What a scan that was cut off by a restart goes on from: the subtrees that it had counted.
//!
//! Promises: no name of a file or directory is in it; subtrees are known by device and inode. A subtree that
//! shares a file with another one by hard links is counted again. Refuses: a checkpoint of another scan, and one
//! that is too old to go on from.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::storage::tally::Counts;

/// A scan that began longer ago than this is begun anew: the specification asks for one in 24 hours.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// The form of what is kept.
const VERSION: u32 = 1;

/// The subtrees that were counted, by device and inode.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Done {
    subtrees: HashMap<(u64, u64), Counts>,
}

/// The kept form.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// Which order it belongs to.
    order: String,
    started: Timestamp,
    subtrees: Vec<((u64, u64), Counts)>,
}

/// A scan to go on with.
#[derive(Debug)]
pub(in super::super) struct Resumed {
    pub(in super::super) started: Timestamp,
    pub(in super::super) done: Done,
}

impl Done {
    pub(super) fn get(&self, id: (u64, u64)) -> Option<Counts> {
        self.subtrees.get(&id).copied()
    }
}

/// The kept form of a scan at work; none where there is nothing to go on from.
pub(super) fn keep(
    order: &str,
    started: Timestamp,
    subtrees: Vec<((u64, u64), Counts)>,
) -> Option<String> {
    if subtrees.is_empty() {
        return None;
    }
    let kept = Kept {
        version: VERSION,
        order: order.to_owned(),
        started,
        subtrees,
    };
    serde_json::to_string(&kept).ok()
}

/// Reads the kept form; none when it is of another scan, too old, or makes no sense.
pub(in super::super) fn resume(kept: &str, order: &str, now: Timestamp) -> Option<Resumed> {
    let kept: Kept = serde_json::from_str(kept).ok()?;
    let age = now.duration_since(kept.started);
    let fits = kept.version == VERSION && kept.order == order;
    (fits && age >= SignedDuration::ZERO && age < AGE_MAX).then(|| Resumed {
        started: kept.started,
        done: Done {
            subtrees: kept.subtrees.into_iter().collect(),
        },
    })
}
