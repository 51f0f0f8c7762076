//! Logs that servers wrote, kept beside the repository where somebody has them; elsewhere the test says so.

use super::*;

const FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/fixtures/inference"
);

/// What must come of a file: its kind, its rows, and whether it is refused.
type Case = (&'static str, &'static str, &'static [&'static str], bool);

const CASES: &[Case] = &[
    (
        "llamacpp-2023-11-b38a16d.log",
        "llamacpp",
        &["- 005 - - 800+621 36098 -/-"],
        false,
    ),
    (
        "llamacpp-2024-06-bde7cd3-json.log",
        "llamacpp",
        &["2026-03-14T09:26:53Z 003 - - 12+783 3210 -/-"],
        false,
    ),
    (
        "llamacpp-2024-06-bde7cd3.log",
        "llamacpp",
        &["2026-03-14T09:26:53Z 003 - - 12+783 3210 -/-"],
        false,
    ),
    (
        "llamacpp-2025-05-8733e0c.log",
        "llamacpp",
        &["- 00a - - 1046+193 16902 -/-"],
        false,
    ),
    // The release says 15471 tokens: 11184 cached, 3878 evaluated, 410 generated, of which the last is not stored.
    (
        "llamacpp-2026-0c1e570-default.log",
        "llamacpp",
        &["- 006 - Qwen3-8B-Q4_K_M.gguf 15062+410 10700 -/-"],
        false,
    ),
    (
        "llamacpp-2026-0c1e570-jsonl.log",
        "llamacpp",
        &["- 006 - Qwen3-8B-Q4_K_M.gguf 15062+410 10700 -/-"],
        false,
    ),
    (
        "llamacpp-2026-router-childport-prefix.log",
        "llamacpp",
        &["- 006 - qwen3-8b 15062+410 10700 -/-"],
        false,
    ),
    (
        "ollama-0.12.6-default.log",
        "ollama",
        &[
            "2026-03-14T09:26:56Z 003 /api/chat - -+- 1279 -/-",
            "2026-03-14T09:28:03Z 004 /v1/chat/completions - -+- 65000 -/-",
        ],
        false,
    ),
    (
        "ollama-0.33-ansi-tty.log",
        "ollama",
        &["2026-03-14T09:26:56Z 001 /api/chat - -+- 2512 -/-"],
        false,
    ),
    (
        "ollama-0.33-default.log",
        "ollama",
        &["2026-03-14T09:26:56Z 00e /api/chat - 512+120 2512 -/-"],
        false,
    ),
    ("ollama-0.5.7-debug-SENSITIVE.log", "ollama", &[], true),
    (
        "ollama-2024-04-v0.1.32-debug-json.log",
        "ollama",
        &["2026-03-14T09:27:29Z 004 /api/chat - 93+621 36089 -/-"],
        false,
    ),
    (
        "real-llamacpp-9013-2024-08.log",
        "llamacpp",
        &["2024-08-13T17:20:22Z 003 - - 12+783 3210 -/-"],
        false,
    ),
    // The beginning of the first task and the end of the second are cut off.
    (
        "real-llamacpp-syvai147-2026-router.log",
        "llamacpp",
        &["- 002 - - 15062+410 10700 -/-"],
        false,
    ),
    (
        "real-ollama-1365-2023-12-journald.log",
        "ollama",
        &[],
        false,
    ),
    (
        "real-ollama-18123-2026-llama-server.log",
        "ollama",
        &[],
        false,
    ),
    ("real-sglang-3909-2025-02.log", "sglang", &[], false),
    (
        "real-tei-305-2025-08.log",
        "tgi",
        &[
            "2025-08-09T19:36:02.798333Z 001 /v1/embeddings - -+- 1208 -/-",
            "2025-08-09T19:36:03.579418Z 002 /v1/embeddings - -+- 685 -/-",
        ],
        false,
    ),
    (
        "real-tgi-3203-2025-05-debug-SENSITIVE.log",
        "tgi",
        &[],
        true,
    ),
    // Only received: neither has a line about the answer.
    ("real-vllm-16361-2025-04-v1.log", "vllm", &[], false),
    ("real-vllm-9023-2024-10-v0.log", "vllm", &[], false),
    (
        "sglang-0.4.6-default.log",
        "sglang",
        &["2026-03-14T09:26:56Z 003 /v1/chat/completions - -+- - -/-"],
        false,
    ),
    (
        "sglang-0.5.23-default.log",
        "sglang",
        &["2026-03-14T09:26:54Z 003 /v1/chat/completions - -+- - -/-"],
        false,
    ),
    (
        "sglang-0.5.23-export-metrics-to-file-SENSITIVE.log",
        "sglang",
        &[],
        true,
    ),
    (
        "sglang-0.5.23-log-requests-level0-json.log",
        "sglang",
        &["2026-03-14T09:26:55.4195Z 7c1b6f0e2d5a4c3f8e9d0a1b2c3d4e5f - - 158+87 2418 -/-"],
        false,
    ),
    (
        "sglang-0.5.23-log-requests-level2-json-SENSITIVE.log",
        "sglang",
        &[],
        true,
    ),
    (
        "tgi-3.3.7-ansi.log",
        "tgi",
        &["2026-11-21T19:46:21.364016Z 001 /generate - -+100 1844 -/-"],
        false,
    ),
    ("tgi-3.3.7-debug-SENSITIVE.log", "tgi", &[], true),
    (
        "tgi-3.3.7-json.log",
        "tgi",
        &["2026-11-21T19:46:21.375937Z 001 /generate - -+100 1844 -/-"],
        false,
    ),
    (
        "tgi-3.3.7-text.log",
        "tgi",
        &["2026-11-21T19:46:21.350244Z 001 /generate - -+100 1844 -/-"],
        false,
    ),
    (
        "trap-crlf.log",
        "ollama",
        &["2026-03-14T09:26:56Z 008 /api/chat - 512+120 2512 -/-"],
        false,
    ),
    (
        "trap-crlf.log",
        "llamacpp",
        &["- 004 - - 512+120 2479 -/-"],
        false,
    ),
    // A line of Ollama alone counts a request, so that these two have none for it.
    (
        "trap-duplicate-after-copytruncate.log",
        "ollama",
        &[],
        false,
    ),
    (
        "trap-duplicate-after-copytruncate.log",
        "llamacpp",
        &["- 003 - - 512+120 2479 -/-"],
        false,
    ),
    ("trap-interleaved-two-slots.log", "ollama", &[], false),
    (
        "trap-interleaved-two-slots.log",
        "llamacpp",
        &["- 005 - - 3878+410 10700 -/-", "- 006 - - 200+50 600 -/-"],
        false,
    ),
    ("trap-partial-last-line.log", "ollama", &[], false),
    ("trap-partial-last-line.log", "llamacpp", &[], false),
    (
        "vllm-0.10.0-v1-default.log",
        "vllm",
        &[
            "- chatcmpl-8f0d3c52a1b94f6e9a7b5d20c4e1f3aa /v1/chat/completions Qwen/Qwen2.5-7B-Instruct -+- - -/-",
        ],
        false,
    ),
    (
        "vllm-0.33.0-ansi-color.log",
        "vllm",
        &["- chatcmpl-8f0d3c52a1b94f6e9a7b5d20c4e1f3aa /v1/chat/completions qwen3-8b -+- - -/-"],
        false,
    ),
    ("vllm-0.33.0-debug-SENSITIVE.log", "vllm", &[], true),
    (
        "vllm-0.33.0-default.log",
        "vllm",
        &["- 003 /v1/chat/completions qwen3-8b -+- - -/-"],
        false,
    ),
    (
        "vllm-0.33.0-enable-log-requests.log",
        "vllm",
        &["- chatcmpl-8f0d3c52a1b94f6e9a7b5d20c4e1f3aa /v1/chat/completions qwen3-8b -+- - -/-"],
        false,
    ),
    (
        "vllm-0.33.0-json.log",
        "vllm",
        &[
            "2026-03-14T09:26:53.029Z chatcmpl-8f0d3c52a1b94f6e9a7b5d20c4e1f3aa /v1/chat/completions - -+- - -/-",
        ],
        false,
    ),
    (
        "vllm-0.6.6-v0-default.log",
        "vllm",
        &["- chatcmpl-8f0d3c52a1b94f6e9a7b5d20c4e1f3aa /v1/chat/completions - -+- - -/-"],
        false,
    ),
    (
        "vllm-0.6.6-v0-inproc-finished.log",
        "vllm",
        &[
            "2026-03-14T09:26:56Z chatcmpl-8f0d3c52a1b94f6e9a7b5d20c4e1f3aa /v1/chat/completions - -+- 3000 -/-",
        ],
        false,
    ),
];

