//! What tables of servers are refused for, and where.

use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::*;
use crate::models::source::REGISTRATION;

/// The message, and the text that it points to.
fn refusal(text: &str) -> Option<(String, &str)> {
    let table = DeTable::parse(text).unwrap();
    let value = Spanned::new(0..text.len(), DeValue::Table(table.into_inner()));
    let error = (REGISTRATION.parse)(ValueDeserializer::from(value)).err()?;
    let span = error.span().unwrap();
    Some((error.message().to_owned(), &text[span]))
}

fn table(kind: &str, keys: &str) -> String {
    format!("[[source]]\nkind = '{kind}'\n{keys}\n")
}

#[test]
fn every_way_of_every_kind_is_taken() {
    let metrics = "url = 'http://127.0.0.1:1'";
    let log = "log = '/var/log/*.log'\nfrom = 'start'\nwrapper = 'cri'";
    let local = "log = '/var/log/a.log'\ntime_zone = 'Europe/Zurich'";
    let journal = "journal = 'a'\nfrom = 'end'\njournal_folder = '/host/journal'";
    let both = "url = 'http://127.0.0.1:1'\njournal = 'a.service'\ngpus = []";
    let push = "listen = '127.0.0.1:4319'\ngpus = [0, 1]";
    let remote = "listen = '0.0.0.0:4319'\ntoken = { env = 'TOKEN' }";
    let key = "bearer_token = { env = 'KEY' }";
    for (kind, ways) in [
        ("vllm", vec![metrics, log, local, journal, both]),
        ("sglang", vec![metrics, log, local, journal, both]),
        ("tgi", vec![metrics, log, journal, both]),
        ("llamacpp", vec![metrics, log, journal, both]),
        ("ollama", vec![log, local, journal, both]),
        (
            "triton",
            vec![metrics, "url = 'http://[::1]:8002'\nmodels = ['a', 'b']"],
        ),
        ("litellm", vec![push, remote]),
        (
            "otlp",
            vec![
                push,
                remote,
                "listen = '127.0.0.1:1'\nurl = 'http://127.0.0.1:2'",
            ],
        ),
        ("jsonl", vec![push, remote, log, journal]),
        ("openai", vec![key]),
        ("anthropic", vec![key]),
    ] {
        for keys in ways {
            assert_eq!(refusal(&table(kind, keys)), None, "{kind}: {keys}");
        }
    }
}

