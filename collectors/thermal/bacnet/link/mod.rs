//! A link: one UDP socket that all devices of one network are spoken to through.
//!
//! Owns: the socket, broadcasts, questions with their retries, registration with a broadcast device.
//! Promises: a question ends in bounded time; no more than a few are under way; a silent device holds up
//! nobody else. Refuses: knowing what is asked (`wire`) and what the answers mean (`session`).

mod exchange;
mod networks;
mod registration;
mod shared;
mod sockets;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bacnet_rs::app::{Apdu, MaxApduSize, MaxSegments};
use bacnet_rs::service::UnconfirmedServiceChoice;
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, broadcast::error::RecvError, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::wire::{
    Peer, Reach, Refusal, Service, abort_words, broadcast, refusal_words, reject_words, unicast,
    who_is,
};
use exchange::{Event, Exchange};

pub(crate) use exchange::{Announced, Changes, Counts, Reply};
pub use registration::{Bbmd, Registration};
pub use shared::Links;

/// The port that BACnet/IP is at home on.
pub const PORT: u16 = 47808;

/// Longer than any datagram of BACnet/IP: devices were seen to send a few bytes more than they may.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// Questions under way on one link. Each device has one at a time, so that this many devices answer at once.
const QUESTIONS_MAX: usize = 64;

/// Searches under way on one link: each is a broadcast that every device must look at.
const SEARCHES_MAX: usize = 16;

/// Devices that one search finds; more are not looked at.
const FOUND_MAX: usize = 4096;

/// How long others may claim to be a device that was just found.
const RIVALS_WITHIN: Duration = Duration::from_millis(300);

/// A reply in segments may take this much longer than a plain one.
const SEGMENTS_WITHIN: Duration = Duration::from_secs(30);

/// Time for the first registration before a search goes ahead without it.
const REGISTERED_WITHIN: Duration = Duration::from_secs(4);

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The address of this machine to speak from; unspecified is every one.
    pub interface: Ipv4Addr,
    /// How many bits of it are the network's; read from the routes where it is not said.
    pub prefix: Option<u8>,
    /// The port of the network: where devices listen and broadcasts go to.
    pub port: u16,
    /// Our own port; zero is any free one.
    pub local_port: u16,
    /// Where we register, if devices are on another network.
    pub bbmd: Option<Bbmd>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            interface: Ipv4Addr::UNSPECIFIED,
            prefix: None,
            port: PORT,
            local_port: 0,
            bbmd: None,
        }
    }
}

/// How long a device may take, and how often it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For one attempt.
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u8,
}

/// Why a link cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket cannot be opened.
    #[error(
        "cannot open UDP {0}: check that this machine has the address, and that no program that does not \
         share has the port"
    )]
    Open(SocketAddrV4, #[source] io::Error),
    /// There is nowhere to broadcast to.
    #[error(
        "no network of this machine holds {0}: write the interface with its prefix, such as \"{0}/24\""
    )]
    NoNetwork(Ipv4Addr),
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nothing came.
    #[error("no answer from {peer} within {within:?}, asked {attempts} times")]
    Silent {
        /// Who was asked.
        peer: Peer,
        /// For how long each time.
        within: Duration,
        /// How often.
        attempts: u32,
    },
    /// A reply in segments stopped half way.
    #[error("{0} stopped in the middle of a long reply")]
    Broken(Peer),
    /// The device says no.
    #[error("{}", refusal_words(*.0))]
    Refused(Refusal),
    /// The device does not understand.
    #[error("{}", reject_words(*.0))]
    Rejected(u8),
    /// The device gave up.
    #[error("{}", abort_words(*.0))]
    Aborted(u8),
    /// The reply has no end.
    #[error("the reply is longer than 256 KiB")]
    TooLong,
    /// A router says that it does not get there.
    #[error("the router does not reach network {network} (reason {reason})")]
    NoRoute {
        /// The network's number.
        network: u16,
        /// The reason's number in the standard.
        reason: u8,
    },
    /// This machine could not send.
    #[error("cannot send to {0}: {1}")]
    Send(Peer, String),
    /// The question could not be asked.
    #[error("the question cannot be asked: {0}")]
    Unasked(String),
}

impl AskError {
    /// Whether the device said so itself, so that it is there.
    pub(crate) const fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::Rejected(_) | Self::Aborted(_)
        )
    }
}

/// One socket, and what goes on through it.
#[derive(Debug)]
pub(crate) struct Link {
    place: Place,
    socket: Arc<UdpSocket>,
    broadcasts: Vec<SocketAddrV4>,
    deaf: Vec<String>,
    exchange: Arc<Exchange>,
    registration: watch::Receiver<Registration>,
    questions: Semaphore,
    searches: Semaphore,
    tasks: Vec<AbortHandle>,
}

