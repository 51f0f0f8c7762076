//! The log of Ollama, from 2023 to 2026.
//!
//! Every request is told by its `[GIN]` line, once, when it was answered with 2xx. Where the server that generates
//! writes times, they lend it their tokens. Other answers are counted and not told.

use std::collections::VecDeque;

use jiff::Timestamp;
use jiff::civil::DateTime;
use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::models::exposure::Exposure;
use crate::models::feed::{Line, LineReader, Out};
use crate::models::logs::{counted, milliseconds, place_id};
use crate::models::paths::{inference, word};
use crate::models::request::{Request, Route, Word};
use crate::models::scan::{Scan, duration_ns};
use crate::models::timing::{Done, Timings, said, shows_prompt};
use crate::models::zone::{Zone, civil};

const ADVICE: &str =
    "start ollama without OLLAMA_DEBUG, or with OLLAMA_DEBUG=1 at most from 0.9 on";

/// Halves of requests of either kind. Four models with four requests each run at once unless told otherwise.
const HALVES_MAX: usize = 64;

/// Ticks after which a task waits no longer for its answer: a slow caller takes the last part some seconds later. An
/// answer that never comes must not wait until it fits another request.
const TASK_TICKS_MAX: u8 = 10;

/// Ticks after which an answer waits no longer for its task, whose lines come through another process at the same time.
const ANSWER_TICKS_MAX: u8 = 3;

/// By how much times may be longer than the request that they are part of: both are rounded.
const ROUNDING_US: u64 = 20_000;

/// What comes before the path of a model's file in the command of a process.
const MODEL: &[u8] = b" --model ";

/// Paths whose requests have no times.
const UNTIMED: [&[u8]; 3] = [b"/api/embed", b"/api/embeddings", b"/v1/embeddings"];

/// Reads the log; lines of requests are in the local time of the server.
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
    ambiguous: u64,
    unanswered: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    exposure: Exposure,
    timings: Timings,
    /// Whether the server that generates writes times, so that requests wait for them.
    is_timed: bool,
    model: Loaded,
    tasks: VecDeque<Worked>,
    answers: VecDeque<Answer>,
}

/// Which models were loaded since the server began.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Loaded {
    /// The beginning of the server was not seen, or there were several: which served a request is not said.
    #[default]
    Unknown,
    None,
    /// The digest of its file.
    One(Word),
}

/// A task that waits for its answer.
#[derive(Serialize, Deserialize)]
struct Worked {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    us: u64,
    #[serde(default)]
    ticks: u8,
}

/// An answer that waits for its task.
#[derive(Serialize, Deserialize)]
struct Answer {
    at: Option<Timestamp>,
    path: Word,
    ns: u64,
    place: u64,
    /// How many lines about tasks came before it: a task that began later is none of it.
    #[serde(default)]
    since: u64,
    #[serde(default)]
    ticks: u8,
}

impl LineReader for Reader {
    fn tick(&mut self, at: Timestamp, out: &mut dyn Out) {
        self.clock.tick(at);
        self.state.exposure.tick(at);
        for done in self.state.timings.tick() {
            self.worked(&done, out);
        }
        for task in &mut self.state.tasks {
            task.ticks = task.ticks.saturating_add(1);
        }
        for answer in &mut self.state.answers {
            answer.ticks = answer.ticks.saturating_add(1);
        }
        while self
            .state
            .tasks
            .pop_front_if(|task| task.ticks >= TASK_TICKS_MAX)
            .is_some()
        {
            self.counts.unanswered = self.counts.unanswered.saturating_add(1);
        }
        while let Some(answer) = self
            .state
            .answers
            .pop_front_if(|answer| answer.ticks >= ANSWER_TICKS_MAX)
        {
            self.tell(answer, None, out);
        }
    }

