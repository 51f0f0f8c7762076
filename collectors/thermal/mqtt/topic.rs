//! Topic filters of MQTT: what may be subscribed to, and which topics fit.
//!
//! Promises: a filter that a broker would refuse is refused here, with what to write instead.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};

/// Longer filters are refused: brokers cut at 65,535 bytes, people do not write such ones.
const FILTER_BYTES_MAX: usize = 1024;

/// A topic filter, checked: levels divided by `/`, where `+` is any one level and `#` all that follow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter(String);

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// With what is wrong and what to write.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > FILTER_BYTES_MAX || text.contains(char::is_control) {
            return Err(format!(
                "a topic has 1 to {FILTER_BYTES_MAX} bytes and no control characters"
            ));
        }
        let levels: Vec<&str> = text.split('/').collect();
        for (at, level) in levels.iter().enumerate() {
            if level.contains('+') && *level != "+" {
                return Err(format!(
                    "{level:?}: `+` stands for a whole level; write it alone between slashes"
                ));
            }
            let is_last = at + 1 == levels.len();
            if level.contains('#') && (*level != "#" || !is_last) {
                return Err(format!(
                    "{level:?}: `#` stands for all levels that follow; write it alone, at the end"
                ));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The filter as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can fit more than one topic.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.0.split('/').any(|level| level == "+" || level == "#")
    }

    /// Whether a topic fits. Topics that begin with `$` are a broker's own and fit no wildcard.
    #[must_use]
    pub fn fits(&self, topic: &str) -> bool {
        let mut levels = self.0.split('/');
        if topic.starts_with('$') && matches!(levels.clone().next(), Some("+" | "#")) {
            return false;
        }
        let mut parts = topic.split('/');
        loop {
            match (levels.next(), parts.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some(level), Some(part)) if level == "+" || level == part => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits() {
        let cases = [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b", "a", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("#", "a/b", true),
            ("#", "$SYS/uptime", false),
            ("+/uptime", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
        ];
        for (filter, topic, expected) in cases {
            let fits = Filter::new(filter).unwrap().fits(topic);
            assert_eq!(fits, expected, "{filter} {topic}");
        }
    }

    #[test]
    fn what_a_broker_would_refuse_is_refused() {
        for text in ["", "a/b+", "a/#/b", "a#", "a\nb"] {
            assert!(Filter::new(text).is_err(), "{text:?}");
        }
        assert!(Filter::new(&"a".repeat(1025)).is_err());
        assert!(Filter::new("a/+/#").unwrap().is_wild());
        assert!(!Filter::new("a/b").unwrap().is_wild());
    }
}
