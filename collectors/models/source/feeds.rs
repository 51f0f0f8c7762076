//! Feeds at work: each one on a thread of its own, one call at a time.
//!
//! Promises: a feed that hangs, fails or panics costs its own requests and nothing else; it goes on from where the
//! store says that it was. Refuses: clocks; a call has the time of the tick that began it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cms_spec::provenance::{Confidence, Origin};
use cms_spec::reading::Readings;
use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::classify::Rule;
use super::counting::{Counting, Counts, Shared, Unshared};
use super::history::History;
use super::settings::Spec;
use crate::models::feed::Feed;
use crate::{CollectError, Host, chain};

/// How long a feed that failed or could not be opened is left alone.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// How long a tick waits for its feeds; a slower one is told in the next tick.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What is told of a feed that is still at work after a tick.
const LATE: &str = "has not answered yet";

/// A feed and one call of it.
struct Called {
    feed: Box<dyn Feed>,
    counting: Counting,
    result: Result<(), CollectError>,
}

/// Where a feed is.
enum State {
    /// Not open, since a moment and for a reason.
    Closed(Option<(Timestamp, String)>),
    /// Between two calls.
    Idle(Box<dyn Feed>),
    /// At work on a thread of its own, since a moment.
    Busy(Timestamp, JoinHandle<Option<Called>>),
}

/// One feed.
pub(super) struct Running {
    pub(super) spec: Spec,
    state: State,
    /// What came of a call that has ended; nothing of one that panicked.
    ended: Option<Option<Called>>,
    /// Why the last call failed, and when.
    failed: Option<(Timestamp, String)>,
    /// Where the feed was at the end of its newest call that is told.
    checkpoint: Option<String>,
    unshared: Unshared,
    counts: Counts,
    details: Vec<String>,
    trouble: Option<String>,
    /// What a reader of the payload must know of what was told last.
    caveat: Option<String>,
    /// Whether what it told in this tick waits for the store.
    is_told: bool,
    /// Whether a call has ended.
    has_answered: bool,
}

impl Running {
    pub(super) fn new(spec: Spec) -> Self {
        Self {
            spec,
            state: State::Closed(None),
            ended: None,
            failed: None,
            checkpoint: None,
            unshared: Unshared::default(),
            counts: Counts::default(),
            details: Vec::new(),
            trouble: None,
            caveat: None,
            is_told: false,
            has_answered: false,
        }
    }

    /// Takes back where it was before a restart.
    pub(super) fn resume(&mut self, checkpoint: String) {
        self.checkpoint = Some(checkpoint);
    }

    /// Where it goes on after a restart.
    pub(super) fn checkpoint(&self) -> Option<&str> {
        self.checkpoint.as_deref()
    }

    /// Begins a call, unless one is at work or a failure is too fresh.
    pub(super) fn begin(&mut self, at: Timestamp, host: &Host, shared: &Arc<Shared>) {
        self.open(at, host);
        let is_paused = |failed: &(Timestamp, String)| at.duration_since(failed.0) < PAUSE;
        if self.failed.as_ref().is_some_and(is_paused) {
            return;
        }
        let State::Idle(_) = &self.state else { return };
        let State::Idle(feed) = std::mem::replace(&mut self.state, State::Closed(None)) else {
            return;
        };
        let counting = Counting::new(shared, &self.spec.name, at, self.unshared);
        self.state = State::Busy(at, call(feed, counting, at));
    }

    fn open(&mut self, at: Timestamp, host: &Host) {
        let State::Closed(since) = &self.state else {
            return;
        };
        if let Some((since, _)) = since
            && at.duration_since(*since) < PAUSE
        {
            return;
        }
        self.state = match (self.spec.open)(host) {
            Ok(mut feed) => {
                if let Some(checkpoint) = &self.checkpoint {
                    feed.resume(checkpoint);
                }
                State::Idle(feed)
            }
            Err(error) => State::Closed(Some((at, chain(&error)))),
        };
    }

