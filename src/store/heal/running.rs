//! What the store does for itself between two pieces of work: it heals damage that was met, and keeps the mark.

use rusqlite::{Connection, OptionalExtension};

use super::{damage_in, in_memory};
use crate::clock::Clock;
use crate::seal::StoreKey;
use crate::status::error_chain;
use crate::store::place::Mark;
use crate::store::samples::Unsaved;
use crate::store::{Inner, StoreError, outbox, samples, schema};

/// Damage that comes back so often under one running agent is the disk's: a person has to look.
const HEALS_MAX: u32 = 8;

/// How a store that is at work is doing.
pub(in crate::store) struct Health {
    clock: Clock,
    key: StoreKey,
    noticed: Option<String>,
    /// Damage that was met, and that the disk did not let be set aside.
    unhealed: Option<String>,
    heals: u32,
    changes: u64,
}

impl Health {
    pub(in crate::store) fn new(clock: Clock, key: StoreKey) -> Self {
        Self {
            clock,
            key,
            noticed: None,
            unhealed: None,
            heals: 0,
            changes: 0,
        }
    }
}

impl Inner {
    /// Does a piece of work, and notices the damage that it meets.
    pub(in crate::store) fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let answer = work(self);
        if self.health.noticed.is_none()
            && let Err(error) = &answer
        {
            self.health.noticed = damage_in(error);
        }
        answer
    }

    /// Called after each piece of work.
    pub(in crate::store) fn look_after_itself(&mut self) {
        if let Some(reason) = self.health.noticed.take() {
            self.heal(reason);
        }
        let changes = self.connection.total_changes();
        if changes != self.health.changes {
            self.health.changes = changes;
            if let Ok(Some(mark)) = length(&self.connection) {
                self.place.mark(mark);
            }
        }
    }

    /// Tries again what the disk has refused.
    pub(in crate::store) fn heal_again(&mut self) {
        if let Some(reason) = self.health.unhealed.take() {
            self.health.heals -= 1;
            self.heal(reason);
        }
    }

    /// Sets the database aside while the agent runs, unless that happens too often.
    fn heal(&mut self, reason: String) {
        if self.health.heals >= HEALS_MAX {
            return;
        }
        self.health.heals += 1;
        if let Err(error) = self.try_to_heal(reason.clone()) {
            tracing::error!(
                error = %error_chain(&error),
                reason,
                "the damaged store cannot be set aside; nothing is taken in until it can"
            );
            self.health.unhealed = Some(reason);
        }
    }

    /// The windows are whole in memory and go into the new database.
    fn try_to_heal(&mut self, reason: String) -> Result<(), StoreError> {
        // The last connection closes before the files are moved.
        self.connection = in_memory()?;
        self.place.closed();
        let Some(claim) = self.place.claim() else {
            return Ok(());
        };
        let (key, now) = (&self.health.key, self.health.clock.now());
        let directory = self.place.directory();
        let reopened = super::reopen(directory, claim, reason, now, |database| {
            let (connection, sealer) = schema::open(database, key)?;
            outbox::recover(&connection)?;
            Ok((connection, sealer))
        });
        (self.connection, self.sealer) = reopened?;
        self.place.reopened();
        self.unsaved = Unsaved::all(&self.windows);
        self.oldest_tick_bucket = samples::oldest_tick(&self.connection)?;
        self.health.changes = 0;
        Ok(())
    }
}

/// How long the newest ledger is.
fn length(connection: &Connection) -> rusqlite::Result<Option<Mark>> {
    connection
        .prepare_cached(
            "SELECT epoch, max(idx) + 1 FROM leaf WHERE epoch = (SELECT max(epoch) FROM leaf)",
        )?
        .query_row([], |row| {
            let (epoch, size): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok(epoch.zip(size).map(|(epoch, size)| Mark {
                epoch: epoch.unsigned_abs(),
                size: size.unsigned_abs(),
            }))
        })
        .optional()
        .map(Option::flatten)
}
