//! What SGLang writes of a request that is finished, as JSON: in its log, and in the files of `--export-metrics-to-file`.
//!
//! Owns: which of its fields are read. Promises: a value that callers choose (an id, labels, headers) can make none of
//! the others unreadable; whatever is no name or number is missing, and the request counts. Refuses: texts.

use std::borrow::Cow;

use cms_spec::decimal::Decimal;
use jiff::Timestamp;

use super::super::convention::{complexity, tags};
use super::super::json::{Broken, Json};
use super::super::request::{Request, Tags, Word};
use super::super::words::instant;
use super::is_health_check;

/// What is read of a record.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Whether it has a prompt, an answer or their tokens.
    pub(super) shows_text: bool,
    meta: Option<Meta>,
    labels: Tags,
    headers: Tags,
    by_header: Tags,
}

/// What the server says of a finished request.
#[derive(Debug, Default)]
pub(super) struct Meta {
    id: Option<Word>,
    by_id: Tags,
    is_aborted: bool,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    took: Option<Decimal>,
    sent: Option<Decimal>,
}

/// Why a finished request is none that was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unserved {
    /// It was aborted, by its caller or by the server.
    Aborted,
    /// `/health` asked the model itself.
    HealthCheck,
}

impl Record {
    /// Reads a record of the log.
    pub(super) fn read(text: &[u8]) -> Result<Self, Broken> {
        let mut record = Self::default();
        let mut json = Json::new(text);
        let is_object = json.object(|json, key| match key {
            b"obj" => json.object(|json, key| record.asked(json, key)).map(drop),
            b"headers" => json.object(|json, key| record.header(json, key)).map(drop),
            b"out" => json.object(|json, key| record.answer(json, key)).map(drop),
            _ => Ok(()),
        })?;
        if is_object && json.is_at_end() {
            Ok(record)
        } else {
            Err(Broken::Syntax)
        }
    }

    /// The request, where the record says what became of it; without an id where it has no name for one.
    pub(super) fn finished(self) -> Option<Result<Request, Unserved>> {
        let tagged = [self.labels, self.headers, self.by_header];
        self.meta.map(|meta| meta.finished(tagged))
    }

