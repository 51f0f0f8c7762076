//! A bucket of an S3-compatible object store as a storage unit: how much of it is active and how much is dark.
//!
//! Owns: when a listing starts, how fast it goes on, and when its result is told. Promises: a bucket that cannot be
//! listed to its end is an error and never an empty unit; a page that fails is asked again, and a listing that a
//! restart cuts off goes on; no key leaves the host, but for first-level prefixes that are made units. Refuses:
//! objects themselves, older versions, anything that writes.

mod listing;
mod refusal;
mod scan;
mod settings;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cms_spec::Subject;
use cms_spec::dark::{AccessBasis, ClassShare, StorageScan};
use cms_spec::reading::{Readings, Snapshot};
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

use self::listing::PAGE_BYTES_MAX;
use self::scan::{AGE_MAX, Classes, Order, Scan};
use self::settings::{Config, PAGE_WITHIN, TICK, WORK_OF_A_TICK};
use super::history::{self, Finished, History, Resumed, Scanned};
use super::tally::Counts;
use super::unit;
use crate::web::{Request, Server, malformed};
use crate::{CollectError, Collector, Host};

pub use self::settings::REGISTRATION;

/// The first pause after a page that failed; each further one is twice as long.
const RETRY_FIRST: SignedDuration = SignedDuration::from_secs(5);

/// The longest pause after a page that failed.
const RETRY_MAX: SignedDuration = SignedDuration::from_mins(5);

struct S3Collector {
    settings: Config,
    region: String,
    server: Arc<dyn Server>,
    state: State,
    history: History,
    /// A scan that a restart cut off.
    cut_off: Option<String>,
    failure: Option<Failure>,
    /// Requests that may be sent, in thousandths, and since when.
    allowance: (u64, Option<Timestamp>),
}

enum State {
    /// The last scan is told, or was given up, and the next one starts when it is due.
    Idle {
        started: Timestamp,
    },
    /// No scan has started yet.
    New,
    Scanning(Box<Scan>),
}

/// Pages that failed one after another.
struct Failure {
    error: CollectError,
    pages: u32,
    retry_at: Timestamp,
}

impl S3Collector {
    fn open(settings: &Config, host: &Host) -> Result<Self, CollectError> {
        let region = settings.region.as_ref();
        Ok(Self {
            server: host.web.open(&settings.place.site)?,
            region: region.map_or(&*host.region, Subject::as_str).to_owned(),
            settings: settings.clone(),
            state: State::New,
            history: History::default(),
            cut_off: None,
            failure: None,
            allowance: (0, None),
        })
    }

    fn is_due(&self, at: Timestamp) -> bool {
        match &self.state {
            State::Idle { started } => {
                let interval = SignedDuration::try_from(self.settings.interval.duration());
                at.duration_since(*started).abs() >= interval.unwrap_or(SignedDuration::MAX)
            }
            State::New => true,
            State::Scanning(_) => false,
        }
    }

    /// Where it is.
    fn place(&self) -> String {
        let place = &self.settings.place;
        format!("{} {:?}", place.address(), place.prefix)
    }

    /// What makes two scans the same one: a checkpoint of another is of no use.
    fn order_name(&self) -> String {
        let Config {
            place,
            exclude,
            is_split,
            ..
        } = &self.settings;
        format!(
            "{} {:?} {exclude:?} {is_split}",
            place.address(),
            place.prefix
        )
    }

    /// Asks for the next page and counts it. Whether it was the last one.
    async fn page(&self, scan: &mut Scan, at: Timestamp) -> Result<bool, CollectError> {
        let place = &self.settings.place;
        let path = place.path(&listing::query(&place.prefix, scan.from()));
        let date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let is_signed = place.site.login().is_some();
        let headers = [("x-amz-date", date.as_str())];
        let request = Request {
            path: &path,
            body: None,
            headers: if is_signed { &headers } else { &[] },
            within: PAGE_WITHIN,
            answer_bytes_max: PAGE_BYTES_MAX,
        };
        let mut bytes = Vec::new();
        let mut on_piece = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let answer = self.server.ask(&request, &mut on_piece).await?;
        if refusal::is_stale_token(&answer) && scan.forget_token() {
            return Ok(false);
        }
        refusal::judge(place, &answer, at)?;
        let nonsense = |found: String| malformed(&place.address(), &found);
        let page = listing::read(&bytes).map_err(nonsense)?;
        let order = Order {
            prefix: &place.prefix,
            exclude: &self.settings.exclude,
            is_split: self.settings.is_split,
        };
        scan.take(&page, &order).map_err(nonsense)
    }

