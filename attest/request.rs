//! Signed submissions: RFC 9421 signatures over one fixed list of components (specification, section I).
//!
//! [`sign`] writes every header of a submission, [`verify`] turns a request into [`Verified`], which nothing
//! else can make. The verifier demands exactly the profile's list; a covered header that is absent, doubled or
//! in another form is refused. `authorization` is not covered: who has only the public key could not verify.
//!
//! For a day after a rotation the replaced key signs beside its successor, under another label and tag. Every
//! signature of a known key must hold. The successor counts where it is known; only a verifier that has not
//! heard of it takes the request from the replaced key, so that one put back to an older state loses nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use cms_spec::payload::Delivery;
use jiff::Timestamp;

use crate::base::canonical_dictionary;
use crate::digest::Digest;
use crate::keys::{KeyId, SigningKey, VerifyingKey};
use crate::origin::{INDEX_MAX, IdempotencyKey};
use crate::profile::{
    CONTENT_DIGEST, CONTENT_ENCODING, CONTENT_TYPE, Claimed, Component, Draft, JSON, Mark, Profile,
    WINDOW_S, claim, sign as sign_profile,
};
use crate::refusal::Refusal;

/// How far the time of a signature may be from the verifier's, either way; also how long it holds.
pub const SIGNATURE_WINDOW_S: i64 = WINDOW_S;
/// Bytes of a nonce: 128 bits, so that no two are ever equal by chance.
pub const NONCE_BYTES: usize = 16;
/// The purpose in the signature's `tag`.
pub const TAG: &str = "cms-telemetry";
/// The label of the signature that a replaced key makes beside its successor's.
pub const PREVIOUS_LABEL: &str = "cms-prev";
/// Its purpose: it must not pass for a signature of a key that is current.
pub const PREVIOUS_TAG: &str = "cms-telemetry-prev";

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const LEDGER: &str = "cms-ledger";
const DELIVERY: &str = "cms-delivery";
const BACKFILL: &str = "backfill";

const SUBMISSION: Profile = Profile {
    tag: TAG,
    beside: Some(Mark {
        label: PREVIOUS_LABEL,
        tag: PREVIOUS_TAG,
    }),
    covered: &[
        Component::Method,
        Component::Authority,
        Component::Path,
        Component::Header(CONTENT_TYPE),
        Component::HeaderIfPresent(CONTENT_ENCODING),
        Component::Header(CONTENT_DIGEST),
        Component::Header(IDEMPOTENCY_KEY),
        Component::Header(LEDGER),
        Component::HeaderIfPresent(DELIVERY),
    ],
};

/// A submission that is about to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// The dashboard's host, and its port where it is not 443.
    pub authority: &'a str,
    /// The endpoint's path; a query would not be covered and is refused by the verifier.
    pub path: &'a str,
    /// How the body is compressed, if it is.
    pub content_encoding: Option<&'a str>,
    /// The leaf's name, the same at every retry.
    pub idempotency_key: IdempotencyKey,
    /// The leaf that vouches for the body.
    pub ledger: LedgerRef,
    /// Whether the submission may drive the current figures.
    pub delivery: Delivery,
    /// The exact bytes that go over the wire, after compression.
    pub body: &'a [u8],
}

/// A leaf of the ledger, as `CMS-Ledger` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerRef {
    /// Its place in the log.
    pub index: u64,
    /// Its hash.
    pub leaf: Digest,
}

impl LedgerRef {
    /// Writes the header's value: `index=<n>, leaf=:<base64>:`.
    #[must_use]
    pub fn header(&self) -> String {
        format!("index={}, leaf=:{}:", self.index.min(INDEX_MAX), self.leaf)
    }

