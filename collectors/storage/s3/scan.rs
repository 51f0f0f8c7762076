//! A scan of a bucket at work: how far it is, what it has counted, and what outlives a restart.
//!
//! Promises: memory is bounded by [`UNITS_MAX`] times [`CLASSES_MAX`] sums, however many objects there are; a listing
//! that turns in a circle ends; a scan goes on behind the last key of a page where the store lists in order.
//! Refuses: to keep a key, but for the last one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::listing::{From, OTHER_CLASS, Object, Page, decoded, encoded};
use crate::storage::exclude::Pattern;
use crate::storage::history::grouped;
use crate::storage::tally::{Counted, Counts, Limits, moment};

/// Units of one bucket; what is in further ones is summed up in [`OTHER_UNIT`].
const UNITS_MAX: usize = 1_000;

/// Storage classes of one unit; Amazon has a dozen, others two or three.
pub(super) const CLASSES_MAX: usize = 16;

/// The unit of first-level prefixes beyond [`UNITS_MAX`].
const OTHER_UNIT: &[u8] = b"other";

/// A scan that began longer ago than this is begun anew: the specification asks for one in 24 hours.
pub(super) const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// The form of what is kept.
const VERSION: u32 = 1;

/// What was counted in each storage class.
pub(super) type Classes = BTreeMap<String, Counts>;

/// What is listed and how it is told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) prefix: &'a str,
    pub(super) exclude: &'a [Pattern],
    pub(super) is_split: bool,
}

impl Order<'_> {
    /// Where keys begin that are taken as paths: behind the last slash of the prefix.
    fn root(&self) -> usize {
        self.prefix.rfind('/').map_or(0, |slash| slash + 1)
    }
}

/// A scan at work.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) started: Timestamp,
    /// When this process began it: later than `started` where it goes on after a restart.
    pub(super) begun: Timestamp,
    limits: Limits,
    /// By the first level of the keys; none for what is in no other.
    units: BTreeMap<Option<Vec<u8>>, Classes>,
    objects: u64,
    pages: u64,
    last: Vec<u8>,
    token: Option<String>,
    /// Whether each key was greater than the one before, so that a listing can begin behind one.
    is_ordered: bool,
    circle: Circle,
}

/// Finds out that tokens turn in a circle, by remembering one of them (Brent).
#[derive(Debug, Default)]
struct Circle {
    remembered: Option<String>,
    steps: u64,
    limit: u64,
}

/// The kept form.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// Which order it belongs to.
    order: String,
    started: Timestamp,
    pages: u64,
    last: String,
    units: Vec<(Option<String>, Classes)>,
}

impl Scan {
    pub(super) fn begin(at: Timestamp) -> Self {
        Self {
            started: at,
            begun: at,
            limits: Limits::at(at),
            units: BTreeMap::new(),
            objects: 0,
            pages: 0,
            last: Vec::new(),
            token: None,
            is_ordered: true,
            circle: Circle::default(),
        }
    }

    /// Goes on with what was kept of the same order; nothing when it makes no sense or is too old.
    pub(super) fn resume(kept: &str, order: &str, at: Timestamp) -> Option<Self> {
        let kept: Kept = serde_json::from_str(kept).ok()?;
        let age = at.duration_since(kept.started);
        let is_young = (SignedDuration::ZERO..AGE_MAX).contains(&age);
        if kept.version != VERSION || kept.order != order || !is_young {
            return None;
        }
        let units = kept.units.into_iter();
        let units: BTreeMap<_, Classes> = units
            .map(|(name, classes)| (name.map(|name| decoded(&name)), classes))
            .collect();
        let counts = units.values().flat_map(BTreeMap::values);
        Some(Self {
            begun: at,
            objects: counts.map(Counts::objects).sum(),
            units,
            pages: kept.pages,
            last: decoded(&kept.last),
            ..Self::begin(kept.started)
        })
    }

    /// What a restart could go on from, under a name for the order.
    pub(super) fn keep(&self, order: &str) -> Option<String> {
        if !self.is_ordered || self.last.is_empty() {
            return None;
        }
        let units = self.units.iter().map(|(name, classes)| {
            let name = name.as_ref().map(|name| encoded(name));
            (name, classes.clone())
        });
        let kept = Kept {
            version: VERSION,
            order: order.to_owned(),
            started: self.started,
            pages: self.pages,
            last: encoded(&self.last),
            units: units.collect(),
        };
        serde_json::to_string(&kept).ok()
    }

