//! What kind of task a request was: by an explicit tag, then by a configured rule, then by the path's class.
//!
//! The content of a request is never an input: it is in no type here.

use std::fmt;

use cms_spec::payload::v1::Complexity;

use crate::models::request::{Route, Tags, Word};

/// What a request is, and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) task_type: String,
    pub(super) complexity: Complexity,
    pub(super) by: By,
}

/// What decided a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// An explicit tag.
    Tag,
    /// The rule of this number, from 1.
    Rule(usize),
    /// What the API's path is for.
    Path,
    /// Nothing.
    Nothing,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag => f.write_str("tags"),
            Self::Rule(number) => write!(f, "rule {number}"),
            Self::Path => f.write_str("the path"),
            Self::Nothing => f.write_str("nothing (unclassified)"),
        }
    }
}

/// One `[[models.rule]]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) source: Option<String>,
    pub(super) path: Option<Pattern>,
    pub(super) key: Option<Pattern>,
    pub(super) model: Option<Pattern>,
    pub(super) adapter: Option<Pattern>,
    pub(super) task_type: Option<Word>,
    pub(super) complexity: Complexity,
}

/// A name, or the beginning of names: `chat-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: Word,
    is_beginning: bool,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Option<Self> {
        let (text, is_beginning) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (text, false),
        };
        Some(Self {
            text: Word::new(text.as_bytes())?,
            is_beginning,
        })
    }

    /// Whether it matches every name that the other one does.
    fn covers(&self, other: &Self) -> bool {
        if self.is_beginning {
            other.text.as_str().starts_with(self.text.as_str())
        } else {
            self == other
        }
    }

    /// Whether it begins as a path of a file does.
    pub(super) fn is_path(&self) -> bool {
        self.text.as_str().starts_with('/')
    }

    fn matches(&self, name: Option<&Word>) -> bool {
        let Some(name) = name else { return false };
        if self.is_beginning {
            name.as_str().starts_with(self.text.as_str())
        } else {
            name == &self.text
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.is_beginning { "*" } else { "" };
        write!(f, "\"{}{end}\"", self.text)
    }
}

/// As its table says it: `{ path = "/v1/chat/*" }: summarization, frontier`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = [
            (
                "source",
                self.source.as_ref().map(|name| format!("\"{name}\"")),
            ),
            ("path", self.path.as_ref().map(Pattern::to_string)),
            ("key", self.key.as_ref().map(Pattern::to_string)),
            ("model", self.model.as_ref().map(Pattern::to_string)),
            ("adapter", self.adapter.as_ref().map(Pattern::to_string)),
        ];
        let said = |(key, value): (&str, Option<String>)| Some(format!("{key} = {}", value?));
        let said: Vec<String> = keys.into_iter().filter_map(said).collect();
        write!(f, "{{ {} }}: ", said.join(", "))?;
        if let Some(task) = &self.task_type {
            write!(f, "{task}, ")?;
        }
        f.write_str(match self.complexity {
            Complexity::Frontier => "frontier",
            Complexity::Routine => "routine",
            Complexity::Unclassified => UNCLASSIFIED,
        })
    }
}

impl Rule {
    /// Whether it matches everything that the other one does.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let one = |own: &Option<Pattern>, others: &Option<Pattern>| match (own, others) {
            (None, _) => true,
            (Some(own), Some(other)) => own.covers(other),
            (Some(_), None) => false,
        };
        (self.source.is_none() || self.source == other.source)
            && one(&self.path, &other.path)
            && one(&self.key, &other.key)
            && one(&self.model, &other.model)
            && one(&self.adapter, &other.adapter)
    }

    fn matches(&self, source: &str, model: Option<&Word>, route: &Route) -> bool {
        let one = |pattern: &Option<Pattern>, name: Option<&Word>| {
            pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
        };
        self.source.as_ref().is_none_or(|wanted| wanted == source)
            && one(&self.path, route.path.as_ref())
            && one(&self.key, route.key.as_ref())
            && one(&self.model, model)
            && one(&self.adapter, route.adapter.as_ref())
    }
}

/// Paths that say what a request is for. Embeddings and rankings need no frontier model.
const PATHS: [(&str, &str, Complexity); 8] = [
    ("/embed", "embedding", Complexity::Routine),
    ("/rerank", "ranking", Complexity::Routine),
    ("/score", "ranking", Complexity::Routine),
    ("/classify", "classification", Complexity::Routine),
    ("/moderations", "moderation", Complexity::Routine),
    ("/transcriptions", "transcription", Complexity::Routine),
    ("/translations", "translation", Complexity::Routine),
    ("/infill", "code_completion", Complexity::Unclassified),
];

/// The task of a request that says nothing.
const UNCLASSIFIED: &str = "unclassified";

