//! Durations and sizes as people write them: `"15m"`, `"90d"`, `"512MiB"`.
//!
//! Promises: what is shown reads back as the same amount. Refuses: months and years, whose length is not fixed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::{SignedDuration, Span, SpanRelativeTo};

/// Units for showing a duration, the longest first.
const TIME_UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];

/// Units for showing a size, the largest first.
const SIZE_UNITS: [(u64, &str); 4] = [
    (1 << 40, "TiB"),
    (1 << 30, "GiB"),
    (1 << 20, "MiB"),
    (1 << 10, "KiB"),
];

/// A duration of whole milliseconds, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) Duration);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) u64);

/// A text is no amount.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AmountError {
    #[error("{0:?} is not a size: write a number and a unit, for example \"512MiB\"")]
    Size(String),
    #[error(
        "{0:?} is not a duration: write a number and a unit, for example \"15m\", \"24h\" or \"90d\""
    )]
    Time(String),
}

impl Time {
    /// Whole seconds, when there is no fraction and they fit.
    pub(super) fn whole_seconds(self) -> Option<u32> {
        let whole = self.0.subsec_nanos() == 0;
        u32::try_from(self.0.as_secs()).ok().filter(|_| whole)
    }
}

impl FromStr for Time {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let refuse = || AmountError::Time(text.to_owned());
        let span: Span = text.trim().parse().map_err(|_| refuse())?;
        let duration = span
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .map_err(|_| refuse())?;
        let whole = SignedDuration::from_millis_i128(duration.as_millis());
        match (whole, Duration::try_from(duration)) {
            (whole, Ok(time)) if whole == duration && !time.is_zero() => Ok(Self(time)),
            _ => Err(refuse()),
        }
    }
}

impl FromStr for Size {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let size: Result<ByteSize, _> = text.trim().parse();
        size.map(|s| Self(s.as_u64()))
            .map_err(|_| AmountError::Size(text.to_owned()))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_millis() != 0 {
            return write!(f, "{}ms", self.0.as_millis());
        }
        let seconds = self.0.as_secs();
        let fits =
            |(length, _): &&(u64, &str)| seconds >= *length && seconds.is_multiple_of(*length);
        match TIME_UNITS.iter().find(fits) {
            // A day is shown as 24h: schedules are written in hours.
            Some((86_400, _)) if seconds == 86_400 => f.write_str("24h"),
            Some((length, unit)) => write!(f, "{}{unit}", seconds / length),
            None => write!(f, "{seconds}s"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(length, _): &&(u64, &str)| self.0 >= *length && self.0.is_multiple_of(*length);
        match SIZE_UNITS.iter().find(fits) {
            Some((length, unit)) => write!(f, "{}{unit}", self.0 / length),
            None => write!(f, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(text: &str) -> Option<u64> {
        text.parse::<Time>().ok().map(|t| t.0.as_secs())
    }

    #[test]
    fn durations() {
        assert_eq!(seconds("15m"), Some(900));
        assert_eq!(seconds("1h 30m"), Some(5400));
        assert_eq!(seconds("24h"), Some(86_400));
        assert_eq!(seconds("90d"), Some(7_776_000));
        assert_eq!("1500ms".parse(), Ok(Time(Duration::from_millis(1500))));
        for wrong in [
            "",
            "15",
            "-5m",
            "5m ago",
            "0s",
            "1 month",
            "1y",
            "forever",
            "1us",
            "99999999999999d",
        ] {
            assert!(wrong.parse::<Time>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!("512MiB".parse(), Ok(Size(512 << 20)));
        assert_eq!("2 GB".parse(), Ok(Size(2_000_000_000)));
        assert_eq!("1024".parse(), Ok(Size(1024)));
        for wrong in ["", "MiB", "-1MiB", "12 parsecs"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        assert_eq!(Size(1_000_000).to_string(), "1000000B");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ms in 1_u64..10_000_000_000_000, bytes in 0_u64..1 << 50) {
            let time = Time(Duration::from_millis(ms));
            prop_assert_eq!(time.to_string().parse(), Ok(time));
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
    }
}
