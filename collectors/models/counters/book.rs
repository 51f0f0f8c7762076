//! What is remembered of the counters of a server, and what they have grown by since.
//!
//! Promises: whatever a server still counts is told once, over restarts of it and of us; a series that is missing for a
//! while is not told twice; counters of another process are a new beginning and no growth. Where no time tells a restart
//! from another server behind the same address, nothing is told until the counters have only risen for a while. Refuses:
//! guessing what a server counted between our last look and its restart.

use std::collections::BTreeMap;

use cms_spec::units::{Microjoules, Millis, Milliwatts};
use jiff::{SignedDuration, Timestamp};

use super::dialect::Count;
use super::page::{Counted, Group, Page, SERIES_MAX, Series};

/// Times of a process that differ by less are the same time, computed anew from a clock that is being set.
const JITTER_MS: i64 = 2_000;

/// A process that began longer than this before our last look ran beside the one that answered then.
const OVERLAP_MS: i64 = 60_000;

/// What is remembered longer than the window of the payload is of no use.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Counters that fall more often within [`u32::BITS`] looks are not those of one server.
const FALLS_MAX: u32 = 3;

/// Looks in a row without a fall after which counters that fell are those of a server that was restarted. Of two servers
/// that answer by chance, one fall and so many looks without another come in 3 of 1,000 cases; in turn, never.
pub(super) const QUIET_LOOKS: u32 = 12;

/// More than any one processor draws. A counter that shows more has been reset or lies.
const PROCESSOR_POWER_MAX: Milliwatts = Milliwatts(5_000_000);

/// The counters as they were read last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Book {
    pub(super) at: Timestamp,
    pub(super) started_ms: Option<i64>,
    pub(super) kept: BTreeMap<Series, Counted>,
    /// One bit for each look, the newest last: whether counters fell.
    falls: u32,
    doubt: Option<Doubt>,
}

/// Counters fell and no time says why: a restart, or the page of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Doubt {
    /// Looks since the last fall.
    quiet: u32,
    /// What was remembered before the first fall; nothing where it was of several servers.
    before: Option<Before>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Before {
    at: Timestamp,
    kept: BTreeMap<Series, Counted>,
    /// All counters are of one process, and begin anew with it.
    is_one_process: bool,
}

/// How a page continues what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continues {
    /// The same process counts on.
    Same,
    /// The server was restarted in between.
    Anew,
    /// Counters are lower than they were, and no time says why.
    Fallen {
        /// All of them are of one process.
        is_one_process: bool,
    },
    /// It is the page of another process, which already ran when we looked last.
    Stranger,
}

/// What the counters of a group have grown by. What the server does not count is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grown {
    pub(super) requests: Option<u64>,
    pub(super) input: Option<u64>,
    pub(super) cached: Option<u64>,
    pub(super) output: Option<u64>,
}

/// What came of a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) groups: BTreeMap<Group, Grown>,
    pub(super) energy: Option<Microjoules>,
    pub(super) over_ms: u64,
    /// Series for which there was no room.
    pub(super) dropped: u64,
    /// Whether the server, or a model of it, has begun anew.
    pub(super) is_restart: bool,
}

impl Grown {
    pub(super) fn is_nothing(&self) -> bool {
        let all = [self.requests, self.input, self.cached, self.output];
        all.iter().all(|grown| grown.unwrap_or(0) == 0)
    }

    fn add(&mut self, count: Count, by: u64) {
        let sum = match count {
            Count::Requests => &mut self.requests,
            Count::Input => &mut self.input,
            Count::Cached => &mut self.cached,
            Count::Output => &mut self.output,
            Count::Energy => return,
        };
        *sum = Some(sum.unwrap_or(0).saturating_add(by));
    }
}

impl Book {
    /// The first look, of which nothing is told.
    pub(super) fn begin(page: Page, at: Timestamp) -> Self {
        Self {
            at,
            started_ms: page.started_ms,
            kept: page.series,
            falls: 0,
            doubt: None,
        }
    }

    /// What was kept over a restart of ours.
    pub(super) fn resumed(
        at: Timestamp,
        started_ms: Option<i64>,
        kept: BTreeMap<Series, Counted>,
    ) -> Self {
        Self {
            at,
            started_ms,
            kept,
            falls: 0,
            doubt: None,
        }
    }

    /// Whether nothing is told because counters fell.
    pub(super) const fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// When the counters were read that a restart of ours goes on from, and these; nothing where they are of several
    /// servers.
    pub(super) fn lasting(&self) -> Option<(Timestamp, &BTreeMap<Series, Counted>)> {
        match &self.doubt {
            None => Some((self.at, &self.kept)),
            Some(doubt) => doubt
                .before
                .as_ref()
                .map(|before| (before.at, &before.kept)),
        }
    }

    /// Whether it is too old to go on from.
    pub(super) fn is_stale(&self, at: Timestamp) -> bool {
        at.duration_since(self.at) > KEPT_FOR
    }

