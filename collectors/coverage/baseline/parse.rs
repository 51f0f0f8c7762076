//! The two forms of an inventory. Pure: bytes in, an inventory or the line that is wrong out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cms_spec::coverage::{Baseline, Documented, Kind};
use cms_spec::ids::SUBJECT_BYTES_MAX;
use jiff::civil::Date;
use serde::Deserialize;
use toml::Spanned;

/// More rows than the largest inventory that the agent's memory is planned for.
const ROWS_MAX: usize = 50_000;

/// The line that gives a CSV inventory its date.
const DATE_KEY: &str = "# submission_date:";

/// The columns that every CSV inventory has.
const COLUMNS: [&str; 3] = ["kind", "id", "name"];

/// The columns of things that were taken out of service.
const DATE_COLUMN: &str = "decommissioned";
const EVIDENCE_COLUMN: &str = "evidence";

/// How an inventory is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Toml,
}

/// What is wrong with an inventory, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Counted from 1.
    pub(super) line: u64,
    pub(super) message: String,
}

impl Wrong {
    pub(super) fn new(line: u64, message: impl Into<String>) -> Self {
        Self {
            line,
            message: message.into(),
        }
    }
}

impl Format {
    /// The form that a file's name tells.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "csv" => Some(Self::Csv),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

/// What an inventory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inventory {
    /// Without decommissions: their evidence has not been looked at.
    pub(super) baseline: Baseline,
    /// What was taken out of service, by kind and row.
    pub(super) records: BTreeMap<(Kind, usize), Record>,
}

/// That a thing was taken out of service, and the file that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) date: Date,
    pub(super) evidence: PathBuf,
}

/// Reads an inventory.
pub(super) fn parse(format: Format, bytes: &[u8]) -> Result<Inventory, Wrong> {
    let text = text_of(bytes)?;
    // Spreadsheets put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Csv => parse_csv(text),
        Format::Toml => parse_toml(text),
    }
}

/// The text of a file, or the line that is none.
fn text_of(bytes: &[u8]) -> Result<&str, Wrong> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Wrong::new(
            1,
            "it is UTF-16 and not UTF-8: save it as \"CSV UTF-8\"",
        ));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count();
        Wrong::new(
            count(line).saturating_add(1),
            "this line is not UTF-8: save the file as UTF-8 (in a spreadsheet: \"CSV UTF-8\")",
        )
    })
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

/// Gathers rows and refuses what cannot be in an inventory.
struct Rows {
    inventory: Inventory,
    seen: BTreeSet<(Kind, String)>,
}

/// One row as it is written.
struct Written<'a> {
    id: &'a str,
    name: &'a str,
    decommissioned: Option<Result<Date, String>>,
    evidence: &'a str,
}

impl Rows {
    fn new(submission_date: Date) -> Self {
        let baseline = Baseline {
            submission_date,
            instances: Vec::new(),
            storage: Vec::new(),
            model_endpoints: Vec::new(),
        };
        Self {
            inventory: Inventory {
                baseline,
                records: BTreeMap::new(),
            },
            seen: BTreeSet::new(),
        }
    }

    /// Takes a row, or says what is wrong with it.
    fn add(&mut self, kind: Kind, written: &Written<'_>) -> Result<(), String> {
        let id = usable("id", written.id)?;
        let name = if written.name.trim().is_empty() {
            id
        } else {
            usable("name", written.name)?
        };
        let record = written.record()?;
        if self.seen.len() >= ROWS_MAX {
            return Err(format!(
                "an inventory has at most {ROWS_MAX} rows: give each site its own agent and inventory"
            ));
        }
        if !self.seen.insert((kind, id.to_owned())) {
            return Err(format!("{id:?} is in the inventory already"));
        }
        let rows = match kind {
            Kind::Instance => &mut self.inventory.baseline.instances,
            Kind::ModelEndpoint => &mut self.inventory.baseline.model_endpoints,
            Kind::Storage => &mut self.inventory.baseline.storage,
        };
        if let Some(record) = record {
            self.inventory.records.insert((kind, rows.len()), record);
        }
        rows.push(Documented {
            id: id.to_owned(),
            name: name.to_owned(),
            decommissioned: None,
        });
        Ok(())
    }

