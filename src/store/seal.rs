//! Records at rest: each is compressed and sealed under a data key of the store's generation.
//!
//! A generation is what one opening of the store writes. Its data key is random, is kept in the table `dek`
//! (and, on other pages of the file, in `dek_spare`) sealed under the store's key, and seals each record with a
//! fresh nonce. What a record is, where it stands and
//! which data key seals it are associated data: a record that is moved to another row, column or table, or is
//! given to another key, does not open. Promises: what opens is what was written, there. Refuses: to open a
//! store with another key than its own.
//!
//! ```text
//! record = form (1 byte) | data key (4, big endian) | nonce (12) | AES-256-GCM of zstd of the content | tag (16)
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::StoreError;
use super::heal::DataKeyRow;
use crate::limits::{DATA_KEYS_CHECKED_MAX, DATA_KEYS_OPEN_MAX};
use crate::seal::{Cipher, KEY_BYTES, KeyError, KeyId, StoreKey, random_key};

/// The form of a sealed record that this agent writes; another one can then be told from it.
const FORM: u8 = 1;

/// Bytes before the nonce: the form and the data key's number.
const HEAD_BYTES: usize = 5;

/// The compression of records: level 3 is within a tenth of the best at a tenth of the time.
const ZSTD_LEVEL: i32 = 3;

/// Largest record after decompression; 20,000 instances make a block of 4 MB.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A sealed column of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// The last answer to a submission.
    Answer { epoch: i64, index: i64 },
    /// A quarter of an hour of the windows.
    Block { bucket: i64 },
    /// The bytes of a submission.
    Body { epoch: i64, index: i64 },
    /// A value of `meta`.
    Meta { key: &'a str },
    /// The samples of a sealed quarter of an hour.
    Raw { bucket: i64, part: i64 },
    /// A sample of the open quarter of an hour.
    Tick { id: i64 },
}

/// Seals and opens the records of one store.
pub(super) struct Sealer {
    key: StoreKey,
    current: Option<DataKey>,
    opened: RefCell<VecDeque<(u32, Option<DataKey>)>>,
    damaged: Cell<u32>,
}

#[derive(Clone)]
struct DataKey {
    id: u32,
    cipher: Arc<Cipher>,
}

impl Sealer {
    /// Opens a store's data keys for reading.
    ///
    /// # Errors
    /// When the key is not the store's, or the database cannot be read.
    pub(super) fn reading(
        connection: &Connection,
        path: &Path,
        key: &StoreKey,
    ) -> Result<Self, StoreError> {
        check(connection, path, key)?;
        Ok(Self {
            key: key.clone(),
            current: None,
            opened: RefCell::default(),
            damaged: Cell::default(),
        })
    }

