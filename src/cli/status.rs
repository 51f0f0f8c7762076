//! `status`: what the running agent says about itself. Reads its snapshot and computes nothing.

mod coverage;

use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::Args;
use cms_spec::dark::TURNED_ACTIVE_PERCENT_MAX;
use jiff::{SignedDurationRound, Timestamp, Unit};

use super::{CliError, ExitStatus, load, print};
use crate::limits::STATUS_BYTES_MAX;
use crate::status::{Part, PartState, Snapshot, error_chain};

/// A running agent answers at once; one that does not is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// Submissions in the text form; `--json` has more.
const SUBMISSIONS_SHOWN: usize = 8;

/// Shows what the running agent says about itself: sources, outbox, next slots.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,

    /// Look again every two seconds.
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub(super) fn run(self, config_path: &Path) -> Result<ExitStatus, CliError> {
        let config = load(config_path)?;
        loop {
            let line = ask(&config.status_socket)?;
            let snapshot: Snapshot =
                serde_json::from_str(&line).map_err(|error| CliError::failed(&error))?;
            if self.json {
                print(&line);
            } else {
                if self.watch {
                    print("\x1b[2J\x1b[H");
                }
                print(&text(&snapshot));
            }
            if !self.watch {
                return Ok(match snapshot.state {
                    PartState::Degraded | PartState::Failed => ExitStatus::Problem,
                    _ => ExitStatus::Ok,
                });
            }
            wait(WATCH_EVERY);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this command has no runtime; the process does nothing else"
)]
pub(super) fn wait(span: Duration) {
    thread::sleep(span);
}

fn ask(socket: &Path) -> Result<String, CliError> {
    let unreachable = |error: &std::io::Error| CliError::Failed {
        status: ExitStatus::Problem,
        chain: format!(
            "no agent answers at {}: {}",
            socket.display(),
            error_chain(error)
        ),
        hint: Some("is it running? try: systemctl status cms-telemetry-agent".to_owned()),
    };
    let stream = UnixStream::connect(socket).map_err(|error| unreachable(&error))?;
    stream
        .set_read_timeout(Some(ANSWER_WITHIN))
        .map_err(|error| unreachable(&error))?;
    let mut line = String::new();
    stream
        .take(STATUS_BYTES_MAX)
        .read_to_string(&mut line)
        .map_err(|error| unreachable(&error))?;
    Ok(line)
}

fn text(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let mut line = |content: String| {
        text.push_str(content.trim_end());
        text.push('\n');
    };
    line(format!(
        "{}  {}  agent {} {}  up {}",
        word(snapshot.state),
        snapshot.company_id,
        snapshot.agent_id,
        snapshot.version,
        age(snapshot.started_at, snapshot.at)
    ));
    line(format!(
        "dashboard  {}  receipts: {}",
        snapshot.endpoint,
        receipts(snapshot)
    ));
    line(format!(
        "store      {} KiB, {}",
        snapshot.store_bytes / 1024,
        snapshot.key.in_words()
    ));
    for (record, count) in &snapshot.set_aside {
        line(format!(
            "damaged    {count} records of {record} cannot be opened and were set aside"
        ));
    }
    for witness in &snapshot.witnesses {
        line(format!(
            "witness    {}  {} of {} leaves, signed {} ago",
            witness.name,
            witness.size,
            witness.leaves,
            age(witness.at, snapshot.at)
        ));
    }
    for (unit, anomaly) in &snapshot.anomalies {
        line(format!(
            "unusual    {unit}: {anomaly} turned active between the last two scans, over {TURNED_ACTIVE_PERCENT_MAX} %; \
             does something read or touch all files? The dashboard is told (access_anomaly), until a scan without it"
        ));
    }
    line(format!(
        "outbox     {} pending, {} accepted, {} receipted, {} superseded, {} rejected",
        snapshot.outbox.pending,
        snapshot.outbox.accepted,
        snapshot.outbox.receipted,
        snapshot.outbox.superseded,
        snapshot.outbox.rejected
    ));
    if let Some(forecast) = &snapshot.coverage {
        for row in coverage::lines(forecast, snapshot.inventory.as_deref(), snapshot.at) {
            line(row);
        }
    }
    line(String::new());
    for part in &snapshot.parts {
        line(part_line(part, snapshot.at));
    }
    line(String::new());
    for (category, at) in &snapshot.next_slots {
        line(format!("next  {category:<22} in {}", age(snapshot.at, *at)));
    }
    if !snapshot.recent.is_empty() {
        line(String::new());
    }
    for row in snapshot.recent.iter().take(SUBMISSIONS_SHOWN) {
        line(format!(
            "#{:<6} {:<22} slot end {}  {}  {}",
            row.index,
            row.category.path(),
            row.slot.end,
            row.state,
            row.answer.as_deref().unwrap_or("")
        ));
    }
    text
}

/// How far the dashboard has countersigned the ledger, and how far it is behind.
fn receipts(snapshot: &Snapshot) -> String {
    snapshot.receipts.as_ref().map_or_else(
        || "none".to_owned(),
        |receipt| {
            let age = age(receipt.at, snapshot.at);
            format!(
                "{} of {} leaves, signed {age} ago",
                receipt.size, receipt.leaves
            )
        },
    )
}

fn part_line(part: &Part, now: Timestamp) -> String {
    let mut line = format!(
        "{:<9} {:<32} since {}",
        word(part.state),
        part.name,
        age(part.since, now)
    );
    if let Some(detail) = &part.detail {
        let _written = write!(line, ", {detail}");
    }
    if let (Some(error), false) = (&part.last_error, part.state == PartState::Ok) {
        let _written = write!(line, ", {} errors: {error}", part.errors);
    }
    for detail in &part.details {
        let _written = write!(line, "\n            {detail}");
    }
    line
}

fn word(state: PartState) -> &'static str {
    match state {
        PartState::Absent => "absent",
        PartState::Degraded => "degraded",
        PartState::Failed => "failed",
        PartState::Ok => "ok",
        PartState::Starting => "starting",
        PartState::Stopped => "stopped",
        PartState::Stopping => "stopping",
    }
}

fn age(from: Timestamp, to: Timestamp) -> String {
    let span = to.duration_since(from);
    let span = span
        .round(SignedDurationRound::new().smallest(Unit::Second))
        .unwrap_or(span);
    format!("{span:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healed_part_does_not_show_its_old_error() {
        let mut part = Part {
            name: "compute/host".to_owned(),
            state: PartState::Degraded,
            since: Timestamp::UNIX_EPOCH,
            last_ok: None,
            errors: 3,
            last_error: Some("may not read /proc/stat".to_owned()),
            detail: None,
            details: vec!["a scan".to_owned()],
        };
        let now = Timestamp::from_second(90).unwrap();
        assert!(part_line(&part, now).contains("3 errors: may not read /proc/stat"));
        part.state = PartState::Ok;
        assert_eq!(
            part_line(&part, now),
            format!(
                "ok        {:<32} since 1m 30s\n            a scan",
                "compute/host"
            )
        );
    }
}
