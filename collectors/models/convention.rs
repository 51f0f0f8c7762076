//! Tags in a request's id: `<task>.<complexity>.<anything unique>`.
//!
//! Every server that takes an id from its caller can carry these, and an id is never user text.

use cms_spec::payload::v1::Complexity;

use super::request::{Tags, Word};

/// Longest name of a task in an id.
const TASK_MAX: usize = 40;

/// The tags in an id, if it follows the convention; otherwise none.
pub(crate) fn tags(id: &[u8]) -> Tags {
    let mut parts = id.splitn(3, |byte| *byte == b'.');
    let (task, word, unique) = (parts.next(), parts.next(), parts.next());
    let task = task.filter(|task| {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
        (1..=TASK_MAX).contains(&task.len()) && task.iter().all(allowed)
    });
    match (task.and_then(Word::new), word.and_then(complexity), unique) {
        (Some(task), Some(complexity), Some([_, ..])) => Tags {
            task_type: Some(task),
            complexity: Some(complexity),
        },
        _ => Tags::default(),
    }
}

/// What the two words of the specification mean; nobody tags a request as unclassified.
pub(crate) fn complexity(word: &[u8]) -> Option<Complexity> {
    match word {
        b"routine" => Some(Complexity::Routine),
        b"frontier" => Some(Complexity::Frontier),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_the_convention_are_tags() {
        let found = tags(b"classification.routine.7f9c24e8-3b12-4fef-91e0-5d3d0d7a3c11");
        assert_eq!(found.task_type.unwrap().as_str(), "classification");
        assert_eq!(found.complexity, Some(Complexity::Routine));
        assert_eq!(
            tags(b"code.frontier.1.2").complexity,
            Some(Complexity::Frontier)
        );
        for id in [
            "",
            "7f9c24e8",
            "a.routine",
            "a.routine.",
            ".routine.1",
            "a.easy.1",
            "a b.routine.1",
            "a/b.routine.1",
        ] {
            assert_eq!(tags(id.as_bytes()), Tags::default(), "{id}");
        }
    }
}
