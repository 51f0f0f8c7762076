//! Accepted submissions, and which of them are the newest of each agent and category.

use cms_attest::{AgentId, Digest};
use cms_spec::payload::Delivery;
use cms_spec::{Category, CompanyId, Slot};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use super::agents::{agent_id, nonce_is_spent, spend_nonce};
use super::{Store, StoreError, at, ms, signed, unsigned};

/// zstd level for kept bodies: JSON shrinks tenfold at this one, and a higher one costs more than the disk.
const BODY_LEVEL: i32 = 3;
/// Largest body that is read back; ingest takes none that is larger.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A checked submission that is to be accepted.
#[derive(Clone, Debug)]
pub struct NewSubmission {
    /// Whose it is.
    pub company: CompanyId,
    /// Who signed it.
    pub agent: AgentId,
    /// The ledger's epoch.
    pub epoch: u64,
    /// The leaf's index in it.
    pub index: u64,
    /// The leaf's hash.
    pub leaf: Digest,
    /// The digest of the bytes that were sent and signed.
    pub digest: Digest,
    /// What it reports.
    pub category: Category,
    /// The slot that it closes.
    pub slot: Slot,
    /// Whether it was made while its slot was current.
    pub delivery: Delivery,
    /// Whether it may become current: live, and under a live key.
    pub counted: bool,
    /// The public id of the key it came under.
    pub api_key: String,
    /// What was odd about it.
    pub warnings: Vec<String>,
    /// The decoded body, packed for the store.
    pub body: Packed,
}

/// A body as it is kept. Packing is the asker's work: the one writing thread has better to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    zstd: Vec<u8>,
    bytes: usize,
}

impl Packed {
    /// Packs a decoded body.
    ///
    /// # Errors
    /// When the compressor fails, which is out of memory.
    pub fn new(body: &[u8]) -> Result<Self, StoreError> {
        let zstd = zstd::bulk::compress(body, BODY_LEVEL).map_err(StoreError::Pack)?;
        Ok(Self {
            zstd,
            bytes: body.len(),
        })
    }
}

/// What is told about a submission that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it reports.
    pub category: Category,
    /// Its leaf's hash.
    pub leaf: Digest,
    /// Whether it was made while its slot was current.
    pub delivery: Delivery,
    /// What was odd about it.
    pub warnings: Vec<String>,
    /// When it was accepted.
    pub received_at: Timestamp,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepting {
    /// It is on the disk.
    Done(Timestamp),
    /// It was on the disk before, with the same leaf.
    Duplicate(Stored),
    /// Another leaf has its place in the ledger.
    Fork(Stored),
    /// Its nonce was spent before.
    Replayed,
}

/// One line of the page's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who sent it.
    pub agent: AgentId,
    /// The leaf's index.
    pub index: u64,
    /// What it reports.
    pub category: Category,
    /// The slot that it closes.
    pub slot: Slot,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// Whether it was made while its slot was current.
    pub delivery: Delivery,
    /// Whether it drives the figures, or did.
    pub counted: bool,
    /// What was odd about it.
    pub warnings: Vec<String>,
}

/// The newest live submission of an agent in a category.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its place in the table.
    pub row: Row,
    /// The decoded body, unless it was too old to be kept.
    pub body: Option<Vec<u8>>,
}

impl Store {
    /// What the store knows about a signed request before its body is read: its nonce and its place.
    pub(crate) async fn known(
        &self,
        agent: AgentId,
        nonce: Vec<u8>,
        epoch: u64,
        index: u64,
    ) -> Result<(bool, Option<Stored>), StoreError> {
        self.read(move |db| {
            let spent = nonce_is_spent(db, &agent, &nonce)?;
            Ok((spent, stored(db, &agent, epoch, index)?))
        })
        .await
    }

