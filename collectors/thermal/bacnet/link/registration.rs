//! Registration as a foreign device: a broadcast device on another network passes broadcasts on to us and
//! ours to its network, for as long as we ask for.

use std::fmt;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::exchange::Exchange;
use crate::thermal::bacnet::wire::register;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Pauses after a failure: short at first, then as long as a person takes to notice.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);

/// Where we are registered, and for how long each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bbmd {
    /// Its address.
    pub address: SocketAddrV4,
    /// For how many seconds; it is renewed at half of them.
    pub lifetime_s: u16,
}

/// How a registration stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// Nobody has answered yet.
    #[default]
    Asked,
    /// Broadcasts come and go.
    Registered,
    /// It refuses, with this code.
    Refused(u16),
    /// It does not answer.
    Silent,
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("not registered yet"),
            Self::Registered => f.write_str("registered"),
            Self::Refused(0x30) => f.write_str(
                "refuses the registration (code 0x0030): it is no broadcast device, or its table is full",
            ),
            Self::Refused(0x60) => f.write_str(
                "does not pass broadcasts on (code 0x0060): it has forgotten the registration",
            ),
            Self::Refused(code) => write!(f, "refuses with code {code:#06x}"),
            Self::Silent => f.write_str(
                "does not answer: check its address, and that UDP gets there and back",
            ),
        }
    }
}

/// Registers, renews, and begins again after a failure, until it is dropped.
pub(super) async fn keep(
    bbmd: Bbmd,
    socket: Arc<UdpSocket>,
    exchange: Arc<Exchange>,
    state: watch::Sender<Registration>,
) {
    let mut results = exchange.results();
    let mut pause = PAUSE_FIRST;
    loop {
        results.mark_unchanged();
        let sent = socket
            .send_to(&register(bbmd.lifetime_s), bbmd.address)
            .await;
        let now = match timeout(ANSWER_WITHIN, answer(bbmd, &mut results)).await {
            _ if sent.is_err() => Registration::Silent,
            Ok(Some(0)) => Registration::Registered,
            Ok(Some(code)) => Registration::Refused(code),
            Ok(None) | Err(_) => Registration::Silent,
        };
        state.send_replace(now);
        if now == Registration::Registered {
            pause = PAUSE_FIRST;
            let half = Duration::from_secs(u64::from(bbmd.lifetime_s) / 2);
            // It says so when it has forgotten us in between.
            let forgotten = async {
                while let Some(code) = answer(bbmd, &mut results).await {
                    if code != 0 {
                        break;
                    }
                }
            };
            drop(timeout(half, forgotten).await);
        } else {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }
}

/// The next result that this broadcast device sends.
async fn answer(
    bbmd: Bbmd,
    results: &mut watch::Receiver<Option<(SocketAddrV4, u16, u64)>>,
) -> Option<u16> {
    loop {
        results.changed().await.ok()?;
        if let Some((from, code, _)) = *results.borrow_and_update()
            && from == bbmd.address
        {
            return Some(code);
        }
    }
}
