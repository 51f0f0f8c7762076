//! From what is written to what holds: defaults, limits and the clauses behind them.
//!
//! Promises: every check runs, also after one has failed; each value is noted with its origin. Refuses:
//! looking at the machine; whether a path exists is asked by the `check` command.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use cms_collectors::Registration;
use cms_spec::factors::{EnergyFactors, Figure};
use cms_spec::units::Fixed;
use cms_spec::{Cadence, Category, CompanyId, Subject};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::amount::{Size, Time};
use super::dashboard;
use super::files::Files;
use super::reference::{self, SecretKey};
use super::report::{Problem, Problems};
use super::resolved::{Origin, Resolved, Setting};
use super::tree::Node;
use super::{Config, Log, LogFormat, LogLevel, Schedule, Store};
use super::{raw, read, sources, tree, witness};

/// Where the store is unless configured; systemd makes it with `StateDirectory=`.
const STORE_PATH: &str = "/var/lib/cms-telemetry-agent";

/// Where `status` asks unless configured; systemd makes its folder with `RuntimeDirectory=`.
const STATUS_SOCKET: &str = "/run/cms-telemetry-agent/status.sock";

/// What the store may take unless configured: 90 days of one host with room to spare.
const STORE_SIZE: Size = Size(512 << 20);

/// Below this the windows and a few days of outage do not fit.
const STORE_SIZE_MIN: Size = Size(64 << 20);

/// The key that the store is sealed with.
const STORE_KEY: SecretKey = SecretKey {
    path: "store.key",
    example: "key = { credential = \"store-key\" }, or { file = \"/var/lib/cms-telemetry-agent-key/store.key\" }",
    may_be_variable: false,
};

/// The key before it.
const STORE_OLD_KEY: SecretKey = SecretKey {
    path: "store.old_key",
    example: "old_key = { file = \"/var/lib/cms-telemetry-agent-key/store.key\" }, or { credential = \"old-store-key\" }",
    may_be_variable: false,
};

/// Raw telemetry is retained 90 days (specification, section VI.C).
const RETENTION_MIN: Time = Time(std::time::Duration::from_secs(90 * 86_400));

/// A path of a socket has 108 bytes in the kernel, the last of them zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Facility energy is never less than IT energy; beyond five the meter is on the wrong side.
const PUE: RangeInclusive<f64> = 1.0..=5.0;

/// Above ten dollars it is a price for a megawatt-hour.
const PRICE: RangeInclusive<f64> = 0.0..=10.0;

/// The dirtiest grids are below 1.5; a larger number is in grams.
const CARBON_FACTOR: RangeInclusive<f64> = 0.0..=3.0;

/// Hydropower grids reach some tens of litres by evaporation.
const WATER: RangeInclusive<f64> = 0.0..=100.0;

/// What provenance says about a factor that has no source of its own.
const CONFIGURED: &str = "configuration of the agent";

/// What is wrong with a value, and what to do.
#[derive(Debug)]
pub(super) struct Fault {
    /// What is wrong, in one sentence.
    pub(super) message: String,
    /// What to do, if that is not plain.
    pub(super) help: Option<String>,
}

/// Notes values and problems while the configuration is checked.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    files: &'a Files,
    /// What is wrong.
    pub(super) problems: &'a mut Problems,
    /// What holds.
    pub(super) resolved: Resolved,
    /// Paths of keys that could not be read, whose absence is no news.
    left_out: Vec<String>,
}

