//! Enrolled agents, the challenges they answer and the nonces they have used.

use cms_attest::request::Standing;
use cms_attest::{AgentId, KeyId, VerifyingKey};
use cms_spec::CompanyId;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::companies::company_id;
use super::keys::{live_log_keys, signer};
use super::{Store, StoreError, at, ms};

/// Challenges that a company may have open: an agent needs one, a fleet's first start many.
const CHALLENGES_MAX: i64 = 4096;
/// In the place of a fingerprint: the next enrolment brings the new one. No agent sends an empty one.
const MOVED: &str = "";

/// An enrolled agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Given by itself, and its own since enrolment.
    pub id: AgentId,
    /// Whose it is.
    pub company: CompanyId,
    /// What verifies its requests.
    pub request_key: VerifyingKey,
    /// What verifies its ledger's checkpoints.
    pub log_key: VerifyingKey,
    /// The salted fingerprint of its host; empty while it may come from another one.
    pub fingerprint: String,
    /// Its version, as it said when it enrolled.
    pub version: String,
    /// Where it stands, if it said so.
    pub site: Option<String>,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// When its key was taken back, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// What an enrolment brings.
#[derive(Clone, Debug)]
pub struct NewAgent {
    /// What it calls itself.
    pub id: AgentId,
    /// Whose it is.
    pub company: CompanyId,
    /// What will verify its requests.
    pub request_key: VerifyingKey,
    /// What will verify its ledger's checkpoints.
    pub log_key: VerifyingKey,
    /// The salted fingerprint of its host.
    pub fingerprint: String,
    /// Its version.
    pub version: String,
    /// Where it stands.
    pub site: Option<String>,
}

/// What became of an enrolment.
#[derive(Clone, Debug)]
pub enum Enrolled {
    /// The challenge is unknown, used, or of another company.
    ChallengeUnknown,
    /// The request key is another host's.
    Cloned,
    /// Another key has taken the place of the request key.
    KeyRetired,
    /// The id is another key's, or the key another id's.
    OtherId,
    /// The request key is known with another ledger key.
    OtherLogKey,
    /// It is enrolled, now or since long.
    Done(Box<Agent>),
    /// Its key was taken back.
    Revoked,
    /// The request key is another company's.
    WrongCompany,
}

impl Store {
    /// Keeps a challenge until it expires; false when the company has too many open.
    pub(crate) async fn open_challenge(
        &self,
        text: String,
        company: CompanyId,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM challenge WHERE expires_ms <= ?1", [ms(now)])?;
            let added = db.execute(
                "INSERT INTO challenge (text, company, expires_ms) SELECT ?1, ?2, ?3
                 WHERE (SELECT count(*) FROM challenge WHERE company = ?2) < ?4",
                params![text, company.as_str(), ms(expires_at), CHALLENGES_MAX],
            )?;
            Ok(added == 1)
        })
        .await
    }

    /// Takes the challenge and enrols the agent, or says why not. A challenge serves once, whatever comes of it.
    pub(crate) async fn enrol(
        &self,
        challenge: String,
        new: NewAgent,
        now: Timestamp,
    ) -> Result<Enrolled, StoreError> {
        self.write(move |db| {
            if !take_challenge(db, &challenge, &new.company, now)? {
                return Ok(Enrolled::ChallengeUnknown);
            }
            if let Some(known) = signer(db, &new.request_key.key_id(), now)? {
                if known.known.standing == Standing::Retired {
                    return Ok(Enrolled::KeyRetired);
                }
                return meet(db, known.agent, new, now);
            }
            if id_is_taken(db, &new.id)? {
                return Ok(Enrolled::OtherId);
            }
            insert(db, &new, now)?;
            agent_by_key(db, &new.request_key.key_id())?
                .map(|agent| Enrolled::Done(Box::new(agent)))
                .ok_or_else(|| StoreError::Damaged("a new agent is not there".to_owned()))
        })
        .await
    }

    /// The agent with this id.
    pub(crate) async fn agent(&self, id: AgentId) -> Result<Option<Agent>, StoreError> {
        self.read(move |db| agent_by_id(db, &id)).await
    }

    /// A company's agents, in the order of enrolment.
    pub(crate) async fn agents(&self, company: CompanyId) -> Result<Vec<Agent>, StoreError> {
        self.read(move |db| {
            let sql =
                format!("SELECT {COLUMNS} FROM agent WHERE company = ?1 ORDER BY enrolled_ms, id");
            let mut rows = db.prepare_cached(&sql)?;
            let rows = rows.query_map([company.as_str()], raw)?;
            rows.map(|row| row?.checked()).collect()
        })
        .await
    }
}

/// Takes a challenge of this company; false when it is not open. It serves once.
pub(super) fn take_challenge(
    db: &Connection,
    challenge: &str,
    company: &CompanyId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let taken = db.execute(
        "DELETE FROM challenge WHERE text = ?1 AND company = ?2 AND expires_ms > ?3",
        params![challenge, company.as_str(), ms(now)],
    )?;
    Ok(taken == 1)
}

