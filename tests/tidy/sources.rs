//! Rules about every Rust file: length, first line, nothing left for later, no lint silenced without a reason.

use super::tree::{Tree, code, line_of};

/// Longest file. What is longer has two jobs.
const LINES_MAX: usize = 600;

/// Words that promise to come back. Written in two halves, because this file is read too.
const UNFINISHED: [&str; 7] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("un", "implemented!"),
    concat!("#[", "ignore"),
    concat!("place", "holder"),
];

/// Newtypes over integers cast on every line; the reason stands once, at the top of the file.
const CASTS_FREELY: &str = "spec/units.rs";

/// A file has at most [`LINES_MAX`] lines.
pub(crate) fn short(tree: &Tree) -> Vec<String> {
    tree.rust()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| {
            format!("{path}:{lines}: more than {LINES_MAX} lines; split it by jobs")
        })
        .collect()
}

/// A file says in its first line what it is.
pub(crate) fn introduced(tree: &Tree) -> Vec<String> {
    tree.rust()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| format!("{path}:1: does not begin with //! and what the file is for"))
        .collect()
}

/// No source promises to be finished later.
pub(crate) fn finished(tree: &Tree) -> Vec<String> {
    let sources = tree.rust().chain(tree.with_extension("toml"));
    let mut broken = Vec::new();
    for (path, text) in sources {
        for (number, line) in text.lines().enumerate() {
            for word in UNFINISHED.iter().filter(|word| stands_alone(line, word)) {
                broken.push(format!(
                    "{path}:{}: {word:?}; do it or write a decision",
                    number + 1
                ));
            }
        }
    }
    broken
}

/// A lint is silenced with a reason.
pub(crate) fn silenced(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in tree.rust().filter(|(path, _)| *path != CASTS_FREELY) {
        let code = code(text);
        for opening in ["[allow(", "[expect("] {
            for (at, _) in code.match_indices(opening) {
                let attribute = code.get(at..).unwrap_or_default();
                let end = attribute.find(")]").unwrap_or(attribute.len());
                if !attribute
                    .get(..end)
                    .is_some_and(|inside| inside.contains("reason ="))
                {
                    let line = line_of(&code, at);
                    broken.push(format!(
                        "{path}:{line}: silences a lint without reason = \"…\""
                    ));
                }
            }
        }
    }
    broken
}

/// Whether the word stands in the line, and not as a part of a longer one.
fn stands_alone(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|l| l.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|l| l.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[test]
fn each_rule_finds_its_violation() {
    let long = "//! x\n".repeat(LINES_MAX + 1);
    let later = format!("//! x\n// {}: y\n", UNFINISHED[0]);
    let tree = Tree::of(&[
        ("a.rs", &long),
        ("b.rs", "fn b() {}\n"),
        ("c.rs", &later),
        ("d.rs", "//! d\n#[allow(dead_code)]\nfn d() {}\n"),
        (
            "e.rs",
            "//! e\n#[expect(\n    dead_code,\n    reason = \"y\"\n)]\nfn e() {}\n",
        ),
        ("f.rs", "//! A mnemonic is no such word.\n"),
    ]);
    assert_eq!(short(&tree).len(), 1);
    assert_eq!(
        introduced(&tree),
        ["b.rs:1: does not begin with //! and what the file is for"]
    );
    assert!(finished(&tree)[0].starts_with("c.rs:2: ") && finished(&tree).len() == 1);
    assert_eq!(
        silenced(&tree),
        ["d.rs:2: silences a lint without reason = \"…\""]
    );
}
