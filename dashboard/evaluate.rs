//! Moves tiers, on this dashboard's clock and no other: after each arrival that counts, and on every new day.

use cms_spec::CompanyId;
use cms_spec::tier::{TierEvent, TierState};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::app::App;
use crate::refused::Refused;
use crate::standing::Standing;
use crate::store::{Day, Event, StoreError};
use crate::view;

/// Evaluations of one company that may meet another one before giving up; only a second server makes any.
const ATTEMPTS_MAX: usize = 3;

/// Evaluates the companies of which something has arrived. One that fails stays to be evaluated.
///
/// # Errors
/// When the store fails.
pub(crate) async fn arrived(app: &App) -> Result<(), Refused> {
    let mut waiting = app.take_unevaluated();
    while let Some(company) = waiting.pop_first() {
        if let Err(error) = evaluate(app, company.clone()).await {
            waiting.insert(company);
            app.keep_unevaluated(waiting);
            return Err(error);
        }
    }
    Ok(())
}

/// Evaluates the companies that have no line for today.
///
/// # Errors
/// When the store fails.
pub(crate) async fn day(app: &App) -> Result<(), Refused> {
    for company in app.store().without_day(utc_day(app.now())).await? {
        evaluate(app, company).await?;
    }
    Ok(())
}

/// Marks every company with current figures, for a start after an end between arrival and evaluation.
///
/// # Errors
/// When the store fails.
pub(crate) async fn begin(app: &App) -> Result<(), Refused> {
    for company in app.store().with_current().await? {
        app.counted(company);
    }
    Ok(())
}

/// The UTC day of a time.
pub(crate) fn utc_day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// The state of a tier from the store.
pub(crate) fn tier_state(json: Option<&str>) -> Result<TierState, StoreError> {
    let damaged = |error: serde_json::Error| StoreError::Damaged(error.to_string());
    json.map_or_else(
        || Ok(TierState::default()),
        |json| serde_json::from_str(json).map_err(damaged),
    )
}

async fn evaluate(app: &App, id: CompanyId) -> Result<(), Refused> {
    for _ in 0..ATTEMPTS_MAX {
        let now = app.now();
        let company = app.store().company(id.clone()).await?;
        let Some(company) = company else {
            return Ok(());
        };
        let standing = Standing::compute(app, company, now).await?;
        let before = app.store().tier_state(id.clone()).await?;
        let mut state = tier_state(before.as_deref())?;
        let score = &standing.score;
        let happened = state.observe(utc_day(now), score.tier, score.composite);
        for event in &happened {
            tracing::info!(company = %id, ?event, "tier");
        }
        let line = Day {
            day: utc_day(now),
            composite: score.composite.map(|points| points.rescale::<2>().to_f64()),
            tier: state.tier().to_string(),
            metrics: json(&view::metrics(&standing))?,
        };
        let events = happened
            .iter()
            .map(|event: &TierEvent| {
                let event = json(event)?;
                Ok(Event { at: now, event })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let after = json(&state)?;
        let store = app.store();
        if store
            .evaluated(id.clone(), line, before, after, events)
            .await?
        {
            return Ok(());
        }
    }
    Err(StoreError::Busy.into())
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged(error.to_string()))
}
