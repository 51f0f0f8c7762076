//! The log of SGLang, from 0.4 to 0.5.
//!
//! A server that is told to log requests as JSON without their text says everything of each when it is finished; such a
//! log is told by these records alone. So is the folder of `--export-metrics-to-file`. Any other log is told by uvicorn's
//! access lines, which have the path. Aborted requests, answers other than 2xx and health checks are counted and not told.

use jiff::Timestamp;
use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::record::{Meta, Record, Unserved};
use crate::models::exposure::Exposure;
use crate::models::feed::{Line, LineReader, Out};
use crate::models::logs::{counted, place_id};
use crate::models::paths::{Access, word};
use crate::models::request::{Request, Route};
use crate::models::scan::Scan;
use crate::models::zone::{Zone, civil};

const ADVICE: &str = "start SGLang with --log-requests-level 0 and --log-requests-format json";

const AS_TEXT: &str = "SGLang writes requests as text, of which nothing is read: start it with \
    --log-requests-format json and --log-requests-level 0, or before 0.5.7 without --log-requests";

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
    health_checks: u64,
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
                self.counts.health_checks,
                "health checks, which ask the model for one token, not counted",
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
        let record = Record::read(text);
        let shows = match &record {
            Ok(record) => record.shows_text,
            Err(_) => SHOWN
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
        let at = line.at.or_else(|| self.clock.local(stamp?));
        let finished = record.ok().and_then(Record::finished);
        self.finished(finished, at, line.place, out);
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
        let meta = Meta::read(line.text).ok();
        let at = meta.as_ref().and_then(Meta::sent).or(line.at);
        let finished = meta.map(|meta| meta.finished(Default::default()));
        self.finished(finished, at, line.place, out);
    }

    fn finished(
        &mut self,
        finished: Option<Result<Request, Unserved>>,
        at: Option<Timestamp>,
        place: u64,
        out: &mut dyn Out,
    ) {
        let count = match finished {
            Some(Ok(request)) => {
                return out.request(Request {
                    id: request.id.or_else(|| place_id(place)),
                    at,
                    ..request
                });
            }
            Some(Err(Unserved::Aborted)) => &mut self.counts.failed,
            Some(Err(Unserved::HealthCheck)) => &mut self.counts.health_checks,
            None => &mut self.counts.unread,
        };
        *count = count.saturating_add(1);
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
