//! How fast logs are read, beside a count of newlines over the same bytes, and whether memory stays flat.
//!
//! `cargo bench -p cms-collectors --bench tail` makes a gigabyte of lines as model servers write them, plain and in
//! both wrappers, in a directory that removes itself (`-- FOLDER` says where), and prints a row for each kind: the
//! best and the median of the rounds, in processor time, for lines that a reader looks at by their beginnings. The
//! files are in the page cache after the first round, which does not count. Then the readers of servers read mixed
//! logs of theirs, beside `grep -c`, and one follows a gigabyte that is written meanwhile.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a bench prints its figures, ends where it cannot, and starts what it is compared with"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cms_collectors::logs::{Reading, Served};
use rustix::time::{ClockId, clock_gettime};

/// Bytes of the file that memory is watched with.
const LARGE_BYTES: u64 = 1_000_000_000;

/// Bytes of the files that are timed.
const TIMED_BYTES: u64 = 100_000_000;

/// Rounds of each; the machine has other work.
const ROUNDS: usize = 7;

#[derive(Clone, Copy, Debug)]
enum Wrapped {
    Plain,
    Cri,
    Docker,
}

fn main() {
    let folder = std::env::args().nth(1).filter(|arg| !arg.starts_with("--"));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder).expect("a directory can be made");
    println!("{TIMED_BYTES} bytes of each kind; best and median of {ROUNDS} rounds, one core");
    println!(
        "{:<10} {:>10} {:>10} {:>10} {:>14} {:>10} {:>10}",
        "lines", "best MB/s", "median", "lines", "newlines MB/s", "of that", "found"
    );
    for wrapped in [Wrapped::Plain, Wrapped::Cri, Wrapped::Docker] {
        let path = folder.path().join(format!("{wrapped:?}.log"));
        let bytes = make(&path, wrapped, TIMED_BYTES);
        let (mut lines, mut found) = (0, 0);
        let ours = measure(|| (lines, found) = read(&path));
        let limit = measure(|| {
            black_box(newlines(&path));
        });
        let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
        println!(
            "{:<10} {:>10.0} {:>10.0} {lines:>10} {:>14.0} {:>9.0}% {found:>10}",
            format!("{wrapped:?}").to_lowercase(),
            rate(ours[0]),
            rate(ours[ROUNDS / 2]),
            rate(limit[0]),
            rate(ours[0]) / rate(limit[0]) * 100.0,
        );
    }
    println!("\nreaders of servers, beside `grep -c` in a process of its own over the same bytes");
    println!(
        "{:<10} {:>10} {:>10} {:>10} {:>10} {:>11} {:>9}",
        "kind", "best MB/s", "median", "lines", "requests", "grep MB/s", "of that"
    );
    for kind in ["vllm", "sglang", "tgi", "llamacpp", "ollama", "jsonl"] {
        let path = folder.path().join(format!("{kind}.log"));
        let bytes = make_served(&path, kind);
        let mut read = (0, 0);
        let ours = measure(|| read = serve(kind, &path));
        let grep = measure_children(|| grep(&path));
        let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
        println!(
            "{kind:<10} {:>10.0} {:>10.0} {:>10} {:>10} {:>11.0} {:>8.0}%",
            rate(ours[0]),
            rate(ours[ROUNDS / 2]),
            read.0,
            read.1,
            rate(grep[0]),
            rate(ours[0]) / rate(grep[0]) * 100.0,
        );
    }
    burst(&folder.path().join("burst.log"));
    let path = folder.path().join("large.log");
    let bytes = make(&path, Wrapped::Plain, LARGE_BYTES);
    let before = resident_kib();
    let mut reading = Reading::of_file(&path);
    let (mut most, mut lines, mut calls) = (before, 0, 0);
    let begun = processor_time();
    loop {
        let now = reading
            .take(&mut |line| {
                black_box(look(line));
            })
            .expect("the log can be read");
        calls += 1;
        most = most.max(resident_kib());
        if std::mem::replace(&mut lines, now) == now {
            break;
        }
    }
    println!(
        "{bytes} bytes, {lines} lines in {calls} calls: {:.0} MB/s; resident {before} KiB before, {most} KiB at most, {} KiB after",
        bytes as f64 / (processor_time() - begun).as_secs_f64() / 1e6,
        resident_kib()
    );
}

