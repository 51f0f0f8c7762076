//! Dashboards, and proxies before them, that answer as they should not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::site::{Site, text, wait_until};

const JSON: &str = "application/json";

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// What is answered to a submission instead of an acceptance; each is a chapter of its own.
const ODD: [Odd; 13] = [
    Odd::Says(503, "text/html", "retry-after: 1\r\n", "<html>busy"),
    Odd::Says(
        429,
        "text/plain",
        "retry-after: 99999999999999999999999\r\n",
        "slow down",
    ),
    Odd::Says(
        500,
        "application/json",
        "",
        "{\"error\": \"not our shape\"}",
    ),
    Odd::Says(
        302,
        "text/html",
        "location: https://localhost:1/elsewhere\r\n",
        "",
    ),
    // A proxy that wants a client certificate, or a smaller body: no reason to give a submission up.
    Odd::Says(
        400,
        "text/html",
        "",
        "<html>No required SSL certificate was sent",
    ),
    Odd::Says(413, "text/html", "", "<html>Request Entity Too Large"),
    Odd::Says(421, "text/html", "", ""),
    Odd::Says(200, "text/html", "", "<html>\u{fffd} welcome to the portal"),
    Odd::Says(204, "application/json", "", ""),
    Odd::Says(
        401,
        "application/json",
        "",
        r#"{"error":"signature_expired","message":"m","next_step":"n","server_time":"9999-12-30T22:00:00Z"}"#,
    ),
    Odd::AcceptsAnother,
    Odd::SaysTooMuch,
    // It took the submission, and the agent does not hear of it.
    Odd::TakesAndBreaksOff,
];

