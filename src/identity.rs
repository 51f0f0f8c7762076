//! Who this agent is: its keys, its id and its fingerprint. The only file that sees private keys.
//!
//! Two Ed25519 keys are made on the host at the first start and never leave it: one signs requests, one is
//! for the ledger. They are kept sealed, once in a file and once in the store (`keep`). The fingerprint tells a
//! cloned image from its original without naming the machine.

mod keep;
mod kept;
mod machine;
mod ring;
mod rotation;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use cms_attest::checkpoint::{Checkpoint, CheckpointError};
use cms_attest::enrol::{Challenge, EnrolRequest, sign_enrolment};
use cms_attest::keys::{Jwk, KeyId};
use cms_attest::note::{Algorithm, NoteKey};
use cms_attest::origin::{AgentId, Origin};
use cms_attest::request::{LedgerRef, Outgoing, sign_twice};
use cms_attest::succession::SuccessionError;
use cms_spec::CompanyId;
use cms_spec::payload::Delivery;
use jiff::Timestamp;

use crate::api_keys::ApiKeys;
use crate::clock::Clock;
use crate::config::Endpoint;
use crate::seal::StoreKey;
use crate::store::{Moment, Snapshot, Store, StoreError, Submission};
use keep::Keeper;
use kept::Kept;
use ring::Ring;

pub use keep::Found;
pub use machine::Machine;
pub use rotation::{HeldKey, KeyState, Purpose, SignedRotation, Wanted};

/// The agent's keys and id.
#[derive(Debug)]
pub struct Identity {
    agent_id: AgentId,
    fingerprint: String,
    /// The keys that are in use.
    ring: RwLock<Ring>,
    /// What is kept; whoever changes it holds it.
    kept: tokio::sync::Mutex<Kept>,
    store: Store,
    key: StoreKey,
}

/// A submission with the headers that sign it, for one attempt. Only [`Identity::sign`] makes one.
#[derive(Clone, Debug)]
pub struct SignedRequest<'a> {
    submission: &'a Submission,
    authority: String,
    path: String,
    headers: Vec<(&'static str, String)>,
    delivery: Delivery,
}

/// An enrolment with the headers that sign it. Only [`Identity::sign_enrolment`] makes one.
#[derive(Clone, Debug)]
pub struct SignedEnrolment {
    /// The exact bytes.
    pub body: Vec<u8>,
    /// The headers to set.
    pub headers: Vec<(&'static str, String)>,
}

impl Identity {
    /// Opens the identity of a store's agent, making it at the first start. Says how it was found.
    ///
    /// # Errors
    /// When it cannot be kept, neither in its file nor in the store, or was made on another machine.
    pub async fn open(
        store: &Store,
        key: &StoreKey,
        machine: &Machine,
        now: Timestamp,
    ) -> Result<(Self, Found), IdentityError> {
        let keeper = Keeper::new(store, key, now);
        let (mut kept, found) = keeper.open().await?;
        match &found {
            Found::Lost(why) => tracing::error!(
                why,
                agent_id = %kept.agent_id,
                "the agent's identity is lost; it goes on under a new one, and enrols again"
            ),
            Found::Repaired(why) => tracing::warn!(why, "the agent's identity was repaired"),
            Found::Reset => tracing::info!(
                agent_id = %kept.agent_id,
                "the identity was reset: this agent is a new one"
            ),
            Found::Made | Found::Whole => {}
        }
        if ring::bind(&mut kept, machine, false)? {
            kept.revision += 1;
            keeper.keep(&kept).await?;
        }
        let ring = Ring::of(&kept)?;
        let (fingerprint, is_same) = ring::fingerprint(&kept, &ring.request.current, machine);
        if !is_same {
            return Err(IdentityError::OtherMachine {
                agent_id: kept.agent_id,
            });
        }
        let identity = Self {
            agent_id: kept.agent_id.clone(),
            fingerprint,
            ring: RwLock::new(ring),
            kept: tokio::sync::Mutex::new(kept),
            store: store.clone(),
            key: key.clone(),
        };
        Ok((identity, found))
    }

    /// Binds the identity in a store to this machine: a person says that the agent has moved here.
    ///
    /// # Errors
    /// When it cannot be read or kept.
    pub async fn settle_here(
        store: &Store,
        key: &StoreKey,
        machine: &Machine,
        now: Timestamp,
    ) -> Result<AgentId, IdentityError> {
        let keeper = Keeper::new(store, key, now);
        let (mut kept, _) = keeper.open().await?;
        ring::bind(&mut kept, machine, true)?;
        kept.revision += 1;
        keeper.keep(&kept).await?;
        Ok(kept.agent_id)
    }

    /// The agent's own id, a UUID of version 7.
    #[must_use]
    pub fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    /// The public name of the request key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.ring().request.current.verifying().key_id()
    }

