//! The log of llama.cpp's server, from 2023 to its router of 2026.
//!
//! Requests that generate are told by their times, each once, when its task is done. Embeddings and ranking have no
//! times; servers until 2025 wrote a line about each HTTP request, and those of these paths are told by it. What failed or
//! was cancelled is counted and not told.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::models::exposure::Exposure;
use crate::models::feed::{Line, LineReader, Out};
use crate::models::logs::{counted, milliseconds, place_id};
use crate::models::paths::{inference, word};
use crate::models::request::{Request, Route, Sum, Word};
use crate::models::scan::Scan;
use crate::models::timing::{Done, Timings, said, shows_prompt};

const ADVICE: &str = "start llama-server without -v, --verbose and with --verbosity 3 or less";

/// Processes behind a router whose models are remembered. A router keeps four loaded unless told otherwise.
const MODELS_MAX: usize = 64;

/// Paths of requests that have no times.
const UNTIMED: [&[u8]; 8] = [
    b"/embedding",
    b"/embeddings",
    b"/rerank",
    b"/reranking",
    b"/v1/embeddings",
    b"/v1/rerank",
    b"/v1/reranking",
    b"/v2/rerank",
];

/// Reads the log; its own times need no zone.
pub(crate) fn reader() -> Box<dyn LineReader> {
    Box::new(Reader::default())
}

#[derive(Default)]
struct Reader {
    state: State,
    failed: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    exposure: Exposure,
    timings: Timings,
    models: Vec<Model>,
}

/// What the process behind a port serves.
#[derive(Serialize, Deserialize)]
struct Model {
    port: Option<u16>,
    name: Option<Word>,
}

impl LineReader for Reader {
    fn tick(&mut self, at: Timestamp, out: &mut dyn Out) {
        self.state.exposure.tick(at);
        for done in self.state.timings.tick() {
            self.tell(&done, out);
        }
    }

    fn line(&mut self, line: Line<'_>, out: &mut dyn Out) {
        let Some(bare) = Bare::of(line.text) else {
            return;
        };
        if bare.is_debug || shows_prompt(bare.text) {
            self.state.exposure.seen();
        }
        // Lines about tasks are short; the number that a cut one ends with may be half of it.
        if self.state.exposure.is_refused() || line.is_cut {
            return;
        }
        if let Some(said) = said(bare.text, bare.port) {
            if let Some(done) = self.state.timings.take(said, line.at, line.place) {
                self.tell(&done, out);
            }
        } else if let Some(access) = access(bare.text) {
            self.answered(&access, line, out);
        } else if let Some((port, name)) = loaded(&bare) {
            if bare.port == port {
                self.state.timings.restarted(port);
            }
            self.serves(port, name);
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
        state.timings = state.timings.resumed();
        state.models.truncate(MODELS_MAX);
        self.state = state;
    }

    fn refusal(&self) -> Option<String> {
        self.state.exposure.refusal(ADVICE)
    }

    fn details(&self) -> Vec<String> {
        let counts = self.state.timings.counts();
        counted(&[
            (self.failed, "requests that failed, not counted as served"),
            (
                counts.cancelled,
                "requests that were cancelled, not counted as served",
            ),
            (
                counts.confused,
                "requests whose lines do not add up, told without tokens",
            ),
            (
                counts.repeated,
                "requests that a copy of the log repeats, told once",
            ),
            (
                counts.forgotten,
                "requests without their last line, forgotten",
            ),
        ])
    }
}

impl Reader {
    fn tell(&self, done: &Done, out: &mut dyn Out) {
        let model = self.model(done.port);
        if done.is_child {
            out.sum(Sum {
                at: done.at,
                model,
                requests: Some(0),
                output_tokens: done.output_tokens,
                ..Sum::default()
            });
            return;
        }
        out.request(Request {
            id: place_id(done.place),
            at: done.at,
            model,
            input_tokens: done.input_tokens,
            output_tokens: done.output_tokens,
            duration_ms: Some(milliseconds(done.duration_us, 1_000)),
            ..Request::default()
        });
    }

    fn answered(&mut self, access: &Access, line: Line<'_>, out: &mut dyn Out) {
        if !access.is_served {
            self.failed = self.failed.saturating_add(1);
        } else if UNTIMED.contains(&access.path) {
            out.request(Request {
                id: place_id(line.place),
                at: line.at.or(access.at),
                model: self.model(None),
                route: Route {
                    path: word(access.path),
                    ..Route::default()
                },
                ..Request::default()
            });
        }
    }

    fn model(&self, port: Option<u16>) -> Option<Word> {
        let known = self.state.models.iter().find(|model| model.port == port)?;
        known.name.clone()
    }

    fn serves(&mut self, port: Option<u16>, name: Option<Word>) {
        self.state.models.retain(|model| model.port != port);
        if self.state.models.len() >= MODELS_MAX {
            self.state.models.remove(0);
        }
        self.state.models.push(Model { port, name });
    }
}

/// A line without what may stand before it.
struct Bare<'a> {
    text: &'a [u8],
    port: Option<u16>,
    is_debug: bool,
}

