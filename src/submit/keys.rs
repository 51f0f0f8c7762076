//! Two API keys: which of them the dashboard takes, so that they can be exchanged without a lost slot.

use super::Submitting;
use crate::api_keys::ApiKey;
use crate::status::PartState;
use crate::transport::SendError;

/// The name under which `status` shows which key is in use.
const PART: &str = "api-key";

/// What our dashboards say to a key that does not count.
const REFUSALS: [&str; 3] = ["api_key_malformed", "api_key_revoked", "api_key_unknown"];

/// The status of any other dashboard's answer to a key that does not count.
const UNAUTHORIZED: u16 = 401;

impl Submitting {
    /// The key to try once instead, where the answer speaks against this one and there is another.
    pub(super) fn other_key(&self, key: &ApiKey, error: &SendError) -> Option<ApiKey> {
        is_about_the_key(error)
            .then(|| self.api_keys.other(key))
            .flatten()
    }

    /// The other key was tried: it is used from now on, unless it is refused as well.
    pub(super) fn settle_on(&self, key: &mut ApiKey, other: ApiKey, refused: Option<&SendError>) {
        if let Some(error) = refused.filter(|error| is_about_the_key(error)) {
            let error = format!("neither {key} nor {other} is taken: {error}");
            self.status.set(PART, PartState::Failed, Some(error));
            return;
        }
        tracing::warn!(%key, %other, "the dashboard refuses the API key and takes the other one");
        self.api_keys.choose(&other);
        *key = other;
        self.key_works(key);
    }

    /// Shows which key is in use.
    pub(super) fn key_works(&self, key: &ApiKey) {
        let words = match self.api_keys.other(key) {
            Some(other) => format!("{key} in use, {other} stands by"),
            None => format!("{key} in use"),
        };
        self.status.ok(PART, Some(words));
    }
}

fn is_about_the_key(error: &SendError) -> bool {
    match error {
        SendError::Blocked(problem) => REFUSALS.contains(&problem.error.as_str()),
        SendError::Unexplained { status, .. } => *status == UNAUTHORIZED,
        _ => false,
    }
}
