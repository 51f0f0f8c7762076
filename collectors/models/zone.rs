//! Stamps of logs that leave out the zone or the year.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::scan::Scan;

/// How far a stamp may lie after the tick. A line is written after its tick began, and clocks differ by seconds; a
/// wrong time zone is off by a quarter of an hour at least.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);

/// How stamps of a log are to be read.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    time_zone: TimeZone,
    /// The last tick.
    now: Option<Timestamp>,
    /// Whether a stamp lay in the future.
    is_ahead: bool,
}

impl Zone {
    /// Stamps without a zone are in this one.
    pub(crate) const fn new(time_zone: TimeZone) -> Self {
        Self {
            time_zone,
            now: None,
            is_ahead: false,
        }
    }

    /// A tick begins.
    pub(crate) const fn tick(&mut self, at: Timestamp) {
        self.now = Some(at);
    }

    /// The moment of a local time; nothing where the time zone must be wrong, because it is yet to come.
    pub(crate) fn local(&mut self, stamp: DateTime) -> Option<Timestamp> {
        let at = self.time_zone.to_ambiguous_timestamp(stamp).compatible();
        self.past(at.ok()?)
    }

    /// The moment of a local time without its year: the latest one that is not yet to come. Before the first tick
    /// there is none.
    pub(crate) fn yearless(&mut self, stamp: Yearless) -> Option<Timestamp> {
        let limit = self.now?.checked_add(AHEAD_MAX).ok()?;
        let year = limit.to_zoned(self.time_zone.clone()).year();
        // A 29th of February can be missing in this year.
        [year, year.checked_sub(1)?].into_iter().find_map(|year| {
            let stamp = stamp.of(year)?;
            let at = self.time_zone.to_ambiguous_timestamp(stamp).compatible();
            at.ok().filter(|at| *at <= limit)
        })
    }

    /// What is wrong with the stamps.
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        self.is_ahead.then_some(
            "its times lie in the future, so that the times of reading are taken; \
             set time_zone to the zone of the server's log",
        )
    }

    fn past(&mut self, at: Timestamp) -> Option<Timestamp> {
        let limit = self.now.and_then(|now| now.checked_add(AHEAD_MAX).ok());
        self.is_ahead = limit.is_some_and(|limit| at > limit);
        (!self.is_ahead).then_some(at)
    }
}

/// A day and a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Yearless {
    month: i8,
    day: i8,
    clock: Clock,
}

/// A time of a day, with its fraction in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
}

impl Yearless {
    /// Reads `03-14 09:26:53`.
    pub(crate) fn read(scan: &mut Scan<'_>) -> Option<Self> {
        let month = two(scan)?;
        scan.literal(b"-")?;
        let day = two(scan)?;
        scan.literal(b" ")?;
        let clock = Clock::read(scan)?;
        Some(Self { month, day, clock })
    }

    fn of(self, year: i16) -> Option<DateTime> {
        let clock = self.clock;
        let (hour, minute, second) = (clock.hour, clock.minute, clock.second);
        let (month, day, nanosecond) = (self.month, self.day, clock.nanosecond);
        DateTime::new(year, month, day, hour, minute, second, nanosecond).ok()
    }
}

/// Reads a local date and time: `between` stands between the parts of the date, `before` before the time, and a
/// fraction after a point or a comma is taken where there is one.
pub(crate) fn civil(scan: &mut Scan<'_>, between: &[u8], before: &[u8]) -> Option<DateTime> {
    let year = i16::try_from(scan.digits(4)?).ok()?;
    scan.literal(between)?;
    let month = two(scan)?;
    scan.literal(between)?;
    let day = two(scan)?;
    scan.literal(before)?;
    let clock = Clock::read(scan)?;
    Yearless { month, day, clock }.of(year)
}

impl Clock {
    fn read(scan: &mut Scan<'_>) -> Option<Self> {
        let hour = two(scan)?;
        scan.literal(b":")?;
        let minute = two(scan)?;
        scan.literal(b":")?;
        let second = two(scan)?;
        let nanosecond = match scan.rest().first() {
            Some(b'.' | b',') => scan.fraction()?,
            _ => 0,
        };
        Some(Self {
            hour,
            minute,
            second,
            nanosecond: i32::try_from(nanosecond).ok()?,
        })
    }
}

fn two(scan: &mut Scan<'_>) -> Option<i8> {
    let before = scan.rest().len();
    let value = scan.digits(2)?;
    let is_whole = before - scan.rest().len() == 2;
    i8::try_from(value).ok().filter(|_| is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str, now: &str) -> Zone {
        let mut zone = Zone::new(TimeZone::get(name).unwrap());
        zone.tick(now.parse().unwrap());
        zone
    }

    #[test]
    fn a_year_begins_between_a_line_and_its_tick() {
        let read = |text: &str| Yearless::read(&mut Scan::new(text.as_bytes())).unwrap();
        let said = |now: &str, text: &str| {
            let at = zone("Europe/Berlin", now).yearless(read(text));
            at.map(|at| at.to_string())
        };
        let eve = said("2026-12-31T23:05:00Z", "12-31 23:59:59");
        assert_eq!(eve.as_deref(), Some("2026-12-31T22:59:59Z"));
        let late = said("2027-01-01T00:05:00Z", "12-31 23:59:59");
        assert_eq!(late.as_deref(), Some("2026-12-31T22:59:59Z"));
        // The clock of the server is a little ahead of ours.
        let ahead = said("2026-12-31T22:58:00Z", "01-01 00:01:00");
        assert_eq!(ahead.as_deref(), Some("2026-12-31T23:01:00Z"));
        let leap = said("2028-03-01T12:00:00Z", "02-29 12:00:00");
        assert_eq!(leap.as_deref(), Some("2028-02-29T11:00:00Z"));
        assert_eq!(said("2027-03-01T12:00:00Z", "02-29 12:00:00"), None);
        assert!(
            Zone::new(TimeZone::UTC)
                .yearless(read("12-31 23:59:59"))
                .is_none()
        );
    }

    #[test]
    fn a_time_to_come_means_the_wrong_zone() {
        let mut zone = zone("UTC", "2026-03-14T09:30:00Z");
        let read = |text: &str| civil(&mut Scan::new(text.as_bytes()), b"/", b" - ").unwrap();
        let at = zone.local(read("2026/03/14 - 09:26:53"));
        assert_eq!(at.unwrap().to_string(), "2026-03-14T09:26:53Z");
        assert_eq!(zone.trouble(), None);
        assert_eq!(zone.local(read("2026/03/14 - 11:26:53")), None);
        assert!(zone.trouble().unwrap().contains("time_zone"));
        assert!(zone.local(read("2026/03/14 - 09:26:54")).is_some());
        assert_eq!(zone.trouble(), None);
    }

    #[test]
    fn dates_that_do_not_exist_are_none() {
        for text in [
            "2026-13-14T09:26:53",
            "2026-3-14T09:26:53",
            "2026-03-14T9:26:53",
            "2026-02-30T09:26:53",
        ] {
            assert_eq!(
                civil(&mut Scan::new(text.as_bytes()), b"-", b"T"),
                None,
                "{text}"
            );
        }
        let fraction = civil(&mut Scan::new(b"2026-03-14 09:26:53,029"), b"-", b" ").unwrap();
        assert_eq!(fraction.to_string(), "2026-03-14T09:26:53.029");
    }
}
