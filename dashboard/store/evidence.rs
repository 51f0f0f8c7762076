//! What the dashboard knows of an agent's ledger, for comparing a bundle with it: one state of the store, read only.

use std::path::Path;

use cms_attest::bundle::Period;
use cms_attest::{AgentId, Digest, Head, VerifyingKey};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{CosignerRow, StoreError, cosigners, ms, open_plain, signed, unsigned};

/// The store as it was at one moment.
#[derive(Debug)]
pub(crate) struct Records(Connection);

impl Records {
    pub(crate) fn open(store: &Path) -> Result<Self, StoreError> {
        let db = open_plain(store)?;
        // What a dashboard at work accepts meanwhile is not seen.
        db.execute_batch("BEGIN")?;
        Ok(Self(db))
    }

    /// The dashboard's own keys for receipts, the first first.
    pub(crate) fn cosigners(&self) -> Result<Vec<CosignerRow>, StoreError> {
        cosigners(&self.0)
    }

    /// Whether these are, or were, the agent's keys for requests and for its ledger. Nothing for a stranger.
    pub(crate) fn keys_of(
        &self,
        agent: &AgentId,
        request: &VerifyingKey,
        log: &VerifyingKey,
    ) -> Result<Option<(bool, bool)>, StoreError> {
        let mut known = self.0.prepare_cached(
            "SELECT request_key = ?2 OR EXISTS(SELECT 1 FROM replaced_key WHERE agent = ?1 AND key = ?2),
                    log_key = ?3 OR EXISTS(SELECT 1 FROM replaced_key WHERE agent = ?1 AND key = ?3)
             FROM agent WHERE id = ?1",
        )?;
        let keys = params![agent.as_str(), request.as_bytes(), log.as_bytes()];
        let found = known.query_row(keys, |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(found.optional()?)
    }

    /// Leaf and digest of an accepted submission.
    pub(crate) fn submission(
        &self,
        agent: &AgentId,
        epoch: u64,
        index: u64,
    ) -> Result<Option<(Digest, Digest)>, StoreError> {
        let mut find = self.0.prepare_cached(
            "SELECT leaf, digest FROM submission WHERE agent = ?1 AND epoch = ?2 AND idx = ?3",
        )?;
        let place = params![agent.as_str(), signed(epoch), signed(index)];
        let found = find.query_row(place, |row| {
            let [leaf, digest] = [row.get(0)?, row.get(1)?].map(Digest::from_bytes);
            Ok((leaf, digest))
        });
        Ok(found.optional()?)
    }

    /// Shows epoch and index of each accepted submission whose slot ended in the period.
    pub(crate) fn each_submission(
        &self,
        agent: &AgentId,
        period: Period,
        mut visit: impl FnMut(u64, u64),
    ) -> Result<(), StoreError> {
        let mut find = self.0.prepare_cached(
            "SELECT epoch, idx FROM submission WHERE agent = ?1 AND to_ms > ?2 AND to_ms <= ?3
             ORDER BY epoch, idx",
        )?;
        let mut rows = find.query(params![agent.as_str(), ms(period.from), ms(period.to)])?;
        while let Some(row) = rows.next()? {
            visit(unsigned(row.get(0)?), unsigned(row.get(1)?));
        }
        Ok(())
    }

    /// The head of a log that was cosigned last.
    pub(crate) fn head(&self, agent: &AgentId, epoch: u64) -> Result<Option<Head>, StoreError> {
        let mut find = self
            .0
            .prepare_cached("SELECT size, root FROM checkpoint WHERE agent = ?1 AND epoch = ?2")?;
        let found = find.query_row(params![agent.as_str(), signed(epoch)], |row| {
            Ok(Head {
                size: unsigned(row.get(0)?),
                root: Digest::from_bytes(row.get(1)?),
            })
        });
        Ok(found.optional()?)
    }
}
