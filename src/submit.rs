//! The submitting loop: closes slots, puts submissions into the outbox, and sends them until they are taken.
//!
//! Each scheduled slot ends in exactly one leaf: a submission, or a gap that says why there is none. Nothing
//! is signed or sent that is not on disk with its leaf. Attempts have no limit, only pauses. Never touches a
//! sensor: what it says comes out of the store.

mod due;
mod enrol;
mod keys;
mod pin;
mod receipts;
mod rotate;
mod send;
mod vigil;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cms_spec::payload::build::{Context, Payload};
use cms_spec::{Category, CompanyId, Slot};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use crate::api_keys::ApiKeys;
use crate::backoff::Backoff;
use crate::chance::Chance;
use crate::clock::Clock;
use crate::config::Schedule;
use crate::identity::{self, Identity};
use crate::limits::{DRAIN_GRACE, FIRST_WAIT, LIVE_FOR, RETRY_CEILING, RETRY_FIRST, SUBMIT_WAKE};
use crate::metrics::Metrics;
use crate::status::{PartState, Status, error_chain};
use crate::store::{Enqueued, LeafDraft, Sender, Store, StoreError};
use crate::transport::Transport;
use crate::watchdog::{Loop, Pulse};

pub use due::{Due, first, jitter};
use enrol::Enrolment;
use rotate::Asking;
use vigil::Vigil;

/// The name under which `status` shows how submitting goes.
const PART: &str = "dashboard";

/// The name under which `status` shows a clock that cannot be right.
const CLOCK: &str = "clock";

/// What the submit loop works with.
#[derive(Clone, Debug)]
pub struct Submitting {
    /// Where submissions come from and go to.
    pub store: Store,
    /// Who signs.
    pub identity: Arc<Identity>,
    /// Who speaks, in every body.
    pub sender: Sender,
    /// How the dashboard is reached.
    pub transport: Transport,
    /// What the dashboard knows the company by.
    pub api_keys: ApiKeys,
    /// What turns energy into cost and carbon.
    pub context: Context,
    /// The categories that have a source.
    pub categories: Vec<Category>,
    /// How often each is submitted.
    pub schedule: Schedule,
    /// Where states are shown.
    pub status: Status,
    /// Where attempts are counted.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
    /// What pauses are spread by.
    pub chance: Chance,
    /// Told by the collecting loop after each sample.
    pub sampled: Arc<Notify>,
    /// Told when a person wants other keys.
    pub rotating: Arc<Notify>,
    /// Where the loop shows that it is alive.
    pub pulse: Pulse,
    /// Told of each submission that was taken, if somebody listens. A full channel loses the news only.
    pub accepted: Option<mpsc::Sender<Taken>>,
}

/// The news of a submission that the dashboard took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its category.
    pub category: Category,
    /// The slot that it closed.
    pub slot: Slot,
    /// Its leaf's index.
    pub index: u64,
}

/// The state of the loop between two rounds.
struct Round {
    backoff: Backoff,
    closed_until: Option<Instant>,
    enrolment: Enrolment,
    created_offset: SignedDuration,
    sends: u64,
    awaiting_first: bool,
    /// The clock stands before a time that the dashboard has vouched for.
    clock_is_behind: bool,
    submitted: BTreeSet<Category>,
    store_error: Option<String>,
    /// No slot asks for anything within it; a clock that was put back is outside.
    nothing_due: Range<Timestamp>,
    /// Nothing waits, and only this loop adds to it: the store need not be asked.
    outbox_is_empty: bool,
    /// The head goes before the submissions: after a start, and after each failure.
    head_first: bool,
    /// Something was accepted since the last receipt.
    receipt_due: bool,
    /// When the dashboard was last asked for the heirs of its keys.
    successors_asked: Option<Instant>,
    /// When the dashboard may be asked to take new keys.
    asking: Asking,
    vigil: Vigil,
    /// Receipts have pauses of their own: submissions may be taken while they are not.
    receipts_backoff: Backoff,
    receipts_closed_until: Option<Instant>,
}

