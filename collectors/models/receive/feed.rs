//! The feed of a receiver: what was pushed since the last tick.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::super::feed::{Feed, Out};
use super::{Dialect, Intake, Listen, Times, Token, body, connection};
use crate::host::Host;
use crate::{CollectError, web};

/// How long a refusal is called trouble: time for a person to see it, and for `status` to heal.
const TROUBLE_TIME: SignedDuration = SignedDuration::from_mins(15);

/// A listener and what came in over it.
#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    listen: Listen,
    host: Host,
    intake: Arc<Intake>,
    server: JoinHandle<()>,
    /// Refusals up to the last call, and when there was one last.
    refused: u64,
    refused_at: Option<Timestamp>,
    now: Option<Timestamp>,
    /// Why the token could not be read again.
    token_lost: Option<String>,
}

impl Receiver {
    /// Listens; what is sent is in the dialect.
    ///
    /// # Errors
    /// When the address is taken, or the token cannot be read.
    pub(crate) fn open(
        listen: &Listen,
        dialect: Arc<dyn Dialect>,
        host: &Host,
    ) -> Result<Self, CollectError> {
        Self::open_within(listen, dialect, host, Times::USUAL)
    }

    pub(super) fn open_within(
        listen: &Listen,
        dialect: Arc<dyn Dialect>,
        host: &Host,
        times: Times,
    ) -> Result<Self, CollectError> {
        let token = match &listen.token {
            Some(place) => Some(Token(Mutex::new(host.web.secret(place)?))),
            None if listen.address.ip().is_loopback() => None,
            None => {
                return Err(CollectError::Malformed {
                    what: format!("listen = \"{}\"", listen.address),
                    found: "everybody who reaches it could push: use 127.0.0.1, or set `token`"
                        .to_owned(),
                });
            }
        };
        let what = format!("http://{}", listen.address);
        let refuse = |source: std::io::Error| CollectError::Unreachable {
            what: format!("{what} to listen there (does another program use the address?)"),
            source,
        };
        let runtime =
            Handle::try_current().map_err(|error| refuse(std::io::Error::other(error)))?;
        let listener = TcpListener::bind(listen.address).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(refuse)?
        };
        let intake = Arc::new(Intake {
            dialect,
            queue: super::Queue::default(),
            tally: Mutex::default(),
            room: body::room(),
            token,
            times,
        });
        let server = runtime.spawn(connection::serve(listener, Arc::clone(&intake)));
        Ok(Self {
            address,
            listen: listen.clone(),
            host: host.clone(),
            intake,
            server,
            refused: 0,
            refused_at: None,
            now: None,
            token_lost: None,
        })
    }

    /// Where it listens.
    #[cfg(test)]
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests wait to be told.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.intake.queue.waiting()
    }

    /// A token that was replaced holds from the next tick on; one that is gone holds until it is back.
    fn renew_token(&mut self) {
        if let (Some(place), Some(token)) = (&self.listen.token, &self.intake.token) {
            self.token_lost = match self.host.web.secret(place) {
                Ok(now) => {
                    token.set(now);
                    None
                }
                Err(error) => Some(error.to_string()),
            };
        }
    }
}

#[async_trait]
impl Feed for Receiver {
    async fn take(&mut self, at: Timestamp, out: &mut dyn Out) -> Result<(), CollectError> {
        if self.server.is_finished() {
            let url = format!("http://{}", self.address);
            return Err(web::unreachable(&url, "the listener has ended".to_owned()));
        }
        self.renew_token();
        self.intake.queue.tell(out);
        let refused = self.intake.tally().refused.total();
        if refused > self.refused {
            self.refused_at = Some(at);
        }
        self.refused = refused;
        self.now = Some(at);
        Ok(())
    }

    fn stored(&mut self) {
        self.intake.queue.stored();
    }

    fn details(&self) -> Vec<String> {
        let tally = self.intake.tally().clone();
        let mut lines = vec![
            format!("listens on {}", self.address),
            format!(
                "received {} messages about {} requests",
                tally.messages, tally.requests
            ),
        ];
        let more = [
            ("left out", &tally.left),
            ("refused messages", &tally.refused),
            ("connections", &tally.connections),
        ];
        for (what, counts) in more {
            if counts.total() > 0 {
                lines.push(format!("{what}: {}", counts.words()));
            }
        }
        lines
    }

    fn trouble(&self) -> Option<String> {
        if let Some(why) = &self.token_lost {
            return Some(format!("the token cannot be read again: {why}"));
        }
        let since = self.now?.duration_since(self.refused_at?);
        (since < TROUBLE_TIME).then(|| {
            let words = self.intake.tally().refused.words();
            format!("messages were refused since the start: {words}")
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
        self.intake.queue.close();
    }
}
