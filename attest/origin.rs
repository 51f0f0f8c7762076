//! Names of an agent's log: the agent id, the origin of one epoch, and the key that makes a retry harmless.

use std::fmt;
use std::str::FromStr;

use cms_spec::CompanyId;
use serde::{Deserialize, Serialize};

/// The largest index and epoch: the largest integer of a structured field (RFC 8941), 15 digits.
pub const INDEX_MAX: u64 = 999_999_999_999_999;

/// The first segment of every origin.
const PREFIX: &str = "carbonmirror";

/// The id that an agent gives itself: a UUID in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentId(String);

impl AgentId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentId {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        if is_uuid(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(OriginError::AgentId(text.to_owned()))
        }
    }
}

/// The name of one log: `carbonmirror/<company>/<agent_id>/<epoch>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    company: CompanyId,
    agent_id: AgentId,
    epoch: u64,
}

impl Origin {
    /// Names the log of this agent's epoch; an epoch above [`INDEX_MAX`] counts as that.
    #[must_use]
    pub fn new(company: CompanyId, agent_id: AgentId, epoch: u64) -> Self {
        Self {
            company,
            agent_id,
            epoch: epoch.min(INDEX_MAX),
        }
    }

    /// The company that the agent reports for.
    #[must_use]
    pub const fn company(&self) -> &CompanyId {
        &self.company
    }

    /// The agent that writes the log.
    #[must_use]
    pub const fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    /// Numbers the log; a later log of the same agent has a higher number.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The idempotency key of the leaf with this index.
    #[must_use]
    pub fn idempotency_key(&self, index: u64) -> IdempotencyKey {
        IdempotencyKey::new(self.agent_id.clone(), self.epoch, index)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}/{}/{}/{}",
            self.company, self.agent_id, self.epoch
        )
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let malformed = || OriginError::Origin(text.to_owned());
        let mut parts = text.split('/');
        let (Some(PREFIX), Some(company), Some(agent_id), Some(epoch), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(malformed());
        };
        Ok(Self {
            company: company.parse().map_err(|_| malformed())?,
            agent_id: agent_id.parse().map_err(|_| malformed())?,
            epoch: parse_count(epoch).ok_or_else(malformed)?,
        })
    }
}

/// What makes a retry harmless: the same key twice is the same submission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey {
    agent_id: AgentId,
    epoch: u64,
    index: u64,
}

impl IdempotencyKey {
    /// Names a leaf; epoch and index above [`INDEX_MAX`] count as that.
    #[must_use]
    pub fn new(agent_id: AgentId, epoch: u64, index: u64) -> Self {
        Self {
            agent_id,
            epoch: epoch.min(INDEX_MAX),
            index: index.min(INDEX_MAX),
        }
    }

    /// The agent that signed.
    #[must_use]
    pub const fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    /// The epoch of the agent's log.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The index of the leaf in that log.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Writes the header's value, a structured-field string: `"<agent_id>:<epoch>:<index>"` with its quotes.
    #[must_use]
    pub fn header(&self) -> String {
        format!("\"{self}\"")
    }

    /// Reads the header's value; only the form that [`Self::header`] writes.
    pub fn parse_header(value: &str) -> Result<Self, OriginError> {
        value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| OriginError::IdempotencyKey(value.to_owned()))
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.agent_id, self.epoch, self.index)
    }
}

impl FromStr for IdempotencyKey {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let malformed = || OriginError::IdempotencyKey(text.to_owned());
        let mut parts = text.split(':');
        let (Some(agent_id), Some(epoch), Some(index), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        Ok(Self {
            agent_id: agent_id.parse().map_err(|_| malformed())?,
            epoch: parse_count(epoch).ok_or_else(malformed)?,
            index: parse_count(index).ok_or_else(malformed)?,
        })
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AgentId {
    type Error = OriginError;
    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse()
    }
}

impl From<AgentId> for String {
    fn from(id: AgentId) -> Self {
        id.0
    }
}

impl TryFrom<String> for Origin {
    type Error = OriginError;
    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

/// A text is not a name of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not an agent id.
    #[error("{0:?} is not an agent id: write the UUID that enrolment gave, in lower case")]
    AgentId(String),
    /// Not an idempotency key.
    #[error(
        "{0:?} is not an idempotency key: write \"<agent_id>:<epoch>:<index>\" in double quotes"
    )]
    IdempotencyKey(String),
    /// Not an origin.
    #[error("{0:?} is not the origin of a log: write carbonmirror/<company>/<agent_id>/<epoch>")]
    Origin(String),
}

/// Reads a count in the one form that is written: no sign, no leading zero, at most [`INDEX_MAX`].
pub(crate) fn parse_count(text: &str) -> Option<u64> {
    let count: u64 = text.parse().ok()?;
    (count <= INDEX_MAX && count.to_string() == text).then_some(count)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "018f4d2a-7b1c-7def-8123-456789abcdef";

    #[test]
    fn origins_read_back() {
        let origin: Origin = format!("carbonmirror/acme-corp/{AGENT}/3").parse().unwrap();
        assert_eq!(
            (origin.company().as_str(), origin.epoch()),
            ("acme-corp", 3)
        );
        assert_eq!(origin.to_string().parse(), Ok(origin.clone()));
        for wrong in ["", "carbonmirror/acme-corp", "x/acme-corp/a/3"] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
        for tail in ["03", "+3", "-1", "", "3/", "1000000000000000"] {
            let wrong = format!("carbonmirror/acme-corp/{AGENT}/{tail}");
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn idempotency_keys_read_back() {
        let key = IdempotencyKey::new(AGENT.parse().unwrap(), 2, u64::MAX);
        assert_eq!(key.index(), INDEX_MAX);
        assert_eq!(IdempotencyKey::parse_header(&key.header()), Ok(key));
        for wrong in [
            "",
            "\"",
            "\"\"",
            &format!("{AGENT}:1:1"),
            &format!("\"{AGENT}:1:1:1\""),
        ] {
            assert!(IdempotencyKey::parse_header(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn agent_ids_are_uuids_in_lower_case() {
        assert!(AGENT.parse::<AgentId>().is_ok());
        for wrong in [
            "",
            "agent-1",
            &AGENT.to_uppercase(),
            &AGENT.replace('-', ""),
        ] {
            assert!(wrong.parse::<AgentId>().is_err(), "{wrong}");
        }
    }
}
