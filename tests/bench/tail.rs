//! How fast logs are read, beside a count of newlines over the same bytes, and whether memory stays flat.
//!
//! `cargo bench -p cms-collectors --bench tail` makes a gigabyte of lines as model servers write them, plain and in
//! both wrappers, in a directory that removes itself (`-- FOLDER` says where), and prints a row for each kind: the
//! best and the median of the rounds, in processor time, for lines that a reader looks at by their beginnings. The
//! files are in the page cache after the first round, which does not count.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints its figures and ends where it cannot"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cms_collectors::logs::Reading;
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
