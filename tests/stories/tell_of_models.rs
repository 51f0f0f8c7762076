//! What is asked of which model reaches the dashboard, over rotations, restarts and kills, and no prompt does.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::site::{AGENT, Site, wait_until};

/// Stands where people's text stands: nobody may find it anywhere.
const CANARY: &str = "canary-prompt-93b1c7e2";

/// The same in what is pushed, which nothing has to be found again by.
const PUSHED: &str = "canary-prompt-93b1c7e2-pushed";

/// A port that nothing listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Adds tables to the agent's configuration.
fn configure(site: &Site, tables: &str) {
    let path = site.path("agent.toml");
    let toml = fs::read_to_string(&path).unwrap();
    let faster = "ghost_compute = \"1s\"\nmodel_efficiency = \"1s\"";
    let toml = toml.replace("ghost_compute = \"1s\"", faster);
    fs::write(path, format!("{toml}\n{tables}")).unwrap();
}

/// One POST, answered or not; the status where it is. Nobody may echo what was sent.
fn post(port: u16, path: &str, body: &str) -> Option<u16> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    assert!(!answer.contains(CANARY), "{answer}");
    answer.split(' ').nth(1)?.parse().ok()
}

/// Whether a text stands in the memory of a process, if we may look.
fn is_in_memory(pid: u32, text: &[u8]) -> Option<bool> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let place = |hex: &str| u64::from_str_radix(hex, 16).unwrap();
    let has_it = |line: &str| {
        let (span, rest) = line.split_once(' ').unwrap();
        let (from, to) = span.split_once('-').unwrap();
        let (from, to) = (place(from), place(to));
        // What is mapped from files, and what the kernel lends, is none of the program's own.
        if !rest.starts_with("rw") || line.contains("[v") {
            return false;
        }
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        let read = memory.read_at(&mut bytes, from).unwrap_or(0);
        memchr::memmem::find(&bytes[..read], text).is_some()
    };
    Some(maps.lines().any(has_it))
}

/// The agent's metrics about itself.
fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let question = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A line of the standardized log.
fn line(number: usize) -> String {
    json!({
        "request_id": format!("req-{number}"),
        "timestamp": jiff::Timestamp::now().to_string(),
        "model": "qwen3-8b",
        "model_parameters": 8_200_000_000_u64,
        "task_type": "summarization",
        "task_complexity": "routine",
        "input_tokens": 100,
        "output_tokens": 10,
        "response_time_ms": 250,
        "prompt": PUSHED,
    })
    .to_string()
}

/// The summary of the newest submission about models.
fn summary(site: &Site) -> Value {
    let body = site.newest_body("model-efficiency").unwrap_or_default();
    body["data"]["model_efficiency"]["summary"].clone()
}

/// The rolling total of the newest submission about models.
fn requests(site: &Site) -> u64 {
    summary(site)["total_inference_requests_30day"]
        .as_u64()
        .unwrap_or(0)
}

#[test]
fn requests_are_counted_once_over_rotations_and_kills() {
    let site = Site::new();
    let log = site.path("inference.jsonl");
    let port = free_port();
    fs::write(&log, "").unwrap();
    configure(
        &site,
        &format!(
            "[models]\n[[models.source]]\nkind = 'jsonl'\nname = 'file'\nlog = '{}'\nfrom = 'start'\n\
             [[models.source]]\nkind = 'jsonl'\nname = 'push'\nlisten = '127.0.0.1:{port}'\n",
            log.display()
        ),
    );
    let _dashboard = site.start_dashboard();
    let mut agent = Some(site.start_agent());
    let mut written = 0;
    let mut write = |count: usize| {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&log)
            .unwrap();
        for _ in 0..count {
            writeln!(file, "{}", line(written)).unwrap();
            written += 1;
        }
    };
    let mut pushed = 0_u64;
    for round in 0..6 {
        write(100);
        // A sender repeats what was not acknowledged, as it is.
        let body = line(10_000 + round);
        wait_until("a push to be acknowledged", || {
            post(port, "/v1/inferences", &body) == Some(200)
        });
        pushed += 1;
        if round % 2 == 1 {
            fs::rename(&log, site.path(&format!("inference.jsonl.{round}"))).unwrap();
            write(50);
        }
        agent.take().unwrap().kill();
        write(25);
        agent = Some(site.start_agent());
    }
    let expected = 6 * 100 + 3 * 50 + 6 * 25 + pushed;
    wait_until("every request to be counted", || {
        requests(&site) >= expected
    });
    // Whatever was sent again counts once.
    assert_eq!(post(port, "/v1/inferences", &line(10_000)), Some(200));
    assert_eq!(summary(&site)["routine_to_slm_ratio"], json!(1));
    assert_eq!(requests(&site), expected);
    // Who decided is written with what was decided, so that kills leave the two equal.
    let preview = site.agent(&["preview", "model-efficiency", "--decisions", "--json"]);
    let decisions: Value = serde_json::from_slice(&preview.stdout).unwrap();
    assert_eq!(decisions["requests"], json!(expected), "{decisions}");
    assert_eq!(decisions["unclassified"], json!(0));
    let pushes = &decisions["sources"][1];
    assert_eq!(pushes["source"], json!("push"));
    assert_eq!(pushes["decided"][0]["by"], json!("tags"));
    assert_eq!(pushes["decided"][0]["requests"], json!(pushed));
    let preview = site.agent(&["preview", "model-efficiency"]);
    assert!(serde_json::from_slice::<Value>(&preview.stdout).is_ok());
    let beside = String::from_utf8(preview.stderr).unwrap();
    assert!(
        beside.contains(&format!("{expected} requests, 0 unclassified (0.0 %)")),
        "{beside}"
    );
    agent.unwrap().stop();
}