#[derive(Clone, Copy, Debug)]
enum Odd {
    AcceptsAnother,
    Says(u16, &'static str, &'static str, &'static str),
    SaysTooMuch,
    TakesAndBreaksOff,
}

/// What the server has heard and said.
#[derive(Default)]
struct Heard {
    submissions: usize,
    /// The indices of those that were taken.
    taken: BTreeSet<i64>,
}

#[test]
fn what_was_not_taken_is_sent_again_and_only_what_was_taken_is_accepted() {
    let site = Site::new();
    let heard = Arc::new(Mutex::new(Heard::default()));
    let hears = Arc::clone(&heard);
    serve(&site, move |stream| answer(stream, &hears));
    let agent = site.start_agent();
    wait_until("every odd answer to be met", || {
        heard.lock().unwrap().submissions > 2 * ODD.len()
    });
    // SIGTERM drains: whatever the last answers were, they are followed by acceptances now.
    assert_eq!(agent.stop(), 0);
    let outbox = site.outbox();
    let heard = heard.lock().unwrap();
    let accepted: BTreeSet<i64> = outbox
        .iter()
        .filter(|(_, state)| *state == "accepted")
        .map(|((_, index), _)| *index)
        .collect();
    assert_eq!(accepted, heard.taken);
    assert!(
        outbox.values().all(|state| state != "rejected"),
        "{outbox:?}"
    );
}

#[test]
fn a_dashboard_that_takes_no_backfill_supersedes_and_rejects_nothing() {
    let site = Site::new();
    // Without what the demo's dashboard has receipted.
    fs::remove_dir_all(site.path("agent")).unwrap();
    let agent = site.start_agent();
    wait_until("a backlog of several slots", || {
        let waiting = site.outbox();
        waiting.values().filter(|state| *state == "pending").count() >= 5
    });
    let newest: Mutex<BTreeMap<String, i64>> = Mutex::default();
    serve(&site, move |stream| take_the_newest_only(stream, &newest));
    wait_until("the backlog to be settled", || {
        site.outbox().values().any(|state| state == "superseded")
            && site.outbox().values().filter(|s| *s == "pending").count() <= 1
    });
    let status: Value = serde_json::from_slice(&site.agent(&["status", "--json"]).stdout).unwrap();
    assert!(
        status["outbox"]["superseded"].as_u64() > Some(0),
        "{status}"
    );
    assert_eq!(status["outbox"]["rejected"], 0);
    assert_eq!(status["receipts"], Value::Null, "this one gives none");
    assert_eq!(agent.stop(), 0);
    let report = text(
        &site
            .agent(&[
                "export",
                "--from",
                "2020-01-01",
                "--to",
                "2200-01-01",
                "-o",
                site.path("bundle").to_str().unwrap(),
            ])
            .stdout,
    );
    assert!(!report.contains("not kept any more"), "{report}");
}

/// When this dashboard's clock stands, months before any test runs.
const STANDS_STILL: &str = "2026-01-16T15:45:01Z";

#[test]
fn a_dashboard_with_another_clock_gets_signatures_of_its_time_and_figures_of_ours() {
    let site = Site::new();
    let said: Arc<Mutex<Vec<(i64, Value)>>> = Arc::default();
    let hears = Arc::clone(&said);
    serve(&site, move |stream| stand_still(stream, &hears));
    let agent = site.start_agent();
    wait_until("submissions to be taken", || {
        said.lock().unwrap().len() >= 3
    });
    assert_eq!(agent.stop(), 0);
    let theirs: jiff::Timestamp = STANDS_STILL.parse().unwrap();
    for (created, body) in said.lock().unwrap().iter() {
        let off = created - theirs.as_second();
        assert!(
            (0..=120).contains(&off),
            "signed {off} s off the dashboard's clock"
        );
        let ends: jiff::Timestamp = body["timestamp"].as_str().unwrap().parse().unwrap();
        // Whatever this machine's clock says, it is not the dashboard's.
        assert!(ends.duration_since(theirs).as_hours() > 24, "{body}");
    }
    assert!(site.leaves().iter().all(|(_, _, kind)| kind != "clock"));
}

/// Refuses what is not signed in its own time, and takes the rest.
fn stand_still(mut stream: Tls, said: &Mutex<Vec<(i64, Value)>>) -> std::io::Result<()> {
    let request = Request::read(&mut stream)?;
    let Some((category, index)) = request.submission() else {
        return say(&mut stream, 404, "text/plain", "", b"");
    };
    let theirs: jiff::Timestamp = STANDS_STILL.parse().unwrap();
    let (_, created) = request
        .header("signature-input")
        .split_once("created=")
        .unwrap();
    let created: i64 = created.split(';').next().unwrap().parse().unwrap();
    if (created - theirs.as_second()).abs() > 300 {
        let answer = format!(
            r#"{{"error":"signature_in_future","message":"m","next_step":"n","server_time":"{STANDS_STILL}"}}"#
        );
        return say(&mut stream, 401, JSON, "", answer.as_bytes());
    }
    let body = serde_json::from_slice(&request.1).unwrap();
    said.lock().unwrap().push((created, body));
    say(
        &mut stream,
        200,
        JSON,
        "",
        accepted(&category, index, false).as_bytes(),
    )
}

/// A dashboard of the specification only: no enrolment, no receipts, no words of ours but one, which makes
/// the agent offer a slot that is some seconds old as backfill. It refuses that with a bare status.
fn take_the_newest_only(
    mut stream: Tls,
    newest: &Mutex<BTreeMap<String, i64>>,
) -> std::io::Result<()> {
    let request = Request::read(&mut stream)?;
    let Some((category, index)) = request.submission() else {
        return say(&mut stream, 404, "text/plain", "", b"");
    };
    let is_newest = {
        let mut newest = newest.lock().unwrap();
        let known = newest.entry(category.clone()).or_insert(index);
        *known = index.max(*known);
        *known == index
    };
    if is_newest {
        return say(
            &mut stream,
            200,
            JSON,
            "",
            accepted(&category, index, false).as_bytes(),
        );
    }
    if request.header("cms-delivery") == "backfill" {
        return say(&mut stream, 410, "text/html", "", b"<html>Gone");
    }
    let stale =
        r#"{"error":"stale","message":"m","next_step":"n","server_time":"2026-01-16T15:45:01Z"}"#;
    say(&mut stream, 422, JSON, "", stale.as_bytes())
}

/// Answers on the dashboard's port until the test's process ends.
fn serve(site: &Site, answer: impl Fn(Tls) -> std::io::Result<()> + Send + Sync + 'static) {
    let chain = CertificateDer::pem_file_iter(site.path("dashboard.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(site.path("dashboard.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind(("127.0.0.1", site.port())).unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
            thread::spawn(move || {
                let tls = ServerConnection::new(config).unwrap();
                // An agent that has had enough may hang up at any moment.
                answer(StreamOwned::new(tls, connection)).ok();
            });
        }
    });
}