    /// How many pages this tick may ask for: what has gathered since the last one, and always one.
    fn pages_of_a_tick(&mut self, at: Timestamp) -> u64 {
        let rate = u64::from(self.settings.requests_per_second());
        let (gathered, since) = self.allowance;
        let passed = since.map_or(0, |since| at.duration_since(since).as_millis());
        let most = rate.saturating_mul(u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX));
        let passed = u64::try_from(passed).unwrap_or_default();
        let gathered = gathered
            .saturating_add(rate.saturating_mul(passed))
            .min(most);
        let pages = (gathered / 1_000).max(1);
        self.allowance = (gathered.saturating_sub(pages * 1_000), Some(at));
        pages
    }

    /// Asks for pages until the listing or the tick's share of time or requests ends. Whether the listing did.
    async fn go_on(&mut self, scan: &mut Scan, at: Timestamp) -> Result<bool, CollectError> {
        let begun = monotonic();
        for _ in 0..self.pages_of_a_tick(at) {
            if self.page(scan, at).await? {
                return Ok(true);
            }
            self.failure = None;
            if monotonic().saturating_sub(begun) >= WORK_OF_A_TICK {
                break;
            }
        }
        Ok(false)
    }

    fn fail(&mut self, error: CollectError, at: Timestamp) -> CollectError {
        let pages = self.failure.as_ref().map_or(0, |failure| failure.pages);
        let pause = RETRY_FIRST.saturating_mul(1_i32.checked_shl(pages).unwrap_or(i32::MAX).max(1));
        let told = again(&error);
        self.failure = Some(Failure {
            error,
            pages: pages.saturating_add(1).min(16),
            retry_at: at.saturating_add(pause.min(RETRY_MAX)).unwrap_or(at),
        });
        told
    }

    /// Tells of a finished scan: the bucket, and each first-level prefix that is a unit of its own.
    fn tell(&mut self, scan: &Scan, at: Timestamp, out: &mut Readings) {
        let mut whole = Counts::default();
        let mut units: BTreeMap<Subject, Classes> = BTreeMap::new();
        for (name, classes) in scan.units() {
            let name = name
                .and_then(|name| unit::below(&self.settings.name, name))
                .unwrap_or_else(|| self.settings.name.clone());
            let of_unit = units.entry(name).or_default();
            for (class, counts) in classes {
                whole.merge(counts);
                of_unit.entry(class.clone()).or_default().merge(counts);
            }
        }
        if units.is_empty() {
            // That nothing is there is an answer, too.
            units.insert(self.settings.name.clone(), Classes::new());
        }
        for (unit, classes) in units {
            out.snapshot(Snapshot::Storage(self.scan_of(unit, &classes, scan, at)));
        }
        self.history.add(Finished {
            started: scan.started,
            finished: at.max(scan.started),
            worked_ms: u64::try_from(at.duration_since(scan.begun).as_millis()).unwrap_or_default(),
            counts: whole,
        });
    }

    fn scan_of(&self, unit: Subject, classes: &Classes, scan: &Scan, at: Timestamp) -> StorageScan {
        let mut all = Counts::default();
        classes.values().for_each(|counts| all.merge(counts));
        let prices = &self.settings.prices;
        let shares = classes.iter().map(|(class, counts)| ClassShare {
            storage_class: class.clone(),
            usd_per_gb_month: prices.of(class),
            active: counts.active.bytes,
            dark: counts.dark.bytes,
        });
        let first = classes.keys().next().map_or("STANDARD", String::as_str);
        StorageScan {
            unit,
            place: Some(self.place()),
            region: self.region.clone(),
            storage_class: first.to_owned(),
            usd_per_gb_month: prices.of(first),
            as_of: scan.started,
            finished_at: at.max(scan.started),
            basis: AccessBasis::LastModified,
            active: all.active,
            dark: all.dark,
            unreadable: 0,
            ages: all.ages,
            classes: shares.filter(|_| classes.len() > 1).collect(),
        }
    }
}

