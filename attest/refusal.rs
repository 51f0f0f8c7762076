//! Why a request is refused: a closed list, each with a stable code, an HTTP status and the next step in words.

use jiff::Timestamp;

use crate::answer::Problem;
use crate::keys::KeyId;

/// A request was not accepted as signed. `Display` says what is wrong and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body is not the one that was signed.
    DigestMismatch,
    /// The body of the rotation does not read.
    RotationBody {
        /// What does not.
        reason: String,
    },
    /// The body of the enrolment does not read.
    EnrolmentBody {
        /// What the JSON reader said.
        reason: String,
    },
    /// Signed longer ago than the window.
    Expired {
        /// When it was signed.
        created: Timestamp,
        /// The verifier's time.
        now: Timestamp,
    },
    /// Signed in the future, by more than the window.
    FutureSignature {
        /// When it was signed.
        created: Timestamp,
        /// The verifier's time.
        now: Timestamp,
    },
    /// A header is not in its one form.
    HeaderMalformed {
        /// Which one.
        name: &'static str,
    },
    /// A header is needed and absent.
    HeaderMissing {
        /// Which one.
        name: &'static str,
    },
    /// A header that must stand once stands more often.
    HeaderRepeated {
        /// Which one.
        name: &'static str,
    },
    /// The idempotency key and the ledger header name different leaves.
    IndexMismatch,
    /// Enrolment or rotation is not signed by the key that it registers.
    KeyMismatch,
    /// The key was replaced by another.
    KeyRetired {
        /// The key that the request names.
        key_id: KeyId,
    },
    /// A rotation brings a key that cannot take the place of the one in use.
    KeyReused,
    /// The key is not registered, or was withdrawn.
    KeyUnknown {
        /// The key that the request names.
        key_id: KeyId,
    },
    /// Enrolment offered one key for both purposes.
    KeysEqual,
    /// Not a POST.
    Method,
    /// The path has a query or is not a path.
    Path,
    /// The covered components are not the list of the profile.
    SignatureCoverage {
        /// The list that is demanded.
        expected: String,
    },
    /// The signature does not hold.
    SignatureInvalid,
    /// The parameters of the signature are not the ones of the profile.
    SignatureParameters,
    /// More than one signature claims to be ours.
    SignatureRepeated,
    /// The signature is for another purpose.
    SignatureTag {
        /// The purpose that is demanded.
        expected: &'static str,
    },
    /// There is no signature.
    Unsigned,
}

