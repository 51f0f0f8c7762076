//! Which requests read the values of one device.
//!
//! Promises: every value is read by exactly one request, never torn over two; no request is longer than the device's
//! limit, and none runs over registers that nobody asked for, unless the gap is allowed. What a device refused is
//! remembered, so that one bad address costs one value and one request. Refuses: sockets, types, time.

use std::collections::BTreeSet;

use super::register::{Kind, Span};

/// What one device answers at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Most registers of one request, 1 to 125.
    pub registers_max: u16,
    /// Most coils or discrete inputs of one request, 1 to 2,000.
    pub bits_max: u16,
    /// Most registers between two values that one request may read for nothing.
    pub gap_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            registers_max: Kind::Holding.at_once_max(),
            bits_max: Kind::Coil.at_once_max(),
            gap_max: 0,
        }
    }
}

impl Limits {
    const fn at_once(self, kind: Kind) -> u16 {
        if kind.is_bit() {
            self.bits_max
        } else {
            self.registers_max
        }
    }
}

/// One request, and the values that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What is asked for.
    pub span: Span,
    /// Which of the values are in it, by their places in the list, ordered by address.
    pub values: Vec<usize>,
}

/// The requests of one device, and what was learnt about it.
///
/// What it keeps is bounded by the number of values.
#[derive(Clone, Debug)]
pub struct Plan {
    values: Vec<Span>,
    limits: Limits,
    /// Values that the device refuses even alone.
    refused: BTreeSet<usize>,
    /// Values that the device does not give together with the one before them.
    cuts: BTreeSet<usize>,
    /// Values that are asked for apart from the one before them until it is clear which of them get no answer.
    doubts: BTreeSet<usize>,
    batches: Vec<Batch>,
}

impl Plan {
    /// The requests for these values; a value longer than the limit has a request of its own.
    #[must_use]
    pub fn new(values: Vec<Span>, limits: Limits) -> Self {
        let mut plan = Self {
            values,
            limits,
            refused: BTreeSet::new(),
            cuts: BTreeSet::new(),
            doubts: BTreeSet::new(),
            batches: Vec::new(),
        };
        plan.arrange();
        plan
    }

    /// The requests of one round.
    #[must_use]
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// The values.
    #[must_use]
    pub fn values(&self) -> &[Span] {
        &self.values
    }

    /// How many values the device refuses.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// A request that was refused as a whole, cut in two; nothing for a single value.
    #[must_use]
    pub fn halves(&self, batch: &Batch) -> Option<(Batch, Batch)> {
        let (low, high) = batch.values.split_at(batch.values.len() / 2);
        Some((self.batch(low)?, self.batch(high)?))
    }

    /// Learns from a request that was refused as a whole: which of its values were refused alone as well, and which
    /// of them began a part that was answered. The next round asks accordingly.
    pub fn learn(&mut self, refused: &[usize], begins: &[usize]) {
        if refused.is_empty() {
            // No value is to blame: what lies between two of them is.
            self.cuts.extend(begins);
        } else {
            self.refused.extend(refused);
        }
        self.arrange();
    }

    /// From the next round on, asks for a request that gets no answer in two halves. Answers whether it has two.
    pub fn doubt(&mut self, batch: &Batch) -> bool {
        let Some((_, high)) = self.halves(batch) else {
            return false;
        };
        self.doubts.extend(high.values.first());
        self.arrange();
        true
    }

    /// Asks for everything together again that was asked for apart. Answers which values began a part.
    pub fn trust(&mut self) -> BTreeSet<usize> {
        let doubts = std::mem::take(&mut self.doubts);
        if !doubts.is_empty() {
            self.arrange();
        }
        doubts
    }

