//! The parsed TOML of all files as one table whose spans are offsets into [`Files`].
//!
//! Promises: tables are merged key by key, the later file wins, arrays of tables are appended; every value
//! keeps the place where it was written. Refuses: knowing what a key means.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::files::Files;
use super::report::{Problem, Problems};

/// A value with its place.
pub(super) type Node<'i> = Spanned<DeValue<'i>>;

/// One value of a table, with the path that leads to it.
#[derive(Debug)]
pub(super) struct Leaf {
    /// The keys that lead to it, as they are written in TOML: `carbon.source`.
    pub(super) path: String,
    /// The value as TOML.
    pub(super) value: String,
    /// Where its key is written.
    pub(super) span: Range<usize>,
}

/// Parses every file and merges them. Broken syntax is noted; there is no table then.
pub(super) fn parse<'i>(files: &'i Files, problems: &mut Problems) -> Option<Spanned<DeTable<'i>>> {
    let mut merged = DeTable::new();
    for text in files.texts() {
        let (parsed, errors) = DeTable::parse_recoverable(&text.content);
        let mut lines = Vec::new();
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let span = span.start + text.base..span.end + text.base;
            // One broken line can make the parser stumble several times; the first time tells most.
            let line = files.place(span.start).map(|p| p.line);
            if !lines.contains(&line) {
                lines.push(line);
                problems.push(Problem::at(span, format!("not TOML: {}", error.message())));
            }
        }
        merge(&mut merged, shifted_table(parsed.into_inner(), text.base));
    }
    problems.is_empty().then(|| Spanned::new(0..0, merged))
}

/// Takes the table or array of tables at a dotted path out of a table; its parents stay.
pub(super) fn take<'i>(
    table: &mut DeTable<'i>,
    path: &str,
) -> Option<(Spanned<DeString<'i>>, Node<'i>)> {
    match path.split_once('.') {
        None => table.remove_entry(path),
        Some((first, rest)) => match table.get_mut(first)?.get_mut() {
            DeValue::Table(inner) => take(inner, rest),
            _ => None,
        },
    }
}

/// Whether a table is there only because a table below it is: `[a.b]` implies `a`.
pub(super) fn is_implied(key: &Spanned<DeString<'_>>, node: &Node<'_>) -> bool {
    // The parser gives such a table the span of its key; one that is written down has that of its header.
    let empty = matches!(node.get_ref(), DeValue::Table(table) if table.is_empty());
    empty && key.span() == node.span()
}

/// All values of a table that are not tables themselves, in the order of their keys.
pub(super) fn leaves(table: &DeTable<'_>) -> Vec<Leaf> {
    let mut found = Vec::new();
    collect_leaves(table, "", &mut found);
    found
}

/// A key as TOML writes it, quoted where it must be.
pub(super) fn key(name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { name.to_owned() } else { string(name) }
}

