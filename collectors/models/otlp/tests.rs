//! Spans of SDKs, proxies and servers, in all three wrappings, and what must never be in what is read of them.

use std::io::Write as _;

use cms_spec::payload::v1::Complexity;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::receive::testing::{Desk, call};
use super::*;

const CANARY: &str = "CANARY";

/// A field of protobuf with bytes.
fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    let mut field = varint(u64::from(number << 3 | 2));
    field.extend(varint(content.len() as u64));
    field.extend(content);
    field
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// An `AnyValue` of what JSON says.
fn any_value(value: &Json) -> Vec<u8> {
    match value {
        Json::String(text) => bytes(1, text.as_bytes()),
        Json::Bool(truth) => [vec![0x10], varint(u64::from(*truth))].concat(),
        Json::Number(number) if number.is_f64() => {
            [&[0x21][..], &number.as_f64().unwrap().to_le_bytes()].concat()
        }
        Json::Number(number) => {
            [vec![0x18], varint(number.as_i64().unwrap().cast_unsigned())].concat()
        }
        Json::Array(values) => {
            let values: Vec<u8> = values
                .iter()
                .flat_map(|value| bytes(1, &any_value(value)))
                .collect();
            bytes(5, &values)
        }
        Json::Object(_) => bytes(6, &attributes(1, value)),
        Json::Null => Vec::new(),
    }
}

fn attributes(number: u32, map: &Json) -> Vec<u8> {
    let pairs = map.as_object().unwrap().iter();
    pairs
        .flat_map(|(key, value)| {
            bytes(
                number,
                &[bytes(1, key.as_bytes()), bytes(2, &any_value(value))].concat(),
            )
        })
        .collect()
}

const BEGAN: u64 = 1_773_480_413_000_000_000;
const ENDED: u64 = 1_773_480_415_410_000_000;

/// A span that ended at 09:26:55.41 after 2.41 s.
fn span(id: u8, status: u64, map: &Json) -> Vec<u8> {
    [
        bytes(1, &[id; 16]),
        bytes(2, &[id; 8]),
        bytes(3, CANARY.as_bytes()),
        bytes(5, CANARY.as_bytes()),
        vec![0x30, 3],
        [&[0x39][..], &BEGAN.to_le_bytes()].concat(),
        [&[0x41][..], &ENDED.to_le_bytes()].concat(),
        attributes(9, map),
        bytes(11, &[vec![0x12], bytes(2, CANARY.as_bytes())].concat()[1..]),
        bytes(
            15,
            &[bytes(2, CANARY.as_bytes()), vec![0x18], varint(status)].concat(),
        ),
    ]
    .concat()
}

/// A whole message; the resource stands behind its spans, as it may.
fn message(resource: &Json, spans: &[Vec<u8>]) -> Vec<u8> {
    let scope = bytes(1, &bytes(1, CANARY.as_bytes()));
    let spans: Vec<u8> = spans.iter().flat_map(|span| bytes(2, span)).collect();
    let scope_spans = bytes(2, &[scope, spans].concat());
    let resource = bytes(1, &attributes(1, resource));
    bytes(1, &[scope_spans, resource].concat())
}

/// The same in JSON, with 64 bits as text.
fn message_json(resource: &Json, spans: &[(u8, u64, Json)]) -> String {
    let list = |map: &Json| -> Json {
        let pairs = map.as_object().unwrap().iter().map(|(key, value)| {
            let value = match value {
                Json::String(text) => json!({"stringValue": text}),
                Json::Number(number) if number.is_f64() => json!({"doubleValue": number}),
                Json::Number(number) => json!({"intValue": number.to_string()}),
                other => json!({"arrayValue": {"values": [{"stringValue": other.to_string()}]}}),
            };
            json!({"key": key, "value": value})
        });
        pairs.collect()
    };
    let spans: Vec<Json> = spans
        .iter()
        .map(|(id, status, map)| {
            json!({
                "traceId": format!("{id:02x}").repeat(16), "spanId": format!("{id:02x}").repeat(8), "name": CANARY,
                "startTimeUnixNano": BEGAN.to_string(), "endTimeUnixNano": ENDED.to_string(),
                "attributes": list(map), "status": {"code": status, "message": CANARY},
                "events": [{"name": CANARY, "attributes": list(&json!({"gen_ai.prompt": CANARY}))}],
            })
        })
        .collect();
    let scope = json!([{"scope": {"name": CANARY}, "spans": spans}]);
    let resource = json!({"attributes": list(resource)});
    json!({"resourceSpans": [{"scopeSpans": scope, "resource": resource}]}).to_string()
}

