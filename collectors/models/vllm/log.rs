//! The log of vLLM, from 0.5 to 0.33.
//!
//! No line has all of a request. Requests are told by one kind of line: in a log of the engine inside the
//! server's process (V0), by `Finished request`, which has the id and, with `Added request`, the duration; in every other
//! log by uvicorn's access line, which has the path, and to which the oldest id that was received for that path is
//! added. Answers other than 2xx and aborted requests are counted and not told. Of `Received request` nothing behind
//! the id is looked at.

use std::collections::VecDeque;

use jiff::Timestamp;
use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::id::{Id, Kind};
use crate::models::exposure::Exposure;
use crate::models::feed::{Line, LineReader, Out};
use crate::models::logs::{counted, place_id};
use crate::models::paths::{Access, word};
use crate::models::request::{Request, Route, Word};
use crate::models::scan::Scan;
use crate::models::zone::{Yearless, Zone, civil};

const ADVICE: &str = "start vLLM without VLLM_LOGGING_LEVEL=DEBUG, --enable-log-outputs, VLLM_DEBUG_LOG_API_SERVER_RESPONSE \
    and VLLM_REQUEST_BODY_LOG_LEVEL, or read its metrics";

const PROMPTS: &str = "vLLM writes prompts into this log; each line is read as far as the id of its request. \
    Start vLLM with --disable-log-requests (before 0.10.1), or read its metrics";

/// Requests that may wait for their other line. An engine runs 256 or 1024 at once and lets others wait.
const PENDING_MAX: usize = 1_024;

/// How far into the first line of an engine its configuration is looked at.
const CONFIG_MAX: usize = 16_384;

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
    forgotten: u64,
    has_access: bool,
    has_prompts: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    exposure: Exposure,
    /// Whether this log says when a request is finished, so that access lines are not told.
    is_finishing: bool,
    model: Option<Word>,
    pending: VecDeque<Half>,
}

/// A request that was received.
#[derive(Serialize, Deserialize)]
struct Half {
    id: Word,
    added: Option<Timestamp>,
}

impl LineReader for Reader {
    fn tick(&mut self, at: Timestamp, _out: &mut dyn Out) {
        self.clock.tick(at);
        self.state.exposure.tick(at);
    }

    fn line(&mut self, line: Line<'_>, out: &mut dyn Out) {
        let Some(mut event) = Event::read(line.text) else {
            return;
        };
        if event.shows_prompt() {
            self.state.exposure.seen();
        }
        if self.state.exposure.is_refused() {
            return;
        }
        match event.from {
            From::Access => {
                if let Some(access) = Access::uvicorn(&mut event.message, event.quote) {
                    let at = event.at(line, &mut self.clock);
                    self.answered(access, at, line.place, out);
                }
            }
            From::Requests => self.received(&mut event, line),
            From::Engine | From::EngineInside => self.changed(&mut event, line, out),
            From::Core => {
                if let Some(model) = model(event.message) {
                    // The name under which it is served stands far behind.
                    self.state.model = model.filter(|_| !line.is_cut);
                    self.state.pending.clear();
                }
            }
        }
    }

    fn checkpoint(&self) -> Option<String> {
        serde_json::to_string(&self.state).ok()
    }

    fn resume(&mut self, checkpoint: &str) {
        let Ok(mut state) = serde_json::from_str::<State>(checkpoint) else {
            return;
        };
        state.exposure = state.exposure.resumed();
        state.pending.truncate(PENDING_MAX);
        self.state = state;
    }

    fn refusal(&self) -> Option<String> {
        self.state.exposure.refusal(ADVICE)
    }

    fn trouble(&self) -> Option<String> {
        let counts = &self.counts;
        if counts.has_prompts {
            return Some(PROMPTS.to_owned());
        }
        if counts.forgotten > 0 && !counts.has_access && !self.state.is_finishing {
            return Some(
                "the log has requests but no access lines, so that none is counted: start vLLM \
                 without --disable-uvicorn-access-log, or read its metrics"
                    .to_owned(),
            );
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
                self.counts.forgotten,
                "ids of requests without a line about their answer, forgotten",
            ),
        ])
    }
}

