//! The ledger: one leaf for each scheduled slot and for each event that an auditor must see.
//!
//! Leaves are contiguous from 0 in each epoch and are never changed or removed. A leaf is written in the
//! same transaction as what it speaks of.

use cms_attest::leaf::{Body, Leaf, LeafKind, Note, Word};
use cms_attest::origin::{AgentId, Origin};
use cms_spec::{Category, CompanyId, Slot};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Store, StoreError};

/// The moment at which a leaf is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Wall time.
    pub now: Timestamp,
    /// Names the boot.
    pub boot_id: String,
    /// Milliseconds since that boot.
    pub boottime_ms: u64,
    /// The public id of the API key in use, where there is one to read.
    pub api_key_id: Option<Word>,
}

/// What a leaf is to say; the ledger adds origin, index and moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafDraft {
    /// What kind of statement.
    pub kind: LeafKind,
    /// The slot that it closes, for submissions and gaps of a scheduled slot.
    pub slot: Option<(Category, Slot)>,
    /// Digest and length of the body that it covers.
    pub body: Option<Body>,
    /// Why, in words; one line.
    pub note: Option<Note>,
}

impl LeafDraft {
    /// A leaf without slot and body, such as start and stop.
    #[must_use]
    pub fn event(kind: LeafKind, note: &str) -> Self {
        Self {
            kind,
            slot: None,
            body: None,
            note: Note::of(note),
        }
    }

    /// The leaf of a scheduled slot in which there was nothing to say.
    #[must_use]
    pub fn gap(category: Category, slot: Slot, reason: &str) -> Self {
        Self {
            kind: LeafKind::Gap,
            slot: Some((category, slot)),
            body: None,
            note: Note::of(reason),
        }
    }
}

impl Store {
    /// The log to write to: the newest epoch of this company and agent, or a new one that begins `now`.
    ///
    /// Epochs are numbered by the millisecond in which they began, so that a lost store never leads to the
    /// same index being signed twice.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn origin(
        &self,
        company: CompanyId,
        agent_id: AgentId,
        now: Timestamp,
    ) -> Result<Origin, StoreError> {
        self.call(move |inner| {
            let newest: Option<String> = inner
                .connection
                .query_row(
                    "SELECT origin FROM epoch ORDER BY epoch DESC LIMIT 1",
                    [],
                    |row| row.get(0),
                )
                .optional()
                .map_err(|source| StoreError::Read {
                    what: "the newest epoch",
                    source,
                })?;
            if let Some(text) = newest {
                let origin = parse_origin(&text)?;
                if origin.company() == &company && origin.agent_id() == &agent_id {
                    return Ok(origin);
                }
            }
            let epoch = u64::try_from(now.as_millisecond()).unwrap_or(0);
            let origin = Origin::new(company, agent_id, epoch);
            inner
                .connection
                .execute(
                    "INSERT INTO epoch(epoch, origin) VALUES (?1, ?2)",
                    params![to_sql(origin.epoch()), origin.to_string()],
                )
                .map_err(|source| StoreError::Write {
                    what: "a new epoch",
                    source,
                })?;
            Ok(origin)
        })
        .await
    }

    /// Appends leaves in one transaction. A scheduled slot that has its leaf already is left as it is.
    ///
    /// # Errors
    /// When the database cannot be written; then none of them was.
    pub async fn append_leaves(
        &self,
        origin: Origin,
        moment: Moment,
        drafts: Vec<LeafDraft>,
    ) -> Result<(), StoreError> {
        self.call(move |inner| {
            let failed = |source| StoreError::Write {
                what: "leaves",
                source,
            };
            let transaction = inner.connection.transaction().map_err(failed)?;
            for draft in drafts {
                if !slot_is_taken(&transaction, draft.slot)? {
                    append(&transaction, &origin, &moment, draft)?;
                }
            }
            transaction.commit().map_err(failed)
        })
        .await
    }

    /// When the newest slot of a category ended that has its leaf.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn last_slot_end(&self, category: Category) -> Result<Option<Timestamp>, StoreError> {
        self.call(move |inner| {
            let end: Option<i64> = inner
                .connection
                .prepare_cached("SELECT max(slot_end) FROM leaf WHERE category = ?1")
                .and_then(|mut select| select.query_row([category.path()], |row| row.get(0)))
                .map_err(|source| StoreError::Read {
                    what: "the newest slot",
                    source,
                })?;
            end.map(from_ms).transpose()
        })
        .await
    }

    /// Whether a category has ever been submitted.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn was_ever_submitted(&self, category: Category) -> Result<bool, StoreError> {
        self.call(move |inner| {
            let query =
                "SELECT EXISTS(SELECT 1 FROM leaf WHERE category = ?1 AND kind = 'submission')";
            inner
                .connection
                .prepare_cached(query)
                .and_then(|mut select| select.query_row([category.path()], |row| row.get(0)))
                .map_err(|source| StoreError::Read {
                    what: "the first submission",
                    source,
                })
        })
        .await
    }
}

