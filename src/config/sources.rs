//! The tables of the collectors: found by the collectors' own list, read by the collectors' own code.
//!
//! Promises: a table that is not there is a source that is off; `enabled = false` in a table switches it and
//! the tables below it off, after they were checked all the same. Refuses: knowing any key but `enabled`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use cms_collectors::{Registration, Settings};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::amount::Time;
use super::checks::Checker;
use super::mask;
use super::report::{Problem, Problems};
use super::resolved::{Origin, Section, Setting};
use super::tree::Node;
use super::{read, tree};

/// The key that every table of a source has.
const ENABLED: &str = "enabled";

/// One source that is switched on.
#[derive(Clone, Debug)]
pub struct Source {
    /// The collector.
    pub registration: &'static Registration,
    /// What it is to read, checked.
    pub settings: Arc<dyn Settings>,
    /// File and line of its table.
    pub origin: String,
}

/// The tables of sources, taken out of the configuration.
#[derive(Debug, Default)]
pub(super) struct Found<'i> {
    tables: Vec<Table<'i>>,
}

#[derive(Debug)]
struct Table<'i> {
    registration: &'static Registration,
    node: Node<'i>,
    enabled: Option<(bool, Range<usize>)>,
    /// Where a table above it was switched off.
    off_above: Option<Range<usize>>,
    besides: Vec<&'static str>,
}

/// The first keys of all tables of sources.
pub(super) fn top_keys(collectors: &'static [Registration]) -> Vec<&'static str> {
    let mut keys: Vec<_> = collectors.iter().map(|r| first(r.table)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Takes every table of a source out of the configuration, the innermost first.
pub(super) fn take<'i>(
    root: &mut DeTable<'i>,
    collectors: &'static [Registration],
    problems: &mut Problems,
) -> Found<'i> {
    let mut paths: Vec<(&'static str, Option<&'static Registration>)> =
        collectors.iter().map(|r| (r.table, Some(r))).collect();
    for registration in collectors {
        for (dot, _) in registration.table.match_indices('.') {
            let parent = registration.table.get(..dot).unwrap_or_default();
            if !paths.iter().any(|(path, _)| *path == parent) {
                paths.push((parent, None));
            }
        }
    }
    paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.matches('.').count()));

    let mut found = Found::default();
    let mut switches = BTreeMap::new();
    for (path, registration) in paths {
        let Some((key, node)) = tree::take(root, path) else {
            continue;
        };
        let mut besides = children(path, collectors);
        besides.push(ENABLED);
        match registration {
            // The header of a table below it made this one: nobody wrote it down.
            Some(_) if tree::is_implied(&key, &node) => {}
            Some(registration) => {
                found.split(registration, key.span(), node, &besides, problems);
                if let [only] = found.of(registration) {
                    switches.insert(path, only.enabled.clone());
                }
            }
            None => {
                let enabled = parent_only(path, node, &besides, problems);
                switches.insert(path, enabled);
            }
        }
    }
    for table in &mut found.tables {
        let path = table.registration.table;
        table.off_above = path.match_indices('.').find_map(|(dot, _)| {
            let (on, span) = switches.get(path.get(..dot)?)?.clone()?;
            (!on).then_some(span)
        });
    }
    let order = |t: &Table<'_>| collectors.iter().position(|r| r.id == t.registration.id);
    found.tables.sort_by_key(order);
    found
}