impl Reader {
    fn received(&mut self, event: &mut Event<'_>, line: Line<'_>) {
        let scan = &mut event.message;
        if scan.literal(b"Received request ").is_none() {
            return;
        }
        let Some(id) = scan.id().and_then(Word::new) else {
            return;
        };
        if scan.literal(b": ").is_none() {
            return;
        }
        self.counts.has_prompts |= scan.literal(b"prompt: ").is_some();
        if !Id(&id).is_first() {
            return;
        }
        if self.state.pending.len() >= PENDING_MAX {
            self.state.pending.pop_front();
            self.counts.forgotten = self.counts.forgotten.saturating_add(1);
        }
        let added = event.at(line, &mut self.clock);
        self.state.pending.push_back(Half { id, added });
    }

    fn changed(&mut self, event: &mut Event<'_>, line: Line<'_>, out: &mut dyn Out) {
        let scan = &mut event.message;
        if event.from == From::EngineInside && scan.literal(b"Added request ").is_some() {
            self.state.is_finishing = true;
        } else if event.from == From::EngineInside && scan.literal(b"Finished request ").is_some() {
            self.state.is_finishing = true;
            let half = whole_id(scan).and_then(|id| self.take(id));
            if let Some(half) = half {
                let at = event.at(line, &mut self.clock);
                let span = at
                    .zip(half.added)
                    .map(|(at, added)| at.duration_since(added));
                let ms = span.and_then(|span| u64::try_from(span.as_millis()).ok());
                let path = Id(&half.id).path();
                self.tell(Some(half.id), at, path, ms, line.place, out);
            }
        } else if scan.literal(b"Aborted request").is_some() {
            let _ = scan.literal(b"(s)");
            if scan.literal(b" ").is_none() {
                return;
            }
            while let Some(id) = whole_id(scan) {
                self.take(id);
                self.counts.failed = self.counts.failed.saturating_add(1);
            }
        } else if scan.literal(b"Request ").is_some()
            && let Some(id) = scan.id()
            && scan.literal(b" failed").is_some()
        {
            self.take(id);
            self.counts.failed = self.counts.failed.saturating_add(1);
        }
    }

    fn answered(&mut self, access: Access, at: Option<Timestamp>, place: u64, out: &mut dyn Out) {
        self.counts.has_access = true;
        if !access.is_served {
            self.counts.failed = self.counts.failed.saturating_add(1);
        } else if !self.state.is_finishing {
            let kind = Kind::of_path(access.path);
            let mut pending = self.state.pending.iter();
            let oldest = pending.position(|half| Id(&half.id).kind() == kind);
            let half = oldest.and_then(|at| self.state.pending.remove(at));
            self.tell(half.map(|half| half.id), at, access.path, None, place, out);
        }
    }

    fn take(&mut self, id: &[u8]) -> Option<Half> {
        let mut pending = self.state.pending.iter();
        let at = pending.position(|half| half.id.as_str().as_bytes() == id)?;
        self.state.pending.remove(at)
    }

    fn tell(
        &self,
        id: Option<Word>,
        at: Option<Timestamp>,
        path: &'static [u8],
        duration_ms: Option<u64>,
        place: u64,
        out: &mut dyn Out,
    ) {
        out.request(Request {
            tags: id.as_ref().map(|id| Id(id).tags()).unwrap_or_default(),
            id: id.or_else(|| place_id(place)),
            at,
            model: self.state.model.clone(),
            duration_ms,
            route: Route {
                path: word(path),
                ..Route::default()
            },
            ..Request::default()
        });
    }
}

/// An id that ends the message or stands before the next one.
fn whole_id<'a>(scan: &mut Scan<'a>) -> Option<&'a [u8]> {
    let id = scan.id()?;
    let id = id.strip_suffix(b".").unwrap_or(id);
    let _ = scan.literal(b",");
    scan.blanks();
    Some(id)
}

/// Who wrote a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// uvicorn, about HTTP.
    Access,
    /// The log of requests.
    Requests,
    /// An engine beside the server's process, or V1.
    Engine,
    /// An engine inside the server's process.
    EngineInside,
    /// What starts an engine.
    Core,
}

/// A line of a place that is looked at.
struct Event<'a> {
    from: From,
    stamp: Option<Stamp>,
    message: Scan<'a>,
    /// How a quote stands in the message.
    quote: &'static [u8],
}

#[derive(Clone, Copy)]
enum Stamp {
    Yearless(Yearless),
    Local(jiff::civil::DateTime),
}