fn answer(mut stream: Tls, heard: &Mutex<Heard>) -> std::io::Result<()> {
    let request = Request::read(&mut stream)?;
    let Some((category, index)) = request.submission() else {
        // No enrolment and no receipts: such dashboards exist.
        return say(&mut stream, 404, "text/plain", "", b"");
    };
    let (odd, duplicate) = {
        let mut heard = heard.lock().unwrap();
        let turn = heard.submissions;
        heard.submissions += 1;
        // Every other answer is as it should be, so that the pauses stay short.
        let odd = if turn.is_multiple_of(2) {
            ODD.get(turn / 2).copied()
        } else {
            None
        };
        let takes = matches!(odd, None | Some(Odd::TakesAndBreaksOff));
        let duplicate = heard.taken.contains(&index);
        if takes {
            heard.taken.insert(index);
        }
        (odd, duplicate)
    };
    let accepted = |index: i64| accepted(&category, index, duplicate);
    match odd {
        None => say(&mut stream, 200, JSON, "", accepted(index).as_bytes()),
        Some(Odd::AcceptsAnother) => {
            say(&mut stream, 200, JSON, "", accepted(index + 1).as_bytes())
        }
        Some(Odd::Says(status, kind, header, body)) => {
            say(&mut stream, status, kind, header, body.as_bytes())
        }
        Some(Odd::SaysTooMuch) => say(&mut stream, 200, JSON, "", &vec![b' '; 100_000]),
        Some(Odd::TakesAndBreaksOff) => stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"status\":")
            .and_then(|()| stream.flush()),
    }
}

fn accepted(category: &str, index: i64, duplicate: bool) -> String {
    format!(
        r#"{{"status":"accepted","category":"{category}","index":{index},"delivery":"live","duplicate":{duplicate},"warnings":[],"received_at":"2026-01-16T15:45:01Z"}}"#
    )
}

/// A request: its head, and its body.
struct Request(String, Vec<u8>);

impl Request {
    fn read(stream: &mut impl Read) -> std::io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let mut request = Self(String::from_utf8_lossy(&head).into_owned(), Vec::new());
        let length = request.header("content-length").parse().unwrap();
        stream.take(length).read_to_end(&mut request.1)?;
        Ok(request)
    }

    fn header(&self, name: &str) -> &str {
        let mut lines = self.0.lines();
        let line = lines.find(|line| line.to_lowercase().starts_with(name));
        line.and_then(|line| line.split_once(": "))
            .map_or("", |(_, value)| value)
    }

    /// Category and index, where it is a submission.
    fn submission(&self) -> Option<(String, i64)> {
        let (_, category) = self
            .0
            .split_whitespace()
            .nth(1)?
            .split_once("/telemetry/")?;
        let index = self.header("cms-ledger").split(['=', ',']).nth(1)?;
        Some((category.to_owned(), index.parse().ok()?))
    }
}

fn say(
    stream: &mut impl Write,
    status: u16,
    kind: &str,
    header: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Odd\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n{header}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()
}
