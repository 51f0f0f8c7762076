//! What becomes of what feeds tell: counted once, shared exactly, kept over a restart.

use std::sync::Arc;

use cms_spec::payload::v1::Complexity;
use cms_spec::reading::{Readings, Sample};
use cms_spec::units::Microjoules;
use proptest::prelude::*;

use super::counting::{Counting, Small, Unshared};
use super::decisions::DecidedBy;
use super::settings::Spec;
use super::*;
use crate::models::feed::{Feed, Out};
use crate::models::request::{ModelFacts, Request, SizeFrom, Sum, Tags, Used, Word};
use crate::web::Offline;

fn word(text: &str) -> Word {
    Word::new(text.as_bytes()).expect("a word")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).expect("a time")
}

fn request(number: u64, output_tokens: u64) -> Request {
    Request {
        id: Some(word(&format!("r{number}"))),
        model: Some(word("m")),
        input_tokens: Some(1),
        output_tokens: Some(output_tokens),
        tags: Tags {
            task_type: Some(word("summarization")),
            complexity: Some(Complexity::Routine),
        },
        ..Request::default()
    }
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared {
        rules: Vec::new(),
        salt: [7; 16],
        plain_ids: false,
        small: Small::Measured(Microjoules(1_000)),
        published: false,
        state: Mutex::new(State::default()),
    })
}

fn told(counting: Counting) -> Sample {
    let mut out = Readings::default();
    let origin = cms_spec::provenance::Origin::measured(
        "fake",
        "fake/1",
        cms_spec::provenance::Confidence::B,
    );
    let origin = out.origin(origin);
    counting.finish(origin, &mut out);
    out.stamp("models/source", at(0), "boot")
}

proptest! {
    /// The energy of a span is shared among its requests to the last microjoule.
    #[test]
    fn shares_add_up(used in 1_u64..1_000_000_000_000, tokens in prop::collection::vec(0_u64..5_000, 1..900)) {
        let shared = shared();
        let mut counting = Counting::new(&shared, "chat", at(0), Unshared::default());
        for (number, tokens) in tokens.iter().enumerate() {
            counting.request(request(number as u64, *tokens));
        }
        counting.used(Used { energy: Microjoules(used), over_ms: 1_000 });
        let sample = told(counting);
        let of_rows: u64 = sample.inferences.iter().filter_map(|row| row.energy).map(|e| e.0).sum();
        let of_sums: u64 = sample.tallies.iter().map(|tally| tally.energy.0).sum();
        prop_assert_eq!(of_rows + of_sums, used);
        let requests: u64 = sample.tallies.iter().map(|tally| tally.requests).sum();
        prop_assert_eq!(requests + sample.inferences.len() as u64, tokens.len() as u64);
        prop_assert!(sample.inferences.len() <= 900);
    }
}

#[test]
fn a_request_counts_once_and_its_id_is_salted() {
    let shared = shared();
    let mut counting = Counting::new(&shared, "chat", at(0), Unshared::default());
    counting.request(request(1, 10));
    counting.request(request(1, 10));
    counting.request(request(2, 10));
    assert_eq!(
        (counting.counts.requests, counting.counts.duplicates),
        (2, 1)
    );
    let sample = told(counting);
    assert_eq!(sample.inferences.len(), 2);
    assert!(
        sample
            .inferences
            .iter()
            .all(|row| row.request_id.len() == 32)
    );
    let mut again = Counting::new(&shared, "other", at(1), Unshared::default());
    again.request(request(2, 10));
    assert!(again.is_empty(), "another source tells it, too");
}

#[test]
fn many_requests_take_no_more_rows_than_the_log_has() {
    let shared = shared();
    let mut rows = 0;
    for tick in 0_u32..50 {
        let mut counting = Counting::new(&shared, "chat", at(i64::from(tick)), Unshared::default());
        for number in 0..1_000 {
            counting.request(request(u64::from(tick) * 1_000 + number, 1));
        }
        rows += told(counting).inferences.len();
    }
    assert!(
        (400..4_000).contains(&rows),
        "{rows} rows of 50,000 requests"
    );
}

