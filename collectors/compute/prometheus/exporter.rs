//! One machine by the page of its exporter: readings as if the agent ran there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::Subject;
use cms_spec::ghost::InstanceFacts;
use cms_spec::provenance::{Confidence, Origin};
use cms_spec::reading::{Quantity, Readings, Snapshot, Value};
use cms_spec::units::{Microjoules, MilliPercent, Millis};
use jiff::{SignedDuration, Timestamp};

use super::page::Page;
use super::settings::{Config, OfExporter};
use super::this_machine;
use crate::exposition::{Found, PAGE_BYTES_MAX, Reader};
use crate::web::{Request, Server, malformed};
use crate::{CollectError, Collector, Host};

/// Facts are repeated this often, so that one lost sample does not leave an instance without them.
const FACTS_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// The kernel computes the boot time anew from a clock that is being set; less than this is no
/// other boot.
const BOOT_JITTER_S: u64 = 5;

/// Clocks that differ by more than this are not the same clock.
const CLOCK_JITTER_S: i64 = 60;

/// A span of more than this many intervals is a gap, in which the power is not known.
const SPAN_INTERVALS_MAX: u64 = 3;

/// Before the deadline, so that the error names the address.
const WITHIN: Duration = Duration::from_secs(8);

const ACCEPT: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// What is remembered between two pages.
#[derive(Debug)]
struct Before {
    at: Timestamp,
    booted_s: i64,
    zones: BTreeMap<String, Microjoules>,
}

/// The exporter as a source.
pub(super) struct Exporter {
    server: Arc<dyn Server>,
    url: String,
    path: &'static str,
    name: String,
    /// The host of the address.
    at: String,
    /// What provenance calls it.
    told_as: String,
    host: Host,
    instance: Option<Subject>,
    instance_type: Option<Subject>,
    region: String,
    settings: OfExporter,
    before: Option<Before>,
    facts: Option<(InstanceFacts, Timestamp)>,
    /// What a person should know of the newest page.
    remarks: Vec<String>,
}

impl Exporter {
    pub(super) fn open(
        config: &Config,
        settings: &OfExporter,
        host: &Host,
    ) -> Result<Self, CollectError> {
        let path = if config.site.address().path().is_empty() {
            "/metrics"
        } else {
            ""
        };
        Ok(Self {
            server: host.web.open(&config.site)?,
            url: config.site.address().url(path),
            path,
            name: config.name.to_string(),
            at: config.site.address().host().to_owned(),
            told_as: match &config.chosen {
                Some(name) => format!("exporter {name}"),
                None => "exporter".to_owned(),
            },
            host: host.clone(),
            instance: settings.instance_id.clone(),
            instance_type: settings.instance_type.clone(),
            region: config
                .region
                .as_ref()
                .map_or(&*host.region, Subject::as_str)
                .to_owned(),
            settings: settings.clone(),
            before: None,
            facts: None,
            remarks: Vec::new(),
        })
    }

    async fn page(&self) -> Result<Page, CollectError> {
        let request = Request {
            path: self.path,
            body: None,
            headers: &[("accept", ACCEPT)],
            within: WITHIN.min(Duration::from_millis(self.settings.interval_ms)),
            answer_bytes_max: PAGE_BYTES_MAX,
        };
        let mut page = Page::default();
        let mut reader = Reader::new();
        let mut on_piece = |piece: &[u8]| {
            reader.feed(piece, &mut |item| page.take(item));
            Ok(())
        };
        let answer = self.server.ask(&request, &mut on_piece).await?;
        answer.require_good(&self.url)?;
        let found = reader.finish(&mut |item| page.take(item));
        let is_open_metrics = answer
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/openmetrics-text"));
        self.judge(&page, &found, is_open_metrics)?;
        Ok(page)
    }

    /// Refuses a page that is none, that is cut off, or that is another program's.
    fn judge(&self, page: &Page, found: &Found, is_open_metrics: bool) -> Result<(), CollectError> {
        let refuse = |why: String| Err(malformed(&self.url, &why));
        let bad_lines = found
            .bad_lines_in_words()
            .map_or(String::new(), |words| format!(" ({words})"));
        if found.samples == 0 {
            return refuse(format!(
                "there are no metrics in it{bad_lines}: check the address and its path"
            ));
        }
        if is_open_metrics && !found.is_complete {
            return refuse("it ends before its end: \"# EOF\" is missing".to_owned());
        }
        if let Some(series) = &page.twice {
            return refuse(format!(
                "{series} is there twice: two pages seem to be joined into one; ask each exporter by itself"
            ));
        }
        if !page.is_of_a_machine() {
            return refuse(format!(
                "it has {} samples, but none about processors or memory{bad_lines}: this source reads \
                 node_exporter and windows_exporter with their cpu and memory collectors",
                found.samples
            ));
        }
        Ok(())
    }

    /// The configured id, our own for this very machine, else the host of the address.
    fn instance(&mut self, page: &Page) -> Result<Subject, CollectError> {
        if let Some(instance) = &self.instance {
            return Ok(instance.clone());
        }
        let booted_s = page.booted_s.unwrap_or_default();
        let is_own = page
            .nodename
            .as_deref()
            .is_some_and(|name| this_machine(&self.host, name, booted_s));
        let instance = if is_own {
            self.host.instance.clone()
        } else {
            self.at.parse().map_err(|_| {
                malformed(
                    &self.url,
                    "it needs an instance_id: its host is no usable one",
                )
            })?
        };
        self.instance = Some(instance.clone());
        Ok(instance)
    }

