//! The JSON of the dashboard's answers: one shape for what was accepted, one for every error.

use cms_spec::Category;
use cms_spec::payload::Delivery;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The answer to a submission that was taken. Unknown members are ignored, so that a dashboard may say more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Always `accepted`.
    pub status: AcceptedStatus,
    /// What it was about.
    pub category: Category,
    /// The index of its leaf.
    pub index: u64,
    /// Whether it drives the current figures.
    pub delivery: Delivery,
    /// Whether the same submission had been taken before; nothing was counted twice.
    #[serde(default)]
    pub duplicate: bool,
    /// What looked odd but was no reason to refuse.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// When the dashboard took it.
    pub received_at: Timestamp,
}

/// The word in [`Accepted::status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptedStatus {
    /// The submission is stored.
    #[default]
    Accepted,
}

/// The answer to anything that was not taken. Every error of the dashboard has this shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The stable word for programs.
    pub error: String,
    /// What is wrong.
    pub message: String,
    /// What the sender can do about it.
    pub next_step: String,
    /// Which fields are wrong, where it is about fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
    /// The dashboard's time, so that an agent with a wrong clock can tell.
    pub server_time: Timestamp,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// The field, as a path in the JSON.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.message, self.error, self.next_step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_on_the_wire() {
        let json = r#"{"status":"accepted","category":"ghost-compute","index":7,"delivery":"live","duplicate":false,"warnings":[],"received_at":"2026-01-16T15:45:01Z"}"#;
        let accepted: Accepted = serde_json::from_str(json).unwrap();
        assert_eq!(accepted.index, 7);
        assert_eq!(serde_json::to_string(&accepted).unwrap(), json);
        assert!(
            serde_json::from_str::<Accepted>(&json.replace("\"accepted\"", "\"maybe\"")).is_err()
        );
    }

    #[test]
    fn problem_on_the_wire() {
        let problem = crate::Refusal::Unsigned.problem("2026-01-16T15:45:01Z".parse().unwrap());
        let json = serde_json::to_string(&problem).unwrap();
        assert!(
            json.starts_with(r#"{"error":"unsigned","message":"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), problem);
    }
}
