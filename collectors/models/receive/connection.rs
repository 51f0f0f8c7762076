//! Connections: how many, how long, and which of the two protocols they speak.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Intake;
use super::exchange::answer;

/// Most connections at once. A model server has a few, an application one for each of its processes.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// Most calls at once over one connection of HTTP/2; most of them wait for the disk.
const STREAMS_MAX: u32 = 32;

/// How long a connection may take to end.
const END_TIME: Duration = Duration::from_secs(5);

/// Bytes of the head of a message.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What a peer may send over one connection, and within one call, before we have looked at it.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// A peer that is gone without a word is noticed after these two.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIME: Duration = Duration::from_secs(10);

/// How long to wait when the system gives no connection, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection hears that is one too many.
const NO_CONNECTION: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n\
    content-type: text/plain\r\ncontent-length: 46\r\nconnection: close\r\n\r\n\
    too many connections; close some or wait a bit";

/// Serves connections until it is dropped.
pub(super) async fn serve(listener: TcpListener, intake: Arc<Intake>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = open.join_next(), if !open.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if open.len() >= CONNECTIONS_MAX => {
                    intake.tally().connections.count("one too many", 1);
                    // A hint; whoever does not read it sees a closed connection.
                    let _sent = stream.try_write(NO_CONNECTION);
                }
                Ok((stream, _)) => {
                    open.spawn(connection(stream, Arc::clone(&intake)));
                }
                Err(_) => {
                    intake.tally().connections.count("not given by the system", 1);
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// The protocols that are spoken on a plain connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    One,
    /// With prior knowledge.
    Two,
}

async fn connection(stream: TcpStream, intake: Arc<Intake>) {
    let Ok(Some(protocol)) = timeout(intake.times.head, protocol(&stream)).await else {
        intake.tally().connections.count("without a message", 1);
        return;
    };
    // Answers are short, and shall not wait for each other.
    let _set = stream.set_nodelay(true);
    let activity = Arc::new(Activity::default());
    let service = {
        let (intake, activity) = (Arc::clone(&intake), Arc::clone(&activity));
        service_fn(move |request| {
            let intake = Arc::clone(&intake);
            let running = Running::begin(&activity);
            async move {
                let answer = answer(request, &intake).await;
                drop(running);
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let quiet = intake.times.quiet;
    let io = TokioIo::new(stream);
    let ended = match protocol {
        Protocol::One => {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(intake.times.head)
                .max_buf_size(HEAD_BYTES_MAX);
            let served = pin!(builder.serve_connection(io, service));
            until_quiet(
                served,
                |served| served.graceful_shutdown(),
                quiet,
                &activity,
            )
            .await
        }
        Protocol::Two => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIME);
            let served = pin!(builder.serve_connection(io, service));
            until_quiet(
                served,
                |served| served.graceful_shutdown(),
                quiet,
                &activity,
            )
            .await
        }
    };
    if ended.is_err() {
        let mut tally = intake.tally();
        tally.connections.count("broken or not of HTTP", 1);
    }
}

/// Which protocol the first bytes are of; nothing when there are none.
async fn protocol(stream: &TcpStream) -> Option<Protocol> {
    // No method of HTTP/1.1 begins like the preface of HTTP/2.
    const PREFACE: &[u8] = b"PRI ";
    /// One byte alone came: the rest is under way.
    const PAUSE: Duration = Duration::from_millis(10);
    let mut first = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await.ok()?;
        let seen = first.get(..length).unwrap_or_default();
        if seen.is_empty() {
            return None;
        }
        if seen == PREFACE {
            return Some(Protocol::Two);
        }
        if !PREFACE.starts_with(seen) {
            return Some(Protocol::One);
        }
        sleep(PAUSE).await;
    }
}

/// Drives a connection until it ends or nothing happens on it.
async fn until_quiet<C: Future<Output = hyper::Result<()>>>(
    mut served: Pin<&mut C>,
    end: impl FnOnce(Pin<&mut C>),
    quiet: Duration,
    activity: &Activity,
) -> hyper::Result<()> {
    let mut begun_before = None;
    loop {
        tokio::select! {
            ended = served.as_mut() => return ended,
            () = sleep(quiet / 2) => {}
        }
        let begun = activity.begun.load(Ordering::Relaxed);
        let is_active = activity.running.load(Ordering::Relaxed) > 0;
        if !is_active && begun_before == Some(begun) {
            break;
        }
        begun_before = Some(begun);
    }
    end(served.as_mut());
    timeout(END_TIME, served).await.unwrap_or(Ok(()))
}

/// What happens on a connection.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicUsize,
    running: AtomicUsize,
}

/// A message that is being taken.
struct Running(Arc<Activity>);

impl Running {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        activity.running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