    /// Seconds since the epoch by our clock: an exporter whose clock is wrong tells its uptime right.
    fn booted_s(&self, page: &Page, at: Timestamp) -> Option<i64> {
        let booted_s = page.booted_s?;
        let ahead_s = page.time_s.map_or(0, |time_s| time_s - at.as_second());
        let booted_s = if ahead_s.abs() > CLOCK_JITTER_S {
            booted_s - ahead_s
        } else {
            booted_s
        };
        let is_jitter = |before: &&Before| before.booted_s.abs_diff(booted_s) <= BOOT_JITTER_S;
        let before = self.before.as_ref().filter(is_jitter);
        Some(before.map_or(booted_s, |before| before.booted_s))
    }

    fn facts(&self, instance: &Subject, page: &Page, booted_s: i64) -> InstanceFacts {
        let told = || page.instance_type();
        InstanceFacts {
            instance: instance.clone(),
            instance_type: self
                .instance_type
                .as_ref()
                .map_or_else(told, |configured| configured.as_str().to_owned()),
            region: self.region.clone(),
            launch_time: Timestamp::from_second(booted_s).unwrap_or_default(),
            monthly_cost_usd: self.settings.monthly_cost_usd,
        }
    }

    fn push_values(&self, instance: &Subject, page: &Page, out: &mut Readings) {
        let origin = Origin::measured(&self.told_as, "exporter-page/1", Confidence::B);
        let origin = out.origin(origin);
        let mut push = |quantity, value| out.push(instance, quantity, value, origin);
        if let Some((busy, capacity)) = page.processors() {
            push(Quantity::CpuBusyMs, Value::Counter(busy.0));
            push(Quantity::CpuCapacityMs, Value::Counter(capacity.0));
        }
        if let (Some(available), Some(total)) = (page.memory_available, page.memory_total)
            && let Some(used) = MilliPercent::of((total - available).0, total.0)
        {
            push(Quantity::MemoryUsedMilliPercent, Value::Gauge(used.0));
        }
        if let Some(bytes) = page.network() {
            push(Quantity::NetworkBytes, Value::Counter(bytes.0));
        }
        if let Some(operations) = page.disk_operations() {
            push(Quantity::DiskOperations, Value::Counter(operations));
        }
    }

    /// The energy since the page before: of the whole machine's meter, else of all energy counters.
    fn push_energy(
        &self,
        instance: &Subject,
        page: &Page,
        (booted_s, at): (i64, Timestamp),
        out: &mut Readings,
    ) {
        let Some(before) = self.before.as_ref().filter(|b| b.booted_s == booted_s) else {
            return;
        };
        let over_ms = u64::try_from(at.duration_since(before.at).as_millis()).unwrap_or(0);
        let is_gap = over_ms > self.settings.interval_ms.saturating_mul(SPAN_INTERVALS_MAX);
        if over_ms == 0 || is_gap {
            return;
        }
        let (energy, method) = match page.power {
            Some(power) if power.0 > 0 => (power.over(Millis(over_ms)), "exporter-hwmon/1"),
            _ => match grown(&before.zones, &page.zones) {
                Some(energy) => (energy, "exporter-rapl/1"),
                None => return,
            },
        };
        let origin = out.origin(Origin::measured(&self.told_as, method, Confidence::B));
        let value = Value::Amount {
            amount: energy.0,
            over_ms,
        };
        out.push(instance, Quantity::EnergyUj, value, origin);
    }
}

/// What a page tells besides its figures.
fn remarks(page: &Page, at: Timestamp) -> Vec<String> {
    let mut remarks = Vec::new();
    let nonsense = page.nonsense();
    if !nonsense.is_empty() {
        remarks.push(format!(
            "left out, because its page has values that are negative, no numbers or out of range: {}",
            nonsense.join(", ")
        ));
    }
    let ahead_s = page.time_s.map_or(0, |time_s| time_s - at.as_second());
    if ahead_s.abs() > CLOCK_JITTER_S {
        remarks.push(format!(
            "its clock and this host's differ by {ahead_s} s; its boot time is put right by that"
        ));
    }
    remarks
}

/// What all counters grew by; nothing when they are others, one fell, or none grew: 0 W is no
/// measurement.
fn grown(
    before: &BTreeMap<String, Microjoules>,
    now: &BTreeMap<String, Microjoules>,
) -> Option<Microjoules> {
    if before.len() != now.len() {
        return None;
    }
    let mut sum = Microjoules::ZERO;
    for (zone, energy) in now {
        // Where a counter wraps is not on the page, so that what a wrap hides is not known.
        let since = energy.0.checked_sub(before.get(zone)?.0)?;
        sum += Microjoules(since);
    }
    (sum > Microjoules::ZERO).then_some(sum)
}

#[async_trait]
impl Collector for Exporter {
    async fn collect(&mut self, at: Timestamp, out: &mut Readings) -> Result<(), CollectError> {
        let page = self.page().await?;
        self.remarks = remarks(&page, at);
        let instance = self.instance(&page)?;
        let booted_s = self.booted_s(&page, at);
        if let Some(booted_s) = booted_s {
            out.counted_from(&format!("{} {booted_s}", self.name));
            let facts = self.facts(&instance, &page, booted_s);
            let is_told = |(told, when): &(InstanceFacts, Timestamp)| {
                *told == facts && at.duration_since(*when).abs() < FACTS_EVERY
            };
            if !self.facts.as_ref().is_some_and(is_told) {
                out.snapshot(Snapshot::Instance(facts.clone()));
                self.facts = Some((facts, at));
            }
        }
        let booted_s = booted_s.unwrap_or_default();
        self.push_values(&instance, &page, out);
        self.push_energy(&instance, &page, (booted_s, at), out);
        self.before = Some(Before {
            at,
            booted_s,
            zones: page.zones(),
        });
        Ok(())
    }

    fn details(&self) -> Vec<String> {
        self.remarks.clone()
    }
}
