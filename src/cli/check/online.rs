//! The dashboard: whether it can be reached over TLS 1.3 and knows the key.

use cms_attest::enrol::ChallengeAnswer;
use jiff::{SignedDuration, Timestamp};

use super::Finding;
use crate::config::{Endpoint, Secret};
use crate::status::error_chain;
use crate::transport::SendError;

/// A challenge lives for minutes; one that seems to live longer than this was made by another clock.
const CHALLENGE_LIFE_MAX: SignedDuration = SignedDuration::from_mins(30);

/// Asks the dashboard for a challenge, which only the holder of a good key gets, and which changes nothing.
pub(super) async fn look(
    endpoint: &Endpoint,
    key: &Secret,
    now: Timestamp,
    challenge: impl AsyncFnOnce(&Secret) -> Result<ChallengeAnswer, SendError>,
) -> Finding {
    let what = "dashboard";
    match challenge(key).await {
        Ok(answer) => clocks(endpoint, &answer, now),
        Err(SendError::Blocked(problem) | SendError::Unexplained { problem, .. }) => {
            Finding::fail(what, format!("{endpoint} refuses this agent: {}", problem.message)).hint(problem.next_step)
        }
        Err(SendError::Rejected(problem)) => {
            Finding::fail(what, format!("{endpoint} does not understand: {}", problem.message))
                .hint(problem.next_step)
        }
        Err(SendError::NotThere { url }) => {
            Finding::warn(what, format!("it answers over TLS 1.3, but there is no {url}"))
                .hint("check the path in dashboard.endpoint; a plain v1.0 dashboard has no enrolment, and the key \
                       is first tried with the first submission")
        }
        Err(error @ SendError::Deferred { .. }) => {
            Finding::fail(what, format!("cannot reach {endpoint}: {}", error_chain(&error)))
                .hint("`run` keeps collecting and sends everything once it answers")
        }
    }
}

fn clocks(endpoint: &Endpoint, answer: &ChallengeAnswer, now: Timestamp) -> Finding {
    let left = answer.expires_at.duration_since(now);
    if left.is_positive() && left <= CHALLENGE_LIFE_MAX {
        return Finding::ok(
            "dashboard",
            format!("{endpoint} answers over TLS 1.3 and takes the key"),
        );
    }
    let direction = if left.is_positive() {
        "behind"
    } else {
        "ahead of"
    };
    Finding::fail(
        "dashboard",
        format!("it takes the key, but this clock ({now:.0}) is far {direction} its own"),
    )
    .hint(
        "set the clock: a submission that is 30 minutes off is refused (specification, section X)",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::config::{Config, SecretSource};
    use cms_attest::answer::Problem;

    const NOW: &str = "2026-03-01T12:00:00Z";

    async fn verdict(answer: Result<&str, SendError>) -> Finding {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(
            &file,
            "company_id = \"acme\"\ndashboard.api_key = { env = \"PATH\" }\n",
        )
        .unwrap();
        let config = Config::load(&file, "host").unwrap();
        let key = SecretSource::Env("PATH".to_owned()).read().unwrap();
        let ask = async |_: &Secret| {
            answer.map(|expires| ChallengeAnswer {
                challenge: "0123456789abcdef0123456789abcdef0123456789a"
                    .parse()
                    .unwrap(),
                expires_at: expires.parse().unwrap(),
            })
        };
        look(&config.dashboard.endpoint, &key, NOW.parse().unwrap(), ask).await
    }

    fn problem() -> Box<Problem> {
        Box::new(Problem {
            error: "unknown_key".to_owned(),
            message: "no such key".to_owned(),
            next_step: "make one".to_owned(),
            details: Vec::new(),
            server_time: NOW.parse().unwrap(),
        })
    }

    #[tokio::test]
    async fn a_challenge_means_that_all_is_well() {
        assert_eq!(
            verdict(Ok("2026-03-01T12:05:00Z")).await.verdict,
            Verdict::Ok
        );
    }

    #[tokio::test]
    async fn a_challenge_of_another_time_means_a_wrong_clock() {
        for (expires, direction) in [
            ("2026-03-01T11:59:00Z", "ahead of"),
            ("2026-03-01T13:00:00Z", "behind"),
        ] {
            let finding = verdict(Ok(expires)).await;
            assert_eq!(finding.verdict, Verdict::Fail);
            assert!(finding.detail.contains(direction), "{}", finding.detail);
        }
    }

    #[tokio::test]
    async fn each_refusal_has_its_next_step() {
        let refused = verdict(Err(SendError::Blocked(problem()))).await;
        assert_eq!(
            (refused.verdict, refused.hints),
            (Verdict::Fail, vec!["make one".to_owned()])
        );
        let reason = "no route to host".to_owned();
        let unreachable = verdict(Err(SendError::Deferred {
            reason,
            retry_after: None,
        }))
        .await;
        assert_eq!(unreachable.verdict, Verdict::Fail);
        assert!(unreachable.detail.contains("no route to host"));
        let url = "https://x/agents/challenge".to_owned();
        assert_eq!(
            verdict(Err(SendError::NotThere { url })).await.verdict,
            Verdict::Warn
        );
    }
}