    fn line(&mut self, line: Line<'_>, out: &mut dyn Out) {
        let text = line.text;
        match text.first() {
            Some(b'[') => {
                if let Some(said) = Gin::read(text).filter(|_| self.is_open()) {
                    self.answered(&said, line, out);
                }
            }
            // What is cut off may have named another model.
            Some(b't') if line.is_cut => self.state.model = Loaded::Unknown,
            Some(b't') => self.structured(text),
            Some(b's' | b'p' | b' ' | b'l' | b'{' | b'V' | b'I') => {
                if shows_prompt(text) {
                    self.state.exposure.seen();
                }
                let is_whole = !line.is_cut;
                let said = said(text, None).filter(|_| self.is_open() && is_whole);
                let done = said.and_then(|said| self.state.timings.take(said, line.at, line.place));
                if let Some(done) = done {
                    self.worked(&done, out);
                }
            }
            _ => {}
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
        state.tasks.truncate(HALVES_MAX);
        state.answers.truncate(HALVES_MAX);
        self.state = state;
    }

    fn refusal(&self) -> Option<String> {
        self.state.exposure.refusal(ADVICE)
    }

    fn trouble(&self) -> Option<String> {
        self.clock.trouble().map(str::to_owned)
    }

    fn details(&self) -> Vec<String> {
        let tasks = self.state.timings.counts();
        counted(&[
            (
                self.counts.failed,
                "requests that failed, not counted as served",
            ),
            (
                self.counts.ambiguous,
                "requests at the same time, whose tokens may be exchanged",
            ),
            (
                self.counts.unanswered,
                "generations without a [GIN] line, not counted; is the whole output of ollama in the log?",
            ),
            (
                tasks.confused,
                "requests whose lines do not add up, told without tokens",
            ),
            (tasks.repeated, "generations that a copy of the log repeats"),
            (
                tasks.forgotten,
                "generations without their last line, forgotten",
            ),
        ])
    }
}

impl Reader {
    fn is_open(&self) -> bool {
        !self.state.exposure.is_refused()
    }

    /// A line `time=… level=… source=… msg="…" …`.
    fn structured(&mut self, text: &[u8]) {
        let Some(record) = Record::read(text) else {
            return;
        };
        if record.shows_prompt() {
            self.state.exposure.seen();
        }
        if !self.is_open() || record.level != b"INFO" {
            return;
        }
        if record.message.starts_with(b"Listening on ") {
            self.state.timings.restarted(None);
            self.state.tasks.clear();
            self.state.model = Loaded::None;
            self.state.is_timed = false;
        } else if record.starts_model() {
            self.state.is_timed |= record.message.contains(&b'-');
            // The tasks of a further process begin at 0 as well.
            self.state.timings.restarted(None);
            self.loads(record.digest());
        }
    }

    fn loads(&mut self, digest: Option<Word>) {
        let state = &mut self.state.model;
        *state = match (std::mem::take(state), digest) {
            (Loaded::None, Some(digest)) => Loaded::One(digest),
            (Loaded::One(known), Some(digest)) if known == digest => Loaded::One(known),
            _ => Loaded::Unknown,
        };
    }

    fn answered(&mut self, said: &Gin, line: Line<'_>, out: &mut dyn Out) {
        if !said.is_served {
            self.counts.failed = self.counts.failed.saturating_add(1);
            return;
        }
        let Some(path) = word(said.path) else { return };
        let answer = Answer {
            at: line.at.or_else(|| self.clock.local(said.stamp)),
            path,
            ns: said.ns,
            place: line.place,
            since: self.state.timings.lines(),
            ticks: 0,
        };
        if UNTIMED.contains(&said.path) {
            return self.tell(answer, None, out);
        }
        let tasks = &mut self.state.tasks;
        let mut fitting = (0..)
            .zip(tasks.iter())
            .filter(|(_, task)| fits(task.us, answer.ns));
        let first = fitting.next().map(|(at, _)| at);
        if fitting.next().is_some() {
            self.counts.ambiguous = self.counts.ambiguous.saturating_add(1);
        }
        let task = first.and_then(|at: usize| tasks.remove(at));
        if task.is_some() || !self.state.is_timed {
            return self.tell(answer, task, out);
        }
        if self.state.answers.len() >= HALVES_MAX
            && let Some(oldest) = self.state.answers.pop_front()
        {
            self.tell(oldest, None, out);
        }
        self.state.answers.push_back(answer);
    }

    fn worked(&mut self, done: &Done, out: &mut dyn Out) {
        if done.is_child {
            return;
        }
        self.state.is_timed = true;
        let task = Worked {
            input_tokens: done.input_tokens,
            output_tokens: done.output_tokens,
            us: done.duration_us,
            ticks: 0,
        };
        let answers = &mut self.state.answers;
        let is_its = |answer: &Answer| done.since <= answer.since && fits(task.us, answer.ns);
        let fitting = answers.iter().position(is_its);
        if let Some(answer) = fitting.and_then(|at| answers.remove(at)) {
            return self.tell(answer, Some(task), out);
        }
        if self.state.tasks.len() >= HALVES_MAX {
            self.state.tasks.pop_front();
            self.counts.unanswered = self.counts.unanswered.saturating_add(1);
        }
        self.state.tasks.push_back(task);
    }

