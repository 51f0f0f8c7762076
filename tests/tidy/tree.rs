//! The source tree in memory, and Rust text without its comments and strings.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files whose text the rules read; of all others only the path is known.
const TEXTS: [&str; 3] = ["rs", "md", "toml"];

/// Paths, separated by `/` and relative to the root, with their texts.
pub(crate) struct Tree(BTreeMap<String, String>);

impl Tree {
    /// Reads the repository. Cargo runs a test in the folder of its package, which is the root here.
    pub(crate) fn of_this_repository() -> Self {
        let mut files = BTreeMap::new();
        collect(Path::new("."), "", &mut files);
        assert!(
            files.contains_key("Cargo.toml"),
            "this test runs in the root of the repository"
        );
        Self(files)
    }

    /// A tree for showing what a rule finds.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self(
            files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .collect(),
        )
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there is such a file or folder.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty() || self.0.contains_key(path) || self.paths().any(|p| p.starts_with(&folder))
    }

    /// The files with this extension, with their texts.
    pub(crate) fn with_extension(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        let end = format!(".{extension}");
        self.0
            .iter()
            .filter(move |(path, _)| path.ends_with(&end))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_extension("rs")
    }
}

/// The line, counted from one, in which this byte stands.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Rust text with comments and the insides of strings blanked; every byte keeps its place.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut kept = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped(bytes, at);
        for byte in kept.get_mut(at..end).unwrap_or_default() {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The code of a file without the test module at its end.
pub(crate) fn code_without_tests(text: &str) -> String {
    let mut code = code(text);
    if let Some(at) = code.find("#[cfg(test)]\nmod tests {") {
        code.truncate(at);
    }
    code
}

/// Where whatever is no code and begins here ends; the same place if code begins here.
fn skipped(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let before = at
        .checked_sub(1)
        .and_then(|i| bytes.get(i))
        .copied()
        .unwrap_or(b' ');
    let in_word = before.is_ascii_alphanumeric() || before == b'_';
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'"', ..] => at + quoted(rest),
        [b'r', b'"' | b'#', ..] if !in_word || before == b'b' => at + raw_string(rest),
        [b'\'', b'\\', ..] => {
            at + 2 + rest.iter().skip(3).position(|b| *b == b'\'').unwrap_or(0) + 2
        }
        [b'\'', _, b'\'', ..] => at + 3,
        _ => at,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        match rest.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8]) -> usize {
    let mut escaped = true; // the opening quote ends nothing
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|b| **b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end: Vec<u8> = std::iter::once(b'"')
        .chain(std::iter::repeat_n(b'#', hashes))
        .collect();
    let body = rest.get(2 + hashes..).unwrap_or_default();
    let found = body.windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |at| 2 + hashes + at + end.len())
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder)
        .expect("the folder can be read")
        .flatten()
    {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let built = prefix.is_empty() && (name == ".git" || name.starts_with("target"));
        if built || path.is_symlink() {
            continue;
        }
        let inside = format!("{prefix}{name}");
        if path.is_dir() {
            collect(&path, &format!("{inside}/"), files);
            continue;
        }
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let wanted = TEXTS.contains(&extension);
        let text = if wanted {
            fs::read_to_string(&path).unwrap_or_default()
        } else {
            String::new()
        };
        files.insert(inside, text);
    }
}

#[test]
fn comments_and_strings_are_no_code() {
    let text = "a // b\nc /* d /* e */ f */ g \"h\\\"i\" r#\"j\"k\"# 'l' '\\'' '\\u{1F}' &'m x";
    let code = code(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(
        code.split_whitespace().collect::<Vec<_>>(),
        ["a", "c", "g", "&'m", "x"]
    );
    assert_eq!(line_of(text, text.find('g').unwrap()), 2);
}

#[test]
fn tests_at_the_end_are_left_out() {
    let text = "use a;\n#[cfg(test)]\nmod tests {\n    use b;\n}\n";
    assert_eq!(code_without_tests(text), "use a;\n");
}