/// Reads the tables. What cannot be read is noted; the others are read all the same.
pub(super) fn check(check: &mut Checker<'_>, found: Found<'_>) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for table in found.tables {
        let parse = |d: ValueDeserializer<'_>| (table.registration.parse)(d);
        let outcome = read::table(&table.node, &table.besides, check.problems, parse);
        let Some(settings) = outcome.value.filter(|_| outcome.left_out.is_empty()) else {
            continue;
        };
        let settings: Arc<dyn Settings> = settings.into();
        let span = table.node.span();
        let Origin::File(place) = check.origin(span.start) else {
            continue;
        };
        let origin = place.to_string();
        let own_switch = settings.enabled() && table.enabled.as_ref().is_none_or(|(on, _)| *on);
        let on = own_switch && table.off_above.is_none();
        check.resolved.sections.push(Section {
            header: header(table.registration),
            settings: table.settings(check),
            origin: place,
            remark: remark(settings.as_ref(), own_switch, on),
        });
        if !on {
            continue;
        }
        if let Some(other) = names.insert(settings.name(), origin.clone()) {
            let message = format!("there are two sources called {:?}", settings.name());
            let problem = Problem::at(span, message).help(format!("the other one is at {other}"));
            check.problems.push(problem);
        }
        sources.push(Source {
            registration: table.registration,
            settings,
            origin,
        });
    }
    sources
}

impl<'i> Found<'i> {
    fn of(&self, registration: &Registration) -> &[Table<'i>] {
        let first = self
            .tables
            .iter()
            .position(|t| t.registration.id == registration.id);
        self.tables
            .get(first.unwrap_or(self.tables.len())..)
            .unwrap_or_default()
    }

