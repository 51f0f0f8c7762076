//! Keys that were replaced: those of agents, and the dashboard's own for receipts.
//!
//! An agent's row has the keys in use; here is what was there before them. A replaced key for requests counts
//! alone until its time is up or its successor is seen, one of the ledger until a head of its successor comes.
//! None is forgotten while it could be mistaken for a new one, up to a bound.

use cms_attest::request::{KnownKey, Standing};
use cms_attest::{AgentId, KeyId, Succession, VerifyingKey};
use cms_spec::CompanyId;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::agents::{agent_by_id, agent_by_key, take_challenge};
use super::{Agent, Store, StoreError, at, ms};

/// How long requests of a replaced key are taken (and signed beside by the agent), unless its successor is seen.
pub(crate) const OVERLAP: SignedDuration = SignedDuration::from_hours(24);
/// Replaced keys of an agent and purpose that are remembered: one a month for five years.
const REPLACED_MAX: i64 = 64;

const REQUEST: &str = "request";
const LOG: &str = "log";

/// A request key, whose it is, and what it is worth.
#[derive(Clone, Debug)]
pub struct Signer {
    /// Whose.
    pub agent: Agent,
    /// The key.
    pub known: KnownKey,
    /// Whether a key that this one has replaced still counts.
    pub replaces: bool,
}

/// What a rotation brings.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Whose keys.
    pub agent: AgentId,
    /// The company of the API key that it came under.
    pub company: CompanyId,
    /// The fingerprint of the host that asks.
    pub fingerprint: String,
    /// The key that signed the request.
    pub signer: VerifyingKey,
    /// The new key for requests.
    pub request_key: Option<VerifyingKey>,
    /// The succession to the new key of the ledger.
    pub log_key: Option<Succession>,
}

/// What became of a rotation.
#[derive(Clone, Debug)]
pub enum Rotated {
    /// No such agent.
    AgentUnknown,
    /// The challenge is unknown, used, or of another company.
    ChallengeUnknown,
    /// It comes from another host than the agent enrolled from.
    Cloned,
    /// The keys are in their places, now or since long; until when requests of the key before are taken.
    Done(Box<Agent>, Option<Timestamp>),
    /// A new key is known already.
    KeyReused,
    /// The key that signed was replaced by another than the one that the rotation brings.
    KeyRetired,
    /// The log key that hands over is not the agent's.
    OtherLogKey,
    /// The agent was revoked.
    Revoked,
}

impl Store {
    /// The agent that a request key is of, and what the key is worth now.
    pub(crate) async fn signer(
        &self,
        key: KeyId,
        now: Timestamp,
    ) -> Result<Option<Signer>, StoreError> {
        self.read(move |db| signer(db, &key, now)).await
    }

    /// Request keys of one agent and what they are worth now.
    pub(crate) async fn request_keys(
        &self,
        agent: &Agent,
        now: Timestamp,
    ) -> Result<Vec<KnownKey>, StoreError> {
        let (id, current) = (agent.id.clone(), agent.request_key);
        self.read(move |db| known_keys(db, &id, current, REQUEST, now))
            .await
    }

    /// Log keys of one agent and what they are worth now, the one in use first.
    pub(crate) async fn log_keys(
        &self,
        agent: &Agent,
        now: Timestamp,
    ) -> Result<Vec<KnownKey>, StoreError> {
        let (id, current) = (agent.id.clone(), agent.log_key);
        self.read(move |db| known_keys(db, &id, current, LOG, now))
            .await
    }

