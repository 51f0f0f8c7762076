//! SHA-256 digests and the `Content-Digest` header that carries one (RFC 9530).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sfv::{Dictionary, FieldType, ListEntry, Parser};

/// Bytes of a SHA-256 digest.
pub const DIGEST_BYTES: usize = 32;

/// The one algorithm that is written and accepted.
const ALGORITHM: &str = "sha-256";

/// A SHA-256 digest. Its text form is standard base64 with padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// Digests these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_parts(&[bytes])
    }

    /// Digests the parts as if they were one text, without joining them.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut bytes = [0; DIGEST_BYTES];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// Takes a digest that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; DIGEST_BYTES]) -> Self {
        Self(bytes)
    }

    /// The digest as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }

    /// Writes the value of a `Content-Digest` header: `sha-256=:…:`.
    #[must_use]
    pub fn content_digest(&self) -> String {
        format!("{ALGORITHM}=:{self}:")
    }

    /// Reads the value of a `Content-Digest` header; only the form that [`Self::content_digest`] writes.
    pub fn parse_content_digest(value: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError::ReadHeader(value.to_owned());
        let dictionary: Dictionary = Parser::new(value).parse().map_err(|_| malformed())?;
        let Some(ListEntry::Item(item)) = dictionary.get(ALGORITHM) else {
            return Err(malformed());
        };
        let bytes = item.bare_item.as_byte_sequence().ok_or_else(malformed)?;
        let digest = Self(bytes.try_into().map_err(|_| malformed())?);
        if dictionary.serialize().as_deref() == Some(value) && digest.content_digest() == value {
            Ok(digest)
        } else {
            Err(malformed())
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError::ReadText(text.to_owned());
        let bytes = STANDARD.decode(text).map_err(|_| malformed())?;
        Ok(Self(bytes.try_into().map_err(|_| malformed())?))
    }
}

/// A text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not a `Content-Digest` value.
    #[error("{0:?} is not a content digest: write sha-256=:<base64 of 32 bytes>: and nothing else")]
    ReadHeader(String),
    /// Not the base64 of 32 bytes.
    #[error("{0:?} is not a digest: write 32 bytes in base64 with padding")]
    ReadText(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_rfc_9530() {
        let digest = Digest::of(b"{\"hello\": \"world\"}\n");
        assert_eq!(
            digest.content_digest(),
            "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
        );
        assert_eq!(
            Digest::parse_content_digest(&digest.content_digest()),
            Ok(digest)
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn parts_are_one_text() {
        assert_eq!(Digest::of_parts(&[b"ab", b"", b"c"]), Digest::of(b"abc"));
    }

    #[test]
    fn other_forms_are_refused() {
        let right = Digest::of(b"x").content_digest();
        let twice = format!("{right}, {right}");
        let parameter = format!("{right};a=1");
        let spaced = format!(" {right}");
        let other = format!("sha-512=:{}:, {right}", "A".repeat(88));
        for wrong in [
            "",
            "sha-256",
            "sha-256=1",
            "sha-256=::",
            "sha-256=:AAAA:",
            "sha-512=:AAAA:",
            twice.as_str(),
            parameter.as_str(),
            spaced.as_str(),
            other.as_str(),
        ] {
            assert!(Digest::parse_content_digest(wrong).is_err(), "{wrong}");
        }
        assert!("AAAA".parse::<Digest>().is_err());
    }
}
