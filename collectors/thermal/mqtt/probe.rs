//! Listens to a broker for a while, says what is published there, and suggests points.
//!
//! Promises: it subscribes and publishes nothing; memory is bounded, whatever is published, and what is left out is
//! counted; nothing that others wrote moves a terminal's cursor. Refuses: vouching for a retained value.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::session::{self, Link, Listener};
use super::settings::Named;
use crate::web::{SecretPlace, Tls, Web};

mod suggest;

pub use super::settings::Address;
pub use super::topic::Filter;
pub use super::wire::Version;
pub use suggest::Topics;

/// How often the progress line changes.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What to listen to, and how.
#[derive(Clone, Debug)]
pub struct Look {
    /// The broker.
    pub broker: Address,
    /// Topics to subscribe to.
    pub filters: Vec<Filter>,
    /// A user and where the password is.
    pub login: Option<(String, SecretPlace)>,
    /// Authorities and a client certificate.
    pub tls: Option<Tls>,
    /// Which version of the protocol.
    pub version: Version,
    /// The id of this client, where the broker wants a certain one.
    pub client_id: Option<String>,
    /// For how long, from when the broker took us.
    pub listens: Duration,
}

/// What was heard, for a person, and the tables for the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One line for each thing that was found.
    pub found: Vec<String>,
    /// The tables.
    pub table: String,
}

/// Why nothing was heard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    /// What was asked cannot be right.
    #[error("{0}")]
    Asked(String),
    /// The broker is not there, or does not want us.
    #[error("cannot listen to {broker}: {reason}")]
    Broker {
        /// Whom we asked.
        broker: String,
        /// Why, with the next step.
        reason: String,
    },
    /// It is there, and nothing came.
    #[error(
        "nothing was published on {filters} within {listened:?}, and nothing is retained there: listen longer with \
         --for, try '#', and check that the user may read these topics (many brokers say nothing where they do not let \
         us listen)"
    )]
    Nothing {
        /// What was listened to.
        filters: String,
        /// For how long.
        listened: Duration,
    },
}

/// What a session tells.
#[derive(Debug, Default)]
struct State {
    topics: Topics,
    /// Filters that were answered, and those of them that were refused, with the reason.
    answered: BTreeMap<Filter, Option<String>>,
    is_up: bool,
    /// Why the connection went.
    losses: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Hearing {
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

/// Listens, and says what is there; `tell` is called with a line about how it goes.
///
/// # Errors
/// When the broker is not there or refuses us, or nothing came.
pub async fn look(
    look: &Look,
    web: Arc<dyn Web>,
    at: Timestamp,
    tell: &(dyn Fn(String) + Sync),
) -> Result<Report, LookError> {
    let named = Named::asked(look).map_err(LookError::Asked)?;
    let broker = named.reached(|| own_client_id(&look.broker, at));
    let hearing = Hearing::default();
    let session = session::start(broker, web, look.filters.clone(), hearing.clone());
    hearing.until_granted(look).await?;
    let telling = async {
        let mut left = look.listens;
        loop {
            tell(format!(
                "listening to {}: {}, {} s left",
                look.broker,
                hearing.lock().topics.in_words(),
                left.as_secs()
            ));
            sleep(TELL_EVERY).await;
            left = left.saturating_sub(TELL_EVERY);
        }
    };
    // It goes on until its time is over.
    let _over: Result<std::convert::Infallible, _> = timeout(look.listens, telling).await;
    drop(session);
    let state = std::mem::take(&mut *hearing.lock());
    if state.topics.is_empty() {
        let filters: Vec<&str> = look.filters.iter().map(Filter::as_str).collect();
        return Err(LookError::Nothing {
            filters: filters.join(", "),
            listened: look.listens,
        });
    }
    let mut report = state.topics.report(look, at);
    for (filter, refusal) in &state.answered {
        if let Some(refusal) = refusal {
            report.found.push(format!("{filter}: {refusal}"));
        }
    }
    for loss in &state.losses {
        report
            .found
            .push(format!("the connection was lost: {loss}"));
    }
    Ok(report)
}

/// A broker ends the connection of whoever comes with an id that is in use, so a probe has one of its own.
fn own_client_id(broker: &Address, at: Timestamp) -> String {
    let mut hasher = DefaultHasher::new();
    (broker, at.as_nanosecond()).hash(&mut hasher);
    format!("cms-probe-{:08x}", hasher.finish() & 0xffff_ffff)
}

/// Losses that are told; each further one says no more.
const LOSSES_MAX: usize = 3;

impl Hearing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the broker has answered to every subscription.
    async fn until_granted(&self, look: &Look) -> Result<(), LookError> {
        let failed = |reason: String| LookError::Broker {
            broker: look.broker.to_string(),
            reason,
        };
        let granted = async {
            loop {
                let next = self.news.notified();
                {
                    let state = self.lock();
                    if let Some(loss) = state.losses.first() {
                        return Err(failed(loss.clone()));
                    }
                    if state.answered.len() >= look.filters.len() {
                        let mut refusals = state.answered.values().flatten();
                        return match (
                            state.answered.values().all(Option::is_some),
                            refusals.next(),
                        ) {
                            (true, Some(refusal)) => Err(failed(refusal.clone())),
                            _ => Ok(()),
                        };
                    }
                }
                next.await;
            }
        };
        // The session itself ends a connection that does not come to stand.
        match timeout(session::ANSWERS_WITHIN, granted).await {
            Ok(granted) => granted,
            Err(_) => Err(failed(format!(
                "it does not answer to our subscription within {:?}",
                session::ANSWERS_WITHIN
            ))),
        }
    }
}

impl Listener for Hearing {
    fn message(&mut self, topic: &str, payload: &[u8], is_retained: bool) {
        self.lock().topics.hear(topic, payload, is_retained);
    }

    fn answered(&mut self, filter: &Filter, refusal: Option<String>) {
        self.lock().answered.insert(filter.clone(), refusal);
        self.news.notify_one();
    }

    fn link(&mut self, link: Link) {
        let mut state = self.lock();
        match link {
            Link::Up { .. } => state.is_up = true,
            Link::Down(reason) if state.losses.len() < LOSSES_MAX => state.losses.push(reason),
            Link::Down(_) => {}
        }
        drop(state);
        self.news.notify_one();
    }
}
