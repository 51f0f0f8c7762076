//! Names of files: patterns of the configuration, and what rotation calls the files that it puts aside.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::packed::Packing;

/// Entries of one directory that are looked at; a log directory has a few hundred.
pub(super) const ENTRIES_MAX: usize = 10_000;

/// Whether a path has wildcards.
pub(super) fn is_pattern(path: &Path) -> bool {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .any(|byte| matches!(byte, b'*' | b'?'))
}

/// The paths that a pattern leads to, in their order, and whether there are more than `most`; then those that
/// changed last.
///
/// A rotated file of another path is not one of them, nor is a compressed one.
pub(super) fn expand(pattern: &Path, most: usize) -> (Vec<PathBuf>, bool) {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(name) = component else {
            paths.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        if !is_pattern(Path::new(name)) {
            paths.iter_mut().for_each(|path| path.push(name));
            continue;
        }
        let mut next = Vec::new();
        for path in &paths {
            next.extend(matching(path, name));
            if next.len() > ENTRIES_MAX {
                break;
            }
        }
        next.sort();
        paths = next;
    }
    paths.retain(|path| path.to_str().is_some() && path.exists() && Packing::of(path).is_none());
    let all = paths.clone();
    paths.retain(|path| {
        let is_rotated = |other: &PathBuf| {
            path.parent() == other.parent()
                && is_rotated(text(other.file_name()), text(path.file_name()))
        };
        !all.iter().any(is_rotated)
    });
    let has_more = paths.len() > most;
    if has_more {
        let changed = |path: &PathBuf| fs::metadata(path).and_then(|found| found.modified()).ok();
        paths.sort_by_cached_key(|path| std::cmp::Reverse(changed(path)));
        paths.truncate(most);
        paths.sort();
    }
    (paths, has_more)
}

fn text(name: Option<&OsStr>) -> &[u8] {
    name.map_or(&[], OsStr::as_encoded_bytes)
}

fn matching(folder: &Path, pattern: &OsStr) -> Vec<PathBuf> {
    let pattern = pattern.as_encoded_bytes();
    let entries = fs::read_dir(folder).into_iter().flatten();
    let entries = entries.take(ENTRIES_MAX).filter_map(Result::ok);
    entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            let is_hidden = name.first() == Some(&b'.') && pattern.first() != Some(&b'.');
            !is_hidden && is_match(name, pattern)
        })
        .map(|entry| entry.path())
        .collect()
}

/// Whether a name fits a pattern of `*`, `?` and plain characters.
fn is_match(mut name: &[u8], mut pattern: &[u8]) -> bool {
    // Where to try again when what follows the last `*` does not fit.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (name.split_first(), pattern.split_first()) {
            (_, Some((b'*', rest))) => {
                pattern = rest;
                again = Some((name, pattern));
            }
            (Some((_, left)), Some((b'?', rest))) => (name, pattern) = (left, rest),
            (Some((byte, left)), Some((wanted, rest))) if byte == wanted => {
                (name, pattern) = (left, rest);
            }
            (None, None) => return true,
            (_, _) => {
                let Some((from, rest)) = again else {
                    return false;
                };
                let Some((_, from)) = from.split_first() else {
                    return false;
                };
                again = Some((from, rest));
                (name, pattern) = (from, rest);
            }
        }
    }
}

/// The name of a file before it was compressed.
pub(super) fn unpacked(name: &[u8]) -> &[u8] {
    let packed = [&b".gz"[..], b".zst"].into_iter();
    let mut plain = packed.filter_map(|end| name.strip_suffix(end));
    plain.next().unwrap_or(name)
}

/// Whether rotation made this name of that one: `app.log.1`, `app.log-20260314`, `app-20260314.log`, `app.log.old`; all
/// of them may be compressed.
pub(super) fn is_rotated(base: &[u8], name: &[u8]) -> bool {
    let name = unpacked(name);
    let is_date = |text: &[u8]| {
        text.iter()
            .all(|byte| byte.is_ascii_digit() || b"-_.:T".contains(byte))
            && text.iter().any(u8::is_ascii_digit)
    };
    if base.is_empty() {
        return false;
    }
    if let Some([b'.' | b'-' | b'_', rest @ ..]) = name.strip_prefix(base) {
        return is_date(rest) || rest == b"old";
    }
    let Some(dot) = base
        .iter()
        .rposition(|byte| *byte == b'.')
        .filter(|at| *at > 0)
    else {
        return false;
    };
    let (stem, extension) = base.split_at(dot);
    let middle = name
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(extension));
    // A number alone may be that of another server.
    let has_date = |text: &[u8]| {
        is_date(text) && text.iter().filter(|byte| byte.is_ascii_digit()).count() >= 6
    };
    matches!(middle, Some([b'.' | b'-' | b'_', rest @ ..]) if has_date(rest))
}

