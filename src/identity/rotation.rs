//! How the keys of an identity are replaced: each change is kept first, whole, and then in use.

use std::fmt;
use std::sync::PoisonError;

use cms_attest::enrol::Challenge;
use cms_attest::keys::{Jwk, KeyId, SigningKey};
use cms_attest::origin::AgentId;
use cms_attest::rotate::{RotateRequest, sign_rotation};
use cms_attest::succession::{Announced, Succession, log_key};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keep::Keeper;
use super::kept::Kept;
use super::ring::{self, Ring};
use super::{Identity, IdentityError};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Heads of the ledger.
    Log,
    /// Requests.
    Request,
}

/// A rotation with the headers that sign it. Only [`Identity::sign_rotation`] makes one.
#[derive(Clone, Debug)]
pub struct SignedRotation {
    /// Whose keys.
    pub agent_id: AgentId,
    /// The exact bytes.
    pub body: Vec<u8>,
    /// The headers to set.
    pub headers: Vec<(&'static str, String)>,
    /// The request key that the dashboard must name in its answer.
    pub request_key: KeyId,
    /// The log key that it must name.
    pub log_key: KeyId,
}

/// What is to be asked of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The time of two signatures is over: whether the dashboard knows the new request key.
    End,
    /// New keys wait to be taken.
    NewKeys,
}

/// A key of the agent as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldKey {
    /// What it is for.
    pub purpose: Purpose,
    /// Its public name.
    pub id: KeyId,
    /// What it does now.
    pub state: KeyState,
    /// Since when it is in use, where that is not since the agent was made.
    pub since: Option<Timestamp>,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It signs.
    Current,
    /// It waits for the dashboard.
    Next,
    /// It signs beside its successor, until this time at least.
    Previous(Timestamp),
}

impl Purpose {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Request, Self::Log];
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::Request => "request",
        })
    }
}

impl Identity {
    /// Every key, the one in use first.
    #[must_use]
    pub fn keys(&self) -> Vec<HeldKey> {
        let ring = self.ring();
        let mut keys = Vec::new();
        for purpose in Purpose::ALL {
            let line = ring.line(purpose);
            let mut show = |key: &SigningKey, state, since| {
                let id = key.verifying().key_id();
                keys.push(HeldKey {
                    purpose,
                    id,
                    state,
                    since,
                });
            };
            show(&line.current, KeyState::Current, line.since);
            if let Some(next) = &line.next {
                show(next, KeyState::Next, None);
            }
            if let Some(previous) = &line.previous {
                show(&previous.key, KeyState::Previous(previous.until), None);
            }
        }
        keys
    }

    /// Makes and keeps the next keys for these purposes. Those that wait already stay.
    ///
    /// # Errors
    /// When the last rotation of the ledger's key is not finished, or nothing can be kept.
    pub async fn prepare(&self, purposes: &[Purpose], now: Timestamp) -> Result<(), IdentityError> {
        if purposes.contains(&Purpose::Log) && self.ring().log.previous.is_some() {
            return Err(IdentityError::Rotating);
        }
        self.change(now, |kept| {
            let mut purposes = purposes.iter();
            purposes.try_for_each(|purpose| ring::prepare(kept, *purpose))
        })
        .await
    }

    /// What the dashboard is to be asked, if anything.
    #[must_use]
    pub fn wanted(&self, now: Timestamp) -> Option<Wanted> {
        let ring = self.ring();
        if Purpose::ALL
            .iter()
            .any(|purpose| ring.line(*purpose).next.is_some())
        {
            return Some(Wanted::NewKeys);
        }
        let previous = ring.request.previous;
        previous.filter(|old| old.until <= now).map(|_| Wanted::End)
    }

    /// The purposes whose next key waits, each with what its leaf says.
    ///
    /// # Errors
    /// Never for an agent's id.
    pub fn waiting(&self) -> Result<Vec<(Purpose, Announced)>, IdentityError> {
        let ring = self.ring();
        let mut waiting = Vec::new();
        if let Some(next) = &ring.request.next {
            let announced = Announced::Request(next.verifying().key_id());
            waiting.push((Purpose::Request, announced));
        }
        if let Some(next) = &ring.log.next {
            let key = log_key(&self.agent_id, *next.verifying())
                .map_err(|source| IdentityError::NameKey { source })?;
            waiting.push((Purpose::Log, Announced::Log(key)));
        }
        Ok(waiting)
    }

