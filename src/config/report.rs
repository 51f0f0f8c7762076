//! Everything that is wrong with a configuration, drawn as the compiler draws it.
//!
//! Promises: each problem names file, line and column and shows the line with a caret; problems come in the
//! order of the files. Refuses: showing a secret; the texts are masked before anything is drawn.

use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::files::{FileError, Files, Place};
use super::mask;

/// More problems than this are counted and not shown: the first ones explain the rest.
pub const PROBLEMS_MAX: usize = 50;

/// Columns of a drawn problem; a longer line is cut around the caret.
const COLUMNS: usize = 120;

/// Why a configuration was not accepted: every problem that was found.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    files: Files,
    problems: Vec<Problem>,
    dropped: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    message: String,
    label: String,
    help: Vec<String>,
    span: Option<Range<usize>>,
    place: Option<Place>,
}

/// Collects problems while the configuration is read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    dropped: usize,
}

impl Problem {
    /// A problem at a place.
    pub(super) fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            span: Some(span),
            ..Self::nowhere(message)
        }
    }

    /// A problem without a place, for example a file that is not there.
    pub(super) fn nowhere(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            label: String::new(),
            help: Vec::new(),
            span: None,
            place: None,
        }
    }

    /// Adds what stands beside the caret.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds what the reader can do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// What is wrong, in one sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.help
    }

    /// Where it is wrong; nothing when no line of a file is at fault.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    fn scrub(&mut self) {
        self.message = mask::scrubbed(&self.message);
        self.label = mask::scrubbed(&self.label);
        for help in &mut self.help {
            *help = mask::scrubbed(help);
        }
    }
}

impl Problems {
    /// Notes one more problem.
    pub(super) fn push(&mut self, problem: Problem) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(problem);
        } else {
            self.dropped += 1;
        }
    }

    /// Notes a file that cannot be used.
    pub(super) fn unreadable(&mut self, error: &FileError) {
        let mut message = error.to_string();
        if let Some(cause) = error.source() {
            message = format!("{message}: {cause}");
        }
        self.push(Problem::nowhere(message).help(error.hint()));
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The report, in the order of the files. `files` must be masked.
    pub(super) fn into_errors(mut self, files: Files) -> ConfigErrors {
        for problem in &mut self.found {
            problem.scrub();
            problem.place = problem.span.as_ref().and_then(|s| files.place(s.start));
        }
        self.found
            .sort_by_key(|p| p.span.as_ref().map_or(usize::MAX, |s| s.start));
        ConfigErrors {
            files,
            problems: self.found,
            dropped: self.dropped,
        }
    }
}

impl ConfigErrors {
    /// The problems, in the order of the files.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The whole report as lines of text, with colours for a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        }
        .term_width(COLUMNS);
        let mut text = String::new();
        for problem in &self.problems {
            text.push_str(&self.draw(problem, &renderer));
            text.push_str("\n\n");
        }
        let count = self.problems.len() + self.dropped;
        let noun = if count == 1 { "problem" } else { "problems" };
        let shown = if self.dropped == 0 {
            String::new()
        } else {
            format!(", the first {} are shown", self.problems.len())
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "the configuration has {count} {noun}{shown}");
        text
    }

    fn draw(&self, problem: &Problem, renderer: &Renderer) -> String {
        let title = Level::ERROR.primary_title(problem.message.as_str());
        let text = problem
            .span
            .as_ref()
            .and_then(|s| Some((s, self.files.text_at(s.start)?)));
        let mut group = match text {
            Some((_, text)) if text.content.is_empty() => {
                title.element(Origin::path(text.name.as_str()).line(1).char_column(1))
            }
            Some((span, text)) => {
                let mut caret = AnnotationKind::Primary.span(text.first_line(span));
                if !problem.label.is_empty() {
                    caret = caret.label(problem.label.as_str());
                }
                title.element(
                    Snippet::source(text.content.as_str())
                        .path(text.name.as_str())
                        .annotation(caret),
                )
            }
            None => Group::with_title(title),
        };
        for help in &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(content: &str) -> Files {
        let mut files = Files::default();
        files.add("config.toml".to_owned(), content.to_owned());
        files
    }

    #[test]
    fn a_problem_shows_its_line_and_the_place_in_it() {
        let mut problems = Problems::default();
        problems.push(Problem::at(6..9, "no such key").help("try `abc`"));
        let errors = problems.into_errors(files("a = 1\nabd = 2\n"));
        let text = errors.to_string();
        assert!(text.contains("config.toml:2:1"), "{text}");
        assert!(text.contains("abd = 2\n"), "{text}");
        assert!(text.contains("^^^"), "{text}");
        assert!(text.contains("try `abc`"), "{text}");
    }

    #[test]
    fn problems_beyond_the_bound_are_counted() {
        let mut problems = Problems::default();
        for _ in 0..PROBLEMS_MAX + 7 {
            problems.push(Problem::at(0..1, "wrong"));
        }
        let errors = problems.into_errors(files("a = 1"));
        assert_eq!(errors.problems().len(), PROBLEMS_MAX);
        let text = errors.to_string();
        assert!(
            text.ends_with("has 57 problems, the first 50 are shown"),
            "{text}"
        );
    }

    #[test]
    fn no_span_breaks_the_drawing() {
        for content in ["", "\n", "ä", "a = [\n1,\n2]\n"] {
            for span in [0..0, 0..1, 3..9, 90..99] {
                let mut problems = Problems::default();
                problems.push(Problem::at(span, "wrong"));
                assert!(
                    problems
                        .into_errors(files(content))
                        .to_string()
                        .contains("wrong")
                );
            }
        }
    }
}
