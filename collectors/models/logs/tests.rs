//! Every reader on logs of every generation: our own, and real ones where they are.
//!
//! A log of our own is `<kind>/testdata/<name>.log`, and `<name>.rows` beside it says what must come of it;
//! `CMS_BLESS=1` writes what came. Words with `CANARY` stand for what people wrote.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use memchr::{memchr_iter, memmem};
use proptest::prelude::*;

use super::*;
use crate::models::feed::Heard;

mod real;
mod wrapped;

/// The tick at which logs are read.
const NOW: &str = "2026-05-02T12:00:00Z";

/// More ticks than anything waits for.
const TICKS: usize = 12;

/// At most twice as many cuts of a line; of one that is shorter all.
const CUTS: usize = 150;

/// Parts of what people wrote that must not be found are this long.
const WINDOW: usize = 8;

fn open(kind: &str) -> Box<dyn LineReader> {
    let (_, open) = READERS.iter().find(|(known, _)| *known == kind).unwrap();
    open(Zone::new(TimeZone::UTC))
}

/// What came of a log.
struct Outcome {
    heard: Heard,
    refusal: Option<String>,
    trouble: Option<String>,
    details: Vec<String>,
    checkpoint: String,
}

/// Reads a log in one tick, and waits until nothing more comes.
fn read(kind: &str, log: &[u8]) -> Outcome {
    let mut reader = open(kind);
    let mut heard = Heard::default();
    let at = NOW.parse().unwrap();
    reader.tick(at, &mut heard);
    for (place, text) in (1..).zip(lines(log)) {
        let line = Line {
            text: &text,
            at: None,
            is_cut: false,
            place,
        };
        reader.line(line, &mut heard);
    }
    let checkpoint = reader.checkpoint().unwrap_or_default();
    for _ in 0..TICKS {
        reader.tick(at, &mut heard);
    }
    Outcome {
        heard,
        refusal: reader.refusal(),
        trouble: reader.trouble(),
        details: reader.details(),
        checkpoint,
    }
}

/// Whole lines without colours and carriage returns, as the feed of a file gives them.
fn lines(log: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let whole = memchr::memrchr(b'\n', log).map_or(0, |end| end + 1);
    let lines = log[..whole].split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| {
        let mut text = Vec::new();
        let mut bytes = line.iter().copied().filter(|byte| !b"\r\n".contains(byte));
        while let Some(byte) = bytes.next() {
            if byte == 0x1b {
                bytes.find(|byte| *byte == b'm');
            } else {
                text.push(byte);
            }
        }
        text
    })
}

/// One request, with `-` for what is missing: time, id, path, model, input+output tokens, milliseconds, tags.
fn row(request: &Request) -> String {
    fn or<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string())
    }
    let complexity = request
        .tags
        .complexity
        .map(|complexity| format!("{complexity:?}"));
    format!(
        "{} {} {} {} {}+{} {} {}/{}",
        or(request.at),
        or(request.id.as_ref()).trim_start_matches("line-0000000000000"),
        or(request.route.path.as_ref()),
        or(request.model.as_ref()),
        or(request.input_tokens),
        or(request.output_tokens),
        or(request.duration_ms),
        or(request.tags.task_type.as_ref()),
        or(complexity),
    )
}

impl Outcome {
    /// Rows, sums, and what is said about the log.
    fn text(&self) -> String {
        let mut text = String::new();
        for request in &self.heard.requests {
            writeln!(text, "{}", row(request)).unwrap();
        }
        for sum in &self.heard.sums {
            writeln!(
                text,
                "sum {:?} {:?}+{:?}",
                sum.requests, sum.input_tokens, sum.output_tokens
            )
            .unwrap();
        }
        if let Some(refusal) = &self.refusal {
            writeln!(text, "refused: {refusal}").unwrap();
        }
        if let Some(trouble) = &self.trouble {
            writeln!(text, "trouble: {trouble}").unwrap();
        }
        for detail in &self.details {
            writeln!(text, "detail: {detail}").unwrap();
        }
        text
    }

    /// No part of what people wrote is in anything that leaves the reader.
    fn keeps_quiet_about(&self, log: &[u8], name: &str) {
        let said = format!("{:?} {} {}", self.heard, self.text(), self.checkpoint);
        is_quiet(&said, &secrets(log), name);
    }
}

fn is_quiet(said: &str, secrets: &[&[u8]], name: &str) {
    for secret in secrets {
        for window in secret.windows(WINDOW) {
            let found = memmem::find(said.as_bytes(), window);
            assert_eq!(found, None, "{name}: {}", String::from_utf8_lossy(window));
        }
    }
}

