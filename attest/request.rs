//! Signed submissions: RFC 9421 signatures over one fixed list of components (specification, section I).
//!
//! [`sign`] writes every header of a submission, [`verify`] turns a request into [`Verified`], which nothing
//! else can make. The verifier demands exactly the profile's list; a covered header that is absent, doubled or
//! in another form is refused. `authorization` is not covered: who has only the public key could not verify.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use cms_spec::payload::Delivery;
use jiff::Timestamp;

use crate::base::canonical_dictionary;
use crate::digest::Digest;
use crate::keys::{KeyId, SigningKey, VerifyingKey};
use crate::origin::{INDEX_MAX, IdempotencyKey};
use crate::profile::{
    CONTENT_DIGEST, CONTENT_ENCODING, CONTENT_TYPE, Checked, Component, Draft, JSON, Profile,
    WINDOW_S, check, sign as sign_profile,
};
use crate::refusal::Refusal;

/// How far the time of a signature may be from the verifier's, either way; also how long it holds.
pub const SIGNATURE_WINDOW_S: i64 = WINDOW_S;
/// Bytes of a nonce: 128 bits, so that no two are ever equal by chance.
pub const NONCE_BYTES: usize = 16;
/// The purpose in the signature's `tag`.
pub const TAG: &str = "cms-telemetry";

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const LEDGER: &str = "cms-ledger";
const DELIVERY: &str = "cms-delivery";
const BACKFILL: &str = "backfill";

const SUBMISSION: Profile = Profile {
    tag: TAG,
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
    sign_profile(&SUBMISSION, draft, key)
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

/// The proof that a submission was signed by a live key, for this dashboard and now. Only [`verify`] makes one.
///
/// The caller still has to see that the nonce is new, that the key belongs to the agent of the idempotency key
/// and that the company of the body is the agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    key_id: KeyId,
    created: Timestamp,
    nonce: [u8; NONCE_BYTES],
    idempotency_key: IdempotencyKey,
    ledger: LedgerRef,
    delivery: Delivery,
    digest: Digest,
    content_encoding: Option<String>,
}

impl Verified {
    /// The key that signed.
    #[must_use]
    pub const fn key_id(&self) -> &KeyId {
        &self.key_id
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

/// Verifies a submission. `authority` is the dashboard's own name from its configuration, never from the
/// request; `lookup` finds live keys only.
pub fn verify(
    incoming: &Incoming<'_>,
    authority: &str,
    now: Timestamp,
    lookup: &dyn Fn(&KeyId) -> Option<VerifyingKey>,
) -> Result<Verified, Refusal> {
    let checked = check(&SUBMISSION, incoming, authority, now, lookup)?;
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
    let Checked {
        key_id,
        created,
        digest,
        ..
    } = checked;
    Ok(Verified {
        key_id,
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
