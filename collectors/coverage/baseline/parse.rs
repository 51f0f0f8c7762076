//! The two forms of an inventory. Pure: text in, an inventory or the line that is wrong out.

use std::collections::BTreeSet;
use std::path::Path;

use cms_spec::coverage::{Baseline, Documented};
use cms_spec::ids::SUBJECT_BYTES_MAX;
use jiff::civil::Date;
use serde::Deserialize;
use toml::Spanned;

/// More rows than the largest inventory that the agent's memory is planned for.
const ROWS_MAX: usize = 50_000;

/// The line that gives a CSV inventory its date.
const DATE_KEY: &str = "# submission_date:";

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
    fn new(line: u64, message: impl Into<String>) -> Self {
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

/// Reads an inventory.
pub(super) fn parse(format: Format, text: &str) -> Result<Baseline, Wrong> {
    // Spreadsheets put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Csv => parse_csv(text),
        Format::Toml => parse_toml(text),
    }
}

/// Gathers rows and refuses what cannot be in an inventory.
struct Inventory {
    baseline: Baseline,
    seen: BTreeSet<(Kind, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Instance,
    ModelEndpoint,
    Storage,
}

impl Inventory {
    fn new(submission_date: Date) -> Self {
        let baseline = Baseline {
            submission_date,
            instances: Vec::new(),
            storage: Vec::new(),
            model_endpoints: Vec::new(),
        };
        Self {
            baseline,
            seen: BTreeSet::new(),
        }
    }

    /// Takes a row, or says what is wrong with it.
    fn add(&mut self, kind: Kind, id: &str, name: &str) -> Result<(), String> {
        let id = usable("id", id)?;
        let name = if name.trim().is_empty() {
            id
        } else {
            usable("name", name)?
        };
        if self.seen.len() >= ROWS_MAX {
            return Err(format!("an inventory has at most {ROWS_MAX} rows"));
        }
        if !self.seen.insert((kind, id.to_owned())) {
            return Err(format!("{id:?} is in the inventory already"));
        }
        let rows = match kind {
            Kind::Instance => &mut self.baseline.instances,
            Kind::ModelEndpoint => &mut self.baseline.model_endpoints,
            Kind::Storage => &mut self.baseline.storage,
        };
        rows.push(Documented {
            id: id.to_owned(),
            name: name.to_owned(),
        });
        Ok(())
    }

    fn finish(self, line: u64) -> Result<Baseline, Wrong> {
        if self.seen.is_empty() {
            return Err(Wrong::new(line, "the inventory is empty"));
        }
        Ok(self.baseline)
    }
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

fn parse_csv(text: &str) -> Result<Baseline, Wrong> {
    let mut inventory = Inventory::new(csv_date(text)?);
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|e| csv_error(&e))?.clone();
    let header_line = headers.position().map_or(1, |p| line_at(text, p));
    let column = |name: &str| {
        headers
            .iter()
            .position(|h| h.eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let hint = if headers.iter().any(|h| h.contains(';')) {
                    "; separate columns with commas and not with semicolons"
                } else {
                    ""
                };
                Wrong::new(
                    header_line,
                    format!("there is no column {name:?}: the header is kind,id,name{hint}"),
                )
            })
    };
    let (kind_at, id_at, name_at) = (column("kind")?, column("id")?, column("name")?);
    for record in reader.records() {
        let record = record.map_err(|e| csv_error(&e))?;
        let field = |at: usize| record.get(at).unwrap_or_default();
        if record.iter().all(str::is_empty) {
            continue;
        }
        let added = csv_kind(field(kind_at))
            .and_then(|kind| inventory.add(kind, field(id_at), field(name_at)));
        let line = || record.position().map_or(1, |p| line_at(text, p));
        added.map_err(|message| Wrong::new(line(), message))?;
    }
    inventory.finish(header_line)
}

fn csv_kind(word: &str) -> Result<Kind, String> {
    match word {
        "instance" => Ok(Kind::Instance),
        "model_endpoint" => Ok(Kind::ModelEndpoint),
        "storage" => Ok(Kind::Storage),
        _ => Err(format!(
            "{word:?} is not a kind: it is instance, storage or model_endpoint"
        )),
    }
}

/// Finds `# submission_date: 2026-01-01`, also as a spreadsheet writes it back: quoted or with
/// commas behind.
fn csv_date(text: &str) -> Result<Date, Wrong> {
    for (at, line) in text.lines().enumerate() {
        let line_number = u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1);
        let line = line
            .trim_end_matches([',', ' ', '\t', '\r'])
            .trim_matches('"');
        if let Some(date) = line.strip_prefix(DATE_KEY) {
            return date.trim().parse().map_err(|_| {
                Wrong::new(
                    line_number,
                    format!("{:?} is not a date such as 2026-01-01", date.trim()),
                )
            });
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
}

fn parse_toml(text: &str) -> Result<Baseline, Wrong> {
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
    let date: Date = date.into_inner().to_string().parse().map_err(|_| {
        Wrong::new(
            date_line,
            "submission_date is not a date such as 2026-01-01",
        )
    })?;
    let mut inventory = Inventory::new(date);
    let kinds = [
        (Kind::Instance, document.instance),
        (Kind::Storage, document.storage),
        (Kind::ModelEndpoint, document.model_endpoint),
    ];
    for (kind, rows) in kinds {
        for row in rows {
            let start = row.span().start;
            let row = row.into_inner();
            let added = inventory.add(kind, &row.id, &row.name);
            added.map_err(|message| Wrong::new(line_of(start), message))?;
        }
    }
    inventory.finish(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATE: &str = "# submission_date: 2026-01-01\n";

    fn csv(rows: &str) -> Result<Baseline, Wrong> {
        parse(Format::Csv, &format!("{DATE}{rows}"))
    }

    #[test]
    fn lines_are_those_of_an_editor() {
        let wrong = csv("kind,id,name\n\n# a remark\ninstance,i,x\n\n\nbucket,b,y\n").unwrap_err();
        assert_eq!(wrong.line, 8);
        let wrong = csv("# a remark\nkind,id\ninstance,i\n").unwrap_err();
        assert_eq!((wrong.line, wrong.message.contains("\"name\"")), (3, true));
    }

    #[test]
    fn the_same_id_may_name_things_of_two_kinds() {
        let baseline = csv("kind,id,name\ninstance,a,x\nstorage,a,y\n").unwrap();
        assert_eq!((baseline.instances.len(), baseline.storage.len()), (1, 1));
    }

    #[test]
    fn nothing_documented_is_refused() {
        assert!(csv("kind,id,name\n").unwrap_err().message.contains("empty"));
        assert!(parse(Format::Toml, "submission_date = 2026-01-01\n").is_err());
    }

    #[test]
    fn rows_are_bounded() {
        let rows: String = (0..=ROWS_MAX)
            .map(|i| format!("instance,{i},x\n"))
            .collect();
        let wrong = csv(&format!("kind,id,name\n{rows}")).unwrap_err();
        assert!(wrong.message.contains("at most"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z#,;:\"\n\r =\\[\\]0-9-]{0,200}") {
            parse(Format::Csv, &format!("{DATE}{text}")).ok();
            parse(Format::Toml, &text).ok();
        }
    }
}
