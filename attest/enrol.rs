//! Enrolment: an agent shows its keys and proves that it holds the private half of the one for requests.
//!
//! First the agent asks for a challenge, then it posts [`EnrolRequest`] signed by the request key with the
//! challenge as nonce. A request signed for enrolment is no submission and the other way round: the tags differ.

use cms_spec::CompanyId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keys::{Jwk, SigningKey, VerifyingKey};
use crate::leaf::Word;
use crate::origin::AgentId;
use crate::profile::{
    CONTENT_DIGEST, CONTENT_TYPE, Component, Draft, JSON, Profile, check, sign as sign_profile,
};
use crate::refusal::Refusal;
use crate::request::Incoming;

/// Where a challenge is asked for.
pub const CHALLENGE_PATH: &str = "/api/v1/agents/challenge";
/// Where the enrolment is posted.
pub const ENROL_PATH: &str = "/api/v1/agents/enroll";
/// The purpose in the signature's `tag`.
pub const TAG: &str = "cms-enroll";
/// Shortest challenge: 128 bits in base64url.
pub const CHALLENGE_BYTES_MIN: usize = 22;
/// Longest challenge. It is random, so more would prove nothing more.
pub const CHALLENGE_BYTES_MAX: usize = 128;
/// Longest body of an enrolment. Ours are below 1 KiB.
pub const ENROL_BODY_BYTES_MAX: usize = 16 * 1024;

const ENROLMENT: Profile = Profile {
    tag: TAG,
    beside: None,
    covered: &[
        Component::Method,
        Component::Authority,
        Component::Path,
        Component::Header(CONTENT_TYPE),
        Component::Header(CONTENT_DIGEST),
    ],
};

/// The dashboard's random text that the enrolment has to sign: 22 to 128 characters of base64url.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Challenge(String);

impl Challenge {
    /// The challenge as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Challenge {
    type Err = ChallengeError;

    fn from_str(text: &str) -> Result<Self, ChallengeError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let length = CHALLENGE_BYTES_MIN..=CHALLENGE_BYTES_MAX;
        if length.contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ChallengeError)
        }
    }
}

/// A text is not a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the challenge is not {CHALLENGE_BYTES_MIN} to {CHALLENGE_BYTES_MAX} characters of base64url: ask the dashboard for a new one"
)]
pub struct ChallengeError;

impl TryFrom<String> for Challenge {
    type Error = ChallengeError;
    fn try_from(text: String) -> Result<Self, ChallengeError> {
        text.parse()
    }
}

impl From<Challenge> for String {
    fn from(challenge: Challenge) -> Self {
        challenge.0
    }
}

/// The answer to the first step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeAnswer {
    /// What the enrolment has to sign.
    pub challenge: Challenge,
    /// Until when.
    pub expires_at: Timestamp,
}

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The id that the agent gave itself, so that it can keep a ledger before it has met a dashboard.
    pub agent_id: AgentId,
    /// Whom it reports for.
    pub company_id: CompanyId,
    /// The key that will sign its requests.
    pub request_key: Jwk,
    /// The key that will sign heads of its ledger; never the same.
    pub log_key: Jwk,
    /// A salted digest of the host's ids: it tells a cloned image from a restarted agent and nothing else.
    pub fingerprint: String,
    /// The agent's version.
    pub version: String,
    /// Where it stands, if configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
}

/// What the dashboard gives an agent that it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAnswer {
    /// Its id.
    pub agent_id: AgentId,
    /// The public id of the API key that it enrolled with; its leaves name it.
    pub api_key_id: Word,
    /// What verifies its receipts, as its owner publishes it; nothing where a dashboard gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosigner: Option<String>,
    /// How its keys for receipts followed on each other, as notes, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub successions: Vec<String>,
    /// The dashboard's time.
    pub server_time: Timestamp,
}

/// The proof that whoever enrols holds the request key. Only [`verify_enrolment`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedEnrolment {
    request: EnrolRequest,
    challenge: Challenge,
}

impl VerifiedEnrolment {
    /// What the agent says of itself.
    #[must_use]
    pub const fn request(&self) -> &EnrolRequest {
        &self.request
    }

    /// The challenge that it signed. The caller sees that it gave it out, to this API key, and takes it back.
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }
}

/// Signs an enrolment: every header to set, except `authorization`. `body` is the JSON of an [`EnrolRequest`].
#[must_use]
pub fn sign_enrolment(
    authority: &str,
    body: &[u8],
    key: &SigningKey,
    created: Timestamp,
    challenge: &Challenge,
) -> Vec<(&'static str, String)> {
    let headers = vec![(CONTENT_TYPE, JSON.to_owned())];
    let nonce = challenge.as_str();
    let draft = Draft {
        authority,
        path: ENROL_PATH,
        headers,
        body,
        created,
        nonce,
    };
    sign_profile(&ENROLMENT, draft, key, None)
}

/// Verifies an enrolment against the key in its own body.
pub fn verify_enrolment(
    incoming: &Incoming<'_>,
    authority: &str,
    now: Timestamp,
) -> Result<VerifiedEnrolment, Refusal> {
    let unreadable = |reason: String| Refusal::EnrolmentBody { reason };
    if incoming.body.len() > ENROL_BODY_BYTES_MAX {
        return Err(unreadable(format!(
            "it is longer than {ENROL_BODY_BYTES_MAX} bytes"
        )));
    }
    if incoming.path != ENROL_PATH {
        return Err(Refusal::Path);
    }
    let request: EnrolRequest =
        serde_json::from_slice(incoming.body).map_err(|error| unreadable(error.to_string()))?;
    if request.request_key == request.log_key {
        return Err(Refusal::KeysEqual);
    }
    let key: VerifyingKey = *request.request_key.key();
    let checked = check(&ENROLMENT, incoming, authority, now, &key);
    let checked = checked.map_err(|refusal| match refusal {
        Refusal::KeyUnknown { .. } => Refusal::KeyMismatch,
        other => other,
    })?;
    let challenge = checked
        .nonce
        .parse()
        .map_err(|_| Refusal::SignatureParameters)?;
    Ok(VerifiedEnrolment { request, challenge })
}
