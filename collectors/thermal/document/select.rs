//! Which value of a JSON document: a JSON pointer, or the part of JSONPath that names one value.
//!
//! `/data/0/value` · `$.data[0].value` · `$['supply air'].value` · `$.points[?@.id=='T1'].value`
//!
//! Promises: bounded; one value or a reason. Refuses: what can select several (`*`, `..`, slices).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

/// Longest selector.
const BYTES_MAX: usize = 500;

/// Most steps of one selector.
const STEPS_MAX: usize = 32;

/// Names one value of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A key of an object, or with a pointer also an index of a list.
    Key(String, bool),
    /// From the start of a list, or from its end.
    Index(usize, bool),
    /// The one item of a list whose key has this value.
    Where(String, String),
}

/// Why a text selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// It is neither of the two.
    #[error("a place in JSON is written as \"/data/0/value\" or \"$.data[0].value\"")]
    Neither,
    /// It is too long.
    #[error("a place in JSON has at most {BYTES_MAX} bytes and {STEPS_MAX} steps")]
    TooLong,
    /// Something of JSONPath that is not for one value, or broken.
    #[error(
        "{0:?} is not understood: steps are .name, ['name'], [0], [-1] and [?@.key=='value']; each \
         selects one value"
    )]
    Step(String),
}

impl Select {
    /// Reads a selector.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, SelectError> {
        if text.len() > BYTES_MAX {
            return Err(SelectError::TooLong);
        }
        let steps = if let Some(path) = text.strip_prefix('$') {
            path_steps(path)?
        } else if let Some(pointer) = text.strip_prefix('/') {
            let keys = pointer.split('/');
            keys.map(|key| Step::Key(key.replace("~1", "/").replace("~0", "~"), true))
                .collect()
        } else {
            return Err(SelectError::Neither);
        };
        if steps.len() > STEPS_MAX {
            return Err(SelectError::TooLong);
        }
        Ok(Self {
            text: text.to_owned(),
            steps,
        })
    }

    /// The value that it names.
    ///
    /// # Errors
    /// In words: which step found nothing, and what there is instead.
    pub fn find<'v>(&self, document: &'v Value) -> Result<&'v Value, String> {
        let mut here = document;
        for step in &self.steps {
            here = step
                .find(here)
                .map_err(|why| format!("{}: {why}", self.text))?;
        }
        Ok(here)
    }
}

impl Step {
    fn find<'v>(&self, value: &'v Value) -> Result<&'v Value, String> {
        match (self, value) {
            (Self::Key(key, _), Value::Object(object)) => object.get(key).ok_or_else(|| {
                let mut known: Vec<&str> = object.keys().take(8).map(String::as_str).collect();
                if object.len() > known.len() {
                    known.push("…");
                }
                format!("there is no {key:?}; there are: {}", known.join(", "))
            }),
            (Self::Key(key, true), Value::Array(list)) => {
                let index = key.parse::<usize>().ok();
                let found = index.and_then(|index| list.get(index));
                found.ok_or_else(|| format!("there is no {key} in a list of {}", list.len()))
            }
            (Self::Index(index, from_end), Value::Array(list)) => {
                let index = match from_end {
                    true => list.len().checked_sub(*index),
                    false => Some(*index),
                };
                let found = index.and_then(|index| list.get(index));
                found.ok_or_else(|| format!("a list of {} is too short", list.len()))
            }
            (Self::Where(key, wanted), Value::Array(list)) => {
                let is_it = |item: &&Value| item.get(key).is_some_and(|found| says(found, wanted));
                let mut found = list.iter().filter(is_it);
                match (found.next(), found.next()) {
                    (Some(one), None) => Ok(one),
                    (None, _) => Err(format!("no item has {key} {wanted:?}")),
                    (Some(_), Some(_)) => Err(format!("more than one item has {key} {wanted:?}")),
                }
            }
            (_, other) => Err(format!("it needs something else than {}", kind(other))),
        }
    }
}

/// What a value is, for a person.
pub(in crate::thermal) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn says(found: &Value, wanted: &str) -> bool {
    match found {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        _ => false,
    }
}

