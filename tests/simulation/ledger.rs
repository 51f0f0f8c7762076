//! What the two databases hold, read beside their owners.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cms_attest::leaf::Leaf as SignedLeaf;
use cms_spec::Category;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::network::Place;

/// A leaf as the agent's store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The category and the end of the slot that it closes, as it is signed.
    pub(crate) slot: Option<(Category, i64)>,
    pub(crate) hash: Vec<u8>,
}

/// The agent's ledger and outbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agent {
    pub(crate) leaves: BTreeMap<Place, Leaf>,
    /// The state of each submission; what was answered last is sealed.
    pub(crate) outbox: BTreeMap<Place, String>,
    /// End of the slot of each submission.
    pub(crate) ends: BTreeMap<Place, i64>,
}

/// A submission as the dashboard has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) leaf: Vec<u8>,
    pub(crate) category: String,
}

impl Agent {
    pub(crate) fn read(store: &Path) -> Self {
        let database = open(&store.join("store.db"));
        let mut agent = Self::default();
        each(
            &database,
            "SELECT epoch, idx, record, hash FROM leaf",
            |row| {
                let record: SignedLeaf = row.get::<_, String>(2)?.parse().unwrap();
                let leaf = Leaf {
                    slot: record.category.map(|of| (of, record.to.as_millisecond())),
                    hash: row.get(3)?,
                };
                agent.leaves.insert(place(row)?, leaf);
                Ok(())
            },
        );
        let query = "SELECT epoch, idx, state, slot_end FROM outbox";
        each(&database, query, |row| {
            let place = place(row)?;
            agent.outbox.insert(place, row.get(2)?);
            agent.ends.insert(place, row.get(3)?);
            Ok(())
        });
        agent
    }

    /// The submissions in one of these states.
    pub(crate) fn in_state(&self, states: &[&str]) -> BTreeSet<Place> {
        let found = |(_, state): &(&Place, &String)| states.contains(&state.as_str());
        let places = self.outbox.iter().filter(found);
        places.map(|(place, _)| *place).collect()
    }
}

/// How many submissions of slots that have ended wait.
pub(crate) fn waiting(store: &Path, now: Timestamp) -> u64 {
    let query =
        "SELECT count(*) FROM outbox WHERE state IN ('pending', 'in_flight') AND slot_end <= ?1";
    let count: i64 = open(&store.join("store.db"))
        .query_row(query, [now.as_millisecond()], |row| row.get(0))
        .unwrap();
    count.unsigned_abs()
}

/// What the dashboard has taken. A submission that is there twice is an error of its own.
pub(crate) fn taken(store: &Path) -> Result<BTreeMap<Place, Taken>, String> {
    let database = open(&store.join("dashboard.sqlite"));
    let mut taken = BTreeMap::new();
    let mut twice = None;
    let query = "SELECT epoch, idx, leaf, category FROM submission";
    each(&database, query, |row| {
        let place = place(row)?;
        let one = Taken {
            leaf: row.get(2)?,
            category: row.get(3)?,
        };
        if taken.insert(place, one).is_some() {
            twice = Some(place);
        }
        Ok(())
    });
    match twice {
        None => Ok(taken),
        Some(place) => Err(format!("the dashboard holds {place:?} twice")),
    }
}

fn open(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).unwrap()
}

fn place(row: &rusqlite::Row<'_>) -> rusqlite::Result<Place> {
    Ok((
        row.get::<_, i64>(0)?.unsigned_abs(),
        row.get::<_, i64>(1)?.unsigned_abs(),
    ))
}

fn each(
    database: &Connection,
    query: &str,
    mut visit: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<()>,
) {
    let mut select = database.prepare(query).unwrap();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        visit(row).unwrap();
    }
}
