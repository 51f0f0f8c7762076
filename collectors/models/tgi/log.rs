//! The log of Text Generation Inference and of Text Embeddings Inference.
//!
//! A request is told by its line `Success`, which has its times; for generated text they give the exact number of
//! output tokens. The line begins with what its caller chose, so that the times are read from its end, where nothing of
//! the caller's can stand. Lines of failed requests are counted and not told.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::models::exposure::Exposure;
use crate::models::feed::{Line, LineReader, Out};
use crate::models::few::Few;
use crate::models::logs::{counted, milliseconds, place_id};
use crate::models::paths::word;
use crate::models::request::{Request, Route};
use crate::models::scan::{Scan, duration_ns};
use crate::models::zone::civil;

const ADVICE: &str = "start the router with LOG_LEVEL=info";

/// Most tokens of one answer; a quotient beyond is no count.
const TOKENS_MAX: u64 = 10_000_000;

/// Part of a token by which the quotient may miss a whole number: the time per token is cut to nanoseconds.
const OFF_MAX: u64 = 20;

/// Functions that answer requests, and their paths.
const SPANS: [(&[u8], &[u8]); 13] = [
    (b"generate", b"/generate"),
    (b"generate_stream", b"/generate_stream"),
    (b"chat_completions", b"/v1/chat/completions"),
    (b"completions", b"/v1/completions"),
    (b"compat_generate", b"/"),
    (b"vertex_compatibility", b"/vertex"),
    (b"embed", b"/embed"),
    (b"embed_all", b"/embed_all"),
    (b"embed_sparse", b"/embed_sparse"),
    (b"openai_embed", b"/v1/embeddings"),
    (b"rerank", b"/rerank"),
    (b"predict", b"/predict"),
    (b"similarity", b"/similarity"),
];

/// Where the line `Success` is written.
const TARGETS: [(&[u8], &[u8]); 3] = [
    (b"text_generation_router::server", b"router/src/server.rs"),
    (
        b"text_embeddings_router::http::server",
        b"router/src/http/server.rs",
    ),
    (
        b"text_embeddings_router::grpc::server",
        b"router/src/grpc/server.rs",
    ),
];

/// Reads the log; its times are in UTC.
pub(crate) fn reader() -> Box<dyn LineReader> {
    Box::new(Reader::default())
}

#[derive(Default)]
struct Reader {
    state: State,
    failed: u64,
    cut: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    exposure: Exposure,
}

impl LineReader for Reader {
    fn tick(&mut self, at: Timestamp, _out: &mut dyn Out) {
        self.state.exposure.tick(at);
    }

    fn line(&mut self, line: Line<'_>, out: &mut dyn Out) {
        let Some(head) = Head::read(line.text) else {
            return;
        };
        if matches!(head.level, b"DEBUG" | b"TRACE") {
            self.state.exposure.seen();
        }
        if self.state.exposure.is_refused() {
            return;
        }
        match head.level {
            b"INFO" if line.is_cut => {
                let is_request = head.is_json || head.path().is_some();
                self.cut = self.cut.saturating_add(u64::from(is_request));
            }
            b"INFO" => {
                let success = if head.is_json {
                    json(line.text)
                } else {
                    text(&head)
                };
                if let Some(success) = success {
                    success.tell(&head, line, out);
                }
            }
            b"ERROR" => {
                let path = if head.is_json {
                    json_path(line.text)
                } else {
                    head.path()
                };
                self.failed = self.failed.saturating_add(u64::from(path.is_some()));
            }
            _ => {}
        }
    }

    fn checkpoint(&self) -> Option<String> {
        serde_json::to_string(&self.state).ok()
    }

    fn resume(&mut self, checkpoint: &str) {
        if let Ok(state) = serde_json::from_str::<State>(checkpoint) {
            self.state.exposure = state.exposure.resumed();
        }
    }

    fn refusal(&self) -> Option<String> {
        self.state.exposure.refusal(ADVICE)
    }