#[test]
fn idle_energy_is_nobodys_and_a_request_has_what_was_used_for_it() {
    let shared = shared();
    let mut counting = Counting::new(&shared, "chat", at(0), Unshared::default());
    let second = Used {
        energy: Microjoules(50_000_000),
        over_ms: 1_000,
    };
    counting.used(second);
    let mut out = Readings::default();
    let origin = cms_spec::provenance::Origin::measured(
        "fake",
        "fake/1",
        cms_spec::provenance::Confidence::B,
    );
    let index = out.origin(origin.clone());
    let waits = counting.finish(index, &mut out);
    assert!(out.is_empty());
    let mut counting = Counting::new(&shared, "chat", at(1), waits);
    counting.used(second);
    counting.request(request(1, 1_000));
    let sample = told(counting);
    assert_eq!(sample.inferences[0].energy, Some(Microjoules(100_000_000)));
    assert_eq!(
        sample.inferences[0].small_model_energy,
        Some(Microjoules(1_000))
    );
    let mut counting = Counting::new(&shared, "chat", at(99), Unshared::default());
    counting.used(Used {
        energy: Microjoules(1),
        over_ms: 90_000,
    });
    assert_eq!(counting.finish(index, &mut out), Unshared::default());
}

/// Tells as many requests as it is asked times, and goes on from its checkpoint.
struct Numbered {
    next: u64,
    acknowledged: Arc<Mutex<u64>>,
}