fn row(request: &Request) -> String {
    let word = |word: &Option<Word>| word.as_ref().map_or("-".to_owned(), Word::to_string);
    format!(
        "{} {} {:?}+{:?} {:?}ms {}/{:?} {} {}",
        word(&request.id),
        word(&request.model),
        request.input_tokens,
        request.output_tokens,
        request.duration_ms,
        word(&request.tags.task_type),
        request.tags.complexity,
        word(&request.route.path),
        word(&request.route.key),
    )
}

/// What SDKs and servers write, with the status and what is read of it.
fn met() -> Vec<(u64, Json, &'static str)> {
    vec![
        (
            0,
            json!({
                "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
                "gen_ai.response.model": "gpt-4o-2024-08-06", "gen_ai.response.id": "chatcmpl-1",
                "gen_ai.usage.input_tokens": 158, "gen_ai.usage.output_tokens": 87,
                "gen_ai.input.messages": CANARY, "gen_ai.output.messages": CANARY, "cms.task_type": "classification",
                "cms.complexity": "routine", "app.ai.task_type": "other", "gen_ai.request.stop_sequences": [CANARY],
            }),
            "chatcmpl-1 gpt-4o-2024-08-06 Some(158)+Some(87) Some(2410)ms classification/Some(Routine) /v1/chat/completions shop",
        ),
        (
            // A server: no operation, no model, older names, its own latency as a double.
            0,
            json!({
                "gen_ai.request.id": "cmpl-2", "gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 20,
                "gen_ai.latency.e2e": 1.5, "gen_ai.request.max_tokens": 64, "gen_ai.prompt": {"0": CANARY},
            }),
            "cmpl-2 - Some(10)+Some(20) Some(1500)ms summary/Some(Frontier) /v1/completions shop",
        ),
        (
            0,
            json!({
                "gen_ai.operation.name": "embeddings", "gen_ai.request.model": "bge-m3", "gen_ai.system": "vllm",
                "gen_ai.usage.input_tokens": "512", "gen_ai.completion": CANARY,
            }),
            "03030303030303030303030303030303:0303030303030303 bge-m3 Some(512)+None Some(2410)ms summary/Some(Frontier) /v1/embeddings shop",
        ),
        (
            0,
            json!({"gen_ai.operation.name": "acompletion", "gen_ai.response_id": "r-4", "gen_ai.request.model": CANARY.repeat(30),
                "gen_ai.usage.input_tokens": 1.0, "gen_ai.usage.output_tokens": -1}),
            "r-4 - Some(1)+None Some(2410)ms summary/Some(Frontier) - shop",
        ),
        (
            // vLLM 0.32: the id has the caller's own, with its tags.
            0,
            json!({
                "gen_ai.request.id": "chatcmpl-extraction.routine.58", "gen_ai.response.model": "tiny",
                "gen_ai.usage.prompt_tokens": 41, "gen_ai.usage.completion_tokens": 12, "gen_ai.request.n": 1,
            }),
            "chatcmpl-extraction.routine.58 tiny Some(41)+Some(12) Some(2410)ms extraction/Some(Routine) /v1/chat/completions shop",
        ),
        (
            0,
            json!({"gen_ai.operation.name": "execute_tool", "gen_ai.usage.input_tokens": 5}),
            "spans that ask no model",
        ),
        (
            0,
            json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.output_tokens": 5}),
            "spans that ask no model",
        ),
        (
            0,
            json!({"gen_ai.request.model": "m", "http.url": CANARY}),
            "spans that ask no model",
        ),
        (
            // SGLang 0.5: what /health asks the model.
            0,
            json!({
                "gen_ai.request.id": "HEALTH_CHECK_8bf005bc", "gen_ai.response.model": "tiny", "gen_ai.usage.prompt_tokens": 1,
                "gen_ai.usage.completion_tokens": 1,
            }),
            "of health checks",
        ),
        (
            2,
            json!({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "exception.message": CANARY}),
            "that failed",
        ),
        (
            0,
            json!({"gen_ai.operation.name": "chat", "gen_ai.response.id": "cmpl-2", "gen_ai.response.model": "late"}),
            "that another span told of",
        ),
    ]
}