/// Reads the log of a server; its lines and requests.
fn serve(kind: &str, path: &Path) -> (u64, u64) {
    let mut served = Served::of_file(kind, path).expect("there is a reader");
    let mut read = (0, 0);
    loop {
        let now = served.take().expect("the log can be read");
        if std::mem::replace(&mut read, now) == now {
            return read;
        }
    }
}

/// What everybody has at hand: the lines that name a method.
fn grep(path: &Path) {
    let output = std::process::Command::new("grep")
        .args(["-c", "POST"])
        .arg(path)
        .env("LC_ALL", "C")
        .output();
    black_box(output.expect("grep can be started"));
}

/// A gigabyte that is appended by another thread as fast as the disk takes it, and read meanwhile.
fn burst(path: &Path) {
    let piece = lines_of("vllm", 8_000_000);
    let mut file = File::create(path).expect("the log can be written");
    let mut served = Served::of_file("vllm", path).expect("there is a reader");
    served.take().expect("the log can be read");
    let before = resident_kib();
    let (mut most, mut calls, mut read) = (before, 0, (0, 0));
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            while written < LARGE_BYTES {
                file.write_all(&piece).expect("the log can be written");
                written += piece.len() as u64;
            }
            begun.elapsed()
        });
        loop {
            let is_written = writer.is_finished();
            let now = served.take().expect("the log can be read");
            calls += 1;
            most = most.max(resident_kib());
            if std::mem::replace(&mut read, now) == now && is_written {
                break;
            }
        }
        let (wrote, all) = (writer.join().expect("it writes"), begun.elapsed());
        println!(
            "\na burst of {LARGE_BYTES} bytes written in {:.2} s and read {:.2} s after it began, {} lines, {} requests, \
             {calls} calls: resident {before} KiB before, {most} KiB at most",
            wrote.as_secs_f64(),
            all.as_secs_f64(),
            read.0,
            read.1
        );
    });
}

/// Reads a log as an agent does, and looks at each line as a reader does.
fn read(path: &Path) -> (u64, u64) {
    let mut reading = Reading::of_file(path);
    let (mut lines, mut found) = (0, 0);
    loop {
        let now = reading
            .take(&mut |line| found += look(line))
            .expect("the log can be read");
        if std::mem::replace(&mut lines, now) == now {
            return (lines, found);
        }
    }
}

/// What an anchored reader does: most lines fail at their first bytes, of some the numbers are read.
fn look(line: &[u8]) -> u64 {
    if let Some(rest) = line.strip_prefix(b"[GIN] ") {
        let status = rest.get(24..27).unwrap_or_default();
        return u64::from(status == b"200");
    }
    if let Some(rest) = line.strip_prefix(b"slot print_timing: id ") {
        let rest = rest.get(..96.min(rest.len())).unwrap_or_default();
        let tokens = rest.iter().rev().skip_while(|byte| !byte.is_ascii_digit());
        return u64::from(tokens.take(4).count() == 4);
    }
    if line.starts_with(b"INFO:     ") {
        return u64::from(line.ends_with(b"200 OK"));
    }
    if line.starts_with(b"(APIServer pid=") || line.starts_with(b"time=") {
        return 0;
    }
    0
}

/// The least that anybody can do: read the bytes and find the ends of lines.
fn newlines(path: &Path) -> usize {
    let mut file = File::open(path).expect("the log can be read");
    let mut buffer = vec![0; 256 * 1024];
    let mut count = 0;
    loop {
        let got = file.read(&mut buffer).expect("the log can be read");
        if got == 0 {
            return count;
        }
        count += memchr::memchr_iter(b'\n', &buffer[..got]).count();
    }
}

