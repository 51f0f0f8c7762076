//! What a scan has counted: bytes, objects and the oldest access, by class and by age.

use cms_spec::dark::{AGE_LIMITS_DAYS, Ages, DARK_AFTER_DAYS, Tally};
use cms_spec::units::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Seconds and nanoseconds since the Unix epoch, as the system tells them.
pub(super) type Moment = (i64, u32);

/// What was counted in a part of the tree. Two of them add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) active: Tally,
    pub(super) dark: Tally,
    pub(super) ages: Ages,
    /// Directories and files that could not be read.
    pub(super) unreadable: u64,
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
    pub(super) fn merge(&mut self, other: &Self) {
        merge(&mut self.active, &other.active);
        merge(&mut self.dark, &other.dark);
        self.ages.merge(&other.ages);
        self.unreadable += other.unreadable;
    }

    /// Objects of both classes.
    pub(super) fn objects(&self) -> u64 {
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
            moment(limit)
        };
        Self {
            dark_before: before(DARK_AFTER_DAYS),
            ages_before: AGE_LIMITS_DAYS.map(before),
        }
    }
}

/// A time as the system tells it.
pub(super) fn moment(at: Timestamp) -> Moment {
    let (second, nanosecond) = (at.as_second(), at.subsec_nanosecond());
    // Before 1970 jiff counts nanoseconds down from the second, the system counts them up.
    if nanosecond < 0 {
        let up = u32::try_from(nanosecond + 1_000_000_000).unwrap_or_default();
        return (second - 1, up);
    }
    (second, nanosecond.unsigned_abs())
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
