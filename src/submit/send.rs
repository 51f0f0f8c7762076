//! Sending: takes submissions out of the outbox one by one, and acts on the dashboard's answer.

use std::collections::BTreeSet;

use cms_attest::Problem;
use cms_spec::payload::Delivery;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::enrol::Enrolment;
use super::{PART, Round, Step, Submitting, Taken};
use crate::identity::IdentityError;
use crate::limits::{BACKLOG_SHARE, STORE_RETRY, SUBMIT_WAKE};
use crate::status::{PartState, error_chain};
use crate::store::{StoreError, Submission};
use crate::transport::{Acceptance, SendError};

/// Submissions sent in a row before slots are looked at again, so that a backlog never delays a slot.
const SENDS_IN_A_ROW: usize = 32;

/// What dashboards that know the specification only answer to a window that is not the newest: bad request,
/// conflict, gone, unprocessable.
const TOO_LATE: [u16; 4] = [400, 409, 410, 422];

/// What a dashboard says to a slot that has not ended by its clock. One of the two clocks is wrong and will be put
/// right; the submission is not at fault.
const FROM_THE_FUTURE: &str = "from_the_future";

/// What a dashboard's clock may differ from ours; more is no time of this world, and none to sign with.
const CLOCK_OFFSET_MAX: SignedDuration = SignedDuration::from_hours(100 * 366 * 24);

impl Submitting {
    pub(super) async fn send_some(&mut self, round: &mut Round) -> Step {
        let started = Instant::now();
        for _ in 0..SENDS_IN_A_ROW {
            self.beat();
            // A dashboard that answers slowly must not delay a slot either.
            if started.elapsed() > SUBMIT_WAKE {
                break;
            }
            match self.send_one(round).await {
                Ok(Step::Again) => {}
                Ok(Step::Rest) => return Step::Rest,
                Err(error) => {
                    self.store_failed(round, &error, "the outbox cannot be worked on");
                    round.closed_until = Some(Instant::now() + STORE_RETRY);
                    return Step::Rest;
                }
            }
        }
        Step::Again
    }

    async fn send_one(&mut self, round: &mut Round) -> Result<Step, StoreError> {
        if let Some(until) = round.closed_until {
            if Instant::now() < until {
                return Ok(Step::Rest);
            }
            round.closed_until = None;
        }
        if round.has_nothing_to_send() && !self.may_rotate(round) {
            return Ok(Step::Rest);
        }
        let mut api_key = match self.api_keys.read() {
            Ok(key) => key,
            Err(error) => {
                let error = format!("{}: {}", error_chain(&error), error.hint());
                self.rest(round, PartState::Failed, &error, None);
                return Ok(Step::Rest);
            }
        };
        if round.enrolment == Enrolment::Wanted && !self.enrol(round, &mut api_key).await? {
            return Ok(Step::Rest);
        }
        self.rotate(round, &mut api_key).await?;
        if round.head_first {
            self.ask_for_receipt(round).await?;
        }
        let backlog_first = round.sends % BACKLOG_SHARE == BACKLOG_SHARE - 1;
        let now = self.clock.now();
        let submission = if round.outbox_is_empty {
            None
        } else {
            self.store.take_next(now, backlog_first).await?
        };
        let Some(submission) = submission else {
            // What a clock ahead has closed may be left, to be sent in its time.
            round.outbox_is_empty = self.store.outbox_counts().await?.pending == 0;
            if round.receipt_due {
                self.ask_for_receipt(round).await?;
            }
            return Ok(Step::Rest);
        };
        round.sends += 1;
        let mut delivery = submission.delivery(now);
        let mut sent = self
            .attempt(round, &submission, delivery, api_key.expose())
            .await;
        if let Ok(Err(error)) = &sent
            && let Some(other) = self.other_key(&api_key, error)
        {
            sent = self
                .attempt(round, &submission, delivery, other.expose())
                .await;
            let refused = sent.as_ref().ok().and_then(|sent| sent.as_ref().err());
            self.settle_on(&mut api_key, other, refused);
        }
        // Each of these has one remedy that needs no person. It is tried once, right away, and may bring up another:
        // a clock that is behind is told so first of the signature, and then of the slot.
        let mut tried = BTreeSet::new();
        while let Ok(Err(SendError::Blocked(problem) | SendError::Rejected(problem))) = &sent
            && let Some(remedy) = Remedy::of(&problem.error, delivery)
            && tried.insert(remedy)
        {
            match remedy {
                Remedy::FollowClock => self.follow_clock(round, problem.server_time),
                Remedy::OfferAsBackfill => delivery = Delivery::Backfill,
                Remedy::SignAgain => {}
                Remedy::EnrolAgain => {
                    self.forget_enrolment(round).await?;
                    break;
                }
            }
            sent = self
                .attempt(round, &submission, delivery, api_key.expose())
                .await;
        }
        match sent {
            Ok(Ok(acceptance)) => {
                self.key_works(&api_key);
                self.accept(round, &submission, &acceptance).await?;
            }
            Ok(Err(error)) if self.is_superseded(&submission, delivery, &error).await? => {
                let reason = error.to_string();
                tracing::info!(category = %submission.category(), index = submission.index(), reason, "too late for this dashboard, which takes no backfill; a newer submission covers it");
                self.store.mark_superseded(&submission, now, reason).await?;
            }
            Ok(Err(error)) => return self.refuse(round, &submission, error).await,
            Err(error) => {
                let error = error_chain(&error);
                self.store
                    .mark_deferred(&submission, now, error.clone())
                    .await?;
                self.rest(round, PartState::Failed, &error, None);
                return Ok(Step::Rest);
            }
        }
        Ok(Step::Again)
    }

