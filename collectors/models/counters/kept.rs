//! The last counters as text, for a checkpoint.

use std::collections::BTreeMap;

use cms_spec::payload::v1::Complexity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::book::Book;
use super::dialect::Count;
use super::page::{Counted, Group, SERIES_MAX, Series};
use crate::models::request::{Tags, Word};

/// The layout of the text.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    /// Of the address, so that the counters of another server are not taken for these.
    server: u64,
    at: Timestamp,
    started_ms: Option<i64>,
    groups: Vec<(Option<String>, Option<String>, Option<Complexity>)>,
    /// Count and rank, hash, group, value, when made.
    series: Vec<(char, u8, u64, usize, u64, Option<i64>)>,
}

/// The counters of a server as text.
pub(super) fn write(book: &Book, server: u64) -> Option<String> {
    let (at, kept) = book.lasting()?;
    let mut numbers: BTreeMap<&Group, usize> = BTreeMap::new();
    for counted in kept.values() {
        let next = numbers.len();
        numbers.entry(&counted.group).or_insert(next);
    }
    let mut groups: Vec<(&Group, usize)> = numbers.iter().map(|(g, n)| (*g, *n)).collect();
    groups.sort_unstable_by_key(|(_, number)| *number);
    let word = |word: &Option<Word>| word.as_ref().map(|word| word.as_str().to_owned());
    let letter = |count| Count::ALL.iter().find(|(of, _)| *of == count);
    let text = Text {
        version: VERSION,
        server,
        at,
        started_ms: book.started_ms,
        groups: groups
            .iter()
            .map(|(group, _)| {
                let tags = &group.tags;
                (word(&group.model), word(&tags.task_type), tags.complexity)
            })
            .collect(),
        series: kept
            .iter()
            .filter_map(|(series, counted)| {
                Some((
                    letter(series.count)?.1,
                    series.rank,
                    series.hash,
                    *numbers.get(&counted.group)?,
                    counted.value,
                    counted.created_ms,
                ))
            })
            .collect(),
    };
    serde_json::to_string(&text).ok()
}

/// The counters of this server out of a text; nothing for any other text.
pub(super) fn read(text: &str, server: u64) -> Option<Book> {
    let text: Text = serde_json::from_str(text).ok()?;
    if text.version != VERSION || text.server != server || text.series.len() > SERIES_MAX {
        return None;
    }
    let word = |text: &Option<String>| Word::new(text.as_ref()?.as_bytes());
    let groups: Vec<Group> = text
        .groups
        .iter()
        .map(|(model, task_type, complexity)| Group {
            model: word(model),
            tags: Tags {
                task_type: word(task_type),
                complexity: *complexity,
            },
        })
        .collect();
    let mut kept = BTreeMap::new();
    for (letter, rank, hash, group, value, created_ms) in text.series {
        let (count, _) = Count::ALL.iter().find(|(_, of)| *of == letter)?;
        let series = Series {
            count: *count,
            rank,
            hash,
        };
        let counted = Counted {
            group: groups.get(group)?.clone(),
            value,
            created_ms,
        };
        kept.insert(series, counted);
    }
    Some(Book::resumed(text.at, text.started_ms, kept))
}