#[async_trait]
impl Feed for Numbered {
    async fn take(&mut self, at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError> {
        match self.next {
            3 => panic!("a bug"),
            _ => {
                out.request(request(self.next, 5));
                out.sum(Sum {
                    at: Some(at),
                    requests: Some(2),
                    output_tokens: Some(7),
                    ..Sum::default()
                });
                self.next += 1;
                Ok(())
            }
        }
    }

    fn checkpoint(&self) -> Option<String> {
        Some(self.next.to_string())
    }

    fn resume(&mut self, checkpoint: &str) {
        self.next = checkpoint.parse().expect("a number");
    }

    fn stored(&mut self) {
        *self.acknowledged.lock().expect("no panic under it") = self.next;
    }
}

fn models(acknowledged: &Arc<Mutex<u64>>) -> Models {
    let acknowledged = Arc::clone(acknowledged);
    let open = move |_: &Host| -> Result<Box<dyn Feed>, CollectError> {
        Ok(Box::new(Numbered {
            next: 0,
            acknowledged: Arc::clone(&acknowledged),
        }))
    };
    let spec = Spec {
        name: "chat".to_owned(),
        label: "fake/log".to_owned(),
        method: "fake-log/1".to_owned(),
        note: "for tests".to_owned(),
        open: Arc::new(open),
    };
    Models {
        host: Host::local(
            "host:a".parse().expect("a name"),
            "here".to_owned(),
            Arc::new(Offline),
        ),
        shared: shared(),
        feeds: vec![Running::new(spec)],
        history: History::default(),
        details: Vec::new(),
        advice: Vec::new(),
        advised: None,
        trouble: None,
    }
}

#[tokio::test]
async fn a_restart_goes_on_where_the_store_says_and_a_panic_costs_nothing_else() {
    let acknowledged = Arc::new(Mutex::new(0));
    let mut before = models(&acknowledged);
    let mut kept = None;
    for second in 0..3 {
        let mut out = Readings::default();
        before.collect(at(second), &mut out).await.expect("a tick");
        kept = out.take_resume();
        assert!(
            before.checkpoint().is_none(),
            "what is told waits for the store"
        );
        before.stored();
        let sample = out.stamp("models/source", at(second), "boot");
        assert_eq!((sample.inferences.len(), sample.tallies.len()), (1, 1));
    }
    assert_eq!(*acknowledged.lock().expect("no panic under it"), 3);
    assert_eq!(before.checkpoint(), kept);

    let mut after = models(&acknowledged);
    after.resume(&kept.expect("a checkpoint"));
    assert_eq!(after.shared.salt, [7; 16]);
    let mut out = Readings::default();
    after.collect(at(10), &mut out).await.expect("a tick");
    assert!(out.is_empty());
    let trouble = after.trouble().expect("the feed is lost");
    assert!(trouble.contains("chat: its code has a bug"), "{trouble}");
    // After its pause it is opened again, from where it was.
    after.feeds[0].resume("2".to_owned());
    after.collect(at(25), &mut out).await.expect("a tick");
    let sample = out.stamp("models/source", at(25), "boot");
    assert!(
        sample.inferences.is_empty(),
        "request 2 was seen before the restart"
    );
    assert_eq!(sample.tallies.len(), 1);
    assert_eq!(after.trouble(), None);
}

#[test]
fn a_model_that_is_named_by_its_place_is_told_by_its_file() {
    let shared = shared();
    let mut counting = Counting::new(&shared, "local", at(0), Unshared::default());
    let place = word("/srv/models/of.alice/gemma-3.gguf");
    counting.model(ModelFacts {
        name: place.clone(),
        parameters: 268_098_176,
        from: SizeFrom::Counted,
    });
    counting.request(Request {
        model: Some(place.clone()),
        ..request(1, 10)
    });
    counting.sum(Sum {
        model: Some(place),
        requests: Some(2),
        ..Sum::default()
    });
    let sample = told(counting);
    assert_eq!(sample.inferences[0].model, "gemma-3.gguf");
    assert_eq!(sample.inferences[0].parameters, Some(268_098_176));
    assert_eq!(sample.tallies[0].key.model, "gemma-3.gguf");
    for (name, told) in [
        ("/srv/qwen3/", "qwen3"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/", "/"),
    ] {
        assert_eq!(word(name).without_folder().as_str(), told);
    }
}

#[test]
fn tokens_without_requests_are_told_with_their_energy() {
    let shared = shared();
    let mut counting = Counting::new(&shared, "hosted", at(0), Unshared::default());
    let sum = |requests, output_tokens| Sum {
        requests,
        input_tokens: output_tokens,
        output_tokens,
        ..Sum::default()
    };
    counting.sum(sum(None, None));
    counting.sum(sum(Some(0), Some(0)));
    assert!(counting.is_empty(), "nothing was used");
    counting.sum(sum(None, Some(30)));
    counting.used(Used {
        energy: Microjoules(900),
        over_ms: 1_000,
    });
    let tallies = told(counting).tallies;
    assert_eq!(tallies.len(), 1);
    let tally = &tallies[0];
    assert_eq!((tally.requests, tally.tokens), (0, 60));
    assert_eq!((tally.energy.0, tally.energy_requests), (900, 0));
}

#[test]
fn tokens_of_a_request_that_is_not_over_are_told_before_it_counts() {
    let shared = shared();
    let mut counting = Counting::new(&shared, "vllm", at(0), Unshared::default());
    let sum = |requests, output_tokens| Sum {
        requests: Some(requests),
        input_tokens: Some(0),
        output_tokens: Some(output_tokens),
        ..Sum::default()
    };
    counting.sum(sum(0, 500));
    counting.sum(sum(1, 20));
    assert_eq!((counting.counts.requests, counting.counts.tokens), (1, 520));
    let tallies = told(counting).tallies;
    assert_eq!((tallies[0].requests, tallies[0].tokens), (1, 520));
}

/// A collector as a table makes it.
fn opened(text: &str) -> Box<dyn Collector> {
    let table = toml::de::DeTable::parse(text).expect("a table");
    let value = toml::Spanned::new(0..text.len(), toml::de::DeValue::Table(table.into_inner()));
    let settings =
        (REGISTRATION.parse)(toml::de::ValueDeserializer::from(value)).expect("settings");
    let host = Host::local(
        "host:a".parse().expect("a name"),
        "here".to_owned(),
        Arc::new(Offline),
    );
    settings.open(&host).expect("it opens")
}

#[tokio::test(start_paused = true)]
async fn a_log_is_read_to_its_end_and_what_decided_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("inference.jsonl");
    let line = |id: &str, more: &str| {
        format!(
            "{{\"request_id\":\"{id}\",\"timestamp\":\"2026-05-28T20:26:39Z\",\"model\":\"qwen3-8b\",\"input_tokens\":4,\"output_tokens\":5{more}}}\n"
        )
    };
    let tagged = ",\"task_type\":\"classification\",\"task_complexity\":\"routine\"";
    let text = [line("a", tagged), line("b", ""), line("a", tagged)].concat();
    std::fs::write(&log, text).expect("a file");
    let mut collector = opened(&format!(
        "[[source]]\nkind = 'jsonl'\nname = 'chat'\nlog = '{}'\nfrom = 'start'\n\
         [[rule]]\nmatch = {{ model = 'qwen*' }}\ntask_type = 'extraction'\ncomplexity = 'frontier'\n",
        log.display()
    ));
    let mut out = Readings::default();
    collector.collect(at(0), &mut out).await.expect("a tick");
    assert_eq!(collector.trouble(), None, "{:?}", collector.details());
    let sample = out.stamp("models/source", at(0), "boot");
    let tasks: Vec<&str> = sample
        .inferences
        .iter()
        .map(|row| row.task_type.as_str())
        .collect();
    assert_eq!(
        tasks,
        ["classification", "extraction"],
        "{:?}",
        collector.details()
    );
    assert_eq!(sample.inferences[0].parameters, Some(8_000_000_000));
    assert_eq!(
        collector.details()[0],
        "chat (jsonl/log): 2 requests, 18 tokens, 1 by tags, 1 by rule 1, 1 seen twice and counted once"
    );
}

/// What a person sees who writes rules: who decided, rules that do nothing, and what no rule knows.
#[tokio::test(start_paused = true)]
async fn who_decided_is_counted_over_restarts_and_what_no_rule_knows_becomes_a_suggestion() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("inference.jsonl");
    let mut number = 0;
    let mut line = |path: &str, model: &str, more: &str| {
        number += 1;
        format!(
            "{{\"request_id\":\"id-{number}\",\"timestamp\":\"2026-05-28T20:26:39Z\",\"model\":\"{model}\",\"endpoint\":\"{path}\",\
             \"input_tokens\":4,\"output_tokens\":5{more}}}\n"
        )
    };
    let tagged = ",\"task_complexity\":\"routine\"";
    let mut text = String::new();
    for _ in 0..3 {
        text += &line("/v1/chat/completions", "house", ",\"key\":\"support\"");
    }
    text += &line("/v1/chat/completions", "qwen3-8b", tagged);
    text += &line("/v1/embeddings", "bge-m3", "");
    text += &line("/v1/completions", "qwen3-8b", "");
    std::fs::write(&log, text).expect("a file");
    let table = format!(
        "[[source]]\nkind = 'jsonl'\nname = 'chat'\nlog = '{}'\nfrom = 'start'\n",
        log.display()
    );
    let rules = "[[rule]]\nmatch = { path = '/v1/completions' }\ncomplexity = 'frontier'\n\
                 [[rule]]\nmatch = { path = '/v1/completions', model = 'qwen*' }\ncomplexity = 'routine'\n\
                 [[rule]]\nmatch = { key = 'suport' }\ntask_type = 'triage'\ncomplexity = 'routine'\n";
    let mut collector = opened(&format!("{table}{rules}"));
    let mut out = Readings::default();
    collector.collect(at(0), &mut out).await.expect("a tick");
    let seen = collector.decisions().expect("it tells of requests");
    let rows = |seen: &Decisions| -> Vec<(DecidedBy, Option<usize>, u64, u64, String)> {
        let share = |row: &decisions::Decided| row.share_percent.expect("a share").to_string();
        let rows = seen.sources[0].decided.iter();
        rows.map(|row| {
            (
                row.by,
                row.rule,
                row.requests,
                row.output_tokens,
                share(row),
            )
        })
        .collect()
    };
    assert_eq!(
        rows(&seen),
        [
            (DecidedBy::Tags, None, 1, 5, "16.7".to_owned()),
            (DecidedBy::Rule, Some(1), 1, 5, "16.7".to_owned()),
            (DecidedBy::Path, None, 1, 5, "16.7".to_owned()),
            (DecidedBy::Nothing, None, 3, 15, "50.0".to_owned()),
        ]
    );
    let idle: Vec<(usize, &str)> = seen
        .idle_rules
        .iter()
        .map(|idle| (idle.rule, idle.why.as_str()))
        .collect();
    assert_eq!(idle[0], (2, "rule 1 comes first and takes all of it"));
    assert_eq!((idle[1].0, idle.len()), (3, 2));
    let rule = seen.routes[0].rule.clone().expect("a suggestion");
    assert!(
        rule.contains(
            "match = { path = \"/v1/chat/completions\", key = \"support\", model = \"house\" }"
        ),
        "{rule}"
    );
    let unsized_models: Vec<_> = seen
        .unsized_models
        .iter()
        .map(|m| m.model.as_deref())
        .collect();
    assert_eq!(unsized_models, [Some("house"), Some("bge-m3")]);
    let advice = collector.details().join("\n");
    for part in [
        "unclassified: 3 of 6 requests (50.0 %)",
        "rule 2 has matched nothing: rule 1 comes first",
        "model house: its size is unknown, so that 3 requests",
    ] {
        assert!(advice.contains(part), "{part}: {advice}");
    }
    assert!(!advice.contains("rule 3 has"), "it may wait for a day");
    let mut quiet = Readings::default();
    collector
        .collect(at(86_400), &mut quiet)
        .await
        .expect("a tick");
    let advice = collector.details().join("\n");
    assert!(
        advice.contains("rule 3 has matched nothing: no request"),
        "{advice}"
    );

