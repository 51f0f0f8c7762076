//! Enrolment: an agent proves that it holds its request key; from then on its id belongs to that key.

use aws_lc_rs::rand;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cms_attest::enrol::{
    Challenge, ChallengeAnswer, ENROL_BODY_BYTES_MAX, EnrolAnswer, VerifiedEnrolment,
    verify_enrolment,
};
use cms_attest::leaf::Word;
use cms_attest::{Incoming, Refusal};
use jiff::{SignedDuration, Timestamp};

use crate::app::App;
use crate::refused::Refused;
use crate::store::{Enrolled, NewAgent, StoreError};
use crate::{auth, body};

/// Random bytes of a challenge, as of a key: nobody guesses one.
const CHALLENGE_BYTES: usize = 32;
/// A challenge is answered by a program within a second; five minutes allow for a slow network.
const CHALLENGE_VALID: SignedDuration = SignedDuration::from_mins(5);
/// Longest fingerprint, version and site that are kept: each is printed on a page.
const TEXT_BYTES_MAX: usize = 256;

/// `POST /api/v1/agents/challenge`
pub(crate) async fn challenge(State(app): State<App>, request: Request) -> Response {
    app.answer(open_challenge(&app, request).await)
}

/// `POST /api/v1/agents/enroll`
pub(crate) async fn enrol(State(app): State<App>, request: Request) -> Response {
    app.answer(take_in(&app, request).await)
}

async fn open_challenge(app: &App, request: Request) -> Result<Response, Refused> {
    let key = auth::key_of(app, request.headers()).await?;
    let now = app.now();
    let expires_at = now
        .saturating_add(CHALLENGE_VALID)
        .unwrap_or(Timestamp::MAX);
    let mut random = [0_u8; CHALLENGE_BYTES];
    fill(&mut random)?;
    let challenge: Challenge = URL_SAFE_NO_PAD
        .encode(random)
        .parse()
        .map_err(|_| Refused::Random)?;
    let text = challenge.as_str().to_owned();
    let open = app
        .store()
        .open_challenge(text, key.company, now, expires_at)
        .await?;
    if !open {
        return Err(Refused::ChallengesOpen);
    }
    Ok(Json(ChallengeAnswer {
        challenge,
        expires_at,
    })
    .into_response())
}

async fn take_in(app: &App, request: Request) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let key = auth::key_of(app, &parts.headers).await?;
    body::check_headers(&parts.headers)?;
    let body = body::read(body, ENROL_BODY_BYTES_MAX).await?;
    let now = app.now();
    let verified = verify(&parts, &body, app.authority(), now)?;
    let asked = verified.request();
    if asked.company_id != key.company {
        return Err(Refused::OtherCompany {
            key: key.company,
            body: asked.company_id.clone(),
        });
    }
    bounded("fingerprint", &asked.fingerprint)?;
    bounded("version", &asked.version)?;
    if let Some(site) = &asked.site {
        bounded("site", site)?;
    }
    let new = NewAgent {
        id: asked.agent_id.clone(),
        company: key.company.clone(),
        request_key: *asked.request_key.key(),
        log_key: *asked.log_key.key(),
        fingerprint: asked.fingerprint.clone(),
        version: asked.version.clone(),
        site: asked.site.clone(),
    };
    let challenge = verified.challenge().as_str().to_owned();
    let agent = match app.store().enrol(challenge, new, now).await? {
        Enrolled::ChallengeUnknown => return Err(Refused::ChallengeUnknown),
        Enrolled::Cloned | Enrolled::WrongCompany => {
            tracing::error!(
                company = %key.company,
                agent = %asked.agent_id,
                "a host that this agent did not enrol from shows its keys: a copy of its identity; the agent goes on"
            );
            return Err(Refused::ClonedIdentity);
        }
        Enrolled::KeyRetired => {
            let key_id = asked.request_key.key().key_id();
            return Err(Refusal::KeyRetired { key_id }.into());
        }
        Enrolled::OtherId => return Err(Refused::OtherAgentId),
        Enrolled::OtherLogKey => return Err(Refused::OtherLogKey),
        Enrolled::Revoked => return Err(Refused::AgentRevoked),
        Enrolled::Done(agent) => *agent,
    };
    tracing::info!(company = %agent.company, agent = %agent.id, "an agent is enrolled");
    let signing = app.signing().await?;
    let cosigner = signing.first().map(|key| key.published().to_string());
    let api_key_id: Word = key
        .id
        .parse()
        .map_err(|_| StoreError::Damaged(format!("an API key has the id {:?}", key.id)))?;
    Ok(Json(EnrolAnswer {
        agent_id: agent.id,
        api_key_id,
        cosigner,
        successions: app.cosigners().successions(app.store()).await?,
        server_time: now,
    })
    .into_response())
}

fn verify(
    parts: &Parts,
    body: &[u8],
    authority: &str,
    now: Timestamp,
) -> Result<VerifiedEnrolment, Refused> {
    let headers = |name: &str| values(&parts.headers, name);
    let incoming = Incoming {
        method: parts.method.as_str(),
        path: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        headers: &headers,
        body,
    };
    Ok(verify_enrolment(&incoming, authority, now)?)
}

/// All values of a header, as the verifier wants them. One that is not text cannot match anything signed.
pub(crate) fn values(headers: &axum::http::HeaderMap, name: &str) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect()
}

fn bounded(field: &str, text: &str) -> Result<(), Refused> {
    let right = (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    if right {
        return Ok(());
    }
    Err(Refused::Malformed(cms_attest::answer::Detail {
        field: field.to_owned(),
        message: format!("it must have 1 to {TEXT_BYTES_MAX} bytes and no control characters"),
    }))
}

fn fill(bytes: &mut [u8]) -> Result<(), Refused> {
    rand::fill(bytes).map_err(|_| Refused::Random)
}
