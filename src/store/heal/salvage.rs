//! Rows of a damaged database, put into a new one.
//!
//! Each table is walked from its root; pages that nothing leads to any more are told by the shape of their
//! rows. Values are taken as they are: a row is kept when its columns have the types of the table, and a leaf
//! when it still has its hash. Nothing here judges what a row means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params_from_iter};

use super::pages::Pages;
use super::rows::{self, Row};
use crate::store::StoreError;

/// What was taken over, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Salvaged {
    /// Rows by table.
    pub(super) rows: BTreeMap<String, u64>,
    /// Pages that should hold rows and do not.
    pub(super) pages_lost: u64,
    /// Rows that do not read, or are not what their table holds.
    pub(super) rows_lost: u64,
}

/// A table of the new database.
struct Table {
    name: String,
    has_row_ids: bool,
    columns: Vec<Column>,
    insert: String,
    root: u32,
}

struct Column {
    kind: Kind,
    may_be_null: bool,
    is_row_id: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blob,
    Integer,
    Text,
}

/// The walk through one database.
struct Walk<'a> {
    pages: &'a Pages,
    seen: BTreeSet<u32>,
    salvaged: Salvaged,
}

/// Puts every row that can be read into the tables of a new database.
///
/// # Errors
/// When the new database cannot be written.
pub(super) fn fill(pages: &Pages, new: &Transaction<'_>) -> Result<Salvaged, StoreError> {
    let tables = tables(new)?;
    let old_roots: BTreeMap<String, u32> = schema(pages)
        .into_iter()
        .map(|(name, root, _)| (name, root))
        .collect();
    let mut walk = Walk {
        pages,
        seen: BTreeSet::new(),
        salvaged: Salvaged::default(),
    };
    // What matters most first, should anything stop the rest.
    for table in &tables {
        let root = old_roots.get(&table.name).copied();
        walk.tree(root.unwrap_or(table.root), table, new)?;
    }
    for (name, root) in &old_roots {
        if tables.iter().all(|table| table.name != *name) {
            walk.pass_over(*root);
        }
    }
    walk.orphans(&tables, new)?;
    Ok(walk.salvaged)
}

impl Walk<'_> {
    /// Keeps the rows of a tree, as far as pages lead from one to the next.
    fn tree(&mut self, root: u32, table: &Table, new: &Transaction<'_>) -> Result<(), StoreError> {
        let mut waiting = vec![root];
        while let Some(number) = waiting.pop() {
            if number == 0 || number > self.pages.count() || self.seen.contains(&number) {
                self.salvaged.pages_lost += 1;
                continue;
            }
            let Some(node) = rows::read(self.pages, number) else {
                self.salvaged.pages_lost += 1;
                continue;
            };
            // A page of another tree is left for the one that it belongs to.
            if !node.rows.is_empty() && !node.rows.iter().any(|row| table.fits(row)) {
                self.salvaged.pages_lost += 1;
                continue;
            }
            self.seen.insert(number);
            self.seen.extend(&node.overflow);
            self.salvaged.rows_lost += node.unreadable;
            waiting.extend(&node.children);
            self.keep(table, node.rows, new)?;
        }
        Ok(())
    }

    /// Counts the pages of an index as seen; it is made again from its table.
    fn pass_over(&mut self, root: u32) {
        let mut waiting = vec![root];
        while let Some(number) = waiting.pop() {
            if number > self.pages.count() || !self.seen.insert(number) {
                continue;
            }
            if let Some(node) = rows::read(self.pages, number) {
                self.seen.extend(&node.overflow);
                waiting.extend(&node.children);
            }
        }
    }

    /// Pages that nothing leads to, told by the shape of their rows.
    fn orphans(&mut self, tables: &[Table], new: &Transaction<'_>) -> Result<(), StoreError> {
        if self.salvaged.pages_lost == 0 {
            return Ok(());
        }
        for number in 2..=self.pages.count() {
            if self.seen.contains(&number) || self.pages.is_free(number) {
                continue;
            }
            let Some(node) = rows::read(self.pages, number) else {
                continue;
            };
            // Two tables have the same shape only where one is the copy of the other.
            for table in tables {
                if node.rows.iter().any(|row| table.fits(row)) {
                    self.keep(table, node.rows.clone(), new)?;
                }
            }
        }
        Ok(())
    }

    fn keep(
        &mut self,
        table: &Table,
        rows: Vec<Row>,
        new: &Transaction<'_>,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::Write {
            what: "salvaged rows",
            source,
        };
        let mut insert = new.prepare_cached(&table.insert).map_err(failed)?;
        for row in rows {
            let Some(values) = table.values(row) else {
                self.salvaged.rows_lost += 1;
                continue;
            };
            let kept = insert.execute(params_from_iter(values)).map_err(failed)?;
            let count = self.salvaged.rows.entry(table.name.clone()).or_default();
            *count += kept as u64;
        }
        Ok(())
    }
}

