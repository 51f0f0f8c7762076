//! What is remembered of one quantity between two readings, and the amounts that two readings make.

use std::sync::Arc;

use super::{Fate, TAKEOVER_AFTER_MS, Taken};
use crate::provenance::Quality;

/// From and to, in milliseconds since the epoch.
pub(super) type Span = (i64, i64);

/// The newest reading of a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) at: i64,
    /// Two for the processors; the second is 0 for all others.
    pub(super) values: [u64; 2],
    /// An amount that was gathered elsewhere has no value that stands, and none to count from.
    pub(super) is_amount: bool,
    pub(super) boot: Arc<str>,
    pub(super) collector: Arc<str>,
    pub(super) quality: Quality,
    pub(super) origin: Option<u16>,
}

/// One quantity of one subject. One collector at a time speaks for it, so that sources are never mixed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Series(pub(super) Option<Last>);

impl Series {
    /// Whether another collector speaks for the quantity: one that did so lately, and is no worse.
    pub(super) fn is_foreign(&self, entry: &Taken<'_>) -> bool {
        self.0.as_ref().is_some_and(|last| {
            last.collector != entry.collector
                && entry.quality >= last.quality
                && entry.at.saturating_sub(last.at) < TAKEOVER_AFTER_MS
        })
    }

    /// The amounts since the reading before, and their span. After a restart of the counter, of the machine
    /// or of the clock there are none, only a new baseline: what happened in between is not known.
    pub(super) fn counter(
        &mut self,
        values: [u64; 2],
        entry: &Taken<'_>,
    ) -> Result<Option<(Span, [u64; 2])>, Fate> {
        let Some(last) = self.0.replace(newest(values, entry)) else {
            return Ok(None);
        };
        let same = last.goes_on_in(entry);
        let grown = values[0] >= last.values[0] && values[1] >= last.values[1];
        if same && !grown && entry.at <= last.at {
            // Earlier and smaller: a reading that was overtaken on its way. The newer baseline stays.
            self.0 = Some(last);
            return Err(Fate::Late);
        }
        if !same || !grown || entry.at <= last.at {
            return Ok(None);
        }
        let amounts = [values[0] - last.values[0], values[1] - last.values[1]];
        Ok(Some(((last.at, entry.at), amounts)))
    }

    /// The span of an amount that was gathered elsewhere. The same moment twice counts once.
    pub(super) fn amount(&mut self, over_ms: u64, entry: &Taken<'_>) -> Result<Span, Fate> {
        if over_ms == 0 {
            return Err(Fate::Malformed);
        }
        let repeats = |last: &Last| last.collector == entry.collector && last.at == entry.at;
        if self.0.as_ref().is_some_and(repeats) {
            return Err(Fate::Late);
        }
        // An amount that comes late has its own span; the newest moment stays known.
        if self
            .0
            .as_ref()
            .is_none_or(|last| last.at < entry.at || last.collector != entry.collector)
        {
            self.0 = Some(Last {
                is_amount: true,
                ..newest([0; 2], entry)
            });
        }
        let over = i64::try_from(over_ms).unwrap_or(i64::MAX);
        Ok((entry.at.saturating_sub(over), entry.at))
    }

    /// The value before, times the milliseconds that it stands for: until now, but not longer than `hold_ms`.
    pub(super) fn gauge(
        &mut self,
        value: u64,
        hold_ms: i64,
        entry: &Taken<'_>,
    ) -> Option<(Span, u64)> {
        let last = self.0.replace(newest([value, 0], entry))?;
        if !last.goes_on_in(entry) || entry.at <= last.at {
            return None;
        }
        let until = entry.at.min(last.at.saturating_add(hold_ms));
        let length = u64::try_from(until - last.at).unwrap_or(0);
        Some(((last.at, until), last.values[0].saturating_mul(length)))
    }

    /// Forgets a reading of a time that has not come: the clock was ahead when it was taken.
    pub(super) fn forget_after(&mut self, end: i64) {
        if self.0.as_ref().is_some_and(|last| last.at > end) {
            self.0 = None;
        }
    }

    pub(super) fn origin(&self) -> Option<u16> {
        self.0.as_ref()?.origin
    }
}

impl Last {
    /// Whether a value that follows belongs to the same row: of one boot and collector, and after a value.
    fn goes_on_in(&self, entry: &Taken<'_>) -> bool {
        !self.is_amount && self.boot == entry.boot && self.collector == entry.collector
    }
}

fn newest(values: [u64; 2], entry: &Taken<'_>) -> Last {
    Last {
        at: entry.at,
        values,
        is_amount: false,
        boot: Arc::clone(&entry.boot),
        collector: Arc::clone(&entry.collector),
        quality: entry.quality,
        origin: entry.origin,
    }
}
