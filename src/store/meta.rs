//! The small table `meta`: one sealed value for each key.

use cms_attest::Digest;
use rusqlite::{Connection, OptionalExtension, params};

use super::quarantine::open_or_set_aside;
use super::seal::{Record, Sealer};
use super::{Store, StoreError};

impl Store {
    /// Reads a value of `meta`. One that is damaged is set aside, and is not there any more.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn meta(&self, key: &'static str) -> Result<Option<String>, StoreError> {
        self.call(move |inner| get(&inner.connection, &inner.sealer, key))
            .await
    }

    /// Writes a value of `meta`.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_meta(&self, key: &'static str, value: String) -> Result<(), StoreError> {
        self.call(move |inner| set(&inner.connection, &inner.sealer, key, value.as_bytes()))
            .await
    }

    /// Reads what a source wants back after a restart.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn checkpoint(&self, source: &str) -> Result<Option<String>, StoreError> {
        let key = checkpoint_key(source);
        self.call(move |inner| get(&inner.connection, &inner.sealer, &key))
            .await
    }

    /// Keeps what a source wants back after a restart.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn keep_checkpoint(&self, source: &str, text: String) -> Result<(), StoreError> {
        let key = checkpoint_key(source);
        self.call(move |inner| set(&inner.connection, &inner.sealer, &key, text.as_bytes()))
            .await
    }
}

/// The key of what a source wants back. Its name may say something about what it reads, so it is not told.
pub(super) fn checkpoint_key(source: &str) -> String {
    format!("checkpoint {}", Digest::of(source.as_bytes()))
}

/// Reads a value. One that is damaged is set aside, and is not there any more.
pub(super) fn get(
    connection: &Connection,
    sealer: &Sealer,
    key: &str,
) -> Result<Option<String>, StoreError> {
    let sealed: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
            row.get(0)
        })
        .optional()
        .map_err(|source| StoreError::Read {
            what: "meta",
            source,
        })?;
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    let value = open_or_set_aside(connection, sealer, Record::Meta { key }, &sealed)?;
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

/// Writes a value.
pub(super) fn set(
    connection: &Connection,
    sealer: &Sealer,
    key: &str,
    value: &[u8],
) -> Result<(), StoreError> {
    let sealed = sealer.seal(Record::Meta { key }, value)?;
    connection
        .execute(
            "INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)",
            params![key, sealed],
        )
        .map(drop)
        .map_err(|source| StoreError::Write {
            what: "meta",
            source,
        })
}

#[cfg(test)]
impl Store {
    /// Loses a value, for tests.
    pub(crate) async fn forget_meta(&self, key: &'static str) {
        let forget = "DELETE FROM meta WHERE key = ?1";
        self.call(move |inner| {
            inner.connection.execute(forget, [key]).unwrap();
            Ok(())
        })
        .await
        .unwrap();
    }
}