    /// Notes one table, or each of a repeated one.
    fn split(
        &mut self,
        registration: &'static Registration,
        key: Range<usize>,
        node: Node<'i>,
        besides: &[&'static str],
        problems: &mut Problems,
    ) {
        let span = node.span();
        let header = header(registration);
        match (node.into_inner(), registration.repeated) {
            (DeValue::Table(table), false) => {
                let node = Spanned::new(span, DeValue::Table(table));
                self.add(registration, node, besides, problems);
            }
            (DeValue::Array(items), true) if items.iter().all(|i| i.get_ref().is_table()) => {
                for item in items {
                    self.add(registration, item, besides, problems);
                }
            }
            (_, repeated) => {
                let times = if repeated {
                    "can be repeated"
                } else {
                    "is given once"
                };
                let message = format!("`{}` is a table that {times}", registration.table);
                problems.push(Problem::at(key, message).help(format!("write: {header}")));
            }
        }
    }

    fn add(
        &mut self,
        registration: &'static Registration,
        mut node: Node<'i>,
        besides: &[&'static str],
        problems: &mut Problems,
    ) {
        let enabled = match node.get_mut() {
            DeValue::Table(table) => switch(table, problems),
            _ => None,
        };
        self.tables.push(Table {
            registration,
            node,
            enabled,
            off_above: None,
            besides: besides.to_vec(),
        });
    }
}

impl Table<'_> {
    fn settings(&self, check: &Checker<'_>) -> Vec<Setting> {
        // A table above it that is off decides, whatever this one says.
        let decided = self.off_above.clone().map(|span| (false, span));
        let enabled = match decided.or_else(|| self.enabled.clone()) {
            Some((on, span)) => (on, check.origin(span.start)),
            None => (true, Origin::default()),
        };
        let enabled = Setting {
            key: ENABLED.to_owned(),
            value: Some(enabled.0.to_string()),
            origin: enabled.1,
        };
        let leaves = match self.node.get_ref() {
            DeValue::Table(table) => tree::leaves(table),
            _ => Vec::new(),
        };
        let others = leaves.into_iter().map(|leaf| Setting {
            origin: check.origin(leaf.span.start),
            value: Some(match mask::is_secret_path(&leaf.path) {
                true => "\"not shown\"".to_owned(),
                false => leaf.value,
            }),
            key: leaf.path,
        });
        std::iter::once(enabled).chain(others).collect()
    }
}

/// A table that only holds the tables of sources.
fn parent_only(
    path: &str,
    node: Node<'_>,
    known: &[&'static str],
    problems: &mut Problems,
) -> Option<(bool, Range<usize>)> {
    let span = node.span();
    let DeValue::Table(mut table) = node.into_inner() else {
        problems.push(Problem::at(span, format!("`{path}` is a table")));
        return None;
    };
    let enabled = switch(&mut table, problems);
    for key in table.keys() {
        problems.push(read::unknown(key.get_ref(), key.span(), known));
    }
    enabled
}

/// Takes `enabled` out of a table.
fn switch(table: &mut DeTable<'_>, problems: &mut Problems) -> Option<(bool, Range<usize>)> {
    let (key, value) = table.remove_entry(ENABLED)?;
    let span = value.span();
    match bool::deserialize(ValueDeserializer::from(value)) {
        Ok(on) => Some((on, key.span())),
        Err(_) => {
            problems.push(Problem::at(span, format!("`{ENABLED}` is true or false")));
            None
        }
    }
}

fn children(path: &str, collectors: &'static [Registration]) -> Vec<&'static str> {
    let below = |r: &'static Registration| {
        let rest = r.table.strip_prefix(path)?.strip_prefix('.')?;
        Some(first(rest))
    };
    let mut names: Vec<_> = collectors.iter().filter_map(below).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn first(table: &'static str) -> &'static str {
    table.split('.').next().unwrap_or(table)
}

fn header(registration: &Registration) -> String {
    match registration.repeated {
        true => format!("[[{}]]", registration.table),
        false => format!("[{}]", registration.table),
    }
}

fn remark(settings: &dyn Settings, own_switch: bool, on: bool) -> String {
    let name = settings.name();
    if !own_switch {
        return format!("{name} is off");
    }
    if !on {
        return format!("{name} is off: the table above it is");
    }
    let every = Time(settings.interval());
    let deadline = Time(settings.deadline());
    format!("{name}: a tick every {every}, each within {deadline}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cms_collectors::{Collector, Host, OpenError};
    use cms_spec::Category;

    use super::super::files::Files;
    use super::super::{Config, ConfigErrors};
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fake {
        name: String,
        #[serde(default, rename = "password")]
        _password: Option<String>,
        #[serde(default, rename = "rows")]
        _rows: Option<u8>,
    }

    impl Settings for Fake {
        fn name(&self) -> String {
            self.name.clone()
        }
        fn open(&self, _: &Host) -> Result<Box<dyn Collector>, OpenError> {
            Err(OpenError::Absent("this one is never there".to_owned()))
        }
        fn interval(&self) -> Duration {
            Duration::from_secs(60)
        }
        fn deadline(&self) -> Duration {
            Duration::from_secs(10)
        }
    }

    const fn fake(id: &'static str, table: &'static str, repeated: bool) -> Registration {
        Registration {
            id,
            category: Category::GhostCompute,
            table,
            repeated,
            sample: "",
            parse: |d| Ok(Box::new(Fake::deserialize(d)?)),
        }
    }

    const FAKES: &[Registration] = &[
        fake("compute/host", "compute", false),
        fake("compute/prometheus", "compute.prometheus", true),
        fake("storage/filesystem", "storage.root", true),
    ];

    fn load(content: &str) -> Result<Config, ConfigErrors> {
        let head = "company_id = \"acme\"\ndashboard.api_key = { env = \"KEY\" }\n";
        let mut files = Files::default();
        files.add("f".to_owned(), format!("{head}{content}"));
        Config::of_files(&files, "host", FAKES)
    }

    fn names(content: &str) -> Vec<String> {
        let config = load(content).unwrap();
        config.sources.iter().map(|s| s.settings.name()).collect()
    }

    fn problems(content: &str) -> Vec<String> {
        let errors = load(content).unwrap_err();
        let found = errors.problems().iter();
        let line = |p: &Problem| format!("{} {}", p.place().unwrap().line, p.message());
        found.map(line).collect()
    }

    #[test]
    fn a_table_that_is_not_there_is_a_source_that_is_off() {
        assert!(names("").is_empty());
        let config = load("[compute]\nname = 'a'\n").unwrap();
        assert_eq!(config.sources[0].origin, "f:3");
        assert_eq!(config.categories(), [Category::GhostCompute]);
    }

    #[test]
    fn the_table_of_another_collector_is_taken_out_of_its_parent() {
        let content = "[[compute.prometheus]]\nname = 'b'\n[[compute.prometheus]]\nname = 'c'\n";
        assert_eq!(names(content), ["b", "c"]);
        assert_eq!(
            names(&format!("[compute]\nname = 'a'\n{content}")),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn a_table_that_is_written_down_is_on_even_when_empty() {
        let content = "[[compute.prometheus]]\nname = 'b'\n[compute]\n";
        assert_eq!(problems(content), ["5 the key `name` is missing"]);
    }

    #[test]
    fn enabled_switches_a_table_and_those_below_it() {
        let content =
            "[compute]\nenabled = false\nname = 'a'\n[[compute.prometheus]]\nname = 'b'\n";
        assert!(names(content).is_empty());
        let content = "[storage]\nenabled = false\n[[storage.root]]\nname = 'b'\n";
        assert!(names(content).is_empty());
        let content =
            "[[storage.root]]\nname = 'a'\nenabled = false\n[[storage.root]]\nname = 'b'\n";
        assert_eq!(names(content), ["b"]);
        assert_eq!(
            problems("[compute]\nenabled = 1\nname = 'a'\n"),
            ["4 `enabled` is true or false"]
        );
    }

    #[test]
    fn what_is_off_is_checked_all_the_same() {
        assert_eq!(
            problems("[compute]\nenabled = false\nnmae = 'a'\nrows = -1\n"),
            [
                "5 unknown key `nmae`",
                "6 invalid value: integer `-1`, expected a whole number from 0 to 255"
            ]
        );
    }

    #[test]
    fn the_form_of_a_table_is_checked() {
        assert_eq!(
            problems("[[compute]]\nname = 'a'\n[storage.root]\nname = 'b'\n"),
            [
                "3 `compute` is a table that is given once",
                "5 `storage.root` is a table that can be repeated"
            ]
        );
        assert_eq!(problems("storage = 1\n"), ["3 `storage` is a table"]);
        assert_eq!(problems("[storage]\nrot = 1\n"), ["4 unknown key `rot`"]);
    }

    #[test]
    fn unknown_keys_are_told_with_those_of_the_tables_below() {
        let errors = load("[compute]\nname = 'a'\nprometeus = 1\nenable = true\n").unwrap_err();
        let text = errors.to_string();
        assert!(text.contains("did you mean `prometheus`?"), "{text}");
        assert!(text.contains("did you mean `enabled`?"), "{text}");
        let text = load("[compte]\n").unwrap_err().to_string();
        assert!(text.contains("did you mean `compute`?"), "{text}");
    }

    #[test]
    fn two_sources_of_one_name_are_refused() {
        let content = "[[storage.root]]\nname = 'a'\n[[storage.root]]\nname = 'a'\n";
        assert_eq!(problems(content), ["5 there are two sources called \"a\""]);
    }

    #[test]
    fn a_secret_of_a_source_is_not_shown() {
        let content = "[compute]\nname = 'a'\npassword = 'hunter2'\n";
        let resolved = load(content).unwrap().resolved.to_string();
        assert!(resolved.contains("password = \"not shown\""), "{resolved}");
        let errors = load(&format!("{content}rows = -1\n")).unwrap_err();
        assert!(!format!("{errors} {errors:?} {resolved}").contains("hunter2"));
    }

    #[test]
    fn every_shipped_collector_has_its_own_table() {
        let mut tables: Vec<_> = cms_collectors::ALL.iter().map(|r| r.table).collect();
        tables.sort_unstable();
        tables.dedup();
        assert_eq!(tables.len(), cms_collectors::ALL.len());
    }
}
