//! Random numbers that a seed decides. The same on every machine and in every version.

use std::time::Duration;

/// SplitMix64: small, and good enough for choosing faults.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Another sequence for another purpose, so that one more draw here changes nothing there.
    pub(crate) fn fork(&self, purpose: u64) -> Self {
        let mut fork = Self(self.0 ^ purpose.wrapping_mul(0xd134_2543_de82_ef95));
        fork.next();
        fork
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` up to and without `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.between(0, 100) < percent
    }

    pub(crate) fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.next() % of.len() as u64;
        of[usize::try_from(at).unwrap()]
    }

    /// Between the two, each order of magnitude as likely as the next.
    pub(crate) fn span(&mut self, low: Duration, high: Duration) -> Duration {
        let octaves = (high.as_millis() / low.as_millis()).max(1).ilog2();
        let octave = self.between(0, u64::from(octaves) + 1);
        let base = u64::try_from(low.as_millis()).unwrap() << octave;
        Duration::from_millis(base + self.between(0, base)).min(high)
    }
}
