//! Which sources have not spoken yet since the agent started.
//!
//! A category's first submission speaks for a day where its slots are days, so it waits until each of its
//! sources has given something or has failed. Coverage waits for all sources: it compares what they report.
//! In memory only: it matters between a start and the first submission.

use std::collections::BTreeMap;

use cms_spec::Category;

use super::{Store, StoreError};

/// The silent sources by name, each with the category that it feeds.
#[derive(Debug, Default)]
pub(super) struct Silent(BTreeMap<String, Category>);

impl Store {
    /// Says which sources there are; all of them are silent at first.
    ///
    /// # Errors
    /// When the store has stopped.
    pub async fn expect_sources(
        &self,
        sources: BTreeMap<String, Category>,
    ) -> Result<(), StoreError> {
        self.call(move |inner| {
            inner.silent = Silent(sources);
            Ok(())
        })
        .await
    }

    /// Says that a source will not keep anybody waiting: it has failed, or is not there.
    ///
    /// # Errors
    /// When the store has stopped.
    pub async fn excuse_source(&self, source: &str) -> Result<(), StoreError> {
        let source = source.to_owned();
        self.call(move |inner| {
            inner.silent.heard(&source);
            Ok(())
        })
        .await
    }

    /// Whether a first submission of this category should wait for a source.
    ///
    /// # Errors
    /// When the store has stopped.
    pub async fn awaits_a_source(&self, category: Category) -> Result<bool, StoreError> {
        self.call(move |inner| Ok(inner.silent.holds_up(category)))
            .await
    }
}

impl Silent {
    pub(super) fn heard(&mut self, source: &str) {
        self.0.remove(source);
    }

    fn holds_up(&self, category: Category) -> bool {
        category == Category::CoverageVerification && !self.0.is_empty()
            || self.0.values().any(|&fed| fed == category)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_waits_for_its_own_sources_and_coverage_for_all() {
        let mut silent = Silent(BTreeMap::from([
            ("compute/host".to_owned(), Category::GhostCompute),
            ("storage/filesystem archive".to_owned(), Category::DarkData),
            ("storage/filesystem logs".to_owned(), Category::DarkData),
        ]));
        silent.heard("compute/host");
        silent.heard("storage/filesystem logs");
        assert!(!silent.holds_up(Category::GhostCompute));
        assert!(
            silent.holds_up(Category::DarkData),
            "the archive is still being scanned"
        );
        assert!(silent.holds_up(Category::CoverageVerification));
        silent.heard("storage/filesystem archive");
        assert!(!silent.holds_up(Category::DarkData));
        assert!(!silent.holds_up(Category::CoverageVerification));
    }
}
