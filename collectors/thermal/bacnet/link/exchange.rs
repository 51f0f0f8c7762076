//! What is under way on a link: questions that wait for answers, and who wants to hear of changes.
//!
//! Owns: invoke ids, segments that come in, and what each datagram leads to. Promises: an answer reaches
//! the question that it belongs to, by device, invoke id and service, or nobody; nothing that comes in
//! makes anything here grow. Refuses: sockets and time.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bacnet_rs::app::Apdu;
use bacnet_rs::service::{
    AbortReason, ConfirmedServiceChoice, RejectReason, UnconfirmedServiceChoice,
};
use tokio::sync::{broadcast, mpsc, watch};

use super::AskError;
use crate::thermal::bacnet::wire::{
    Announcement, Assembly, Frame, Notification, Peer, Refusal, Step, announcement, hear,
    notification, unicast,
};

/// Devices that announce themselves at once; more are counted as lost and asked for again.
const ANNOUNCEMENTS_MAX: usize = 1024;

/// Changes of one device that wait to be taken in; the newest of each object is what counts.
const NOTIFICATIONS_MAX: usize = 512;

/// Sessions that can subscribe on one link; far more than a link has devices.
const SUBSCRIBERS_MAX: usize = 4096;

/// Errors of class services: we know of no such subscription.
const UNKNOWN_SUBSCRIPTION: Refusal = Refusal { class: 5, code: 79 };

/// A device that announced itself, and where it did so from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) peer: Peer,
    pub(crate) says: Announcement,
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It was done.
    Done,
    /// What was asked for.
    Content(Vec<u8>),
}

/// What happens to a question.
#[derive(Debug)]
pub(super) enum Event {
    /// A part of the answer has come.
    Segment,
    /// It is over.
    Over(Result<Reply, AskError>),
}

/// What a link counts about what it hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Datagrams that are no BACnet, or none that concerns us.
    pub(crate) unread: u64,
    /// Answers that nobody waits for any more.
    pub(crate) late: u64,
    /// Changes that nobody had room for.
    pub(crate) dropped: u64,
}

/// Everything that is under way on one link.
#[derive(Debug)]
pub(super) struct Exchange {
    table: Mutex<Table>,
    announcements: broadcast::Sender<Announced>,
    results: watch::Sender<Option<(SocketAddrV4, u16, u64)>>,
}

#[derive(Debug, Default)]
struct Table {
    pending: HashMap<(Peer, u8), Pending>,
    next_id: u8,
    subscribers: HashMap<u32, mpsc::Sender<(Peer, Notification)>>,
    next_process: u32,
    counts: Counts,
}

#[derive(Debug)]
struct Pending {
    service: ConfirmedServiceChoice,
    events: mpsc::Sender<Event>,
    assembly: Option<Assembly>,
}

/// A question under way; it is forgotten when this is dropped.
#[derive(Debug)]
pub(super) struct Question {
    exchange: Arc<Exchange>,
    key: (Peer, u8),
    pub(super) events: mpsc::Receiver<Event>,
}

/// The changes of one subscriber; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Changes {
    exchange: Arc<Exchange>,
    process: u32,
    notifications: mpsc::Receiver<(Peer, Notification)>,
}

impl Exchange {
    /// Nothing is under way yet. Numbers of subscribers begin somewhere, so that a restarted agent is not
    /// taken for the one before it.
    pub(super) fn new(first_process: u32) -> Self {
        let table = Table {
            next_process: first_process,
            ..Table::default()
        };
        Self {
            table: Mutex::new(table),
            announcements: broadcast::Sender::new(ANNOUNCEMENTS_MAX),
            results: watch::Sender::new(None),
        }
    }

    /// Begins a question: gives it an invoke id that the device has not under way.
    pub(super) fn begin(
        self: &Arc<Self>,
        peer: &Peer,
        service: ConfirmedServiceChoice,
    ) -> Option<Question> {
        // One place for parts, and one that only the end takes.
        let (sender, events) = mpsc::channel(2);
        let mut table = self.table();
        let first = table.next_id;
        let free = (0..=u8::MAX).map(|ahead| first.wrapping_add(ahead));
        let id = { free }.find(|id| !table.pending.contains_key(&(peer.clone(), *id)))?;
        table.next_id = id.wrapping_add(1);
        let key = (peer.clone(), id);
        let pending = Pending {
            service,
            events: sender,
            assembly: None,
        };
        table.pending.insert(key.clone(), pending);
        drop(table);
        Some(Question {
            exchange: Arc::clone(self),
            key,
            events,
        })
    }

