//! The answers of the query API, taken apart while they arrive.
//!
//! Promises: memory holds one element of the result and what stands around it, however long the
//! answer is; what is no such answer is refused with its beginning.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Longest element of a result: a series has at most some dozens of labels.
const ELEMENT_BYTES_MAX: usize = 64 * 1024;

/// Longest rest of an answer without its elements: warnings of a server with many stores.
const SHELL_BYTES_MAX: usize = 256 * 1024;

/// How much of something else is told.
const BEGINNING_CHARACTERS: usize = 60;

/// One element of a vector.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    /// The labels.
    pub(super) metric: BTreeMap<String, String>,
    /// Time and value.
    value: (f64, String),
}

/// What stands around the result.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shell {
    status: String,
    #[serde(rename = "errorType")]
    error_type: String,
    error: String,
    warnings: Vec<String>,
    infos: Vec<String>,
    #[serde(rename = "isPartial")]
    is_partial: bool,
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
}

/// Cuts the elements of `data.result` out of an answer.
#[derive(Debug, Default)]
pub(super) struct Taker {
    /// The answer without the elements.
    shell: Vec<u8>,
    /// The element that has begun.
    element: Vec<u8>,
    depth: u32,
    is_in_text: bool,
    is_escaped: bool,
    /// Where the newest text of the shell began, which may be a key.
    text_from: usize,
    /// Whether the key of the outermost object is `data`.
    is_data: bool,
    /// Whether the key of an object in there is `result`.
    is_result: bool,
    /// Whether we are in the list of elements.
    is_in_list: bool,
}

/// How deep the list of elements is: in the answer, in its `data`.
const LIST_DEPTH: u32 = 3;

impl Row {
    /// The value as the server wrote it.
    pub(super) fn value(&self) -> &str {
        &self.value.1
    }

    /// A label; empty where it is missing, which is the same in PromQL.
    pub(super) fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", String::as_str)
    }
}

impl Shell {
    /// Why the server did not answer, in its words.
    pub(super) fn refusal(&self) -> Option<String> {
        (self.status == "error").then(|| format!("{}: {}", self.error_type, self.error))
    }

    /// What the server says besides its result.
    pub(super) fn remarks(&self) -> impl Iterator<Item = String> {
        let partial = self
            .is_partial
            .then(|| "the answer is partial: some of its stores did not answer".to_owned());
        partial
            .into_iter()
            .chain(self.warnings.iter().chain(&self.infos).cloned())
    }

    /// Reads an answer that has no result, such as a refusal.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl Taker {
    /// Takes the next piece; each whole element goes to `on_row`.
    pub(super) fn take(&mut self, piece: &[u8], on_row: &mut dyn FnMut(Row)) -> Result<(), String> {
        for byte in piece {
            self.byte(*byte, on_row)?;
        }
        Ok(())
    }

    /// What stood around the elements.
    pub(super) fn finish(self) -> Result<Shell, String> {
        let shell: Shell =
            serde_json::from_slice(&self.shell).map_err(|error| self.no_answer(&error))?;
        match (shell.status.as_str(), shell.data.result_type.as_str()) {
            ("success", "vector") | ("error", _) => Ok(shell),
            ("success", other) => Err(format!(
                "its result is a {other:?}, not a vector: the expression must give one value for each instance"
            )),
            _ => Err(self.no_answer(&"it has no status")),
        }
    }

    fn no_answer(&self, why: &dyn std::fmt::Display) -> String {
        let text = String::from_utf8_lossy(&self.shell);
        let beginning: String = text
            .chars()
            .filter(|c| !c.is_control())
            .take(BEGINNING_CHARACTERS)
            .collect();
        format!(
            "this is no answer of a Prometheus API ({why}); it begins with {beginning:?}: check the address and its path"
        )
    }

    fn byte(&mut self, byte: u8, on_row: &mut dyn FnMut(Row)) -> Result<(), String> {
        let was_in_text = self.is_in_text;
        self.text(byte);
        let is_structure = !was_in_text && !self.is_in_text;
        let opens = is_structure && matches!(byte, b'{' | b'[');
        let closes = is_structure && matches!(byte, b'}' | b']');
        self.depth = self.depth.saturating_sub(u32::from(closes));
        if self.is_in_list && self.depth < LIST_DEPTH {
            self.is_in_list = false;
        }
        if self.is_in_list {
            // What stands between elements, and values that are no elements, belong to nobody.
            if opens || !self.element.is_empty() {
                self.of_element(byte)?;
            }
            if closes && self.depth == LIST_DEPTH {
                let row = serde_json::from_slice(&self.element);
                let row = row
                    .map_err(|error| format!("an element of its result makes no sense: {error}"))?;
                self.element.clear();
                on_row(row);
            }
        } else {
            if self.is_in_text && !was_in_text {
                self.text_from = self.shell.len();
            }
            if is_structure && byte == b':' {
                self.key();
            }
            self.of_shell(byte)?;
        }
        self.depth += u32::from(opens);
        if opens && self.depth == LIST_DEPTH && byte == b'[' {
            self.is_in_list = self.is_data && self.is_result;
        }
        Ok(())
    }

