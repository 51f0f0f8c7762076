//! What witnesses have signed of the ledger, each on its own: a head, and the signature over it.
//!
//! Each goes by the witness's key as it publishes it, so that evidence needs no configuration. The dashboard's
//! receipts are not here: they decide about states of submissions, and these do not.

use cms_attest::Origin;
use cms_attest::checkpoint::{Checkpoint, Receipt};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::ledger::{from_ms, to_sql};
use super::receipts::leaves;
use super::{Store, StoreError};

/// The newest that one witness has signed, as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WitnessRow {
    /// The witness's name.
    pub name: String,
    /// The epoch of the log.
    pub epoch: u64,
    /// How many leaves the signed head covers.
    pub size: u64,
    /// How many leaves the log has now.
    pub leaves: u64,
    /// When the witness signed, by its clock.
    pub at: Timestamp,
}

impl Store {
    /// The size of the newest head of a log that the witness with this key has signed; zero for none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn witnessed_size(
        &self,
        origin: &Origin,
        witness: String,
    ) -> Result<u64, StoreError> {
        let epoch = to_sql(origin.epoch());
        self.call(move |inner| {
            inner
                .connection
                .prepare_cached(
                    "SELECT coalesce(max(size), 0) FROM cosignature WHERE epoch = ?1 AND cosigner = ?2",
                )
                .and_then(|mut select| {
                    select.query_row(params![epoch, witness], |row| row.get::<_, i64>(0))
                })
                .map(i64::unsigned_abs)
                .map_err(read)
        })
        .await
    }

    /// Keeps what a witness has signed.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn keep_cosignature(
        &self,
        witness: String,
        receipt: Receipt,
        note: String,
    ) -> Result<(), StoreError> {
        self.call(move |inner| {
            let Checkpoint { origin, head } = receipt.checkpoint();
            inner
                .connection
                .execute(
                    "INSERT OR REPLACE INTO cosignature(epoch, cosigner, size, note, cosignature, at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![
                        to_sql(origin.epoch()),
                        witness,
                        to_sql(head.size),
                        note,
                        receipt.line(),
                        receipt.time().as_millisecond()
                    ],
                )
                .map(drop)
                .map_err(|source| StoreError::Write {
                    what: "what a witness has signed",
                    source,
                })
        })
        .await
    }

    /// The newest that each witness has signed in the newest epoch that it has seen.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn witnesses(&self) -> Result<Vec<WitnessRow>, StoreError> {
        self.call(|inner| newest(&inner.connection)).await
    }
}

fn newest(connection: &Connection) -> Result<Vec<WitnessRow>, StoreError> {
    let row = |row: &Row<'_>| {
        let numbers = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
        Ok((row.get::<_, String>(0)?, numbers, row.get::<_, i64>(3)?))
    };
    let mut select = connection
        .prepare_cached(
            "SELECT c.cosigner, c.epoch, c.size, c.at FROM cosignature c
             WHERE (c.epoch, c.size) = (SELECT epoch, size FROM cosignature
                 WHERE cosigner = c.cosigner ORDER BY epoch DESC, size DESC LIMIT 1)
             ORDER BY c.cosigner",
        )
        .map_err(read)?;
    let rows = select.query_map([], row).map_err(read)?;
    rows.map(|row| {
        let (name, (epoch, size), at) = row.map_err(read)?;
        let (epoch, size) = (epoch.unsigned_abs(), size.unsigned_abs());
        Ok(WitnessRow {
            name: name.split('+').next().unwrap_or_default().to_owned(),
            epoch,
            size,
            leaves: leaves(connection, epoch)?,
            at: from_ms(at)?,
        })
    })
    .collect()
}

fn read(source: rusqlite::Error) -> StoreError {
    StoreError::Read {
        what: "what witnesses have signed",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::key;
    use crate::store::{LeafDraft, Moment};
    use cms_attest::checkpoint::{Cosigner, verify_cosignature};
    use cms_attest::{LeafKind, SigningKey};

    #[tokio::test]
    async fn each_witness_has_its_own_newest() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &key(1)).await.unwrap();
        let moment = Moment {
            now: Timestamp::from_second(1_772_000_000).unwrap(),
            boot_id: "b".to_owned(),
            boottime_ms: 1,
            api_key_id: None,
        };
        let agent = "018f3b1e-7c4a-7d2e-9b1a-5f6e7d8c9b0a".parse().unwrap();
        let company = "acme-corp".parse().unwrap();
        let origin = store.origin(company, agent, moment.clone()).await.unwrap();
        let sign = async |name: &str| {
            let draft = LeafDraft::event(LeafKind::Clock, "stepped");
            store
                .append_leaves(origin.clone(), moment.clone(), vec![draft])
                .await
                .unwrap();
            let offer = store.offer(origin.clone(), Some(0)).await.unwrap().unwrap();
            let key = SigningKey::from_seed(&[9; 32]).unwrap();
            let cosigner = Cosigner::new(name.parse().unwrap(), key);
            let line = cosigner.cosign(&offer.checkpoint, moment.now);
            let receipt = verify_cosignature(&line, &offer.checkpoint, &cosigner.published());
            store
                .keep_cosignature(name.to_owned(), receipt.unwrap(), "note".to_owned())
                .await
                .unwrap();
        };
        for name in ["b", "a", "b"] {
            sign(name).await;
        }
        let size = async |name: &str| {
            store
                .witnessed_size(&origin, name.to_owned())
                .await
                .unwrap()
        };
        assert_eq!(
            (size("a").await, size("b").await, size("c").await),
            (2, 3, 0)
        );
        let rows = store.witnesses().await.unwrap();
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.size, row.leaves))
            .collect();
        assert_eq!(rows, [("a", 2, 3), ("b", 3, 3)]);
        assert_eq!(store.newest_receipt().await.unwrap(), None);
    }
}
