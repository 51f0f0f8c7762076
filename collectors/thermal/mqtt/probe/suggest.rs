//! What was published, topic by topic: how it is shown, which numbers are in it, and which of them measure heat.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use cms_spec::decimal::Decimal;
use jiff::Timestamp;
use serde_json::Value;

use super::super::topic::Filter;
use super::super::wire::Version;
use super::{Look, Report};
use crate::thermal::document;
use crate::thermal::document::leaves::{Leaves, name_for_formulas, printable, unit_of};
use crate::thermal::unit::{Dimension, Unit};
use crate::web::{SecretPlace, TlsVersion};

/// Topics that are remembered: a small site. Messages of further ones are counted.
const TOPICS_MAX: usize = 2_000;

/// What is kept of one payload; a longer one is shown cut, and no numbers are looked for in it.
const PAYLOAD_BYTES_MAX: usize = 8 * 1024;

/// Topics that are told, those with numbers that measure heat first.
const TOLD_MAX: usize = 200;

/// Characters of a payload, and of a topic, that are shown.
const SHOWN_MAX: usize = 80;

/// Points that are suggested.
const SUGGESTED_MAX: usize = 12;

/// Numbers of one payload that are looked at: a larger document is no sensor's.
const NUMBERS_MAX: usize = 50;

/// Words of topics that speak of heat and of what it is measured by.
const WORDS: [&str; 13] = [
    "supply", "return", "exhaust", "outlet", "inlet", "heat", "thermal", "flow", "power", "energy",
    "rack", "temp", "kw",
];

/// Every topic that was heard.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    topics: BTreeMap<String, Topic>,
    messages: u64,
    /// Messages of topics beyond the bound.
    left_out: u64,
}

#[derive(Clone, Debug)]
struct Topic {
    /// The newest payload, or its beginning.
    newest: Vec<u8>,
    bytes: usize,
    /// Whether the newest was kept by the broker.
    is_retained: bool,
    live: u64,
}

/// One number that a point could be.
#[derive(Clone, Debug)]
struct Candidate<'t> {
    topic: &'t str,
    is_retained: bool,
    /// Where in the JSON; nothing where the payload is the number.
    select: Option<String>,
    time: Option<String>,
    number: Decimal,
    unit: Option<Unit>,
    score: u32,
}

impl Topics {
    /// Takes a message in.
    pub fn hear(&mut self, topic: &str, payload: &[u8], is_retained: bool) {
        self.messages = self.messages.saturating_add(1);
        if self.topics.len() >= TOPICS_MAX && !self.topics.contains_key(topic) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let live_before = self.topics.get(topic).map_or(0, |before| before.live);
        let kept = payload.get(..PAYLOAD_BYTES_MAX).unwrap_or(payload);
        let heard = Topic {
            newest: kept.to_vec(),
            bytes: payload.len(),
            is_retained,
            live: live_before.saturating_add(u64::from(!is_retained)),
        };
        self.topics.insert(topic.to_owned(), heard);
    }

    /// Whether nothing came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// How much came, for a line of progress.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!("{} topics, {} messages", self.topics.len(), self.messages)
    }

    /// What there is, and the tables.
    #[must_use]
    pub fn report(&self, look: &Look, at: Timestamp) -> Report {
        let mut candidates: Vec<Candidate<'_>> = Vec::new();
        let mut rows: Vec<(u32, String)> = Vec::new();
        for (name, topic) in &self.topics {
            let own = topic.candidates(name, at);
            let best = own.iter().map(|one| one.score).max().unwrap_or(0);
            rows.push((best, topic.line(name, look, &own)));
            candidates.extend(own);
        }
        rows.sort_by_key(|(score, _)| Reverse(*score));
        candidates.sort_by_key(|one| Reverse(one.score));
        let seconds = look.listens.as_secs();
        let mut found = vec![format!("{} in {seconds} s", self.in_words()), String::new()];
        let untold = rows.len().saturating_sub(TOLD_MAX);
        found.extend(rows.into_iter().take(TOLD_MAX).map(|(_, row)| row));
        if untold > 0 {
            found.push(format!("and {untold} topics more: name fewer of them"));
        }
        if self.left_out > 0 {
            found.push(format!(
                "and {} messages of topics beyond the first {TOPICS_MAX}: name fewer of them",
                self.left_out
            ));
        }
        Report {
            found,
            table: table(look, &candidates),
        }
    }
}

