//! The log of SGLang, from 0.4 to 0.5.
//!
//! A server that is told to log requests as JSON without their text says everything of each when it is finished; such a
//! log is told by these records alone. So is the folder of `--export-metrics-to-file`. Any other log is told by uvicorn's
//! access lines, which have the path. Aborted requests and answers other than 2xx are counted and not told.

use std::time::Duration;

use jiff::Timestamp;
use memchr::memmem;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::models::convention::{complexity, tags};
use crate::models::exposure::Exposure;
use crate::models::feed::{Line, LineReader, Out};
use crate::models::logs::{counted, place_id};
use crate::models::paths::{Access, word};
use crate::models::request::{Request, Route, Tags, Word};
use crate::models::scan::Scan;
use crate::models::zone::{Zone, civil};

const ADVICE: &str = "start SGLang with --log-requests-level 0 and --log-requests-format json";

const AS_TEXT: &str = "SGLang writes requests as text, of which nothing is read: start it with \
    --log-requests-format json and --log-requests-level 0";

/// What a line that is too long to be read shows when it has a prompt.
const SHOWN: [&[u8]; 4] = [
    b"\"text\": \"",
    b"\"messages\": [",
    b"\"input_ids\": [",
    b"\"output_ids\": [",
];

/// The same inside the text of another JSON.
const SHOWN_INSIDE: [&[u8]; 4] = [
    b"\\\"text\\\": \\\"",
    b"\\\"text\\\": [",
    b"\\\"messages\\\": [",
    b"\\\"input_ids\\\": [",
];

/// Reads the log; its lines are in the local time of the server.
pub(crate) fn reader(clock: Zone) -> Box<dyn LineReader> {
    Box::new(Reader {
        clock,
        state: State::default(),
        counts: Counts::default(),
    })
}

struct Reader {
    clock: Zone,
    state: State,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    failed: u64,
    unread: u64,
    is_text: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    exposure: Exposure,
    /// Whether this log has records of requests, so that access lines are not told.
    has_records: bool,
}

impl LineReader for Reader {
    fn tick(&mut self, at: Timestamp, _out: &mut dyn Out) {
        self.clock.tick(at);
        self.state.exposure.tick(at);
    }

    fn line(&mut self, line: Line<'_>, out: &mut dyn Out) {
        let mut scan = Scan::new(line.text);
        if scan.literal(b"{\"request_parameters\": ").is_some() {
            return self.exported(line, out);
        }
        if scan.literal(b"[").is_none() {
            return;
        }
        let Some(stamp) = civil(&mut scan, b"-", b" ") else {
            return;
        };
        // The rank, ` TP0`, where there are several.
        if scan.until(b']', 32).is_none() || scan.literal(b" ").is_none() {
            return;
        }
        match scan.rest().first() {
            Some(b'{') => self.record(scan.rest(), line, out),
            Some(b'I') if scan.literal(b"INFO:").is_some() => {
                let access = Access::uvicorn(&mut scan, b"\"");
                if let Some(access) = access.filter(|_| !self.state.exposure.is_refused()) {
                    let at = line.at.or_else(|| self.clock.local(stamp));
                    self.answered(access, at, line.place, out);
                }
            }
            Some(b'R' | b'F') => self.as_text(scan.rest()),
            _ => {}
        }
    }

    fn checkpoint(&self) -> Option<String> {
        serde_json::to_string(&self.state).ok()
    }

    fn resume(&mut self, checkpoint: &str) {
        if let Ok(mut state) = serde_json::from_str::<State>(checkpoint) {
            state.exposure = state.exposure.resumed();
            self.state = state;
        }
    }

    fn refusal(&self) -> Option<String> {
        self.state.exposure.refusal(ADVICE)
    }

    fn trouble(&self) -> Option<String> {
        if self.counts.is_text {
            return Some(AS_TEXT.to_owned());
        }
        self.clock.trouble().map(str::to_owned)
    }

