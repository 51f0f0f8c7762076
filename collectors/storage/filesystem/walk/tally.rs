//! What a walk has counted: bytes, objects and the oldest access, by class and by age.

use cms_spec::dark::{AGE_LIMITS_DAYS, AccessBasis, Ages, DARK_AFTER_DAYS, Tally};
use cms_spec::units::Bytes;
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{Statx, StatxFlags};
use serde::{Deserialize, Serialize};

/// Seconds and nanoseconds since the Unix epoch, as the system tells them.
pub(super) type Moment = (i64, u32);

/// What was counted in a part of the tree. Two of them add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Counts {
    pub(in super::super) active: Tally,
    pub(in super::super) dark: Tally,
    pub(in super::super) ages: Ages,
    /// Directories and files that could not be read.
    pub(in super::super) unreadable: u64,
}

/// The moments at which files change their age class, for one scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    dark_before: Moment,
    ages_before: [Moment; AGE_LIMITS_DAYS.len()],
}

/// What one file adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) bytes: u64,
    /// 1, or 0 for another name of a file whose names each count a part.
    pub(super) objects: u64,
    pub(super) accessed: Moment,
}

impl Counts {
    /// Adds one file.
    pub(super) fn add(&mut self, file: Counted, limits: &Limits) {
        let tally = if file.accessed < limits.dark_before {
            &mut self.dark
        } else {
            &mut self.active
        };
        let accessed = timestamp(file.accessed);
        tally.bytes += Bytes(file.bytes);
        tally.objects += file.objects;
        tally.oldest_access = Some(tally.oldest_access.map_or(accessed, |o| o.min(accessed)));
        let older = |limit: &&Moment| file.accessed < **limit;
        let age = limits.ages_before.iter().take_while(older).count();
        self.ages.add(age, Bytes(file.bytes), file.objects);
    }

    /// Adds what was counted in another part.
    pub(in super::super) fn merge(&mut self, other: &Self) {
        merge(&mut self.active, &other.active);
        merge(&mut self.dark, &other.dark);
        self.ages.merge(&other.ages);
        self.unreadable += other.unreadable;
    }

    /// Objects of both classes.
    pub(in super::super) fn objects(&self) -> u64 {
        self.active.objects + self.dark.objects
    }
}

impl Limits {
    /// Counts ages from this moment.
    pub(super) fn at(as_of: Timestamp) -> Self {
        let before = |days: i64| {
            let limit = as_of
                .checked_sub(SignedDuration::from_hours(24 * days))
                .unwrap_or(Timestamp::MIN);
            let second = limit.as_second();
            let nanosecond = limit.subsec_nanosecond();
            // Before 1970 jiff counts nanoseconds down from the second, the system counts them up.
            if nanosecond < 0 {
                let up = u32::try_from(nanosecond + 1_000_000_000).unwrap_or_default();
                (second - 1, up)
            } else {
                (second, nanosecond.unsigned_abs())
            }
        };
        Self {
            dark_before: before(DARK_AFTER_DAYS),
            ages_before: AGE_LIMITS_DAYS.map(before),
        }
    }
}

/// The later of access and modification; the modification alone where access is not kept.
pub(super) fn last_access(stat: &Statx, basis: AccessBasis) -> Moment {
    let modified = (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
    let tells_access = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::ATIME);
    match basis {
        AccessBasis::AccessTime if tells_access => {
            modified.max((stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec))
        }
        _ => modified,
    }
}

fn merge(into: &mut Tally, other: &Tally) {
    into.bytes += other.bytes;
    into.objects += other.objects;
    into.oldest_access = match (into.oldest_access, other.oldest_access) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

fn timestamp((seconds, nanoseconds): Moment) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
    let beyond = if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::new(seconds, nanoseconds).unwrap_or(beyond)
}
