//! API keys: how they are made, read from a request, and recognised without being kept.
//!
//! A key carries 256 random bits, so nobody can guess it and a slow hash would protect nothing: SHA-256 of
//! it is all that is stored. Promises: the secret is shown once, to whoever made it, and never printed.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Random bytes of a key: as many as the hash has, so neither is the weaker part.
const SECRET_BYTES: usize = 32;

/// Whether submissions under a key count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They do.
    Live,
    /// They are checked and kept like all others, but never drive a figure.
    Test,
}

impl Mode {
    /// The word in the key and in the store.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// The mode with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Live, Self::Test]
            .into_iter()
            .find(|mode| mode.word() == word)
    }
}

/// A whole API key, secret included. It does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    text: String,
    mode: Mode,
}

impl ApiKey {
    /// Makes a new key from the system's random numbers.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn random(mode: Mode) -> Result<Self, KeyError> {
        let mut secret = [0_u8; SECRET_BYTES];
        rand::fill(&mut secret).map_err(|_| KeyError::Random)?;
        let text = format!("cms_{}_{}", mode.word(), URL_SAFE_NO_PAD.encode(secret));
        Ok(Self { text, mode })
    }

    /// The key itself, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Whether its submissions count.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The public id. It follows from the key, so both sides know it, and says nothing about it.
    #[must_use]
    pub fn id(&self) -> String {
        cms_attest::keys::api_key_id(&self.text)
    }

    /// What the store keeps of it.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, self.text.as_bytes())
            .as_ref()
            .to_vec()
    }

    /// Whether a stored hash is this key's, in the same time for every wrong one.
    #[must_use]
    pub fn matches(&self, stored: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.hash(), stored).is_ok()
    }
}

impl FromStr for ApiKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (mode, secret) = [Mode::Live, Mode::Test]
            .into_iter()
            .find_map(|mode| {
                let rest = text.strip_prefix("cms_")?.strip_prefix(mode.word())?;
                Some((mode, rest.strip_prefix('_')?))
            })
            .ok_or(KeyError::Form)?;
        match URL_SAFE_NO_PAD.decode(secret) {
            Ok(bytes) if bytes.len() == SECRET_BYTES => Ok(Self {
                text: text.to_owned(),
                mode,
            }),
            _ => Err(KeyError::Form),
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id()).finish()
    }
}

/// Why a text is no key, or none could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not look like one.
    #[error("an API key is cms_live_ or cms_test_ and 43 characters of base64url")]
    Form,
    /// No random numbers.
    #[error("the system gave no random numbers")]
    Random,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_hides_itself() {
        for mode in [Mode::Live, Mode::Test] {
            let key = ApiKey::random(mode).unwrap();
            assert_eq!(key.reveal().len(), "cms_live_".len() + 43);
            assert_eq!(key.reveal().parse(), Ok(key.clone()));
            assert!(key.matches(&key.hash()));
            assert!(!format!("{key:?}").contains(key.reveal()));
            assert!(key.id().starts_with("key_"));
        }
    }

    #[test]
    fn another_key_does_not_match() {
        let key = ApiKey::random(Mode::Live).unwrap();
        assert!(!key.matches(&ApiKey::random(Mode::Live).unwrap().hash()));
        assert!(!key.matches(b""));
    }

    #[test]
    fn what_is_no_key() {
        let key = ApiKey::random(Mode::Live).unwrap();
        let short = &key.reveal()[..key.reveal().len() - 1];
        for text in ["", "cms_live_", "cms_prod_x", short, "sk-123"] {
            assert_eq!(text.parse::<ApiKey>(), Err(KeyError::Form), "{text}");
        }
    }
}
