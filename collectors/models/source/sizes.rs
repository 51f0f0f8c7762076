//! How large models are, and how that is known.

use std::collections::BTreeMap;

use crate::models::request::{ModelFacts, SizeFrom, Word};

/// Most models whose size is remembered.
const MODELS_MAX: usize = 10_000;

/// Sizes, the best known of each model.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    models: BTreeMap<Word, (SizeFrom, u64)>,
}

impl Sizes {
    /// Learns one, unless it is known from a better place.
    pub(super) fn learn(&mut self, facts: ModelFacts) {
        if self.models.len() >= MODELS_MAX && !self.models.contains_key(&facts.name) {
            return;
        }
        let told = (facts.from, facts.parameters);
        let known = self.models.entry(facts.name).or_insert(told);
        if told.0 <= known.0 {
            *known = told;
        }
    }

    /// The size of a model, where it is known.
    pub(super) fn of(&self, model: &Word) -> Option<(SizeFrom, u64)> {
        self.models.get(model).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_place_wins_and_news_of_the_same_place_too() {
        let name = Word::new(b"llama3:8b").expect("a word");
        let told = |from, parameters| ModelFacts {
            name: name.clone(),
            parameters,
            from,
        };
        let mut sizes = Sizes::default();
        sizes.learn(told(SizeFrom::Name, 8_000_000_000));
        sizes.learn(told(SizeFrom::Counted, 8_030_261_248));
        sizes.learn(told(SizeFrom::Rounded, 8_000_000_000));
        assert_eq!(sizes.of(&name), Some((SizeFrom::Counted, 8_030_261_248)));
        sizes.learn(told(SizeFrom::Counted, 8_000_000_001));
        assert_eq!(sizes.of(&name), Some((SizeFrom::Counted, 8_000_000_001)));
    }
}
