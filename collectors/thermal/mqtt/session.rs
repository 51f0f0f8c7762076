//! A session with a broker that goes on through everything that ends a connection.
//!
//! Promises: it is there as long as it is not dropped; after a loss it connects again, slower each time;
//! who is refused waits long enough not to be locked out. What is heard goes to a [`Listener`] at once:
//! nothing queues here, so a flood of messages takes time and no memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use super::topic::Filter;
use super::wire::{self, Ended, Entry, Heard, Version};
use crate::web::{Dial, SecretPlace, Web};

/// The pause after the first loss; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause, and the one after a refusal.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Until a broker that has taken the connection has taken us, too.
const WELCOME_WITHIN: Duration = Duration::from_secs(15);

/// Until a broker that is there has answered to a subscription, from when it was dialled.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(40);

/// Filters in one request, so that it stays short.
const FILTERS_PER_REQUEST: usize = 50;

/// What a session is made with.
#[derive(Clone, Debug)]
pub(super) struct Broker {
    pub(super) to: Dial,
    pub(super) version: Version,
    pub(super) client_id: String,
    pub(super) login: Option<(String, SecretPlace)>,
    pub(super) keep_alive: Duration,
    /// Whether the broker keeps messages for us while we are away.
    pub(super) is_persistent: bool,
}

/// Whether there is a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The broker took us; `is_kept` where it gives us now what came while we were away.
    Up { is_kept: bool },
    /// There is none, and why.
    Down(String),
}

/// Takes what a session hears.
pub(super) trait Listener: Send + 'static {
    /// A message came.
    fn message(&mut self, topic: &str, payload: &[u8], is_retained: bool);
    /// The broker answered to the subscription of one filter: granted, or why not.
    fn answered(&mut self, filter: &Filter, refusal: Option<String>);
    /// The connection came or went.
    fn link(&mut self, link: Link);
}

/// A running session; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Session(AbortHandle);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a session that listens to filters.
pub(super) fn start(
    broker: Broker,
    web: Arc<dyn Web>,
    filters: Vec<Filter>,
    mut listener: impl Listener,
) -> Session {
    let task = tokio::spawn(async move {
        let mut pause = PAUSE_MIN;
        let mut forget = false;
        loop {
            let ended = once(&broker, &web, &filters, &mut listener, &mut pause, forget).await;
            forget = matches!(ended, Ended::Senseless(_));
            let reason = match ended {
                Ended::Lost(reason) => reason,
                Ended::Senseless(reason) => {
                    format!("what the broker sent makes no sense: {reason}")
                }
                Ended::Refused(reason) => {
                    pause = PAUSE_MAX;
                    reason
                }
            };
            listener.link(Link::Down(reason));
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    });
    Session(task.abort_handle())
}

async fn once(
    broker: &Broker,
    web: &Arc<dyn Web>,
    filters: &[Filter],
    listener: &mut impl Listener,
    pause: &mut Duration,
    // After a message that we could not take, so that it does not come again.
    forget: bool,
) -> Ended {
    let login = match login_of(broker, web) {
        Ok(login) => login,
        Err(refused) => return refused,
    };
    let entry = Entry {
        version: broker.version,
        to: broker.to.clone(),
        client_id: broker.client_id.clone(),
        login,
        keep_alive: broker.keep_alive,
        is_persistent: broker.is_persistent && !forget,
    };
    let mut connection = wire::connect(&entry, web);
    let mut unanswered: VecDeque<&[Filter]> = VecDeque::new();
    let mut is_welcome = false;
    loop {
        let heard = if is_welcome {
            connection.next().await
        } else {
            let within = broker.to.within + WELCOME_WITHIN;
            match timeout(within, connection.next()).await {
                Ok(heard) => heard,
                Err(_) => return Ended::Lost(format!("the broker says nothing within {within:?}")),
            }
        };
        match heard {
            Ok(Heard::Welcome { is_kept }) => {
                is_welcome = true;
                *pause = PAUSE_MIN;
                listener.link(Link::Up { is_kept });
                for block in filters.chunks(FILTERS_PER_REQUEST) {
                    if let Err(ended) = connection.subscribe(block) {
                        return ended;
                    }
                    unanswered.push_back(block);
                }
            }
            Ok(Heard::Answered(refusals)) => {
                let block = unanswered.pop_front().unwrap_or_default();
                for (filter, refusal) in block.iter().zip(refusals) {
                    listener.answered(filter, refusal);
                }
            }
            Ok(Heard::Message {
                topic,
                payload,
                is_retained,
            }) => listener.message(&topic, &payload, is_retained),
            Ok(Heard::Other) => {}
            Err(ended) => return ended,
        }
    }
}

type Login = Option<(String, Zeroizing<String>)>;

fn login_of(broker: &Broker, web: &Arc<dyn Web>) -> Result<Login, Ended> {
    let Some((user, place)) = &broker.login else {
        return Ok(None);
    };
    match web.secret(place) {
        Ok(password) => Ok(Some((user.clone(), password))),
        Err(error) => Err(Ended::Refused(format!("the password: {error}"))),
    }
}