impl Link {
    /// Opens the sockets and begins to listen. `routes` is the text of `/proc/net/route`; `first_process` is
    /// any number.
    pub(crate) fn open(place: Place, routes: &str, first_process: u32) -> Result<Self, LinkError> {
        let own = SocketAddrV4::new(place.interface, place.local_port);
        let socket = sockets::speaking(own).map_err(|error| LinkError::Open(own, error))?;
        let socket = Arc::new(socket);
        let exchange = Arc::new(Exchange::new(first_process));
        let mut tasks = vec![listen(Arc::clone(&socket), Arc::clone(&socket), &exchange)];
        let broadcasts: Vec<SocketAddrV4> =
            networks::broadcasts(place.interface, place.prefix, routes)
                .into_iter()
                .map(|address| SocketAddrV4::new(address, place.port))
                .collect();
        let hears_all = place.interface.is_unspecified() && place.local_port == place.port;
        let mut deaf = Vec::new();
        for address in broadcasts.iter().filter(|_| !hears_all) {
            match sockets::hearing(*address) {
                Ok(ear) => tasks.push(listen(Arc::new(ear), Arc::clone(&socket), &exchange)),
                Err(error) => deaf.push(format!("cannot hear broadcasts to {address}: {error}")),
            }
        }
        let (state, registration) = watch::channel(Registration::default());
        if let Some(bbmd) = place.bbmd {
            let kept = registration::keep(bbmd, Arc::clone(&socket), Arc::clone(&exchange), state);
            tasks.push(tokio::spawn(kept).abort_handle());
        }
        Ok(Self {
            place,
            socket,
            broadcasts,
            deaf,
            exchange,
            registration,
            questions: Semaphore::new(QUESTIONS_MAX),
            searches: Semaphore::new(SEARCHES_MAX),
            tasks,
        })
    }

