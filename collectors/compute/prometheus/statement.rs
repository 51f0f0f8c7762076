//! What one survey has found so far, and the statement that it ends with.
//!
//! Owns the arithmetic of means: amounts over the time that processors were counted, in integers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cms_spec::Subject;
use cms_spec::ghost::{InstanceFacts, WINDOW};
use cms_spec::provenance::{Confidence, Origin};
use cms_spec::survey::{Mean, NOTES_MAX, Survey, Surveyed};
use cms_spec::units::{Bytes, Fixed};
use jiff::{SignedDuration, Timestamp};

use super::figures::{DIALECTS, FIGURES, Figure, STEP_MS};
use super::query::Said;
use super::settings::OfServer;
use super::{page, this_machine, without_port};
use crate::Host;

/// Clocks that differ by more than this are told about: an instant query would look at the wrong time.
pub(super) const CLOCK_JITTER_S: i64 = 300;

/// Longest remark of a server that is passed on.
const NOTE_CHARACTERS_MAX: usize = 300;

/// A share of the whole, in millionths of a percent.
const FULL_MICRO: u64 = 100_000_000;

const WINDOW_MS: u64 = 30 * 86_400_000;

/// Two steps of the question after the first sight of an instance.
const FIRST_STEPS: SignedDuration = SignedDuration::from_hours(2);

/// What names and places come from.
#[derive(Debug)]
pub(super) struct Naming<'a> {
    pub(super) server: &'a Subject,
    /// What provenance calls the server.
    pub(super) told_as: &'a str,
    pub(super) region: &'a str,
    pub(super) settings: &'a OfServer,
    pub(super) host: &'a Host,
}

/// What is known of one instance so far.
#[derive(Debug)]
pub(super) struct Known {
    /// Index of its exporter.
    pub(super) dialect: usize,
    pub(super) last_seen_s: i64,
    pub(super) type_name: String,
    pub(super) region: String,
    pub(super) nodename: String,
    pub(super) product: Option<String>,
    /// By figure, in units of its last digit.
    pub(super) values: [Option<u64>; FIGURES],
}

/// What goes on during one survey.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// By the value of the instance's label.
    pub(super) instances: BTreeMap<String, Known>,
    /// What a reader must know besides.
    pub(super) notes: Vec<String>,
    /// Queries in a row that were too much.
    pub(super) failures: u32,
    /// Values that make no sense, by figure.
    pub(super) nonsense: BTreeMap<Figure, u64>,
}

impl Naming<'_> {
    /// Ends a survey.
    pub(super) fn statement(&self, at: Timestamp, mut run: Run) -> Survey {
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
        Survey {
            server: self.server.clone(),
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
        if this_machine(self.host, &known.nodename, booted_s.unwrap_or_default()) {
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
            let origin = Origin::measured(self.told_as, method, Confidence::C);
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
                region: or(&known.region, &|| self.region.to_owned()),
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
    /// Notes a remark, once.
    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Notes what the server said about something.
    pub(super) fn note_all(&mut self, about: &str, said: Said) {
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
pub(super) fn number(text: &str, digits: u32) -> Option<u64> {
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
