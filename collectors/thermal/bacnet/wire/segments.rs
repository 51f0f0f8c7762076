//! Replies in segments: taken in order, acknowledged at once, joined within bounds.

/// More than any reply that we ask for: names and values of ten thousand objects.
const BYTES_MAX: usize = 256 * 1024;

/// How many segments may be on their way before they are acknowledged.
const WINDOW_MAX: u8 = 16;

/// A reply that is coming in.
#[derive(Clone, Debug, Default)]
pub struct Assembly {
    bytes: Vec<u8>,
    /// The last segment in order.
    last: u8,
    /// The last segment that was acknowledged.
    acknowledged: u8,
    window: u8,
    has_begun: bool,
}

/// What to do about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// Tell the device what has come: up to which segment, and how many may follow.
    Acknowledge {
        /// Whether one is missing in between.
        negative: bool,
        /// The last one that came in order.
        sequence: u8,
        /// How many may follow.
        window: u8,
    },
    /// The same, and the reply is whole.
    Complete {
        /// The last one.
        sequence: u8,
        /// How many might follow.
        window: u8,
    },
    /// It is longer than we take.
    TooLong,
}

impl Assembly {
    /// Whether a segment has come.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// What has come.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes a segment.
    ///
    /// The first one is acknowledged at once: a device sends only one before it knows our window.
    pub fn take(&mut self, sequence: u8, window: u8, more_follows: bool, bytes: &[u8]) -> Step {
        let is_next = if self.has_begun {
            sequence == self.last.wrapping_add(1)
        } else {
            sequence == 0
        };
        if !self.has_begun && !is_next {
            return Step::Wait;
        }
        if !is_next {
            return self.out_of_order(sequence);
        }
        if self.bytes.len() + bytes.len() > BYTES_MAX {
            return Step::TooLong;
        }
        self.bytes.extend_from_slice(bytes);
        let is_first = !self.has_begun;
        self.has_begun = true;
        self.last = sequence;
        self.window = window.clamp(1, WINDOW_MAX);
        if !more_follows {
            self.acknowledged = sequence;
            return Step::Complete {
                sequence,
                window: self.window,
            };
        }
        let is_full = sequence.wrapping_sub(self.acknowledged) >= self.window;
        if is_first || is_full {
            return self.acknowledge(false);
        }
        Step::Wait
    }

    /// One that came again is acknowledged again, because the device seems not to know; one that came too
    /// early means that another was lost.
    fn out_of_order(&mut self, sequence: u8) -> Step {
        let behind = self.last.wrapping_sub(sequence);
        let is_again = behind < WINDOW_MAX;
        self.acknowledge(!is_again)
    }

    fn acknowledge(&mut self, negative: bool) -> Step {
        self.acknowledged = self.last;
        Step::Acknowledge {
            negative,
            sequence: self.last,
            window: self.window,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn acknowledged(negative: bool, sequence: u8, window: u8) -> Step {
        Step::Acknowledge {
            negative,
            sequence,
            window,
        }
    }

    #[test]
    fn the_first_segment_is_acknowledged_at_once_and_then_each_window() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(0, 2, true, b"a"), acknowledged(false, 0, 2));
        assert_eq!(assembly.take(1, 2, true, b"b"), Step::Wait);
        assert_eq!(assembly.take(2, 2, true, b"c"), acknowledged(false, 2, 2));
        let complete = Step::Complete {
            sequence: 3,
            window: 2,
        };
        assert_eq!(assembly.take(3, 2, false, b"d"), complete);
        assert_eq!(assembly.into_bytes(), b"abcd");
    }

    #[test]
    fn lost_and_repeated_segments_are_told() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(1, 4, true, b"x"), Step::Wait);
        assert!(!assembly.has_begun());
        assembly.take(0, 4, true, b"a");
        assert_eq!(assembly.take(0, 4, true, b"a"), acknowledged(false, 0, 4));
        assert_eq!(assembly.take(2, 4, true, b"c"), acknowledged(true, 0, 4));
        assert_eq!(assembly.take(1, 4, true, b"b"), Step::Wait);
        assembly.take(2, 4, false, b"c");
        assert_eq!(assembly.into_bytes(), b"abc");
    }

    #[test]
    fn a_reply_without_end_is_refused() {
        let mut assembly = Assembly::default();
        let segment = [0; 1400];
        let ends = (0..=u8::MAX)
            .cycle()
            .take(1000)
            .position(|sequence| assembly.take(sequence, 4, true, &segment) == Step::TooLong);
        assert_eq!(ends, Some(BYTES_MAX / 1400));
    }

    proptest! {
        /// A device that sends again what is not acknowledged always gets through, whatever is lost.
        #[test]
        fn what_is_lost_on_the_way_is_sent_again(
            length in 1usize..700, window in 1u8..20, lost in proptest::collection::vec(any::<bool>(), 400),
        ) {
            let segments: Vec<[u8; 2]> =
                (0..length).map(|at| u16::try_from(at).unwrap().to_be_bytes()).collect();
            let mut assembly = Assembly::default();
            let mut lost = lost.into_iter().chain(std::iter::repeat(false));
            let (mut first, mut width, mut is_done) = (0, 1, false);
            for _ in 0..20_000 {
                if is_done {
                    break;
                }
                let mut answer = None;
                for (at, segment) in segments.iter().enumerate().skip(first).take(width) {
                    if lost.next() == Some(true) {
                        continue;
                    }
                    let sequence = u8::try_from(at % 256).unwrap();
                    match assembly.take(sequence, window, at + 1 < length, segment) {
                        Step::Acknowledge { sequence, window, .. } => answer = Some((sequence, window)),
                        Step::Complete { .. } => is_done = true,
                        Step::Wait => {}
                        Step::TooLong => prop_assert!(false),
                    }
                }
                if let Some((sequence, window)) = answer {
                    let ahead = sequence.wrapping_sub(u8::try_from(first % 256).unwrap());
                    if ahead < 128 {
                        first += usize::from(ahead) + 1;
                    }
                    width = usize::from(window);
                }
            }
            prop_assert!(is_done);
            prop_assert_eq!(assembly.into_bytes(), segments.concat());
        }
    }
}