    /// Notes which key the next value belongs to.
    fn key(&mut self) {
        let key = self.shell.get(self.text_from..).unwrap_or_default();
        let key = key.trim_ascii_end();
        if self.depth == 1 {
            self.is_data = key == b"\"data\"";
            self.is_result = false;
        } else if self.depth == 2 {
            self.is_result = key == b"\"result\"";
        }
    }

    fn of_element(&mut self, byte: u8) -> Result<(), String> {
        if self.element.len() >= ELEMENT_BYTES_MAX {
            return Err("an element of its result is longer than 64 KiB".to_owned());
        }
        self.element.push(byte);
        Ok(())
    }

    fn of_shell(&mut self, byte: u8) -> Result<(), String> {
        if self.shell.len() >= SHELL_BYTES_MAX {
            return Err(self.no_answer(&"it does not end"));
        }
        self.shell.push(byte);
        Ok(())
    }

    fn text(&mut self, byte: u8) {
        if self.is_escaped {
            self.is_escaped = false;
        } else if self.is_in_text {
            self.is_escaped = byte == b'\\';
            self.is_in_text = byte != b'"';
        } else {
            self.is_in_text = byte == b'"';
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Rows = Vec<(BTreeMap<String, String>, String)>;

    fn taken(text: &str, piece: usize) -> Result<(Rows, Shell), String> {
        let mut rows = Vec::new();
        let mut taker = Taker::default();
        for piece in text.as_bytes().chunks(piece) {
            taker.take(piece, &mut |row| {
                rows.push((row.metric.clone(), row.value().to_owned()));
            })?;
            assert!(taker.element.len() <= ELEMENT_BYTES_MAX);
        }
        Ok((rows, taker.finish()?))
    }

    #[test]
    fn rows_come_one_by_one_however_the_answer_is_cut() {
        let text = r#"{"status":"success","isPartial":true,"data":{"resultType":"vector","stats":{"result":[1]},
            "result" : [ {"metric":{"instance":"a","x":"]}\"{[,"},"value":[1795295309.685,"580.96"]},
            {"metric":{},"value":[1795295309,"+Inf"]} ]},"warnings":["one","result: [{}]"],"infos":["two"]}"#;
        for piece in 1..text.len() {
            let (rows, shell) = taken(text, piece).unwrap();
            assert_eq!(rows.len(), 2, "{piece}");
            assert_eq!(rows[0].0["x"], "]}\"{[,", "{piece}");
            assert_eq!((rows[0].1.as_str(), rows[1].1.as_str()), ("580.96", "+Inf"));
            let remarks: Vec<String> = shell.remarks().collect();
            assert_eq!(remarks.len(), 4);
            assert!(remarks[0].contains("partial") && remarks[3] == "two");
        }
    }

    #[test]
    fn a_refusal_is_in_the_words_of_the_server() {
        let text = r#"{"status":"error","errorType":"bad_data","error":"parse error: unclosed"}"#;
        let (rows, shell) = taken(text, 7).unwrap();
        assert!(rows.is_empty());
        assert_eq!(shell.refusal().unwrap(), "bad_data: parse error: unclosed");
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        let cases = [
            (
                r#"{"status":"success","data":{"resultType":"scalar","result":[1795295309.889,"+Inf"]}}"#,
                "\"scalar\", not a vector",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"values":[]}]}}"#,
                "makes no sense",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"#,
                "no answer of a Prometheus API",
            ),
            (
                "<!DOCTYPE html><html><body>Sign in</body></html>",
                "begins with \"<!DOCTYPE html>",
            ),
            ("[]", "no answer"),
            ("", "no answer"),
            (r#"{"data":{}}"#, "it has no status"),
        ];
        for (text, words) in cases {
            let refused = taken(text, 5).unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_the_same_in_any_pieces(
            text in "[\\[\\]{}\",:\\\\ a1]{0,60}",
            front in prop::bool::ANY,
            piece in 1_usize..20,
        ) {
            let front = if front { r#"{"status":"success","data":{"resultType":"vector","result":["# } else { "" };
            let text = format!("{front}{text}");
            let whole = taken(&text, text.len().max(1));
            let parts = taken(&text, piece);
            prop_assert_eq!(whole.map(|(rows, _)| rows), parts.map(|(rows, _)| rows));
        }
    }

    #[test]
    fn nothing_grows_with_the_answer() {
        let long = "x".repeat(2 * ELEMENT_BYTES_MAX);
        let element =
            format!(r#"{{"status":"success","data":{{"result":[{{"metric":{{"a":"{long}"#);
        assert!(taken(&element, 1_000).unwrap_err().contains("64 KiB"));
        let shell = format!(r#"{{"status":"{}"#, "x".repeat(2 * SHELL_BYTES_MAX));
        assert!(taken(&shell, 1_000).unwrap_err().contains("does not end"));
    }
}
