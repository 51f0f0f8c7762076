//! A survey of a monitoring server: all its instances and their 30-day means, page by page.
//!
//! Promises: one query at a time, each about a bounded number of instances; what cannot be had is
//! left out and named; a server that fails again and again is left alone until the next survey.

use std::collections::BTreeSet;

use async_trait::async_trait;
use cms_spec::Subject;
use cms_spec::reading::{Readings, Snapshot};
use cms_spec::windows::INSTANCES_MAX;
use jiff::Timestamp;

use super::answer::Row;
use super::figures::{DIALECTS, Dialect, FIGURES, Figure, Question, filled};
use super::page;
use super::query::{Client, QueryError, any_of};
use super::settings::{Config, OfServer};
use super::statement::{CLOCK_JITTER_S, Known, Naming, Run, number};
use crate::unaddressed::Unaddressed;
use crate::web::{malformed, unreachable};
use crate::{CollectError, Collector, Host};

/// After this many queries in a row that were too much, the server is left alone.
const FAILURES_MAX: u32 = 3;

/// The whole in millionths of a percent, and a little beyond it, where rounding may go.
const FULL_MICRO_TOLERATED: u64 = 100_500_000;

/// The server as a source.
pub(super) struct Survey {
    client: Client,
    name: Subject,
    /// What provenance calls it.
    told_as: String,
    /// What the server said besides, with every address in it.
    remarks: Vec<String>,
    unaddressed: Unaddressed,
    region: String,
    settings: OfServer,
    host: Host,
}

impl Survey {
    pub(super) fn open(
        config: &Config,
        settings: &OfServer,
        host: &Host,
    ) -> Result<Self, CollectError> {
        let server = host.web.open(&config.site)?;
        let mut client = Client::new(
            server,
            &config.site.address().to_string(),
            settings.query_timeout,
        );
        client.tenant.clone_from(&settings.tenant);
        Ok(Self {
            client,
            name: config.name.clone(),
            told_as: config
                .chosen
                .as_ref()
                .map_or("prometheus", Subject::as_str)
                .to_owned(),
            remarks: Vec::new(),
            unaddressed: Unaddressed::new([config.site.address().authority()]),
            region: config
                .region
                .as_ref()
                .map_or(&*host.region, Subject::as_str)
                .to_owned(),
            settings: settings.clone(),
            host: host.clone(),
        })
    }

    fn expression(&self, template: &str, names: &str) -> String {
        let by = &self.settings.instance_label;
        let labels = [
            Some(by),
            self.settings.type_label.as_ref(),
            self.settings.region_label.as_ref(),
        ];
        let facts: Vec<&str> = labels.into_iter().flatten().map(String::as_str).collect();
        let mut select = self.settings.select.clone();
        if !names.is_empty() {
            let comma = if select.is_empty() { "" } else { "," };
            select = format!("{select}{comma}{by}=~\"{names}\"");
        }
        filled(template, &select, by, &facts.join(","))
    }

    /// The expressions of the configuration.
    fn configured(&self) -> Vec<Question> {
        let queries = &self.settings.queries;
        let pairs = [
            (Figure::CpuPercent, &queries.cpu_percent),
            (Figure::MemoryPercent, &queries.memory_percent),
            (Figure::NetworkBytesPerSecond, &queries.network_bytes_per_s),
            (
                Figure::DiskOperationsPerSecond,
                &queries.disk_operations_per_s,
            ),
            (Figure::PowerWatts, &queries.power_watts),
        ];
        let given = pairs
            .into_iter()
            .filter_map(|(figure, text)| Some((figure, text.clone()?)));
        given
            .map(|(figure, expression)| Question { figure, expression })
            .collect()
    }

    /// Finds every instance that the server has seen in the last day.
    async fn find(&self, at: Timestamp, run: &mut Run) -> Result<(), CollectError> {
        let mut left_out = 0_u64;
        let mut clock = None;
        for (index, dialect) in DIALECTS.iter().enumerate() {
            let expression = self.expression(dialect.seen, "");
            let instances = &mut run.instances;
            let mut on_row = |row: Row| {
                let label = row.label(&self.settings.instance_label);
                let Some(last_seen_s) = number(row.value(), 0).and_then(|s| i64::try_from(s).ok())
                else {
                    return;
                };
                if instances.len() >= INSTANCES_MAX && !instances.contains_key(label) {
                    left_out += 1;
                    return;
                }
                let of = |label: &Option<String>| {
                    label
                        .as_ref()
                        .map_or(String::new(), |label| row.label(label).to_owned())
                };
                let known = Known {
                    dialect: index,
                    last_seen_s,
                    type_name: of(&self.settings.type_label),
                    region: of(&self.settings.region_label),
                    nodename: String::new(),
                    product: None,
                    values: [None; FIGURES],
                };
                // Where labels have changed within the day, the newest ones hold.
                let is_newer = instances
                    .get(label)
                    .is_none_or(|other| other.dialect == index && other.last_seen_s < last_seen_s);
                if is_newer {
                    instances.insert(label.to_owned(), known);
                }
            };
            let said = self.client.ask(&expression, at, &mut on_row).await;
            let said = said.map_err(|error| self.lost(error))?;
            clock = clock.or(said.date);
            run.note_all(dialect.exporter, said);
        }
        if left_out > 0 {
            run.note(format!(
                "{left_out} instances more than {INSTANCES_MAX} are left out"
            ));
        }
        let ahead_s = clock.map_or(0, |clock| clock.as_second() - at.as_second());
        if ahead_s.abs() > CLOCK_JITTER_S {
            run.note(format!(
                "the server's clock and this host's differ by {ahead_s} s"
            ));
        }
        if run.instances.is_empty() {
            let by_clock = if ahead_s.abs() > CLOCK_JITTER_S {
                format!(
                    "; its clock and this host's differ by {ahead_s} s, which must be put right first"
                )
            } else {
                String::new()
            };
            return Err(malformed(
                &self.client.url,
                &format!(
                    "it knows no machine of node_exporter or windows_exporter with {{{}}} in the last day: \
                     check `select`, or ask `probe prometheus` what it has{by_clock}",
                    self.settings.select
                ),
            ));
        }
        Ok(())
    }

