//! The outbox: where each submission stands on its way to the dashboard.
//!
//! ```text
//! pending --> in_flight --> accepted --> receipted   covered by a countersigned head of the ledger
//!    ^            |-------> superseded  too late for a dashboard that takes no backfill; a newer one covers it
//!    |            |-------> rejected   the dashboard will never take it; kept, shown, not sent again
//!    `------------'                    deferred: network, 429, 5xx; no limit on attempts
//! ```
//! A [`Submission`] can only be made by [`Store::enqueue`] or read back from the database, so that nothing
//! is ever signed or sent that is not on disk with its leaf.

use cms_attest::digest::Digest;
use cms_attest::leaf::{Body, LeafKind};
use cms_attest::origin::Origin;
use cms_spec::payload::build::Payload;
use cms_spec::payload::{AgentInfo, Delivery, Role, SCHEMA};
use cms_spec::{Category, Slot};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::ledger::{self, LeafDraft, Moment, from_ms, parse_origin, to_sql};
use super::quarantine;
use super::seal::Record;
use super::{Inner, Store, StoreError};
use crate::limits::LIVE_FOR;

mod shown;

pub use shown::{OutboxCounts, SubmissionRow};

/// The next live submission, of a slot that ended within the last half hour: what a clock ahead has closed before
/// its time waits for it. There are few, so that sorting them costs nothing.
const LIVE: &str = "SELECT epoch, idx FROM outbox INDEXED BY outbox_state
    WHERE state = 'pending' AND slot_end BETWEEN ?1 AND ?1 + 1800000 ORDER BY attempts, slot_end DESC, epoch DESC, idx DESC LIMIT 1";

/// The next submission of a backlog, which may be months long: its index has them in this order.
const BACKLOG: &str = "SELECT epoch, idx FROM outbox INDEXED BY outbox_turn
    WHERE state = 'pending' AND slot_end < ?1 ORDER BY attempts, slot_end, epoch, idx LIMIT 1";

/// A submission that is on disk with its leaf: the bytes to sign and to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    origin: Origin,
    index: u64,
    category: Category,
    slot: Slot,
    leaf: Digest,
    body: Vec<u8>,
}

/// What [`Store::enqueue`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// The slot had its leaf already; nothing was changed.
    AlreadyThere,
    /// It is on disk now.
    New(Box<Submission>),
}

/// Who submits; goes into the body beside the figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The log that the submission's leaf goes into.
    pub origin: Origin,
    /// The agent's version.
    pub version: String,
    /// Where it stands.
    pub site: String,
}

impl Submission {
    /// The log that holds its leaf.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The index of its leaf.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Its category.
    #[must_use]
    pub fn category(&self) -> Category {
        self.category
    }

    /// The slot that it closes.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The hash of its leaf.
    #[must_use]
    pub fn leaf(&self) -> Digest {
        self.leaf
    }

    /// The exact bytes.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether it is still live at this moment.
    #[must_use]
    pub fn delivery(&self, now: Timestamp) -> Delivery {
        if now.duration_since(self.slot.end) > LIVE_FOR {
            Delivery::Backfill
        } else {
            Delivery::Live
        }
    }
}

impl Store {
    /// Writes leaf, body and outbox row of a payload in one transaction.
    ///
    /// # Errors
    /// When the database cannot be written; then nothing of it was.
    pub async fn enqueue(
        &self,
        sender: Sender,
        moment: Moment,
        payload: Payload,
    ) -> Result<Enqueued, StoreError> {
        self.call(move |inner| inner.enqueue(&sender, &moment, payload))
            .await
    }

