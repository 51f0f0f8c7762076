//! Sealing: AES-256-GCM under the key of the store, and where that key is.
//!
//! Owns: the cipher, the key of the store ([`StoreKey`]) with its public id, and the text form of what it seals.
//! Promises: a fresh random nonce for each sealing; what is opened is what was sealed, for the same purpose, by
//! the same key; key bytes are wiped when dropped and never printed. Refuses: knowing what it seals.

mod place;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

pub use place::{CREDENTIAL, KeyError, Looked, default_file, look, make};

/// Bytes of every key here.
pub const KEY_BYTES: usize = 32;

/// Bytes that a sealed record is longer than its content: the nonce before it and the tag after it.
pub const OVERHEAD_BYTES: usize = NONCE_LEN + TAG_BYTES;

/// Bytes of the tag that authenticates a record.
const TAG_BYTES: usize = 16;

/// Bytes of the public id of a key: enough to tell the keys of one company apart.
const ID_BYTES: usize = 8;

/// What the public id of a key is a digest of.
const ID_OF: &[u8] = b"cms-telemetry-agent store key id 1";

/// Begins every text that a store's key has sealed.
const TEXT_FORM: &str = "cms-sealed/1";

/// An AES-256-GCM key in use. Wiped when dropped.
pub struct Cipher(RandomizedNonceKey);

/// The key that seals the data keys of a store and the agent's identity. Cheap to clone.
#[derive(Clone)]
pub struct StoreKey {
    current: Arc<Kept>,
    old: Option<Arc<Kept>>,
}

/// One key and what may be said about it.
struct Kept {
    cipher: Cipher,
    id: KeyId,
    protection: Protection,
}

/// The public name of a store's key: a short keyed digest that says nothing about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(String);

/// Who keeps the key of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// systemd, which decides whether a TPM is behind it. The name of the credential.
    Credential(String),
    /// A file that only the agent's user can read. Its path.
    File(String),
}

/// What was opened, and whether with the old key.
#[derive(Debug)]
pub struct Opened {
    /// The content.
    pub content: Zeroizing<Vec<u8>>,
    /// The old key had sealed it: it should be sealed again.
    pub is_old: bool,
}

/// Why something cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system has no randomness, or the content is too long for one key and nonce.
    #[error("cannot encrypt: the system gives no random numbers, or the content is too long")]
    Encrypt,
}

impl Cipher {
    /// Puts a key to use.
    ///
    /// # Errors
    /// Never for a key of this length.
    pub fn of(key: &[u8; KEY_BYTES]) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, key)
            .map(Self)
            .map_err(|_| SealError::Encrypt)
    }

    /// Appends nonce, ciphertext and tag to `sealed`.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal_onto(
        &self,
        sealed: &mut Vec<u8>,
        associated: &[u8],
        content: &[u8],
    ) -> Result<(), SealError> {
        sealed.reserve_exact(content.len() + OVERHEAD_BYTES);
        let at = sealed.len();
        sealed.extend([0; NONCE_LEN]);
        sealed.extend(content);
        let (nonce_hole, plain) = sealed
            .get_mut(at..)
            .and_then(|rest| rest.split_at_mut_checked(NONCE_LEN))
            .ok_or(SealError::Encrypt)?;
        let (nonce, tag) = self
            .0
            .seal_in_place_separate_tag(Aad::from(associated), plain)
            .map_err(|_| SealError::Encrypt)?;
        nonce_hole.copy_from_slice(nonce.as_ref());
        sealed.extend(tag.as_ref());
        Ok(())
    }

    /// The content of nonce, ciphertext and tag; nothing when a bit of them or of `associated` is another one.
    #[must_use]
    pub fn open(&self, associated: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut content = Zeroizing::new(rest.to_vec());
        let length = self
            .0
            .open_in_place(nonce, Aad::from(associated), &mut content)
            .ok()?
            .len();
        content.truncate(length);
        Some(content)
    }
}