/// What one attempt led to.
enum Step {
    /// Something was sent; there may be more.
    Again,
    /// Nothing waits, or the dashboard must be left alone for a while.
    Rest,
}

impl Submitting {
    /// Submits until the future is dropped.
    pub async fn run(&mut self) {
        let started_at = self.clock.now();
        let mut round = Round::new();
        self.status.set(PART, PartState::Starting, None);
        loop {
            self.beat();
            let followed = self.follow_ledger().await;
            let told = self.keep_vigil(&mut round).await;
            let closed = self.close_due_slots(started_at, &mut round).await;
            match followed.and(told).and(closed) {
                Ok(()) => round.store_error = None,
                Err(error) => self.store_failed(
                    &mut round,
                    &error,
                    "a slot or an event has no leaf yet, it will be tried again",
                ),
            }
            let step = self.send_some(&mut round).await;
            self.beat();
            if matches!(step, Step::Rest) {
                let pause = self.pause(&round).await;
                tokio::select! {
                    () = self.sampled.notified(), if round.awaiting_first => {}
                    () = self.rotating.notified() => {}
                    () = sleep(pause) => {}
                }
            }
        }
    }

    /// Sends what is ready within the grace period; the rest stays in the outbox.
    pub async fn drain(&mut self) {
        let mut round = Round {
            receipt_due: true,
            ..Round::new()
        };
        let work = async { while matches!(self.send_some(&mut round).await, Step::Again) {} };
        if tokio::time::timeout(DRAIN_GRACE, work).await.is_err() {
            tracing::info!("some submissions stay in the outbox for the next start");
        }
    }

    /// Writes to the newest ledger from now on: after a damage the store has begun another one.
    async fn follow_ledger(&mut self) -> Result<(), StoreError> {
        let known = &self.sender.origin;
        if self.store.is_written_to(known).await? {
            return Ok(());
        }
        let (company, agent_id) = (known.company().clone(), known.agent_id().clone());
        let moment = identity::moment(&self.clock, &self.api_keys);
        self.sender.origin = self.store.origin(company, agent_id, moment).await?;
        Ok(())
    }

    /// Gives every slot that has ended its leaf, and a new category its first submission at once.
    async fn close_due_slots(
        &self,
        started_at: Timestamp,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        let looked_at = self.clock.now();
        if round.nothing_due.contains(&looked_at) {
            return Ok(());
        }
        round.nothing_due = looked_at..looked_at;
        round.awaiting_first = false;
        let was_behind = std::mem::take(&mut round.clock_is_behind);
        let mut until = Timestamp::MAX;
        for &category in &self.categories {
            let cadence = self.schedule.cadence(category);
            let jitter = jitter(self.sender.origin.agent_id().as_str(), cadence);
            let now = self.clock.now();
            let last = self.last_slot_end(category, now, round).await?;
            let due = Due::of(cadence, jitter, last, started_at, now);
            until = until.min(due.next);
            let is_new = self.is_new(category, round).await?;
            if is_new
                && now.duration_since(started_at) < FIRST_WAIT
                && self.store.awaits_a_source(category).await?
            {
                // Its slots wait with it: the next round closes them, still in time.
                round.awaiting_first = true;
                self.status.next_slot(category.path(), due.next);
                continue;
            }
            if !due.missed.is_empty() {
                tracing::warn!(%category, slots = due.missed.len(), "slots were missed, each has its gap leaf");
                let reason = "no submission was made within 30 minutes of the slot's end";
                round.vigil.spoke(self.clock.boottime_ms());
                let gaps = due
                    .missed
                    .iter()
                    .map(|&slot| LeafDraft::gap(category, slot, reason))
                    .collect();
                self.store
                    .append_leaves(
                        self.sender.origin.clone(),
                        identity::moment(&self.clock, &self.api_keys),
                        gaps,
                    )
                    .await?;
            }
            for slot in due.ready {
                if let Some(reason) = self.submit_slot(category, slot, round).await? {
                    tracing::warn!(%category, reason, "nothing to submit for this slot");
                    let gap = LeafDraft::gap(category, slot, &reason);
                    self.store
                        .append_leaves(
                            self.sender.origin.clone(),
                            identity::moment(&self.clock, &self.api_keys),
                            vec![gap],
                        )
                        .await?;
                }
            }
            if is_new && self.is_new(category, round).await? {
                // A new agent does not wait up to a day to be seen: its first slot ends when it can speak.
                let last = self.last_slot_end(category, now, round).await?;
                let slot = first(cadence, last, started_at, now);
                let silent = self.submit_slot(category, slot, round).await?;
                round.awaiting_first |= silent.is_some();
            }
            self.status.next_slot(category.path(), due.next);
        }
        match (was_behind, round.clock_is_behind) {
            (false, true) => {
                tracing::error!(
                    "the clock is behind a time that the dashboard has signed: set it; no slot is closed until then"
                );
            }
            (true, false) => {
                tracing::info!("the clock has caught up");
                self.status.ok(CLOCK, None);
            }
            _ => {}
        }
        if !round.awaiting_first {
            round.nothing_due = looked_at..until;
        }
        Ok(())
    }

