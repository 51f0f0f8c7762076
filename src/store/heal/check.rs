//! Whether an opened database is what it should be: the checks at every start, and what is put right in place.
//!
//! They find what SQLite does not: a flipped bit inside a row. All of the ledger is looked at; window blocks,
//! samples and bodies are looked at where they are used.

use std::collections::BTreeMap;

use cms_attest::Digest;
use cms_attest::leaf::{Leaf, LeafKind};
use cms_attest::merkle::Frontier;
use cms_spec::Category;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::history;
use crate::store::StoreError;
use crate::store::ledger::to_sql;
use crate::store::place::Mark;
use crate::store::schema;

/// Every state of the outbox. A row with another one is sent again, and counted once.
const STATES: [&str; 6] = [
    "pending",
    "in_flight",
    "accepted",
    "receipted",
    "superseded",
    "rejected",
];

/// What is wrong with a database, in words; nothing when all is well.
pub(super) fn trouble(
    connection: &Connection,
    mark: Option<Mark>,
) -> Result<Option<String>, StoreError> {
    if let Some(missing) = missing_parts(connection)? {
        return Ok(Some(missing));
    }
    let sizes = match ledgers(connection)? {
        Ok(sizes) => sizes,
        Err(wrong) => return Ok(Some(wrong)),
    };
    if let Some(wrong) = receipts(connection)? {
        return Ok(Some(wrong));
    }
    let is_in_doubt = history::doubt(connection)?.is_some();
    let newest = sizes.last_key_value().map_or(0, |(epoch, _)| *epoch);
    if let Some(mark) = mark.filter(|mark| !is_in_doubt && mark.epoch >= newest) {
        let size = sizes.get(&mark.epoch).copied().unwrap_or(0);
        if size < mark.size {
            return Ok(Some(format!(
                "the ledger ends after {size} leaves of epoch {}, and {} had been written",
                mark.epoch, mark.size
            )));
        }
    }
    outbox(connection)
}

/// Tables, columns and indices that a new database would have.
fn missing_parts(connection: &Connection) -> Result<Option<String>, StoreError> {
    let fresh = Connection::open_in_memory()
        .and_then(|fresh| schema::make(&fresh).map(|()| fresh))
        .map_err(read("the tables"))?;
    let found = parts(connection)?;
    Ok(parts(&fresh)?
        .into_iter()
        .find(|part| !found.contains(part))
        .map(|(kind, name)| format!("{kind} {name} is missing")))
}

fn parts(connection: &Connection) -> Result<Vec<(String, String)>, StoreError> {
    let query = "SELECT type, name FROM sqlite_schema
        UNION ALL SELECT 'column', s.name || '.' || c.name
        FROM sqlite_schema AS s, pragma_table_info(s.name) AS c WHERE s.type = 'table'";
    let mut select = connection.prepare(query).map_err(read("the tables"))?;
    select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(read("the tables"))
}

/// Looks at every leaf. Answers how many each epoch has, or what is wrong.
fn ledgers(connection: &Connection) -> Result<Result<BTreeMap<u64, u64>, String>, StoreError> {
    let newest: Option<i64> = connection
        .query_row("SELECT max(epoch) FROM epoch", [], |row| row.get(0))
        .map_err(read("the ledgers"))?;
    let mut select = connection
        .prepare("SELECT epoch, idx, kind, category, slot_start, slot_end, record, hash FROM leaf ORDER BY epoch, idx")
        .map_err(read("leaves"))?;
    let mut rows = select.query([]).map_err(read("leaves"))?;
    let mut sizes = BTreeMap::new();
    let mut tree: Option<(i64, Frontier)> = None;
    while let Some(row) = rows.next().map_err(read("leaves"))? {
        let (epoch, index): (i64, i64) = (column(row, 0)?, column(row, 1)?);
        let values = (2..8).map(|at| row.get(at)).collect::<Result<Vec<_>, _>>();
        let values = values.map_err(read("leaves"))?;
        let Some(hash) = leaf_of(epoch, index, &values) else {
            return Ok(Err(format!("leaf {index} of epoch {epoch} is damaged")));
        };
        let (_, frontier) = match tree.take() {
            Some((of, frontier)) if of == epoch => tree.insert((epoch, frontier)),
            _ => tree.insert((epoch, Frontier::default())),
        };
        // An earlier damage may have left a hole in an older one; only the newest is still added to.
        if Some(epoch) == newest && frontier.size() != index.unsigned_abs() {
            return Ok(Err(format!(
                "leaf {} of epoch {epoch} is missing",
                frontier.size()
            )));
        }
        let is_whole = frontier.size() == index.unsigned_abs();
        if is_whole {
            frontier.append(hash);
            if let Some(root) = receipted_root(connection, epoch, frontier.size())?
                && root != *frontier.root().as_bytes()
            {
                return Ok(Err(format!(
                    "the leaves of epoch {epoch} do not lead to the head that was receipted at size {}",
                    frontier.size()
                )));
            }
        }
        sizes.insert(epoch.unsigned_abs(), index.unsigned_abs() + 1);
    }
    Ok(Ok(sizes))
}

