//! Companies and their API keys. The command line calls the plain functions, the server the async ones.

use cms_spec::CompanyId;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Store, StoreError, at, ms};
use crate::key::{ApiKey, Mode};

/// A company that may submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Company {
    /// Its id.
    pub id: CompanyId,
    /// Its name as people write it.
    pub name: String,
    /// When it was added.
    pub created_at: Timestamp,
}

/// What is kept of an API key: enough to recognise it, not enough to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// The public id.
    pub id: String,
    /// Whose it is.
    pub company: CompanyId,
    /// What it is for, in the words of who made it.
    pub label: String,
    /// Whether submissions under it count.
    pub mode: Mode,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl Store {
    /// The key with this id and its hash, revoked or not.
    pub(crate) async fn key(&self, id: String) -> Result<Option<(KeyRow, Vec<u8>)>, StoreError> {
        self.read(move |db| {
            let sql = format!("SELECT {KEY_COLUMNS}, hash FROM api_key WHERE id = ?1");
            let found = db
                .prepare_cached(&sql)?
                .query_row([id], |row| Ok((raw_key(row)?, row.get(6)?)))
                .optional()?;
            found
                .map(|(raw, hash)| Ok((raw.checked()?, hash)))
                .transpose()
        })
        .await
    }

    /// The company with this id.
    pub(crate) async fn company(&self, id: CompanyId) -> Result<Option<Company>, StoreError> {
        self.read(move |db| company(db, &id)).await
    }

    /// All companies, by id.
    pub(crate) async fn companies(&self) -> Result<Vec<Company>, StoreError> {
        self.read(companies).await
    }
}

/// Adds a company; false when the id is taken.
pub(crate) fn add_company(
    db: &Connection,
    id: &CompanyId,
    name: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let added = db.execute(
        "INSERT INTO company (id, name, created_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![id.as_str(), name, ms(now)],
    )?;
    Ok(added == 1)
}

/// All companies, by id.
pub(crate) fn companies(db: &Connection) -> Result<Vec<Company>, StoreError> {
    let mut rows = db.prepare_cached("SELECT id, name, created_ms FROM company ORDER BY id")?;
    let rows = rows.query_map((), raw_company)?;
    rows.map(|row| checked_company(row?)).collect()
}

/// Stores a new key unless `live_max` of the same label are live; false when they are.
pub(crate) fn create_key(
    db: &Connection,
    company: &CompanyId,
    label: &str,
    key: &ApiKey,
    live_max: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // One statement, so that two command lines at once cannot both find room.
    let added = db.execute(
        "INSERT INTO api_key (id, company, label, mode, hash, created_ms)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6
         WHERE (SELECT count(*) FROM api_key
                WHERE company = ?2 AND label = ?3 AND revoked_ms IS NULL) < ?7",
        params![
            key.id(),
            company.as_str(),
            label,
            key.mode().word(),
            key.hash(),
            ms(now),
            live_max
        ],
    )?;
    Ok(added == 1)
}

/// A company's keys, oldest first.
pub(crate) fn keys(db: &Connection, company: &CompanyId) -> Result<Vec<KeyRow>, StoreError> {
    let mut rows = db.prepare_cached(&format!(
        "SELECT {KEY_COLUMNS} FROM api_key WHERE company = ?1 ORDER BY created_ms, id"
    ))?;
    let rows = rows.query_map([company.as_str()], raw_key)?;
    rows.map(|row| row?.checked()).collect()
}

/// Revokes a key and gives it as it is now; nothing when there is none. A second time changes nothing.
pub(crate) fn revoke_key(
    db: &Connection,
    id: &str,
    now: Timestamp,
) -> Result<Option<KeyRow>, StoreError> {
    db.execute(
        "UPDATE api_key SET revoked_ms = ?2 WHERE id = ?1 AND revoked_ms IS NULL",
        params![id, ms(now)],
    )?;
    let sql = format!("SELECT {KEY_COLUMNS} FROM api_key WHERE id = ?1");
    let raw = db.query_row(&sql, [id], raw_key).optional()?;
    raw.map(RawKey::checked).transpose()
}

/// The company with this id.
pub(crate) fn company(db: &Connection, id: &CompanyId) -> Result<Option<Company>, StoreError> {
    let sql = "SELECT id, name, created_ms FROM company WHERE id = ?1";
    let raw = db
        .prepare_cached(sql)?
        .query_row([id.as_str()], raw_company)
        .optional()?;
    raw.map(checked_company).transpose()
}

pub(super) fn company_id(text: String) -> Result<CompanyId, StoreError> {
    CompanyId::try_from(text).map_err(|error| StoreError::Damaged(error.to_string()))
}

type RawCompany = (String, String, i64);

fn raw_company(row: &Row<'_>) -> Result<RawCompany, rusqlite::Error> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn checked_company((id, name, created): RawCompany) -> Result<Company, StoreError> {
    Ok(Company {
        id: company_id(id)?,
        name,
        created_at: at(created),
    })
}

const KEY_COLUMNS: &str = "id, company, label, mode, created_ms, revoked_ms";

struct RawKey {
    id: String,
    company: String,
    label: String,
    mode: String,
    created: i64,
    revoked: Option<i64>,
}

fn raw_key(row: &Row<'_>) -> Result<RawKey, rusqlite::Error> {
    Ok(RawKey {
        id: row.get(0)?,
        company: row.get(1)?,
        label: row.get(2)?,
        mode: row.get(3)?,
        created: row.get(4)?,
        revoked: row.get(5)?,
    })
}

impl RawKey {
    fn checked(self) -> Result<KeyRow, StoreError> {
        let mode = Mode::from_word(&self.mode)
            .ok_or_else(|| StoreError::Damaged(format!("a key has the mode {:?}", self.mode)))?;
        Ok(KeyRow {
            id: self.id,
            company: company_id(self.company)?,
            label: self.label,
            mode,
            created_at: at(self.created),
            revoked_at: self.revoked.map(at),
        })
    }
}