    /// When the newest slot ended that has its leaf; those that a clock ahead has closed are given back. Where the
    /// dashboard has signed a receipt later than now, the clock was not ahead then: it is behind now.
    async fn last_slot_end(
        &self,
        category: Category,
        now: Timestamp,
        round: &mut Round,
    ) -> Result<Option<Timestamp>, StoreError> {
        let last = self.store.last_slot_end(category).await?;
        if last.is_none_or(|last| last <= now + LIVE_FOR) {
            return Ok(last);
        }
        let receipt = self.store.newest_receipt().await?;
        let proven = receipt.map_or(now, |receipt| receipt.at.max(now));
        let believable = proven + LIVE_FOR;
        if last.is_none_or(|last| last <= believable) {
            self.clock_is_behind(now, proven, round);
            return Ok(last);
        }
        let moment = identity::moment(&self.clock, &self.api_keys);
        let origin = self.sender.origin.clone();
        let slots = self
            .store
            .give_back_slots(origin, moment, category, believable)
            .await?;
        tracing::warn!(%category, slots, "the clock was ahead; the slots that it closed before their time will be closed again");
        self.store.last_slot_end(category).await
    }

    /// Says that a person must set the clock; no slot is closed until it has caught up.
    fn clock_is_behind(&self, now: Timestamp, proven: Timestamp, round: &mut Round) {
        let error = format!(
            "the clock says {now:.0}, and the dashboard has signed a receipt at {proven:.0}: set the clock; no slot is closed until then"
        );
        round.clock_is_behind = true;
        self.status.set(CLOCK, PartState::Failed, Some(error));
    }

    /// Whether a category has never been submitted.
    async fn is_new(&self, category: Category, round: &mut Round) -> Result<bool, StoreError> {
        if !round.submitted.contains(&category) && self.store.was_ever_submitted(category).await? {
            round.submitted.insert(category);
        }
        Ok(!round.submitted.contains(&category))
    }

    /// Closes one slot into the outbox, or answers why there is nothing to say.
    async fn submit_slot(
        &self,
        category: Category,
        slot: Slot,
        round: &mut Round,
    ) -> Result<Option<String>, StoreError> {
        // With its submission, or with the gap that the caller writes.
        round.vigil.spoke(self.clock.boottime_ms());
        let closed = match self.store.close(category, slot).await? {
            Ok(closed) => closed,
            Err(nothing) => return Ok(Some(nothing.reason)),
        };
        let payload = Payload::build(closed, &self.context);
        match self
            .store
            .enqueue(
                self.sender.clone(),
                identity::moment(&self.clock, &self.api_keys),
                payload,
            )
            .await?
        {
            Enqueued::AlreadyThere => {}
            Enqueued::New(submission) => {
                round.outbox_is_empty = false;
                tracing::debug!(%category, index = submission.index(), bytes = submission.body().len(), "enqueued");
            }
        }
        Ok(None)
    }

