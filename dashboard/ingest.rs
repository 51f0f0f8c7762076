//! The five submission endpoints: from a request to an accepted submission, or to one clear refusal.
//!
//! The order is part of the contract: key, signature, nonce, place in the ledger, body, company, category,
//! time, plausibility, disk. What is cheap comes first, and nothing is parsed that nobody vouches for.
//! Promises: the answer `accepted` is sent after the row is on the disk, and the same submission again gets
//! the same answer.

use std::cell::RefCell;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use cms_attest::answer::{AcceptedStatus, Detail};
use cms_attest::request::{SIGNATURE_WINDOW_S, verify_known};
use cms_attest::{Accepted, Incoming, KeyId, Refusal, Verified};
use cms_spec::payload::{AgentInfo, Delivery, Envelope};
use cms_spec::plausible::{self, Severity};
use cms_spec::{Category, CompanyId, Slot};
use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;

use crate::app::App;
use crate::enrol::values;
use crate::key::Mode;
use crate::refused::Refused;
use crate::store::{Accepting, Agent, KeyRow, NewSubmission, Packed, Signer, StoreError, Stored};
use crate::{auth, body};

/// A live submission is at most this old (specification, section X).
pub(crate) const LIVE_MAX: SignedDuration = SignedDuration::from_mins(30);
/// How far a host's clock may be ahead; the same as for its signatures.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);
/// Raw telemetry is kept this long (specification, section VI.C); older backfill would be dropped at once.
const BACKFILL_MAX: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A nonce is remembered for as long as its signature can be valid, in both directions.
const NONCE_VALID: SignedDuration = SignedDuration::from_secs(2 * SIGNATURE_WINDOW_S);
/// Warnings that are kept and answered for a submission.
const WARNINGS_MAX: usize = 50;
/// Details that a refusal lists.
const DETAILS_MAX: usize = 50;

/// `POST /api/v1/telemetry/{category}`
pub(crate) async fn submit(
    State(app): State<App>,
    category: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    app.answer(take(&app, category, request).await)
}

async fn take(
    app: &App,
    category: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let category = category
        .ok()
        .and_then(|Path(category)| category.parse().ok());
    let category: Category = category.ok_or_else(|| Refused::NotFound(path.to_owned()))?;
    let key = auth::key_of(app, &parts.headers).await?;
    body::check_headers(&parts.headers)?;
    let place = app.bodies().acquire().await;
    let body = body::read(body, body::WIRE_BYTES_MAX).await?;
    let now = app.now();
    let asked = Asked {
        app: app.clone(),
        parts,
        body,
        category,
        key,
        now,
    };
    let place_to_examine = app.examinations().acquire_owned().await;
    let examined = tokio::task::spawn_blocking(move || {
        let _place = place_to_examine;
        asked.examine()
    })
    .await
    .map_err(|_| StoreError::Unconfirmed)??;
    drop(place);
    let accepted = match examined {
        Examined::Known(accepted) => accepted,
        Examined::New(checked) => {
            // A task of its own: an agent that hangs up must not leave what is stored unevaluated.
            let app = app.clone();
            let accepting = tokio::spawn(async move { accept(&app, *checked, now).await });
            accepting.await.map_err(|_| StoreError::Unconfirmed)??
        }
    };
    Ok(Json(accepted).into_response())
}

async fn accept(app: &App, checked: Checked, now: Timestamp) -> Result<Accepted, Refused> {
    let Checked { new, nonce } = checked;
    let (index, leaf, delivery) = (new.index, new.leaf, new.delivery);
    let (category, counted, company) = (new.category, new.counted, new.company.clone());
    let warnings = new.warnings.clone();
    let expires_at = later(now, NONCE_VALID);
    match app.store().accept(new, nonce, expires_at, now).await? {
        Accepting::Done(received_at) => {
            tracing::debug!(%company, %category, index, "accepted");
            if counted {
                app.counted(company);
            }
            Ok(Accepted {
                status: AcceptedStatus::Accepted,
                category,
                index,
                delivery,
                duplicate: false,
                warnings,
                received_at,
            })
        }
        Accepting::Duplicate(stored) => Ok(again(stored, index)),
        Accepting::Fork(stored) => Err(Refused::Fork {
            index,
            stored: stored.leaf,
            offered: leaf,
        }),
        Accepting::Replayed => Err(Refused::Replayed),
    }
}

/// A request with everything that judging it takes.
struct Asked {
    app: App,
    parts: Parts,
    body: Vec<u8>,
    category: Category,
    key: KeyRow,
    now: Timestamp,
}

enum Examined {
    Known(Accepted),
    New(Box<Checked>),
}

/// A submission that nothing speaks against, with the nonce that it spends.
struct Checked {
    new: NewSubmission,
    nonce: Vec<u8>,
}