    /// Asks one question and keeps its values.
    async fn ask(
        &self,
        question: &Question,
        names: &str,
        at: Timestamp,
        run: &mut Run,
    ) -> Result<(), CollectError> {
        let expression = self.expression(&question.expression, names);
        let figure = question.figure;
        let (mut nonsense, mut twice) = (0_u64, false);
        let mut answered: BTreeSet<String> = BTreeSet::new();
        let instances = &mut run.instances;
        let mut on_row = |row: Row| {
            let label = row.label(&self.settings.instance_label);
            let Some(known) = instances.get_mut(label) else {
                return;
            };
            match figure {
                Figure::Named => row.label("nodename").clone_into(&mut known.nodename),
                Figure::Product => {
                    known.product =
                        page::product(row.label("system_vendor"), row.label("product_name"));
                }
                _ => {
                    let value = number(row.value(), figure.digits())
                        .filter(|v| !figure.is_percent() || *v <= FULL_MICRO_TOLERATED);
                    nonsense += u64::from(value.is_none());
                    twice |= !answered.insert(label.to_owned());
                    if let Some(slot) = known.values.get_mut(figure as usize) {
                        *slot = value;
                    }
                }
            }
        };
        match self.client.ask(&expression, at, &mut on_row).await {
            Ok(said) => {
                run.failures = 0;
                run.note_all(figure.words(), said);
            }
            Err(QueryError::TooMuch(why)) => {
                run.failures += 1;
                run.note(format!(
                    "{} of up to {} instances could not be had: {why}",
                    figure.words(),
                    self.settings.page
                ));
                if run.failures >= FAILURES_MAX {
                    return Err(unreachable(
                        &self.client.url,
                        format!(
                            "{FAILURES_MAX} queries in a row were too much for it, the last one with: {why}; a \
                             smaller `page`, a longer `query_timeout` or recording rules in `queries` help"
                        ),
                    ));
                }
            }
            Err(QueryError::Hopeless(error)) => return Err(error),
        }
        if twice {
            return Err(malformed(
                &self.client.url,
                &format!(
                    "the expression for {} gives several values for one {}: aggregate it with max by ({})",
                    figure.words(),
                    self.settings.instance_label,
                    self.settings.instance_label
                ),
            ));
        }
        if nonsense > 0 {
            *run.nonsense.entry(figure).or_default() += nonsense;
        }
        Ok(())
    }

    /// Asks every question of an exporter about every instance that has it.
    async fn ask_pages(
        &self,
        dialect: usize,
        at: Timestamp,
        run: &mut Run,
    ) -> Result<(), CollectError> {
        let configured = self.configured();
        let answered: Vec<Figure> = configured.iter().map(|question| question.figure).collect();
        let own = DIALECTS
            .get(dialect)
            .map_or(Vec::new(), |d: &Dialect| d.questions(&answered));
        let questions: Vec<&Question> = configured
            .iter()
            .filter(|question| question.expression.contains("$select"))
            .chain(&own)
            .collect();
        let is_of = |(_, known): &(&String, &Known)| known.dialect == dialect;
        let labels: Vec<String> = run
            .instances
            .iter()
            .filter(is_of)
            .map(|(l, _)| l.clone())
            .collect();
        for page in labels.chunks(self.settings.page.max(1)) {
            let names = any_of(page.iter().map(String::as_str));
            for question in &questions {
                self.ask(question, &names, at, run).await?;
            }
        }
        Ok(())
    }

    fn lost(&self, error: QueryError) -> CollectError {
        match error {
            QueryError::Hopeless(error) => error,
            QueryError::TooMuch(why) => unreachable(
                &self.client.url,
                format!("{why}; the list of instances is the smallest question that there is"),
            ),
        }
    }
}

#[async_trait]
impl Collector for Survey {
    async fn collect(&mut self, at: Timestamp, out: &mut Readings) -> Result<(), CollectError> {
        let mut run = Run::default();
        self.find(at, &mut run).await?;
        for question in self.configured() {
            if !question.expression.contains("$select") {
                self.ask(&question, "", at, &mut run).await?;
            }
        }
        for dialect in 0..DIALECTS.len() {
            self.ask_pages(dialect, at, &mut run).await?;
        }
        let naming = Naming {
            server: &self.name,
            told_as: &self.told_as,
            region: &self.region,
            settings: &self.settings,
            host: &self.host,
        };
        let mut statement = naming.statement(at, run);
        let unaddressed = &self.unaddressed;
        let told = statement.notes.iter().map(|note| unaddressed.hide(note));
        let told = told.collect();
        self.remarks = std::mem::replace(&mut statement.notes, told);
        out.snapshot(Snapshot::Survey(statement));
        Ok(())
    }

    fn details(&self) -> Vec<String> {
        self.remarks.clone()
    }
}
