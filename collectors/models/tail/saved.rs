//! What a checkpoint keeps of logs: places and hashes, and not one character of a line.

use serde::{Deserialize, Serialize};

use super::identity::Known;
use super::joined::{At, Counts};
use super::wrapper::Tag;

/// The form of checkpoints that this release writes; others are ignored.
pub(super) const VERSION: u8 = 1;

/// All streams of a place.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) version: u8,
    pub(super) streams: Vec<SavedStream>,
    pub(super) counts: Counts,
}

/// One path.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedStream {
    pub(super) path: String,
    /// The file that it led to last, without links.
    pub(super) base: String,
    /// Oldest first; the last one is what the path led to. Those that were not found again stand before the others.
    pub(super) files: Vec<SavedFile>,
    /// Files that were read to their end, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) done: Vec<Known>,
    /// Files that were last changed before are old ones.
    pub(super) floor: i64,
    /// Files that were opened so far.
    pub(super) lives: u64,
    /// Lines whose end is not there yet, by the place at which they begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) parts: Vec<(Tag, At)>,
    /// What the reader of its lines keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reader: Option<String>,
}

/// One file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedFile {
    pub(super) real: String,
    pub(super) known: Known,
    pub(super) key: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_skipping: bool,
    /// Second at which another file took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<i64>,
}
