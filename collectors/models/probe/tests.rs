//! Servers as they answer, and what becomes of it.

use std::sync::Arc;

use super::*;
use crate::models::fake::{Fake, site};
use crate::models::source::REGISTRATION;

/// Stands where people's text and secrets stand.
const CANARY: &str = "CANARY";

const VLLM: &str = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"house\"} 0\n\
    vllm:request_success_total{finished_reason=\"stop\",model_name=\"house\"} 12\n\
    vllm:request_success_total{finished_reason=\"abort\",model_name=\"house\"} 3\n\
    vllm:prompt_tokens_total{model_name=\"house\"} 345\nvllm:generation_tokens_total{model_name=\"house\"} 678\n\
    http_requests_total{handler=\"/v1/chat/completions\"} 15\n";

const VLLM_MODELS: &str = r#"{"object":"list","data":[{"id":"house","owned_by":"vllm","root":"/models/house","parent":null,"x":"CANARY"},
    {"id":"big","owned_by":"vllm","root":"org/Big-70B","parent":null},{"id":"CANARY with spaces","owned_by":"vllm"}]}"#;

fn serving(answers: &[(&str, &str)]) -> Arc<Fake> {
    let server = Arc::new(Fake::default());
    for (path, body) in answers {
        server.says(path, body);
    }
    server
}

async fn looked(server: &Arc<Fake>, url: &str) -> Result<Suggestion, CollectError> {
    let at = Timestamp::from_second(1_790_000_000).expect("a time");
    look(&server.host(), &site(url), at).await
}

async fn seen(answers: &[(&str, &str)]) -> Suggestion {
    let server = serving(answers);
    let seen = looked(&server, "http://127.0.0.1:8000")
        .await
        .expect("it is known");
    for question in server.asked() {
        let is_post = question.contains(' ');
        assert!(!is_post || question.starts_with("/api/show "), "{question}");
        assert!(
            !["/slots", "/props"].contains(&question.as_str()),
            "{question}"
        );
    }
    let all = format!("{}\n{}", seen.found.join("\n"), seen.table);
    assert!(!all.contains(CANARY), "{all}");
    accepted(&seen.table);
    for table in alternatives(&seen.table) {
        accepted(&table);
    }
    seen
}

/// A configuration reads the table.
fn accepted(table: &str) {
    let text = table.replace("[[models.", "[[");
    let parsed = toml::de::DeTable::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let value = toml::Spanned::new(0..text.len(), toml::de::DeValue::Table(parsed.into_inner()));
    if let Err(error) = (REGISTRATION.parse)(toml::de::ValueDeserializer::from(value)) {
        panic!("{error}\n{table}");
    }
}

/// Tables of sources that stand there as remarks.
fn alternatives(text: &str) -> Vec<String> {
    let mut tables: Vec<String> = Vec::new();
    let mut is_in_table = false;
    for line in text.lines() {
        let Some(line) = line.strip_prefix("# ") else {
            is_in_table = false;
            continue;
        };
        let is_key = line.split_once(" = ").is_some_and(|(key, _)| {
            key.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        });
        if line == "[[models.source]]" {
            tables.push(String::new());
            is_in_table = true;
        }
        if let Some(table) = tables.last_mut().filter(|_| is_in_table)
            && (is_key || line.starts_with(['[', '#']))
        {
            table.push_str(line);
            table.push('\n');
        }
    }
    tables
}

fn assert_told(seen: &Suggestion, parts: &[&str]) {
    let all = format!("{}\n{}", seen.found.join("\n"), seen.table);
    for part in parts {
        assert!(all.contains(part), "{part:?} is not in\n{all}");
    }
}