    /// Signs with the dashboard's time from now on.
    pub(super) fn follow_clock(&self, round: &mut Round, server_time: Timestamp) {
        let Some(offset) = offset(server_time, self.clock.now()) else {
            tracing::error!(%server_time, "the dashboard's clock makes no sense; signatures follow this clock");
            return;
        };
        if round.created_offset != offset {
            tracing::warn!(%offset, "this clock differs from the dashboard's; signatures follow the dashboard's");
        }
        round.created_offset = offset;
    }

    async fn attempt(
        &self,
        round: &Round,
        submission: &Submission,
        delivery: Delivery,
        api_key: &str,
    ) -> Result<Result<Acceptance, SendError>, IdentityError> {
        self.beat();
        let created = self.clock.now() + round.created_offset;
        let request =
            self.identity
                .sign(submission, self.transport.endpoint(), created, delivery)?;
        let sent = self.transport.send(&request, api_key).await;
        let outcome = match &sent {
            Ok(_) => "accepted",
            Err(SendError::Blocked(_) | SendError::Unexplained { .. }) => "blocked",
            Err(SendError::Deferred { .. } | SendError::NotThere { .. }) => "deferred",
            Err(SendError::Rejected(_)) => "rejected",
        };
        self.metrics.send(submission.category(), outcome);
        Ok(sent)
    }

    /// Whether a dashboard that takes no backfill has no use for this submission any more.
    ///
    /// One that speaks our words says so. Of any other a plain refusal of a backfill means it once the same
    /// dashboard has taken a newer submission of the category; before that it may mean anything.
    async fn is_superseded(
        &self,
        submission: &Submission,
        delivery: Delivery,
        error: &SendError,
    ) -> Result<bool, StoreError> {
        match error {
            _ if delivery == Delivery::Live => Ok(false),
            SendError::Rejected(problem) => Ok(problem.error == "stale"),
            SendError::Unexplained { status, .. } if TOO_LATE.contains(status) => {
                self.store.newer_is_accepted(submission).await
            }
            _ => Ok(false),
        }
    }

    async fn accept(
        &self,
        round: &mut Round,
        submission: &Submission,
        acceptance: &Acceptance,
    ) -> Result<(), StoreError> {
        let answer = acceptance.answer();
        let words = match (answer.duplicate, answer.warnings.is_empty()) {
            (true, _) => "accepted before".to_owned(),
            (false, true) => "accepted".to_owned(),
            (false, false) => format!("accepted with warnings: {}", answer.warnings.join("; ")),
        };
        self.store
            .mark_accepted(submission, self.clock.now(), words.clone())
            .await?;
        round.backoff.reset();
        round.closed_until = None;
        round.receipt_due = true;
        self.status.ok(
            PART,
            Some(format!(
                "last accepted: {} #{}",
                submission.category(),
                submission.index()
            )),
        );
        tracing::info!(
            category = %submission.category(),
            index = submission.index(),
            slot_end = %submission.slot().end,
            delivery = ?answer.delivery,
            answer = words,
            "submission accepted"
        );
        if let Some(listener) = &self.accepted {
            let news = Taken {
                category: submission.category(),
                slot: submission.slot(),
                index: submission.index(),
            };
            if listener.try_send(news).is_err() {
                tracing::debug!("nobody reads the news of accepted submissions");
            }
        }
        Ok(())
    }

