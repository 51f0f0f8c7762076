//! The numbers and times of a JSON document, with places that lead to them: what a probe suggests.
//!
//! Promises: bounded; a place is tried before it is told. Refuses: guessing a unit that the document or a name does not
//! speak of.

use cms_spec::decimal::Decimal;
use jiff::Timestamp;
use serde_json::Value;

use super::Select;
use crate::thermal::unit::Unit;

/// Most numbers that are told.
pub(in crate::thermal) const TOLD_MAX: usize = 200;

/// Most times that are told.
const TIMES_MAX: usize = 20;

/// Deepest nesting that is looked into.
const DEPTH_MAX: usize = 16;

/// Most items of one list that are looked at.
const ITEMS_MAX: usize = 1_000;

/// Keys by which the items of a list are told apart, best first.
const NAMES: [&str; 6] = ["id", "name", "key", "tag", "point", "label"];

/// Keys beside a number that say its unit.
const UNITS: [&str; 5] = ["unit", "units", "unit_of_measure", "unitOfMeasure", "uom"];

/// One number of a document.
#[derive(Clone, Debug)]
pub(in crate::thermal) struct Leaf {
    pub(in crate::thermal) select: String,
    pub(in crate::thermal) number: Decimal,
    /// What it is called by those who made the document.
    pub(in crate::thermal) name: String,
    pub(in crate::thermal) unit: Option<Unit>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub(in crate::thermal) struct Leaves {
    pub(in crate::thermal) numbers: Vec<Leaf>,
    pub(in crate::thermal) times: Vec<String>,
    /// What was not looked at, or not told.
    pub(in crate::thermal) more: usize,
}

impl Leaves {
    /// Looks into a document; `at` tells times from other large numbers.
    pub(in crate::thermal) fn of(document: &Value, at: Timestamp) -> Self {
        let mut found = Self::default();
        found.walk(document, "$", "value", (document, at), 0);
        found
    }

    fn walk(
        &mut self,
        value: &Value,
        select: &str,
        name: &str,
        of: (&Value, Timestamp),
        depth: usize,
    ) {
        if depth > DEPTH_MAX {
            self.more += 1;
            return;
        }
        match value {
            Value::Object(object) => {
                let stated = UNITS.iter().find_map(|key| object.get(*key));
                let stated = stated.and_then(|unit| serde_json::from_value(unit.clone()).ok());
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
                    let before = self.numbers.len();
                    self.walk(inner, &select, &named, of, depth + 1);
                    if let (Value::Number(_) | Value::String(_), Some(leaf)) =
                        (inner, self.numbers.get_mut(before))
                    {
                        leaf.unit = stated.or(leaf.unit);
                    }
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
                    self.walk(item, &format!("{select}{step}"), name, of, depth + 1);
                }
                self.more += list.len().saturating_sub(ITEMS_MAX);
            }
            Value::Bool(_) | Value::Null => {}
            Value::Number(_) | Value::String(_) => self.leaf(value, select, name, of),
        }
    }

    fn leaf(
        &mut self,
        value: &Value,
        select: &str,
        name: &str,
        (document, at): (&Value, Timestamp),
    ) {
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
            // A number that is a time of this year or so. One that is ahead is none.
            _ => super::moment_of(value).is_some_and(|found| {
                (-300..366 * 86_400).contains(&(at.as_second() - found.as_second()))
            }),
        };
        if is_time {
            match self.times.len() {
                TIMES_MAX.. => self.more += 1,
                _ => self.times.push(select.to_owned()),
            }
            return;
        }
        let Ok(number) = super::value_of(value) else {
            return;
        };
        if self.numbers.len() >= TOLD_MAX {
            self.more += 1;
            return;
        }
        let key = select.rsplit(['.', '\'']).next().unwrap_or_default();
        self.numbers.push(Leaf {
            select: select.to_owned(),
            number,
            name: name.to_owned(),
            unit: unit_of(key, number).or_else(|| unit_of(name, number)),
        });
    }
}

