//! Records that are moved, damaged, or met with another key.

use std::collections::HashSet;

use super::*;
use crate::seal::tests::key;
use crate::store::{Store, schema};

/// An empty store's database.
fn database(directory: &tempfile::TempDir) -> (Connection, Sealer) {
    schema::open(&directory.path().join("store.db"), &key(1)).unwrap()
}

const RECORDS: [Record<'static>; 8] = [
    Record::Answer { epoch: 1, index: 2 },
    Record::Block { bucket: 1 },
    Record::Body { epoch: 1, index: 2 },
    Record::Body { epoch: 2, index: 1 },
    Record::Meta { key: "1" },
    Record::Raw { bucket: 1, part: 2 },
    Record::Tick { id: 1 },
    Record::Tick { id: 12 },
];

#[test]
fn a_record_opens_in_its_own_place_only() {
    let directory = tempfile::tempdir().unwrap();
    let (connection, sealer) = database(&directory);
    for record in RECORDS {
        let sealed = sealer.seal(record, b"content").unwrap();
        for other in RECORDS {
            let opened = sealer.open(&connection, other, &sealed);
            if other == record {
                assert_eq!(opened.unwrap(), b"content");
            } else {
                let error = opened.unwrap_err();
                assert!(matches!(error, StoreError::Decode { .. }), "{other:?}");
            }
        }
    }
}

#[test]
fn a_record_under_the_number_of_another_data_key_does_not_open() {
    let directory = tempfile::tempdir().unwrap();
    let (connection, first) = database(&directory);
    let record = RECORDS[0];
    let mut sealed = first.seal(record, b"content").unwrap();
    drop(connection);
    let (connection, second) = database(&directory);
    assert_eq!(
        second.open(&connection, record, &sealed).unwrap(),
        b"content"
    );
    let (of_first, of_second) = (
        first.current.unwrap().id,
        second.current.as_ref().unwrap().id,
    );
    assert_ne!(of_first, of_second, "each opening begins a generation");
    sealed[1..HEAD_BYTES].copy_from_slice(&of_second.to_be_bytes());
    assert!(second.open(&connection, record, &sealed).is_err());
}

#[test]
fn no_nonce_and_no_ciphertext_comes_twice() {
    let directory = tempfile::tempdir().unwrap();
    let (_connection, sealer) = database(&directory);
    let mut nonces = HashSet::new();
    for _ in 0..20_000 {
        let sealed = sealer.seal(RECORDS[0], b"the same").unwrap();
        assert!(nonces.insert(sealed[HEAD_BYTES..HEAD_BYTES + 12].to_vec()));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (connection, sealer) = database(&directory);
    let sealed = sealer.seal(RECORDS[0], b"content").unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let opened = sealer.open(&connection, RECORDS[0], &damaged);
        assert!(matches!(opened, Err(StoreError::Decode { .. })), "{bit}");
    }
    for length in 0..sealed.len() {
        let opened = sealer.open(&connection, RECORDS[0], &sealed[..length]);
        assert!(matches!(opened, Err(StoreError::Decode { .. })), "{length}");
    }
}

#[tokio::test]
async fn another_key_is_refused_by_name_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), &key(1)).await.unwrap();
    store.set_meta("a", "b".to_owned()).await.unwrap();
    drop(store);
    closed(directory.path());
    let error = Store::open(directory.path(), &key(2)).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Key(KeyError::Match { .. })));
    assert!(text.contains(key(1).id().as_str()), "{text}");
    assert!(text.contains(key(2).id().as_str()), "{text}");
    assert!(text.contains(directory.path().to_str().unwrap()), "{text}");
    let error = crate::store::read_windows(directory.path(), &key(2)).unwrap_err();
    assert!(matches!(error, StoreError::Key(KeyError::Match { .. })));
    closed(directory.path());
    let store = Store::open(directory.path(), &key(1)).await.unwrap();
    assert_eq!(store.meta("a").await.unwrap().as_deref(), Some("b"));
}

#[tokio::test]
async fn a_new_key_takes_over_when_the_old_one_is_there_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), &key(1)).await.unwrap();
    store.set_meta("a", "b".to_owned()).await.unwrap();
    drop(store);
    closed(directory.path());
    let both = key(2).after(&key(1));
    drop(Store::open(directory.path(), &both).await.unwrap());
    closed(directory.path());
    assert!(Store::open(directory.path(), &key(1)).await.is_err());
    closed(directory.path());
    let store = Store::open(directory.path(), &key(2)).await.unwrap();
    assert_eq!(store.meta("a").await.unwrap().as_deref(), Some("b"));
}