impl<'a> Event<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut scan = Scan::new(text);
        if scan.literal(b"{\"asctime\": \"").is_some() {
            return Self::json(scan);
        }
        // `(APIServer pid=7) `, since 0.10.1.
        if scan.literal(b"(").is_some() {
            scan.until(b')', 64)?;
            scan.literal(b" ")?;
        }
        const LEVELS: [&[u8]; 4] = [b"INFO", b"ERROR", b"DEBUG", b"WARNING"];
        LEVELS.into_iter().find_map(|level| scan.literal(level))?;
        if scan.literal(b":").is_some() {
            return Some(Self {
                from: From::Access,
                stamp: None,
                message: scan,
                quote: b"\"",
            });
        }
        scan.literal(b" ")?;
        let stamp = Yearless::read(&mut scan)?;
        scan.literal(b" ")?;
        let _ = scan.literal(b"[");
        let file = scan.until(b':', 64)?;
        let from = match file {
            b"logger.py" | b"request_logger.py" => From::Requests,
            b"async_llm_engine.py" => From::EngineInside,
            b"engine.py" | b"async_llm.py" => From::Engine,
            b"core.py" | b"llm_engine.py" => From::Core,
            // The only line of it that is looked at shows an answer.
            b"api_server.py" | b"server_utils.py" => From::Requests,
            _ => return None,
        };
        scan.digits(6)?;
        scan.literal(b"] ")?;
        Some(Self {
            from,
            stamp: Some(Stamp::Yearless(stamp)),
            message: scan,
            quote: b"\"",
        })
    }

    /// `…", "levelname": "INFO", "name": "uvicorn.access", "processName": "…", "process": 7, "message": "…`
    fn json(mut scan: Scan<'a>) -> Option<Self> {
        let stamp = civil(&mut scan, b"-", b" ")?;
        scan.literal(b"\", \"levelname\": \"")?;
        scan.until(b'"', 16)?;
        scan.literal(b", \"name\": \"")?;
        let name = scan.until(b'"', 128)?;
        let from = match name.rsplit(|byte| *byte == b'.').next()? {
            b"access" => From::Access,
            b"logger" | b"request_logger" | b"api_server" | b"server_utils" => From::Requests,
            b"async_llm" => From::Engine,
            b"core" => From::Core,
            _ => return None,
        };
        scan.literal(b", \"processName\": \"")?;
        scan.until(b'"', 64)?;
        scan.literal(b", \"process\": ")?;
        scan.digits(10)?;
        scan.literal(b", \"message\": \"")?;
        Some(Self {
            from,
            stamp: Some(Stamp::Local(stamp)),
            message: scan,
            quote: b"\\\"",
        })
    }

    /// When it was written, by the wrapper or by itself.
    fn at(&self, line: Line<'_>, clock: &mut Zone) -> Option<Timestamp> {
        line.at.or_else(|| match self.stamp? {
            Stamp::Yearless(stamp) => clock.yearless(stamp),
            Stamp::Local(stamp) => clock.local(stamp),
        })
    }

    /// `Request … details: prompt: …`, `Request … JSON body: …`, `Generated response …`, `response_body={…}`.
    fn shows_prompt(&self) -> bool {
        if self.from != From::Requests {
            return false;
        }
        let mut scan = self.message;
        if scan.literal(b"Generated response ").is_some()
            || scan.literal(b"response_body=").is_some()
        {
            return true;
        }
        scan.literal(b"Request ").is_some()
            && scan.id().is_some()
            && (scan.literal(b" details: ").is_some() || scan.literal(b" JSON body: ").is_some())
    }
}

/// The model of an engine that starts: the name under which it is served, else what was loaded. Nothing for other lines.
fn model(mut scan: Scan<'_>) -> Option<Option<Word>> {
    scan.literal(b"Initializing a")?;
    let _ = scan.literal(b"n");
    scan.literal(b" ")?;
    let _ = scan.literal(b"V1 ");
    scan.literal(b"LLM engine (v")?;
    scan.until(b')', 64)?;
    scan.literal(b" with config: model='")?;
    let loaded = scan.until(b'\'', 1_024)?;
    let config = scan.rest().get(..CONFIG_MAX).unwrap_or(scan.rest());
    const SERVED: &[u8] = b", served_model_name=";
    let served = memmem::find(config, SERVED).and_then(|at| config.get(at + SERVED.len()..));
    let served = served
        .and_then(|rest| Scan::new(rest).name())
        .and_then(Word::new);
    Some(served.or_else(|| Word::new(loaded)))
}
