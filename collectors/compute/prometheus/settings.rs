//! `[[compute.prometheus]]`: a monitoring server or an exporter, and what can be said about it.

use std::time::Duration;

use cms_spec::units::Fixed;
use cms_spec::{Category, Subject};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use toml::de::ValueDeserializer;

use super::exporter::Exporter;
use super::server::Survey;
use crate::checked::{Dollars, Every};
use crate::web::{Address, SecretPlace, Site, Tls};
use crate::{Collector, Host, OpenError, Registration, Settings};

/// Monitoring servers and exporters as sources.
pub const REGISTRATION: Registration = Registration {
    id: "compute/prometheus",
    category: Category::GhostCompute,
    table: "compute.prometheus",
    repeated: true,
    sample: include_str!("sample.toml"),
    parse,
};

/// A page is a few hundred kilobytes; an exporter that needs longer hangs in one of its own sources.
const EXPORTER_DEADLINE: Duration = Duration::from_secs(10);

/// Longest time between two pages: a gauge stands for five minutes.
const EXPORTER_INTERVAL_S_MAX: u64 = 300;

/// How often an exporter is read unless the table says otherwise.
const EXPORTER_INTERVAL: Interval = Interval::seconds::<15>();

/// Shortest time between two surveys: each reads 30 days of every series on the server.
const SERVER_INTERVAL_S_MIN: u64 = 60;

/// How often a server is surveyed unless the table says otherwise: in an hour a 30-day mean moves
/// by a seven-hundredth at most.
const SERVER_INTERVAL: Interval = Interval::seconds::<3_600>();

/// How long one query may take unless the table says otherwise; it is the server's own default.
const QUERY_TIMEOUT: QueryTimeout = QueryTimeout::seconds::<120>();

/// Instances that one query asks about unless the table says otherwise.
const PAGE: u64 = 500;

/// Most instances that one query asks about: their names make an expression of 100 KB.
const PAGE_MAX: u64 = 2_000;

/// Longest expression that somebody configures.
const EXPRESSION_BYTES_MAX: usize = 4_096;

/// From one second to six hours; which part of it makes sense depends on the kind.
type Interval = Every<1, 21_600>;

type QueryTimeout = Every<1, 600>;

/// What is behind the address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// One machine's exporter.
    Exporter,
    /// A server with the query API.
    #[default]
    Server,
}

/// The table, checked.
#[derive(Clone, Debug)]
pub(super) struct Config {
    enabled: bool,
    pub(super) site: Site,
    pub(super) name: Subject,
    /// The same where somebody chose it: the address stays on this host.
    pub(super) chosen: Option<Subject>,
    pub(super) region: Option<Subject>,
    interval: Interval,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Exporter(OfExporter),
    Server(Box<OfServer>),
}

/// What can be said about an exporter only.
#[derive(Clone, Debug)]
pub(super) struct OfExporter {
    pub(super) instance_id: Option<Subject>,
    pub(super) instance_type: Option<Subject>,
    pub(super) monthly_cost_usd: Option<Fixed<2>>,
    pub(super) interval_ms: u64,
}

/// What can be said about a server only.
#[derive(Clone, Debug)]
pub(super) struct OfServer {
    /// Matchers of every expression, for example `job="node"`.
    pub(super) select: String,
    pub(super) instance_label: String,
    pub(super) type_label: Option<String>,
    pub(super) region_label: Option<String>,
    pub(super) keep_port: bool,
    pub(super) tenant: Option<String>,
    pub(super) page: usize,
    pub(super) query_timeout: Duration,
    pub(super) queries: Queries,
}

/// Expressions in place of ours; each gives one value for each instance.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Queries {
    #[serde(deserialize_with = "expression")]
    pub(super) cpu_percent: Option<String>,
    #[serde(deserialize_with = "expression")]
    pub(super) memory_percent: Option<String>,
    #[serde(deserialize_with = "expression")]
    pub(super) network_bytes_per_s: Option<String>,
    #[serde(deserialize_with = "expression")]
    pub(super) disk_operations_per_s: Option<String>,
    #[serde(deserialize_with = "expression")]
    pub(super) power_watts: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "enabled")]
    enabled: bool,
    url: Address,
    #[serde(default)]
    kind: Kind,
    name: Option<Subject>,
    #[serde(default)]
    tls: Tls,
    bearer_token: Option<SecretPlace>,
    basic: Option<crate::web::Basic>,
    region: Option<Subject>,
    interval: Option<Interval>,
    instance_id: Option<Subject>,
    instance_type: Option<Subject>,
    monthly_cost_usd: Option<Dollars<2>>,
    select: Option<String>,
    instance_label: Option<Label>,
    type_label: Option<Label>,
    region_label: Option<Label>,
    keep_port: Option<bool>,
    tenant: Option<Subject>,
    page: Option<u64>,
    query_timeout: Option<QueryTimeout>,
    queries: Option<Queries>,
}

const fn enabled() -> bool {
    true
}

