//! Every path of the dashboard, and the bounds and headers that all of them share.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use cms_attest::enrol::{CHALLENGE_PATH, ENROL_PATH};

use crate::app::App;
use crate::refused::Refused;
use crate::{api, checkpoint, enrol, ingest, page, rotate};

/// From the head of a request to its answer. An agent gives up at about the same time.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// Sent with every answer, beside the content security policy.
const SECURITY: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::STRICT_TRANSPORT_SECURITY,
        "max-age=31536000; includeSubDomains",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

/// The dashboard as a service, for the listener and for tests without a socket.
pub fn router(app: App) -> Router {
    Router::new()
        .route(CHALLENGE_PATH, post(enrol::challenge))
        .route(ENROL_PATH, post(enrol::enrol))
        .route("/api/v1/agents/{id}/checkpoint", post(checkpoint::add))
        .route("/api/v1/agents/{id}/rotate", post(rotate::rotate))
        .route("/api/v1/keys", get(checkpoint::keys))
        .route("/api/v1/keys/successions", get(checkpoint::successions))
        .route("/api/v1/telemetry/{category}", post(ingest::submit))
        .route("/api/v1/company/{id}/status", get(api::status))
        .route("/api/v1/company/{id}/metrics/current", get(api::current))
        .route("/api/v1/company/{id}/metrics/history", get(api::history))
        .route("/api/v1/company/{id}/sources", get(api::sources))
        .route("/healthz", get(api::healthz))
        .route("/", get(page::companies))
        .route("/company/{id}", get(page::company))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(app.clone(), deadline))
        .layer(from_fn_with_state(policy(), security))
        .with_state(app)
}

async fn not_found(State(app): State<App>, request: Request) -> Response {
    app.answer(Err(Refused::NotFound(request.uri().path().to_owned())))
}

async fn not_allowed(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path();
    let posts = path.starts_with("/api/v1/telemetry/") || path.starts_with("/api/v1/agents/");
    let allowed = if posts { "POST" } else { "GET, HEAD" };
    app.answer(Err(Refused::MethodNotAllowed(allowed)))
}

async fn deadline(State(app): State<App>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => app.answer(Err(Refused::Deadline)),
    }
}

/// The pages have one style sheet, inside them and named by its hash, and nothing else.
fn policy() -> HeaderValue {
    let text = format!(
        "default-src 'none'; style-src {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        page::style_source()
    );
    // Base64 and the words above are all a header may hold; the other arm only allows less.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

async fn security(State(policy): State<HeaderValue>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in SECURITY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