/// Orders rotated files that were changed at the same time, oldest first: `app.log.2` is older than `app.log.1`, a date
/// or the target of a link says it the other way round.
pub(super) fn age(base: &Path, rotated: &Path) -> i128 {
    let (base, name) = (text(base.file_name()), unpacked(text(rotated.file_name())));
    let digits = |text: &[u8]| {
        let digits = text.iter().filter(|byte| byte.is_ascii_digit()).take(30);
        digits.fold(0_i128, |number, digit| {
            number * 10 + i128::from(digit - b'0')
        })
    };
    match name.strip_prefix(base) {
        Some([b'.', rest @ ..]) if rest.iter().all(u8::is_ascii_digit) && rest.len() < 5 => {
            -digits(rest)
        }
        Some(rest) => digits(rest),
        None => digits(name),
    }
}

/// Whether two names differ in their digits only, as the targets of a link do that leads to the newest file.
pub(super) fn is_alike(one: &[u8], other: &[u8]) -> bool {
    let rest = |name: &[u8]| -> Vec<u8> {
        let plain = name.iter().filter(|byte| !byte.is_ascii_digit());
        plain.copied().collect()
    };
    one != other && rest(one) == rest(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_has_it() {
        for (name, pattern, fits) in [
            ("vllm-7f_ai_vllm-0a.log", "vllm-*.log", true),
            ("vllm.log", "vllm*.log", true),
            ("vllm.log.1", "vllm*.log", false),
            ("aab", "*a?", true),
            ("abcabd", "*abd", true),
            ("", "*", true),
            ("a", "", false),
            ("a", "??", false),
        ] {
            assert_eq!(
                is_match(name.as_bytes(), pattern.as_bytes()),
                fits,
                "{name} {pattern}"
            );
        }
    }

    #[test]
    fn rotated_files_are_known_by_their_names() {
        for (name, is) in [
            ("app.log.1", true),
            ("app.log-20260314", true),
            ("app.log.2026-03-14_09", true),
            ("app.log.20260314-092700", true),
            ("app-1.log", false),
            ("app-20260314.log", true),
            ("app.log.old", true),
            ("app.log", false),
            ("app.log.gz", false),
            ("app.log.2.gz", true),
            ("app.log-20260314.zst", true),
            ("app.log.err", false),
            ("app.logs", false),
            ("application-1.log", false),
            ("app-main.log", false),
            ("app.log.", false),
        ] {
            assert_eq!(is_rotated(b"app.log", name.as_bytes()), is, "{name}");
        }
        assert!(is_rotated(b"0.log", b"0.log.20260314-092700"));
        for (older, newer) in [
            ("app.log.10", "app.log.9"),
            ("app.log-20260314", "app.log-20260315"),
            ("app-9.log", "app-10.log"),
            ("app.log.10.gz", "app.log.9"),
        ] {
            let age = |name| age(Path::new("/x/app.log"), Path::new(name));
            assert!(age(older) < age(newer), "{older} {newer}");
        }
        assert!(!is_rotated(b"", b".1"));
    }

    #[test]
    fn a_pattern_leads_to_files_and_not_to_their_rotated_ones() {
        let folder = tempfile::tempdir().unwrap();
        let pod = folder.path().join("pod-1");
        fs::create_dir(&pod).unwrap();
        for name in ["0.log", "0.log.20260314-092700", "1.log", ".hidden.log"] {
            fs::write(pod.join(name), "x").unwrap();
        }
        let pattern = folder.path().join("pod-?").join("*.log*");
        let (paths, has_more) = expand(&pattern, 9);
        assert_eq!(paths, [pod.join("0.log"), pod.join("1.log")]);
        assert!(!has_more);
        let late = fs::File::open(pod.join("0.log")).unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        late.set_modified(long_ago).unwrap();
        assert_eq!(expand(&pattern, 1), (vec![pod.join("1.log")], true));
        assert!(is_alike(b"app-1.log", b"app-22.log") && !is_alike(b"a", b"a"));
    }
}
