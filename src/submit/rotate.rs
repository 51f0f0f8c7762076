//! Rotation: brings new keys to the dashboard, and puts them to use once it has them.
//!
//! The order survives a kill at every step: the new keys are kept, the dashboard takes them, a leaf announces
//! them, and only then they sign. Each step may be done again. Submissions and receipts go on meanwhile, signed
//! by the keys that are in use.

use cms_attest::Problem;
use cms_attest::leaf::LeafKind;
use cms_attest::rotate::RotateAnswer;
use cms_attest::succession::{Announced, SUCCESSIONS_MAX};
use jiff::Timestamp;
use tokio::time::Instant;

use super::enrol::{Enrolment, is_about_time};
use super::{Round, Submitting};
use crate::api_keys::ApiKey;
use crate::backoff::Backoff;
use crate::identity::{self, IdentityError, Purpose, SignedRotation, Wanted};
use crate::limits::{KEY_OVERLAP, RETRY_CEILING, RETRY_FIRST};
use crate::status::{PartState, error_chain};
use crate::store::{LOG_SUCCESSIONS, LeafDraft, StoreError};
use crate::transport::SendError;

/// The name under which `status` shows rotations.
pub(crate) const PART: &str = "keys";

/// The key that the last leaf of its purpose has announced, in the store's `meta`.
const ANNOUNCED_LOG: &str = "announced_log_key";
const ANNOUNCED_REQUEST: &str = "announced_request_key";

/// Answers after which asking again has no use: the new keys are given up and a person is told.
const FINAL: [&str; 9] = [
    "agent_revoked",
    "cloned_identity",
    "key_mismatch",
    "key_retired",
    "key_reused",
    "other_company",
    "other_log_key",
    "rotation_malformed",
    "signature_invalid",
];

/// When the dashboard may be asked again.
pub(super) struct Asking {
    backoff: Backoff,
    closed_until: Option<Instant>,
}

impl Asking {
    pub(super) fn new() -> Self {
        Self {
            backoff: Backoff::new(RETRY_FIRST, RETRY_CEILING),
            closed_until: None,
        }
    }

    fn rest(&mut self, random: u64) {
        self.closed_until = Some(Instant::now() + self.backoff.next(random));
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

/// Why a rotation went no further.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("cannot keep or use the new keys")]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Send(#[from] SendError),
}

impl Submitting {
    /// Whether there is a rotation that may go on now.
    pub(super) fn may_rotate(&self, round: &Round) -> bool {
        let until = self.rotates_at(round);
        until.is_some_and(|until| until <= Instant::now())
    }

    /// When a rotation may go on, if there is one.
    pub(super) fn rotates_at(&self, round: &Round) -> Option<Instant> {
        self.identity.wanted(self.clock.now())?;
        Some(round.asking.closed_until.unwrap_or_else(Instant::now))
    }

    /// Goes on with a rotation, if there is one. Trouble with it holds up nothing else.
    pub(super) async fn rotate(
        &self,
        round: &mut Round,
        api_key: &mut ApiKey,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Some(wanted) = self.identity.wanted(now).filter(|_| self.may_rotate(round)) else {
            return Ok(());
        };
        if round.enrolment == Enrolment::NotOffered {
            // Nobody there knows any key: the leaf and two signatures are for whoever verifies them later.
            return self.taken(round, wanted, now).await;
        }
        // An answer that never came may have been yes: then the new keys are not given up for a later no.
        let unheard = wanted == Wanted::NewKeys && self.identity.was_asked();
        match self.ask_to_rotate(round, wanted, api_key).await {
            Ok(()) => self.taken(round, wanted, now).await,
            Err(stopped) => self.stopped(round, (wanted, unheard), stopped).await,
        }
    }

    /// Asks the dashboard, with the other API key where it wants that one.
    async fn ask_to_rotate(
        &self,
        round: &Round,
        wanted: Wanted,
        api_key: &mut ApiKey,
    ) -> Result<(), Stopped> {
        let mut asked = self.ask_once(round, wanted, api_key.expose()).await;
        if let Err(Stopped::Send(error)) = &asked
            && let Some(other) = self.other_key(api_key, error)
        {
            asked = self.ask_once(round, wanted, other.expose()).await;
            let refused = match &asked {
                Err(Stopped::Send(error)) => Some(error),
                _ => None,
            };
            self.settle_on(api_key, other, refused);
        }
        asked
    }

    async fn ask_once(&self, round: &Round, wanted: Wanted, api_key: &str) -> Result<(), Stopped> {
        self.beat();
        let answer = self.transport.challenge(api_key).await?;
        self.beat();
        let created = self.clock.now() + round.created_offset;
        let authority = self.transport.endpoint().authority();
        let signed =
            (self.identity).sign_rotation(wanted, authority, &answer.challenge, created)?;
        // From here on the dashboard may have the keys although nobody here has heard of it.
        self.identity.asked(self.clock.now()).await?;
        let answer = self.transport.rotate(&signed, api_key).await?;
        if names(&answer, &signed) {
            return Ok(());
        }
        Err(Stopped::Send(SendError::Deferred {
            reason: "the dashboard's answer names other keys than it was sent".to_owned(),
            retry_after: None,
        }))
    }

