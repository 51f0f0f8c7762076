//! The tables, and whether a file has them.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// "CMSd": tells our files from other people's SQLite files.
const APPLICATION_ID: i64 = 0x434d_5364;
/// Raised with each change of the tables.
const VERSION: i64 = 3;

/// Times are milliseconds since the epoch. A submission's row outlives its body, so that proofs still hold.
/// `latest` is the last one of each agent and category that came, `current` the newest one that counts.
const TABLES: &str = "
CREATE TABLE company (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    company TEXT NOT NULL REFERENCES company (id),
    label TEXT NOT NULL,
    mode TEXT NOT NULL,
    hash BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT;
CREATE INDEX api_key_company ON api_key (company, label);

CREATE TABLE agent (
    id TEXT PRIMARY KEY,
    company TEXT NOT NULL REFERENCES company (id),
    key_id TEXT NOT NULL UNIQUE,
    request_key BLOB NOT NULL,
    log_key BLOB NOT NULL,
    fingerprint TEXT NOT NULL,
    version TEXT NOT NULL,
    site TEXT,
    enrolled_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT;
CREATE INDEX agent_company ON agent (company);

CREATE TABLE challenge (
    text TEXT PRIMARY KEY,
    company TEXT NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE nonce (
    agent TEXT NOT NULL,
    nonce BLOB NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonce_expires ON nonce (expires_ms);

CREATE TABLE submission (
    seq INTEGER PRIMARY KEY,
    company TEXT NOT NULL REFERENCES company (id),
    agent TEXT NOT NULL REFERENCES agent (id),
    epoch INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    leaf BLOB NOT NULL,
    category TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    delivery TEXT NOT NULL,
    counted INTEGER NOT NULL,
    api_key TEXT NOT NULL,
    warnings TEXT NOT NULL,
    digest BLOB NOT NULL,
    body_bytes INTEGER NOT NULL,
    body BLOB,
    UNIQUE (agent, epoch, idx)
) STRICT;
CREATE INDEX submission_company ON submission (company, received_ms);
CREATE INDEX submission_received ON submission (received_ms);

CREATE INDEX submission_body ON submission (received_ms) WHERE body IS NOT NULL;

CREATE TABLE latest (
    agent TEXT NOT NULL REFERENCES agent (id),
    category TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES submission (seq) ON DELETE CASCADE,
    PRIMARY KEY (agent, category)
) STRICT, WITHOUT ROWID;
CREATE INDEX latest_seq ON latest (seq);

CREATE TABLE current (
    agent TEXT NOT NULL REFERENCES agent (id),
    category TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES submission (seq) ON DELETE CASCADE,
    PRIMARY KEY (agent, category)
) STRICT, WITHOUT ROWID;
CREATE INDEX current_seq ON current (seq);

CREATE TABLE daily (
    company TEXT NOT NULL REFERENCES company (id),
    day TEXT NOT NULL,
    composite REAL,
    tier TEXT NOT NULL,
    metrics TEXT NOT NULL,
    PRIMARY KEY (company, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE tier_state (
    company TEXT PRIMARY KEY REFERENCES company (id),
    state TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tier_event (
    seq INTEGER PRIMARY KEY,
    company TEXT NOT NULL REFERENCES company (id),
    at_ms INTEGER NOT NULL,
    event TEXT NOT NULL
) STRICT;
CREATE INDEX tier_event_company ON tier_event (company);
";

/// Since version 2. `checkpoint` has the last cosigned head of each log, `fork_evidence` those that contradicted
/// one, each beside the head that was held then.
const TABLES_OF_RECEIPTS: &str = "
CREATE TABLE checkpoint (
    agent TEXT NOT NULL REFERENCES agent (id),
    epoch INTEGER NOT NULL,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    note TEXT NOT NULL,
    cosigned_ms INTEGER NOT NULL,
    forks INTEGER NOT NULL,
    PRIMARY KEY (agent, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE fork_evidence (
    seq INTEGER PRIMARY KEY,
    agent TEXT NOT NULL REFERENCES agent (id),
    epoch INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    held_size INTEGER NOT NULL,
    held_root BLOB NOT NULL,
    held_note TEXT NOT NULL,
    offered_size INTEGER NOT NULL,
    offered_root BLOB NOT NULL,
    offer TEXT NOT NULL,
    UNIQUE (agent, epoch, held_size, offered_size, offered_root)
) STRICT;
";

/// Since version 3. `replaced_key` has the agents' keys that others have taken the place of, `cosigner` the
/// dashboard's own for receipts, whose seeds are in files.
const TABLES_OF_ROTATION: &str = "
CREATE TABLE replaced_key (
    key BLOB PRIMARY KEY,
    key_id TEXT NOT NULL UNIQUE,
    agent TEXT NOT NULL REFERENCES agent (id),
    purpose TEXT NOT NULL,
    replaced_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    succession TEXT
) STRICT;
CREATE INDEX replaced_key_agent ON replaced_key (agent, purpose, replaced_ms);

CREATE TABLE cosigner (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    key BLOB NOT NULL,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER,
    succession TEXT
) STRICT;
";

/// What each version added to the one before.
const ADDED: [(i64, &str); 2] = [(2, TABLES_OF_RECEIPTS), (3, TABLES_OF_ROTATION)];

/// Makes the tables in a new file, adds those that an older version had not; refuses a file that is not ours.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    // Immediate, so that the command line and the server never both make the tables.
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pragma = |name| change.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let objects: i64 =
        change.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if application == 0 && version == 0 && objects == 0 {
        change.execute_batch(TABLES)?;
        change.pragma_update(None, "application_id", APPLICATION_ID)?;
        add(&change, 1)?;
    } else if application == APPLICATION_ID && (1..VERSION).contains(&version) {
        add(&change, version)?;
    } else if application != APPLICATION_ID || version != VERSION {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
            found: format!("application {application:#x}, version {version}"),
        });
    }
    change.commit()?;
    Ok(())
}

/// Adds what came after a version.
fn add(change: &Connection, version: i64) -> Result<(), StoreError> {
    for (_, tables) in ADDED.iter().filter(|(since, _)| *since > version) {
        change.execute_batch(tables)?;
    }
    change.pragma_update(None, "user_version", VERSION)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_elses_file_is_left_alone() {
        let mut file = Connection::open_in_memory().unwrap();
        file.execute_batch("CREATE TABLE diary (text TEXT)")
            .unwrap();
        let refused = prepare(&mut file, Path::new("x")).unwrap_err();
        assert!(matches!(refused, StoreError::Foreign { .. }));
    }

    #[test]
    fn a_file_of_version_1_gets_what_it_lacks() {
        let mut file = Connection::open_in_memory().unwrap();
        file.execute_batch(TABLES).unwrap();
        file.pragma_update(None, "application_id", APPLICATION_ID)
            .unwrap();
        file.pragma_update(None, "user_version", 1).unwrap();
        file.execute_batch("INSERT INTO company VALUES ('acme', 'Acme', 0)")
            .unwrap();
        prepare(&mut file, Path::new("x")).unwrap();
        prepare(&mut file, Path::new("x")).unwrap();
        let count = |table: &str| -> i64 {
            let sql = format!("SELECT count(*) FROM {table}");
            file.query_row(&sql, (), |row| row.get(0)).unwrap()
        };
        assert_eq!((count("company"), count("checkpoint")), (1, 0));
        assert_eq!((count("replaced_key"), count("cosigner")), (0, 0));
    }

    #[test]
    fn a_newer_version_is_left_alone() {
        let mut file = Connection::open_in_memory().unwrap();
        prepare(&mut file, Path::new("x")).unwrap();
        file.pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        assert!(prepare(&mut file, Path::new("x")).is_err());
    }

    #[test]
    fn preparing_twice_changes_nothing() {
        let mut file = Connection::open_in_memory().unwrap();
        prepare(&mut file, Path::new("x")).unwrap();
        prepare(&mut file, Path::new("x")).unwrap();
    }
}
