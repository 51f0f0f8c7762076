//! Whether a device's counter of energy and its own power say the same.

use cms_spec::provenance::{Confidence, Origin};
use cms_spec::units::{Microjoules, Millis};

/// Two readings of one device are compared over this long; shorter, sampling alone sets them apart.
const COMPARED_OVER: Millis = Millis(10 * 60 * 1000);

/// One part in so many is the difference that is still believed: 20 %.
const BELIEVED_PART: u64 = 5;

/// A comparison that is under way, and what the last whole one said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Residual {
    by_counter: Microjoules,
    by_power: Microjoules,
    over: Millis,
    disagrees: bool,
}

impl Residual {
    /// Adds a span that both speak of.
    pub(super) fn add(&mut self, by_counter: Microjoules, by_power: Microjoules, over: Millis) {
        self.by_counter += by_counter;
        self.by_power += by_power;
        self.over += over;
        if self.over >= COMPARED_OVER {
            let apart = self.by_counter.0.abs_diff(self.by_power.0);
            let disagrees = apart > self.by_power.0 / BELIEVED_PART;
            *self = Self {
                disagrees,
                ..Self::default()
            };
        }
    }

    /// Says in an origin that the two disagree, and trusts it less.
    pub(super) fn mark(&self, origin: &mut Origin) {
        if self.disagrees {
            origin.confidence = origin.confidence.max(Confidence::C);
            origin.note = Some(
                "its counter of energy and its own power have been more than 20 % apart for ten minutes"
                    .to_owned(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(residual: Residual) -> Option<Confidence> {
        let mut origin = Origin::measured("s", "m", Confidence::A);
        residual.mark(&mut origin);
        origin.note.is_some().then_some(origin.confidence)
    }

    #[test]
    fn a_fifth_for_ten_minutes_is_too_much() {
        let mut residual = Residual::default();
        let minute = Millis(60_000);
        for _ in 0..9 {
            residual.add(Microjoules(121), Microjoules(100), minute);
        }
        assert_eq!(marked(residual), None, "it is not ten minutes yet");
        residual.add(Microjoules(121), Microjoules(100), minute);
        assert_eq!(marked(residual), Some(Confidence::C));
        for _ in 0..10 {
            residual.add(Microjoules(119), Microjoules(100), minute);
        }
        assert_eq!(marked(residual), None, "they agree again");
    }
}
