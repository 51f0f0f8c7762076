//! The pages: plain HTML, one style sheet inside, no scripts. maud escapes everything that is not markup.

mod company;
mod parts;
mod stored;
mod style;

use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, html};

use crate::api::{EVENTS_MAX, Id};
use crate::app::App;
use crate::evaluate::{tier_state, utc_day};
use crate::refused::Refused;
use crate::standing::Standing;
use crate::view;

pub(crate) use style::source as style_source;

use company::Shown;
use parts::points;

/// Seconds between two loads of a page: the shortest slot is five minutes.
const REFRESH_S: u32 = 60;
/// Companies on the first page.
const COMPANIES_MAX: usize = 200;
/// Lines of the table of submissions.
const ROWS_MAX: u32 = 25;
/// Days in the chart of the composite.
const DAYS: i32 = 90;

/// `GET /`
pub(crate) async fn companies(State(app): State<App>) -> Response {
    page(&app, list(&app).await)
}

/// `GET /company/{id}`
pub(crate) async fn company(State(app): State<App>, Id(id): Id) -> Response {
    page(&app, show(&app, &id).await)
}

async fn list(app: &App) -> Result<Markup, Refused> {
    let all = app.store().companies().await?;
    let left_out = all.len().saturating_sub(COMPANIES_MAX);
    let mut rows = Vec::new();
    for company in all.into_iter().take(COMPANIES_MAX) {
        let standing = Standing::of(app, company.id.as_str()).await?;
        let state = app.store().tier_state(company.id).await?;
        rows.push((standing, tier_state(state.as_deref())?.tier()));
    }
    let body = html! {
        h1 { "Companies" }
        @if rows.is_empty() {
            p { "No company is registered yet. Add one with " code { "dashboard company add" } "." }
        } @else {
            section { div.scroll role="region" aria-label="Companies" tabindex="0" { table {
                thead { tr {
                    th scope="col" { "Company" } th scope="col" { "Tier" }
                    th.number scope="col" { "Composite" } th scope="col" { "Last slot" }
                } }
                tbody { @for (standing, tier) in &rows { tr {
                    td { a href={ "/company/" (standing.company.id) } { (standing.company.name) } }
                    td { (parts::tier(*tier)) }
                    td.number { (points(standing.score.composite)) }
                    td { (parts::time(view::last_updated(standing))) }
                } } }
            } } }
        }
        @if left_out > 0 { p.quiet { (left_out) " more are not shown." } }
    };
    Ok(frame("Companies", &body))
}

async fn show(app: &App, id: &str) -> Result<Markup, Refused> {
    let standing = Standing::of(app, id).await?;
    let company = standing.company.id.clone();
    let store = app.store();
    let today = utc_day(app.now());
    let first = today.saturating_sub(jiff::Span::new().days(DAYS - 1));
    let shown = Shown {
        state: tier_state(store.tier_state(company.clone()).await?.as_deref())?,
        events: store.events(company.clone(), EVENTS_MAX).await?,
        agents: store.agents(company.clone()).await?,
        receipted: store.receipted(company.clone()).await?,
        latest: store.latest_of_each(company.clone()).await?,
        rows: store.latest(company.clone(), ROWS_MAX).await?,
        days: store.days(company, first, today).await?,
        first,
        today,
        standing,
    };
    Ok(frame(&shown.standing.company.name, &shown.markup()))
}

fn frame(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content=(REFRESH_S);
                title { (title) " · Carbon Mirror Standard" }
                (style::element())
            }
            body {
                header { a href="/" { "Carbon Mirror Standard" } " reference dashboard" }
                main { (body) }
                footer {
                    "Every figure comes from signed submissions. "
                    "A figure without telemetry is withheld, not guessed."
                }
            }
        }
    }
}

/// A page, or a page that says why there is none.
fn page(app: &App, result: Result<Markup, Refused>) -> Response {
    let refused = match result {
        Ok(markup) => return Html(markup.into_string()).into_response(),
        Err(refused) => refused,
    };
    let problem = refused.problem(app.now());
    let body = html! {
        h1 { "This page cannot be shown" }
        p { (problem.message) "." }
        p { "Next step: " (problem.next_step) "." }
    };
    let mut response = app.answer(Err(refused));
    let html = Html(frame("Not shown", &body).into_string()).into_response();
    let (parts, body) = html.into_parts();
    *response.body_mut() = body;
    for name in [
        axum::http::header::CONTENT_TYPE,
        axum::http::header::CONTENT_LENGTH,
    ] {
        response.headers_mut().remove(&name);
    }
    response.headers_mut().extend(parts.headers);
    response
}