    fn trouble(&self) -> Option<String> {
        (self.cut > 0).then(|| {
            "lines of requests are too long to be read to their end, so that these requests are not counted: \
             send no grammars or stop sequences of that size, or read the server's metrics"
                .to_owned()
        })
    }

    fn details(&self) -> Vec<String> {
        counted(&[
            (
                self.failed,
                "lines about failed requests, not counted as served",
            ),
            (self.cut, "requests whose line is too long, not counted"),
        ])
    }
}

/// The beginning of a line: `2026-03-14T09:26:53.100724Z  INFO `, or the same as JSON.
struct Head<'a> {
    at: Option<Timestamp>,
    level: &'a [u8],
    is_json: bool,
    rest: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut scan = Scan::new(text);
        let is_json = scan.literal(b"{\"timestamp\":\"").is_some();
        let stamp = civil(&mut scan, b"-", b"T")?;
        scan.literal(b"Z")?;
        let level = if is_json {
            scan.literal(b"\",\"level\":\"")?;
            scan.until(b'"', 5)?
        } else {
            scan.blanks();
            scan.until(b' ', 5)?
        };
        let at = stamp
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp());
        Some(Self {
            at,
            level,
            is_json,
            rest: scan.rest(),
        })
    }

    /// The path of the function that begins here.
    fn path(&self) -> Option<&'static [u8]> {
        let mut scan = Scan::new(self.rest);
        let name = scan.name()?;
        scan.literal(b"{")?;
        span_path(name)
    }
}

fn span_path(name: &[u8]) -> Option<&'static [u8]> {
    SPANS
        .into_iter()
        .find(|(span, _)| *span == name)
        .map(|(_, path)| path)
}

/// A request that succeeded.
struct Success {
    path: &'static [u8],
    total_ns: u64,
    output_tokens: Option<u64>,
}

impl Success {
    fn tell(&self, head: &Head<'_>, line: Line<'_>, out: &mut dyn Out) {
        out.request(Request {
            id: place_id(line.place),
            at: head.at.or(line.at),
            output_tokens: self.output_tokens,
            duration_ms: Some(milliseconds(self.total_ns, 1_000_000)),
            route: Route {
                path: word(self.path),
                ..Route::default()
            },
            ..Request::default()
        });
    }
}

/// `generate{parameters=… total_time="1.8s" … seed="…"}: text_generation_router::server: router/src/server.rs:432: Success`
fn text(head: &Head<'_>) -> Option<Success> {
    let rest = head.rest.strip_suffix(b": Success")?;
    let digits = rest
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let rest = rest
        .get(..rest.len().checked_sub(digits)?)?
        .strip_suffix(b":")?;
    let mut places = TARGETS.into_iter();
    let rest = places.find_map(|(target, file)| {
        let rest = rest.strip_suffix(file)?.strip_suffix(b": ")?;
        rest.strip_suffix(target)?.strip_suffix(b"}: ")
    })?;
    let path = head.path()?;
    let mut tail = Tail { rest };
    tail.take(b"seed");
    let per_token = tail.take(b"time_per_token");
    let inference = tail.take(b"inference_time")?;
    tail.take(b"queue_time")?;
    tail.take(b"validation_time")
        .or_else(|| tail.take(b"tokenization_time"))?;
    let total = tail.take(b"total_time")?;
    Some(Success {
        path,
        total_ns: duration_ns(total)?,
        output_tokens: per_token.and_then(|per_token| tokens(inference, per_token)),
    })
}

/// The fields of a span, from the last to the first.
struct Tail<'a> {
    rest: &'a [u8],
}