    /// The dashboard has the keys, or there is none that wants them.
    async fn taken(
        &self,
        round: &mut Round,
        wanted: Wanted,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let done = match wanted {
            Wanted::End => self.identity.settle(Purpose::Request, now).await,
            Wanted::NewKeys => {
                self.announce().await?;
                let until = now.saturating_add(KEY_OVERLAP).unwrap_or(Timestamp::MAX);
                self.identity.take_up(now, until).await
            }
        };
        if let Err(error) = done {
            return self.stopped(round, (wanted, true), error.into()).await;
        }
        if self.cosigner().await?.is_none()
            && let Err(error) = self.identity.settle(Purpose::Log, now).await
        {
            // No head is signed without a dashboard that countersigns: nothing is handed over.
            tracing::warn!(error = %error_chain(&error), "the replaced ledger key is still kept");
        }
        round.asking.reset();
        round.receipt_due = true;
        let words = match wanted {
            Wanted::End => "the rotation is finished",
            Wanted::NewKeys => "new keys are in use",
        };
        tracing::info!(key_id = %self.identity.key_id(), "{words}");
        self.status.ok(PART, Some(words.to_owned()));
        Ok(())
    }

    /// Gives each new key its leaf, once, before it signs anything.
    async fn announce(&self) -> Result<(), StoreError> {
        let waiting = match self.identity.waiting() {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!(error = %error_chain(&error), "a new key cannot be announced");
                return Ok(());
            }
        };
        for (_, announced) in waiting {
            let (name, id) = match &announced {
                Announced::Log(key) => (ANNOUNCED_LOG, key.key().key_id()),
                Announced::Request(id) => (ANNOUNCED_REQUEST, id.clone()),
                Announced::Dashboard(_) => continue,
            };
            if self.store.meta(name).await?.as_deref() == Some(id.as_str()) {
                continue;
            }
            let mut values = vec![(name, id.to_string())];
            if name == ANNOUNCED_LOG {
                values.push((LOG_SUCCESSIONS, self.successions().await?));
            }
            let moment = identity::moment(&self.clock, &self.api_keys);
            let draft = LeafDraft::event(LeafKind::KeyRotate, &announced.to_string());
            self.store
                .append_leaf_with(self.sender.origin.clone(), moment, draft, values)
                .await?;
        }
        Ok(())
    }

    /// The successions of the ledger's keys with the one that is to come, as they are kept.
    async fn successions(&self) -> Result<String, StoreError> {
        let known = self.store.meta(LOG_SUCCESSIONS).await?.unwrap_or_default();
        let mut notes: Vec<String> = serde_json::from_str(&known).unwrap_or_default();
        if let Ok(Some(succession)) = self.identity.succession() {
            notes.push(succession.to_string());
        }
        let skipped = notes.len().saturating_sub(SUCCESSIONS_MAX);
        Ok(serde_json::to_string(notes.get(skipped..).unwrap_or_default()).unwrap_or_default())
    }

    async fn stopped(
        &self,
        round: &mut Round,
        (wanted, unheard): (Wanted, bool),
        stopped: Stopped,
    ) -> Result<(), StoreError> {
        round.asking.rest(self.chance.next());
        match stopped {
            Stopped::Send(SendError::NotThere { .. }) if !unheard => {
                let words = "this dashboard offers no rotation; the keys stay";
                tracing::warn!("{words}");
                self.give_up(wanted).await;
                self.status.ok(PART, Some(words.to_owned()));
            }
            Stopped::Send(SendError::Blocked(problem) | SendError::Rejected(problem)) => {
                if is_about_time(&problem) {
                    self.follow_clock(round, problem.server_time);
                } else if problem.error == "key_unknown" {
                    self.forget_enrolment(round).await?;
                } else if is_final(&problem) && !unheard {
                    tracing::error!(%problem, "the dashboard refuses the rotation");
                    self.give_up(wanted).await;
                }
                let error = format!("not rotated: {problem}");
                self.status.set(PART, PartState::Failed, Some(error));
            }
            error => {
                let error = format!("the rotation waits: {}", error_chain(&error));
                tracing::info!("{error}");
                self.status.set(PART, PartState::Degraded, Some(error));
            }
        }
        Ok(())
    }

    /// Nothing comes of it: new keys are forgotten; a replaced one has signed beside for long enough.
    async fn give_up(&self, wanted: Wanted) {
        let now = self.clock.now();
        let done = match wanted {
            Wanted::End => self.identity.settle(Purpose::Request, now).await,
            Wanted::NewKeys => self.identity.give_up(now).await,
        };
        if let Err(error) = done {
            tracing::error!(error = %error_chain(&error), "a key that is not needed is still kept");
        }
    }
}

fn names(answer: &RotateAnswer, signed: &SignedRotation) -> bool {
    answer.request_key == signed.request_key && answer.log_key == signed.log_key
}

fn is_final(problem: &Problem) -> bool {
    FINAL.contains(&problem.error.as_str())
}