/// What stands for text that people wrote: words with `CANARY`, and `<…REDACTED…>`.
fn secrets(log: &[u8]) -> Vec<&[u8]> {
    let mut secrets = Vec::new();
    for at in memmem::find_iter(log, b"CANARY") {
        let word = log[at..].split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
        secrets.extend(word.take(1));
    }
    for at in memchr_iter(b'<', log) {
        let end = log[at..].iter().position(|byte| *byte == b'>').unwrap_or(0);
        let mark = &log[at..=at + end];
        if memmem::find(mark, b"REDACTED").is_some() {
            secrets.push(mark);
        }
    }
    secrets
}

/// Our own logs: kind, path and content.
fn own() -> Vec<(&'static str, PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut found = Vec::new();
    for (kind, _) in READERS {
        let folder = root.join(kind).join("testdata");
        let entries = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut logs: Vec<PathBuf> = entries
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .collect();
        logs.sort();
        assert!(logs.len() >= 4, "{kind} has logs of several generations");
        found.extend(logs.into_iter().map(|path| {
            let content = fs::read(&path).unwrap();
            (kind, path, content)
        }));
    }
    found
}

#[test]
fn places_make_ids() {
    let id = |place| place_id(place).unwrap().to_string();
    assert_eq!(id(0x0123_4567_89ab_cdef), "line-0123456789abcdef");
    assert_eq!(
        (id(0).as_str(), id(u64::MAX).as_str()),
        ("line-0000000000000000", "line-ffffffffffffffff")
    );
}