#[test]
fn a_damaged_data_key_is_read_from_its_spare_and_costs_its_own_records_when_both_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (connection, first) = database(&directory);
    let of_first = first.seal(RECORDS[0], b"first").unwrap();
    drop(connection);
    let (connection, second) = database(&directory);
    let of_second = second.seal(RECORDS[1], b"second").unwrap();
    let damage = |connection: &Connection, table: &str| {
        let sql = format!("UPDATE {table} SET wrapped = zeroblob(60) WHERE id = 1");
        assert_eq!(connection.execute(&sql, []).unwrap(), 1);
    };
    damage(&connection, "dek");
    drop(connection);
    let (connection, third) = database(&directory);
    let open = |connection: &Connection, sealer: &Sealer, record, sealed: &[u8]| {
        sealer.open(connection, record, sealed)
    };
    let opened = open(&connection, &third, RECORDS[0], &of_first);
    assert_eq!(opened.unwrap(), b"first");
    damage(&connection, "dek_spare");
    drop(connection);
    let (connection, fourth) = database(&directory);
    let lost = open(&connection, &fourth, RECORDS[0], &of_first).unwrap_err();
    assert!(lost.to_string().contains("data key 1"), "{lost}");
    let opened = open(&connection, &fourth, RECORDS[1], &of_second);
    assert_eq!(opened.unwrap(), b"second");
}

#[test]
fn a_disk_that_takes_nothing_starts_with_the_last_data_key() {
    let directory = tempfile::tempdir().unwrap();
    let (connection, first) = database(&directory);
    let path = directory.path().join("store.db");
    connection.pragma_update(None, "query_only", true).unwrap();
    let next = Sealer::next(&connection, &path, &key(1)).unwrap();
    assert_eq!(next.current(), first.current());
    let sealed = next.seal(RECORDS[0], b"content").unwrap();
    let opened = first.open(&connection, RECORDS[0], &sealed);
    assert_eq!(opened.unwrap(), b"content");
}

#[test]
fn a_name_that_is_damaged_does_not_make_the_key_a_wrong_one() {
    let directory = tempfile::tempdir().unwrap();
    let (connection, _) = database(&directory);
    for table in ["dek", "dek_spare"] {
        let sql = format!("UPDATE {table} SET kek_id = x'ff00'");
        connection.execute(&sql, []).unwrap();
    }
    drop(connection);
    assert!(schema::open(&directory.path().join("store.db"), &key(1)).is_ok());
}

#[test]
fn a_record_takes_the_memory_of_its_length() {
    let directory = tempfile::tempdir().unwrap();
    let (connection, sealer) = database(&directory);
    let content = vec![b'x'; 100_000];
    let sealed = sealer.seal(RECORDS[0], &content).unwrap();
    let opened = sealer.open(&connection, RECORDS[0], &sealed).unwrap();
    assert!(opened == content && opened.capacity() == content.len());
    let long = zstd::bulk::compress(&vec![0; RECORD_BYTES_MAX + 1], ZSTD_LEVEL).unwrap();
    assert!(decompress(&long).unwrap_err().contains("too large"));
}

#[test]
fn data_keys_that_are_all_damaged_cost_their_records_and_not_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let (connection, sealer) = database(&directory);
    let sealed = sealer.seal(RECORDS[0], b"content").unwrap();
    for table in ["dek", "dek_spare"] {
        let sql = format!("UPDATE {table} SET wrapped = zeroblob(60)");
        connection.execute(&sql, []).unwrap();
    }
    drop(connection);
    let (connection, sealer) = database(&directory);
    assert!(sealer.open(&connection, RECORDS[0], &sealed).is_err());
    let again = sealer.seal(RECORDS[0], b"content").unwrap();
    assert!(sealer.open(&connection, RECORDS[0], &again).is_ok());
}

/// Waits until the thread of a dropped store has given its directory back.
fn closed(directory: &Path) {
    let lock = std::fs::File::open(directory.join("lock")).unwrap();
    lock.lock().unwrap();
}