impl Asked {
    /// Judges the request, on a blocking thread. Its few reads of the store wait there.
    fn examine(self) -> Result<Examined, Refused> {
        let (verified, agent) = self.verify()?;
        if let Some(known) = self.recall(&verified, &agent)? {
            return Ok(Examined::Known(known));
        }
        let nonce = verified.nonce().to_vec();
        let new = self.read(verified, agent)?;
        Ok(Examined::New(Box::new(Checked { new, nonce })))
    }

    fn verify(&self) -> Result<(Verified, Agent), Refused> {
        // Said first, so that a plain v1.0 client learns what is really missing, and not only a header of it.
        let signed = ["signature-input", "signature"];
        if !signed
            .iter()
            .all(|name| self.parts.headers.contains_key(*name))
        {
            return Err(Refusal::Unsigned.into());
        }
        let headers = |name: &str| values(&self.parts.headers, name);
        let uri = &self.parts.uri;
        let incoming = Incoming {
            method: self.parts.method.as_str(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()),
            headers: &headers,
            body: &self.body,
        };
        let found = RefCell::new(Vec::new());
        let lookup = |key: &KeyId| {
            let read = Handle::current().block_on(self.app.store().signer(key.clone(), self.now));
            let known = read.as_ref().ok().and_then(Option::as_ref).map(|s| s.known);
            found.borrow_mut().push(read);
            known
        };
        let result = verify_known(&incoming, self.app.authority(), self.now, &lookup);
        let read: Result<Vec<_>, StoreError> = found.into_inner().into_iter().collect();
        let signers: Vec<Signer> = read?.into_iter().flatten().collect();
        let verified = result?;
        let signer = signer_of(&signers, verified.key_id())?;
        let agent = signer.agent.clone();
        if let Some(beside) = verified.beside() {
            let other = &signer_of(&signers, beside)?.agent.id;
            if *other != agent.id {
                return Err(Refused::AgentMismatch {
                    signer: other.to_string(),
                    named: agent.id.to_string(),
                });
            }
        }
        if agent.revoked_at.is_some() {
            return Err(Refused::AgentRevoked);
        }
        if agent.company != self.key.company {
            return Err(Refused::OtherCompany {
                key: self.key.company.clone(),
                body: agent.company,
            });
        }
        let named = verified.idempotency_key().agent_id();
        if *named != agent.id {
            return Err(Refused::AgentMismatch {
                signer: agent.id.to_string(),
                named: named.to_string(),
            });
        }
        if signer.replaces {
            // The agent has its new key in use: a thief of the old one cannot speak for it any more.
            let retired = self
                .app
                .store()
                .retire_request_keys(agent.id.clone(), self.now);
            Handle::current().block_on(retired)?;
        }
        Ok((verified, agent))
    }

    /// Answers from the store what the store has seen.
    fn recall(&self, verified: &Verified, agent: &Agent) -> Result<Option<Accepted>, Refused> {
        let key = verified.idempotency_key();
        let nonce = verified.nonce().to_vec();
        let store = self.app.store();
        let handle = Handle::current();
        let (spent, stored) = handle.block_on(store.known(
            agent.id.clone(),
            nonce.clone(),
            key.epoch(),
            key.index(),
        ))?;
        if spent {
            return Err(Refused::Replayed);
        }
        let Some(stored) = stored else {
            return Ok(None);
        };
        let offered = verified.ledger().leaf;
        if stored.leaf != offered || stored.category != self.category {
            return Err(Refused::Fork {
                index: key.index(),
                stored: stored.leaf,
                offered,
            });
        }
        let expires_at = later(self.now, NONCE_VALID);
        if !handle.block_on(store.spend_nonce(agent.id.clone(), nonce, expires_at))? {
            return Err(Refused::Replayed);
        }
        Ok(Some(again(stored, key.index())))
    }

    fn read(self, verified: Verified, agent: Agent) -> Result<NewSubmission, Refused> {
        let body = body::decode(self.body, verified.content_encoding())?;
        let envelope = parse(&body)?;
        check_company(&self.key.company, &envelope)?;
        if envelope.data.category() != self.category {
            return Err(Refused::CategoryMismatch {
                path: self.category,
                found: envelope.data.category(),
            });
        }
        let index = verified.idempotency_key().index();
        if let Some(info) = &envelope.agent {
            check_agent(info, &agent, index, envelope.timestamp)?;
        }
        let said = envelope.agent.as_ref().map(|info| info.delivery);
        let delivery = if said == Some(Delivery::Backfill) {
            Delivery::Backfill
        } else {
            verified.delivery()
        };
        check_age(envelope.timestamp, delivery, self.now)?;
        let mut warnings = judge(&envelope)?;
        if self.key.mode == Mode::Test {
            warnings.insert(
                0,
                "under a test key: it is checked and kept but does not count".to_owned(),
            );
        }
        Ok(NewSubmission {
            company: self.key.company,
            agent: agent.id,
            epoch: verified.idempotency_key().epoch(),
            index,
            leaf: verified.ledger().leaf,
            digest: verified.digest(),
            category: self.category,
            slot: slot_of(&envelope, self.category),
            delivery,
            counted: delivery == Delivery::Live && self.key.mode == Mode::Live,
            api_key: self.key.id,
            warnings,
            body: Packed::new(&body)?,
        })
    }
}