impl Topic {
    /// What its payload can be read as.
    fn candidates<'t>(&self, topic: &'t str, at: Timestamp) -> Vec<Candidate<'t>> {
        // What no configuration can name is no point.
        if Filter::new(topic).map_or(true, |filter| filter.is_wild()) || self.is_cut() {
            return Vec::new();
        }
        let Ok(text) = std::str::from_utf8(&self.newest) else {
            return Vec::new();
        };
        let candidate =
            |select: Option<String>, number, unit: Option<Unit>, time: Option<&String>| {
                let name = format!("{topic}/{}", select.as_deref().unwrap_or_default());
                Candidate {
                    topic,
                    is_retained: self.is_retained,
                    select,
                    time: time.cloned(),
                    number,
                    unit,
                    score: score(unit, number, &name, self.live > 0 || time.is_some()),
                }
            };
        if let Ok(number) = document::number(text) {
            return vec![candidate(None, number, unit_of(topic, number), None)];
        }
        let Ok(document) = serde_json::from_str::<Value>(text) else {
            return Vec::new();
        };
        let leaves = Leaves::of(&document, at);
        let numbers = leaves.numbers.into_iter().take(NUMBERS_MAX);
        numbers
            .map(|leaf| {
                let unit = leaf.unit.or_else(|| unit_of(topic, leaf.number));
                candidate(Some(leaf.select), leaf.number, unit, leaves.times.first())
            })
            .collect()
    }

    fn is_cut(&self) -> bool {
        self.bytes > self.newest.len()
    }

    fn line(&self, name: &str, look: &Look, candidates: &[Candidate<'_>]) -> String {
        let shown = match std::str::from_utf8(&self.newest) {
            Ok(text) => printable(text.trim(), SHOWN_MAX),
            // The cut may have gone through a letter.
            Err(error) if self.is_cut() && error.error_len().is_none() => {
                printable(&String::from_utf8_lossy(&self.newest), SHOWN_MAX)
            }
            Err(_) if name.starts_with("spBv1.0/") => {
                format!("Sparkplug B, {} bytes, which is not read", self.bytes)
            }
            Err(_) => format!("{} bytes that are no text", self.bytes),
        };
        let mut line = format!("{}  {shown}", printable(name, SHOWN_MAX));
        if self.is_cut() {
            let _ = write!(line, " ({} bytes)", self.bytes);
        }
        line.push_str(&match (self.live, self.is_retained) {
            (0, _) => "  retained only".to_owned(),
            (1, _) => "  once".to_owned(),
            (live, _) => format!("  every {}", every(look.listens.as_millis(), live)),
        });
        let told: Vec<String> = candidates
            .iter()
            .filter_map(|one| {
                let unit = one.unit?;
                let place = one.select.as_deref().unwrap_or("the payload");
                Some(format!("{place} = {} {unit}?", one.number))
            })
            .take(4)
            .collect();
        if !told.is_empty() {
            let _ = write!(line, "  [{}]", told.join(", "));
        }
        line
    }
}

/// A span over a number of messages, in words.
fn every(milliseconds: u128, messages: u64) -> String {
    let each = milliseconds / u128::from(messages.max(1));
    match each {
        0 => "less than 1 ms".to_owned(),
        1..1_000 => format!("{each} ms"),
        _ => format!("{}.{} s", each / 1_000, each % 1_000 / 100),
    }
}