    /// Where the next page begins.
    pub(super) fn from(&self) -> From<'_> {
        match &self.token {
            Some(token) => From::Token(token),
            None if self.last.is_empty() => From::Start,
            None => From::Key(&self.last),
        }
    }

    /// Forgets where the store said that it goes on, and goes on behind the last key, where that is possible.
    pub(super) fn forget_token(&mut self) -> bool {
        self.is_ordered && self.token.take().is_some() && !self.last.is_empty()
    }

    /// Counts a page. Whether it was the last one.
    pub(super) fn take(&mut self, page: &Page, order: &Order<'_>) -> Result<bool, String> {
        for object in &page.objects {
            if !object.key.starts_with(order.prefix.as_bytes()) {
                return Err(
                    "it lists what was not asked for: an object without the prefix".to_owned(),
                );
            }
            self.is_ordered &= object.key > self.last;
            self.last.clone_from(&object.key);
            self.count(object, order);
        }
        self.pages += 1;
        let Some(next) = &page.next else {
            return Ok(true);
        };
        if self.token.as_ref() == Some(next) || self.circle.closes(next) {
            return Err(
                "it goes on where it has been already, and so never ends: the store is at fault"
                    .to_owned(),
            );
        }
        self.token = Some(next.clone());
        Ok(false)
    }

    /// What was counted, by unit and storage class.
    pub(super) fn units(&self) -> impl Iterator<Item = (Option<&[u8]>, &Classes)> {
        self.units
            .iter()
            .map(|(name, classes)| (name.as_deref(), classes))
    }

    /// How far it is, in words.
    pub(super) fn progress(&self) -> String {
        format!(
            "listed {} objects in {} pages",
            grouped(self.objects),
            grouped(self.pages)
        )
    }

    fn count(&mut self, object: &Object, order: &Order<'_>) {
        let path = object.key.get(order.root()..).unwrap_or_default();
        if is_excluded(path, order.exclude) {
            return;
        }
        let first = path.iter().position(|byte| *byte == b'/');
        let name = first
            .and_then(|end| path.get(..end))
            .filter(|name| order.is_split && !name.is_empty())
            .map(<[u8]>::to_vec);
        let has_room = self.units.len() < UNITS_MAX || self.units.contains_key(&name);
        let name = if has_room || name.is_none() {
            name
        } else {
            Some(OTHER_UNIT.to_vec())
        };
        let classes = self.units.entry(name).or_default();
        let has_room = classes.len() < CLASSES_MAX - 1 || classes.contains_key(&object.class);
        let class = if has_room { &object.class } else { OTHER_CLASS };
        let counted = Counted {
            bytes: object.bytes,
            objects: 1,
            accessed: moment(object.modified),
        };
        if !classes.contains_key(class) {
            classes.insert(class.to_owned(), Counts::default());
        }
        if let Some(counts) = classes.get_mut(class) {
            counts.add(counted, &self.limits);
        }
        self.objects += 1;
    }
}

/// Whether a pattern leaves out the object, or a part of its key that stands for a directory.
fn is_excluded(path: &[u8], exclude: &[Pattern]) -> bool {
    if exclude.is_empty() {
        return false;
    }
    let mut begin = 0;
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    for end in ends.map(|(end, _)| end).chain([path.len()]) {
        let name = path.get(begin..end).unwrap_or_default();
        let so_far = path.get(..end).unwrap_or_default();
        if exclude.iter().any(|pattern| pattern.matches(name, so_far)) {
            return true;
        }
        begin = end + 1;
    }
    false
}

impl Circle {
    /// Whether the token has been seen. A circle of any length is found within a few turns of it.
    fn closes(&mut self, token: &str) -> bool {
        if self.remembered.as_deref() == Some(token) {
            return true;
        }
        self.steps += 1;
        if self.steps >= self.limit {
            self.remembered = Some(token.to_owned());
            self.limit = self.steps.saturating_mul(2);
            self.steps = 0;
        }
        false
    }
}