/// Kinds of servers by the beginning of a file's name; other files are wrappers or no logs of these servers.
const KINDS: [(&str, &str); 7] = [
    ("llamacpp-", "llamacpp"),
    ("ollama-", "ollama"),
    ("sglang-", "sglang"),
    ("tei-", "tgi"),
    ("tgi-", "tgi"),
    ("trap-", "ollama"),
    ("vllm-", "vllm"),
];

#[test]
fn real_logs_give_what_they_can() {
    let Ok(entries) = fs::read_dir(FOLDER) else {
        println!("no {FOLDER}: only our own logs were read");
        return;
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut wrong = String::new();
    let mut read_in = 0;
    for name in names.iter().filter(|name| name.ends_with(".log")) {
        let bare = name.strip_prefix("real-").unwrap_or(name);
        let Some((_, kind)) = KINDS.iter().find(|(start, _)| bare.starts_with(start)) else {
            continue;
        };
        let log = fs::read(Path::new(FOLDER).join(name)).unwrap();
        let cases: Vec<&Case> = CASES.iter().filter(|(file, ..)| file == name).collect();
        let kinds: Vec<&str> = if cases.is_empty() {
            vec![kind]
        } else {
            cases.iter().map(|(_, kind, ..)| *kind).collect()
        };
        for kind in kinds {
            read_in += 1;
            let outcome = read(kind, &log);
            outcome.keeps_quiet_about(&log, name);
            assert!(
                !name.contains("SENSITIVE") || !secrets(&log).is_empty(),
                "{name} has marks"
            );
            let rows: Vec<String> = outcome.heard.requests.iter().map(row).collect();
            let refused = outcome.refusal.is_some();
            let expected = cases.iter().find(|(_, of, ..)| *of == kind);
            if !expected.is_some_and(|(.., known, is)| rows == *known && refused == *is) {
                writeln!(wrong, "    (\"{name}\", \"{kind}\", &{rows:?}, {refused}),").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "otherwise than the table:\n{wrong}");
    println!("{read_in} real logs gave their rows");
}
