//! Ed25519 keys: one that signs, one that verifies, its published form and its name.
//!
//! Promises: a private key is never printed nor copied; the crypto library wipes it when it is dropped.
//! Refuses: making random seeds and keeping keys; the agent's identity does both and wipes its own copy.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::digest::{DIGEST_BYTES, Digest};

/// Bytes of an Ed25519 seed and of a public key.
pub const KEY_BYTES: usize = 32;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Public keys of small order, sign bit cleared: a signature under one of them can hold for many messages.
const WEAK_KEYS: [[u8; KEY_BYTES]; 7] = weak_keys();

/// A private key that signs. Neither printed nor cloned.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verifying: VerifyingKey,
}

impl SigningKey {
    /// Makes the key of this seed. The caller keeps the seed and wipes it.
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Derive)?;
        let public = pair.public_key().as_ref().try_into();
        let verifying = VerifyingKey::from_bytes(public.map_err(|_| KeyError::Derive)?)?;
        Ok(Self { pair, verifying })
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub const fn verifying(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// Signs these bytes. Ed25519 is deterministic: the same bytes give the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = [0; SIGNATURE_BYTES];
        let signature = self.pair.sign(message);
        // The library's buffer is longer than any of its signatures; an Ed25519 one is always 64 bytes.
        for (to, from) in bytes.iter_mut().zip(signature.as_ref()) {
            *to = *from;
        }
        bytes
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.verifying.key_id())
    }
}

/// A public key. Never one of small order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey([u8; KEY_BYTES]);

impl VerifyingKey {
    /// Takes a public key; refuses one under which signatures prove nothing.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let mut unsigned = bytes;
        unsigned[KEY_BYTES - 1] &= 0x7f;
        if WEAK_KEYS.contains(&unsigned) {
            return Err(KeyError::Weak);
        }
        Ok(Self(bytes))
    }

    /// The key as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key's name: the thumbprint of its JWK.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        // RFC 7638: the required members in alphabetical order, without spaces.
        let x = URL_SAFE_NO_PAD.encode(self.0);
        let text = format!(r#"{{"crv":"{CURVE}","kty":"{KEY_TYPE}","x":"{x}"}}"#);
        KeyId(URL_SAFE_NO_PAD.encode(Digest::of(text.as_bytes()).as_bytes()))
    }

    /// Says whether the signature is this key's over exactly these bytes.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.key_id())
    }
}

/// The name of a public key: its RFC 7638 thumbprint, 43 characters of base64url.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match URL_SAFE_NO_PAD.decode(text) {
            Ok(bytes) if bytes.len() == DIGEST_BYTES => Ok(Self(text.to_owned())),
            _ => Err(KeyError::Name(text.to_owned())),
        }
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A public key as a JSON Web Key (RFC 8037). A private member in it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Members", into = "Members")]
pub struct Jwk(VerifyingKey);

impl Jwk {
    /// The key inside.
    #[must_use]
    pub const fn key(&self) -> &VerifyingKey {
        &self.0
    }
}

impl From<VerifyingKey> for Jwk {
    fn from(key: VerifyingKey) -> Self {
        Self(key)
    }
}

/// The public id of an API key: it follows from the key, so both sides know it, and says nothing about it.
#[must_use]
pub fn api_key_id(key: &str) -> String {
    let digest = Digest::of_parts(&[API_KEY_ID_DOMAIN, key.as_bytes()]);
    digest.as_bytes()[..API_KEY_ID_BYTES]
        .iter()
        .fold("key_".to_owned(), |mut id, byte| {
            for nibble in [byte >> 4, byte & 15] {
                id.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
            id
        })
}

/// Sets the id apart from the plain hash that a dashboard stores, which must never be published.
const API_KEY_ID_DOMAIN: &[u8] = b"cms-api-key-id/1\0";
/// Bytes of the digest in an id: enough that the ids of one dashboard do not meet.
const API_KEY_ID_BYTES: usize = 8;

/// A key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The library made no key pair of a seed.
    #[error("no Ed25519 key could be made of the seed: use 32 random bytes")]
    Derive,
    /// Not a key of our kind.
    #[error(
        "the key is not an Ed25519 JWK: write kty \"OKP\", crv \"Ed25519\" and x as base64url of 32 bytes"
    )]
    Jwk,
    /// Not a thumbprint.
    #[error("{0:?} is not a key id: write the RFC 7638 thumbprint, 43 characters of base64url")]
    Name(String),
    /// Of small order.
    #[error("the public key is of small order, signatures under it prove nothing: make a new key")]
    Weak,
}

