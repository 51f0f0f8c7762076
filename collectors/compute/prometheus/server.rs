//! A survey of a monitoring server: all its instances and their 30-day means, page by page.
//!
//! Promises: one query at a time, each about a bounded number of instances; what cannot be had is
//! left out and named; a server that fails again and again is left alone until the next survey.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use cms_spec::Subject;
use cms_spec::ghost::{InstanceFacts, WINDOW};
use cms_spec::provenance::{Confidence, Origin};
use cms_spec::reading::{Readings, Snapshot};
use cms_spec::survey::{Mean, NOTES_MAX, Survey as Stated, Surveyed};
use cms_spec::units::{Bytes, Fixed};
use cms_spec::windows::INSTANCES_MAX;
use jiff::{SignedDuration, Timestamp};

use super::answer::Row;
use super::figures::{DIALECTS, Dialect, FIGURES, Figure, Question, STEP_MS, filled};
use super::query::{Client, QueryError, Said, any_of};
use super::settings::{Config, OfServer};
use super::{page, this_machine, without_port};
use crate::web::{malformed, unreachable};
use crate::{CollectError, Collector, Host};

/// After this many queries in a row that were too much, the server is left alone.
const FAILURES_MAX: u32 = 3;

/// Longest remark of a server that is passed on.
const NOTE_CHARACTERS_MAX: usize = 300;

/// Clocks that differ by more than this are told about: an instant query would look at the wrong time.
const CLOCK_JITTER_S: i64 = 300;

/// A share of the whole, in millionths of a percent; rounding may go a little beyond it.
const FULL_MICRO: u64 = 100_000_000;
const FULL_MICRO_TOLERATED: u64 = 100_500_000;

const WINDOW_MS: u64 = 30 * 86_400_000;

/// Two steps of the question after the first sight of an instance.
const FIRST_STEPS: SignedDuration = SignedDuration::from_mins(30);

/// The server as a source.
pub(super) struct Survey {
    client: Client,
    name: Subject,
    region: String,
    settings: OfServer,
    host: Host,
}

/// What is known of one instance so far.
#[derive(Debug)]
struct Known {
    dialect: usize,
    last_seen_s: i64,
    type_name: String,
    region: String,
    nodename: String,
    product: Option<String>,
    values: [Option<u64>; FIGURES],
}

/// What goes on during one survey.
#[derive(Debug, Default)]
struct Run {
    /// By the value of the instance's label.
    instances: BTreeMap<String, Known>,
    notes: Vec<String>,
    failures: u32,
    /// Values that make no sense, by figure.
    nonsense: BTreeMap<Figure, u64>,
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

    fn statement(&self, at: Timestamp, mut run: Run) -> Stated {
        let mut origins = Vec::new();
        let mut instances: BTreeMap<Subject, Surveyed> = BTreeMap::new();
        let (mut unnamed, mut twice, mut ahead) = (0_u64, 0_u64, 0_u64);
        for (label, known) in std::mem::take(&mut run.instances) {
            let Some(id) = self.id(&label, &known) else {
                unnamed += 1;
                continue;
            };
            ahead += u64::from(known.last_seen_s > at.as_second() + CLOCK_JITTER_S);
            match instances.entry(id) {
                Entry::Occupied(_) => twice += 1,
                Entry::Vacant(none) => {
                    let one = self.surveyed(none.key(), &known, at, &mut origins);
                    none.insert(one);
                }
            }
        }
        let mut count = |count: u64, words: &str| {
            if count > 0 {
                run.note(format!("{count} {words}"));
            }
        };
        count(unnamed, "instances have no usable name and are left out");
        count(
            twice,
            "instances have a name that another one has too and are left out: set keep_port = true",
        );
        count(ahead, "instances report from the future: a clock is ahead");
        for (figure, values) in std::mem::take(&mut run.nonsense) {
            let words = figure.words();
            run.note(format!("{values} values of {words} are negative, infinite, no numbers or beyond 100 % and are left out"));
        }
        Stated {
            server: self.name.clone(),
            as_of: at,
            origins,
            instances: instances.into_values().collect(),
            notes: run.notes,
        }
    }

    /// The instance's id: of its label, or our own where it is the machine that we run on.
    fn id(&self, label: &str, known: &Known) -> Option<Subject> {
        let booted_s = known
            .value(Figure::Booted)
            .and_then(|s| i64::try_from(s).ok());
        if this_machine(&self.host, &known.nodename, booted_s.unwrap_or_default()) {
            return Some(self.host.instance.clone());
        }
        let name = if self.settings.keep_port {
            label
        } else {
            without_port(label)
        };
        name.parse().ok()
    }

