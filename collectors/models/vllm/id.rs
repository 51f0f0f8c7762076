//! The id that vLLM gives a request: the caller's own within one of the server.

use crate::models::convention::tags;
use crate::models::request::{Tags, Word};

/// Which endpoints share a beginning of ids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
    Embedding,
    Other,
}

impl Kind {
    pub(super) fn of_path(path: &[u8]) -> Self {
        match path {
            b"/v1/chat/completions" => Self::Chat,
            b"/v1/completions" => Self::Completion,
            b"/v1/embeddings" => Self::Embedding,
            _ => Self::Other,
        }
    }
}

/// The id that vLLM makes of the caller's: `chatcmpl-` before it, and behind it which of several prompts it is.
pub(crate) struct Id<'a>(pub(crate) &'a Word);

impl<'a> Id<'a> {
    /// Digits of the number of a prompt; the last part of a UUID has twelve characters.
    const NUMBER_MAX: usize = 4;

    /// Which endpoints it can be of.
    pub(super) fn kind(&self) -> Kind {
        match self.0.as_str().split_once('-') {
            Some(("chatcmpl", _)) => Kind::Chat,
            Some(("cmpl", _)) => Kind::Completion,
            Some(("embd", _)) => Kind::Embedding,
            _ => Kind::Other,
        }
    }

    /// The path that its beginning stands for; nothing for those of several paths.
    pub(crate) fn path(&self) -> &'static [u8] {
        match self.kind() {
            Kind::Chat => b"/v1/chat/completions",
            Kind::Completion => b"/v1/completions",
            Kind::Embedding => b"/v1/embeddings",
            Kind::Other => b"",
        }
    }

    /// The caller's own id.
    pub(super) fn own(&self) -> &'a [u8] {
        let text = self.0.as_str();
        let own = text.split_once('-').map_or(text, |(_, own)| own);
        self.split(own).map_or(own, |(own, _)| own).as_bytes()
    }

    /// The tags in the caller's own id.
    pub(super) fn tags(&self) -> Tags {
        tags(self.own())
    }

    /// The tags in the caller's own id, if vLLM made this one; otherwise it may be the caller's as it is.
    pub(crate) fn tags_of_any(&self) -> Tags {
        match self.kind() {
            Kind::Other => tags(self.0.as_str().as_bytes()),
            _ => self.tags(),
        }
    }

    /// Whether it is the first prompt of its request, or the only one.
    pub(super) fn is_first(&self) -> bool {
        self.split(self.0.as_str())
            .is_none_or(|(_, number)| number == "0")
    }

    fn split<'b>(&self, text: &'b str) -> Option<(&'b str, &'b str)> {
        let (own, number) = text.rsplit_once('-')?;
        let is_number = (1..=Self::NUMBER_MAX).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit());
        let has_number = matches!(self.kind(), Kind::Completion | Kind::Embedding);
        (is_number && has_number).then_some((own, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_are_those_of_the_callers_own_id() {
        let of = |text: &str| {
            let id = Word::new(text.as_bytes()).unwrap();
            let task = Id(&id).tags().task_type;
            task.map(|task| task.as_str().to_owned())
        };
        for id in [
            "chatcmpl-code-review.routine.7f9c24e8",
            "cmpl-code-review.routine.7f9c24e8-0",
            "embd-code-review.routine.7f9c24e8-12",
            "score-code-review.routine.7f9c24e8",
        ] {
            assert_eq!(of(id).as_deref(), Some("code-review"), "{id}");
        }
        for id in ["chatcmpl-8f0d3c52a1b94f6e", "resp_68.x", "chatcmpl-", "-"] {
            assert_eq!(of(id), None, "{id}");
        }
    }
}