    /// The submission to send next, marked as in flight: the newest live one, or the oldest of the backlog.
    ///
    /// Those that were tried least often come first, so that one that is refused again and again holds up no
    /// other. Slots that a clock ahead has closed wait until they have come. One loop sends, one at a time: what is still in flight when it asks was left behind by a reload
    /// or by a write that failed, and is sent again.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn take_next(
        &self,
        now: Timestamp,
        backlog_first: bool,
    ) -> Result<Option<Submission>, StoreError> {
        self.call(move |inner| inner.take_next(now, backlog_first))
            .await
    }

    /// Puts back what was on its way when its sender was ended.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn put_back(&self) -> Result<(), StoreError> {
        self.call(|inner| recover(&inner.connection)).await
    }

    /// Records that the dashboard took a submission.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_accepted(
        &self,
        submission: &Submission,
        now: Timestamp,
        answer: String,
    ) -> Result<(), StoreError> {
        let (epoch, index) = (submission.origin.epoch(), submission.index);
        // After an outage the head was receipted before the data: such a submission is receipted at once.
        self.call(move |inner| {
            let (epoch, index) = (to_sql(epoch), to_sql(index));
            let answer = inner.sealed_answer(epoch, index, &answer)?;
            inner.change(
                "UPDATE outbox SET updated_at = ?3, answer = ?4, state = CASE
                     WHEN EXISTS(SELECT 1 FROM receipt WHERE epoch = ?1 AND size > ?2) THEN 'receipted'
                     ELSE 'accepted' END
                 WHERE epoch = ?1 AND idx = ?2",
                params![epoch, index, now.as_millisecond(), answer],
            )
        })
        .await
    }

    /// Records that a submission must be sent again.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_deferred(
        &self,
        submission: &Submission,
        now: Timestamp,
        reason: String,
    ) -> Result<(), StoreError> {
        self.mark(submission, "pending", now, reason).await
    }

    /// Records that the dashboard will never take a submission. It is kept for a person.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_rejected(
        &self,
        submission: &Submission,
        now: Timestamp,
        reason: String,
    ) -> Result<(), StoreError> {
        self.mark(submission, "rejected", now, reason).await
    }

    /// Records that a dashboard which takes no backfill has no use for a submission any more. It is kept.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_superseded(
        &self,
        submission: &Submission,
        now: Timestamp,
        reason: String,
    ) -> Result<(), StoreError> {
        self.mark(submission, "superseded", now, reason).await
    }

    /// Whether the dashboard has taken a submission of the same category whose slot ended later.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn newer_is_accepted(&self, submission: &Submission) -> Result<bool, StoreError> {
        let (category, end) = (submission.category, submission.slot.end.as_millisecond());
        self.call(move |inner| {
            inner
                .connection
                .prepare_cached(
                    "SELECT EXISTS(SELECT 1 FROM outbox WHERE state IN ('accepted', 'receipted')
                     AND slot_end > ?2 AND category = ?1)",
                )
                .and_then(|mut select| {
                    select.query_row(params![category.path(), end], |row| row.get(0))
                })
                .map_err(|source| StoreError::Read {
                    what: "newer submissions",
                    source,
                })
        })
        .await
    }

    async fn mark(
        &self,
        submission: &Submission,
        state: &'static str,
        now: Timestamp,
        answer: String,
    ) -> Result<(), StoreError> {
        let (epoch, index) = (submission.origin.epoch(), submission.index);
        self.call(move |inner| {
            let (epoch, index) = (to_sql(epoch), to_sql(index));
            inner.mark(epoch, index, state, now, &answer)
        })
        .await
    }
}

