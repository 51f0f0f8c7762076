//! Each source is opened and asked once, as the agent would.

use std::sync::Arc;
use std::time::Duration;

use cms_collectors::{CollectError, Host, OpenError, Settings};
use cms_spec::reading::Readings;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::{Finding, Report};
use crate::cli::progress::Progress;
use crate::clock::Clock;
use crate::config::Config;
use crate::status::error_chain;

/// A source that needs longer for one tick is only opened: a person is waiting.
const TICK_MAX: Duration = Duration::from_secs(10);

/// How many looks a counter needs.
const LOOKS_OF_A_COUNTER: u32 = 2;

/// How many looks a device may take to give its first answer.
const LOOKS_MAX: u32 = 8;

/// How long two looks lie apart.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// What a source may need beyond its own limit to say that it was late.
const GRACE: Duration = Duration::from_millis(200);

/// Opens every source that is switched on, and takes one tick of it.
pub(super) async fn look(config: &Config, host: &Host, clock: &Clock, report: &mut Report) {
    if config.sources.is_empty() {
        let finding = Finding::warn("sources", "none is switched on: there is nothing to submit");
        report.push(finding.hint("add a table such as [compute] to the configuration"));
    }
    for source in &config.sources {
        let settings = Arc::clone(&source.settings);
        let (host, now) = (host.clone(), clock.now());
        // A source may block its thread or panic, which must not end the command.
        let ask = spawn_blocking(move || Handle::current().block_on(ask(settings, host, now)));
        let what = source.settings.name();
        let limit =
            source.settings.deadline().min(TICK_MAX) * 2 + BETWEEN_LOOKS * LOOKS_MAX + GRACE;
        let asked = Progress::during(&format!("asking {what}"), timeout(limit, ask)).await;
        let finding = match asked {
            Ok(Ok(finding)) => finding,
            Ok(Err(panic)) => Finding::fail(&what, format!("the collector has a bug: {panic}"))
                .hint("please report it; the agent starts it again and the other sources go on"),
            Err(_) => late(&what, source.settings.deadline().min(TICK_MAX)),
        };
        report.push(finding.hint_origin(&source.origin));
    }
}

async fn ask(settings: Arc<dyn Settings>, host: Host, now: Timestamp) -> Finding {
    let what = settings.name();
    let mut collector = match settings.open(&host) {
        Ok(collector) => collector,
        Err(OpenError::Absent(why)) => {
            return Finding::warn(what, format!("absent: {why}"))
                .hint("remove its table, or set enabled = false, if this host is not to have it");
        }
        Err(OpenError::Collect(error)) => return failed(what, &error),
    };
    let mut readings = Readings::default();
    let limit = settings.deadline().min(TICK_MAX);
    match timeout(limit, collector.collect(now, &mut readings)).await {
        Ok(Ok(())) => {
            let told = taken(readings, collector.progress(), now);
            let trouble = collector.trouble();
            // What it lists may need two looks at a counter, or the first answer of a device. The first look
            // has decided how it is.
            for look in 1..LOOKS_MAX {
                let is_enough = collector.details().is_empty()
                    || (look >= LOOKS_OF_A_COUNTER && !collector.is_waiting());
                if is_enough {
                    break;
                }
                sleep(BETWEEN_LOOKS).await;
                let mut again = Readings::default();
                drop(timeout(limit, collector.collect(now, &mut again)).await);
            }
            let finding = match trouble {
                None => Finding::ok(what, told),
                Some(trouble) => Finding::warn(what, format!("{told}; {trouble}")),
            };
            finding.lines(collector.details())
        }
        Ok(Err(error)) => failed(what, &error),
        Err(_) => late(&what, limit),
    }
}

fn taken(readings: Readings, doing: Option<String>, now: Timestamp) -> String {
    let refused = readings.refused();
    let sample = readings.stamp("", now, "");
    let (values, statements) = (sample.readings.len(), sample.snapshots.len());
    let first = match (values, statements) {
        (0, 0) => "opened".to_owned(),
        (values, statements) => format!("readings: {values}, statements: {statements}"),
    };
    let doing = match doing {
        Some(doing) => format!("; {doing}"),
        None if values + statements == 0 => "; its first figures come with a later tick".to_owned(),
        None => String::new(),
    };
    let refused = if refused == 0 {
        String::new()
    } else {
        format!("; {refused} more did not fit")
    };
    format!("{first}{doing}{refused}")
}

fn failed(what: String, error: &CollectError) -> Finding {
    let finding = Finding::fail(what, format!("{}: {}", error.class(), error_chain(error)));
    match error {
        // Its text says already which permission helps.
        CollectError::Denied { .. } => finding,
        _ => finding.hint(
            "the agent tries again by itself; until then the figures of this source are missing",
        ),
    }
}

fn late(what: &str, limit: Duration) -> Finding {
    Finding::warn(
        what,
        format!(
            "opened, but one tick takes longer than {} s",
            limit.as_secs()
        ),
    )
    .hint("`run` waits up to the source's own deadline")
}

impl Finding {
    /// Says where a source that has a problem is configured.
    fn hint_origin(self, origin: &str) -> Self {
        if self.hints.is_empty() && self.verdict == super::Verdict::Ok {
            return self;
        }
        self.hint(format!("it is configured at {origin}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::Verdict;
    use super::*;

    fn config(folder: &Path, sources: &str) -> Config {
        let head = "company_id = \"acme\"\ndashboard.api_key = { env = \"KEY\" }\n";
        let file = folder.join("config.toml");
        fs::write(&file, format!("{head}{sources}")).unwrap();
        Config::load(&file, "host").unwrap()
    }

    async fn findings(sources: &str) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), sources);
        let web = Arc::new(cms_collectors::web::Offline);
        let id = "host:0000000000000000".parse().unwrap();
        let host = Host::local(id, "host".to_owned(), web);
        let mut report = Report::new(true);
        look(&config, &host, &Clock::system(), &mut report).await;
        report.findings
    }

    #[tokio::test]
    async fn no_source_is_a_warning() {
        let findings = findings("").await;
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].verdict, Verdict::Warn);
    }

    #[tokio::test]
    async fn a_source_is_really_asked() {
        let findings = findings("[compute]\n").await;
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].verdict, Verdict::Ok, "{findings:?}");
        assert_eq!(findings[0].what, "compute/host");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_told_with_its_place() {
        let findings = findings("[coverage]\nbaseline = \"/nowhere/inventory.csv\"\n").await;
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].verdict, Verdict::Fail, "{findings:?}");
        assert!(
            findings[0].detail.contains("/nowhere/inventory.csv"),
            "{findings:?}"
        );
        assert!(
            findings[0]
                .hints
                .iter()
                .any(|h| h.ends_with("config.toml:3")),
            "{findings:?}"
        );
    }
}
