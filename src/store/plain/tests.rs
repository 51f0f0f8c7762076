//! A store of version 1 is sealed, whole, and nothing of it stays readable.

use std::fs;
use std::path::Path;

use super::*;
use crate::seal::tests::key;

/// What is planted; nothing in it is made shorter by compressing.
const CANARIES: [&str; 6] = [
    "canary-carry-0b5c",
    "canary-tick-71fe",
    "canary-raw-93aa",
    "canary-block-d20e",
    "canary-body-48c1",
    "canary-answer-e6f7",
];

/// A store of version 1 with a canary in each column, and more in pages that are free again.
fn version_1(path: &Path) {
    let connection = schema::connect(&path.join("store.db")).unwrap();
    connection
        .pragma_update(None, "secure_delete", false)
        .unwrap();
    schema::make(&connection).unwrap();
    connection
        .execute_batch("DROP TABLE dek; DROP TABLE dek_spare; DROP TABLE quarantine;")
        .unwrap();
    let [carry, tick, raw, block, body, answer] = CANARIES;
    let zstd = |text: &str| zstd::bulk::compress(text.as_bytes(), 3).unwrap();
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        connection.execute(sql, values).unwrap();
    };
    run("INSERT INTO meta VALUES ('carry-of-old', ?1)", &[&carry]);
    for id in 1..=40 {
        let text = format!("{tick}{}", " ".repeat(2_000));
        run(
            "INSERT INTO tick VALUES (?1, 7, ?2)",
            &[&id, &text.as_bytes()],
        );
    }
    run("DELETE FROM tick WHERE id <> 3", &[]);
    run("INSERT INTO raw VALUES (5, 2, 1, ?1)", &[&zstd(raw)]);
    run("INSERT INTO raw VALUES (6, 0, 1, ?1)", &[&raw.as_bytes()]);
    run("INSERT INTO block VALUES (-9, ?1)", &[&zstd(block)]);
    run("INSERT INTO body VALUES (1, 4, ?1)", &[&zstd(body)]);
    run(
        "INSERT INTO outbox VALUES (1, 4, 'dark-data', 0, 0, 'accepted', 1, 0, ?1)",
        &[&answer],
    );
    connection
        .pragma_update(None, "user_version", schema::VERSION_PLAIN)
        .unwrap();
}

/// The canaries that stand in any file of the store.
fn readable(path: &Path) -> Vec<&'static str> {
    let files = fs::read_dir(path).unwrap();
    let bytes: Vec<u8> = files
        .flat_map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    let is_there = |canary: &&str| bytes.windows(canary.len()).any(|w| w == canary.as_bytes());
    CANARIES.into_iter().filter(is_there).collect()
}

#[test]
fn everything_is_sealed_and_nothing_readable_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    version_1(path);
    assert_eq!(readable(path), CANARIES, "the test can see them");
    let (connection, sealer) = schema::open(&path.join("store.db"), &key(1)).unwrap();
    assert_eq!(
        readable(path),
        [""; 0],
        "neither in the log nor in free pages"
    );
    let open = |query: &str, record| {
        let sealed: Vec<u8> = connection.query_row(query, [], |row| row.get(0)).unwrap();
        String::from_utf8(sealer.open(&connection, record, &sealed).unwrap()).unwrap()
    };
    let (epoch, index) = (1, 4);
    let key = "carry-of-old";
    let (bucket, part) = (5, 2);
    let opened = [
        open("SELECT value FROM meta", Record::Meta { key }),
        open("SELECT body FROM tick", Record::Tick { id: 3 }),
        open("SELECT body FROM raw", Record::Raw { bucket, part }),
        open("SELECT body FROM block", Record::Block { bucket: -9 }),
        open("SELECT bytes FROM body", Record::Body { epoch, index }),
        open("SELECT answer FROM outbox", Record::Answer { epoch, index }),
    ];
    assert_eq!(opened.each_ref().map(|text| text.trim_end()), CANARIES);
    let aside = "SELECT place FROM quarantine WHERE kind = 'raw.body'";
    let aside: String = connection.query_row(aside, [], |row| row.get(0)).unwrap();
    assert_eq!(aside, "6:0", "it was no zstd");
}

#[test]
fn what_could_not_be_wiped_is_wiped_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    version_1(path);
    // Somebody reads the log, so that it cannot be emptied.
    let reader = schema::connect(&path.join("store.db")).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM tick;")
        .unwrap();
    let (connection, _) = schema::open(&path.join("store.db"), &key(1)).unwrap();
    let due = "SELECT count(*) FROM meta WHERE key = 'wipe'";
    let count = |connection: &Connection| -> i64 {
        connection.query_row(due, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&connection), 1);
    drop((reader, connection));
    let (connection, _) = schema::open(&path.join("store.db"), &key(1)).unwrap();
    assert_eq!(count(&connection), 0);
    assert_eq!(readable(path), [""; 0]);
}
