//! Looks at an address and says what is there, and how to configure it.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::figures::DIALECTS;
use super::page::Page;
use super::query::{Client, QueryError};
use crate::CollectError;
use crate::exposition::{PAGE_BYTES_MAX, Reader};
use crate::web::{Request, Site, Web, malformed};

/// A person is waiting.
const WITHIN: Duration = Duration::from_secs(20);

/// Most jobs that are told.
const JOBS_MAX: usize = 50;

/// What was found, for a person, and the table for the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// One line for each thing that was found.
    pub found: Vec<String>,
    /// The table for the configuration.
    pub table: String,
}

/// Asks whether there is a monitoring server or an exporter.
///
/// # Errors
/// When there is neither; the error is the one of the kind that was more likely.
pub async fn look(web: &dyn Web, site: &Site, at: Timestamp) -> Result<Suggestion, CollectError> {
    if site.address().path().ends_with("/metrics") {
        return exporter(web, site, "").await;
    }
    let not_a_server = match server(web, site, at).await {
        Err(error @ (CollectError::Malformed { .. } | CollectError::Vanished { .. })) => error,
        answer => return answer,
    };
    match exporter(web, site, "/metrics").await {
        Err(_) => Err(not_a_server),
        answer => answer,
    }
}

async fn server(web: &dyn Web, site: &Site, at: Timestamp) -> Result<Suggestion, CollectError> {
    let server = web.open(site)?;
    let client = Client::new(server, &site.address().to_string(), WITHIN);
    let mut found = Vec::new();
    let mut names = Vec::new();
    for dialect in DIALECTS {
        let mut on_row = |row: super::answer::Row| {
            if found.len() < JOBS_MAX {
                let job = row.label("job").to_owned();
                found.push(format!(
                    "{} machines of {} in job {job:?}",
                    row.value(),
                    dialect.exporter
                ));
                names.push(job);
            }
        };
        let said = client.ask(dialect.jobs, at, &mut on_row).await;
        let said = said.map_err(|error| match error {
            QueryError::Hopeless(error) => error,
            QueryError::TooMuch(why) => malformed(&client.url, &why),
        })?;
        found.extend(said.remarks);
    }
    if names.is_empty() {
        found.push("a query API, but no machine of node_exporter or windows_exporter".to_owned());
    }
    let mut table = format!(
        "[[compute.prometheus]]\nurl = {:?}\n",
        site.address().to_string()
    );
    table.push_str(&site.keys());
    match names.as_slice() {
        [] => {}
        [_] => table.push_str("# every machine that it watches is reported\n"),
        _ => {
            let jobs: Vec<String> = names.iter().map(|job| format!("{job:?}")).collect();
            let _ = writeln!(table, "# jobs found: {}", jobs.join(", "));
            table.push_str(
                "# select = 'job=\"JOB\"'         # to report the machines of one job only\n",
            );
        }
    }
    table.push_str(
        "interval = \"1h\"               # each survey reads 30 days of history on that server\n",
    );
    Ok(Suggestion { found, table })
}

async fn exporter(web: &dyn Web, site: &Site, path: &str) -> Result<Suggestion, CollectError> {
    let url = site.address().url(path);
    let server = web.open(site)?;
    let request = Request {
        path,
        body: None,
        headers: &[],
        within: WITHIN,
        answer_bytes_max: PAGE_BYTES_MAX,
    };
    let mut page = Page::default();
    let mut reader = Reader::new();
    let mut on_piece = |piece: &[u8]| {
        reader.feed(piece, &mut |item| page.take(item));
        Ok(())
    };
    server
        .ask(&request, &mut on_piece)
        .await?
        .require_good(&url)?;
    let read = reader.finish(&mut |item| page.take(item));
    if !page.is_of_a_machine() {
        let why = match read.bad_lines_in_words() {
            Some(bad) => format!(
                "there are {} metrics in it and none of a machine ({bad})",
                read.samples
            ),
            None => format!(
                "there are {} metrics in it and none of a machine",
                read.samples
            ),
        };
        return Err(malformed(&url, &why));
    }
    let mut found = vec![format!("one machine: {}", page.instance_type())];
    let mut has = |is_there: bool, what: &str| {
        let word = if is_there { "has" } else { "has no" };
        found.push(format!("it {word} {what}"));
    };
    has(page.processors().is_some(), "processor time");
    has(page.memory_available.is_some(), "memory");
    has(page.network().is_some(), "network counters");
    has(page.disk_operations().is_some(), "disk counters");
    has(
        page.power.is_some() || !page.zones.is_empty(),
        "power or energy",
    );
    found.extend(read.bad_lines_in_words());
    let mut table = format!("[[compute.prometheus]]\nkind = \"exporter\"\nurl = {url:?}\n");
    table.push_str(&site.keys());
    if let Some(name) = page.nodename.as_deref().filter(|name| !name.is_empty()) {
        // The machine that the agent runs on has an id already.
        let _ = writeln!(
            table,
            "# instance_id = {name:?}      # its name in the inventory, where that is another one than in the address"
        );
    }
    Ok(Suggestion { found, table })
}
