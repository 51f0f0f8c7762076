//! Names that travel: company, agent, subject, boot. Each is checked where it is made and cannot be wrong after.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name of an instance, a storage unit or a thermal source. Longer ones are refused, not cut.
pub const SUBJECT_BYTES_MAX: usize = 256;

/// A text is not a valid name of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a company id.
    #[error(
        "{0:?} is not a company id: use 2 to 63 characters, a-z, 0-9 and '-', the first one not '-'"
    )]
    Company(String),
    /// Empty, too long or with control characters.
    #[error(
        "{0:?} is not a usable name: it must have 1 to {SUBJECT_BYTES_MAX} bytes and no control characters"
    )]
    Subject(String),
}

/// The company's id on the dashboard: `^[a-z0-9][a-z0-9-]{1,62}$`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CompanyId(String);

impl CompanyId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CompanyId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let right =
            (2..=63).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed);
        if right {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Company(text.to_owned()))
        }
    }
}

impl TryFrom<String> for CompanyId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<CompanyId> for String {
    fn from(id: CompanyId) -> Self {
        id.0
    }
}

impl fmt::Display for CompanyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a reading is about: an instance, a storage unit or a thermal source. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(Arc<str>);

impl Subject {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Subject {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let right =
            (1..=SUBJECT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if right {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Subject(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.0.as_ref().to_owned()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn company_ids() {
        for right in ["acme-corp", "a1", "0x"] {
            assert!(right.parse::<CompanyId>().is_ok(), "{right}");
        }
        let long = "a".repeat(64);
        for wrong in [
            "",
            "a",
            "-acme",
            "Acme",
            "acme corp",
            "acme_corp",
            "äcme",
            long.as_str(),
        ] {
            assert!(wrong.parse::<CompanyId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn subjects() {
        assert!("host:0123456789abcdef".parse::<Subject>().is_ok());
        assert!("".parse::<Subject>().is_err());
        assert!("two\nlines".parse::<Subject>().is_err());
        assert!(
            "x".repeat(SUBJECT_BYTES_MAX + 1)
                .parse::<Subject>()
                .is_err()
        );
    }
}