/// Every file below a directory that holds these bytes.
fn files_with(directory: &Path, wanted: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, wanted));
        } else if fs::read(&path).is_ok_and(|bytes| memchr::memmem::find(&bytes, wanted).is_some())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Logs of servers as our readers are tested with, with the canary where people's text stands.
fn logs_with_prompts(folder: &Path) -> String {
    let mut tables = String::new();
    for kind in ["vllm", "ollama", "tgi", "llamacpp", "sglang"] {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("collectors/models")
            .join(kind)
            .join("testdata");
        for entry in fs::read_dir(samples).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let name = format!("{kind}-{}", path.file_stem().unwrap().to_str().unwrap());
            let text = fs::read_to_string(&path).unwrap().replace("CANARY", CANARY);
            let log = folder.join(format!("{name}.log"));
            // What no reader knows stands in every log, and so does a line that begins like a real one.
            fs::write(&log, format!("{text}{CANARY}\nINFO {CANARY}: {CANARY}\n")).unwrap();
            if tables.matches("kind =").count() < 28 {
                tables.push_str(&format!(
                    "[[models.source]]\nkind = '{kind}'\nname = '{name}'\nlog = '{}'\nfrom = 'start'\n",
                    log.display()
                ));
            }
        }
    }
    tables
}

/// A payload of LiteLLM, with people's text wherever it has some.
fn payload(number: usize) -> String {
    json!([{
        "id": format!("chatcmpl-{number}"),
        "call_type": "acompletion",
        "status": "success",
        "model": "qwen3-8b",
        "startTime": jiff::Timestamp::now().as_second() - 1,
        "endTime": jiff::Timestamp::now().as_second(),
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "request_tags": ["task:extraction", "complexity:routine", format!("{CANARY} with spaces")],
        "messages": [{ "role": "user", "content": PUSHED }],
        "response": { "choices": [{ "message": { "content": PUSHED } }] },
        "error_str": CANARY,
        "end_user": CANARY,
        "requester_ip_address": CANARY,
        "model_parameters": { "stop": [CANARY] },
        "metadata": { "requester_metadata": { "a": CANARY }, "user_api_key_user_email": CANARY },
        CANARY: CANARY,
    }])
    .to_string()
}

/// A span of an SDK, with people's text in its attributes, events and name.
fn spans(number: usize) -> String {
    let text = |key: &str| json!({ "key": key, "value": { "stringValue": PUSHED } });
    let count = |key: &str| json!({ "key": key, "value": { "intValue": "7" } });
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("host.name")] },
        "scopeSpans": [{ "scope": { "name": CANARY }, "spans": [{
            "traceId": format!("{number:032x}"),
            "spanId": format!("{number:016x}"),
            "name": CANARY,
            "kind": 3,
            "startTimeUnixNano": format!("{}", jiff::Timestamp::now().as_nanosecond() - 1_000_000_000),
            "endTimeUnixNano": format!("{}", jiff::Timestamp::now().as_nanosecond()),
            "attributes": [
                { "key": "gen_ai.operation.name", "value": { "stringValue": "chat" } },
                { "key": "gen_ai.response.model", "value": { "stringValue": "qwen3-8b" } },
                { "key": "gen_ai.response.id", "value": { "stringValue": format!("span-{number}") } },
                count("gen_ai.usage.input_tokens"),
                count("gen_ai.usage.output_tokens"),
                text("gen_ai.input.messages"),
                text("gen_ai.output.messages"),
                text("gen_ai.prompt"),
                text("gen_ai.system_instructions"),
                text("llm.prompts.0.content"),
                text(CANARY),
            ],
            "events": [{ "name": CANARY, "attributes": [text("gen_ai.event.content")] }],
            "status": { "message": CANARY },
        }] }],
    }] })
    .to_string()
}

