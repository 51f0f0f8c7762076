//! What each kind of server answers, and what is made of it.

use super::super::fake::{Fake, site};
use super::super::feed::Heard;
use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_773_480_413 + seconds).unwrap()
}

fn open(kind: Kind, answers: &[(&str, &str)]) -> (Arc<Fake>, Facts) {
    let server = Arc::new(Fake::default());
    for (path, body) in answers {
        server.says(path, body);
    }
    let facts = Facts::open(kind, &site("http://localhost:1"), &server.host()).unwrap();
    (server, facts)
}

async fn told(facts: &mut Facts, seconds: i64) -> Vec<(String, u64, SizeFrom)> {
    let mut heard = Heard::default();
    facts.refresh(at(seconds), &mut heard).await.unwrap();
    let told = heard.models.into_iter();
    told.map(|model| (model.name.to_string(), model.parameters, model.from))
        .collect()
}

#[tokio::test]
async fn an_adapter_is_as_large_as_the_model_that_it_is_for() {
    let models = r#"{"object":"list","data":[
        {"id":"prod","root":"/models/Qwen2.5-7B-Instruct","parent":null,"max_model_len":32768},
        {"id":"sql-lora","root":"/adapters/sql","parent":"prod"}]}"#;
    let (_server, mut facts) = open(Kind::Vllm, &[("/v1/models", models)]);
    assert_eq!(
        told(&mut facts, 0).await,
        [
            ("prod".to_owned(), 7_000_000_000, SizeFrom::Name),
            ("sql-lora".to_owned(), 7_000_000_000, SizeFrom::Name)
        ]
    );
    assert_eq!(facts.only_model().unwrap().as_str(), "prod");
}

#[tokio::test]
async fn llama_cpp_counts() {
    let models = r#"{"models":[{"name":"x"}],"data":[{"id":"My Model/gemma 270m.gguf","meta":{"n_params":268098176}},
        {"id":"/m/gemma-3-270m.gguf","meta":{"n_params":268098176}},{"id":"unloaded","meta":null}]}"#;
    let (_server, mut facts) = open(Kind::LlamaCpp, &[("/v1/models", models)]);
    let told = told(&mut facts, 0).await;
    assert_eq!(
        told,
        [(
            "gemma-3-270m.gguf".to_owned(),
            268_098_176,
            SizeFrom::Counted
        )]
    );
    assert!(facts.only_model().is_none(), "there are several");
    assert!(facts.details().concat().contains("unloaded: neither"));
}

#[tokio::test]
async fn sglang_of_both_generations() {
    let models = r#"{"data":[{"id":"served","root":"served"}]}"#;
    let path = r#"{"model_path":"meta-llama/Llama-3.1-70B","is_generation":true}"#;
    for place in ["/model_info", "/get_model_info"] {
        let (_server, mut facts) = open(Kind::Sglang, &[("/v1/models", models), (place, path)]);
        assert_eq!(
            told(&mut facts, 0).await,
            [("served".to_owned(), 70_000_000_000, SizeFrom::Name)]
        );
    }
}

const TAGS: &str = r#"{"models":[
    {"name":"llama3.2:3b","model":"llama3.2:3b","digest":"aa","size":1,"details":{"family":"llama","parameter_size":"3.2B"}},
    {"name":"mystery:latest","digest":"bb","details":{"parameter_size":"567.75M"}},
    {"name":"gone:1b","digest":"cc"}]}"#;

const SHOW: &str = r##"{"license":"CANARY","modelfile":"# Modelfile\nFROM /var/lib/ollama/blobs/sha256-DDE5aa3fc5ffc17176b5e8bdc82f587b24b2678c6c66101bf7da77af9f7ccdff\nSYSTEM \"\"\"CANARY\"\"\"\n",
    "system":"CANARY","template":"{{ .Prompt }}","model_info":{"general.architecture":"llama","general.parameter_count":3212749888,"tokenizer.ggml.tokens":null}}"##;

#[tokio::test]
async fn ollama_shows_each_model_once() {
    let (server, mut facts) = open(
        Kind::Ollama,
        &[
            ("/api/tags", TAGS),
            (r#"/api/show {"model":"llama3.2:3b"}"#, SHOW),
            (r#"/api/show {"model":"mystery:latest"}"#, "{}"),
            ("/api/ps", r#"{"models":[{"name":"llama3.2:3b"}]}"#),
        ],
    );
    assert_eq!(
        told(&mut facts, 0).await,
        [
            ("gone:1b".to_owned(), 1_000_000_000, SizeFrom::Name),
            ("llama3.2:3b".to_owned(), 3_212_749_888, SizeFrom::Counted),
            ("mystery:latest".to_owned(), 567_750_000, SizeFrom::Rounded)
        ]
    );
    assert_eq!(facts.only_model().unwrap().as_str(), "llama3.2:3b");
    let blob = "dde5aa3fc5ffc17176b5e8bdc82f587b24b2678c6c66101bf7da77af9f7ccdff";
    assert_eq!(facts.by_blob(blob).unwrap().as_str(), "llama3.2:3b");
    let shown = |asked: &[String]| asked.iter().filter(|one| one.contains("/show")).count();
    assert_eq!(shown(&server.asked()), 3);
    server.says("/api/ps", r#"{"models":[]}"#);
    assert!(told(&mut facts, 20).await.is_empty(), "not yet again");
    assert!(facts.only_model().is_none());
    assert_eq!(told(&mut facts, 600).await.len(), 3);
    assert_eq!(shown(&server.asked()), 0, "nothing was pulled anew");
    server.says("/api/tags", &TAGS.replace("\"aa\"", "\"a2\""));
    told(&mut facts, 1200).await;
    assert_eq!(shown(&server.asked()), 1);
}

#[tokio::test]
async fn what_a_server_answers_is_in_no_error() {
    for body in [
        r#"{"data":"CANARY"}"#,
        r#"{"data":[{"id":["CANARY"]}]}"#,
        "CANARY",
        r#"{"data":[{"id":"x","meta":{"n_params":"CANARY"}}]}"#,
    ] {
        let (server, mut facts) = open(Kind::Vllm, &[("/v1/models", body)]);
        let mut heard = Heard::default();
        let error = facts.refresh(at(0), &mut heard).await.unwrap_err();
        let said = format!("{error} {error:?} {}", words(&error));
        assert!(!said.contains("CANARY"), "{said}");
        assert!(said.contains("column"), "{said}");
        server.asked();
        facts.refresh(at(5), &mut heard).await.unwrap();
        assert!(server.asked().is_empty(), "it is given time");
        facts.refresh(at(15), &mut heard).await.unwrap_err();
    }
}

#[test]
fn a_list_is_bounded() {
    let many = vec!["{\"id\":\"a\"}"; 5000].join(",");
    let models: Models = few::read(format!("{{\"data\":[{many}]}}").as_bytes()).unwrap();
    assert_eq!(models.data.all.len(), MODELS_MAX);
}
