//! Reads one table into a type and goes on after an error, so that a user sees all of them at once.
//!
//! Promises: each error has the place of the key or value at fault; an unknown key comes with the nearest
//! known one. Refuses: returning a value without telling which keys it had to leave out.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

use super::report::{Problem, Problems};
use super::tree::Node;

/// A slip of the fingers changes one letter in three at most.
const LETTERS_FOR_A_SLIP: usize = 3;

/// Two names that start alike (Jaro-Winkler) are offered when they are at least this similar.
const SIMILAR: f64 = 0.8;

/// Enough for every key of a table to be wrong; what is still wrong then is told after the next attempt.
const ATTEMPTS_MAX: usize = 100;

/// What came out of reading a table.
#[derive(Debug)]
pub(super) struct Outcome<T> {
    /// The value, made from the keys that could be read.
    pub(super) value: Option<T>,
    /// Dotted paths of the keys that could not; each has its problem.
    pub(super) left_out: Vec<String>,
}

/// Reads a table with `parse`, leaving out key by key what is wrong. `besides` are dotted paths of keys that
/// belong to the table and were taken out of it before.
pub(super) fn table<T>(
    node: &Node<'_>,
    besides: &[&str],
    problems: &mut Problems,
    parse: impl Fn(ValueDeserializer<'_>) -> Result<T, Error>,
) -> Outcome<T> {
    let mut node = node.clone();
    let mut left_out = Vec::new();
    let mut removals: Vec<Vec<String>> = Vec::new();
    for _ in 0..ATTEMPTS_MAX {
        let error = match parse(ValueDeserializer::from(node.clone())) {
            Ok(value) => {
                return Outcome {
                    value: Some(value),
                    left_out,
                };
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or_else(|| node.span());
        let removed = match node.get_mut() {
            DeValue::Table(table) => remove(table, &span),
            _ => None,
        };
        // What is wrong with a table from which something wrong was taken may be the consequence of that. If it is
        // not, it is told after the next attempt.
        let is_consequence = removed.as_ref().is_some_and(|path| {
            let mut before = removals.iter();
            before.any(|other| other.len() > path.len() && other.starts_with(path))
        });
        removals.extend(removed.clone());
        let removed = removed.as_deref().map(dotted);
        let parent = removed
            .as_deref()
            .map_or("", |path| split(path).0)
            .to_owned();
        let besides: Vec<_> = besides.iter().map(|b| split(b)).collect();
        let besides: Vec<_> = besides
            .iter()
            .filter(|b| b.0 == parent)
            .map(|b| b.1)
            .collect();
        let explained = explained(error.message(), span, &besides);
        // A key that was left out because it is wrong is not missing.
        let told = missing(error.message())
            .is_some_and(|key| left_out.iter().any(|l: &String| split(l).1 == key));
        if !told && !is_consequence {
            problems.push(explained.problem);
        }
        let Some(path) = removed else {
            break;
        };
        if let Some(meant) = explained.meant {
            left_out.push(match parent.as_str() {
                "" => meant,
                parent => format!("{parent}.{meant}"),
            });
        }
        left_out.push(path);
    }
    Outcome {
        value: None,
        left_out,
    }
}

/// An unknown key, with the nearest of those that are known there.
pub(super) fn unknown(key: &str, span: Range<usize>, known: &[&str]) -> Problem {
    let problem = Problem::at(span, format!("unknown key `{key}`"));
    let problem = match nearest(key, known) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem,
    };
    if known.is_empty() {
        return problem.help("no keys are known here");
    }
    let mut known = known.to_vec();
    known.sort_unstable();
    known.dedup();
    problem.help(format!("known here: {}", known.join(", ")))
}

/// A serde error in the words of this module.
struct Explained {
    problem: Problem,
    /// The key that an unknown one was meant to be.
    meant: Option<String>,
}

fn explained(message: &str, span: Range<usize>, besides: &[&str]) -> Explained {
    let names = quoted(message);
    if message.starts_with("unknown field")
        && let Some((key, known)) = names.split_first()
    {
        let known = [known, besides].concat();
        return Explained {
            problem: unknown(key, span, &known),
            meant: nearest(key, &known).map(str::to_owned),
        };
    }
    Explained {
        problem: in_plain_words(message, span, &names),
        meant: None,
    }
}

fn in_plain_words(message: &str, span: Range<usize>, names: &[&str]) -> Problem {
    if message.starts_with("unknown variant")
        && let Some((word, known)) = names.split_first()
    {
        let problem = Problem::at(span, format!("`{word}` is not possible here"));
        let problem = match nearest(word, known) {
            Some(near) => problem.label(format!("did you mean `{near}`?")),
            None => problem,
        };
        return problem.help(format!("possible: {}", known.join(", ")));
    }
    if let Some(key) = missing(message) {
        let problem = Problem::at(span, format!("the key `{key}` is missing"));
        return match message.split_once("`: ") {
            Some((_, help)) => problem.help(help),
            None => problem,
        };
    }
    let mut text = message.to_owned();
    for (from, to) in PLAIN_WORDS {
        if let Some(start) = text.strip_suffix(from) {
            text = format!("{start}{to}");
        }
    }
    Problem::at(span, text)
}

/// What serde calls a type, and what a reader calls it.
const PLAIN_WORDS: [(&str, &str); 11] = [
    ("expected a boolean", "expected true or false"),
    ("expected a sequence", "expected a list"),
    ("expected a string", "expected a text in quotes"),
    ("expected a map", "expected a table"),
    ("expected f64", "expected a number"),
    ("expected i64", "expected a whole number"),
    ("expected u16", "expected a whole number from 0 to 65535"),
    ("expected u32", "expected a whole number, not negative"),
    ("expected u64", "expected a whole number, not negative"),
    ("expected u8", "expected a whole number from 0 to 255"),
    ("expected usize", "expected a whole number, not negative"),
];

/// The key that a message of serde says is missing; ours may go on with what helps.
fn missing(message: &str) -> Option<&str> {
    let (key, rest) = message.strip_prefix("missing field `")?.split_once('`')?;
    (rest.is_empty() || rest.starts_with(": ")).then_some(key)
}

fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// The parents of a dotted path, and its last key.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let slips = known.iter().map(|k| (strsim::osa_distance(name, k), *k));
    let slip = slips
        .filter(|(distance, _)| distance * LETTERS_FOR_A_SLIP <= name.chars().count())
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, near)) = slip {
        return Some(near);
    }
    let alike = known.iter().map(|k| (strsim::jaro_winkler(name, k), *k));
    alike
        .filter(|(similar, _)| *similar >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, near)| near)
}

