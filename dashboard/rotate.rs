//! Rotation: an enrolled agent brings new keys for old ones. Nothing pauses: both are taken for a while.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use cms_attest::request::KnownKey;
use cms_attest::rotate::{ROTATE_BODY_BYTES_MAX, RotateAnswer, VerifiedRotation, verify_rotation};
use cms_attest::{AgentId, Incoming, KeyId, Refusal};

use crate::api::Id;
use crate::app::App;
use crate::enrol::values;
use crate::refused::Refused;
use crate::store::{Rotated, Rotation};
use crate::{auth, body};

/// `POST /api/v1/agents/{id}/rotate`
pub(crate) async fn rotate(State(app): State<App>, Id(id): Id, request: Request) -> Response {
    app.answer(replace(&app, &id, request).await)
}

async fn replace(app: &App, id: &str, request: Request) -> Result<Response, Refused> {
    let id: AgentId = id.parse().map_err(|_| Refused::agent_unknown(id))?;
    let (parts, body) = request.into_parts();
    let key = auth::key_of(app, &parts.headers).await?;
    body::check_headers(&parts.headers)?;
    let body = body::read(body, ROTATE_BODY_BYTES_MAX).await?;
    let now = app.now();
    let found = app.store().agent(id.clone()).await?;
    let agent = found
        .filter(|agent| agent.company == key.company)
        .ok_or_else(|| Refused::agent_unknown(id.as_str()))?;
    let known = app.store().request_keys(&agent, now).await?;
    let verified = verify(&parts, &body, app, &id, &known)?;
    let signer = verified.signer().key;
    let rotation = Rotation {
        agent: id,
        company: key.company,
        fingerprint: verified.fingerprint().to_owned(),
        signer,
        request_key: verified.request_key().copied(),
        log_key: verified.log_key().cloned(),
    };
    let challenge = verified.challenge().as_str().to_owned();
    let (agent, previous_until) = match app.store().rotate(challenge, rotation, now).await? {
        Rotated::Done(agent, until) => (*agent, until),
        Rotated::AgentUnknown => return Err(Refused::agent_unknown(agent.id.as_str())),
        Rotated::ChallengeUnknown => return Err(Refused::ChallengeUnknown),
        Rotated::Cloned => {
            tracing::error!(
                company = %agent.company,
                agent = %agent.id,
                "a host that this agent did not enrol from asks for other keys: a copy of its identity; nothing was changed"
            );
            return Err(Refused::ClonedIdentity);
        }
        Rotated::KeyReused => return Err(Refusal::KeyReused.into()),
        Rotated::KeyRetired => {
            let key_id = signer.key_id();
            return Err(Refusal::KeyRetired { key_id }.into());
        }
        Rotated::OtherLogKey => return Err(Refused::OtherLogKey),
        Rotated::Revoked => return Err(Refused::AgentRevoked),
    };
    let (request_key, log_key) = (agent.request_key.key_id(), agent.log_key.key_id());
    tracing::info!(
        company = %agent.company,
        agent = %agent.id,
        %request_key,
        %log_key,
        "an agent's keys are rotated"
    );
    Ok(Json(RotateAnswer {
        request_key,
        previous_until,
        log_key,
        server_time: now,
    })
    .into_response())
}

fn verify(
    parts: &Parts,
    body: &[u8],
    app: &App,
    agent: &AgentId,
    known: &[KnownKey],
) -> Result<VerifiedRotation, Refused> {
    let headers = |name: &str| values(&parts.headers, name);
    let incoming = Incoming {
        method: parts.method.as_str(),
        path: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        headers: &headers,
        body,
    };
    let lookup = |wanted: &KeyId| {
        let found = known.iter().find(|known| known.key.key_id() == *wanted);
        found.copied()
    };
    Ok(verify_rotation(
        &incoming,
        app.authority(),
        agent,
        app.now(),
        &lookup,
    )?)
}
