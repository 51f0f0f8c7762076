//! `[[models.source]]`: one server, as its table says it, checked.
//!
//! Promises: a key that would do nothing is an error at that key, with what to do about it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use toml::Spanned;

use super::kinds::{Asked, Kind, Read, Row};
use super::opening::{Chosen, Opening, Way};
use super::settings::{Spec, WordWritten, enabled};
use crate::checked::{AbsolutePath, Wrong};
use crate::models::counters::dialect::Wanted;
use crate::models::feed::LineReader;
use crate::models::receive::Listen;
use crate::models::tail::feed::Readers;
use crate::models::tail::place::{Begin, Place, Wrapper};
use crate::models::zone::Zone;
use crate::web::{Address, Basic, SecretPlace, Site, Tls};

/// Most models that a source wants of its server: every sample is held against all of them.
const WANTED_MAX: usize = 256;

/// Most GPUs of one machine.
const GPUS_MAX: usize = 1_024;

/// The table, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(default = "enabled")]
    pub(super) enabled: bool,
    kind: Kind,
    pub(super) name: Option<Spanned<WordWritten>>,
    url: Option<Spanned<Address>>,
    tls: Option<Spanned<Tls>>,
    bearer_token: Option<Spanned<SecretPlace>>,
    basic: Option<Spanned<Basic>>,
    log: Option<Spanned<AbsolutePath>>,
    wrapper: Option<Spanned<Wrapper>>,
    journal: Option<Spanned<String>>,
    journal_folder: Option<Spanned<AbsolutePath>>,
    from: Option<Spanned<Begin>>,
    time_zone: Option<Spanned<ZoneWritten>>,
    listen: Option<Spanned<SocketAddr>>,
    token: Option<Spanned<SecretPlace>>,
    models: Option<Spanned<Vec<WordWritten>>>,
    gpus: Option<Spanned<Vec<u32>>>,
}

#[derive(Debug)]
struct ZoneWritten(jiff::tz::TimeZone);

impl<'de> Deserialize<'de> for ZoneWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        jiff::tz::TimeZone::get(&text).map(Self).map_err(|_| {
            D::Error::custom(format_args!(
                "{text:?} is no time zone of this machine: use a name such as \"Europe/Zurich\" or \"UTC\""
            ))
        })
    }
}

