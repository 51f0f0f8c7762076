//! What servers tell about requests to models: metadata, in types that cannot hold a sentence.

use std::fmt;

use cms_spec::payload::v1::Complexity;
use cms_spec::units::Microjoules;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A name of a few characters: a model, a task, a request's id, the alias of a key.
///
/// It has letters, digits and `._:/@+-` and no spaces, so that no sentence fits into it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Word(Box<str>);

impl Word {
    /// Longest name that is taken. Model names with their path have less than a hundred characters.
    pub(crate) const BYTES_MAX: usize = 128;

    /// The name, if the text is one.
    pub(crate) fn new(text: &[u8]) -> Option<Self> {
        let allowed = |byte: &u8| Self::allows(*byte);
        let right = (1..=Self::BYTES_MAX).contains(&text.len()) && text.iter().all(allowed);
        let text = std::str::from_utf8(text).ok().filter(|_| right)?;
        Some(Self(text.into()))
    }

    /// Whether a name may have this byte.
    pub(crate) const fn allows(byte: u8) -> bool {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b':' | b'/' | b'@' | b'+' | b'-')
    }

    /// The name of a model whose server names it by its place: the file's alone, because paths stay on the host.
    pub(crate) fn without_folder(self) -> Self {
        let path = self
            .0
            .strip_prefix('/')
            .map(|path| path.trim_end_matches('/'));
        match path.and_then(|path| path.rsplit('/').next()) {
            Some(name) if !name.is_empty() => Self(name.into()),
            _ => self,
        }
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Word> for String {
    fn from(word: Word) -> Self {
        word.0.into()
    }
}

impl TryFrom<String> for Word {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text.as_bytes()).ok_or("it is no name")
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What somebody said explicitly about the kind of task.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tags {
    /// For example `classification`.
    pub(crate) task_type: Option<Word>,
    /// Whether a small model would do.
    pub(crate) complexity: Option<Complexity>,
}

/// What rules may look at besides tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Route {
    /// The path of the API without its query, for example `/v1/embeddings`.
    pub(crate) path: Option<Word>,
    /// The alias of the caller's key, its project or workspace; never the key itself.
    pub(crate) key: Option<Word>,
    /// The LoRA adapter.
    pub(crate) adapter: Option<Word>,
}

/// One request, as its server told it. What it did not tell is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// The server's id of it; it leaves the host as a salted hash only.
    pub(crate) id: Option<Word>,
    /// When it was answered; without it, when it was read.
    pub(crate) at: Option<Timestamp>,
    /// The model that served it.
    pub(crate) model: Option<Word>,
    /// All input tokens, cached ones too.
    pub(crate) input_tokens: Option<u64>,
    /// Output tokens.
    pub(crate) output_tokens: Option<u64>,
    /// Both together, where only that is told.
    pub(crate) total_tokens: Option<u64>,
    /// From request to last token.
    pub(crate) duration_ms: Option<u64>,
    /// What it used, where its server measured that.
    pub(crate) energy: Option<Microjoules>,
    /// How the task was tagged.
    pub(crate) tags: Tags,
    /// Where it came in.
    pub(crate) route: Route,
}

/// Requests that a server tells only the sum of, over a span that ends now or at `at`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// When the span ended; without it, when it was read.
    pub(crate) at: Option<Timestamp>,
    /// The model that served them.
    pub(crate) model: Option<Word>,
    /// How many; `None` where the server counts tokens alone.
    pub(crate) requests: Option<u64>,
    /// All input tokens, cached ones too.
    pub(crate) input_tokens: Option<u64>,
    /// Output tokens.
    pub(crate) output_tokens: Option<u64>,
    /// How the tasks were tagged.
    pub(crate) tags: Tags,
    /// Where they came in.
    pub(crate) route: Route,
}

/// How the size of a model is known, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SizeFrom {
    /// The configuration says it.
    Configured,
    /// The server counted its parameters.
    Counted,
    /// The server says it rounded, for example `3.2B`.
    Rounded,
    /// The model's name says it.
    Name,
}

impl SizeFrom {
    /// For a person.
    pub(crate) const fn in_words(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Counted => "counted by the server",
            Self::Rounded => "rounded by the server",
            Self::Name => "by its name",
        }
    }
}

/// What a server says about one of its models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelFacts {
    /// The name that requests carry.
    pub(crate) name: Word,
    /// All parameters, also the inactive ones of a mixture of experts.
    pub(crate) parameters: u64,
    /// How that is known.
    pub(crate) from: SizeFrom,
}

/// Energy that the processors of a server used since the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// How much.
    pub(crate) energy: Microjoules,
    /// Over how long, in milliseconds; it ends now.
    pub(crate) over_ms: u64,
}
