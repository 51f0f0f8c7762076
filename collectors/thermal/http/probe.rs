//! Looks at an answer and says which numbers are in it, and how to configure them as points.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::{ANSWER_BYTES_MAX, Page};
use crate::CollectError;
use crate::thermal::document;
use crate::thermal::document::leaves::{Leaf, Leaves, name_for_formulas};
use crate::web::{Login, Request, SecretPlace, Site, Web, malformed};

/// A person is waiting.
const WITHIN: Duration = Duration::from_secs(20);

/// Most values for which a table is printed.
const TABLES_MAX: usize = 20;

/// What was found, for a person, and the tables for the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// One line for each thing that was found.
    pub found: Vec<String>,
    /// Tables for the configuration.
    pub table: String,
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
    let found = Leaves::of(&document, at);
    if found.numbers.is_empty() {
        return Err(malformed(&url, "there is no number in its answer"));
    }
    Ok(suggestion(&found, &device, &place, page.etag.is_some()))
}

fn suggestion(leaves: &Leaves, device: &str, place: &str, has_etag: bool) -> Suggestion {
    let mut found: Vec<String> = leaves
        .numbers
        .iter()
        .map(|leaf| match leaf.unit {
            Some(unit) => format!("{} = {}, perhaps {unit}", leaf.select, leaf.number),
            None => format!("{} = {}", leaf.select, leaf.number),
        })
        .collect();
    found.extend(
        leaves
            .times
            .iter()
            .take(TABLES_MAX)
            .map(|time| format!("{time} is a time")),
    );
    if leaves.more > 0 {
        found.push(format!("and {} more", leaves.more));
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
    for leaf in leaves.numbers.iter().take(TABLES_MAX) {
        let mut name = name_for_formulas(&leaf.name);
        if taken.contains(&name) {
            let _ = write!(name, "_{}", taken.len() + 1);
        }
        table.push_str(&point(place, Some(leaf), &name, leaves.times.first()));
        taken.push(name);
    }
    Suggestion { found, table }
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

    #[test]
    fn numbers_become_tables() {
        let document = json!({
            "at": "2026-01-05T09:59:58Z",
            "points": [{ "id": "HM1", "power": 85.3 }, { "id": "T1", "value": "41.5", "unit": "C" }],
        });
        let found = Leaves::of(&document, "2026-01-05T10:00:00Z".parse().unwrap());
        let suggestion = suggestion(&found, "", "device = \"bms\"", false);
        assert!(
            suggestion.found[0].ends_with("= 85.3, perhaps kW"),
            "{:?}",
            suggestion.found
        );
        let table: toml::Table = suggestion.table.parse().unwrap();
        let points = table["thermal"]["source"]["points"].as_table().unwrap();
        assert_eq!(points.len(), 2, "{}", suggestion.table);
        assert_eq!(points["hm1_power"]["http"]["time"].as_str(), Some("$.at"));
        assert_eq!(points["t1_value"]["unit_of_measure"].as_str(), Some("C"));
    }
}