    /// Whether something is asked for apart because it got no answer.
    #[must_use]
    pub fn is_doubting(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// A refused value was answered after all.
    pub fn forgive(&mut self, value: usize) {
        if self.refused.remove(&value) {
            self.arrange();
        }
    }

    fn batch(&self, values: &[usize]) -> Option<Batch> {
        let mut spans = values.iter().filter_map(|at| self.values.get(*at)).copied();
        let first = spans.next()?;
        let span = spans.try_fold(first, |all, next| all.to(next))?;
        Some(Batch {
            span,
            values: values.to_vec(),
        })
    }

    fn arrange(&mut self) {
        let mut ordered: Vec<(Span, usize)> = (0..)
            .zip(&self.values)
            .map(|(at, span)| (*span, at))
            .collect();
        ordered.sort_unstable();
        let mut batches: Vec<Batch> = Vec::with_capacity(self.batches.len());
        for (span, at) in ordered {
            // A refused value stands alone, and nobody else runs over it.
            let open = batches.last_mut().filter(|batch| {
                let alone = |at: &usize| self.refused.contains(at);
                !alone(&at)
                    && !self.cuts.contains(&at)
                    && !self.doubts.contains(&at)
                    && !batch.values.iter().any(alone)
            });
            match open.and_then(|batch| Some((self.joined(batch.span, span)?, batch))) {
                Some((joined, batch)) => {
                    batch.span = joined;
                    batch.values.push(at);
                }
                None => batches.push(Batch {
                    span,
                    values: vec![at],
                }),
            }
        }
        self.batches = batches;
    }

    /// Both in one request, if that is allowed.
    fn joined(&self, batch: Span, next: Span) -> Option<Span> {
        let joined = batch.to(next)?;
        let gap = u32::from(next.first()).saturating_sub(batch.end());
        let fits = joined.count() <= self.limits.at_once(joined.kind());
        (fits && gap <= u32::from(self.limits.gap_max)).then_some(joined)
    }
}

/// One round over a plan, request by request: whoever asks the device tells it how each went.
#[derive(Clone, Debug)]
pub struct Round {
    /// The next request is the last one.
    pending: Vec<Batch>,
    cut: Option<Cut>,
}

/// A refused request that is being read in parts.
#[derive(Clone, Debug)]
struct Cut {
    /// Parts that were not asked for yet.
    left: usize,
    /// The value that the request began with.
    first: Option<usize>,
    refused: Vec<usize>,
    begins: Vec<usize>,
}

impl Round {
    /// Begins with the first request of the plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        Self {
            pending: plan.batches.iter().rev().cloned().collect(),
            cut: None,
        }
    }

    /// The next request; nothing when the round is over.
    pub fn following(&mut self) -> Option<Batch> {
        self.pending.pop()
    }

    /// Begins with the longest request.
    pub fn longest_first(&mut self) {
        let longest = (0..)
            .zip(&self.pending)
            .max_by_key(|(_, batch)| batch.span.count());
        if let Some(at) = longest.map(|(at, _)| at) {
            let batch = self.pending.remove(at);
            self.pending.push(batch);
        }
    }

    /// Asks for this value's request last.
    pub fn postpone(&mut self, value: usize) {
        let begins = |batch: &Batch| batch.values.first() == Some(&value);
        if let Some(at) = self.pending.iter().position(begins) {
            let batch = self.pending.remove(at);
            self.pending.insert(0, batch);
        }
    }

    /// Leaves requests away that are for one value only, where that is in this list.
    pub fn without(&mut self, alone: &BTreeSet<usize>) {
        let is_left = |batch: &Batch| match batch.values.as_slice() {
            [one] => !alone.contains(one),
            _ => true,
        };
        self.pending.retain(is_left);
    }

    /// The request was answered.
    pub fn answered(&mut self, batch: &Batch, plan: &mut Plan) {
        match (&mut self.cut, batch.values.as_slice()) {
            (Some(cut), [begin, ..]) => {
                if cut.first != Some(*begin) {
                    cut.begins.push(*begin);
                }
                cut.left = cut.left.saturating_sub(1);
            }
            (None, [alone]) => plan.forgive(*alone),
            _ => {}
        }
        self.learn(plan);
    }

    /// The device does not have what was asked for. Says whether its values will be asked for in parts; if not, the
    /// answer stands for the one value that it was about.
    pub fn refused(&mut self, batch: &Batch, plan: &mut Plan) -> bool {
        let halves = plan.halves(batch);
        match (&mut self.cut, &halves) {
            (Some(cut), Some(_)) => cut.left += 1,
            (Some(cut), None) => {
                cut.left = cut.left.saturating_sub(1);
                cut.refused.extend(&batch.values);
            }
            (None, Some(_)) => {
                self.cut = Some(Cut {
                    left: 2,
                    first: batch.values.first().copied(),
                    refused: Vec::new(),
                    begins: Vec::new(),
                });
            }
            (None, None) => plan.learn(&batch.values, &[]),
        }
        self.learn(plan);
        let Some((low, high)) = halves else {
            return false;
        };
        self.pending.extend([high, low]);
        true
    }

    /// There was no answer that says anything about the registers.
    pub fn failed(&mut self) {
        self.cut = None;
    }

    /// The requests that are not going to be asked, because the device is not there.
    pub fn abandon(self) -> impl Iterator<Item = usize> {
        self.pending.into_iter().flat_map(|batch| batch.values)
    }

    fn learn(&mut self, plan: &mut Plan) {
        if let Some(cut) = self.cut.take_if(|cut| cut.left == 0) {
            plan.learn(&cut.refused, &cut.begins);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(first: u16, count: u16) -> Span {
        Span::new(Kind::Holding, first, count).unwrap()
    }

    fn spans(values: &[(u16, u16)]) -> Vec<Span> {
        values
            .iter()
            .map(|(first, count)| span(*first, *count))
            .collect()
    }

    fn asked(plan: &Plan) -> Vec<(u16, u16)> {
        let batches = plan.batches().iter();
        batches
            .map(|batch| (batch.span.first(), batch.span.count()))
            .collect()
    }

    /// A device that has some registers, and answers a request for all of it or not at all.
    struct Device {
        has: Vec<bool>,
        count_max: u16,
    }

    impl Device {
        fn answers(&self, span: Span) -> bool {
            let range = usize::from(span.first())..usize::try_from(span.end()).unwrap();
            span.count() <= self.count_max
                && self
                    .has
                    .get(range)
                    .is_some_and(|all| all.iter().all(|has| *has))
        }

        /// How often each value was read and refused, and how many requests that took.
        fn round(&self, plan: &mut Plan) -> (Vec<(usize, usize)>, usize) {
            let mut outcome = vec![(0, 0); plan.values().len()];
            let (mut round, mut requests) = (Round::of(plan), 0);
            while let Some(batch) = round.following() {
                requests += 1;
                if self.answers(batch.span) {
                    batch.values.iter().for_each(|at| outcome[*at].0 += 1);
                    round.answered(&batch, plan);
                } else if !round.refused(&batch, plan) {
                    batch.values.iter().for_each(|at| outcome[*at].1 += 1);
                }
            }
            (outcome, requests)
        }
    }

    #[test]
    fn neighbours_share_a_request() {
        let values = spans(&[(10, 2), (0, 1), (1, 2), (12, 4), (3, 1)]);
        let plan = Plan::new(values.clone(), Limits::default());
        assert_eq!(asked(&plan), [(0, 4), (10, 6)]);
        assert_eq!(plan.batches()[0].values, [1, 2, 4]);
        let gap = Limits {
            gap_max: 6,
            ..Limits::default()
        };
        assert_eq!(asked(&Plan::new(values.clone(), gap)), [(0, 16)]);
        let small = Limits {
            registers_max: 3,
            ..Limits::default()
        };
        assert_eq!(
            asked(&Plan::new(values, small)),
            [(0, 3), (3, 1), (10, 2), (12, 4)]
        );
    }

    #[test]
    fn kinds_are_asked_apart() {
        let input = Span::new(Kind::Input, 1, 1).unwrap();
        let coils: Vec<Span> = (0..200)
            .map(|at| Span::new(Kind::Coil, at, 1).unwrap())
            .collect();
        let plan = Plan::new([coils, vec![span(0, 1), input]].concat(), Limits::default());
        let kinds: Vec<Kind> = plan
            .batches()
            .iter()
            .map(|batch| batch.span.kind())
            .collect();
        assert_eq!(kinds, [Kind::Coil, Kind::Holding, Kind::Input]);
    }

    #[test]
    fn one_bad_address_costs_one_value_and_one_request() {
        let values: Vec<Span> = (0..16).map(|at| span(at, 1)).collect();
        let mut has = vec![true; 16];
        has[5] = false;
        let mut device = Device {
            has,
            count_max: 125,
        };
        let mut plan = Plan::new(values, Limits::default());
        let (outcome, requests) = device.round(&mut plan);
        assert_eq!(outcome.iter().filter(|o| **o == (1, 0)).count(), 15);
        assert_eq!(outcome[5], (0, 1));
        assert_eq!(requests, 9, "the whole, and two for each halving");
        assert_eq!(asked(&plan), [(0, 5), (5, 1), (6, 10)]);
        assert_eq!(device.round(&mut plan).1, 3);
        // New firmware has it.
        device.has[5] = true;
        assert_eq!(device.round(&mut plan).0[5], (1, 0));
        assert_eq!(asked(&plan), [(0, 16)]);
        assert_eq!(plan.refused(), 0);
    }

    #[test]
    fn a_gap_that_is_not_there_is_left_out_from_then_on() {
        let mut has = vec![true; 20];
        has[9] = false;
        let device = Device {
            has,
            count_max: 125,
        };
        let limits = Limits {
            gap_max: 4,
            ..Limits::default()
        };
        let plan = Plan::new(spans(&[(0, 2), (4, 2), (11, 2), (14, 2)]), limits);
        assert_eq!(asked(&plan), [(0, 6), (11, 5)]);
        let mut plan = Plan::new(spans(&[(6, 2), (10, 2)]), limits);
        assert_eq!(asked(&plan), [(6, 6)]);
        assert_eq!(device.round(&mut plan), (vec![(1, 0), (1, 0)], 3));
        assert_eq!(asked(&plan), [(6, 2), (10, 2)]);
        assert_eq!(plan.refused(), 0);
    }

    proptest! {
        #[test]
        fn every_value_is_read_once_and_whole(
            places in prop::collection::vec((0u16..300, 1u16..5, 0usize..4), 0..60),
            registers_max in 4u16..=125,
            gap_max in 0u16..8,
        ) {
            let limits = Limits { registers_max, gap_max, ..Limits::default() };
            let values: Vec<Span> = places
                .iter()
                .map(|(first, count, kind)| Span::new(Kind::ALL[*kind], *first, *count).unwrap())
                .collect();
            let plan = Plan::new(values.clone(), limits);
            let mut read = vec![0; values.len()];
            for batch in plan.batches() {
                prop_assert!(batch.span.count() <= limits.at_once(batch.span.kind()));
                let mut end = u32::from(batch.span.first());
                for at in &batch.values {
                    let value = values[*at];
                    read[*at] += 1;
                    prop_assert_eq!(value.kind(), batch.span.kind());
                    prop_assert!(value.first() >= batch.span.first() && value.end() <= batch.span.end());
                    prop_assert!(u32::from(value.first()).saturating_sub(end) <= u32::from(gap_max));
                    end = end.max(value.end());
                }
                prop_assert_eq!(end, batch.span.end());
            }
            prop_assert!(read.iter().all(|times| *times == 1));
        }

        #[test]
        fn a_device_costs_no_value_but_those_that_it_lacks(
            places in prop::collection::vec((0u16..60, 1u16..5), 1..30),
            lacks in prop::collection::btree_set(0usize..64, 0..10),
            count_max in 4u16..=125,
            gap_max in 0u16..6,
        ) {
            let has = (0..64).map(|at| !lacks.contains(&at)).collect();
            let device = Device { has, count_max };
            let values = spans(&places);
            let mut plan = Plan::new(values.clone(), Limits { gap_max, ..Limits::default() });
            for _ in 0..=2 * values.len() {
                let (outcome, _) = device.round(&mut plan);
                for (value, outcome) in values.iter().zip(outcome) {
                    let there = device.answers(*value);
                    prop_assert_eq!(outcome, (usize::from(there), usize::from(!there)));
                }
            }
            // By now nothing is asked for in vain but what the device lacks.
            let missing = values.iter().filter(|value| !device.answers(**value)).count();
            prop_assert_eq!(plan.refused(), missing);
            prop_assert_eq!(device.round(&mut plan).1, plan.batches().len());
        }
    }
}
