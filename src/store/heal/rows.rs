//! Rows out of the pages of a b-tree, as SQLite's file format describes them.
//!
//! Promises: any bytes are read, none make it panic or loop; what does not read is counted, and the rest of
//! the page is still read. Both kinds of tree hold rows: tables by row id, and tables `WITHOUT ROWID`, whose
//! inner pages hold some too.

use rusqlite::types::Value;

use super::pages::{FILE_HEADER, Pages};

/// Longest row that is read: a window block of 20,000 instances has 4 MB before compression.
const ROW_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most columns of a row; no table of ours has so many.
const COLUMNS_MAX: usize = 64;

/// What a page of a tree holds.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Pages below it.
    pub(super) children: Vec<u32>,
    /// Its rows.
    pub(super) rows: Vec<Row>,
    /// Pages that hold the ends of its long rows.
    pub(super) overflow: Vec<u32>,
    /// Cells that cannot be read.
    pub(super) unreadable: u64,
}

/// A row as it is stored: the columns, and the row id in a tree that has them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Nothing in a tree without row ids.
    pub(super) id: Option<i64>,
    /// The columns in the order of the table.
    pub(super) values: Vec<Value>,
}

/// The kinds of pages by their first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    IndexInner = 0x02,
    TableInner = 0x05,
    IndexLeaf = 0x0a,
    TableLeaf = 0x0d,
}

/// Reads a page of a tree. Nothing when it is none.
pub(super) fn read(pages: &Pages, number: u32) -> Option<Node> {
    let page = pages.page(number)?;
    let start = if number == 1 { FILE_HEADER } else { 0 };
    let kind = match page.get(start)? {
        0x02 => Kind::IndexInner,
        0x05 => Kind::TableInner,
        0x0a => Kind::IndexLeaf,
        0x0d => Kind::TableLeaf,
        _ => return None,
    };
    let is_inner = matches!(kind, Kind::IndexInner | Kind::TableInner);
    let cells = usize::from(short(&page, start + 3)?);
    let pointers = start + if is_inner { 12 } else { 8 };
    // A cell takes at least four bytes beside its pointer.
    if pointers + cells * 2 > page.len() {
        return None;
    }
    let mut node = Node::default();
    if is_inner {
        node.children.push(long(&page, start + 8)?);
    }
    for cell in 0..cells {
        let found = short(&page, pointers + cell * 2)
            .map(usize::from)
            .filter(|&at| at >= pointers + cells * 2);
        if found
            .and_then(|at| read_cell(pages, &page, at, kind, &mut node))
            .is_none()
        {
            node.unreadable += 1;
        }
    }
    Some(node)
}

fn read_cell(pages: &Pages, page: &[u8], at: usize, kind: Kind, node: &mut Node) -> Option<()> {
    let mut rest = page.get(at..)?;
    if matches!(kind, Kind::IndexInner | Kind::TableInner) {
        node.children.push(long(rest, 0)?);
        rest = rest.get(4..)?;
    }
    if kind == Kind::TableInner {
        return Some(());
    }
    let length = varint(&mut rest)?;
    let id = match kind {
        Kind::TableLeaf => Some(varint(&mut rest)?.cast_signed()),
        _ => None,
    };
    let bytes = payload(pages, rest, length, kind, &mut node.overflow)?;
    let values = record(&bytes)?;
    node.rows.push(Row { id, values });
    Some(())
}

/// The whole of a row, whose end may lie on pages of its own.
fn payload(
    pages: &Pages,
    here: &[u8],
    length: u64,
    kind: Kind,
    overflow: &mut Vec<u32>,
) -> Option<Vec<u8>> {
    if length > ROW_BYTES_MAX {
        return None;
    }
    let (length, usable) = (usize::try_from(length).ok()?, pages.usable());
    let most = match kind {
        Kind::TableLeaf => usable.checked_sub(35)?,
        _ => (usable.checked_sub(12)? * 64 / 255).checked_sub(23)?,
    };
    if length <= most {
        return here.get(..length).map(<[u8]>::to_vec);
    }
    let least = (usable.checked_sub(12)? * 32 / 255).checked_sub(23)?;
    let per_page = usable.checked_sub(4)?;
    let fitting = least + (length.checked_sub(least)?) % per_page;
    let local = if fitting <= most { fitting } else { least };
    let mut bytes = here.get(..local)?.to_vec();
    let mut next = long(here, local)?;
    // Each page brings at least one byte, so that a chain which bites its tail ends.
    while bytes.len() < length {
        let page = pages.page(next)?;
        overflow.push(next);
        next = long(&page, 0)?;
        let wanted = (length - bytes.len()).min(per_page);
        bytes.extend_from_slice(page.get(4..4 + wanted)?);
    }
    Some(bytes)
}

/// The columns of a row.
fn record(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut header = bytes;
    let header_length = usize::try_from(varint(&mut header)?).ok()?;
    let taken = bytes.len() - header.len();
    let mut types = header.get(..header_length.checked_sub(taken)?)?;
    let mut body = bytes.get(header_length..)?;
    let mut values = Vec::new();
    while !types.is_empty() {
        if values.len() == COLUMNS_MAX {
            return None;
        }
        let code = varint(&mut types)?;
        values.push(value(code, &mut body)?);
    }
    body.is_empty().then_some(values)
}

fn value(code: u64, body: &mut &[u8]) -> Option<Value> {
    let mut take = |length: usize| {
        let (taken, rest) = body.split_at_checked(length)?;
        *body = rest;
        Some(taken)
    };
    Some(match code {
        0 => Value::Null,
        1..=4 => Value::Integer(integer(take(usize::try_from(code).ok()?)?)),
        5 => Value::Integer(integer(take(6)?)),
        6 => Value::Integer(integer(take(8)?)),
        7 => Value::Real(f64::from_be_bytes(*take(8)?.first_chunk()?)),
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        10 | 11 => return None,
        even if even % 2 == 0 => {
            Value::Blob(take(usize::try_from((even - 12) / 2).ok()?)?.to_vec())
        }
        odd => {
            let bytes = take(usize::try_from((odd - 13) / 2).ok()?)?;
            Value::Text(String::from_utf8(bytes.to_vec()).ok()?)
        }
    })
}

/// A signed big-endian number of up to eight bytes.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    bytes
        .iter()
        .fold(if negative { -1 } else { 0 }, |number, &byte| {
            (number << 8) | i64::from(byte)
        })
}

/// A number of up to nine bytes, seven bits in each of the first eight.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for at in 0..9 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if at == 8 {
            return Some((number << 8) | u64::from(byte));
        }
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|&bytes| u16::from_be_bytes(bytes))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|&bytes| u32::from_be_bytes(bytes))
}
