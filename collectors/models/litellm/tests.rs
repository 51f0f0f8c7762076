//! Payloads of LiteLLM, ours and captured ones, and what must never be in what is read of them.

use std::fs;
use std::path::{Path, PathBuf};

use cms_spec::payload::v1::Complexity;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::receive::testing::{Desk, head, post};
use super::*;

const OWN: &str = include_str!("testdata/payloads.ndjson");

/// What must not leave a payload: the marks of its fields that may hold what people wrote.
const CANARY: &str = "CANARY";

fn read(text: &str) -> Told {
    told(text.as_bytes()).unwrap()
}

/// What is read of a request, on one line.
fn row(request: &Request) -> String {
    let word = |word: &Option<Word>| word.as_ref().map_or("-".to_owned(), Word::to_string);
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    format!(
        "{} {} {} {}+{} {}ms {}/{:?} {} {}",
        word(&request.id),
        request.at.map_or("-".to_owned(), |at| at.to_string()),
        word(&request.model),
        number(request.input_tokens),
        number(request.output_tokens),
        number(request.duration_ms),
        word(&request.tags.task_type),
        request.tags.complexity,
        word(&request.route.path),
        word(&request.route.key),
    )
}

fn rows(told: &Told) -> Vec<String> {
    told.requests.iter().map(row).collect()
}

#[test]
fn payloads_are_read() {
    let told = read(OWN);
    assert_eq!(
        rows(&told),
        [
            "chatcmpl-1 2026-03-14T09:26:55.41Z qwen3-8b 158+87 2410ms classification/Some(Routine) /v1/chat/completions -",
            "emb-2 2026-03-14T09:27:00.25Z bge-m3 512+0 250ms -/None /v1/embeddings search-team",
            "0c4f-3 2026-03-14T09:27:10Z eu.anthropic/claude 20+30 1000ms summarization/Some(Frontier) /chat/completions prod",
            "msg_4 2026-03-14T09:27:10Z local-small 3+4 -ms -/None /v1/messages -",
        ]
    );
    assert_eq!(told.left.of("that failed"), 2);
    assert_eq!(told.left.of("that asked no model"), 1);
    assert_eq!(told.left.total(), 4, "{told:?}");
    assert!(!format!("{told:?}").contains(CANARY));
    // The same as an array, and over the network.
    let lines: Vec<Value> = OWN
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows(&read(&Value::from(lines).to_string())), rows(&told));
}

#[tokio::test]
async fn the_callback_is_served() {
    let mut desk = Desk::open(LiteLlm);
    let (status, said) = desk
        .post("/v1/litellm", "application/json", OWN.as_bytes())
        .await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(desk.heard.requests, read(OWN).requests);
    assert!(!format!("{desk:?}").contains(CANARY));
}

#[tokio::test]
async fn the_callback_does_not_wait_for_the_disk() {
    let mut desk = Desk::open(LiteLlm);
    let head = head("/", "application/json", OWN.len());
    let (status, said) = post(desk.address(), head, OWN.as_bytes().to_vec()).await;
    assert_eq!(status, 200, "{said}");
    desk.tick().await;
    assert_eq!(desk.heard.requests.len(), 4);
}

#[test]
fn captured_payloads_are_read() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    let check = |path: &str, requests: usize, failed: u64, first: &str| {
        let path: PathBuf = shared.join(path);
        let Ok(text) = fs::read_to_string(&path) else {
            return;
        };
        let told = read(&text);
        assert_eq!(told.requests.len(), requests, "{}", path.display());
        assert_eq!(told.left.of("that failed"), failed, "{}", path.display());
        assert_eq!(told.left.total(), failed, "{}", path.display());
        assert_eq!(row(&told.requests[0]), first);
        let shown = format!("{told:?}");
        for never in [
            "redacted",
            "ERROR-TEXT",
            "10.42",
            "127.0.0.1",
            "user-1",
            "answer is",
        ] {
            assert!(!shown.contains(never), "{never}");
        }
    };
    check(
        "inference/litellm-1.109.1-generic-api.ndjson",
        1,
        1,
        "chatcmpl-8f0d3c52 2026-03-14T09:26:55.41Z qwen3-8b 158+87 2410ms classification/Some(Routine) /v1/chat/completions -",
    );
    check(
        "real/litellm-1.106.2/requests.jsonl",
        11,
        2,
        "chatcmpl-841bee3f-e2b4-4c60-a8f7-d7ca9d42ca00 2026-11-21T20:50:31.637466Z gpt-4o-mini 10+20 51ms -/None /v1/chat/completions -",
    );
}

#[test]
fn tags_win_over_metadata_and_headers() {
    let payload = |tags: Value, metadata: Value, headers: Value| {
        let metadata =
            json!({"spend_logs_metadata": metadata, "requester_custom_headers": headers});
        let payload = json!({"status": "success", "call_type": "acompletion", "request_tags": tags, "metadata": metadata});
        let told = read(&payload.to_string());
        let tags = &told.requests[0].tags;
        (
            tags.task_type.as_ref().map(Word::to_string),
            tags.complexity,
        )
    };
    let task = |name: &str| Some(name.to_owned());
    let all = payload(
        json!(["User-Agent: curl", 7, "task: a", "complexity:Frontier"]),
        json!({"task_type": "b", "complexity": "routine"}),
        json!({"x-task-type": "c"}),
    );
    assert_eq!(all, (task("a"), Some(Complexity::Frontier)));
    let mixed = payload(
        json!(["task:two words are no task"]),
        json!({"complexity": "routine"}),
        json!({"x-task-type": "c", "task-type": "d"}),
    );
    assert_eq!(mixed, (task("c"), Some(Complexity::Routine)));
    let odd = payload(
        json!("task:a"),
        json!("b"),
        json!({"x-task-complexity": "hard"}),
    );
    assert_eq!(odd, (None, None));
}

/// A payload whose every other field holds a canary.
fn planted(value: Value) -> Value {
    let mut payload = json!({
        "id": "a", "status": "success", "call_type": "acompletion", "model": "m", "prompt_tokens": 1,
    });
    for key in [
        "messages",
        "response",
        "error_str",
        "end_user",
        "requester_ip_address",
        "api_base",
        "cache_key",
        "model_parameters",
        "hidden_params",
        "trace_id",
        "error_information",
        "user_agent",
    ] {
        payload[key] = value.clone();
    }
    payload["metadata"] = json!({
        "user_api_key_user_email": value, "user_api_key_end_user_id": value, "requester_metadata": value,
        "requester_ip_address": value, "spend_logs_metadata": {"note": value}, "user_api_key_hash": value,
        "requester_custom_headers": {"x-prompt": value}, "mcp_tool_call_metadata": value,
    });
    payload
}

fn canaries() -> impl Strategy<Value = Value> {
    let text = prop_oneof![Just(CANARY.to_owned()), ".{0,9}CANARY.{0,9}"].prop_map(Value::from);
    text.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Value::from),
            inner
                .clone()
                .prop_map(|value| json!({"model": value, "id": value, "request_tags": [value]})),
            inner.prop_map(|value| json!({"CANARY": value})),
        ]
    })
}

proptest! {
    #[test]
    fn no_canary_gets_out(value in canaries(), times in 1_usize..3) {
        let payload = planted(value).to_string();
        let told = read(&vec![payload; times].join("\n"));
        prop_assert_eq!(told.requests.len(), times);
        let shown = format!("{told:?}");
        prop_assert!(!shown.contains(CANARY), "{}", shown);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(told) = told(&bytes) {
            prop_assert!(told.requests.len() <= bytes.len());
        }
    }
}