#[async_trait]
impl Collector for S3Collector {
    async fn collect(&mut self, at: Timestamp, out: &mut Readings) -> Result<(), CollectError> {
        if let Some(failure) = self
            .failure
            .as_ref()
            .filter(|failure| at < failure.retry_at)
        {
            return Err(again(&failure.error));
        }
        if self.is_due(at) {
            let cut_off = self.cut_off.take();
            let resumed = cut_off.and_then(|kept| Scan::resume(&kept, &self.order_name(), at));
            self.state = State::Scanning(Box::new(resumed.unwrap_or_else(|| Scan::begin(at))));
        }
        let State::Scanning(mut scan) = std::mem::replace(&mut self.state, State::New) else {
            return Ok(());
        };
        let went = self.go_on(&mut scan, at).await;
        let is_too_old = at.duration_since(scan.started) >= AGE_MAX;
        match went {
            Ok(true) => {
                self.tell(&scan, at, out);
                self.failure = None;
                self.state = State::Idle {
                    started: scan.started,
                };
                Ok(())
            }
            Ok(false) if is_too_old => Err(self.fail(
                CollectError::Timeout {
                    what: format!(
                        "{} ({}; a larger requests_per_second helps, or a prefix for each of several sources)",
                        self.settings.place.address(),
                        scan.progress()
                    ),
                    after: Duration::try_from(AGE_MAX).unwrap_or_default(),
                },
                at,
            )),
            Ok(false) => {
                self.state = State::Scanning(scan);
                Ok(())
            }
            Err(error) => {
                // A page that makes no sense may make none again: the next attempt lists from the beginning.
                if !is_too_old && error.class() != "malformed" {
                    self.state = State::Scanning(scan);
                }
                Err(self.fail(error, at))
            }
        }
    }

    fn progress(&self) -> Option<String> {
        match &self.state {
            State::Scanning(scan) => Some(scan.progress()),
            State::Idle { .. } | State::New => None,
        }
    }

    fn details(&self) -> Vec<String> {
        self.history.lines()
    }

    fn checkpoint(&self) -> Option<String> {
        let scan = match &self.state {
            State::Scanning(scan) => scan.keep(&self.order_name()),
            State::Idle { .. } | State::New => self.cut_off.clone(),
        };
        let (place, order) = (self.place(), self.order_name());
        let scanned = Scanned {
            place: &place,
            order: &order,
        };
        history::keep(&self.history, scanned, scan)
    }

    fn resume(&mut self, checkpoint: &str) {
        let (place, order) = (self.place(), self.order_name());
        let scanned = Scanned {
            place: &place,
            order: &order,
        };
        let Some(resumed) = history::resume(checkpoint, scanned) else {
            return;
        };
        let Resumed {
            history,
            scan,
            last_started,
        } = resumed;
        if let Some(started) = last_started {
            // What was listed before the restart need not be listed again because of it.
            self.state = State::Idle { started };
        }
        self.history = history;
        self.cut_off = scan;
    }
}

/// The same error for one more tick.
fn again(error: &CollectError) -> CollectError {
    let same = |source: &io::Error| io::Error::new(source.kind(), source.to_string());
    match error {
        CollectError::Denied { path, hint, source } => CollectError::Denied {
            path: path.clone(),
            hint: hint.clone(),
            source: same(source),
        },
        CollectError::Malformed { what, found } => CollectError::Malformed {
            what: what.clone(),
            found: found.clone(),
        },
        CollectError::Timeout { what, after } => CollectError::Timeout {
            what: what.clone(),
            after: *after,
        },
        CollectError::Unreachable { what, source } => CollectError::Unreachable {
            what: what.clone(),
            source: same(source),
        },
        CollectError::Vanished { what } => CollectError::Vanished { what: what.clone() },
    }
}

/// Paces a tick and reaches no reading.
fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests;