    fn asked(&mut self, json: &mut Json<'_>, key: &[u8]) -> Result<(), Broken> {
        match key {
            b"text" | b"input_ids" | b"input_embeds" | b"messages" | b"prompt" | b"input" => {
                self.shows_text |= json.is_there()?;
            }
            b"custom_labels" => {
                json.object(|json, key| {
                    tag(&mut self.labels, [b"task_type", b"complexity"], json, key)
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn header(&mut self, json: &mut Json<'_>, key: &[u8]) -> Result<(), Broken> {
        if key == b"x-request-id" {
            self.by_header = by_id(json.text()?);
            return Ok(());
        }
        tag(
            &mut self.headers,
            [b"x-task-type", b"x-complexity"],
            json,
            key,
        )
    }

    fn answer(&mut self, json: &mut Json<'_>, key: &[u8]) -> Result<(), Broken> {
        match key {
            b"text" | b"output_ids" => self.shows_text |= json.is_there()?,
            b"meta_info" => {
                let mut meta = Meta::default();
                if json.object(|json, key| meta.field(json, key))? {
                    self.meta = Some(meta);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Meta {
    /// Reads a line of an exported file, whose fields are those of the record's answer.
    pub(super) fn read(text: &[u8]) -> Result<Self, Broken> {
        let mut meta = Self::default();
        let mut json = Json::new(text);
        let is_object = json.object(|json, key| meta.field(json, key))?;
        if is_object && json.is_at_end() {
            Ok(meta)
        } else {
            Err(Broken::Syntax)
        }
    }

    /// When the answer was sent.
    pub(super) fn sent(&self) -> Option<Timestamp> {
        self.sent.and_then(instant)
    }

    /// The request, with what it is tagged by, the strongest first.
    pub(super) fn finished(self, tagged: [Tags; 3]) -> Result<Request, Unserved> {
        let id = self.id.as_ref().map_or("", Word::as_str);
        if self.is_aborted {
            return Err(Unserved::Aborted);
        }
        if is_health_check(id, self.input_tokens, self.output_tokens) {
            return Err(Unserved::HealthCheck);
        }
        let mut tags = Tags::default();
        for more in tagged.into_iter().chain([self.by_id]) {
            tags.task_type = tags.task_type.or(more.task_type);
            tags.complexity = tags.complexity.or(more.complexity);
        }
        Ok(Request {
            id: self.id,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            duration_ms: self.took.and_then(Decimal::to_milli),
            tags,
            ..Request::default()
        })
    }

    fn field(&mut self, json: &mut Json<'_>, key: &[u8]) -> Result<(), Broken> {
        match key {
            b"id" => {
                let id = json.text()?;
                self.id = id.as_ref().and_then(|id| Word::new(id));
                self.by_id = by_id(id);
            }
            b"finish_reason" => {
                json.object(|json, key| {
                    if key == b"type" {
                        self.is_aborted = json.text()?.as_deref() == Some(b"abort");
                    }
                    Ok(())
                })?;
            }
            b"prompt_tokens" => self.input_tokens = json.count()?,
            b"completion_tokens" => self.output_tokens = json.count()?,
            b"e2e_latency" => self.took = json.number()?,
            b"response_sent_to_client_ts" => self.sent = json.number()?,
            _ => {}
        }
        Ok(())
    }
}

/// Takes a tag, if the key is that of the task or of its complexity.
fn tag(
    tags: &mut Tags,
    [task, hard]: [&[u8]; 2],
    json: &mut Json<'_>,
    key: &[u8],
) -> Result<(), Broken> {
    if key == task {
        tags.task_type = json.word()?;
    } else if key == hard {
        tags.complexity = json.text()?.and_then(|word| complexity(&word));
    }
    Ok(())
}

fn by_id(id: Option<Cow<'_, [u8]>>) -> Tags {
    id.map(|id| tags(&id)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(obj: &str, headers: &str, meta: &str) -> Result<Record, Broken> {
        let text = format!(
            r#"{{"timestamp": "2026-05-02T10:00:01.250000", "event": "request.finished", "rid": "r", "obj": {obj}, "headers": {headers}, "out": {{"meta_info": {meta}}}}}"#
        );
        Record::read(text.as_bytes())
    }

    fn served(record: Result<Record, Broken>) -> Request {
        record.unwrap().finished().unwrap().unwrap()
    }

    #[test]
    fn nothing_that_a_caller_chooses_hides_a_request() {
        const META: &str = r#""prompt_tokens": 5, "completion_tokens": 6"#;
        for rid in [
            r#""a\"b""#,
            r#""a\n[2026-01-01 00:00:00] b""#,
            r#""\u00e9""#,
            "7",
            "[]",
            "null",
        ] {
            let read = served(record("{}", "null", &format!(r#"{{"id": {rid}, {META}}}"#)));
            assert_eq!(
                (read.id, read.input_tokens, read.output_tokens),
                (None, Some(5), Some(6)),
                "{rid}"
            );
        }
        for value in [
            r#"{"task_type": 7, "complexity": null}"#,
            r#"{"task_type": "a\"b"}"#,
            "[1]",
            "\"x\"",
            "3",
        ] {
            let read = served(record(
                &format!(r#"{{"custom_labels": {value}, "session_params": [{{}}]}}"#),
                &value.replace("task_type", "x-task-type"),
                &format!(r#"{{"id": "r", {META}}}"#),
            ));
            assert_eq!(
                (read.input_tokens, read.tags),
                (Some(5), Tags::default()),
                "{value}"
            );
        }
        for reason in [
            "null",
            "\"abort\"",
            r#"{"type": ["abort"]}"#,
            r#"{"message": "abort"}"#,
        ] {
            served(record(
                "{}",
                "{}",
                &format!(r#"{{"id": "r", "finish_reason": {reason}, {META}}}"#),
            ));
        }
    }

    #[test]
    fn a_health_check_has_no_tokens_to_hide() {
        let finished = |id: &str, input: u64, output: &str| {
            let meta = format!(
                r#"{{"id": "{id}", "prompt_tokens": {input}, "completion_tokens": {output}}}"#
            );
            record("{}", "null", &meta).unwrap().finished().unwrap()
        };
        for output in ["1", "0", "null"] {
            assert_eq!(
                finished("HEALTH_CHECK_1746.5", 1, output),
                Err(Unserved::HealthCheck)
            );
        }
        for (id, input, output) in [
            ("HEALTH_CHECK_1", 2, "1"),
            ("HEALTH_CHECK_1", 1, "2"),
            ("health", 1, "1"),
        ] {
            assert!(finished(id, input, output).is_ok(), "{id} {input} {output}");
        }
    }

    #[test]
    fn labels_come_before_headers_and_headers_before_ids() {
        let all = served(record(
            r#"{"custom_labels": {"task_type": "summary"}}"#,
            r#"{"x-complexity": "frontier", "x-request-id": "search.routine.1"}"#,
            r#"{"id": "code.routine.2"}"#,
        ));
        assert_eq!(all.tags.task_type.unwrap().as_str(), "summary");
        assert_eq!(all.tags.complexity, complexity(b"frontier"));
    }

    #[test]
    fn what_shows_a_text_is_seen() {
        for obj in [
            r#"{"text": "x"}"#,
            r#"{"input_ids": [1]}"#,
            r#"{"messages": []}"#,
        ] {
            assert!(record(obj, "null", "{}").unwrap().shows_text, "{obj}");
        }
        let quiet = record(
            r#"{"text": null, "texts": "x"}"#,
            "null",
            r#"{"text": "x"}"#,
        )
        .unwrap();
        assert!(!quiet.shows_text);
        assert!(Record::read(br#"{"out": {}} {"#).is_err());
        assert!(
            Record::read(br#"{"out": {}}"#)
                .unwrap()
                .finished()
                .is_none()
        );
    }
}
