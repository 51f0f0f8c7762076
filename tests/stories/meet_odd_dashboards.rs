//! Dashboards, and proxies before them, that answer as they should not.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::site::{Site, wait_until};

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
    serve(&site, &heard);
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

/// Answers on the dashboard's port until the test's process ends.
fn serve(site: &Site, heard: &Arc<Mutex<Heard>>) {
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
    let heard = Arc::clone(heard);
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let (config, heard) = (Arc::clone(&config), Arc::clone(&heard));
            thread::spawn(move || {
                let tls = ServerConnection::new(config).unwrap();
                // An agent that has had enough may hang up at any moment.
                answer(StreamOwned::new(tls, connection), &heard).ok();
            });
        }
    });
}

fn answer(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    heard: &Mutex<Heard>,
) -> std::io::Result<()> {
    let head = request_head(&mut stream)?;
    let value = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_lowercase().starts_with(name));
        line.and_then(|line| line.split_once(": "))
            .map_or("", |(_, value)| value)
    };
    let length = value("content-length").parse().unwrap();
    std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink())?;
    if !head.contains("/telemetry/") {
        // No enrolment and no receipts: such dashboards exist.
        return say(&mut stream, 404, "text/plain", "", b"");
    }
    let index = value("cms-ledger").split(['=', ',']).nth(1).unwrap();
    let index: i64 = index.parse().unwrap();
    let category = head.split_whitespace().nth(1).unwrap().rsplit('/').next();
    let category = category.unwrap().to_owned();
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
    let accepted = |index: i64| {
        let category = &category;
        format!(
            r#"{{"status":"accepted","category":"{category}","index":{index},"delivery":"live","duplicate":{duplicate},"warnings":[],"received_at":"2026-01-16T15:45:01Z"}}"#
        )
    };
    let json = "application/json";
    match odd {
        None => say(&mut stream, 200, json, "", accepted(index).as_bytes()),
        Some(Odd::AcceptsAnother) => {
            say(&mut stream, 200, json, "", accepted(index + 1).as_bytes())
        }
        Some(Odd::Says(status, kind, header, body)) => {
            say(&mut stream, status, kind, header, body.as_bytes())
        }
        Some(Odd::SaysTooMuch) => say(&mut stream, 200, json, "", &vec![b' '; 100_000]),
        Some(Odd::TakesAndBreaksOff) => stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"status\":")
            .and_then(|()| stream.flush()),
    }
}

fn request_head(stream: &mut impl Read) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
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