    /// The agent has used its new request key: those before it do not count alone any more.
    pub(crate) async fn retire_request_keys(
        &self,
        agent: AgentId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |db| retire(db, &agent, REQUEST, now)).await
    }

    /// Takes the challenge and puts the new keys into their places, or says why not. The same rotation again
    /// changes nothing.
    pub(crate) async fn rotate(
        &self,
        challenge: String,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<Rotated, StoreError> {
        self.write(move |db| {
            if !take_challenge(db, &challenge, &rotation.company, now)? {
                return Ok(Rotated::ChallengeUnknown);
            }
            let found = agent_by_id(db, &rotation.agent)?;
            let Some(agent) = found.filter(|agent| agent.company == rotation.company) else {
                return Ok(Rotated::AgentUnknown);
            };
            if agent.revoked_at.is_some() {
                return Ok(Rotated::Revoked);
            }
            if agent.fingerprint != rotation.fingerprint {
                return Ok(Rotated::Cloned);
            }
            // Who brings the current key has signed with it, too.
            let repeats = rotation.request_key == Some(agent.request_key);
            if rotation.signer != agent.request_key && !repeats {
                return Ok(Rotated::KeyRetired);
            }
            let log = rotation
                .log_key
                .filter(|log| *log.to().key() != agent.log_key);
            if let Some(log) = &log {
                if *log.from().key() != agent.log_key {
                    return Ok(Rotated::OtherLogKey);
                }
                if is_known(db, log.to().key())? {
                    return Ok(Rotated::KeyReused);
                }
            }
            if let Some(key) = rotation.request_key.filter(|_| !repeats) {
                if is_known(db, &key)? {
                    return Ok(Rotated::KeyReused);
                }
                replace_request_key(db, &agent, &key, now)?;
            }
            if let Some(log) = &log {
                replace_log_key(db, &agent, log, now)?;
            }
            let agent = agent_by_id(db, &agent.id)?
                .ok_or_else(|| StoreError::Damaged("an agent is gone".to_owned()))?;
            let until = counts_until(db, &agent.id, now)?;
            Ok(Rotated::Done(Box::new(agent), until))
        })
        .await
    }
}

/// The agent that a request key is of.
pub(super) fn signer(
    db: &Connection,
    key: &KeyId,
    now: Timestamp,
) -> Result<Option<Signer>, StoreError> {
    if let Some(agent) = agent_by_key(db, key)? {
        let replaces = counts_until(db, &agent.id, now)?.is_some();
        let known = KnownKey::current(agent.request_key);
        return Ok(Some(Signer {
            agent,
            known,
            replaces,
        }));
    }
    let mut find = db.prepare_cached(
        "SELECT agent, key, until_ms FROM replaced_key WHERE key_id = ?1 AND purpose = ?2",
    )?;
    let found = find
        .query_row(params![key.as_str(), REQUEST], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((id, bytes, until)) = found else {
        return Ok(None);
    };
    let agent = agent_by_id(db, &super::agents::agent_id(&id)?)?
        .ok_or_else(|| StoreError::Damaged(format!("the agent {id} of a key is gone")))?;
    let known = replaced(bytes, until, now)?;
    Ok(Some(Signer {
        agent,
        known,
        replaces: false,
    }))
}

/// Log keys of an agent that count: the one in use and one that waits for its successor's first head.
pub(super) fn live_log_keys(
    db: &Connection,
    agent: &Agent,
    now: Timestamp,
) -> Result<Vec<VerifyingKey>, StoreError> {
    let keys = known_keys(db, &agent.id, agent.log_key, LOG, now)?;
    let live = keys
        .into_iter()
        .filter(|key| key.standing != Standing::Retired);
    Ok(live.map(|known| known.key).collect())
}

/// The agent has signed a head with its new log key: the one before does not count any more.
pub(super) fn retire_log_keys(
    db: &Connection,
    agent: &AgentId,
    now: Timestamp,
) -> Result<(), StoreError> {
    retire(db, agent, LOG, now)
}

fn known_keys(
    db: &Connection,
    agent: &AgentId,
    current: VerifyingKey,
    purpose: &str,
    now: Timestamp,
) -> Result<Vec<KnownKey>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT key, until_ms FROM replaced_key WHERE agent = ?1 AND purpose = ?2
         ORDER BY replaced_ms DESC, rowid DESC LIMIT ?3",
    )?;
    let rows = rows.query_map(params![agent.as_str(), purpose, REPLACED_MAX], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    let mut keys = vec![KnownKey::current(current)];
    for row in rows {
        let (bytes, until) = row?;
        keys.push(replaced(bytes, until, now)?);
    }
    Ok(keys)
}