/// The hash of a leaf whose columns say what its record says. The columns are kind, category, start and end of
/// the slot, record and hash.
pub(super) fn leaf_of(epoch: i64, index: i64, values: &[Value]) -> Option<Digest> {
    let [
        Value::Text(kind),
        category,
        start,
        end,
        Value::Text(record),
        Value::Blob(hash),
    ] = values
    else {
        return None;
    };
    let leaf: Leaf = record.parse().ok()?;
    let slot = leaf.category.map(|_| (leaf.from, leaf.to));
    let is_same = |value: &Value, time: Option<jiff::Timestamp>| match (value, time) {
        (Value::Integer(kept), Some(time)) => *kept == time.as_millisecond(),
        (Value::Null, None) => true,
        _ => false,
    };
    // A slot that a clock ahead had closed has been given back: its leaf names no category any more.
    let names_it = match category {
        Value::Null => true,
        Value::Text(kept) => leaf.category.map(Category::path) == Some(kept.as_str()),
        _ => false,
    };
    let holds = to_sql(leaf.origin.epoch()) == epoch
        && to_sql(leaf.index) == index
        && leaf.kind.word() == kind
        && names_it
        && is_same(start, slot.map(|(from, _)| from))
        && is_same(end, slot.map(|(_, to)| to));
    let counted = Leaf::hash_of(record);
    (holds && counted.as_bytes().as_slice() == hash.as_slice()).then_some(counted)
}

fn receipted_root(
    connection: &Connection,
    epoch: i64,
    size: u64,
) -> Result<Option<[u8; 32]>, StoreError> {
    connection
        .prepare_cached("SELECT root FROM receipt WHERE epoch = ?1 AND size = ?2")
        .and_then(|mut select| {
            select
                .query_row(params![epoch, to_sql(size)], |row| row.get(0))
                .optional()
        })
        .map_err(read("receipts"))
}

/// A receipt says twice what it covers: in its columns, and in the note that was signed.
fn receipts(connection: &Connection) -> Result<Option<String>, StoreError> {
    let mut select = connection
        .prepare("SELECT epoch, size, root, note FROM receipt")
        .map_err(read("receipts"))?;
    let mut rows = select.query([]).map_err(read("receipts"))?;
    while let Some(row) = rows.next().map_err(read("receipts"))? {
        let (epoch, size): (i64, i64) = (column(row, 0)?, column(row, 1)?);
        let (root, note): (Vec<u8>, String) = (column(row, 2)?, column(row, 3)?);
        if !note_says(&note, epoch, size, &root) {
            return Ok(Some(format!(
                "the receipt over {size} leaves of epoch {epoch} is damaged"
            )));
        }
    }
    Ok(None)
}

/// Whether a checkpoint says this head of this epoch.
pub(super) fn note_says(note: &str, epoch: i64, size: i64, root: &[u8]) -> bool {
    let mut lines = note.lines();
    let [Some(origin), Some(said), Some(hash)] = [lines.next(), lines.next(), lines.next()] else {
        return false;
    };
    let root: Option<[u8; 32]> = root.try_into().ok();
    origin.rsplit('/').next() == Some(epoch.to_string().as_str())
        && said == size.to_string()
        && root.is_some_and(|root| Digest::from_bytes(root).to_string() == hash)
}

/// Puts unknown states right, and looks whether a submission has lost its place in the outbox.
fn outbox(connection: &Connection) -> Result<Option<String>, StoreError> {
    let known = STATES.map(|state| format!("'{state}'")).join(", ");
    let unknown = connection
        .execute(
            &format!("UPDATE outbox SET state = 'pending' WHERE state NOT IN ({known})"),
            [],
        )
        .map_err(|source| StoreError::Write {
            what: "unknown states",
            source,
        })?;
    if unknown > 0 {
        tracing::error!(
            submissions = unknown,
            "the store held unknown states; these submissions are sent again and counted once"
        );
    }
    let query = format!(
        "SELECT epoch, idx FROM leaf WHERE kind = '{}' AND NOT EXISTS
         (SELECT 1 FROM outbox WHERE outbox.epoch = leaf.epoch AND outbox.idx = leaf.idx) LIMIT 1",
        LeafKind::Submission
    );
    let lost: Option<(i64, i64)> = connection
        .query_row(&query, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(read("the outbox"))?;
    Ok(lost.map(|(epoch, index)| {
        format!("submission {index} of epoch {epoch} is missing from the outbox")
    }))
}

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, at: usize) -> Result<T, StoreError> {
    row.get(at).map_err(read("a row"))
}

fn read(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Read { what, source }
}