/// A key as a step of a path; nothing where it holds a quote, or what no configuration shows.
fn step(key: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(is_plain) {
        return Some(format!(".{key}"));
    }
    let is_shown = !key.contains(['\'', '"']) && !key.contains(char::is_control);
    is_shown.then(|| format!("['{key}']"))
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
        Value::String(text) => {
            let is_shown = !text.contains(['\'', '"', ']']) && !text.contains(char::is_control);
            (is_shown && !text.is_empty()).then(|| format!("'{text}'"))
        }
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The unit that a name speaks of: by a word of it that is a unit, else by what it measures.
pub(in crate::thermal) fn unit_of(name: &str, number: Decimal) -> Option<Unit> {
    const WORDS: [(&[&str], Unit); 17] = [
        (&["mwh"], Unit::MegawattHour),
        (&["kwh"], Unit::KilowattHour),
        (&["wh"], Unit::WattHour),
        (&["gj"], Unit::Gigajoule),
        (&["mj"], Unit::Megajoule),
        (&["kw", "kilowatt", "kilowatts"], Unit::Kilowatt),
        (&["w", "watt", "watts"], Unit::W),
        (&["m3h", "cmh"], Unit::CubicMetrePerHour),
        (&["lpm"], Unit::LitrePerMinute),
        (&["lph"], Unit::LitrePerHour),
        (&["lps"], Unit::LitrePerSecond),
        (&["gpm"], Unit::GallonPerMinute),
        (&["cfm"], Unit::CubicFootPerMinute),
        (&["c", "degc", "celsius"], Unit::C),
        (&["f", "degf", "fahrenheit"], Unit::F),
        (&["kelvin"], Unit::K),
        (&["percent", "pct"], Unit::Percent),
    ];
    const MEASURED: [(&str, Unit); 9] = [
        ("m3_h", Unit::CubicMetrePerHour),
        ("flow", Unit::CubicMetrePerHour),
        ("temp", Unit::C),
        ("supply", Unit::C),
        ("return", Unit::C),
        ("exhaust", Unit::C),
        ("energy", Unit::KilowattHour),
        ("power", Unit::Kilowatt),
        ("heat", Unit::Kilowatt),
    ];
    let words = words(name);
    let stated = WORDS
        .iter()
        .find(|(known, _)| words.iter().any(|word| known.contains(&word.as_str())));
    if let Some((_, unit)) = stated {
        return Some(*unit);
    }
    let name = name.to_ascii_lowercase();
    let measured = MEASURED.iter().find(|(word, _)| name.contains(word));
    measured.map(|(_, unit)| match unit {
        // A rack of thousands of kilowatts is one of watts.
        Unit::Kilowatt if number.magnitude() >= Decimal::whole(2_000) => Unit::W,
        unit => *unit,
    })
}

/// The words of a name, in lower case: `supplyTemp_C` has three.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars() {
        let begins = letter.is_uppercase() && was_lower;
        if !letter.is_alphanumeric() || begins {
            words.push(String::new());
        }
        was_lower = letter.is_lowercase() || letter.is_ascii_digit();
        if let (true, Some(word)) = (letter.is_alphanumeric(), words.last_mut()) {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A name that formulas can use.
pub(in crate::thermal) fn name_for_formulas(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect();
    let plain = plain.trim_matches('_');
    // The end of a long name says most: topics begin with the site.
    let from = plain.len().saturating_sub(40);
    match plain.get(from..).unwrap_or_default().trim_matches('_') {
        "" | "min" | "max" => "value".to_owned(),
        plain if plain.starts_with(|c: char| c.is_ascii_digit()) => format!("p{plain}"),
        plain => plain.to_owned(),
    }
}

/// What others wrote, fit for a terminal: nothing of it moves a cursor, ends a line or turns the direction of text.
pub(in crate::thermal) fn printable(text: &str, characters_max: usize) -> String {
    let moves = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut shown = String::new();
    let mut letters = text.chars();
    for letter in letters.by_ref().take(characters_max) {
        match moves(letter) {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(document: &Value) -> Leaves {
        Leaves::of(document, "2026-01-05T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn numbers_are_found_with_places_that_lead_to_them() {
        let found = found(&json!({
            "at": "2026-01-05T09:59:58Z",
            "points": [
                { "id": "HM1", "power": 85.3, "ok": true },
                { "id": "T1", "value": "41.5", "unit": "C" },
            ],
            "supply air": { "temps": [20.5, 21] },
            "it's": 3,
            "epoch": 1_767_607_198,
        }));
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
        let units: Vec<Option<Unit>> = found.numbers.iter().map(|leaf| leaf.unit).collect();
        assert_eq!(units[..2], [Some(Unit::Kilowatt), Some(Unit::C)]);
        assert_eq!(found.times, ["$.at", "$.epoch"]);
        assert_eq!(found.more, 1);
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

    #[test]
    fn a_name_speaks_of_its_unit() {
        for (name, number, unit) in [
            ("power_kw", 8, Some(Unit::Kilowatt)),
            ("feed/a/w", 8, Some(Unit::W)),
            ("temp_water", 8, Some(Unit::C)),
            ("supplyTempF", 8, Some(Unit::F)),
            ("power", 85, Some(Unit::Kilowatt)),
            ("power", 8_123, Some(Unit::W)),
            ("HeatEnergyMWh", 8, Some(Unit::MegawattHour)),
            ("windows", 8, None),
        ] {
            assert_eq!(unit_of(name, Decimal::whole(number)), unit, "{name}");
        }
    }

    #[test]
    fn names_and_texts_of_others_do_no_harm() {
        assert_eq!(
            name_for_formulas("dc1/Rack-07/Exhaust °C"),
            "dc1_rack_07_exhaust__c"
        );
        assert_eq!(name_for_formulas("7/kW"), "p7_kw");
        assert_eq!(name_for_formulas("ü"), "value");
        assert_eq!(
            name_for_formulas(&format!("{}/power", "x".repeat(99))).len(),
            40
        );
        assert_eq!(
            printable("a\u{1b}[2J\n\u{202e}b", 20),
            "a\\u{1b}[2J\\n\\u{202e}b"
        );
        assert_eq!(printable("abcdef", 3), "abc…");
    }
}
