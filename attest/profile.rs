//! One way to sign a request and one to check it, for every purpose that signs requests.
//!
//! A profile is a purpose: a tag and the exact list of components, and where a key is replaced the label and
//! tag of one more signature over the same. Promises: a request that [`check`] lets through was signed, byte
//! for byte, by the holder of the key, for this purpose, method, authority, path, headers and body, within
//! [`WINDOW_S`] of the verifier's time. There is one written form of everything, so that no two texts mean the
//! same request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sfv::{Dictionary, InnerList, ListEntry};

use crate::base::{canonical_authority, canonical_dictionary, canonical_list, signature_base};
use crate::digest::Digest;
use crate::keys::{KeyId, SIGNATURE_BYTES, SigningKey, VerifyingKey};
use crate::refusal::Refusal;
use crate::request::Incoming;

/// How far the signature's time may be from the verifier's, either way. The usual five minutes of webhook
/// signatures: hosts without NTP pass, and nonces need remembering for ten minutes only.
pub(crate) const WINDOW_S: i64 = 300;
/// Longest value of a header that is looked at. Ours are below 500 bytes; more is refused before parsing.
const FIELD_BYTES_MAX: usize = 4096;

pub(crate) const CONTENT_TYPE: &str = "content-type";
pub(crate) const CONTENT_ENCODING: &str = "content-encoding";
pub(crate) const CONTENT_DIGEST: &str = "content-digest";
pub(crate) const SIGNATURE_INPUT: &str = "signature-input";
pub(crate) const SIGNATURE: &str = "signature";

/// The one media type that is signed and accepted.
pub(crate) const JSON: &str = "application/json";

const LABEL: &str = "cms";
const METHOD: &str = "POST";

/// A purpose of signing.
pub(crate) struct Profile {
    pub(crate) tag: &'static str,
    /// The signature of one more key that may stand beside the first.
    pub(crate) beside: Option<Mark>,
    pub(crate) covered: &'static [Component],
}

/// Where a signature stands and what it is for. The tag is signed, so that none passes for another.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) label: &'static str,
    pub(crate) tag: &'static str,
}

/// A component that the signature covers.
pub(crate) enum Component {
    Authority,
    /// A header that must be there.
    Header(&'static str),
    /// A header that is covered when, and only when, it is there.
    HeaderIfPresent(&'static str),
    Method,
    Path,
}

/// What a signer says of a request.
pub(crate) struct Draft<'a> {
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    /// Every header that the profile covers, except the content digest, which is computed here.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: &'a [u8],
    pub(crate) created: Timestamp,
    pub(crate) nonce: &'a str,
}

/// A request that reads as its profile demands, and whose body is the one that its digest names. Nothing of it
/// is proved before a signature holds.
pub(crate) struct Claimed {
    pub(crate) first: Claim,
    pub(crate) beside: Option<Claim>,
    pub(crate) created: Timestamp,
    pub(crate) nonce: String,
    pub(crate) digest: Digest,
    headers: Vec<(&'static str, String)>,
}

/// One signature, and whose it says it is.
pub(crate) struct Claim {
    pub(crate) key_id: KeyId,
    base: String,
    signature: [u8; SIGNATURE_BYTES],
}

impl Claim {
    /// Sees that the signature is this key's.
    pub(crate) fn hold(&self, key: &VerifyingKey) -> Result<(), Refusal> {
        if key.key_id() != self.key_id {
            return Err(self.unknown());
        }
        if key.verifies(self.base.as_bytes(), &self.signature) {
            Ok(())
        } else {
            Err(Refusal::SignatureInvalid)
        }
    }

    pub(crate) fn unknown(&self) -> Refusal {
        Refusal::KeyUnknown {
            key_id: self.key_id.clone(),
        }
    }
}

impl Profile {
    const fn mark(&self) -> Mark {
        Mark {
            label: LABEL,
            tag: self.tag,
        }
    }
}

impl Claimed {
    /// Sees that the request was signed now.
    pub(crate) fn check_fresh(&self, now: Timestamp) -> Result<(), Refusal> {
        check_window(self.created, now)
    }