/// The index that the next leaf of this epoch gets.
pub(super) fn next_index(transaction: &Transaction<'_>, epoch: u64) -> Result<u64, StoreError> {
    transaction
        .prepare_cached("SELECT coalesce(max(idx) + 1, 0) FROM leaf WHERE epoch = ?1")
        .and_then(|mut select| select.query_row([to_sql(epoch)], |row| row.get::<_, i64>(0)))
        .map(i64::unsigned_abs)
        .map_err(|source| StoreError::Read {
            what: "the next index",
            source,
        })
}

/// Whether a scheduled slot has its leaf already.
pub(super) fn slot_is_taken(
    transaction: &Transaction<'_>,
    slot: Option<(Category, Slot)>,
) -> Result<bool, StoreError> {
    let Some((category, slot)) = slot else {
        return Ok(false);
    };
    transaction
        .prepare_cached("SELECT 1 FROM leaf WHERE category = ?1 AND slot_end = ?2")
        .and_then(|mut select| {
            select
                .query_row(params![category.path(), slot.end.as_millisecond()], |_| {
                    Ok(())
                })
                .optional()
        })
        .map(|found| found.is_some())
        .map_err(|source| StoreError::Read {
            what: "a slot's leaf",
            source,
        })
}

/// Appends one leaf inside the caller's transaction.
pub(super) fn append(
    transaction: &Transaction<'_>,
    origin: &Origin,
    moment: &Moment,
    draft: LeafDraft,
) -> Result<Leaf, StoreError> {
    let index = next_index(transaction, origin.epoch())?;
    let slot = draft.slot.map(|(_, slot)| slot);
    let boot_id = moment
        .boot_id
        .parse()
        .map_err(|error: cms_attest::leaf::LeafError| StoreError::Encode {
            what: "a leaf",
            found: error.to_string(),
        })?;
    let leaf = Leaf {
        origin: origin.clone(),
        index,
        kind: draft.kind,
        category: draft.slot.map(|(category, _)| category),
        from: slot.map_or(moment.now, |slot| slot.start),
        to: slot.map_or(moment.now, |slot| slot.end),
        boot_id,
        boottime_ms: moment.boottime_ms,
        api_key_id: moment.api_key_id.clone(),
        body: draft.body,
        note: draft.note,
    };
    transaction
        .prepare_cached(
            "INSERT INTO leaf(epoch, idx, kind, category, slot_start, slot_end, record, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                to_sql(origin.epoch()),
                to_sql(index),
                leaf.kind.word(),
                leaf.category.map(Category::path),
                slot.map(|slot| slot.start.as_millisecond()),
                slot.map(|slot| slot.end.as_millisecond()),
                leaf.to_string(),
                leaf.hash().as_bytes().as_slice(),
            ])
        })
        .map_err(|source| StoreError::Write {
            what: "a leaf",
            source,
        })?;
    Ok(leaf)
}

/// SQLite's integers are signed; indices and epochs stay far below the border.
pub(super) fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A stored log name.
pub(super) fn parse_origin(text: &str) -> Result<Origin, StoreError> {
    text.parse().map_err(
        |error: cms_attest::origin::OriginError| StoreError::Decode {
            what: "a log's origin",
            found: error.to_string(),
        },
    )
}

/// A stored time.
pub(super) fn from_ms(milliseconds: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(milliseconds).map_err(|error| StoreError::Decode {
        what: "a time",
        found: error.to_string(),
    })
}