impl StoreKey {
    /// Puts the key of a store to use.
    ///
    /// # Errors
    /// Never for a key of this length.
    pub fn new(key: &[u8; KEY_BYTES], protection: Protection) -> Result<Self, SealError> {
        let digest = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), ID_OF);
        let current = Arc::new(Kept {
            cipher: Cipher::of(key)?,
            id: KeyId::of(digest.as_ref()),
            protection,
        });
        let old = None;
        Ok(Self { current, old })
    }

    /// The same key, which also opens what an older one has sealed.
    #[must_use]
    pub fn after(self, old: &Self) -> Self {
        Self {
            old: Some(Arc::clone(&old.current)),
            ..self
        }
    }

    /// The public name of this key.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.current.id
    }

    /// Who keeps this key.
    #[must_use]
    pub fn protection(&self) -> &Protection {
        &self.current.protection
    }

    /// Seals something for a purpose, which must be named again to open it.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, purpose: &[u8], content: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = Vec::new();
        let associated = self.current.associated(purpose);
        self.current
            .cipher
            .seal_onto(&mut sealed, &associated, content)?;
        Ok(sealed)
    }

    /// Opens what this key, or the old one, has sealed for this purpose.
    #[must_use]
    pub fn open(&self, purpose: &[u8], sealed: &[u8]) -> Option<Opened> {
        let open = |kept: &Kept, is_old| {
            let content = kept.cipher.open(&kept.associated(purpose), sealed)?;
            Some(Opened { content, is_old })
        };
        open(&self.current, false).or_else(|| open(self.old.as_deref()?, true))
    }

    /// Seals a text into a line of text that names the key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal_text(&self, purpose: &str, content: &str) -> Result<String, SealError> {
        let sealed = self.seal(purpose.as_bytes(), content.as_bytes())?;
        let sealed = STANDARD_NO_PAD.encode(sealed);
        Ok(format!("{TEXT_FORM} {} {sealed}\n", self.id()))
    }

    /// Opens what [`Self::seal_text`] has sealed. The name of the key in it is for people: it is tried anyway.
    #[must_use]
    pub fn open_text(&self, purpose: &str, text: &str) -> Option<Opened> {
        let sealed = text.trim_end().rsplit(' ').next()?;
        self.open(purpose.as_bytes(), &STANDARD_NO_PAD.decode(sealed).ok()?)
    }
}

impl Kept {
    /// The name of the key is bound too: AES-GCM alone does not commit to its key.
    fn associated(&self, purpose: &[u8]) -> Vec<u8> {
        [TEXT_FORM.as_bytes(), self.id.0.as_bytes(), purpose].join(&0)
    }
}

impl KeyId {
    /// The name of the key that has sealed a text, as the text says.
    #[must_use]
    pub fn in_text(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (form, id) = (words.next()?, words.next()?);
        (form == TEXT_FORM).then(|| Self::parse(id)).flatten()
    }

    /// A name that was written down.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let right = text.len() == 2 * ID_BYTES && text.bytes().all(|b| b.is_ascii_hexdigit());
        right.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(digest: &[u8]) -> Self {
        let shown = digest.iter().take(ID_BYTES);
        Self(shown.map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Random bytes for a new key.
///
/// # Errors
/// When the system has none to give.
pub fn random_key() -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new()
        .fill(key.as_mut())
        .map_err(|_| SealError::Encrypt)?;
    Ok(key)
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(not shown)")
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({})", self.id())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(
                f,
                "credential {name} (systemd decides whether a TPM is behind it)"
            ),
            Self::File(path) => write!(f, "file {path}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A store's key for tests.
    pub(crate) fn key(seed: u8) -> StoreKey {
        StoreKey::new(&[seed; 32], Protection::File("k".to_owned())).unwrap()
    }

    #[test]
    fn only_the_same_key_opens_for_the_same_purpose() {
        let sealed = key(1).seal(b"a", b"content").unwrap();
        assert_eq!(sealed.len(), 7 + OVERHEAD_BYTES);
        let opened = key(1).open(b"a", &sealed).unwrap();
        assert_eq!(
            (opened.content.as_slice(), opened.is_old),
            (&b"content"[..], false)
        );
        assert!(key(1).open(b"b", &sealed).is_none());
        assert!(key(2).open(b"a", &sealed).is_none());
        assert!(key(2).after(&key(1)).open(b"a", &sealed).unwrap().is_old);
    }

    #[test]
    fn no_flipped_bit_and_no_cut_opens() {
        let sealed = key(1).seal(b"", b"content").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(key(1).open(b"", &damaged).is_none(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(key(1).open(b"", &sealed[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn no_nonce_comes_twice() {
        let cipher = Cipher::of(&[1; 32]).unwrap();
        let nonce = |_| {
            let mut sealed = Vec::new();
            cipher.seal_onto(&mut sealed, b"", b"").unwrap();
            sealed[..NONCE_LEN].to_vec()
        };
        let nonces: HashSet<_> = (0..100_000).map(nonce).collect();
        assert_eq!(nonces.len(), 100_000);
    }

    #[test]
    fn a_text_names_its_key_and_a_wrong_name_does_not_matter() {
        let text = key(1).seal_text("identity", "seed").unwrap();
        assert_eq!(KeyId::in_text(&text).as_ref(), Some(key(1).id()));
        let renamed = text.replace(key(1).id().as_str(), "0000000000000000");
        for text in [&text, &renamed] {
            let opened = key(1).open_text("identity", text).unwrap();
            assert_eq!(opened.content.as_slice(), b"seed");
        }
        assert!(key(1).open_text("other", &text).is_none());
        assert!(key(1).open_text("identity", "").is_none());
        assert_eq!(KeyId::in_text("cms-sealed/1 zz x"), None);
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(
            format!("{:?}", key(1)),
            format!("StoreKey({})", key(1).id())
        );
        assert_eq!(format!("{:?}", key(1).current.cipher), "Cipher(not shown)");
    }
}
