//! One way to sign a request and one to check it, for every purpose that signs requests.
//!
//! A profile is a purpose: a tag and the exact list of components. Promises: a request that [`check`] lets
//! through was signed, byte for byte, by the holder of the key, for this purpose, method, authority, path,
//! headers and body, within [`WINDOW_S`] of the verifier's time. There is one written form of everything, so
//! that no two texts mean the same request.

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
    pub(crate) covered: &'static [Component],
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

/// What [`check`] has proved.
pub(crate) struct Checked {
    pub(crate) key_id: KeyId,
    pub(crate) created: Timestamp,
    pub(crate) nonce: String,
    pub(crate) digest: Digest,
    headers: Vec<(&'static str, String)>,
}

impl Checked {
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

/// Signs the request: every header to set, the signature last.
pub(crate) fn sign(
    profile: &Profile,
    draft: Draft<'_>,
    key: &SigningKey,
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
    let created = created.as_second();
    // Each value is made of base64url, digits or a constant, so none needs escaping.
    let parameters = format!(
        "({});created={created};expires={};nonce=\"{nonce}\";keyid=\"{}\";tag=\"{}\"",
        covered_list(&components),
        created + WINDOW_S,
        key.verifying().key_id(),
        profile.tag,
    );
    let signature = key.sign(signature_base(&components, &parameters).as_bytes());
    headers.push((SIGNATURE_INPUT, format!("{LABEL}={parameters}")));
    headers.push((
        SIGNATURE,
        format!("{LABEL}=:{}:", STANDARD.encode(signature)),
    ));
    headers
}

/// Checks a request against the profile. What is cheap to see is looked at first.
pub(crate) fn check(
    profile: &Profile,
    incoming: &Incoming<'_>,
    authority: &str,
    now: Timestamp,
    lookup: &dyn Fn(&KeyId) -> Option<VerifyingKey>,
) -> Result<Checked, Refusal> {
    if incoming.method != METHOD {
        return Err(Refusal::Method);
    }
    if !incoming.path.starts_with('/') || !incoming.path.bytes().all(is_path_byte) {
        return Err(Refusal::Path);
    }
    let headers = read_headers(profile, incoming)?;
    let inputs = signatures(incoming, SIGNATURE_INPUT)?;
    let list = own_input(&inputs, profile)?;
    let signature = own_signature(&signatures(incoming, SIGNATURE)?)?;
    let parameters = Parameters::read(list, profile)?;
    let authority = canonical_authority(authority);
    let components = components(profile, &authority, incoming.path, &headers);
    let expected = covered_list(&components);
    let text = canonical_list(list);
    if !text.starts_with(&format!("({expected});")) {
        return Err(Refusal::SignatureCoverage { expected });
    }
    let Parameters {
        created,
        key_id,
        nonce,
    } = parameters;
    let key = lookup(&key_id).ok_or_else(|| Refusal::KeyUnknown {
        key_id: key_id.clone(),
    })?;
    if key.key_id() != key_id {
        return Err(Refusal::KeyUnknown { key_id });
    }
    check_window(created, now)?;
    let digest = content_digest(&headers)?;
    if Digest::of(incoming.body) != digest {
        return Err(Refusal::DigestMismatch);
    }
    if !key.verifies(signature_base(&components, &text).as_bytes(), &signature) {
        return Err(Refusal::SignatureInvalid);
    }
    Ok(Checked {
        key_id,
        created,
        nonce,
        digest,
        headers,
    })
}

/// The parameters of our signature.
struct Parameters {
    created: Timestamp,
    key_id: KeyId,
    nonce: String,
}

impl Parameters {
    fn read(list: &InnerList, profile: &Profile) -> Result<Self, Refusal> {
        let text = |name| list.params.get(name).and_then(|value| value.as_string());
        let second = |name| {
            list.params
                .get(name)
                .and_then(|value| value.as_integer())
                .map(i64::from)
        };
        let wrong = || Refusal::SignatureParameters;
        let tag = text("tag").ok_or_else(wrong)?;
        if tag.as_str() != profile.tag {
            return Err(Refusal::SignatureTag {
                expected: profile.tag,
            });
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

fn own_input<'a>(inputs: &'a Dictionary, profile: &Profile) -> Result<&'a InnerList, Refusal> {
    let Some(entry) = inputs.get(LABEL) else {
        return Err(Refusal::Unsigned);
    };
    let ListEntry::InnerList(list) = entry else {
        return Err(Refusal::HeaderMalformed {
            name: SIGNATURE_INPUT,
        });
    };
    let claims_ours = |entry: &ListEntry| {
        let params = match entry {
            ListEntry::InnerList(list) => &list.params,
            ListEntry::Item(item) => &item.params,
        };
        let tag = params.get("tag").and_then(|tag| tag.as_string());
        tag.is_some_and(|tag| tag.as_str() == profile.tag)
    };
    if inputs
        .iter()
        .any(|(label, entry)| label.as_str() != LABEL && claims_ours(entry))
    {
        return Err(Refusal::SignatureRepeated);
    }
    Ok(list)
}

fn own_signature(signatures: &Dictionary) -> Result<[u8; SIGNATURE_BYTES], Refusal> {
    let Some(entry) = signatures.get(LABEL) else {
        return Err(Refusal::Unsigned);
    };
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