    fn finish(self, line: u64) -> Result<Inventory, Wrong> {
        if self.seen.is_empty() {
            return Err(Wrong::new(line, "the inventory is empty"));
        }
        Ok(self.inventory)
    }
}

impl Written<'_> {
    /// A decommission is a date and what shows it, or neither.
    fn record(&self) -> Result<Option<Record>, String> {
        match (&self.decommissioned, self.evidence.trim()) {
            (None, "") => Ok(None),
            (None, _) => Err(format!(
                "there is {EVIDENCE_COLUMN} and no date: write since when it is gone into {DATE_COLUMN}"
            )),
            (Some(_), "") => Err(format!(
                "a decommission needs the file that shows it: name it in {EVIDENCE_COLUMN}"
            )),
            (Some(date), evidence) => {
                let evidence = PathBuf::from(usable(EVIDENCE_COLUMN, evidence)?);
                if evidence.file_name().is_none() {
                    return Err(format!(
                        "{EVIDENCE_COLUMN} {:?} names no file",
                        self.evidence
                    ));
                }
                let date = date.clone()?;
                Ok(Some(Record { date, evidence }))
            }
        }
    }
}

/// A date as people and spreadsheets write it; `01/02/2026` is a different day in different countries.
fn date(text: &str) -> Result<Date, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a date such as 2026-01-01"))
}

fn usable<'a>(what: &str, text: &'a str) -> Result<&'a str, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("the {what} is empty"));
    }
    if text.len() > SUBJECT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!(
            "the {what} must have at most {SUBJECT_BYTES_MAX} bytes and no control characters"
        ));
    }
    Ok(text)
}

fn parse_csv(text: &str) -> Result<Inventory, Wrong> {
    let mut rows = Rows::new(csv_date(text)?);
    // A spreadsheet that quotes every field makes a row of the comment; places in the text stay as they are.
    let text = &text.replacen(&format!("\"{DATE_KEY}"), &format!("#{DATE_KEY}"), 1);
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .delimiter(delimiter(text))
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|e| csv_error(&e))?.clone();
    let header_line = headers.position().map_or(1, |p| line_at(text, p));
    let columns = Columns::of(&headers).map_err(|message| Wrong::new(header_line, message))?;
    for record in reader.records() {
        let record = record.map_err(|e| csv_error(&e))?;
        if record.iter().all(str::is_empty) {
            continue;
        }
        let added = columns.row(&record, headers.len(), &mut rows);
        let line = || record.position().map_or(1, |p| line_at(text, p));
        added.map_err(|message| Wrong::new(line(), message))?;
    }
    rows.finish(header_line)
}

/// Where the columns that we know stand.
struct Columns {
    known: [usize; COLUMNS.len()],
    decommissioned: Option<usize>,
    evidence: Option<usize>,
}

impl Columns {
    fn of(headers: &csv::StringRecord) -> Result<Self, String> {
        let find = |name: &str| {
            let mut places = headers
                .iter()
                .enumerate()
                .filter(|(_, h)| h.eq_ignore_ascii_case(name));
            let found = places.next().map(|(at, _)| at);
            match places.next() {
                Some(_) => Err(format!("there are two columns {name:?}")),
                None => Ok(found),
            }
        };
        let needed = |name: &str| {
            find(name)?.ok_or_else(|| {
                format!(
                    "there is no column {name:?}: the header is {}",
                    COLUMNS.join(",")
                )
            })
        };
        for header in headers {
            let word = header.to_ascii_lowercase();
            // A slip in one of these would leave a record out without a word.
            for (name, beginning) in [(DATE_COLUMN, "decom"), (EVIDENCE_COLUMN, "evid")] {
                if word.starts_with(beginning) && word != name {
                    return Err(format!(
                        "the column {header:?} is not known: is it {name:?}?"
                    ));
                }
            }
        }
        let [kind, id, name] = COLUMNS;
        Ok(Self {
            known: [needed(kind)?, needed(id)?, needed(name)?],
            decommissioned: find(DATE_COLUMN)?,
            evidence: find(EVIDENCE_COLUMN)?,
        })
    }