    /// Spends the nonce of a retry that is answered from the store; false when it was spent before.
    pub(crate) async fn spend_nonce(
        &self,
        agent: AgentId,
        nonce: Vec<u8>,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |db| spend_nonce(db, &agent, &nonce, expires_at))
            .await
    }

    /// Accepts a submission once. All of it is on the disk when this returns, or none of it.
    pub(crate) async fn accept(
        &self,
        new: NewSubmission,
        nonce: Vec<u8>,
        nonce_expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<Accepting, StoreError> {
        self.write(move |db| {
            if !spend_nonce(db, &new.agent, &nonce, nonce_expires_at)? {
                return Ok(Accepting::Replayed);
            }
            if let Some(known) = stored(db, &new.agent, new.epoch, new.index)? {
                let same = known.leaf == new.leaf && known.category == new.category;
                return Ok(if same {
                    Accepting::Duplicate(known)
                } else {
                    Accepting::Fork(known)
                });
            }
            let seq = insert(db, &new, now)?;
            make_latest(db, &new, seq)?;
            if new.counted {
                make_current(db, &new, seq)?;
            }
            Ok(Accepting::Done(at(ms(now))))
        })
        .await
    }

    /// The newest live submissions of a company, bodies included.
    pub(crate) async fn current(&self, company: CompanyId) -> Result<Vec<Current>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS}, body FROM agent
                 CROSS JOIN current ON current.agent = agent.id
                 CROSS JOIN submission ON submission.seq = current.seq
                 WHERE agent.company = ?1 ORDER BY agent.id, current.category"
            );
            let mut rows = db.prepare_cached(&sql)?;
            let rows = rows.query_map([company.as_str()], |row| {
                Ok((raw(row)?, row.get::<_, Option<Vec<u8>>>(9)?))
            })?;
            rows.map(|found| {
                let (raw, body) = found?;
                Ok(Current {
                    row: raw.checked()?,
                    body: body.map(|body| unpack(&body)).transpose()?,
                })
            })
            .collect()
        })
        .await
    }

    /// The newest accepted submissions of a company, newest first.
    pub(crate) async fn latest(
        &self,
        company: CompanyId,
        rows_max: u32,
    ) -> Result<Vec<Row>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM submission WHERE company = ?1
                 ORDER BY received_ms DESC, seq DESC LIMIT ?2"
            );
            let mut rows = db.prepare_cached(&sql)?;
            let rows = rows.query_map(params![company.as_str(), rows_max], raw)?;
            rows.map(|row| row?.checked()).collect()
        })
        .await
    }

    /// The last accepted submission of each agent and category of a company, backfill included.
    pub(crate) async fn latest_of_each(&self, company: CompanyId) -> Result<Vec<Row>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM agent
                 CROSS JOIN latest ON latest.agent = agent.id
                 CROSS JOIN submission ON submission.seq = latest.seq
                 WHERE agent.company = ?1 ORDER BY agent.id, latest.category"
            );
            let mut rows = db.prepare_cached(&sql)?;
            let rows = rows.query_map([company.as_str()], raw)?;
            rows.map(|row| row?.checked()).collect()
        })
        .await
    }
}

