//! Bounds what a client can hold: how many connections there are, and how long one may do nothing.
//!
//! It wraps the TCP stream below TLS, so that a client that stops in the middle of a handshake, a request or
//! an answer is let go like any other.

use std::future::{Ready, ready};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Connections at once. An agent needs one for a second every five minutes, so this serves a large fleet,
/// and each costs tens of kilobytes at rest.
pub(crate) const CONNECTIONS_MAX: usize = 4096;
/// A connection on which no byte moves for this long is closed. Longer than an agent's pause between two
/// submissions of one slot, shorter than a slot.
const IDLE_MAX: Duration = Duration::from_secs(75);

/// Lets in as many connections as there are permits and turns the others away.
#[derive(Clone, Debug)]
pub(crate) struct Bounded {
    permits: Arc<Semaphore>,
}

impl Bounded {
    /// A door for this many.
    pub(crate) fn new(connections_max: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(connections_max)),
        }
    }
}

impl<S> Accept<TcpStream, S> for Bounded {
    type Stream = Watched<TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let admitted = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| io::Error::new(ErrorKind::ConnectionRefused, "too many connections"))
            .and_then(|permit| {
                stream.set_nodelay(true)?;
                Ok((Watched::new(stream, permit, IDLE_MAX), service))
            });
        ready(admitted)
    }
}

/// A stream that ends with an error when nothing moves on it.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    idle_max: Duration,
    deadline: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl<S> Watched<S> {
    fn new(stream: S, permit: OwnedSemaphorePermit, idle_max: Duration) -> Self {
        Self {
            stream,
            idle_max,
            deadline: Box::pin(sleep(idle_max)),
            _permit: permit,
        }
    }

    /// Passes on what moved, and sets the deadline anew; passes the deadline on what did not.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.deadline.set(sleep(self.idle_max));
            return polled;
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch(cx, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not watched: a flush is ready even when nothing moved.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn one_more_than_the_bound_is_turned_away_until_another_ends() {
        let door = Bounded::new(1);
        let (_near, far) = connection().await;
        let (first, ()) = door.accept(far, ()).await.unwrap();
        let (_near, far) = connection().await;
        assert!(door.accept(far, ()).await.is_err());
        drop(first);
        let (_near, far) = connection().await;
        assert!(door.accept(far, ()).await.is_ok());
    }

    #[tokio::test]
    async fn silence_ends_a_connection_and_bytes_do_not() {
        let permits = Arc::new(Semaphore::new(1));
        let permit = permits.try_acquire_owned().unwrap();
        let (mut client, server) = tokio::io::duplex(16);
        let mut watched = Watched::new(server, permit, Duration::ZERO);
        client.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        watched.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        let ended = watched.read_exact(&mut heard).await.unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::TimedOut);
    }
}