    fn tell(&self, answer: Answer, task: Option<Worked>, out: &mut dyn Out) {
        let model = match &self.state.model {
            Loaded::One(digest) => Some(digest.clone()),
            Loaded::None | Loaded::Unknown => None,
        };
        out.request(Request {
            id: place_id(answer.place),
            at: answer.at,
            model,
            input_tokens: task.as_ref().and_then(|task| task.input_tokens),
            output_tokens: task.as_ref().and_then(|task| task.output_tokens),
            duration_ms: Some(milliseconds(answer.ns, 1_000_000)),
            route: Route {
                path: Some(answer.path),
                ..Route::default()
            },
            ..Request::default()
        });
    }
}

/// Whether a task can be part of a request that lasted so long.
fn fits(task_us: u64, request_ns: u64) -> bool {
    // Durations of minutes are in whole seconds.
    let rounding_us = if request_ns >= 60_000_000_000 {
        1_000_000
    } else {
        ROUNDING_US
    };
    task_us <= (request_ns / 1_000).saturating_add(rounding_us)
}

/// What `[GIN] 2026/03/14 - 09:26:56 | 200 |  2.5s |  127.0.0.1 | POST     "/api/chat"` says about a request to a model.
struct Gin {
    stamp: DateTime,
    path: &'static [u8],
    is_served: bool,
    ns: u64,
}

impl Gin {
    fn read(text: &[u8]) -> Option<Self> {
        let mut scan = Scan::new(text);
        scan.literal(b"[GIN] ")?;
        let stamp = civil(&mut scan, b"/", b" - ")?;
        scan.literal(b" |")?;
        scan.blanks();
        let is_served = matches!(scan.digits(3)?, 200..=299);
        scan.literal(b" |")?;
        scan.blanks();
        let ns = duration_ns(scan.until(b' ', 32)?)?;
        scan.literal(b"|")?;
        scan.blanks();
        scan.until(b' ', 64)?;
        scan.blanks();
        scan.literal(b"|")?;
        scan.blanks();
        scan.literal(b"POST ")?;
        scan.blanks();
        scan.literal(b"\"")?;
        let path = inference(scan.name()?)?;
        scan.literal(b"\"").or_else(|| scan.literal(b"?"))?;
        Some(Self {
            stamp,
            path,
            is_served,
            ns,
        })
    }
}

/// The parts of a structured line that are looked at.
struct Record<'a> {
    level: &'a [u8],
    message: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let mut scan = Scan::new(text);
        scan.literal(b"time=")?;
        scan.until(b' ', 40)?;
        scan.literal(b"level=")?;
        let level = scan.until(b' ', 12)?;
        scan.literal(b"source=")?;
        scan.until(b' ', 64)?;
        scan.literal(b"msg=")?;
        let message = if scan.literal(b"\"").is_some() {
            scan.until(b'"', 64)
        } else {
            scan.until(b' ', 64)
        };
        Some(Self {
            level,
            message: message.unwrap_or_default(),
            rest: scan.rest(),
        })
    }

    /// Trace shows prompts. Debug did until 0.8 and says how long they are since.
    fn shows_prompt(&self) -> bool {
        const SHOWN: [&[u8]; 4] = [
            b"chat request",
            b"generate request",
            b"chat handler",
            b"generate handler",
        ];
        match self.level {
            b"TRACE" => true,
            b"DEBUG" => {
                let mut shown = memmem::find_iter(self.rest, b"prompt=");
                SHOWN.contains(&self.message)
                    || shown.any(|at| !self.rest.get(at + 7).is_some_and(u8::is_ascii_digit))
            }
            _ => false,
        }
    }

    /// Whether a process begins that loads a model: from 0.12 to 0.29 also one without, which looks for GPUs, is a runner.
    fn starts_model(&self) -> bool {
        match self.message {
            b"starting llama-server" | b"starting llama server" => true,
            b"starting runner" => memmem::find(self.rest, MODEL).is_some(),
            _ => false,
        }
    }

    /// The digest in the name of the model's file.
    fn digest(&self) -> Option<Word> {
        const FOLDER: &[u8] = b"/blobs/sha256-";
        const HEX: usize = 64;
        let model = memmem::find(self.rest, MODEL)?;
        let mut scan = Scan::new(self.rest.get(model..)?);
        scan.literal(MODEL)?;
        let path = scan.until(b' ', 4_096)?;
        let hex = path.get(memmem::rfind(path, FOLDER)? + FOLDER.len()..)?;
        let is_digest = hex.len() == HEX && hex.iter().all(u8::is_ascii_hexdigit);
        let file = path.get(path.len().checked_sub(HEX + b"sha256-".len())?..)?;
        Word::new(file).filter(|_| is_digest)
    }
}