/// How likely a number belongs to a thermal source; nothing for what cannot.
fn score(unit: Option<Unit>, number: Decimal, name: &str, is_live: bool) -> u32 {
    let Some(unit) = unit else { return 0 };
    let (base, lowest, highest) = match (unit, unit.dimension()) {
        (_, Dimension::Number) => return 0,
        (Unit::F, _) => (30, 0, 250),
        (Unit::K, _) => (30, 250, 400),
        (_, Dimension::Temperature) => (30, -20, 120),
        (_, Dimension::Power | Dimension::Energy) => (40, 0, 1_000_000_000),
        (_, Dimension::VolumeFlow | Dimension::MassFlow) => (20, 0, 1_000_000_000),
    };
    let is_plausible = (Decimal::whole(lowest)..=Decimal::whole(highest)).contains(&number);
    let name = name.to_lowercase();
    let words = WORDS.iter().filter(|word| name.contains(*word)).count();
    base + 20 * u32::from(is_plausible)
        + 5 * u32::from(number != Decimal::ZERO)
        + 10 * u32::from(is_live)
        + 3 * u32::try_from(words).unwrap_or(0)
}

/// The table of the broker and the best points.
fn table(look: &Look, candidates: &[Candidate<'_>]) -> String {
    let device = quoted(look.broker.host());
    let mut table = format!(
        "[[thermal.mqtt]]\nname = {device}\nbroker = {}\n",
        quoted(&look.broker.to_string())
    );
    keys(look, &mut table);
    let mut taken: Vec<String> = Vec::new();
    let suggested = candidates.iter().filter(|one| one.score > 0);
    for one in suggested.take(SUGGESTED_MAX) {
        let Some(unit) = one.unit else { continue };
        let place = one.select.as_deref().map(last_key).unwrap_or_default();
        let mut name = name_for_formulas(&format!("{}/{place}", one.topic));
        if taken.contains(&name) {
            let _ = write!(name, "_{}", taken.len() + 1);
        }
        let _ = write!(
            table,
            "\n# {} {unit}? Compare it with a display.",
            one.number
        );
        if one.is_retained && one.time.is_none() {
            let _ = write!(
                table,
                "\n# Only a retained value came, which may be of any age: listen longer with --for, or add\n\
                 # on_change = true if it is published when it changes and not otherwise."
            );
        }
        let _ = write!(
            table,
            "\n[thermal.points.{name}]\nmqtt = {{ device = {device}, topic = {}",
            quoted(one.topic)
        );
        if let Some(select) = &one.select {
            let _ = write!(table, ", json = {}", quoted(select));
        }
        if let Some(time) = &one.time {
            let _ = write!(table, ", time = {}", quoted(time));
        }
        let _ = write!(
            table,
            " }}\nunit_of_measure = {}\n",
            quoted(&unit.to_string())
        );
        taken.push(name);
    }
    if taken.is_empty() {
        table.push_str("\n# No number that came speaks of heat, power, flow or temperature.\n");
    }
    table
}

/// How the broker was reached, in the keys of its table.
fn keys(look: &Look, table: &mut String) {
    if let Some((user, password)) = &look.login {
        let password = match password {
            SecretPlace::Credential(name) => format!("credential = {}", quoted(name)),
            SecretPlace::Env(name) => format!("env = {}", quoted(name)),
            SecretPlace::File(path) => format!("file = {}", quoted(&path.display().to_string())),
        };
        let _ = write!(
            table,
            "user = {}\npassword = {{ {password} }}\n",
            quoted(user)
        );
    }
    if let Some(tls) = &look.tls {
        let mut parts: Vec<String> = Vec::new();
        let path = |path: &std::path::Path| quoted(&path.display().to_string());
        if let Some(file) = &tls.ca_file {
            parts.push(format!("ca_file = {}", path(file)));
        }
        if let Some((certificate, key)) = &tls.client_certificate {
            parts.push(format!("client_cert_file = {}", path(certificate)));
            parts.push(format!("client_key_file = {}", path(key)));
        }
        if tls.min_version == TlsVersion::V12 {
            parts.push("min_version = \"1.2\"".to_owned());
        }
        if !parts.is_empty() {
            let _ = writeln!(table, "tls = {{ {} }}", parts.join(", "));
        }
    }
    if look.version == Version::V5 {
        table.push_str("version = \"5\"\n");
    }
    if look.client_id.is_some() {
        table.push_str("# client_id: the agent needs one of its own, which nobody else uses\n");
    }
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The last name of a place: of `$.points[?@.id=='T1'].value` it is `T1_value`.
fn last_key(select: &str) -> String {
    let mut parts = select
        .rsplit(['.', '\'', '[', ']'])
        .filter(|part| !part.is_empty());
    let last = parts.next().unwrap_or_default();
    match select
        .rsplit_once("=='")
        .and_then(|(_, rest)| rest.split_once('\''))
    {
        Some((item, rest)) if !rest.trim_start_matches(']').is_empty() => format!("{item}_{last}"),
        _ => last.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn look() -> Look {
        Look {
            broker: "mqtt://localhost".parse().unwrap(),
            filters: vec!["#".parse().unwrap()],
            login: None,
            tls: None,
            version: Version::V311,
            client_id: None,
            listens: Duration::from_secs(10),
        }
    }

    fn report(topics: &Topics) -> Report {
        let at = "2026-01-05T10:00:00Z".parse().unwrap();
        let report = topics.report(&look(), at);
        let _table: toml::Table = report.table.parse().unwrap();
        report
    }

    #[test]
    fn what_measures_heat_comes_first_and_says_how_often() {
        let mut topics = Topics::default();
        topics.hear("dc1/door", b"open", true);
        for _ in 0..20 {
            topics.hear("dc1/rack07/power_kw", b" 8.5\n", false);
        }
        topics.hear(
            "dc1/rack07/exhaust",
            br#"{"value": 41.5, "unit": "C", "at": "2026-01-05T09:59:58Z"}"#,
            true,
        );
        topics.hear("dc1/rack08/temp", b"24.5", true);
        let report = report(&topics);
        assert_eq!(report.found[0], "4 topics, 23 messages in 10 s");
        assert_eq!(
            report.found[2..],
            [
                "dc1/rack07/power_kw  8.5  every 500 ms  [the payload = 8.5 kW?]",
                "dc1/rack07/exhaust  {\"value\": 41.5, \"unit\": \"C\", \"at\": \"2026-01-05T09:59:58Z\"}  retained only  \
                 [$.value = 41.5 C?]",
                "dc1/rack08/temp  24.5  retained only  [the payload = 24.5 C?]",
                "dc1/door  open  retained only",
            ]
        );
        let table: toml::Table = report.table.parse().unwrap();
        let points = table["thermal"]["points"].as_table().unwrap();
        assert_eq!(
            points["dc1_rack07_power_kw"]["mqtt"]["topic"].as_str(),
            Some("dc1/rack07/power_kw")
        );
        let exhaust = &points["dc1_rack07_exhaust_value"]["mqtt"];
        assert_eq!(exhaust["time"].as_str(), Some("$.at"));
        assert!(!points.contains_key("dc1_door"));
        let caution = report.table.matches("Only a retained value came").count();
        assert_eq!(caution, 1, "the dated one says when: {}", report.table);
    }

    #[test]
    fn what_others_publish_is_bounded_and_moves_no_cursor() {
        let mut topics = Topics::default();
        topics.hear("a\u{1b}[2J", b"\x1b]0;x\x07 7\xc3\xa4", false);
        topics.hear("spBv1.0/g/DDATA/n", &[0xff, 0x00], false);
        topics.hear("raw", &[0xff; 3], false);
        topics.hear("long", &[b'7'; 100_000], false);
        for number in 0..3_000 {
            topics.hear(&format!("zz/{number:04}"), b"x", true);
        }
        assert_eq!(topics.topics.len(), TOPICS_MAX);
        let kept: usize = topics.topics.values().map(|topic| topic.newest.len()).sum();
        assert!(kept < PAYLOAD_BYTES_MAX + 2 * TOPICS_MAX, "{kept}");
        let text = report(&topics).found.join("\n");
        assert!(
            !text.contains('\u{1b}') && text.contains("a\\u{1b}[2J  \\u{1b}]0;x\\u{7} 7ä"),
            "{text}"
        );
        for part in [
            "spBv1.0/g/DDATA/n  Sparkplug B, 2 bytes, which is not read",
            "raw  3 bytes that are no text",
            "777… (100000 bytes)",
            "and 1004 messages of topics beyond the first 2000",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