/// A text as TOML writes it.
pub(super) fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A value as TOML writes it in one line.
pub(super) fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => string(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|i| written(i.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let pairs: Vec<_> = table
                .iter()
                .map(|(k, v)| format!("{} = {}", key(k.get_ref()), written(v.get_ref())))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

fn collect_leaves(table: &DeTable<'_>, prefix: &str, found: &mut Vec<Leaf>) {
    for (name, value) in table.iter() {
        let path = format!("{prefix}{}", key(name.get_ref()));
        match value.get_ref() {
            DeValue::Table(inner) => collect_leaves(inner, &format!("{path}."), found),
            other => found.push(Leaf {
                path,
                value: written(other),
                span: name.span(),
            }),
        }
    }
}

fn merge<'i>(into: &mut DeTable<'i>, later: DeTable<'i>) {
    for (key, value) in later {
        // The earlier entry goes with its key: the later place is the origin of what is kept.
        let Some((old_key, old)) = into.remove_entry(key.get_ref().as_ref()) else {
            into.insert(key, value);
            continue;
        };
        let span = old.span();
        match (old.into_inner(), value) {
            (DeValue::Table(mut table), value) if value.get_ref().is_table() => {
                // Where one file implies a table and the other writes it down, the latter is its place.
                let (old_key, span) = match old_key.span() == span {
                    true => (key, value.span()),
                    false => (old_key, span),
                };
                if let DeValue::Table(inner) = value.into_inner() {
                    merge(&mut table, inner);
                }
                into.insert(old_key, Spanned::new(span, DeValue::Table(table)));
            }
            (DeValue::Array(mut items), value)
                if of_tables(&items) && value.get_ref().as_array().is_some_and(of_tables) =>
            {
                if let DeValue::Array(more) = value.into_inner() {
                    more.into_iter().for_each(|item| items.push(item));
                }
                into.insert(old_key, Spanned::new(span, DeValue::Array(items)));
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn of_tables(items: &DeArray<'_>) -> bool {
    !items.is_empty() && items.iter().all(|item| item.get_ref().is_table())
}

fn shifted_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let entries = table.into_iter().map(|(key, value)| {
        let span = moved(&key.span(), by);
        (Spanned::new(span, key.into_inner()), shifted(value, by))
    });
    entries.collect()
}

fn shifted(node: Node<'_>, by: usize) -> Node<'_> {
    let span = moved(&node.span(), by);
    let value = match node.into_inner() {
        DeValue::Table(table) => DeValue::Table(shifted_table(table, by)),
        DeValue::Array(items) => {
            let mut array = DeArray::new();
            items
                .into_iter()
                .for_each(|item| array.push(shifted(item, by)));
            DeValue::Array(array)
        }
        other => other,
    };
    Spanned::new(span, value)
}

fn moved(span: &Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(contents: &[&str]) -> Files {
        let mut files = Files::default();
        for (n, content) in contents.iter().enumerate() {
            files.add(format!("{n}"), (*content).to_owned());
        }
        files
    }

    fn merged(contents: &[&str]) -> Vec<String> {
        let files = files(contents);
        let mut problems = Problems::default();
        let table = parse(&files, &mut problems).unwrap();
        leaves(table.get_ref())
            .into_iter()
            .map(|l| {
                let place = files.place(l.span.start).unwrap();
                format!("{} = {} # {place}", l.path, l.value)
            })
            .collect()
    }

    #[test]
    fn the_later_file_wins_key_by_key_and_is_the_origin() {
        let lines = merged(&["a = 1\n[t]\nx = 1\ny = [1]\n", "[t]\ny = [2]\nz = 3\n"]);
        assert_eq!(
            lines,
            [
                "a = 1 # 0:1",
                "t.x = 1 # 0:3",
                "t.y = [2] # 1:2",
                "t.z = 3 # 1:3"
            ]
        );
    }

    #[test]
    fn arrays_of_tables_are_appended() {
        let lines = merged(&["[[s.r]]\np = 1\n", "[[s.r]]\np = 2\n[[s.q]]\n"]);
        assert_eq!(
            lines,
            ["s.q = [{  }] # 1:3", "s.r = [{ p = 1 }, { p = 2 }] # 0:1"]
        );
    }

    #[test]
    fn a_table_is_taken_out_from_below_its_parents() {
        let files = files(&["[compute]\na = 1\n[[compute.prometheus]]\nurl = 'x'\n"]);
        let mut problems = Problems::default();
        let mut table = parse(&files, &mut problems).unwrap().into_inner();
        let (key, node) = take(&mut table, "compute.prometheus").unwrap();
        assert_eq!(key.get_ref(), "prometheus");
        assert_eq!(written(node.get_ref()), "[{ url = \"x\" }]");
        assert_eq!(leaves(&table).len(), 1);
        assert!(take(&mut table, "compute.prometheus").is_none());
        assert!(take(&mut table, "compute.a.b").is_none());
    }

    #[test]
    fn broken_lines_are_all_noted_once() {
        let files = files(&["a = \nb = 1\nc = = 2\n", "d = \"x\n"]);
        let mut problems = Problems::default();
        assert!(parse(&files, &mut problems).is_none());
        let errors = problems.into_errors(files);
        let lines: Vec<_> = errors
            .problems()
            .iter()
            .map(|p| p.place().unwrap().to_string())
            .collect();
        assert_eq!(lines, ["0:1", "0:3", "1:1"]);
    }

    #[test]
    fn keys_and_texts_are_written_as_toml() {
        assert_eq!(key("a-b_1"), "a-b_1");
        assert_eq!(key("a b"), "\"a b\"");
        assert_eq!(
            string("x\"y\n"),
            toml::Value::String("x\"y\n".to_owned()).to_string()
        );
    }
}