#[test]
fn every_generation_gives_exactly_these_rows() {
    let bless = std::env::var_os("CMS_BLESS").is_some_and(|value| value == "1");
    let mut wrong = String::new();
    for (kind, path, log) in own() {
        let outcome = read(kind, &log);
        outcome.keeps_quiet_about(&log, &path.display().to_string());
        let rows = path.with_extension("rows");
        if bless {
            fs::write(&rows, outcome.text()).unwrap();
        } else if fs::read_to_string(&rows).ok().as_deref() != Some(&outcome.text()) {
            writeln!(wrong, "{}:\n{}", path.display(), outcome.text()).unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "otherwise than the .rows beside:\n{wrong}"
    );
}

#[test]
fn a_log_that_shows_prompts_is_refused_from_there_on() {
    let mut refused = BTreeSet::new();
    for (kind, path, log) in own() {
        let outcome = read(kind, &log);
        let Some(refusal) = outcome.refusal else {
            continue;
        };
        assert!(refusal.contains("start "), "{refusal}");
        // Whatever follows, nothing is told: the lines behind are ones that are read in other logs.
        let told = outcome.heard.requests.len();
        let others = own().into_iter().filter(|(other, _, _)| *other == kind);
        let forged: Vec<u8> = others.flat_map(|(_, _, log)| log).collect();
        let outcome = read(kind, &[log, forged].concat());
        assert_eq!(outcome.heard.requests.len(), told, "{}", path.display());
        refused.insert(kind);
    }
    assert_eq!(refused.len(), READERS.len(), "{refused:?}");
}

#[test]
fn a_restart_of_the_agent_between_any_two_lines_changes_nothing() {
    for (kind, path, log) in own() {
        let whole = read(kind, &log);
        let at = NOW.parse().unwrap();
        let mut heard = Heard::default();
        let mut checkpoint = None;
        for (place, text) in (1..).zip(lines(&log)) {
            let mut reader = open(kind);
            reader.resume(checkpoint.as_deref().unwrap_or_default());
            let line = Line {
                text: &text,
                at: None,
                is_cut: false,
                place,
            };
            reader.line(line, &mut heard);
            checkpoint = reader.checkpoint();
        }
        let mut reader = open(kind);
        reader.resume(checkpoint.as_deref().unwrap_or_default());
        for _ in 0..TICKS {
            reader.tick(at, &mut heard);
        }
        let counted = |heard: &Heard| -> Vec<_> {
            let requests = heard.requests.iter();
            requests
                .map(|r| {
                    (
                        r.id.clone(),
                        r.input_tokens,
                        r.output_tokens,
                        r.model.clone(),
                    )
                })
                .collect()
        };
        assert_eq!(counted(&heard), counted(&whole.heard), "{}", path.display());
        assert_eq!(heard.sums, whole.heard.sums, "{}", path.display());
        assert_eq!(reader.refusal(), whole.refusal, "{}", path.display());
    }
}

#[test]
fn a_line_that_is_split_anywhere_gives_nothing_wrong() {
    for (kind, path, log) in own() {
        let whole = read(kind, &log);
        let secrets = secrets(&log);
        let all: Vec<Vec<u8>> = lines(&log).collect();
        for (broken, line) in all.iter().enumerate() {
            for cut in (1..line.len()).step_by(1 + line.len() / CUTS) {
                let (heard, is_exchanged) = read_split(kind, &all, broken, cut);
                let name = format!("{}:{}:{cut}", path.display(), broken + 1);
                // Behind a prompt whose beginning is lost, its lines are like others; they hold no text all the same.
                if whole.refusal.is_none() {
                    is_part_of(&heard, &whole.heard, is_exchanged, &name);
                }
                if !secrets.is_empty() {
                    is_quiet(&format!("{heard:?}"), &secrets, &name);
                }
            }
        }
    }
}

/// Reads a log of which one line is cut, and its rest comes as a line of its own. Also whether it says that tokens may be
/// exchanged.
fn read_split(kind: &str, lines: &[Vec<u8>], broken: usize, cut: usize) -> (Heard, bool) {
    let mut reader = open(kind);
    let mut heard = Heard::default();
    let at = NOW.parse().unwrap();
    reader.tick(at, &mut heard);
    for (place, text) in lines.iter().enumerate() {
        let is_broken = place == broken;
        let (first, rest) = text.split_at(if is_broken { cut } else { text.len() });
        let parts = [(first, is_broken), (rest, false)];
        for (text, is_cut) in parts.into_iter().filter(|(text, _)| !text.is_empty()) {
            let line = Line {
                text,
                at: None,
                is_cut,
                place: place as u64 + 1,
            };
            reader.line(line, &mut heard);
        }
    }
    for _ in 0..TICKS {
        reader.tick(at, &mut heard);
    }
    let is_exchanged = reader.details().concat().contains("exchanged");
    (heard, is_exchanged)
}

/// Every request that was heard is one of the truth, where it is not less; or one that is part of another, of which the
/// line that says so was lost.
fn is_part_of(heard: &Heard, whole: &Heard, is_exchanged: bool, name: &str) {
    for request in &heard.requests {
        let is_true = whole.requests.iter().any(|truth| {
            let less = |part: Option<u64>, all: Option<u64>| {
                part.is_none_or(|part| all.is_some_and(|all| part <= all))
            };
            let same = |part: Option<u64>, all: Option<u64>| part.is_none() || part == all;
            let tokens = less(request.input_tokens, truth.input_tokens)
                && same(request.output_tokens, truth.output_tokens);
            (tokens || is_exchanged)
                && same(request.duration_ms, truth.duration_ms)
                && (request.model.is_none() || request.model == truth.model)
                && (request.route.path.is_none() || request.route.path == truth.route.path)
        });
        let mut parts = whole.sums.iter();
        let is_part = parts.any(|sum| sum.output_tokens == request.output_tokens);
        assert!(is_true || is_part, "{name}: {}", row(request));
    }
}

#[test]
fn nothing_grows_with_the_log() {
    let asked =
        "(APIServer pid=7) INFO 05-02 10:00:01 [request_logger.py:66] Received request chatcmpl-";
    let gin = "[GIN] 2026/05/02 - 10:00:01 | 200 | 1.5s | 10.0.0.9 | POST     \"/api/chat\"\n";
    let slot = "slot print_timing: id  0 | task ";
    let eval = " | prompt eval time =      40.00 ms /    20 tokens (    2.00 ms per token,   500.00 tokens per second)\n";
    let loaded = "srv  proxy_reques: proxying request to model m";
    let start = "time=2026-05-02T10:00:00.000Z level=INFO source=llama_server.go:433 msg=\"starting llama-server\" cmd=\"x\"\n";
    let mut logs = [
        ("vllm", String::new()),
        ("ollama", start.to_owned()),
        ("llamacpp", String::new()),
    ];
    for number in 0..5_000 {
        writeln!(logs[0].1, "{asked}{number}: params: x").unwrap();
        write!(logs[1].1, "{gin}{slot}{number}{eval}").unwrap();
        let port = number + 1;
        writeln!(
            logs[2].1,
            "{slot}{number}{eval}{loaded}{number} on port {port}"
        )
        .unwrap();
    }
    for (kind, log) in logs {
        let outcome = read(kind, log.as_bytes());
        let length = outcome.checkpoint.len();
        assert!(
            (1_000..200_000).contains(&length),
            "{kind} keeps {length} bytes"
        );
        assert!(!outcome.details.is_empty(), "{kind} says what it forgot");
        let whole = format!("{:?} {:?}", outcome.trouble, outcome.details);
        assert!(
            kind != "vllm" || whole.contains("--disable-uvicorn-access-log"),
            "{whole}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_any(&bytes);
    }

    #[test]
    fn no_change_of_a_real_log_makes_a_reader_panic_or_talk(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let logs = own();
        let (_, path, log) = which.get(&logs);
        let mut log = log.clone();
        for (at, byte, how) in changes {
            let at = at.index(log.len());
            match how {
                0 => log[at] = byte,
                1 => log.insert(at, byte),
                _ => log.truncate(at.max(1)),
            }
        }
        read_any(&log);
        for (kind, _) in READERS {
            read(kind, &log).keeps_quiet_about(&log, &path.display().to_string());
        }
    }
}
