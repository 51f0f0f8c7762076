//! How one source is read, checked, and opened.
//!
//! Promises: what is here can be opened as it stands; only what of this machine or its network is missing can fail.

use super::around::{WithFacts, WithGpus};
use super::kinds::{Ask, Count, CountWanted, Opened, Receive};
use super::reconciled::Reconciled;
use crate::Host;
use crate::models::counters::dialect::Wanted;
use crate::models::facts::{self, Facts};
use crate::models::gpus::Gpus;
use crate::models::receive::Listen;
use crate::models::tail::feed::{LogFeed, Readers};
use crate::models::tail::place::Place;
use crate::web::Site;

/// One way of reading one server.
pub(super) enum Way {
    /// Its counters.
    Metrics { open: Count, site: Site },
    /// Its counters, those of some of its models.
    MetricsOf {
        open: CountWanted,
        wanted: Wanted,
        site: Site,
    },
    /// What the provider accounts.
    Usage { open: Ask, site: Site },
    /// What it or its clients push to us.
    Push { open: Receive, listen: Listen },
    /// Its log, held against its counters where they can be asked for.
    Log {
        readers: Readers,
        place: Place,
        counters: Option<(Count, Site)>,
    },
}

/// One source.
pub(super) struct Opening {
    pub(super) way: Way,
    /// Where it says what it serves, unless its metrics ask for that themselves.
    pub(super) facts: Option<(facts::Kind, Site)>,
    pub(super) gpus: Option<Chosen>,
}

/// GPUs of this machine.
pub(super) enum Chosen {
    /// All of them.
    All,
    /// Those with these indices.
    These(Vec<u32>),
}

impl Way {
    /// As provenance names it.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Metrics { .. } | Self::MetricsOf { .. } => "metrics",
            Self::Usage { .. } => "usage",
            Self::Push { .. } => "push",
            Self::Log { .. } => "log",
        }
    }

    /// What a reader of the payload must know about figures of this kind of server that are read in this way.
    pub(super) fn note(&self, kind: &str) -> String {
        match self {
            Self::Metrics { .. } | Self::MetricsOf { .. } => {
                "sums of counters: no request has a row of its own".to_owned()
            }
            Self::Usage { .. } => format!("accounted by {kind}, in buckets of a minute or more"),
            Self::Push { .. } => format!("pushed by {kind}, metadata only"),
            Self::Log { .. } => format!("the log of {kind}, metadata only"),
        }
    }

    fn open(&self, host: &Host) -> Opened {
        match self {
            Self::Metrics { open, site } => Ok(Box::new(open(site, host)?)),
            Self::MetricsOf { open, wanted, site } => Ok(Box::new(open(wanted, site, host)?)),
            Self::Usage { open, site } => open(site, host),
            Self::Push { open, listen } => open(listen, host),
            Self::Log {
                readers,
                place,
                counters,
            } => {
                let log = Box::new(LogFeed::open(place.clone(), readers.clone()));
                Ok(match counters {
                    Some((open, site)) => Box::new(Reconciled::new(log, open(site, host)?)),
                    None => log,
                })
            }
        }
    }
}

impl Opening {
    /// Its feed, with its facts and its GPUs around it.
    ///
    /// # Errors
    /// When something of this machine is missing: a file of certificates, a free port.
    pub(super) fn open(&self, host: &Host) -> Opened {
        let mut feed = self.way.open(host)?;
        if let Some((kind, site)) = &self.facts {
            feed = Box::new(WithFacts {
                feed,
                facts: Facts::open(*kind, site, host)?,
                failed: None,
            });
        }
        let chosen = match &self.gpus {
            None => return Ok(feed),
            Some(Chosen::All) => None,
            Some(Chosen::These(indices)) => Some(indices.clone()),
        };
        Ok(Box::new(WithGpus {
            feed,
            gpus: Gpus::open(chosen, None, host),
        }))
    }
}
