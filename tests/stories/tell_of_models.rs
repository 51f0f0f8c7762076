//! What is asked of which model reaches the dashboard, over rotations, restarts and kills, and no prompt does.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use serde_json::{Value, json};

use crate::site::{Running, Site, text, wait_until};

/// Stands where people's text stands: nobody may find it anywhere.
const CANARY: &str = "canary-prompt-93b1c7e2";

/// A port that nothing listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Adds tables to the agent's configuration.
fn configure(site: &Site, tables: &str) {
    let path = site.path("agent.toml");
    let toml = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{toml}\n{tables}")).unwrap();
}

/// One POST, answered or not; the status where it is.
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
    answer.split(' ').nth(1)?.parse().ok()
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
        "prompt": CANARY,
    })
    .to_string()
}

/// The summary of the newest submission about models.
fn summary(site: &Site) -> Value {
    let body = site.newest_body("model-efficiency").unwrap_or_default();
    body["data"]["summary"].clone()
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
    let mut pushed = 0;
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
        requests(&site) == expected as u64
    });
    // Whatever was sent again counts once.
    assert_eq!(post(port, "/v1/inferences", &line(10_000)), Some(200));
    assert_eq!(summary(&site)["routine_to_slm_ratio"], json!(1.0));
    assert_eq!(requests(&site), expected as u64);
    agent.unwrap().stop();
}

/// All readable memory of a process, piece by piece.
fn memory_holds(agent: &Running, wanted: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{}/maps", agent.id())).unwrap();
    let mut memory = fs::File::open(format!("/proc/{}/mem", agent.id())).unwrap();
    let mut piece = vec![0; 1 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let parse = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut from, to) = (parse(from), parse(to));
        while from < to {
            memory.seek(SeekFrom::Start(from)).unwrap();
            let Ok(read @ 1..) = memory.read(&mut piece) else {
                break;
            };
            if memchr::memmem::find(&piece[..read], wanted).is_some() {
                return true;
            }
            // A canary that lies across two pieces is whole in the next one.
            from += read.saturating_sub(wanted.len()).max(1) as u64;
        }
    }
    false
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
