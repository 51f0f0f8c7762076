//! One connection: a question, and the reply to it or the reason why there is none.
//!
//! Promises: every wait ends; a reply is taken only if its unit, function and length are those of the question. Refuses:
//! deciding what happens after a failure. Only the four functions that read exist here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{sleep, timeout};
use tokio_modbus::client::{self, Client};
use tokio_modbus::slave::{Slave, SlaveContext};
use tokio_modbus::{Error, ProtocolError, Request, Response};
use tokio_serial::{SerialPort, SerialStream};

use crate::web::{Dial, Stream, Tls, Web};

use super::endpoint::{Endpoint, Parity, Serial};
use super::fault::Fault;
use super::register::{Kind, Span};

/// A line is silent when nothing came for so long; at 1,200 baud it is five characters, and gateways need no less.
const SILENCE: Duration = Duration::from_millis(50);

/// A line that is never silent is given up. The longest frame takes a fifth of it at 1,200 baud.
const NEVER_SILENT: Duration = Duration::from_secs(10);

/// Bits of a character on a serial line, with start, parity and stop.
const BITS_PER_CHARACTER: u32 = 11;

/// Characters between two frames, by the protocol three and a half.
const CHARACTERS_BETWEEN: u32 = 4;

/// A connection on which a question can be asked.
pub(crate) struct Link {
    client: client::Context,
    seen: Arc<Seen>,
    /// What the line needs before each question.
    between: Duration,
    answered: u32,
}

/// What passed through a connection since the last question.
#[derive(Debug, Default)]
struct Seen {
    bytes: AtomicUsize,
    is_closed: AtomicBool,
}

/// A stream that is watched.
struct Watched<S> {
    stream: S,
    seen: Arc<Seen>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Connects, and waits until the line is silent where replies are told apart by their order only.
    pub(crate) async fn open(
        endpoint: &Endpoint,
        tls: Option<&Tls>,
        web: &dyn Web,
        within: Duration,
    ) -> Result<Self, Fault> {
        let dial = |host: &str, port| Dial {
            host: host.to_owned(),
            port,
            tls: endpoint.is_tls().then(|| tls.cloned().unwrap_or_default()),
            within,
        };
        match endpoint {
            Endpoint::Tcp { host, port, .. } => {
                let stream = web
                    .dial(&dial(host, *port))
                    .await
                    .map_err(Fault::Unreachable)?;
                Ok(Self::tcp(stream))
            }
            Endpoint::RtuOverTcp { host, port } => {
                let stream = web
                    .dial(&dial(host, *port))
                    .await
                    .map_err(Fault::Unreachable)?;
                Self::rtu(stream, Duration::ZERO).await
            }
            Endpoint::Serial(serial) => Self::rtu(port(serial)?, serial.between()).await,
        }
    }

    /// Modbus/TCP over a stream.
    pub(crate) fn tcp(stream: impl Stream + 'static) -> Self {
        let (watched, seen) = Watched::new(stream);
        Self {
            client: client::tcp::attach(watched),
            seen,
            between: Duration::ZERO,
            answered: 0,
        }
    }

    /// RTU over a stream, once it is silent.
    pub(crate) async fn rtu(
        mut stream: impl Stream + 'static,
        between: Duration,
    ) -> Result<Self, Fault> {
        timeout(NEVER_SILENT, drain(&mut stream))
            .await
            .map_err(|_| Fault::Noisy)?;
        let (watched, seen) = Watched::new(stream);
        Ok(Self {
            client: client::rtu::attach(watched),
            seen,
            between,
            answered: 0,
        })
    }

    /// How many questions it has answered.
    pub(crate) const fn answered(&self) -> u32 {
        self.answered
    }