    /// How a page continues this. `ahead_ms` is how much the server's clock is ahead of ours.
    pub(super) fn continued_by(
        &self,
        page: &Page,
        is_one_process: bool,
        ahead_ms: i64,
    ) -> Continues {
        let looked_ms = self.at.as_millisecond().saturating_add(ahead_ms);
        let begun = |now_ms: i64| {
            if now_ms >= looked_ms.saturating_sub(OVERLAP_MS) {
                Continues::Anew
            } else {
                Continues::Stranger
            }
        };
        let differ = |before: i64, now: i64| before.abs_diff(now) > JITTER_MS.unsigned_abs();
        match (self.started_ms, page.started_ms) {
            (Some(before), Some(now)) if differ(before, now) => return begun(now),
            (Some(_), Some(_)) => return Continues::Same,
            _ => {}
        }
        let mut has_fallen = false;
        let mut continues = Continues::Same;
        for (series, now) in &page.series {
            let Some(before) = self.kept.get(series) else {
                continue;
            };
            match (before.created_ms, now.created_ms) {
                (Some(before), Some(now)) if differ(before, now) => match begun(now) {
                    Continues::Stranger => return Continues::Stranger,
                    _ if is_one_process => continues = Continues::Anew,
                    _ => has_fallen = true,
                },
                _ if now.value < before.value && series.count != Count::Energy => {
                    has_fallen = true;
                }
                _ => {}
            }
        }
        if has_fallen && continues == Continues::Same {
            continues = Continues::Fallen { is_one_process };
        }
        if continues != Continues::Same && (self.falls << 1 | 1).count_ones() > FALLS_MAX {
            return Continues::Stranger;
        }
        continues
    }

    /// Turns to the next page.
    pub(super) fn turn(&mut self, page: Page, at: Timestamp, continues: Continues) -> Told {
        let last_at = std::mem::replace(&mut self.at, at);
        self.falls = self.falls << 1 | u32::from(continues != Continues::Same);
        self.started_ms = page.started_ms.or(self.started_ms);
        match (continues, self.doubt.take()) {
            (Continues::Anew, _) => return self.grow(page, last_at, true),
            (Continues::Same, None) => return self.grow(page, last_at, false),
            (Continues::Same, Some(doubt)) if doubt.quiet + 1 < QUIET_LOOKS => {
                self.doubt = Some(Doubt {
                    quiet: doubt.quiet + 1,
                    ..doubt
                });
            }
            (Continues::Same, Some(doubt)) => {
                if let Some(before) = doubt.before {
                    self.kept = before.kept;
                    let told = self.grow(page, before.at, before.is_one_process);
                    return Told {
                        is_restart: true,
                        ..told
                    };
                }
            }
            (Continues::Fallen { .. }, Some(doubt)) => {
                self.doubt = Some(Doubt { quiet: 0, ..doubt });
            }
            (Continues::Fallen { is_one_process }, None) => {
                let before = Before {
                    at: last_at,
                    kept: std::mem::take(&mut self.kept),
                    is_one_process,
                };
                self.doubt = Some(Doubt {
                    quiet: 0,
                    before: Some(before),
                });
            }
            (Continues::Stranger, _) => {
                // A start time says which pages are of the same process.
                let is_in_doubt = page.started_ms.is_none();
                self.doubt = is_in_doubt.then_some(Doubt {
                    quiet: 0,
                    before: None,
                });
            }
        }
        self.kept = page.series;
        Told::default()
    }

    /// What a page has more than what is kept, which was read at `last_at`; all of it, where the server began anew.
    fn grow(&mut self, page: Page, last_at: Timestamp, is_anew: bool) -> Told {
        let over_ms = u64::try_from(self.at.duration_since(last_at).as_millis()).unwrap_or(0);
        let before = if is_anew {
            std::mem::take(&mut self.kept)
        } else {
            self.kept.clone()
        };
        let mut told = Told {
            over_ms,
            is_restart: is_anew,
            ..Told::default()
        };
        let mut energy = Energy::new(&before, Millis(over_ms));
        for (series, now) in page.series {
            let then = before.get(&series);
            if then.is_none() && self.kept.len() >= SERIES_MAX {
                told.dropped += 1;
                continue;
            }
            let last = then.filter(|_| !is_anew);
            let on = last.and_then(|last| now.value.checked_sub(last.value));
            if series.count == Count::Energy {
                energy.add(on);
            } else {
                let grown = told.groups.entry(now.group.clone()).or_default();
                grown.add(series.count, on.unwrap_or(now.value));
            }
            self.kept.insert(series, now);
        }
        told.energy = energy.total();
        told
    }
}

/// The energy of a window, which is only known when every processor's counter went on.
struct Energy {
    missing: usize,
    sum: Option<Microjoules>,
    most: Microjoules,
}

impl Energy {
    fn new(before: &BTreeMap<Series, Counted>, over: Millis) -> Self {
        let counters = before.keys().filter(|series| series.count == Count::Energy);
        Self {
            missing: counters.count(),
            sum: Some(Microjoules::ZERO),
            most: PROCESSOR_POWER_MAX.over(over),
        }
    }

    fn add(&mut self, grown: Option<u64>) {
        let grown = grown.map(Microjoules).filter(|grown| *grown <= self.most);
        self.sum = self.sum.zip(grown).map(|(sum, grown)| sum + grown);
        self.missing = self.missing.saturating_sub(1);
    }

    fn total(self) -> Option<Microjoules> {
        self.sum
            .filter(|sum| self.missing == 0 && *sum > Microjoules::ZERO)
    }
}