/// Of the keys that were looked up, the one with this name.
fn signer_of<'a>(signers: &'a [Signer], key: &KeyId) -> Result<&'a Signer, StoreError> {
    let mut all = signers.iter();
    all.find(|signer| signer.known.key.key_id() == *key)
        .ok_or(StoreError::Unconfirmed)
}

/// Reads the body; a refusal names the field by its path.
pub(crate) fn parse(body: &[u8]) -> Result<Envelope, Refused> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let envelope: Envelope = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let message = error.into_inner().to_string();
        match message
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split_once('`'))
        {
            Some((field, _)) => Refused::Incomplete(Detail {
                field: [path.as_str(), field]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join("."),
                message: "it is not there".to_owned(),
            }),
            None => Refused::Malformed(Detail {
                field: if path.is_empty() {
                    "the whole body".to_owned()
                } else {
                    path
                },
                message,
            }),
        }
    })?;
    json.end()
        .map_err(|error| malformed("the whole body", error.to_string()))?;
    Ok(envelope)
}

fn malformed(field: &str, message: String) -> Refused {
    Refused::Malformed(Detail {
        field: field.to_owned(),
        message,
    })
}

fn check_company(key: &CompanyId, envelope: &Envelope) -> Result<(), Refused> {
    if envelope.company_id == *key {
        return Ok(());
    }
    Err(Refused::OtherCompany {
        key: key.clone(),
        body: envelope.company_id.clone(),
    })
}

/// What the body says of its sender must be what was signed.
fn check_agent(
    info: &AgentInfo,
    agent: &Agent,
    index: u64,
    timestamp: Timestamp,
) -> Result<(), Refused> {
    if info.agent_id != agent.id.as_str() {
        return Err(Refused::AgentMismatch {
            signer: agent.id.to_string(),
            named: info.agent_id.clone(),
        });
    }
    if info.sequence != index {
        let message = format!("it is {}, and the ledger's index is {index}", info.sequence);
        return Err(malformed("agent.sequence", message));
    }
    if info.slot.start >= info.slot.end {
        return Err(malformed(
            "agent.slot",
            "it ends before it begins".to_owned(),
        ));
    }
    if info.slot.end != timestamp {
        let message = format!("it is {}, and the timestamp is {timestamp}", info.slot.end);
        return Err(malformed("agent.slot.end", message));
    }
    Ok(())
}

fn check_age(timestamp: Timestamp, delivery: Delivery, now: Timestamp) -> Result<(), Refused> {
    let age = now.duration_since(timestamp);
    if -age > AHEAD_MAX {
        return Err(Refused::FromTheFuture {
            ahead_s: -age.as_secs(),
        });
    }
    match delivery {
        Delivery::Live if age > LIVE_MAX => Err(Refused::Stale {
            age_min: age.as_mins(),
        }),
        Delivery::Backfill if age > BACKFILL_MAX => Err(Refused::TooOld {
            age_days: age.as_hours() / 24,
        }),
        Delivery::Backfill | Delivery::Live => Ok(()),
    }
}

/// Refuses what cannot be, and notes what is odd.
fn judge(envelope: &Envelope) -> Result<Vec<String>, Refused> {
    let findings = plausible::check(&envelope.data);
    let key = envelope.data.category().key();
    let (refused, flagged): (Vec<_>, Vec<_>) = findings
        .into_iter()
        .partition(|finding| finding.severity == Severity::Refuse);
    if refused.is_empty() {
        let odd = flagged.into_iter().take(WARNINGS_MAX);
        return Ok(odd.map(|f| format!("{}: {}", f.field, f.message)).collect());
    }
    let wrong = refused.into_iter().take(DETAILS_MAX).map(|finding| Detail {
        field: format!("data.{key}.{}", finding.field),
        message: finding.message,
    });
    Err(Refused::Implausible(wrong.collect()))
}

/// The slot that the submission closes; for a client that does not say, the one that its schedule implies.
fn slot_of(envelope: &Envelope, category: Category) -> Slot {
    match &envelope.agent {
        Some(info) => info.slot,
        None => Slot {
            start: (envelope.timestamp)
                .saturating_sub(category.cadence().duration())
                .unwrap_or(Timestamp::MIN),
            end: envelope.timestamp,
        },
    }
}

/// The answer to a submission that was accepted before.
fn again(stored: Stored, index: u64) -> Accepted {
    Accepted {
        status: AcceptedStatus::Accepted,
        category: stored.category,
        index,
        delivery: stored.delivery,
        duplicate: true,
        warnings: stored.warnings,
        received_at: stored.received_at,
    }
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}