    /// Waits for the end of a call. It may be dropped at any time.
    pub(super) async fn finished(&mut self) {
        if let State::Busy(_, task) = &mut self.state
            && self.ended.is_none()
        {
            self.ended = Some(task.await.ok().flatten());
        }
    }

    /// Puts what an ended call told into the readings, and what decided it into the history.
    pub(super) async fn end(
        &mut self,
        at: Timestamp,
        (rules, history): (&[Rule], &mut History),
        out: &mut Readings,
    ) {
        if let State::Busy(_, task) = &self.state
            && task.is_finished()
        {
            self.finished().await;
        }
        let Some(ended) = self.ended.take() else {
            return;
        };
        let Some(called) = ended else {
            let bug = "its code has a bug: please report it with the log; it is opened again";
            self.state = State::Closed(Some((at, bug.to_owned())));
            return;
        };
        let Called {
            feed,
            mut counting,
            result,
        } = called;
        self.has_answered = true;
        self.failed = result.err().map(|error| (at, chain(&error)));
        self.counts.add(std::mem::take(&mut counting.counts));
        history.add(&self.spec.name, std::mem::take(&mut counting.noted), rules);
        self.details = feed.details();
        self.trouble = feed.trouble();
        self.caveat = feed.caveat();
        self.checkpoint = feed.checkpoint();
        self.is_told = !counting.is_empty();
        self.unshared = if self.is_told {
            let origin = out.origin(self.origin());
            counting.finish(origin, out)
        } else {
            let mut nothing = Readings::default();
            let nowhere = nothing.origin(self.origin());
            counting.finish(nowhere, &mut nothing)
        };
        self.state = State::Idle(feed);
    }

    /// Whether the last call told something that is not acknowledged yet.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    /// Everything that was told is on disk.
    pub(super) fn stored(&mut self) {
        self.is_told = false;
        if let State::Idle(feed) = &mut self.state {
            feed.stored();
        }
    }

    /// Whether its first call is still at work.
    pub(super) fn is_waiting(&self) -> bool {
        !self.has_answered && matches!(self.state, State::Busy(..))
    }

    /// Why it tells nothing now, or less than it should.
    pub(super) fn trouble(&self, at: Timestamp) -> Option<String> {
        let why = match (&self.state, &self.failed, &self.trouble) {
            (State::Closed(Some((_, why))), _, _) | (_, Some((_, why)), _) => why.clone(),
            (State::Busy(since, _), _, _) => {
                let seconds = at.duration_since(*since).as_secs();
                format!("{LATE}, for {seconds} s")
            }
            (_, None, Some(trouble)) => trouble.clone(),
            _ => return None,
        };
        Some(format!("{}: {why}", self.spec.name))
    }

    /// What `status` lists about it.
    pub(super) fn details(&self) -> impl Iterator<Item = String> {
        let told = format!("{} ({}): {}", self.spec.name, self.spec.label, self.counts);
        let more = self.details.iter();
        std::iter::once(told).chain(more.map(|line| format!("{}: {line}", self.spec.name)))
    }

    fn origin(&self) -> Origin {
        let mut origin = Origin::measured(&self.spec.label, &self.spec.method, Confidence::B);
        let note = &self.spec.note;
        origin.note = Some(match &self.caveat {
            Some(caveat) => format!("{note}; {caveat}"),
            None => note.clone(),
        });
        origin
    }
}

/// Calls a feed on a thread that may block; nothing comes back when its code panics.
fn call(
    mut feed: Box<dyn Feed>,
    mut counting: Counting,
    at: Timestamp,
) -> JoinHandle<Option<Called>> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let work = AssertUnwindSafe(|| {
            let result = runtime.block_on(feed.take(at, &mut counting));
            Called {
                feed,
                counting,
                result,
            }
        });
        std::panic::catch_unwind(work).ok()
    })
}