#[test]
fn no_prompt_is_anywhere_but_in_the_servers_own_logs() {
    let site = Site::new();
    let servers = tempfile::tempdir().unwrap();
    let (litellm, otlp, jsonl) = (free_port(), free_port(), free_port());
    let mut tables = format!("[models]\n{}", logs_with_prompts(servers.path()));
    for (kind, port) in [("litellm", litellm), ("otlp", otlp), ("jsonl", jsonl)] {
        tables.push_str(&format!(
            "[[models.source]]\nkind = '{kind}'\nlisten = '127.0.0.1:{port}'\n"
        ));
    }
    let own = free_port();
    tables.push_str(&format!("[metrics]\nlisten = '127.0.0.1:{own}'\n"));
    configure(&site, &tables);
    let _dashboard = site.start_dashboard();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\"", AGENT]);
    command.env("RUST_LOG", "trace").current_dir(servers.path());
    let agent = site.launch_agent_by(command);
    agent.wait_for("agent started");
    for number in 0..20 {
        for (port, path, body) in [
            (litellm, "/", payload(number)),
            (otlp, "/v1/traces", spans(number)),
            (jsonl, "/v1/inferences", line(number)),
        ] {
            wait_until("a push to be acknowledged", || {
                post(port, path, &body) == Some(200)
            });
        }
        // What makes no sense is refused without an echo.
        for port in [litellm, otlp, jsonl] {
            let broken = format!("{{\"{CANARY}\": {CANARY}");
            assert!(post(port, "/v1/traces", &broken).is_some());
        }
    }
    wait_until("what was pushed to be counted", || requests(&site) > 60);
    // Whoever may look, which is root alone, finds nothing of what was pushed in its memory; in ours it is.
    let is_there = |pid| is_in_memory(pid, PUSHED.as_bytes());
    let ours = PUSHED.to_owned();
    assert_eq!(is_there(std::process::id()), Some(true), "{ours}");
    wait_until("what was pushed to be wiped", || {
        is_there(agent.id()) != Some(true)
    });
    let metrics = metrics(own);
    assert!(metrics.contains("models/source"), "{metrics}");
    assert!(!metrics.contains(CANARY), "{metrics}");
    let status = site.agent(&["status", "--json"]);
    let shown = site.agent(&["status"]);
    let preview = site.agent(&["preview", "model-efficiency"]);
    let decisions = site.agent(&["preview", "model-efficiency", "--decisions"]);
    let check = site.agent(&["check"]);
    let bundle = site.path("evidence.cms");
    let export = site.agent(&[
        "export",
        "--from",
        "2020-01-01",
        "--to",
        "2100-01-01",
        "-o",
        bundle.to_str().unwrap(),
    ]);
    assert!(bundle.exists(), "{export:?}");
    for output in [&status, &shown, &preview, &decisions, &check, &export] {
        for said in [&output.stdout, &output.stderr] {
            assert!(
                memchr::memmem::find(said, CANARY.as_bytes()).is_none(),
                "{output:?}"
            );
        }
    }
    let everything = snapshot(&site);
    assert!(!everything.is_empty());
    for text in everything {
        assert!(!text.contains(CANARY), "{text}");
    }
    assert_eq!(
        files_with(site.path("").as_path(), CANARY.as_bytes()),
        Vec::<String>::new()
    );
    let lines = agent.lines();
    assert!(lines.iter().any(|line| line.contains("models/source")));
    assert!(lines.iter().all(|line| !line.contains(CANARY)));
    // Its memory holds what passes through it, and nobody gets that: a crash leaves no core dump, where another program
    // with the same limits leaves one.
    let other = Command::new("sh")
        .args(["-c", "ulimit -c unlimited; kill -ABRT $$"])
        .current_dir(servers.path())
        .status()
        .unwrap();
    assert!(
        other.core_dumped(),
        "nothing is dumped here at all, so that this proves nothing: see `ulimit -Hc` and kernel.core_pattern"
    );
    assert!(!agent.crash(), "the agent left a core dump");
}

/// Every body that the agent has enqueued, out of its seal.
fn snapshot(site: &Site) -> Vec<String> {
    site.enqueued()
        .keys()
        .filter_map(|&(epoch, index)| site.body_at(epoch, index))
        .collect()
}