/// The times of the rounds, shortest first.
fn measure(mut work: impl FnMut()) -> Vec<Duration> {
    work();
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = processor_time();
        work();
        times.push(processor_time() - begun);
    }
    times.sort_unstable();
    times
}

/// The same for what other processes do.
fn measure_children(mut work: impl FnMut()) -> Vec<Duration> {
    work();
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = children_time();
        work();
        times.push(children_time() - begun);
    }
    times.sort_unstable();
    times
}

/// Processor time of the processes that ended, in units of the system's clock.
fn children_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("the system tells");
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = fields.split(' ').skip(13).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Time that this thread was running: other work on the machine does not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the system tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Writes a log of about so many bytes; how many there are.
fn make(path: &Path, wrapped: Wrapped, bytes: u64) -> u64 {
    let mut file = BufWriter::new(File::create(path).expect("the log can be written"));
    let (mut written, mut number) = (0, 0);
    let (mut line, mut record) = (String::new(), String::new());
    while written < bytes {
        line.clear();
        record.clear();
        compose(&mut line, number);
        let second = number / 50 % 60;
        let time = format!(
            "2026-05-02T08:15:{second:02}.{:09}Z",
            number % 1_000_000_000
        );
        match wrapped {
            Wrapped::Plain => {
                let _ = writeln!(record, "{line}");
            }
            Wrapped::Cri => {
                let _ = writeln!(record, "{time} stderr F {line}");
            }
            Wrapped::Docker => {
                let line = line.replace('"', "\\\"").replace('\x1b', "\\u001b");
                let _ = writeln!(
                    record,
                    "{{\"log\":\"{line}\\n\",\"stream\":\"stderr\",\"time\":\"{time}\"}}"
                );
            }
        }
        file.write_all(record.as_bytes())
            .expect("the log can be written");
        written += record.len() as u64;
        number += 1;
    }
    file.flush().expect("the log can be written");
    written
}

/// Writes a log of a kind of server.
fn make_served(path: &Path, kind: &str) -> u64 {
    let lines = lines_of(kind, TIMED_BYTES);
    std::fs::write(path, &lines).expect("the log can be written");
    lines.len() as u64
}

/// About so many bytes of the log of a kind of server.
fn lines_of(kind: &str, bytes: u64) -> Vec<u8> {
    let mut lines = String::new();
    let mut number = 0;
    while (lines.len() as u64) < bytes {
        compose_served(&mut lines, kind, number);
        lines.push('\n');
        number += 1;
    }
    lines.into_bytes()
}