    /// Someone who will subscribe to changes.
    pub(super) fn subscriber(self: &Arc<Self>) -> Option<Changes> {
        let (sender, notifications) = mpsc::channel(NOTIFICATIONS_MAX);
        let mut table = self.table();
        if table.subscribers.len() >= SUBSCRIBERS_MAX {
            return None;
        }
        // Zero is what some devices take for none.
        while table.next_process == 0 || table.subscribers.contains_key(&table.next_process) {
            table.next_process = table.next_process.wrapping_add(1);
        }
        let process = table.next_process;
        table.next_process = process.wrapping_add(1);
        table.subscribers.insert(process, sender);
        drop(table);
        Some(Changes {
            exchange: Arc::clone(self),
            process,
            notifications,
        })
    }

    pub(super) fn announcements(&self) -> broadcast::Receiver<Announced> {
        self.announcements.subscribe()
    }

    /// What broadcast devices answered last: who, which code, and the how many-eth it is.
    pub(super) fn results(&self) -> watch::Receiver<Option<(SocketAddrV4, u16, u64)>> {
        self.results.subscribe()
    }

    pub(super) fn counts(&self) -> Counts {
        self.table().counts
    }

    /// Takes in a datagram; gives back what must be answered at once.
    pub(super) fn heard(
        &self,
        bytes: &[u8],
        from: SocketAddrV4,
    ) -> Option<(SocketAddrV4, Vec<u8>)> {
        let Ok(heard) = hear(bytes, from) else {
            self.table().counts.unread += 1;
            return None;
        };
        let peer = heard.from;
        let answer = match heard.frame {
            Frame::Result(code) => {
                self.results.send_modify(|last| {
                    let count = last.map_or(0, |(.., count)| count);
                    *last = Some((from, code, count.wrapping_add(1)));
                });
                None
            }
            Frame::Unreachable { network, reason } => {
                self.unreachable(from, network, reason);
                None
            }
            Frame::Routing => None,
            Frame::Apdu(apdu) => self.message(&peer, apdu),
        };
        answer.map(|apdu| (peer.address, unicast(&peer, false, &apdu)))
    }

    fn message(&self, peer: &Peer, apdu: Apdu) -> Option<Apdu> {
        match apdu {
            Apdu::UnconfirmedRequest {
                service_choice,
                service_data,
            } => {
                self.unconfirmed(peer, service_choice, &service_data);
                None
            }
            Apdu::ConfirmedRequest {
                segmented,
                invoke_id,
                service_choice,
                service_data,
                ..
            } => Some(self.confirmed(peer, segmented, invoke_id, service_choice, &service_data)),
            answer => self.answer(peer, answer),
        }
    }

    fn unconfirmed(&self, peer: &Peer, service: UnconfirmedServiceChoice, bytes: &[u8]) {
        match service {
            UnconfirmedServiceChoice::IAm => {
                if let Ok(says) = announcement(bytes) {
                    let peer = peer.clone();
                    // Nobody listens unless somebody is being looked for.
                    drop(self.announcements.send(Announced { peer, says }));
                }
            }
            UnconfirmedServiceChoice::UnconfirmedCOVNotification => {
                self.changed(peer, bytes);
            }
            _ => {}
        }
    }

    /// Devices ask us nothing, but they want to know that we heard of a change.
    fn confirmed(
        &self,
        peer: &Peer,
        is_segmented: bool,
        invoke_id: u8,
        service: ConfirmedServiceChoice,
        bytes: &[u8],
    ) -> Apdu {
        if is_segmented {
            return Apdu::Abort {
                server: true,
                invoke_id,
                abort_reason: AbortReason::SegmentationNotSupported,
            };
        }
        if service != ConfirmedServiceChoice::ConfirmedCOVNotification {
            return Apdu::Reject {
                invoke_id,
                reject_reason: RejectReason::UnrecognizedService,
            };
        }
        if self.changed(peer, bytes) {
            return Apdu::SimpleAck {
                invoke_id,
                service_choice: service as u8,
            };
        }
        let Refusal { class, code } = UNKNOWN_SUBSCRIPTION;
        Apdu::Error {
            invoke_id,
            service_choice: service,
            error_class: u8::try_from(class).unwrap_or(u8::MAX),
            error_code: u8::try_from(code).unwrap_or(u8::MAX),
        }
    }

    /// Whether a notification of a change is one that somebody asked for.
    fn changed(&self, peer: &Peer, bytes: &[u8]) -> bool {
        let mut table = self.table();
        let Ok(notification) = notification(bytes) else {
            table.counts.unread += 1;
            return false;
        };
        let Some(subscriber) = table.subscribers.get(&notification.process) else {
            return false;
        };
        if subscriber.try_send((peer.clone(), notification)).is_err() {
            table.counts.dropped += 1;
        }
        true
    }