/// Removes the innermost entry whose key or value is at fault, and tells its path: keys, and numbers of items.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    for (key, value) in table.iter_mut() {
        if let Some(path) = remove_inside(value, span) {
            let key = key.get_ref().clone().into_owned();
            return Some([vec![key], path].concat());
        }
    }
    let at_fault = table
        .iter()
        .find(|(key, value)| key.span() == *span || holds(&value.span(), span))
        .map(|(key, _)| key.get_ref().clone().into_owned())?;
    table.remove(at_fault.as_str());
    Some(vec![at_fault])
}

fn remove_inside(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<String>> {
    match value.get_mut() {
        DeValue::Table(inner) => remove(inner, span),
        DeValue::Array(items) => (0_usize..).zip(items.iter_mut()).find_map(|(at, item)| {
            let path = remove_inside(item, span)?;
            Some([vec![format!("{ITEM}{at}")], path].concat())
        }),
        _ => None,
    }
}

/// What the number of an item begins with in a path; no key does.
const ITEM: char = '\n';

/// A path without the numbers of items.
fn dotted(path: &[String]) -> String {
    let keys: Vec<&str> = { path.iter() }
        .filter(|part| !part.starts_with(ITEM))
        .map(String::as_str)
        .collect();
    keys.join(".")
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

#[cfg(test)]
mod tests {
    use super::super::files::Files;
    use super::super::tree;
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Sample {
        path: String,
        #[serde(default)]
        rows: u64,
        #[serde(default)]
        inner: Inner,
        #[serde(default)]
        format: Format,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Inner {
        factor: Option<f64>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Format {
        #[default]
        Json,
        Text,
    }

    fn messages(content: &str, besides: &[&str]) -> Vec<String> {
        let mut files = Files::default();
        files.add("f".to_owned(), content.to_owned());
        let mut problems = Problems::default();
        let root = tree::parse(&files, &mut problems).unwrap();
        let node = Spanned::new(root.span(), DeValue::Table(root.into_inner()));
        table(&node, besides, &mut problems, |d| Sample::deserialize(d));
        problems
            .into_errors(files.clone())
            .problems()
            .iter()
            .map(|p| {
                let place = p.place().unwrap();
                format!("{}:{} {}", place.line, place.column, p.message())
            })
            .collect()
    }

    #[test]
    fn all_errors_of_a_table_are_told_with_their_places() {
        let content =
            "path = 'x'\nrow = 1\nrows = -1\nformat = 'jsn'\n[inner]\nfactro = 1\nfactor = 'x'\n";
        assert_eq!(
            messages(content, &[]),
            [
                "2:1 unknown key `row`",
                "3:8 invalid value: integer `-1`, expected a whole number, not negative",
                "4:10 `jsn` is not possible here",
                "6:1 unknown key `factro`",
                "7:10 invalid type: string \"x\", expected a number",
            ]
        );
    }

    #[test]
    fn what_follows_from_an_error_is_not_told_too() {
        // Without its only place a point has none, and without its point a source has no output.
        #[derive(Debug, Deserialize)]
        struct Whole {
            #[expect(dead_code, reason = "only its shape matters")]
            list: Vec<Spanned<Item>>,
        }
        #[derive(Debug, Deserialize)]
        #[serde(try_from = "Raw")]
        struct Item;
        #[derive(Debug, Deserialize)]
        struct Raw {
            place: Option<u8>,
        }
        impl TryFrom<Raw> for Item {
            type Error = &'static str;
            fn try_from(raw: Raw) -> Result<Self, &'static str> {
                raw.place.map(|_| Self).ok_or("say a place")
            }
        }
        let mut files = Files::default();
        let content = "[[list]]\nplace = 'x'\n[[list]]\nother = 1\n";
        files.add("f".to_owned(), content.to_owned());
        let mut problems = Problems::default();
        let root = tree::parse(&files, &mut problems).unwrap();
        let node = Spanned::new(root.span(), DeValue::Table(root.into_inner()));
        table(&node, &[], &mut problems, |d| Whole::deserialize(d));
        let told = problems.into_errors(files).to_string();
        assert_eq!(told.matches("invalid type").count(), 1, "{told}");
        assert_eq!(told.matches("say a place").count(), 0, "{told}");
    }

    #[test]
    fn a_required_key_that_is_wrong_is_not_also_missing() {
        assert_eq!(
            messages("path = 1\n", &[]),
            ["1:8 invalid type: integer `1`, expected a text in quotes"]
        );
        assert_eq!(
            messages("rows = 1\n", &[]),
            ["1:1 the key `path` is missing"]
        );
    }

    #[test]
    fn the_nearest_key_is_offered_also_among_those_taken_out() {
        let explained = explained(
            "unknown field `enabeld`, expected `path`",
            0..1,
            &["enabled"],
        );
        assert_eq!(explained.meant.as_deref(), Some("enabled"));
        let mut problems = Problems::default();
        problems.push(explained.problem);
        let mut files = Files::default();
        files.add("f".to_owned(), "enabeld = 1".to_owned());
        let text = problems.into_errors(files).to_string();
        assert!(text.contains("did you mean `enabled`?"), "{text}");
        assert!(text.contains("known here: enabled, path"), "{text}");
    }

    #[test]
    fn a_key_that_was_misspelt_is_not_also_missing() {
        assert_eq!(messages("paht = 'x'\n", &[]), ["1:1 unknown key `paht`"]);
    }

    #[test]
    fn nothing_similar_is_not_guessed() {
        let energy = ["carbon", "price_usd_per_kwh", "pue", "water"];
        assert_eq!(nearest("peu", &energy), Some("pue"));
        assert_eq!(nearest("price", &energy), Some("price_usd_per_kwh"));
        assert_eq!(nearest("x", &energy), None);
        assert_eq!(nearest("models", &["site", "store", "compute"]), None);
        assert_eq!(
            nearest("intervall", &["interval", "site"]),
            Some("interval")
        );
    }
}