fn replaced(bytes: [u8; 32], until_ms: i64, now: Timestamp) -> Result<KnownKey, StoreError> {
    let key =
        VerifyingKey::from_bytes(bytes).map_err(|error| StoreError::Damaged(error.to_string()))?;
    let standing = if ms(now) < until_ms {
        Standing::Retiring
    } else {
        Standing::Retired
    };
    Ok(KnownKey { key, standing })
}

/// Until when requests of a replaced key count, if one does.
fn counts_until(
    db: &Connection,
    agent: &AgentId,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let mut find = db.prepare_cached(
        "SELECT max(until_ms) FROM replaced_key WHERE agent = ?1 AND purpose = ?2 AND until_ms > ?3",
    )?;
    let until: Option<i64> =
        find.query_row(params![agent.as_str(), REQUEST, ms(now)], |row| row.get(0))?;
    Ok(until.map(at))
}

fn retire(
    db: &Connection,
    agent: &AgentId,
    purpose: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut end = db.prepare_cached(
        "UPDATE replaced_key SET until_ms = ?3 WHERE agent = ?1 AND purpose = ?2 AND until_ms > ?3",
    )?;
    end.execute(params![agent.as_str(), purpose, ms(now)])?;
    Ok(())
}

/// Whether a key is anybody's, in use or replaced, for any purpose.
fn is_known(db: &Connection, key: &VerifyingKey) -> Result<bool, StoreError> {
    let mut find = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM agent WHERE request_key = ?1 OR log_key = ?1)
             OR EXISTS (SELECT 1 FROM replaced_key WHERE key = ?1)",
    )?;
    Ok(find.query_row([key.as_bytes()], |row| row.get(0))?)
}

fn replace_request_key(
    db: &Connection,
    agent: &Agent,
    key: &VerifyingKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    // One key before the current one at most: the one before that has been replaced for good.
    retire(db, &agent.id, REQUEST, now)?;
    let until = now.saturating_add(OVERLAP).unwrap_or(Timestamp::MAX);
    keep(
        db,
        agent,
        REQUEST,
        &agent.request_key,
        (now, ms(until)),
        None,
    )?;
    db.execute(
        "UPDATE agent SET request_key = ?2, key_id = ?3 WHERE id = ?1",
        params![agent.id.as_str(), key.as_bytes(), key.key_id().as_str()],
    )?;
    Ok(())
}

fn replace_log_key(
    db: &Connection,
    agent: &Agent,
    succession: &Succession,
    now: Timestamp,
) -> Result<(), StoreError> {
    let note = succession.to_string();
    keep(db, agent, LOG, &agent.log_key, (now, i64::MAX), Some(&note))?;
    db.execute(
        "UPDATE agent SET log_key = ?2 WHERE id = ?1",
        params![agent.id.as_str(), succession.to().key().as_bytes()],
    )?;
    Ok(())
}

fn keep(
    db: &Connection,
    agent: &Agent,
    purpose: &str,
    key: &VerifyingKey,
    (now, until_ms): (Timestamp, i64),
    succession: Option<&str>,
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO replaced_key (key, key_id, agent, purpose, replaced_ms, until_ms, succession)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            key.as_bytes(),
            key.key_id().as_str(),
            agent.id.as_str(),
            purpose,
            ms(now),
            until_ms,
            succession
        ],
    )?;
    db.execute(
        "DELETE FROM replaced_key WHERE agent = ?1 AND purpose = ?2 AND until_ms <= ?3
             AND rowid NOT IN (SELECT rowid FROM replaced_key WHERE agent = ?1 AND purpose = ?2
                               ORDER BY replaced_ms DESC, rowid DESC LIMIT ?4)",
        params![agent.id.as_str(), purpose, ms(now), REPLACED_MAX],
    )?;
    Ok(())
}