impl Refusal {
    /// The stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::DigestMismatch => "digest_mismatch",
            Self::EnrolmentBody { .. } => "enrolment_malformed",
            Self::Expired { .. } => "signature_expired",
            Self::FutureSignature { .. } => "signature_in_future",
            Self::HeaderMalformed { .. } => "header_malformed",
            Self::HeaderMissing { .. } => "header_missing",
            Self::HeaderRepeated { .. } => "header_repeated",
            Self::IndexMismatch => "index_mismatch",
            Self::KeyMismatch => "key_mismatch",
            Self::KeyRetired { .. } => "key_retired",
            Self::KeyReused => "key_reused",
            Self::KeyUnknown { .. } => "key_unknown",
            Self::KeysEqual => "keys_equal",
            Self::Method => "method_not_signed",
            Self::Path => "path_malformed",
            Self::RotationBody { .. } => "rotation_malformed",
            Self::SignatureCoverage { .. } => "signature_coverage",
            Self::SignatureInvalid => "signature_invalid",
            Self::SignatureParameters => "signature_parameters",
            Self::SignatureRepeated => "signature_repeated",
            Self::SignatureTag { .. } => "signature_tag",
            Self::Unsigned => "unsigned",
        }
    }

    /// The HTTP status to answer with: 400 for what does not read, 401 for what proves nothing.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::EnrolmentBody { .. }
            | Self::HeaderMalformed { .. }
            | Self::HeaderMissing { .. }
            | Self::HeaderRepeated { .. }
            | Self::IndexMismatch
            | Self::KeyReused
            | Self::KeysEqual
            | Self::Method
            | Self::Path
            | Self::RotationBody { .. } => 400,
            Self::DigestMismatch
            | Self::Expired { .. }
            | Self::FutureSignature { .. }
            | Self::KeyMismatch
            | Self::KeyRetired { .. }
            | Self::KeyUnknown { .. }
            | Self::SignatureCoverage { .. }
            | Self::SignatureInvalid
            | Self::SignatureParameters
            | Self::SignatureRepeated
            | Self::SignatureTag { .. }
            | Self::Unsigned => 401,
        }
    }

    /// What is wrong, in one clause.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::DigestMismatch => "the body is not the one that Content-Digest names".to_owned(),
            Self::EnrolmentBody { reason } => format!("the enrolment does not read: {reason}"),
            Self::Expired { created, now } => {
                format!("the request was signed at {created}, too long before {now}")
            }
            Self::FutureSignature { created, now } => {
                format!("the request was signed at {created}, too far after {now}")
            }
            Self::HeaderMalformed { name } => format!("the header {name} is not in its one form"),
            Self::HeaderMissing { name } => format!("the header {name} is missing"),
            Self::HeaderRepeated { name } => format!("the header {name} stands more than once"),
            Self::IndexMismatch => {
                "Idempotency-Key and CMS-Ledger name different leaves".to_owned()
            }
            Self::KeyMismatch => "the request is not signed by the key it registers".to_owned(),
            Self::KeyRetired { key_id } => format!("another key has taken the place of {key_id}"),
            Self::KeyReused => "the new key is one that is in use already".to_owned(),
            Self::KeyUnknown { key_id } => format!("no live key is registered under {key_id}"),
            Self::KeysEqual => "request_key and log_key are the same key".to_owned(),
            Self::Method => "only POST requests are accepted as signed".to_owned(),
            Self::Path => "the path has a query or is not an absolute path".to_owned(),
            Self::RotationBody { reason } => format!("the rotation does not read: {reason}"),
            Self::SignatureCoverage { expected } => {
                format!("the signature does not cover exactly {expected}")
            }
            Self::SignatureInvalid => "the signature does not hold for this request".to_owned(),
            Self::SignatureParameters => {
                "the signature's parameters are not those of the profile".to_owned()
            }
            Self::SignatureRepeated => {
                "more than one signature claims to be the agent's".to_owned()
            }
            Self::SignatureTag { expected } => {
                format!("the signature's tag is not \"{expected}\"")
            }
            Self::Unsigned => "the request carries no signature under the label cms".to_owned(),
        }
    }

    /// What the sender can do about it.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::DigestMismatch => {
                "send the exact bytes that were signed, and let no proxy rewrite the body"
            }
            Self::EnrolmentBody { .. } => "send the JSON that PROTOCOL.md shows for enrolment",
            Self::Expired { .. } => {
                "sign the same bytes again, and if it persists set the clock of this host"
            }
            Self::FutureSignature { .. } => "set the clock of this host, then sign again",
            Self::HeaderMalformed { .. } => "write it as PROTOCOL.md shows it",
            Self::HeaderMissing { .. } => "send it, and check that no proxy removes it",
            Self::HeaderRepeated { .. } => "send it once, and check that no proxy adds another",
            Self::IndexMismatch => "build both headers from one ledger leaf",
            Self::KeyMismatch => "sign with the private half of request_key",
            Self::KeyRetired { .. } => {
                "sign with the key that took its place; if this agent was put back to an older state, run `key rotate --reset-identity`"
            }
            Self::KeyReused => "make a new key, and rotate to that one",
            Self::KeyUnknown { .. } => "enrol the agent again, or ask who withdrew the key",
            Self::KeysEqual => "make two keys, one for requests and one for the ledger",
            Self::Method => "send a POST request",
            Self::Path => "send the endpoint's path alone, beginning with a slash",
            Self::RotationBody { .. } => "send the JSON that PROTOCOL.md shows for rotation",
            Self::SignatureCoverage { .. } => "cover exactly these components in this order",
            Self::SignatureInvalid => {
                "check that both sides have the same authority and that no proxy changes the request"
            }
            Self::SignatureParameters => {
                "send created, expires 300 seconds later, nonce, keyid and tag, each once"
            }
            Self::SignatureRepeated => "send one signature, under the label cms",
            Self::SignatureTag { .. } => "sign the request for the endpoint that it is sent to",
            Self::Unsigned => {
                "sign it, and check that no proxy removes Signature-Input and Signature"
            }
        }
    }

    /// The refusal as the JSON answer of an error.
    #[must_use]
    pub fn problem(&self, server_time: Timestamp) -> Problem {
        Problem {
            error: self.code().to_owned(),
            message: self.message(),
            next_step: self.next_step().to_owned(),
            details: Vec::new(),
            server_time,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.message(), self.next_step())
    }
}

impl std::error::Error for Refusal {}