/// What a request is.
///
/// Task and complexity are decided apart: a tag may say one and a rule the other. `by` names what decided the
/// complexity, which is what figures depend on.
pub(super) fn classify(
    rules: &[Rule],
    source: &str,
    model: Option<&Word>,
    tags: &Tags,
    route: &Route,
) -> Class {
    let rule = rules
        .iter()
        .enumerate()
        .find(|(_, rule)| rule.matches(source, model, route));
    let path = route.path.as_ref().and_then(|path| {
        let beginning = PATHS
            .iter()
            .find(|(part, _, _)| has_part(path.as_str(), part));
        beginning.map(|(_, task, complexity)| (*task, *complexity))
    });
    let task_type = match (&tags.task_type, rule, path) {
        (Some(task), _, _) => task.as_str(),
        (None, Some((_, rule)), _) if rule.task_type.is_some() => {
            rule.task_type.as_ref().map_or(UNCLASSIFIED, Word::as_str)
        }
        (None, _, Some((task, _))) => task,
        (None, _, None) => UNCLASSIFIED,
    };
    let (complexity, by) = match (tags.complexity, rule, path) {
        (Some(complexity), _, _) => (complexity, By::Tag),
        (None, Some((number, rule)), _) => (rule.complexity, By::Rule(number + 1)),
        (None, None, Some((_, Complexity::Unclassified))) | (None, None, None) => {
            (Complexity::Unclassified, By::Nothing)
        }
        (None, None, Some((_, complexity))) => (complexity, By::Path),
    };
    Class {
        task_type: task_type.to_owned(),
        complexity,
        by,
    }
}

/// Whether a path has a segment that begins like this, for example `/embed` in `/v1/embeddings`.
fn has_part(path: &str, part: &str) -> bool {
    path.match_indices('/')
        .filter_map(|(at, _)| path.get(at..))
        .any(|rest| rest.starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Option<Word> {
        Some(Word::new(text.as_bytes()).expect("a word"))
    }

    fn route(path: &str) -> Route {
        Route {
            path: word(path),
            ..Route::default()
        }
    }

    fn rule(path: &str, task: Option<&str>, complexity: Complexity) -> Rule {
        Rule {
            source: None,
            path: Pattern::new(path),
            key: None,
            model: None,
            adapter: None,
            task_type: task.and_then(word),
            complexity,
        }
    }

    #[test]
    fn tags_come_before_rules_and_rules_before_paths() {
        let rules = [
            rule("/v1/chat/*", Some("summarization"), Complexity::Frontier),
            rule("/v1/*", None, Complexity::Frontier),
        ];
        let tags = Tags {
            task_type: None,
            complexity: Some(Complexity::Routine),
        };
        let chat = classify(&rules, "s", None, &tags, &route("/v1/chat/completions"));
        assert_eq!(
            (chat.task_type.as_str(), chat.complexity, chat.by),
            ("summarization", Complexity::Routine, By::Tag)
        );
        let none = Tags::default();
        let chat = classify(&rules, "s", None, &none, &route("/v1/chat/completions"));
        assert_eq!(
            (chat.complexity, chat.by),
            (Complexity::Frontier, By::Rule(1))
        );
        let embeds = classify(&rules, "s", None, &none, &route("/v1/embeddings"));
        assert_eq!(
            (embeds.task_type.as_str(), embeds.by),
            ("embedding", By::Rule(2))
        );
        let embeds = classify(&[], "s", None, &none, &route("/v1/embeddings"));
        assert_eq!(
            (embeds.complexity, embeds.by),
            (Complexity::Routine, By::Path)
        );
        let other = classify(&[], "s", None, &none, &route("/v1/completions"));
        assert_eq!(
            (other.task_type.as_str(), other.complexity, other.by),
            ("unclassified", Complexity::Unclassified, By::Nothing)
        );
    }

    #[test]
    fn a_rule_says_itself_and_covers_what_is_narrower() {
        let mut wide = rule("/v1/*", None, Complexity::Frontier);
        let narrow = rule("/v1/chat/*", Some("summarization"), Complexity::Routine);
        assert_eq!(wide.to_string(), "{ path = \"/v1/*\" }: frontier");
        assert_eq!(
            narrow.to_string(),
            "{ path = \"/v1/chat/*\" }: summarization, routine"
        );
        assert!(wide.covers(&narrow) && wide.covers(&wide));
        assert!(!narrow.covers(&wide));
        wide.source = Some("chat".to_owned());
        assert!(!wide.covers(&narrow));
        let exact = rule("/v1/", None, Complexity::Routine);
        assert!(!exact.covers(&narrow) && !exact.covers(&rule("/v1/*", None, Complexity::Routine)));
    }

    #[test]
    fn a_rule_matches_only_when_all_that_it_names_does() {
        let mut one = rule("/v1/chat/*", None, Complexity::Routine);
        one.model = Pattern::new("qwen*");
        one.key = Pattern::new("support");
        let none = Tags::default();
        let mut route = route("/v1/chat/completions");
        let model = word("qwen3:8b");
        let by = |route: &Route, model: Option<&Word>| {
            classify(std::slice::from_ref(&one), "s", model, &none, route).by
        };
        assert_eq!(by(&route, model.as_ref()), By::Nothing, "no key");
        route.key = word("support");
        assert_eq!(by(&route, model.as_ref()), By::Rule(1));
        assert_eq!(by(&route, word("llama3").as_ref()), By::Nothing);
        assert_eq!(by(&route, None), By::Nothing);
    }
}