    fn details(&self) -> Vec<String> {
        counted(&[
            (
                self.counts.failed,
                "requests that failed or were aborted, not counted as served",
            ),
            (
                self.counts.unread,
                "records of requests that make no sense or are too long, not counted",
            ),
        ])
    }
}

impl Reader {
    /// A line of JSON behind the stamp.
    fn record(&mut self, text: &[u8], line: Line<'_>, out: &mut dyn Out) {
        let mut scan = Scan::new(text);
        if scan.literal(b"{\"timestamp\": \"").is_none() {
            return;
        }
        let stamp = civil(&mut scan, b"-", b"T");
        if scan.literal(b"\", \"event\": \"request.").is_none() {
            return;
        }
        let is_finished = scan.literal(b"finished\"").is_some();
        let record = serde_json::from_slice::<Record<'_>>(text).ok();
        let shows = match &record {
            Some(record) => record.shows_prompt(),
            None => SHOWN
                .iter()
                .any(|shown| memmem::find(text, shown).is_some()),
        };
        if shows {
            self.state.exposure.seen();
        }
        if self.state.exposure.is_refused() {
            return;
        }
        self.state.has_records = true;
        if !is_finished {
            return;
        }
        let Some(Record {
            obj: Some(asked),
            headers,
            out:
                Some(Answer {
                    meta_info: Some(meta),
                    ..
                }),
            ..
        }) = record
        else {
            self.counts.unread = self.counts.unread.saturating_add(1);
            return;
        };
        let at = line.at.or_else(|| self.clock.local(stamp?));
        let mut tagged = asked.custom_labels.map(Labels::tags).unwrap_or_default();
        tagged = or(tagged, headers.map(Headers::tags).unwrap_or_default());
        self.finished(&meta, tagged, at, line.place, out);
    }

    /// A line of `--export-metrics-to-file`.
    fn exported(&mut self, line: Line<'_>, out: &mut dyn Out) {
        if SHOWN_INSIDE
            .iter()
            .any(|shown| memmem::find(line.text, shown).is_some())
        {
            self.state.exposure.seen();
        }
        if self.state.exposure.is_refused() {
            return;
        }
        let Ok(meta) = serde_json::from_slice::<Meta<'_>>(line.text) else {
            self.counts.unread = self.counts.unread.saturating_add(1);
            return;
        };
        let at = meta.response_sent_to_client_ts.and_then(moment);
        self.finished(&meta, Tags::default(), at.or(line.at), line.place, out);
    }

    fn finished(
        &mut self,
        meta: &Meta<'_>,
        tagged: Tags,
        at: Option<Timestamp>,
        place: u64,
        out: &mut dyn Out,
    ) {
        if meta
            .finish_reason
            .as_ref()
            .is_some_and(|reason| reason.kind == "abort")
        {
            self.counts.failed = self.counts.failed.saturating_add(1);
            return;
        }
        let id = meta.id.and_then(|id| Word::new(id.as_bytes()));
        let by_id = meta.id.map(|id| tags(id.as_bytes())).unwrap_or_default();
        out.request(Request {
            tags: or(tagged, by_id),
            id: id.or_else(|| place_id(place)),
            at,
            input_tokens: meta.prompt_tokens,
            output_tokens: meta.completion_tokens,
            duration_ms: meta.e2e_latency.and_then(milliseconds),
            ..Request::default()
        });
    }

    fn answered(&mut self, access: Access, at: Option<Timestamp>, place: u64, out: &mut dyn Out) {
        if !access.is_served {
            self.counts.failed = self.counts.failed.saturating_add(1);
        } else if !self.state.has_records {
            out.request(Request {
                id: place_id(place),
                at,
                route: Route {
                    path: word(access.path),
                    ..Route::default()
                },
                ..Request::default()
            });
        }
    }

    /// `Receive: obj=GenerateReqInput(…)` and `Finish: obj=…`, where strings of callers stand between the fields.
    fn as_text(&mut self, text: &[u8]) {
        if !text.starts_with(b"Receive: obj=") && !text.starts_with(b"Finish: obj=") {
            return;
        }
        self.counts.is_text = true;
        let shown = [
            &b"text='"[..],
            b"text=\"",
            b"text=[",
            b"'text': '",
            b"'text': \"",
            b"input_ids=[",
        ];
        if shown
            .into_iter()
            .any(|shown| memmem::find(text, shown).is_some())
        {
            self.state.exposure.seen();
        }
    }
}

