//! The ledger: one leaf for each scheduled slot and for each event that an auditor must see.
//!
//! Leaves are contiguous from 0 in each epoch and are never changed or removed. A leaf is written in the
//! same transaction as what it speaks of.

use cms_attest::leaf::{Body, Leaf, LeafKind, Note, Word};
use cms_attest::origin::{AgentId, Origin};
use cms_spec::{Category, CompanyId, Slot};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Store, StoreError, heal, meta};

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
    /// Whether this is the log to write to. Cheaper than [`Store::origin`], and changes nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn is_written_to(&self, origin: &Origin) -> Result<bool, StoreError> {
        let origin = origin.to_string();
        self.call(move |inner| {
            if heal::doubt(&inner.connection)?.is_some() {
                return Ok(false);
            }
            let newest: Option<String> = inner
                .connection
                .prepare_cached("SELECT origin FROM epoch ORDER BY epoch DESC LIMIT 1")
                .and_then(|mut select| select.query_row([], |row| row.get(0)).optional())
                .map_err(|source| StoreError::Read {
                    what: "the newest epoch",
                    source,
                })?;
            Ok(newest.as_ref() == Some(&origin))
        })
        .await
    }

    /// The log to write to: the newest epoch of this company and agent, or a new one that begins now.
    ///
    /// Epochs are numbered by the millisecond in which they began, so that a lost store never leads to the
    /// same index being signed twice. After a damage a new one begins, and its first leaf says so.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn origin(
        &self,
        company: CompanyId,
        agent_id: AgentId,
        moment: Moment,
    ) -> Result<Origin, StoreError> {
        self.call(move |inner| {
            let is_in_doubt = heal::doubt(&inner.connection)?.is_some();
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
            if let Some(text) = newest.filter(|_| !is_in_doubt) {
                let origin = parse_origin(&text)?;
                if origin.company() == &company && origin.agent_id() == &agent_id {
                    return Ok(origin);
                }
            }
            // Never below the newest: a clock that was put back must not hide the new one behind the old.
            let after_newest: i64 = inner
                .connection
                .query_row("SELECT coalesce(max(epoch) + 1, 0) FROM epoch", [], |row| {
                    row.get(0)
                })
                .map_err(|source| StoreError::Read {
                    what: "the newest epoch",
                    source,
                })?;
            let epoch = moment.now.as_millisecond().max(after_newest).unsigned_abs();
            let origin = Origin::new(company, agent_id, epoch);
            if let Some(begun) = inner.begin_after_damage(&origin, &moment)? {
                return Ok(begun);
            }
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
            inner.refuse_in_doubt(&origin)?;
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

    /// Appends a leaf and writes values of `meta` in one transaction: what the leaf says and what the agent goes
    /// by never differ.
    ///
    /// # Errors
    /// When the database cannot be written; then neither was.
    pub async fn append_leaf_with(
        &self,
        origin: Origin,
        moment: Moment,
        draft: LeafDraft,
        values: Vec<(&'static str, String)>,
    ) -> Result<(), StoreError> {
        self.call(move |inner| {
            let failed = |source| StoreError::Write {
                what: "a leaf about keys",
                source,
            };
            let transaction = inner.connection.transaction().map_err(failed)?;
            append(&transaction, &origin, &moment, draft)?;
            for (key, value) in values {
                meta::set(&transaction, &inner.sealer, key, value.as_bytes())?;
            }
            transaction.commit().map_err(failed)
        })
        .await
    }

    /// Gives the slots of a category that end after `believable` back to whoever closes them in their time.
    ///
    /// A clock that was ahead has closed them before they began. Their leaves stay as they are; a `clock`
    /// leaf says how many there are and why their slots get another one. Answers how many.
    ///
    /// # Errors
    /// When the database cannot be written; then nothing was changed.
    pub async fn give_back_slots(
        &self,
        origin: Origin,
        moment: Moment,
        category: Category,
        believable: Timestamp,
    ) -> Result<usize, StoreError> {
        self.call(move |inner| {
            let failed = |source| StoreError::Write {
                what: "leaves of a clock that was ahead",
                source,
            };
            inner.refuse_in_doubt(&origin)?;
            let transaction = inner.connection.transaction().map_err(failed)?;
            let slots = transaction
                .execute(
                    "UPDATE leaf SET category = NULL WHERE category = ?1 AND slot_end > ?2",
                    params![category.path(), believable.as_millisecond()],
                )
                .map_err(failed)?;
            let note = format!(
                "the clock was put back: {slots} slots of {category} were closed before their time and will be closed again"
            );
            append(&transaction, &origin, &moment, LeafDraft::event(LeafKind::Clock, &note))?;
            transaction.commit().map_err(failed)?;
            Ok(slots)
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

    /// Whether any ledger was begun here.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn has_ledger(&self) -> Result<bool, StoreError> {
        self.call(|inner| {
            let query = "SELECT EXISTS(SELECT 1 FROM epoch)";
            inner
                .connection
                .query_row(query, [], |row| row.get(0))
                .map_err(|source| StoreError::Read {
                    what: "the ledgers",
                    source,
                })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;

    const SPRING: i64 = 1_772_000_000;

    fn moment(seconds: i64) -> Moment {
        Moment {
            now: Timestamp::from_second(SPRING + seconds).unwrap(),
            boot_id: "b".to_owned(),
            boottime_ms: 1,
            api_key_id: None,
        }
    }

    async fn origin(store: &Store, company: &str, seconds: i64) -> Origin {
        let agent = "0190c9a5-0000-7000-8000-000000000000".parse().unwrap();
        store
            .origin(company.parse().unwrap(), agent, moment(seconds))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn an_epoch_that_begins_after_the_clock_was_put_back_is_still_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        let first = origin(&store, "acme-corp", 0).await;
        let second = origin(&store, "other-corp", -9_000).await;
        assert!(second.epoch() > first.epoch());
        assert_eq!(origin(&store, "other-corp", -8_000).await, second);
        let before_1970 = origin(&store, "acme-corp", -2 * SPRING).await;
        assert!(before_1970.epoch() > second.epoch());
    }

    #[tokio::test]
    async fn slots_that_a_clock_ahead_has_closed_are_closed_again_in_their_time() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        let origin = origin(&store, "acme-corp", 0).await;
        let category = Category::GhostCompute;
        let gap = |number: i64| {
            let slot = cms_spec::Cadence::from_seconds(900).slot_numbered(SPRING / 900 + number);
            LeafDraft::gap(category, slot, "nothing")
        };
        let drafts = || (0..10).map(gap).collect::<Vec<_>>();
        let append = |drafts| store.append_leaves(origin.clone(), moment(0), drafts);
        append(drafts()).await.unwrap();
        let believable = drafts()[3].slot.unwrap().1.end;
        let slots = store
            .give_back_slots(origin.clone(), moment(0), category, believable)
            .await
            .unwrap();
        assert_eq!(slots, 6);
        assert_eq!(
            store.last_slot_end(category).await.unwrap(),
            Some(believable)
        );
        append(drafts()).await.unwrap();
        let count = |query: &'static str| {
            store.call(move |inner| {
                Ok(inner
                    .connection
                    .query_row(query, [], |row| row.get::<_, i64>(0))
                    .unwrap())
            })
        };
        // Ten leaves, one that tells of the clock, and six for the slots that were given back.
        assert_eq!(count("SELECT count(*) FROM leaf").await.unwrap(), 17);
        assert_eq!(count("SELECT max(idx) FROM leaf").await.unwrap(), 16);
        assert_eq!(
            count("SELECT count(*) FROM leaf WHERE kind = 'clock'")
                .await
                .unwrap(),
            1
        );
    }
}