    /// How the ledger's key hands over to the next one, if there is a next one.
    ///
    /// # Errors
    /// Never for two keys of one agent.
    pub fn succession(&self) -> Result<Option<Succession>, IdentityError> {
        let log = self.ring().log;
        let handed = log
            .next
            .map(|next| Succession::of_logs(&self.agent_id, &log.current, &next));
        handed
            .transpose()
            .map_err(|source| IdentityError::HandOver { source })
    }

    /// Signs what is wanted of the dashboard.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn sign_rotation(
        &self,
        wanted: Wanted,
        authority: &str,
        challenge: &Challenge,
        created: Timestamp,
    ) -> Result<SignedRotation, IdentityError> {
        let (ring, succession) = (self.ring(), self.succession()?);
        let current = &ring.request.current;
        let (signer, new) = match wanted {
            Wanted::NewKeys => (current, ring.request.next.as_ref()),
            // The very rotation that was: whoever has forgotten it learns it again.
            Wanted::End => match &ring.request.previous {
                Some(previous) => (&previous.key, Some(current)),
                None => (current, None),
            },
        };
        let request = RotateRequest {
            fingerprint: self.fingerprint.clone(),
            request_key: new.map(|key| Jwk::from(*key.verifying())),
            log_key: succession.as_ref().map(ToString::to_string),
        };
        let body = serde_json::to_vec(&request)
            .map_err(|source| IdentityError::EncodeEnrolment { source })?;
        let new_key = new.map(AsRef::as_ref);
        let agent_id = self.agent_id.clone();
        let headers = sign_rotation(
            authority, &agent_id, &body, signer, new_key, created, challenge,
        );
        let log = ring.log.next.as_ref().unwrap_or(&ring.log.current);
        Ok(SignedRotation {
            agent_id,
            body,
            headers,
            request_key: new.unwrap_or(current).verifying().key_id(),
            log_key: log.verifying().key_id(),
        })
    }

    /// Keeps that the dashboard is about to be asked to take the next keys.
    ///
    /// # Errors
    /// When it cannot be kept; then nothing has changed.
    pub async fn asked(&self, now: Timestamp) -> Result<(), IdentityError> {
        let waits = self.wanted(now) == Some(Wanted::NewKeys);
        self.change(now, |kept| {
            if waits {
                ring::ask(kept);
            }
            Ok(())
        })
        .await
    }

    /// Whether the dashboard was asked to take the next keys and has not said no.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.ring().asked
    }

    /// Puts all next keys to use; those before sign beside them until then, or until they are settled.
    ///
    /// # Errors
    /// When it cannot be kept; then nothing has changed.
    pub async fn take_up(&self, now: Timestamp, until: Timestamp) -> Result<(), IdentityError> {
        self.change(now, |kept| {
            for purpose in Purpose::ALL {
                ring::take_up(kept, purpose, now, until);
            }
            Ok(())
        })
        .await
    }

    /// Forgets all next keys; none was used.
    ///
    /// # Errors
    /// When it cannot be kept; then nothing has changed.
    pub async fn give_up(&self, now: Timestamp) -> Result<(), IdentityError> {
        self.change(now, |kept| {
            for purpose in Purpose::ALL {
                ring::give_up(kept, purpose);
            }
            Ok(())
        })
        .await
    }

    /// Forgets the key before the current one.
    ///
    /// # Errors
    /// When it cannot be kept; then nothing has changed.
    pub async fn settle(&self, purpose: Purpose, now: Timestamp) -> Result<(), IdentityError> {
        self.change(now, |kept| {
            ring::settle(kept, purpose);
            Ok(())
        })
        .await
    }

    /// Whether heads are signed by the key before, too.
    #[must_use]
    pub fn hands_over_the_ledger(&self) -> bool {
        self.ring().log.previous.is_some()
    }

    /// The keys as they are now.
    pub(super) fn ring(&self) -> Ring {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.clone()
    }

    /// Keeps a change, then goes by it.
    async fn change(
        &self,
        now: Timestamp,
        edit: impl FnOnce(&mut Kept) -> Result<(), IdentityError>,
    ) -> Result<(), IdentityError> {
        let mut kept = self.kept.lock().await;
        let mut changed = kept.clone();
        edit(&mut changed)?;
        if changed == *kept {
            return Ok(());
        }
        changed.revision += 1;
        let ring = Ring::of(&changed)?;
        Keeper::new(&self.store, &self.key, now)
            .keep(&changed)
            .await?;
        *kept = changed;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(())
    }
}
