//! What of each bucket has been told, so that only its growth is told when it is read again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Account, Amount, Row};
use crate::models::feed::Out;
use crate::models::request::{Route, Sum, Tags, Word};

/// How long a bucket is read again after its end. Providers say minutes; their batches come later.
const LATE: SignedDuration = SignedDuration::from_hours(6);

/// How far back is read after we were away: the window of the payload.
const BACK: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Most accounts of hours that are remembered: seven hours of a thousand accounts.
pub(super) const CELLS_MAX: usize = 8_192;

/// The layout of a checkpoint.
const VERSION: u32 = 1;

/// Seconds of a bucket.
const HOUR_S: i64 = 3_600;

/// What has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Buckets {
    /// The first look; what was used before is not told.
    opened: Timestamp,
    /// When the last whole reading began.
    read: Option<Timestamp>,
    cells: BTreeMap<(Timestamp, Account), Amount>,
    dropped: u64,
    told: Amount,
}

/// An account of an hour: begin, model, key, path, requests, input, output.
type Cell = (
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
);

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    server: u64,
    opened: Timestamp,
    read: Option<Timestamp>,
    cells: Vec<Cell>,
}

impl Amount {
    /// What this is more than before; what fell has not grown.
    fn beyond(self, before: Self) -> Self {
        let more = |now: Option<u64>, before: Option<u64>| {
            now.map(|now| now.saturating_sub(before.unwrap_or(0)))
        };
        Self {
            requests: more(self.requests, before.requests),
            input: more(self.input, before.input),
            output: more(self.output, before.output),
        }
    }

    fn largest(self, other: Self) -> Self {
        Self {
            requests: self.requests.max(other.requests),
            input: self.input.max(other.input),
            output: self.output.max(other.output),
        }
    }

    fn plus(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        Self {
            requests: sum(self.requests, other.requests),
            input: sum(self.input, other.input),
            output: sum(self.output, other.output),
        }
    }

    fn is_nothing(self) -> bool {
        let all = [self.requests, self.input, self.output];
        all.iter().all(|amount| amount.unwrap_or(0) == 0)
    }
}

impl Buckets {
    pub(super) fn begin(at: Timestamp) -> Self {
        Self {
            opened: at,
            read: None,
            cells: BTreeMap::new(),
            dropped: 0,
            told: Amount::default(),
        }
    }

    /// From which hour on is read.
    pub(super) fn from(&self, at: Timestamp) -> Timestamp {
        let late = self.read.unwrap_or(at).min(at).saturating_sub(LATE);
        let back = at.saturating_sub(BACK);
        let from = late.unwrap_or(at).max(back.unwrap_or(at)).max(self.opened);
        hour(from)
    }

    /// Tells what has grown. In the first reading it is only remembered.
    pub(super) fn take(&mut self, rows: Vec<Row>, at: Timestamp, out: &mut dyn Out) {
        // An answer may split an account by what we do not ask for.
        let mut sums: BTreeMap<(Timestamp, Account), (Timestamp, Amount)> = BTreeMap::new();
        for row in rows {
            if row.end > self.opened {
                let sum = sums.entry((row.begin, row.account)).or_default();
                *sum = (row.end, sum.1.plus(row.amount));
            }
        }
        for ((begin, account), (end, amount)) in sums {
            let cell = (begin, account);
            let before = self.cells.get(&cell).copied();
            if before.is_none() && self.cells.len() >= CELLS_MAX {
                self.dropped += 1;
                continue;
            }
            let before = before.unwrap_or_default();
            self.cells.insert(cell.clone(), amount.largest(before));
            let grown = amount.beyond(before);
            if self.read.is_none() || grown.is_nothing() {
                continue;
            }
            self.told = self.told.plus(grown);
            out.sum(Sum {
                at: Some(end.min(at)),
                model: cell.1.model,
                requests: grown.requests,
                input_tokens: grown.input,
                output_tokens: grown.output,
                tags: Tags::default(),
                route: Route {
                    path: cell.1.path,
                    key: cell.1.key,
                    adapter: None,
                },
            });
        }
    }

    /// A reading is whole: what will not be read again is forgotten.
    pub(super) fn close(&mut self, begun: Timestamp) {
        self.read = Some(begun);
        let from = self.from(begun);
        self.cells.retain(|(begin, _), _| *begin >= from);
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn details(&self) -> String {
        let tokens = self.told.input.unwrap_or(0) + self.told.output.unwrap_or(0);
        let requests = self.told.requests.unwrap_or(0);
        let when = match self.read {
            Some(read) => format!("read whole at {read}"),
            None => "not yet read whole".to_owned(),
        };
        format!("{requests} requests and {tokens} tokens told, {when}")
    }

    pub(super) fn write(&self, server: u64) -> Option<String> {
        let word = |word: &Option<Word>| word.as_ref().map(|word| word.as_str().to_owned());
        let cell = |((begin, account), amount): (&(Timestamp, Account), &Amount)| {
            (
                begin.as_second(),
                word(&account.model),
                word(&account.key),
                word(&account.path),
                amount.requests,
                amount.input,
                amount.output,
            )
        };
        let text = Text {
            version: VERSION,
            server,
            opened: self.opened,
            read: self.read,
            cells: self.cells.iter().map(cell).collect(),
        };
        serde_json::to_string(&text).ok()
    }

    pub(super) fn read(text: &str, server: u64) -> Option<Self> {
        let text: Text = serde_json::from_str(text).ok()?;
        if text.version != VERSION || text.server != server || text.cells.len() > CELLS_MAX {
            return None;
        }
        let word = |text: Option<String>| Word::new(text?.as_bytes());
        let mut cells = BTreeMap::new();
        for (begin, model, key, path, requests, input, output) in text.cells {
            let account = Account {
                model: word(model),
                key: word(key),
                path: word(path),
            };
            let amount = Amount {
                requests,
                input,
                output,
            };
            cells.insert((Timestamp::from_second(begin).ok()?, account), amount);
        }
        Some(Self {
            opened: text.opened,
            read: text.read,
            cells,
            dropped: 0,
            told: Amount::default(),
        })
    }
}

/// The hour that a moment is in.
fn hour(at: Timestamp) -> Timestamp {
    let second = at.as_second();
    Timestamp::from_second(second - second.rem_euclid(HOUR_S)).unwrap_or(at)
}