/// A key that is there, and where.
type Key = (&'static str, Range<usize>);

impl Written {
    /// The source.
    ///
    /// # Errors
    /// In words, at what is missing, too much or contradicts something else.
    pub(super) fn checked(self, span: Range<usize>) -> Result<Spec, Wrong> {
        let Kind(row) = self.kind;
        let site = self.site(row, &span)?;
        let log = self.log(row, site.as_ref())?;
        let push = self.push(row)?;
        let gpus = self.gpus(row)?;
        let wanted = self.wanted(row)?;
        let is_asked = log.is_none() && push.is_none();
        let facts = row.facts.filter(|_| !is_asked).zip(site.clone());
        let way = match (log, push, row.asked.zip(site)) {
            (Some(_), Some((_, span)), _) => {
                return Err(Wrong::at(
                    span,
                    "`log` and `listen` exclude each other: make two sources",
                ));
            }
            (Some(log), None, _) => log,
            (None, Some((push, _)), _) => push,
            (None, None, Some((Asked::Metrics(open), site))) => Way::Metrics { open, site },
            (None, None, Some((Asked::MetricsOf(open), site))) => {
                Way::MetricsOf { open, wanted, site }
            }
            (None, None, Some((Asked::Usage { open, .. }, site))) => Way::Usage { open, site },
            (None, None, None) => return Err(Wrong::at(span, row.needs)),
        };
        let name = self.name.map(|name| name.into_inner().0);
        let name = name.map_or_else(|| row.name.to_owned(), String::from);
        let (word, note) = (way.word(), way.note(row.name));
        let opening = Opening { way, facts, gpus };
        Ok(Spec {
            name,
            label: format!("{}/{word}", row.name),
            method: format!("{}-{word}/1", row.name),
            note,
            open: Arc::new(move |host| opening.open(host)),
        })
    }

    /// The log that it writes.
    fn log(&self, row: &'static Row, site: Option<&Site>) -> Result<Option<Way>, Wrong> {
        let Some((place, read)) = self.place()?.zip(row.read) else {
            let log = key("log", &self.log).or_else(|| key("journal", &self.journal));
            return match (log, self.only_of_logs()) {
                (Some((_, span)), _) => Err(Wrong::at(
                    span,
                    format!(
                        "a source of kind {:?} has no log to read: {}",
                        row.name, row.needs
                    ),
                )),
                (None, Some((key, span))) => Err(Wrong::at(
                    span,
                    format!(
                        "`{key}` is about a log, and this source reads none: {}",
                        match row.read {
                            Some(_) => "say `log` or `journal`, or leave it out",
                            None => "leave it out",
                        }
                    ),
                )),
                (None, None) => Ok(None),
            };
        };
        let readers: Readers = match read {
            Read::Exact(reader) => {
                if let Some((key, span)) = key("time_zone", &self.time_zone) {
                    let message = format!(
                        "times in the log of {} need no zone: leave `{key}` out",
                        row.name
                    );
                    return Err(Wrong::at(span, message));
                }
                Arc::new(reader)
            }
            Read::Local(reader) => {
                let zone = self.time_zone.as_ref();
                let zone =
                    zone.map_or_else(jiff::tz::TimeZone::system, |zone| zone.get_ref().0.clone());
                Arc::new(move || -> Box<dyn LineReader> { reader(Zone::new(zone.clone())) })
            }
        };
        let counters = match row.asked {
            Some(Asked::Metrics(open)) => site.map(|site| (open, site.clone())),
            _ => None,
        };
        Ok(Some(Way::Log {
            readers,
            place,
            counters,
        }))
    }

    /// Where the lines of its log are.
    fn place(&self) -> Result<Option<Place>, Wrong> {
        let place = match (&self.log, &self.journal) {
            (Some(_), Some(journal)) => {
                return Err(Wrong::at(
                    journal.span(),
                    "`log` and `journal` exclude each other: one source reads one log",
                ));
            }
            (Some(path), None) => {
                if let Some(folder) = &self.journal_folder {
                    let message = "`journal_folder` goes with `journal`: leave it out";
                    return Err(Wrong::at(folder.span(), message));
                }
                let wrapper = self.wrapper.as_ref().map(|wrapper| *wrapper.get_ref());
                Place::file(path.get_ref().as_path()).wrapped(wrapper.unwrap_or_default())
            }
            (None, Some(unit)) => {
                let wrapper = key("wrapper", &self.wrapper).map(|key| (key, "have no wrapper"));
                let zone = || {
                    let zone = key("time_zone", &self.time_zone)?;
                    Some((zone, "have times of their own"))
                };
                if let Some(((key, span), why)) = wrapper.or_else(zone) {
                    let message = format!("lines of the journal {why}: leave `{key}` out");
                    return Err(Wrong::at(span, message));
                }
                let place = Place::journal(unit.get_ref());
                let place = place.map_err(|message| Wrong::at(unit.span(), message))?;
                match &self.journal_folder {
                    Some(folder) => place.in_folder(folder.get_ref().as_path()),
                    None => place,
                }
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(match self.from.as_ref().map(|from| *from.get_ref()) {
            Some(Begin::Start) => place.begun_at_start(),
            Some(Begin::End) | None => place,
        }))
    }

    /// A key that says something of a log alone.
    fn only_of_logs(&self) -> Option<Key> {
        key("wrapper", &self.wrapper)
            .or_else(|| key("journal_folder", &self.journal_folder))
            .or_else(|| key("from", &self.from))
            .or_else(|| key("time_zone", &self.time_zone))
    }

    /// Where it is pushed to, and where the table says so.
    fn push(&self, row: &'static Row) -> Result<Option<(Way, Range<usize>)>, Wrong> {
        let Some(listen) = &self.listen else {
            return match (key("token", &self.token), row.pushed) {
                (None, _) => Ok(None),
                (Some((_, span)), Some(_)) => Err(Wrong::at(
                    span,
                    "`token` is what senders show: it goes with `listen`",
                )),
                (Some((_, span)), None) => Err(Wrong::at(
                    span,
                    format!(
                        "`token` is what senders show, and nothing pushes to a source of kind {:?}: \
                         leave it out; a server that wants a login has `bearer_token` or `basic`",
                        row.name
                    ),
                )),
            };
        };
        let Some(open) = row.pushed else {
            return Err(Wrong::at(
                listen.span(),
                format!(
                    "nothing pushes to a source of kind {:?}: {}",
                    row.name, row.needs
                ),
            ));
        };
        let address = *listen.get_ref();
        if self.token.is_none() && !address.ip().is_loopback() {
            return Err(Wrong::at(
                listen.span(),
                format!(
                    "`listen = \"{address}\"` can be reached from other machines: use 127.0.0.1, or set `token`"
                ),
            ));
        }
        let token = self.token.as_ref().map(|token| token.get_ref().clone());
        let listen_at = Listen { address, token };
        let push = Way::Push {
            open,
            listen: listen_at,
        };
        Ok(Some((push, listen.span())))
    }

    /// Where it is asked.
    fn site(&self, row: &'static Row, table: &Range<usize>) -> Result<Option<Site>, Wrong> {
        let login = key("bearer_token", &self.bearer_token).or_else(|| key("basic", &self.basic));
        let about_url = key("tls", &self.tls).or_else(|| login.clone());
        if row.asked.is_none() && row.facts.is_none() {
            return match key("url", &self.url).or(about_url) {
                None => Ok(None),
                Some((key, span)) => Err(Wrong::at(
                    span,
                    format!(
                        "nothing is asked of a source of kind {:?}: leave `{key}` out",
                        row.name
                    ),
                )),
            };
        }
        let address = match (&self.url, row.asked) {
            (_, Some(Asked::Usage { .. })) if self.bearer_token.is_none() => {
                return Err(Wrong::at(table.clone(), row.needs));
            }
            (Some(url), _) => url.get_ref().clone(),
            (None, Some(Asked::Usage { home, .. })) => home
                .parse()
                .map_err(|message: String| Wrong::at(table.clone(), message))?,
            (None, _) => {
                return match (login, about_url) {
                    (Some((_, span)), _) => {
                        Err(Wrong::at(span, "a login needs a `url` to log in at"))
                    }
                    (None, Some((key, span))) => Err(Wrong::at(
                        span,
                        format!(
                            "`{key}` goes with `url`: say where the server is, or leave it out"
                        ),
                    )),
                    (None, None) => Ok(None),
                };
            }
        };
        fn value<T: Clone>(key: &Option<Spanned<T>>) -> Option<T> {
            key.as_ref().map(|key| key.get_ref().clone())
        }
        let made = Site::new(
            address,
            value(&self.tls).unwrap_or_default(),
            value(&self.bearer_token),
            value(&self.basic),
        );
        let at = key("url", &self.url).map_or_else(|| table.clone(), |(_, span)| span);
        made.map(Some).map_err(|message| Wrong::at(at, message))
    }

    /// The GPUs that it works on.
    fn gpus(&self, row: &'static Row) -> Result<Option<Chosen>, Wrong> {
        let Some(gpus) = &self.gpus else {
            return Ok(None);
        };
        let (indices, span) = (gpus.get_ref(), gpus.span());
        if let Some(Asked::Usage { .. }) = row.asked {
            let message = format!(
                "models of {} do not run on GPUs of this machine: leave `gpus` out",
                row.name
            );
            return Err(Wrong::at(span, message));
        }
        let different: BTreeSet<u32> = indices.iter().copied().collect();
        if different.len() != indices.len() || indices.len() > GPUS_MAX {
            let message = format!("name each GPU once, and {GPUS_MAX} at most; [] are all");
            return Err(Wrong::at(span, message));
        }
        Ok(Some(match indices.is_empty() {
            true => Chosen::All,
            false => Chosen::These(indices.clone()),
        }))
    }

    /// What is wanted of its metrics.
    fn wanted(&self, row: &'static Row) -> Result<Wanted, Wrong> {
        let mut wanted = Wanted {
            models: BTreeSet::new(),
            has_energy: self.gpus.is_none(),
        };
        let Some(models) = &self.models else {
            return Ok(wanted);
        };
        let wrong = |message: String| Err(Wrong::at(models.span(), message));
        if !matches!(row.asked, Some(Asked::MetricsOf(_))) {
            return wrong(format!(
                "a source of kind {:?} tells of all its models: leave `models` out, or give them a [[models.rule]] each",
                row.name
            ));
        }
        for WordWritten(model) in models.get_ref() {
            if !wanted.models.insert(model.clone()) {
                return wrong(format!(
                    "{:?} is named twice: leave one out",
                    model.as_str()
                ));
            }
        }
        if !(1..=WANTED_MAX).contains(&wanted.models.len()) {
            return wrong(format!(
                "name 1 to {WANTED_MAX} models that callers ask for, or leave `models` out to count all"
            ));
        }
        Ok(wanted)
    }
}

/// The key, if it is there.
fn key<T>(name: &'static str, key: &Option<Spanned<T>>) -> Option<Key> {
    Some((name, key.as_ref()?.span()))
}

#[cfg(test)]
mod tests;