    /// Where it is.
    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// What a person should know about the link itself.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = self.deaf.clone();
        if let Some(bbmd) = self.place.bbmd {
            let state = *self.registration.borrow();
            notes.push(format!("broadcast device {} {state}", bbmd.address));
        }
        let Counts {
            unread,
            late,
            dropped,
        } = self.exchange.counts();
        if unread + late + dropped > 0 {
            notes.push(format!(
                "{unread} datagrams that make no sense, {late} late answers, {dropped} changes dropped"
            ));
        }
        notes
    }

    /// How the registration stands, where there is one.
    #[cfg(test)]
    pub(crate) fn registration(&self) -> Option<Registration> {
        self.place.bbmd?;
        Some(*self.registration.borrow())
    }

    /// Someone who will subscribe to changes; nobody once there are too many.
    pub(crate) fn subscriber(&self) -> Option<Changes> {
        self.exchange.subscriber()
    }

    /// Asks a device and waits for its answer.
    pub(crate) async fn ask(
        &self,
        peer: &Peer,
        service: Service,
        content: Vec<u8>,
        patience: Patience,
    ) -> Result<Reply, AskError> {
        let unasked = |why: &str| AskError::Unasked(why.to_owned());
        let permit = self.questions.acquire().await;
        let _permit = permit.map_err(|_| unasked("the link is closed"))?;
        let question = self.exchange.begin(peer, service.choice());
        let mut question = question.ok_or_else(|| unasked("the device owes 256 answers"))?;
        let request = Apdu::ConfirmedRequest {
            segmented: false,
            more_follows: false,
            segmented_response_accepted: true,
            max_segments: MaxSegments::GreaterThan64,
            max_response_size: MaxApduSize::Up1476,
            invoke_id: question.id(),
            sequence_number: None,
            proposed_window_size: None,
            service_choice: service.choice(),
            service_data: content,
        };
        let datagram = unicast(peer, true, &request);
        let attempts = u32::from(patience.retries) + 1;
        let asking = async {
            for _ in 0..attempts {
                let sent = self.socket.send_to(&datagram, peer.address).await;
                sent.map_err(|error| AskError::Send(peer.clone(), error.to_string()))?;
                let mut has_begun = false;
                loop {
                    match timeout(patience.timeout, question.events.recv()).await {
                        Ok(Some(Event::Segment)) => has_begun = true,
                        Ok(Some(Event::Over(outcome))) => return outcome,
                        Ok(None) => return Err(AskError::Broken(peer.clone())),
                        // A device that has begun is not asked again: it would begin anew.
                        Err(_) if has_begun => return Err(AskError::Broken(peer.clone())),
                        Err(_) => break,
                    }
                }
            }
            Err(AskError::Silent {
                peer: peer.clone(),
                within: patience.timeout,
                attempts,
            })
        };
        let longest = patience.timeout * attempts + SEGMENTS_WITHIN;
        timeout(longest, asking)
            .await
            .unwrap_or_else(|_| Err(AskError::Broken(peer.clone())))
    }

    /// Looks for devices for this long, or until the one device was found that is looked for. Each is there
    /// once for each place that it was found at.
    pub(crate) async fn search(
        &self,
        among: Option<(u32, u32)>,
        at: Option<&Peer>,
        within: Duration,
    ) -> Result<Vec<Announced>, AskError> {
        let unasked = |why: String| AskError::Unasked(why);
        let permit = self.searches.acquire().await;
        let _permit = permit.map_err(|_| unasked("the link is closed".to_owned()))?;
        let service_data = who_is(among).map_err(|error| unasked(error.to_string()))?;
        let apdu = Apdu::UnconfirmedRequest {
            service_choice: UnconfirmedServiceChoice::WhoIs,
            service_data,
        };
        let mut announcements = self.exchange.announcements();
        let mut found: Vec<Announced> = Vec::new();
        let is_wanted = |one: &Announced| {
            among.is_none_or(|(low, high)| (low..=high).contains(&one.says.device))
                && at.is_none_or(|peer| *peer == one.peer)
        };
        let is_single = among.is_some_and(|(low, high)| low == high);
        // Broadcasts get lost: a second one half way finds who did not hear the first.
        for _ in 0..2 {
            self.shout(&apdu, at).await?;
            let listening = async {
                loop {
                    match announcements.recv().await {
                        Ok(one) if is_wanted(&one) && !found.contains(&one) => {
                            if found.len() < FOUND_MAX {
                                found.push(one);
                            }
                            if is_single {
                                return;
                            }
                        }
                        Ok(_) | Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return,
                    }
                }
            };
            drop(timeout(within / 2, listening).await);
            if is_single && !found.is_empty() {
                break;
            }
        }
        if is_single && !found.is_empty() && at.is_none() {
            sleep(RIVALS_WITHIN).await;
            while let Ok(one) = announcements.try_recv() {
                if is_wanted(&one) && !found.contains(&one) && found.len() < FOUND_MAX {
                    found.push(one);
                }
            }
        }
        Ok(found)
    }

    /// Sends to one device, or to all that can be reached.
    async fn shout(&self, apdu: &Apdu, at: Option<&Peer>) -> Result<(), AskError> {
        let failed = |to, error: io::Error| AskError::Send(Peer::at(to), error.to_string());
        if let Some(peer) = at {
            let datagram = unicast(peer, false, apdu);
            let sent = self.socket.send_to(&datagram, peer.address).await;
            return sent.map(drop).map_err(|error| failed(peer.address, error));
        }
        let mut last = None;
        let mut is_sent = false;
        for to in &self.broadcasts {
            match self
                .socket
                .send_to(&broadcast(Reach::Local, apdu), to)
                .await
            {
                Ok(_) => is_sent = true,
                Err(error) => last = Some(failed(*to, error)),
            }
        }
        if let Some(bbmd) = self.place.bbmd {
            let mut state = self.registration.clone();
            let is_over = |state: &Registration| *state != Registration::Asked;
            drop(timeout(REGISTERED_WITHIN, state.wait_for(is_over)).await);
            let datagram = broadcast(Reach::Distributed, apdu);
            match self.socket.send_to(&datagram, bbmd.address).await {
                Ok(_) => is_sent = true,
                Err(error) => last = Some(failed(bbmd.address, error)),
            }
        }
        match last {
            Some(error) if !is_sent => Err(error),
            None if !is_sent => {
                let no_network = LinkError::NoNetwork(self.place.interface);
                Err(AskError::Unasked(no_network.to_string()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Takes in what a socket hears, until the link is dropped; answers go out by the link's own socket.
fn listen(ear: Arc<UdpSocket>, mouth: Arc<UdpSocket>, exchange: &Arc<Exchange>) -> AbortHandle {
    let exchange = Arc::clone(exchange);
    let listening = async move {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            match ear.recv_from(&mut datagram).await {
                Ok((length, SocketAddr::V4(from))) => {
                    let bytes = datagram.get(..length).unwrap_or_default();
                    if let Some((to, answer)) = exchange.heard(bytes, from) {
                        // What does not get out is sent again when the device repeats itself.
                        drop(mouth.try_send_to(&answer, to.into()));
                    }
                }
                Ok(_) => {}
                // A network that went away comes back; until then this must not spin.
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    };
    tokio::spawn(listening).abort_handle()
}
