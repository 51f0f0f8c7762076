//! Servers as their pages show them, over restarts of theirs and of ours.

mod several;

use std::sync::Arc;

use proptest::prelude::*;

use super::super::fake::{Fake, site};
use super::super::feed::Heard;
use super::super::request::SizeFrom;
use super::super::{llamacpp, sglang, tgi, triton, vllm};
use super::dialect::Wanted;
use super::*;

/// 2026-03-14 09:26:53 UTC.
const START: i64 = 1_773_480_413;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

/// A feed and the server that it reads.
struct Rig {
    server: Arc<Fake>,
    feed: Counters,
    heard: Heard,
    now: i64,
    open: fn(&Site, &Host) -> Result<Counters, CollectError>,
}

const MODELS: &str = r#"{"data":[{"id":"qwen3-8b","root":"Qwen/Qwen3-8B"}]}"#;

impl Rig {
    fn new(open: fn(&Site, &Host) -> Result<Counters, CollectError>) -> Self {
        let server = Arc::new(Fake::default());
        server.says("/v1/models", MODELS);
        server.says("/model_info", r#"{"model_path":"Qwen/Qwen3-8B"}"#);
        server.says("/info", r#"{"model_id":"Qwen/Qwen3-8B","sha":null}"#);
        let feed = open(&site("http://localhost:8000"), &server.host()).unwrap();
        Self {
            server,
            feed,
            heard: Heard::default(),
            now: 0,
            open,
        }
    }

    async fn look(&mut self, page: &str) -> Vec<Sum> {
        self.server.says("/metrics", page);
        self.now += 15;
        self.feed.take(at(self.now), &mut self.heard).await.unwrap();
        std::mem::take(&mut self.heard.sums)
    }

    /// Looks at the same page until something is told, as long as a fall of its counters is doubted.
    async fn settle(&mut self, page: &str) -> Vec<Sum> {
        for look in 0..=QUIET_LOOKS {
            let sums = self.look(page).await;
            if !sums.is_empty() {
                assert!(look + 1 >= QUIET_LOOKS, "{look}: {sums:?}");
                return sums;
            }
        }
        Vec::new()
    }

    /// A restart of ours.
    fn reopen(&mut self) {
        let kept = self.feed.checkpoint();
        let address = site("http://localhost:8000");
        self.feed = (self.open)(&address, &self.server.host()).unwrap();
        if let Some(kept) = kept {
            self.feed.resume(&kept);
        }
    }
}

fn counts(sum: &Sum) -> (Option<u64>, Option<u64>, Option<u64>) {
    (sum.requests, sum.input_tokens, sum.output_tokens)
}

fn of_vllm(started: i64, stop: u64, abort: u64, input: u64, output: u64) -> String {
    format!(
        "process_start_time_seconds {started}.5\n\
         vllm:prompt_tokens_total{{engine=\"0\",model_name=\"qwen3-8b\"}} {input}.0\n\
         vllm:generation_tokens_total{{engine=\"0\",model_name=\"qwen3-8b\"}} {output}.0\n\
         vllm:request_success_total{{engine=\"0\",finished_reason=\"stop\",model_name=\"qwen3-8b\"}} {stop}.0\n\
         vllm:request_success_total{{engine=\"0\",finished_reason=\"abort\",model_name=\"qwen3-8b\"}} {abort}.0\n"
    )
}

#[tokio::test]
async fn the_first_look_is_a_beginning_and_the_next_tells_what_was_added() {
    let mut rig = Rig::new(vllm::metrics::open);
    assert!(
        rig.look(&of_vllm(START - 900, 96, 1, 15_813, 8_712))
            .await
            .is_empty()
    );
    let sums = rig.look(&of_vllm(START - 900, 99, 2, 16_000, 9_000)).await;
    assert_eq!(sums.len(), 1);
    assert_eq!(counts(&sums[0]), (Some(3), Some(187), Some(288)));
    assert_eq!(sums[0].model.as_ref().unwrap().as_str(), "qwen3-8b");
    let model = &rig.heard.models[0];
    assert_eq!(
        (model.parameters, model.from),
        (8_000_000_000, SizeFrom::Name)
    );
    assert!(
        rig.look(&of_vllm(START - 900, 99, 2, 16_000, 9_000))
            .await
            .is_empty(),
        "nothing was added"
    );
}

#[tokio::test]
async fn looks_are_fifteen_seconds_apart() {
    let mut rig = Rig::new(vllm::metrics::open);
    rig.server.says("/metrics", &of_vllm(START, 1, 0, 1, 1));
    for second in 0..31 {
        rig.feed.take(at(second), &mut rig.heard).await.unwrap();
    }
    let asked = rig.server.asked();
    assert_eq!(asked.iter().filter(|path| *path == "/metrics").count(), 3);
    assert_eq!(asked.iter().filter(|path| *path == "/v1/models").count(), 1);
}

#[tokio::test]
async fn a_restarted_server_counts_from_nothing_even_where_it_has_counted_further() {
    let mut rig = Rig::new(vllm::metrics::open);
    rig.look(&of_vllm(START - 900, 10, 0, 100, 50)).await;
    let sums = rig.look(&of_vllm(START + 20, 12, 0, 130, 70)).await;
    assert_eq!(counts(&sums[0]), (Some(12), Some(130), Some(70)));
}

#[tokio::test]
async fn a_restart_of_ours_loses_and_repeats_nothing() {
    let mut rig = Rig::new(vllm::metrics::open);
    rig.look(&of_vllm(START - 900, 10, 0, 100, 50)).await;
    rig.look(&of_vllm(START - 900, 11, 0, 110, 55)).await;
    rig.reopen();
    let sums = rig.look(&of_vllm(START - 900, 14, 0, 200, 60)).await;
    assert_eq!(counts(&sums[0]), (Some(3), Some(90), Some(5)));
    rig.reopen();
    let sums = rig.look(&of_vllm(START + 40, 2, 0, 20, 9)).await;
    assert_eq!(
        counts(&sums[0]),
        (Some(2), Some(20), Some(9)),
        "the server was restarted meanwhile"
    );
    rig.reopen();
    rig.now += 31 * 24 * 3600;
    let sums = rig.look(&of_vllm(START + 40, 900, 0, 900, 900)).await;
    assert!(sums.is_empty(), "what was kept is older than the window");
}

#[tokio::test]
async fn the_clock_of_the_server_may_be_wrong() {
    let mut rig = Rig::new(vllm::metrics::open);
    // Ten minutes behind ours.
    rig.server.is_at("Sat, 14 Mar 2026 09:17:08 GMT");
    rig.look(&of_vllm(START - 900, 10, 0, 100, 50)).await;
    rig.server.is_at("Sat, 14 Mar 2026 09:17:23 GMT");
    let sums = rig.look(&of_vllm(START - 580, 2, 0, 20, 5)).await;
    assert_eq!(counts(&sums[0]), (Some(2), Some(20), Some(5)));
}

#[tokio::test]
async fn engines_are_added_up_and_series_come_and_go() {
    let mut rig = Rig::new(vllm::metrics::open);
    let engine = |engine: u8, tokens: u64| {
        format!("vllm:generation_tokens_total{{model_name=\"m\",engine=\"{engine}\"}} {tokens}\n")
    };
    rig.look(&engine(0, 100)).await;
    let sums = rig.look(&(engine(0, 110) + &engine(1, 7))).await;
    assert_eq!(counts(&sums[0]), (None, None, Some(17)), "a new engine");
    assert!(rig.look(&engine(0, 110)).await.is_empty(), "one is gone");
    let sums = rig.look(&(engine(0, 110) + &engine(1, 9))).await;
    assert_eq!(counts(&sums[0]), (None, None, Some(2)), "it is back");
    let turned = "vllm:generation_tokens_total{engine=\"1\",model_name=\"m\"} 10\n";
    let sums = rig.look(&(engine(0, 110) + turned)).await;
    assert_eq!(counts(&sums[0]), (None, None, Some(1)), "in another order");
}

#[tokio::test]
async fn the_age_of_a_counter_shows_a_restart_too() {
    let mut rig = Rig::new(vllm::metrics::open);
    let page = |created: i64, tokens: u64| {
        format!(
            "vllm:generation_tokens_total{{model_name=\"m\"}} {tokens}\n\
             vllm:generation_tokens_created{{model_name=\"m\"}} {created}.25\n"
        )
    };
    rig.look(&page(START - 100, 50)).await;
    let sums = rig.look(&page(START + 16, 60)).await;
    assert_eq!(counts(&sums[0]), (None, None, Some(60)));
    assert!(rig.look(&page(START - 70, 900)).await.is_empty());
    assert!(rig.feed.trouble().is_some());
}

#[tokio::test]
async fn values_that_are_no_counts_are_left_out() {
    let mut rig = Rig::new(vllm::metrics::open);
    let page = |value: &str| format!("vllm:generation_tokens_total{{model_name=\"m\"}} {value}\n");
    rig.look(&page("10.0")).await;
    for value in ["NaN", "-3", "10.5", "+Inf", "1e300", "9007199254740994"] {
        assert!(rig.look(&page(value)).await.is_empty(), "{value}");
        let trouble = rig.feed.trouble().unwrap();
        assert!(trouble.contains("1 counters have a value"), "{trouble}");
    }
    let sums = rig.look(&page("9.007199254740992e15")).await;
    assert_eq!(sums[0].output_tokens, Some((1 << 53) - 10));
    let twice = page("1") + &page("1");
    rig.server.says("/metrics", &twice);
    rig.now += 15;
    let refused = rig.feed.take(at(rig.now), &mut rig.heard).await;
    assert!(refused.unwrap_err().to_string().contains("twice"));
}

#[tokio::test]
async fn too_many_series_are_counted() {
    let mut rig = Rig::new(vllm::metrics::open);
    let many: String = (0..=page::SERIES_MAX)
        .map(|n| format!("vllm:generation_tokens_total{{model_name=\"m\",user=\"{n}\"}} 1\n"))
        .collect();
    rig.look(&many).await;
    let trouble = rig.feed.trouble().unwrap();
    assert!(trouble.starts_with("1 series are left out"), "{trouble}");
    let kept = rig.feed.checkpoint().unwrap();
    assert!(kept.len() < 100_000, "{}", kept.len());
    rig.reopen();
    assert_eq!(rig.feed.checkpoint().unwrap(), kept);
}

#[tokio::test]
async fn a_server_of_embeddings_says_its_path() {
    let mut rig = Rig::new(vllm::metrics::open);
    let page = |tokens: u64, rest: &str| {
        format!(
            "vllm:prompt_tokens_total{{model_name=\"m\"}} {tokens}\n\
             http_requests_total{{handler=\"/v1/models\",method=\"GET\",status=\"2xx\"}} 4.0\n\
             http_requests_total{{handler=\"/v1/embeddings\",method=\"POST\",status=\"2xx\"}} 5.0\n{rest}"
        )
    };
    rig.look(&page(1, "")).await;
    let sums = rig.look(&page(2, "")).await;
    assert_eq!(
        sums[0].route.path.as_ref().unwrap().as_str(),
        "/v1/embeddings"
    );
    let chat =
        "http_requests_total{handler=\"/v1/chat/completions\",method=\"POST\",status=\"2xx\"} 1\n";
    let sums = rig.look(&page(3, chat)).await;
    assert_eq!(sums[0].route.path, None, "it may be either");
}

#[tokio::test]
async fn names_of_nim_have_no_prefix_and_only_one_name_counts() {
    let mut rig = Rig::new(vllm::metrics::open);
    let page = |n: u64| {
        format!(
            "prompt_tokens_total{{model_name=\"m\"}} {n}0\n\
             generation_tokens_total{{model_name=\"m\"}} {n}5\n\
             request_success_total{{model_name=\"m\",finished_reason=\"stop\"}} {n}\n\
             request_finish_total{{model_name=\"m\",finished_reason=\"stop\"}} {n}\n"
        )
    };
    rig.look(&page(1)).await;
    let sums = rig.look(&page(2)).await;
    assert_eq!(counts(&sums[0]), (Some(1), Some(10), Some(10)));
}

#[tokio::test]
async fn tgi_waits_for_the_name_of_its_model() {
    let mut rig = Rig::new(tgi::metrics::open);
    let page = |requests: u64, input: u64, output: u64| {
        format!(
            "tgi_request_success {requests}\ntgi_request_count {}\ntgi_request_failure{{err=\"validation\"}} 2\n\
             tgi_request_input_length_sum {input}\ntgi_request_input_length_count {requests}\n\
             tgi_request_generated_tokens_sum {output}.0\n",
            requests + 2
        )
    };
    rig.server.refuses("/info", 503);
    assert!(rig.look("").await.is_empty());
    assert!(rig.look(&page(2, 50, 20)).await.is_empty());
    assert!(
        rig.feed.trouble().unwrap().contains("503"),
        "{:?}",
        rig.feed.trouble()
    );
    rig.server.says("/info", r#"{"model_id":"Qwen/Qwen3-8B"}"#);
    let sums = rig.look(&page(101, 15_813, 8_712)).await;
    assert_eq!(counts(&sums[0]), (Some(101), Some(15_813), Some(8_712)));
    assert_eq!(sums[0].model.as_ref().unwrap().as_str(), "Qwen/Qwen3-8B");
    // Another model after a restart, whose input is larger than before and whose requests are fewer.
    rig.server
        .says("/info", r#"{"model_id":"google/gemma-3-4b-it"}"#);
    let sums = rig.settle(&page(100, 20_000, 9_000)).await;
    assert_eq!(counts(&sums[0]), (Some(100), Some(20_000), Some(9_000)));
    assert_eq!(
        sums[0].model.as_ref().unwrap().as_str(),
        "google/gemma-3-4b-it"
    );
    assert_eq!(rig.feed.trouble(), None);
}

#[tokio::test]
async fn sglang_counts_one_rank_and_tells_tags() {
    let mut rig = Rig::new(sglang::metrics::open);
    let page = |n: u64| {
        let series = |name: &str, labels: &str, value: u64| {
            format!("sglang:{name}{{model_name=\"m\"{labels}}} {value}.0\n")
        };
        let task = ",engine_type=\"unified\",task_type=\"classification\",complexity=\"routine\"";
        [
            series("prompt_tokens_total", ",tp_rank=\"0\"", 100 * n),
            series("prompt_tokens_total", ",tp_rank=\"1\"", 100 * n),
            series("generation_tokens_total", ",dp_rank=\"0\"", 10 * n),
            series("generation_tokens_total", ",dp_rank=\"1\"", 10 * n),
            series("num_requests_total", ",is_streaming=\"True\"", n),
            series("num_requests_total", ",is_streaming=\"False\"", n),
            series("num_aborted_requests_total", "", n),
            series("prompt_tokens_total", task, n),
            series("prompt_tokens_total", ",engine_type=\"prefill\"", 999 * n),
        ]
        .concat()
    };
    rig.look(&page(1)).await;
    let sums = rig.look(&page(2)).await;
    assert_eq!(sums.len(), 2);
    let (tagged, plain) = match sums[0].tags.task_type {
        Some(_) => (&sums[0], &sums[1]),
        None => (&sums[1], &sums[0]),
    };
    assert_eq!(counts(plain), (Some(2), Some(100), Some(20)));
    assert_eq!(counts(tagged), (None, Some(1), None));
    let tags = &tagged.tags;
    assert_eq!(tags.task_type.as_ref().unwrap().as_str(), "classification");
    assert_eq!(
        tags.complexity,
        Some(cms_spec::payload::v1::Complexity::Routine)
    );
}

#[tokio::test]
async fn llama_cpp_tells_tokens_alone() {
    let mut rig = Rig::new(llamacpp::metrics::open);
    rig.server.says(
        "/v1/models",
        r#"{"data":[{"id":"/models/gemma.gguf","meta":{"n_params":268098176,"n_ctx_train":32768}}]}"#,
    );
    let page = |input: u64, cached: &str, output: u64| {
        format!(
            "llamacpp:prompt_tokens_total {input}\n{cached}llamacpp:tokens_predicted_total {output}\n"
        )
    };
    let cached = |tokens: u64| format!("llamacpp:prompt_tokens_cached_total {tokens}\n");
    rig.look(&page(80, &cached(14), 119)).await;
    let sums = rig.look(&page(90, &cached(20), 130)).await;
    assert_eq!(counts(&sums[0]), (None, Some(16), Some(11)));
    assert_eq!(sums[0].model.as_ref().unwrap().as_str(), "gemma.gguf");
    assert_eq!(
        (rig.heard.models[0].parameters, rig.heard.models[0].from),
        (268_098_176, SizeFrom::Counted)
    );
    assert!(rig.feed.details().concat().contains("tail its log"));

    let mut old = Rig::new(llamacpp::metrics::open);
    old.look(&page(80, "", 119)).await;
    let sums = old.look(&page(90, "", 130)).await;
    assert_eq!(
        counts(&sums[0]),
        (None, None, Some(11)),
        "input without what was cached is not all input"
    );
}

fn wanted(models: &[&str]) -> Wanted {
    let models = models.iter();
    Wanted {
        models: models.map(|m| Word::new(m.as_bytes()).unwrap()).collect(),
        has_energy: true,
    }
}

#[tokio::test]
async fn triton_tells_each_model_and_the_energy_of_its_gpus() {
    let mut rig = Rig::new(|site, host| triton::metrics::open(&wanted(&[]), site, host));
    let page = |a: u64, b: u64, joules: [&str; 2]| {
        format!(
            "nv_inference_request_success{{model=\"a\",version=\"1\"}} {a}\n\
             nv_inference_request_success{{model=\"b\",version=\"1\"}} {b}\n\
             nv_inference_request_success{{model=\"b\",version=\"2\"}} {b}\n\
             vllm:generation_tokens_total{{model=\"b\",version=\"2\"}} {b}0\n\
             nv_energy_consumption{{gpu_uuid=\"GPU-0\"}} {}\n\
             nv_energy_consumption{{gpu_uuid=\"GPU-1\"}} {}\n",
            joules[0], joules[1]
        )
    };
    rig.look(&page(10, 10, ["1234567.890", "5.0"])).await;
    let sums = rig.look(&page(11, 12, ["1235567.890", "505.5"])).await;
    assert_eq!(counts(&sums[0]), (Some(1), None, None));
    assert_eq!(counts(&sums[1]), (Some(4), None, Some(20)));
    let used = rig.heard.used[0];
    assert_eq!((used.energy.0, used.over_ms), (1_500_500_000, 15_000));
    // One model is loaded anew, and a counter of energy begins anew: no energy of this window.
    let sums = rig.settle(&page(13, 2, ["1235600.0", "1.0"])).await;
    assert_eq!(counts(&sums[0]), (Some(2), None, None));
    assert_eq!(counts(&sums[1]), (Some(4), None, Some(20)));
    assert_eq!(rig.heard.used.len(), 1);
    // 5 kW for each is the most.
    rig.look(&page(14, 2, ["1335600.0", "2.0"])).await;
    assert_eq!(rig.heard.used.len(), 1);
}

#[tokio::test]
async fn triton_counts_what_callers_ask_for() {
    let mut rig = Rig::new(|site, host| triton::metrics::open(&wanted(&["ensemble"]), site, host));
    let page = |n: u64| {
        format!(
            "nv_inference_request_success{{model=\"ensemble\",version=\"1\"}} {n}\n\
             nv_inference_request_success{{model=\"preprocessing\",version=\"1\"}} {n}\n\
             nv_llm_input_token_len_sum{{model=\"tensorrt_llm\",response_metric_type=\"total_input_tokens\",version=\"1\"}} {n}00\n\
             nv_llm_output_token_len_sum{{model=\"tensorrt_llm\",response_metric_type=\"total_output_tokens\",version=\"1\"}} {n}0\n"
        )
    };
    rig.look(&page(1)).await;
    let sums = rig.look(&page(3)).await;
    assert_eq!(sums.len(), 1);
    assert_eq!(counts(&sums[0]), (Some(2), Some(200), Some(20)));

    let mut several =
        Rig::new(|site, host| triton::metrics::open(&wanted(&["ensemble", "a"]), site, host));
    several.look(&page(1)).await;
    let sums = several.look(&page(3)).await;
    assert_eq!(sums.len(), 1);
    assert_eq!(
        counts(&sums[0]),
        (Some(2), None, None),
        "nobody knows which of them the part was asked by"
    );
}

#[tokio::test]
async fn triton_s_own_energy_is_left_out_where_gpus_are_measured() {
    let page = |joules: u64| {
        format!(
            "nv_inference_request_success{{model=\"a\",version=\"1\"}} {joules}\n\
             nv_energy_consumption{{gpu_uuid=\"GPU-0\"}} {joules}\n"
        )
    };
    let mut rig = Rig::new(|site, host| {
        let measured_elsewhere = Wanted {
            has_energy: false,
            ..wanted(&[])
        };
        triton::metrics::open(&measured_elsewhere, site, host)
    });
    rig.look(&page(1)).await;
    let sums = rig.look(&page(2)).await;
    assert_eq!((sums.len(), rig.heard.used.len()), (1, 0));

    let mut wrong = Rig::new(|site, host| triton::metrics::open(&wanted(&["b"]), site, host));
    wrong.look(&page(1)).await;
    let trouble = wrong.feed.trouble().expect("no such model");
    assert!(trouble.contains("as Triton names them"), "{trouble}");
}

#[test]
fn a_checkpoint_that_makes_no_sense_is_ignored() {
    for text in [
        "",
        "{}",
        "[]",
        r#"{"version":2,"server":1,"at":"2026-03-14T09:26:53Z","started_ms":null,"groups":[],"series":[]}"#,
        r#"{"version":1,"server":2,"at":"2026-03-14T09:26:53Z","started_ms":null,"groups":[],"series":[]}"#,
        r#"{"version":1,"server":1,"at":"2026-03-14T09:26:53Z","started_ms":null,"groups":[],"series":[["r",0,1,0,5,null]]}"#,
        r#"{"version":1,"server":1,"at":"2026-03-14T09:26:53Z","started_ms":null,"groups":[["m",null,null]],"series":[["x",0,1,0,5,null]]}"#,
    ] {
        assert_eq!(kept::read(text, 1), None, "{text}");
    }
}

/// What happens to a server and to us.
#[derive(Clone, Debug)]
enum Event {
    Serve(u64),
    Look,
    ServerRestarts,
    WeRestart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1..50_u64).prop_map(Event::Serve),
        4 => Just(Event::Look),
        1 => Just(Event::ServerRestarts),
        1 => Just(Event::WeRestart),
    ]
}

/// What was told, what could be seen to be told, and the falls of the counters.
async fn told_and_seen(events: &[Event], has_start: bool) -> (u64, u64) {
    let mut rig = Rig::new(vllm::metrics::open);
    let (mut started, mut tokens) = (START - 500, 7_u64);
    let (mut told, mut seen, mut looked) = (0, 0, None);
    let page = |started: i64, tokens: u64| {
        let start = match has_start {
            true => format!("process_start_time_seconds {started}\n"),
            false => String::new(),
        };
        format!("{start}vllm:generation_tokens_total{{model_name=\"m\"}} {tokens}\n")
    };
    // What is in doubt in the end is told when nothing falls any more.
    let quiet = usize::try_from(QUIET_LOOKS).unwrap();
    for event in events
        .iter()
        .chain(std::iter::repeat_n(&Event::Look, quiet + 2))
    {
        match event {
            Event::Serve(more) => tokens += more,
            Event::ServerRestarts => {
                rig.now += 10;
                (started, tokens, looked) = (START + rig.now, 0, looked.map(|_| 0));
            }
            Event::WeRestart => rig.reopen(),
            Event::Look => {
                let sums = rig.look(&page(started, tokens)).await;
                told += sums.iter().filter_map(|sum| sum.output_tokens).sum::<u64>();
                seen += looked.map_or(0, |looked| tokens - looked);
                looked = Some(tokens);
            }
        }
    }
    (told, seen)
}

proptest! {
    #[test]
    fn what_is_told_is_what_the_server_counted(events in prop::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (told, seen) = runtime.block_on(told_and_seen(&events, true));
        prop_assert_eq!(told, seen);
        let (told, seen) = runtime.block_on(told_and_seen(&events, false));
        prop_assert!(told <= seen, "{} of {}", told, seen);
    }
}