impl<'a> Bare<'a> {
    fn of(text: &'a [u8]) -> Option<Self> {
        let mut scan = Scan::new(text);
        let mut port = None;
        if scan.literal(b"[").is_some() {
            port = Some(u16::try_from(scan.digits(5)?).ok()?);
            scan.literal(b"] ")?;
        }
        let mut is_debug = false;
        match scan.rest().first()? {
            b'0'..=b'9' => {
                scan.digits(9)?;
                for digits in [2, 3, 3] {
                    scan.literal(b".")?;
                    scan.digits(digits)?;
                }
                scan.literal(b" ")?;
                is_debug = scan.literal(b"D ").is_some();
                if !is_debug {
                    let level = [&b"I "[..], b"W ", b"E "];
                    level.into_iter().find_map(|level| scan.literal(level))?;
                }
            }
            b'{' if scan.rest().starts_with(b"{\"type\":\"log\",\"time\":") => {
                scan.literal(b"{\"type\":\"log\",\"time\":")?;
                scan.digits(15)?;
                scan.literal(b",\"level\":\"")?;
                is_debug = scan.until(b'"', 8)? == b"debug";
                scan.literal(b",\"msg\":\"")?;
                let text = scan.rest().strip_suffix(b"\"}").unwrap_or(scan.rest());
                let text = text.strip_suffix(b"\\n").unwrap_or(text);
                return Some(Self {
                    text,
                    port,
                    is_debug,
                });
            }
            _ => {}
        }
        let text = scan.rest();
        Some(Self {
            text,
            port,
            is_debug,
        })
    }
}

/// `srv    load_model: loading model '/models/qwen.gguf'` of a process, or `srv  proxy_reques: proxying request to model
/// qwen on port 64126` of the router about one.
fn loaded(bare: &Bare<'_>) -> Option<(Option<u16>, Option<Word>)> {
    let mut scan = Scan::new(bare.text);
    scan.literal(b"srv  ")?;
    if scan.literal(b"  load_model: loading model '").is_some() {
        let path = scan.until(b'\'', 4_096)?;
        let file = path.rsplit(|byte| *byte == b'/').next()?;
        return Some((bare.port, Word::new(file)));
    }
    scan.literal(b"proxy_reques: proxying request to model ")?;
    let name = Word::new(scan.name()?)?;
    scan.literal(b" on port ")?;
    let port = u16::try_from(scan.digits(5)?).ok()?;
    (bare.port.is_none()).then_some((Some(port), Some(name)))
}

/// What the server said about one HTTP request.
struct Access {
    path: &'static [u8],
    is_served: bool,
    at: Option<Timestamp>,
}

fn access(text: &[u8]) -> Option<Access> {
    match text.first()? {
        b's' => access_of_2025(text),
        b'I' => access_of_2024(text),
        b'{' => access_of_json(text),
        _ => None,
    }
}

/// `srv  log_server_r: request: POST /v1/embeddings 127.0.0.1 200`
fn access_of_2025(text: &[u8]) -> Option<Access> {
    let mut scan = Scan::new(text);
    scan.literal(b"srv  log_server_r: request: POST ")?;
    let path = inference(scan.name()?)?;
    scan.literal(b" ")?;
    scan.until(b' ', 64)?;
    Some(Access {
        path,
        is_served: matches!(scan.digits(3)?, 200..=299),
        at: None,
    })
}

/// `INFO [      log_server_request] request | tid="1" timestamp=2 remote_addr="…" remote_port=3 status=200 method="POST"
/// path="/v1/embeddings" params={}`
fn access_of_2024(text: &[u8]) -> Option<Access> {
    let mut scan = Scan::new(text);
    scan.literal(b"INFO [      log_server_request] request | tid=\"")?;
    scan.digits(15)?;
    scan.literal(b"\" timestamp=")?;
    let at = scan.digits(10)?;
    scan.literal(b" remote_addr=\"")?;
    scan.until(b'"', 64)?;
    scan.literal(b" remote_port=")?;
    let _ = scan.literal(b"-");
    scan.digits(5)?;
    scan.literal(b" status=")?;
    let is_served = matches!(scan.digits(3)?, 200..=299);
    scan.literal(b" method=\"POST\" path=\"")?;
    let path = inference(scan.until(b'"', 64)?)?;
    let at = i64::try_from(at)
        .ok()
        .and_then(|at| Timestamp::from_second(at).ok());
    Some(Access {
        path,
        is_served,
        at,
    })
}

/// The same as JSON, in 2023 and 2024.
fn access_of_json(text: &[u8]) -> Option<Access> {
    #[derive(Deserialize)]
    struct Json<'a> {
        function: &'a str,
        timestamp: i64,
        status: u16,
        method: &'a str,
        path: &'a str,
    }
    let is_access = text.starts_with(b"{\"function\":\"log_server_request\",")
        || text.starts_with(b"{\"timestamp\":");
    let line: Json<'_> = is_access
        .then(|| serde_json::from_slice(text).ok())
        .flatten()?;
    let is_request = line.function == "log_server_request" && line.method == "POST";
    let path = inference(line.path.as_bytes()).filter(|_| is_request)?;
    Some(Access {
        path,
        is_served: (200..300).contains(&line.status),
        at: Timestamp::from_second(line.timestamp).ok(),
    })
}