    fn answer(&self, peer: &Peer, apdu: Apdu) -> Option<Apdu> {
        let (Apdu::SimpleAck { invoke_id, .. }
        | Apdu::ComplexAck { invoke_id, .. }
        | Apdu::Error { invoke_id, .. }
        | Apdu::Reject { invoke_id, .. }
        | Apdu::Abort { invoke_id, .. }) = apdu
        else {
            return None;
        };
        let key = (peer.clone(), invoke_id);
        let mut table = self.table();
        let Some(pending) = table.pending.get_mut(&key) else {
            table.counts.late += 1;
            return None;
        };
        let (outcome, answer) = pending.take(invoke_id, apdu);
        if let Some(outcome) = outcome
            && let Some(pending) = table.pending.remove(&key)
        {
            // The place for the end is free, because only one end is ever sent.
            drop(pending.events.try_send(Event::Over(outcome)));
        }
        answer
    }

    fn unreachable(&self, router: SocketAddrV4, network: u16, reason: u8) {
        let mut table = self.table();
        let lost = table.pending.extract_if(|(peer, _), _| {
            let beyond = peer.remote.as_ref().map(|remote| remote.network);
            peer.address == router && beyond == Some(network)
        });
        for (_, pending) in lost {
            let error = AskError::NoRoute { network, reason };
            drop(pending.events.try_send(Event::Over(Err(error))));
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// What an answer means: how the question ends, if it does, and what the device must be told.
    fn take(
        &mut self,
        invoke_id: u8,
        apdu: Apdu,
    ) -> (Option<Result<Reply, AskError>>, Option<Apdu>) {
        match apdu {
            Apdu::SimpleAck { service_choice, .. } if service_choice == self.service as u8 => {
                (Some(Ok(Reply::Done)), None)
            }
            Apdu::ComplexAck {
                segmented: false,
                service_choice,
                service_data,
                ..
            } if service_choice == self.service => (Some(Ok(Reply::Content(service_data))), None),
            Apdu::ComplexAck {
                segmented: true,
                more_follows,
                sequence_number: Some(sequence),
                proposed_window_size: Some(window),
                service_choice,
                service_data,
                ..
            } if service_choice == self.service => {
                self.segment(invoke_id, sequence, window, more_follows, &service_data)
            }
            Apdu::Error {
                service_choice,
                error_class,
                error_code,
                ..
            } if service_choice == self.service => {
                let refusal = Refusal {
                    class: error_class.into(),
                    code: error_code.into(),
                };
                (Some(Err(AskError::Refused(refusal))), None)
            }
            Apdu::Reject { reject_reason, .. } => {
                (Some(Err(AskError::Rejected(reject_reason.into()))), None)
            }
            Apdu::Abort { abort_reason, .. } => {
                (Some(Err(AskError::Aborted(abort_reason.into()))), None)
            }
            _ => (None, None),
        }
    }

    fn segment(
        &mut self,
        invoke_id: u8,
        sequence: u8,
        window: u8,
        more_follows: bool,
        bytes: &[u8],
    ) -> (Option<Result<Reply, AskError>>, Option<Apdu>) {
        let assembly = self.assembly.get_or_insert_default();
        let step = assembly.take(sequence, window, more_follows, bytes);
        if self.events.capacity() > 1 {
            drop(self.events.try_send(Event::Segment));
        }
        let told = |negative, sequence_number, window_size| Apdu::SegmentAck {
            negative,
            server: false,
            invoke_id,
            sequence_number,
            window_size,
        };
        match step {
            Step::Wait => (None, None),
            Step::Acknowledge {
                negative,
                sequence,
                window,
            } => (None, Some(told(negative, sequence, window))),
            Step::Complete { sequence, window } => {
                let whole = self.assembly.take().unwrap_or_default().into_bytes();
                let reply = Reply::Content(whole);
                (Some(Ok(reply)), Some(told(false, sequence, window)))
            }
            Step::TooLong => {
                let abort = Apdu::Abort {
                    server: false,
                    invoke_id,
                    abort_reason: AbortReason::BufferOverflow,
                };
                (Some(Err(AskError::TooLong)), Some(abort))
            }
        }
    }
}

impl Question {
    /// Its invoke id.
    pub(super) const fn id(&self) -> u8 {
        self.key.1
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.exchange.table().pending.remove(&self.key);
    }
}

impl Changes {
    /// The number that subscriptions name us by.
    pub(crate) const fn process(&self) -> u32 {
        self.process
    }

    /// A change that has come, if one has.
    pub(crate) fn next_now(&mut self) -> Option<(Peer, Notification)> {
        self.notifications.try_recv().ok()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.exchange.table().subscribers.remove(&self.process);
    }
}