    // As long as nobody has judged, the suggestion is refused; judged, it decides what comes.
    let settings = |text: &str| {
        let table = toml::de::DeTable::parse(text).expect("a table");
        let value = toml::Spanned::new(0..text.len(), toml::de::DeValue::Table(table.into_inner()));
        (REGISTRATION.parse)(toml::de::ValueDeserializer::from(value))
    };
    let rule = rule.replace("models.", "");
    assert!(settings(&format!("{table}{rule}")).is_err());
    let judged = rule.replace("task_type = \"?\"", "task_type = \"support\"");
    assert!(settings(&format!("{table}{judged}")).is_err());
    let judged = judged.replace("complexity = \"?\"", "complexity = \"routine\"");
    let sized = seen.unsized_models[0].table.clone().expect("a table");
    let sized = sized.replace("models.", "");
    assert!(settings(&format!("{table}{sized}")).is_err());
    let sized = sized.replace("parameters = 0", "parameters = 8_000_000_000");
    let mut after = opened(&format!("{table}{judged}{sized}"));
    after.resume(&out.take_resume().expect("a checkpoint"));
    let mut out = Readings::default();
    after.collect(at(1), &mut out).await.expect("a tick");
    let seen = after.decisions().expect("it tells of requests");
    assert_eq!(seen.since, Some(at(0)));
    assert_eq!(seen.routes[0].decided_now.as_deref(), Some("rule 1"));
    assert_eq!(seen.routes[0].rule, None);
    let why = "it came after 3 requests such as it takes from now on";
    assert_eq!(seen.idle_rules[0].why, why);
    assert_eq!(rows(&seen)[1].0, DecidedBy::FormerRule);
    assert_eq!(seen.unsized_models.len(), 1, "{:?}", seen.unsized_models);
}

#[test]
fn tokens_without_requests_are_decided_and_are_no_share_of_anything() {
    let shared = shared();
    let mut counting = Counting::new(&shared, "llama", at(0), Unshared::default());
    counting.sum(Sum {
        output_tokens: Some(7),
        model: Some(word("house")),
        ..Sum::default()
    });
    let mut history = History::default();
    history.turn(at(0));
    history.add("llama", std::mem::take(&mut counting.noted), &[]);
    let seen = Decisions::of(&history, &[], &["llama"], &|_| false);
    let row = &seen.sources[0].decided[0];
    assert_eq!(
        (row.by, row.requests, row.output_tokens, row.share_percent),
        (DecidedBy::Nothing, 0, 7, None)
    );
    assert_eq!(seen.routes[0].output_tokens, 7);
    assert_eq!(seen.unsized_models[0].output_tokens, 7);
    assert_eq!(seen.advice(at(0)), Vec::<String>::new());
}
