//! The standardized log: right lines, wrong lines, and lines that hold more than they should.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::feed::{Heard, Line};
use super::super::receive::testing::Desk;
use super::super::request::Request;
use super::*;

const CANARY: &str = "CANARY";

const LINES: &str = include_str!("testdata/inferences.jsonl");

fn by_lines(text: &str) -> (Heard, Option<String>) {
    let (mut reader, mut heard) = (reader(), Heard::default());
    for (place, text) in (0..).zip(text.lines()) {
        let line = Line {
            text: text.as_bytes(),
            at: None,
            is_cut: false,
            place,
        };
        reader.line(line, &mut heard);
    }
    (heard, reader.trouble())
}

fn row(request: &Request) -> String {
    format!(
        "{} {} {} {:?}+{:?}={:?} {:?}ms {:?} {:?}/{:?} {:?} {:?} {:?}",
        request.id.as_ref().unwrap(),
        request.at.unwrap(),
        request.model.as_ref().unwrap(),
        request.input_tokens,
        request.output_tokens,
        request.total_tokens,
        request.duration_ms,
        request.energy.map(|energy| energy.0),
        request.tags.task_type,
        request.tags.complexity,
        request.route.path,
        request.route.key,
        request.route.adapter,
    )
}

#[test]
fn lines_are_read_from_a_file_and_from_a_message() {
    let (heard, trouble) = by_lines(LINES);
    let rows: Vec<String> = heard.requests.iter().map(row).collect();
    assert_eq!(
        rows,
        [
            "req_1 2026-03-14T09:26:53Z triage-8b Some(412)+Some(38)=None Some(380)ms Some(1080000000) \
             Some(\"classification\")/Some(Routine) Some(\"/v1/chat/completions\") None None",
            "req_2 2026-03-14T09:26:54.5Z triage-8b None+None=Some(520) Some(1241)ms None None/None None None None",
            "req_3 2026-03-14T07:26:55Z acme/big Some(1)+Some(2)=Some(3) Nonems None Some(\"legal.review\")/Some(Frontier) None \
             Some(\"team-a\") Some(\"lora-7\")",
        ]
    );
    let facts: Vec<String> = heard
        .models
        .iter()
        .map(|m| format!("{} {}", m.name, m.parameters))
        .collect();
    assert_eq!(facts, ["triage-8b 8030000000"]);
    let trouble = trouble.unwrap();
    for why in [
        "2 lines that were no JSON",
        "1 lines that were no objects",
        "1 lines without a request_id",
        "2 lines without a model",
        "1 lines without a timestamp",
        "2 lines with a timestamp that has no offset or is no time",
    ] {
        assert!(trouble.contains(why), "{trouble}");
    }
    let told = told(LINES.as_bytes()).unwrap();
    assert_eq!(told.requests, heard.requests);
    assert_eq!(told.models, heard.models);
    assert!(trouble.ends_with(&told.left.words()), "{:?}", told.left);
    assert!(!format!("{told:?} {heard:?} {trouble}").contains(CANARY));
}

#[test]
fn a_line_that_is_cut_is_no_line() {
    let (mut reader, mut heard) = (reader(), Heard::default());
    let text = LINES.lines().next().unwrap().as_bytes();
    let line = Line {
        text,
        at: None,
        is_cut: true,
        place: 0,
    };
    reader.line(line, &mut heard);
    assert!(heard.requests.is_empty());
    assert_eq!(
        reader.trouble().unwrap(),
        "left out 1 lines that were too long"
    );
}

#[tokio::test]
async fn lines_are_pushed() {
    let mut desk = Desk::open(Jsonl);
    let (status, said) = desk
        .post("/v1/inferences", "application/x-ndjson", LINES.as_bytes())
        .await;
    assert_eq!(status, 200, "{said}");
    assert_eq!((desk.heard.requests.len(), desk.heard.models.len()), (3, 1));
    let (status, said) = desk
        .post(
            "/v1/inferences",
            "application/json",
            b"{\"prompt\":\"CANARY\"}",
        )
        .await;
    assert_eq!(status, 400);
    assert!(
        said.contains("request_id, timestamp") && !said.contains(CANARY),
        "{said}"
    );
    assert_eq!(desk.post("/", "application/json", b"").await.0, 404);
}

proptest! {
    #[test]
    fn no_canary_gets_out(text in ".{0,20}CANARY .{0,20}", key in "[a-z_]{1,12}") {
        prop_assume!(key != "model" && key != "timestamp");
        let line = json!({
            "request_id": "a", "timestamp": "2026-03-14T09:26:53Z", "model": "m", "prompt": text, "messages": [text],
            "response": {"text": text, "model": text}, "task_type": text, "endpoint": format!("/v1?{text}"), "user": text,
        });
        let Value::Object(mut line) = line else { unreachable!() };
        line.entry(key).or_insert(Value::from(text));
        let (heard, trouble) = by_lines(&Value::from(line).to_string());
        prop_assert_eq!(heard.requests.len(), 1);
        let shown = format!("{heard:?} {trouble:?}");
        prop_assert!(!shown.contains(CANARY), "{}", shown);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(told(&bytes));
    }
}