    /// Reads the header's value; only the form that [`Self::header`] writes.
    pub fn parse_header(value: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::HeaderMalformed { name: LEDGER };
        let dictionary = canonical_dictionary(value).ok_or_else(malformed)?;
        let item = |name: &str| match dictionary.get(name) {
            Some(sfv::ListEntry::Item(item)) => Some(&item.bare_item),
            _ => None,
        };
        let index = item("index")
            .and_then(|i| i.as_integer())
            .ok_or_else(malformed)?;
        let leaf = item("leaf")
            .and_then(|l| l.as_byte_sequence())
            .ok_or_else(malformed)?;
        let ledger = Self {
            index: u64::try_from(i64::from(index)).map_err(|_| malformed())?,
            leaf: Digest::from_bytes(leaf.try_into().map_err(|_| malformed())?),
        };
        if ledger.header() == value {
            Ok(ledger)
        } else {
            Err(malformed())
        }
    }
}

/// Signs a submission: every header to set, except `authorization`. A retry signs the same bytes again, with a
/// new time and a new nonce.
#[must_use]
pub fn sign(
    request: &Outgoing<'_>,
    key: &SigningKey,
    created: Timestamp,
    nonce: [u8; NONCE_BYTES],
) -> Vec<(&'static str, String)> {
    sign_twice(request, key, None, created, nonce)
}

/// Signs a submission with a key and, while both are known, with the one that it has replaced.
#[must_use]
pub fn sign_twice(
    request: &Outgoing<'_>,
    key: &SigningKey,
    previous: Option<&SigningKey>,
    created: Timestamp,
    nonce: [u8; NONCE_BYTES],
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (CONTENT_TYPE, JSON.to_owned()),
        (IDEMPOTENCY_KEY, request.idempotency_key.header()),
        (LEDGER, request.ledger.header()),
    ];
    if let Some(coding) = request.content_encoding {
        headers.push((CONTENT_ENCODING, coding.to_owned()));
    }
    if request.delivery == Delivery::Backfill {
        headers.push((DELIVERY, BACKFILL.to_owned()));
    }
    let nonce = URL_SAFE_NO_PAD.encode(nonce);
    let Outgoing {
        authority,
        path,
        body,
        ..
    } = *request;
    let draft = Draft {
        authority,
        path,
        headers,
        body,
        created,
        nonce: &nonce,
    };
    sign_profile(&SUBMISSION, draft, key, previous)
}

/// A request as it arrived.
pub struct Incoming<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The path with its query, if it has one.
    pub path: &'a str,
    /// All values of a header, by its name in lower case.
    pub headers: &'a dyn Fn(&str) -> Vec<String>,
    /// The bytes of the body before any decompression.
    pub body: &'a [u8],
}

impl std::fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Incoming({} {}, {} bytes)",
            self.method,
            self.path,
            self.body.len()
        )
    }
}

/// A key as a verifier knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// The key.
    pub key: VerifyingKey,
    /// What it is worth.
    pub standing: Standing,
}

/// What a signature of a known key is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the agent's key.
    Current,
    /// It was replaced. Its requests must not count any more.
    Retired,
    /// It was replaced, and the agent may not have heard yet that its new key was taken.
    Retiring,
}

impl KnownKey {
    /// A key that nothing has replaced.
    #[must_use]
    pub const fn current(key: VerifyingKey) -> Self {
        Self {
            key,
            standing: Standing::Current,
        }
    }
}

/// The proof that a submission was signed by a live key, for this dashboard and now. Only [`verify`] makes one.
///
/// The caller still has to see that the nonce is new, that the key belongs to the agent of the idempotency key
/// and that the company of the body is the agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    key_id: KeyId,
    beside: Option<KeyId>,
    created: Timestamp,
    nonce: [u8; NONCE_BYTES],
    idempotency_key: IdempotencyKey,
    ledger: LedgerRef,
    delivery: Delivery,
    digest: Digest,
    content_encoding: Option<String>,
}

impl Verified {
    /// The key whose signature counts.
    #[must_use]
    pub const fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The replaced key, where it is known and has signed beside. The caller sees that both are one agent's.
    #[must_use]
    pub const fn beside(&self) -> Option<&KeyId> {
        self.beside.as_ref()
    }

    /// When the signature was made.
    #[must_use]
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// What makes this attempt different from every other; remember it for twice [`SIGNATURE_WINDOW_S`].
    #[must_use]
    pub const fn nonce(&self) -> &[u8; NONCE_BYTES] {
        &self.nonce
    }

