//! Looks at an answer and says which numbers are in it, and how to configure them as points.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{ANSWER_BYTES_MAX, Page};
use crate::CollectError;
use crate::thermal::document::{self, Select};
use crate::thermal::unit::Unit;
use crate::web::{Login, Request, SecretPlace, Site, Web, malformed};

/// A person is waiting.
const WITHIN: Duration = Duration::from_secs(20);

/// Most values that are told.
const TOLD_MAX: usize = 200;

/// Most values for which a table is printed.
const TABLES_MAX: usize = 20;

/// Deepest nesting that is looked into.
const DEPTH_MAX: usize = 16;

/// Most items of one list that are looked at.
const ITEMS_MAX: usize = 1_000;

/// Keys by which the items of a list are told apart, best first.
const NAMES: [&str; 6] = ["id", "name", "key", "tag", "point", "label"];

/// What was found, for a person, and the tables for the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// One line for each thing that was found.
    pub found: Vec<String>,
    /// Tables for the configuration.
    pub table: String,
}

/// One value of a document.
struct Leaf {
    select: String,
    shown: String,
    /// What it is called by those who made the document.
    name: String,
    unit: Option<Unit>,
}

#[derive(Default)]
struct Found {
    numbers: Vec<Leaf>,
    times: Vec<String>,
    more: usize,
}