#[test]
fn a_key_that_would_do_nothing_is_refused_where_it_stands() {
    for (kind, keys, part, at) in [
        (
            "vlm",
            "",
            "no kind of source: use one of vllm, sglang",
            "'vlm'",
        ),
        (
            "tgi",
            "url = 'http://a'\nfrom = 'start'",
            "say `log` or `journal`, or leave",
            "'start'",
        ),
        (
            "triton",
            "url = 'http://a'\nwrapper = 'cri'",
            "reads none: leave it out",
            "'cri'",
        ),
        (
            "jsonl",
            "listen = '127.0.0.1:1'\ntime_zone = 'UTC'",
            "`time_zone` is about a log",
            "'UTC'",
        ),
        (
            "vllm",
            "url = 'http://a'\njournal_folder = '/a'",
            "`journal_folder` is about",
            "'/a'",
        ),
        (
            "vllm",
            "log = '/a'\njournal_folder = '/b'",
            "goes with `journal`",
            "'/b'",
        ),
        (
            "ollama",
            "journal = 'a'\nwrapper = 'none'",
            "no wrapper: leave `wrapper` out",
            "'none'",
        ),
        (
            "ollama",
            "journal = 'a'\ntime_zone = 'UTC'",
            "times of their own",
            "'UTC'",
        ),
        ("ollama", "journal = 'a b'", "systemctl list-units", "'a b'"),
        (
            "llamacpp",
            "log = '/a'\ntime_zone = 'UTC'",
            "of llamacpp need no zone",
            "'UTC'",
        ),
        (
            "sglang",
            "log = '/a'\njournal = 'b'",
            "exclude each other",
            "'b'",
        ),
        (
            "jsonl",
            "log = '/a'\nlisten = '127.0.0.1:1'",
            "make two sources",
            "'127.0.0.1:1'",
        ),
        (
            "openai",
            "bearer_token = { env = 'A' }\nlog = '/a'",
            "has no log to read",
            "'/a'",
        ),
        (
            "vllm",
            "url = 'http://a'\ntoken = { env = 'A' }",
            "has `bearer_token`",
            "{ env = 'A' }",
        ),
        (
            "otlp",
            "token = { env = 'A' }",
            "it goes with `listen`",
            "{ env = 'A' }",
        ),
        (
            "litellm",
            "listen = '127.0.0.1:1'\nurl = 'http://a'",
            "leave `url` out",
            "'http://a'",
        ),
        (
            "jsonl",
            "log = '/a'\nbearer_token = { env = 'A' }",
            "leave `bearer_token`",
            "{ env = 'A' }",
        ),
        (
            "vllm",
            "log = '/a'\ntls = {}",
            "`tls` goes with `url`",
            "{}",
        ),
        (
            "vllm",
            "log = '/a'\nbearer_token = { env = 'A' }",
            "needs a `url`",
            "{ env = 'A' }",
        ),
        (
            "vllm",
            "url = 'http://a'\nmodels = ['b']",
            "leave `models` out",
            "['b']",
        ),
        (
            "triton",
            "url = 'http://a'\nmodels = ['b', 'b']",
            "\"b\" is named twice",
            "['b', 'b']",
        ),
        (
            "triton",
            "url = 'http://a'\nmodels = []",
            "name 1 to 256 models",
            "[]",
        ),
        (
            "triton",
            "url = 'http://a'\nmodels = ['a b']",
            "is no name here",
            "['a b']",
        ),
        (
            "openai",
            "bearer_token = { env = 'A' }\ngpus = []",
            "leave `gpus` out",
            "[]",
        ),
        (
            "vllm",
            "url = 'http://a'\ngpus = [1, 1]",
            "name each GPU once",
            "[1, 1]",
        ),
        (
            "vllm",
            "url = 'http://a'\nbearer_token = { env = 'A' }",
            "in the clear",
            "'http://a'",
        ),
    ] {
        let text = table(kind, keys);
        let (message, place) = refusal(&text).unwrap();
        assert!(message.contains(part), "{text}{message}");
        assert_eq!(place, at, "{text}{message}");
    }
}

#[test]
fn what_is_missing_is_said_of_the_table() {
    for (kind, keys, part) in [
        ("vllm", "", "`log` or `journal` for its log"),
        ("triton", "gpus = [0]", "say `url`"),
        ("openai", "", "an administrator's key"),
        ("anthropic", "url = 'https://a'", "an administrator's key"),
        ("otlp", "url = 'http://127.0.0.1:1'", "say `listen`"),
    ] {
        let text = table(kind, keys);
        let (message, place) = refusal(&text).unwrap();
        assert!(message.contains(part), "{text}{message}");
        assert!(place.starts_with("[[source]]"), "{place}");
    }
}

#[test]
fn every_table_in_a_document_of_models_is_taken() {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut tables = 0;
    for folder in std::fs::read_dir(models).unwrap() {
        let path = folder.unwrap().path().join("README.md");
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for example in text.split("```toml\n").skip(1) {
            let example = example.split("```").next().unwrap();
            let document = DeTable::parse(example).unwrap();
            let root = document.into_inner();
            let models = root.get("models").unwrap().clone();
            let taken = (REGISTRATION.parse)(ValueDeserializer::from(models));
            assert!(
                taken.is_ok(),
                "{}: {example}{:?}",
                path.display(),
                taken.err()
            );
            tables += 1;
        }
    }
    assert!(tables > 20, "{tables} tables were found");
}
