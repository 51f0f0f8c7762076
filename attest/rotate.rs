//! Rotation: an agent brings new keys in the place of those that the dashboard knows.
//!
//! As in enrolment the agent asks for a challenge first. It posts [`RotateRequest`], signed by the request key
//! that the dashboard knows with the challenge as nonce; a new request key signs the same components beside it,
//! which proves that it is the sender's. A new log key comes as a [`Succession`], signed by the old and the new
//! one: the key for requests alone never moves a ledger to another key, and log keys sign notes only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::enrol::Challenge;
use crate::keys::{Jwk, KeyId, SigningKey, VerifyingKey};
use crate::note::Algorithm;
use crate::origin::AgentId;
use crate::profile::{
    CONTENT_DIGEST, CONTENT_TYPE, Component, Draft, JSON, Mark, Profile, claim,
    sign as sign_profile,
};
use crate::refusal::Refusal;
use crate::request::{Incoming, KnownKey, Standing};
use crate::succession::Succession;

/// The purpose of the signature under the key that is known.
pub const TAG: &str = "cms-rotate";
/// The label of the new request key's signature.
pub const NEW_LABEL: &str = "cms-new";
/// Its purpose.
pub const NEW_TAG: &str = "cms-rotate-new";
/// Longest body of a rotation. Ours are below 2 KiB.
pub const ROTATE_BODY_BYTES_MAX: usize = 16 * 1024;

const ROTATION: Profile = Profile {
    tag: TAG,
    beside: Some(Mark {
        label: NEW_LABEL,
        tag: NEW_TAG,
    }),
    covered: &[
        Component::Method,
        Component::Authority,
        Component::Path,
        Component::Header(CONTENT_TYPE),
        Component::Header(CONTENT_DIGEST),
    ],
};

/// Where an agent's rotation is posted.
#[must_use]
pub fn path(agent: &AgentId) -> String {
    format!("/api/v1/agents/{agent}/rotate")
}

/// What an agent brings: one new key or two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// The fingerprint that it enrolled with: a clone has another.
    pub fingerprint: String,
    /// The key that will sign its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_key: Option<Jwk>,
    /// The succession to the key that will sign heads of its ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_key: Option<String>,
}

/// Which keys the dashboard holds now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateAnswer {
    /// Signs requests.
    pub request_key: KeyId,
    /// Until when requests of the key before are taken, unless the new one is seen earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_until: Option<Timestamp>,
    /// Signs heads of the ledger. The key before is taken until a head of this one comes.
    pub log_key: KeyId,
    /// The dashboard's time.
    pub server_time: Timestamp,
}

/// The proof that the holder of a known key, of every new key and of the log key asks for this. Only
/// [`verify_rotation`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRotation {
    signer: KnownKey,
    fingerprint: String,
    request_key: Option<VerifyingKey>,
    log_key: Option<Succession>,
    challenge: Challenge,
}

impl VerifiedRotation {
    /// The known key that signed. One that was replaced may only repeat the rotation that replaced it.
    #[must_use]
    pub const fn signer(&self) -> &KnownKey {
        &self.signer
    }

    /// The fingerprint of the host that asks.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The new key for requests, whose holder asks.
    #[must_use]
    pub const fn request_key(&self) -> Option<&VerifyingKey> {
        self.request_key.as_ref()
    }

    /// The succession to the new key of the logs. The caller sees that its first key is the one in use.
    #[must_use]
    pub const fn log_key(&self) -> Option<&Succession> {
        self.log_key.as_ref()
    }

    /// The challenge that was signed. The caller sees that it gave it out, to this API key, and takes it back.
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }
}

/// Signs a rotation: every header to set, except `authorization`. `body` is the JSON of a [`RotateRequest`].
#[must_use]
pub fn sign_rotation(
    authority: &str,
    agent: &AgentId,
    body: &[u8],
    key: &SigningKey,
    new: Option<&SigningKey>,
    created: Timestamp,
    challenge: &Challenge,
) -> Vec<(&'static str, String)> {
    let draft = Draft {
        authority,
        path: &path(agent),
        headers: vec![(CONTENT_TYPE, JSON.to_owned())],
        body,
        created,
        nonce: challenge.as_str(),
    };
    sign_profile(&ROTATION, draft, key, new)
}

/// Verifies a rotation of this agent's keys. `lookup` finds the agent's request keys and no other agent's.
///
/// # Errors
/// When a key that must sign has not, a new key is an old one, or the body does not read.
pub fn verify_rotation(
    incoming: &Incoming<'_>,
    authority: &str,
    agent: &AgentId,
    now: Timestamp,
    lookup: &dyn Fn(&KeyId) -> Option<KnownKey>,
) -> Result<VerifiedRotation, Refusal> {
    let unreadable = |reason: String| Refusal::RotationBody { reason };
    if incoming.body.len() > ROTATE_BODY_BYTES_MAX {
        return Err(unreadable(format!(
            "it is longer than {ROTATE_BODY_BYTES_MAX} bytes"
        )));
    }
    if incoming.path != path(agent) {
        return Err(Refusal::Path);
    }
    let claimed = claim(&ROTATION, incoming, authority)?;
    let signer = lookup(&claimed.first.key_id).ok_or_else(|| claimed.first.unknown())?;
    claimed.check_fresh(now)?;
    claimed.check_body(incoming)?;
    claimed.first.hold(&signer.key)?;
    let request: RotateRequest =
        serde_json::from_slice(incoming.body).map_err(|error| unreadable(error.to_string()))?;
    let request_key = request.request_key.map(|jwk| *jwk.key());
    match (&request_key, &claimed.beside) {
        (Some(key), Some(beside)) if key.key_id() == beside.key_id => beside.hold(key)?,
        (None, None) => {}
        _ => return Err(Refusal::KeyMismatch),
    }
    let log_key = request.log_key.as_deref().map(str::parse::<Succession>);
    let log_key = log_key
        .transpose()
        .map_err(|error| unreadable(format!("log_key: {error}")))?;
    if let Some(succession) = &log_key
        && (succession.from().name().as_str() != agent.as_str()
            || succession.from().algorithm() != Algorithm::Ed25519)
    {
        return Err(unreadable(
            "log_key: it is not of this agent's logs".to_owned(),
        ));
    }
    if request_key.is_none() && log_key.is_none() {
        return Err(unreadable("it brings no new key".to_owned()));
    }
    // A replaced key repeats what has replaced it, because the answer was lost; it asks for nothing new.
    if signer.standing == Standing::Retired && request_key.is_none() {
        let key_id = claimed.first.key_id;
        return Err(Refusal::KeyRetired { key_id });
    }
    let new_log = log_key.as_ref().map(|succession| *succession.to().key());
    let reused = request_key == Some(signer.key)
        || new_log == Some(signer.key)
        || (request_key.is_some() && request_key == new_log)
        || log_key
            .as_ref()
            .is_some_and(|log| request_key.as_ref() == Some(log.from().key()));
    if reused {
        return Err(Refusal::KeyReused);
    }
    let challenge = claimed
        .nonce
        .parse()
        .map_err(|_| Refusal::SignatureParameters)?;
    Ok(VerifiedRotation {
        signer,
        fingerprint: request.fingerprint,
        request_key,
        log_key,
        challenge,
    })
}