const CURVE: &str = "Ed25519";
const KEY_TYPE: &str = "OKP";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    kty: String,
    crv: String,
    x: String,
}

impl From<Jwk> for Members {
    fn from(jwk: Jwk) -> Self {
        Self {
            kty: KEY_TYPE.to_owned(),
            crv: CURVE.to_owned(),
            x: URL_SAFE_NO_PAD.encode(jwk.0.as_bytes()),
        }
    }
}

impl TryFrom<Members> for Jwk {
    type Error = KeyError;

    fn try_from(members: Members) -> Result<Self, KeyError> {
        if members.kty != KEY_TYPE || members.crv != CURVE {
            return Err(KeyError::Jwk);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(&members.x)
            .map_err(|_| KeyError::Jwk)?;
        VerifyingKey::from_bytes(bytes.try_into().map_err(|_| KeyError::Jwk)?).map(Self)
    }
}

/// The y coordinates of the eight points of small order, and the three that do not reduce (p, p+1, p-1).
const fn weak_keys() -> [[u8; KEY_BYTES]; 7] {
    let mut one = [0; KEY_BYTES];
    one[0] = 1;
    [
        [0; KEY_BYTES],
        one,
        EIGHTH_A,
        EIGHTH_B,
        near_prime(0xec),
        near_prime(0xed),
        near_prime(0xee),
    ]
}

const fn near_prime(first: u8) -> [u8; KEY_BYTES] {
    let mut bytes = [0xff; KEY_BYTES];
    bytes[0] = first;
    bytes[KEY_BYTES - 1] = 0x7f;
    bytes
}

const EIGHTH_A: [u8; KEY_BYTES] = [
    0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
    0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
];

const EIGHTH_B: [u8; KEY_BYTES] = [
    0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
    0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&[byte; KEY_BYTES]).unwrap()
    }

    #[test]
    fn thumbprint_of_rfc_8037_appendix_a3() {
        let json =
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let jwk: Jwk = serde_json::from_str(json).unwrap();
        assert_eq!(
            jwk.key().key_id().as_str(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
        assert_eq!(serde_json::to_string(&jwk).unwrap(), json);
    }

    #[test]
    fn a_private_member_is_refused() {
        let json = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGx","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        assert!(serde_json::from_str::<Jwk>(json).is_err());
    }

    #[test]
    fn weak_keys_are_refused_and_the_second_opinion_agrees() {
        for mut bytes in WEAK_KEYS {
            for sign in [0, 0x80] {
                bytes[KEY_BYTES - 1] |= sign;
                assert_eq!(VerifyingKey::from_bytes(bytes), Err(KeyError::Weak));
                if let Ok(other) = ed25519_dalek::VerifyingKey::from_bytes(&bytes) {
                    assert!(other.is_weak(), "{bytes:02x?}");
                }
            }
        }
    }

    #[test]
    fn both_libraries_agree_on_a_signature() {
        let signature = key(7).sign(b"message");
        assert!(key(7).verifying().verifies(b"message", &signature));
        assert!(!key(8).verifying().verifies(b"message", &signature));
        assert!(!key(7).verifying().verifies(b"massage", &signature));
        let other = ed25519_dalek::VerifyingKey::from_bytes(key(7).verifying().as_bytes()).unwrap();
        let signature = ed25519_dalek::Signature::from_bytes(&signature);
        assert!(other.verify_strict(b"message", &signature).is_ok());
    }

    #[test]
    fn printing_a_key_shows_no_secret() {
        let key = key(0xab);
        let shown = format!("{key:?}");
        assert_eq!(
            shown,
            format!("SigningKey(of {})", key.verifying().key_id())
        );
        assert!(!shown.contains("abab") && !shown.contains("171"));
    }

    #[test]
    fn the_public_id_of_an_api_key_is_a_golden_word() {
        // sha256sum of the domain and the key, computed apart from this crate; leaves in the field name it.
        let id = api_key_id("cms_test_0123456789");
        assert_eq!(id, "key_a6b3c30f75482244");
        assert!(id.parse::<crate::leaf::Word>().is_ok());
        assert_ne!(id, api_key_id("cms_test_0123456780"));
    }

    #[test]
    fn key_ids_are_thumbprints_only() {
        let id = key(1).verifying().key_id();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        for wrong in [
            "",
            "test-key",
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4l",
        ] {
            assert!(wrong.parse::<KeyId>().is_err(), "{wrong}");
        }
    }
}