/// Asks once, and lists the numbers of the answer.
///
/// # Errors
/// When there is no answer, or no number in it.
pub async fn look(
    web: &dyn Web,
    site: &Site,
    path: &str,
    at: Timestamp,
) -> Result<Suggestion, CollectError> {
    let url = site.address().url(path);
    let mut body = Vec::new();
    let request = Request {
        path,
        body: None,
        headers: &[("accept", "application/json, text/plain;q=0.9")],
        within: WITHIN,
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    let mut on_piece = |piece: &[u8]| {
        body.extend_from_slice(piece);
        Ok(())
    };
    let answer = web.open(site)?.ask(&request, &mut on_piece).await?;
    answer.require_good(&url)?;
    let page = Page {
        etag: answer.header("etag").map(str::to_owned),
        content_type: answer.header("content-type").unwrap_or_default().to_owned(),
        body,
    };
    let device = device(site);
    let place = place(site, path);
    let text = String::from_utf8_lossy(&page.body);
    if let Ok(number) = document::number(&text) {
        return Ok(Suggestion {
            found: vec![format!("the answer is one number: {number}")],
            table: device + &point(&place, None, "value", None),
        });
    }
    let document = page.parsed().map_err(|why| malformed(&url, &why))?;
    let mut found = Found::default();
    found.walk(&document, "$", "value", &document, at, 0);
    if found.numbers.is_empty() {
        return Err(malformed(&url, "there is no number in its answer"));
    }
    Ok(found.suggestion(&device, &place, page.etag.is_some()))
}

impl Found {
    fn walk(
        &mut self,
        value: &Value,
        select: &str,
        name: &str,
        document: &Value,
        at: Timestamp,
        depth: usize,
    ) {
        if depth > DEPTH_MAX {
            self.more += 1;
            return;
        }
        match value {
            Value::Object(object) => {
                for (key, inner) in object {
                    let Some(step) = step(key) else {
                        self.more += 1;
                        continue;
                    };
                    let select = format!("{select}{step}");
                    // An item of a list is named after itself and what it says.
                    let named = match select.contains("[?@.") {
                        true => format!("{name}_{key}"),
                        false => key.clone(),
                    };
                    self.walk(inner, &select, &named, document, at, depth + 1);
                }
            }
            Value::Array(list) => {
                let by = NAMES.iter().find(|by| names_each(list, by));
                for (index, item) in list.iter().enumerate().take(ITEMS_MAX) {
                    let called = by.and_then(|by| item.get(by)).and_then(said);
                    let step = match (by, &called) {
                        (Some(by), Some(called)) => format!("[?@.{by}=={called}]"),
                        _ => format!("[{index}]"),
                    };
                    let name = called.as_deref().unwrap_or(name).trim_matches('\'');
                    self.walk(
                        item,
                        &format!("{select}{step}"),
                        name,
                        document,
                        at,
                        depth + 1,
                    );
                }
                self.more += list.len().saturating_sub(ITEMS_MAX);
            }
            Value::Bool(_) | Value::Null => {}
            Value::Number(_) | Value::String(_) => self.leaf(value, select, name, document, at),
        }
    }

    fn leaf(&mut self, value: &Value, select: &str, name: &str, document: &Value, at: Timestamp) {
        // What is suggested is tried first.
        let is_right = Select::parse(select)
            .is_ok_and(|select| select.find(document).is_ok_and(|found| found == value));
        let is_name = NAMES
            .iter()
            .any(|known| select.ends_with(&format!(".{known}")));
        if !is_right || is_name {
            return;
        }
        let is_old_enough = |found: &Timestamp| *found > Timestamp::UNIX_EPOCH;
        let is_time = match value {
            Value::String(text) => text
                .parse::<Timestamp>()
                .is_ok_and(|found| is_old_enough(&found)),
            // A number that is a time of this year or so.
            // One that is ahead is none.
            _ => document::moment_of(value).is_some_and(|found| {
                (-300..366 * 86_400).contains(&(at.as_second() - found.as_second()))
            }),
        };
        if is_time {
            self.times.push(select.to_owned());
            return;
        }
        let Ok(number) = document::value_of(value) else {
            return;
        };
        if self.numbers.len() >= TOLD_MAX {
            self.more += 1;
            return;
        }
        let key = select.rsplit(['.', '\'']).next().unwrap_or_default();
        self.numbers.push(Leaf {
            select: select.to_owned(),
            shown: number.to_string(),
            name: name.to_owned(),
            unit: unit(key).or_else(|| unit(name)),
        });
    }

    fn suggestion(self, device: &str, place: &str, has_etag: bool) -> Suggestion {
        let mut found: Vec<String> = self
            .numbers
            .iter()
            .map(|leaf| match leaf.unit {
                Some(unit) => format!("{} = {}, perhaps {unit}", leaf.select, leaf.shown),
                None => format!("{} = {}", leaf.select, leaf.shown),
            })
            .collect();
        found.extend(
            self.times
                .iter()
                .take(TABLES_MAX)
                .map(|time| format!("{time} is a time")),
        );
        if self.more > 0 {
            found.push(format!("and {} more", self.more));
        }
        if has_etag {
            found.push("it gives an ETag: an answer that did not change costs nothing".to_owned());
        }
        let mut table = device.to_owned();
        table.push_str(
            "\n# Take what you need, say what it is (thermal_output, flow, supply, return, exhaust_temp, …)\n\
             # and check the unit against the display of the meter.\n",
        );
        let mut taken: Vec<String> = Vec::new();
        for leaf in self.numbers.iter().take(TABLES_MAX) {
            let mut name = named(&leaf.name);
            if taken.contains(&name) {
                let _ = write!(name, "_{}", taken.len() + 1);
            }
            table.push_str(&point(place, Some(leaf), &name, self.times.first()));
            taken.push(name);
        }
        Suggestion { found, table }
    }
}

/// A key as a step of a path; nothing where it holds a quote.
fn step(key: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(is_plain) {
        return Some(format!(".{key}"));
    }
    (!key.contains(['\'', '"'])).then(|| format!("['{key}']"))
}

/// Whether a key names every item of a list, each differently.
fn names_each(list: &[Value], by: &str) -> bool {
    let names: Vec<Option<String>> = list
        .iter()
        .take(ITEMS_MAX)
        .map(|item| item.get(by).and_then(said))
        .collect();
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    names.iter().all(Option::is_some) && sorted.len() == names.len()
}

/// A name as it stands in a filter.
fn said(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(['\'', '"', ']']) => {
            Some(format!("'{text}'"))
        }
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The unit that a name speaks of.
fn unit(name: &str) -> Option<Unit> {
    let name = name.to_ascii_lowercase();
    let hints = [
        ("mwh", Unit::MegawattHour),
        ("kwh", Unit::KilowattHour),
        ("_kw", Unit::Kilowatt),
        ("_w", Unit::W),
        ("m3h", Unit::CubicMetrePerHour),
        ("m3_h", Unit::CubicMetrePerHour),
        ("flow", Unit::CubicMetrePerHour),
        ("temp", Unit::C),
        ("celsius", Unit::C),
        ("supply", Unit::C),
        ("return", Unit::C),
        ("energy", Unit::KilowattHour),
        ("power", Unit::Kilowatt),
    ];
    hints
        .iter()
        .find(|(hint, _)| name.contains(hint))
        .map(|(_, unit)| *unit)
}

/// A name that formulas can use.
fn named(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .take(40)
        .collect();
    match plain.trim_matches('_') {
        "" => "value".to_owned(),
        plain if plain.starts_with(|c: char| c.is_ascii_digit()) => format!("p{plain}"),
        plain => plain.to_owned(),
    }
}

/// The table of the server, with the login that was used.
fn device(site: &Site) -> String {
    let address = site.address();
    let mut table = format!(
        "[[thermal.http]]\nname = {:?}\nurl = {:?}\n",
        address.authority(),
        address.to_string()
    );
    let secret = |place: &SecretPlace| match place {
        SecretPlace::Credential(name) => format!("{{ credential = {name:?} }}"),
        SecretPlace::Env(name) => format!("{{ env = {name:?} }}"),
        SecretPlace::File(path) => format!("{{ file = {:?} }}", path.display().to_string()),
    };
    let _ = match site.login() {
        // Nobody logs in to a meter with a session or a signature.
        None | Some(Login::Header { .. } | Login::Session { .. } | Login::Signed(_)) => Ok(()),
        Some(Login::Bearer(place)) => writeln!(table, "bearer_token = {}", secret(place)),
        Some(Login::Basic { user, password }) => {
            let password = secret(password);
            writeln!(
                table,
                "basic = {{ user = {user:?}, password = {password} }}"
            )
        }
    };
    if let Some(file) = &site.tls().ca_file {
        let _ = writeln!(
            table,
            "tls = {{ ca_file = {:?} }}",
            file.display().to_string()
        );
    }
    table
}

fn place(site: &Site, path: &str) -> String {
    let mut place = format!("device = {:?}", site.address().authority());
    if !path.is_empty() {
        let _ = write!(place, ", path = {path:?}");
    }
    place
}

fn point(place: &str, leaf: Option<&Leaf>, name: &str, time: Option<&String>) -> String {
    let mut point = place.to_owned();
    if let Some(leaf) = leaf {
        let _ = write!(point, ", json = {:?}", leaf.select);
    }
    if let Some(time) = time {
        let _ = write!(point, ", time = {time:?}");
    }
    let unit = leaf.and_then(|leaf| leaf.unit).map(|unit| unit.to_string());
    format!(
        "\n[thermal.source.points.{name}]\nhttp = {{ {point} }}\nunit_of_measure = {:?}\n",
        unit.unwrap_or_else(|| "?".to_owned())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(document: &Value) -> Found {
        let mut found = Found::default();
        let at = "2026-01-05T10:00:00Z".parse().unwrap();
        found.walk(document, "$", "value", document, at, 0);
        found
    }

    #[test]
    fn numbers_are_found_with_places_that_lead_to_them() {
        let document = json!({
            "at": "2026-01-05T09:59:58Z",
            "points": [
                { "id": "HM1", "power": 85.3, "ok": true },
                { "id": "T1", "value": "41.5", "unit": "C" },
            ],
            "supply air": { "temps": [20.5, 21] },
            "it's": 3,
            "epoch": 1_767_607_198,
        });
        let found = found(&document);
        let places: Vec<&str> = found
            .numbers
            .iter()
            .map(|leaf| leaf.select.as_str())
            .collect();
        assert_eq!(
            places,
            [
                "$.points[?@.id=='HM1'].power",
                "$.points[?@.id=='T1'].value",
                "$['supply air'].temps[0]",
                "$['supply air'].temps[1]",
            ]
        );
        assert_eq!(found.times, ["$.at", "$.epoch"]);
        assert_eq!(found.more, 1);
        let suggestion = found.suggestion("", "device = \"bms\"", false);
        assert!(
            suggestion.found[0].ends_with("= 85.3, perhaps kW"),
            "{:?}",
            suggestion.found
        );
        assert!(
            suggestion
                .table
                .contains("[thermal.source.points.hm1_power]"),
            "{}",
            suggestion.table
        );
        let table: toml::Table = suggestion.table.parse().unwrap();
        let points = table["thermal"]["source"]["points"].as_table().unwrap();
        assert_eq!(points.len(), 4, "{}", suggestion.table);
        assert_eq!(points["hm1_power"]["http"]["time"].as_str(), Some("$.at"));
    }

    #[test]
    fn large_and_deep_documents_are_bounded() {
        let mut deep = json!(1);
        for _ in 0..30 {
            deep = json!([deep]);
        }
        assert_eq!(found(&deep).more, 1);
        let wide: Vec<u32> = (0..5_000).collect();
        let found = found(&json!(wide));
        assert_eq!((found.numbers.len(), found.more), (TOLD_MAX, 4_800));
    }
}