    /// Leaves the dashboard alone for a while, and says why once for each new reason.
    fn rest(
        &self,
        round: &mut Round,
        state: PartState,
        reason: &str,
        retry_after: Option<Duration>,
    ) {
        let asked = retry_after.unwrap_or_default().min(RETRY_CEILING);
        let pause = round.backoff.next(self.chance.next()).max(asked);
        round.closed_until = Some(Instant::now() + pause);
        round.head_first = true;
        let known = self
            .status
            .parts()
            .into_iter()
            .any(|part| part.name == PART && part.last_error.as_deref() == Some(reason));
        if !known {
            tracing::warn!(
                reason,
                "cannot submit now; everything is kept and will be sent"
            );
        }
        self.status.set(PART, state, Some(reason.to_owned()));
    }

    /// Shows that the store fails, and logs it once for each new reason.
    fn store_failed(&self, round: &mut Round, error: &StoreError, what: &'static str) {
        let error = error_chain(error);
        if round.store_error.as_ref() != Some(&error) {
            tracing::error!(error, "{what}");
            round.store_error = Some(error.clone());
        }
        self.status.set("store", PartState::Failed, Some(error));
    }

    /// How long nothing can be due.
    async fn pause(&self, round: &Round) -> Duration {
        let now = self.clock.now();
        let mut pause = SUBMIT_WAKE;
        for &category in &self.categories {
            let cadence = self.schedule.cadence(category);
            let jitter = jitter(self.sender.origin.agent_id().as_str(), cadence);
            let next = cadence.slot_at(now - jitter).end + jitter;
            let wait = next.duration_since(now).max(SignedDuration::ZERO);
            pause = pause.min(Duration::try_from(wait).unwrap_or(pause));
        }
        if let Some(until) = round.closed_until {
            let pending = self
                .store
                .outbox_counts()
                .await
                .is_ok_and(|counts| counts.pending > 0);
            if pending || round.enrolment == Enrolment::Wanted {
                pause = pause.min(until_open(until, Instant::now()));
            }
        }
        if let Some(until) = self.rotates_at(round) {
            pause = pause.min(until_open(until, Instant::now()));
        }
        // Slots end at whole seconds: a short extra wait saves a second look just before one.
        pause + Duration::from_millis(5)
    }

    /// Before each request and after the last: a slow dashboard is not a stuck loop.
    fn beat(&self) {
        self.pulse.beat(Loop::Submit, self.clock.monotonic());
    }

    fn company(&self) -> &CompanyId {
        self.sender.origin.company()
    }
}

/// How long the dashboard is left alone; never no time at all, whatever else goes wrong meanwhile.
fn until_open(until: Instant, now: Instant) -> Duration {
    until.saturating_duration_since(now).max(RETRY_FIRST)
}

impl Round {
    /// Neither enrolment, nor a head, nor a submission: the dashboard is not asked, and the key is not read.
    fn has_nothing_to_send(&self) -> bool {
        self.outbox_is_empty
            && !self.receipt_due
            && !self.head_first
            && self.enrolment != Enrolment::Wanted
    }

    fn new() -> Self {
        Self {
            backoff: Backoff::new(RETRY_FIRST, RETRY_CEILING),
            closed_until: None,
            enrolment: Enrolment::Wanted,
            created_offset: SignedDuration::ZERO,
            sends: 0,
            awaiting_first: false,
            clock_is_behind: false,
            submitted: BTreeSet::new(),
            store_error: None,
            nothing_due: Timestamp::MIN..Timestamp::MIN,
            outbox_is_empty: false,
            head_first: true,
            receipt_due: false,
            successors_asked: None,
            asking: Asking::new(),
            vigil: Vigil::default(),
            receipts_backoff: Backoff::new(RETRY_FIRST, RETRY_CEILING),
            receipts_closed_until: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_is_over_is_no_reason_to_spin() {
        let now = Instant::now();
        assert_eq!(until_open(now, now + RETRY_CEILING), RETRY_FIRST);
        assert_eq!(until_open(now + RETRY_CEILING, now), RETRY_CEILING);
    }
}