/// One line of a server's log: of every 20 of vLLM, SGLang and TGI one is a request, of every ten of llama.cpp's two
/// or three tell one, and every line of the standardized format is one.
fn compose_served(line: &mut String, kind: &str, number: u64) {
    let (second, request) = (number / 40 % 60, number / 20);
    let (port, tokens) = (40_000 + number % 20_000, 1 + number * 7 % 4_000);
    let time = format!("{:02}:{second:02}", number / 2_400 % 60);
    let _ = match (kind, number % 20) {
        ("vllm", 0) => write!(
            line,
            "(APIServer pid=31) INFO:     10.1.2.3:{port} - \"POST /v1/chat/completions HTTP/1.1\" 200 OK"
        ),
        ("vllm", 1) => write!(
            line,
            "(APIServer pid=31) INFO 05-02 08:{time} [logger.py:41] Received request chatcmpl-{request:032x}: params: \
             SamplingParams(n=1, presence_penalty=0.0, temperature=0.7, top_p=0.95, max_tokens={tokens}), lora_request: None."
        ),
        ("vllm", 2) => write!(
            line,
            "(APIServer pid=31) INFO 05-02 08:{time} [async_llm.py:269] Added request chatcmpl-{request:032x}."
        ),
        ("vllm", 3..=8) => write!(
            line,
            "(APIServer pid=31) INFO 05-02 08:{time} [loggers.py:300] Engine 000: Avg prompt throughput: {tokens}.4 tokens/s, \
             Avg generation throughput: {tokens}.7 tokens/s, Running: 3 reqs, Waiting: 0 reqs, GPU KV cache usage: 2.1%"
        ),
        ("vllm", _) => write!(
            line,
            "(APIServer pid=31) INFO:     10.1.2.9:{port} - \"GET /{} HTTP/1.1\" 200 OK",
            if number.is_multiple_of(2) {
                "metrics"
            } else {
                "health"
            }
        ),
        ("sglang", 0) => write!(
            line,
            "[2026-05-02 08:{time}] INFO:     10.1.2.3:{port} - \"POST /v1/chat/completions HTTP/1.1\" 200 OK"
        ),
        ("sglang", 1) => write!(
            line,
            "[2026-05-02 08:{time} TP0] Prefill batch. #new-seq: 1, #new-token: {tokens}, #cached-token: 0, token usage: 0.08, \
             #running-req: 3, #queue-req: 0"
        ),
        ("sglang", 2..=5) => write!(
            line,
            "[2026-05-02 08:{time}] INFO:     10.1.2.9:{port} - \"GET /health HTTP/1.1\" 200 OK"
        ),
        ("sglang", _) => write!(
            line,
            "[2026-05-02 08:{time} TP0] Decode batch. #running-req: 3, #token: {tokens}, token usage: 0.11, cuda graph: True, \
             gen throughput (token/s): {tokens}.12, #queue-req: 0"
        ),
        ("tgi", 0) => write!(
            line,
            "2026-05-02T08:{time}.{number:06}Z  INFO chat_completions{{total_time=\"1.5s\" validation_time=\"400.5\u{b5}s\" \
             queue_time=\"70.1\u{b5}s\" inference_time=\"1.499999999s\" time_per_token=\"14.999999ms\" seed=\"Some({number})\"}}: \
             text_generation_router::server: router/src/server.rs:432: Success"
        ),
        ("tgi", 1..=9) => write!(
            line,
            "2026-05-02T08:{time}.{number:06}Z  INFO shard-manager: text_generation_launcher: Shard ready in {tokens}.5s rank={}",
            number % 4
        ),
        ("tgi", _) => write!(
            line,
            "2026-05-02T08:{time}.{number:06}Z  INFO text_generation_router_v3::radix: backends/v3/src/radix.rs:108: Prefix \
             {tokens} - Suffix {number}"
        ),
        ("jsonl", _) => write!(
            line,
            "{{\"request_id\":\"r-{number:016x}\",\"timestamp\":\"2026-05-02T08:{time}.250Z\",\"endpoint\":\"/v1/score\",\
             \"model\":\"credit-7b\",\"model_parameters\":7241732096,\"task_type\":\"classification\",\"task_complexity\":\"routine\",\
             \"input_tokens\":{tokens},\"output_tokens\":{},\"response_time_ms\":{tokens}.5,\"energy_wh\":0.042}}",
            tokens / 3 + 1
        ),
        (kind, place) => {
            let (slot, task) = (request % 4, request * 40);
            match place {
                0 | 10 if kind == "ollama" => write!(
                    line,
                    "[GIN] 2026/05/02 - 08:{time} | 200 |  {:>5}.512ms |       10.1.2.3 | POST     \"/api/chat\"",
                    tokens
                ),
                1 => write!(
                    line,
                    "slot launch_slot_: id  {slot} | task {task} | processing task, is_child = 0"
                ),
                2 => write!(
                    line,
                    "slot update_slots: id  {slot} | task {task} | new prompt, n_ctx_slot = 8192, n_keep = 0, task.n_tokens = {tokens}"
                ),
                3 => write!(
                    line,
                    "slot print_timing: id  {slot} | task {task} | prompt eval time = {tokens:>10}.03 ms / {tokens:>5} tokens (    1.00 ms per token,  1000.00 tokens per second)"
                ),
                4 => write!(
                    line,
                    "slot print_timing: id  {slot} | task {task} |        eval time = {tokens:>10}.05 ms / {tokens:>5} tokens (    1.00 ms per token,  1000.00 tokens per second)"
                ),
                5 => write!(
                    line,
                    "slot print_timing: id  {slot} | task {task} |       total time = {tokens:>10}.08 ms / {:>5} tokens",
                    2 * tokens
                ),
                6 => write!(
                    line,
                    "slot      release: id  {slot} | task {task} | stop processing: n_tokens = {}, truncated = 0",
                    2 * tokens
                ),
                7 | 8 => write!(line, "srv  update_slots: all slots are idle"),
                9 if kind == "ollama" => write!(
                    line,
                    "time=2026-05-02T08:{time}.{number:03}Z level=INFO source=sched.go:510 msg=\"loaded runners\" count={slot}"
                ),
                _ if kind == "ollama" => write!(
                    line,
                    "[GIN] 2026/05/02 - 08:{time} | 200 |  {tokens:>5}.512\u{b5}s |       10.1.2.9 | GET      \"/api/tags\""
                ),
                _ => write!(
                    line,
                    "srv  log_server_r: done request: GET /health 10.1.2.9 200"
                ),
            }
        }
    };
}

