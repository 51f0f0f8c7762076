//! What was received and waits to be told, and who waits to hear that it is on disk.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::oneshot;

use super::super::feed::Out;
use super::{Told, locked};

/// Most requests to models that wait: twice the largest message, some 16 MiB.
pub(super) const ITEMS_MAX: usize = 2 * super::MESSAGE_ITEMS_MAX;

/// Messages in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<(Told, oneshot::Sender<()>)>,
    /// Requests in `waiting`.
    items: usize,
    /// Senders of what was told and is not known to be on disk.
    told: Vec<oneshot::Sender<()>>,
    /// Nobody takes anything out any more.
    is_closed: bool,
}

impl Queue {
    /// Puts a message in. What is returned answers when it is on disk. Nothing when there is no room for it.
    ///
    /// A message stays in although its sender stops waiting: it may not send it again, and what has an id is
    /// counted once if it does.
    pub(super) fn put(&self, told: Told) -> Option<oneshot::Receiver<()>> {
        let mut inner = self.inner();
        let count = told.requests.len().max(1);
        if inner.is_closed || inner.items + count > ITEMS_MAX {
            return None;
        }
        let (stored, wait) = oneshot::channel();
        inner.items += count;
        inner.waiting.push_back((told, stored));
        Some(wait)
    }

    /// Tells everything that waits.
    pub(super) fn tell(&self, out: &mut dyn Out) {
        let taken = {
            let mut inner = self.inner();
            inner.items = 0;
            // Those who do not wait any more are not kept, so that a disk that stays full fills no memory.
            inner.told.retain(|sender| !sender.is_closed());
            std::mem::take(&mut inner.waiting)
        };
        let mut senders = Vec::with_capacity(taken.len());
        for (told, sender) in taken {
            told.models.into_iter().for_each(|facts| out.model(facts));
            for request in told.requests {
                out.request(request);
            }
            senders.push(sender);
        }
        self.inner().told.append(&mut senders);
    }

    /// Answers everybody whose message was told.
    pub(super) fn stored(&self) {
        for sender in std::mem::take(&mut self.inner().told) {
            // Who does not wait any more has been told to send it again.
            let _gone = sender.send(());
        }
    }

    /// Takes nothing more; whoever waits hears at once that nothing will come.
    pub(super) fn close(&self) {
        let mut inner = self.inner();
        *inner = Inner {
            is_closed: true,
            ..Inner::default()
        };
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.inner().items
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        locked(&self.0)
    }
}