    fn row(
        &self,
        record: &csv::StringRecord,
        columns: usize,
        rows: &mut Rows,
    ) -> Result<(), String> {
        if record.iter().skip(columns).any(|field| !field.is_empty()) {
            return Err(format!(
                "it has more fields than the header has columns ({columns}): put a text with a comma in it into \
                 double quotes"
            ));
        }
        let field = |at: usize| record.get(at).unwrap_or_default();
        let optional = |at: Option<usize>| at.map_or("", field);
        let [kind, id, name] = self.known.map(field);
        let since = optional(self.decommissioned);
        let written = Written {
            id,
            name,
            decommissioned: (!since.is_empty()).then(|| date(since)),
            evidence: optional(self.evidence),
        };
        rows.add(csv_kind(kind)?, &written)
    }
}

/// What separates the columns of the header: spreadsheets of half the world write semicolons.
fn delimiter(text: &str) -> u8 {
    let is_header = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let header = text.lines().find(is_header).unwrap_or_default();
    [b',', b';', b'\t']
        .into_iter()
        .find(|separator| header.contains(char::from(*separator)))
        .unwrap_or(b',')
}

fn csv_kind(word: &str) -> Result<Kind, String> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind.word() == word)
        .ok_or_else(|| format!("{word:?} is not a kind: it is instance, storage or model_endpoint"))
}

/// Finds `# submission_date: 2026-01-01`, also as a spreadsheet writes it back: quoted or with
/// commas behind.
fn csv_date(text: &str) -> Result<Date, Wrong> {
    for (at, line) in text.lines().enumerate() {
        let line_number = u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1);
        let line = line
            .trim_end_matches([',', ';', ' ', '\t', '\r'])
            .trim_matches('"');
        if let Some(date) = line.strip_prefix(DATE_KEY) {
            return self::date(date.trim()).map_err(|message| Wrong::new(line_number, message));
        }
        if !line.starts_with('#') && !line.is_empty() {
            break;
        }
    }
    Err(Wrong::new(
        1,
        format!("the first line must say when it was handed in: {DATE_KEY} 2026-01-01"),
    ))
}

/// The line of a row: the reader's position is where the row before ended, with comments and empty
/// lines between.
fn line_at(text: &str, position: &csv::Position) -> u64 {
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let (before, rest) = text.split_at_checked(start).unwrap_or((text, ""));
    let is_skipped = |line: &&str| line.starts_with('#') || line.trim().is_empty();
    let lines = before.matches('\n').count() + rest.lines().take_while(is_skipped).count();
    u64::try_from(lines).unwrap_or(u64::MAX).saturating_add(1)
}

fn csv_error(error: &csv::Error) -> Wrong {
    let line = error.position().map_or(1, csv::Position::line);
    Wrong::new(line, error.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlInventory {
    submission_date: Spanned<toml::value::Datetime>,
    #[serde(default)]
    instance: Vec<Spanned<Row>>,
    #[serde(default)]
    storage: Vec<Spanned<Row>>,
    #[serde(default)]
    model_endpoint: Vec<Spanned<Row>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    #[serde(default)]
    name: String,
    decommissioned: Option<toml::value::Datetime>,
    #[serde(default)]
    evidence: String,
}

fn parse_toml(text: &str) -> Result<Inventory, Wrong> {
    let line_of = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        u64::try_from(before.matches('\n').count())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    };
    let document: TomlInventory = toml::from_str(text)
        .map_err(|e| Wrong::new(e.span().map_or(1, |s| line_of(s.start)), e.message()))?;
    let date = document.submission_date;
    let date_line = line_of(date.span().start);
    let date = date.into_inner().to_string().parse().map_err(|_| {
        Wrong::new(
            date_line,
            "submission_date is not a date such as 2026-01-01",
        )
    })?;
    let mut rows = Rows::new(date);
    let kinds = [
        (Kind::Instance, document.instance),
        (Kind::Storage, document.storage),
        (Kind::ModelEndpoint, document.model_endpoint),
    ];
    for (kind, tables) in kinds {
        for table in tables {
            let start = table.span().start;
            let row = table.into_inner();
            let written = Written {
                id: &row.id,
                name: &row.name,
                decommissioned: row
                    .decommissioned
                    .map(|since| self::date(&since.to_string())),
                evidence: &row.evidence,
            };
            let added = rows.add(kind, &written);
            added.map_err(|message| Wrong::new(line_of(start), message))?;
        }
    }
    rows.finish(1)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
