//! Enrolment, once for each dashboard: shows it the agent's keys and proves that they are the agent's.

use cms_attest::answer::Problem;

use cms_attest::enrol::EnrolAnswer;

use super::{Round, Submitting};
use crate::api_keys::ApiKey;
use crate::status::{PartState, error_chain};
use crate::store::{COSIGNER, StoreError};
use crate::transport::SendError;

/// The dashboard that knows this agent on this machine, in the store's `meta`.
const ENROLLED_WITH: &str = "enrolled_with";

/// Where the agent stands with its dashboard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Enrolment {
    /// The dashboard knows the agent's keys.
    Done,
    /// The dashboard has no enrolment; the signatures are for whoever verifies them later.
    NotOffered,
    /// Not known yet, or forgotten by the dashboard.
    Wanted,
}

impl Submitting {
    /// Enrols, and answers whether submissions can be sent now.
    pub(super) async fn enrol(
        &self,
        round: &mut Round,
        api_key: &mut ApiKey,
    ) -> Result<bool, StoreError> {
        let authority = self.transport.endpoint().authority();
        let enrolled = self.enrolled(authority);
        // A pin that is lost, not one that was never given, is asked for again.
        let is_pinned = self.store.meta(COSIGNER).await?.is_some();
        if is_pinned && self.store.meta(ENROLLED_WITH).await?.as_deref() == Some(&enrolled) {
            round.enrolment = Enrolment::Done;
            return Ok(true);
        }
        let mut tried = self.try_enrol(round, api_key.expose()).await;
        if let Err(error) = &tried
            && let Some(other) = self.other_key(api_key, error)
        {
            tried = self.try_enrol(round, other.expose()).await;
            self.settle_on(api_key, other, tried.as_ref().err());
        }
        match tried {
            Ok(answer) => {
                self.pin_cosigner(&answer).await?;
                self.store.set_meta(ENROLLED_WITH, enrolled).await?;
                tracing::info!(key_id = %self.identity.key_id(), "enrolled with the dashboard");
                round.enrolment = Enrolment::Done;
                Ok(true)
            }
            Err(SendError::NotThere { .. }) => {
                tracing::info!(
                    "this dashboard offers no enrolment; submissions are signed all the same"
                );
                round.enrolment = Enrolment::NotOffered;
                Ok(true)
            }
            Err(
                SendError::Blocked(problem)
                | SendError::Rejected(problem)
                | SendError::Unexplained { problem, .. },
            ) => {
                if is_about_time(&problem) {
                    self.follow_clock(round, problem.server_time);
                }
                self.rest(
                    round,
                    PartState::Failed,
                    &format!("cannot enrol: {problem}"),
                    None,
                );
                Ok(false)
            }
            Err(SendError::Deferred {
                reason,
                retry_after,
            }) => {
                self.rest(
                    round,
                    PartState::Degraded,
                    &format!("cannot enrol yet: {reason}"),
                    retry_after,
                );
                Ok(false)
            }
        }
    }

    /// Authority, agent and machine: a copy of the store on another machine has to enrol itself, and is refused.
    fn enrolled(&self, authority: &str) -> String {
        let (agent_id, fingerprint) = (self.identity.agent_id(), self.identity.fingerprint());
        format!("{authority} {agent_id} {fingerprint}")
    }

    async fn try_enrol(&self, round: &mut Round, api_key: &str) -> Result<EnrolAnswer, SendError> {
        self.beat();
        let answer = self.transport.challenge(api_key).await?;
        self.beat();
        let created = self.clock.now() + round.created_offset;
        let enrolment = self
            .identity
            .sign_enrolment(
                self.company(),
                &self.sender.site,
                self.transport.endpoint().authority(),
                &answer.challenge,
                created,
            )
            .map_err(|error| SendError::Deferred {
                reason: error_chain(&error),
                retry_after: None,
            })?;
        self.transport.enrol(enrolment, api_key).await
    }

    /// The dashboard does not know the keys any more.
    pub(super) async fn forget_enrolment(&self, round: &mut Round) -> Result<(), StoreError> {
        round.enrolment = Enrolment::Wanted;
        self.store.set_meta(ENROLLED_WITH, String::new()).await
    }
}

/// Whether a request was refused because this clock and the dashboard's differ.
pub(super) fn is_about_time(problem: &Problem) -> bool {
    matches!(
        problem.error.as_str(),
        "signature_in_future" | "signature_expired"
    )
}