fn resource() -> Json {
    json!({"service.name": "shop", "app.ai.task_type": "summary", "app.ai.complexity": "frontier", "host.name": CANARY})
}

fn check(told: &Told) {
    let mut rows: Vec<String> = told.requests.iter().map(row).collect();
    // The server's span had no model, the client's did.
    rows[1] = rows[1]
        .replacen("late", "-", 1)
        .replace("/v1/chat/completions", "-");
    let expected: Vec<&str> = met().iter().map(|(_, _, row)| *row).collect();
    assert_eq!(rows, expected[..5]);
    assert_eq!(told.requests[1].model.as_ref().unwrap().as_str(), "late");
    assert_eq!(
        told.requests[0].at.unwrap().to_string(),
        "2026-03-14T09:26:55.41Z"
    );
    for why in &expected[5..] {
        let count = expected.iter().filter(|other| other == &why).count() as u64;
        assert_eq!(told.left.of(why), count, "{why}");
    }
    assert!(!format!("{told:?}").contains(CANARY), "{told:?}");
}

fn all() -> Vec<u8> {
    let spans: Vec<Vec<u8>> = (1..)
        .zip(met())
        .map(|(id, (status, map, _))| span(id, status, &map))
        .collect();
    message(&resource(), &spans)
}

#[test]
fn spans_are_read_by_their_old_and_new_names() {
    check(&told(Form::Protobuf, &all()).unwrap());
    let spans: Vec<(u8, u64, Json)> = (1..)
        .zip(met())
        .map(|(id, (status, map, _))| (id, status, map))
        .collect();
    check(&told(Form::Json, message_json(&resource(), &spans).as_bytes()).unwrap());
}

#[test]
fn what_is_no_request_of_traces_is_refused() {
    for wrong in [&b"\x0a"[..], b"\x0a\x05abc", b"{}", b"\xff", b"\x0b"] {
        assert_eq!(told(Form::Protobuf, wrong).unwrap_err(), MALFORMED);
    }
    for wrong in [
        "",
        "[]",
        "{",
        "7",
        "{} {}",
        r#"{"resourceSpans":[{"resource":]}"#,
    ] {
        assert_eq!(
            told(Form::Json, wrong.as_bytes()).unwrap_err(),
            MALFORMED,
            "{wrong}"
        );
    }
    for empty in [told(Form::Protobuf, b""), told(Form::Json, b"{}")] {
        assert!(empty.unwrap().requests.is_empty());
    }
}

#[tokio::test]
async fn exporters_are_served_over_http_and_grpc() {
    let mut desk = Desk::open(Otlp);
    let (status, said) = desk
        .post("/v1/traces", "application/x-protobuf", &all())
        .await;
    assert!(status == 200 && said.ends_with("\r\n\r\n"), "{said}");
    assert_eq!(
        desk.post("/v1/metrics", "application/x-protobuf", b"")
            .await
            .0,
        404
    );
    assert_eq!(desk.post("/v1/traces", "text/plain", b"").await.0, 415);

    let framed = |flag: u8, message: &[u8]| {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, message].concat()
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&all()).unwrap();
    let packed = framed(1, &encoder.finish().unwrap());
    const PROTO: (&str, &str) = ("content-type", "application/grpc+proto");
    for (path, body, code) in [
        (GRPC, framed(0, &all()), "0"),
        (GRPC, packed, "0"),
        (GRPC, framed(0, b""), "0"),
        (GRPC, framed(0, b"\x0a\x05abc"), "3"),
        (GRPC, all(), "3"),
        (GRPC, framed(0, &vec![0; (16 << 20) + 1]), "8"),
        (
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            framed(0, b""),
            "12",
        ),
    ] {
        let to = desk.address();
        let sender = tokio::spawn(async move {
            call(
                to,
                path,
                &[PROTO, ("grpc-encoding", "gzip"), ("te", "trailers")],
                body,
            )
            .await
        });
        let (answer, bytes, trailers) = desk.serve(sender).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let found = trailers
            .get("grpc-status")
            .or(answer.headers().get("grpc-status"));
        assert_eq!(found.unwrap(), code, "{:?}", answer.headers());
        assert_eq!(bytes.len(), if code == "0" { 5 } else { 0 });
    }
    assert_eq!(desk.heard.requests.len(), 15);
    assert!(!format!("{desk:?}").contains(CANARY));
}