impl<'a> Tail<'a> {
    /// Takes ` name="value"` or, as the first field of all, `{name="value"`.
    fn take(&mut self, name: &[u8]) -> Option<&'a [u8]> {
        /// Longer than any duration, and than a seed of 20 digits.
        const VALUE_MAX: usize = 40;
        let rest = self.rest.strip_suffix(b"\"")?;
        let value = rest
            .iter()
            .rev()
            .take(VALUE_MAX)
            .position(|byte| *byte == b'"')?;
        let (before, value) = rest.split_at_checked(rest.len().checked_sub(value)?)?;
        let before = before.strip_suffix(b"=\"")?.strip_suffix(name)?;
        let (separator, before) = before.split_last()?;
        if !matches!(separator, b' ' | b'{') {
            return None;
        }
        self.rest = before;
        Some(value)
    }
}

/// The same as JSON, where the parameters are one string among others.
fn json(text: &[u8]) -> Option<Success> {
    #[derive(Deserialize)]
    struct Json<'a> {
        message: &'a str,
        target: &'a str,
        #[serde(borrow)]
        span: Span<'a>,
    }
    #[derive(Deserialize)]
    struct Span<'a> {
        total_time: &'a str,
        inference_time: &'a str,
        time_per_token: Option<&'a str>,
    }
    let line: Json<'_> = serde_json::from_slice(text).ok()?;
    let target = line.target.as_bytes();
    let is_success = line.message == "Success" && TARGETS.iter().any(|(known, _)| *known == target);
    let span = is_success.then_some(line.span)?;
    let inference = span.inference_time.as_bytes();
    let per_token = span.time_per_token.map(str::as_bytes);
    Some(Success {
        path: json_path(text)?,
        total_ns: duration_ns(span.total_time.as_bytes())?,
        output_tokens: per_token.and_then(|per_token| tokens(inference, per_token)),
    })
}

/// The path of the function that was called first; it may have called others, such as `generate_stream` for a stream.
fn json_path(text: &[u8]) -> Option<&'static [u8]> {
    #[derive(Deserialize)]
    struct Json<'a> {
        #[serde(borrow)]
        spans: Few<Span<'a>, 1>,
    }
    #[derive(Deserialize)]
    struct Span<'a> {
        name: &'a str,
    }
    let line: Json<'_> = serde_json::from_slice(text).ok()?;
    span_path(line.spans.all.first()?.name.as_bytes())
}

/// How many tokens took this long, if it is a whole number of them.
fn tokens(inference: &[u8], per_token: &[u8]) -> Option<u64> {
    let (all, one) = (duration_ns(inference)?, duration_ns(per_token)?);
    let count = all.checked_add(one / 2)?.checked_div(one)?;
    let off = all.abs_diff(count.checked_mul(one)?);
    (count <= TOKENS_MAX && off <= one / OFF_MAX).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_a_whole_number_or_none() {
        let count = |all: &str, one: &str| tokens(all.as_bytes(), one.as_bytes());
        assert_eq!(count("1.842975172s", "18.429751ms"), Some(100));
        assert_eq!(count("1.84s", "18.4ms"), Some(100));
        assert_eq!(count("1.84s", "18.9ms"), None);
        assert_eq!(count("1.84s", "0ns"), None);
        assert_eq!(count("20000s", "1ns"), None);
    }

    #[test]
    fn what_a_caller_wrote_is_no_time() {
        let head = |rest: &'static str| Head {
            at: None,
            level: b"INFO",
            is_json: false,
            rest: rest.as_bytes(),
        };
        let times = r#"total_time="2s" validation_time="1µs" queue_time="1µs" inference_time="2s" time_per_token="1s" seed="None"}: text_generation_router::server: router/src/server.rs:1: Success"#;
        let forged =
            r#"generate{parameters=GenerateParameters { stop: ["\" total_time=\"9s\" "] } "#;
        let line: &'static str = Box::leak(format!("{forged}{times}").into());
        let success = text(&head(line)).unwrap();
        assert_eq!(
            (success.total_ns, success.output_tokens),
            (2_000_000_000, Some(2))
        );
        let first: &'static str = Box::leak(format!("chat_completions{{{times}").into());
        assert!(text(&head(first)).is_some());
        let other: &'static str = Box::leak(format!("health{{{times}").into());
        assert!(text(&head(other)).is_none());
    }
}
