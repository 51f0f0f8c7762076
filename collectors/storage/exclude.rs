//! Names and paths that a scan leaves out: `*` and `?` over bytes, nothing more.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// More patterns than anybody writes by hand.
const PATTERNS_MAX: usize = 1000;

/// A pattern of `exclude`.
///
/// Without a slash it is for a name at any depth, with one for a path below the root. `*` and `?`
/// stand for bytes other than `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: Vec<u8>,
    is_path: bool,
}

/// A pattern that cannot match anything.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} excludes nothing: write a name such as \"*.tmp\" or a path below the root such as \
     \"var/cache\""
)]
pub(super) struct UselessPattern(String);

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, UselessPattern> {
        let path = text.trim_matches('/');
        if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(UselessPattern(text.to_owned()));
        }
        Ok(Self {
            text: path.as_bytes().to_vec(),
            is_path: text.trim_end_matches('/').contains('/'),
        })
    }

    /// Whether an entry is left out, by its name and its path below the root.
    pub(super) fn matches(&self, name: &[u8], path: &[u8]) -> bool {
        glob(&self.text, if self.is_path { path } else { name })
    }
}

/// Reads the patterns of `exclude`.
pub(super) fn patterns<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Pattern>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.len() > PATTERNS_MAX {
        return Err(D::Error::custom(format_args!(
            "there are more than {PATTERNS_MAX} patterns"
        )));
    }
    texts
        .iter()
        .map(|text| Pattern::new(text).map_err(D::Error::custom))
        .collect()
}

/// Matches in linear space and without recursion: the last star takes one byte more after each
/// mismatch.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(p) if *p == text[read] || (*p == b'?' && text[read] != b'/') => {
                at += 1;
                read += 1;
            }
            _ => match star {
                Some((star_at, taken)) if text[taken] != b'/' => {
                    at = star_at + 1;
                    read = taken + 1;
                    star = Some((star_at, read));
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|p| *p == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves_out(pattern: &str, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default();
        Pattern::new(pattern)
            .unwrap()
            .matches(name.as_bytes(), path.as_bytes())
    }

    #[test]
    fn names_match_at_any_depth_and_paths_from_the_root() {
        for (pattern, path) in [
            ("*.tmp", "a.tmp"),
            ("*.tmp", "deep/down/a.tmp"),
            ("node_modules", "x/node_modules"),
            ("var/cache", "var/cache"),
            ("/cache", "cache"),
            ("home/*/.cache", "home/ann/.cache"),
            ("a?c", "abc"),
            ("*", "anything"),
            ("*a*b", "xxaxxbxb"),
        ] {
            assert!(leaves_out(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.tmp", "a.tmp2"),
            ("var/cache", "x/var/cache"),
            ("/cache", "x/cache"),
            ("home/*/.cache", "home/ann/x/.cache"),
            ("a?c", "ac"),
            ("", "x"),
        ] {
            assert!(
                Pattern::new(pattern).is_err() || !leaves_out(pattern, path),
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn useless_patterns_are_refused() {
        for useless in ["", "/", "..", "a/../b", "a//b", "./a"] {
            assert!(Pattern::new(useless).is_err(), "{useless}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_a_star_matches_every_name(name in "[a-z.]{1,12}") {
            prop_assert!(glob(name.as_bytes(), name.as_bytes()));
            prop_assert!(glob(b"*", name.as_bytes()));
            let middle = format!("*{}*", &name[name.len() / 2..]);
            prop_assert!(glob(middle.as_bytes(), name.as_bytes()));
        }
    }
}