/// Checks the merged table. Nothing when there is no configuration; `problems` says why.
pub(super) fn config(
    table: Spanned<DeTable<'_>>,
    hostname: &str,
    collectors: &'static [Registration],
    files: &Files,
    problems: &mut Problems,
) -> Option<Config> {
    let span = table.span();
    let mut table = table.into_inner();
    let mut check = Checker {
        files,
        problems,
        resolved: Resolved::default(),
        left_out: Vec::new(),
    };
    let api_key = tree::take(&mut table, "dashboard.api_key").map(|(_, node)| node);
    let api_key_next = tree::take(&mut table, "dashboard.api_key_next").map(|(_, node)| node);
    let store_keys = [STORE_KEY, STORE_OLD_KEY]
        .map(|key| tree::take(&mut table, key.path).map(|(_, node)| node));
    let dashboard_span = table.get("dashboard").map_or(0..0, Spanned::span);
    witness::refuse_single(&mut table, check.problems);
    let found = sources::take(&mut table, collectors, check.problems);
    let mut besides = sources::top_keys(collectors);
    besides.extend(["dashboard.api_key", "dashboard.api_key_next"]);
    besides.extend([STORE_KEY.path, STORE_OLD_KEY.path]);
    let outcome = read::table(
        &Spanned::new(span, DeValue::Table(table)),
        &besides,
        check.problems,
        |d| raw::Root::deserialize(d),
    );
    check.left_out = outcome.left_out;
    let root = outcome.value.unwrap_or_default();

    let company_id = check.company_id(root.company_id);
    let site = check.site(root.site, hostname);
    let keys = (api_key, api_key_next);
    let dashboard = dashboard::check(&mut check, root.dashboard, keys, dashboard_span);
    let store = check.store(root.store, store_keys);
    let energy = check.energy(root.energy);
    let schedule = check.schedule(root.schedule);
    let metrics_listen = check.metrics(root.metrics);
    let status_socket = check.status_socket(root.status);
    let log = check.log(root.log);
    let witnesses = witness::check(&mut check, root.witness);
    let sources = sources::check(&mut check, found);
    Some(Config {
        company_id: company_id?,
        site,
        dashboard: dashboard?,
        store,
        energy,
        schedule,
        metrics_listen,
        status_socket,
        log,
        witnesses,
        sources,
        resolved: check.resolved,
    })
}

impl Fault {
    /// Something wrong that needs no further words.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    /// Adds what to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

impl Checker<'_> {
    /// The origin of what is written at this offset.
    pub(super) fn origin(&self, offset: usize) -> Origin {
        self.files
            .place(offset)
            .map_or_else(Origin::default, Origin::File)
    }

    /// Notes a value that holds.
    pub(super) fn note(&mut self, key: &str, value: Option<String>, origin: Origin) {
        self.resolved.settings.push(Setting {
            key: key.to_owned(),
            value,
            origin,
        });
    }

    /// Notes that a key which has to be there is not.
    pub(super) fn missing(&mut self, key: &str, at: std::ops::Range<usize>, example: &str) {
        let told = |left: &String| key == left || key.starts_with(&format!("{left}."));
        if !self.left_out.iter().any(told) {
            let problem = Problem::at(at, format!("the key `{key}` is missing"));
            self.problems
                .push(problem.help(format!("write: {example}")));
        }
    }

    /// Checks an optional value; its place is noted in both cases.
    pub(super) fn optional<T, R>(
        &mut self,
        key: &str,
        raw: Option<Spanned<T>>,
        check: impl FnOnce(T) -> Result<R, Fault>,
        show: impl FnOnce(&R) -> String,
    ) -> Option<R> {
        let raw = raw?;
        let span = raw.span();
        match check(raw.into_inner()) {
            Ok(value) => {
                let origin = self.origin(span.start);
                self.note(key, Some(show(&value)), origin);
                Some(value)
            }
            Err(fault) => {
                let problem = Problem::at(span, format!("`{key}`: {}", fault.message));
                self.problems.push(match fault.help {
                    Some(help) => problem.help(help),
                    None => problem,
                });
                None
            }
        }
    }

    /// Checks a value that has a default.
    pub(super) fn value<T, R>(
        &mut self,
        key: &str,
        raw: Option<Spanned<T>>,
        default: R,
        check: impl FnOnce(T) -> Result<R, Fault>,
        show: impl Fn(&R) -> String,
    ) -> R {
        if raw.is_none() {
            self.note(key, Some(show(&default)), Origin::default());
        }
        self.optional(key, raw, check, show).unwrap_or(default)
    }

    fn company_id(&mut self, raw: Option<Spanned<String>>) -> Option<CompanyId> {
        if raw.is_none() {
            self.missing("company_id", 0..0, "company_id = \"acme-corp\"");
        }
        let check = |text: String| Ok(text.parse::<CompanyId>()?);
        self.optional("company_id", raw, check, |id| tree::string(id.as_str()))
    }

    fn site(&mut self, raw: Option<Spanned<String>>, hostname: &str) -> String {
        let check = |text: String| -> Result<String, Fault> {
            Ok(text.parse::<Subject>()?.as_str().to_owned())
        };
        if raw.is_some() {
            let site = self.optional("site", raw, check, |s| tree::string(s));
            return site.unwrap_or_default();
        }
        let site = check(hostname.to_owned()).unwrap_or_else(|_| "unnamed".to_owned());
        let origin = Origin::Default("the name of this host".to_owned());
        self.note("site", Some(tree::string(&site)), origin);
        site
    }

