//! Checkpoints: an agent offers the signed head of its ledger and gets the dashboard's cosignature.
//!
//! No API key: the log key's signature is the proof. Promises: a head is on the disk before it is cosigned, of
//! each log at most one history is; two heads that contradict each other are both kept. Refuses: to say that
//! the leaves under a head are known here.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use cms_attest::add_checkpoint::{
    AddCheckpoint, REQUEST_BYTES_MAX, SIZE_MEDIA_TYPE, Unfit, size_answer,
};
use cms_attest::request::Standing;
use cms_attest::succession::Successions;
use cms_attest::{AgentId, Checkpoint, VerifyingKey};

use crate::api::Id;
use crate::app::App;
use crate::body;
use crate::refused::Refused;
use crate::store::Held;

/// `POST /api/v1/agents/{id}/checkpoint`
pub(crate) async fn add(State(app): State<App>, Id(id): Id, request: Request) -> Response {
    app.answer(cosign(&app, &id, request).await)
}

/// `GET /api/v1/keys`: what verifies receipts that are made now, one key a line, the one in use first.
pub(crate) async fn keys(State(app): State<App>) -> Response {
    let signing = app.signing().await;
    app.answer(signing.map(|keys| {
        let lines = keys.iter().map(|key| format!("{}\n", key.published()));
        lines.collect::<String>().into_response()
    }))
}

/// `GET /api/v1/keys/successions`: how each key handed over to the next, the oldest first.
pub(crate) async fn successions(State(app): State<App>) -> Response {
    let notes = app.cosigners().successions(app.store()).await;
    let answer = notes.map(|successions| Json(Successions { successions }).into_response());
    app.answer(answer.map_err(Refused::from))
}

async fn cosign(app: &App, id: &str, request: Request) -> Result<Response, Refused> {
    let unknown = || Refused::agent_unknown(id);
    let id: AgentId = id.parse().map_err(|_| unknown())?;
    let agent = app.store().agent(id).await?.ok_or_else(unknown)?;
    if agent.revoked_at.is_some() {
        return Err(Refused::AgentRevoked);
    }
    let bytes = body::read(request.into_body(), REQUEST_BYTES_MAX).await?;
    let malformed = |why: &dyn std::fmt::Display| Refused::CheckpointMalformed(why.to_string());
    let text = String::from_utf8(bytes).map_err(|_| malformed(&"it is not text"))?;
    let offer: AddCheckpoint = text.parse().map_err(|error| malformed(&error))?;
    let known = app.store().log_keys(&agent, app.now()).await?;
    let keys: Vec<VerifyingKey> = known.iter().map(|known| known.key).collect();
    let opened = Checkpoint::open_any(&offer.note, &keys);
    let (checkpoint, signers) = opened.map_err(|error| {
        if error.is_about_the_signature() {
            Refused::CheckpointUnsigned
        } else {
            malformed(&error)
        }
    })?;
    let signed_as = |standing| {
        let mut standings = signers.iter().filter_map(|place| known.get(*place));
        standings.any(|known| known.standing == standing)
    };
    let by_key_in_use = signed_as(Standing::Current);
    if !by_key_in_use && !signed_as(Standing::Retiring) {
        return Err(Refused::LogKeyRetired);
    }
    // After the signature: whoever only knows the id cannot use up what the agent may ask for.
    let now = app.now();
    app.checkpoint_buckets()
        .take(agent.id.as_str(), now)
        .map_err(|wait_s| Refused::RateLimited { wait_s })?;
    let origin = &checkpoint.origin;
    if *origin.company() != agent.company || *origin.agent_id() != agent.id {
        return Err(Refused::OtherOrigin(origin.to_string()));
    }
    // Before the head is held: what cannot be signed must not be taken.
    let signing = app.signing().await?;
    let held = app
        .store()
        .hold(offer, checkpoint.clone(), by_key_in_use, now)
        .await?;
    let unfit = match held {
        Held::Cosigned => {
            let lines = signing.iter().map(|key| key.cosign(&checkpoint, now));
            return Ok(lines.collect::<String>().into_response());
        }
        Held::EpochsMany => return Err(Refused::EpochsMany),
        Held::Unfit(unfit) => unfit,
    };
    match unfit {
        Unfit::OtherOld { held } => {
            let media = HeaderValue::from_static(SIZE_MEDIA_TYPE);
            let headers = [(header::CONTENT_TYPE, media)];
            Ok((StatusCode::CONFLICT, headers, size_answer(held)).into_response())
        }
        Unfit::Fork(why) => {
            tracing::error!(
                company = %agent.company,
                agent = %agent.id,
                epoch = origin.epoch(),
                size = checkpoint.head.size,
                %why,
                "a ledger has two histories; both heads are kept"
            );
            Err(Refused::ForkedHead(why))
        }
        Unfit::Proof | Unfit::Smaller => Err(malformed(&unfit)),
    }
}
