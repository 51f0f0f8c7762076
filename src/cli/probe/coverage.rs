//! `probe coverage`: an inventory to begin with, from what reports now.
//!
//! What the running agent has seen is read from its store, and every source is looked at once besides.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cms_spec::coverage::{Baseline, Kind, Reporting};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::agent;
use crate::cli::{CliError, ExitStatus, load, preview, print, run};
use crate::clock::Clock;

pub(super) fn print_inventory(config_path: &Path) -> Result<ExitStatus, CliError> {
    let config = load(config_path)?;
    let clock = Clock::system();
    let host = agent::local_host(&config, &clock).map_err(|error| CliError::failed(&error))?;
    let mut windows = preview::kept_windows(&config)?;
    let looking = preview::collect(&config, &|_| true, &host, &clock, &mut windows);
    let failed = run::runtime()?.block_on(looking).failed;
    let now = clock.now();
    let reporting = windows.reporting(now);
    if reporting.now.iter().all(BTreeMap::is_empty) {
        return Err(failed.into_iter().next().unwrap_or(CliError::Failed {
            status: ExitStatus::Problem,
            chain: "nothing reports yet".to_owned(),
            hint: Some(
                "switch on sources in the configuration first; `check` shows them".to_owned(),
            ),
        }));
    }
    print(&inventory(&reporting, windows.baseline(), now));
    for error in &failed {
        error.print();
    }
    Ok(if failed.is_empty() {
        ExitStatus::Ok
    } else {
        ExitStatus::Problem
    })
}

/// The rows of everything that reports, with the names of the inventory that there is.
fn inventory(reporting: &Reporting, known: Option<&Baseline>, now: Timestamp) -> String {
    let mut text = format!(
        "# submission_date: {}\n# What reports now. Add what does not, with its name, before it is handed in.\n",
        now.to_zoned(TimeZone::UTC).date()
    );
    let mut rows = String::from("kind,id,name\n");
    let mut silent = 0_usize;
    for kind in Kind::ALL {
        let documented = known.map_or(&[][..], |baseline| baseline.of(kind));
        let names: BTreeMap<&str, &str> = documented
            .iter()
            .map(|one| (one.id.as_str(), one.name.as_str()))
            .collect();
        let now = reporting.of(kind);
        silent += names.keys().filter(|id| !now.contains_key(**id)).count();
        for id in now.keys() {
            let name = names.get(id.as_str()).copied().unwrap_or_default();
            let name = if name == id { "" } else { name };
            // Writing to a text cannot fail.
            let _ = writeln!(rows, "{},{},{}", kind.word(), field(id), field(name));
        }
    }
    if silent > 0 {
        let _ = writeln!(
            text,
            "# {silent} rows of the present inventory do not report and are not in this list."
        );
    }
    text + &rows
}

/// A field of a CSV file.
fn field(text: &str) -> String {
    let is_plain = !text.contains([',', ';', '"', '\n', '\r']) && text.trim() == text;
    if is_plain {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use cms_spec::coverage::{Documented, Span};

    use super::*;

    #[test]
    fn what_reports_becomes_rows_and_names_are_kept() {
        let now: Timestamp = "2026-03-05T23:30:00Z".parse().unwrap();
        let mut reporting = Reporting::default();
        for (kind, id) in [
            (Kind::Instance, "host:a"),
            (Kind::Instance, "b, \"second\""),
            (Kind::Storage, "archive"),
        ] {
            reporting.add(kind, id, Span::once(now), true);
        }
        reporting.add(Kind::Storage, "old", Span::once(now), false);
        let row = |id: &str, name: &str| Documented {
            id: id.to_owned(),
            name: name.to_owned(),
            decommissioned: None,
        };
        let known = Baseline {
            submission_date: "2026-01-01".parse().unwrap(),
            instances: vec![row("host:a", "web, main"), row("host:z", "gone")],
            storage: Vec::new(),
            model_endpoints: Vec::new(),
        };
        let text = inventory(&reporting, Some(&known), now);
        assert!(
            text.starts_with("# submission_date: 2026-03-05\n"),
            "{text}"
        );
        assert!(
            text.contains("# 1 rows of the present inventory do not report"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "kind,id,name\ninstance,\"b, \"\"second\"\"\",\ninstance,host:a,\"web, main\"\nstorage,archive,\n"
            ),
            "{text}"
        );
    }
}