    fn store(&mut self, raw: raw::Store, keys: [Option<Node<'_>>; 2]) -> Store {
        let path = self.value(
            "store.path",
            raw.path,
            STORE_PATH.into(),
            absolute,
            shown_path,
        );
        let check = |text: String| -> Result<Size, Fault> {
            let size: Size = text.parse()?;
            if size < STORE_SIZE_MIN {
                return Err(Fault::new(format!("{size} is less than {STORE_SIZE_MIN}"))
                    .help("the rolling windows and a few days without a network need that much"));
            }
            Ok(size)
        };
        let size = self.value("store.max_size", raw.max_size, STORE_SIZE, check, shown);
        let check = |text: String| -> Result<Time, Fault> {
            let time: Time = text.parse()?;
            if time < RETENTION_MIN {
                return Err(Fault::new(format!("{time} is less than {RETENTION_MIN}"))
                    .help("raw telemetry is retained 90 days: specification, section VI.C"));
            }
            Ok(time)
        };
        let retention = self.value(
            "store.retention",
            raw.retention,
            RETENTION_MIN,
            check,
            shown,
        );
        let mut key = |key: SecretKey, node: Option<Node<'_>>| {
            if node.is_none() {
                self.note(key.path, None, Origin::default());
            }
            reference::check(self, &key, &node?)
        };
        let [key_node, old_key_node] = keys;
        Store {
            path,
            bytes_max: size.0,
            retention: retention.0,
            key: key(STORE_KEY, key_node),
            old_key: key(STORE_OLD_KEY, old_key_node),
        }
    }

    fn energy(&mut self, raw: raw::Energy) -> EnergyFactors {
        let defaults = EnergyFactors::default();
        let source = self.carbon_source(&raw.carbon);
        EnergyFactors {
            pue: self.figure("energy.pue", raw.pue, defaults.pue, PUE, CONFIGURED),
            price_usd_per_kwh: self.figure(
                "energy.price_usd_per_kwh",
                raw.price_usd_per_kwh,
                defaults.price_usd_per_kwh,
                PRICE,
                CONFIGURED,
            ),
            carbon_kg_per_kwh: self.figure(
                "energy.carbon.factor_kg_per_kwh",
                raw.carbon.factor_kg_per_kwh,
                defaults.carbon_kg_per_kwh,
                CARBON_FACTOR,
                &source,
            ),
            water_site_l_per_kwh: self.figure(
                "energy.water.site_l_per_kwh",
                raw.water.site_l_per_kwh,
                defaults.water_site_l_per_kwh,
                WATER,
                CONFIGURED,
            ),
            water_grid_l_per_kwh: self.figure(
                "energy.water.grid_l_per_kwh",
                raw.water.grid_l_per_kwh,
                defaults.water_grid_l_per_kwh,
                WATER,
                CONFIGURED,
            ),
        }
    }

    /// A carbon factor and its source are only of use together.
    fn carbon_source(&mut self, raw: &raw::Carbon) -> String {
        match (&raw.factor_kg_per_kwh, &raw.source) {
            (Some(factor), None) => {
                let key = "energy.carbon.source";
                let example = "source = \"EPA eGRID 2023\", or wherever the factor was published";
                self.missing(key, factor.span(), example);
            }
            (None, Some(source)) => {
                let key = "energy.carbon.factor_kg_per_kwh";
                self.missing(key, source.span(), "factor_kg_per_kwh = 0.384");
            }
            _ => {}
        }
        let check = |text: String| -> Result<String, Fault> {
            Ok(text.parse::<Subject>()?.as_str().to_owned())
        };
        let source = self.optional("energy.carbon.source", raw.source.clone(), check, |s| {
            tree::string(s)
        });
        source.unwrap_or_default()
    }

    fn figure<const DIGITS: u32>(
        &mut self,
        key: &str,
        raw: Option<Spanned<f64>>,
        default: Figure<DIGITS>,
        range: RangeInclusive<f64>,
        source: &str,
    ) -> Figure<DIGITS> {
        let check = |value: f64| {
            let fixed = range.contains(&value).then(|| Fixed::from_f64(value));
            fixed.flatten().ok_or_else(|| {
                Fault::new(format!(
                    "{value} is not from {} to {}",
                    range.start(),
                    range.end()
                ))
            })
        };
        if raw.is_none() {
            let grounds = default.source.trim_start_matches("default: ").to_owned();
            self.note(
                key,
                Some(shown_number(&default.value)),
                Origin::Default(grounds),
            );
        }
        match self.optional(key, raw, check, shown_number) {
            Some(value) => Figure::configured(value, source),
            None => default,
        }
    }

