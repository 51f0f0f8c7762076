//! What the samples of one kind of server count.

use std::collections::BTreeSet;

use cms_spec::payload::v1::Complexity;

use crate::exposition::{Labels, Sample};
use crate::models::request::{Tags, Word};

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Count {
    /// Requests that were answered.
    Requests,
    /// Input tokens.
    Input,
    /// Input tokens that came from a cache and are not among the others.
    Cached,
    /// Output tokens.
    Output,
    /// Energy of a processor; the sample is in joules and counts as microjoules.
    Energy,
}

impl Count {
    /// Each, with its letter in checkpoints.
    pub(super) const ALL: [(Self, char); 5] = [
        (Self::Requests, 'r'),
        (Self::Input, 'i'),
        (Self::Cached, 'c'),
        (Self::Output, 'o'),
        (Self::Energy, 'e'),
    ];
}

/// What one sample means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// What it counts.
    pub(crate) count: Count,
    /// Of several names for one thing on a page, only those of the lowest rank count.
    pub(crate) rank: u8,
    /// Whose it is.
    pub(crate) model: Option<Word>,
    /// How the tasks were tagged.
    pub(crate) tags: Tags,
}

/// What a table wants of a page, where a page has more than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The models that callers ask for; a model that is made of others counts its requests, and so does each of its
    /// parts. Without any all are counted: right where no model is made of others.
    pub(crate) models: BTreeSet<Word>,
    /// Whether energy is; not where somebody else measures it.
    pub(crate) has_energy: bool,
}

/// One kind of server, as far as its page of metrics goes.
pub(crate) trait Dialect: Send + Sync {
    /// What a sample counts; nothing for all that is not read.
    fn meaning(&self, sample: &Sample<'_>) -> Option<Meaning>;

    /// The path of the API, where a sample says that requests came in there.
    fn path(&self, _sample: &Sample<'_>) -> Option<Word> {
        None
    }

    /// Whether tokens from a cache are counted apart, so that input tokens are only whole with them.
    fn counts_cached_apart(&self) -> bool {
        false
    }

    /// Whether all counters of a page begin anew together, as those of one process do.
    fn is_one_process(&self) -> bool {
        true
    }

    /// Whether a page says no model, so that the server must be asked for it.
    fn lacks_models(&self) -> bool {
        false
    }

    /// What to do when a page has none of the counters.
    fn when_empty(&self) -> &'static str;

    /// What this source can never tell, for a person.
    fn remark(&self) -> Option<&'static str> {
        None
    }
}

/// The name of a sample without one of the prefixes of its server, and the rank of the prefix: the last is for names
/// without any.
pub(crate) fn strip<'a>(name: &'a str, prefixes: &[&str]) -> Option<(&'a str, u8)> {
    (0_u8..)
        .zip(prefixes)
        .find_map(|(rank, prefix)| Some((name.strip_prefix(prefix)?, rank)))
}

/// The value of a label, if it is a name.
pub(crate) fn word(labels: Labels<'_>, name: &str) -> Option<Word> {
    Word::new(labels.get(name)?.to_cow().as_bytes())
}

/// The labels `task_type` and `complexity`, which some servers can be told to add.
pub(crate) fn tags(labels: Labels<'_>) -> Tags {
    let complexity = labels.get("complexity").and_then(|text| {
        [
            ("routine", Complexity::Routine),
            ("frontier", Complexity::Frontier),
        ]
        .into_iter()
        .find_map(|(name, complexity)| text.is(name).then_some(complexity))
    });
    Tags {
        task_type: word(labels, "task_type"),
        complexity,
    }
}