/// One line, of a kind that its number says.
fn compose(line: &mut String, number: u64) {
    let (slot, task) = (number % 4, number / 12);
    let _ = match number % 12 {
        0 => write!(
            line,
            "(APIServer pid=31) INFO 05-02 08:15:30 [loggers.py:300] Engine 000: Avg prompt throughput: {}.4 tokens/s, \
             Avg generation throughput: {}.7 tokens/s, Running: 3 reqs, Waiting: 0 reqs, GPU KV cache usage: 2.1%",
            number % 900,
            number % 400
        ),
        1 | 2 => write!(
            line,
            "INFO:     10.1.2.{}:5{:04} - \"POST /v1/chat/completions HTTP/1.1\" 200 OK",
            number % 250,
            number % 10_000
        ),
        3 | 4 => write!(
            line,
            "[GIN] 2026/05/02 - 08:15:30 | 200 | {:>12}ms |       127.0.0.1 | POST     \"/api/generate\"",
            number % 90_000
        ),
        5 => write!(
            line,
            "time=2026-05-02T08:15:30.{:03}Z level=INFO source=sched.go:510 msg=\"loaded runners\" count={slot}",
            number % 1000
        ),
        6 => write!(
            line,
            "slot print_timing: id  {slot} | task {task} | prompt eval time = {:>10}.03 ms / {:>5} tokens (    0.80 ms per token,  1242.63 tokens per second)",
            number % 9000,
            number % 4000
        ),
        7 => write!(
            line,
            "slot print_timing: id  {slot} | task {task} |        eval time = {:>10}.05 ms / {:>5} tokens (   17.23 ms per token,    58.05 tokens per second)",
            number % 9000,
            number % 4000
        ),
        8 => write!(
            line,
            "slot print_timing: id  {slot} | task {task} |       total time = {:>10}.08 ms / {:>5} tokens",
            number % 9000,
            number % 4000
        ),
        9 => write!(
            line,
            "slot      release: id  {slot} | task {task} | stop processing: n_tokens = {}, truncated = 0",
            number % 4000
        ),
        10 if number.is_multiple_of(10) => write!(
            line,
            "\x1b[2m2026-05-02T08:15:30.{:06}Z\x1b[0m \x1b[32m INFO\x1b[0m generate: text_generation: Success",
            number % 1_000_000
        ),
        _ => write!(
            line,
            "srv  update_slots: run slots completed, next batch has {} tokens of {} slots",
            number % 512,
            slot
        ),
    };
}