    /// What the dashboard knows this machine by.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Signs one attempt to send a submission; for a day after a rotation with the replaced key, too.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign<'a>(
        &self,
        submission: &'a Submission,
        endpoint: &Endpoint,
        created: Timestamp,
        delivery: Delivery,
    ) -> Result<SignedRequest<'a>, IdentityError> {
        let path = endpoint.path(&format!("telemetry/{}", submission.category()));
        let request = self.ring().request;
        let previous = request.previous.as_ref().map(|old| old.key.as_ref());
        let headers = sign_twice(
            &Outgoing {
                authority: endpoint.authority(),
                path: &path,
                content_encoding: None,
                idempotency_key: submission.origin().idempotency_key(submission.index()),
                ledger: LedgerRef {
                    index: submission.index(),
                    leaf: submission.leaf(),
                },
                delivery,
                body: submission.body(),
            },
            &request.current,
            previous,
            created,
            random_bytes()?,
        );
        let authority = endpoint.authority().to_owned();
        Ok(SignedRequest {
            submission,
            authority,
            path,
            headers,
            delivery,
        })
    }

    /// The key that verifies the heads of a log, as witnesses want to be told it.
    #[must_use]
    pub fn log_key_of(&self, origin: &Origin) -> Option<String> {
        let name = origin.to_string().parse().ok()?;
        let key = NoteKey::new(
            name,
            Algorithm::Ed25519,
            *self.ring().log.current.verifying(),
        );
        Some(key.to_string())
    }

    /// Signs a head of the ledger, with the key that signs nothing else. The first one after a rotation has the
    /// replaced key's signature above it.
    ///
    /// # Errors
    /// When the head's name does not fit into a signed note.
    pub fn sign_head(&self, head: &Checkpoint) -> Result<String, CheckpointError> {
        let log = self.ring().log;
        let previous = log.previous.as_ref().map(|old| old.key.as_ref());
        let keys: Vec<_> = previous.into_iter().chain([&*log.current]).collect();
        head.sign_with(&keys)
    }

    /// Signs the request to enrol, which proves possession of the request key.
    ///
    /// # Errors
    /// When the request cannot be encoded.
    pub fn sign_enrolment(
        &self,
        company: &CompanyId,
        site: &str,
        authority: &str,
        challenge: &Challenge,
        created: Timestamp,
    ) -> Result<SignedEnrolment, IdentityError> {
        let ring = self.ring();
        let key = &ring.request.current;
        let request = EnrolRequest {
            agent_id: self.agent_id.clone(),
            company_id: company.clone(),
            request_key: Jwk::from(*key.verifying()),
            log_key: Jwk::from(*ring.log.current.verifying()),
            fingerprint: self.fingerprint.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            site: Some(site.to_owned()),
        };
        let body = serde_json::to_vec(&request)
            .map_err(|source| IdentityError::EncodeEnrolment { source })?;
        let headers = sign_enrolment(authority, &body, key, created, challenge);
        Ok(SignedEnrolment { body, headers })
    }
}

impl<'a> SignedRequest<'a> {
    /// What is sent.
    #[must_use]
    pub fn submission(&self) -> &'a Submission {
        self.submission
    }

    /// The path that was signed.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}{}", self.authority, self.path)
    }

    /// The headers to set.
    #[must_use]
    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    /// How it is offered.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }
}

/// The public keys of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Signs requests.
    pub request_key: Jwk,
    /// Signs heads of the ledger.
    pub log_key: Jwk,
}

/// The public keys of the agent whose store this is. Unlike [`Identity::open`] it makes nothing.
///
/// # Errors
/// When there is no identity that can be read.
pub fn published(
    store: &Path,
    snapshot: &Snapshot,
    key: &StoreKey,
) -> Result<Published, IdentityError> {
    let directory = store.join("identity");
    let copy = snapshot.identity()?;
    let kept = keep::read_only(&directory, copy.as_deref(), key)
        .ok_or(IdentityError::Find { path: directory })?;
    let ring = Ring::of(&kept)?;
    Ok(Published {
        request_key: Jwk::from(*ring.request.current.verifying()),
        log_key: Jwk::from(*ring.log.current.verifying()),
    })
}

/// The moment at which a leaf is written, with the API key that is in use then.
#[must_use]
pub fn moment(clock: &Clock, api_keys: &ApiKeys) -> Moment {
    let key_id = api_keys.read().ok().and_then(|key| key.id().parse().ok());
    Moment {
        now: clock.now(),
        boot_id: clock.boot_id(),
        boottime_ms: clock.boottime_ms(),
        api_key_id: key_id,
    }
}

/// Random bytes of the system.
///
/// # Errors
/// When the system has none to give.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| IdentityError::NoRandomness)?;
    Ok(bytes)
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The enrolment cannot be written as JSON.
    #[error("cannot encode the enrolment")]
    EncodeEnrolment {
        /// What the library said.
        source: serde_json::Error,
    },
    /// There is none, or it cannot be read.
    #[error(
        "no identity can be read in {} or in the store: start the agent, which makes or repairs it",
        path.display()
    )]
    Find {
        /// Its directory.
        path: PathBuf,
    },
    /// Keys that do not follow on each other.
    #[error("the new ledger key cannot take over from the old one")]
    HandOver {
        /// What the library said.
        source: SuccessionError,
    },
    /// The name of a key cannot be written.
    #[error("cannot name the ledger key")]
    NameKey {
        /// What the library said.
        source: cms_attest::note::NoteError,
    },
    /// No random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// The identity is somebody else's, or has moved.
    #[error(
        "the identity of agent {agent_id} was made on another machine, and one of the two must not use it"
    )]
    OtherMachine {
        /// Whose it is.
        agent_id: AgentId,
    },
    /// A second rotation would lose the first.
    #[error(
        "the last rotation of the ledger key waits for its first receipt: try again when `status` shows it"
    )]
    Rotating,
    /// What is damaged cannot be moved away.
    #[error("cannot set a damaged identity aside in {}: make the directory writable", path.display())]
    SetAside {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store fails.
    #[error("cannot keep the identity")]
    Store(#[from] StoreError),
    /// The key cannot be used.
    #[error("cannot use the signing key")]
    UseKey {
        /// What the library said.
        source: cms_attest::keys::KeyError,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
