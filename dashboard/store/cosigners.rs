//! The public side of the dashboard's keys for receipts: which there were, and how each handed over to the next.

use cms_attest::VerifyingKey;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::{Store, StoreError, at, ms};

/// One of the dashboard's keys for receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignerRow {
    /// Its place in the line, from 1; also which file holds its seed.
    pub number: u32,
    /// The name that it went by when the dashboard last started.
    pub name: String,
    /// Its public half.
    pub key: VerifyingKey,
    /// Since when it signs.
    pub since: Timestamp,
    /// Until when it signs beside its successor, once there is one.
    pub until: Option<Timestamp>,
    /// How the key before handed over to it.
    pub succession: Option<String>,
}

impl Store {
    /// All keys for receipts, the first first. Nothing where only [`crate::open`] has never named one.
    pub(crate) async fn cosigners(&self) -> Result<Vec<CosignerRow>, StoreError> {
        self.read(cosigners).await
    }
}

/// All keys for receipts, the first first.
pub(crate) fn cosigners(db: &Connection) -> Result<Vec<CosignerRow>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT number, name, key, since_ms, until_ms, succession FROM cosigner ORDER BY number",
    )?;
    let rows = rows.query_map((), raw)?;
    rows.map(|row| checked(row?)).collect()
}

/// Writes down the first key, and the name that all go by.
pub(crate) fn name_cosigners(
    db: &Connection,
    name: &str,
    first: &VerifyingKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO cosigner (number, name, key, since_ms) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
        params![name, first.as_bytes(), ms(now)],
    )?;
    db.execute("UPDATE cosigner SET name = ?1 WHERE name <> ?1", [name])?;
    Ok(())
}

/// Adds a key after the newest, which signs beside it until then. All or nothing; false when another came first.
pub(crate) fn add_cosigner(
    db: &mut Connection,
    new: &CosignerRow,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let change = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let newest: u32 =
        change.query_row("SELECT coalesce(max(number), 0) FROM cosigner", (), |row| {
            row.get(0)
        })?;
    if newest + 1 != new.number {
        return Ok(false);
    }
    change.execute(
        "UPDATE cosigner SET until_ms = ?2 WHERE number = ?1",
        params![newest, ms(until)],
    )?;
    change.execute(
        "INSERT INTO cosigner (number, name, key, since_ms, succession) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            new.number,
            new.name,
            new.key.as_bytes(),
            ms(new.since),
            new.succession
        ],
    )?;
    change.commit()?;
    Ok(true)
}

type Raw = (u32, String, [u8; 32], i64, Option<i64>, Option<String>);

fn raw(row: &Row<'_>) -> Result<Raw, rusqlite::Error> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
    ))
}

fn checked((number, name, key, since, until, succession): Raw) -> Result<CosignerRow, StoreError> {
    let key =
        VerifyingKey::from_bytes(key).map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok(CosignerRow {
        number,
        name,
        key,
        since: at(since),
        until: until.map(at),
        succession,
    })
}
