//! Logs that show prompts are not read.
//!
//! Owns: how long a refusal lasts. A prompt can hold line ends and with them lines that look like the server's. They
//! always follow the line that begins to show the prompt, so that a reader that stops at that line hears none of them.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a log must have shown no prompt to be read again. A server that still shows them begins each with words of
/// its own, which end the reading again before the first line of the prompt; so the hour only has to outlast a prompt
/// that is being written.
const QUIET: SignedDuration = SignedDuration::from_hours(1);

/// Whether a log shows prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Exposure {
    /// It does not.
    #[default]
    None,
    /// It did before the first tick or since the last one.
    Now,
    /// It did before this moment.
    Until(Timestamp),
}

impl Exposure {
    /// A line showed a prompt.
    pub(crate) const fn seen(&mut self) {
        *self = Self::Now;
    }

    /// A tick begins.
    pub(crate) fn tick(&mut self, at: Timestamp) {
        match *self {
            Self::None => {}
            Self::Now => *self = Self::Until(at),
            Self::Until(last) if at.duration_since(last) >= QUIET => *self = Self::None,
            Self::Until(_) => {}
        }
    }

    /// As after a restart: the hour begins anew, because nobody read in between.
    pub(crate) const fn resumed(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Now | Self::Until(_) => Self::Now,
        }
    }

    /// Whether the log must not be read.
    pub(crate) fn is_refused(self) -> bool {
        self != Self::None
    }

    /// Why the log is not read, with what to do.
    pub(crate) fn refusal(self, advice: &str) -> Option<String> {
        self.is_refused().then(|| {
            format!(
                "the log shows prompts, so that nothing of it is taken: {advice}; \
                 it is read again when it has shown none for an hour"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_an_hour_after_the_last_prompt() {
        let at = |minutes| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let mut exposure = Exposure::default();
        exposure.tick(at(0));
        assert_eq!(exposure.refusal("x"), None);
        exposure.seen();
        assert!(
            exposure
                .refusal("restart it")
                .unwrap()
                .contains("restart it")
        );
        exposure.tick(at(1));
        exposure.tick(at(60));
        assert!(exposure.is_refused());
        exposure.seen();
        exposure.tick(at(61));
        let kept: Exposure =
            serde_json::from_str(&serde_json::to_string(&exposure).unwrap()).unwrap();
        assert_eq!(kept, exposure);
        assert_eq!(kept.resumed(), Exposure::Now);
        exposure.tick(at(120));
        assert!(exposure.is_refused());
        exposure.tick(at(121));
        assert!(!exposure.is_refused());
    }
}
