//! Every source that asks a server, against every way in which servers answer wrongly.
//!
//! Each gives one error that names the address and says what helps, or leaves out what makes no sense and says so.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use cms_collectors::web::Web;
use cms_collectors::{ALL, CollectError, Host};
use cms_spec::reading::{Readings, Snapshot};
use jiff::Timestamp;

use super::tests::server;
use super::*;

mod devices;

/// A way to answer wrongly.
struct Fault {
    name: &'static str,
    address: SocketAddr,
    /// The class of the error and words of it; or no class, and words of what was left out.
    exporter: (&'static str, &'static str),
    monitor: (&'static str, &'static str),
}

const NOW: &str = "2026-03-01T10:00:00Z";

/// 2026-03-01T10:00:00Z.
const NOW_S: u64 = 1_772_359_200;

const EXPORTER: &str =
    "{ kind = 'exporter', interval = '1s', instance_id = 'node-1', url = 'http://";

const MONITOR: &str = "{ query_timeout = '1s', url = 'http://";

fn http(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn saying(answer: Vec<u8>) -> SocketAddr {
    server(move |_, stream| drop(stream.write_all(&answer)))
}

/// A page of an exporter for a GET, an answer of a monitoring server for a POST.
fn both(page: &'static str, change: fn(&str) -> Option<String>) -> SocketAddr {
    server(move |request, stream| {
        let answer = if request.starts_with("GET") {
            http(page)
        } else {
            let rows = rows_of(&request, change);
            http(&format!(
                "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{rows}]}}}}"
            ))
        };
        drop(stream.write_all(&answer));
    })
}

/// What a good server answers, unless the fault changes it.
fn rows_of(request: &str, change: fn(&str) -> Option<String>) -> String {
    if let Some(rows) = change(request) {
        return rows;
    }
    let known = [
        ("min_over_time%28%280", NOW_S - 30 * 86_400),
        ("max_over_time%28%280%20%2A%20node_boot", NOW_S),
        ("count_over_time%28node_boot", 2_880),
        ("iowait", 5_000_000),
        ("increase%28node_cpu", 5_184_000),
        ("last_over_time%28node_cpu", 2),
        ("node_memory_MemAvailable", 7),
    ];
    let found = known.into_iter().find(|(part, _)| request.contains(part));
    found.map_or(String::new(), |(_, value)| row(&value.to_string()))
}

fn row(value: &str) -> String {
    format!("{{\"metric\":{{\"instance\":\"node-1:9100\"}},\"value\":[0,\"{value}\"]}}")
}

fn unchanged(_: &str) -> Option<String> {
    None
}

const PAGE: &str = "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 100\n\
    node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 10\n\
    node_memory_MemTotal_bytes 1000000\nnode_memory_MemAvailable_bytes 900000\n";

const NOT_NUMBERS: &str = "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} NaN\n\
    node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 10\n\
    node_memory_MemTotal_bytes +Inf\nnode_memory_MemAvailable_bytes 900000\n";

const NEGATIVE: &str = "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} -100\n\
    node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 10\n\
    node_memory_MemTotal_bytes -5\nnode_memory_MemAvailable_bytes 900000\n";

const TWICE: &str = "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 100\n\
    node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 100\n\
    node_memory_MemTotal_bytes 1000000\nnode_memory_MemAvailable_bytes 900000\n";

const AHEAD: &str = "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 100 4102444800000\n\
    node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 10 4102444800000\n\
    node_time_seconds 4102444800\nnode_boot_time_seconds 4102440000\n\
    node_memory_MemTotal_bytes 1000000\nnode_memory_MemAvailable_bytes 900000\n";

fn faults() -> Vec<Fault> {
    let fault = |name, address, exporter, monitor| Fault {
        name,
        address,
        exporter,
        monitor,
    };
    let alike = |name, address, class, words| fault(name, address, (class, words), (class, words));
    let reset = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Closed with what was asked unread: the other side gets a reset.
        thread::spawn(move || listener.incoming().for_each(drop));
        address
    };
    let elsewhere = "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: https://login.example/\r\n\
        content-length: 0\r\n\r\n";
    let html = "<!DOCTYPE html>\n<html><body>Please sign in</body></html>\n";
    vec![
        alike(
            "wrong credentials",
            saying(b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec()),
            "denied",
            "check bearer_token, basic or the client certificate",
        ),
        alike(
            "half a page",
            saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\nnode_load1 0.5\n".to_vec()),
            "malformed",
            "ends before its end",
        ),
        fault(
            "a page for people",
            saying(http(html)),
            ("malformed", "check the address and its path"),
            ("malformed", "check the address and its path"),
        ),
        fault(
            "an answer without end",
            server(|_, stream| {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n"));
                while stream.write_all(&[b'x'; 65_536]).is_ok() {}
            }),
            ("bounded", "127.0.0.1"),
            ("malformed", "check the address and its path"),
        ),
        fault(
            "a slow drip",
            server(|_, stream| {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nn"));
                drop(stream.read(&mut [0; 1]));
            }),
            ("timeout", "did not answer within 1s"),
            ("unreachable", "no answer within 6s"),
        ),
        fault(
            "no numbers",
            both(NOT_NUMBERS, |asked| {
                asked.contains("node_memory_MemAvailable").then(|| row("NaN"))
            }),
            ("", "no numbers or out of range: processors, memory"),
            ("", "values of memory are negative, infinite, no numbers or beyond 100 % and are left out"),
        ),
        fault(
            "negative numbers",
            both(NEGATIVE, |asked| {
                asked.contains("node_memory_MemAvailable").then(|| row("-7"))
            }),
            ("", "no numbers or out of range: processors, memory"),
            ("", "values of memory are negative, infinite, no numbers or beyond 100 % and are left out"),
        ),
        fault(
            "a clock in the future",
            both(AHEAD, |asked| {
                asked.contains("max_over_time%28%280%20%2A%20node_boot").then(|| row("4102444800"))
            }),
            ("", "its clock and this host's differ by 23300855"),
            ("", "1 instances report from the future: a clock is ahead"),
        ),
        fault(
            "the same series twice",
            both(TWICE, |asked| {
                let is_memory = asked.contains("node_memory_MemAvailable");
                is_memory.then(|| format!("{},{}", row("7"), row("8")))
            }),
            ("malformed", "is there twice: two pages seem to be joined"),
            ("malformed", "several values for one instance"),
        ),
        fault(
            "nothing",
            saying(http("")),
            ("malformed", "there are no metrics in it"),
            ("malformed", "no answer of a Prometheus API"),
        ),
        alike(
            "a redirect to a login",
            saying(elsewhere.as_bytes().to_vec()),
            "malformed",
            "it redirects to https://login.example/, where this source is not configured to go",
        ),
        alike(
            "a reset",
            reset,
            "unreachable",
            "the agent asks again at the next tick",
        ),
        alike(
            "a server that is overloaded",
            saying(b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbusy".to_vec()),
            "unreachable",
            "busy",
        ),
    ]
}

/// What two ticks gave, and what `status` would list of the source.
struct Taken {
    ticks: Vec<Readings>,
    details: Vec<String>,
}

/// Asks a source twice, as the scheduler would, so that counters can be subtracted.
async fn ask(table: &str, address: SocketAddr) -> Result<Taken, CollectError> {
    let registration = ALL
        .iter()
        .find(|one| one.id == "compute/prometheus")
        .unwrap();
    let table = format!("{table}{address}' }}");
    let value = toml::de::ValueDeserializer::parse(&table).unwrap();
    let settings = (registration.parse)(value).unwrap();
    let web: Arc<dyn Web> = Arc::new(Outbound);
    let id = "host:0000000000000000".parse().unwrap();
    let host = Host::local(id, "here".to_owned(), web);
    let mut source = settings
        .open(&host)
        .unwrap_or_else(|error| panic!("{table}: {error}"));
    let now: Timestamp = NOW.parse().unwrap();
    let mut ticks = Vec::new();
    for second in 0..2 {
        let mut readings = Readings::default();
        let at = now + jiff::SignedDuration::from_secs(second);
        source.collect(at, &mut readings).await?;
        ticks.push(readings);
    }
    let details = source.details();
    Ok(Taken { ticks, details })
}

/// What a source said besides its figures.
fn remarks(taken: &Taken) -> String {
    let mut text = taken.details.join("; ");
    for readings in &taken.ticks {
        let sample = readings.clone().stamp("s", Timestamp::UNIX_EPOCH, "b");
        for snapshot in sample.snapshots {
            if let Snapshot::Survey(survey) = snapshot {
                text += &survey.notes.join("; ");
            }
        }
        if readings.has_values() {
            text += "taken";
        }
    }
    text
}

fn judge(
    fault: &str,
    source: &str,
    wanted: (&str, &str),
    got: &Result<Taken, CollectError>,
) -> Option<String> {
    let (class, text) = match got {
        Ok(taken) => ("", remarks(taken)),
        Err(error) => (error.class(), chained(error).to_string()),
    };
    let names_the_place = class.is_empty() || text.contains("127.0.0.1");
    // However fast it comes: at its length or at its time.
    let is_bounded = wanted.0 == "bounded" && ["malformed", "timeout"].contains(&class);
    let is_right = (is_bounded || class == wanted.0) && text.contains(wanted.1) && names_the_place;
    (!is_right).then(|| format!("{source}, {fault}: wanted {wanted:?}, got {class:?} {text:?}\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_server_answers_is_told_clearly_and_nothing_wrong_is_taken() {
    let mut asked = Vec::new();
    for fault in faults() {
        asked.push(tokio::spawn(async move {
            let exporter = ask(EXPORTER, fault.address).await;
            let monitor = ask(MONITOR, fault.address).await;
            [
                judge(fault.name, "exporter", fault.exporter, &exporter),
                judge(fault.name, "server", fault.monitor, &monitor),
            ]
        }));
    }
    let mut wrong = String::new();
    for task in asked {
        wrong.extend(task.await.unwrap().into_iter().flatten());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn a_good_answer_is_taken() {
    let address = both(PAGE, unchanged);
    let exporter = ask(EXPORTER, address).await.unwrap();
    assert!(exporter.ticks.iter().any(Readings::has_values));
    let monitor = ask(MONITOR, address).await.unwrap();
    assert!(monitor.ticks.iter().all(|tick| !tick.is_empty()));
}
