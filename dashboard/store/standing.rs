//! How companies stand: a line for each day, the state of their tier, and what happened to it.

use cms_spec::CompanyId;
use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::{OptionalExtension as _, params};

use super::companies::company_id;
use super::{Store, StoreError, at, ms};

/// One day of a company, as it stood at the last evaluation of that day.
#[derive(Clone, Debug, PartialEq)]
pub struct Day {
    /// The UTC day.
    pub day: Date,
    /// The composite score; nothing when it could not be computed.
    pub composite: Option<f64>,
    /// The tier's name.
    pub tier: String,
    /// The figures behind it, as JSON.
    pub metrics: String,
}

/// Something that happened to a company's tier. Kept for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What, as JSON.
    pub event: String,
}

impl Store {
    /// Writes down an evaluation: the day's line, the tier's state, and what happened, all or nothing.
    ///
    /// `before` is the state the evaluation began with; false when another one has come between.
    pub(crate) async fn evaluated(
        &self,
        company: CompanyId,
        day: Day,
        before: Option<String>,
        after: String,
        events: Vec<Event>,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            let id = company.as_str();
            let sql = "SELECT state FROM tier_state WHERE company = ?1";
            let found: Option<String> = db
                .prepare_cached(sql)?
                .query_row([id], |row| row.get(0))
                .optional()?;
            if found != before {
                return Ok(false);
            }
            db.prepare_cached(
                "INSERT INTO daily (company, day, composite, tier, metrics)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (company, day) DO UPDATE
                 SET composite = excluded.composite, tier = excluded.tier, metrics = excluded.metrics",
            )?
            .execute(params![id, day.day.to_string(), day.composite, day.tier, day.metrics])?;
            db.prepare_cached(
                "INSERT INTO tier_state (company, state) VALUES (?1, ?2)
                 ON CONFLICT (company) DO UPDATE SET state = excluded.state",
            )?
            .execute(params![id, after])?;
            for event in events {
                db.prepare_cached(
                    "INSERT INTO tier_event (company, at_ms, event) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![id, ms(event.at), event.event])?;
            }
            Ok(true)
        })
        .await
    }

    /// The state of a company's tier, as JSON.
    pub(crate) async fn tier_state(
        &self,
        company: CompanyId,
    ) -> Result<Option<String>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT state FROM tier_state WHERE company = ?1";
            let mut find = db.prepare_cached(sql)?;
            Ok(find
                .query_row([company.as_str()], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    /// What happened to a company's tier, newest first.
    pub(crate) async fn events(
        &self,
        company: CompanyId,
        rows_max: u32,
    ) -> Result<Vec<Event>, StoreError> {
        self.read(move |db| {
            let mut rows = db.prepare_cached(
                "SELECT at_ms, event FROM tier_event WHERE company = ?1 ORDER BY seq DESC LIMIT ?2",
            )?;
            let rows = rows.query_map(params![company.as_str(), rows_max], |row| {
                Ok(Event {
                    at: at(row.get(0)?),
                    event: row.get(1)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// A company's days from the first to the last, both included, oldest first.
    pub(crate) async fn days(
        &self,
        company: CompanyId,
        first: Date,
        last: Date,
    ) -> Result<Vec<Day>, StoreError> {
        self.read(move |db| {
            let mut rows = db.prepare_cached(
                "SELECT day, composite, tier, metrics FROM daily
                 WHERE company = ?1 AND day BETWEEN ?2 AND ?3 ORDER BY day",
            )?;
            let range = params![company.as_str(), first.to_string(), last.to_string()];
            let rows = rows.query_map(range, |row| {
                let day: String = row.get(0)?;
                Ok((day, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            rows.map(|found| {
                let (day, composite, tier, metrics) = found?;
                Ok(Day {
                    day: day
                        .parse()
                        .map_err(|_| StoreError::Damaged(format!("a day is {day:?}")))?,
                    composite,
                    tier,
                    metrics,
                })
            })
            .collect()
        })
        .await
    }

    /// Companies that have current figures, or had.
    pub(crate) async fn with_current(&self) -> Result<Vec<CompanyId>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT DISTINCT agent.company FROM current
                       JOIN agent ON agent.id = current.agent";
            let mut rows = db.prepare_cached(sql)?;
            let rows = rows.query_map((), |row| row.get::<_, String>(0))?;
            rows.map(|id| company_id(id?)).collect()
        })
        .await
    }

    /// Companies without a line for this day yet, that have ever submitted something that counts.
    pub(crate) async fn without_day(&self, day: Date) -> Result<Vec<CompanyId>, StoreError> {
        self.read(move |db| {
            let mut rows = db.prepare_cached(
                "SELECT company FROM tier_state WHERE company NOT IN
                     (SELECT company FROM daily WHERE day = ?1) ORDER BY company",
            )?;
            let rows = rows.query_map([day.to_string()], |row| row.get::<_, String>(0))?;
            rows.map(|id| company_id(id?)).collect()
        })
        .await
    }
}
