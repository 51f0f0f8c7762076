//! What is forgotten, and when (specification, section VI.C). Certification events are never forgotten.

use jiff::{SignedDuration, Timestamp};
use rusqlite::params;

use super::{Store, StoreError, ms};

/// Raw telemetry is kept 90 days.
const BODIES: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Aggregates, and the records of what was accepted, are kept 365 days.
const AGGREGATES: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Rows that one write may drop, so that submissions do not wait behind it.
const ROWS_MAX: usize = 2_000;

/// How much a pass has dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Raw bodies.
    pub bodies: usize,
    /// Records of submissions.
    pub submissions: usize,
    /// Daily lines.
    pub days: usize,
    /// Nonces whose requests have expired.
    pub nonces: usize,
    /// Challenges that nobody answered.
    pub challenges: usize,
}

impl Store {
    /// Drops everything that is past its time at `now`.
    pub(crate) async fn retain(&self, now: Timestamp) -> Result<Dropped, StoreError> {
        let mut total = Dropped::default();
        loop {
            let step = self.retain_some(now).await?;
            total.bodies += step.bodies;
            total.submissions += step.submissions;
            total.days += step.days;
            total.nonces += step.nonces;
            total.challenges += step.challenges;
            let full = [
                step.bodies,
                step.submissions,
                step.days,
                step.nonces,
                step.challenges,
            ];
            if full.into_iter().all(|rows| rows < ROWS_MAX) {
                return Ok(total);
            }
        }
    }

    async fn retain_some(&self, now: Timestamp) -> Result<Dropped, StoreError> {
        let before = |span| ms(now.saturating_sub(span).unwrap_or(Timestamp::MIN));
        let (bodies, aggregates) = (before(BODIES), before(AGGREGATES));
        let oldest_day = now
            .saturating_sub(AGGREGATES)
            .unwrap_or(Timestamp::MIN)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date()
            .to_string();
        let limit = i64::try_from(ROWS_MAX).unwrap_or(i64::MAX);
        self.write(move |db| {
            Ok(Dropped {
                bodies: db.execute(
                    "UPDATE submission SET body = NULL WHERE seq IN (SELECT seq FROM submission
                         WHERE received_ms < ?1 AND body IS NOT NULL LIMIT ?2)",
                    params![bodies, limit],
                )?,
                submissions: db.execute(
                    "DELETE FROM submission WHERE seq IN
                         (SELECT seq FROM submission WHERE received_ms < ?1 LIMIT ?2)",
                    params![aggregates, limit],
                )?,
                days: db.execute(
                    "DELETE FROM daily WHERE (company, day) IN
                         (SELECT company, day FROM daily WHERE day < ?1 LIMIT ?2)",
                    params![oldest_day, limit],
                )?,
                nonces: db.execute(
                    "DELETE FROM nonce WHERE (agent, nonce) IN
                         (SELECT agent, nonce FROM nonce WHERE expires_ms <= ?1 LIMIT ?2)",
                    params![ms(now), limit],
                )?,
                challenges: db
                    .execute("DELETE FROM challenge WHERE expires_ms <= ?1", [ms(now)])?,
            })
        })
        .await
    }
}