    /// Sees that the body is the one that the digest names.
    pub(crate) fn check_body(&self, incoming: &Incoming<'_>) -> Result<(), Refusal> {
        if Digest::of(incoming.body) == self.digest {
            Ok(())
        } else {
            Err(Refusal::DigestMismatch)
        }
    }

    /// The value of a covered header.
    pub(crate) fn header(&self, name: &'static str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a covered header that the profile demands.
    pub(crate) fn demanded(&self, name: &'static str) -> Result<&str, Refusal> {
        self.header(name).ok_or(Refusal::HeaderMissing { name })
    }
}

/// Signs the request: every header to set, the signatures last.
pub(crate) fn sign(
    profile: &Profile,
    draft: Draft<'_>,
    key: &SigningKey,
    beside: Option<&SigningKey>,
) -> Vec<(&'static str, String)> {
    let Draft {
        authority,
        path,
        mut headers,
        body,
        created,
        nonce,
    } = draft;
    headers.push((CONTENT_DIGEST, Digest::of(body).content_digest()));
    let authority = canonical_authority(authority);
    let components = components(profile, &authority, path, &headers);
    let covered = covered_list(&components);
    let created = created.as_second();
    let (mut inputs, mut signatures) = (Vec::new(), Vec::new());
    for (mark, key) in [Some((profile.mark(), key)), profile.beside.zip(beside)]
        .into_iter()
        .flatten()
    {
        let Mark { label, tag } = mark;
        // Each value is made of base64url, digits or a constant, so none needs escaping.
        let parameters = format!(
            "({covered});created={created};expires={};nonce=\"{nonce}\";keyid=\"{}\";tag=\"{tag}\"",
            created + WINDOW_S,
            key.verifying().key_id(),
        );
        let signature = key.sign(signature_base(&components, &parameters).as_bytes());
        inputs.push(format!("{label}={parameters}"));
        signatures.push(format!("{label}=:{}:", STANDARD.encode(signature)));
    }
    headers.push((SIGNATURE_INPUT, inputs.join(", ")));
    headers.push((SIGNATURE, signatures.join(", ")));
    headers
}

/// Checks a request that one key alone signs.
pub(crate) fn check(
    profile: &Profile,
    incoming: &Incoming<'_>,
    authority: &str,
    now: Timestamp,
    key: &VerifyingKey,
) -> Result<Claimed, Refusal> {
    let claimed = claim(profile, incoming, authority)?;
    if key.key_id() != claimed.first.key_id {
        return Err(claimed.first.unknown());
    }
    claimed.check_fresh(now)?;
    claimed.check_body(incoming)?;
    claimed.first.hold(key)?;
    Ok(claimed)
}

/// Reads a request by its profile, before any key is known. What is cheap to see is looked at first.
pub(crate) fn claim(
    profile: &Profile,
    incoming: &Incoming<'_>,
    authority: &str,
) -> Result<Claimed, Refusal> {
    if incoming.method != METHOD {
        return Err(Refusal::Method);
    }
    if !incoming.path.starts_with('/') || !incoming.path.bytes().all(is_path_byte) {
        return Err(Refusal::Path);
    }
    let headers = read_headers(profile, incoming)?;
    let inputs = signatures(incoming, SIGNATURE_INPUT)?;
    let bytes = signatures(incoming, SIGNATURE)?;
    refuse_repeated(&inputs, profile)?;
    let authority = canonical_authority(authority);
    let components = components(profile, &authority, incoming.path, &headers);
    let read = |mark: Mark| read_claim(mark, &inputs, &bytes, &components);
    let (first, parameters) = read(profile.mark())?.ok_or(Refusal::Unsigned)?;
    let beside = match profile.beside {
        Some(mark) => read(mark)?,
        None => None,
    };
    let beside = match beside {
        // Both vouch for one attempt: of two attempts, the halves cannot be put together.
        Some((_, other)) if !other.is_of_one_attempt_with(&parameters) => {
            return Err(Refusal::SignatureParameters);
        }
        other => other.map(|(claim, _)| claim),
    };
    let digest = content_digest(&headers)?;
    Ok(Claimed {
        first,
        beside,
        created: parameters.created,
        nonce: parameters.nonce,
        digest,
        headers,
    })
}

/// Reads the signature under one label, if there is one.
fn read_claim(
    mark: Mark,
    inputs: &Dictionary,
    bytes: &Dictionary,
    components: &[(&'static str, &str)],
) -> Result<Option<(Claim, Parameters)>, Refusal> {
    let (list, entry) = match (inputs.get(mark.label), bytes.get(mark.label)) {
        (None, None) => return Ok(None),
        (Some(ListEntry::InnerList(list)), Some(entry)) => (list, entry),
        (Some(ListEntry::Item(_)), _) => {
            return Err(Refusal::HeaderMalformed {
                name: SIGNATURE_INPUT,
            });
        }
        // Half a signature is none, and no reason to look away from the other half.
        _ if mark.label == LABEL => return Err(Refusal::Unsigned),
        _ => return Err(Refusal::HeaderMalformed { name: SIGNATURE }),
    };
    let signature = signature_of(entry)?;
    let parameters = Parameters::read(list, mark.tag)?;
    let expected = covered_list(components);
    let text = canonical_list(list);
    if !text.starts_with(&format!("({expected});")) {
        return Err(Refusal::SignatureCoverage { expected });
    }
    let claim = Claim {
        key_id: parameters.key_id.clone(),
        base: signature_base(components, &text),
        signature,
    };
    Ok(Some((claim, parameters)))
}

/// The parameters of our signature.
struct Parameters {
    created: Timestamp,
    key_id: KeyId,
    nonce: String,
}

impl Parameters {
    fn is_of_one_attempt_with(&self, other: &Self) -> bool {
        (self.created, &self.nonce) == (other.created, &other.nonce) && self.key_id != other.key_id
    }

    fn read(list: &InnerList, expected: &'static str) -> Result<Self, Refusal> {
        let text = |name| list.params.get(name).and_then(|value| value.as_string());
        let second = |name| {
            list.params
                .get(name)
                .and_then(|value| value.as_integer())
                .map(i64::from)
        };
        let wrong = || Refusal::SignatureParameters;
        let tag = text("tag").ok_or_else(wrong)?;
        if tag.as_str() != expected {
            return Err(Refusal::SignatureTag { expected });
        }
        let created = second("created").ok_or_else(wrong)?;
        let expires = second("expires").ok_or_else(wrong)?;
        if list.params.len() != 5 || expires != created.saturating_add(WINDOW_S) {
            return Err(wrong());
        }
        let key_id = text("keyid")
            .ok_or_else(wrong)?
            .as_str()
            .parse()
            .map_err(|_| wrong())?;
        let nonce = text("nonce").ok_or_else(wrong)?.as_str().to_owned();
        let created = Timestamp::from_second(created).map_err(|_| wrong())?;
        Ok(Self {
            created,
            key_id,
            nonce,
        })
    }
}

/// Names each covered component with its value, in the profile's order. Absent optional headers drop out.
fn components<'a>(
    profile: &Profile,
    authority: &'a str,
    path: &'a str,
    headers: &'a [(&'static str, String)],
) -> Vec<(&'static str, &'a str)> {
    let header = |wanted: &str| {
        headers
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(name, value)| (*name, value.as_str()))
    };
    profile
        .covered
        .iter()
        .filter_map(|component| match component {
            Component::Authority => Some(("@authority", authority)),
            Component::Header(name) | Component::HeaderIfPresent(name) => header(name),
            Component::Method => Some(("@method", METHOD)),
            Component::Path => Some(("@path", path)),
        })
        .collect()
}

fn covered_list(components: &[(&str, &str)]) -> String {
    let quoted: Vec<String> = components
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    quoted.join(" ")
}

fn read_headers(
    profile: &Profile,
    incoming: &Incoming<'_>,
) -> Result<Vec<(&'static str, String)>, Refusal> {
    let mut headers = Vec::with_capacity(profile.covered.len());
    for component in profile.covered {
        let (name, demanded) = match component {
            Component::Header(name) => (*name, true),
            Component::HeaderIfPresent(name) => (*name, false),
            Component::Authority | Component::Method | Component::Path => continue,
        };
        match one_value(incoming, name)? {
            Some(value) => headers.push((name, value)),
            None if demanded => return Err(Refusal::HeaderMissing { name }),
            None => {}
        }
    }
    if headers
        .iter()
        .any(|(name, value)| *name == CONTENT_TYPE && value != JSON)
    {
        return Err(Refusal::HeaderMalformed { name: CONTENT_TYPE });
    }
    Ok(headers)
}

fn one_value(incoming: &Incoming<'_>, name: &'static str) -> Result<Option<String>, Refusal> {
    let mut values = (incoming.headers)(name);
    if values.len() > 1 {
        return Err(Refusal::HeaderRepeated { name });
    }
    let Some(value) = values.pop() else {
        return Ok(None);
    };
    if value.len() > FIELD_BYTES_MAX || !value.bytes().all(is_field_byte) || value.trim() != value {
        return Err(Refusal::HeaderMalformed { name });
    }
    Ok(Some(value))
}

/// Reads `Signature-Input` or `Signature`. Signatures of others may stand beside ours, in the one form.
fn signatures(incoming: &Incoming<'_>, name: &'static str) -> Result<Dictionary, Refusal> {
    let value = one_value(incoming, name)?.ok_or(Refusal::Unsigned)?;
    canonical_dictionary(&value).ok_or(Refusal::HeaderMalformed { name })
}

/// Of each of our tags there is one signature at most, under its own label.
fn refuse_repeated(inputs: &Dictionary, profile: &Profile) -> Result<(), Refusal> {
    for mark in [Some(profile.mark()), profile.beside].into_iter().flatten() {
        let claims_ours = |entry: &ListEntry| {
            let params = match entry {
                ListEntry::InnerList(list) => &list.params,
                ListEntry::Item(item) => &item.params,
            };
            let tag = params.get("tag").and_then(|tag| tag.as_string());
            tag.is_some_and(|tag| tag.as_str() == mark.tag)
        };
        // Without the first there is nothing to repeat: that it is missing says more.
        if inputs.get(LABEL).is_some()
            && inputs
                .iter()
                .any(|(label, entry)| label.as_str() != mark.label && claims_ours(entry))
        {
            return Err(Refusal::SignatureRepeated);
        }
    }
    Ok(())
}

fn signature_of(entry: &ListEntry) -> Result<[u8; SIGNATURE_BYTES], Refusal> {
    let malformed = || Refusal::HeaderMalformed { name: SIGNATURE };
    let ListEntry::Item(item) = entry else {
        return Err(malformed());
    };
    if !item.params.is_empty() {
        return Err(malformed());
    }
    let bytes = item.bare_item.as_byte_sequence().ok_or_else(malformed)?;
    bytes.try_into().map_err(|_| malformed())
}

fn content_digest(headers: &[(&'static str, String)]) -> Result<Digest, Refusal> {
    let name = CONTENT_DIGEST;
    let value = headers.iter().find(|(known, _)| *known == name);
    let (_, value) = value.ok_or(Refusal::HeaderMissing { name })?;
    Digest::parse_content_digest(value).map_err(|_| Refusal::HeaderMalformed { name })
}

fn check_window(created: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    let age_s = now.as_second().saturating_sub(created.as_second());
    if age_s > WINDOW_S {
        Err(Refusal::Expired { created, now })
    } else if age_s < -WINDOW_S {
        Err(Refusal::FutureSignature { created, now })
    } else {
        Ok(())
    }
}

/// Visible ASCII, except what begins a query or a fragment: neither is covered.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'?' && byte != b'#'
}

fn is_field_byte(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}