fn insert(db: &Connection, new: &NewSubmission, now: Timestamp) -> Result<i64, StoreError> {
    let mut insert = db.prepare_cached(
        "INSERT INTO submission (company, agent, epoch, idx, leaf, category, from_ms, to_ms,
             received_ms, delivery, counted, api_key, warnings, digest, body_bytes, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    let warnings = serde_json::to_string(&new.warnings)
        .map_err(|error| StoreError::Damaged(error.to_string()))?;
    insert.execute(params![
        new.company.as_str(),
        new.agent.to_string(),
        signed(new.epoch),
        signed(new.index),
        new.leaf.as_bytes(),
        new.category.path(),
        ms(new.slot.start),
        ms(new.slot.end),
        ms(now),
        delivery_word(new.delivery),
        new.counted,
        new.api_key,
        warnings,
        new.digest.as_bytes(),
        i64::try_from(new.body.bytes).unwrap_or(i64::MAX),
        new.body.zstd
    ])?;
    Ok(db.last_insert_rowid())
}

fn make_latest(db: &Connection, new: &NewSubmission, seq: i64) -> Result<(), StoreError> {
    let mut replace = db.prepare_cached(
        "INSERT INTO latest (agent, category, seq) VALUES (?1, ?2, ?3)
         ON CONFLICT (agent, category) DO UPDATE SET seq = excluded.seq",
    )?;
    replace.execute(params![new.agent.to_string(), new.category.path(), seq])?;
    Ok(())
}

/// A live submission becomes current unless one of a later slot is.
fn make_current(db: &Connection, new: &NewSubmission, seq: i64) -> Result<(), StoreError> {
    let mut replace = db.prepare_cached(
        "INSERT INTO current (agent, category, seq) VALUES (?1, ?2, ?3)
         ON CONFLICT (agent, category) DO UPDATE SET seq = excluded.seq
         WHERE (SELECT to_ms FROM submission WHERE seq = current.seq) <= ?4",
    )?;
    replace.execute(params![
        new.agent.to_string(),
        new.category.path(),
        seq,
        ms(new.slot.end)
    ])?;
    Ok(())
}

fn stored(
    db: &Connection,
    agent: &AgentId,
    epoch: u64,
    index: u64,
) -> Result<Option<Stored>, StoreError> {
    let mut find = db.prepare_cached(
        "SELECT category, leaf, delivery, warnings, received_ms FROM submission
         WHERE agent = ?1 AND epoch = ?2 AND idx = ?3",
    )?;
    let found = find
        .query_row(
            params![agent.to_string(), signed(epoch), signed(index)],
            |row| {
                let text = |column| row.get::<_, String>(column);
                Ok((text(0)?, row.get(1)?, text(2)?, text(3)?, row.get(4)?))
            },
        )
        .optional()?;
    found
        .map(|(category, leaf, delivery, warnings, received)| {
            Ok(Stored {
                category: category_of(&category)?,
                leaf: Digest::from_bytes(leaf),
                delivery: delivery_of(&delivery)?,
                warnings: warnings_of(&warnings)?,
                received_at: at(received),
            })
        })
        .transpose()
}

/// Joins that use it are CROSS, which in SQLite fixes their order: agents first, and never all submissions.
const COLUMNS: &str = "submission.agent, submission.idx, submission.category, from_ms, to_ms, \
                       received_ms, delivery, counted, warnings";

struct RawRow {
    agent: String,
    index: i64,
    category: String,
    from: i64,
    to: i64,
    received: i64,
    delivery: String,
    counted: bool,
    warnings: String,
}

fn raw(row: &SqlRow<'_>) -> Result<RawRow, rusqlite::Error> {
    Ok(RawRow {
        agent: row.get(0)?,
        index: row.get(1)?,
        category: row.get(2)?,
        from: row.get(3)?,
        to: row.get(4)?,
        received: row.get(5)?,
        delivery: row.get(6)?,
        counted: row.get(7)?,
        warnings: row.get(8)?,
    })
}

impl RawRow {
    fn checked(self) -> Result<Row, StoreError> {
        Ok(Row {
            agent: agent_id(&self.agent)?,
            index: unsigned(self.index),
            category: category_of(&self.category)?,
            slot: Slot {
                start: at(self.from),
                end: at(self.to),
            },
            received_at: at(self.received),
            delivery: delivery_of(&self.delivery)?,
            counted: self.counted,
            warnings: warnings_of(&self.warnings)?,
        })
    }
}

const fn delivery_word(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Backfill => "backfill",
        Delivery::Live => "live",
    }
}

fn delivery_of(word: &str) -> Result<Delivery, StoreError> {
    [Delivery::Backfill, Delivery::Live]
        .into_iter()
        .find(|delivery| delivery_word(*delivery) == word)
        .ok_or_else(|| StoreError::Damaged(format!("a submission has the delivery {word:?}")))
}

fn category_of(path: &str) -> Result<Category, StoreError> {
    path.parse()
        .map_err(|_| StoreError::Damaged(format!("a submission has the category {path:?}")))
}

fn warnings_of(json: &str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// A body as it was sent. It takes the memory that its frame asks for: all of a company's are held at once.
fn unpack(body: &[u8]) -> Result<Vec<u8>, StoreError> {
    let size = zstd::zstd_safe::get_frame_content_size(body);
    let size = size.ok().flatten().and_then(|size| size.try_into().ok());
    let damaged = |what: String| StoreError::Damaged(format!("a body does not decompress: {what}"));
    let size = size
        .filter(|size| *size <= BODY_BYTES_MAX)
        .ok_or_else(|| damaged("its length is not told or too large".to_owned()))?;
    zstd::bulk::decompress(body, size).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_the_memory_of_its_length() {
        let sent = vec![b'x'; 100_000];
        let body = unpack(&zstd::bulk::compress(&sent, BODY_LEVEL).unwrap()).unwrap();
        assert!(body == sent && body.capacity() == sent.len());
        let long = vec![b' '; BODY_BYTES_MAX + 1];
        let long = zstd::bulk::compress(&long, BODY_LEVEL).unwrap();
        assert!(matches!(unpack(&long), Err(StoreError::Damaged(_))));
    }
}