impl Table {
    fn fits(&self, row: &Row) -> bool {
        if row.id.is_some() != self.has_row_ids || row.values.len() != self.columns.len() {
            return false;
        }
        self.columns
            .iter()
            .zip(&row.values)
            .all(|(column, value)| match value {
                Value::Null => column.is_row_id || column.may_be_null,
                _ if column.is_row_id => false,
                Value::Integer(_) => column.kind == Kind::Integer,
                Value::Text(_) => column.kind == Kind::Text,
                Value::Blob(_) => column.kind == Kind::Blob,
                Value::Real(_) => false,
            })
    }

    /// The columns to insert; the row id stands where it is a column.
    fn values(&self, row: Row) -> Option<Vec<Value>> {
        if !self.fits(&row) {
            return None;
        }
        let id = row.id.map_or(Value::Null, Value::Integer);
        let columns = self.columns.iter().zip(row.values);
        Some(
            columns
                .map(|(column, value)| if column.is_row_id { id.clone() } else { value })
                .collect(),
        )
    }
}

impl Salvaged {
    fn count(&self, table: &str) -> u64 {
        self.rows.get(table).copied().unwrap_or(0)
    }
}

/// What a person is told.
impl fmt::Display for Salvaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kept {} leaves, {} submissions, {} window blocks, {} rows of samples; lost {} pages and {} rows",
            self.count("leaf"),
            self.count("outbox"),
            self.count("block"),
            self.count("raw") + self.count("tick"),
            self.pages_lost,
            self.rows_lost,
        )
    }
}

/// Whether every table of ours is in a damaged database as we make it, so that only its version is wrong.
///
/// # Errors
/// When the new database cannot be read.
pub(super) fn is_ours(pages: &Pages, new: &Connection) -> Result<bool, StoreError> {
    let mut ours = new
        .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        .map_err(unreadable)?;
    let ours = ours
        .query_map([], |row| row.get(0))
        .and_then(Iterator::collect::<Result<BTreeSet<String>, _>>)
        .map_err(unreadable)?;
    Ok(schema(pages)
        .into_iter()
        .filter_map(|(_, _, sql)| sql)
        .collect::<BTreeSet<_>>()
        == ours)
}

/// The rows of a table that can be read by way of its root.
pub(super) fn rows_of(pages: &Pages, table: &str) -> Vec<Row> {
    let root = schema(pages).into_iter().find(|(name, ..)| name == table);
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut waiting: Vec<u32> = root.map(|(_, root, _)| root).into_iter().collect();
    while let Some(number) = waiting.pop() {
        if number > pages.count() || !seen.insert(number) {
            continue;
        }
        if let Some(node) = rows::read(pages, number) {
            waiting.extend(&node.children);
            found.extend(node.rows);
        }
    }
    found
}

/// Name, root and text of each tree as the first page of the damaged database says.
fn schema(pages: &Pages) -> Vec<(String, u32, Option<String>)> {
    let (mut trees, mut seen, mut waiting) = (Vec::new(), BTreeSet::new(), vec![1]);
    while let Some(number) = waiting.pop() {
        if number > pages.count() || !seen.insert(number) {
            continue;
        }
        let Some(node) = rows::read(pages, number) else {
            continue;
        };
        waiting.extend(&node.children);
        for row in node.rows {
            if let [_, Value::Text(name), _, Value::Integer(root), sql] = row.values.as_slice()
                && let Ok(root) = u32::try_from(*root)
            {
                let sql = match sql {
                    Value::Text(sql) => Some(sql.clone()),
                    _ => None,
                };
                trees.push((name.clone(), root, sql));
            }
        }
    }
    trees
}

/// The tables of the new database. Their roots stand in for those that the damaged one does not tell.
fn tables(new: &Connection) -> Result<Vec<Table>, StoreError> {
    let mut select = new
        .prepare("SELECT name, rootpage, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .map_err(unreadable)?;
    let named = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .and_then(Iterator::collect::<Result<Vec<(String, u32, String)>, _>>)
        .map_err(unreadable)?;
    let mut tables = Vec::new();
    for (name, root, sql) in named {
        let has_row_ids = !sql.to_uppercase().contains("WITHOUT ROWID");
        let mut select = new
            .prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1) ORDER BY cid")
            .map_err(unreadable)?;
        let found = select
            .query_map([&name], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .and_then(Iterator::collect::<Result<Vec<(String, String, bool, i64)>, _>>)
            .map_err(unreadable)?;
        let keys = found.iter().filter(|(_, _, _, key)| *key > 0).count();
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        let insert = format!(
            "INSERT OR IGNORE INTO {name}({}) VALUES ({})",
            names.join(", "),
            vec!["?"; names.len()].join(", ")
        );
        let columns = found
            .iter()
            .map(|(_, kind, not_null, key)| Column {
                kind: match kind.as_str() {
                    "BLOB" => Kind::Blob,
                    "INTEGER" => Kind::Integer,
                    _ => Kind::Text,
                },
                may_be_null: !not_null && *key == 0,
                is_row_id: has_row_ids && keys == 1 && *key == 1 && kind == "INTEGER",
            })
            .collect();
        tables.push(Table {
            name,
            has_row_ids,
            columns,
            insert,
            root,
        });
    }
    Ok(tables)
}

fn unreadable(source: rusqlite::Error) -> StoreError {
    StoreError::Read {
        what: "the tables",
        source,
    }
}