fn path_steps(mut rest: &str) -> Result<Vec<Step>, SelectError> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let broken = || SelectError::Step(rest.to_owned());
        let (step, after) = if let Some(named) = rest.strip_prefix('.') {
            let end = named.find(['.', '[']).unwrap_or(named.len());
            let (name, after) = named.split_at(end);
            if name.is_empty() || name == "*" {
                return Err(broken());
            }
            (Step::Key(name.to_owned(), false), after)
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (inner, after) = bracketed(inner).ok_or_else(broken)?;
            (bracket(inner).ok_or_else(broken)?, after)
        } else {
            return Err(broken());
        };
        steps.push(step);
        if steps.len() > STEPS_MAX {
            return Err(SelectError::TooLong);
        }
        rest = after;
    }
    Ok(steps)
}

/// What stands between brackets, and what comes after them; quotes may hold brackets.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (None, ']') => return Some((text.get(..at)?, text.get(at + 1..)?)),
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step> {
    if let Some(name) = quoted(inner) {
        return Some(Step::Key(name.to_owned(), false));
    }
    if let Some(filter) = inner.strip_prefix('?') {
        let filter = filter.trim();
        let filter = match filter.strip_prefix('(') {
            Some(inside) => inside.strip_suffix(')')?,
            None => filter,
        };
        let (key, wanted) = filter.split_once("==")?;
        let key = key.trim().strip_prefix("@.")?;
        let wanted = wanted.trim();
        let is_number = wanted.parse::<f64>().is_ok();
        let wanted = quoted(wanted).or(is_number.then_some(wanted))?;
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let is_right = !key.is_empty() && key.chars().all(is_name);
        return is_right.then(|| Step::Where(key.to_owned(), wanted.to_owned()));
    }
    let (digits, from_end) = match inner.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (inner, false),
    };
    let is_index = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let index = digits
        .parse()
        .ok()
        .filter(|index| is_index && !(from_end && *index == 0))?;
    Some(Step::Index(index, from_end))
}

fn quoted(text: &str) -> Option<&str> {
    let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    let found: &str = inner('\'').or_else(|| inner('"'))?;
    (!found.contains(['\'', '"'])).then_some(found)
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Select {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn find(text: &str) -> Result<Value, String> {
        let document = json!({
            "data": [{ "value": 41.5 }, { "value": "7" }],
            "supply air": { "t/a": 1, "m~n": 2 },
            "points": [{ "id": "T1", "v": 20 }, { "id": "T2", "v": 30 }, { "id": 7, "v": 1 }, { "id": "T2" }],
        });
        let select = Select::parse(text).map_err(|error| error.to_string())?;
        select.find(&document).cloned()
    }

    #[test]
    fn one_value_is_found() {
        for (text, value) in [
            ("/data/0/value", json!(41.5)),
            ("$.data[0].value", json!(41.5)),
            ("$.data[-1]['value']", json!("7")),
            ("/supply air/t~1a", json!(1)),
            ("/supply air/m~0n", json!(2)),
            ("$['supply air']['t/a']", json!(1)),
            ("$.points[?@.id=='T1'].v", json!(20)),
            ("$.points[?(@.id == \"T1\")].v", json!(20)),
            ("$.points[?@.id==7].v", json!(1)),
        ] {
            assert_eq!(find(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        for (text, part) in [
            ("/dat", "there are: data, points, supply air"),
            ("/data/2/value", "no 2 in a list of 2"),
            ("$.data[5]", "a list of 2 is too short"),
            ("$.data[-3]", "a list of 2 is too short"),
            ("$.points[?@.id=='T9'].v", "no item has id \"T9\""),
            ("$.points[?@.id=='T2'].v", "more than one item"),
            ("/data/0/value/x", "else than a number"),
            ("data", "is written as"),
            ("$.data[*]", "[*]"),
            ("$..value", "..value"),
            ("$.data[0:1]", "[0:1]"),
            ("$.data[-0]", "[-0]"),
            ("$.data[", "\"[\""),
            ("$data", "data"),
        ] {
            let error = find(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[$/]?[-.$/\\[\\]'\"?@=a-z0-9 ~()é]{0,60}") {
            let _found = find(&text);
        }
    }
}