    /// Begins the first generation of a store that holds nothing sealed, inside the caller's transaction.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(super) fn first(connection: &Connection, key: &StoreKey) -> Result<Self, StoreError> {
        Ok(Self {
            key: key.clone(),
            current: Some(insert_data_key(connection, key)?),
            opened: RefCell::default(),
            damaged: Cell::default(),
        })
    }

    /// Opens a store's data keys and begins a generation. Data keys under the old key come under the new one.
    ///
    /// # Errors
    /// When the key is not the store's, or the database cannot be read or written. A full disk is no error where
    /// an older data key can be used again: its nonces are random.
    pub(super) fn next(
        connection: &Connection,
        path: &Path,
        key: &StoreKey,
    ) -> Result<Self, StoreError> {
        let mut sealer = Self::reading(connection, path, key)?;
        sealer.current = match sealer.begin(connection) {
            Ok(begun) => Some(begun),
            Err(error) => {
                let newest = sealer.newest(connection)?.ok_or(error)?;
                tracing::warn!(
                    data_key = newest.id,
                    "the store takes no new data key; the last one is used again"
                );
                Some(newest)
            }
        };
        Ok(sealer)
    }

    /// Whether records can be sealed, and damaged ones set aside.
    pub(super) fn may_write(&self) -> bool {
        self.current.is_some()
    }

    /// Counts a damaged record, and answers whether it is one of the first.
    pub(super) fn tells_of_damage(&self, told_max: u32) -> bool {
        let count = self.damaged.get().saturating_add(1);
        self.damaged.set(count);
        count <= told_max
    }

    /// The number of the data key of this generation.
    pub(super) fn current(&self) -> Option<u32> {
        self.current.as_ref().map(|current| current.id)
    }

    /// The stored form of a record.
    ///
    /// # Errors
    /// When it cannot be compressed or encrypted.
    pub(super) fn seal(&self, record: Record<'_>, content: &[u8]) -> Result<Vec<u8>, StoreError> {
        let failed = |found: String| StoreError::Encode {
            what: record.what(),
            found,
        };
        let current = self.current.as_ref();
        let current = current.ok_or_else(|| failed("the store is open for reading".to_owned()))?;
        let packed = zstd::bulk::compress(content, ZSTD_LEVEL);
        let packed = Zeroizing::new(packed.map_err(|error| failed(error.to_string()))?);
        let mut sealed = vec![FORM];
        sealed.extend(current.id.to_be_bytes());
        current
            .cipher
            .seal_onto(&mut sealed, &record.associated(current.id), &packed)
            .map_err(|error| failed(error.to_string()))?;
        Ok(sealed)
    }

    /// The content of a record.
    ///
    /// # Errors
    /// [`StoreError::Decode`] when the record or its data key is damaged; others when the data keys cannot be read.
    pub(super) fn open(
        &self,
        connection: &Connection,
        record: Record<'_>,
        sealed: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let damaged = |found: String| StoreError::Decode {
            what: record.what(),
            found,
        };
        let id = data_key_of(sealed).ok_or_else(|| damaged("it is not sealed".to_owned()))?;
        let data_key = self
            .data_key(connection, id)?
            .ok_or_else(|| damaged(format!("its data key {id} is missing or damaged")))?;
        let packed = sealed
            .get(HEAD_BYTES..)
            .and_then(|rest| data_key.cipher.open(&record.associated(id), rest))
            .ok_or_else(|| damaged("its seal is broken".to_owned()))?;
        decompress(&packed).map_err(damaged)
    }

    /// The data key of this number, if it is there and whole.
    fn data_key(&self, connection: &Connection, id: u32) -> Result<Option<DataKey>, StoreError> {
        if let Some(current) = self.current.as_ref().filter(|current| current.id == id) {
            return Ok(Some(current.clone()));
        }
        let known = |(known, key): &(u32, Option<DataKey>)| (*known == id).then(|| key.clone());
        if let Some(found) = self.opened.borrow().iter().find_map(known) {
            return Ok(found);
        }
        let query = "SELECT wrapped FROM dek WHERE id = ?1
                     UNION ALL SELECT wrapped FROM dek_spare WHERE id = ?1";
        let wrapped: Vec<Vec<u8>> = connection
            .prepare_cached(query)
            .and_then(|mut select| select.query_map([id], |row| row.get(0))?.collect())
            .map_err(read_failed)?;
        let found = wrapped
            .iter()
            .find_map(|wrapped| unwrap(&self.key, id, wrapped));
        if found.is_none() {
            tracing::error!(
                data_key = id,
                "a data key of the store is missing or damaged; the records that it sealed are lost"
            );
        }
        let mut opened = self.opened.borrow_mut();
        if opened.len() >= DATA_KEYS_OPEN_MAX {
            opened.pop_front();
        }
        opened.push_back((id, found.clone()));
        Ok(found)
    }

    /// Makes the data key of a new generation, after those of the old key have come under the new one.
    fn begin(&self, connection: &Connection) -> Result<DataKey, StoreError> {
        let failed = |source| StoreError::Write {
            what: "a new data key",
            source,
        };
        let transaction = connection.unchecked_transaction().map_err(failed)?;
        self.take_over(&transaction)?;
        let begun = insert_data_key(&transaction, &self.key)?;
        transaction.commit().map_err(failed)?;
        Ok(begun)
    }

    fn newest(&self, connection: &Connection) -> Result<Option<DataKey>, StoreError> {
        let mut select = connection
            .prepare("SELECT id FROM dek ORDER BY id DESC")
            .map_err(read_failed)?;
        let mut rows = select.query([]).map_err(read_failed)?;
        while let Some(row) = rows.next().map_err(read_failed)? {
            let found = self.data_key(connection, row.get(0).map_err(read_failed)?)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Seals the data keys of the old key under the new one, inside the caller's transaction.
    fn take_over(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut taken = 0;
        for (id, wrapped) in data_keys(connection, u32::MAX)? {
            let opened = self.key.open(&purpose(id), &wrapped);
            if let Some(opened) = opened.filter(|opened| opened.is_old) {
                keep_data_key(connection, &self.key, id, &opened.content)?;
                taken += 1;
            }
        }
        if taken > 0 {
            tracing::warn!(
                key = %self.key.id(),
                "the store's data keys are under the new key now; store.old_key can go"
            );
        }
        Ok(())
    }
}

impl Record<'_> {
    /// The table and column that hold it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "outbox.answer",
            Self::Block { .. } => "block.body",
            Self::Body { .. } => "body.bytes",
            Self::Meta { .. } => "meta.value",
            Self::Raw { .. } => "raw.body",
            Self::Tick { .. } => "tick.body",
        }
    }

    /// Its row, in words.
    pub(super) fn row(&self) -> String {
        match self {
            Self::Answer { epoch, index } | Self::Body { epoch, index } => {
                format!("{epoch}:{index}")
            }
            Self::Block { bucket } => bucket.to_string(),
            Self::Meta { key } => (*key).to_owned(),
            Self::Raw { bucket, part } => format!("{bucket}:{part}"),
            Self::Tick { id } => id.to_string(),
        }
    }

    /// What it is, in words.
    fn what(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "an answer of the dashboard",
            Self::Block { .. } => "a window block",
            Self::Body { .. } => "a submission",
            Self::Meta { .. } => "a value of meta",
            Self::Raw { .. } => "a quarter of an hour of samples",
            Self::Tick { .. } => "a sample",
        }
    }

    /// What is authenticated with it: form, data key, place.
    fn associated(&self, data_key: u32) -> Vec<u8> {
        let mut associated = vec![FORM];
        associated.extend(data_key.to_be_bytes());
        associated.extend(self.kind().as_bytes());
        associated.push(0);
        associated.extend(self.row().as_bytes());
        associated
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// The number of the data key that seals a record.
pub(super) fn data_key_of(sealed: &[u8]) -> Option<u32> {
    match sealed.split_first_chunk::<HEAD_BYTES>()?.0 {
        [FORM, id @ ..] => Some(u32::from_be_bytes(*id)),
        _ => None,
    }
}

/// The keys that the data keys of a store are sealed under, newest first, as the store names them.
pub(super) fn named_keys(connection: &Connection) -> Result<Vec<KeyId>, StoreError> {
    let query = "SELECT CAST(kek_id AS BLOB) FROM
                 (SELECT id, kek_id FROM dek UNION ALL SELECT id, kek_id FROM dek_spare)
                 GROUP BY kek_id ORDER BY max(id) DESC LIMIT ?1";
    let names: Vec<Vec<u8>> = connection
        .prepare(query)
        .and_then(|mut select| {
            select
                .query_map([DATA_KEYS_CHECKED_MAX], |row| row.get(0))?
                .collect()
        })
        .map_err(read_failed)?;
    Ok(names
        .iter()
        .filter_map(|name| KeyId::parse(&String::from_utf8_lossy(name)))
        .collect())
}

/// Refuses another key than the store's. A key that opens any data key is right, whatever is damaged beside it.
fn check(connection: &Connection, path: &Path, key: &StoreKey) -> Result<(), StoreError> {
    let newest = data_keys(connection, DATA_KEYS_CHECKED_MAX)?;
    let store = path.parent().unwrap_or(path);
    refuse_another(key, &newest, store, || named_keys(connection))
}

/// As at every opening, before the database is opened: `keys` are data keys as they lie there.
pub(super) fn refuse_before_opening(
    key: &StoreKey,
    keys: &[DataKeyRow],
    store: &Path,
) -> Result<(), KeyError> {
    let checked = keys.iter().take(DATA_KEYS_CHECKED_MAX as usize);
    let newest: Vec<(u32, Vec<u8>)> = checked
        .map(|(id, _, wrapped)| (*id, wrapped.clone()))
        .collect();
    let mut names: Vec<KeyId> = keys
        .iter()
        .filter_map(|(_, name, _)| KeyId::parse(name))
        .collect();
    names.dedup();
    refuse_another(key, &newest, store, || Ok(names))
}

fn refuse_another<E: From<KeyError>>(
    key: &StoreKey,
    newest: &[(u32, Vec<u8>)],
    store: &Path,
    expected: impl FnOnce() -> Result<Vec<KeyId>, E>,
) -> Result<(), E> {
    let opens = |(id, wrapped): &(u32, Vec<u8>)| key.open(&purpose(*id), wrapped).is_some();
    if newest.is_empty() || newest.iter().any(opens) {
        return Ok(());
    }
    let expected = expected()?;
    // Named as ours and not opened: that is damage. A name cannot be had without the key.
    if expected.contains(key.id()) {
        return Ok(());
    }
    Err(E::from(KeyError::Match {
        store: store.to_owned(),
        found: key.id().clone(),
        place: key.protection().clone(),
        expected,
    }))
}

/// Numbers and sealed forms of the newest data keys, each twice.
fn data_keys(connection: &Connection, rows_max: u32) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
    connection
        .prepare(
            "SELECT id, wrapped FROM dek UNION ALL SELECT id, wrapped FROM dek_spare
             ORDER BY id DESC LIMIT ?1",
        )
        .and_then(|mut select| {
            select
                .query_map([rows_max], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .map_err(read_failed)
}

/// Makes a data key inside the caller's transaction.
fn insert_data_key(connection: &Connection, key: &StoreKey) -> Result<DataKey, StoreError> {
    let failed = |source| StoreError::Write {
        what: "a new data key",
        source,
    };
    // Its number is bound into its seal, so it is taken before.
    let id: u32 = connection
        .query_row(
            "INSERT INTO dek(kek_id, wrapped) VALUES ('', x'') RETURNING id",
            [],
            |row| row.get(0),
        )
        .map_err(failed)?;
    let data_key = random_key().map_err(KeyError::Encrypt)?;
    keep_data_key(connection, key, id, data_key.as_ref())?;
    let cipher = Cipher::of(&data_key).map_err(KeyError::Encrypt)?;
    Ok(DataKey {
        id,
        cipher: Arc::new(cipher),
    })
}

/// Seals a data key under the store's key, twice: one damaged page must not take a generation with it.
fn keep_data_key(
    connection: &Connection,
    key: &StoreKey,
    id: u32,
    data_key: &[u8],
) -> Result<(), StoreError> {
    let update = |table: &str| {
        let wrapped = key
            .seal(&purpose(id), data_key)
            .map_err(KeyError::Encrypt)?;
        let sql =
            format!("INSERT OR REPLACE INTO {table}(id, kek_id, wrapped) VALUES (?1, ?2, ?3)");
        connection
            .execute(&sql, params![id, key.id().as_str(), wrapped])
            .map(drop)
            .map_err(|source| StoreError::Write {
                what: "a data key",
                source,
            })
    };
    update("dek")?;
    update("dek_spare")
}

fn unwrap(key: &StoreKey, id: u32, wrapped: &[u8]) -> Option<DataKey> {
    let opened = key.open(&purpose(id), wrapped)?;
    let data_key = <&[u8; KEY_BYTES]>::try_from(opened.content.as_slice()).ok()?;
    let cipher = Arc::new(Cipher::of(data_key).ok()?);
    Some(DataKey { id, cipher })
}

fn purpose(id: u32) -> Vec<u8> {
    [&b"data key "[..], &id.to_be_bytes()].concat()
}

/// The content of compressed bytes, or what is wrong with them. It takes the memory that their frame asks for.
pub(super) fn decompress(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let size = zstd::zstd_safe::get_frame_content_size(bytes);
    let size = size.ok().flatten().and_then(|size| size.try_into().ok());
    let size = size
        .filter(|size| *size <= RECORD_BYTES_MAX)
        .ok_or("its length is not told or too large")?;
    zstd::bulk::decompress(bytes, size).map_err(|error| error.to_string())
}

fn read_failed(source: rusqlite::Error) -> StoreError {
    StoreError::Read {
        what: "data keys",
        source,
    }
}

#[cfg(test)]
mod tests;
