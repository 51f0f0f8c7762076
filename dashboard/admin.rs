//! What the command line does on a store, also while a server runs on it: companies, API keys, agents that
//! move, and the key for receipts.

use std::path::Path;

use cms_attest::{AgentId, Succession};
use cms_spec::CompanyId;
use jiff::Timestamp;

use crate::cosigner::{self, CosignerError};
use crate::key::{ApiKey, KeyError, Mode};
use crate::store::{self, Agent, Company, CosignerRow, KeyRow, StoreError, open_plain};

/// Live keys of one label: the one in use and the one that replaces it, so that rotation pauses nothing.
const LIVE_KEYS_MAX: i64 = 2;
/// Longest name or label: it is printed on a page.
const NAME_BYTES_MAX: usize = 128;

/// A key that was just made. Its secret is nowhere else.
#[derive(Debug)]
pub struct NewKey {
    /// What is kept of it.
    pub row: KeyRow,
    /// The key itself, to be shown once.
    pub key: ApiKey,
}

/// Adds a company.
///
/// # Errors
/// When the id is taken, the name unusable, or the store fails.
pub fn add_company(
    store: &Path,
    id: &CompanyId,
    name: &str,
    now: Timestamp,
) -> Result<Company, AdminError> {
    check_name(name)?;
    if !store::add_company(&open_plain(store)?, id, name, now)? {
        return Err(AdminError::CompanyTaken(id.clone()));
    }
    Ok(Company {
        id: id.clone(),
        name: name.to_owned(),
        created_at: now,
    })
}

/// Lists all companies by id.
///
/// # Errors
/// When the store fails.
pub fn companies(store: &Path) -> Result<Vec<Company>, AdminError> {
    Ok(store::companies(&open_plain(store)?)?)
}

/// Makes a key. `label` says what it is for, for example an agent's or a site's name.
///
/// # Errors
/// When there is no such company, two keys of the label are live already, or the store fails.
pub fn create_key(
    store: &Path,
    company: &CompanyId,
    label: &str,
    mode: Mode,
    now: Timestamp,
) -> Result<NewKey, AdminError> {
    check_name(label)?;
    let db = open_plain(store)?;
    if store::company(&db, company)?.is_none() {
        return Err(AdminError::CompanyUnknown(company.clone()));
    }
    let key = ApiKey::random(mode)?;
    if !store::create_key(&db, company, label, &key, LIVE_KEYS_MAX, now)? {
        return Err(AdminError::KeysLive(label.to_owned()));
    }
    let row = KeyRow {
        id: key.id(),
        company: company.clone(),
        label: label.to_owned(),
        mode,
        created_at: now,
        revoked_at: None,
    };
    Ok(NewKey { row, key })
}

/// Lists a company's keys, oldest first.
///
/// # Errors
/// When there is no such company, or the store fails.
pub fn keys(store: &Path, company: &CompanyId) -> Result<Vec<KeyRow>, AdminError> {
    let db = open_plain(store)?;
    if store::company(&db, company)?.is_none() {
        return Err(AdminError::CompanyUnknown(company.clone()));
    }
    Ok(store::keys(&db, company)?)
}

/// Revokes a key from its next request on. A second time changes nothing.
///
/// # Errors
/// When there is no such key, or the store fails.
pub fn revoke_key(store: &Path, id: &str, now: Timestamp) -> Result<KeyRow, AdminError> {
    store::revoke_key(&open_plain(store)?, id, now)?
        .ok_or_else(|| AdminError::KeyUnknown(id.to_owned()))
}

/// Lets an agent enrol again from another host, once.
///
/// # Errors
/// When there is no such agent, or the store fails.
pub fn move_agent(store: &Path, id: &AgentId) -> Result<Agent, AdminError> {
    store::move_agent(&open_plain(store)?, id)?.ok_or_else(|| AdminError::AgentUnknown(id.clone()))
}

/// The keys for receipts, the first first.
///
/// # Errors
/// When the store fails.
pub fn cosigners(store: &Path) -> Result<Vec<CosignerRow>, AdminError> {
    Ok(store::cosigners(&open_plain(store)?)?)
}

/// Makes a new key for receipts. A dashboard at work signs with it from the next head on, and with the one
/// before beside it for 30 days. `authority` names them where the dashboard has never started.
///
/// # Errors
/// When the key cannot be made or written, or the store fails.
pub fn rotate_cosigner(
    store: &Path,
    authority: &str,
    now: Timestamp,
) -> Result<CosignerRow, AdminError> {
    let mut db = open_plain(store)?;
    let known = match store::cosigners(&db)? {
        rows if rows.is_empty() => {
            let first = cosigner::load(store, authority)?;
            store::name_cosigners(&db, authority, first.verifying(), now)?;
            store::cosigners(&db)?
        }
        rows => rows,
    };
    let newest = known.last().ok_or(AdminError::CosignerRotated)?;
    let (name, number) = (newest.name.clone(), newest.number + 1);
    let old = cosigner::published(store, &name, newest)?;
    let new = cosigner::load_or_make(store, &name, number)?;
    let succession = Succession::of_cosigners(&old, &new, now).map_err(CosignerError::from)?;
    let row = CosignerRow {
        number,
        name,
        key: *new.verifying(),
        since: now,
        until: None,
        succession: Some(succession.to_string()),
    };
    let until = now
        .saturating_add(cosigner::OVERLAP)
        .unwrap_or(Timestamp::MAX);
    if store::add_cosigner(&mut db, &row, until)? {
        Ok(row)
    } else {
        Err(AdminError::CosignerRotated)
    }
}

fn check_name(name: &str) -> Result<(), AdminError> {
    let right = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    right
        .then_some(())
        .ok_or_else(|| AdminError::Name(name.to_owned()))
}

/// Why the command line could not do it.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No such agent.
    #[error("there is no agent {0}; the company's page shows the ids")]
    AgentUnknown(AgentId),
    /// The id is taken.
    #[error("there is a company {0} already; choose another id")]
    CompanyTaken(CompanyId),
    /// No such company.
    #[error("there is no company {0}; add it with `dashboard company add`")]
    CompanyUnknown(CompanyId),
    /// A key for receipts cannot be made or used.
    #[error("cannot rotate the key for receipts")]
    Cosigner(#[from] CosignerError),
    /// Two rotations at once.
    #[error("another rotation came first; look at `dashboard cosigner list`")]
    CosignerRotated,
    /// No key could be made.
    #[error("cannot make a key")]
    Key(#[from] KeyError),
    /// No such key.
    #[error("there is no key {0}; `dashboard key list` shows the ids")]
    KeyUnknown(String),
    /// Two are live.
    #[error("two keys with the label {0:?} are live; revoke the older one first")]
    KeysLive(String),
    /// Empty, too long or with control characters.
    #[error(
        "{0:?} is not a usable name; use 1 to {NAME_BYTES_MAX} bytes without control characters"
    )]
    Name(String),
    /// The store failed.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
}
