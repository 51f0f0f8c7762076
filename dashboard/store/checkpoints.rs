//! Heads of the agents' ledgers: the last one cosigned of each log, and those that contradicted it.

use cms_attest::add_checkpoint::{AddCheckpoint, Unfit, judge};
use cms_attest::{AgentId, Checkpoint, Digest, Head};
use cms_spec::CompanyId;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::agents::agent_id;
use super::keys::retire_log_keys;
use super::{Store, StoreError, at, ms, signed, unsigned};

/// Logs of one agent. A new one begins only after a doubt, so an agent with this many needs a person.
const EPOCHS_MAX: i64 = 1024;
/// Contradictions of one agent that are kept whole: one is proof enough, all are counted.
const EVIDENCE_MAX: i64 = 16;

/// What became of an offered checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is the log's head now, and may be cosigned.
    Cosigned,
    /// The agent has begun too many logs.
    EpochsMany,
    /// It must not be cosigned. Of a fork both heads are kept.
    Unfit(Unfit),
}

/// How far an agent's newest log is receipted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipted {
    /// Whose log.
    pub agent: AgentId,
    /// Which of its logs.
    pub epoch: u64,
    /// Leaves under the last cosigned head.
    pub size: u64,
    /// When it was cosigned.
    pub at: Timestamp,
    /// Heads of any of its logs that contradicted a cosigned one.
    pub forks: u64,
}

impl Store {
    /// Judges an offered checkpoint against the head that is held, and holds it instead: one step, on the disk.
    /// Where the log key in use has signed it, the one before does not count any more.
    pub(crate) async fn hold(
        &self,
        offer: AddCheckpoint,
        checkpoint: Checkpoint,
        by_key_in_use: bool,
        now: Timestamp,
    ) -> Result<Held, StoreError> {
        self.write(move |db| {
            let log = Log::of(&checkpoint);
            let known = log.held(db)?;
            let held = known.as_ref().map_or_else(Head::empty, |(head, _)| *head);
            let judged = judge(&held, &offer, &checkpoint);
            match (judged, known) {
                (Err(unfit @ Unfit::Fork(_)), Some((_, note))) => {
                    log.keep_fork(db, &held, &note, &offer, &checkpoint.head, now)?;
                    Ok(Held::Unfit(unfit))
                }
                (Err(unfit), _) => Ok(Held::Unfit(unfit)),
                (Ok(()), None) if log.epochs(db)? >= EPOCHS_MAX => Ok(Held::EpochsMany),
                (Ok(()), _) => {
                    log.replace(db, &checkpoint.head, &offer.note, now)?;
                    if by_key_in_use {
                        retire_log_keys(db, checkpoint.origin.agent_id(), now)?;
                    }
                    Ok(Held::Cosigned)
                }
            }
        })
        .await
    }

    /// How far the newest log of each of a company's agents is receipted.
    pub(crate) async fn receipted(&self, company: CompanyId) -> Result<Vec<Receipted>, StoreError> {
        self.read(move |db| {
            let mut find = db.prepare_cached(
                "SELECT c.agent, c.epoch, c.size, c.cosigned_ms,
                        (SELECT sum(forks) FROM checkpoint WHERE agent = c.agent)
                 FROM agent a JOIN checkpoint c ON c.agent = a.id
                 WHERE a.company = ?1
                   AND c.epoch = (SELECT max(epoch) FROM checkpoint WHERE agent = a.id)",
            )?;
            let rows = find.query_map([company.as_str()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            })?;
            rows.map(|row| {
                let (agent, epoch, size, cosigned, forks) = row?;
                Ok(Receipted {
                    agent: agent_id(&agent)?,
                    epoch: unsigned(epoch),
                    size: unsigned(size),
                    at: at(cosigned),
                    forks: unsigned(forks),
                })
            })
            .collect()
        })
        .await
    }
}

/// One log: an agent's id and an epoch, as columns.
struct Log {
    agent: String,
    epoch: i64,
}

impl Log {
    fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            agent: checkpoint.origin.agent_id().to_string(),
            epoch: signed(checkpoint.origin.epoch()),
        }
    }

    /// The head that was cosigned last, and its note.
    fn held(&self, db: &Connection) -> Result<Option<(Head, String)>, StoreError> {
        let mut find = db.prepare_cached(
            "SELECT size, root, note FROM checkpoint WHERE agent = ?1 AND epoch = ?2",
        )?;
        let found = find.query_row(params![self.agent, self.epoch], |row| {
            let head = Head {
                size: unsigned(row.get(0)?),
                root: Digest::from_bytes(row.get(1)?),
            };
            Ok((head, row.get(2)?))
        });
        Ok(found.optional()?)
    }

    fn epochs(&self, db: &Connection) -> Result<i64, StoreError> {
        let mut count = db.prepare_cached("SELECT count(*) FROM checkpoint WHERE agent = ?1")?;
        Ok(count.query_row([&self.agent], |row| row.get(0))?)
    }

    fn replace(
        &self,
        db: &Connection,
        head: &Head,
        note: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut put = db.prepare_cached(
            "INSERT INTO checkpoint (agent, epoch, size, root, note, cosigned_ms, forks)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)
             ON CONFLICT (agent, epoch) DO UPDATE
             SET size = excluded.size, root = excluded.root, note = excluded.note,
                 cosigned_ms = excluded.cosigned_ms",
        )?;
        let size = signed(head.size);
        put.execute(params![
            self.agent,
            self.epoch,
            size,
            head.root.as_bytes(),
            note,
            ms(now)
        ])?;
        Ok(())
    }

    fn keep_fork(
        &self,
        db: &Connection,
        held: &Head,
        held_note: &str,
        offer: &AddCheckpoint,
        offered: &Head,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        db.execute(
            "UPDATE checkpoint SET forks = forks + 1 WHERE agent = ?1 AND epoch = ?2",
            params![self.agent, self.epoch],
        )?;
        let mut keep = db.prepare_cached(
            "INSERT INTO fork_evidence (agent, epoch, seen_ms, held_size, held_root, held_note,
                                        offered_size, offered_root, offer)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
             WHERE (SELECT count(*) FROM fork_evidence WHERE agent = ?1) < ?10
             ON CONFLICT DO NOTHING",
        )?;
        keep.execute(params![
            self.agent,
            self.epoch,
            ms(now),
            signed(held.size),
            held.root.as_bytes(),
            held_note,
            signed(offered.size),
            offered.root.as_bytes(),
            offer.to_string(),
            EVIDENCE_MAX
        ])?;
        Ok(())
    }
}
