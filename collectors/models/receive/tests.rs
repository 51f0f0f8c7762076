//! Senders that are honest, impatient, many, slow or hostile.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::super::feed::Feed as _;
use super::super::jsonl::Jsonl;
use super::testing::{AT_ONCE, Desk, PATIENT, answer, call, head, post};
use super::{BODY_BYTES_MAX, MESSAGE_ITEMS_MAX, Times, connection};

const JSON: &str = "application/json";
const PATH: &str = "/v1/inferences";

fn line(id: &str) -> Vec<u8> {
    format!(r#"{{"request_id":"{id}","timestamp":1773480414,"model":"m"}}"#).into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Sends one line without waiting for its answer.
fn sends(desk: &Desk, body: Vec<u8>) -> tokio::task::JoinHandle<(u16, String)> {
    tokio::spawn(post(desk.address(), head(PATH, JSON, body.len()), body))
}

#[tokio::test]
async fn a_sender_hears_when_it_is_on_disk_and_not_before() {
    let mut desk = Desk::open(Jsonl);
    let first = sends(&desk, line("one"));
    desk.hear(1).await;
    assert_eq!(desk.heard.requests[0].id.as_ref().unwrap().as_str(), "one");
    // Others are answered meanwhile, so that the first could have been.
    for _ in 0..3 {
        let (status, _) = post(desk.address(), head("/x", JSON, 0), Vec::new()).await;
        assert_eq!(status, 404);
        desk.tick().await;
        yield_now().await;
    }
    assert!(!first.is_finished());
    desk.receiver.stored();
    let (status, said) = first.await.unwrap();
    assert_eq!(status, 200, "{said}");
    assert_eq!(desk.heard.requests.len(), 1);
    let details = desk.receiver.details();
    assert_eq!(details[1], "received 1 messages about 1 requests");
    assert_eq!(details[2], "refused messages: 3 sent to another path");
}

#[tokio::test]
async fn what_is_not_on_disk_in_time_is_sent_again_and_still_told() {
    let times = Times {
        store: AT_ONCE,
        ..PATIENT
    };
    let mut desk = Desk::with(Jsonl, times, None);
    let (status, said) = sends(&desk, line("one")).await.unwrap();
    assert_eq!(status, 503);
    assert!(
        said.contains("retry-after: 5") && said.contains("counted once"),
        "{said}"
    );
    desk.hear(1).await;
    // Nobody waits any more; that is no fault.
    desk.receiver.stored();
    assert!(
        desk.receiver
            .trouble()
            .unwrap()
            .contains("1 not on disk in time")
    );
}

#[tokio::test]
async fn a_full_queue_says_so_at_once_and_has_room_after_a_tick() {
    let mut desk = Desk::open(Jsonl);
    let half: Vec<u8> = [line("x"), b"\n".to_vec()]
        .concat()
        .repeat(MESSAGE_ITEMS_MAX);
    let waiting = [sends(&desk, half.clone()), sends(&desk, half.clone())];
    while desk.receiver.waiting() < 2 * MESSAGE_ITEMS_MAX {
        yield_now().await;
    }
    let refused = sends(&desk, line("more")).await.unwrap();
    assert_eq!(refused.0, 503, "{}", refused.1);
    assert!(refused.1.contains("queue is full"), "{}", refused.1);
    desk.hear(2 * MESSAGE_ITEMS_MAX).await;
    desk.receiver.stored();
    for sender in waiting {
        assert_eq!(sender.await.unwrap().0, 200);
    }
    assert_eq!(desk.post(PATH, JSON, &line("later")).await.0, 200);
    let more = [half, line("x")].concat();
    let (status, said) = desk.post(PATH, JSON, &more).await;
    assert_eq!(status, 413);
    assert!(said.contains("16,384"), "{said}");
}

#[tokio::test]
async fn whoever_waits_hears_that_the_listener_ends_and_the_address_is_free() {
    let mut desk = Desk::open(Jsonl);
    let sender = sends(&desk, line("one"));
    desk.hear(1).await;
    let address = desk.address();
    drop(desk);
    let (status, said) = sender.await.unwrap();
    assert!(status == 503 || said.is_empty(), "{said}");
    while std::net::TcpListener::bind(address).is_err() {
        yield_now().await;
    }
}

#[tokio::test]
async fn messages_come_packed_in_pieces_and_over_http_2() {
    let mut desk = Desk::open(Jsonl);
    let packed = gzip(&line("packed"));
    let head =
        head(PATH, JSON, packed.len()).replace("\r\n\r\n", "\r\ncontent-encoding: gzip\r\n\r\n");
    let sender = tokio::spawn(post(desk.address(), head.clone(), packed));
    assert_eq!(desk.serve(sender).await.0, 200);
    let other = head.replace("gzip", "br");
    assert_eq!(post(desk.address(), other, Vec::new()).await.0, 415);
    let chunked = "POST /v1/inferences HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
                   transfer-encoding: chunked\r\nupgrade: h2c\r\nconnection: close\r\n\r\n";
    let body = line("pieces");
    let (left, right) = body.split_at(10);
    let pieces = [
        format!("{:x}\r\n", left.len()).as_bytes(),
        left,
        format!("\r\n{:x}\r\n", right.len()).as_bytes(),
        right,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let sender = tokio::spawn(post(desk.address(), chunked.to_owned(), pieces));
    assert_eq!(desk.serve(sender).await.0, 200);
    let to = desk.address();
    let sender =
        tokio::spawn(async move { call(to, PATH, &[("content-type", JSON)], line("two")).await });
    let (answer, bytes, _) = desk.serve(sender).await;
    assert_eq!((answer.status().as_u16(), bytes), (200, b"{}".to_vec()));
    let ids: Vec<&str> = desk
        .heard
        .requests
        .iter()
        .map(|r| r.id.as_ref().unwrap().as_str())
        .collect();
    assert_eq!(ids, ["packed", "pieces", "two"]);
}

#[tokio::test]
async fn only_who_knows_the_token_may_push_and_no_browser() {
    let mut desk = Desk::with(Jsonl, PATIENT, Some("sesame"));
    let with =
        |extra: &str| head(PATH, JSON, 2).replace("\r\n\r\n", &format!("\r\n{extra}\r\n\r\n"));
    for wrong in [
        "a: b",
        "authorization: Bearer",
        "authorization: Bearer sesam",
        "authorization: Bearer sesame1",
        "authorization: Basic sesame",
    ] {
        let (status, said) = post(desk.address(), with(wrong), b"[]".to_vec()).await;
        assert_eq!(status, 401, "{wrong}");
        assert!(said.contains("www-authenticate: Bearer"), "{said}");
    }
    let right = with("authorization: bearer sesame");
    assert_eq!(
        post(desk.address(), right.clone(), b"[]".to_vec()).await.0,
        200
    );
    let page = with("authorization: Bearer sesame\r\norigin: https://example.org");
    assert_eq!(post(desk.address(), page, b"[]".to_vec()).await.0, 403);
    // A token that was replaced holds from the next tick on, one that is gone holds on.
    *desk.secrets.0.lock().unwrap() = Some("open".to_owned());
    desk.tick().await;
    assert_eq!(post(desk.address(), right, b"[]".to_vec()).await.0, 401);
    *desk.secrets.0.lock().unwrap() = None;
    desk.tick().await;
    let new = with("authorization: Bearer open");
    assert_eq!(post(desk.address(), new, b"[]".to_vec()).await.0, 200);
    assert!(desk.receiver.trouble().unwrap().contains("token"));
    assert!(!format!("{desk:?}").contains("Bearer"));
}

#[tokio::test]
async fn what_is_too_long_is_refused_early() {
    let mut desk = Desk::open(Jsonl);
    let (status, said) = post(desk.address(), head(PATH, JSON, 1 << 30), Vec::new()).await;
    assert_eq!(status, 413);
    assert!(said.contains("16 MiB"), "{said}");
    // Without its length it is cut where it becomes too long.
    let chunked = "POST /v1/inferences HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                   transfer-encoding: chunked\r\n\r\n";
    let mut stream = TcpStream::connect(desk.address()).await.unwrap();
    stream.write_all(chunked.as_bytes()).await.unwrap();
    let chunk = [&b"100000\r\n"[..], &vec![b' '; 0x10_0000], b"\r\n"].concat();
    let mut sent = 0;
    while sent < 1 << 30 && stream.write_all(&chunk).await.is_ok() {
        sent += chunk.len();
    }
    assert!(sent < 3 * BODY_BYTES_MAX, "{sent}");
    // A bomb stops where it becomes too long, too.
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    let packed =
        head(PATH, JSON, bomb.len()).replace("\r\n\r\n", "\r\ncontent-encoding: gzip\r\n\r\n");
    let sender = tokio::spawn(post(desk.address(), packed, bomb));
    assert_eq!(desk.serve(sender).await.0, 413);
    let details = desk.receiver.details();
    assert!(details[2].contains("3 longer than 16 MiB"), "{details:?}");
}

#[tokio::test]
async fn nonsense_is_refused_and_harms_nobody() {
    let mut desk = Desk::open(Jsonl);
    let deep = "[".repeat(100_000);
    for (body, status) in [
        (deep.as_str(), 400),
        ("[{\"id\":", 400),
        ("[] []", 400),
        ("", 200),
        ("{", 400),
        ("null", 400),
    ] {
        assert_eq!(
            desk.post(PATH, JSON, body.as_bytes()).await.0,
            status,
            "{body:.20}"
        );
    }
    assert_eq!(desk.post(PATH, "text/plain", b"{}").await.0, 415);
    assert_eq!(desk.post("/v1/traces", JSON, b"{}").await.0, 404);
    let get = head(PATH, JSON, 0).replace("POST", "GET");
    assert_eq!(post(desk.address(), get, Vec::new()).await.0, 405);
    for raw in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{1}\r\n\r\n",
        "POST /v1/inferences HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\nhost: x\r\n\r\nZZ\r\n",
        "PRI * HTTP/2.0\r\n\r\nno frames at all, only words that go on and on",
        "PRI nonsense\r\n\r\n",
        "POST / HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(desk.address()).await.unwrap();
        stream.write_all(raw.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let (status, said) = answer(stream).await;
        assert_ne!(status, 200, "{said}");
    }
    // Cut off in the middle of the message.
    let mut stream = TcpStream::connect(desk.address()).await.unwrap();
    stream
        .write_all(head(PATH, JSON, 100).as_bytes())
        .await
        .unwrap();
    stream.write_all(b"{\"id\":").await.unwrap();
    drop(stream);
    assert_eq!(desk.post(PATH, JSON, &line("fine")).await.0, 200);
    assert_eq!(desk.heard.requests.len(), 1);
}

#[tokio::test]
async fn who_is_slow_is_left() {
    let times = Times {
        head: AT_ONCE,
        arrive: AT_ONCE,
        ..PATIENT
    };
    let desk = Desk::with(Jsonl, times, None);
    for beginning in ["", "P", "POST / HT"] {
        let mut stream = TcpStream::connect(desk.address()).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let (status, _) = answer(stream).await;
        assert!([0, 408].contains(&status), "{beginning}");
    }
    let mut stream = TcpStream::connect(desk.address()).await.unwrap();
    stream
        .write_all(head(PATH, JSON, 100).as_bytes())
        .await
        .unwrap();
    stream.write_all(b"{").await.unwrap();
    assert_eq!(answer(stream).await.0, 408);
}

#[tokio::test]
async fn a_connection_on_which_nothing_happens_ends() {
    let times = Times {
        quiet: AT_ONCE,
        ..PATIENT
    };
    let desk = Desk::with(Jsonl, times, None);
    for beginning in ["", "POST / HT"] {
        let mut stream = TcpStream::connect(desk.address()).await.unwrap();
        let keep = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(keep.as_bytes()).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        assert_eq!(answer(stream).await.0, 405);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let mut desk = Desk::open(Jsonl);
    let mut open = Vec::new();
    for _ in 0..connection::CONNECTIONS_MAX {
        open.push(TcpStream::connect(desk.address()).await.unwrap());
    }
    let extra = TcpStream::connect(desk.address()).await.unwrap();
    let (status, said) = answer(extra).await;
    assert_eq!(status, 503);
    let length = said.split("\r\n\r\n").nth(1).unwrap().len();
    assert!(
        said.contains(&format!("content-length: {length}\r\n")),
        "{said}"
    );
    // One that ends makes room.
    open.pop();
    loop {
        let (status, _) = desk.post(PATH, JSON, &line("fine")).await;
        if status == 200 {
            break;
        }
        assert!([0, 503].contains(&status), "{status}");
    }
    let mut first = open.swap_remove(0);
    first.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    first.read_to_end(&mut said).await.unwrap();
    assert!(said.starts_with(b"HTTP/1.0 405"));
}
