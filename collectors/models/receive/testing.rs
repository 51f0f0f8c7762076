//! A receiver on a free port, and senders to it.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::Subject;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use zeroize::Zeroizing;

use super::super::feed::{Feed as _, Heard};
use super::answer::Answer;
use super::{Dialect, Listen, Receiver, Times};
use crate::CollectError;
use crate::host::Host;
use crate::web::{Dial, SecretPlace, Server, Site, Stream, Web, unreachable};

/// The moment of every tick.
pub(crate) fn now() -> Timestamp {
    "2026-03-14T09:30:00Z".parse().unwrap()
}

/// The token that `secret` answers, as it can be changed.
#[derive(Debug, Default)]
pub(crate) struct Secrets(pub(crate) Mutex<Option<String>>);

#[async_trait]
impl Web for Secrets {
    fn open(&self, _: &Site) -> Result<Arc<dyn Server>, CollectError> {
        Err(unreachable("x", "there is no network here".to_owned()))
    }

    async fn dial(&self, _: &Dial) -> Result<Box<dyn Stream>, CollectError> {
        Err(unreachable("x", "there is no network here".to_owned()))
    }

    fn secret(&self, place: &SecretPlace) -> Result<Zeroizing<String>, CollectError> {
        let secret = self.0.lock().unwrap().clone();
        secret
            .map(Zeroizing::new)
            .ok_or_else(|| unreachable(&place.to_string(), "it is gone".to_owned()))
    }
}

/// All day for what is expected.
pub(super) const PATIENT: Times = Times {
    head: Duration::from_secs(60),
    quiet: Duration::from_secs(60),
    arrive: Duration::from_secs(60),
    store: Duration::from_secs(60),
};

/// As good as no time for what never comes.
pub(super) const AT_ONCE: Duration = Duration::from_millis(50);

/// A receiver under test.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) receiver: Receiver,
    pub(crate) heard: Heard,
    pub(crate) secrets: Arc<Secrets>,
}

impl Desk {
    /// One that speaks the dialect.
    pub(crate) fn open(dialect: impl Dialect + 'static) -> Self {
        Self::with(dialect, PATIENT, None)
    }

    pub(super) fn with(dialect: impl Dialect + 'static, times: Times, token: Option<&str>) -> Self {
        let secrets = Arc::new(Secrets(Mutex::new(token.map(str::to_owned))));
        let listen = Listen {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            token: token.map(|_| SecretPlace::Env("TOKEN".to_owned())),
        };
        let instance: Subject = "host:1".parse().unwrap();
        let host = Host::local(
            instance,
            "here".to_owned(),
            Arc::clone(&secrets) as Arc<dyn Web>,
        );
        let receiver = Receiver::open_within(&listen, Arc::new(dialect), &host, times).unwrap();
        Self {
            receiver,
            heard: Heard::default(),
            secrets,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.receiver.address()
    }

    /// Takes what there is.
    pub(crate) async fn tick(&mut self) {
        self.receiver.take(now(), &mut self.heard).await.unwrap();
    }

    /// Takes until so many requests were heard in all, and acknowledges nothing.
    pub(crate) async fn hear(&mut self, requests: usize) {
        while self.heard.requests.len() < requests {
            self.tick().await;
            yield_now().await;
        }
    }

    /// Posts, and acknowledges whatever is told until there is an answer.
    pub(crate) async fn post(&mut self, path: &str, media: &str, body: &[u8]) -> (u16, String) {
        let sender = tokio::spawn(post(
            self.address(),
            head(path, media, body.len()),
            body.to_vec(),
        ));
        self.serve(sender).await
    }

    /// Ticks and acknowledges until the sender has its answer.
    pub(crate) async fn serve<T>(&mut self, sender: tokio::task::JoinHandle<T>) -> T {
        while !sender.is_finished() {
            self.tick().await;
            self.receiver.stored();
            yield_now().await;
        }
        sender.await.unwrap()
    }
}

/// The head of a POST.
pub(crate) fn head(path: &str, media: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    )
}

/// Sends bytes and reads what comes back until the connection ends: the status, and all of it.
pub(crate) async fn post(to: SocketAddr, head: String, body: Vec<u8>) -> (u16, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // Who is refused early may find the door closed while it still speaks.
    drop(stream.write_all(&body).await);
    answer(stream).await
}

/// What comes back until the connection ends.
pub(crate) async fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut said = Vec::new();
    drop(stream.read_to_end(&mut said).await);
    let said = String::from_utf8_lossy(&said).into_owned();
    let status = said
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.unwrap_or(0), said)
}

/// Sends over HTTP/2: head, body and trailers of the answer.
pub(crate) async fn call(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (Response<()>, Vec<u8>, HeaderMap) {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let mut request = Request::post(format!("http://{to}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Answer::of(body)).unwrap();
    let (head, mut incoming) = sender.send_request(request).await.unwrap().into_parts();
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = frame(&mut incoming).await {
        match frame.unwrap().into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap(),
        }
    }
    driver.abort();
    (Response::from_parts(head, ()), bytes, trailers)
}

async fn frame(
    body: &mut Incoming,
) -> Option<Result<hyper::body::Frame<hyper::body::Bytes>, hyper::Error>> {
    poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}