/// A label's name, which goes into expressions as it stands.
struct Label(String);

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_right = text.bytes().all(is_of_name)
            && text
                .bytes()
                .next()
                .is_some_and(|byte| !byte.is_ascii_digit());
        if is_right {
            Ok(Self(text))
        } else {
            Err(D::Error::custom(format_args!(
                "{text:?} is not the name of a label: a-z, A-Z, 0-9 and '_'"
            )))
        }
    }
}

fn expression<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() || text.len() > EXPRESSION_BYTES_MAX {
        return Err(D::Error::custom(format_args!(
            "an expression has 1 to {EXPRESSION_BYTES_MAX} bytes"
        )));
    }
    Ok(Some(text))
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        Self::checked(raw).map_err(D::Error::custom)
    }
}

impl Config {
    fn checked(raw: Raw) -> Result<Self, String> {
        let site = Site::new(raw.url, raw.tls, raw.bearer_token, raw.basic)?;
        let named = site.address().authority().parse::<Subject>();
        let named = named.map_err(|error| error.to_string())?;
        let of_exporter = [
            ("instance_id", raw.instance_id.is_some()),
            ("instance_type", raw.instance_type.is_some()),
            ("monthly_cost_usd", raw.monthly_cost_usd.is_some()),
        ];
        let of_server = [
            ("select", raw.select.is_some()),
            ("instance_label", raw.instance_label.is_some()),
            ("type_label", raw.type_label.is_some()),
            ("region_label", raw.region_label.is_some()),
            ("keep_port", raw.keep_port.is_some()),
            ("tenant", raw.tenant.is_some()),
            ("page", raw.page.is_some()),
            ("query_timeout", raw.query_timeout.is_some()),
            ("queries", raw.queries.is_some()),
        ];
        let (misplaced, kind): (&[(&str, bool)], _) = match raw.kind {
            Kind::Exporter => (&of_server, "server"),
            Kind::Server => (&of_exporter, "exporter"),
        };
        if let Some((key, _)) = misplaced.iter().find(|(_, is_there)| *is_there) {
            return Err(format!(
                "`{key}` belongs to a source with kind = \"{kind}\""
            ));
        }
        let (interval, source) = match raw.kind {
            Kind::Exporter => {
                let interval = raw.interval.unwrap_or(EXPORTER_INTERVAL);
                if interval.duration().as_secs() > EXPORTER_INTERVAL_S_MAX {
                    return Err("an exporter is read every 1s to 5m".to_owned());
                }
                let source = Source::Exporter(OfExporter {
                    instance_id: raw.instance_id,
                    instance_type: raw.instance_type,
                    monthly_cost_usd: raw.monthly_cost_usd.map(|dollars| dollars.0),
                    interval_ms: interval.millis(),
                });
                (interval, source)
            }
            Kind::Server => {
                let interval = raw.interval.unwrap_or(SERVER_INTERVAL);
                if interval.duration().as_secs() < SERVER_INTERVAL_S_MIN {
                    return Err("a server is surveyed every 1m to 6h".to_owned());
                }
                let page = raw.page.unwrap_or(PAGE);
                if !(1..=PAGE_MAX).contains(&page) {
                    return Err(format!("`page` is 1 to {PAGE_MAX} instances"));
                }
                let label = |label: Option<Label>| label.map(|label| label.0);
                let source = Source::Server(Box::new(OfServer {
                    select: raw
                        .select
                        .unwrap_or_default()
                        .trim()
                        .trim_end_matches(',')
                        .to_owned(),
                    instance_label: label(raw.instance_label)
                        .unwrap_or_else(|| "instance".to_owned()),
                    type_label: label(raw.type_label),
                    region_label: label(raw.region_label),
                    keep_port: raw.keep_port.unwrap_or(false),
                    tenant: raw.tenant.map(|tenant| tenant.to_string()),
                    page: usize::try_from(page).unwrap_or(usize::MAX),
                    query_timeout: raw.query_timeout.unwrap_or(QUERY_TIMEOUT).duration(),
                    queries: raw.queries.unwrap_or_default(),
                }));
                (interval, source)
            }
        };
        Ok(Self {
            enabled: raw.enabled,
            site,
            name: raw.name.clone().unwrap_or(named),
            chosen: raw.name,
            region: raw.region,
            interval,
            source,
        })
    }
}

fn parse(table: ValueDeserializer<'_>) -> Result<Box<dyn Settings>, toml::de::Error> {
    Ok(Box::new(Config::deserialize(table)?))
}

impl Settings for Config {
    fn name(&self) -> String {
        format!("{} {}", REGISTRATION.id, self.name)
    }

    fn enabled(&self) -> bool {
        self.enabled
    }

    fn open(&self, host: &Host) -> Result<Box<dyn Collector>, OpenError> {
        Ok(match &self.source {
            Source::Exporter(exporter) => Box::new(Exporter::open(self, exporter, host)?),
            Source::Server(server) => Box::new(Survey::open(self, server, host)?),
        })
    }

    fn interval(&self) -> Duration {
        self.interval.duration()
    }

    fn deadline(&self) -> Duration {
        match &self.source {
            Source::Exporter(_) => EXPORTER_DEADLINE.min(self.interval.duration()),
            Source::Server(_) => self.interval.duration(),
        }
    }
}
