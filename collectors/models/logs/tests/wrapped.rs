//! The same lines in every wrapper, through a file as the agent reads it.

use std::sync::Arc;

use super::*;
use crate::models::feed::Feed;
use crate::models::tail::feed::{LogFeed, Readers};
use crate::models::tail::place::Place;

const FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/fixtures/inference"
);

/// A generation and its answer, as Ollama logs them.
const LINES: [&str; 5] = [
    "slot print_timing: id  0 | task 3 | prompt eval time =     412.03 ms /   512 tokens (    0.80 ms per token,  1242.63 tokens per second)",
    "slot print_timing: id  0 | task 3 |        eval time =    2067.05 ms /   120 tokens (   17.23 ms per token,    58.05 tokens per second)",
    "slot print_timing: id  0 | task 3 |       total time =    2479.08 ms /   632 tokens",
    "slot      release: id  0 | task 3 | stop processing: n_tokens = 631, truncated = 0",
    "[GIN] 2026/05/02 - 08:15:33 | 200 |   2.51224813s |       127.0.0.1 | POST     \"/api/chat\"",
];

/// A wrapper: its name, what it makes of a line, and whether it says when.
type Wrapping<'a> = (&'static str, &'a dyn Fn(&str) -> String, bool);

/// What a file gives from its first line on.
fn rows_of(kind: &str, path: &Path) -> Vec<String> {
    let kind = kind.to_owned();
    let readers: Readers = Arc::new(move || open(&kind));
    let mut feed = LogFeed::open(Place::file(path).begun_at_start(), readers);
    let mut heard = Heard::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for _ in 0..TICKS {
        let taken = feed.take(NOW.parse().unwrap(), &mut heard);
        runtime.block_on(taken).unwrap();
    }
    heard.requests.iter().map(row).collect()
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn a_wrapper_adds_the_time_and_takes_nothing() {
    let bytes = |line: &str| format!("{:?}", line.as_bytes());
    let at = "2026-05-02T08:15:33.25Z";
    let wrappers: [Wrapping<'_>; 8] = [
        ("plain", &|line| line.to_owned(), false),
        ("cri", &|line| format!("{at} stderr F {line}"), true),
        (
            "docker",
            &|line| {
                let line = json(&format!("{line}\n"));
                format!("{{\"log\":{line},\"stream\":\"stderr\",\"time\":\"{at}\"}}")
            },
            true,
        ),
        (
            "journalctl -o json",
            &|line| {
                let line = json(line);
                format!(
                    "{{\"_PID\":\"7\",\"__REALTIME_TIMESTAMP\":\"1777709733250000\",\"MESSAGE\":{line}}}"
                )
            },
            true,
        ),
        (
            "journalctl -o json, not text",
            &|line| {
                let line = bytes(&line.replace(" | 200 |", " |\u{1b}[97;42m 200 \u{1b}[0m|"));
                format!("{{\"MESSAGE\":{line},\"__REALTIME_TIMESTAMP\":\"1777709733250000\"}}")
            },
            true,
        ),
        (
            "journalctl",
            &|line| format!("May  2 08:15:33 gpu1 ollama[937]: {line}"),
            false,
        ),
        (
            "journalctl -o short-iso",
            &|line| format!("2026-05-02T10:15:33.25+0200 gpu1 ollama[937]: {line}"),
            true,
        ),
        (
            "syslog",
            &|line| format!("2026-05-02T08:15:33.250000+00:00 gpu1 ollama: {line}"),
            true,
        ),
    ];
    for (name, wrap, has_time) in wrappers {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let lines = LINES.iter().map(|line| wrap(line) + "\n");
        let text: String = std::iter::once("-- Boot 5f --\n".to_owned())
            .filter(|_| name.starts_with("journalctl"))
            .chain(lines)
            .collect();
        fs::write(&path, text).unwrap();
        let at = if has_time { ".25" } else { "" };
        let row = format!("2026-05-02T08:15:33{at}Z 005 /api/chat - 512+120 2512 -/-");
        let rows = rows_of("ollama", &path);
        assert_eq!(rows.len(), 1, "{name}");
        let (_, known) = rows[0].split_once(' ').unwrap();
        let (_, known) = known.split_once(' ').unwrap();
        assert_eq!(known, "/api/chat - 512+120 2512 -/-", "{name}");
        let (time, _) = row.split_once(' ').unwrap();
        assert!(rows[0].starts_with(time), "{name}: {}", rows[0]);
    }
}

#[test]
fn wrapped_logs_give_what_they_can() {
    let cases: [(&str, &str, &[&str]); 7] = [
        (
            "wrap-docker-json-file.log",
            "vllm",
            &["2026-03-14T09:26:55.123456791Z /v1/chat/completions qwen3-8b -+- - -/-"],
        ),
        (
            "wrap-k8s-cri.log",
            "vllm",
            &["2026-03-14T09:26:55.123456791Z /v1/chat/completions qwen3-8b -+- - -/-"],
        ),
        // Only received: neither has a line about the answer.
        ("wrap-docker-json-file-partial-16k.log", "vllm", &[]),
        ("wrap-k8s-cri-partial-16k.log", "vllm", &[]),
        (
            "wrap-journald-short.log",
            "ollama",
            &["2026-03-14T09:26:56Z /api/chat - 512+120 2512 -/-"],
        ),
        // The third message was too long to be printed.
        (
            "wrap-journald-json.log",
            "ollama",
            &[
                "2026-03-14T09:26:56Z /api/chat - -+- 2512 -/-",
                "2026-03-14T09:26:57Z /api/chat - -+- 2512 -/-",
            ],
        ),
        // It ends before the server that generates has answered.
        ("real-ollama-1365-2023-12-journald.log", "ollama", &[]),
    ];
    let mut wrong = String::new();
    for (name, kind, expected) in cases {
        let path = Path::new(FOLDER).join(name);
        if !path.exists() {
            println!("no {}: only our own lines were read", path.display());
            return;
        }
        let rows: Vec<String> = rows_of(kind, &path)
            .iter()
            .map(|row| {
                let mut words: Vec<&str> = row.split(' ').collect();
                words.remove(1);
                words.join(" ")
            })
            .collect();
        if rows != expected {
            writeln!(wrong, "{name} {kind} &{rows:?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "otherwise than the table:\n{wrong}");
}
