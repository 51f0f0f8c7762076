//! `check`: what `run` would meet, told before it does: configuration, permissions, sources, clock, key, store,
//! dashboard.
//!
//! Owns: the order of the checks and how they are told. Promises: every check runs, whatever another one found;
//! nothing is written, sent or changed, except that the dashboard is asked for a challenge and that the running agent
//! notes a point that was compared (`--point`). Refuses: repairing.

mod machine;
mod online;
mod point;
mod sources;

use std::path::Path;

use clap::Args;
use cms_spec::decimal::Decimal;
use serde::Serialize;

use super::progress::Progress;
use super::{CliError, ExitStatus, load, print, run};
use crate::agent;
use crate::clock::Clock;
use crate::config::{Config, ConfigErrors, Secret, SecretSource, Setting};
use crate::status::error_chain;
use crate::transport::Transport;

/// Shows what `run` would meet: configuration, permissions, sources, clock, key, store, dashboard.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Leave the dashboard out.
    #[arg(long)]
    offline: bool,

    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,

    /// Read this point only, such as 'rack-07 supply', and compare it with what its device shows.
    #[arg(long, value_name = "NAME", requires = "expect")]
    point: Option<String>,

    /// What the display of the device says, in the point's unit.
    #[arg(
        long,
        value_name = "NUMBER",
        requires = "point",
        allow_negative_numbers = true
    )]
    expect: Option<Decimal>,

    /// How far the two may be apart, in percent of what is expected.
    #[arg(
        long,
        value_name = "PERCENT",
        default_value = "0.5",
        requires = "point"
    )]
    within: Decimal,
}

/// How a check went. The order is from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    verdict: Verdict,
    what: String,
    detail: String,
    /// What a source lists about itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

/// All findings; in text each is printed as soon as it is known.
#[derive(Debug)]
struct Report {
    json: bool,
    findings: Vec<Finding>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    ok: bool,
    checks: &'a [Finding],
    settings: Vec<ShownSetting>,
}

#[derive(Debug, Serialize)]
struct ShownSetting {
    table: Option<String>,
    key: String,
    value: Option<String>,
    origin: String,
}

impl Check {
    pub(super) fn run(self, config_path: &Path) -> Result<ExitStatus, CliError> {
        let config = match load(config_path) {
            Ok(config) => config,
            Err(CliError::Config(errors)) if self.json => {
                let report = Report::of_errors(&errors);
                print(&report.document(None)?);
                return Ok(ExitStatus::Config);
            }
            Err(error) => return Err(error),
        };
        let runtime = run::runtime()?;
        let outcome = runtime.block_on(self.look(&config));
        // A source that hangs in the kernel must not keep the command alive.
        runtime.shutdown_background();
        outcome
    }

    async fn look(self, config: &Config) -> Result<ExitStatus, CliError> {
        let clock = Clock::system();
        let mut report = Report::new(self.json);
        if let (Some(name), Some(expected)) = (&self.point, self.expect) {
            let wanted = point::Wanted {
                name,
                expected,
                within_percent: self.within,
            };
            report.push(point::compare(config, &clock, &wanted).await);
            return report.end(config);
        }
        if !self.json {
            print(&format!("{}\n", config.resolved));
        }
        let settings = config.resolved.settings.len();
        report.push(Finding::ok(
            "configuration",
            format!(
                "{settings} settings are in order; digest {}",
                config.resolved.digest()
            ),
        ));
        report.push(machine::clock(clock.now()));
        let key = api_key(config, &mut report);
        let transport = transport(config, &mut report);
        for finding in machine::store(&config.store) {
            report.push(finding);
        }
        report.push(machine::status_socket(&config.status_socket));
        if let Some(address) = config.metrics_listen {
            report.push(machine::metrics(address));
        }
        match agent::local_host(config, &clock) {
            Ok(host) => sources::look(config, &host, &clock, &mut report).await,
            Err(error) => report.push(Finding::fail("sources", error_chain(&error))),
        }
        if !self.offline {
            let answer = match (&transport, &key) {
                (Some(transport), Some(key)) => {
                    let ask = async |key: &Secret| transport.challenge(key.expose()).await;
                    let endpoint = &config.dashboard.endpoint;
                    let look = online::look(endpoint, key, clock.now(), ask);
                    Progress::during(&format!("asking {endpoint}"), look).await
                }
                _ => Finding::warn(
                    "dashboard",
                    "not asked: the key or the certificates are not usable",
                ),
            };
            report.push(answer);
        }
        report.end(config)
    }
}

impl Finding {
    fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, what, detail)
    }

    fn warn(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, what, detail)
    }

    fn fail(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, what, detail)
    }

    fn new(verdict: Verdict, what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            verdict,
            what: what.into(),
            detail: detail.into(),
            lines: Vec::new(),
            hints: Vec::new(),
        }
    }

    fn lines(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    fn text(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        let mut text = format!("{verdict:<4}  {:<24}  {}\n", self.what, self.detail);
        for line in &self.lines {
            text.push_str(&format!("      {line}\n"));
        }
        for hint in &self.hints {
            text.push_str(&format!("      hint: {hint}\n"));
        }
        text
    }
}