/// A record of a request; every other field is passed over.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    obj: Option<Asked<'a>>,
    headers: Option<Headers<'a>>,
    out: Option<Answer<'a>>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    text: Option<IgnoredAny>,
    input_ids: Option<IgnoredAny>,
    input_embeds: Option<IgnoredAny>,
    messages: Option<IgnoredAny>,
    prompt: Option<IgnoredAny>,
    input: Option<IgnoredAny>,
    #[serde(borrow)]
    custom_labels: Option<Labels<'a>>,
}

/// Labels that a caller gives in the header `x-custom-labels`.
#[derive(Deserialize)]
struct Labels<'a> {
    task_type: Option<&'a str>,
    complexity: Option<&'a str>,
}

/// Headers that `SGLANG_LOG_REQUEST_HEADERS` lets into the log.
#[derive(Deserialize)]
struct Headers<'a> {
    #[serde(rename = "x-task-type")]
    task_type: Option<&'a str>,
    #[serde(rename = "x-complexity")]
    complexity: Option<&'a str>,
    #[serde(rename = "x-request-id")]
    request_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    text: Option<IgnoredAny>,
    output_ids: Option<IgnoredAny>,
    #[serde(borrow)]
    meta_info: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    id: Option<&'a str>,
    #[serde(borrow)]
    finish_reason: Option<Reason<'a>>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    e2e_latency: Option<f64>,
    response_sent_to_client_ts: Option<f64>,
}

#[derive(Deserialize)]
struct Reason<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

impl Record<'_> {
    fn shows_prompt(&self) -> bool {
        let asked = self.obj.as_ref().is_some_and(|asked| {
            let shown = [&asked.text, &asked.input_ids, &asked.input_embeds];
            let of_openai = [&asked.messages, &asked.prompt, &asked.input];
            shown.into_iter().chain(of_openai).any(Option::is_some)
        });
        let answer = self.out.as_ref();
        asked || answer.is_some_and(|answer| answer.text.is_some() || answer.output_ids.is_some())
    }
}

impl Labels<'_> {
    fn tags(self) -> Tags {
        tagged(self.task_type, self.complexity)
    }
}

impl Headers<'_> {
    fn tags(self) -> Tags {
        let by_id = self
            .request_id
            .map(|id| tags(id.as_bytes()))
            .unwrap_or_default();
        or(tagged(self.task_type, self.complexity), by_id)
    }
}

fn tagged(task: Option<&str>, word: Option<&str>) -> Tags {
    Tags {
        task_type: task.and_then(|task| Word::new(task.as_bytes())),
        complexity: word.and_then(|word| complexity(word.as_bytes())),
    }
}

/// What the first says, and else the second.
fn or(first: Tags, second: Tags) -> Tags {
    Tags {
        task_type: first.task_type.or(second.task_type),
        complexity: first.complexity.or(second.complexity),
    }
}

fn milliseconds(seconds: f64) -> Option<u64> {
    let time = Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(time.as_micros().saturating_add(500) / 1_000).ok()
}

fn moment(unix: f64) -> Option<Timestamp> {
    let since = Duration::try_from_secs_f64(unix).ok()?;
    Timestamp::from_microsecond(i64::try_from(since.as_micros()).ok()?).ok()
}