    /// Asks a unit for registers; bits are 0 and 1. After any fault but an exception the connection is out of step and
    /// must not be used again.
    pub(crate) async fn ask(
        &mut self,
        unit: u8,
        span: Span,
        within: Duration,
    ) -> Result<Vec<u16>, Fault> {
        if self.answered > 0 {
            sleep(self.between).await;
        }
        self.seen.bytes.store(0, Ordering::Relaxed);
        self.client.set_slave(Slave(unit));
        let (first, count) = (span.first(), span.count());
        let request = match span.kind() {
            Kind::Coil => Request::ReadCoils(first, count),
            Kind::Discrete => Request::ReadDiscreteInputs(first, count),
            Kind::Holding => Request::ReadHoldingRegisters(first, count),
            Kind::Input => Request::ReadInputRegisters(first, count),
        };
        let Ok(reply) = timeout(within, self.client.call(request)).await else {
            return Err(match self.seen.bytes.load(Ordering::Relaxed) {
                0 => Fault::Silent { unit, within },
                bytes => Fault::Garbled { unit, bytes },
            });
        };
        let response = match reply {
            Ok(Ok(response)) => response,
            Ok(Err(code)) => {
                self.answered = self.answered.saturating_add(1);
                let code = code.into();
                return Err(Fault::Exception { code, unit, span });
            }
            Err(error) => return Err(self.fault(unit, error)),
        };
        let registers = match response {
            Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => {
                whole_bits(bits, unit, count)?
            }
            Response::ReadHoldingRegisters(registers) | Response::ReadInputRegisters(registers) => {
                registers
            }
            _ => {
                let found = "it has another function".to_owned();
                return Err(Fault::Foreign { found });
            }
        };
        if registers.len() != usize::from(count) {
            return Err(Fault::Short {
                unit,
                asked: count,
                got: registers.len(),
            });
        }
        self.answered = self.answered.saturating_add(1);
        Ok(registers)
    }

    fn fault(&self, unit: u8, error: Error) -> Fault {
        match error {
            Error::Protocol(ProtocolError::HeaderMismatch { message, .. }) => {
                Fault::Foreign { found: message }
            }
            Error::Protocol(ProtocolError::FunctionCodeMismatch { request, .. }) => {
                Fault::Foreign {
                    found: format!("we asked function {}", request.value()),
                }
            }
            // The crate tells the end of a stream by whatever error the system had last.
            Error::Transport(_) if self.seen.is_closed.load(Ordering::Relaxed) => {
                Fault::Closed { unit }
            }
            Error::Transport(error) if error.kind() == io::ErrorKind::InvalidData => {
                Fault::Garbled {
                    unit,
                    bytes: self.seen.bytes.load(Ordering::Relaxed),
                }
            }
            Error::Transport(_) => Fault::Closed { unit },
        }
    }
}

/// Bits come in bytes: as many as were asked for, the last byte filled up.
fn whole_bits(mut bits: Vec<bool>, unit: u8, count: u16) -> Result<Vec<u16>, Fault> {
    let wanted = usize::from(count);
    if bits.len() != wanted.next_multiple_of(8) {
        return Err(Fault::Short {
            unit,
            asked: count,
            got: bits.len(),
        });
    }
    bits.truncate(wanted);
    Ok(bits.into_iter().map(u16::from).collect())
}

/// Takes what is still under way, until nothing comes any more.
async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = [0; 256];
    while let Ok(Ok(1..)) = timeout(SILENCE, stream.read(&mut rest)).await {}
}

fn port(serial: &Serial) -> Result<SerialStream, Fault> {
    let refuse = |source: tokio_serial::Error| Fault::Port {
        hint: match source.kind() {
            tokio_serial::ErrorKind::Io(io::ErrorKind::PermissionDenied) => {
                "add the agent's user to the group of the device file, often `dialout`"
            }
            tokio_serial::ErrorKind::NoDevice
            | tokio_serial::ErrorKind::Io(io::ErrorKind::NotFound) => {
                "is the adapter plugged in, and does no other program use it? A name below /dev/serial/by-id stays"
            }
            _ => "check its settings",
        },
        source,
    };
    let settings = tokio_serial::new(serial.path.to_string_lossy(), serial.baud)
        .data_bits(match serial.data_bits {
            7 => tokio_serial::DataBits::Seven,
            _ => tokio_serial::DataBits::Eight,
        })
        .stop_bits(match serial.stop_bits {
            2 => tokio_serial::StopBits::Two,
            _ => tokio_serial::StopBits::One,
        })
        .parity(match serial.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        });
    let port = SerialStream::open(&settings).map_err(refuse)?;
    port.clear(tokio_serial::ClearBuffer::Input)
        .map_err(refuse)?;
    Ok(port)
}

impl Serial {
    /// The silence that tells two frames apart.
    fn between(&self) -> Duration {
        Duration::from_secs(1) * BITS_PER_CHARACTER * CHARACTERS_BETWEEN / self.baud.max(1)
    }
}

impl<S> Watched<S> {
    fn new(stream: S) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let watched = Self {
            stream,
            seen: Arc::clone(&seen),
        };
        (watched, seen)
    }
}

impl<S> std::fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Poll::Ready(read) = &polled {
            let bytes = buf.filled().len() - before;
            this.seen.bytes.fetch_add(bytes, Ordering::Relaxed);
            if read.is_err() || bytes == 0 {
                this.seen.is_closed.store(true, Ordering::Relaxed);
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