impl Report {
    fn new(json: bool) -> Self {
        Self {
            json,
            findings: Vec::new(),
        }
    }

    fn of_errors(errors: &ConfigErrors) -> Self {
        let mut report = Self::new(true);
        for problem in errors.problems() {
            let detail = match problem.place() {
                Some(place) => {
                    format!(
                        "{}:{}:{}: {}",
                        place.file,
                        place.line,
                        place.column,
                        problem.message()
                    )
                }
                None => problem.message().to_owned(),
            };
            let finding = Finding::fail("configuration", detail);
            let hints = problem.hints().iter();
            report.push(hints.fold(finding, |finding, hint| finding.hint(hint)));
        }
        report
    }

    fn push(&mut self, finding: Finding) {
        if !self.json {
            print(&finding.text());
        }
        self.findings.push(finding);
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings
            .iter()
            .filter(|f| f.verdict == verdict)
            .count()
    }

    fn end(self, config: &Config) -> Result<ExitStatus, CliError> {
        let (failed, warned) = (self.count(Verdict::Fail), self.count(Verdict::Warn));
        if self.json {
            print(&self.document(Some(config))?);
        } else {
            let count = self.findings.len();
            print(&format!(
                "\n{count} checks: {failed} failed, {warned} with a warning\n"
            ));
        }
        Ok(if failed == 0 {
            ExitStatus::Ok
        } else {
            ExitStatus::Problem
        })
    }

    fn document(&self, config: Option<&Config>) -> Result<String, CliError> {
        let document = Document {
            ok: self.count(Verdict::Fail) == 0,
            checks: &self.findings,
            settings: config.map(shown_settings).unwrap_or_default(),
        };
        let mut text =
            serde_json::to_string_pretty(&document).map_err(|error| CliError::failed(&error))?;
        text.push('\n');
        Ok(text)
    }
}

fn shown_settings(config: &Config) -> Vec<ShownSetting> {
    let shown = |table: Option<&str>, setting: &Setting| ShownSetting {
        table: table.map(str::to_owned),
        key: setting.key.clone(),
        value: setting.value.clone(),
        origin: setting.origin.to_string(),
    };
    let resolved = &config.resolved;
    let top = resolved.settings.iter().map(|s| shown(None, s));
    let sections = resolved.sections.iter();
    let below = sections.flat_map(|t| t.settings.iter().map(|s| shown(Some(&t.header), s)));
    top.chain(below).collect()
}

fn api_key(config: &Config, report: &mut Report) -> Option<Secret> {
    let dashboard = &config.dashboard;
    let key = one_api_key("API key", &dashboard.api_key, report);
    if let Some(next) = &dashboard.api_key_next {
        one_api_key("next API key", next, report);
    }
    key
}

fn one_api_key(what: &'static str, source: &SecretSource, report: &mut Report) -> Option<Secret> {
    match source.read() {
        Ok(key) if !key.expose().is_ascii() => {
            let detail = format!("{source} holds letters that no HTTP header can carry");
            report.push(
                Finding::fail(what, detail).hint("write it again as the dashboard printed it"),
            );
            None
        }
        Ok(key) => {
            report.push(Finding::ok(what, format!("read from {source}")));
            Some(key)
        }
        Err(error) => {
            report.push(Finding::fail(what, error_chain(&error)).hint(error.hint()));
            None
        }
    }
}

fn transport(config: &Config, report: &mut Report) -> Option<Transport> {
    match Transport::new(&config.dashboard.endpoint, &agent::tls_files(config)) {
        Ok(transport) => {
            let roots = match &config.dashboard.ca_file {
                Some(file) => format!("authorities of {}", file.display()),
                None => "authorities of this system".to_owned(),
            };
            let own = match &config.dashboard.client_identity {
                Some(identity) => format!(", own certificate {}", identity.cert_file.display()),
                None => String::new(),
            };
            report.push(Finding::ok("certificates", format!("{roots}{own}")));
            Some(transport)
        }
        Err(error) => {
            let hint = "see ca_file, client_cert_file and client_key_file in [dashboard]";
            report.push(Finding::fail("certificates", error_chain(&error)).hint(hint));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_its_hints() {
        let finding = Finding::fail("store", "/x is a file")
            .hint("remove it")
            .hint("or name another");
        assert_eq!(
            finding.text(),
            "fail  store                     /x is a file\n      hint: remove it\n      hint: or name another\n"
        );
    }

    #[test]
    fn a_bad_configuration_is_a_document_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "company_id = \"acme\"\ndashbord = 1\n").unwrap();
        let errors = Config::load(&file, "host").unwrap_err();
        let document = Report::of_errors(&errors).document(None).unwrap();
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["ok"], false);
        assert_eq!(document["checks"][0]["verdict"], "fail");
        let detail = document["checks"][0]["detail"].as_str().unwrap();
        assert!(
            detail.ends_with("config.toml:2:1: unknown key `dashbord`"),
            "{detail}"
        );
    }
}
