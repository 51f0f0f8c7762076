//! Secrets that somebody wrote into the configuration are blotted out before a line of it is shown.
//!
//! Promises: every value of a key that sounds like a secret, and everything that looks like an API key of the
//! dashboard, wherever it stands. A mask has the length of what it hides, so that carets stay in place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::files::{Files, Text};

/// How API keys of the dashboard begin.
const KEY_PREFIXES: [&str; 2] = ["cms_live_", "cms_test_"];

/// Parts of key names whose values are never shown.
const SECRET_NAMES: [&str; 5] = ["apikey", "passphrase", "password", "secret", "token"];

/// Whole names of keys whose values are never shown.
const SECRET_WORDS: [&str; 2] = ["key", "oldkey"];

/// Inside a secret's table these say where the secret is, not what it is.
const REFERENCES: [&str; 3] = ["credential", "env", "file"];

/// Blots out every secret in texts that were parsed into this table.
pub(super) fn parsed(table: &DeTable<'_>, files: &mut Files) {
    let mut found = Vec::new();
    in_table(table, false, &mut found);
    for span in found {
        if let Some(text) = files.text_at_mut(span.start) {
            let span = span.start - text.base..span.end - text.base;
            blot(&mut text.content, span);
        }
    }
    keys(files);
}

/// Blots out everything that may be a secret in texts that are not TOML.
pub(super) fn broken(files: &mut Files) {
    for text in files.texts_mut() {
        after_secret_names(text);
    }
    keys(files);
}

/// The text with every API key in it blotted out.
pub(super) fn scrubbed(text: &str) -> String {
    let mut result = text.to_owned();
    for prefix in KEY_PREFIXES {
        let mut from = 0;
        while let Some(at) = result.get(from..).and_then(|rest| rest.find(prefix)) {
            let start = from + at;
            let rest = result.get(start..).unwrap_or_default();
            let length = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || "_-.~+/=".contains(c)))
                .unwrap_or(rest.len());
            blot(&mut result, start..start + length);
            from = start + length;
        }
    }
    result
}

/// Whether this text has an API key in it.
pub(super) fn has_key(text: &str) -> bool {
    KEY_PREFIXES.iter().any(|prefix| text.contains(prefix))
}

/// Whether the value at this dotted path must not be shown.
pub(super) fn is_secret_path(path: &str) -> bool {
    let mut segments = path.split('.');
    let last = segments.next_back().unwrap_or_default();
    is_secret_name(last) || (segments.any(is_secret_name) && !REFERENCES.contains(&last))
}

/// Whether the value of this key must not be shown.
pub(super) fn is_secret_name(key: &str) -> bool {
    let plain = |text: &str| -> String {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect()
    };
    let last = plain(key.rsplit('.').next().unwrap_or_default());
    let all = plain(key);
    SECRET_WORDS.contains(&last.as_str())
        || SECRET_NAMES.iter().any(|name| all.contains(name)) && !all.ends_with("file")
}

fn keys(files: &mut Files) {
    for text in files.texts_mut() {
        text.content = scrubbed(&text.content);
    }
}

fn in_table(table: &DeTable<'_>, secret: bool, found: &mut Vec<Range<usize>>) {
    for (key, value) in table.iter() {
        let name = key.get_ref().as_ref();
        let reference = secret && REFERENCES.contains(&name) && !misused(name, value);
        in_value(value, !reference && (secret || is_secret_name(name)), found);
    }
}

/// What stands where a path belongs and is none may be the secret itself.
fn misused(name: &str, value: &Spanned<DeValue<'_>>) -> bool {
    name == "file" && !value.get_ref().as_str().is_some_and(|v| v.starts_with('/'))
}

fn in_value(value: &Spanned<DeValue<'_>>, secret: bool, found: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, secret, found),
        DeValue::Array(array) => {
            for item in array.iter() {
                in_value(item, secret, found);
            }
        }
        _ if secret => found.push(value.span()),
        _ => {}
    }
}

/// Where the syntax is broken, the rest of a line after a secret's name is blotted out; after an opened
/// multi-line string, the rest of the file.
fn after_secret_names(text: &mut Text) {
    let mut blots = Vec::new();
    let mut start = 0;
    for line in text.content.split_inclusive('\n') {
        let end = start + line.len();
        if let Some(equals) = line.find('=') {
            let (name, value) = line.split_at(equals);
            let first_table = value.find('{').unwrap_or(value.len());
            let inside = value.get(first_table..).unwrap_or_default();
            let mut keys = inside
                .split(['{', ','])
                .filter_map(|part| part.split_once('='));
            if is_secret_name(name)
                || is_secret_name(inside)
                || keys.any(|(key, _)| is_secret_name(key))
            {
                let open = value.contains("\"\"\"") || value.contains("'''");
                let until = if open { text.content.len() } else { end };
                blots.push(start + equals + 1..until);
            }
        }
        start = end;
    }
    for span in blots {
        blot(&mut text.content, span);
    }
}

/// Overwrites a span with stars, byte for byte; line ends stay.
fn blot(text: &mut String, span: Range<usize>) {
    let Some(hidden) = text.get(span.clone()) else {
        return;
    };
    let stars: String = hidden
        .bytes()
        .map(|b| {
            if b == b'\n' || b == b'\r' {
                char::from(b)
            } else {
                '*'
            }
        })
        .collect();
    text.replace_range(span, &stars);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(content: &str) -> String {
        let mut files = Files::default();
        files.add("config.toml".to_owned(), content.to_owned());
        match DeTable::parse(content) {
            Ok(table) => parsed(table.get_ref(), &mut files),
            Err(_) => broken(&mut files),
        }
        files.texts()[0].content.clone()
    }

    #[test]
    fn values_of_secrets_are_hidden_and_references_are_not() {
        assert_eq!(masked("api_key = \"abc\" # c"), "api_key = ***** # c");
        assert_eq!(masked("apiKey = [1, \"x\"]"), "apiKey = [*, ***]");
        let reference = "api_key = { file = \"/etc/key\" }";
        assert_eq!(masked(reference), reference);
        assert_eq!(
            masked("api_key = { value = \"s\" }"),
            "api_key = { value = *** }"
        );
        assert_eq!(
            masked("api_key = { file = \"s\" }"),
            "api_key = { file = *** }"
        );
        assert_eq!(masked("a.password = 'ä'"), "a.password = ****");
        assert_eq!(masked("api_key_file = \"/x\""), "api_key_file = \"/x\"");
    }

    #[test]
    fn broken_syntax_hides_all_that_may_be_a_secret() {
        assert_eq!(
            masked("api_key = \"abc\nx = 1\n"),
            "api_key =*****\nx = 1\n"
        );
        assert_eq!(
            masked("d = { api_key = \"abc\"\nx = 1\n"),
            "d =******************\nx = 1\n"
        );
        assert_eq!(masked("token = \"\"\"\nabc\ndef"), "token =****\n***\n***");
    }

    #[test]
    fn an_api_key_is_hidden_wherever_it_stands() {
        assert_eq!(
            scrubbed("string \"cms_live_aB3-9_x\", cms_test_ and cms_livery"),
            "string \"****************\", ********* and cms_livery"
        );
    }
}
