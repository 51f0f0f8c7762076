//! The public queries: JSON about a company, for anybody.

use std::convert::Infallible;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use jiff::ToSpan as _;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::evaluate::{tier_state, utc_day};
use crate::refused::Refused;
use crate::standing::Standing;
use crate::store::{Agent, Receipted, Row};
use crate::view;

/// Days of history when the query names none.
const DAYS_DEFAULT: i32 = 30;
/// Days of one answer: all that is kept.
const DAYS_MAX: i32 = 366;
/// Events that `tier_history` is made from.
pub(crate) const EVENTS_MAX: u32 = 500;

/// The query of `metrics/history`.
#[derive(Debug, Deserialize)]
pub(crate) struct Range {
    start_date: Option<String>,
    end_date: Option<String>,
}

/// The company's id in the path, as it stands there. One that is not text is like one that nobody has.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(id.map(|Path(id)| id).unwrap_or_default()))
    }
}

/// `GET /api/v1/company/{id}/status`
pub(crate) async fn status(State(app): State<App>, Id(id): Id) -> Response {
    app.answer(read_status(&app, &id).await)
}

/// `GET /api/v1/company/{id}/metrics/current`
pub(crate) async fn current(State(app): State<App>, Id(id): Id) -> Response {
    let standing = Standing::of(&app, &id).await;
    app.answer(standing.map(|standing| Json(view::current(&standing)).into_response()))
}

/// `GET /api/v1/company/{id}/metrics/history`
pub(crate) async fn history(
    State(app): State<App>,
    Id(id): Id,
    range: Result<Query<Range>, QueryRejection>,
) -> Response {
    let result = match range {
        Ok(Query(range)) => read_history(&app, &id, range).await,
        Err(error) => Err(Refused::QueryMalformed(error.body_text())),
    };
    app.answer(result)
}

/// `GET /api/v1/company/{id}/sources`
pub(crate) async fn sources(State(app): State<App>, Id(id): Id) -> Response {
    app.answer(read_sources(&app, &id).await)
}

/// `GET /healthz`: the writer writes and the readers read.
pub(crate) async fn healthz(State(app): State<App>) -> Response {
    let healthy = app.store().probe().await;
    let answer = healthy.map(|()| Json(json!({ "status": "ok" })).into_response());
    app.answer(answer.map_err(Refused::from))
}

async fn read_status(app: &App, id: &str) -> Result<Response, Refused> {
    let standing = Standing::of(app, id).await?;
    let company = &standing.company.id;
    let state = app.store().tier_state(company.clone()).await?;
    let tier = tier_state(state.as_deref())?.tier();
    let events = app.store().events(company.clone(), EVENTS_MAX).await?;
    let status = view::status(&standing, tier, &view::history(&events));
    Ok(Json(status).into_response())
}

async fn read_history(app: &App, id: &str, range: Range) -> Result<Response, Refused> {
    let standing = Standing::of(app, id).await?;
    let (first, last) = range.days(utc_day(app.now()))?;
    let company = standing.company.id.clone();
    let days = app.store().days(company, first, last).await?;
    let days: Vec<Value> = days
        .into_iter()
        .map(|day| {
            json!({
                "date": day.day.to_string(),
                "composite_efficiency": day.composite,
                "certification_tier": day.tier,
                "metrics": serde_json::from_str::<Value>(&day.metrics).unwrap_or(Value::Null),
            })
        })
        .collect();
    Ok(Json(json!({
        "company_id": standing.company.id,
        "start_date": first.to_string(),
        "end_date": last.to_string(),
        "days": days,
    }))
    .into_response())
}

async fn read_sources(app: &App, id: &str) -> Result<Response, Refused> {
    let standing = Standing::of(app, id).await?;
    let company = &standing.company.id;
    let agents = app.store().agents(company.clone()).await?;
    let latest = app.store().latest_of_each(company.clone()).await?;
    let receipted = app.store().receipted(company.clone()).await?;
    let sources = agents.iter().map(|agent| {
        let receipted = receipted.iter().find(|last| last.agent == agent.id);
        source(agent, &latest, receipted)
    });
    let sources: Vec<Value> = sources.collect();
    Ok(Json(json!({ "company_id": company, "sources": sources })).into_response())
}

fn source(agent: &Agent, latest: &[Row], receipted: Option<&Receipted>) -> Value {
    let own = latest.iter().filter(|row| row.agent == agent.id);
    let submissions = own.map(|row| {
        json!({
            "category": row.category,
            "index": row.index,
            "slot": row.slot,
            "received_at": row.received_at,
            "delivery": row.delivery,
            "counted": row.counted,
            "warnings": row.warnings,
        })
    });
    json!({
        "agent_id": agent.id,
        "version": agent.version,
        "site": agent.site,
        "enrolled_at": agent.enrolled_at,
        "revoked": agent.revoked_at.is_some(),
        "receipted": receipted.map(|last| json!({
            "epoch": last.epoch,
            "size": last.size,
            "at": last.at,
            "forks": last.forks,
        })),
        "last_submissions": submissions.collect::<Vec<_>>(),
    })
}

impl Range {
    fn days(&self, today: Date) -> Result<(Date, Date), Refused> {
        let last = read_date("end_date", self.end_date.as_deref())?.unwrap_or(today);
        let first = read_date("start_date", self.start_date.as_deref())?
            .unwrap_or_else(|| last.saturating_sub((DAYS_DEFAULT - 1).days()));
        let days = last.since(first).map_or(i32::MAX, |span| span.get_days());
        if days < 0 {
            let message = format!("start_date {first} is after end_date {last}");
            return Err(Refused::QueryMalformed(message));
        }
        if days >= DAYS_MAX {
            let message = format!("{first} to {last} is more than {DAYS_MAX} days");
            return Err(Refused::QueryMalformed(message));
        }
        Ok((first, last))
    }
}

fn read_date(name: &str, text: Option<&str>) -> Result<Option<Date>, Refused> {
    text.map(|text| {
        text.parse()
            .map_err(|_| Refused::QueryMalformed(format!("{name} is {text:?}, not a date")))
    })
    .transpose()
}