fn canaries() -> impl Strategy<Value = Json> {
    let text = prop_oneof![Just(CANARY.to_owned()), ".{0,9}CANARY.{0,9}"].prop_map(Json::from);
    text.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Json::from),
            inner.prop_map(
                |value| json!({"gen_ai.response.model": value, "gen_ai.response.id": value})
            ),
        ]
    })
}

proptest! {
    #[test]
    fn no_canary_gets_out(value in canaries(), key in "(gen_ai|llm)\\.(prompt|completion|content|input\\.messages|prompts\\.0)") {
        let map = json!({
            "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": value,
            "gen_ai.system_instructions": value, "gen_ai.tool.definitions": value, (key): value,
            "gen_ai.tool.call.arguments": value, "user.email": value, "client.address": value,
        });
        let resource = json!({"process.command_line": value});
        let protobuf = told(Form::Grpc, &message(&resource, &[span(1, 0, &map)])).unwrap();
        let json = message_json(&resource, &[(1, 0, map)]);
        let json = told(Form::Json, json.as_bytes()).unwrap();
        prop_assert_eq!(&protobuf.requests, &json.requests);
        prop_assert_eq!(protobuf.requests.len(), 1);
        let shown = format!("{protobuf:?}");
        prop_assert!(!shown.contains(CANARY), "{}", shown);
    }

    #[test]
    fn changed_bytes_are_read_or_refused(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut message = all();
        let (at, cut) = (at.index(message.len()), cut.index(message.len()));
        message[at] = byte;
        drop(told(Form::Protobuf, &message));
        message.truncate(cut);
        if let Ok(told) = told(Form::Protobuf, &message) {
            prop_assert!(told.requests.len() <= met().len());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(told(Form::Protobuf, &bytes));
        drop(told(Form::Json, &bytes));
    }
}

#[test]
fn complexity_is_one_of_two_words() {
    let map = json!({"gen_ai.operation.name": "chat", "cms.complexity": "HARD", "app.ai.complexity": "Routine"});
    let told = told(Form::Protobuf, &message(&json!({}), &[span(1, 0, &map)])).unwrap();
    assert_eq!(told.requests[0].tags.complexity, Some(Complexity::Routine));
}

#[test]
fn the_caller_s_id_carries_tags_unless_the_span_has_some() {
    let tags_of = |map: Json| {
        let resource = json!({"cms.task_type": "service"});
        let told = told(Form::Protobuf, &message(&resource, &[span(1, 0, &map)])).unwrap();
        let tags = told.requests[0].tags.clone();
        (tags.task_type.map(|task| task.to_string()), tags.complexity)
    };
    let vllm = json!({"gen_ai.request.id": "chatcmpl-code.frontier.1", "gen_ai.usage.completion_tokens": 3});
    let code = Some("code".to_owned());
    assert_eq!(tags_of(vllm), (code.clone(), Some(Complexity::Frontier)));
    let both = json!({"gen_ai.request.id": "code.frontier.1", "cms.complexity": "routine", "gen_ai.usage.completion_tokens": 3});
    assert_eq!(tags_of(both), (code, Some(Complexity::Routine)));
    let neither =
        json!({"gen_ai.request.id": "chatcmpl-9f3b", "gen_ai.usage.completion_tokens": 3});
    assert_eq!(tags_of(neither), (Some("service".to_owned()), None));
}