    fn schedule(&mut self, raw: raw::Schedule) -> Schedule {
        let mut one = |category: Category, raw| {
            let key = format!("schedule.{}", category.path().replace('-', "_"));
            self.value(
                &key,
                raw,
                category.cadence(),
                |text: String| cadence(&text, category),
                |c| tree::string(&Time(shown_cadence(*c)).to_string()),
            )
        };
        Schedule([
            one(Category::GhostCompute, raw.ghost_compute),
            one(Category::ModelEfficiency, raw.model_efficiency),
            one(Category::DarkData, raw.dark_data),
            one(Category::HeatRecovery, raw.heat_recovery),
            one(Category::CoverageVerification, raw.coverage_verification),
        ])
    }

    fn metrics(&mut self, raw: raw::Metrics) -> Option<SocketAddr> {
        let key = "metrics.listen";
        if raw.listen.is_none() {
            self.note(key, None, Origin::default());
        }
        let check = |text: String| {
            let address: SocketAddr = text.parse().map_err(|_| {
                Fault::new("this is no address and port").help("write: listen = \"127.0.0.1:9464\"")
            })?;
            if address.ip().is_loopback() {
                return Ok(address);
            }
            Err(
                Fault::new(format!("{address} is not a loopback address")).help(
                    "the agent's own metrics are for this host only: use 127.0.0.1 or [::1], \
                 and let a local Prometheus agent pass them on",
                ),
            )
        };
        self.optional(key, raw.listen, check, |a| tree::string(&a.to_string()))
    }

    fn status_socket(&mut self, raw: raw::Status) -> PathBuf {
        let check = |text: String| -> Result<PathBuf, Fault> {
            let path = absolute(text)?;
            if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
                return Err(Fault::new(format!(
                    "the path of a socket has at most {SOCKET_PATH_BYTES_MAX} bytes"
                )));
            }
            Ok(path)
        };
        self.value(
            "status.socket",
            raw.socket,
            STATUS_SOCKET.into(),
            check,
            shown_path,
        )
    }

    fn log(&mut self, raw: raw::Log) -> Log {
        let word = |debug: String| tree::string(&debug.to_lowercase());
        let show_format = |f: &LogFormat| word(format!("{f:?}"));
        let show_level = |l: &LogLevel| word(format!("{l:?}"));
        Log {
            format: self.value(
                "log.format",
                raw.format,
                LogFormat::default(),
                Ok,
                show_format,
            ),
            level: self.value("log.level", raw.level, LogLevel::default(), Ok, show_level),
        }
    }
}

/// A path that does not depend on the directory that the agent was started in.
pub(super) fn absolute(text: String) -> Result<PathBuf, Fault> {
    if text.contains('\0') {
        return Err(Fault::new("a path cannot hold a zero byte"));
    }
    if !Path::new(&text).is_absolute() {
        return Err(Fault::new("this is not an absolute path").help("start it with '/'"));
    }
    Ok(PathBuf::from(text))
}

/// A path as TOML.
#[expect(clippy::ptr_arg, reason = "the values that are shown own their paths")]
pub(super) fn shown_path(path: &PathBuf) -> String {
    tree::string(&path.display().to_string())
}

/// An amount with a unit as TOML.
fn shown<T: Display>(value: &T) -> String {
    tree::string(&value.to_string())
}

/// A number as TOML, without digits that say nothing.
fn shown_number<const DIGITS: u32>(value: &Fixed<DIGITS>) -> String {
    let text = value.to_string();
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn shown_cadence(cadence: Cadence) -> std::time::Duration {
    std::time::Duration::from_secs(cadence.seconds().into())
}

fn cadence(text: &str, category: Category) -> Result<Cadence, Fault> {
    let time: Time = text.parse()?;
    let Some(seconds) = time.whole_seconds() else {
        return Err(
            Fault::new(format!("{time} is not a whole number of seconds"))
                .help("the fastest schedule is one second"),
        );
    };
    let slowest = category.cadence();
    if seconds > slowest.seconds() {
        let slowest = Time(shown_cadence(slowest));
        return Err(
            Fault::new(format!("{time} is slower than {slowest}")).help(format!(
                "{category} is submitted at least every {slowest}: specification, section VII"
            )),
        );
    }
    Ok(Cadence::from_seconds(seconds))
}