impl Inner {
    fn enqueue(
        &mut self,
        sender: &Sender,
        moment: &Moment,
        payload: Payload,
    ) -> Result<Enqueued, StoreError> {
        let failed = |source| StoreError::Write {
            what: "a submission",
            source,
        };
        self.refuse_when_gone()?;
        self.refuse_in_doubt(&sender.origin)?;
        let (category, slot) = (payload.category(), payload.slot());
        let epoch = sender.origin.epoch();
        let transaction = self.connection.transaction().map_err(failed)?;
        if ledger::slot_is_taken(&transaction, Some((category, slot)))? {
            return Ok(Enqueued::AlreadyThere);
        }
        let index = ledger::next_index(&transaction, epoch)?;
        let late = moment.now.duration_since(slot.end) > LIVE_FOR;
        let agent = AgentInfo {
            agent_id: sender.origin.agent_id().as_str().to_owned(),
            version: sender.version.clone(),
            site: Some(sender.site.clone()),
            role: Role::Node,
            slot,
            sequence: index,
            delivery: if late {
                Delivery::Backfill
            } else {
                Delivery::Live
            },
            schema: SCHEMA.to_owned(),
        };
        let body = payload
            .canonical(sender.origin.company(), agent)
            .into_bytes();
        let draft = LeafDraft {
            kind: LeafKind::Submission,
            slot: Some((category, slot)),
            body: Some(Body::of(&body)),
            note: None,
        };
        let leaf = ledger::append(&transaction, &sender.origin, moment, draft)?;
        let record = Record::Body {
            epoch: to_sql(epoch),
            index: to_sql(index),
        };
        transaction
            .execute(
                "INSERT INTO body(epoch, idx, bytes) VALUES (?1, ?2, ?3)",
                params![
                    to_sql(epoch),
                    to_sql(index),
                    self.sealer.seal(record, &body)?
                ],
            )
            .map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO outbox(epoch, idx, category, slot_start, slot_end, state, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6)",
                params![
                    to_sql(epoch),
                    to_sql(index),
                    category.path(),
                    slot.start.as_millisecond(),
                    slot.end.as_millisecond(),
                    moment.now.as_millisecond()
                ],
            )
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        let (origin, leaf) = (sender.origin.clone(), leaf.hash());
        Ok(Enqueued::New(Box::new(Submission {
            origin,
            index,
            category,
            slot,
            leaf,
            body,
        })))
    }

    fn take_next(
        &mut self,
        now: Timestamp,
        backlog_first: bool,
    ) -> Result<Option<Submission>, StoreError> {
        let failed = |source| StoreError::Read {
            what: "the next submission",
            source,
        };
        let live_from = (now - LIVE_FOR).as_millisecond();
        recover(&self.connection)?;
        let order = if backlog_first {
            [BACKLOG, LIVE]
        } else {
            [LIVE, BACKLOG]
        };
        for query in order {
            loop {
                let found = self
                    .connection
                    .prepare_cached(query)
                    .and_then(|mut select| {
                        select
                            .query_row([live_from], |row| {
                                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
                            })
                            .optional()
                    })
                    .map_err(failed)?;
                let Some((epoch, index)) = found else {
                    break;
                };
                match self.read(epoch, index) {
                    Ok(submission) => {
                        self.change(
                            "UPDATE outbox SET state = 'in_flight', attempts = attempts + 1 WHERE epoch = ?1 AND idx = ?2",
                            params![epoch, index],
                        )?;
                        return Ok(Some(submission));
                    }
                    Err(StoreError::Decode { what, found }) => {
                        self.set_aside(epoch, index, what, &found, now)?
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// A submission whose bytes are damaged can never be sent; it must not stand before the others.
    fn set_aside(
        &self,
        epoch: i64,
        index: i64,
        what: &str,
        found: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        tracing::error!(
            index,
            what,
            found,
            "a submission in the store is damaged; it is kept for a person"
        );
        let reason = format!("damaged in the store: {what}: {found}");
        self.mark(epoch, index, "rejected", now, &reason)
    }

    fn mark(
        &self,
        epoch: i64,
        index: i64,
        state: &'static str,
        now: Timestamp,
        answer: &str,
    ) -> Result<(), StoreError> {
        let answer = self.sealed_answer(epoch, index, answer)?;
        self.change(
            "UPDATE outbox SET state = ?3, updated_at = ?4, answer = ?5 WHERE epoch = ?1 AND idx = ?2",
            params![epoch, index, state, now.as_millisecond(), answer],
        )
    }

    /// Answers may quote figures.
    fn sealed_answer(&self, epoch: i64, index: i64, answer: &str) -> Result<Vec<u8>, StoreError> {
        self.sealer
            .seal(Record::Answer { epoch, index }, answer.as_bytes())
    }

    fn change(&self, update: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(update)
            .and_then(|mut update| update.execute(values))
            .map(drop)
            .map_err(|source| StoreError::Write {
                what: "a submission's state",
                source,
            })
    }

    fn read(&self, epoch: i64, index: i64) -> Result<Submission, StoreError> {
        let (place, leaf, bytes, origin) = self
            .connection
            .prepare_cached(
                "SELECT o.category, o.slot_start, o.slot_end, l.hash, b.bytes, e.origin FROM outbox o
                 JOIN leaf l USING (epoch, idx) JOIN body b USING (epoch, idx) JOIN epoch e USING (epoch)
                 WHERE o.epoch = ?1 AND o.idx = ?2",
            )
            .and_then(|mut select| {
                select.query_row([epoch, index], |row| {
                    let place = (row.get::<_, String>(0)?, row.get(1)?, row.get(2)?);
                    Ok((place, row.get::<_, Vec<u8>>(3)?, row.get::<_, Vec<u8>>(4)?, row.get::<_, String>(5)?))
                }).optional()
            })
            .map_err(|source| StoreError::Read { what: "a submission", source })?
            .ok_or_else(|| StoreError::Decode {
                what: "a submission",
                found: "its leaf or its bytes are not there".to_owned(),
            })?;
        let leaf = leaf
            .try_into()
            .map(Digest::from_bytes)
            .map_err(|_| StoreError::Decode {
                what: "a leaf's hash",
                found: "it has not 32 bytes".to_owned(),
            })?;
        Ok(Submission {
            origin: parse_origin(&origin)?,
            index: index.unsigned_abs(),
            category: parse_category(&place.0)?,
            slot: Slot {
                start: from_ms(place.1)?,
                end: from_ms(place.2)?,
            },
            leaf,
            body: self.open_body(epoch, index, &bytes)?,
        })
    }

    /// The bytes of a submission. Those that are damaged are kept, out of the way.
    fn open_body(&self, epoch: i64, index: i64, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let record = Record::Body { epoch, index };
        let opened = self.sealer.open(&self.connection, record, sealed);
        if let Err(error @ StoreError::Decode { .. }) = &opened {
            quarantine::set_aside(
                &self.connection,
                &self.sealer,
                record,
                sealed,
                &error.to_string(),
            )?;
        }
        opened
    }
}

/// What was in flight when the agent died may or may not have arrived: it is sent again, and counted once.
pub(super) fn recover(connection: &Connection) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE outbox SET state = 'pending' WHERE state = 'in_flight'")
        .and_then(|mut update| update.execute([]))
        .map(drop)
        .map_err(|source| StoreError::Write {
            what: "submissions in flight",
            source,
        })
}

fn parse_category(text: &str) -> Result<Category, StoreError> {
    text.parse().map_err(
        |error: cms_spec::category::UnknownCategory| StoreError::Decode {
            what: "a category",
            found: error.to_string(),
        },
    )
}

#[cfg(test)]
mod tests;
