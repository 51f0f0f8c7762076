//! Every way in which the dashboard says no: a closed list, each with status, stable code and next step.

use cms_attest::answer::Detail;
use cms_attest::merkle::Inconsistent;
use cms_attest::{Digest, Problem, Refusal};
use cms_spec::{Category, CompanyId};
use jiff::Timestamp;

use crate::cosigner::CosignerError;
use crate::store::StoreError;

/// Seconds after which a request that met a busy store may come again.
const RETRY_BUSY_S: u32 = 5;

/// Characters of an agent's id.
const ID_CHARS_SHOWN: usize = 36;

/// Why a request is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the signature is agent {signer}'s, the idempotency key is agent {named}'s")]
    AgentMismatch { signer: String, named: String },
    #[error("no agent {0} is enrolled")]
    AgentUnknown(String),
    #[error(
        "the Authorization header is not one API key: an API key is cms_live_ or cms_test_ and 43 characters"
    )]
    ApiKeyMalformed,
    #[error("the request carries no API key")]
    ApiKeyMissing,
    #[error("the API key {0} was revoked")]
    ApiKeyRevoked(String),
    #[error("no such API key")]
    ApiKeyUnknown,
    #[error("the body is of the category {found}, the path of {path}")]
    CategoryMismatch { path: Category, found: Category },
    #[error("the challenge is unknown, expired or used")]
    ChallengeUnknown,
    #[error("too many challenges are open for this company")]
    ChallengesOpen,
    #[error("this request key is enrolled from another host: a cloned identity")]
    ClonedIdentity,
    #[error("there is no company {0}")]
    CompanyUnknown(String),
    #[error("the checkpoint cannot be taken: {0}")]
    CheckpointMalformed(String),
    #[error("the checkpoint is not signed by the ledger key that this agent enrolled with")]
    CheckpointUnsigned,
    #[error("receipts cannot be signed now")]
    Cosigner(#[from] CosignerError),
    #[error("the body does not decompress")]
    CompressionMalformed,
    #[error("the request took too long to arrive")]
    Deadline,
    #[error("the content encoding {0:?} is not understood")]
    EncodingUnsupported(String),
    #[error("the agent was revoked")]
    AgentRevoked,
    #[error("this agent has begun more ledgers than are kept")]
    EpochsMany,
    #[error("index {index} of this ledger was accepted with the leaf {stored}, this is {offered}")]
    Fork {
        index: u64,
        stored: Digest,
        offered: Digest,
    },
    #[error("this head does not continue the one that was cosigned before: {0}")]
    ForkedHead(Inconsistent),
    #[error("the submission's timestamp is {ahead_s} s in the future")]
    FromTheFuture { ahead_s: i64 },
    #[error("the submission says things that cannot be")]
    Implausible(Vec<Detail>),
    #[error("a field is missing: {}", .0.field)]
    Incomplete(Detail),
    #[error("another key has taken the place of the ledger key that signed this head")]
    LogKeyRetired,
    #[error("a field cannot be read: {}", .0.field)]
    Malformed(Detail),
    #[error("only {0} is served here")]
    MethodNotAllowed(&'static str),
    #[error("the content type is {0:?}")]
    MediaTypeUnsupported(String),
    #[error("nothing is served at {0}")]
    NotFound(String),
    #[error("the company of the API key is {key}, that of the body {body}")]
    OtherCompany { key: CompanyId, body: CompanyId },
    #[error("the checkpoint is of {0}, which is not this agent's ledger")]
    OtherOrigin(String),
    #[error("the agent's id and its request key are not enrolled together")]
    OtherAgentId,
    #[error("this request key is enrolled with another ledger key")]
    OtherLogKey,
    #[error("{0}")]
    QueryMalformed(String),
    #[error("the system gave no random numbers")]
    Random,
    #[error("there were too many requests of this API key or agent")]
    RateLimited { wait_s: u32 },
    #[error("this very request was accepted before")]
    Replayed,
    #[error("the request does not hold")]
    Signature(#[from] Refusal),
    #[error("the submission is {age_min} minutes old; a live one may be 30 minutes old")]
    Stale { age_min: i64 },
    #[error("the store cannot serve this now")]
    Store(#[from] StoreError),
    #[error("the body is larger than {max} bytes {}", if *.decoded { "after decompression" } else { "as sent" })]
    TooLarge { max: usize, decoded: bool },
    #[error("the submission is {age_days} days old; raw telemetry is kept for 90")]
    TooOld { age_days: i64 },
}

impl Refused {
    /// No agent has this id; of a path that names none, as much is said as an id has.
    pub(crate) fn agent_unknown(id: &str) -> Self {
        Self::AgentUnknown(id.chars().take(ID_CHARS_SHOWN).collect())
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Signature(refusal) => refusal.http_status(),
            Self::CheckpointMalformed(_) | Self::CompressionMalformed | Self::QueryMalformed(_) => {
                400
            }
            Self::ApiKeyMalformed
            | Self::ApiKeyMissing
            | Self::ApiKeyRevoked(_)
            | Self::ApiKeyUnknown
            | Self::ChallengeUnknown => 401,
            Self::AgentMismatch { .. }
            | Self::AgentRevoked
            | Self::CheckpointUnsigned
            | Self::EpochsMany
            | Self::LogKeyRetired
            | Self::OtherCompany { .. }
            | Self::OtherOrigin(_) => 403,
            Self::AgentUnknown(_) | Self::CompanyUnknown(_) | Self::NotFound(_) => 404,
            Self::MethodNotAllowed(_) => 405,
            Self::ClonedIdentity
            | Self::Fork { .. }
            | Self::OtherAgentId
            | Self::OtherLogKey
            | Self::Replayed => 409,
            Self::TooLarge { .. } => 413,
            Self::EncodingUnsupported(_) | Self::MediaTypeUnsupported(_) => 415,
            Self::CategoryMismatch { .. }
            | Self::ForkedHead(_)
            | Self::FromTheFuture { .. }
            | Self::Implausible(_)
            | Self::Incomplete(_)
            | Self::Malformed(_)
            | Self::Stale { .. }
            | Self::TooOld { .. } => 422,
            Self::ChallengesOpen | Self::RateLimited { .. } => 429,
            Self::Cosigner(_) | Self::Deadline | Self::Random | Self::Store(_) => 503,
        }
    }

    /// The stable word for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::AgentMismatch { .. } => "agent_mismatch",
            Self::AgentRevoked => "agent_revoked",
            Self::AgentUnknown(_) => "agent_unknown",
            Self::ApiKeyMalformed => "api_key_malformed",
            Self::ApiKeyMissing => "api_key_missing",
            Self::ApiKeyRevoked(_) => "api_key_revoked",
            Self::ApiKeyUnknown => "api_key_unknown",
            Self::CategoryMismatch { .. } => "category_mismatch",
            Self::ChallengeUnknown => "challenge_unknown",
            Self::ChallengesOpen => "challenges_open",
            Self::CheckpointMalformed(_) => "checkpoint_malformed",
            Self::CheckpointUnsigned => "checkpoint_unsigned",
            Self::ClonedIdentity => "cloned_identity",
            Self::CompanyUnknown(_) => "company_unknown",
            Self::CompressionMalformed => "compression_malformed",
            Self::Cosigner(_) => "cosigner_failed",
            Self::Deadline => "deadline",
            Self::EncodingUnsupported(_) => "encoding_unsupported",
            Self::EpochsMany => "epochs_many",
            Self::Fork { .. } | Self::ForkedHead(_) => "fork",
            Self::FromTheFuture { .. } => "from_the_future",
            Self::Implausible(_) => "implausible",
            Self::Incomplete(_) => "incomplete",
            Self::LogKeyRetired => "log_key_retired",
            Self::Malformed(_) => "malformed",
            Self::MediaTypeUnsupported(_) => "media_type_unsupported",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::NotFound(_) => "not_found",
            Self::OtherCompany { .. } => "other_company",
            Self::OtherAgentId => "other_agent_id",
            Self::OtherLogKey => "other_log_key",
            Self::OtherOrigin(_) => "other_origin",
            Self::QueryMalformed(_) => "query_malformed",
            Self::Random => "random",
            Self::RateLimited { .. } => "rate_limited",
            Self::Replayed => "replayed",
            Self::Signature(refusal) => refusal.code(),
            Self::Stale { .. } => "stale",
            Self::Store(StoreError::Busy) => "busy",
            Self::Store(_) => "store_failed",
            Self::TooLarge { .. } => "too_large",
            Self::TooOld { .. } => "too_old",
        }
    }

    /// What the sender can do about it.
    fn next_step(&self) -> String {
        match self {
            Self::MethodNotAllowed(allowed) => return format!("send {allowed}"),
            Self::RateLimited { wait_s } => return format!("send it again in {wait_s} seconds"),
            Self::TooLarge { max, .. } => {
                return format!("report fewer rows, or from several agents, within {max} bytes");
            }
            _ => {}
        }
        match self {
            Self::AgentMismatch { .. } => "sign with the key that this agent enrolled with",
            Self::AgentRevoked => "ask whoever runs the dashboard why, then enrol with new keys",
            Self::AgentUnknown(_) => "enrol the agent, then offer the checkpoint again",
            Self::ApiKeyMalformed | Self::ApiKeyMissing => {
                "send one header: Authorization: Bearer, and the key as the dashboard showed it"
            }
            Self::ApiKeyRevoked(_) => "put a live key into the agent's key file",
            Self::ApiKeyUnknown => "make a key with `dashboard key create` and give it to the agent",
            Self::CategoryMismatch { .. } => "post it to the endpoint of its own category",
            Self::ChallengeUnknown => "ask for a new challenge, then enrol again",
            Self::ChallengesOpen => "wait until some of them expire",
            Self::CheckpointMalformed(_) => {
                "write old size, proof, an empty line and the signed head, as the protocol shows it"
            }
            Self::CheckpointUnsigned => "sign with the ledger key that this agent enrolled with",
            Self::ClonedIdentity => {
                "if this host is a copy, stop its agent, run `cms-telemetry-agent key rotate --reset-identity` there, and start it again; if the agent has moved here, run `dashboard agent move` with its id at the dashboard"
            }
            Self::CompanyUnknown(_) => "check the id; `dashboard company list` shows all",
            Self::CompressionMalformed => "send one whole zstd frame, or no Content-Encoding",
            Self::Deadline => "send it again over a faster connection",
            Self::EncodingUnsupported(_) => "send Content-Encoding: zstd, or none",
            Self::EpochsMany => "enrol with new keys, as a new agent",
            Self::ForkedHead(_) => {
                "stop: two histories claim one ledger. Both heads are kept here; keep yours, and begin a new epoch"
            }
            Self::Fork { .. } => {
                "stop: two histories claim one place. Keep both, and begin a new epoch of the ledger"
            }
            Self::FromTheFuture { .. } => "set the clock of the agent's host",
            Self::Implausible(_) => "correct what `details` lists; the agent's log has the readings",
            Self::Incomplete(_) => "send every field that the specification, section II, shows",
            Self::LogKeyRetired => "sign with the key that took its place; if this agent was put back to an older state, run `key rotate --reset-identity`",
            Self::Malformed(_) => "write the field as the specification, section II, shows it",
            Self::MediaTypeUnsupported(_) => "send Content-Type: application/json",
            Self::NotFound(_) => "check the path; telemetry goes to /api/v1/telemetry/ and a category",
            Self::OtherCompany { .. } => "use the API key of the company that the body names",
            Self::OtherAgentId => "restore the agent's identity from a backup, or enrol it as a new agent",
            Self::OtherLogKey => "enrol again with a new request key",
            Self::OtherOrigin(_) => "name the ledger carbonmirror/<company>/<agent_id>/<epoch>",
            Self::QueryMalformed(_) => "write dates as YYYY-MM-DD",
            Self::Replayed => "sign a retry again, with its own nonce; nothing was lost",
            Self::Signature(refusal) => refusal.next_step(),
            Self::Stale { .. } => "send it as backfill: with CMS-Delivery: backfill, signed",
            Self::Cosigner(_) | Self::Random | Self::Store(_) => "send it again; it was not accepted",
            Self::TooOld { .. } => "leave it; the agent keeps its own record",
            Self::MethodNotAllowed(_) | Self::RateLimited { .. } | Self::TooLarge { .. } => "",
        }
        .to_owned()
    }

    /// Seconds to wait, where waiting helps.
    pub(crate) fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::RateLimited { wait_s } => Some(*wait_s),
            Self::ChallengesOpen
            | Self::Cosigner(_)
            | Self::Deadline
            | Self::Random
            | Self::Store(_) => Some(RETRY_BUSY_S),
            _ => None,
        }
    }

    /// The refusal as the JSON that every error has.
    pub(crate) fn problem(&self, now: Timestamp) -> Problem {
        let details = match self {
            Self::Implausible(details) => details.clone(),
            Self::Incomplete(detail) | Self::Malformed(detail) => vec![detail.clone()],
            _ => Vec::new(),
        };
        let message = match self {
            Self::Signature(refusal) => refusal.message(),
            other => other.to_string(),
        };
        Problem {
            error: self.code().to_owned(),
            message,
            next_step: self.next_step(),
            details,
            server_time: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_store_says_when_to_come_again() {
        let busy = Refused::Store(StoreError::Busy);
        assert_eq!((busy.status(), busy.code()), (503, "busy"));
        assert_eq!(busy.retry_after_s(), Some(RETRY_BUSY_S));
    }

    #[test]
    fn a_refused_signature_keeps_its_own_words() {
        let problem = Refused::from(Refusal::Unsigned).problem(Timestamp::UNIX_EPOCH);
        assert_eq!(problem, Refusal::Unsigned.problem(Timestamp::UNIX_EPOCH));
    }
}