    fn surveyed(
        &self,
        id: &Subject,
        known: &Known,
        at: Timestamp,
        origins: &mut Vec<Origin>,
    ) -> Surveyed {
        let second = |s: i64| Timestamp::from_second(s).unwrap_or(at).min(at);
        let told = |figure| {
            known
                .value(figure)
                .and_then(|s| i64::try_from(s).ok())
                .map(second)
        };
        let first_seen = told(Figure::FirstSeen).unwrap_or_else(|| second(known.last_seen_s));
        // What was there in the first steps of the window was there before it.
        let begun = at - WINDOW;
        let first_seen = if first_seen <= begun + FIRST_STEPS {
            begun
        } else {
            first_seen
        };
        let observed_ms = known
            .value(Figure::Observed)
            .unwrap_or(0)
            .saturating_mul(STEP_MS)
            .min(WINDOW_MS);
        let memory = known.value(Figure::MemoryTotal).map(Bytes);
        let cpus = known.value(Figure::Cpus);
        let mut mean = |micro: Option<u64>, method: &str| {
            let origin = Origin::measured(self.name.as_str(), method, Confidence::C);
            let at = origins.iter().position(|other| *other == origin);
            let at = at.unwrap_or_else(|| {
                origins.push(origin);
                origins.len() - 1
            });
            Some(Mean {
                micro: micro?,
                origin: u16::try_from(at).ok()?,
            })
        };
        let exporter = DIALECTS
            .get(known.dialect)
            .map_or("", |dialect| dialect.exporter);
        let own = format!("promql-{exporter}/1");
        let running_ms = known.running_ms().unwrap_or(observed_ms);
        let per_second = |figure: Figure| {
            let amount = u128::from(known.value(figure)?);
            let scale = 10_u128.pow(6 - figure.digits());
            ratio(amount * scale * 1_000, u128::from(running_ms))
        };
        let mut figure =
            |asked: Figure, computed: Option<u64>, method: &str| match known.value(asked) {
                Some(micro) => mean(Some(micro), "promql-configured/1"),
                None => computed.and_then(|micro| mean(Some(micro), method)),
            };
        let cpu = figure(Figure::CpuPercent, known.cpu_percent(), &own);
        let network = figure(
            Figure::NetworkBytesPerSecond,
            per_second(Figure::NetworkBytes),
            &own,
        );
        let disk = figure(
            Figure::DiskOperationsPerSecond,
            per_second(Figure::DiskOperations),
            &own,
        );
        let rapl = per_second(Figure::PackageEnergy)
            .map(|package| package.saturating_add(per_second(Figure::DramEnergy).unwrap_or(0)));
        let (watts, method) = match known.value(Figure::MeterWatts) {
            Some(watts) => (Some(watts), "promql-hwmon/1"),
            None => (rapl, "promql-rapl/1"),
        };
        // No running machine takes 0 W: such a value is a meter that does not work.
        let power =
            figure(Figure::PowerWatts, watts.filter(|w| *w > 0), method).filter(|p| p.micro > 0);
        let memory_method = match self.settings.queries.memory_percent {
            Some(_) => "promql-configured/1",
            None => &own,
        };
        let memory_mean = known
            .value(Figure::MemoryPercent)
            .and_then(|micro| mean(Some(micro), memory_method));
        let or = |text: &str, other: &dyn Fn() -> String| match text {
            "" => other(),
            text => text.to_owned(),
        };
        Surveyed {
            facts: InstanceFacts {
                instance: id.clone(),
                instance_type: or(&known.type_name, &|| {
                    page::instance_type(known.product.as_deref(), cpus, memory)
                }),
                region: or(&known.region, &|| self.region.clone()),
                launch_time: told(Figure::Booted).unwrap_or(first_seen),
                monthly_cost_usd: None,
            },
            first_seen,
            last_seen: second(known.last_seen_s),
            observed_ms,
            cpu,
            memory: memory_mean,
            network,
            disk,
            power,
        }
    }
}

impl Known {
    fn value(&self, figure: Figure) -> Option<u64> {
        self.values.get(figure as usize).copied().flatten()
    }

    /// How long processors were counted: all their time over their number.
    fn running_ms(&self) -> Option<u64> {
        let capacity_ms = self.value(Figure::Capacity)?;
        let running_ms = capacity_ms.checked_div(self.value(Figure::Cpus)?)?;
        (running_ms > 0).then_some(running_ms.min(WINDOW_MS))
    }

    /// Millionths of a percent of the processors' time that was not idle.
    fn cpu_percent(&self) -> Option<u64> {
        let capacity = self.value(Figure::Capacity)?;
        let busy = capacity.saturating_sub(self.value(Figure::Idle)?);
        ratio(
            u128::from(busy) * u128::from(FULL_MICRO),
            u128::from(capacity),
        )
    }
}

impl Run {
    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn note_all(&mut self, about: &str, said: Said) {
        for remark in said.remarks {
            let remark = remark
                .chars()
                .filter(|c| !c.is_control())
                .take(NOTE_CHARACTERS_MAX);
            self.note(format!("{about}: {}", remark.collect::<String>()));
        }
    }
}

/// A value that is neither negative nor infinite, in units of its last digit.
fn number(text: &str, digits: u32) -> Option<u64> {
    let value: f64 = text.parse().ok()?;
    let raw = match digits {
        0 => Fixed::<0>::from_f64(value)?.raw(),
        3 => Fixed::<3>::from_f64(value)?.raw(),
        _ => Fixed::<6>::from_f64(value)?.raw(),
    };
    u64::try_from(raw).ok()
}

/// A quotient, rounded half up.
fn ratio(numerator: u128, denominator: u128) -> Option<u64> {
    let half = denominator / 2;
    let quotient = numerator.checked_add(half)?.checked_div(denominator)?;
    u64::try_from(quotient).ok()
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
        out.snapshot(Snapshot::Survey(self.statement(at, run)));
        Ok(())
    }
}