/// Lets an agent enrol again from another host, once: its fingerprint is forgotten. Nothing when there is no
/// such agent.
pub(crate) fn move_agent(db: &Connection, id: &AgentId) -> Result<Option<Agent>, StoreError> {
    db.execute(
        "UPDATE agent SET fingerprint = ?2 WHERE id = ?1",
        params![id.as_str(), MOVED],
    )?;
    agent_by_id(db, id)
}

/// Spends a nonce; false when it was spent before.
pub(super) fn spend_nonce(
    db: &Connection,
    agent: &AgentId,
    nonce: &[u8],
    expires_at: Timestamp,
) -> Result<bool, StoreError> {
    let mut insert = db.prepare_cached(
        "INSERT INTO nonce (agent, nonce, expires_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    Ok(insert.execute(params![agent.to_string(), nonce, ms(expires_at)])? == 1)
}

/// Whether a nonce was spent.
pub(super) fn nonce_is_spent(
    db: &Connection,
    agent: &AgentId,
    nonce: &[u8],
) -> Result<bool, StoreError> {
    let mut find =
        db.prepare_cached("SELECT EXISTS (SELECT 1 FROM nonce WHERE agent = ?1 AND nonce = ?2)")?;
    Ok(find.query_row(params![agent.to_string(), nonce], |row| row.get(0))?)
}

/// A known key enrols again: fine from the same host with the same keys, and from nowhere else.
fn meet(
    db: &Connection,
    known: Agent,
    new: NewAgent,
    now: Timestamp,
) -> Result<Enrolled, StoreError> {
    if known.company != new.company {
        return Ok(Enrolled::WrongCompany);
    }
    if known.fingerprint != new.fingerprint && known.fingerprint != MOVED {
        return Ok(Enrolled::Cloned);
    }
    if known.id != new.id {
        return Ok(Enrolled::OtherId);
    }
    if !live_log_keys(db, &known, now)?.contains(&new.log_key) {
        return Ok(Enrolled::OtherLogKey);
    }
    if known.revoked_at.is_some() {
        return Ok(Enrolled::Revoked);
    }
    db.execute(
        "UPDATE agent SET fingerprint = ?2, version = ?3, site = ?4 WHERE id = ?1",
        params![known.id.to_string(), new.fingerprint, new.version, new.site],
    )?;
    Ok(Enrolled::Done(Box::new(Agent {
        fingerprint: new.fingerprint,
        version: new.version,
        site: new.site,
        ..known
    })))
}

fn id_is_taken(db: &Connection, id: &AgentId) -> Result<bool, StoreError> {
    let mut find = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM agent WHERE id = ?1)")?;
    Ok(find.query_row([id.to_string()], |row| row.get(0))?)
}

fn insert(db: &Connection, new: &NewAgent, now: Timestamp) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO agent (id, company, key_id, request_key, log_key, fingerprint, version, site,
                            enrolled_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            new.id.to_string(),
            new.company.as_str(),
            new.request_key.key_id().as_str(),
            new.request_key.as_bytes(),
            new.log_key.as_bytes(),
            new.fingerprint,
            new.version,
            new.site,
            ms(now)
        ],
    )?;
    Ok(())
}

pub(super) fn agent_by_id(db: &Connection, id: &AgentId) -> Result<Option<Agent>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM agent WHERE id = ?1");
    let mut find = db.prepare_cached(&sql)?;
    let found = find.query_row([id.as_str()], raw).optional()?;
    found.map(RawAgent::checked).transpose()
}

/// The agent whose request key in use has this name.
pub(super) fn agent_by_key(db: &Connection, key: &KeyId) -> Result<Option<Agent>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM agent WHERE key_id = ?1");
    let found = db
        .prepare_cached(&sql)?
        .query_row([key.as_str()], raw)
        .optional()?;
    found.map(RawAgent::checked).transpose()
}

const COLUMNS: &str = "id, company, request_key, log_key, fingerprint, version, site, \
                       enrolled_ms, revoked_ms";

struct RawAgent {
    id: String,
    company: String,
    request_key: [u8; 32],
    log_key: [u8; 32],
    fingerprint: String,
    version: String,
    site: Option<String>,
    enrolled: i64,
    revoked: Option<i64>,
}

fn raw(row: &Row<'_>) -> Result<RawAgent, rusqlite::Error> {
    Ok(RawAgent {
        id: row.get(0)?,
        company: row.get(1)?,
        request_key: row.get(2)?,
        log_key: row.get(3)?,
        fingerprint: row.get(4)?,
        version: row.get(5)?,
        site: row.get(6)?,
        enrolled: row.get(7)?,
        revoked: row.get(8)?,
    })
}

impl RawAgent {
    fn checked(self) -> Result<Agent, StoreError> {
        let key = |bytes| {
            VerifyingKey::from_bytes(bytes).map_err(|error| StoreError::Damaged(error.to_string()))
        };
        Ok(Agent {
            id: agent_id(&self.id)?,
            company: company_id(self.company)?,
            request_key: key(self.request_key)?,
            log_key: key(self.log_key)?,
            fingerprint: self.fingerprint,
            version: self.version,
            site: self.site,
            enrolled_at: at(self.enrolled),
            revoked_at: self.revoked.map(at),
        })
    }
}

pub(super) fn agent_id(text: &str) -> Result<AgentId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Damaged(format!("an agent has the id {text:?}")))
}