#[tokio::test]
async fn vllm_is_known_by_its_metrics_and_spans_come_first() {
    let answers = [
        ("/metrics", VLLM),
        ("/v1/models", VLLM_MODELS),
        ("/version", r#"{"version":"0.32.0"}"#),
    ];
    let found = seen(&answers).await;
    assert_eq!(
        found.found[..4],
        [
            "http://127.0.0.1:8000 is vLLM 0.32.0, known by its metrics",
            "model big: 70000000000 parameters, by its name",
            "model house: nobody says how large it is; until [[models.model]] does, it counts as not small",
            "http://127.0.0.1:8000/metrics counts requests (12 so far), input tokens (345 so far), output tokens (678 so far)",
        ]
    );
    assert_told(
        &found,
        &[
            "\nkind = \"vllm\"\n",
            "# kind = \"otlp\"",
            "# name = \"house\"\n# parameters = 0",
        ],
    );
    assert!(found.table.find("otlp") < found.table.find("\nkind = \"vllm\""));
    assert_eq!(alternatives(&found.table).len(), 1);
    // Its list may want a key, and its statistics may be off.
    let server = serving(&[("/metrics", VLLM)]);
    server.refuses("/v1/models", 401);
    let keyless = looked(&server, "http://127.0.0.1:8000/v1")
        .await
        .expect("it is known");
    assert_told(
        &keyless,
        &["wants a login: --bearer-token-file", "is vLLM, known by"],
    );
    let quiet = seen(&[
        ("/metrics", "# TYPE python_gc counter\npython_gc 1\n"),
        ("/v1/models", VLLM_MODELS),
    ])
    .await;
    assert_told(
        &quiet,
        &[
            "has none of its counters: ",
            "--disable-log-stats",
            "/v1/models",
        ],
    );
}

#[tokio::test]
async fn nim_keeps_the_address_of_its_page() {
    let page = VLLM
        .replace("vllm:request_success", "request_finish")
        .replace("vllm:", "");
    let found = seen(&[("/v1/metrics", &page), ("/v1/models", VLLM_MODELS)]).await;
    assert_told(
        &found,
        &[
            "is NVIDIA NIM",
            "url = \"http://127.0.0.1:8000/v1/metrics\"",
            "requests (12 so far)",
        ],
    );
}

#[tokio::test]
async fn sglang_says_whether_its_log_may_be_read() {
    let models = r#"{"data":[{"id":"qwen3-8b","owned_by":"sglang","root":"qwen3-8b"}]}"#;
    let info = |level: u8, format: &str| {
        format!(
            "{{\"api_key\":\"CANARY\",\"version\":\"0.5.23\",\"log_requests\":true,\"log_requests_level\":{level},\
             \"log_requests_format\":\"{format}\",\"internal_states\":[{{\"x\":\"CANARY\"}}]}}"
        )
    };
    let path = (
        "/model_info",
        r#"{"model_path":"/models/qwen3-8b","x":"CANARY"}"#,
    );
    for (level, format, told) in [
        (2, "json", "--log-requests-level 2): such a log is refused"),
        (0, "json", "its log tells each request"),
        (0, "text", "is text, which is not read"),
    ] {
        let info = info(level, format);
        let found = seen(&[("/v1/models", models), ("/get_server_info", &info), path]).await;
        assert_told(
            &found,
            &[
                "is SGLang 0.5.23",
                told,
                "8000000000 parameters, by its name",
            ],
        );
        assert_told(
            &found,
            &[
                "no metrics: /metrics answers with HTTP 404",
                "--enable-metrics",
            ],
        );
        assert_eq!(alternatives(&found.table).len(), 2);
    }
    let page = "sglang:prompt_tokens_total{model_name=\"m\"} 5\nsglang:num_requests_total{model_name=\"m\"} 1\n";
    let found = seen(&[("/metrics", page), path, ("/v1/models", models)]).await;
    assert_told(
        &found,
        &["requests (1 so far)", "it does not count output tokens"],
    );
}

#[tokio::test]
async fn servers_of_hugging_face_are_told_apart() {
    let page = "tgi_request_success 4\ntgi_request_input_length_sum 40\ntgi_request_generated_tokens_sum 80\n";
    let info = r#"{"model_id":"org/Model-8B","router":"text-generation-router","version":"3.3.7","x":"CANARY"}"#;
    let found = seen(&[("/metrics", page), ("/info", info)]).await;
    assert_told(
        &found,
        &[
            "Text Generation Inference 3.3.7",
            "requests (4 so far)",
            "\nkind = \"tgi\"",
        ],
    );
    let info = r#"{"model_id":"BAAI/bge-m3","model_type":{"embedding":{"pooling":"cls"}},"version":"1.7"}"#;
    let found = seen(&[("/metrics", "te_request_count 3\n"), ("/info", info)]).await;
    assert_told(
        &found,
        &[
            "Text Embeddings Inference 1.7",
            "model BAAI/bge-m3: nobody",
            "journal = \"tei.service\"",
        ],
    );
}

#[tokio::test]
async fn llama_cpp_is_read_by_its_log_for_its_metrics_count_no_requests() {
    let models = r#"{"models":[{"name":"CANARY"}],"data":[{"id":"gemma.gguf","owned_by":"llamacpp","meta":{"n_params":268098176}}]}"#;
    let found = seen(&[("/v1/models", models)]).await;
    assert_told(
        &found,
        &[
            "is llama.cpp, known by the owner",
            "268098176 parameters, counted by the server",
            "start the server with --metrics",
            "its metrics count no requests",
            "journal = \"llama-server.service\"",
        ],
    );
    let page = "llamacpp:prompt_tokens_total 25\nllamacpp:tokens_predicted_total 8\n";
    let found = seen(&[("/v1/models", models), ("/metrics", page)]).await;
    assert_told(
        &found,
        &[
            "counts input tokens (25 so far)",
            "it does not count requests",
        ],
    );
}

#[tokio::test]
async fn ollama_shows_every_model_a_few_at_a_time() {
    let model = |number: usize| {
        format!(
            "{{\"name\":\"m{number}:latest\",\"digest\":\"d{number}\",\"details\":{{\"parameter_size\":\"3.2B\"}}}}"
        )
    };
    let all: Vec<String> = (0..20).map(model).collect();
    let tags = format!("{{\"models\":[{}]}}", all.join(","));
    let mut answers = vec![
        ("/api/tags".to_owned(), tags),
        ("/api/ps".to_owned(), "{\"models\":[]}".to_owned()),
        (
            "/api/version".to_owned(),
            "{\"version\":\"0.33.0\"}".to_owned(),
        ),
    ];
    for number in 0..20 {
        answers.push((
            format!("/api/show {{\"model\":\"m{number}:latest\"}}"),
            "{\"modelfile\":\"FROM x\\nSYSTEM CANARY\",\"model_info\":{\"general.parameter_count\":3212749888}}".to_owned(),
        ));
    }
    let answers: Vec<(&str, &str)> = answers
        .iter()
        .map(|(path, body)| (path.as_str(), body.as_str()))
        .collect();
    let found = seen(&answers).await;
    assert_told(
        &found,
        &[
            "is Ollama 0.33.0, known by /api/tags",
            "it has no metrics",
            "journal = \"ollama.service\"",
        ],
    );
    let counted = "3212749888 parameters, counted by the server";
    let lines = found.found.iter().filter(|line| line.ends_with(counted));
    assert_eq!(lines.count(), 20);
}

#[tokio::test]
async fn triton_is_known_on_both_of_its_ports() {
    let kserve = r#"{"name":"triton","version":"2.50.0","extensions":["metrics"]}"#;
    let found = seen(&[("/v2", kserve)]).await;
    assert_told(
        &found,
        &[
            "is Triton 2.50.0, known by /v2",
            "url = \"http://127.0.0.1:8002\"",
        ],
    );
    let page = "nv_inference_request_success{model=\"resnet\",version=\"1\"} 7\nnv_energy_consumption{gpu_uuid=\"g\"} 12.5\n\
                vllm:prompt_tokens_total{model=\"resnet\"} 5\n";
    let found = seen(&[("/metrics", page)]).await;
    assert_told(
        &found,
        &[
            "is Triton, known by its metrics",
            "requests (7 so far)",
            "energy of its GPUs (12 J so far)",
            "model resnet",
        ],
    );
}

#[tokio::test]
async fn litellm_pushes_and_says_whether_it_does() {
    let ready = r#"{"status":"healthy","litellm_version":"1.106.0","success_callbacks":["GenericAPILogger","CANARY"]}"#;
    let models =
        r#"{"data":[{"id":"gpt-4o","owned_by":"openai"},{"id":"house-8b","owned_by":"openai"}]}"#;
    let found = seen(&[("/health/readiness", ready), ("/v1/models", models)]).await;
    assert_told(
        &found,
        &[
            "is LiteLLM 1.106.0",
            "generic_api is on",
            "model gpt-4o: nobody",
            "listen = \"127.0.0.1:4319\"",
        ],
    );
}

#[tokio::test]
async fn what_says_nothing_of_itself_is_told_by_others_and_what_is_no_server_of_models_is_refused()
{
    let models = r#"{"data":[{"id":"custom","owned_by":"me"}]}"#;
    let found = seen(&[("/v1/models", models)]).await;
    assert_told(
        &found,
        &[
            "does not say which one it is",
            "kind = \"otlp\"",
            "# kind = \"jsonl\"",
        ],
    );
    let server = serving(&[("/metrics", "node_cpu_seconds_total 1\n")]);
    let error = looked(&server, "http://127.0.0.1:9100")
        .await
        .expect_err("an exporter");
    assert!(
        error
            .to_string()
            .contains("no server of models answers there"),
        "{error}"
    );
    let server = serving(&[]);
    server.refuses("/v1/models", 401);
    let error = looked(&server, "http://127.0.0.1:4000")
        .await
        .expect_err("it is shut");
    assert_eq!(error.class(), "denied");
    assert!(error.to_string().contains("--bearer-token-file"), "{error}");
}

#[tokio::test]
async fn no_answer_is_too_odd() {
    let odd = [
        "",
        "null",
        "[]",
        "{}",
        "{\"data\":null}",
        "{\"data\":[{}]}",
        "\u{0}\u{1}",
        "{\"version\":7}",
        "true",
    ];
    for body in odd {
        let paths = [
            "/metrics",
            "/v1/metrics",
            "/v1/models",
            "/api/tags",
            "/info",
            "/health/readiness",
            "/model_info",
            "/v2",
            "/version",
            "/server_info",
        ];
        let answers: Vec<(&str, &str)> = paths.into_iter().map(|path| (path, body)).collect();
        let server = serving(&answers);
        let seen = looked(&server, "http://127.0.0.1:1").await;
        assert!(seen.is_err(), "{body}: {seen:?}");
    }
}