    /// What is the same at every retry.
    #[must_use]
    pub const fn idempotency_key(&self) -> &IdempotencyKey {
        &self.idempotency_key
    }

    /// The leaf that vouches for the body.
    #[must_use]
    pub const fn ledger(&self) -> LedgerRef {
        self.ledger
    }

    /// What the sender says it is. Whether it is fresh enough to be live is the caller's judgement.
    #[must_use]
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The digest of the body as it arrived.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How the body is compressed, if it is.
    #[must_use]
    pub fn content_encoding(&self) -> Option<&str> {
        self.content_encoding.as_deref()
    }
}

/// Verifies a submission where every known key is current. `authority` is the dashboard's own name from its
/// configuration, never from the request.
pub fn verify(
    incoming: &Incoming<'_>,
    authority: &str,
    now: Timestamp,
    lookup: &dyn Fn(&KeyId) -> Option<VerifyingKey>,
) -> Result<Verified, Refusal> {
    let known = |id: &KeyId| lookup(id).map(KnownKey::current);
    verify_known(incoming, authority, now, &known)
}

/// Verifies a submission against keys of which some were replaced.
pub fn verify_known(
    incoming: &Incoming<'_>,
    authority: &str,
    now: Timestamp,
    lookup: &dyn Fn(&KeyId) -> Option<KnownKey>,
) -> Result<Verified, Refusal> {
    let claimed = claim(&SUBMISSION, incoming, authority)?;
    let first = lookup(&claimed.first.key_id);
    let beside = claimed
        .beside
        .as_ref()
        .and_then(|claim| lookup(&claim.key_id));
    let first_counts = match (first.map(|known| known.standing), beside) {
        (Some(Standing::Current | Standing::Retiring), _) => true,
        (Some(Standing::Retired), _) => {
            let key_id = claimed.first.key_id;
            return Err(Refusal::KeyRetired { key_id });
        }
        // The successor is not known here, and nothing is that took the place of the replaced key.
        (
            None,
            Some(KnownKey {
                standing: Standing::Current,
                ..
            }),
        ) => false,
        (None, _) => return Err(claimed.first.unknown()),
    };
    claimed.check_fresh(now)?;
    claimed.check_body(incoming)?;
    for (claim, known) in [
        (Some(&claimed.first), first),
        (claimed.beside.as_ref(), beside),
    ] {
        if let (Some(claim), Some(known)) = (claim, known) {
            claim.hold(&known.key)?;
        }
    }
    read_submission(claimed, first_counts, beside.is_some())
}

/// Reads the covered headers, once their signature holds.
fn read_submission(
    checked: Claimed,
    first_counts: bool,
    beside_is_known: bool,
) -> Result<Verified, Refusal> {
    let idempotency_key = IdempotencyKey::parse_header(checked.demanded(IDEMPOTENCY_KEY)?)
        .map_err(|_| Refusal::HeaderMalformed {
            name: IDEMPOTENCY_KEY,
        })?;
    let ledger = LedgerRef::parse_header(checked.demanded(LEDGER)?)?;
    if ledger.index != idempotency_key.index() {
        return Err(Refusal::IndexMismatch);
    }
    let delivery = match checked.header(DELIVERY) {
        None => Delivery::Live,
        Some(BACKFILL) => Delivery::Backfill,
        Some(_) => return Err(Refusal::HeaderMalformed { name: DELIVERY }),
    };
    let content_encoding = checked.header(CONTENT_ENCODING).map(str::to_owned);
    let nonce = decode_nonce(&checked.nonce).ok_or(Refusal::SignatureParameters)?;
    let Claimed {
        first,
        beside,
        created,
        digest,
        ..
    } = checked;
    let beside = beside.filter(|_| beside_is_known).map(|claim| claim.key_id);
    let (key_id, beside) = match (first_counts, beside) {
        (false, Some(previous)) => (previous, None),
        (_, beside) => (first.key_id, beside),
    };
    Ok(Verified {
        key_id,
        beside,
        created,
        nonce,
        idempotency_key,
        ledger,
        delivery,
        digest,
        content_encoding,
    })
}

fn decode_nonce(text: &str) -> Option<[u8; NONCE_BYTES]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