    async fn refuse(
        &self,
        round: &mut Round,
        submission: &Submission,
        error: SendError,
    ) -> Result<Step, StoreError> {
        let now = self.clock.now();
        match error {
            // Of an identity that was lost or reset: no key of this agent can ever sign it.
            SendError::Rejected(problem) | SendError::Blocked(problem)
                if is_of_another_agent(&problem) =>
            {
                let reason = problem.to_string();
                tracing::warn!(category = %submission.category(), index = submission.index(), "a submission of the agent before this identity stays here");
                self.store.mark_rejected(submission, now, reason).await?;
                Ok(Step::Again)
            }
            SendError::Rejected(problem) if problem.error != FROM_THE_FUTURE => {
                let reason = problem.to_string();
                tracing::error!(category = %submission.category(), index = submission.index(), reason, "the dashboard will not take this submission; it is kept for a person");
                self.store
                    .mark_rejected(submission, now, reason.clone())
                    .await?;
                self.status.set(PART, PartState::Failed, Some(reason));
                Ok(Step::Again)
            }
            SendError::Rejected(problem) => {
                // Without the seconds that its message counts: each attempt would be logged as news.
                let reason = format!(
                    "the slot has not ended by the dashboard's clock ({FROM_THE_FUTURE}): {}",
                    problem.next_step
                );
                self.store
                    .mark_deferred(submission, now, reason.clone())
                    .await?;
                self.rest(round, PartState::Failed, &reason, None);
                Ok(Step::Rest)
            }
            SendError::Blocked(problem) | SendError::Unexplained { problem, .. } => {
                let reason = problem.to_string();
                self.store
                    .mark_deferred(submission, now, reason.clone())
                    .await?;
                self.rest(round, PartState::Failed, &reason, None);
                Ok(Step::Rest)
            }
            SendError::Deferred {
                reason,
                retry_after,
            } => {
                self.store
                    .mark_deferred(submission, now, reason.clone())
                    .await?;
                self.rest(round, PartState::Degraded, &reason, retry_after);
                Ok(Step::Rest)
            }
            SendError::NotThere { url } => {
                let reason = format!("the dashboard has no {url}: check dashboard.endpoint");
                self.store
                    .mark_deferred(submission, now, reason.clone())
                    .await?;
                self.rest(round, PartState::Failed, &reason, None);
                Ok(Step::Rest)
            }
        }
    }
}

/// What helps against a refusal without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Remedy {
    EnrolAgain,
    FollowClock,
    OfferAsBackfill,
    SignAgain,
}

impl Remedy {
    fn of(error: &str, delivery: Delivery) -> Option<Self> {
        match error {
            "signature_in_future" | "signature_expired" => Some(Self::FollowClock),
            "stale" if delivery == Delivery::Live => Some(Self::OfferAsBackfill),
            "replayed" => Some(Self::SignAgain),
            "key_unknown" => Some(Self::EnrolAgain),
            _ => None,
        }
    }
}

/// From this clock to the dashboard's, where that is a time to sign with.
fn offset(server_time: Timestamp, now: Timestamp) -> Option<SignedDuration> {
    let offset = server_time.duration_since(now);
    (offset.abs() <= CLOCK_OFFSET_MAX).then_some(offset)
}

fn is_of_another_agent(problem: &Problem) -> bool {
    problem.error == "agent_mismatch"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dashboard_of_the_year_9999_is_not_followed() {
        let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let behind: Timestamp = "1970-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(offset(now, behind), Some(now.duration_since(behind)));
        assert_eq!(offset(Timestamp::MAX, now), None);
        assert_eq!(offset(Timestamp::MIN, now), None);
    }
}
